//! Offers of history that wait for the epoch whose members can open them, or for their sender.

use ruma::{OwnedUserId, RoomId, UserId};
use serde::{Deserialize, Serialize};

use super::offer::HistoryOffer;
use crate::{
    incoming::fair_share::{Share, take_surplus},
    protocol::credential,
    store::{Collection, StoreError},
    turn::Turn,
};

/// How many offers of one room wait.
const MOST_WAITING: u64 = 16;
/// How long one waits, in milliseconds: 30 days.
const MOST_AGE_MS: u64 = 30 * 24 * 60 * 60 * 1000;

/// An offer that waits.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct WaitingOffer {
    pub(super) sender: OwnedUserId,
    pub(super) offer: HistoryOffer,
    /// When it came, in milliseconds since 1970.
    #[serde(default)]
    since_ms: u64,
}

/// The name is that of rows written by earlier versions.
const WAITING: Collection<WaitingOffer> = Collection::new("pending_history");

/// The key of a waiting offer: nobody's takes the place of another's.
fn key(offer: &HistoryOffer) -> Vec<u8> {
    [&*credential::encode(&offer.sender), offer.bundle_id.as_bytes()].concat()
}

/// Keeps an offer for later. Where too many wait, whoever has sent the most gives way.
pub(super) fn keep(
    turn: &Turn<'_>,
    sender: &UserId,
    offer: &HistoryOffer,
) -> Result<(), StoreError> {
    let room = &*offer.room_id;
    let key = key(offer);
    let mut all = list(turn, room)?;
    all.retain(|other| self::key(&other.offer) != key);
    let waiting =
        WaitingOffer { sender: sender.to_owned(), offer: offer.clone(), since_ms: turn.now_ms };
    WAITING.put(turn.tx, room.as_bytes(), &key, &waiting)?;
    all.push(waiting);
    let share = |waiting: &WaitingOffer| Share { sender: waiting.sender.clone(), weight: 1 };
    for dropped in take_surplus(&mut all, MOST_WAITING, share) {
        remove(turn, &dropped.offer)?;
    }
    Ok(())
}

/// The offers of a room that wait, without those that have waited too long.
pub(super) fn list(turn: &Turn<'_>, room: &RoomId) -> Result<Vec<WaitingOffer>, StoreError> {
    let (old, kept): (Vec<_>, Vec<_>) = WAITING
        .list(turn.tx, room.as_bytes())?
        .into_iter()
        // Earlier versions did not note when.
        .partition(|row| row.since_ms > 0 && turn.has_passed(row.since_ms, MOST_AGE_MS));
    for waiting in old {
        remove(turn, &waiting.offer)?;
    }
    Ok(kept)
}

/// An offer need not wait any more.
pub(super) fn remove(turn: &Turn<'_>, offer: &HistoryOffer) -> Result<(), StoreError> {
    let room = offer.room_id.as_bytes();
    WAITING.delete(turn.tx, room, &key(offer))?;
    // Rows of earlier versions.
    WAITING.delete(turn.tx, room, offer.bundle_id.as_bytes()).map(drop)
}
