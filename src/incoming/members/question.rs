//! Asking the homeserver who is in a room: for the full list (`/members`), or in a large room for
//! what has happened since a known event (`/messages`, members and encrypted events only).
//!
//! A sync may tell that a user came or went while a question is under way. Where the answer says
//! otherwise it may be older or newer, so the question is asked again.

use std::collections::{BTreeMap, BTreeSet};

use ruma::{
    OwnedRoomId, OwnedUserId, RoomId, UInt,
    api::client::{
        filter::RoomEventFilter, membership::get_member_events, message::get_message_events,
    },
    events::room::member::MembershipState,
};

use super::{
    super::{
        waiting::{self, CameBy},
        walk,
    },
    told::{Told, is_known, read},
};
use crate::{
    epochs::head,
    failure::Failure,
    messages::SendError,
    protocol::{MembersAnswer, MessagesPage, RoomEvent, parse},
    rejection::{InputError, Rejection},
    requests::{self, Purpose, REQUESTS},
    room::{
        self, Doubt, Membership, Need, Question, Room, is_followed,
        member_list::{self, MemberList},
        membership, wake,
    },
    store::{Collection, StoreError},
    turn::Turn,
};

/// How many events a page has, and how many pages are read before the full list is asked for.
const PAGE: u32 = 100;
const MOST_PAGES: u32 = 5;
/// How many rooms are asked about at once where nothing is to be sent.
const MOST_WANTED: usize = 3;
/// The rooms whose lists are wanted though nothing is to be sent.
const WANTED: Collection<OwnedRoomId> = Collection::new("wanted_member_list");

/// The requests that have to be answered before it is known who is in the room.
pub(crate) fn ask(turn: &Turn<'_>, room: &RoomId) -> Result<Vec<i64>, SendError> {
    let mut list = member_list::load(turn.tx, room)?;
    let need = list.need(turn.now_ms, is_followed(turn.tx, room, turn.now_ms)?);
    if need == Need::Nothing {
        return Ok(Vec::new());
    }
    for (id, queued) in REQUESTS.in_scope(turn.tx, room.as_bytes())? {
        if matches!(queued.purpose, Purpose::FetchMembers { .. } | Purpose::FollowMembers { .. }) {
            return Ok(vec![id]);
        }
    }
    if list.is_put_off(turn.now_ms) {
        return Err(SendError::MembersUnknown);
    }
    list.begin_question();
    member_list::save(turn.tx, room, &list)?;
    Ok(vec![match need {
        Need::Changes => request_page(turn, room, None)?,
        _ => request_list(turn, room)?,
    }])
}

fn request_list(turn: &Turn<'_>, room: &RoomId) -> Result<i64, Failure> {
    let mut request = get_member_events::v3::Request::new(room.to_owned());
    request.not_membership = Some(MembershipState::Leave);
    let purpose = Purpose::FetchMembers { room_id: room.to_owned() };
    requests::enqueue(turn.tx, room.as_bytes(), turn.now_ms, purpose, request)
}

fn request_page(turn: &Turn<'_>, room: &RoomId, from: Option<String>) -> Result<i64, Failure> {
    let mut request = get_message_events::v3::Request::backward(room.to_owned());
    request.from = from;
    request.limit = UInt::from(PAGE);
    let mut filter = RoomEventFilter::default();
    filter.types = Some(vec!["m.room.member".to_owned(), "m.room.encrypted".to_owned()]);
    request.filter = filter;
    let purpose = Purpose::FollowMembers { room_id: room.to_owned() };
    requests::enqueue(turn.tx, room.as_bytes(), turn.now_ms, purpose, request)
}

