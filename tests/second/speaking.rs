//! What this client does in a room: begins a group, joins by itself, commits, says something.

use std::collections::{BTreeMap, BTreeSet};

use matrix_mls_kit::{Fields as _, OrMissing as _, Result, bail, eyre, schema};
use mls_rs::{ExtensionList, MlsMessage, group::CommitOutput};
use serde_json::{Value, json};

use crate::{
    client::{Second, segment},
    crypto::Secrets,
    events::{Commit, Message, Payload, Plaintext, Restart, Welcome},
    head::{Device, EpochId, Maker},
    mls::{MlsGroup, PackageFacts, device_in, members, package_message},
    names,
    room::{Claim, now_ms},
    taking::Arrival,
    wire::{base64, from_base64},
};

/// At most so many adds in one commit (E9).
const ADDS: usize = 500;
const DAY: u64 = 86_400;
/// How often keys are renewed (E12).
const MESSAGES: u32 = 100;

/// What a commit changes.
#[derive(Default)]
pub struct Change {
    /// Key packages as messages, and whose they are.
    adds: Vec<(Device, MlsMessage)>,
    /// Leaves to remove, and whose they are.
    removes: Vec<(u32, Maker)>,
}

impl Second {
    /// Creates a Matrix room of this protocol.
    pub async fn create_room(&mut self, invite: &[&str]) -> Result<String> {
        let request = json!({
            "preset": "private_chat", "invite": invite,
            "initial_state": [{
                "type": "m.room.encryption", "state_key": "", "content": { "algorithm": names::ROOM },
            }],
        });
        let answer = self.post("/_matrix/client/v3/createRoom", request).await?;
        let room = answer.text("room_id")?.to_owned();
        self.settle().await?;
        Ok(room)
    }

    /// Invites a user to a Matrix room.
    pub async fn invite(&mut self, room: &str, user: &str) -> Result {
        let path = format!("/_matrix/client/v3/rooms/{}/invite", segment(room));
        self.post(&path, json!({ "user_id": user })).await?;
        self.settle().await
    }

    /// Joins a Matrix room.
    pub async fn join(&mut self, room: &str) -> Result {
        let path = format!("/_matrix/client/v3/rooms/{}/join", segment(room));
        self.post(&path, json!({})).await?;
        self.settle().await
    }

    /// The epoch that it commits on and seals in.
    pub fn head(&mut self, room: &str) -> Result<EpochId> {
        let devices = &self.devices;
        let room = self.rooms.get_mut(room).or_missing("room")?;
        room.choose_head(devices, &self.device).or_missing("head")
    }

    /// Begins the room's first group (R2).
    pub async fn begin(&mut self, room: &str) -> Result {
        self.begin_group(room, room.as_bytes().to_vec()).await.map(drop)
    }

    /// The announcement's event id.
    async fn begin_group(&mut self, room: &str, group_id: Vec<u8>) -> Result<String> {
        let none = ExtensionList::new;
        let group = self.mls.client.create_group_with_id(group_id, none(), none(), None)?;
        let secrets = self.mls.crypto.noted();
        let create = self.room(room)?.create_event.clone().or_missing("m.room.create")?;
        let info = group.group_info_message_allowing_ext_commit(true)?.to_bytes()?;
        let content = Commit {
            algorithm: names::ROOM.into(),
            ciphertext: Payload::Inline(String::new()),
            epoch_creator: self.device.clone(),
            sender: self.device.clone(),
            resolves: Vec::new(),
            commit_event: create,
            public_group_state: Payload::Inline(base64(&info)),
            ratchet_tree: None,
            tree_difference: None,
        };
        let event = self.send_commit(room, &content).await?;
        self.take_own(room, group, secrets, &event, None, Vec::new())?;
        self.settle().await?;
        Ok(event)
    }

    /// Starts the room anew.
    pub async fn restart(&mut self, room: &str) -> Result {
        let head = self.head(room)?;
        let known = self.room(room)?;
        let replaces = known.epoch(head)?.commit_event.clone();
        let number = known.restarts.keys().last().copied().unwrap_or(0) + 1;
        let group_id = names::group_id(room, number, rand_bytes());
        let announcement = self.begin_group(room, group_id).await?;
        let content = serde_json::to_value(Restart { number, announcement, replaces })?;
        let path = format!("/_matrix/client/v3/rooms/{}/state/{}/", segment(room), names::RESTART);
        self.put(&path, content).await?;
        self.settle().await
    }

