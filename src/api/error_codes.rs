//! The mapping from the core's errors to the exported ones. Most codes of `MlsError` stand here.
//!
//! The store counts by code why a restore left sessions out, and the log has codes of rejections.
//! So those codes stand beside the reasons, in `sessions`, `backup` and `rejection`.
//!
//! A code is stable across releases. An error's variant follows from what an app can do about it.

use std::io::ErrorKind;

use ruma::OwnedUserId;

use super::error::{ErrorDetails, MlsError};
use crate::{
    attachments::{self, AttachmentError, DescriptionError},
    backup::BackupError,
    devices::{self, DevicesError},
    engine::{EngineError, FollowError},
    epochs::UnknownEpoch,
    exporter::ExportError,
    failure::Failure,
    identity::IdentityError,
    incoming::{Awaited, EventError},
    messages::{MessageError, SendError},
    protocol::{ContentError, PayloadError},
    rejection::Rejection,
    room::Outside,
    secrets::SecretsError,
    sessions::{EventSessionError, FileError, KeyError, SessionError},
    signing::SigningError,
    store::StoreError,
    verification::VerificationError,
};

/// Builds an error that the same call meets again, from the variant, the code and the error itself.
macro_rules! permanent {
    ($variant:ident, $code:expr, $error:expr) => {
        MlsError::$variant { details: ErrorDetails::permanent($code, $error) }
    };
}

/// Builds an error that may be gone when the same call is made later.
macro_rules! transient {
    ($variant:ident, $code:expr, $error:expr) => {
        MlsError::$variant { details: ErrorDetails::transient($code, $error) }
    };
}

impl From<StoreError> for MlsError {
    fn from(error: StoreError) -> Self {
        match &error {
            StoreError::WrongKey => permanent!(StoreWrongKey, "store_wrong_key", error),
            StoreError::Damaged(_) => permanent!(StoreDamaged, "store_damaged", error),
            StoreError::Changed(_) => transient!(NotReady, "store_changed", error),
            StoreError::TooNew { .. } => permanent!(StoreTooNew, "store_too_new", error),
            StoreError::Full => transient!(StoreFull, "store_full", error),
            StoreError::InUse => transient!(StoreInUse, "store_in_use", error),
            StoreError::Suspended => transient!(Suspended, "suspended", error),
            StoreError::Missing => transient!(StoreIo, "store_missing", error),
            StoreError::NotUpgraded => transient!(StoreIo, "store_not_upgraded", error),
            StoreError::NoRoom => transient!(UnknownEpoch, "follow_too_large", error),
            StoreError::Io(_) => transient!(StoreIo, "store_io", error),
        }
    }
}

impl From<Failure> for MlsError {
    fn from(error: Failure) -> Self {
        match error {
            Failure::Store(error) => error.into(),
            Failure::Defect { step, reason } => permanent!(Internal, step, reason),
        }
    }
}

impl From<EngineError> for MlsError {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Failure(error) => error.into(),
            EngineError::UnknownRequest => permanent!(InvalidInput, "bad_request_id", error),
            EngineError::Rejected(error) => error.into(),
            EngineError::Identity(error) => error.into(),
            EngineError::Devices(error) => error.into(),
            EngineError::Event(error) => error.into(),
            EngineError::Message(error) => error.into(),
            EngineError::Send(error) => error.into(),
            EngineError::Follow(error) => error.into(),
            EngineError::Export(error) => error.into(),
            EngineError::Backup(error) => error.into(),
            EngineError::File(error) => error.into(),
            EngineError::Session(error) => error.into(),
            EngineError::Signing(error) => error.into(),
            EngineError::Verification(error) => error.into(),
            EngineError::Secrets(error) => error.into(),
        }
    }
}

impl From<Rejection> for MlsError {
    fn from(error: Rejection) -> Self {
        match error {
            Rejection::Payload(PayloadError::InMedia) => {
                permanent!(Unsupported, "value_in_media", error)
            }
            Rejection::OtherCiphersuite => permanent!(Unsupported, "ciphersuite", error),
            _ => permanent!(Rejected, error.code(), error),
        }
    }
}

impl From<UnknownEpoch> for MlsError {
    fn from(error: UnknownEpoch) -> Self {
        match error {
            UnknownEpoch::NotYet(_) => transient!(UnknownEpoch, "unknown_epoch", error),
            UnknownEpoch::Lost(_) => permanent!(Rejected, "lost_epoch", error),
            UnknownEpoch::BeforeJoining(_) => permanent!(Rejected, "before_joining", error),
        }
    }
}

