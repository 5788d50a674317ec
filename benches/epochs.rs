//! What it costs to keep epochs, by the size of the room: bytes on disk for the first full state and for
//! each further one, bytes written and time for a commit, time to load a group.
//!
//! The room has grown as rooms do: members were added in batches, some of them have committed, so the
//! tree's parents are mostly filled. Two devices are measured beside each other, both OpenMLS over this
//! library's store, which do with each commit what the library does: process it in a child of its epoch,
//! merge, detach. One shares pieces of large values between epochs, as the library does; in the other's
//! store every epoch keeps its own copy, as before.
//!
//! `cargo bench --bench epochs -- 100 1000` measures those sizes (10, 100 and 1,000 if none is given).
//! Prints a JSON line a figure.

use std::time::{Duration, Instant};

use matrix_mls::test_hooks::{
    self, MlsStorage, Namespace, Store, StoreError, StoreKeyMaterial, Tx,
};
use matrix_mls_kit::peer::{Peer, SUITE, identity};
use openmls::prelude::{tls_codec::Deserialize as _, *};
use openmls_basic_credential::SignatureKeyPair;
use openmls_rust_crypto::RustCrypto;
use openmls_traits::OpenMlsProvider;
use rusqlite::Connection;
use serde_json::{Value, json};
use tempfile::TempDir;

const DATABASE: &str = "matrix-mls.db";
const ROOM: &str = "!giant:example.org";
/// The devices that are measured, and whose they are.
const USER: &str = "@me:example.org";
const MINE: [&str; 2] = ["ME", "ME TOO"];
/// How many commits of each kind are kept, and how many are made while old epochs are let go. As many as
/// are removed as are added: the tree keeps its size.
const ROUNDS: usize = 12;
/// How many rotations follow, for what many commits make of the file.
const LONG_RUN: usize = 50;
/// How many epochs stay full in the second half, as in the library when nothing else is said.
const KEPT: usize = 16;
/// How many members commit while the room grows, at the most.
const COMMITTERS: usize = 64;
/// How many of them go on committing.
const LIVE: usize = 4;

fn main() {
    // Flags that cargo adds are none of ours.
    let chosen: Vec<usize> = std::env::args().filter_map(|arg| arg.parse().ok()).collect();
    let sizes = if chosen.is_empty() { vec![10, 100, 1_000] } else { chosen };
    for devices in sizes {
        measure(devices);
    }
}

fn measure(devices: usize) {
    eprintln!("growing a room of {devices} devices …");
    let mut peers = Peers::grow(devices - 1);
    let mut pair = [Device::new(MINE[0], false), Device::new(MINE[1], true)];
    let empty = pair.each_ref().map(|device| used(&device.file));
    let packages = pair.each_ref().map(Device::key_package);
    let welcome = peers.add(&packages, true);
    for device in &mut pair {
        device.join(&welcome);
    }
    let report = |what: &str, figure: Value| {
        println!("{}", json!({ "what": what, "devices": devices, "figure": figure }));
    };
    let first = [0, 1].map(|at| used(&pair[at].file) - empty[at]);
    report("first full epoch", json!({ "bytes": first[0], "whole_bytes": first[1] }));

    // Every epoch is kept.
    for kind in Kind::ALL {
        let mut bytes = [0; 2];
        for round in 0..ROUNDS {
            let costs = follow(&mut pair, &mut peers, kind, round);
            for (sum, cost) in bytes.iter_mut().zip(costs) {
                *sum += cost.kept_bytes;
            }
        }
        let each = bytes.map(|sum| sum / ROUNDS as i64);
        let percent = (each[0] as f64 / first[0] as f64 * 1000.0).round() / 10.0;
        let figure =
            json!({ "bytes": each[0], "percent_of_first": percent, "whole_bytes": each[1] });
        report(&format!("one more kept epoch: {}", kind.name()), figure);
    }

    // Only the latest are.
    pair.iter_mut().for_each(Device::prune);
    for kind in Kind::ALL {
        let mut costs: [Vec<Cost>; 2] = Default::default();
        for round in 0..ROUNDS {
            let [shared, whole] = follow(&mut pair, &mut peers, kind, round);
            costs[0].push(shared);
            costs[1].push(whole);
        }
        let written = costs.each_ref().map(|costs| median(costs.iter().map(|cost| cost.log_bytes)));
        let [time, whole_time] = costs.map(|costs| spread(costs.into_iter().map(|cost| cost.time)));
        let figure = json!({
            "written_bytes": written[0], "whole_written_bytes": written[1],
            "time": time, "whole_time": whole_time,
        });
        report(&format!("a commit: {}", kind.name()), figure);
    }
    let [time, whole_time] =
        pair.each_ref().map(|device| spread((0..ROUNDS).map(|_| device.load())));
    report("loading the group", json!({ "time": time, "whole_time": whole_time }));
    for round in 0..LONG_RUN {
        follow(&mut pair, &mut peers, Kind::Rotation, round);
    }
    let bytes = [0, 1].map(|at| used(&pair[at].file) - empty[at]);
    let figure = json!({
        "bytes": bytes[0], "whole_bytes": bytes[1], "epochs": KEPT,
        "commits": LONG_RUN + 2 * ROUNDS * (Kind::ALL.len() + 1),
    });
    report("all full epochs after many commits", figure);
}

