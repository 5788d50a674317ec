//! The client's syncs: `/v3/sync`, or the two sliding sync connections of Element X.

use std::{path::PathBuf, sync::atomic::Ordering, time::Duration};

use matrix_mls::{
    DecryptedMessage, EventOutcome, SyncChanges, SyncSummary, sync_changes_from_response,
    sync_changes_from_sliding_sync,
};
use serde_json::{Value, json};

use super::{Client, Synced};
use crate::{KitError, SlidingSync, http::segment};

/// How a client syncs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncBy {
    /// `/v3/sync`, fifty events a room at the most.
    Tokens,
    /// `/v3/sync` with lazily loaded members and this many events a room at the most.
    LazyTokens {
        /// The number of events.
        timeline_limit: u64,
        /// Whether the state is that after the timeline (MSC4222).
        state_after: bool,
    },
    /// Sliding sync as Element X has it: the connection with the rooms goes on after a restart, the
    /// one with the keys begins anew.
    Sliding {
        /// How many events of a room one sync has at the most.
        timeline_limit: u64,
    },
}

/// Where a client's next sync starts.
#[derive(Default)]
pub(super) struct SyncPosition {
    since: Option<String>,
    sliding: Option<(SlidingSync, SlidingSync)>,
}

/// The file of the position of `/v3/sync`, or of the connection with the rooms; and that of the
/// to-device events of the other.
const SINCE: &str = "since";
const TO_DEVICE: &str = "to_device_since";

impl Client {
    pub(super) fn stored_position(&self) -> SyncPosition {
        let stored = |name| {
            let text = std::fs::read_to_string(self.directory.join(name)).ok();
            text.filter(|text| !text.is_empty())
        };
        let since = stored(SINCE);
        let sliding = match self.options.sync_by {
            SyncBy::Tokens | SyncBy::LazyTokens { .. } => None,
            SyncBy::Sliding { timeline_limit } => {
                let rooms = SlidingSync::room_list(&self.http, since.clone());
                let keys = SlidingSync::encryption(&self.http, stored(TO_DEVICE));
                Some((rooms.with_timeline_limit(timeline_limit), keys))
            }
        };
        SyncPosition { since, sliding }
    }

    /// Whether its syncs bring every message, where no more than fifty come at once.
    pub fn gets_all_by_sync(&self) -> bool {
        self.options.sync_by == SyncBy::Tokens
    }

