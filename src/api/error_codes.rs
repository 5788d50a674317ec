//! From the core's errors to the exported ones: the only place where codes are written.
//!
//! A code is stable across releases. What an app can do about an error decides its variant.

use super::error::{ErrorDetails, MlsError};
use crate::{
    backup::BackupError,
    devices::DevicesError,
    engine::EngineError,
    epochs::UnknownEpoch,
    failure::Failure,
    identity::IdentityError,
    incoming::{Awaited, EventError},
    messages::{MessageError, SendError},
    protocol::{ContentError, PayloadError},
    rejection::Rejection,
    sessions::{EventSessionError, FileError, KeyError, SessionError},
    store::StoreError,
};

/// Makes a variant of a code, the error as the sentence, and whether the call may succeed later.
macro_rules! exported {
    ($variant:ident, $code:expr, $error:expr, $retryable:expr) => {
        MlsError::$variant { details: ErrorDetails::new($code, $error, $retryable) }
    };
    ($variant:ident, $code:expr, $error:expr) => {
        exported!($variant, $code, $error, false)
    };
}

impl From<StoreError> for MlsError {
    fn from(error: StoreError) -> Self {
        match &error {
            StoreError::WrongKey => exported!(StoreWrongKey, "store_wrong_key", error),
            StoreError::Damaged(_) => exported!(StoreDamaged, "store_damaged", error),
            StoreError::TooNew { .. } => exported!(StoreTooNew, "store_too_new", error),
            StoreError::Full => exported!(StoreFull, "store_full", error, true),
            StoreError::InUse => exported!(StoreInUse, "store_in_use", error, true),
            StoreError::Missing => exported!(StoreIo, "store_missing", error, true),
            StoreError::NotUpgraded => exported!(StoreIo, "store_not_upgraded", error, true),
            StoreError::Io(_) => exported!(StoreIo, "store_io", error, true),
        }
    }
}

impl From<Failure> for MlsError {
    fn from(error: Failure) -> Self {
        match error {
            Failure::Store(error) => error.into(),
            Failure::Defect { step, reason } => exported!(Internal, step, reason),
        }
    }
}

impl From<EngineError> for MlsError {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Failure(error) => error.into(),
            EngineError::UnknownRequest => exported!(InvalidInput, "bad_request_id", error),
            EngineError::Rejected(error) => error.into(),
            EngineError::Identity(error) => error.into(),
            EngineError::Devices(error) => error.into(),
            EngineError::Event(error) => error.into(),
            EngineError::Message(error) => error.into(),
            EngineError::Send(error) => error.into(),
            EngineError::Backup(error) => error.into(),
            EngineError::File(error) => error.into(),
            EngineError::Session(error) => error.into(),
        }
    }
}

impl From<Rejection> for MlsError {
    fn from(error: Rejection) -> Self {
        match error {
            Rejection::Payload(PayloadError::InMedia) => {
                exported!(Unsupported, "value_in_media", error)
            }
            Rejection::OtherCiphersuite => exported!(Unsupported, "ciphersuite", error),
            _ => exported!(Rejected, code_of_rejection(&error), error),
        }
    }
}

fn code_of_rejection(rejection: &Rejection) -> &'static str {
    match rejection {
        Rejection::Json(_) | Rejection::BadStateKey => "malformed_event",
        Rejection::Payload(_) => "not_base64",
        Rejection::MalformedMls(_) => "malformed_mls",
        Rejection::Credential(_) => "bad_credential",
        Rejection::MalformedAnswer(_) => "malformed_answer",
        Rejection::NoEventId => "no_event_id",
        Rejection::SenderMismatch(_) => "sender_mismatch",
        Rejection::NotAMember(_) => "not_a_member",
        Rejection::OtherGroup(_) => "other_group",
        Rejection::InviterNotInRoom => "inviter_not_in_room",
        Rejection::StrangerState => "stranger_state",
        Rejection::ConflictingCredential(_) => "conflicting_credential",
        Rejection::KnownEpoch => "known_epoch",
        Rejection::EpochNumber => "bad_epoch",
        Rejection::NotACommit => "not_a_commit",
        Rejection::BadCommit(_) => "bad_commit",
        Rejection::NoSuchLeaf => "no_such_leaf",
        Rejection::RemovesAnother => "removes_another",
        Rejection::UnexpectedProposal => "unexpected_proposal",
        Rejection::CredentialChange => "credential_change",
        Rejection::UnknownOwnCommit => "unknown_own_commit",
        Rejection::NotAWelcome => "not_a_welcome",
        Rejection::BadWelcome(_) => "bad_welcome",
        Rejection::BadTree => "bad_tree",
        Rejection::NoGroupInfo => "no_group_info",
        Rejection::BadGroupState(_) => "bad_group_state",
        Rejection::OtherCiphersuite => "ciphersuite",
        Rejection::BadSignature => "bad_signature",
        Rejection::BadBundle(_) => "bad_bundle",
        Rejection::DamagedSession(_) => "damaged_session",
    }
}