impl From<FollowError> for MlsError {
    fn from(error: FollowError) -> Self {
        let code = match error {
            FollowError::TooFar(_) => "follow_too_far",
            FollowError::TooLarge => "follow_too_large",
            FollowError::NoAnswer => "follow_no_answer",
        };
        transient!(UnknownEpoch, code, error)
    }
}

impl From<Outside> for MlsError {
    fn from(error: Outside) -> Self {
        match error {
            Outside::NotEnabled(_) => permanent!(NotInGroup, "not_enabled", error),
            Outside::Downgraded(..) => permanent!(NotInGroup, "downgraded", error),
            Outside::OtherAlgorithm(..) => permanent!(InvalidInput, "other_algorithm", error),
            Outside::Left(_) => permanent!(NotInGroup, "left_group", error),
            Outside::NotYet(_) => transient!(NotInGroup, "not_joined_yet", error),
        }
    }
}

impl From<EventError> for MlsError {
    fn from(error: EventError) -> Self {
        match error {
            EventError::Failure(error) => error.into(),
            EventError::Rejected(error) => error.into(),
            EventError::Message(error) => error.into(),
            EventError::UnknownEpoch(error) => error.into(),
            EventError::Send(error) => error.into(),
            EventError::Awaits(awaited) => {
                let code = match awaited {
                    Awaited::Media => "value_in_media",
                    Awaited::Group(_) | Awaited::Restart(_) => "no_group_yet",
                    Awaited::Room => "no_room_yet",
                    Awaited::Sender => "stranger",
                };
                transient!(UnknownEpoch, code, awaited)
            }
            EventError::BadMedia(_) => permanent!(Rejected, "bad_media", error),
            EventError::NotFollowed(_) => permanent!(Forked, "forked", error),
            EventError::OutOfTime(_) => permanent!(Forked, "out_of_time", error),
            EventError::NotInGroup(error) => error.into(),
        }
    }
}

impl From<MessageError> for MlsError {
    fn from(error: MessageError) -> Self {
        let code = match error {
            MessageError::Failure(error) => return error.into(),
            MessageError::Rejected(error) => return error.into(),
            MessageError::UnknownEpoch(error) => return error.into(),
            MessageError::NotEncrypted => return permanent!(InvalidInput, "not_encrypted", error),
            MessageError::Commit => "commit",
            MessageError::Redacted => "redacted",
            MessageError::NotMls => return permanent!(InvalidInput, "not_mls", error),
            MessageError::OtherKind(_) | MessageError::Open(_) => "bad_message",
            MessageError::ReadOnce(_) => "read_once",
            MessageError::HistoryDeleted => "history_deleted",
            MessageError::Replayed => "replayed",
            MessageError::SealedAgain => "sealed_again",
            MessageError::Late => "late",
            MessageError::BadPlaintext => "bad_plaintext",
            MessageError::OtherRoom => "other_room",
            MessageError::ForgedHistory => "forged_history",
        };
        permanent!(Rejected, code, error)
    }
}

fn untrusted(code: &str, users: &[OwnedUserId], error: &SendError) -> MlsError {
    MlsError::UntrustedMembers {
        user_ids: users.iter().map(ToString::to_string).collect(),
        details: ErrorDetails::permanent(code, error),
    }
}

impl From<SendError> for MlsError {
    fn from(error: SendError) -> Self {
        match error {
            SendError::Failure(error) => error.into(),
            SendError::NotInGroup(error) => error.into(),
            SendError::Replaced { ref by, .. } => MlsError::RoomReplaced {
                replacement_room_id: by.to_string(),
                details: ErrorDetails::permanent("room_replaced", error),
            },
            SendError::OtherKeys => permanent!(NewDeviceNeeded, "other_keys", error),
            SendError::NotOwnLeaf => transient!(NotReady, "not_own_leaf", error),
            SendError::NotReady(_) => transient!(NotReady, "not_ready", error),
            SendError::MembersUnknown => transient!(NotReady, "members_unknown", error),
            SendError::CannotRejoin(_) => transient!(NotInGroup, "cannot_heal", error),
            SendError::IdentityChanged(ref users) => untrusted("identity_changed", users, &error),
            SendError::NotVerified(ref users) => untrusted("not_verified", users, &error),
            SendError::Content(ContentError::TooLarge { .. }) => {
                permanent!(TooLarge, "too_large", error)
            }
            SendError::Content(ContentError::Unwritable { .. }) => {
                permanent!(Internal, "event_content", error)
            }
            SendError::AlreadyEnabled => permanent!(InvalidInput, "already_enabled", error),
            SendError::NoPower => permanent!(InvalidInput, "no_power", error),
            SendError::GroupExists => permanent!(InvalidInput, "group_exists", error),
            SendError::OtherAlgorithm(_) => permanent!(InvalidInput, "other_algorithm", error),
        }
    }
}

