//! What OpenMLS's errors mean here: a fault of the peer who made the input, or of this library.
//!
//! A failure of the store below OpenMLS comes up through its errors in many shapes. Those are not
//! told apart here, as the transaction remembers the failure itself (`Turn::atomically`).

use openmls::{
    error::LibraryError,
    framing::errors::MlsMessageError,
    group::{
        CommitBuilderStageError, CreateCommitError, ExportGroupInfoError,
        ExternalCommitBuilderError, ExternalCommitBuilderFinalizeError, MergeCommitError,
        MergePendingCommitError, NewGroupError, ProcessMessageError, WelcomeError,
    },
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

rejections! {
    BadCommit => ProcessMessageError<StoreError>,
    BadWelcome => WelcomeError<StoreError>,
    BadGroupState => ExternalCommitBuilderError<StoreError>,
}
