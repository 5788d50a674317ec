//! Asking for key packages, and reading the answer.

use std::collections::{BTreeMap, BTreeSet};

use openmls_traits::types::Ciphersuite;
use ruma::{
    OneTimeKeyAlgorithm, OwnedDeviceId, OwnedServerName, OwnedUserId, ServerName, UserId,
    api::client::keys::claim_keys,
};
use serde_json::Value;

use super::record::DevicesError;
use crate::protocol::{
    DeviceName, decode_base64,
    identifiers::{self, KeyPackageName},
};

/// A request for one key package of each of these devices, under one of the names that key packages
/// have.
pub(crate) fn claim_request(
    devices: &[DeviceName],
    suite: Ciphersuite,
    name: KeyPackageName,
) -> claim_keys::v3::Request {
    let algorithm = OneTimeKeyAlgorithm::from(identifiers::claimed_algorithm(suite, name));
    let mut asked: BTreeMap<OwnedUserId, BTreeMap<OwnedDeviceId, OneTimeKeyAlgorithm>> =
        BTreeMap::new();
    for device in devices {
        asked
            .entry(device.user_id.clone())
            .or_default()
            .insert(device.device_id.clone(), algorithm.clone());
    }
    claim_keys::v3::Request::new(asked)
}

/// What an answer gives for the devices that were asked for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Claimed {
    pub(crate) packages: BTreeMap<DeviceName, ClaimedPackage>,
    /// The servers that could not be asked.
    pub(crate) unreachable: BTreeSet<OwnedServerName>,
}

/// One key package of an answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ClaimedPackage {
    /// Its key id without the algorithm.
    pub(crate) key_id: String,
    /// Its bytes, unchecked. They are empty where the value is no base64.
    pub(crate) bytes: Vec<u8>,
}

/// The key packages in an answer. A bad entry does not affect the others.
pub(crate) fn parse_claim_response(
    body: &[u8],
    suite: Ciphersuite,
) -> Result<Claimed, DevicesError> {
    // Not a derived struct: serde would accept an array for it.
    let answer: BTreeMap<String, Value> =
        serde_json::from_slice(body).map_err(|_| DevicesError::MalformedAnswer)?;
    let users = match answer.get("one_time_keys") {
        Some(users) => Some(users.as_object().ok_or(DevicesError::MalformedAnswer)?),
        None => None,
    };
    let mut claimed = Claimed::default();
    let failures = answer.get("failures").and_then(Value::as_object);
    for (server, _) in failures.into_iter().flatten() {
        claimed.unreachable.extend(ServerName::parse(server));
    }
    for (user, devices) in users.into_iter().flatten() {
        let (Ok(user_id), Some(devices)) = (UserId::parse(user), devices.as_object()) else {
            continue;
        };
        for (device, keys) in devices {
            let mut packages = keys.as_object().into_iter().flatten().filter_map(|(id, key)| {
                let (algorithm, key_id) = id.split_once(':')?;
                let bytes = key.as_str().and_then(decode_base64).unwrap_or_default();
                identifiers::is_key_package_algorithm(algorithm, suite)
                    .then(|| ClaimedPackage { key_id: key_id.to_owned(), bytes })
            });
            let first = packages.next();
            let package = match first {
                Some(bad) if bad.bytes.is_empty() => {
                    packages.find(|package| !package.bytes.is_empty()).or(Some(bad))
                }
                first => first,
            };
            if let Some(package) = package {
                let device_id = OwnedDeviceId::from(device.as_str());
                claimed
                    .packages
                    .insert(DeviceName { user_id: user_id.clone(), device_id }, package);
            }
        }
    }
    Ok(claimed)
}
