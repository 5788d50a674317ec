//! Catching up after an absence: the commits that this device has missed, in their order, from
//! pages of the room's history.
//!
//! The history is read forwards, from a commit that this device knows: `/context` says where that
//! is, and `/messages` goes on from there. So each commit comes after the one that it is based on,
//! one page is kept at a time, and what was missed may be of any length. What a page holds is taken
//! by `engine::catching_up`, as much as a turn has time for, and over restarts.
//!
//! A branch that forked off behind the head may begin before it: where something is still missing
//! at the end, the history is read once more, from the oldest epoch that can take a commit. What is
//! missing even then is looked for by `walk`, and after that `rejoin` decides.
//!
//! Members and homeservers can make up a history without an end. So the events of a day are counted
//! (`catch_up_events`), and so are the pages in a row on which nothing could be followed.

use ruma::{OwnedEventId, OwnedRoomId, RoomId};
use serde::{Deserialize, Serialize};

use super::{
    history_pages::{self, HistoryPage},
    waiting::{self, WaitingEvent},
    walk,
};
use crate::{
    epochs::graph,
    exported::Update,
    failure::Failure,
    history::{self, Header},
    protocol::{AlgorithmOnly, Payload, RoomEvent, identifiers, parse},
    rejection::InputError,
    requests::{self, Purpose, REQUESTS},
    room::{Room, wake},
    store::{Collection, Queue, StoreError, Tx},
    turn::Turn,
};

/// How many rooms catch up at once. A room in which something is to be said does not wait for its
/// turn.
const MOST_ROOMS: usize = 3;
/// How many pages in a row may bring nothing that can be followed. Many devices can say a lot in
/// one epoch.
const MOST_FRUITLESS: u32 = 200;
/// For how many such pages a message of this device's own waits.
const MOST_HOLDING_UP: u32 = 10;
/// After so many failures of one request a message does not wait for it.
const MOST_FAILURES: u32 = 3;
/// As how many events a page counts at the least.
const LEAST_COUNTED: u64 = 20;
/// The longest event that is kept, in bytes. None between homeservers is longer than half of this.
const LONGEST_EVENT: usize = 128 * 1024;
/// After how long it is tried again from a commit from which it did not lead anywhere.
const AGAIN_MS: u64 = 10 * 60 * 1000;
const DAY_MS: u64 = 24 * 60 * 60 * 1000;
/// More epochs than this are not believed to be missing.
const MOST_EXPECTED: u64 = 1 << 32;

/// Where in the history the next page begins.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
enum Place {
    /// Not known yet: after this commit.
    After(OwnedEventId),
    /// At this token.
    At(String),
    /// There is no next page.
    #[default]
    End,
}

/// How far a room has come. It is kept when all is over, for what it has cost that day.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct CatchUp {
    place: Place,
    /// Where to begin again if that does not lead to what is missing.
    others: Vec<OwnedEventId>,
    /// The commit where it began first.
    began_after: Option<OwnedEventId>,
    /// There is a page, and it may not have been taken in full.
    has_page: bool,
    /// The next event of the page waits for a value in the media repository.
    stalled: bool,
    /// There are no more pages: what waited is tried, and then it is over.
    #[serde(default)]
    is_ending: bool,
    /// How many commits were followed, and how many there are by what others say.
    done: u64,
    total: Option<u64>,
    fruitless: u32,
    day_began_ms: u64,
    spent: u64,
    /// When it last ended with something still missing.
    failed_ms: Option<u64>,
}

/// The rooms that are catching up, in the order in which they began.
const UNDER_WAY: Collection<OwnedRoomId> = Collection::new("catching_up");
const CATCH_UPS: Collection<CatchUp> = Collection::new("catch_up");
/// The commits of a room's page that are still to be taken.
const EVENTS: Queue<String> = Queue::new("catch_up_event");

fn load(turn: &Turn<'_>, room: &RoomId) -> Result<CatchUp, StoreError> {
    Ok(CATCH_UPS.get(turn.tx, b"", room.as_bytes())?.unwrap_or_default())
}

fn save(turn: &Turn<'_>, room: &RoomId, state: &CatchUp) -> Result<(), StoreError> {
    CATCH_UPS.put(turn.tx, b"", room.as_bytes(), state)
}

/// The rooms that are catching up.
pub(crate) fn rooms(turn: &Turn<'_>) -> Result<Vec<OwnedRoomId>, StoreError> {
    UNDER_WAY.list(turn.tx, b"")
}

/// Whether a room is catching up.
pub(crate) fn is_under_way(tx: &Tx<'_>, room: &RoomId) -> Result<bool, StoreError> {
    UNDER_WAY.has(tx, b"", room.as_bytes())
}