    /// The claims to join by, the best one first (E14, E15).
    fn claims_to_join_by(&mut self, room: &str) -> Result<Vec<(String, Claim)>> {
        if let Ok(head) = self.head(room)
            && self.is_up_to_date(room, head)?
        {
            return Ok(self.room(room)?.claims_ahead_of(head));
        }
        let known = self.room(room)?;
        let mut claims: Vec<(String, Claim)> =
            known.claims.iter().map(|(event, claim)| (event.clone(), claim.clone())).collect();
        claims.sort_by_cached_key(|(event, claim)| {
            let (whole, length) = way_back(&known.claims, event);
            (known.place(&claim.group_id), !whole, std::cmp::Reverse(length), claim.id)
        });
        Ok(claims)
    }

    /// Joins by an external commit.
    pub async fn join_externally(&mut self, room: &str) -> Result {
        let me = self.device.clone();
        self.join_in_place_of(room, &me).await
    }

    /// The same in the place of a device, which is this very device's older self unless it lies.
    pub async fn join_in_place_of(&mut self, room: &str, removed: &Device) -> Result {
        let claims = self.claims_to_join_by(room)?;
        for (event, claim) in claims {
            let Ok(tree) = self.checked_tree(&claim).await else { continue };
            let me = self.device.clone();
            let older =
                members(&tree).into_iter().find(|(_, device, _)| device.as_ref() == Some(removed));
            let mut builder = self.mls.client.external_commit_builder()?.with_tree_data(tree);
            if let Some((leaf, ..)) = &older {
                builder = builder.with_removal(*leaf);
            }
            let (group, commit) = builder.build(MlsMessage::from_bytes(&claim.state)?)?;
            let secrets = self.mls.crypto.noted();
            let inline = group.roster().members_iter().count() <= 80;
            let info = group.group_info_message_allowing_ext_commit(inline)?.to_bytes()?;
            let tree = if inline { None } else { Some(group.export_tree().to_bytes()?) };
            let tree = match tree {
                Some(tree) => Some(self.upload(tree).await?),
                None => None,
            };
            let content = Commit {
                algorithm: names::ROOM.into(),
                ciphertext: self.payload(commit.to_bytes()?).await?,
                epoch_creator: claim.sender.clone(),
                sender: me.clone(),
                resolves: Vec::new(),
                commit_event: event,
                public_group_state: Payload::Inline(base64(&info)),
                ratchet_tree: tree,
                tree_difference: None,
            };
            let event = self.send_commit(room, &content).await?;
            let older = older.map(|(_, _, key)| Maker {
                device: removed.clone(),
                is_impostor: self.devices.conflicts(removed, &key),
            });
            let removes = older.into_iter().collect();
            self.take_own(room, group, secrets, &event, None, removes)?;
            return self.settle().await;
        }
        bail!("there is no claim to join by")
    }

    async fn send_commit(&mut self, room: &str, content: &Commit) -> Result<String> {
        let event = self.send(room, "m.room.encrypted", content).await?;
        self.room(room)?.own.insert(event.clone());
        Ok(event)
    }

    fn take_own(
        &mut self,
        room: &str,
        group: MlsGroup,
        secrets: Secrets,
        event: &str,
        parent: Option<EpochId>,
        removes: Vec<Maker>,
    ) -> Result<EpochId> {
        let arrival = Arrival {
            group,
            creator: self.device.clone(),
            commit_event: event.to_owned(),
            parent,
            removes,
            joined_as_outsider: false,
            by_impostor: false,
        };
        let new = self.arrive(room, arrival, secrets)?;
        let me = self.device.clone();
        if parent.is_some() {
            self.room(room)?.hear(&me, new, now_ms());
        }
        Ok(new)
    }

