//! One device's app: its machine, and what it keeps beside the machine's store.
//!
//! It does what README.md tells an app to do. A crash takes the machine and what was in memory;
//! what is in [`Kept`] was on disk, in the same directory as the store, and is copied and restored
//! with it.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
};

use matrix_mls::{
    MachineConfig, MlsError, MlsMachine, MlsRoom, OutgoingRequest, Publishing, StoreKey,
    test_hooks::trust_copies,
};

use super::{
    copies,
    schedule::{Off, Weather},
    violation::Violation,
    world::{Event, Name, ROOM, Reply, World},
};

/// What an app has on disk beside the store, and what the simulation knows of it.
#[derive(Debug, Clone, Default)]
pub(super) struct Kept {
    /// The place of the next sync.
    pub(super) since: Option<u64>,
    /// The places of the next syncs, where it syncs by sliding sync.
    pub(super) slid: Slid,
    /// The joined users, with the event that says so.
    pub(super) joined: BTreeMap<String, String>,
    /// Up to which position of its server it was told of each user, whatever told it.
    pub(super) told: BTreeMap<String, u64>,
    /// The messages it has read, by number.
    pub(super) read: BTreeSet<usize>,
    /// The commits by which it came into the group, other than by following another commit, and has
    /// not left it since.
    pub(super) entries: BTreeSet<String>,
    /// Those and all earlier ones.
    pub(super) all_entries: BTreeSet<String>,
}

/// Where a sliding sync goes on after a restart of the app, as Element X keeps it: of the rooms'
/// connection the position, and of the other the token of the to-device events.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Slid {
    pub(super) rooms: Option<u64>,
    pub(super) to_device: Option<u64>,
}

/// An answer that has not reached the machine yet.
pub(super) struct Held {
    /// The id of its request.
    pub(super) id: String,
    pub(super) reply: Reply,
    /// The server's position when it answered.
    pub(super) position: u64,
}

/// A copy of a device's directory.
#[derive(Clone)]
pub(super) struct Copy {
    pub(super) directory: PathBuf,
    pub(super) kept: Kept,
    /// When it was made, in ticks.
    pub(super) tick: u64,
}

/// A message that the app still has to send.
#[derive(Clone)]
pub(super) struct Unsent {
    pub(super) message: usize,
    pub(super) request: OutgoingRequest,
}

/// A device.
pub(super) struct App {
    pub(super) name: Name,
    pub(super) directory: PathBuf,
    pub(super) machine: Option<Arc<MlsMachine>>,
    pub(super) kept: Kept,
    /// Places that it had before.
    pub(super) places: Vec<u64>,
    pub(super) outbox: Vec<Unsent>,
    /// Answers that have not reached the machine yet.
    pub(super) held: Vec<Held>,
    pub(super) copy: Option<Copy>,
    /// Spans of ticks from which nothing is remembered, as an older copy was put in their place.
    pub(super) forgotten: Vec<(u64, u64)>,
    /// Whether its directory is a copy that must pass for no copy.
    pub(super) is_image: bool,
    /// Whether it is logged in.
    pub(super) alive: bool,
    /// When its syncs first showed each event, by the clock.
    pub(super) seen_ms: BTreeMap<String, u64>,
    /// Since when it tries to send and cannot, by the clock.
    pub(super) stuck_ms: Option<u64>,
    /// Whether it syncs by sliding sync.
    pub(super) slides: bool,
    /// The position of the connection for keys, which a process begins without.
    pub(super) keys_position: Option<u64>,
    /// How far its clock is off.
    pub(super) off: Off,
    /// Until when it does nothing, by the clock.
    pub(super) sleeps_until_ms: u64,
    /// When its clock was set ahead by years, because it had been behind.
    pub(super) leapt_ms: Option<u64>,
}

impl App {
    pub(super) fn new(name: Name, directory: PathBuf) -> Self {
        Self {
            name,
            directory,
            machine: None,
            kept: Kept::default(),
            places: Vec::new(),
            outbox: Vec::new(),
            held: Vec::new(),
            copy: None,
            forgotten: Vec::new(),
            is_image: true,
            alive: true,
            seen_ms: BTreeMap::new(),
            stuck_ms: None,
            slides: false,
            keys_position: None,
            off: Off::default(),
            sleeps_until_ms: 0,
            leapt_ms: None,
        }
    }

    /// How the device of this number lives in the schedule.
    pub(super) fn live_in(&mut self, weather: &Weather, number: usize) {
        self.slides = (weather.slides >> (number % 8)) & 1 == 1;
        self.off = weather.off[number % weather.off.len()];
    }

    /// Opens the machine if it is not open.
    pub(super) async fn open(&mut self) -> Result<Arc<MlsMachine>, MlsError> {
        if let Some(machine) = &self.machine {
            return Ok(machine.clone());
        }
        trust_copies(self.is_image);
        let machine = MlsMachine::open(MachineConfig {
            user_id: self.name.user_id(),
            device_id: self.name.device.clone(),
            store_path: self.directory.display().to_string(),
            store_key: StoreKey::Unprotected,
            publishing: Publishing::Alone,
            member_policy: None,
        })
        .await;
        trust_copies(false);
        let machine = machine?;
        self.is_image = false;
        self.machine = Some(machine.clone());
        Ok(machine)
    }

    /// How long an event took to this device, in milliseconds; until now, if it has not come by
    /// sync.
    pub(super) fn took_ms(&self, world: &World, event: &Event) -> u64 {
        let at_ms = self.seen_ms.get(&event.id).copied().unwrap_or(world.now_ms);
        at_ms.saturating_sub(event.at_ms)
    }

    /// The room, with the machine open.
    pub(super) async fn room(&mut self) -> Result<Arc<MlsRoom>, MlsError> {
        self.open().await?.room(ROOM.to_owned())
    }

    /// How large its store is, with its log, in bytes.
    pub(super) fn store_bytes(&self) -> u64 {
        let files = ["matrix-mls.db", "matrix-mls.db-wal"].map(|file| self.directory.join(file));
        files.iter().map(|file| file.metadata().map_or(0, |file| file.len())).sum()
    }

    /// The process dies: nothing in memory is left.
    pub(super) fn die(&mut self) {
        self.machine = None;
        self.outbox.clear();
        self.held.clear();
        self.keys_position = None;
    }

    /// Copies the directory as it is, with the machine open or not.
    pub(super) fn copy(&mut self, tick: u64) -> Result<(), Violation> {
        let directory = self.directory.with_extension(format!("copy-{tick}"));
        copies::copy(&self.directory, &directory)?;
        self.copy = Some(Copy { directory, kept: self.kept.clone(), tick });
        Ok(())
    }

    /// Puts the copy in the directory's place, or its content into the same files; tells whether
    /// there was a copy.
    pub(super) fn restore(&mut self, in_place: bool, tick: u64) -> Result<bool, Violation> {
        let Some(copy) = self.copy.clone() else { return Ok(false) };
        self.die();
        if in_place {
            copies::remove_log(&self.directory)?;
        } else {
            copies::remove(&self.directory)?;
        }
        copies::copy(&copy.directory, &self.directory)?;
        self.kept = copy.kept;
        self.forgotten.push((copy.tick, tick));
        Ok(true)
    }

    /// Notes the place of the next sync.
    pub(super) fn keep_place(&mut self, next: u64) {
        self.places.extend(self.kept.since);
        self.kept.since = Some(next);
    }
}