/// Whether nothing should be sent to a room before it has caught up: the group is elsewhere by now.
/// Pages that lead nowhere, or do not come, do not hold up anybody for long.
pub(crate) fn holds_up(turn: &Turn<'_>, room: &RoomId) -> Result<bool, StoreError> {
    if !is_under_way(turn.tx, room)? || load(turn, room)?.fruitless > MOST_HOLDING_UP {
        return Ok(false);
    }
    let requests = REQUESTS.in_scope(turn.tx, room.as_bytes())?;
    Ok(!requests.iter().any(|(_, queued)| {
        // A part of a commit that the media repository never has holds up as little as a page.
        let is_awaited = matches!(
            queued.purpose,
            Purpose::FindPlace { .. } | Purpose::CatchUp { .. } | Purpose::Download { .. }
        );
        is_awaited && queued.failures >= MOST_FAILURES
    }))
}

/// Begins to catch up, if that may lead to what these events wait for; tells whether it is under
/// way.
pub(super) fn begin(
    turn: &Turn<'_>,
    room: &Room,
    waiting: &[(i64, WaitingEvent)],
) -> Result<bool, StoreError> {
    if is_under_way(turn.tx, &room.id)? {
        return Ok(true);
    }
    let mut starts = starts(turn, room)?;
    if starts.is_empty() {
        return Ok(false);
    }
    let first = starts.remove(0);
    let before = load(turn, &room.id)?;
    let is_new_day = turn.now_ms.abs_diff(before.day_began_ms) >= DAY_MS;
    let spent = if is_new_day { 0 } else { before.spent };
    let was_in_vain = before.began_after.as_ref() == Some(&first)
        && before.failed_ms.is_some_and(|at| turn.now_ms.abs_diff(at) < AGAIN_MS);
    if was_in_vain || spent >= u64::from(room.settings.catch_up_events) {
        return Ok(false);
    }
    tracing::info!(room = %room.id, "catching up");
    let state = CatchUp {
        place: Place::After(first.clone()),
        others: starts,
        began_after: Some(first),
        total: expected(turn, room, waiting)?,
        day_began_ms: if is_new_day { turn.now_ms } else { before.day_began_ms },
        spent,
        ..CatchUp::default()
    };
    save(turn, &room.id, &state)?;
    UNDER_WAY.put(turn.tx, b"", room.id.as_bytes(), &room.id)?;
    Ok(true)
}

/// The commits after which to look: the head's, then that of the oldest epoch that can take one.
fn starts(turn: &Turn<'_>, room: &Room) -> Result<Vec<OwnedEventId>, StoreError> {
    let kept = graph::kept(turn.tx, room)?;
    let head = kept.iter().find(|epoch| Some(epoch.id) == room.standing.head());
    let oldest = kept.iter().min_by_key(|epoch| epoch.number);
    let mut starts: Vec<OwnedEventId> =
        head.into_iter().chain(oldest).filter_map(|epoch| epoch.commit_event.clone()).collect();
    starts.dedup();
    Ok(starts)
}

/// How many commits there are to follow, by the epochs of the events that wait.
fn expected(
    turn: &Turn<'_>,
    room: &Room,
    waiting: &[(i64, WaitingEvent)],
) -> Result<Option<u64>, StoreError> {
    let Some(head) = room.standing.head() else { return Ok(None) };
    let head = graph::get(turn.tx, &room.id, head)?.number;
    let newest = waiting.iter().filter_map(|(_, event)| number_of(&event.json)).max();
    let missing = newest.and_then(|newest| newest.checked_sub(head));
    Ok(missing.filter(|missing| (1..MOST_EXPECTED).contains(missing)))
}

/// The number of the epoch that an event leads to, as it says itself.
fn number_of(json: &str) -> Option<u64> {
    #[derive(Deserialize)]
    struct Sealed {
        ciphertext: Payload,
    }
    let event = parse::<RoomEvent>(json, "the event").ok()?;
    let sealed = parse::<Sealed>(event.content.get(), "the content").ok()?;
    let (Header::Private { epoch, .. } | Header::Public { epoch, .. }) =
        history::peek(&sealed.ciphertext.bytes().ok()?).ok()?
    else {
        return None;
    };
    epoch.checked_add(u64::from(event.is_commit()))
}

/// Asks for the next page of the rooms whose turn it is, where none is under way.
pub(crate) fn ask(turn: &Turn<'_>) -> Result<(), Failure> {
    for room in rooms(turn)?.into_iter().take(MOST_ROOMS) {
        ask_in(turn, &room)?;
    }
    Ok(())
}

