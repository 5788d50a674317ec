//! What it costs to fill a large room, by how many devices one commit adds: the time all calls into
//! the library take together, the longest of each kind, the requests and their bytes; and what
//! taking in the commits costs a device (OpenMLS in memory) that has been there from the first on.
//! Times are of the processor where the system tells them (Linux), so that a busy machine does not
//! show.
//!
//! The library makes the room through its public API; a homeserver that is three tables answers at
//! once, so the network is not in the times: each request costs a round trip more.
//!
//! `cargo bench --bench adds -- 300 1000 2000` measures those sizes (the default). Prints a JSON
//! line a room (docs/decisions/007).

mod support;

use std::{
    collections::BTreeMap,
    future::Future,
    path::Path,
    time::{Duration, Instant},
};

use matrix_mls::{MlsMachine, OutgoingRequest, RoomSettings, SendPlan, SyncChanges, test_hooks};
use matrix_mls_kit::{
    Fields as _, OrMissing as _, Result, bail, config, feed, news,
    peer::Peer,
    published_tree,
    tables::{Tables, join},
};
use openmls::prelude::{MlsMessageBodyIn, MlsMessageIn, RatchetTreeIn, StagedWelcome, *};
use serde_json::{Value, json};
use support::processor;
use tls_codec::Deserialize as _;

const ROOM: &str = "!large:example.org";
const ME: &str = "@me:example.org";
/// How many devices one commit adds at the most.
const BATCHES: [usize; 6] = [50, 100, 200, 350, 500, 1_000];
/// How many devices one user has.
const DEVICES_OF_A_USER: usize = 20;

fn main() -> Result {
    // Flags that cargo adds are none of ours.
    let chosen: Vec<usize> = std::env::args().filter_map(|arg| arg.parse().ok()).collect();
    let sizes = if chosen.is_empty() { vec![300, 1_000, 2_000] } else { chosen };
    let runtime = tokio::runtime::Runtime::new()?;
    for devices in sizes {
        for batch in BATCHES.into_iter().filter(|batch| *batch <= devices.next_multiple_of(500)) {
            let store = tempfile::tempdir()?;
            println!("{}", runtime.block_on(fill(devices, batch, store.path()))?);
        }
    }
    Ok(())
}

/// How long the calls of one kind took.
#[derive(Default)]
struct Calls {
    total: Duration,
    longest: Duration,
}

impl Calls {
    async fn time<T>(&mut self, call: impl Future<Output = T>) -> T {
        let start = Instant::now();
        let before = processor();
        let value = call.await;
        let took = match (before, processor()) {
            (Some(before), Some(after)) => after.saturating_sub(before),
            _ => start.elapsed(),
        };
        self.total += took;
        self.longest = self.longest.max(took);
        value
    }

    fn figure(&self) -> Value {
        json!([self.total, self.longest].map(|time| (time.as_secs_f64() * 1e3).round()))
    }
}

/// Makes a room and fills it.
async fn fill(devices: usize, batch: usize, store: &Path) -> Result<Value> {
    test_hooks::set_most_adds(batch);
    let mut homeserver = Homeserver::with(devices - 1);
    let machine = MlsMachine::open(config(ME, "ME", store)).await?;
    let mut requests = machine.outgoing_requests().await?;
    while let Some(request) = requests.pop() {
        let (_, answer) = homeserver.answer(&request)?;
        machine.mark_request_as_sent(request.id, 200, answer).await?;
        if requests.is_empty() {
            requests = machine.outgoing_requests().await?;
        }
    }
    let sync = SyncChanges { rooms: vec![news(ROOM, homeserver.room_state())], ..feed() };
    machine.receive_sync(sync).await?;
    let room = machine.room(ROOM.into())?;
    room.enable(RoomSettings::default()).await?;
    homeserver.sent = BTreeMap::new();

    let mut calls: BTreeMap<&str, Calls> = BTreeMap::new();
    loop {
        let planning = calls.entry("prepare").or_default();
        let plan = planning.time(room.prepare_to_send()).await?;
        let SendPlan::Waiting { requests, .. } = plan else { break };
        assert!(!requests.is_empty(), "nothing to do and not ready");
        for request in requests {
            let (kind, answer) = homeserver.answer(&request)?;
            let calls = calls.entry(kind).or_default();
            calls.time(machine.mark_request_as_sent(request.id, 200, answer)).await?;
        }
    }
    assert_eq!(room.members().await?.len(), devices);
    let processing = homeserver.watch().await?;
    let sent = |kind: &str| homeserver.sent.get(kind).copied().unwrap_or_default();
    let all = homeserver.sent.values().fold((0, 0), |(n, bytes), (m, more)| (n + m, bytes + more));
    let total: Duration = calls.values().map(|calls| calls.total).sum();
    let by_kind: BTreeMap<_, _> =
        calls.iter().map(|(kind, calls)| (*kind, calls.figure())).collect();
    Ok(json!({
        "devices": devices, "most_adds": batch, "commits": sent("commit").0,
        "calls_ms": total.as_millis(),
        "total_and_longest_ms": by_kind, "processing": processing,
        "requests": all.0, "kilobytes": all.1 / 1000,
        "uploads_kilobytes": sent("upload").1 / 1000, "welcomes_kilobytes": sent("welcome").1 / 1000,
    }))
}

