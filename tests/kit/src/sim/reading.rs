//! Syncing, and looking at what it made readable.

use matrix_mls::{
    DecryptedMessage, EventOutcome, RoomChanges, SyncChanges, SyncSummary, ToDeviceResult,
    test_hooks::tried_events,
};
use serde_json::Value;

use super::{
    app::{App, Kept},
    ledger::message_of,
    liar,
    run::{Run, Stop},
    violation::{Invariant, Violation},
    world::{Name, user_id},
};

impl Run {
    /// Syncs, and sends what that brings up.
    pub(super) async fn sync(&mut self, app: usize, forgets: bool) -> Result<(), Stop> {
        let late = self.dice.percent(50);
        if !late {
            self.answer_held(app).await?;
        }
        if self.apps[app].slides {
            self.slide(app, forgets).await?;
        } else {
            self.sync_whole(app, forgets).await?;
        }
        if late {
            self.answer_held(app).await?;
        }
        self.drive(app).await?;
        if self.apps[app].slides {
            // Most commits come by no sync.
            self.note_entries(app).await?;
        }
        Ok(())
    }

    /// Syncs by `/v3/sync`.
    async fn sync_whole(&mut self, app: usize, forgets: bool) -> Result<(), Stop> {
        let name = self.apps[app].name.clone();
        let since = self.apps[app].kept.since;
        let (changes, next) = self.world.sync(&name, since);
        if since.is_none() && changes.rooms.is_empty() {
            self.not_in_the_room(app).await?;
        }
        self.take_in(app, changes).await?;
        if !forgets {
            self.apps[app].keep_place(next);
        }
        Ok(())
    }

    /// Gives what a sync brought to the machine, and looks at what it made readable.
    pub(super) async fn take_in(&mut self, app: usize, changes: SyncChanges) -> Result<(), Stop> {
        let to_device = changes.to_device.clone();
        let is_news = !changes.rooms.is_empty() || !to_device.is_empty();
        for room in &changes.rooms {
            let RoomChanges { state, timeline, state_after, .. } = room;
            self.follow_members(app, state.iter().chain(timeline).chain(state_after));
        }
        let machine = self.open(app).await?;
        let before = tried_events();
        let summary = machine.receive_sync(changes).await;
        drop(machine);
        self.figures.tried = self.figures.tried.max(tried_events() - before);
        let summary = self.fine(app, "receive_sync", summary)?.map_err(Violation::simulator)?;
        self.take(app, &summary)?;
        self.note_welcomes(app, &to_device, &summary);
        if is_news {
            self.note_entries(app).await?;
        }
        Ok(())
    }

    /// A sync that begins anew does not have a room that its app knows: it was left meanwhile.
    pub(super) async fn not_in_the_room(&mut self, app: usize) -> Result<(), Stop> {
        if std::mem::take(&mut self.apps[app].kept.joined).is_empty() {
            return Ok(());
        }
        self.apps[app].kept.entries.clear();
        let room = self.room(app).await?;
        let left = room.leave().await;
        drop(room);
        drop(self.fine(app, "leave", left)?);
        Ok(())
    }