impl From<ExportError> for MlsError {
    fn from(error: ExportError) -> Self {
        match error {
            ExportError::Failure(error) => error.into(),
            ExportError::Send(error) => error.into(),
            ExportError::BadLabel => permanent!(InvalidInput, "bad_label", error),
            ExportError::ReservedLabel(_) => permanent!(InvalidInput, "reserved_label", error),
            ExportError::BadLength => permanent!(InvalidInput, "bad_length", error),
            ExportError::BadContext => permanent!(InvalidInput, "bad_context", error),
            ExportError::BadEpochId => permanent!(InvalidInput, "bad_epoch_id", error),
            ExportError::UnknownEpoch => transient!(UnknownEpoch, "unknown_epoch", error),
            ExportError::RestoredEpoch => permanent!(UnknownEpoch, "restored_epoch", error),
            ExportError::NotKept => permanent!(UnknownEpoch, "epoch_not_kept", error),
        }
    }
}

impl From<DevicesError> for MlsError {
    fn from(error: DevicesError) -> Self {
        match error {
            DevicesError::MalformedAnswer => permanent!(Rejected, "malformed_answer", error),
            DevicesError::Store(error) => error.into(),
        }
    }
}

impl From<IdentityError> for MlsError {
    fn from(error: IdentityError) -> Self {
        match error {
            IdentityError::Store(error) => error.into(),
            IdentityError::OtherDevice(_) => permanent!(InvalidInput, "other_device", error),
            IdentityError::BadBinding(_) => permanent!(InvalidInput, "bad_binding", error),
            IdentityError::OtherKeys => permanent!(NewDeviceNeeded, "other_keys", error),
            IdentityError::MalformedAnswer => permanent!(Rejected, "malformed_answer", error),
            IdentityError::Crypto(_)
            | IdentityError::NewKeyPackage(_)
            | IdentityError::Encoding(_) => permanent!(Internal, "identity", error),
        }
    }
}

impl From<SigningError> for MlsError {
    fn from(error: SigningError) -> Self {
        match error {
            SigningError::Failure(error) => error.into(),
            SigningError::Rejected(error) => error.into(),
            SigningError::BesideOlm => permanent!(Unsupported, "beside_olm", error),
            SigningError::OtherKeys => permanent!(NewDeviceNeeded, "other_keys", error),
            SigningError::Busy => transient!(NotReady, "identity_busy", error),
            SigningError::Exists => permanent!(InvalidInput, "identity_exists", error),
            SigningError::NoAuthNeeded => permanent!(InvalidInput, "no_auth_needed", error),
            SigningError::BadAuth => permanent!(InvalidInput, "bad_auth", error),
            SigningError::Keys(error) => error.into(),
        }
    }
}

impl From<VerificationError> for MlsError {
    fn from(error: VerificationError) -> Self {
        use VerificationError as Error;
        match error {
            Error::Failure(error) => error.into(),
            Error::Devices(error) => error.into(),
            Error::BesideOlm => permanent!(Unsupported, "beside_olm", error),
            Error::Unknown => permanent!(InvalidInput, "no_verification", error),
            Error::NotNow(_) => permanent!(InvalidInput, "not_now", error),
            Error::OwnDevice => permanent!(InvalidInput, "own_device", error),
            Error::OwnUser => permanent!(InvalidInput, "own_user", error),
            Error::TooMany => transient!(NotReady, "too_many_verifications", error),
        }
    }
}

impl From<SecretsError> for MlsError {
    fn from(error: SecretsError) -> Self {
        match error {
            SecretsError::Failure(error) => error.into(),
            SecretsError::Signing(error) => error.into(),
            SecretsError::Backup(error) => error.into(),
            SecretsError::Verification(error) => error.into(),
            SecretsError::Rejected(error) => error.into(),
            SecretsError::Busy => transient!(NotReady, "recovery_busy", error),
            SecretsError::Incomplete => permanent!(NotReady, "identity_incomplete", error),
        }
    }
}

