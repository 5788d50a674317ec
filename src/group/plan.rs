//! From who is in the group to who should be.
//!
//! The target is every joined user's devices that may take part. [`next_step`] does one step
//! towards it (ask for device lists, claim key packages, stage one commit) and says what must be
//! sent before the next; when nothing is left it marks the room as settled on its head. It decides
//! from the store alone, so it gives the same answer after a restart.

use std::collections::{BTreeMap, BTreeSet};

use ruma::{OwnedUserId, RoomId};
use serde::{Deserialize, Serialize};

use super::{
    EpochRecord, Turn,
    commit::{self, Change},
    graph, head, heal, members,
    rooms::{self, RoomRecord},
};
use crate::{
    devices::{self, Device, DeviceId},
    error::MlsError,
    history::archive,
    identity,
    protocol::{DeviceName, credential},
    requests::{self, DEVICE_SCOPE, Purpose, REQUESTS},
    store::Collection,
    updates::Update,
};

/// How long a device without a usable key package is left alone, in milliseconds.
const RETRY_UNREACHABLE_MS: u64 = 10 * 60 * 1000;

/// How many devices one commit adds at the most: more save little, and make one long call of it
/// (docs/decisions/007).
const MOST_ADDS: usize = 500;

/// A key package that was claimed for a room and not yet used.
#[derive(Clone, Serialize, Deserialize)]
struct ClaimedKeyPackage {
    #[serde(with = "serde_bytes")]
    bytes: Vec<u8>,
}

const CLAIMED: Collection<ClaimedKeyPackage> = Collection::new("claimed_key_package");
/// Until when a device is left alone, in milliseconds since 1970.
const UNREACHABLE: Collection<u64> = Collection::new("unreachable_device");

/// What has to happen before a room can be sent to.
pub(crate) enum Step {
    Ready,
    /// The requests with these ids come first.
    Waiting(Vec<i64>),
}

/// Does what can be done now towards the target membership.
pub(crate) fn next_step(turn: &Turn<'_>, room_id: &RoomId) -> Result<Step, MlsError> {
    let mut room = rooms::get(turn.tx, room_id)?;
    if room.staged.is_some() {
        return Ok(Step::Waiting(room_requests(turn, room_id)?));
    }
    if room.gone || !room.uses_mls() {
        return Err(MlsError::not_in_group(room_id));
    }
    let doubtful = members::ask(turn, room_id)?;
    if !doubtful.is_empty() {
        return Ok(Step::Waiting(doubtful));
    }
    if room.head.is_none() && room.healing.is_none() {
        heal::need(turn, room_id, heal::Reason::NoGroup)?;
        room = rooms::get(turn.tx, room_id)?;
    }
    if room.healing.is_some() {
        return heal::step(turn, room);
    }
    // What was doubtful, or not, may look different by now.
    head::reselect(turn, room_id, None)?;
    room = rooms::get(turn.tx, room_id)?;
    let Some(head) = room.head else { return Err(MlsError::not_in_group(room_id)) };
    let head = graph::get(turn.tx, room_id, head)?;
    let rotate = room.rotate || is_due(turn, &room, &head)?;
    let recheck = room.recheck_ms.is_some_and(|due| due <= turn.now_ms);
    if room.settled == Some(head.id) && !rotate && !recheck {
        return welcomes_first(turn, room_id);
    }
    if room.blocked_until_ms.is_some_and(|until| turn.now_ms < until) {
        return Ok(Step::Waiting(Vec::new()));
    }

    let users = rooms::users(turn.tx, &room)?;
    // Whatever made the room an MLS room, from now on these devices matter.
    devices::track(turn.tx, users.iter().map(|user| &**user))?;
    let waiting = query_outdated(turn, &users)?;
    if !waiting.is_empty() {
        return Ok(Step::Waiting(waiting));
    }
    let mut difference = difference(turn, &room, &head, &users)?;
    // The rest come next.
    difference.add.truncate(most_adds());
    let claim = missing_key_packages(turn, room_id, &difference.add)?;
    if !claim.is_empty() {
        return Ok(Step::Waiting(vec![queue_claim(turn, room_id, claim)?]));
    }
    let wanted = difference.add.len();
    let add = take_key_packages(turn, room_id, difference.add)?;
    room.recheck_ms =
        (add.len() < wanted).then(|| turn.now_ms.saturating_add(RETRY_UNREACHABLE_MS));
    if add.is_empty() && difference.remove.is_empty() && !rotate {
        room.settled = Some(head.id);
        rooms::put(turn.tx, &room)?;
        return welcomes_first(turn, room_id);
    }
    commit::stage(turn, &mut room, &head, Change { add, remove: difference.remove, rotate })?;
    Ok(Step::Waiting(room_requests(turn, room_id)?))
}

fn most_adds() -> usize {
    #[cfg(feature = "test-hooks")]
    if let Some(most) = crate::store::hooks::most_adds() {
        return most;
    }
    MOST_ADDS
}

