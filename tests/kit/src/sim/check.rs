//! What must hold when the world is quiet.

use std::collections::{BTreeMap, BTreeSet};

use matrix_mls::{EpochInfo, test_hooks::take_opened_messages};

use super::{
    run::{Run, Stop},
    violation::{Invariant, Violation},
    world::{Name, USERS},
};

const HALF_A_DAY_MS: u64 = 11 * 60 * 60 * 1000;
/// In which rounds devices that are apart make commits before they speak, and how many rounds there
/// are where everybody was honest.
const ROUNDS: [bool; 14] =
    [false, false, false, false, true, false, true, false, false, false, true, false, true, false];
const HONEST_ROUNDS: usize = 8;

impl Run {
    /// Checks everything that can be looked at when nothing moves any more.
    pub(super) async fn check(&mut self) -> Result<(), Violation> {
        self.note("-- quiet");
        if !self.world.agrees() {
            return Err(Violation::simulator("the servers do not agree on the members"));
        }
        let members: Vec<usize> = self
            .live()
            .into_iter()
            .filter(|app| self.world.is_joined(self.apps[*app].name.user))
            .collect();
        if self.is_without_group() {
            return Ok(());
        }
        self.hear_each_other(&members).await?;
        self.one_head(&members).await?;
        self.last_messages(&members).await?;
        self.generations(&members).await?;
        self.readable(&members).await?;
        self.secret().await
    }

    /// Nobody has made a group yet.
    fn is_without_group(&self) -> bool {
        !self.world.events().any(|event| event.is_commit())
    }

    pub(super) async fn epochs(&mut self, app: usize) -> Result<Vec<EpochInfo>, Violation> {
        let room = self.room(app).await?;
        let epochs = room.epochs().await;
        self.fine(app, "epochs", epochs)?.map_err(Violation::simulator)
    }

    /// Whoever was let in by one user, or could not follow the others, goes on where several are
    /// heard. So where they are apart, each says something, twice a day, and at last commits. A
    /// device that is kept from sending for a time, even if it is alone, goes on trying as often.
    async fn hear_each_other(&mut self, members: &[usize]) -> Result<(), Violation> {
        // Where somebody lied, they may first have had to find each other's tree of epochs, and are
        // heard there for a day.
        let rounds = if self.liar.is_some() { ROUNDS.len() } else { HONEST_ROUNDS };
        for commits in &ROUNDS[..rounds] {
            let commits = *commits;
            let mut heads = BTreeSet::new();
            for &app in members {
                let epochs = self.epochs(app).await?;
                heads
                    .extend(epochs.into_iter().filter(|epoch| epoch.is_head).map(|epoch| epoch.id));
            }
            let is_apart = heads.len() > 1;
            if !is_apart && members.iter().all(|app| self.apps[*app].stuck_ms.is_none()) {
                break;
            }
            self.note(if is_apart { "-- they are apart" } else { "-- one cannot send yet" });
            self.count(match (is_apart, commits) {
                (true, true) => "apart until they committed",
                (true, false) => "apart until they spoke",
                (false, _) => "kept from sending when all was quiet",
            });
            for &app in members {
                if commits {
                    let room = self.room(app).await?;
                    let rotated = room.rotate_keys().await;
                    drop(room);
                    drop(self.fine(app, "rotate_keys", rotated)?);
                    self.calmly(app, true, true).await?;
                }
                match self.send(app).await {
                    Ok(()) | Err(Stop::Crashed) => {}
                    Err(Stop::Violated(violation)) => return Err(violation),
                }
                self.world.pass(100, &mut self.dice);
            }
            self.all_read_back().await?;
            self.settle(false).await?;
            self.world.pass(HALF_A_DAY_MS, &mut self.dice);
        }
        Ok(())
    }

