//! Following a room's commits in memory, beside whoever has the store open, to read one message.
//!
//! A reader that is shown a message of an epoch that the store does not have yet makes a *shadow*
//! of the store (`store::shadow`), and does there what a machine would do: the message waits, what
//! it needs is asked for (`incoming::fetch`, `incoming::catch_up`), and the commits that come are
//! followed. The store is as it was: nothing is written into it, and what the shadow has learnt is
//! gone with it. So no key of the store is used up, and the machine follows the same commits when
//! it comes to them.
//!
//! Only what reads is handed out: requests of one room that change nothing on the homeserver. What
//! else the work would have sent (Welcomes, backups, joins) stays in the shadow.
//!
//! Whoever writes into a room decides what there is to follow, and a process that shows
//! notifications has little of everything. So time, answers, commits and memory are bounded.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use ruma::{OwnedRoomId, RoomId};

use super::{
    answers::{self, OfReader},
    catching_up,
    core::now_ms,
    error::EngineError,
    events::{self, Source},
    opener::ReadOnlyEngine,
    shadows::{FollowError, Path, Place, lock},
};
use crate::{
    epochs::{UnknownEpoch, graph},
    exported::OutgoingRequest,
    groups::Groups,
    identity::Identity,
    incoming::{
        Outcome, catch_up, media,
        waiting::{self, CameBy},
    },
    messages::{Message, MessageError, parse_event},
    requests::{self, Purpose, REQUESTS, Wait},
    room,
    store::{StoreError, Tx},
    turn::Turn,
    verification::Secrets,
};

/// How long it may take, all in all. An extension of iOS has thirty seconds.
const LONGEST: Duration = Duration::from_secs(25);
/// How many commits are followed at the most.
const MOST_COMMITS: u64 = 1_000;
/// How many requests may be answered.
const MOST_ANSWERS: u32 = 60;
/// How many bytes one answer may have, and all of them.
const MOST_ANSWER_BYTES: usize = 3 * 1024 * 1024;
const MOST_ANSWERED_BYTES: usize = 16 * 1024 * 1024;
/// How much the shadow holds at the most, in bytes.
const MOST_SHADOW_BYTES: u64 = 8 * 1024 * 1024;
/// How many bytes the room's group may have in the store: one of some 2,500 devices. In memory it
/// takes four times as much (`groups`).
const MOST_GROUP_BYTES: u64 = 1024 * 1024;
/// How much all groups take in memory at the most that wait for their next commit.
const MOST_GROUPS_BYTES: u64 = 6 * 1024 * 1024;
/// How often a request may be without an answer.
const MOST_FAILURES: u32 = 3;
/// How often it begins anew as the store has changed.
const MOST_BEGINNINGS: u32 = 5;

/// What is to be done next.
pub(crate) enum Step {
    /// These are to be sent, and their answers passed in.
    Send(Vec<OutgoingRequest>),
    /// The message was read.
    Read(Box<Message>),
}

/// One message on its way to being read.
pub(crate) struct Follow {
    reader: Arc<ReadOnlyEngine>,
    room: OwnedRoomId,
    event: String,
    event_id: Option<String>,
    began: Instant,
    path: Arc<Mutex<Path>>,
}

impl Follow {
    /// Begins to read a message event of a room.
    pub(crate) fn new(
        reader: Arc<ReadOnlyEngine>,
        room: OwnedRoomId,
        event: String,
    ) -> Result<Self, MessageError> {
        let (parsed, _) = parse_event(&event)?;
        let event_id = parsed.event_id.map(|id| id.to_string());
        let path = Arc::default();
        reader.follows.add(&path);
        Ok(Self { reader, room, event, event_id, began: Instant::now(), path })
    }

    /// What is to be done next. Fails where the message cannot be read.
    pub(crate) fn next(&self) -> Result<Step, EngineError> {
        let mut path = lock(&self.path);
        loop {
            match self.go_on(&mut path) {
                Ok(step) => return Ok(step),
                Err(error) if is_out_of_date(&error) => path.at = None,
                Err(error) => {
                    path.at = None;
                    return Err(bounded(error));
                }
            }
        }
    }