impl From<UnknownEpoch> for MlsError {
    fn from(error: UnknownEpoch) -> Self {
        match error {
            UnknownEpoch::NotYet(_) => exported!(UnknownEpoch, "unknown_epoch", error, true),
            UnknownEpoch::BeforeJoining(_) => exported!(Rejected, "before_joining", error),
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
                    Awaited::Group(_) => "no_group_yet",
                    Awaited::Sender => "stranger",
                };
                exported!(UnknownEpoch, code, awaited, true)
            }
            EventError::BadMedia(_) => exported!(Rejected, "bad_media", error),
            EventError::NotFollowed(_) => exported!(Forked, "forked", error),
            EventError::NotInGroup(_) => exported!(NotInGroup, "not_in_group", error, true),
        }
    }
}

impl From<MessageError> for MlsError {
    fn from(error: MessageError) -> Self {
        let code = match error {
            MessageError::Failure(error) => return error.into(),
            MessageError::Rejected(error) => return error.into(),
            MessageError::UnknownEpoch(error) => return error.into(),
            MessageError::NotEncrypted => return exported!(InvalidInput, "not_encrypted", error),
            MessageError::NotMls => return exported!(InvalidInput, "not_mls", error),
            MessageError::OtherKind(_) | MessageError::Open(_) => "bad_message",
            MessageError::ReadOnce(_) => "read_once",
            MessageError::HistoryDeleted => "history_deleted",
            MessageError::Replayed => "replayed",
            MessageError::BadPlaintext => "bad_plaintext",
            MessageError::OtherRoom => "other_room",
            MessageError::ForgedHistory => "forged_history",
        };
        exported!(Rejected, code, error)
    }
}

impl From<SendError> for MlsError {
    fn from(error: SendError) -> Self {
        match error {
            SendError::Failure(error) => error.into(),
            SendError::NotInGroup(_) => exported!(NotInGroup, "not_in_group", error, true),
            SendError::NotReady(_) => exported!(NotReady, "not_ready", error, true),
            SendError::CannotRejoin(_) => exported!(NotInGroup, "cannot_heal", error, true),
            SendError::Content(ContentError::TooLarge { .. }) => {
                exported!(TooLarge, "too_large", error)
            }
            SendError::Content(ContentError::Unwritable { .. }) => {
                exported!(Internal, "event_content", error)
            }
            SendError::AlreadyEnabled => exported!(InvalidInput, "already_enabled", error),
            SendError::GroupExists => exported!(InvalidInput, "group_exists", error),
            SendError::OtherAlgorithm(_) => exported!(InvalidInput, "other_algorithm", error),
        }
    }
}

impl From<DevicesError> for MlsError {
    fn from(error: DevicesError) -> Self {
        match error {
            DevicesError::MalformedAnswer => exported!(Rejected, "malformed_answer", error),
            DevicesError::Store(error) => error.into(),
        }
    }
}

impl From<IdentityError> for MlsError {
    fn from(error: IdentityError) -> Self {
        match error {
            IdentityError::Store(error) => error.into(),
            IdentityError::OtherDevice(_) => exported!(InvalidInput, "other_device", error),
            IdentityError::BadDeviceKeys(_) => exported!(InvalidInput, "bad_device_keys", error),
            IdentityError::MalformedAnswer => exported!(Rejected, "malformed_answer", error),
            IdentityError::BadKeyPackage(_) => exported!(Rejected, "bad_key_package", error),
            IdentityError::Crypto(_)
            | IdentityError::NewKeyPackage(_)
            | IdentityError::Encoding(_) => exported!(Internal, "identity", error),
        }
    }
}

impl From<BackupError> for MlsError {
    fn from(error: BackupError) -> Self {
        match error {
            BackupError::Failure(error) => error.into(),
            BackupError::NoBackup => exported!(InvalidInput, "no_backup", error),
            BackupError::NoKey => exported!(InvalidInput, "no_key", error),
            BackupError::TooManyRestores => exported!(NotReady, "not_ready", error, true),
            BackupError::MalformedAnswer(_) => exported!(Rejected, "malformed_answer", error),
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
        exported!(InvalidInput, code, error)
    }
}

impl From<SessionError> for MlsError {
    fn from(error: SessionError) -> Self {
        match error {
            SessionError::Store(error) => error.into(),
            error => exported!(Rejected, error.code(), error),
        }
    }
}

impl From<EventSessionError> for MlsError {
    fn from(error: EventSessionError) -> Self {
        match error {
            EventSessionError::Json(error) => Rejection::Json(error).into(),
            EventSessionError::Payload(error) => Rejection::Payload(error).into(),
            EventSessionError::Malformed(error) => Rejection::from(error).into(),
            EventSessionError::NotPrivate => exported!(Rejected, "bad_message", error),
        }
    }
}

impl From<FileError> for MlsError {
    fn from(error: FileError) -> Self {
        match error {
            FileError::EmptyPassphrase => exported!(InvalidInput, "empty_passphrase", error),
            FileError::WrongPassphrase => exported!(InvalidInput, "wrong_passphrase", error),
            FileError::Form | FileError::Rounds(_) | FileError::Contents => {
                exported!(InvalidInput, "bad_file", error)
            }
            FileError::Version => exported!(Unsupported, "file_version", error),
            FileError::Sealed(_) | FileError::Crypto(_) | FileError::Random => {
                exported!(Internal, "file", error)
            }
        }
    }
}
