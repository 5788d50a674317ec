//! Values in the media repository: reading what is too large for an event.
//!
//! Whoever needs a value asks [`bytes`]. A value that is not here yet is wanted: the error says so,
//! the event waits, and the download is queued when the turn ends, as whatever asked is undone. A
//! value counts only when its size and hash are those that the event named. Until it is used it is
//! kept, a bounded number a room. A value that cannot be had is remembered as lost, and what needs
//! it fails.

use ruma::{OwnedMxcUri, RoomId, api::client::authenticated_media::get_content};
use serde_bytes::ByteBuf;

use super::error::{Awaited, EventError};
use crate::{
    failure::Failure,
    protocol::{MediaReference, Payload},
    ratchet_trees,
    requests::{self, Purpose, REQUESTS},
    room::wake,
    store::{Collection, Mark, StoreError},
    turn::Turn,
};

/// The largest value that is fetched, in bytes: the ratchet tree of some 200,000 devices.
const MOST_BYTES: u64 = 50_000_000;
/// How many values of one room wait to be used.
const MOST_KEPT: usize = 16;
/// How many downloads of one room are under way at once.
const MOST_DOWNLOADS: usize = 8;
/// How many values of one room are remembered as lost.
const MOST_LOST: u64 = 1_000;

const BLOBS: Collection<ByteBuf> = Collection::new("media_blob");
const ORDER: Collection<Vec<[u8; 32]>> = Collection::new("media_blob_order");
const LOST: Collection<Mark> = Collection::new("media_lost");

/// A payload's bytes.
pub(super) fn bytes(
    turn: &Turn<'_>,
    room: &RoomId,
    payload: &Payload,
) -> Result<Vec<u8>, EventError> {
    match payload {
        Payload::Inline(_) => Ok(payload.bytes()?),
        Payload::Media(reference) => blob(turn, room, reference),
    }
}

/// The bytes that a reference stands for.
pub(crate) fn blob(
    turn: &Turn<'_>,
    room: &RoomId,
    reference: &MediaReference,
) -> Result<Vec<u8>, EventError> {
    let bad = |reason| Err(EventError::BadMedia(reason));
    let Some(hash) = reference.hash() else { return bad("the hash of a value is none") };
    if reference.size > MOST_BYTES {
        return bad("a value is larger than any room needs");
    }
    if let Some(blob) = BLOBS.get(turn.tx, room.as_bytes(), &hash)? {
        return if reference.fits(&blob) {
            Ok(blob.into_vec())
        } else {
            bad("a value is named with another size")
        };
    }
    if LOST.get(turn.tx, room.as_bytes(), &hash)?.is_some() {
        return bad("the media repository does not have the value that was named");
    }
    turn.want(room, reference);
    Err(EventError::Awaits(Awaited::Media))
}

/// A value was used and is needed no more.
pub(crate) fn used(
    turn: &Turn<'_>,
    room: &RoomId,
    hash: Option<[u8; 32]>,
) -> Result<(), StoreError> {
    let Some(hash) = hash else { return Ok(()) };
    if BLOBS.delete(turn.tx, room.as_bytes(), &hash)? {
        let mut order = ORDER.get(turn.tx, b"", room.as_bytes())?.unwrap_or_default();
        order.retain(|kept| *kept != hash);
        ORDER.put(turn.tx, b"", room.as_bytes(), &order)?;
    }
    Ok(())
}

/// The same for a payload.
pub(super) fn used_payload(
    turn: &Turn<'_>,
    room: &RoomId,
    payload: &Payload,
) -> Result<(), StoreError> {
    match payload {
        Payload::Inline(_) => Ok(()),
        Payload::Media(reference) => used(turn, room, reference.hash()),
    }
}

/// Queues the downloads of what this turn found missing.
pub(crate) fn queue_wanted(turn: &Turn<'_>) -> Result<(), Failure> {
    for (room_id, reference) in turn.take_wanted() {
        let mut queued = 0;
        let mut known = false;
        for (_, request) in REQUESTS.in_scope(turn.tx, room_id.as_bytes())? {
            if let Purpose::Download { reference: other, .. } = &request.purpose {
                queued += 1;
                known |= other.sha256 == reference.sha256;
            }
        }
        // What is left out is wanted again when one of the others has come.
        if known || queued >= MOST_DOWNLOADS {
            continue;
        }
        let url = OwnedMxcUri::from(reference.url.as_str());
        let Ok((server, media)) = url.parts() else {
            lost(turn, &room_id, &reference)?;
            continue;
        };
        let request = get_content::v1::Request::new(media.to_owned(), server.to_owned());
        let purpose = Purpose::Download { room_id: room_id.clone(), reference };
        requests::enqueue(turn.tx, room_id.as_bytes(), turn.now_ms, purpose, request)?;
    }
    Ok(())
}

/// The homeserver has answered a download.
pub(crate) fn downloaded(
    turn: &Turn<'_>,
    room: &RoomId,
    reference: &MediaReference,
    body: &[u8],
) -> Result<(), StoreError> {
    let Some(hash) = reference.hash().filter(|_| reference.fits(body)) else {
        return lost(turn, room, reference);
    };
    let mut order = ORDER.get(turn.tx, b"", room.as_bytes())?.unwrap_or_default();
    order.push(hash);
    while order.len() > MOST_KEPT {
        BLOBS.delete(turn.tx, room.as_bytes(), &order.remove(0))?;
    }
    ORDER.put(turn.tx, b"", room.as_bytes(), &order)?;
    BLOBS.put(turn.tx, room.as_bytes(), &hash, &ByteBuf::from(body.to_vec()))?;
    wake(turn.tx, room)
}

/// Asks for a lost value again: it may have come by now.
pub(crate) fn try_again(
    turn: &Turn<'_>,
    room: &RoomId,
    reference: &MediaReference,
) -> Result<(), StoreError> {
    if let Some(hash) = reference.hash() {
        LOST.delete(turn.tx, room.as_bytes(), &hash)?;
    }
    Ok(())
}

/// A value cannot be had, or is another than was named.
pub(crate) fn lost(
    turn: &Turn<'_>,
    room: &RoomId,
    reference: &MediaReference,
) -> Result<(), StoreError> {
    tracing::warn!(room = %room, url = %reference.url, "a value in the media repository is lost");
    if let Some(hash) = reference.hash() {
        if LOST.count(turn.tx, room.as_bytes())? >= MOST_LOST {
            LOST.delete_scope(turn.tx, room.as_bytes())?;
        }
        LOST.put(turn.tx, room.as_bytes(), &hash, &Mark)?;
    }
    ratchet_trees::forget_lost(turn, room, reference)?;
    wake(turn.tx, room)
}