    fn go_on(&self, path: &mut Path) -> Result<Step, EngineError> {
        if path.at.is_none() {
            // The machine may have come there by itself.
            match self.reader.decrypt(&self.room, &self.event) {
                Err(MessageError::UnknownEpoch(UnknownEpoch::NotYet(_))) => {}
                read => return Ok(Step::Read(Box::new(read?))),
            }
            if path.beginnings >= MOST_BEGINNINGS {
                return Err(FollowError::TooFar("the store changes all the while").into());
            }
            path.beginnings += 1;
            path.failures.clear();
            path.at = Some(self.begin()?);
        }
        let Some(at) = &mut path.at else { return Err(StoreError::Suspended.into()) };
        loop {
            if self.began.elapsed() >= LONGEST {
                return Err(FollowError::TooFar("it takes too long").into());
            }
            let (is_more, epochs) = self.turn(at, |turn| {
                let is_more = self.follow_commits(turn)?;
                Ok((is_more, graph::count(turn.tx, &self.room)?))
            })?;
            if epochs > at.epochs.saturating_add(MOST_COMMITS) {
                return Err(FollowError::TooFar("too many commits lead to its epoch").into());
            }
            if !is_more {
                break;
            }
        }
        let reader = &self.reader;
        let read =
            self.turn(at, |turn| Ok(reader.opener.decrypt(turn.tx, &self.room, &self.event)))?;
        let unknown = match read {
            Err(error @ MessageError::UnknownEpoch(UnknownEpoch::NotYet(_))) => error,
            read => return Ok(Step::Read(Box::new(read?))),
        };
        let failures = &path.failures;
        let requests = self.turn(at, |turn| requests(turn, &self.room, failures))?;
        if requests.is_empty() {
            let has_failed = failures.values().any(|failures| *failures >= MOST_FAILURES);
            return Err(match has_failed {
                true => FollowError::NoAnswer.into(),
                false => unknown.into(),
            });
        }
        Ok(Step::Send(requests))
    }

    /// Makes a shadow of the store, in which the message waits.
    fn begin(&self) -> Result<Place, EngineError> {
        let reader = &*self.reader;
        let mut shadow = reader.store.shadow(MOST_SHADOW_BYTES)?;
        let (identity, epochs) = reader.store.write_shadow(&mut shadow, |tx| {
            let identity = Identity::load(tx, &reader.opener.crypto)?;
            self.check_size(tx)?;
            Ok::<_, EngineError>((identity, graph::count(tx, &self.room)?))
        })?;
        let mut at = Place { shadow, identity, groups: Groups::bounded(MOST_GROUPS_BYTES), epochs };
        self.turn(&mut at, |turn| {
            let readers = &reader.opener.readers;
            let event =
                events::receive_one(turn, readers, &self.room, &self.event, Source::History)?;
            if let Outcome::Waiting(_) = event.outcome {
                let id = self.event_id.as_deref();
                waiting::keep(turn, &self.room, id, &self.event, CameBy::App)?;
            }
            Ok(())
        })?;
        Ok(at)
    }

    /// Whether the room is one that fits into little memory.
    fn check_size(&self, tx: &Tx<'_>) -> Result<(), EngineError> {
        let Some(room) = room::find(tx, &self.room)? else { return Ok(()) };
        for epoch in graph::kept(tx, &room)? {
            if tx.rows_len(epoch.namespace)? > MOST_GROUP_BYTES {
                return Err(FollowError::TooLarge.into());
            }
        }
        Ok(())
    }

    /// Follows the commits that are here, and asks for those that are not; tells whether there is
    /// more to do now.
    fn follow_commits(&self, turn: &Turn<'_>) -> Result<bool, EngineError> {
        let (readers, room) = (&self.reader.opener.readers, &*self.room);
        if catch_up::is_under_way(turn.tx, room)? {
            if catching_up::go_on_in(turn, readers, room)? {
                return Ok(true);
            }
            if catch_up::is_under_way(turn.tx, room)? {
                catch_up::ask_in(turn, room)?;
                return Ok(false);
            }
        }
        if events::retry_commits(turn, readers, room)? {
            return Ok(true);
        }
        events::ask_for_missing(turn, room)?;
        if catch_up::is_under_way(turn.tx, room)? {
            catch_up::ask_in(turn, room)?;
        }
        Ok(false)
    }

