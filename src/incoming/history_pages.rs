//! Reading a room's history page by page: the request for a page, and its answer.
//!
//! `walk` goes back to look for commits that are missing, `rejoin::search` for a public group state
//! to join by. `catch_up` goes forwards from a commit that is known.

use ruma::{
    OwnedEventId, OwnedRoomId, UInt,
    api::client::{
        context::get_context,
        filter::{LazyLoadOptions, RoomEventFilter},
        message::get_message_events,
    },
};

use serde_json::value::RawValue;

use crate::{
    protocol::{ContextAnswer, MessagesPage, RoomEvent, parse},
    rejection::Rejection,
};

/// How many events a page has.
const PAGE: u32 = 100;
/// How far one walk goes, in pages.
pub(crate) const MOST_PAGES: u32 = 30;

/// A page of a room's history.
pub(crate) struct HistoryPage {
    /// Each readable event with its JSON, in the order of the page.
    pub(crate) events: Vec<(RoomEvent, String)>,
    /// Where the next page starts; nothing at the beginning of the room.
    pub(crate) next: Option<String>,
    /// Whether the homeserver has put no event on it.
    pub(crate) is_empty: bool,
}

/// The request for the page of encrypted events that starts here; without a place, for the newest.
pub(crate) fn request(room: OwnedRoomId, from: Option<String>) -> get_message_events::v3::Request {
    let mut request = get_message_events::v3::Request::backward(room);
    request.from = from;
    request.limit = UInt::from(PAGE);
    request.filter = encrypted();
    request
}

/// The request for the page of encrypted events that begins here and goes forwards.
pub(super) fn forward_request(room: OwnedRoomId, from: String) -> get_message_events::v3::Request {
    let mut request = get_message_events::v3::Request::forward(room);
    request.from = Some(from);
    request.limit = UInt::from(PAGE);
    request.filter = encrypted();
    request
}

/// The request for the place of an event in the room's history, without what is around it.
pub(super) fn place_request(room: OwnedRoomId, event: OwnedEventId) -> get_context::v3::Request {
    let mut request = get_context::v3::Request::new(room, event);
    request.limit = UInt::from(0_u32);
    // The room's whole state would be in the answer otherwise.
    request.filter = encrypted();
    request.filter.lazy_load_options =
        LazyLoadOptions::Enabled { include_redundant_members: false };
    request
}

fn encrypted() -> RoomEventFilter {
    let mut filter = RoomEventFilter::default();
    filter.types = Some(vec!["m.room.encrypted".to_owned()]);
    filter
}

/// Reads a page. Events that cannot be read are left out.
pub(crate) fn read(body: &[u8]) -> Result<HistoryPage, Rejection> {
    let page: MessagesPage = serde_json::from_slice(body)
        .map_err(|_| Rejection::MalformedAnswer("the answer is no page of events"))?;
    Ok(page_of(&page.chunk, page.end))
}

/// Reads the place of an event: the page after it, which is as short as the homeserver makes it.
pub(super) fn read_place(body: &[u8]) -> Result<HistoryPage, Rejection> {
    let answer: ContextAnswer = serde_json::from_slice(body)
        .map_err(|_| Rejection::MalformedAnswer("the answer is no place in the room's history"))?;
    Ok(page_of(&answer.events_after, answer.end))
}

fn page_of(chunk: &[Box<RawValue>], next: Option<String>) -> HistoryPage {
    // A homeserver that gives more than a page is not read further.
    let events = chunk.iter().take(PAGE as usize).filter_map(|json| {
        let event = parse::<RoomEvent>(json.get(), "the event").ok()?;
        Some((event, json.get().to_owned()))
    });
    HistoryPage { events: events.collect(), is_empty: chunk.is_empty(), next }
}
