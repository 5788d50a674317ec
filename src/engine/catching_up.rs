//! Taking the commits of an absence, a turn's worth at a time.
//!
//! `incoming::catch_up` says which commits of which room are next. They are taken as if a sync had
//! brought them, each a part of its own. A turn that has taken long enough leaves the rest to the
//! next, so whoever waits for the lock gets it in between.

use ruma::RoomId;

use super::events::{Source, receive_one, retry_commits};
use crate::{
    incoming::{
        Awaited, EventError, Outcome, catch_up,
        waiting::{self, CameBy},
    },
    messages::Readers,
    room,
    turn::Turn,
};

/// Goes on in all rooms, and asks for what is needed next; tells whether there is more to do now.
pub(super) fn go_on(turn: &Turn<'_>, readers: &Readers) -> Result<bool, EventError> {
    for room in catch_up::rooms(turn)? {
        if go_on_in(turn, readers, &room)? {
            return Ok(true);
        }
    }
    catch_up::ask(turn)?;
    Ok(false)
}

/// Goes on in one room; tells whether there is more to do now.
pub(super) fn go_on_in(
    turn: &Turn<'_>,
    readers: &Readers,
    room: &RoomId,
) -> Result<bool, EventError> {
    let (mut followed, mut kept, mut is_first) = (0, false, true);
    let mut is_more = false;
    while let Some((id, json)) = catch_up::next_event(turn, room)? {
        if turn.is_spent() && !is_first {
            is_more = true;
            break;
        }
        is_first = false;
        let event = receive_one(turn, readers, room, &json, Source::History)?;
        match event.outcome {
            Outcome::Commit { .. } => followed += 1,
            Outcome::Waiting(EventError::Awaits(Awaited::Media)) => {
                catch_up::stall(turn, room)?;
                break;
            }
            Outcome::Waiting(_) => {
                waiting::keep(turn, room, event.event_id.as_deref(), &json, CameBy::Request)?;
                kept = true;
            }
            _ => {}
        }
        catch_up::taken(turn, id)?;
    }
    if kept {
        waiting::bound(turn, room)?;
    }
    catch_up::followed(turn, room, followed)?;
    if !is_more {
        let most = room::load(turn.tx, room)?.settings.catch_up_events;
        catch_up::page_taken(turn, room, most)?;
        // What came by sync meanwhile goes on from the last page.
        if catch_up::is_ending(turn, room)? {
            is_more = retry_commits(turn, readers, room)?;
            if !is_more {
                catch_up::end(turn, room)?;
            }
        }
    }
    Ok(is_more)
}
