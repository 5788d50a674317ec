//! The story that the demo tells and the tests check: some people, their devices, one MLS room.
//!
//! Every sentence that is printed was checked just before: a step that does not go as told ends the
//! story with an error that says which step and what was seen instead.

mod away;
mod forks;
mod large;
mod lost;
mod phone;
mod trust;

use std::time::Instant;

use matrix_mls::{EpochInfo, RoomSettings};

use crate::{Client, ClientOptions, Homeserver, KitError, ReadEvent, SyncBy, is_commit};

/// Why the story was not as told.
#[derive(Debug, thiserror::Error)]
pub enum StoryError {
    /// A step failed.
    #[error(transparent)]
    Kit(#[from] KitError),
    /// A step worked, and the outcome is another.
    #[error("{step}: expected {expected}, saw {seen}")]
    NotAsTold {
        /// What was being shown.
        step: String,
        /// What should have been.
        expected: String,
        /// What was.
        seen: String,
    },
}

/// Hears the story.
pub trait Listener {
    /// A chapter begins.
    fn chapter(&mut self, title: &str);
    /// Something happened, and was checked.
    fn line(&mut self, text: &str);
}

/// Prints the story, with times.
pub struct Printer(Instant);

impl Default for Printer {
    fn default() -> Self {
        Self(Instant::now())
    }
}

impl Listener for Printer {
    fn chapter(&mut self, title: &str) {
        println!("\n{title}");
    }

    fn line(&mut self, text: &str) {
        println!("  {:>5.1} s  {text}", self.0.elapsed().as_secs_f64());
    }
}

/// Hears it and says nothing: for tests.
pub struct Silence;

impl Listener for Silence {
    fn chapter(&mut self, _: &str) {}
    fn line(&mut self, _: &str) {}
}

struct Cast {
    alice_phone: Client,
    alice_laptop: Client,
    bob_phone: Client,
    bob_tablet: Client,
    carol_phone: Client,
    /// Comes later.
    dave_phone: Option<Client>,
}

impl Cast {
    /// Who is left when Bob's tablet has gone and Dave has come.
    fn inside(&self) -> Vec<&Client> {
        [&self.alice_phone, &self.alice_laptop, &self.bob_phone, &self.carol_phone]
            .into_iter()
            .chain(&self.dave_phone)
            .collect()
    }

    fn everyone(&self) -> [&Client; 5] {
        [
            &self.alice_phone,
            &self.alice_laptop,
            &self.bob_phone,
            &self.bob_tablet,
            &self.carol_phone,
        ]
    }
}

/// Where a story is told, and with what apps.
#[derive(Clone, Copy)]
pub struct Stage<'a> {
    /// The homeserver.
    pub homeserver: &'a Homeserver,
    /// Keeps the user names of several tellings apart.
    pub tag: &'a str,
    /// How the apps sync.
    pub sync_by: SyncBy,
}

impl Stage<'_> {
    fn name(&self, person: &str) -> String {
        format!("{person}{}", self.tag)
    }

    fn options(&self) -> ClientOptions {
        ClientOptions { sync_by: self.sync_by, ..ClientOptions::default() }
    }

    async fn register(&self, person: &str, device_id: &str) -> Result<Client, KitError> {
        let name = self.name(person);
        Client::register_with(self.homeserver, &name, device_id, self.options()).await
    }

    async fn log_in(&self, person: &str, device_id: &str) -> Result<Client, KitError> {
        let name = self.name(person);
        Client::log_in_with(self.homeserver, &name, device_id, self.options()).await
    }
}

/// Tells the whole story; gives the room's epochs as Alice's laptop knows them at the end.
pub async fn tell(
    stage: Stage<'_>,
    listener: &mut dyn Listener,
) -> Result<Vec<EpochInfo>, StoryError> {
    let mut cast = enter(stage, listener).await?;
    let room = create(&cast, listener).await?;
    add(&cast, &room, listener).await?;
    rotate(&cast, &room, listener).await?;
    remove(&cast, &room, listener).await?;
    restart(&mut cast, &room, listener).await?;
    forks::at_once(&cast, &room, listener).await?;
    forks::cut_off(stage, &mut cast, &room, listener).await?;
    away::for_long(&mut cast, &room, listener).await?;
    lost::restored(&mut cast, &room, listener).await?;
    lost::everything(stage, &mut cast, &room, listener).await?;
    large::room(stage, &cast, listener).await?;
    phone::lost(stage, &mut cast, &room, listener).await?;
    trust::emojis(&cast, &room, listener).await?;
    trust::ghost(stage, &cast, &room, listener).await?;
    trust::changed(&cast, &room, listener).await?;
    trust::recovered(stage, &cast, &room, listener).await?;
    Ok(cast.alice_laptop.epochs(&room).await?)
}

