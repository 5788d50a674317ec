//! A room that is alive: Alice's and Bob's phones, a laptop of Alice's that has not taken its
//! Welcome in, and two members of plain OpenMLS, Mallory and Trudy, who sign whatever an input
//! says.
//!
//! A world lasts for some hundred inputs. After each input it is checked: nothing failed for a
//! reason of the library's own, the time and the growth of the stores were bounded, and what Alice
//! says is read by Bob.

use std::{
    cell::RefCell,
    fs,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use matrix_mls::{EventOutcome, MlsError, RecoveryKey, RoomSettings, SyncSummary, ToDeviceResult};
use matrix_mls_kit::{
    Client, ClientOptions, Fields as _, Homeserver, OrMissing as _, Result,
    other::{Other, join_path},
    peer::{base64, from_base64},
    together::{phone_of, quiet},
};
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};

/// The variable that names the directory for what a world has taken.
const TRAIL: &str = "MATRIX_MLS_FUZZ_TRAIL";
/// How many inputs a world takes.
const INPUTS: u32 = 300;
/// How much larger a store may be than when the world began, whatever came: SQLite's own slack.
const SLACK: u64 = 4 << 20;
/// How much more it may be larger for each input, and for each byte of one.
const FOR_AN_INPUT: u64 = 64 << 10;
const FOR_A_BYTE: u64 = 8;
/// How often Alice and Bob send and sync before Bob has to read what Alice said.
const ROUNDS: usize = 6;

/// The room and all that was recorded in it.
pub struct World {
    /// Keeps the server running.
    _homeserver: Homeserver,
    pub alice: Client,
    pub bob: Client,
    /// Of Alice's. Its Welcome is in `to_device`.
    pub laptop: Client,
    /// Seals whatever an input says.
    pub mallory: Other,
    /// Has made the commits in `events` that nobody has seen.
    pub trudy: Other,
    pub room: String,
    /// All events of the room, and commits of Trudy's that are not on the server.
    pub events: Vec<Value>,
    /// What the laptop was sent.
    pub to_device: Vec<Value>,
    /// Of Alice's backup.
    pub key: Arc<RecoveryKey>,
    /// The sessions of an export of Alice's.
    pub sessions: Vec<Value>,
    /// The commit of the last epoch before Trudy's commits, and `[user_id, device_id]` of who made
    /// it.
    pub base: (String, Value),
    /// How many inputs it has taken.
    pub inputs: u32,
    /// The sizes of the stores that it may have.
    most: [u64; 3],
}

struct Living {
    runtime: Runtime,
    world: Option<World>,
}

thread_local! {
    static LIVING: RefCell<Option<Living>> = const { RefCell::new(None) };
}

/// What an input left behind, which the world is checked for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// What Alice says, Bob reads.
    TheyTalk,
    /// Alice's and the laptop's calls have an answer.
    TheyAnswer,
}

impl World {
    /// Has an input do something in a world, and checks the world.
    ///
    /// # Panics
    ///
    /// If something does not hold.
    pub fn take(input: &[u8], check: Check, act: impl AsyncFnOnce(&mut Self) -> Result) {
        LIVING.with_borrow_mut(|living| {
            let living = living.get_or_insert_with(|| Living {
                runtime: sure(Builder::new_multi_thread().worker_threads(1).enable_all().build()),
                world: None,
            });
            let Living { runtime, world } = living;
            leave_a_trail(input, world.as_ref().map_or(INPUTS, |world| world.inputs));
            let old = world.take().filter(|world| world.inputs < INPUTS);
            let new = runtime.block_on(async {
                let mut world = match old {
                    Some(world) => world,
                    None => sure(Self::open().await),
                };
                world.inputs += 1;
                let began = Instant::now();
                sure(act(&mut world).await);
                let took = began.elapsed();
                assert!(took < crate::LONGEST, "one input took {took:?}");
                sure(world.check(input.len(), check).await);
                world
            });
            *world = Some(new);
        });
    }

    /// Has the next input begin with a new world.
    pub fn end() {
        LIVING.with_borrow_mut(|living| *living = None);
    }

    /// What the world of this thread has recorded.
    pub fn show<T>(show: impl FnOnce(&Self) -> T) -> T {
        let mut shown = None;
        Self::take(&[], Check::TheyAnswer, async |world| {
            shown = Some(show(world));
            Ok(())
        });
        sure(shown.or_missing("a world to show"))
    }

