//! The key packages of devices that are to be added to a room's group: claimed, kept until a commit
//! uses them, checked again then.
//!
//! A homeserver hands out the oldest one-time package first. A device that was away for long may
//! have bad ones before its good ones, so a claim is repeated at once past a bad one, and under the
//! other name that key packages have where the first gives none. All of that is bounded: a server
//! may hand out bad ones for ever. A device without a usable key package is then left alone, for
//! longer each time, and the room goes on without it. A homeserver that does not answer a claim
//! holds up a message for a few seconds at the most.

use std::collections::BTreeMap;

use openmls::prelude::KeyPackage;
use ruma::RoomId;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::in_tree::Unfit;
use crate::{
    devices::{self, ClaimedPackage, Device, DevicesError},
    exported::Update,
    failure::{EndsTurn, Failure},
    identity::{self, BadKeyPackage, Crypto},
    mls::binding_of,
    protocol::{DeviceName, credential, identifiers::KeyPackageName},
    requests::{self, Backoff, Purpose, REQUESTS},
    room,
    store::{Collection, StoreError},
    turn::Turn,
};

/// How long a device without a usable key package is left alone.
pub(super) const LEAVE_ALONE: Backoff =
    Backoff { first_ms: 10 * 60 * 1000, most_ms: 12 * 60 * 60 * 1000 };
/// How many bad key packages of one device are passed over before it is left alone.
const MOST_BAD: u32 = 12;
/// How often a claim may fail before the room goes on without those who are asked for. The failures
/// before cost three seconds.
pub(super) const MOST_FAILURES: u32 = 3;

/// How many devices one claim asks for: the answer is taken in in one turn.
const MOST_CLAIMED: usize = 500;

/// A key package that was claimed for a room and not yet used.
#[derive(Clone, Serialize, Deserialize)]
struct ClaimedKeyPackage {
    #[serde(with = "serde_bytes")]
    bytes: Vec<u8>,
}

const CLAIMED: Collection<ClaimedKeyPackage> = Collection::new("claimed_key_package");

/// How the search for a usable key package of one device goes.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Search {
    /// The name that is asked for.
    name: KeyPackageName,
    /// How many bad ones came since the device was last left alone.
    bad: u32,
    /// The hash of the last bad one. A second time the same is the last-resort package: no other
    /// follows.
    last_bad: Option<[u8; 32]>,
    /// How often the device was left alone so far.
    left_alone: u32,
    /// Until when it is left alone, in milliseconds since 1970.
    until_ms: u64,
}

impl Search {
    /// Whether the device is left alone for now.
    fn rests(&self, turn: &Turn<'_>) -> bool {
        turn.is_ahead(self.until_ms, LEAVE_ALONE.most_ms)
    }

    /// A claim gave nothing usable. Tells whether another is worth while.
    fn goes_on(&mut self, bad: Option<&[u8]>, server_answers: bool) -> bool {
        if let Some(bytes) = bad {
            let hash = Some(Sha256::digest(bytes).into());
            self.bad = self.bad.saturating_add(1);
            if self.bad >= MOST_BAD {
                return false;
            }
            if std::mem::replace(&mut self.last_bad, hash) != hash {
                return true;
            }
        }
        if self.name == KeyPackageName::Unstable && server_answers {
            self.name = KeyPackageName::Stable;
            return true;
        }
        false
    }
}

/// The searches that are under way or rest, by room and device.
const SEARCHES: Collection<Search> = Collection::new("key_package_search");
/// What earlier versions kept instead: until when a device is left alone.
const UNREACHABLE: Collection<u64> = Collection::new("unreachable_device");