async fn enter(stage: Stage<'_>, listener: &mut dyn Listener) -> Result<Cast, StoryError> {
    listener.chapter("Three people, five devices");
    let cast = Cast {
        alice_phone: stage.register("alice", "PHONE").await?,
        alice_laptop: stage.log_in("alice", "LAPTOP").await?,
        bob_phone: stage.register("bob", "PHONE").await?,
        bob_tablet: stage.log_in("bob", "TABLET").await?,
        carol_phone: stage.register("carol", "PHONE").await?,
        dave_phone: None,
    };
    for client in cast.everyone() {
        client.settle().await?;
        listener.line(&format!("{} has published its keys and 50 key packages", short(client)));
    }
    Ok(cast)
}

async fn create(cast: &Cast, listener: &mut dyn Listener) -> Result<String, StoryError> {
    listener.chapter("Alice makes an MLS room and talks to Bob");
    let room = cast.alice_phone.create_group(&[&cast.bob_phone], RoomSettings::default()).await?;
    cast.alice_phone.prepare(&room).await?;
    let members = members(&cast.alice_phone, &room).await?;
    expect("the group of a new room", &4, &members.len())?;
    listener.line(&format!("the group has {} devices: {}", members.len(), members.join(", ")));
    let inside = [&cast.alice_phone, &cast.alice_laptop, &cast.bob_phone, &cast.bob_tablet];
    talk(&room, &inside, "hello", listener).await?;
    Ok(room)
}

async fn add(cast: &Cast, room: &str, listener: &mut dyn Listener) -> Result<(), StoryError> {
    listener.chapter("Carol comes in");
    cast.alice_phone.invite(room, cast.carol_phone.user_id()).await?;
    cast.carol_phone.join(room).await?;
    for client in cast.everyone() {
        client.settle().await?;
    }
    cast.bob_tablet.prepare(room).await?;
    cast.bob_tablet.settle().await?;
    for client in cast.everyone() {
        client.settle().await?;
    }
    let members = members(&cast.carol_phone, room).await?;
    expect("the group with Carol in it", &5, &members.len())?;
    listener.line(&format!("{} adds her device in one commit", short(&cast.bob_tablet)));
    talk(room, &cast.everyone(), "welcome, Carol", listener).await?;
    let unread = cast.carol_phone.read(room).await?;
    let unread = unread.iter().filter(|event| event.message.is_err()).count();
    expect("what Carol cannot read: the four messages from before", &4, &unread)?;
    listener.line("she reads everything from now on, and nothing from before");
    Ok(())
}

async fn rotate(cast: &Cast, room: &str, listener: &mut dyn Listener) -> Result<(), StoryError> {
    listener.chapter("Bob renews his keys");
    let before = cast.bob_phone.head(room).await?.epoch;
    cast.bob_phone.rotate_keys(room).await?;
    cast.bob_phone.prepare(room).await?;
    let after = cast.bob_phone.head(room).await?.epoch;
    expect("the epoch after a rotation", &(before + 1), &after)?;
    listener
        .line(&format!("the room goes from epoch {before} to {after}; old keys open nothing new"));
    talk(room, &cast.everyone(), "fresh keys", listener).await
}

async fn remove(cast: &Cast, room: &str, listener: &mut dyn Listener) -> Result<(), StoryError> {
    listener.chapter("Carol is removed");
    cast.alice_phone.kick(room, cast.carol_phone.user_id()).await?;
    let inside = [&cast.alice_phone, &cast.alice_laptop, &cast.bob_phone, &cast.bob_tablet];
    for client in inside {
        client.settle().await?;
    }
    talk(room, &inside, "among us", listener).await?;
    let members = members(&cast.alice_phone, room).await?;
    expect("the group without Carol", &4, &members.len())?;
    // What she could get hold of if the homeserver were on her side.
    let events = cast.alice_phone.history(room).await?;
    let carol = cast.carol_phone.room(room).await?;
    let mut read = 0;
    for event in events.iter().rev().filter(|event| is_message(event)).take(inside.len()) {
        read += usize::from(carol.decrypt(event.to_string()).await.is_ok());
    }
    expect("how many of the new messages Carol opens, given the ciphertexts", &0, &read)?;
    listener.line(
        "the next message starts an epoch without her; given its ciphertext she cannot open it",
    );
    Ok(())
}

async fn restart(
    cast: &mut Cast,
    room: &str,
    listener: &mut dyn Listener,
) -> Result<(), StoryError> {
    listener.chapter("Every device is restarted from disk");
    for client in [
        &mut cast.alice_phone,
        &mut cast.alice_laptop,
        &mut cast.bob_phone,
        &mut cast.bob_tablet,
        &mut cast.carol_phone,
    ] {
        client.restart().await?;
    }
    let inside = [&cast.alice_phone, &cast.alice_laptop, &cast.bob_phone, &cast.bob_tablet];
    talk(room, &inside, "still here", listener).await?;
    for client in [&cast.alice_phone, &cast.bob_tablet] {
        let texts = client.read_texts(room).await?;
        let own = texts.iter().filter(|text| text.ends_with(&signature(client))).count();
        expect("how many messages of its own a device reads from the server", &5, &own)?;
        listener.line(&format!(
            "{} reads all {} messages from the server's history, its own too",
            short(client),
            texts.len()
        ));
    }
    Ok(())
}

