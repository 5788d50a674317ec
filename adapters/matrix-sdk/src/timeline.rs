//! Decrypted events, as a stream beside the SDK's timeline.
//!
//! The SDK's timeline shows an event of an MLS room as one that cannot be decrypted. An app puts
//! what comes from here in its place, by the event's id. The stream has what syncs bring; for what
//! the app scrolls back to there is `Mls::decrypt`.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, PoisonError},
};

use futures_util::{Stream, stream};
use matrix_mls::{
    DecryptedMessage, EventOutcome, MlsError, RoomSummary, Shield, UnreadableCause, Verdict,
    shield_of,
};
use matrix_sdk::ruma::{EventId, OwnedEventId, OwnedRoomId, OwnedUserId, RoomId, UserId};
use serde_json::Value;
use tokio::sync::broadcast;

use crate::Error;

/// How many items wait for a listener that is slow, before it misses the oldest.
const MOST_WAITING: usize = 1024;
/// Of how many events that wait for their keys the time is remembered.
const MOST_TIMES: usize = 1000;

/// A decrypted event.
#[derive(Debug, Clone, PartialEq)]
pub struct Decrypted {
    /// The room.
    pub room_id: OwnedRoomId,
    /// The event that carried it: the one that the SDK's timeline shows as undecryptable.
    pub event_id: OwnedEventId,
    /// Who has sent it.
    pub sender: OwnedUserId,
    /// The id of the device that has sent it.
    pub sender_device: String,
    /// When the sender's homeserver says that it was sent, in milliseconds since 1970. Absent where
    /// the event came in an earlier run of the app, and its keys have come now.
    pub origin_server_ts: Option<u64>,
    /// The decrypted event's type, such as `m.room.message`.
    pub event_type: String,
    /// The decrypted event's content, with its relations.
    pub content: Value,
    /// What is known now of who has sent it.
    pub verdict: Verdict,
    /// Whether it was sent in an epoch that had long ended; see `DecryptedMessage::is_late`.
    pub is_late: bool,
    /// Whether the event itself came with an earlier sync, and could not be read then.
    pub is_belated: bool,
}

impl Decrypted {
    /// The shield to show, as the SDK has it for its own events.
    pub fn shield(&self, strict: bool) -> Shield {
        shield_of(self.verdict, strict)
    }

    /// The `body` of a message.
    pub fn body(&self) -> Option<&str> {
        self.content.get("body")?.as_str()
    }

    pub(crate) fn of(
        room_id: &RoomId,
        message: DecryptedMessage,
        origin_server_ts: Option<u64>,
        is_belated: bool,
    ) -> Result<Self, Error> {
        let bad = |what: &str| Error::BadEvent(format!("{what} cannot be read"));
        let event_id = message.event_id.ok_or_else(|| bad("its id"))?;
        Ok(Self {
            room_id: room_id.to_owned(),
            event_id: EventId::parse(event_id).map_err(|_| bad("its id"))?,
            sender: UserId::parse(message.sender_user_id).map_err(|_| bad("its sender"))?,
            sender_device: message.sender_device_id,
            origin_server_ts,
            event_type: message.event_type,
            content: serde_json::from_str(&message.content).map_err(|_| bad("its content"))?,
            verdict: message.verdict,
            is_late: message.is_late,
            is_belated,
        })
    }
}

/// What the stream gives.
#[derive(Debug, Clone, PartialEq)]
pub enum TimelineItem {
    /// An event that was decrypted: show it in place of the encrypted one.
    Decrypted(Box<Decrypted>),
    /// A commit, which says nothing to people: leave the event out.
    Commit {
        /// The room.
        room_id: OwnedRoomId,
        /// The event.
        event_id: OwnedEventId,
    },
    /// An event that cannot be read, now or ever.
    Unreadable {
        /// The room.
        room_id: OwnedRoomId,
        /// The event.
        event_id: OwnedEventId,
        /// Why, for what the app shows; absent where the error is about something else.
        cause: Option<UnreadableCause>,
        /// The code of the error.
        code: String,
    },
    /// The listener was too slow, and this many items were left out. Decrypt again what is shown.
    Missed(u64),
}