/// Asks for a room's next page, unless that is done; gives the requests that have to be answered.
pub(crate) fn ask_in(turn: &Turn<'_>, room: &RoomId) -> Result<Vec<i64>, Failure> {
    let state = load(turn, room)?;
    let mut asked = Vec::new();
    for (id, queued) in REQUESTS.in_scope(turn.tx, room.as_bytes())? {
        let for_this = match queued.purpose {
            Purpose::FindPlace { .. } | Purpose::CatchUp { .. } => true,
            Purpose::Download { .. } => state.stalled,
            _ => false,
        };
        if for_this {
            asked.push(id);
        }
    }
    if state.has_page || !asked.is_empty() {
        return Ok(asked);
    }
    let room_id = room.to_owned();
    let id = match state.place {
        Place::After(event) => {
            let request = history_pages::place_request(room_id.clone(), event);
            let purpose = Purpose::FindPlace { room_id };
            requests::enqueue(turn.tx, room.as_bytes(), turn.now_ms, purpose, request)?
        }
        Place::At(from) => {
            let request = history_pages::forward_request(room_id.clone(), from);
            let purpose = Purpose::CatchUp { room_id };
            requests::enqueue(turn.tx, room.as_bytes(), turn.now_ms, purpose, request)?
        }
        Place::End => return Ok(Vec::new()),
    };
    Ok(vec![id])
}

/// The homeserver has said where in the history a commit is.
pub(crate) fn placed(turn: &Turn<'_>, room: &RoomId, body: &[u8]) -> Result<(), InputError> {
    Ok(keep_page(turn, room, history_pages::read_place(body)?)?)
}

/// The next page of the history has come.
pub(crate) fn paged(turn: &Turn<'_>, room: &RoomId, body: &[u8]) -> Result<(), InputError> {
    Ok(keep_page(turn, room, history_pages::read(body)?)?)
}

fn keep_page(turn: &Turn<'_>, room: &RoomId, page: HistoryPage) -> Result<(), StoreError> {
    let mut state = load(turn, room)?;
    if !is_under_way(turn.tx, room)? || state.has_page {
        return Ok(());
    }
    if let Place::At(_) = state.place {
        state.fruitless += 1;
        state.spent = state.spent.saturating_add(LEAST_COUNTED.max(page.events.len() as u64));
    }
    for (event, json) in &page.events {
        if is_missed_commit(turn, room, event, json)? {
            EVENTS.push(turn.tx, room.as_bytes(), 0, json)?;
        }
    }
    state.place = match page.next.map(Place::At) {
        Some(next) if next != state.place => next,
        _ => Place::End,
    };
    state.has_page = true;
    save(turn, room, &state)
}

/// Whether an event of a page is a commit that this device has not seen.
fn is_missed_commit(
    turn: &Turn<'_>,
    room: &RoomId,
    event: &RoomEvent,
    json: &str,
) -> Result<bool, StoreError> {
    let Some(id) = event.event_id.as_ref() else { return Ok(false) };
    let is_commit = event.event_type == "m.room.encrypted"
        && event.state_key.is_none()
        && json.len() <= LONGEST_EVENT
        && parse::<AlgorithmOnly>(event.content.get(), "the content")
            .is_ok_and(|content| identifiers::is_room_algorithm(&content.algorithm))
        && event.is_commit();
    Ok(is_commit && graph::by_event(turn.tx, room, id)?.is_none())
}

/// The homeserver does not know the commit, or does not give the page.
pub(crate) fn refused(turn: &Turn<'_>, room: &RoomId) -> Result<(), Failure> {
    if is_under_way(turn.tx, room)? {
        let mut state = load(turn, room)?;
        state.place = Place::End;
        save(turn, room, &state)?;
        go_elsewhere(turn, room, state)?;
    }
    Ok(())
}

/// The next commit of a room's page, with its place in the queue; nothing while it waits for
/// something.
pub(crate) fn next_event(
    turn: &Turn<'_>,
    room: &RoomId,
) -> Result<Option<(i64, String)>, StoreError> {
    if load(turn, room)?.stalled {
        return Ok(None);
    }
    EVENTS.first(turn.tx, room.as_bytes())
}

/// A commit of a room's page was taken.
pub(crate) fn taken(turn: &Turn<'_>, id: i64) -> Result<(), StoreError> {
    EVENTS.remove(turn.tx, id).map(drop)
}

/// The next commit of a room's page waits for a value in the media repository.
pub(crate) fn stall(turn: &Turn<'_>, room: &RoomId) -> Result<(), StoreError> {
    save(turn, room, &CatchUp { stalled: true, ..load(turn, room)? })
}