    /// Commits on the head, and sends the Welcomes (R7, R12).
    pub async fn commit(&mut self, room: &str, change: Change) -> Result<EpochId> {
        let base = self.head(room)?;
        let known = self.room(room)?;
        let resolves = known.other_ends(base);
        let epoch = known.epoch(base)?;
        let (creator, commit_event) =
            (epoch.creator.clone(), epoch.commit_event.clone().or_missing("commit event")?);
        let mut group = epoch.group.clone().or_missing("state")?;
        let mut builder = group.commit_builder();
        for (_, package) in &change.adds {
            builder = builder.add_member(package.clone())?;
        }
        for (leaf, _) in &change.removes {
            builder = builder.remove_member(*leaf)?;
        }
        let made = builder.build()?;
        let secrets = self.mls.crypto.noted();
        // The ratchet that sealed this commit has moved on, whatever becomes of the commit.
        let mut moved = group.clone();
        moved.clear_pending_commit();
        self.room(room)?.epoch(base)?.group = Some(moved);
        let info = made.external_commit_group_info.as_ref().or_missing("GroupInfo")?.to_bytes()?;
        let tree = match &made.ratchet_tree {
            Some(tree) => Some(self.upload(tree.to_bytes()?).await?),
            None => None,
        };
        let content = Commit {
            algorithm: names::ROOM.into(),
            ciphertext: self.payload(made.commit_message.to_bytes()?).await?,
            epoch_creator: creator,
            sender: self.device.clone(),
            resolves,
            commit_event,
            public_group_state: Payload::Inline(base64(&info)),
            ratchet_tree: tree,
            tree_difference: None,
        };
        let event = self.send_commit(room, &content).await?;
        group.apply_pending_commit()?;
        let removes = change.removes.iter().map(|(_, gone)| gone.clone()).collect();
        let new = self.take_own(room, group, secrets, &event, Some(base), removes)?;
        self.send_welcomes(room, &content, &event, &change, &made).await?;
        Ok(new)
    }

    async fn send_welcomes(
        &self,
        room: &str,
        commit: &Commit,
        event: &str,
        change: &Change,
        made: &CommitOutput,
    ) -> Result {
        let suite = crate::opening::suite()?;
        let mut whose = BTreeMap::new();
        for (device, package) in &change.adds {
            let reference = package.key_package_reference(&suite)?.or_missing("KeyPackageRef")?;
            whose.insert(reference.to_vec(), device);
        }
        for welcome in &made.welcome_messages {
            let references = welcome.welcome_key_package_references();
            let [reference] = &*references else { bail!("a Welcome for several devices") };
            let content = Welcome {
                algorithm: names::WELCOME.into(),
                ciphertext: base64(&welcome.to_bytes()?),
                room_id: room.to_owned(),
                sender: self.device.clone(),
                resolves: commit.resolves.clone(),
                commit_event: event.to_owned(),
                ratchet_tree: commit.ratchet_tree.clone(),
                tree_difference: commit.tree_difference.clone(),
            };
            let to = whose.get(&reference.to_vec()).or_missing("whose Welcome it is")?;
            self.send_to(to, &content).await?;
        }
        Ok(())
    }

    /// Renews this device's keys.
    pub async fn renew(&mut self, room: &str) -> Result<EpochId> {
        self.commit(room, Change::default()).await
    }

    /// Makes the group's members those who may be in it (E8, E9).
    pub async fn make_ready(&mut self, room: &str) -> Result {
        self.settle().await?;
        let mut unreachable = BTreeSet::new();
        for _ in 0..20 {
            let head = self.head(room)?;
            if self.room(room)?.is_left(head) || !self.is_up_to_date(room, head)? {
                bail!("this device is not in the room's group");
            }
            let known = self.room(room)?;
            let users = known.users();
            let group = known.epoch(head)?.group.as_ref().or_missing("state")?;
            let leaves = members(&group.export_tree());
            let own_leaf = group.current_member_index();
            let mut wanted: BTreeSet<Device> =
                users.iter().flat_map(|user| self.devices.trusted_of(user)).collect();
            let mut change = Change::default();
            for (leaf, device, key) in leaves {
                let fits = device.as_ref().is_some_and(|device| {
                    wanted.contains(device) && self.devices.is_key_of(device, &key, None)
                });
                match device {
                    Some(device) if fits => drop(wanted.remove(&device)),
                    device if leaf != own_leaf => {
                        let device = device.unwrap_or_default();
                        let is_impostor = self.devices.conflicts(&device, &key);
                        change.removes.push((leaf, Maker { device, is_impostor }));
                    }
                    _ => {}
                }
            }
            wanted.remove(&self.device);
            let missing: Vec<Device> =
                wanted.difference(&unreachable).take(ADDS).cloned().collect();
            for device in missing {
                match self.claim_package(&device).await {
                    Ok(package) => change.adds.push((device, package)),
                    Err(_) => drop(unreachable.insert(device)),
                }
            }
            let epoch = self.room(room)?.epoch(head)?;
            if change.adds.is_empty() && change.removes.is_empty() && epoch.sealed < MESSAGES {
                return Ok(());
            }
            self.commit(room, change).await?;
            self.settle().await?;
        }
        bail!("the members do not come to rest")
    }