/// Takes out of the list whoever is left alone for now; tells when the first of them is to be tried
/// again.
pub(super) fn leave_out_unreachable(
    turn: &Turn<'_>,
    room: &RoomId,
    add: &mut Vec<Device>,
) -> Result<Option<u64>, StoreError> {
    let mut again_ms: Option<u64> = None;
    let mut kept = Vec::with_capacity(add.len());
    for device in std::mem::take(add) {
        let key = credential::encode(&device.name);
        match SEARCHES.get(turn.tx, room.as_bytes(), &key)? {
            Some(search) if search.rests(turn) => {
                again_ms = Some(again_ms.map_or(search.until_ms, |at| at.min(search.until_ms)));
            }
            _ => kept.push(device),
        }
    }
    *add = kept;
    Ok(again_ms)
}

/// Queues `/keys/claim` for those of these devices whose key packages are not here, and gives the
/// requests to wait for. A claim that has failed too often, or that tries again for a device that
/// was left alone and has failed once, is not waited for.
pub(super) fn claim_missing(
    turn: &Turn<'_>,
    room: &RoomId,
    add: &[Device],
) -> Result<Vec<i64>, Failure> {
    let mut missing: BTreeMap<DeviceName, Search> = BTreeMap::new();
    for device in add {
        let key = credential::encode(&device.name);
        if CLAIMED.get(turn.tx, room.as_bytes(), &key)?.is_none() {
            let search = SEARCHES.get(turn.tx, room.as_bytes(), &key)?.unwrap_or_default();
            missing.insert(device.name.clone(), search);
        }
    }
    let mut awaited = Vec::new();
    for (id, queued) in REQUESTS.in_scope(turn.tx, room.as_bytes())? {
        let Purpose::ClaimKeys { devices, .. } = &queued.purpose else { continue };
        let mut patience = 0;
        for name in devices {
            if let Some(search) = missing.remove(name) {
                let is_first = search.left_alone == 0;
                patience = patience.max(if is_first { MOST_FAILURES } else { 1 });
            }
        }
        if queued.failures < patience {
            awaited.push(id);
        }
    }
    for wanted in [KeyPackageName::Unstable, KeyPackageName::Stable] {
        let devices: Vec<DeviceName> = missing
            .iter()
            .filter(|(_, search)| search.name == wanted)
            .map(|(name, _)| name.clone())
            .collect();
        for devices in devices.chunks(MOST_CLAIMED) {
            let request = devices::claim_request(devices, turn.identity.ciphersuite(), wanted);
            let purpose =
                Purpose::ClaimKeys { room_id: room.to_owned(), devices: devices.to_vec() };
            let id = requests::enqueue(turn.tx, room.as_bytes(), turn.now_ms, purpose, request)?;
            awaited.push(id);
        }
    }
    Ok(awaited)
}

/// Keeps what `/keys/claim` answered.
pub(crate) fn claimed(
    turn: &Turn<'_>,
    room: &RoomId,
    asked: &[DeviceName],
    body: &[u8],
) -> Result<(), DevicesError> {
    let mut answer = devices::parse_claim_response(body, turn.identity.ciphersuite())?;
    for name in asked {
        let device = match devices::device(turn.tx, name) {
            // A damaged row costs that device alone.
            Err(error) if !error.ends_turn() => None,
            device => device?,
        };
        let package = answer.packages.remove(name);
        let is_good = match (&package, &device) {
            (Some(package), Some(device)) => checked(turn, device, &package.bytes)?.is_some(),
            _ => false,
        };
        match package {
            Some(ClaimedPackage { bytes, .. }) if is_good => keep(turn, room, name, bytes)?,
            package => {
                let answers = !answer.unreachable.contains(name.user_id.server_name());
                let bad = package.as_ref().map(|package| &*package.bytes);
                go_on(turn, room, name, bad, answers && device.is_some())?;
            }
        }
    }
    // Where the room did not wait for the answer, it looks again before the next message.
    room::edit(turn.tx, room, |room| {
        if room.standing.is_settled() {
            room.pace.recheck_ms = Some(turn.now_ms);
        }
        Ok::<_, StoreError>(())
    })?;
    Ok(())
}

pub(super) fn keep(
    turn: &Turn<'_>,
    room: &RoomId,
    name: &DeviceName,
    bytes: Vec<u8>,
) -> Result<(), StoreError> {
    let key = credential::encode(name);
    CLAIMED.put(turn.tx, room.as_bytes(), &key, &ClaimedKeyPackage { bytes })
}