    /// Takes in the answer to a request; status 0 stands for none. Gives why it cannot be read,
    /// where that is so.
    pub(crate) fn answered(
        &self,
        id: &str,
        status: u16,
        body: &[u8],
    ) -> Result<Option<EngineError>, EngineError> {
        let id: i64 = id.parse().map_err(|_| EngineError::UnknownRequest)?;
        let mut path = lock(&self.path);
        let Path { at, answers, answered_bytes, failures, .. } = &mut *path;
        // An answer to what was asked before the reader was suspended, or the store has changed.
        let Some(at) = at else { return Ok(None) };
        *answers += 1;
        *answered_bytes = answered_bytes.saturating_add(body.len());
        let is_too_much = *answers > MOST_ANSWERS
            || body.len() > MOST_ANSWER_BYTES
            || *answered_bytes > MOST_ANSWERED_BYTES;
        let taken = if is_too_much {
            Err(FollowError::TooFar("the answers are too many, or too long").into())
        } else {
            let secrets = Secrets::default();
            self.turn(at, |turn| {
                let Some(queued) = REQUESTS.get(turn.tx, id)? else {
                    return Ok(OfReader::Taken);
                };
                // Nothing else was handed out.
                if !reads(&queued.purpose, &self.room) {
                    return Err(EngineError::UnknownRequest);
                }
                answers::of_reader(turn, &secrets, id, queued, status, body)
            })
        };
        match taken {
            Ok(OfReader::Taken) => Ok(None),
            Ok(of_no_use) => {
                *failures.entry(id).or_default() += 1;
                Ok(of_no_use.unread())
            }
            // The next step begins anew.
            Err(error) if is_out_of_date(&error) => {
                path.at = None;
                Ok(None)
            }
            Err(error) => Err(bounded(error)),
        }
    }

    /// Does something in the shadow.
    fn turn<T>(
        &self,
        at: &mut Place,
        job: impl FnOnce(&Turn<'_>) -> Result<T, EngineError>,
    ) -> Result<T, EngineError> {
        let Place { shadow, identity, groups, .. } = at;
        let crypto = &self.reader.opener.crypto;
        let (value, left) = self.reader.store.write_shadow(shadow, |tx| {
            let turn = Turn::new(tx, identity, crypto, groups, now_ms());
            let value = job(&turn).map_err(|error| turn.true_cause(error))?;
            media::queue_wanted(&turn).map_err(|error| turn.true_cause(error))?;
            Ok::<_, EngineError>((value, turn.end()?.groups))
        })?;
        groups.keep(left);
        Ok(value)
    }
}

/// Whether a request only reads, and what belongs to this room.
fn reads(purpose: &Purpose, room: &RoomId) -> bool {
    let reads = matches!(
        purpose,
        Purpose::FetchEvent { .. }
            | Purpose::FindCommits { .. }
            | Purpose::FindPlace { .. }
            | Purpose::CatchUp { .. }
            | Purpose::Download { .. }
            | Purpose::FetchMembers { .. }
            | Purpose::FollowMembers { .. }
            | Purpose::FetchRestart { .. }
    );
    reads && purpose.room() == Some(room)
}

/// The requests that lead on.
fn requests(
    turn: &Turn<'_>,
    room: &RoomId,
    failures: &BTreeMap<i64, u32>,
) -> Result<Vec<OutgoingRequest>, EngineError> {
    let mut wanted = REQUESTS.in_scope(turn.tx, room.as_bytes())?;
    wanted.retain(|(id, queued)| {
        let is_hopeless = failures.get(id).is_some_and(|failures| *failures >= MOST_FAILURES);
        // What the homeserver has imposed holds for everybody.
        reads(&queued.purpose, room)
            && !is_hopeless
            && (requests::is_due(queued, turn.now_ms)
                || !matches!(queued.wait, Wait::Imposed | Wait::Refused))
    });
    Ok(requests::hand_out(turn.tx, wanted)?)
}

/// Whether the shadow is older than the store.
fn is_out_of_date(error: &EngineError) -> bool {
    matches!(error.store_error(), Some(StoreError::Changed(_)))
}

/// The error that an app is given.
fn bounded(error: EngineError) -> EngineError {
    match error.store_error() {
        Some(StoreError::NoRoom) => FollowError::TooLarge.into(),
        _ => error,
    }
}