/// Those who listen.
pub(crate) struct Timeline {
    listeners: broadcast::Sender<TimelineItem>,
    /// When events were sent that could not be read yet.
    waiting: Mutex<Times>,
}

#[derive(Default)]
struct Times {
    by_event: HashMap<String, u64>,
    oldest_first: VecDeque<String>,
}

impl Times {
    fn remember(&mut self, event_id: &str, time: u64) {
        if self.by_event.insert(event_id.to_owned(), time).is_none() {
            self.oldest_first.push_back(event_id.to_owned());
        }
        while self.oldest_first.len() > MOST_TIMES {
            if let Some(oldest) = self.oldest_first.pop_front() {
                self.by_event.remove(&oldest);
            }
        }
    }
}

impl Timeline {
    pub(crate) fn new() -> Self {
        Self { listeners: broadcast::Sender::new(MOST_WAITING), waiting: Mutex::default() }
    }

    pub(crate) fn stream(&self) -> impl Stream<Item = TimelineItem> + Send + Unpin + use<> {
        let listener = self.listeners.subscribe();
        Box::pin(stream::unfold(listener, |mut listener| async {
            match listener.recv().await {
                Ok(item) => Some((item, listener)),
                Err(broadcast::error::RecvError::Lagged(missed)) => {
                    Some((TimelineItem::Missed(missed), listener))
                }
                Err(broadcast::error::RecvError::Closed) => None,
            }
        }))
    }

    /// Tells what became of the events of a sync. `times` has those that came with it.
    pub(crate) fn tell(&self, rooms: &[RoomSummary], times: &HashMap<String, u64>) {
        for room in rooms {
            let Ok(room_id) = RoomId::parse(&room.room_id) else { continue };
            for event in &room.events {
                if let Some(item) =
                    self.item(&room_id, event.event_id.as_deref(), &event.outcome, times)
                {
                    // Nobody need listen.
                    let _ = self.listeners.send(item);
                }
            }
        }
    }

    fn item(
        &self,
        room_id: &RoomId,
        event_id: Option<&str>,
        outcome: &EventOutcome,
        times: &HashMap<String, u64>,
    ) -> Option<TimelineItem> {
        let room_id = room_id.to_owned();
        let id = event_id?;
        let event_id = EventId::parse(id).ok()?;
        match outcome {
            EventOutcome::Ignored | EventOutcome::State => None,
            EventOutcome::Message { message } => {
                let now = times.get(id).copied();
                let time = now.or_else(|| {
                    self.waiting.lock().unwrap_or_else(PoisonError::into_inner).by_event.remove(id)
                });
                match Decrypted::of(&room_id, message.clone(), time, now.is_none()) {
                    Ok(decrypted) => Some(TimelineItem::Decrypted(Box::new(decrypted))),
                    Err(error) => {
                        tracing::warn!(%error, "a decrypted event is left out");
                        None
                    }
                }
            }
            EventOutcome::Commit { .. } | EventOutcome::Duplicate => {
                Some(TimelineItem::Commit { room_id, event_id })
            }
            EventOutcome::Waiting { error } => {
                if let Some(time) = times.get(id) {
                    let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
                    waiting.remember(id, *time);
                }
                Some(unreadable(room_id, event_id, error))
            }
            EventOutcome::Failed { error } => Some(unreadable(room_id, event_id, error)),
        }
    }
}

fn unreadable(room_id: OwnedRoomId, event_id: OwnedEventId, error: &MlsError) -> TimelineItem {
    let (cause, code) = (error.unreadable_cause(), error.code().to_owned());
    TimelineItem::Unreadable { room_id, event_id, cause, code }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_so_many_times_are_remembered() {
        let mut times = Times::default();
        for number in 0..MOST_TIMES as u64 + 5 {
            times.remember(&format!("${number}"), number);
            times.remember(&format!("${number}"), number);
        }
        assert_eq!(times.by_event.len(), MOST_TIMES);
        assert_eq!(times.oldest_first.len(), MOST_TIMES);
        assert!(!times.by_event.contains_key("$4"));
        assert_eq!(times.by_event.get("$5"), Some(&5));
    }
}