impl From<devices::SigningError> for MlsError {
    fn from(error: devices::SigningError) -> Self {
        use devices::SigningError as Error;
        match error {
            Error::Store(error) => error.into(),
            Error::NoIdentity => transient!(NotReady, "no_identity", error),
            Error::Changed => permanent!(NotReady, "identity_changed", error),
            Error::NoPrivateKey => permanent!(NotReady, "no_private_key", error),
            Error::OtherPrivateKey => permanent!(NotReady, "other_private_key", error),
            Error::NoSuchDevice => transient!(NotReady, "no_such_device", error),
            Error::OtherMasterKey => transient!(NotReady, "other_identity", error),
        }
    }
}

impl From<BackupError> for MlsError {
    fn from(error: BackupError) -> Self {
        match error {
            BackupError::Failure(error) => error.into(),
            BackupError::NoBackup => permanent!(InvalidInput, "no_backup", error),
            BackupError::NoKey => permanent!(InvalidInput, "no_key", error),
            BackupError::TooManyRestores => transient!(NotReady, "too_many_restores", error),
            BackupError::MalformedAnswer(_) => permanent!(Rejected, "malformed_answer", error),
        }
    }
}

impl From<KeyError> for MlsError {
    fn from(error: KeyError) -> Self {
        let code = match error {
            KeyError::Alphabet(_) => "recovery_key_alphabet",
            KeyError::Length(_) | KeyError::Bytes(_) => "recovery_key_length",
            KeyError::Prefix => "recovery_key_prefix",
            KeyError::Parity => "recovery_key_parity",
            KeyError::EmptyPassphrase => "empty_passphrase",
            KeyError::Rounds(_) => "bad_rounds",
        };
        permanent!(InvalidInput, code, error)
    }
}

impl From<SessionError> for MlsError {
    fn from(error: SessionError) -> Self {
        match error {
            SessionError::Store(error) => error.into(),
            error => permanent!(Rejected, error.code(), error),
        }
    }
}

impl From<EventSessionError> for MlsError {
    fn from(error: EventSessionError) -> Self {
        match error {
            EventSessionError::Json(error) => Rejection::Json(error).into(),
            EventSessionError::Payload(error) => Rejection::Payload(error).into(),
            EventSessionError::Malformed(error) => Rejection::from(error).into(),
            EventSessionError::NotPrivate => permanent!(Rejected, "bad_message", error),
        }
    }
}

impl From<FileError> for MlsError {
    fn from(error: FileError) -> Self {
        match error {
            FileError::EmptyPassphrase => permanent!(InvalidInput, "empty_passphrase", error),
            FileError::WrongPassphrase => permanent!(InvalidInput, "wrong_passphrase", error),
            FileError::Form | FileError::Rounds(_) | FileError::Contents => {
                permanent!(InvalidInput, "bad_file", error)
            }
            FileError::Version => permanent!(Unsupported, "file_version", error),
            FileError::Sealed(_) | FileError::Crypto(_) | FileError::Random => {
                permanent!(Internal, "file", error)
            }
        }
    }
}

impl From<DescriptionError> for MlsError {
    fn from(error: DescriptionError) -> Self {
        match error {
            DescriptionError::Form => permanent!(Rejected, "bad_encrypted_file", error),
            DescriptionError::Unknown => permanent!(Unsupported, "unknown_encryption", error),
        }
    }
}

impl From<AttachmentError> for MlsError {
    fn from(error: AttachmentError) -> Self {
        match error {
            AttachmentError::Changed => permanent!(Rejected, "attachment_changed", error),
            AttachmentError::TooLong => permanent!(TooLarge, "too_large", error),
            AttachmentError::Random => permanent!(Internal, "random", error),
        }
    }
}

impl From<attachments::FileError> for MlsError {
    fn from(error: attachments::FileError) -> Self {
        use attachments::FileError;
        match error {
            FileError::Attachment(error) => error.into(),
            FileError::Io { error: ref cause, .. } if cause.kind() == ErrorKind::StorageFull => {
                transient!(StoreFull, "file_full", error)
            }
            // Whoever has given it up is not there to hear that.
            FileError::Io { .. } | FileError::GivenUp => transient!(StoreIo, "file_io", error),
        }
    }
}
