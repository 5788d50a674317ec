//! All verifications of this device: those that go on, and the last of those that are over.
//!
//! What other users can make this device keep is bounded. A request beyond that changes nothing;
//! the other side's user sees no answer, as if nobody had looked.

use ruma::{DeviceId, EventId, RoomId, UserId};

use super::{
    flow::{Flow, Place, code},
    post,
    secrets::Secrets,
};
use crate::{
    exported::Update,
    failure::Failure,
    requests,
    store::{Collection, StoreError, Tx},
    turn::Turn,
};

/// How many verifications go on at once that this device has begun, and as many that others have;
/// and how many of these one user has begun.
pub(super) const MOST_OPEN: usize = 16;
pub(super) const MOST_OF_A_USER: usize = 4;
/// How many that are over are remembered, so that their events are not taken for new ones.
const MOST_OVER: usize = 64;

/// How long a verification may take, in milliseconds (Matrix spec, "Key verification framework").
pub(super) const LONGEST_MS: u64 = 10 * 60 * 1000;
/// How long somebody else's request is shown.
const LONGEST_SHOWN_MS: u64 = 2 * 60 * 1000;

const OPEN: Collection<Flow> = Collection::new("verification");
const OVER: Collection<Flow> = Collection::new("verification_over");
/// The ids of those that are over and have something to send.
const CANCELLING: Collection<Vec<String>> = Collection::new("verification_cancelling");

/// A new id for an app.
pub(super) fn new_id() -> String {
    requests::transaction_id().to_string()
}

/// The verifications that go on, oldest first.
pub(crate) fn open(tx: &Tx<'_>) -> Result<Vec<Flow>, StoreError> {
    OPEN.list(tx, b"")
}

/// Those that may have something to send, of those that are over as well.
pub(super) fn unsent(tx: &Tx<'_>) -> Result<Vec<Flow>, StoreError> {
    let mut flows = OPEN.list(tx, b"")?;
    if let Some(over) = CANCELLING.get(tx, b"", b"")? {
        for id in over {
            flows.extend(OVER.get(tx, b"", id.as_bytes())?);
        }
    }
    Ok(flows)
}

/// The verification of this id, whether it goes on or is over.
pub(crate) fn find(tx: &Tx<'_>, id: &str) -> Result<Option<Flow>, StoreError> {
    match OPEN.get(tx, b"", id.as_bytes())? {
        Some(flow) => Ok(Some(flow)),
        None => OVER.get(tx, b"", id.as_bytes()),
    }
}

/// The verification with a user to which an event of theirs belongs, whether it goes on or is over.
pub(super) fn of_transaction(
    tx: &Tx<'_>,
    user: &UserId,
    transaction: &str,
) -> Result<Option<Flow>, StoreError> {
    let is_it = |flow: &Flow| {
        let place = &flow.place;
        flow.user_id == user
            && matches!(place, Place::Devices { transaction: id } if id == transaction)
    };
    look_for(tx, is_it)
}

/// The verification that an event of a room belongs to, whether it goes on or is over.
pub(super) fn of_room(
    tx: &Tx<'_>,
    room: &RoomId,
    request_event: &EventId,
) -> Result<Option<Flow>, StoreError> {
    let is_it = |flow: &Flow| {
        matches!(&flow.place, Place::Room { room_id, request: Some(event) }
            if room_id == room && event == request_event)
    };
    look_for(tx, is_it)
}

fn look_for(tx: &Tx<'_>, is_it: impl Fn(&Flow) -> bool) -> Result<Option<Flow>, StoreError> {
    let found = OPEN.list(tx, b"")?.into_iter().find(&is_it);
    if found.is_some() {
        return Ok(found);
    }
    Ok(OVER.list(tx, b"")?.into_iter().find(is_it))
}

/// The verifications that go on with one device.
pub(super) fn with_device(
    tx: &Tx<'_>,
    user: &UserId,
    device: &DeviceId,
) -> Result<Vec<Flow>, StoreError> {
    let mut flows = open(tx)?;
    flows.retain(|flow| flow.user_id == user && flow.device_id.as_deref() == Some(device));
    Ok(flows)
}

/// Writes what a step has changed, sends what is to be sent, and tells the app of the change.
pub(super) fn save(turn: &Turn<'_>, secrets: &Secrets, mut flow: Flow) -> Result<(), Failure> {
    let before = find(turn.tx, &flow.id)?.map(|before| before.state());
    post::send_next(turn, &mut flow)?;
    let key = flow.id.as_bytes();
    if flow.is_open() {
        OPEN.put(turn.tx, b"", key, &flow)?;
    } else {
        OPEN.delete(turn.tx, b"", key)?;
        flow.keys = None;
        flow.asked.clear();
        OVER.put(turn.tx, b"", key, &flow)?;
        secrets.forget(&flow.id);
        note_unsent(turn.tx, &flow)?;
        let over = OVER.list(turn.tx, b"")?;
        for old in over.iter().take(over.len().saturating_sub(MOST_OVER)) {
            OVER.delete(turn.tx, b"", old.id.as_bytes())?;
        }
    }
    let state = flow.state();
    if before.is_some_and(|before| before != state) {
        turn.tell(Update::VerificationChanged { verification_id: flow.id, state });
    }
    Ok(())
}

fn note_unsent(tx: &Tx<'_>, flow: &Flow) -> Result<(), StoreError> {
    let before = CANCELLING.get(tx, b"", b"")?.unwrap_or_default();
    let mut after = before.clone();
    after.retain(|id| *id != flow.id);
    if !flow.outbox.is_empty() {
        after.push(flow.id.clone());
    }
    let after = after.split_off(after.len().saturating_sub(MOST_OVER));
    if after == before { Ok(()) } else { CANCELLING.put(tx, b"", b"", &after) }
}

/// Ends what takes too long.
pub(crate) fn expire(turn: &Turn<'_>, secrets: &Secrets) -> Result<(), Failure> {
    for mut flow in open(turn.tx)? {
        if flow.is_incoming && flow.is_unanswered() {
            // The user has not looked. Another of their devices may go on.
            if turn.has_passed(flow.heard_ms, LONGEST_SHOWN_MS)
                || turn.has_passed(flow.began_ms, LONGEST_MS)
            {
                flow.end(code::TIMEOUT, "nobody has answered the request", true);
                save(turn, secrets, flow)?;
            }
        } else if turn.has_passed(flow.began_ms, LONGEST_MS) {
            flow.cancel(code::TIMEOUT, "the verification has taken too long")?;
            save(turn, secrets, flow)?;
        }
    }
    Ok(())
}

/// Ends those whose keys were in the memory of a process that is gone.
pub(crate) fn lose(turn: &Turn<'_>, secrets: &Secrets) -> Result<(), Failure> {
    for mut flow in open(turn.tx)? {
        if flow.needs_secret() && !secrets.has(&flow.id) {
            let reason = "the app was closed during the verification";
            flow.cancel(code::UNKNOWN_TRANSACTION, reason)?;
            save(turn, secrets, flow)?;
        }
    }
    Ok(())
}