/// Each of these sends a message; each of them reads every one of those.
async fn talk(
    room: &str,
    clients: &[&Client],
    words: &str,
    listener: &mut dyn Listener,
) -> Result<(), StoryError> {
    let mut sent = Vec::new();
    for sender in clients {
        // Whoever sends has seen what was sent before.
        sender.settle().await?;
        let text = format!("{words} — {}", signature(sender));
        sender.send_text(room, &text).await?;
        sender.settle().await?;
        sent.push(text);
    }
    for reader in clients {
        reader.settle().await?;
        let synced = reader.sync().await?;
        let got: Vec<String> = match reader.gets_all_by_sync() {
            true => synced.messages.iter().map(body).collect(),
            // What a sync leaves out is there when the room is opened.
            false => reader.read(room).await?.iter().filter_map(ReadEvent::text).collect(),
        };
        for text in &sent {
            let seen = got.iter().filter(|seen| *seen == text).count();
            let step = format!("how often {} got “{text}”", short(reader));
            expect(&step, &1, &seen)?;
        }
    }
    listener.line(&format!(
        "all {} devices say “{words}”, and all read all {} messages",
        clients.len(),
        sent.len()
    ));
    Ok(())
}

/// Has all of these see what there is to see.
async fn settle(clients: &[&Client]) -> Result<(), StoryError> {
    for _ in 0..3 {
        for client in clients {
            client.settle().await?;
        }
    }
    Ok(())
}

/// All of these have the same head; gives it.
async fn agree(clients: &[&Client], room: &str) -> Result<EpochInfo, StoryError> {
    let Some((first, others)) = clients.split_first() else {
        return Err(StoryError::NotAsTold {
            step: "agreeing".into(),
            expected: "devices".into(),
            seen: "none".into(),
        });
    };
    for client in clients.iter().filter(|client| !client.gets_all_by_sync()) {
        // Of a commit that no sync has brought, a device hears when the room is opened, or before
        // it sends.
        client.open(room).await?;
    }
    let first = first.head(room).await?;
    for other in others {
        let seen = other.head(room).await?;
        expect(&format!("the head of {}", short(other)), &first.id, &seen.id)?;
    }
    Ok(first)
}

/// This device reads all of these texts from the room's history.
async fn reads(client: &Client, room: &str, texts: &[&str]) -> Result<(), StoryError> {
    let read = client.read(room).await?;
    let read: Vec<String> = read.iter().filter_map(crate::ReadEvent::text).collect();
    for text in texts {
        let seen = read.iter().any(|seen| seen == text);
        expect(&format!("whether {} reads “{text}”", short(client)), &true, &seen)?;
    }
    Ok(())
}

fn body(message: &matrix_mls::DecryptedMessage) -> String {
    serde_json::from_str::<serde_json::Value>(&message.content)
        .ok()
        .and_then(|content| content["body"].as_str().map(ToOwned::to_owned))
        .unwrap_or_default()
}

fn is_message(event: &serde_json::Value) -> bool {
    event["type"] == "m.room.encrypted" && !is_commit(event)
}

/// The devices in a room's group, as this one sees them.
async fn members(client: &Client, room: &str) -> Result<Vec<String>, StoryError> {
    Ok(client.members(room).await?.iter().map(|m| nickname(&m.user_id, &m.device_id)).collect())
}

fn engine(client: &Client, what: &str, error: matrix_mls::MlsError) -> StoryError {
    KitError::Engine { device: client.name(), what: what.to_owned(), error: Box::new(error) }.into()
}

pub(crate) fn expect<T: PartialEq + std::fmt::Debug>(
    step: &str,
    expected: &T,
    seen: &T,
) -> Result<(), StoryError> {
    if expected == seen {
        return Ok(());
    }
    Err(StoryError::NotAsTold {
        step: step.to_owned(),
        expected: format!("{expected:?}"),
        seen: format!("{seen:?}"),
    })
}

/// `alice's phone`.
fn short(client: &Client) -> String {
    nickname(client.user_id(), client.device_id())
}

fn nickname(user_id: &str, device_id: &str) -> String {
    let user: String =
        user_id.trim_start_matches('@').chars().take_while(|c| c.is_ascii_alphabetic()).collect();
    format!("{user}'s {}", device_id.to_lowercase())
}

fn signature(client: &Client) -> String {
    short(client)
}