    async fn one_head(&mut self, members: &[usize]) -> Result<(), Violation> {
        let target: BTreeSet<Name> = (0..USERS.len())
            .filter(|user| self.world.is_joined(*user))
            .flat_map(|user| {
                let devices = self.world.published(user).into_iter();
                devices.map(move |device| Name { user, device })
            })
            .collect();
        let mut head: Option<(String, String)> = None;
        for &app in members {
            let name = self.apps[app].name.clone();
            let epochs = self.epochs(app).await?;
            let full = epochs.iter().filter(|epoch| epoch.is_full).count();
            self.figures.full_epochs = self.figures.full_epochs.max(full as u64);
            self.figures.epochs = self.figures.epochs.max(epochs.len() as u64);
            self.is_bounded(app)?;
            let Some(own) = epochs.iter().find(|epoch| epoch.is_head) else {
                let detail = format!("{name} is in the room and has no head");
                return Err(Violation::new(Invariant::OneHead, detail));
            };
            let event = own.commit_event.clone().unwrap_or_default();
            match &head {
                Some((id, other)) if *id != own.id => {
                    let detail = format!("{name} is on {event}, and others on {other}");
                    return Err(Violation::new(Invariant::OneHead, detail));
                }
                _ => head = Some((own.id.clone(), event)),
            }
            let group = self.members(app).await?;
            if group != target {
                let detail = format!(
                    "{name} has {} as members; they should be {}",
                    names(&group),
                    names(&target)
                );
                return Err(Violation::new(Invariant::Target, detail));
            }
        }
        Ok(())
    }

    /// The room works: each of its devices sends, and all the others read it.
    async fn last_messages(&mut self, members: &[usize]) -> Result<(), Violation> {
        let first = self.ledger.messages.len();
        for &app in members {
            match self.send(app).await {
                Ok(()) | Err(Stop::Crashed) => {}
                Err(Stop::Violated(violation)) => return Err(violation),
            }
            self.world.pass(100, &mut self.dice);
        }
        for _ in 0..2 {
            for app in self.live() {
                self.calmly(app, true, false).await?;
            }
        }
        self.all_read_back().await?;
        let sent = self.ledger.sent(&self.world).filter(|(number, ..)| *number >= first).count();
        if sent != members.len() {
            let detail = format!("{} devices could send {sent} messages at last", members.len());
            return Err(Violation::new(Invariant::Settles, detail));
        }
        for &app in members {
            let unread = (first..first + sent).find(|n| !self.apps[app].kept.read.contains(n));
            if let Some(number) = unread {
                let sender = &self.ledger.messages[number].sender;
                let detail =
                    format!("{} has not read the last message of {sender}", self.apps[app].name);
                return Err(Violation::new(Invariant::Readable, detail));
            }
        }
        Ok(())
    }

    /// Opens each message once more, and looks at which generation it has.
    async fn generations(&mut self, members: &[usize]) -> Result<(), Violation> {
        let sent: Vec<(usize, String, String)> = self
            .ledger
            .sent(&self.world)
            .map(|(number, _, event)| (number, event.id.clone(), event.json.to_string()))
            .collect();
        self.figures.messages = sent.len() as u64;
        drop(take_opened_messages());
        let mut taken: BTreeMap<(String, u32, u32), usize> = BTreeMap::new();
        for (number, event_id, json) in sent {
            let reader = members.iter().find(|app| self.apps[**app].kept.read.contains(&number));
            let Some(&app) = reader else { continue };
            let room = self.room(app).await?;
            let message = room.decrypt(json).await;
            drop(room);
            match self.fine(app, "decrypt", message)? {
                Ok(message) => self.read(app, &event_id, &message)?,
                Err(error) => {
                    let name = &self.apps[app].name;
                    let detail = format!("{name} cannot read m{number} again: {error}");
                    return Err(Violation::new(Invariant::Readable, detail));
                }
            };
            for position in take_opened_messages() {
                if let Some(other) = taken.insert(position.clone(), number) {
                    let (_, leaf, generation) = position;
                    let detail = format!(
                        "m{other} and m{number} both are generation {generation} of leaf {leaf}"
                    );
                    return Err(Violation::new(Invariant::Generations, detail));
                }
            }
        }
        Ok(())
    }