    /// The next sync is an initial one.
    pub async fn forget_sync_token(&self) -> Result<(), KitError> {
        let mut position = self.position.lock().await;
        self.sync_nonce.store(rand::random(), Ordering::Relaxed);
        for name in [SINCE, TO_DEVICE] {
            match std::fs::remove_file(self.directory.join(name)) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(KitError::io("deleting the sync token")(error));
                }
                _ => {}
            }
        }
        *position = self.stored_position();
        Ok(())
    }

    /// Syncs once, without waiting for news.
    pub async fn sync(&self) -> Result<Synced, KitError> {
        self.sync_for(Duration::ZERO).await
    }

    /// Syncs once, waiting this long for news.
    pub async fn sync_for(&self, timeout: Duration) -> Result<Synced, KitError> {
        let mut synced = self.sync_once(timeout).await?;
        let mut messages: Vec<DecryptedMessage> = self.unread().drain(..).collect();
        messages.append(&mut synced.messages);
        synced.messages = messages;
        Ok(synced)
    }

    /// Syncs for a call that is not about messages; those that come are kept for the next sync.
    pub(super) async fn sync_aside(&self) -> Result<(), KitError> {
        let synced = self.sync_once(Duration::ZERO).await?;
        self.unread().extend(synced.messages);
        Ok(())
    }

    pub(super) async fn sync_once(&self, timeout: Duration) -> Result<Synced, KitError> {
        let mut position = self.position.lock().await;
        match &mut position.sliding {
            None => {
                let response = self.ask(position.since.as_deref(), timeout).await?;
                let next_batch = response["next_batch"].as_str().unwrap_or_default().to_owned();
                if next_batch.is_empty() {
                    return Err(KitError::BadAnswer {
                        device: self.name(),
                        what: "GET /sync".to_owned(),
                        answer: response.to_string(),
                    });
                }
                let since = position.since.clone();
                let changes = sync_changes_from_response(response.to_string(), since)
                    .map_err(self.engine("reading a sync response"))?;
                let is_quiet = ["rooms", "to_device", "device_lists"]
                    .iter()
                    .all(|part| response.get(part).is_none());
                let synced = self.take(changes, response).await?;
                self.keep_token(SINCE, &next_batch)?;
                position.since = Some(next_batch);
                Ok(Synced { is_quiet, ..synced })
            }
            Some((rooms, keys)) => {
                // A Welcome explains what the rooms have.
                let (mut first, _) = self.slide(keys, Duration::ZERO).await?;
                if let Some(token) = keys.to_device_token() {
                    self.keep_token(TO_DEVICE, token)?;
                }
                let (second, response) = self.slide(rooms, timeout).await?;
                if let Some(position) = rooms.position() {
                    self.keep_token(SINCE, position)?;
                }
                first.summary.rooms.extend(second.summary.rooms);
                first.messages.extend(second.messages);
                first.is_quiet &= second.is_quiet;
                Ok(Synced { response, ..first })
            }
        }
    }

    /// One `/v3/sync`.
    async fn ask(&self, since: Option<&str>, timeout: Duration) -> Result<Value, KitError> {
        let mut room = json!({ "timeline": { "limit": 50 } });
        let mut state_after = "";
        if let SyncBy::LazyTokens { timeline_limit, state_after: after } = self.options.sync_by {
            room = json!({
                "timeline": { "limit": timeline_limit }, "state": { "lazy_load_members": true },
            });
            if after {
                state_after = "&org.matrix.msc4222.use_state_after=true";
            }
        }
        let filter = json!({
            "room": room, "presence": { "not_types": ["*"] },
            "nonce": self.sync_nonce.load(Ordering::Relaxed),
        });
        let mut path = format!(
            "/_matrix/client/v3/sync?timeout={}&filter={}{state_after}",
            timeout.as_millis(),
            segment(&filter.to_string()),
        );
        if let Some(since) = since {
            path.push_str(&format!("&since={}", segment(since)));
        }
        self.http.get(&path).await
    }

    /// One sliding sync of a connection. Where the homeserver has forgotten it, it begins anew.
    async fn slide(
        &self,
        connection: &mut SlidingSync,
        timeout: Duration,
    ) -> Result<(Synced, Value), KitError> {
        let asked = (connection.request(), connection.position().map(str::to_owned));
        let answer = connection.sync(timeout).await;
        let ((request, pos), response) = match answer {
            Err(KitError::Refused { status: 400, .. }) if asked.1.is_some() => {
                connection.expire();
                let asked = (connection.request(), None);
                (asked, connection.sync(timeout).await?)
            }
            answer => (asked, answer?),
        };
        let changes =
            sync_changes_from_sliding_sync(request.to_string(), pos, response.to_string())
                .map_err(self.engine("reading a sliding sync response"))?;
        Ok((self.take(changes, response.clone()).await?, response))
    }

    async fn take(&self, changes: SyncChanges, response: Value) -> Result<Synced, KitError> {
        let has_devices = changes
            .device_lists
            .as_ref()
            .is_some_and(|lists| !lists.changed.is_empty() || !lists.left.is_empty());
        let is_quiet = changes.rooms.is_empty() && changes.to_device.is_empty() && !has_devices;
        let summary = self.machine()?.receive_sync(changes).await;
        let summary: SyncSummary = summary.map_err(self.engine("taking a sync"))?;
        let messages = summary
            .rooms
            .iter()
            .flat_map(|room| &room.events)
            .filter_map(|event| match &event.outcome {
                EventOutcome::Message { message } => Some(message.clone()),
                _ => None,
            })
            .collect();
        Ok(Synced { messages, summary, response, is_quiet })
    }

    fn keep_token(&self, name: &str, token: &str) -> Result<(), KitError> {
        let path: PathBuf = self.directory.join(name);
        let written = self.directory.join(format!("{name}.new"));
        std::fs::write(&written, token)
            .and_then(|()| std::fs::rename(&written, &path))
            .map_err(KitError::io("keeping the sync token"))
    }
}
