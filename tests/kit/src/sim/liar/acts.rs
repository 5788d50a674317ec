//! What each lie is.
//!
//! A lie that cannot be told (no epoch to stand on, no key package to be had) is an error, which
//! the simulation notes and passes over.

use openmls::prelude::{HashType, OpenMlsCrypto as _, OpenMlsProvider as _};
use serde_json::{Value, json};

use super::{
    Liar, NEVER, SAID, USER,
    client::{Client, Place},
    contents::{NOWHERE, forge_header},
};
use crate::{
    OrMissing as _, Result, bail,
    peer::{KEY_PACKAGE, from_base64, identity},
    sim::{
        dice::Dice,
        lie::Lie,
        world::{Event, Name, ROOM, USERS, World, user_id},
    },
};

/// The servers' numbers.
const EVERYWHERE: [usize; 3] = [0, 1, 2];
/// The largest number that the library takes for an epoch's.
const LARGEST: u64 = 1 << 48;

/// Where a lie is told, and to whom.
pub(in crate::sim) struct Stage<'a> {
    pub(in crate::sim) world: &'a mut World,
    pub(in crate::sim) dice: &'a mut Dice,
    /// The honest devices that are logged in.
    pub(in crate::sim) devices: &'a [Name],
}

impl Stage<'_> {
    fn device(&self, number: u8) -> Result<Name> {
        let device = self.devices.get(usize::from(number) % self.devices.len().max(1));
        device.cloned().or_missing("device to lie to")
    }

    /// Some event of the group, by anybody honest.
    fn event(&mut self) -> Option<std::sync::Arc<Event>> {
        let liar = user_id(USER);
        let others = |event: &&std::sync::Arc<Event>| event.sender != liar && event.is_encrypted();
        let events: Vec<_> = self.world.timeline(2).filter(others).cloned().collect();
        let number = self.dice.below(events.len() as u64) as usize;
        events.get(number).cloned()
    }

    /// The newest commit, by anybody honest.
    fn commit(&self) -> Option<std::sync::Arc<Event>> {
        let liar = user_id(USER);
        let commits = self.world.timeline(2).filter(|event| event.is_commit());
        commits.filter(|event| event.sender != liar).last().cloned()
    }
}

impl Liar {
    /// Tells a lie; says what it was.
    pub(in crate::sim) fn tell(&mut self, stage: &mut Stage<'_>, lie: Lie) -> Result<String> {
        self.follow(stage.world);
        match lie {
            Lie::Renumber => self.renumber(stage),
            Lie::Nowhere { commits } => self.nowhere(stage, commits),
            Lie::FalseWelcome { device } => self.false_welcome(stage, device),
            Lie::Equivocate => self.equivocate(stage),
            Lie::Branch { commits } => {
                let from = self.stand_somewhere(stage)?;
                self.commits(stage, from, commits, &EVERYWHERE)
            }
            Lie::Oust { device, all } => self.oust(stage, device, all),
            Lie::Ghost { user } => self.ghost(stage, user),
            Lie::Replay => self.replay(stage),
            Lie::Garbage => self.garbage(stage),
            Lie::FalseClaims => self.false_claims(stage),
            Lie::Offer { device } => self.offers(stage, device),
            Lie::SealAgain => self.seal_again(stage),
            Lie::Say => {
                let place = self.stand_somewhere(stage)?;
                self.say(stage, &place)
            }
            Lie::OwnGroup { commits } => self.own_group(stage, commits),
            Lie::JoinAgain => self.join_again(stage),
        }
    }

    /// It is in the epoch that came last, or in an earlier one.
    fn stand_somewhere(&mut self, stage: &mut Stage<'_>) -> Result<Place> {
        let earlier = if stage.dice.percent(60) { 0 } else { self.places.len() as u64 };
        let back = stage.dice.below(earlier) as usize;
        let place = self.places.iter().rev().nth(back).cloned().or_missing("epoch of its own")?;
        self.client.stand(&place)?;
        Ok(place)
    }

    /// Sends an event to servers; its id.
    fn send(&mut self, stage: &mut Stage<'_>, mark: &str, content: &Value, to: &[usize]) -> String {
        self.sent += 1;
        let transaction = format!("{mark}{}", self.sent);
        stage.world.forge(USER, &content.to_string(), &transaction, to, stage.dice)
    }

