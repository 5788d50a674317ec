//! Whether a sync goes on where the last of its connection ended, and what follows where it does
//! not.
//!
//! An app can lose a response, go back to an old position, or begin a connection anew; the last is
//! what Element X does with its encryption connection at each start. Then what happened in between
//! is told by no sync: the device lists of all users are asked for again, and who is in each room
//! is in doubt, as far as the connection tells of such things.

use std::collections::BTreeSet;

use ruma::{OwnedRoomId, RoomId};
use serde::{Deserialize, Serialize};

use crate::{
    exported::{FollowedRooms, SyncChanges, SyncStart},
    incoming::members,
    room::{self, Followed, membership},
    store::{Collection, StoreError},
    turn::Turn,
};

/// A sync connection of the app.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Connection {
    name: String,
    /// Where the last sync started, and where it ended.
    previous: Option<String>,
    last: String,
    has_device_lists: bool,
    has_rooms: bool,
}

const CONNECTIONS: Collection<Connection> = Collection::new("sync_connection");
/// How many connections are remembered. An app that makes up a name for each start would otherwise
/// leave a row for each.
const MOST_CONNECTIONS: usize = 8;

/// Looks at where a sync stands among the syncs of its connection, before it is taken in.
pub(super) fn begin(turn: &Turn<'_>, changes: &SyncChanges) -> Result<(), StoreError> {
    let key = changes.connection.as_bytes();
    let known = CONNECTIONS.get(turn.tx, b"", key)?;
    let before = known.clone().unwrap_or_default();
    let (goes_on, is_repeated) = match (&changes.start, &known) {
        // From the position before the last: the last response was not stored, and this one holds
        // what it held.
        (SyncStart::After { since }, Some(before)) => {
            (*since == before.last, Some(since) == before.previous.as_ref())
        }
        _ => (false, false),
    };
    let has_rooms = before.has_rooms || !changes.rooms.is_empty();
    if !goes_on && !is_repeated {
        if before.has_device_lists || changes.device_lists.is_some() {
            membership::doubt_device_lists(turn.tx)?;
        }
        if has_rooms {
            members::doubt_all(turn)?;
        }
    }
    if !goes_on && known.is_some() {
        // It may be older than what is known: whom it names may have come or gone since.
        members::doubt_told(turn, &changes.rooms)?;
    }
    if has_rooms { follow(turn, changes) } else { Ok(()) }
}

/// Stores where a sync has ended, when all of it was taken in. A sync that was not is followed by
/// one that does not go on.
pub(super) fn end(turn: &Turn<'_>, changes: &SyncChanges) -> Result<(), StoreError> {
    let key = changes.connection.as_bytes();
    let known = CONNECTIONS.get(turn.tx, b"", key)?;
    let before = known.clone().unwrap_or_default();
    let after = Connection {
        name: changes.connection.clone(),
        previous: match &changes.start {
            SyncStart::Anew => None,
            SyncStart::After { since } => Some(since.clone()),
        },
        last: changes.next_batch.clone(),
        has_device_lists: before.has_device_lists || changes.device_lists.is_some(),
        has_rooms: before.has_rooms || !changes.rooms.is_empty(),
    };
    if known.as_ref() != Some(&after) {
        CONNECTIONS.put(turn.tx, b"", key, &after)?;
    }
    if known.is_none() {
        let all = CONNECTIONS.list(turn.tx, b"")?;
        for old in all.iter().take(all.len().saturating_sub(MOST_CONNECTIONS)) {
            CONNECTIONS.delete(turn.tx, b"", old.name.as_bytes())?;
        }
    }
    Ok(())
}

/// Takes in which rooms the connection follows. A room that is followed no more is looked at before
/// it is sent to.
fn follow(turn: &Turn<'_>, changes: &SyncChanges) -> Result<(), StoreError> {
    let followed = match &changes.followed_rooms {
        FollowedRooms::All => Followed::All,
        FollowedRooms::Only { room_ids } => {
            let ids: BTreeSet<OwnedRoomId> =
                room_ids.iter().filter_map(|room| RoomId::parse(room).ok()).collect();
            Followed::Only(ids)
        }
    };
    if !room::set_followed(turn.tx, &changes.connection, followed, turn.now_ms)? {
        return Ok(());
    }
    for room in room::all(turn.tx)?.iter().filter(|room| room.standing.is_settled()) {
        if !room::is_followed(turn.tx, &room.id, turn.now_ms)? {
            room::edit(turn.tx, &room.id, |room| {
                room.standing.unsettle();
                Ok::<_, StoreError>(())
            })?;
        }
    }
    Ok(())
}
