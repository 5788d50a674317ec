//! Giving history to devices that came in by themselves and ask for it.
//!
//! Whoever asks must be in the epoch that the request names, and its owner must have signed it: a
//! homeserver can bring a device of its own in where the policy allows it, and that device shall
//! not read what was said before. What is asked is kept until that epoch is known, a day at the
//! most.

use std::slice;

use ruma::{OwnedEventId, OwnedRoomId, RoomId, UserId};
use serde::{Deserialize, Serialize};

use super::offer::{LONGEST_NAME, offer};
use crate::{
    commits,
    devices::{self, Verdict},
    epochs::{EpochRecord, Status, graph},
    failure::Failure,
    history::archive,
    incoming::EventError,
    protocol::{DeviceName, credential},
    rejection::Rejection,
    room::{self, Room, membership},
    store::{Collection, StoreError},
    turn::Turn,
};

/// How long a request waits for its epoch, and how long a device that was given history is given no
/// more, in milliseconds.
const DAY_MS: u64 = 24 * 60 * 60 * 1000;
/// How many requests of all rooms wait or were answered in the last day.
const MOST_REMEMBERED: usize = 64;
/// How many of them may be of one user.
const MOST_OF_A_USER: usize = 8;
/// How many requests about one room are answered in a day. Each costs the upload of a bundle.
const MOST_ANSWERED: usize = 20;

/// The content of a to-device event that asks for history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HistoryRequest {
    pub(super) algorithm: String,
    pub(crate) room_id: OwnedRoomId,
    /// Who asks.
    pub(super) sender: DeviceName,
    /// The commit by which the sender came in.
    pub(super) commit_event: OwnedEventId,
}

/// A request that waits or was answered.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Asked {
    request: HistoryRequest,
    /// When it came or was answered, in milliseconds since 1970.
    since_ms: u64,
    is_answered: bool,
}

const ASKED: Collection<Asked> = Collection::new("asked_for_history");

fn key(request: &HistoryRequest) -> Vec<u8> {
    [request.room_id.as_bytes(), &credential::encode(&request.sender)].concat()
}

/// Takes in a request. It is answered with the next requests of this device.
pub(crate) fn asked(
    turn: &Turn<'_>,
    sender: &UserId,
    request: HistoryRequest,
) -> Result<(), EventError> {
    if request.sender.user_id != sender {
        let reason = "the event names another user as sender";
        return Err(Rejection::SenderMismatch(reason).into());
    }
    if request.sender.device_id.as_str().len() > LONGEST_NAME {
        return Err(Rejection::BadBundle("a field of the request is longer than it may be").into());
    }
    let key = key(&request);
    let mut all = ASKED.list(turn.tx, b"")?;
    if all.len() >= MOST_REMEMBERED {
        forget_strangers(turn, &mut all)?;
    }
    let of_user = all.iter().filter(|other| other.request.sender.user_id == sender).count();
    if all.len() >= MOST_REMEMBERED
        || of_user >= MOST_OF_A_USER
        || ASKED.has(turn.tx, b"", &key)?
        || !gives(&room::load(turn.tx, &request.room_id)?)
    {
        return Ok(());
    }
    let asked = Asked { request, since_ms: turn.now_ms, is_answered: false };
    Ok(ASKED.put(turn.tx, b"", &key, &asked)?)
}

/// Forgets what was asked by whoever is not in the room. A sync may bring a request before it
/// brings the membership of whoever asks, so strangers are kept until there is no room for them.
fn forget_strangers(turn: &Turn<'_>, all: &mut Vec<Asked>) -> Result<(), StoreError> {
    for asked in std::mem::take(all) {
        let HistoryRequest { room_id, sender, .. } = &asked.request;
        if membership::is_joined(turn.tx, room_id, &sender.user_id)? {
            all.push(asked);
        } else {
            ASKED.delete(turn.tx, b"", &key(&asked.request))?;
        }
    }
    Ok(())
}

/// Answers what was asked.
pub(crate) fn answer(turn: &Turn<'_>) -> Result<(), Failure> {
    let all = ASKED.list(turn.tx, b"")?;
    let (old, all): (Vec<_>, Vec<_>) =
        all.into_iter().partition(|asked| turn.has_passed(asked.since_ms, DAY_MS));
    for asked in old {
        ASKED.delete(turn.tx, b"", &key(&asked.request))?;
    }
    for asked in all.iter().filter(|asked| !asked.is_answered) {
        let room_id = &asked.request.room_id;
        let answered = all.iter().filter(|other| other.is_answered);
        if answered.filter(|other| other.request.room_id == *room_id).count() >= MOST_ANSWERED {
            continue;
        }
        let room = room::load(turn.tx, room_id)?;
        let Some(epoch) = epoch_of(turn, &asked.request)? else { continue };
        // Whoever is out of the room does not know who is in it.
        if !room.kept.contains(&epoch.id)
            || !gives(&room)
            || !may_read(turn, room_id, &epoch, &asked.request.sender)?
        {
            // It may look different when the device's list is known, or its owner has signed it.
            continue;
        }
        if !commits::may_be_given(turn, room_id, epoch.id)? {
            // The user may decide otherwise.
            continue;
        }
        offer(turn, &room, epoch.id, slice::from_ref(&asked.request.sender))?;
        let asked = Asked { since_ms: turn.now_ms, is_answered: true, ..asked.clone() };
        ASKED.put(turn.tx, b"", &key(&asked.request), &asked)?;
    }
    Ok(())
}

fn gives(room: &Room) -> bool {
    room.settings.share_history && room.history_is_open()
}

/// The epoch that a request names, if this device can make the key of a bundle for its members.
fn epoch_of(turn: &Turn<'_>, request: &HistoryRequest) -> Result<Option<EpochRecord>, StoreError> {
    let epoch = graph::by_event(turn.tx, &request.room_id, &request.commit_event)?;
    Ok(epoch.filter(|epoch| epoch.status == Status::Accepted && epoch.full))
}

/// Whether a device is in an epoch, its user is in the room, and has signed it.
fn may_read(
    turn: &Turn<'_>,
    room: &RoomId,
    epoch: &EpochRecord,
    device: &DeviceName,
) -> Result<bool, Failure> {
    if !membership::is_joined(turn.tx, room, &device.user_id)? {
        return Ok(false);
    }
    // Nothing may have been sent to the room since the device came, so nobody has looked.
    devices::track(turn.tx, [&*device.user_id])?;
    // Its owner may have taken the signature back, by replacing the key that made it.
    if !devices::is_list_current(turn.tx, &device.user_id)? {
        return Ok(false);
    }
    let Some(key) = devices::known_key(turn.tx, device)? else { return Ok(false) };
    let verdict = devices::verdict(turn.tx, device, &key)?;
    if !matches!(verdict, Verdict::Verified | Verdict::OwnerNotVerified) {
        return Ok(false);
    }
    let name = credential::encode(device);
    for (_, leaf) in archive::leaves(turn.tx, room, epoch.id)? {
        if leaf.credential()?.serialized_content() == name {
            return Ok(leaf.signature_key() == key);
        }
    }
    Ok(false)
}
