//! The kinds of rows OpenMLS keeps.

/// The kind of a row: part of the hash of its key, and what decides its namespace.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    ConfirmationTag,
    EncryptionEpochKeyPairs,
    EncryptionKeyPair,
    GroupContext,
    GroupEpochSecrets,
    GroupState,
    InterimTranscriptHash,
    JoinConfig,
    KeyPackage,
    MessageSecrets,
    OwnLeafIndex,
    OwnLeafNodes,
    Psk,
    QueuedProposal,
    QueuedProposalRefs,
    ResumptionPskStore,
    SignatureKeyPair,
    Tree,
}

impl Kind {
    /// The name that is hashed. It is part of the file's format and never changes.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::ConfirmationTag => "mls confirmation_tag",
            Self::EncryptionEpochKeyPairs => "mls encryption_epoch_key_pairs",
            Self::EncryptionKeyPair => "mls encryption_key_pair",
            Self::GroupContext => "mls group_context",
            Self::GroupEpochSecrets => "mls group_epoch_secrets",
            Self::GroupState => "mls group_state",
            Self::InterimTranscriptHash => "mls interim_transcript_hash",
            Self::JoinConfig => "mls join_config",
            Self::KeyPackage => "mls key_package",
            Self::MessageSecrets => "mls message_secrets",
            Self::OwnLeafIndex => "mls own_leaf_index",
            Self::OwnLeafNodes => "mls own_leaf_nodes",
            Self::Psk => "mls psk",
            Self::QueuedProposal => "mls queued_proposal",
            Self::QueuedProposalRefs => "mls queued_proposal_refs",
            Self::ResumptionPskStore => "mls resumption_psk_store",
            Self::SignatureKeyPair => "mls signature_key_pair",
            Self::Tree => "mls tree",
        }
    }

    /// Whether rows of this kind grow with the room and repeat most of the previous epoch's bytes.
    /// Long rows of such a kind are kept in pieces that epochs share.
    pub(super) fn is_shared(self) -> bool {
        matches!(self, Self::MessageSecrets | Self::Tree)
    }

    /// Whether rows of this kind belong to no group.
    pub(super) fn is_global(self) -> bool {
        matches!(
            self,
            Self::EncryptionKeyPair | Self::KeyPackage | Self::Psk | Self::SignatureKeyPair
        )
    }
}
