//! A device in very many rooms without a homeserver: what an app has on disk, and what a day's sync
//! brings.
//!
//! The other devices are plain OpenMLS, one a user. In each room two of them speak and the first
//! commits; the rest are leaves and published keys.

use std::{collections::HashMap, path::Path};

use eyre::ensure;
use matrix_mls::{MachineConfig, MlsMachine, RoomChanges, SyncChanges, ToDeviceResult};
use openmls::prelude::{KeyPackage, MlsGroup};
use serde_json::{Map, Value, json};

use crate::{
    Result, feed, news,
    peer::{ALGORITHM, KEY_PACKAGE, Peer, WELCOME_ALGORITHM, base64},
    tables::Tables,
};

const ME: &str = "@me:example.org";
/// How many users there are beside ours, a device each.
const USERS: usize = 200;
/// How many key packages an upload holds, so how many rooms are entered at once.
const BATCH: usize = 50;
/// Every how many rooms somebody renews their keys in a sync.
const COMMITS_IN: usize = 7;

/// Rooms, seen from the others in them.
pub struct ManyRooms {
    peers: Vec<Peer>,
    rooms: Vec<Room>,
    events: usize,
}

struct Room {
    id: String,
    /// Who made it and commits, and who else speaks.
    speakers: [usize; 2],
    /// The group as each of them has it; never absent between two calls.
    groups: [Option<MlsGroup>; 2],
    /// The event with the commit that made the current epoch. It is always the first who commits.
    commit_event: String,
}

/// How a device in many rooms is opened.
pub fn config(store: &Path) -> MachineConfig {
    crate::config(ME, "ME", store)
}

impl ManyRooms {
    /// Makes a device that is in a room of each of these sizes (3 to 200 devices), ready to send in
    /// all. Its store is closed again.
    pub async fn new(sizes: &[usize], store: &Path) -> Result<Self> {
        let peers: Vec<_> = (0..USERS)
            .map(|number| Peer::new(&format!("@user{number}:example.org"), &format!("D{number}")))
            .collect();
        let mut tables = Tables::default();
        for peer in &peers {
            tables.publish(&peer.user, &peer.device, peer.device_keys());
        }
        let mut all = Self { peers, rooms: Vec::new(), events: 0 };
        let machine = MlsMachine::open(config(store)).await?;
        for batch in sizes.chunks(BATCH) {
            let packages = key_packages(&machine, &mut tables).await?;
            let mut sync = feed();
            for (size, package) in batch.iter().zip(packages) {
                let (welcome, changes) = all.found(*size, package);
                sync.to_device.push(welcome.to_string());
                sync.rooms.push(changes);
            }
            let summary = machine.receive_sync(sync).await?;
            for result in summary.to_device {
                ensure!(matches!(result, ToDeviceResult::Joined { .. }), "{result:?}");
            }
        }
        for room in &all.rooms {
            let room = machine.room(room.id.clone())?;
            tables.make_ready(&machine, &room).await?;
        }
        machine.shutdown().await?;
        Ok(all)
    }

    /// A new room of so many devices: the Welcome for ours, and what a sync says of it.
    fn found(&mut self, size: usize, package: KeyPackage) -> (Value, RoomChanges) {
        let number = self.rooms.len();
        let id = format!("!room{number}:example.org");
        let members: Vec<usize> = (0..size - 1).map(|next| (number + next) % USERS).collect();
        let speakers = [members[0], members[1]];
        let mut packages: Vec<_> =
            members[1..].iter().map(|member| self.peers[*member].key_package()).collect();
        packages.push(package);
        let founder = &mut self.peers[speakers[0]];
        founder.create(&id, true);
        let (_, welcome) = founder.add(&packages);
        let first = founder.group.take();
        let (user, device) = (founder.user.clone(), founder.device.clone());
        let other = &mut self.peers[speakers[1]];
        other.join(&welcome);
        let second = other.group.take();

        let commit_event = self.event_id();
        let to_device = json!({
            "type": "m.room.encrypted", "sender": user,
            "content": {
                "algorithm": WELCOME_ALGORITHM, "ciphertext": base64(&welcome), "room_id": id,
                "sender": [user, device], "resolves": [], "commit_event": commit_event,
            },
        });
        let mut state = vec![json!({
            "type": "m.room.create", "state_key": "", "event_id": self.event_id(), "sender": user,
            "content": { "encryption": { "algorithm": ALGORITHM } },
        })];
        let users = members.iter().map(|member| self.peers[*member].user.clone());
        for user in users.chain([ME.to_owned()]).collect::<Vec<_>>() {
            state.push(json!({
                "type": "m.room.member", "state_key": user, "sender": user,
                "event_id": self.event_id(), "content": { "membership": "join" },
            }));
        }
        // As changes, not as the state before some: then nothing is in doubt, and nobody has to be
        // asked.
        let timeline = state.iter().map(Value::to_string).collect();
        self.rooms.push(Room { id: id.clone(), speakers, groups: [first, second], commit_event });
        (to_device, news(&id, timeline))
    }

