//! A room's events, one by one: state that this library follows, commits, messages.
//!
//! Every event is a part of its own inside the turn: what it changed is undone if it fails, and its
//! failure costs none of the others. What came too early waits in the store, what it needs is asked
//! for, and it is tried again once that is there.

use std::collections::BTreeSet;

use ruma::{OwnedRoomId, RoomId};
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::{
    Turn, fetch, graph, head, heal, leave, media, members, message,
    message::{Message, Readers},
    process::{self, Processed, is_ours},
    read_once,
    rooms::{self, Membership},
    share, waiting, welcome,
};
use crate::{
    error::MlsError,
    protocol::{
        AlgorithmOnly, BaseOnly, CommitContent, CommitMark, CreateContent, DeviceName,
        MemberContent, MessageContent, RoomEvent, VisibilityContent,
    },
    store::Collection,
};

/// What an event turned out to be.
pub(crate) enum Outcome {
    Ignored,
    State,
    Message(Message),
    Commit { epoch: u64, added: Vec<DeviceName>, removed: Vec<DeviceName> },
    Duplicate,
    Waiting(MlsError),
    Failed(MlsError),
}

/// An event's id, if it has one, and what it turned out to be.
pub(crate) type EventOutcome = (Option<String>, Outcome);

/// Rooms whose waiting events deserve another try.
const STIRRED: Collection<OwnedRoomId> = Collection::new("stirred_room");

/// The room got a new epoch, or lost a staged one: what waits may now be readable.
pub(crate) fn stir(turn: &Turn<'_>, room_id: &RoomId) -> Result<(), MlsError> {
    Ok(STIRRED.put(turn.tx, b"", room_id.as_bytes(), &room_id.to_owned())?)
}

/// The rooms that were stirred and not looked at since.
pub(crate) fn stirred(turn: &Turn<'_>) -> Result<Vec<OwnedRoomId>, MlsError> {
    Ok(STIRRED.list(turn.tx, b"")?)
}

/// Takes in events of a room in the order given, then those that waited and no longer have to.
pub(crate) fn receive(
    turn: &Turn<'_>,
    readers: &Readers,
    room_id: &RoomId,
    events: &[String],
) -> Result<Vec<EventOutcome>, MlsError> {
    let mut outcomes = Vec::with_capacity(events.len());
    let mut kept = false;
    for json in events {
        let outcome = receive_one(turn, readers, room_id, json)?;
        if let (id, Outcome::Waiting(_)) = &outcome {
            waiting::keep(turn, room_id, id.as_deref(), json, false)?;
            kept = true;
        }
        outcomes.push(outcome);
    }
    if kept {
        waiting::bound(turn, room_id)?;
    }
    leave_with_the_room(turn, room_id)?;
    share::retry(turn, room_id)?;
    retry(turn, readers, room_id, &mut outcomes)?;
    fetch::plan(turn, room_id)?;
    Ok(outcomes)
}

/// Goes on with the commits that wait in stirred rooms, when what they need has come otherwise than by
/// sync. Messages, and the results of events that the app has fed, are left for the next sync.
pub(crate) fn go_on(turn: &Turn<'_>, readers: &Readers) -> Result<(), MlsError> {
    for room_id in stirred(turn)? {
        waiting::bound(turn, &room_id)?;
        welcome::retry(turn, &room_id)?;
        share::retry(turn, &room_id)?;
        // One that moves may let others move, the longest chain being all of them: each of them once.
        let mut entered = BTreeSet::new();
        loop {
            let mut moved = false;
            for (id, event) in waiting::list(turn, &room_id)? {
                if !is_commit_json(&event.json) {
                    continue;
                }
                let outcome = receive_one(turn, readers, &room_id, &event.json)?;
                if matches!(outcome.1, Outcome::Waiting(_)) {
                    continue;
                }
                moved |= matches!(outcome.1, Outcome::Commit { .. }) && entered.insert(id);
                if event.fetched {
                    waiting::remove(turn, &room_id, id, &event)?;
                }
            }
            if !moved {
                break;
            }
        }
        fetch::plan(turn, &room_id)?;
    }
    Ok(())
}

/// Whether an event is a commit, and no message.
pub(crate) fn is_commit(event: &RoomEvent) -> bool {
    parse::<CommitMark>(event.content.get(), "the content")
        .is_ok_and(|mark| mark.public_group_state.is_some())
}

fn is_commit_json(json: &str) -> bool {
    parse::<RoomEvent>(json, "the event").is_ok_and(|event| is_commit(&event))
}