    async fn open() -> Result<Self> {
        let homeserver = Homeserver::embedded()?;
        let options = ClientOptions { patience: Duration::from_secs(30), ..Default::default() };
        let alice = Client::register_with(&homeserver, "alice", "PHONE", options.clone()).await?;
        alice.settle().await?;
        let bob = phone_of(&homeserver, "bob").await?;
        let mut mallory = Other::register(&homeserver, "mallory").await;
        let mut trudy = Other::register(&homeserver, "trudy").await;
        let invited = [bob.user_id(), &mallory.peer.user, &trudy.peer.user];
        let request = json!({ "preset": "private_chat", "invite": invited });
        let room = alice.create_room_from(request).await?;
        for http in [bob.http(), &mallory.http, &trudy.http] {
            http.post(&join_path(&room), json!({})).await?;
        }
        quiet(&[&alice, &bob]).await;
        let settings = RoomSettings { share_history: true, ..RoomSettings::default() };
        alice.enable(&room, settings).await?;
        alice.send_text(&room, "from alice").await?;
        let joined_by = mallory.join_by_welcome().await;
        trudy.join_by_welcome().await;
        quiet(&[&alice, &bob]).await;
        bob.send_text(&room, "from bob").await?;
        quiet(&[&alice, &bob]).await;
        let laptop = Client::log_in_with(&homeserver, "alice", "LAPTOP", options).await?;
        laptop.settle().await?;
        alice.settle().await?;
        alice.send_text(&room, "to the laptop").await?;
        quiet(&[&alice, &bob]).await;
        let sync = laptop.http().get("/_matrix/client/v3/sync?timeout=0").await?;
        let to_device = sync["to_device"]["events"].as_array().or_missing("to-device events")?;
        let to_device = to_device.clone();
        let key = RecoveryKey::parse(alice.back_up_history().await?)?;
        let sessions = super::sealed::sessions_of(&alice).await?;
        let mut events = alice.history(&room).await?;
        let base = follow(&events, &joined_by, [&mut mallory, &mut trudy])?;
        events.extend(commits_of(&mut trudy, &base));
        events.push(message_of(&mut mallory, &room, &base));
        let mut world = Self {
            _homeserver: homeserver,
            alice,
            bob,
            laptop,
            mallory,
            trudy,
            room,
            events,
            to_device,
            key,
            sessions,
            base,
            inputs: 0,
            most: [0; 3],
        };
        world.most = world.sizes()?.map(|size| size + SLACK);
        Ok(world)
    }

    fn sizes(&self) -> Result<[u64; 3]> {
        let mut sizes = [0; 3];
        for (size, client) in sizes.iter_mut().zip([&self.alice, &self.bob, &self.laptop]) {
            *size = fs::metadata(client.store_path().join("matrix-mls.db"))?.len();
        }
        Ok(sizes)
    }

    async fn check(&mut self, length: usize, check: Check) -> Result {
        let grown = FOR_AN_INPUT + FOR_A_BYTE * u64::try_from(length)?;
        for (size, most) in self.sizes()?.into_iter().zip(&mut self.most) {
            *most += grown;
            assert!(size <= *most, "a store of {size} bytes, {most} are allowed");
        }
        if check == Check::TheyTalk {
            return self.they_talk().await;
        }
        for client in [&self.alice, &self.laptop] {
            let room = client.room(&self.room).await?;
            let machine = client.machine()?;
            answered(room.members().await);
            answered(room.epochs().await);
            answered(room.prepare_to_send().await);
            answered(machine.outgoing_requests().await);
        }
        Ok(())
    }

    /// What Alice says, Bob reads, after both have sent and synced a few times.
    async fn they_talk(&self) -> Result {
        let text = format!("input {}", self.inputs);
        step(&self.alice).await?;
        let room = self.alice.room(&self.room).await?;
        let content = json!({ "msgtype": "m.text", "body": text }).to_string();
        self.alice.prepare(&self.room).await?;
        let sealed = room.encrypt("m.room.message".to_owned(), content).await?;
        let sealed: Value = serde_json::from_str(&sealed)?;
        let kind = "m.room.encrypted";
        let id = self.alice.send_unencrypted(&self.room, kind, sealed.clone()).await?;
        let event = json!({
            "type": kind, "event_id": id, "sender": self.alice.user_id(), "content": sealed,
            "origin_server_ts": 1,
        });
        let reader = self.bob.room(&self.room).await?;
        let mut last = None;
        for _ in 0..ROUNDS {
            step(&self.bob).await?;
            match reader.decrypt(event.to_string()).await {
                Ok(message) if message.content.contains(&text) => return Ok(()),
                other => last = Some(other),
            }
            step(&self.alice).await?;
        }
        panic!("Bob does not read what Alice says: {last:?}");
    }
}