/// The homeserver has given the full list.
pub(crate) fn answered(turn: &Turn<'_>, room: &mut Room, body: &[u8]) -> Result<(), InputError> {
    let answer: MembersAnswer = serde_json::from_slice(body)
        .map_err(|_| Rejection::MalformedAnswer("the answer is no list of members"))?;
    let mut list = member_list::load(turn.tx, &room.id)?;
    let Some(question) = list.question.take() else { return Ok(()) };
    let mut members = BTreeMap::new();
    for json in &answer.chunk {
        match read(json.get()) {
            Told::Nothing | Told::Member(_, None) => {}
            Told::Member(user, Some(membership)) => {
                members.insert(user, membership);
            }
            // Whoever it is about would count as gone.
            Told::Unreadable => {
                return refused_with(turn, room, list, "an event of the answer cannot be read");
            }
        }
    }
    if members.get(&turn.identity.name().user_id) != Some(&Membership::Joined) {
        return refused_with(turn, room, list, "the answer does not have this user in the room");
    }
    let answer = |user: &OwnedUserId| members.get(user).copied();
    if is_overtaken(turn, room, &question, answer)? {
        return Ok(member_list::save(turn.tx, &room.id, &list)?);
    }
    membership::replace_all(turn.tx, room, &members)?;
    list.seen(&question, membership::count_joined(turn.tx, &room.id)?, turn.now_ms);
    Ok(known(turn, room, &list)?)
}

/// A page of what has happened has come, newest first.
pub(crate) fn page_came(turn: &Turn<'_>, room: &mut Room, body: &[u8]) -> Result<(), InputError> {
    let page: MessagesPage = serde_json::from_slice(body)
        .map_err(|_| Rejection::MalformedAnswer("the answer is no page of events"))?;
    let mut list = member_list::load(turn.tx, &room.id)?;
    let Some(mut question) = list.question.take() else { return Ok(()) };
    question.pages += 1;
    let mut is_whole = false;
    let mut is_readable = page.chunk.len() <= PAGE as usize;
    for json in &page.chunk {
        let id = parse::<RoomEvent>(json.get(), "the event").ok().and_then(|event| event.event_id);
        if is_known(list.up_to(), id.as_deref()) {
            is_whole = true;
            break;
        }
        keep_commit(turn, &room.id, json.get())?;
        match read(json.get()) {
            Told::Nothing => {}
            Told::Unreadable => is_readable = false,
            Told::Member(user, membership) => {
                question.found.entry(user).or_insert(membership);
            }
        }
    }
    if !is_readable {
        return Ok(ask_for_list(turn, room, list)?);
    }
    if !is_whole {
        return match page.end.filter(|end| question.from.as_ref() != Some(end)) {
            Some(end) if question.pages < MOST_PAGES => {
                question.from = Some(end.clone());
                list.question = Some(question);
                member_list::save(turn.tx, &room.id, &list)?;
                request_page(turn, &room.id, Some(end))?;
                Ok(())
            }
            _ => Ok(ask_for_list(turn, room, list)?),
        };
    }
    let found = std::mem::take(&mut question.found);
    let answer = |user: &OwnedUserId| found.get(user).copied().flatten();
    if is_overtaken(turn, room, &question, answer)? {
        return Ok(member_list::save(turn.tx, &room.id, &list)?);
    }
    let own = found.get(&turn.identity.name().user_id);
    if own.is_some_and(|membership| *membership != Some(Membership::Joined)) {
        // As with the full list: whoever is out seals for nobody. The next sync says the rest.
        return refused_with(turn, room, list, "the answer has this user out of the room");
    }
    for (user, membership) in &found {
        membership::set(turn.tx, room, user, *membership)?;
    }
    list.caught_up(&question, membership::count_joined(turn.tx, &room.id)?, turn.now_ms);
    Ok(known(turn, room, &list)?)
}

