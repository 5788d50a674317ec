//! Offers of history that wait for the epoch whose members can open them.

use ruma::{OwnedUserId, RoomId, UserId};
use serde::{Deserialize, Serialize};

use super::offer::HistoryOffer;
use crate::{
    store::{Collection, StoreError},
    turn::Turn,
};

/// How many offers of one room wait.
const MOST_WAITING: u64 = 8;

/// An offer that waits.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct WaitingOffer {
    pub(super) sender: OwnedUserId,
    pub(super) offer: HistoryOffer,
}

/// The name is that of rows written by earlier versions.
const WAITING: Collection<WaitingOffer> = Collection::new("pending_history");

pub(super) fn keep(
    turn: &Turn<'_>,
    sender: &UserId,
    offer: &HistoryOffer,
) -> Result<(), StoreError> {
    let room = offer.room_id.as_bytes();
    if WAITING.count(turn.tx, room)? >= MOST_WAITING {
        WAITING.delete_scope(turn.tx, room)?;
    }
    let waiting = WaitingOffer { sender: sender.to_owned(), offer: offer.clone() };
    WAITING.put(turn.tx, room, offer.bundle_id.as_bytes(), &waiting)
}

pub(super) fn list(turn: &Turn<'_>, room: &RoomId) -> Result<Vec<WaitingOffer>, StoreError> {
    WAITING.list(turn.tx, room.as_bytes())
}

pub(super) fn remove(turn: &Turn<'_>, offer: &HistoryOffer) -> Result<(), StoreError> {
    let (room, key) = (offer.room_id.as_bytes(), offer.bundle_id.as_bytes());
    WAITING.delete(turn.tx, room, key).map(drop)
}
