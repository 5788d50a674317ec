//! Asking for device lists, and taking in the answers.

use std::collections::{BTreeMap, BTreeSet};

use ruma::{
    CanonicalJsonValue, OwnedDeviceId, OwnedServerName, OwnedUserId, UserId,
    api::client::keys::get_keys,
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{
    pins,
    record::{self, DEVICES, DeviceRecord, DevicesError, update_eligible},
    tracking::{self, TrackedUser},
    verify::{DeviceFault, credential_key},
};
use crate::{
    protocol::DeviceName,
    store::{StoreError, Tx},
};

/// The most devices that a user may have. An answer with more is ignored: each device is a record
/// in the store and costs up to two signature checks, and a homeserver can answer anything.
const MOST_DEVICES: usize = 5_000;
/// The longest device id that is accepted, in bytes. Ids end up in every leaf of a group.
const LONGEST_DEVICE_ID: usize = 255;

/// Who was asked about, with the last change of each list that was known then.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct KeyQuery {
    asked: BTreeMap<OwnedUserId, u64>,
}

impl KeyQuery {
    /// Whether the answer will bring this user's list up to date.
    pub(crate) fn covers(&self, tx: &Tx<'_>, user: &UserId) -> Result<bool, StoreError> {
        let change = tracking::get(tx, user)?.map(|tracked| tracked.change);
        Ok(change.is_some() && self.asked.get(user).copied() == change)
    }
}

/// A query for the device lists of these users.
pub(crate) fn query_request(
    tx: &Tx<'_>,
    users: BTreeSet<OwnedUserId>,
) -> Result<(KeyQuery, get_keys::v3::Request), StoreError> {
    let mut asked = BTreeMap::new();
    for user in users {
        if let Some(TrackedUser { change, .. }) = tracking::get(tx, &user)? {
            asked.insert(user, change);
        }
    }
    let mut request = get_keys::v3::Request::new();
    request.device_keys = asked.keys().map(|user| (user.clone(), Vec::new())).collect();
    Ok((KeyQuery { asked }, request))
}

/// A device that may not take part.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct RejectedDevice {
    pub(crate) name: DeviceName,
    pub(crate) reason: DeviceFault,
}

/// A user whose list was not available. It stays out of date.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct PostponedUser {
    pub(crate) user_id: OwnedUserId,
    /// When the list is asked for again, in milliseconds since 1970.
    pub(crate) retry_at_ms: u64,
}

/// What an answer changed.
#[derive(Debug, Default)]
pub(crate) struct QueryReport {
    /// The users about whom the answer said something, so that their devices may have changed.
    pub(crate) changed_users: Vec<OwnedUserId>,
    /// The users whose devices are others than before.
    pub(crate) altered_users: Vec<OwnedUserId>,
    /// The devices that are newly rejected, or rejected for another reason than before.
    pub(crate) rejected: Vec<RejectedDevice>,
    /// The users whose homeserver was unreachable, or about whom the answer says nothing readable.
    pub(crate) postponed: Vec<PostponedUser>,
}

/// The members of a JSON object, not parsed yet. A derived struct would accept an empty array as an
/// object without members, which would mean here that every device is gone.
type Members = BTreeMap<String, Box<RawValue>>;

/// The body of an answer.
struct Answer {
    /// What it says of each user's devices; `None` if it has no such member.
    device_keys: Option<Members>,
    unreachable: BTreeSet<OwnedServerName>,
}

impl Answer {
    fn parse(body: &[u8]) -> Result<Self, serde_json::Error> {
        let answer: Members = serde_json::from_slice(body)?;
        let members = |name| {
            answer.get(name).map(|value| serde_json::from_str::<Members>(value.get())).transpose()
        };
        let unreachable = members("failures")?
            .unwrap_or_default()
            .into_keys()
            .filter_map(|server| OwnedServerName::try_from(server).ok())
            .collect();
        Ok(Self { device_keys: members("device_keys")?, unreachable })
    }

    /// What it says of a user's devices; `None` if it says nothing usable.
    fn devices_of(&self, user: &UserId) -> Option<Members> {
        let devices = match self.device_keys.as_ref()?.get(user.as_str()) {
            Some(devices) => serde_json::from_str::<Members>(devices.get()).ok()?,
            // The homeserver knows of no device of this user.
            None => Members::new(),
        };
        // For users of an unreachable server, an answer with remembered devices is good enough. An
        // empty answer is not: it does not mean that there are no devices.
        let is_guess = devices.is_empty() && self.unreachable.contains(user.server_name());
        (!is_guess && devices.len() <= MOST_DEVICES).then_some(devices)
    }
}