    /// A commit of its own goes out, and it goes on from there.
    fn go_on(&mut self, stage: &mut Stage<'_>, content: &Value, to: &[usize]) -> Result<Place> {
        let event = self.send(stage, "liar-", content, to);
        let place = self.client.place(&event, self.tag())?;
        self.keep(place.clone());
        Ok(place)
    }

    /// Renews its keys so many times, from an epoch on.
    fn commits(
        &mut self,
        stage: &mut Stage<'_>,
        from: Place,
        commits: u8,
        to: &[usize],
    ) -> Result<String> {
        let mut on = from;
        for _ in 0..commits {
            let commit = self.client.renew()?;
            let state = self.client.state()?;
            let content = self.commit(&commit, &on, &state);
            on = self.go_on(stage, &content, to)?;
        }
        Ok(format!("{commits} commits, up to {} with number {}", on.event, on.number))
    }

    fn renumber(&mut self, stage: &mut Stage<'_>) -> Result<String> {
        let place = self.stand_somewhere(stage)?;
        let far = [1, 2, 3, 100, 1 << 20, LARGEST - place.number, LARGEST];
        let number = place.number + far[stage.dice.below(far.len() as u64) as usize];
        let content = match stage.dice.below(3) {
            0 => {
                let state = self.client.peer.forged_group_info(number);
                self.announcement(&state)
            }
            shape => {
                let mut commit = self.client.renew()?;
                if shape == 2 {
                    forge_header(&mut commit, number - 1);
                }
                let state = self.client.peer.forged_group_info(number);
                let mut content = self.commit(&commit, &place, &state);
                if stage.dice.percent(50) {
                    content["commit_event"] = json!(format!("{NOWHERE}-{}", self.sent));
                }
                content
            }
        };
        let event = self.send(stage, "liar-", &content, &EVERYWHERE);
        Ok(format!("{event} has number {number} instead of {}", place.number))
    }

    fn nowhere(&mut self, stage: &mut Stage<'_>, commits: u8) -> Result<String> {
        let place = self.stand_somewhere(stage)?;
        let base = format!("{NOWHERE}-{}", self.sent);
        let mut on = place;
        on.event = base;
        self.commits(stage, on, commits, &EVERYWHERE)
    }

    /// A key package of a device, as its server hands it out.
    fn claim(&self, stage: &mut Stage<'_>, of: &Name) -> Result<openmls::prelude::KeyPackage> {
        let asked =
            json!({ "one_time_keys": { of.user_id(): { of.device.clone(): KEY_PACKAGE } } });
        let path = "/_matrix/client/v3/keys/claim";
        let answer = stage.world.ask(&self.name, "POST", path, &asked, stage.dice);
        let keys = answer["one_time_keys"][of.user_id()][&of.device].as_object();
        let key = keys.and_then(|keys| keys.values().next()).and_then(Value::as_str);
        self.client.read_package(&from_base64(key.or_missing("key package")?))
    }

    fn send_to_device(&mut self, stage: &mut Stage<'_>, to: &Name, content: &Value) {
        self.sent += 1;
        let path = format!("/_matrix/client/v3/sendToDevice/m.room.encrypted/liar-{}", self.sent);
        let messages = json!({ "messages": { to.user_id(): { to.device.clone(): content } } });
        stage.world.ask(&self.name, "PUT", &path, &messages, stage.dice);
    }

    fn false_welcome(&mut self, stage: &mut Stage<'_>, device: u8) -> Result<String> {
        let to = stage.device(device)?;
        let package = self.claim(stage, &to)?;
        let (group, room) = match stage.dice.below(4) {
            0 => ("!other:one", ROOM),
            1 => ("!other:one", "!other:one"),
            _ => (ROOM, ROOM),
        };
        let event = match stage.dice.below(4) {
            0 => stage.event().map(|event| event.id.clone()),
            1 => None,
            _ => stage.commit().map(|event| event.id.clone()),
        };
        let event = event.unwrap_or_else(|| "$made-up:three".to_owned());
        let real = stage.dice.percent(25);
        if real {
            // Not of its own: of the room's group, without telling the others of the commit.
            self.stand_somewhere(stage)?;
        } else {
            self.client.restore(&self.home)?;
            let number = [0, 0, 3, 50, 1 << 21][stage.dice.below(5) as usize];
            self.client.peer.create_at(group, number);
        }
        let (_, welcome) = self.client.add(package)?;
        let place = self.client.place(&event, self.tag())?;
        let content = self.welcome(&welcome, room, &event);
        self.send_to_device(stage, &to, &content);
        if group == ROOM && !self.knows(&event) {
            self.keep(place);
        }
        Ok(format!("{to} is welcomed as if by {event}, real: {real}"))
    }

