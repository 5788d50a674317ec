//! What a scenario has at hand: the homeserver, the partner's clients, the client under test, and
//! the log of what was looked at.

use std::{fmt::Debug, sync::Arc, time::Duration};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{
    device::{Answer, Device, Patience},
    facts::Facts,
    report::{LeftOut, Log, Seen},
};
use crate::{
    Client, Fields as _, Homeserver, Http, OrMissing as _, Result, bail, crowd,
    other::{Other, join_path},
    schema,
    together::phone_of,
};

/// The device of the client under test.
const DEVICE: &str = "TESTED";
/// So many devices that their tree fits neither into an event nor into a Welcome.
const CROWD: usize = 280;

/// A scenario's stage.
pub struct Stage {
    /// The homeserver.
    pub homeserver: Arc<Homeserver>,
    /// What was looked at.
    pub log: Log,
    /// Makes this scenario's accounts its own.
    pub tag: String,
    /// The shell command that starts the client under test.
    pub command: String,
    /// How long a step may take.
    pub patience: Patience,
}

/// The client under test: a device of its account.
pub struct Tested {
    /// Its user.
    pub user_id: String,
    /// Its device.
    pub device_id: String,
    device: Device,
    /// How it was started.
    start: Start,
    log: Log,
}

/// What starts the client under test, once and again.
struct Start {
    command: String,
    arguments: [String; 4],
    patience: Patience,
    /// The device's own, for as long as it takes part.
    _directory: TempDir,
}

impl Start {
    fn device(&self) -> Result<Device> {
        let arguments = self.arguments.each_ref().map(String::as_str);
        Device::start(&self.command, arguments, self.patience.clone())
    }
}

impl Stage {
    /// The account name of somebody in this scenario.
    pub fn name(&self, who: &str) -> String {
        format!("{who}-{}", self.tag)
    }

    /// A phone of the partner's.
    pub async fn phone(&self, who: &str) -> Result<Client> {
        Ok(phone_of(&self.homeserver, &self.name(who)).await?)
    }

    /// Another device of somebody's, also of the client's own account.
    pub async fn log_in(&self, who: &str, device: &str) -> Result<Client> {
        Ok(crate::together::log_in(&self.homeserver, &self.name(who), device).await?)
    }

    /// A device of plain OpenMLS, which can lie.
    pub async fn liar(&self, who: &str) -> Other {
        Other::register(&self.homeserver, &self.name(who)).await
    }

    /// Makes the account of the client under test, starts it and has it log in.
    pub async fn client(&self) -> Result<Tested> {
        let name = self.name("tested");
        let http = Http::new(self.homeserver.base_url(), "the run")?;
        let request = json!({
            "username": name, "password": format!("the password of {name}"),
            "device_id": "SETUP", "auth": { "type": "m.login.dummy" },
        });
        let answer = http.post("/_matrix/client/v3/register", request).await?;
        // The account has no device but those of the client under test.
        let http = http.with_token(answer.text("access_token")?);
        http.post("/_matrix/client/v3/logout", json!({})).await?;
        self.device(answer.text("user_id")?, DEVICE).await
    }

    /// Starts a device of the client's account and has it log in.
    pub async fn device(&self, user_id: &str, device_id: &str) -> Result<Tested> {
        let directory = tempfile::tempdir()?;
        let path = directory.path().to_string_lossy().into_owned();
        let name = self.name("tested");
        let url = self.homeserver.base_url().to_owned();
        let start = Start {
            command: self.command.clone(),
            arguments: [url, path, name, device_id.to_owned()],
            patience: self.patience.clone(),
            _directory: directory,
        };
        let mut tested = Tested {
            user_id: user_id.to_owned(),
            device_id: device_id.to_owned(),
            device: start.device()?,
            start,
            log: self.log.clone(),
        };
        tested.does("log-in").await?;
        tested.settle().await?;
        Ok(tested)
    }

    /// Notes that something is as it was expected, or fails.
    pub fn holds(&self, what: &str, expected: &str, seen: impl Debug, holds: bool) -> Result {
        holds_in(&self.log, what, expected, format!("{seen:?}"), holds)
    }

    /// Notes that something is this, or fails.
    pub fn equal<T: PartialEq + Debug>(&self, what: &str, expected: &T, seen: &T) -> Result {
        self.holds(what, &format!("{expected:?}"), seen, expected == seen)
    }

