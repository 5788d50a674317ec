//! The sliding sync connection of this crate (MSC4186): all rooms, device lists and key counts.
//!
//! It has no to-device events: `to_device` says why. Its position is stored after the machine has
//! the response on its disk, so a response whose taking was interrupted comes again.

use std::{
    collections::HashMap,
    time::{Duration, SystemTime},
};

use http::Method;
use matrix_mls::sync_changes_from_sliding_sync;
use serde_json::{Value, json};

use crate::{
    Error, State,
    http::{Request, segment},
    mls::Inner,
    position::{Position, PositionFile},
};

/// The endpoint, under the name that homeservers have had it by since before MSC4186 was merged.
pub(crate) const ENDPOINT: &str = "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync";
/// The name of this connection, beside those of the SDK.
const NAME: &str = "matrix-mls";
/// The only list.
const LIST: &str = "all";
/// How many rooms the first request wants, and how many more each later one.
const FIRST_ROOMS: u64 = 20;
const MORE_ROOMS: u64 = 100;

/// How old a sync may be when something is sealed. A sync that waits for news comes back sooner.
const FRESH: Duration = Duration::from_secs(90);

/// Where the connection stands.
pub(crate) struct Connection {
    file: PositionFile,
    position: Position,
    timeline_limit: u32,
}

impl Connection {
    pub(crate) fn new(file: PositionFile, timeline_limit: u32) -> Self {
        let position = file.load();
        Self { file, position, timeline_limit: timeline_limit.max(1) }
    }

    /// Forgets where the connection stood, as when the homeserver does not know it any more.
    pub(crate) fn begin_anew(&mut self) -> Result<(), Error> {
        self.position = Position::default();
        self.file.forget()
    }

    fn body(&self) -> Value {
        let window = self.position.window.max(FIRST_ROOMS);
        json!({
            "conn_id": NAME,
            "lists": { LIST: {
                "ranges": [[0, window - 1]],
                "required_state": [
                    ["m.room.encryption", ""],
                    ["m.room.create", ""],
                    ["m.room.history_visibility", ""],
                    ["m.room.tombstone", ""],
                    ["org.matrix.msc2883.v1.dmls.restart", ""],
                    ["m.room.member", "$LAZY"],
                ],
                "timeline_limit": self.timeline_limit,
            } },
            "extensions": { "e2ee": { "enabled": true } },
        })
    }
}

impl Inner {
    /// Syncs once: asks, waits this long for news, and gives the response to the machine. Nobody
    /// else syncs this connection meanwhile.
    pub(crate) async fn sync(&self, timeout: Duration) -> Result<(), Error> {
        let mut connection = self.connection.lock().await;
        let synced = self.sync_connection(&mut connection, timeout).await;
        self.synced.send_replace(synced.as_ref().is_ok_and(|done| *done).then(SystemTime::now));
        synced.map(drop)
    }

    /// Waits until what the machine knows of rooms is what the homeserver said within the last
    /// minute or two. So nothing is sealed for who was in a room when the app was closed.
    ///
    /// Fails where the access token is refused. It comes back where the machine was closed, which
    /// then says so itself.
    pub(crate) async fn wait_until_fresh(&self) -> Result<(), Error> {
        let is_fresh = |time: &Option<SystemTime>| {
            // A clock that was set back says nothing.
            time.is_some_and(|time| time.elapsed().is_ok_and(|age| age < FRESH))
        };
        let mut synced = self.synced.subscribe();
        let (mut closed, mut state) = (self.is_closed.subscribe(), self.state.subscribe());
        tokio::select! {
            biased;
            _ = synced.wait_for(is_fresh) => Ok(()),
            _ = closed.wait_for(|is_closed| *is_closed) => Ok(()),
            _ = state.wait_for(|state| *state == State::Unauthorized) => {
                Err(Error::Unauthorized { code: "M_UNKNOWN_TOKEN".to_owned() })
            }
        }
    }

    /// Gives whether there was a response: not where the connection has to begin anew.
    async fn sync_connection(
        &self,
        connection: &mut Connection,
        timeout: Duration,
    ) -> Result<bool, Error> {
        let body = connection.body();
        let asked = connection.position.pos.clone();
        // All rooms first, then news.
        let timeout = if asked.is_some() { timeout } else { Duration::ZERO };
        let mut path = format!("{ENDPOINT}?timeout={}", timeout.as_millis());
        if let Some(pos) = &asked {
            path.push_str(&format!("&pos={}", segment(pos)));
        }
        let request = Request::json(Method::POST, path, &body).waiting(timeout);
        let response = match request.send_json(&self.client).await {
            Err(Error::Refused { status: 400, code, .. }) if code == "M_UNKNOWN_POS" => {
                connection.begin_anew()?;
                return Ok(false);
            }
            response => response?,
        };
        let changes =
            sync_changes_from_sliding_sync(body.to_string(), asked, response.to_string()).map_err(
                |error| Error::BadAnswer { what: NAME.to_owned(), reason: error.to_string() },
            )?;
        let next = Position {
            pos: Some(changes.next_batch.clone()),
            window: next_window(connection.position.window, &response),
        };
        let times = times_of(&response);
        let summary = self.machine.receive_sync(changes).await?;
        // What has been taken in is told also where the position cannot be stored.
        self.timeline.tell(&summary.rooms, &times);
        connection.file.store(&next)?;
        connection.position = next;
        Ok(true)
    }
}

/// How many rooms the next request wants: more as long as there are more, and room for new ones.
fn next_window(window: u64, response: &Value) -> u64 {
    let count = response["lists"][LIST]["count"].as_u64().unwrap_or(0);
    let window = window.max(FIRST_ROOMS);
    if count <= window { window } else { count.min(window.saturating_add(MORE_ROOMS)) }
}

/// When each event of a response was sent, by its id.
fn times_of(response: &Value) -> HashMap<String, u64> {
    let rooms = response["rooms"].as_object().into_iter().flat_map(|rooms| rooms.values());
    let events = rooms.filter_map(|room| room["timeline"].as_array()).flatten();
    events
        .filter_map(|event| {
            let id = event["event_id"].as_str()?;
            Some((id.to_owned(), event["origin_server_ts"].as_u64()?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_grows_until_it_has_all_rooms() {
        let told = |count: u64| json!({ "lists": { LIST: { "count": count } } });
        assert_eq!(next_window(0, &told(3)), 20);
        assert_eq!(next_window(0, &told(300)), 120);
        assert_eq!(next_window(120, &told(300)), 220);
        assert_eq!(next_window(220, &told(300)), 300);
        assert_eq!(next_window(300, &told(301)), 301);
        assert_eq!(next_window(301, &told(5)), 301);
        assert_eq!(next_window(301, &json!({})), 301, "an answer without the list");
        assert_eq!(next_window(u64::MAX, &told(u64::MAX)), u64::MAX);
    }
}