/// Writes down what a world has taken, in the order of the names: what breaks a promise may need
/// what came before. The fuzzer says where.
fn leave_a_trail(input: &[u8], taken: u32) {
    let Some(directory) = std::env::var_os(TRAIL).map(PathBuf::from) else { return };
    let number = taken % INPUTS;
    if number == 0 {
        // It is not there before the first world.
        let _ = fs::remove_dir_all(&directory);
        sure(fs::create_dir_all(&directory));
    }
    sure(fs::write(directory.join(format!("{number:04}")), input));
}

/// One round of sending what is to be sent now, and a sync.
pub async fn step(client: &Client) -> Result {
    for _ in 0..10 {
        let requests = client.machine()?.outgoing_requests().await?;
        if requests.is_empty() {
            break;
        }
        for request in requests {
            client.send_request(&request).await?;
        }
    }
    client.sync().await?;
    Ok(())
}

/// Has the two follow the commits that came after the one by which they joined; the last commit,
/// and who made it.
fn follow(events: &[Value], joined_by: &str, peers: [&mut Other; 2]) -> Result<(String, Value)> {
    let after = events.iter().skip_while(|event| event["event_id"] != joined_by);
    let mut last = None;
    let mut commits = after.filter(|event| event["content"]["resolves"].is_array());
    let joined = commits.next().or_missing("the commit that added them")?;
    let mut peers = peers;
    for commit in commits {
        let bytes = from_base64(commit["content"].text("ciphertext")?);
        for peer in &mut peers {
            peer.peer.process(&bytes);
        }
        last = Some(commit);
    }
    let last = last.unwrap_or(joined);
    Ok((last.text("event_id")?.to_owned(), last["content"]["sender"].clone()))
}

/// Two commits on that epoch, one on the other, and an announcement of the second epoch.
fn commits_of(trudy: &mut Other, base: &(String, Value)) -> Vec<Value> {
    let (mut on, mut creator) = base.clone();
    let mut events = Vec::new();
    for number in 1..=2 {
        let commit = trudy.peer.update();
        let mut content = trudy.commit(&commit, &creator, &on);
        content["public_group_state"] = json!(base64(&trudy.peer.group_info()));
        on = format!("$trudy-{number}:example.org");
        creator = trudy.name();
        events.push(event_of(trudy, &on, content));
    }
    let (announced, _) = trudy.peer.public_state();
    let mut content = trudy.commit(&[], &creator, "$create:example.org");
    content["public_group_state"] = json!(base64(&announced));
    events.push(event_of(trudy, "$trudy-3:example.org", content));
    events
}

/// An event that somebody has sent, as the server would have it.
pub fn event_of(sender: &Other, id: &str, content: Value) -> Value {
    json!({
        "type": "m.room.encrypted", "event_id": id, "sender": sender.peer.user, "content": content,
        "origin_server_ts": 1, "unsigned": { "age": 1 },
    })
}

fn message_of(mallory: &mut Other, room: &str, (commit, creator): &(String, Value)) -> Value {
    let plaintext = matrix_mls_kit::peer::Peer::plaintext(room, "from mallory");
    let content = mallory.message(&plaintext, creator, commit);
    event_of(mallory, "$mallory:example.org", content)
}

/// A call of the library's: its value, where it has one.
///
/// # Panics
///
/// If it failed for a reason of the library's own.
pub fn answered<T>(result: Result<T, MlsError>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(error) => {
            is_answer(&error);
            None
        }
    }
}

fn is_answer(error: &MlsError) {
    assert!(!matches!(error, MlsError::Internal { .. }), "{error:?}");
    assert!(!error.code().is_empty(), "{error:?}");
}

/// Checks all that came of a sync.
pub fn answered_sync(result: Result<SyncSummary, MlsError>) {
    let Some(summary) = answered(result) else { return };
    for result in summary.rooms.iter().flat_map(|room| &room.events) {
        answered_event(&result.outcome);
    }
    for result in &summary.to_device {
        if let ToDeviceResult::Failed { error } | ToDeviceResult::Waiting { error } = result {
            is_answer(error);
        }
    }
}

/// Checks what came of an event.
pub fn answered_event(outcome: &EventOutcome) {
    if let EventOutcome::Failed { error } | EventOutcome::Waiting { error } = outcome {
        is_answer(error);
    }
}

/// The outcome of something that an input has no part in.
#[track_caller]
pub fn sure<T, E: std::fmt::Debug>(result: Result<T, E>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("{error:?}"),
    }
}