    /// A room of a phone's, in the group of which the client under test is by a Welcome.
    pub async fn meet(&self) -> Result<Meeting<'_>> {
        let alice = self.phone("alice").await?;
        let mut tested = self.client().await?;
        let room = alice.create_room(&[]).await?;
        alice.invite(&room, &tested.user_id).await?;
        tested.does(&format!("join {room}")).await?;
        alice.settle().await?;
        alice.enable(&room, Default::default()).await?;
        alice.send_text(&room, "the first words").await?;
        alice.settle().await?;
        tested.settle().await?;
        Ok(Meeting { stage: self, alice, tested, room, rounds: 0 })
    }

    /// The same in a group whose tree neither an event nor a Welcome holds.
    pub async fn meet_in_a_crowd(&self) -> Result<Meeting<'_>> {
        let alice = self.phone("alice").await?;
        let room = alice.create_room(&[]).await?;
        let crowd = crowd::register(&self.homeserver, &self.name("crowd"), CROWD).await?;
        crowd::enter_room(&alice, &room, &crowd).await?;
        alice.settle().await?;
        alice.enable(&room, Default::default()).await?;
        alice.send_text(&room, "to the crowd").await?;
        let mut tested = self.client().await?;
        alice.invite(&room, &tested.user_id).await?;
        tested.does(&format!("join {room}")).await?;
        alice.settle().await?;
        alice.send_text(&room, "the first words").await?;
        alice.settle().await?;
        tested.settle().await?;
        Ok(Meeting { stage: self, alice, tested, room, rounds: 0 })
    }

    /// The same as in `meet`, with a liar in the group; and the event of the commit that added her.
    pub async fn meet_with_liar(&self) -> Result<(Meeting<'_>, Other, String)> {
        let alice = self.phone("alice").await?;
        let mut mallory = self.liar("mallory").await;
        let mut tested = self.client().await?;
        let room = alice.create_room(&[]).await?;
        for user in [&tested.user_id, &mallory.peer.user] {
            alice.invite(&room, user).await?;
        }
        tested.does(&format!("join {room}")).await?;
        mallory.http.post(&join_path(&room), json!({})).await?;
        alice.settle().await?;
        alice.enable(&room, Default::default()).await?;
        alice.send_text(&room, "the first words").await?;
        alice.settle().await?;
        tested.settle().await?;
        let at = mallory.join_by_welcome().await;
        Ok((Meeting { stage: self, alice, tested, room, rounds: 0 }, mallory, at))
    }
}

fn holds_in(log: &Log, what: &str, expected: &str, seen: String, holds: bool) -> Result {
    let (what, expected) = (what.to_owned(), expected.to_owned());
    let text = format!("{what}: expected {expected}; seen {seen}");
    log.note(Seen { what, expected, seen, holds });
    if holds { Ok(()) } else { bail!(text) }
}

impl Tested {
    /// `@user:server|DEVICE`.
    pub fn name(&self) -> String {
        format!("{}|{}", self.user_id, self.device_id)
    }

    /// `[user_id, device_id]`.
    pub fn json(&self) -> Value {
        json!([self.user_id, self.device_id])
    }

    /// Has it do a step that it has to be able to do.
    pub async fn does(&mut self, step: &str) -> Result<Facts> {
        match self.device.does(step).await? {
            Answer::Done(facts) => Ok(facts),
            Answer::LeftOut(why) => Err(LeftOut { step: step.to_owned(), why }.into()),
            Answer::Failed(reason) => {
                let word = step.split(' ').next().unwrap_or_default();
                holds_in(
                    &self.log,
                    &format!("`{word}`"),
                    "ok",
                    format!("failed: {reason}"),
                    false,
                )?;
                Ok(Facts::default())
            }
        }
    }

    /// Kills its process.
    pub fn kill(&mut self) {
        self.device.kill();
    }

    /// Starts it again in its directory, as the same device.
    pub async fn start_again(&mut self) -> Result {
        self.device = self.start.device()?;
        self.does("log-in").await.map(drop)
    }

    /// Has it begin a step, kills it after a time, whether it is done or not, and starts it again.
    pub async fn is_killed_in(&mut self, step: &str, after: Duration) -> Result {
        self.device.begins(step)?;
        tokio::time::sleep(after).await;
        self.kill();
        self.start_again().await
    }

    /// Has it do a step that it may fail: what it was answered, if it was done.
    pub async fn tries(&mut self, step: &str) -> Result<Option<Facts>> {
        match self.device.does(step).await? {
            Answer::Done(facts) => Ok(Some(facts)),
            Answer::Failed(_) => Ok(None),
            Answer::LeftOut(why) => Err(LeftOut { step: step.to_owned(), why }.into()),
        }
    }

    /// Has it sync and send until there is nothing more.
    pub async fn settle(&mut self) -> Result {
        self.does("settle").await.map(drop)
    }

    /// Has it say something, with all that comes before and after.
    pub async fn says(&mut self, room: &str, text: &str) -> Result {
        self.settle().await?;
        self.does(&format!("send {room} {text}")).await?;
        self.settle().await
    }

    /// What it reads in a room.
    pub async fn reading(&mut self, room: &str) -> Result<Facts> {
        self.does(&format!("read {room}")).await
    }

    /// Its head.
    pub async fn head(&mut self, room: &str) -> Result<(u64, String)> {
        self.does(&format!("look {room}")).await?.epoch.or_missing("line `epoch` of `look`")
    }
}