/// Takes in the answer to a query. Users that were not asked about are ignored. A fault in one
/// device or user does not affect the others.
pub(crate) fn handle_query_response(
    tx: &Tx<'_>,
    query: &KeyQuery,
    body: &[u8],
    now_ms: u64,
) -> Result<QueryReport, DevicesError> {
    let answer = Answer::parse(body).map_err(|_| DevicesError::MalformedAnswer)?;
    let mut report = QueryReport::default();
    for (user, asked) in &query.asked {
        let Some(mut tracked) = tracking::get(tx, user)? else { continue };
        if tracked.known.is_some_and(|known| known > *asked) {
            // The answer to a later query arrived first.
            continue;
        }
        if let Some(devices) = answer.devices_of(user) {
            if replace_devices(tx, user, &devices, &mut report)? {
                report.altered_users.push(user.clone());
            }
            tracked.known = Some(*asked);
            tracked.retry_at_ms = 0;
            tracked.failures = 0;
            tracking::put(tx, &tracked)?;
            report.changed_users.push(user.clone());
        } else if tracked.is_outdated() {
            tracked.postpone(now_ms);
            tracking::put(tx, &tracked)?;
            let retry_at_ms = tracked.retry_at_ms;
            report.postponed.push(PostponedUser { user_id: user.clone(), retry_at_ms });
        }
    }
    Ok(report)
}

/// The homeserver has refused a query. The lists that it asked for are left alone for a while; until
/// then the known devices count.
pub(crate) fn query_refused(tx: &Tx<'_>, query: &KeyQuery, now_ms: u64) -> Result<(), StoreError> {
    for user in query.asked.keys() {
        if let Some(mut tracked) = tracking::get(tx, user)?
            && tracked.is_outdated()
        {
            tracked.postpone(now_ms);
            tracking::put(tx, &tracked)?;
        }
    }
    Ok(())
}

/// Replaces what is known of one user's devices; tells whether that is something else than before.
/// The pins of those that are gone stay.
fn replace_devices(
    tx: &Tx<'_>,
    user: &UserId,
    devices: &Members,
    report: &mut QueryReport,
) -> Result<bool, StoreError> {
    let mut changed = false;
    for gone in DEVICES.list(tx, user.as_bytes())? {
        if !devices.contains_key(gone.name.device_id.as_str()) {
            pins::get_or_adopt(tx, &gone.name, gone.credential_key.as_deref())?;
            changed |= DEVICES.delete(tx, user.as_bytes(), gone.name.device_id.as_bytes())?;
        }
    }
    let mut free = pins::Free::of(tx, user)?;
    for (device, keys) in devices {
        if device.is_empty() || device.len() > LONGEST_DEVICE_ID {
            continue;
        }
        let device = OwnedDeviceId::from(device.as_str());
        let name = DeviceName::new(user.to_owned(), device.clone());
        let before = record::find(tx, user, &device)?;
        let in_row = before.as_ref().and_then(|before| before.credential_key.as_deref());
        let pinned = pins::get_or_adopt(tx, &name, in_row)?;
        let verdict = match serde_json::from_str::<CanonicalJsonValue>(keys.get()) {
            Ok(CanonicalJsonValue::Object(keys)) => credential_key(user, &device, &keys),
            _ => Err(DeviceFault::Malformed),
        };
        let (credential_key, rejection) = match (pinned, verdict) {
            (None, Ok(key)) if free.pin(tx, &name, &key)? => (Some(key), None),
            (None, Ok(_)) => (None, Some(DeviceFault::TooMany)),
            (Some(pinned), Ok(key)) if pinned == key => (Some(pinned), None),
            (Some(pinned), Ok(_)) => (Some(pinned), Some(DeviceFault::Changed)),
            (pinned, Err(rejection)) => (pinned, Some(rejection)),
        };
        let record = DeviceRecord { name: name.clone(), credential_key, rejection };
        if let Some(reason) = rejection
            && before.as_ref().and_then(|before| before.rejection) != rejection
        {
            report.rejected.push(RejectedDevice { name, reason });
        }
        if before.as_ref() != Some(&record) {
            DEVICES.put(tx, user.as_bytes(), device.as_bytes(), &record)?;
            changed = true;
        }
    }
    if changed {
        update_eligible(tx, user)?;
    }
    Ok(changed)
}