/// Whoever is out of the Matrix room is out of its group. Looked at when all events are in: somebody who
/// comes back finds the old leave in the timeline, behind the Welcome that let them in again.
fn leave_with_the_room(turn: &Turn<'_>, room_id: &RoomId) -> Result<(), MlsError> {
    match rooms::find(turn.tx, room_id)? {
        Some(room) if room.own_user_left && room.head.is_some() => leave::evicted(turn, room_id),
        // It was in no group, and must not join one either.
        Some(room) if room.own_user_left && !room.gone => leave::give_up_membership(turn, room_id),
        _ => Ok(()),
    }
}

/// Tries what waits in a room, as long as that brings new epochs.
fn retry(
    turn: &Turn<'_>,
    readers: &Readers,
    room_id: &RoomId,
    outcomes: &mut Vec<EventOutcome>,
) -> Result<(), MlsError> {
    while STIRRED.delete(turn.tx, b"", room_id.as_bytes())? {
        for (id, event) in waiting::list(turn, room_id)? {
            let outcome = receive_one(turn, readers, room_id, &event.json)?;
            if !matches!(outcome.1, Outcome::Waiting(_)) {
                waiting::remove(turn, room_id, id, &event)?;
                if !event.fetched {
                    outcomes.push(outcome);
                }
            }
        }
    }
    Ok(())
}

fn receive_one(
    turn: &Turn<'_>,
    readers: &Readers,
    room_id: &RoomId,
    json: &str,
) -> Result<EventOutcome, MlsError> {
    let event: RoomEvent = match parse(json, "the event") {
        Ok(event) => event,
        Err(error) => return Ok((None, Outcome::Failed(error))),
    };
    let id = event.event_id.as_ref().map(ToString::to_string);
    let outcome = turn.part(|| classify(turn, readers, room_id, &event));
    let outcome = match outcome {
        Ok(outcome) => outcome,
        // The event is not to blame: the whole turn fails, and the app feeds it again.
        Err(error) if error.stops_everything() => return Err(error),
        Err(
            error @ (MlsError::UnknownEpoch { .. }
            | MlsError::StoreDamaged { .. }
            | MlsError::Unsupported { .. }),
        ) => waits_for_something(turn, room_id, &event, error)?,
        Err(error) => Outcome::Failed(error),
    };
    if let (Outcome::Failed(error), Some(id)) = (&outcome, &id)
        && is_commit_json(json)
    {
        match error.code() {
            message::BEFORE_JOINING => fetch::is_before(turn, room_id, id)?,
            _ => fetch::give_up(turn, room_id, id)?,
        }
    }
    if let Outcome::Failed(error) | Outcome::Waiting(error) = &outcome {
        tracing::info!(room = %room_id, event = id.as_deref(), code = error.code(), "event not read");
    }
    Ok((id, outcome))
}

/// An event that cannot be read yet waits, unless what it needs will never come.
fn waits_for_something(
    turn: &Turn<'_>,
    room_id: &RoomId,
    event: &RoomEvent,
    error: MlsError,
) -> Result<Outcome, MlsError> {
    let base: Option<BaseOnly> = parse(event.content.get(), "the content").ok();
    let hopeless = match (&error, base) {
        (MlsError::UnknownEpoch { .. }, Some(base)) if !media::is_awaited(&error) => {
            heal::confirmed(turn, room_id, &base.commit_event, &event.sender)?;
            fetch::is_hopeless(turn, room_id, &base.commit_event)?
        }
        _ => false,
    };
    Ok(if hopeless { Outcome::Failed(error) } else { Outcome::Waiting(error) })
}

fn classify(
    turn: &Turn<'_>,
    readers: &Readers,
    room_id: &RoomId,
    event: &RoomEvent,
) -> Result<Outcome, MlsError> {
    match (&*event.event_type, event.state_key.as_deref()) {
        ("m.room.encrypted", None) => encrypted(turn, readers, room_id, event),
        ("m.room.member", Some(user)) => member(turn, room_id, user, &event.content),
        ("m.room.create", Some("")) => {
            let content: CreateContent = parse(event.content.get(), "m.room.create")?;
            let mut room = rooms::get(turn.tx, room_id)?;
            if room.create_event.is_some() && room.create_event == event.event_id {
                // Only a sync that begins anew shows it again, and none of those says whose devices changed.
                rooms::doubt_members(turn.tx, room_id)?;
                room = rooms::get(turn.tx, room_id)?;
            }
            room.create_event = event.event_id.clone();
            rooms::put(turn.tx, &room)?;
            set_algorithm(turn, room_id, content.encryption)
        }
        ("m.room.encryption", Some("")) => {
            let content: AlgorithmOnly = parse(event.content.get(), "m.room.encryption")?;
            set_algorithm(turn, room_id, Some(content))
        }
        ("m.room.history_visibility", Some("")) => {
            let content: VisibilityContent = parse(event.content.get(), &event.event_type)?;
            share::visibility_changed(turn, room_id, content.history_visibility)?;
            Ok(Outcome::State)
        }
        _ => Ok(Outcome::Ignored),
    }
}

