//! Asking for key packages, and reading the answer.

use std::collections::BTreeMap;

use openmls_traits::types::Ciphersuite;
use ruma::{
    OneTimeKeyAlgorithm, OwnedDeviceId, OwnedUserId, UserId, api::client::keys::claim_keys,
};
use serde_json::Value;

use super::record::DevicesError;
use crate::protocol::{DeviceName, decode_base64, identifiers};

/// A request for one key package of each of these devices.
pub(crate) fn claim_request(devices: &[DeviceName], suite: Ciphersuite) -> claim_keys::v3::Request {
    let algorithm = OneTimeKeyAlgorithm::from(identifiers::key_package_algorithm(suite));
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

/// The key packages in an answer, as unchecked bytes. A bad entry does not affect the others.
pub(crate) fn parse_claim_response(
    body: &[u8],
    suite: Ciphersuite,
) -> Result<BTreeMap<DeviceName, Vec<u8>>, DevicesError> {
    // Not a derived struct: serde would accept an array for it.
    let answer: BTreeMap<String, Value> =
        serde_json::from_slice(body).map_err(|_| DevicesError::MalformedAnswer)?;
    let users = match answer.get("one_time_keys") {
        Some(users) => Some(users.as_object().ok_or(DevicesError::MalformedAnswer)?),
        None => None,
    };
    let mut packages = BTreeMap::new();
    for (user, devices) in users.into_iter().flatten() {
        let (Ok(user_id), Some(devices)) = (UserId::parse(user), devices.as_object()) else {
            continue;
        };
        for (device, keys) in devices {
            let package = keys.as_object().into_iter().flatten().find_map(|(id, key)| {
                let (algorithm, _) = id.split_once(':')?;
                if !identifiers::is_key_package_algorithm(algorithm, suite) {
                    return None;
                }
                decode_base64(key.as_str()?)
            });
            if let Some(package) = package {
                let device_id = OwnedDeviceId::from(device.as_str());
                packages.insert(DeviceName { user_id: user_id.clone(), device_id }, package);
            }
        }
    }
    Ok(packages)
}