/// One more commit, for both devices; of their own rotations each makes one.
fn follow(pair: &mut [Device; 2], peers: &mut Peers, kind: Kind, round: usize) -> [Cost; 2] {
    if kind == Kind::OwnRotation {
        return [0, 1].map(|at| {
            let (cost, commit) = pair[at].rotate();
            peers.take_in(&commit);
            pair[1 - at].process(&commit);
            cost
        });
    }
    let commit = peers.commit(kind, round);
    // Neither is always the first.
    let at = round % 2;
    let costs = [at, 1 - at].map(|at| (at, pair[at].process(&commit)));
    match costs {
        [(0, shared), (_, whole)] | [(_, whole), (_, shared)] => [shared, whole],
    }
}

fn median(bytes: impl Iterator<Item = u64>) -> u64 {
    let mut bytes: Vec<_> = bytes.collect();
    bytes.sort_unstable();
    bytes[bytes.len() / 2]
}

fn spread(times: impl Iterator<Item = Duration>) -> Value {
    let mut times: Vec<_> = times.collect();
    times.sort();
    let at = |part: usize| (times[times.len() * part / 100].as_secs_f64() * 1e7).round() / 10.0;
    json!({ "median_us": at(50), "p95_us": at(95) })
}

/// Who commits what.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Another member renews its keys.
    Rotation,
    /// The measured device renews its own.
    OwnRotation,
    /// Another member adds a device, without a path.
    Add,
    /// Another member removes a device.
    Remove,
}

impl Kind {
    const ALL: [Self; 4] = [Self::Rotation, Self::OwnRotation, Self::Add, Self::Remove];

    fn name(self) -> &'static str {
        match self {
            Self::Rotation => "another's rotation",
            Self::OwnRotation => "own rotation",
            Self::Add => "an add",
            Self::Remove => "a removal",
        }
    }
}

/// The members that are not measured.
struct Peers {
    founder: Peer,
    live: Vec<Peer>,
    made: usize,
    removed: usize,
}

impl Peers {
    fn grow(devices: usize) -> Self {
        let mut founder = Peer::new("@user0:example.org", "D0");
        founder.create(ROOM, false);
        let mut peers = Self { founder, live: Vec::new(), made: 0, removed: 0 };
        let committers = COMMITTERS.min(devices / 4).max(1);
        for number in 0..committers {
            let until = (devices - 2) * (number + 1) / committers;
            let packages: Vec<_> =
                (peers.made..until - 1).map(|_| peers.new_peer().key_package()).collect();
            if !packages.is_empty() {
                peers.founder.put_tree_in_welcomes(false);
                let (commit, _) = peers.founder.add(&packages);
                peers.process(&commit, None);
            }
            let mut member = peers.new_peer();
            let welcome = peers.add(&[member.key_package()], true);
            member.join(&welcome);
            let commit = member.update();
            peers.founder.process(&commit);
            peers.process(&commit, None);
            if number % committers.div_ceil(LIVE) == 0 {
                peers.live.push(member);
            }
        }
        peers
    }

    fn new_peer(&mut self) -> Peer {
        self.made += 1;
        Peer::new(&format!("@user{}:example.org", self.made % 100), &format!("D{}", self.made))
    }

    fn process(&mut self, commit: &[u8], committer: Option<usize>) {
        for (number, peer) in self.live.iter_mut().enumerate() {
            if Some(number) != committer {
                peer.process(commit);
            }
        }
    }

    /// A commit by one of the devices that are measured.
    fn take_in(&mut self, commit: &[u8]) {
        self.founder.process(commit);
        self.process(commit, None);
    }

    /// Adds devices; gives the Welcome.
    fn add(&mut self, packages: &[KeyPackage], tree: bool) -> Vec<u8> {
        self.founder.put_tree_in_welcomes(tree);
        let (commit, welcome) = self.founder.add(packages);
        self.process(&commit, None);
        welcome
    }