fn encrypted(
    turn: &Turn<'_>,
    readers: &Readers,
    room_id: &RoomId,
    event: &RoomEvent,
) -> Result<Outcome, MlsError> {
    let content = event.content.get();
    match parse::<AlgorithmOnly>(content, "the content") {
        Ok(AlgorithmOnly { algorithm }) if is_ours(&algorithm) => {}
        // Redacted, or encrypted with something else.
        _ => return Ok(Outcome::Ignored),
    }
    if parse::<CommitMark>(content, "the content")?.public_group_state.is_none() {
        let content: MessageContent = parse(content, "the message")?;
        let id = event.event_id.as_deref();
        let read =
            message::read(turn.tx, turn.crypto, readers, room_id, id, &event.sender, &content);
        let message = match read {
            Err(error) if error.code() == message::READ_ONCE => {
                read_once::open(turn, room_id, event, &content)?
            }
            message => message?,
        };
        noticed(turn, room_id, &message)?;
        return Ok(Outcome::Message(message));
    }
    let content: CommitContent = parse(content, "the commit")?;
    let id = process::required_event_id(event.event_id.as_ref())?;
    Ok(match process::process(turn, room_id, id, &event.sender, &content)? {
        Processed::Entered { number, added, removed } => {
            Outcome::Commit { epoch: number, added, removed }
        }
        Processed::Known => Outcome::Duplicate,
        Processed::Announced => Outcome::State,
        Processed::NotFollowed(error) => Outcome::Failed(error),
        Processed::TooEarly(error) => Outcome::Waiting(error),
    })
}

/// What a message says beside its text: where its sender is; and if it is one of ours that we know
/// nothing of, that this store is an older copy of itself.
fn noticed(turn: &Turn<'_>, room_id: &RoomId, message: &Message) -> Result<(), MlsError> {
    head::seen(turn, room_id, &message.sender, message.leaf, message.epoch_id)?;
    // One that came from elsewhere is not in the graph, and says nothing of where anybody is.
    let Some(epoch) = graph::find(turn.tx, room_id, message.epoch_id)? else { return Ok(()) };
    if message.sender == turn.identity.name()
        && epoch.full
        && message.leaf == message.own_leaf
        && message.generation >= turn.tx.generation(epoch.namespace)?
    {
        heal::forgotten_message(turn, room_id, &epoch.rank())?;
    }
    Ok(())
}

fn member(
    turn: &Turn<'_>,
    room_id: &RoomId,
    user: &str,
    content: &RawValue,
) -> Result<Outcome, MlsError> {
    let user = ruma::UserId::parse(user)
        .map_err(|_| MlsError::rejected("malformed_event", "the state key is no user id"))?;
    let content: MemberContent = parse(content.get(), "m.room.member")?;
    let membership = Membership::of(&content);
    if rooms::set_membership(turn.tx, room_id, &user, membership)? && membership.is_some() {
        head::explained(turn, room_id)?;
    }
    members::changed(turn, room_id)?;
    if user == turn.identity.name().0 {
        let mut room = rooms::get(turn.tx, room_id)?;
        if room.own_user_left == membership.is_some() {
            room.own_user_left = membership.is_none();
            // Whoever comes back to the room belongs in its group again.
            room.gone &= room.own_user_left;
            rooms::put(turn.tx, &room)?;
        }
    }
    Ok(Outcome::State)
}

/// A room that uses MLS does so for ever: a homeserver cannot talk it out of it.
fn set_algorithm(
    turn: &Turn<'_>,
    room_id: &RoomId,
    content: Option<AlgorithmOnly>,
) -> Result<Outcome, MlsError> {
    if let Some(AlgorithmOnly { algorithm }) = content {
        let mut room = rooms::get(turn.tx, room_id)?;
        if room.algorithm.as_deref().is_some_and(is_ours) {
            if room.algorithm.as_ref() != Some(&algorithm) {
                tracing::warn!(room = %room_id, %algorithm, "change of algorithm ignored");
            }
        } else {
            let follow = is_ours(&algorithm);
            room.algorithm = Some(algorithm);
            rooms::put(turn.tx, &room)?;
            if follow {
                rooms::track_members(turn.tx, &room)?;
            }
        }
    }
    Ok(Outcome::State)
}

/// Parses JSON that came from outside.
pub(crate) fn parse<T: DeserializeOwned>(json: &str, what: &str) -> Result<T, MlsError> {
    serde_json::from_str(json).map_err(|error| {
        MlsError::rejected("malformed_event", format!("{what}: {}", describe(&error)))
    })
}

/// What is wrong with JSON, without quoting it: serde's own text can hold what was in there.
fn describe(error: &serde_json::Error) -> String {
    format!("{:?} error at line {} column {}", error.classify(), error.line(), error.column())
}
