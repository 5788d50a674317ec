//! Walking a room's history back, page by page: the request for a page, and its answer.
//!
//! Two look for something there: `walk` for commits that are missing, `rejoin::search` for a public
//! group state to join by.

use ruma::{
    OwnedRoomId, UInt,
    api::client::{filter::RoomEventFilter, message::get_message_events},
};

use crate::{
    protocol::{MessagesPage, RoomEvent, parse},
    rejection::Rejection,
};

/// How many events a page has.
const PAGE: u32 = 100;
/// How far one walk goes, in pages.
pub(crate) const MOST_PAGES: u32 = 30;

/// A page of a room's history.
pub(crate) struct HistoryPage {
    /// Each readable event with its JSON, newest first.
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
    let mut filter = RoomEventFilter::default();
    filter.types = Some(vec!["m.room.encrypted".to_owned()]);
    request.filter = filter;
    request
}

/// Reads a page. Events that cannot be read are left out.
pub(crate) fn read(body: &[u8]) -> Result<HistoryPage, Rejection> {
    let page: MessagesPage = serde_json::from_slice(body)
        .map_err(|_| Rejection::MalformedAnswer("the answer is no page of events"))?;
    // A homeserver that gives more than a page is not read further.
    let events = page.chunk.iter().take(PAGE as usize).filter_map(|json| {
        let event = parse::<RoomEvent>(json.get(), "the event").ok()?;
        Some((event, json.get().to_owned()))
    });
    Ok(HistoryPage { events: events.collect(), is_empty: page.chunk.is_empty(), next: page.end })
}
