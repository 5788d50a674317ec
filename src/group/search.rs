//! Looking for a public group state in the room's history, where none is known to join by.
//!
//! The history is walked back page by page, a bounded way. What a page holds is tried before the next is
//! asked for. States of users who are not in the room are passed over; but where all who made one have left
//! the room, a second walk takes those as well, as the room would have no group otherwise: whoever
//! joins by one removes all who do not belong there before the first message, as always.

use ruma::{
    RoomId, UInt,
    api::client::{filter::RoomEventFilter, message::get_message_events},
};
use serde::{Deserialize, Serialize};

use super::{
    Turn, foreign,
    heal::{self, Healing, Reason},
    plan::Step,
    process,
    rooms::{self, RoomRecord},
    timeline,
};
use crate::{
    error::MlsError,
    protocol::{CommitContent, CommitMark, MessagesPage, RoomEvent},
    requests::{self, Purpose, REQUESTS},
};

/// How far the room's history is walked back for a public group state, in pages of [`PAGE`] events.
const MOST_PAGES: u32 = 30;
const PAGE: u32 = 100;
/// After how long a search that found nothing is made again, in milliseconds.
pub(super) const SEARCH_AGAIN_MS: u64 = 10 * 60 * 1000;

/// How far it has come.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Search {
    NotYet,
    At { from: String, pages: u32 },
    FoundNothing { at_ms: u64 },
}

/// Public group states of users who are not in the room.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Strangers {
    #[default]
    NoneSeen,
    Seen,
    Accepted,
}

/// Looks for a public group state in the room's history.
pub(super) fn search(
    turn: &Turn<'_>,
    mut room: RoomRecord,
    mut healing: Healing,
) -> Result<Step, MlsError> {
    let room_id = room.room_id.clone();
    if healing.reason == Reason::Outrun {
        // What was ahead turned out to be nothing that could be joined.
        heal::done(turn, room)?;
        return Ok(Step::Waiting(Vec::new()));
    }
    for (id, queued) in REQUESTS.in_scope(turn.tx, room_id.as_bytes())? {
        if matches!(queued.purpose, Purpose::WalkBack { .. }) {
            return Ok(Step::Waiting(vec![id]));
        }
    }
    let (from, pages) = match &healing.search {
        Search::NotYet => (None, 0),
        Search::At { from, pages } => (Some(from.clone()), *pages),
        Search::FoundNothing { .. } if healing.strangers == Strangers::Seen => {
            healing.strangers = Strangers::Accepted;
            (None, 0)
        }
        Search::FoundNothing { at_ms } if turn.now_ms.saturating_sub(*at_ms) >= SEARCH_AGAIN_MS => {
            (None, 0)
        }
        Search::FoundNothing { .. } => {
            return Err(MlsError::cannot_heal(
                "the room's history has no public group state to join by",
            ));
        }
    };
    if pages >= MOST_PAGES {
        healing.search = Search::FoundNothing { at_ms: turn.now_ms };
    } else if from.is_none() {
        healing.search = Search::NotYet;
    }
    room.healing = Some(healing);
    rooms::put(turn.tx, &room)?;
    if pages >= MOST_PAGES {
        return Ok(Step::Waiting(Vec::new()));
    }
    let mut request = get_message_events::v3::Request::backward(room_id.clone());
    request.from = from;
    request.limit = UInt::from(PAGE);
    let mut filter = RoomEventFilter::default();
    filter.types = Some(vec!["m.room.encrypted".to_owned()]);
    request.filter = filter;
    let purpose = Purpose::WalkBack { room_id: room_id.clone() };
    let id = requests::enqueue(turn.tx, room_id.as_bytes(), turn.now_ms, purpose, request)?;
    Ok(Step::Waiting(vec![id]))
}

/// A page of the room's history has come.
pub(crate) fn walked_back(turn: &Turn<'_>, room_id: &RoomId, body: &[u8]) -> Result<(), MlsError> {
    let page: MessagesPage = serde_json::from_slice(body)
        .map_err(|_| MlsError::rejected("malformed_answer", "the answer is no page of events"))?;
    for json in page.chunk.iter().take(PAGE as usize) {
        let noted = timeline::parse::<RoomEvent>(json.get(), "the event")
            .and_then(|event| note(turn, room_id, &event));
        if let Err(error) = noted
            && error.stops_everything()
        {
            return Err(error);
        }
    }
    let mut room = rooms::get(turn.tx, room_id)?;
    let Some(healing) = &mut room.healing else { return Ok(()) };
    let pages = match &healing.search {
        Search::At { pages, .. } => pages + 1,
        _ => 1,
    };
    // What was found is tried first. If it does not serve, the search goes on behind it.
    healing.search = match page.end.filter(|_| !page.chunk.is_empty()) {
        Some(from) => Search::At { from, pages },
        None => Search::FoundNothing { at_ms: turn.now_ms },
    };
    Ok(rooms::put(turn.tx, &room)?)
}

/// The homeserver does not show the room's history.
pub(crate) fn walk_refused(turn: &Turn<'_>, room_id: &RoomId) -> Result<(), MlsError> {
    let mut room = rooms::get(turn.tx, room_id)?;
    if let Some(healing) = &mut room.healing {
        healing.search = Search::FoundNothing { at_ms: turn.now_ms };
        rooms::put(turn.tx, &room)?;
    }
    Ok(())
}

/// Notes the public group state of an event of the past, if it is a commit's.
fn note(turn: &Turn<'_>, room_id: &RoomId, event: &RoomEvent) -> Result<(), MlsError> {
    let content = event.content.get();
    if timeline::parse::<CommitMark>(content, "the content")?.public_group_state.is_none() {
        return Ok(());
    }
    let content: CommitContent = timeline::parse(content, "the commit")?;
    if !process::is_ours(&content.algorithm) || content.sender.0 != event.sender {
        return Ok(());
    }
    let id = process::required_event_id(event.event_id.as_ref())?;
    let epoch = foreign::ForeignEpoch::read(turn, room_id, id, &content)?;
    foreign::note(turn, room_id, epoch, None).map(drop)
}
