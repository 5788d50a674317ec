//! Asking whether devices without a published credential speak MLS: each is asked for a key
//! package, and a binding in it says so.
//!
//! In a room of ten thousand devices that never heard of MLS, nearly all of these questions are in
//! vain. So they cost little and hold up little:
//!
//! - One request of a room asks for at most [`MOST_ASKED`] devices. There is one at a time. Devices
//!   that nobody asked for yet are asked for at once, or, where they are more, one request a
//!   minute. Others are asked for every ten minutes at most.
//! - A device that was asked for in vain is left alone for ten minutes, then twice as long each
//!   time, up to a day (`devices::due`). A change of its user's list ends that.
//! - A message waits for a room's first question, and for one that asks for all new devices:
//!   whoever has just logged in should be able to read it. It waits as long as for other key
//!   packages.
//!
//! A device that is not asked for is not lost: it can join by itself, and its leaf has the binding.

use std::collections::BTreeSet;

use ruma::{OwnedUserId, RoomId};

use super::key_packages::{self, MOST_FAILURES};
use crate::{
    devices::{self, DevicesError},
    failure::Failure,
    identity,
    mls::{binding_of, note_bindings},
    protocol::{DeviceName, identifiers::KeyPackageName},
    requests::{self, Purpose, REQUESTS},
    room,
    store::{Collection, StoreError},
    turn::Turn,
};

/// How many devices one request asks for.
const MOST_ASKED: usize = 500;
/// The shortest time between two requests of a room, in milliseconds, while one cannot ask for all
/// that are new.
const PACE_MS: u64 = 60 * 1000;
/// The same where none are new.
const SLOW_PACE_MS: u64 = 10 * 60 * 1000;
/// Each so-manieth vain question asks for the other name that key packages have.
const OTHER_NAME: u32 = 4;

/// When a room last asked, in milliseconds since 1970.
const LAST_MS: Collection<u64> = Collection::new("silent_asked");

/// What came of looking whom to ask.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Asking {
    /// The requests that a message waits for.
    pub(super) awaited: Vec<i64>,
    /// When to look again, in milliseconds since 1970.
    pub(super) again_ms: Option<u64>,
}

/// Asks for devices of these users, as far as it is time to.
pub(super) fn ask(
    turn: &Turn<'_>,
    room: &RoomId,
    users: &BTreeSet<OwnedUserId>,
) -> Result<Asking, Failure> {
    let mut asking = Asking::default();
    let mut is_asked = false;
    for (id, queued) in REQUESTS.in_scope(turn.tx, room.as_bytes())? {
        if let Purpose::AskSilent { awaited, .. } = queued.purpose {
            is_asked = true;
            if awaited && queued.failures < MOST_FAILURES {
                asking.awaited.push(id);
            }
        }
    }
    if is_asked {
        // Its answer has the room looked at again.
        return Ok(asking);
    }
    let devices::Due { new, again, next_ms } = devices::due(turn.tx, users, turn.now_ms)?;
    let last_ms = LAST_MS.get(turn.tx, b"", room.as_bytes())?;
    let rests = |pace_ms| last_ms.is_some_and(|last_ms| !turn.has_passed(last_ms, pace_ms));
    let after = |pace_ms: u64| last_ms.unwrap_or(turn.now_ms).saturating_add(pace_ms);
    let pace_ms = match new.len() {
        0 => SLOW_PACE_MS,
        1..=MOST_ASKED => 0,
        _ => PACE_MS,
    };
    if new.is_empty() && again.is_empty() {
        asking.again_ms = next_ms.map(|next_ms| next_ms.max(after(SLOW_PACE_MS)));
        return Ok(asking);
    }
    if rests(pace_ms) {
        asking.again_ms = Some(after(pace_ms));
        return Ok(asking);
    }
    let awaited = !new.is_empty() && (new.len() <= MOST_ASKED || last_ms.is_none());
    let new = new.into_iter().map(|name| (name, 0));
    let asked: Vec<(DeviceName, u32)> = new.chain(again).take(MOST_ASKED).collect();
    for name in [KeyPackageName::Unstable, KeyPackageName::Stable] {
        let is_other = |times: u32| times % OTHER_NAME == OTHER_NAME - 1;
        let devices: Vec<_> = asked
            .iter()
            .filter(|(_, times)| is_other(*times) == (name == KeyPackageName::Stable))
            .map(|(device, _)| device.clone())
            .collect();
        if devices.is_empty() {
            continue;
        }
        let request = devices::claim_request(&devices, turn.identity.ciphersuite(), name);
        let purpose = Purpose::AskSilent { room_id: room.to_owned(), devices, awaited };
        let id = requests::enqueue(turn.tx, room.as_bytes(), turn.now_ms, purpose, request)?;
        if awaited {
            asking.awaited.push(id);
        }
    }
    LAST_MS.put(turn.tx, b"", room.as_bytes(), &turn.now_ms)?;
    Ok(asking)
}

/// Takes in the answer: whoever has bound a credential takes part, and its package is kept for the
/// room that asked.
pub(crate) fn silent_answered(
    turn: &Turn<'_>,
    room: &RoomId,
    asked: &[DeviceName],
    body: &[u8],
) -> Result<(), DevicesError> {
    let mut answer = devices::parse_claim_response(body, turn.identity.ciphersuite())?;
    let mut in_vain = Vec::new();
    for name in asked {
        let package = answer.packages.remove(name);
        match package {
            Some(package) if learn(turn, name, &package.bytes)? => {
                key_packages::keep(turn, room, name, package.bytes)?;
            }
            _ => in_vain.push(name.clone()),
        }
    }
    devices::asked_in_vain(turn.tx, &in_vain, turn.now_ms)?;
    look_again(turn, room)
}

/// The question was refused.
pub(crate) fn silent_refused(
    turn: &Turn<'_>,
    room: &RoomId,
    asked: &[DeviceName],
) -> Result<(), DevicesError> {
    devices::asked_in_vain(turn.tx, asked, turn.now_ms)?;
    look_again(turn, room)
}

/// Where the room did not wait for the answer, it looks again before the next message.
fn look_again(turn: &Turn<'_>, room: &RoomId) -> Result<(), DevicesError> {
    room::edit(turn.tx, room, |room| {
        if room.standing.is_settled() {
            room.pace.recheck_ms = Some(turn.now_ms);
        }
        Ok::<_, StoreError>(())
    })?;
    Ok(())
}

/// Takes in the binding of a key package; tells whether its device may take part now, with this
/// package's key.
fn learn(turn: &Turn<'_>, name: &DeviceName, bytes: &[u8]) -> Result<bool, StoreError> {
    let suite = turn.identity.ciphersuite();
    let valid = identity::validate_key_package(turn.crypto, bytes, name, None, suite, turn.now_ms);
    let package = match valid {
        Ok(package) => package,
        Err(error) => {
            let code = error.code();
            tracing::info!(device = %name, code, %error, "a silent device's key package is refused");
            return Ok(false);
        }
    };
    let Some(binding) = binding_of(package.leaf_node()) else { return Ok(false) };
    let key = binding.key.clone();
    note_bindings(turn, [binding])?;
    let device = devices::device(turn.tx, name)?;
    Ok(device.is_some_and(|device| device.credential_key == key))
}
