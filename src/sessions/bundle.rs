//! Epochs in a bundle: what a member gives to devices that join later. A bundle is sealed under its
//! id with a key that only members of one epoch can derive.

use openmls_traits::{crypto::OpenMlsCrypto, random::OpenMlsRand};

use super::{
    key::BackupKey,
    seal::{self, SealedError, SessionData},
    session::{Sessions, read_array},
};
use crate::{history::restored::Source, protocol::DeviceName};

/// Why a bundle could not be sealed or opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BundleError {
    /// The bundle, or what it holds, does not have the form it should have.
    #[error("the bundle is not in the form it should have")]
    Form,
    /// The bundle was not sealed with this key under this id, or the provider failed.
    #[error(transparent)]
    Sealed(#[from] SealedError),
}

/// Seals sessions under the bundle's id.
pub(crate) fn seal_bundle(
    crypto: &(impl OpenMlsCrypto + OpenMlsRand),
    key: &BackupKey,
    id: &str,
    sessions: &[u8],
) -> Result<Vec<u8>, BundleError> {
    let sealed = seal::seal(crypto, key, id, sessions)?;
    serde_json::to_vec(&sealed).map_err(|_| BundleError::Form)
}

/// Opens a bundle that a member has sealed under this id.
pub(crate) fn open_bundle(
    crypto: &impl OpenMlsCrypto,
    key: &BackupKey,
    id: &str,
    bytes: &[u8],
    member: &DeviceName,
) -> Result<Sessions, BundleError> {
    let data: SessionData = serde_json::from_slice(bytes).map_err(|_| BundleError::Form)?;
    let json = seal::open(crypto, key, id, &data)?;
    read_array(&json, &Source::Member(member.clone())).ok_or(BundleError::Form)
}