/// Ready, unless Welcomes are still to be sent: whoever was just added should be able to read what
/// comes next. They are asked for once; one that fails does not hold up the room.
fn welcomes_first(turn: &Turn<'_>, room_id: &RoomId) -> Result<Step, MlsError> {
    let waiting: Vec<_> = REQUESTS
        .in_scope(turn.tx, room_id.as_bytes())?
        .into_iter()
        .filter(|(_, queued)| {
            matches!(queued.purpose, Purpose::Welcome { .. }) && !queued.handed_out
        })
        .map(|(id, _)| id)
        .collect();
    Ok(if waiting.is_empty() { Step::Ready } else { Step::Waiting(waiting) })
}

/// The homeserver has refused a commit: the next one has to wait, longer with each refusal.
pub(crate) fn block(turn: &Turn<'_>, room_id: &RoomId) -> Result<(), MlsError> {
    let mut room = rooms::get(turn.tx, room_id)?;
    let delay = requests::delay_ms(room.refusals);
    room.refusals = room.refusals.saturating_add(1);
    room.blocked_until_ms = Some(turn.now_ms.saturating_add(delay));
    Ok(rooms::put(turn.tx, &room)?)
}

/// When the next commit may be made, if that is not now.
pub(crate) fn blocked_until(turn: &Turn<'_>, room_id: &RoomId) -> Result<Option<u64>, MlsError> {
    let room = rooms::get(turn.tx, room_id)?;
    let healing = heal::waits_until(turn, &room);
    Ok(room.blocked_until_ms.filter(|until| *until > turn.now_ms).max(healing))
}

/// Whether the room's settings want a new epoch.
fn is_due(turn: &Turn<'_>, room: &RoomRecord, head: &EpochRecord) -> Result<bool, MlsError> {
    let sent = turn.tx.generation(head.namespace)?;
    let age = turn.now_ms.saturating_sub(head.since_ms);
    Ok(sent >= room.settings.rotate_after_messages || age >= room.settings.rotate_after_ms)
}

pub(crate) fn room_requests(turn: &Turn<'_>, room_id: &RoomId) -> Result<Vec<i64>, MlsError> {
    Ok(REQUESTS.in_scope(turn.tx, room_id.as_bytes())?.into_iter().map(|(id, _)| id).collect())
}

/// The requests that ask for the device lists of these users, as far as they are out of date.
pub(crate) fn query_outdated(
    turn: &Turn<'_>,
    users: &BTreeSet<OwnedUserId>,
) -> Result<Vec<i64>, MlsError> {
    let outdated: BTreeSet<_> = devices::outdated(turn.tx, turn.now_ms)?
        .into_iter()
        .filter(|u| users.contains(u))
        .collect();
    if outdated.is_empty() {
        return Ok(Vec::new());
    }
    queue_key_queries(turn, outdated)
}

/// Queues `/keys/query` for users that no queued one asks about yet; the ids of all that matter.
pub(crate) fn queue_key_queries(
    turn: &Turn<'_>,
    mut users: BTreeSet<OwnedUserId>,
) -> Result<Vec<i64>, MlsError> {
    let mut ids = Vec::new();
    for (id, queued) in REQUESTS.in_scope(turn.tx, DEVICE_SCOPE)? {
        if let Purpose::QueryKeys(query) = &queued.purpose {
            let before = users.len();
            users.retain(|user| !query.covers(turn.tx, user).unwrap_or(false));
            if users.len() < before {
                ids.push(id);
            }
        }
    }
    if !users.is_empty() {
        let (query, request) = devices::query_request(turn.tx, users)?;
        let purpose = Purpose::QueryKeys(query);
        ids.push(requests::enqueue(turn.tx, DEVICE_SCOPE, turn.now_ms, purpose, request)?);
    }
    Ok(ids)
}

struct Difference {
    add: Vec<Device>,
    remove: Vec<(DeviceName, u32)>,
}

fn difference(
    turn: &Turn<'_>,
    room: &RoomRecord,
    head: &EpochRecord,
    users: &BTreeSet<OwnedUserId>,
) -> Result<Difference, MlsError> {
    let own = turn.identity.name();
    let mut target: BTreeMap<DeviceName, Device> = BTreeMap::new();
    for user in users {
        for device in devices::eligible_devices(turn.tx, user)? {
            let name = DeviceName(device.user_id.clone(), device.device_id.clone());
            if name != own {
                target.insert(name, device);
            }
        }
    }
    let mut remove = Vec::new();
    for (index, leaf) in archive::leaves(turn.tx, &room.room_id, head.id)? {
        let name = credential::parse(leaf.credential()?.serialized_content())?;
        if name == own && leaf.signature_key() == turn.identity.public_key() {
            continue;
        }
        match target.get(&name) {
            Some(device) if device.credential_key == leaf.signature_key() => {
                target.remove(&name);
            }
            _ => remove.push((name, index)),
        }
    }
    Ok(Difference { add: target.into_values().collect(), remove })
}

fn device_key(device: &Device) -> Vec<u8> {
    credential::encode(&DeviceName(device.user_id.clone(), device.device_id.clone()))
}