/// A value in the media repository has come, or will not.
pub(crate) fn go_on(turn: &Turn<'_>, room: &RoomId) -> Result<(), StoreError> {
    let state = load(turn, room)?;
    if state.stalled {
        save(turn, room, &CatchUp { stalled: false, ..state })?;
    }
    Ok(())
}

/// So many commits were followed since this was last told.
pub(crate) fn followed(turn: &Turn<'_>, room: &RoomId, commits: u64) -> Result<(), StoreError> {
    if commits > 0 {
        let mut state = load(turn, room)?;
        state.fruitless = 0;
        state.done += commits;
        state.total = state.total.map(|total| total.max(state.done));
        save(turn, room, &state)?;
        tell(turn, room, state.done, state.total);
    }
    Ok(())
}

fn tell(turn: &Turn<'_>, room: &RoomId, done: u64, total: Option<u64>) {
    turn.tell(Update::CatchingUp { room_id: room.to_string(), done, total });
}

/// Nothing of a room's page can be taken now; where nothing is left, the next page is due, or the
/// end.
pub(crate) fn page_taken(turn: &Turn<'_>, room: &RoomId, most: u32) -> Result<(), Failure> {
    let mut state = load(turn, room)?;
    if !state.has_page || state.stalled {
        return Ok(());
    }
    state.has_page = false;
    save(turn, room, &state)?;
    let is_spent = state.spent >= u64::from(most) || state.fruitless >= MOST_FRUITLESS;
    if is_spent {
        return finish(turn, room, state);
    }
    if state.place == Place::End || still_missing(turn, room)?.is_empty() {
        return go_elsewhere(turn, room, state);
    }
    Ok(())
}

/// Begins again from elsewhere, if something is missing and there is a place to begin.
fn go_elsewhere(turn: &Turn<'_>, room: &RoomId, mut state: CatchUp) -> Result<(), Failure> {
    if state.others.is_empty() || still_missing(turn, room)?.is_empty() {
        return finish(turn, room, state);
    }
    state.place = Place::After(state.others.remove(0));
    Ok(save(turn, room, &state)?)
}

/// The commits that events wait for and that are neither known nor waiting.
fn still_missing(turn: &Turn<'_>, room: &RoomId) -> Result<Vec<OwnedEventId>, StoreError> {
    let mut missing = Vec::new();
    for (_, event) in waiting::list(turn, room)? {
        if let Ok(needs) = OwnedEventId::try_from(event.needs)
            && !missing.contains(&needs)
            && walk::is_needed(turn, room, &needs)?
        {
            missing.push(needs);
        }
    }
    Ok(missing)
}

/// There are no more pages to read.
fn finish(turn: &Turn<'_>, room: &RoomId, mut state: CatchUp) -> Result<(), Failure> {
    state.place = Place::End;
    state.is_ending = true;
    Ok(save(turn, room, &state)?)
}

/// Whether there are no more pages, and only what waited is to be tried.
pub(crate) fn is_ending(turn: &Turn<'_>, room: &RoomId) -> Result<bool, StoreError> {
    Ok(is_under_way(turn.tx, room)? && load(turn, room)?.is_ending)
}

/// It is over. What is still missing is looked for elsewhere.
pub(crate) fn end(turn: &Turn<'_>, room: &RoomId) -> Result<(), Failure> {
    let mut state = load(turn, room)?;
    UNDER_WAY.delete(turn.tx, b"", room.as_bytes())?;
    let missing = still_missing(turn, room)?;
    tracing::info!(%room, done = state.done, missing = missing.len(), "caught up");
    state.failed_ms = (!missing.is_empty()).then_some(turn.now_ms);
    state.is_ending = false;
    save(turn, room, &state)?;
    for event in missing {
        walk::look_for(turn, room, &event)?;
    }
    if state.done > 0 {
        tell(turn, room, state.done, Some(state.done));
    }
    Ok(wake(turn.tx, room)?)
}

/// Ends it without a result: this device has left the room, and its requests are gone.
pub(crate) fn forget(turn: &Turn<'_>, room: &RoomId) -> Result<(), StoreError> {
    UNDER_WAY.delete(turn.tx, b"", room.as_bytes())?;
    while let Some((id, _)) = EVENTS.first(turn.tx, room.as_bytes())? {
        EVENTS.remove(turn.tx, id)?;
    }
    let state = load(turn, room)?;
    if state.began_after.is_some() {
        let spent =
            CatchUp { day_began_ms: state.day_began_ms, spent: state.spent, ..CatchUp::default() };
        save(turn, room, &spent)?;
    }
    Ok(())
}
