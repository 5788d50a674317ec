//! Syncing as Element X does, by simplified sliding sync with two connections; and what a person
//! does who finds a gap.
//!
//! The connection with the rooms keeps its position over restarts of the app. That with to-device
//! events and keys begins anew with each process, and keeps the token of its to-device events. An
//! app stores a position after its machine has taken the response.

use matrix_mls::{OutgoingRequest, sync_changes_from_sliding_sync};
use serde_json::{Value, json};

use super::{
    run::{Run, Stop},
    schedule::Off,
    violation::Violation,
    world::ROOM,
};

/// How many events of a room the list is asked for, and of one that a person reads.
const LISTED_EVENTS: u64 = 1;
const PAGE: u32 = 50;

/// What is lost of a sync.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Loss {
    /// The process dies before the token of the to-device events is stored.
    Token,
    /// It dies between the two connections.
    Between,
    /// It dies before the rooms' position is stored.
    Position,
}

impl Run {
    /// Syncs both connections, to-device events first or last.
    pub(super) async fn slide(&mut self, app: usize, forgets: bool) -> Result<(), Stop> {
        let keys_first = self.dice.percent(75);
        let losses = [Loss::Token, Loss::Between, Loss::Position];
        let loss = losses.get(self.dice.below(3) as usize).copied().filter(|_| forgets);
        let reads_on = self.dice.percent(30);
        for is_keys in [keys_first, !keys_first] {
            if is_keys {
                self.slide_keys(app, loss).await?;
            } else {
                self.slide_rooms(app, loss, reads_on).await?;
            }
            if loss == Some(Loss::Between) {
                return Err(Stop::Crashed);
            }
        }
        Ok(())
    }

    async fn slide_keys(&mut self, app: usize, loss: Option<Loss>) -> Result<(), Stop> {
        let (name, pos) = (self.apps[app].name.clone(), self.apps[app].keys_position);
        let mut to_device = json!({ "enabled": true });
        if let Some(since) = self.apps[app].kept.slid.to_device {
            to_device["since"] = json!(since.to_string());
        }
        let extensions = json!({ "to_device": to_device, "e2ee": { "enabled": true } });
        let request = json!({ "conn_id": "encryption", "extensions": extensions });
        let answer = self.world.slide_keys(&name, &request, pos);
        let next = number(&answer["extensions"]["to_device"]["next_batch"])?;
        self.take_slid(app, &request, pos, &answer).await?;
        if loss == Some(Loss::Token) {
            return Err(Stop::Crashed);
        }
        self.apps[app].kept.slid.to_device = Some(next);
        self.apps[app].keys_position = Some(number(&answer["pos"])?);
        Ok(())
    }

    async fn slide_rooms(
        &mut self,
        app: usize,
        loss: Option<Loss>,
        reads_on: bool,
    ) -> Result<(), Stop> {
        let name = self.apps[app].name.clone();
        let mut pos = self.apps[app].kept.slid.rooms;
        let request = rooms_request();
        let mut answer = self.world.slide_rooms(&name, &request, pos);
        if answer.is_none() {
            self.note(format!("{name}: M_UNKNOWN_POS"));
            pos = None;
            answer = self.world.slide_rooms(&name, &request, pos);
        }
        let answer = answer.ok_or_else(|| Violation::simulator("a first request is refused"))?;
        let room = &answer["rooms"][ROOM];
        if pos.is_none() && room.is_null() {
            self.not_in_the_room(app).await?;
        }
        self.take_slid(app, &request, pos, &answer).await?;
        if loss == Some(Loss::Position) {
            return Err(Stop::Crashed);
        }
        self.apps[app].kept.slid.rooms = Some(number(&answer["pos"])?);
        if room["limited"] == true && reads_on {
            self.read_back(app).await?;
        }
        Ok(())
    }

    async fn take_slid(
        &mut self,
        app: usize,
        request: &Value,
        pos: Option<u64>,
        answer: &Value,
    ) -> Result<(), Stop> {
        let pos = pos.map(|pos| pos.to_string());
        let changes = sync_changes_from_sliding_sync(request.to_string(), pos, answer.to_string());
        let changes = self.fine(app, "a sliding sync", changes)?.map_err(Violation::simulator)?;
        self.take_in(app, changes).await
    }

    /// A person reads what a gap has left out: the app asks for a page of the history, and gives
    /// its encrypted events to the machine, oldest first.
    pub(super) async fn read_back(&mut self, app: usize) -> Result<(), Stop> {
        let request = OutgoingRequest {
            id: "history".to_owned(),
            method: "GET".to_owned(),
            path: format!("/_matrix/client/v3/rooms/{ROOM}/messages?dir=b&limit={PAGE}"),
            content_type: String::new(),
            body: Vec::new(),
        };
        let reply = self.world.handle(&self.apps[app].name.clone(), &request, &mut self.dice);
        let page: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
        let chunk = page["chunk"].as_array().into_iter().flatten().rev();
        let events = chunk.filter(|event| event["type"] == "m.room.encrypted");
        self.feed(app, events.map(Value::to_string).collect()).await?;
        Ok(())
    }

    /// A list shows the newest event. Everybody who syncs by one opens the room.
    pub(super) async fn all_read_back(&mut self) -> Result<(), Violation> {
        for app in self.live() {
            if !self.apps[app].slides {
                continue;
            }
            let reads = async |run: &mut Self| {
                run.sync(app, false).await?;
                run.read_back(app).await
            };
            match self.guarded(app, reads).await {
                Ok(()) | Err(Stop::Crashed) => {}
                Err(Stop::Violated(violation)) => return Err(violation),
            }
        }
        Ok(())
    }

    /// The server, or the app, has forgotten where the rooms' connection was.
    pub(super) fn lose_connection(&mut self, app: usize, is_the_app: bool) {
        if !self.apps[app].slides {
            return;
        }
        if is_the_app && self.dice.percent(50) {
            self.apps[app].kept.slid.rooms = None;
        } else {
            let name = self.apps[app].name.clone();
            self.world.forget_connection(&name);
        }
    }

    /// Whoever sleeps wakes up, and some users set a clock that is wrong, as the app tells them.
    pub(super) fn wake_all(&mut self) {
        for app in &mut self.apps {
            app.sleeps_until_ms = 0;
            if app.off != Off::default() && self.dice.percent(50) {
                if app.off.years < 0 {
                    app.leapt_ms = Some(self.world.now_ms);
                }
                app.off = Off::default();
            }
        }
    }
}

/// What Element X asks for of its rooms, as far as this world has it.
fn rooms_request() -> Value {
    json!({
        "conn_id": "room-list",
        "lists": { "all_rooms": {
            "ranges": [[0, 19]],
            "required_state": [
                ["org.matrix.msc2883.v1.dmls.restart", ""],
                ["m.room.encryption", ""],
                ["m.room.member", "$LAZY"],
                ["m.room.member", "$ME"],
                ["m.room.create", ""],
                ["m.room.history_visibility", ""],
                ["m.room.tombstone", ""],
            ],
            "timeline_limit": LISTED_EVENTS,
            "filters": {},
        } },
        "extensions": {},
    })
}

/// A number that the world gave as text.
fn number(text: &Value) -> Result<u64, Violation> {
    let number = text.as_str().and_then(|text| text.parse().ok());
    number.ok_or_else(|| Violation::simulator(format!("{text} is no position")))
}