    fn equivocate(&mut self, stage: &mut Stage<'_>) -> Result<String> {
        let place = self.stand_somewhere(stage)?;
        let mut told = Vec::new();
        let first = stage.dice.below(3) as usize;
        for part in [vec![first], EVERYWHERE.into_iter().filter(|to| *to != first).collect()] {
            self.client.stand(&place)?;
            let members = self.client.members()?;
            let other = members.iter().find(|(leaf, _)| u64::from(leaf.u32()) % 3 == first as u64);
            let commit = match other {
                Some((leaf, name)) if *name != self.identity() && stage.dice.percent(40) => {
                    self.client.remove(&[*leaf])?
                }
                _ => self.client.renew()?,
            };
            let state = self.client.state()?;
            let content = self.commit(&commit, &place, &state);
            let on = self.go_on(stage, &content, &part)?;
            let more = stage.dice.below(3) as u8;
            self.commits(stage, on.clone(), more, &part)?;
            told.push(format!("{} and {more} more to {part:?}", on.event));
        }
        Ok(told.join(", "))
    }

    fn identity(&self) -> Vec<u8> {
        identity(&self.name.user_id(), &self.name.device)
    }

    fn oust(&mut self, stage: &mut Stage<'_>, device: u8, all: bool) -> Result<String> {
        let place = self.stand_somewhere(stage)?;
        let target = stage.device(device)?;
        let name = identity(&target.user_id(), &target.device);
        let own = self.identity();
        let members = self.client.members()?.into_iter();
        let out = members.filter(|(_, member)| *member != own && (all || *member == name));
        let leaves: Vec<_> = out.map(|(leaf, _)| leaf).collect();
        if leaves.is_empty() {
            bail!("{target} is no member there");
        }
        let commit = self.client.remove(&leaves)?;
        let state = self.client.state()?;
        let content = self.commit(&commit, &place, &state);
        let on = self.go_on(stage, &content, &EVERYWHERE)?;
        let who = if all { "everybody".to_owned() } else { target.to_string() };
        Ok(format!("{who} is removed by {}", on.event))
    }

    fn ghost(&mut self, stage: &mut Stage<'_>, user: u8) -> Result<String> {
        let place = self.stand_somewhere(stage)?;
        self.ghosts += 1;
        let name =
            Name { user: usize::from(user) % USERS.len(), device: format!("GHOST{}", self.ghosts) };
        let ghost = Client::new(&name.user_id(), &name.device);
        let (package, ..) = ghost.key_package()?;
        let (commit, _) = self.client.add(package)?;
        let state = self.client.state()?;
        let content = self.commit(&commit, &place, &state);
        stage.world.note_ghost(&name);
        let on = self.go_on(stage, &content, &EVERYWHERE)?;
        Ok(format!("{name} is added by {}", on.event))
    }

    fn replay(&mut self, stage: &mut Stage<'_>) -> Result<String> {
        let event = stage.event().or_missing("event to replay")?;
        let json: Value = serde_json::from_str(&event.json)?;
        let mut content = json["content"].clone();
        if event.is_commit() && stage.dice.percent(50) {
            content["sender"] = self.tag();
        }
        if stage.dice.percent(30)
            && let Some(place) = self.places.last()
        {
            content["commit_event"] = json!(place.event);
        }
        let again = self.send(stage, NEVER, &content, &EVERYWHERE);
        Ok(format!("{again} is {} again", event.id))
    }

    fn garbage(&mut self, stage: &mut Stage<'_>) -> Result<String> {
        let place = self.stand_somewhere(stage)?;
        let mut commit = self.client.renew()?;
        let end = commit.len();
        let kind = stage.dice.below(5);
        match kind {
            0 => commit[end - 1] ^= 1,
            1 => commit.truncate(end / 2),
            2 => commit[end / 2] ^= 0x55,
            3 => commit = b"no commit".to_vec(),
            _ => {}
        }
        let mut state = self.client.state()?;
        if stage.dice.percent(30) {
            let middle = state.len() / 2;
            state[middle] ^= 1;
        }
        let mut content = self.commit(&commit, &place, &state);
        if kind == 4 {
            let fields = ["epoch_creator", "resolves", "public_group_state", "sender"];
            let field = fields[stage.dice.below(4) as usize];
            content[field] = json!({ "not": ["what", 17] });
        }
        let event = self.send(stage, "liar-", &content, &EVERYWHERE);
        stage.world.garbage.insert(event.clone());
        Ok(format!("{event} is garbage of kind {kind} on {}", place.event))
    }