    /// The response to a `/v3/sync` with so many events in each room. In some rooms one of them is
    /// a commit that renews keys; all others are messages.
    pub fn sync(&mut self, events_in_each: usize) -> String {
        let mut joined = Map::new();
        for number in 0..self.rooms.len() {
            let mut timeline = Vec::with_capacity(events_in_each);
            for event in 0..events_in_each {
                let is_commit = number % COMMITS_IN == 0 && event == events_in_each / 2;
                timeline.push(if is_commit { self.commit(number) } else { self.message(number) });
            }
            let id = self.rooms[number].id.clone();
            joined.insert(id, json!({ "timeline": { "events": timeline, "limited": false } }));
        }
        json!({ "next_batch": "later", "rooms": { "join": joined } }).to_string()
    }

    fn message(&mut self, room: usize) -> Value {
        let event_id = self.event_id();
        let Self { peers, rooms, .. } = self;
        let room = &mut rooms[room];
        let speaker = self.events % 2;
        let peer = &mut peers[room.speakers[speaker]];
        let text = "a text of the length that people write to each other, more or less";
        let plaintext = Peer::plaintext(&room.id, text);
        peer.group = room.groups[speaker].take();
        let bytes = peer.seal(&plaintext);
        room.groups[speaker] = peer.group.take();
        let founder = &peers[room.speakers[0]];
        let content = json!({
            "algorithm": ALGORITHM, "ciphertext": base64(&bytes),
            "epoch_creator": [founder.user, founder.device], "commit_event": room.commit_event,
        });
        event(&event_id, &peers[room.speakers[speaker]], content)
    }

    fn commit(&mut self, room: usize) -> Value {
        let event_id = self.event_id();
        let Self { peers, rooms, .. } = self;
        let room = &mut rooms[room];
        let [first, second] = &mut room.groups;
        let founder = &mut peers[room.speakers[0]];
        founder.group = first.take();
        let commit = founder.update();
        let state = founder.group_info();
        *first = founder.group.take();
        let name = [founder.user.clone(), founder.device.clone()];
        let content = json!({
            "algorithm": ALGORITHM, "ciphertext": base64(&commit), "sender": name, "resolves": [],
            "epoch_creator": name, "commit_event": room.commit_event,
            "public_group_state": base64(&state),
        });
        let other = &mut peers[room.speakers[1]];
        other.group = second.take();
        other.process(&commit);
        *second = other.group.take();
        room.commit_event.clone_from(&event_id);
        event(&event_id, &peers[room.speakers[0]], content)
    }

    fn event_id(&mut self) -> String {
        self.events += 1;
        format!("${:0>43}", self.events)
    }
}

fn event(event_id: &str, sender: &Peer, content: Value) -> Value {
    json!({
        "type": "m.room.encrypted", "event_id": event_id, "sender": sender.user,
        "origin_server_ts": 1_764_000_000_000_u64, "unsigned": { "age": 1000 }, "content": content,
    })
}

/// Has the machine upload fresh key packages; gives them.
async fn key_packages(machine: &MlsMachine, tables: &mut Tables) -> Result<Vec<KeyPackage>> {
    let counts = HashMap::from([(KEY_PACKAGE.to_owned(), 0)]);
    let sync = SyncChanges { one_time_key_counts: Some(counts), ..feed() };
    machine.receive_sync(sync).await?;
    tables.take_key_packages(machine).await
}