    /// The leaf of a member that does nothing, now here, now there in the tree.
    fn next_to_go(&mut self) -> LeafNodeIndex {
        let mut stay = MINE.map(|device| identity(USER, device)).to_vec();
        let busy = self.live.iter().chain([&self.founder]);
        stay.extend(busy.map(|peer| identity(&peer.user, &peer.device)));
        let mut idle: Vec<_> = self.founder.group().members().collect();
        idle.retain(|member| {
            !stay.iter().any(|name| name == member.credential.serialized_content())
        });
        self.removed += 1;
        idle[self.removed * 397 % idle.len()].index
    }

    fn commit(&mut self, kind: Kind, round: usize) -> Vec<u8> {
        match kind {
            Kind::Rotation => {
                let committer = round % (self.live.len() + 1);
                let commit = match self.live.get_mut(committer) {
                    Some(peer) => peer.update(),
                    None => self.founder.update(),
                };
                self.process(&commit, Some(committer));
                if committer < self.live.len() {
                    self.founder.process(&commit);
                }
                commit
            }
            Kind::Add => {
                let package = self.new_peer().key_package();
                self.founder.put_tree_in_welcomes(false);
                let (commit, _) = self.founder.add(&[package]);
                self.process(&commit, None);
                commit
            }
            Kind::Remove => {
                let leaf = self.next_to_go();
                let group = self.founder.group.as_mut().expect("the founder has a group");
                let (commit, ..) = group
                    .remove_members(&self.founder.provider, &self.founder.signer, &[leaf])
                    .expect("it can be removed");
                group.merge_pending_commit(&self.founder.provider).expect("it merges");
                let commit = commit.to_bytes().expect("it serialises");
                self.process(&commit, None);
                commit
            }
            Kind::OwnRotation => unreachable!("the measured device's own"),
        }
    }
}

/// What a commit cost.
struct Cost {
    time: Duration,
    log_bytes: u64,
    /// By how much the file has grown.
    kept_bytes: i64,
}

/// A device that is measured.
struct Device {
    dir: TempDir,
    store: Store,
    /// A connection of the bench's own, to count pages with.
    file: Connection,
    crypto: RustCrypto,
    signer: SignatureKeyPair,
    name: &'static str,
    /// Every epoch has its own copy of everything.
    whole: bool,
    epochs: Vec<Namespace>,
    prunes: bool,
}

impl Device {
    fn new(name: &'static str, whole: bool) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Store::open(dir.path(), StoreKeyMaterial::Raw(&[7; 32])).expect("it opens");
        let file = Connection::open(dir.path().join(DATABASE)).expect("a second connection");
        let signer = SignatureKeyPair::new(SUITE.signature_algorithm()).expect("a key pair");
        let crypto = RustCrypto::default();
        Self { dir, store, file, crypto, signer, name, whole, epochs: Vec::new(), prunes: false }
    }

    fn key_package(&self) -> KeyPackage {
        let credential = CredentialWithKey {
            credential: BasicCredential::new(identity(USER, self.name)).into(),
            signature_key: self.signer.public().into(),
        };
        self.write(|tx| {
            let provider = Provider::new(&self.crypto, MlsStorage::new(tx, Namespace::GLOBAL));
            let bundle = KeyPackage::builder()
                .build(SUITE, &provider, &self.signer, credential)
                .expect("a key package");
            Ok(bundle.key_package().clone())
        })
    }

    fn join(&mut self, welcome: &[u8]) {
        let MlsMessageBodyIn::Welcome(welcome) = parse(welcome).extract() else {
            panic!("not a Welcome")
        };
        let config = MlsGroupJoinConfig::builder()
            .wire_format_policy(MIXED_CIPHERTEXT_WIRE_FORMAT_POLICY)
            .use_ratchet_tree_extension(true)
            .max_past_epochs(0)
            .build();
        let namespace = self.write(|tx| {
            let namespace = tx.new_namespace()?;
            let provider = Provider::new(&self.crypto, MlsStorage::new(tx, namespace));
            StagedWelcome::new_from_welcome(&provider, &config, welcome, None)
                .expect("a good Welcome")
                .into_group(&provider)
                .expect("a group");
            Ok(namespace)
        });
        self.epochs.push(namespace);
    }

    /// Takes in a commit.
    fn process(&mut self, commit: &[u8]) -> Cost {
        let message = parse(commit);
        self.next_epoch(|group, provider, _| merge(group, provider, message)).0
    }

    /// Makes a commit.
    fn rotate(&mut self) -> (Cost, Vec<u8>) {
        self.next_epoch(rotate)
    }