/// Whether a sync may have told something newer than the answer does.
fn is_overtaken(
    turn: &Turn<'_>,
    room: &Room,
    question: &Question,
    answer: impl Fn(&OwnedUserId) -> Option<Membership>,
) -> Result<bool, StoreError> {
    for user in question.changed() {
        if answer(user) != membership::get(turn.tx, &room.id, user)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What has happened cannot be followed: the next question is for the full list.
fn ask_for_list(turn: &Turn<'_>, room: &Room, mut list: MemberList) -> Result<(), StoreError> {
    list.cannot_catch_up();
    member_list::save(turn.tx, &room.id, &list)
}

/// Keeps a commit that no sync has brought: what is sent next should know of it.
fn keep_commit(turn: &Turn<'_>, room: &RoomId, json: &str) -> Result<(), StoreError> {
    let Ok(event) = parse::<RoomEvent>(json, "the event") else { return Ok(()) };
    let Some(id) = event.event_id.as_deref() else { return Ok(()) };
    let is_encrypted = event.event_type == "m.room.encrypted";
    if is_encrypted && event.is_commit() && walk::is_needed(turn, room, id)? {
        waiting::keep(turn, room, Some(id.as_str()), json, CameBy::Request)?;
        wake(turn.tx, room)?;
    }
    Ok(())
}

/// It is known who is in the room: what could not be judged before is judged now.
fn known(turn: &Turn<'_>, room: &mut Room, list: &MemberList) -> Result<(), Failure> {
    member_list::save(turn.tx, &room.id, list)?;
    head::choose_if_doubtful(turn, room)?;
    Ok(wake(turn.tx, &room.id)?)
}

fn refused_with(
    turn: &Turn<'_>,
    room: &Room,
    mut list: MemberList,
    reason: &str,
) -> Result<(), InputError> {
    tracing::warn!(room = %room.id, reason, "the list of members is of no use");
    list.refused(turn.now_ms);
    Ok(member_list::save(turn.tx, &room.id, &list)?)
}

/// The homeserver does not say who is in the room, or what has happened.
pub(crate) fn refused(
    turn: &Turn<'_>,
    room: &RoomId,
    is_full_list: bool,
) -> Result<(), StoreError> {
    let mut list = member_list::load(turn.tx, room)?;
    if is_full_list {
        list.refused(turn.now_ms);
    } else {
        list.cannot_catch_up();
    }
    member_list::save(turn.tx, room, &list)
}

/// The app says who has joined. That counts as the full list where the homeserver has said that as
/// many have; otherwise the homeserver is asked before anything is sent.
pub(crate) fn set_by_app(
    turn: &Turn<'_>,
    room: &mut Room,
    users: &BTreeSet<OwnedUserId>,
) -> Result<(), StoreError> {
    membership::replace_joined(turn.tx, room, users)?;
    let mut list = member_list::load(turn.tx, &room.id)?;
    let joined = users.len() as u64;
    if list.agrees_with(joined) && users.contains(&turn.identity.name().user_id) {
        list.seen_from_the_beginning(joined, turn.now_ms);
    } else {
        list.doubt(Doubt::List);
        room.standing.unsettle();
    }
    member_list::save(turn.tx, &room.id, &list)
}

/// This device's user has come into the room: what was refused before is answered now.
pub(crate) fn own_user_joined(turn: &Turn<'_>, room: &RoomId) -> Result<(), StoreError> {
    let before = member_list::load(turn.tx, room)?;
    let mut list = before.clone();
    list.forget_refusals();
    if list == before { Ok(()) } else { member_list::save(turn.tx, room, &list) }
}

/// The list is wanted, though nothing is to be sent: something that came waits for it.
pub(crate) fn want(turn: &Turn<'_>, room: &RoomId) -> Result<(), StoreError> {
    if member_list::was_seen(turn.tx, room)? || WANTED.has(turn.tx, b"", room.as_bytes())? {
        return Ok(());
    }
    WANTED.put(turn.tx, b"", room.as_bytes(), &room.to_owned())
}

/// Asks for the lists that are wanted, a few at a time.
pub(crate) fn ask_for_wanted(turn: &Turn<'_>) -> Result<(), Failure> {
    let mut asked = 0;
    for room in WANTED.list(turn.tx, b"")? {
        if asked == MOST_WANTED {
            break;
        }
        let left = room::load(turn.tx, &room)?.state.own_user_left;
        if left || member_list::was_seen(turn.tx, &room)? {
            WANTED.delete(turn.tx, b"", room.as_bytes())?;
            continue;
        }
        if !membership::is_joined(turn.tx, &room, &turn.identity.name().user_id)? {
            // Whoever is only invited is told nothing.
            continue;
        }
        match ask(turn, &room) {
            Ok(requests) => asked += usize::from(!requests.is_empty()),
            Err(SendError::Failure(failure)) => return Err(failure),
            // Later.
            Err(_) => {}
        }
    }
    Ok(())
}
