//! Asking for device lists, and taking in the answers.

use std::collections::{BTreeMap, BTreeSet};

use ruma::{
    CanonicalJsonValue, OwnedDeviceId, OwnedServerName, OwnedUserId, UserId,
    api::client::keys::get_keys,
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{
    DEVICES, DeviceId, DeviceRecord, DevicesError, Rejection, tracking, tracking::TrackedUser,
    verify::credential_key,
};
use crate::store::{StoreError, Tx};

/// How long a homeserver that could not be reached is left alone, in milliseconds. Meanwhile what
/// is known of its users' devices counts, so that one server's outage stops no room.
const RETRY_UNREACHABLE_MS: u64 = 60 * 1000;

/// Who was asked about, and how many changes of each list were known then.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct KeyQuery {
    asked: BTreeMap<OwnedUserId, u64>,
}

impl KeyQuery {
    /// Whether the answer will bring this user's list up to date.
    pub(crate) fn covers(&self, tx: &Tx<'_>, user: &UserId) -> Result<bool, StoreError> {
        let changes = tracking::get(tx, user)?.map(|tracked| tracked.changes);
        Ok(changes.is_some() && self.asked.get(user).copied() == changes)
    }
}

/// A query for the device lists of these users.
pub(crate) fn query_request(
    tx: &Tx<'_>,
    users: BTreeSet<OwnedUserId>,
) -> Result<(KeyQuery, get_keys::v3::Request), StoreError> {
    let mut asked = BTreeMap::new();
    for user in users {
        if let Some(TrackedUser { changes, .. }) = tracking::get(tx, &user)? {
            asked.insert(user, changes);
        }
    }
    let mut request = get_keys::v3::Request::new();
    request.device_keys = asked.keys().map(|user| (user.clone(), Vec::new())).collect();
    Ok((KeyQuery { asked }, request))
}

/// A device that may not take part.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct RejectedDevice {
    pub(crate) user_id: OwnedUserId,
    pub(crate) device_id: OwnedDeviceId,
    pub(crate) reason: Rejection,
}

/// What an answer changed.
#[derive(Debug, Default)]
pub(crate) struct QueryReport {
    /// The users about whom it said anything, in the sense that their devices may be others now.
    pub(crate) changed_users: Vec<OwnedUserId>,
    /// Devices that were not rejected before, or for another reason.
    pub(crate) rejected: Vec<RejectedDevice>,
}

/// The body of an answer, each device unread.
#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    device_keys: BTreeMap<String, Box<RawValue>>,
    #[serde(default)]
    failures: BTreeMap<String, Box<RawValue>>,
}

/// Takes in the answer to a query. Users that were not asked about are ignored, and what is wrong
/// with one device or user leaves the others as they are.
pub(crate) fn handle_query_response(
    tx: &Tx<'_>,
    query: &KeyQuery,
    body: &[u8],
    now_ms: u64,
) -> Result<QueryReport, DevicesError> {
    let answer: Answer = serde_json::from_slice(body).map_err(|_| DevicesError::MalformedAnswer)?;
    let unreachable: BTreeSet<OwnedServerName> = answer
        .failures
        .keys()
        .filter_map(|server| OwnedServerName::try_from(server.as_str()).ok())
        .collect();
    let mut report = QueryReport::default();
    for (user, changes) in &query.asked {
        let Some(mut tracked) = tracking::get(tx, user)? else { continue };
        let devices = match answer.device_keys.get(user.as_str()) {
            Some(devices) => serde_json::from_str::<BTreeMap<String, Box<RawValue>>>(devices.get()),
            None if unreachable.contains(user.server_name()) => {
                tracked.retry_at_ms = now_ms.saturating_add(RETRY_UNREACHABLE_MS);
                tracking::put(tx, &tracked)?;
                continue;
            }
            // The homeserver knows of no device of this user.
            None => Ok(BTreeMap::new()),
        };
        let Ok(devices) = devices else {
            tracked.retry_at_ms = now_ms.saturating_add(RETRY_UNREACHABLE_MS);
            tracking::put(tx, &tracked)?;
            continue;
        };
        take_in(tx, user, &devices, &mut report)?;
        tracked.known = Some(*changes);
        tracked.retry_at_ms = 0;
        tracking::put(tx, &tracked)?;
        report.changed_users.push(user.clone());
    }
    Ok(report)
}

/// Replaces what is known of one user's devices.
fn take_in(
    tx: &Tx<'_>,
    user: &UserId,
    devices: &BTreeMap<String, Box<RawValue>>,
    report: &mut QueryReport,
) -> Result<(), StoreError> {
    for gone in DEVICES.list(tx, user.as_bytes())? {
        if !devices.contains_key(gone.id.device_id.as_str()) {
            DEVICES.delete(tx, user.as_bytes(), gone.id.device_id.as_bytes())?;
        }
    }
    for (device, keys) in devices {
        if device.is_empty() {
            continue;
        }
        let device = OwnedDeviceId::from(device.as_str());
        let before = DEVICES.get(tx, user.as_bytes(), device.as_bytes())?;
        let known = before.as_ref().and_then(|before| before.credential_key.clone());
        let verdict = match serde_json::from_str::<CanonicalJsonValue>(keys.get()) {
            Ok(CanonicalJsonValue::Object(keys)) => credential_key(user, &device, &keys),
            _ => Err(Rejection::Malformed),
        };
        let (credential_key, rejection) = match (known, verdict) {
            (None, Ok(key)) => (Some(key), None),
            (Some(known), Ok(key)) if known == key => (Some(known), None),
            (Some(known), Ok(_)) => (Some(known), Some(Rejection::Changed)),
            (known, Err(rejection)) => (known, Some(rejection)),
        };
        let id = DeviceId { user_id: user.to_owned(), device_id: device.clone() };
        let record = DeviceRecord { id, credential_key, rejection };
        if let Some(reason) = rejection
            && before.as_ref().and_then(|before| before.rejection) != rejection
        {
            report.rejected.push(RejectedDevice {
                user_id: user.to_owned(),
                device_id: device.clone(),
                reason,
            });
        }
        if before.as_ref() != Some(&record) {
            DEVICES.put(tx, user.as_bytes(), device.as_bytes(), &record)?;
        }
    }
    Ok(())
}
