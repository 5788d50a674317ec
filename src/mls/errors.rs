//! What OpenMLS's errors mean here: a fault of the peer who made the input, or of this library.
//!
//! A failure of the store below OpenMLS comes up through its errors in many shapes. Those are not
//! told apart here, as the transaction remembers the failure itself (`Turn::atomically`).

use openmls::{
    error::LibraryError,
    framing::errors::{MessageDecryptionError, MlsMessageError},
    group::{
        CommitBuilderStageError, CreateCommitError, ExportGroupInfoError,
        ExternalCommitBuilderError, ExternalCommitBuilderFinalizeError, MergeCommitError,
        MergePendingCommitError, NewGroupError, ProcessMessageError, WelcomeError,
    },
    prelude::{KeyPackageVerifyError, ProposalValidationError, StageCommitError, ValidationError},
    treesync::errors::LeafNodeValidationError,
};

use crate::{
    failure::Failure,
    rejection::{InputError, Rejection},
    store::StoreError,
};

macro_rules! defects {
    ($($step:literal => $error:ty),+ $(,)?) => {
        $(
            impl From<$error> for Failure {
                fn from(error: $error) -> Self {
                    Self::defect($step, error)
                }
            }

            impl From<$error> for InputError {
                fn from(error: $error) -> Self {
                    Self::Failure(error.into())
                }
            }
        )+
    };
}

macro_rules! rejections {
    ($($rejection:ident => $error:ty),+ $(,)?) => {
        $(impl From<$error> for InputError {
            fn from(error: $error) -> Self {
                Self::Rejected(Rejection::$rejection(error.to_string()))
            }
        })+
    };
}

defects! {
    "new_group" => NewGroupError<StoreError>,
    "create_commit" => CreateCommitError,
    "stage_commit" => CommitBuilderStageError<StoreError>,
    "merge_own_commit" => MergePendingCommitError<StoreError>,
    "merge_commit" => MergeCommitError<StoreError>,
    "group_info" => ExportGroupInfoError,
    "mls_message" => MlsMessageError,
    "external_commit" => ExternalCommitBuilderFinalizeError<StoreError>,
    "openmls" => LibraryError,
}

/// What it means that OpenMLS refuses a commit. OpenMLS compares the lifetimes of added key
/// packages with the system's clock, which may be the one that is wrong.
pub(crate) fn refusal(error: ProcessMessageError<StoreError>) -> Rejection {
    use LeafNodeValidationError::Lifetime;
    use ProcessMessageError::{InvalidCommit, ValidationError as Invalid};
    match &error {
        Invalid(ValidationError::KeyPackageVerifyError(KeyPackageVerifyError::LifetimeError(
            lifetime,
        )))
        | InvalidCommit(
            StageCommitError::LeafNodeValidation(Lifetime(lifetime))
            | StageCommitError::ProposalValidationError(ProposalValidationError::LeafNodeValidation(
                Lifetime(lifetime),
            )),
        ) => Rejection::OutOfTime(lifetime.to_string()),
        _ => Rejection::BadCommit(error.to_string()),
    }
}

/// Whether OpenMLS refuses a commit because it was made in another epoch than the one that was to
/// process it: its keys open nothing of the commit, or the signature is over another context
/// (RFC 9420, sections 6.1 to 6.3). A member who has made a commit that is bad has sealed it with
/// the right keys all the same.
pub(crate) fn is_of_another_epoch(
    error: &ProcessMessageError<StoreError>,
    is_public: bool,
) -> bool {
    use ProcessMessageError::ValidationError as Invalid;
    match error {
        Invalid(ValidationError::UnableToDecrypt(MessageDecryptionError::AeadError)) => !is_public,
        Invalid(ValidationError::InvalidSignature | ValidationError::InvalidMembershipTag) => {
            is_public
        }
        _ => false,
    }
}

impl From<ProcessMessageError<StoreError>> for InputError {
    fn from(error: ProcessMessageError<StoreError>) -> Self {
        Self::Rejected(refusal(error))
    }
}

rejections! {
    BadWelcome => WelcomeError<StoreError>,
    BadGroupState => ExternalCommitBuilderError<StoreError>,
}