    /// The app's own view of who is joined, by events that its server has shown it, old or new.
    pub(super) fn follow_members<'a>(
        &mut self,
        app: usize,
        events: impl Iterator<Item = &'a String>,
    ) {
        let (own, server) = (self.apps[app].name.user_id(), self.apps[app].name.server());
        for json in events.filter(|json| json.contains(r#""m.room.member""#)) {
            let event: Value = serde_json::from_str(json).unwrap_or_default();
            let user = event["state_key"].as_str().unwrap_or_default().to_owned();
            let id = event["event_id"].as_str().unwrap_or_default().to_owned();
            let at = self.world.place_of(server, &id).unwrap_or_default();
            let kept = &mut self.apps[app].kept;
            let known = kept.told.entry(user.clone()).or_default();
            if *known > at {
                continue;
            }
            *known = at;
            if event["content"]["membership"] == "join" {
                kept.joined.insert(user, id);
            } else {
                kept.joined.remove(&user);
                if user == own {
                    kept.entries.clear();
                }
            }
        }
    }

    /// The same by the full list as it was at a position: whoever is not in it was not in the room.
    pub(super) fn follow_list(&mut self, app: usize, members: &[String], position: u64) {
        self.follow_members(app, members.iter());
        let is_listed = |user: &String| {
            let key = format!(r#""state_key":"{user}""#);
            members.iter().any(|json| json.contains(&key))
        };
        let Kept { joined, told, .. } = &mut self.apps[app].kept;
        joined.retain(|user, _| {
            let known = told.entry(user.clone()).or_default();
            if *known > position || is_listed(user) {
                return true;
            }
            *known = position;
            false
        });
    }

    /// Looks at what a sync made readable, and at what it could not use.
    pub(super) fn take(&mut self, app: usize, summary: &SyncSummary) -> Result<(), Violation> {
        let mut seen = Vec::new();
        for event in summary.rooms.iter().flat_map(|room| &room.events) {
            let id = event.event_id.as_deref().unwrap_or_default();
            let now_ms = self.world.now_ms;
            self.apps[app].seen_ms.entry(id.to_owned()).or_insert(now_ms);
            match &event.outcome {
                EventOutcome::Message { message } => match self.read(app, id, message)? {
                    Some(number) => seen.push(format!("m{number}")),
                    None => seen.push(format!("{id} of mal's")),
                },
                EventOutcome::Commit { epoch, .. } => seen.push(format!("commit {id} to {epoch}")),
                EventOutcome::Waiting { error } => {
                    self.no_defect(app, "an event", error)?;
                    self.count(format!("waiting: {}", error.code()));
                    seen.push(format!("{id} waits, {}", error.code()));
                }
                EventOutcome::Failed { error } => {
                    self.no_defect(app, "an event", error)?;
                    self.count(format!("failed: {}", error.code()));
                    seen.push(format!("{id} fails, {}", error.code()));
                }
                _ => {}
            }
        }
        for result in &summary.to_device {
            match result {
                ToDeviceResult::Joined { epoch, .. } => seen.push(format!("joined at {epoch}")),
                ToDeviceResult::Failed { error } => {
                    self.no_defect(app, "a Welcome", error)?;
                    self.count(format!("Welcome failed: {}", error.code()));
                    seen.push(format!("a Welcome fails, {}", error.code()));
                }
                _ => {}
            }
        }
        if !seen.is_empty() {
            self.note(format!("{}: {}", self.apps[app].name, seen.join("; ")));
        }
        Ok(())
    }

    /// A Welcome whose key package went with an older store is as good as lost.
    fn note_welcomes(&mut self, app: usize, events: &[String], summary: &SyncSummary) {
        if self.apps[app].forgotten.is_empty() && self.apps[app].off.years == 0 {
            return;
        }
        for (json, result) in events.iter().zip(&summary.to_device) {
            if let ToDeviceResult::Failed { .. } = result {
                let event: Value = serde_json::from_str(json).unwrap_or_default();
                let commit = event["content"]["commit_event"].as_str().unwrap_or_default();
                self.world.lost.insert((self.apps[app].name.clone(), commit.to_owned()));
            }
        }
    }

    /// Notes by which commits the device has come into the group. A Welcome of the hostile member's
    /// is none: it may name the event of another's commit.
    pub(super) async fn note_entries(&mut self, app: usize) -> Result<(), Violation> {
        let room = self.room(app).await?;
        let epochs = room.epochs().await;
        let Ok(epochs) = self.fine(app, "epochs", epochs)? else { return Ok(()) };
        let Name { device: own_device, .. } = self.apps[app].name.clone();
        let own_user = self.apps[app].name.user_id();
        let now_ms = self.world.now_ms;
        let App { kept, seen_ms, slides, .. } = &mut self.apps[app];
        for epoch in epochs {
            if let Some(event) = epoch.commit_event.as_ref().filter(|_| *slides) {
                seen_ms.entry(event.clone()).or_insert(now_ms);
            }
            let own = (&*epoch.creator_user_id, &*epoch.creator_device_id);
            let joined = epoch.is_external && own == (&*own_user, &*own_device);
            let by_the_liar = epoch.creator_user_id == user_id(liar::USER);
            if let Some(event) = epoch.commit_event
                && (joined || (epoch.parent.is_none() && !by_the_liar))
                && kept.all_entries.insert(event.clone())
            {
                kept.entries.insert(event);
            }
        }
        Ok(())
    }

    /// A device has read a message: it must be one that was meant for it, and as it was sent.
    pub(super) fn read(
        &mut self,
        app: usize,
        event_id: &str,
        message: &DecryptedMessage,
    ) -> Result<Option<usize>, Violation> {
        let name = self.apps[app].name.clone();
        let event = self.world.event(event_id);
        let transaction = event.and_then(|event| event.transaction.as_deref()).unwrap_or_default();
        if transaction.starts_with(liar::SAID) && message.sender_user_id == user_id(liar::USER) {
            return Ok(None);
        }
        let number = event.and_then(|event| message_of(event));
        let sealed = number.and_then(|number| Some((number, self.ledger.messages.get(number)?)));
        let Some((number, sealed)) = sealed else {
            let detail = format!("{name} reads {event_id}, which nobody sent");
            return Err(Violation::new(Invariant::Authentic, detail));
        };
        let content: Value = serde_json::from_str(&message.content).unwrap_or_default();
        let is_sender = message.sender_user_id == sealed.sender.user_id()
            && message.sender_device_id == sealed.sender.device;
        if content["body"] != sealed.text.as_str() || !is_sender {
            let detail = format!("{name} reads m{number} as {content}");
            return Err(Violation::new(Invariant::Authentic, detail));
        }
        if !sealed.members.contains(&name) {
            let detail = format!("{name} reads m{number}, and was no member for its sender");
            return Err(Violation::new(Invariant::Secret, detail));
        }
        self.apps[app].kept.read.insert(number);
        Ok(Some(number))
    }
}
