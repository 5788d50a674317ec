//! How much of a claimed epoch's past is accounted for.
//!
//! A number that somebody claims costs nothing. A chain of events does: each commit's event names
//! the event of its base, and says one number more. So what a commit claims is followed back from
//! event to event, as far as this device has seen them. A claim that does not continue its base is
//! refused. Of several claims, one that goes back to the group's announcement is believed first,
//! and then the one with the most events. A device that knows nothing else of a room chooses by
//! this.

use std::collections::BTreeSet;

use ruma::{EventId, OwnedUserId, RoomId};
use serde::{Deserialize, Serialize};

use super::graph;
use crate::{
    rejection::{InputError, Rejection},
    store::{Collection, StoreError, Tx},
};

/// How many events of one room are remembered.
const MOST: u64 = 2_000;

/// What the event of a commit says of its epoch.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Link {
    /// The event of the base's commit; nothing for an announcement.
    pub(super) base: Option<String>,
    pub(super) number: u64,
    pub(super) maker: OwnedUserId,
}

const LINKS: Collection<Link> = Collection::new("commit_link");

/// How far back a claim goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lineage {
    /// It goes back to an announcement, or to an epoch that this device was in.
    pub(super) is_anchored: bool,
    /// How many events it is made of.
    pub(super) length: usize,
    /// How many users made them.
    pub(super) makers: usize,
    /// The event behind its first one, which this device has not seen.
    pub(super) begins_after: Option<String>,
}

/// Notes what a commit's event says, if that continues what its base's event says.
pub(super) fn note(
    tx: &Tx<'_>,
    room: &RoomId,
    event: &EventId,
    link: &Link,
) -> Result<(), InputError> {
    if let Some(base) = &link.base
        && let Some(number) = number_of(tx, room, base)?
        && number.checked_add(1) != Some(link.number)
    {
        return Err(Rejection::EpochNumber.into());
    }
    if LINKS.count(tx, room.as_bytes())? < MOST {
        LINKS.put(tx, room.as_bytes(), event.as_bytes(), link)?;
    }
    Ok(())
}

/// The number of the epoch that a commit's event leads to, as far as it is known or claimed.
fn number_of(tx: &Tx<'_>, room: &RoomId, event: &str) -> Result<Option<u64>, StoreError> {
    if let Ok(event) = <&EventId>::try_from(event)
        && let Some(epoch) = graph::by_event(tx, room, event)?
    {
        return Ok(Some(epoch.number));
    }
    Ok(LINKS.get(tx, room.as_bytes(), event.as_bytes())?.map(|link| link.number))
}

/// How far back the claim of a commit's event goes.
pub(super) fn of(tx: &Tx<'_>, room: &RoomId, event: &EventId) -> Result<Lineage, StoreError> {
    let mut seen = BTreeSet::new();
    let mut makers = BTreeSet::new();
    let mut next = event.to_string();
    let mut number = None;
    let mut is_anchored = false;
    while !seen.contains(&next) {
        if let Ok(event) = <&EventId>::try_from(&*next)
            && graph::by_event(tx, room, event)?.is_some()
        {
            is_anchored = true;
            break;
        }
        let Some(link) = LINKS.get(tx, room.as_bytes(), next.as_bytes())? else { break };
        // What came in before its base could not be compared then.
        if number.is_some_and(|number| link.number.checked_add(1) != Some(number)) {
            break;
        }
        number = Some(link.number);
        makers.insert(link.maker);
        seen.insert(next);
        match link.base {
            Some(base) => next = base,
            None => {
                is_anchored = true;
                next = String::new();
                break;
            }
        }
    }
    let begins_after = (!is_anchored).then_some(next);
    Ok(Lineage { is_anchored, length: seen.len(), makers: makers.len(), begins_after })
}

/// Forgets what was noted of a room.
pub(super) fn forget(tx: &Tx<'_>, room: &RoomId) -> Result<(), StoreError> {
    LINKS.delete_scope(tx, room.as_bytes()).map(drop)
}
