//! Why something that a member or the homeserver sent is not taken.
//!
//! Whatever comes from outside may be malformed, forged or not allowed. A [`Rejection`] names the
//! reason; nothing of what was rejected has any effect. [`InputError`] is the error of a step that
//! can also fail by itself.

use crate::{
    failure::{EndsTurn, Failure, through_variants},
    history::{LeavesError, Malformed},
    protocol::{CredentialError, DeviceName, JsonError, PayloadError, UnwritableContext},
    store::StoreError,
};

/// Why something from outside is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Rejection {
    /// The JSON is not what it should be.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// A value in an event is not base64, or stands in the media repository where none may.
    #[error(transparent)]
    Payload(#[from] PayloadError),
    /// The bytes are no MLS message.
    #[error("not an MLS message: {0}")]
    MalformedMls(String),
    /// A credential names no Matrix device.
    #[error(transparent)]
    Credential(#[from] CredentialError),
    /// An answer of the homeserver is not what the specification says.
    #[error("{0}")]
    MalformedAnswer(&'static str),
    /// The state key of a member event is no user id.
    #[error("the state key is no user id")]
    BadStateKey,
    /// The event has no id.
    #[error("the event does not say its event_id")]
    NoEventId,
    /// Event and content, or event and MLS message, name different senders.
    #[error("{0}")]
    SenderMismatch(&'static str),
    /// Who made it is not in the group.
    #[error("{0}")]
    NotAMember(&'static str),
    /// The message belongs to another group.
    #[error("{0}")]
    OtherGroup(&'static str),
    /// The maker of the public group state is not in the group.
    #[error("the public group state comes from a device that is not in the group")]
    StrangerState,
    /// A leaf has another key than its device published first.
    #[error("the key is not the one that {0} published first")]
    ConflictingCredential(DeviceName),
    /// This device is in that epoch already.
    #[error("this device already is in that epoch")]
    KnownEpoch,
    /// No group that grows by honest commits gets to this epoch number.
    #[error("the epoch's number is beyond all reason")]
    EpochNumber,
    /// The commit's ciphertext is another kind of message.
    #[error("the commit is another kind of message")]
    NotACommit,
    /// OpenMLS refuses the commit.
    #[error("{0}")]
    BadCommit(String),
    /// OpenMLS refuses the commit for the lifetime of a key package in it.
    #[error(
        "the commit adds a key package that is not valid at this time, or this device's clock is \
         wrong: {0}"
    )]
    OutOfTime(String),
    /// An external commit removes a leaf of another device.
    #[error("a device that joins by itself removes another")]
    RemovesAnother,
    /// The commit holds a proposal that Matrix rooms do not use.
    #[error("the commit holds a proposal that Matrix rooms do not use")]
    UnexpectedProposal,
    /// The committer's new leaf is another device's.
    #[error("the committer's new leaf has another credential or signature key")]
    CredentialChange,
    /// A commit of this device of which its store knows nothing.
    #[error("it is a commit of this device, which has no memory of it")]
    UnknownOwnCommit,
    /// The Welcome's ciphertext is another kind of message.
    #[error("the Welcome is another kind of message")]
    NotAWelcome,
    /// OpenMLS refuses the Welcome.
    #[error("{0}")]
    BadWelcome(String),
    /// The ratchet tree does not parse.
    #[error("the ratchet tree does not parse")]
    BadTree,
    /// The difference that leads to the ratchet tree is not what it should be.
    #[error("{0}")]
    BadTreeDifference(&'static str),
    /// The public group state is no GroupInfo.
    #[error("the public group state is no GroupInfo")]
    NoGroupInfo,
    /// OpenMLS refuses the public group state.
    #[error("{0}")]
    BadGroupState(String),
    /// The group uses a ciphersuite that this device does not.
    #[error("the group uses another ciphersuite")]
    OtherCiphersuite,
    /// The public group state is not signed by the device that the event names.
    #[error("the public group state is not signed by the device that the event names")]
    BadSignature,
    /// Too much of this sender's waits for rooms that no sync has shown.
    #[error("too much of this sender's waits already for rooms that no sync has shown")]
    TooManyWait,
    /// The bundle of shared history is not what it should be.
    #[error("{0}")]
    BadBundle(&'static str),
    /// A sealed session does not open.
    #[error("{0}")]
    DamagedSession(String),
    /// History is offered for a room whose messages are read once.
    #[error("the room's messages are read once on this device")]
    ReadOnce,
    /// Secrets come that no verification of this device's has prepared for.
    #[error(
        "secrets are taken once, from another device of this user, within ten minutes after the two \
         have verified each other"
    )]
    UnaskedSecrets,
}

impl Rejection {
    /// A code that is stable across releases: that of the exported error, and of the log line where
    /// the library deals with it by itself.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Json(_) | Self::BadStateKey => "malformed_event",
            Self::Payload(PayloadError::InMedia) => "value_in_media",
            Self::Payload(_) => "not_base64",
            Self::MalformedMls(_) => "malformed_mls",
            Self::Credential(_) => "bad_credential",
            Self::MalformedAnswer(_) => "malformed_answer",
            Self::NoEventId => "no_event_id",
            Self::SenderMismatch(_) => "sender_mismatch",
            Self::NotAMember(_) => "not_a_member",
            Self::OtherGroup(_) => "other_group",
            Self::StrangerState => "stranger_state",
            Self::ConflictingCredential(_) => "conflicting_credential",
            Self::KnownEpoch => "known_epoch",
            Self::EpochNumber => "bad_epoch",
            Self::NotACommit => "not_a_commit",
            Self::BadCommit(_) => "bad_commit",
            Self::OutOfTime(_) => "out_of_time",
            Self::RemovesAnother => "removes_another",
            Self::UnexpectedProposal => "unexpected_proposal",
            Self::CredentialChange => "credential_change",
            Self::UnknownOwnCommit => "unknown_own_commit",
            Self::NotAWelcome => "not_a_welcome",
            Self::BadWelcome(_) => "bad_welcome",
            Self::BadTree | Self::BadTreeDifference(_) => "bad_tree",
            Self::NoGroupInfo => "no_group_info",
            Self::BadGroupState(_) => "bad_group_state",
            Self::OtherCiphersuite => "ciphersuite",
            Self::BadSignature => "bad_signature",
            Self::TooManyWait => "too_many_wait",
            Self::BadBundle(_) => "bad_bundle",
            Self::DamagedSession(_) => "damaged_session",
            Self::ReadOnce => "read_once",
            Self::UnaskedSecrets => "unasked_secrets",
        }
    }
}

impl From<Malformed> for Rejection {
    fn from(error: Malformed) -> Self {
        Self::MalformedMls(error.to_string())
    }
}

/// The error of a step on input from outside.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InputError {
    /// The step failed, whatever the input.
    #[error(transparent)]
    Failure(#[from] Failure),
    /// The input is not taken.
    #[error(transparent)]
    Rejected(#[from] Rejection),
}

impl EndsTurn for InputError {
    fn ends_turn(&self) -> bool {
        matches!(self, Self::Failure(failure) if failure.ends_turn())
    }
}

through_variants! { InputError:
    StoreError => Failure,
    LeavesError => Failure,
    UnwritableContext => Failure,
    JsonError => Rejected,
    PayloadError => Rejected,
    CredentialError => Rejected,
    Malformed => Rejected,
}