/// A claim gave nothing usable for a device: it is asked for again at once, or left alone.
fn go_on(
    turn: &Turn<'_>,
    room: &RoomId,
    name: &DeviceName,
    bad: Option<&[u8]>,
    server_answers: bool,
) -> Result<(), StoreError> {
    let key = credential::encode(name);
    let mut search = SEARCHES.get(turn.tx, room.as_bytes(), &key)?.unwrap_or_default();
    if search.goes_on(bad, server_answers) {
        return SEARCHES.put(turn.tx, room.as_bytes(), &key, &search);
    }
    // The device may be gone by now.
    devices::mark_outdated(turn.tx, [&*name.user_id])?;
    leave_alone(turn, room, name)
}

/// `/keys/claim` was refused for good: the devices it asked for are left alone for a while.
pub(crate) fn claim_refused(
    turn: &Turn<'_>,
    room: &RoomId,
    asked: &[DeviceName],
) -> Result<(), StoreError> {
    asked.iter().try_for_each(|name| leave_alone(turn, room, name))
}

/// Forgets the devices that were about to be added.
pub(crate) fn forget_candidates(turn: &Turn<'_>, room: &RoomId) -> Result<(), StoreError> {
    CLAIMED.delete_scope(turn.tx, room.as_bytes())?;
    SEARCHES.delete_scope(turn.tx, room.as_bytes())?;
    UNREACHABLE.delete_scope(turn.tx, room.as_bytes())?;
    Ok(())
}

fn leave_alone(turn: &Turn<'_>, room: &RoomId, name: &DeviceName) -> Result<(), StoreError> {
    let key = credential::encode(name);
    let before = SEARCHES.get(turn.tx, room.as_bytes(), &key)?.unwrap_or_default().left_alone;
    let search = Search {
        left_alone: before.saturating_add(1),
        until_ms: turn.now_ms.saturating_add(LEAVE_ALONE.delay_ms(before)),
        ..Search::default()
    };
    SEARCHES.put(turn.tx, room.as_bytes(), &key, &search)?;
    turn.tell(Update::DeviceUnreachable {
        room_id: room.to_string(),
        user_id: name.user_id.to_string(),
        device_id: name.device_id.to_string(),
    });
    Ok(())
}

/// The claimed key packages of these devices, as far as they are still good.
pub(super) fn usable(
    turn: &Turn<'_>,
    room: &RoomId,
    add: Vec<Device>,
) -> Result<Vec<(DeviceName, KeyPackage)>, StoreError> {
    let mut usable = Vec::new();
    for device in add {
        let key = credential::encode(&device.name);
        let Some(claimed) = CLAIMED.get(turn.tx, room.as_bytes(), &key)? else { continue };
        match checked(turn, &device, &claimed.bytes)? {
            Some(key_package) => usable.push((device.name, key_package)),
            None => drop(CLAIMED.delete(turn.tx, room.as_bytes(), &key)?),
        }
    }
    Ok(usable)
}

/// A commit has used the key package of a device: the search for one was a success.
pub(super) fn used(turn: &Turn<'_>, room: &RoomId, name: &DeviceName) -> Result<(), StoreError> {
    let key = credential::encode(name);
    SEARCHES.delete(turn.tx, room.as_bytes(), &key)?;
    CLAIMED.delete(turn.tx, room.as_bytes(), &key).map(drop)
}

/// A key package that seemed good does not fit into the room's group: another is asked for as after
/// any bad one, unless none of this device would do.
pub(super) fn unfit(
    turn: &Turn<'_>,
    room: &RoomId,
    name: &DeviceName,
    why: Unfit,
) -> Result<(), StoreError> {
    let key = credential::encode(name);
    let claimed = CLAIMED.get(turn.tx, room.as_bytes(), &key)?;
    match (why, claimed) {
        (Unfit::Package, Some(claimed)) => {
            CLAIMED.delete(turn.tx, room.as_bytes(), &key)?;
            go_on(turn, room, name, Some(&claimed.bytes), true)
        }
        _ => give_up(turn, room, name),
    }
}