    /// One transaction that makes the next epoch in a namespace of its own.
    fn next_epoch<T>(
        &mut self,
        step: impl FnOnce(&mut MlsGroup, &Provider<'_>, &SignatureKeyPair) -> T,
    ) -> (Cost, T) {
        cut_log(&self.file);
        let used_before = used(&self.file);
        let parent = *self.epochs.last().expect("the device is in the room");
        let old = self.epochs.len().checked_sub(KEPT).filter(|_| self.prunes);
        let old = old.map(|_| self.epochs.remove(0));
        let start = Instant::now();
        let (child, value) = self.write(|tx| {
            let child = tx.new_namespace()?;
            let provider = Provider::new(&self.crypto, MlsStorage::child(tx, parent, child));
            let mut group = load(provider.storage())?;
            let value = step(&mut group, &provider, &self.signer);
            tx.detach_namespace(child, parent)?;
            if let Some(old) = old {
                tx.delete_namespace(old)?;
            }
            Ok((child, value))
        });
        let time = start.elapsed();
        self.epochs.push(child);
        let kept_bytes = used(&self.file) - used_before;
        (Cost { time, log_bytes: log(&self.dir), kept_bytes }, value)
    }

    /// Lets go of all but the latest epochs, and of each that falls behind from now on.
    fn prune(&mut self) {
        let old = self.epochs.len() - KEPT;
        for namespace in self.epochs.drain(..old).collect::<Vec<_>>() {
            self.write(|tx| tx.delete_namespace(namespace));
        }
        self.prunes = true;
    }

    fn load(&self) -> Duration {
        let head = *self.epochs.last().expect("the device is in the room");
        let start = Instant::now();
        self.write(|tx| load(&MlsStorage::new(tx, head)).map(drop));
        start.elapsed()
    }

    fn write<T>(&self, f: impl FnOnce(&Tx<'_>) -> Result<T, StoreError>) -> T {
        test_hooks::keep_values_whole(self.whole);
        self.store.write(f).expect("the store takes it")
    }
}

/// The bytes of a file's pages that are in use.
fn used(file: &Connection) -> i64 {
    let number = |sql: &str| number(file, sql);
    (number("PRAGMA page_count") - number("PRAGMA freelist_count")) * number("PRAGMA page_size")
}

fn cut_log(file: &Connection) {
    number(file, "PRAGMA wal_checkpoint(TRUNCATE)");
}

/// The bytes written to the log since it was cut.
fn log(dir: &TempDir) -> u64 {
    dir.path().join(format!("{DATABASE}-wal")).metadata().expect("there is a log").len()
}

fn number(file: &Connection, sql: &str) -> i64 {
    file.query_row(sql, [], |row| row.get(0)).expect("a number")
}

fn parse(message: &[u8]) -> MlsMessageIn {
    MlsMessageIn::tls_deserialize_exact(message).expect("an MLS message")
}

fn load(storage: &MlsStorage<'_>) -> Result<MlsGroup, StoreError> {
    Ok(MlsGroup::load(storage, &GroupId::from_slice(ROOM.as_bytes()))?.expect("a group"))
}

fn merge(group: &mut MlsGroup, provider: &Provider<'_>, message: MlsMessageIn) {
    let message = message.try_into_protocol_message().expect("a protocol message");
    let processed = group.process_message(provider, message).expect("it is valid");
    let ProcessedMessageContent::StagedCommitMessage(commit) = processed.into_content() else {
        panic!("not a commit")
    };
    group.merge_staged_commit(provider, *commit).expect("the commit merges");
}

fn rotate(group: &mut MlsGroup, provider: &Provider<'_>, signer: &SignatureKeyPair) -> Vec<u8> {
    let bundle =
        group.self_update(provider, signer, LeafNodeParameters::default()).expect("an update");
    group.merge_pending_commit(provider).expect("an own commit merges");
    bundle.into_commit().to_bytes().expect("it serialises")
}

/// OpenMLS's provider over the store.
struct Provider<'a> {
    crypto: &'a RustCrypto,
    storage: MlsStorage<'a>,
}

impl<'a> Provider<'a> {
    fn new(crypto: &'a RustCrypto, storage: MlsStorage<'a>) -> Self {
        Self { crypto, storage }
    }
}

impl<'a> OpenMlsProvider for Provider<'a> {
    type CryptoProvider = RustCrypto;
    type RandProvider = RustCrypto;
    type StorageProvider = MlsStorage<'a>;

    fn storage(&self) -> &MlsStorage<'a> {
        &self.storage
    }

    fn crypto(&self) -> &RustCrypto {
        self.crypto
    }

    fn rand(&self) -> &RustCrypto {
        self.crypto
    }
}