    fn false_claims(&mut self, stage: &mut Stage<'_>) -> Result<String> {
        let place = self.stand_somewhere(stage)?;
        let old = self.client.state()?;
        let commit = self.client.renew()?;
        let state = if stage.dice.percent(50) { old } else { self.client.state()? };
        let mut content = self.commit(&commit, &place, &state);
        if stage.dice.percent(50) {
            content["epoch_creator"] = json!(["@nobody:example.org", "X"]);
        }
        if stage.dice.percent(50) {
            content["resolves"] = json!([["99999999999999999999999", ["@ann:one", "D1"]]]);
        }
        if stage.dice.percent(30)
            && let Some(event) = stage.event()
        {
            content["commit_event"] = json!(event.id);
        }
        let on = self.go_on(stage, &content, &EVERYWHERE)?;
        Ok(format!("{} has claims beside it", on.event))
    }

    fn offers(&mut self, stage: &mut Stage<'_>, device: u8) -> Result<String> {
        let to = stage.device(device)?;
        let bundle = vec![0x5a_u8; 200 + stage.dice.below(2_000) as usize];
        let crypto = self.client.peer.provider.crypto();
        let mut hash = crypto.hash(HashType::Sha2_256, &bundle)?;
        if stage.dice.percent(30) {
            hash[0] ^= 1;
        }
        let url = stage.world.upload_for(&self.name, &bundle);
        let event = match self.places.last() {
            Some(place) if stage.dice.percent(60) => place.event.clone(),
            _ => stage.commit().map_or_else(|| "$none:three".to_owned(), |event| event.id.clone()),
        };
        let content = self.offer(&event, &url, bundle.len(), &hash);
        self.send_to_device(stage, &to, &content);
        Ok(format!("{to} is offered history by {event}"))
    }

    fn seal_again(&mut self, stage: &mut Stage<'_>) -> Result<String> {
        let place = self.stand_somewhere(stage)?;
        // Its own generations there: the first is 0 where it has said nothing yet.
        let far = 1_000 + stage.dice.below(1_000) as u32;
        let text = format!("never {}", self.sent);
        let content = self.message(&text, Some(far), &place)?;
        let event = self.send(stage, NEVER, &content, &EVERYWHERE);
        self.stay(&place)?;
        Ok(format!("{event} names generation {far}"))
    }

    /// What it has sealed in an epoch counts when it seals there again.
    fn stay(&mut self, place: &Place) -> Result {
        let now = self.client.place(&place.event, place.creator.clone())?;
        if let Some(known) = self.places.iter_mut().find(|known| known.event == place.event) {
            *known = now;
        }
        Ok(())
    }

    fn say(&mut self, stage: &mut Stage<'_>, place: &Place) -> Result<String> {
        let text = format!("liar {}", self.sent);
        let content = self.message(&text, None, place)?;
        let event = self.send(stage, SAID, &content, &EVERYWHERE);
        self.stay(place)?;
        Ok(format!("{event} is said in the epoch of {}", place.event))
    }

    fn own_group(&mut self, stage: &mut Stage<'_>, commits: u8) -> Result<String> {
        self.client.restore(&self.home)?;
        self.client.peer.create(ROOM, true);
        let state = self.client.state()?;
        let content = self.announcement(&state);
        let first = self.go_on(stage, &content, &EVERYWHERE)?;
        let told = self.commits(stage, first, commits, &EVERYWHERE)?;
        let last = self.places.last().cloned().or_missing("epoch of its own")?;
        self.say(stage, &last)?;
        Ok(format!("a group of its own: {told}"))
    }

    fn join_again(&mut self, stage: &mut Stage<'_>) -> Result<String> {
        let base = stage.commit().or_missing("commit to join on")?;
        let json: Value = serde_json::from_str(&base.json)?;
        let content = &json["content"];
        let state = content["public_group_state"].as_str().or_missing("public group state")?;
        self.client.restore(&self.home)?;
        let (_, commit) = self.client.peer.try_join_externally(&from_base64(state))?;
        let on = self.client.place(&base.id, content["sender"].clone())?;
        let state = self.client.state()?;
        let content = self.commit(&commit, &on, &state);
        let on = self.go_on(stage, &content, &EVERYWHERE)?;
        if stage.dice.percent(30) {
            self.say(stage, &on)?;
        }
        Ok(format!("it joins by itself with {}", on.event))
    }
}
