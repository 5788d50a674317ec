//! Of which rooms the app's syncs tell everything.
//!
//! A `/v3/sync` tells what happens in every room. A sliding sync tells it of the rooms in its
//! lists' ranges and of those subscribed to, and is silent about all others: what happens there is
//! not known, however quiet they are. Each sync connection of the app has a row of its own.

use std::collections::BTreeSet;

use ruma::{OwnedRoomId, RoomId};
use serde::{Deserialize, Serialize};

use crate::store::{Collection, StoreError, Tx};

/// The rooms that a connection tells everything of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Followed {
    All,
    Only(BTreeSet<OwnedRoomId>),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Connection {
    name: String,
    followed: Followed,
    /// When it last brought a sync, in milliseconds since 1970.
    #[serde(default)]
    at_ms: u64,
}

/// For how long a sync tells of everything: a connection that brings nothing for longer, although a
/// sync that waits for news ends by itself after half a minute, has stopped.
const COUNTS_MS: u64 = 2 * 60 * 1000;

const CONNECTIONS: Collection<Connection> = Collection::new("followed_rooms");
/// How many connections are remembered. An app that makes up a name for each start would otherwise
/// leave a row for each.
const MOST_CONNECTIONS: usize = 8;

/// Whether the syncs tell everything that happens in the room.
pub(crate) fn is_followed(tx: &Tx<'_>, room: &RoomId, now_ms: u64) -> Result<bool, StoreError> {
    Ok(CONNECTIONS.list(tx, b"")?.iter().any(|connection| {
        now_ms.abs_diff(connection.at_ms) < COUNTS_MS
            && match &connection.followed {
                Followed::All => true,
                Followed::Only(rooms) => rooms.contains(room),
            }
    }))
}

/// Notes which rooms a connection follows from now on; tells whether that is another answer than
/// before.
pub(crate) fn set_followed(
    tx: &Tx<'_>,
    connection: &str,
    followed: Followed,
    now_ms: u64,
) -> Result<bool, StoreError> {
    let before = CONNECTIONS.get(tx, b"", connection.as_bytes())?;
    let is_same = before.as_ref().is_some_and(|before| before.followed == followed);
    // A new time each sync would be a write each sync.
    if is_same && before.is_some_and(|before| now_ms.abs_diff(before.at_ms) < COUNTS_MS / 4) {
        return Ok(false);
    }
    let name = connection.to_owned();
    let row = Connection { name, followed, at_ms: now_ms };
    CONNECTIONS.put(tx, b"", connection.as_bytes(), &row)?;
    let mut known = CONNECTIONS.list(tx, b"")?;
    known.sort_by_key(|connection| connection.at_ms);
    for old in known.iter().take(known.len().saturating_sub(MOST_CONNECTIONS)) {
        CONNECTIONS.delete(tx, b"", old.name.as_bytes())?;
    }
    Ok(!is_same)
}