/// A phone of the partner's and the client under test in one room.
pub struct Meeting<'a> {
    /// The stage.
    pub stage: &'a Stage,
    /// The partner's phone.
    pub alice: Client,
    /// The client under test.
    pub tested: Tested,
    /// The room.
    pub room: String,
    /// How often they have talked.
    pub rounds: u32,
}

impl Meeting<'_> {
    /// Both take in what came, some rounds of it.
    pub async fn quiet(&mut self) -> Result {
        for _ in 0..3 {
            self.tested.settle().await?;
            self.alice.settle().await?;
        }
        Ok(())
    }

    /// The partner says something, and the client takes it in.
    pub async fn alice_says(&mut self, text: &str) -> Result {
        self.alice.settle().await?;
        self.alice.send_text(&self.room, text).await?;
        self.alice.settle().await?;
        self.tested.settle().await
    }

    /// The client says something, and the partner takes it in.
    pub async fn tested_says(&mut self, text: &str) -> Result {
        self.tested.says(&self.room, text).await?;
        self.alice.settle().await?;
        Ok(())
    }

    /// The partner takes the content from an event.
    pub async fn redact(&self, event_id: &str) -> Result {
        let (room, event) = (crate::http::segment(&self.room), crate::http::segment(event_id));
        let path = format!("/_matrix/client/v3/rooms/{room}/redact/{event}/gone");
        self.alice.http().put(&path, json!({})).await?;
        Ok(())
    }

    /// That the client reads a text so many times.
    pub async fn tested_reads(&mut self, text: &str, times: usize) -> Result {
        let facts = self.tested.reading(&self.room).await?;
        let what = format!("how often the client reads “{text}”");
        let seen = facts.times(text);
        let all = format!("{seen} times, among {}", facts.bodies());
        self.stage.holds(&what, &format!("{times} times"), all, seen == times)
    }

    /// That a phone reads what the client has said.
    pub async fn is_read(&self, by: &Client, text: &str, reads: bool) -> Result {
        let read = crate::together::texts(by, &self.room).await;
        let seen = read.iter().any(|read| read == text);
        let what = format!("whether {} reads “{text}”", by.name());
        self.stage.equal(&what, &reads, &seen)
    }

    /// Both say something twice, both read it as the other's, and end on one head; and all that the
    /// client has sent fits the schemas.
    pub async fn talk(&mut self) -> Result {
        for _ in 0..2 {
            self.rounds += 1;
            let round = self.rounds;
            let (a, b) = (format!("alice {round}"), format!("tested {round}"));
            self.alice_says(&a).await?;
            self.tested_says(&b).await?;
            self.quiet().await?;
            self.tested_reads(&a, 1).await?;
            let facts = self.tested.reading(&self.room).await?;
            let sender = facts.texts.iter().find(|text| text.body == a).map(|text| &*text.sender);
            let alice = format!("{}|{}", self.alice.user_id(), self.alice.device_id());
            let what = format!("who has said “{a}”, as the client reads it");
            self.stage.equal(&what, &Some(&*alice), &sender)?;
            self.is_read(&self.alice, &b, true).await?;
        }
        self.one_head().await?;
        self.fits_schemas().await
    }

    /// Both are on one head, with the same members.
    pub async fn one_head(&mut self) -> Result {
        let facts = self.tested.does(&format!("look {}", self.room)).await?;
        let head = self.alice.head(&self.room).await?;
        let seen = facts.epoch.or_missing("line `epoch` of `look`")?;
        self.stage.equal("the client's head", &(head.epoch, head.id), &seen)?;
        let members = self.alice.members(&self.room).await?;
        let members =
            members.iter().map(|member| format!("{}|{}", member.user_id, member.device_id));
        self.stage.equal("the members of the head", &members.collect(), &facts.members)
    }

    /// That the client's head is still the partner's, or still this one.
    pub async fn head_is(&mut self, what: &str, id: &str) -> Result {
        let (_, seen) = self.tested.head(&self.room).await?;
        self.stage.equal(what, &id.to_owned(), &seen)
    }

    /// The encrypted events of the client in the room, oldest first.
    pub async fn sent(&self) -> Result<Vec<Value>> {
        let history = self.alice.history(&self.room).await?;
        let of_tested = |event: &Value| {
            event["type"] == "m.room.encrypted" && event["sender"] == *self.tested.user_id
        };
        Ok(history.into_iter().filter(of_tested).collect())
    }

    /// The commits among them.
    pub async fn commits(&self) -> Result<Vec<Value>> {
        Ok(self.sent().await?.into_iter().filter(crate::is_commit).collect())
    }

    async fn fits_schemas(&self) -> Result {
        let sent = self.sent().await?;
        let fault = sent
            .iter()
            .filter(|event| event["content"].as_object().is_some_and(|content| !content.is_empty()))
            .find_map(|event| schema::event(&event["content"]).err());
        let seen = fault.clone().unwrap_or_else(|| format!("{} events that do", sent.len()));
        self.stage.holds("the client's events", "that they fit the schemas", seen, fault.is_none())
    }
}