    /// A key package of a device, checked (D11, D12, D14).
    async fn claim_package(&mut self, device: &Device) -> Result<MlsMessage> {
        for name in [names::KEY_PACKAGE.to_owned(), names::stable(names::KEY_PACKAGE)] {
            let request = json!({ "one_time_keys": { &device.0: { &device.1: name } } });
            let answer = self.post("/_matrix/client/v3/keys/claim", request).await?;
            let found = answer["one_time_keys"][&device.0][&device.1].as_object();
            let value = found.and_then(|found| found.values().next());
            if let Some(text) = value.and_then(Value::as_str) {
                return self.check_package(device, &from_base64(text)?);
            }
        }
        bail!("no key package of {device:?}")
    }

    fn check_package(&mut self, device: &Device, bytes: &[u8]) -> Result<MlsMessage> {
        let message = package_message(bytes)?;
        let identity = message.as_key_package().or_missing("key package")?.signing_identity();
        let facts = PackageFacts::read(bytes)?;
        let key = &identity.signature_key;
        if device_in(identity)? != *device
            || !self.devices.is_key_of(device, key, facts.binding.as_deref())
        {
            bail!("the key package is another's");
        }
        let (from, to) = facts.lifetime;
        let now = now_ms() / 1000;
        let lifetime = to.saturating_sub(from);
        let needed = if lifetime < 240 * DAY { lifetime / 4 } else { 60 * DAY };
        if from > now || to < now + needed || to > now + 100 * 366 * DAY {
            bail!("its lifetime is {from} to {to}");
        }
        Ok(message)
    }

    /// Says a text in the head; the event's id.
    pub async fn say(&mut self, room: &str, text: &str) -> Result<String> {
        self.make_ready(room).await?;
        let event = self.say_at_once(room, text).await?;
        self.settle().await?;
        Ok(event)
    }

    /// Says a text in the head as it knows it, and looks at nothing before or after.
    pub async fn say_at_once(&mut self, room: &str, text: &str) -> Result<String> {
        let head = self.head(room)?;
        let content = self.seal(room, head, text)?;
        self.send(room, "m.room.encrypted", &content).await
    }

    /// Seals a text in an epoch.
    fn seal(&mut self, room: &str, id: EpochId, text: &str) -> Result<Message> {
        let epoch = self.room(room)?.epoch(id)?;
        let plaintext = Plaintext {
            kind: "m.room.message".into(),
            content: json!({ "msgtype": "m.text", "body": text }),
            room_id: room.to_owned(),
            generation: Some(epoch.sealed),
        };
        let group = epoch.group.as_mut().or_missing("state")?;
        let plaintext = serde_json::to_value(plaintext)?;
        schema::fits("plaintext", &plaintext).map_err(|fault| eyre!(fault))?;
        let plaintext = plaintext.to_string().into_bytes();
        let sealed = group.encrypt_application_message(&plaintext, Vec::new())?;
        epoch.sealed += 1;
        Ok(Message {
            algorithm: names::ROOM.into(),
            ciphertext: base64(&sealed.to_bytes()?),
            epoch_creator: epoch.creator.clone(),
            commit_event: epoch.commit_event.clone().or_missing("commit event")?,
        })
    }
}

/// Whether the events before a claim lead to an announcement, and how many they are.
fn way_back(claims: &BTreeMap<String, Claim>, event: &str) -> (bool, usize) {
    let mut length = 0;
    let mut at = event;
    while let Some(claim) = claims.get(at)
        && length < claims.len()
    {
        length += 1;
        if claim.is_announcement {
            return (true, length);
        }
        at = &claim.base;
    }
    (false, length)
}

/// Random bytes of a group id.
fn rand_bytes() -> [u8; 16] {
    let mut bytes = [0; 16];
    let suite = crate::opening::suite();
    let made = suite
        .is_ok_and(|suite| mls_rs::CipherSuiteProvider::random_bytes(&suite, &mut bytes).is_ok());
    assert!(made, "there are random bytes");
    bytes
}
