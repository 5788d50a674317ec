//! Looking for a public group state in the room's history, where none is known to join by.
//!
//! The history is walked back page by page, a bounded way. What a page holds is tried before the
//! next page is asked for. States of users who are not in the room are passed over. But where all
//! who made one have left the room, a second walk takes those as well, as the room would have no
//! group otherwise: whoever joins by one removes all who do not belong there before the first
//! message, as always.

use crate::{
    commits::NextStep,
    epochs::{JoinableEpoch, joinable},
    failure::EndsTurn,
    incoming::{
        commit::event_id,
        history_pages::{self, MOST_PAGES},
    },
    messages::SendError,
    protocol::{CommitContent, RoomEvent, identifiers, parse},
    rejection::InputError,
    requests::{self, Purpose, REQUESTS},
    room::{Room, Search, Strangers},
    store::StoreError,
    turn::Turn,
};

/// After how long a search that found nothing is made again, in milliseconds.
pub(super) const SEARCH_AGAIN_MS: u64 = 10 * 60 * 1000;

/// Asks for the next page of the room's history.
pub(super) fn search(turn: &Turn<'_>, room: &mut Room) -> Result<NextStep, SendError> {
    for (id, queued) in REQUESTS.in_scope(turn.tx, room.id.as_bytes())? {
        if matches!(queued.purpose, Purpose::FindGroup { .. }) {
            return Ok(NextStep::Waiting(vec![id]));
        }
    }
    let Some(rejoin) = room.standing.rejoin_mut() else {
        return Err(room.outside().into());
    };
    let (from, pages) = match &rejoin.search {
        Search::NotYet => (None, 0),
        Search::At { from, pages } => (Some(from.clone()), *pages),
        Search::FoundNothing { .. } if rejoin.strangers == Strangers::Seen => {
            rejoin.strangers = Strangers::Accepted;
            (None, 0)
        }
        Search::FoundNothing { at_ms } if turn.has_passed(*at_ms, SEARCH_AGAIN_MS) => (None, 0),
        Search::FoundNothing { .. } => {
            return Err(SendError::CannotRejoin(
                "the room's history has no public group state to join by",
            ));
        }
    };
    if pages >= MOST_PAGES {
        rejoin.search = Search::FoundNothing { at_ms: turn.now_ms };
        return Ok(NextStep::Waiting(Vec::new()));
    }
    if from.is_none() {
        rejoin.search = Search::NotYet;
    }
    let request = history_pages::request(room.id.clone(), from);
    let purpose = Purpose::FindGroup { room_id: room.id.clone() };
    let id = requests::enqueue(turn.tx, room.id.as_bytes(), turn.now_ms, purpose, request)?;
    Ok(NextStep::Waiting(vec![id]))
}

/// A page of the room's history has come.
pub(crate) fn searched(turn: &Turn<'_>, room: &mut Room, body: &[u8]) -> Result<(), InputError> {
    let page = history_pages::read(body)?;
    for (event, _) in &page.events {
        match note(turn, room, event) {
            Err(error) if error.ends_turn() => return Err(error),
            // What cannot be joined by is passed over.
            Ok(()) | Err(_) => {}
        }
    }
    let Some(rejoin) = room.standing.rejoin_mut() else { return Ok(()) };
    let pages = match &rejoin.search {
        Search::At { pages, .. } => pages + 1,
        _ => 1,
    };
    // What was found is tried first. If it does not serve, the search goes on behind it.
    rejoin.search = match page.next.filter(|_| !page.is_empty) {
        Some(from) => Search::At { from, pages },
        None => Search::FoundNothing { at_ms: turn.now_ms },
    };
    Ok(())
}

/// Whether the room's history was looked through, and nothing known of the room could be joined.
pub(crate) fn has_found_nothing(turn: &Turn<'_>, room: &Room) -> Result<bool, StoreError> {
    let found_nothing = room.standing.rejoin().is_some_and(|rejoin| {
        matches!(rejoin.search, Search::FoundNothing { .. }) && rejoin.strangers != Strangers::Seen
    });
    Ok(found_nothing && joinable::best(turn.tx, &room.id, None)?.is_none())
}

/// The homeserver does not show the room's history.
pub(crate) fn search_refused(turn: &Turn<'_>, room: &mut Room) {
    if let Some(rejoin) = room.standing.rejoin_mut() {
        rejoin.search = Search::FoundNothing { at_ms: turn.now_ms };
    }
}

/// Notes the public group state of an event of the past, if it is a commit's.
fn note(turn: &Turn<'_>, room: &Room, event: &RoomEvent) -> Result<(), InputError> {
    if !event.is_commit() {
        return Ok(());
    }
    let content: CommitContent = parse(event.content.get(), "the commit")?;
    let is_senders = content.sender.user_id == event.sender;
    if !identifiers::is_room_algorithm(&content.algorithm) || !is_senders {
        return Ok(());
    }
    let id = event_id(event.event_id.as_ref())?;
    let epoch = JoinableEpoch::read(turn, &room.id, id, &content)?;
    joinable::note(turn.tx, room, epoch, None)?;
    Ok(())
}