/// A homeserver with the devices of others, and what was sent to it: requests and bytes by kind.
struct Homeserver {
    tables: Tables,
    /// The contents of the events with commits.
    commits: Vec<Value>,
    /// The Welcome for the first device that was added, and what it was added by.
    welcome: Option<(Value, Peer, usize)>,
    sent: BTreeMap<&'static str, (usize, usize)>,
}

impl Homeserver {
    fn with(devices: usize) -> Self {
        let mut tables = Tables::default();
        for number in 0..devices {
            let user = format!("@user{}:example.org", number / DEVICES_OF_A_USER);
            tables.publish_peer(Peer::new(&user, &format!("D{number}")));
        }
        Self { tables, commits: Vec::new(), welcome: None, sent: BTreeMap::new() }
    }

    fn room_state(&self) -> Vec<String> {
        let create = json!({
            "type": "m.room.create", "state_key": "", "event_id": "$create:example.org",
            "sender": ME, "content": {},
        });
        let joins = self.tables.users().chain([ME]).map(join);
        [create].into_iter().chain(joins).map(|event| event.to_string()).collect()
    }

    /// The answer to a request, and the request's kind.
    fn answer(&mut self, request: &OutgoingRequest) -> Result<(&'static str, Vec<u8>)> {
        let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        let is = |part: &str| request.path.contains(part);
        let kind = match () {
            () if is("/keys/upload") => "keys",
            () if is("/keys/query") => "query",
            () if is("/members?") => "members",
            () if is("/keys/claim") => "claim",
            () if is("/upload") => "upload",
            () if is("/sendToDevice/") => "welcome",
            () if is("/state/") => "state",
            // The announcement of the group commits nothing.
            () if body["ciphertext"] == json!("") => "announcement",
            () => "commit",
        };
        match kind {
            "welcome" => self.keep_welcome(&body)?,
            "commit" => self.commits.push(body),
            _ => {}
        }
        let (requests, bytes) = self.sent.entry(kind).or_default();
        *requests += 1;
        *bytes += request.body.len();
        Ok((kind, self.tables.answer(request)?))
    }

    fn keep_welcome(&mut self, body: &Value) -> Result {
        if self.welcome.is_some() {
            return Ok(());
        }
        let user = body.object("messages")?.keys().next().or_missing("user")?;
        let mut devices = body["messages"].object(user)?.iter();
        let (device, content) = devices.next().or_missing("device of the user")?;
        let peer = self.tables.take_peer(user, device).or_missing("peer of that name")?;
        self.welcome = Some((content.clone(), peer, self.commits.len()));
        Ok(())
    }

    /// What the first device that was added spends on the commits after.
    async fn watch(&mut self) -> Result<Value> {
        let (content, mut peer, mut seen) = self.welcome.take().or_missing("Welcome")?;
        let message = self.tables.payload(&content["ciphertext"])?;
        let message = MlsMessageIn::tls_deserialize_exact(message)?;
        let MlsMessageBodyIn::Welcome(welcome) = message.extract() else { bail!("no Welcome") };
        let values = published_tree::values(&content);
        let tree = if values.is_empty() {
            None
        } else {
            let values: Result<_> = values.iter().map(|value| self.tables.payload(value)).collect();
            let tree = published_tree::put_together(&content, values?)?;
            Some(RatchetTreeIn::tls_deserialize_exact(tree)?)
        };
        let config = MlsGroupJoinConfig::builder()
            .wire_format_policy(MIXED_CIPHERTEXT_WIRE_FORMAT_POLICY)
            .build();
        let staged = StagedWelcome::new_from_welcome(&peer.provider, &config, welcome, tree)?;
        peer.group = Some(staged.into_group(&peer.provider)?);
        let mut calls = Calls::default();
        while let Some(commit) = self.commits.get(seen) {
            let commit = self.tables.payload(&commit["ciphertext"])?;
            calls.time(async { peer.process(&commit) }).await;
            seen += 1;
        }
        Ok(calls.figure())
    }
}