/// A key package that seemed good cannot be added: its device is left alone.
pub(super) fn give_up(turn: &Turn<'_>, room: &RoomId, name: &DeviceName) -> Result<(), StoreError> {
    CLAIMED.delete(turn.tx, room.as_bytes(), &credential::encode(name))?;
    leave_alone(turn, room, name)
}

/// The key package, if it may be used to add its device now.
fn checked(
    turn: &Turn<'_>,
    device: &Device,
    bytes: &[u8],
) -> Result<Option<KeyPackage>, StoreError> {
    let binding_key = devices::binding_key(turn.tx, &device.name)?;
    Ok(check(turn.crypto, device, binding_key.as_deref(), bytes, turn.now_ms))
}

/// The same without the store.
fn check(
    crypto: &Crypto,
    device: &Device,
    binding_key: Option<&[u8]>,
    bytes: &[u8],
    now_ms: u64,
) -> Option<KeyPackage> {
    let (key, suite) = (Some(&*device.credential_key), identity::SUITE);
    let valid = identity::validate_key_package(crypto, bytes, &device.name, key, suite, now_ms);
    let package = match valid {
        Ok(package) => package,
        Err(error) => {
            refused(&device.name, error);
            return None;
        }
    };
    // Others would not know the device by a leaf without its binding.
    let is_bound = binding_key.is_none_or(|device_key| {
        binding_of(package.leaf_node()).is_some_and(|leaf| leaf.is_valid(device_key))
    });
    if !is_bound {
        refused(&device.name, BadKeyPackage::UNBOUND);
    }
    is_bound.then_some(package)
}

fn refused(device: &DeviceName, error: BadKeyPackage) {
    tracing::warn!(%device, code = error.code(), %error, "key package refused");
}

/// A device with its claimed key package, as it is looked at outside of the turn.
pub(super) struct Candidate {
    pub(super) device: Device,
    binding_key: Option<Vec<u8>>,
    bytes: Vec<u8>,
}

impl Candidate {
    /// The key package, if it may be used to add the device now.
    pub(super) fn check(&self, crypto: &Crypto, now_ms: u64) -> Option<KeyPackage> {
        check(crypto, &self.device, self.binding_key.as_deref(), &self.bytes, now_ms)
    }
}

/// Those of these devices whose key packages are here.
pub(super) fn candidates(
    turn: &Turn<'_>,
    room: &RoomId,
    add: Vec<Device>,
) -> Result<Vec<Candidate>, StoreError> {
    let mut candidates = Vec::with_capacity(add.len());
    for device in add {
        let key = credential::encode(&device.name);
        let Some(claimed) = CLAIMED.get(turn.tx, room.as_bytes(), &key)? else { continue };
        let binding_key = devices::binding_key(turn.tx, &device.name)?;
        candidates.push(Candidate { device, binding_key, bytes: claimed.bytes });
    }
    Ok(candidates)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_ends_whatever_the_server_hands_out() {
        // Another bad one each time.
        let mut search = Search::default();
        let mut asked = 1;
        while search.goes_on(Some(&[asked]), true) {
            asked += 1;
        }
        assert_eq!(u32::from(asked), MOST_BAD);
        // The same bad one each time: one repetition under each name.
        let mut search = Search::default();
        assert!(search.goes_on(Some(b"bad"), true));
        assert_eq!(search.name, KeyPackageName::Unstable);
        assert!(search.goes_on(Some(b"bad"), true));
        assert_eq!(search.name, KeyPackageName::Stable);
        assert!(!search.goes_on(Some(b"bad"), true));
        // None under either name.
        let mut search = Search::default();
        assert!(search.goes_on(None, true));
        assert!(!search.goes_on(None, true));
        // A server that cannot be asked has no package under another name.
        assert!(!Search::default().goes_on(None, false));
    }
}
