//! What OpenMLS's errors mean here: a fault of the peer who made the input, or of ours.
//!
//! A failure of the store below OpenMLS comes up through its errors in many shapes; those are not
//! told apart here, as the transaction remembers the failure itself (see `Turn::part`).

use openmls::{
    error::LibraryError,
    framing::errors::MlsMessageError,
    group::{
        CommitBuilderStageError, CreateCommitError, ExportGroupInfoError,
        ExternalCommitBuilderError, ExternalCommitBuilderFinalizeError, MergeCommitError,
        MergePendingCommitError, NewGroupError, ProcessMessageError, WelcomeError,
    },
};

use crate::{error::MlsError, store::StoreError};

macro_rules! meaning {
    ($meaning:ident: $($code:literal => $error:ty),+ $(,)?) => {
        $(impl From<$error> for MlsError {
            fn from(error: $error) -> Self {
                Self::$meaning($code, error.to_string())
            }
        })+
    };
}

meaning! { internal:
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

meaning! { rejected:
    "bad_commit" => ProcessMessageError<StoreError>,
    "bad_welcome" => WelcomeError<StoreError>,
    "bad_group_state" => ExternalCommitBuilderError<StoreError>,
}