/// The devices for which a key package has yet to be claimed.
fn missing_key_packages(
    turn: &Turn<'_>,
    room_id: &RoomId,
    add: &[Device],
) -> Result<Vec<DeviceId>, MlsError> {
    let mut missing = Vec::new();
    for device in add {
        let key = device_key(device);
        let retry = UNREACHABLE.get(turn.tx, room_id.as_bytes(), &key)?.unwrap_or(0);
        if CLAIMED.get(turn.tx, room_id.as_bytes(), &key)?.is_none() && retry <= turn.now_ms {
            missing.push(DeviceId {
                user_id: device.user_id.clone(),
                device_id: device.device_id.clone(),
            });
        }
    }
    Ok(missing)
}

fn queue_claim(turn: &Turn<'_>, room_id: &RoomId, claim: Vec<DeviceId>) -> Result<i64, MlsError> {
    for (id, queued) in REQUESTS.in_scope(turn.tx, room_id.as_bytes())? {
        if matches!(&queued.purpose, Purpose::ClaimKeys { .. }) {
            return Ok(id);
        }
    }
    let request = devices::claim_request(&claim, turn.identity.ciphersuite());
    let purpose = Purpose::ClaimKeys { room_id: room_id.to_owned(), devices: claim };
    requests::enqueue(turn.tx, room_id.as_bytes(), turn.now_ms, purpose, request)
}

/// Keeps what `/keys/claim` answered. A device that got nothing usable is left alone for a while.
pub(crate) fn claimed(
    turn: &Turn<'_>,
    room_id: &RoomId,
    asked: &[DeviceId],
    body: &[u8],
) -> Result<(), MlsError> {
    let mut answers = devices::parse_claim_response(body, turn.identity.ciphersuite())?;
    for asked in asked {
        let name = DeviceName(asked.user_id.clone(), asked.device_id.clone());
        let key = credential::encode(&name);
        let usable = answers.remove(asked).and_then(|bytes| {
            let device = devices::device(turn.tx, &name.0, &name.1).ok()??;
            identity::validate_key_package(
                turn.crypto,
                &bytes,
                &name,
                &device.credential_key,
                turn.identity.ciphersuite(),
                turn.now_ms,
            )
            .inspect_err(|error| tracing::warn!(device = %name, %error, "key package refused"))
            .ok()
            .map(|_| bytes)
        });
        match usable {
            Some(bytes) => {
                UNREACHABLE.delete(turn.tx, room_id.as_bytes(), &key)?;
                CLAIMED.put(turn.tx, room_id.as_bytes(), &key, &ClaimedKeyPackage { bytes })?;
            }
            None => {
                // It may be gone by now.
                devices::doubt(turn.tx, [&*name.0])?;
                unreachable(turn, room_id, &name, &key)?;
            }
        }
    }
    Ok(())
}

/// `/keys/claim` was refused for good: the devices it asked for are left alone for a while.
pub(crate) fn claim_refused(
    turn: &Turn<'_>,
    room_id: &RoomId,
    asked: &[DeviceId],
) -> Result<(), MlsError> {
    for asked in asked {
        let name = DeviceName(asked.user_id.clone(), asked.device_id.clone());
        let key = credential::encode(&name);
        unreachable(turn, room_id, &name, &key)?;
    }
    Ok(())
}

/// Forgets the devices that were about to be added.
pub(crate) fn forget_candidates(turn: &Turn<'_>, room_id: &RoomId) -> Result<(), MlsError> {
    CLAIMED.delete_scope(turn.tx, room_id.as_bytes())?;
    UNREACHABLE.delete_scope(turn.tx, room_id.as_bytes())?;
    Ok(())
}

fn unreachable(
    turn: &Turn<'_>,
    room_id: &RoomId,
    name: &DeviceName,
    key: &[u8],
) -> Result<(), MlsError> {
    let retry = turn.now_ms.saturating_add(RETRY_UNREACHABLE_MS);
    UNREACHABLE.put(turn.tx, room_id.as_bytes(), key, &retry)?;
    turn.tell(Update::DeviceUnreachable {
        room_id: room_id.to_string(),
        user_id: name.0.to_string(),
        device_id: name.1.to_string(),
    });
    Ok(())
}

/// Takes the claimed key packages of these devices, as far as they are still good.
fn take_key_packages(
    turn: &Turn<'_>,
    room_id: &RoomId,
    add: Vec<Device>,
) -> Result<Vec<(DeviceName, openmls::prelude::KeyPackage)>, MlsError> {
    let mut taken = Vec::new();
    for device in add {
        let key = device_key(&device);
        let Some(claimed) = CLAIMED.get(turn.tx, room_id.as_bytes(), &key)? else { continue };
        CLAIMED.delete(turn.tx, room_id.as_bytes(), &key)?;
        let name = DeviceName(device.user_id.clone(), device.device_id.clone());
        match identity::validate_key_package(
            turn.crypto,
            &claimed.bytes,
            &name,
            &device.credential_key,
            turn.identity.ciphersuite(),
            turn.now_ms,
        ) {
            Ok(key_package) => taken.push((name, key_package)),
            Err(error) => tracing::warn!(device = %name, %error, "key package has gone bad"),
        }
    }
    Ok(taken)
}