    /// What is owed is readable, and what is not meant for a device is not.
    async fn readable(&mut self, members: &[usize]) -> Result<(), Violation> {
        for &app in members {
            let restored = !self.apps[app].forgotten.is_empty();
            let of_app: Vec<_> = self
                .ledger
                .sent(&self.world)
                // What a device has read stays read; only after a restore is that not a matter of
                // course.
                .filter(|(number, ..)| restored || !self.apps[app].kept.read.contains(number))
                .map(|(number, sealed, event)| {
                    let owed = self.apps[app].kept.read.contains(&number)
                        || self.ledger.owes(&self.world, &self.apps[app], sealed, event);
                    let member = sealed.members.contains(&self.apps[app].name);
                    (number, owed, member, event.id.clone(), event.json.to_string())
                })
                .collect();
            let unread = of_app
                .iter()
                .filter(|(number, owed, ..)| *owed && !self.apps[app].kept.read.contains(number));
            let unread: Vec<String> = unread.map(|(.., json)| json.clone()).collect();
            if !unread.is_empty() {
                self.scroll_back(app, unread).await?;
            }
            for (number, owed, member, event_id, json) in of_app {
                let room = self.room(app).await?;
                let message = room.decrypt(json).await;
                drop(room);
                match self.fine(app, "decrypt", message)? {
                    Ok(message) => drop(self.read(app, &event_id, &message)?),
                    Err(error) if owed => {
                        let sealed = &self.ledger.messages[number];
                        let detail = format!(
                            "{} cannot read m{number} of {} in the epoch of {}: {error}",
                            self.apps[app].name, sealed.sender, sealed.epoch
                        );
                        return Err(Violation::new(Invariant::Readable, detail));
                    }
                    Err(_) => self.figures.excused += u64::from(member),
                }
            }
        }
        Ok(())
    }

    /// A person looks at old messages that no sync brought: the app feeds them, and what they need
    /// is fetched.
    async fn scroll_back(&mut self, app: usize, events: Vec<String>) -> Result<(), Violation> {
        self.feed(app, events).await?;
        match self.guarded(app, async |run: &mut Self| run.drive(app).await).await {
            Ok(()) | Err(Stop::Crashed) => {}
            Err(Stop::Violated(violation)) => return Err(violation),
        }
        self.feed(app, Vec::new()).await
    }

    /// An app feeds events otherwise than by a sync.
    pub(super) async fn feed(&mut self, app: usize, events: Vec<String>) -> Result<(), Violation> {
        let room = self.room(app).await?;
        let events = room.receive_events(events).await;
        let events = self.fine(app, "receive_events", events)?.map_err(Violation::simulator)?;
        let summary = matrix_mls::SyncSummary {
            rooms: vec![matrix_mls::RoomSummary { room_id: room.room_id(), events }],
            to_device: Vec::new(),
        };
        // Reading what was not meant for it is found here.
        self.take(app, &summary)
    }

    /// Whoever is out, by leaving or by logging out, and then gets hold of the whole room, still
    /// reads only what was meant for it.
    async fn secret(&mut self) -> Result<(), Violation> {
        let timeline: Vec<String> =
            self.world.timeline(0).map(|event| event.json.to_string()).collect();
        self.liar_opens_nothing()?;
        let out: Vec<usize> = (0..self.apps.len())
            .filter(|app| {
                let app = &self.apps[*app];
                !(app.alive && self.world.is_joined(app.name.user))
            })
            .collect();
        for app in out {
            self.feed(app, timeline.clone()).await?;
        }
        Ok(())
    }
}

fn names(names: &BTreeSet<Name>) -> String {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    names.join(", ")
}
