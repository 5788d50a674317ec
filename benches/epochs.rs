//! What it costs to keep epochs, by the size of the room: bytes on disk for the first full state and for
//! each further one, bytes written and time for a commit, time to load a group.
//!
//! The room has grown as rooms do: members were added in batches, some of them have committed, so the
//! tree's parents are mostly filled. The device that is measured is OpenMLS over this library's store and
//! does with each commit what the library does: process it in a child of its epoch, merge, detach. Beside
//! each figure stands what the same rows come to when every epoch keeps its own copy.
//!
//! `cargo bench --bench epochs -- 100 1000` measures those sizes (they are the default; 10000 takes a
//! quarter of an hour). Prints a JSON line a figure.

use std::time::{Duration, Instant};

use matrix_mls::test_hooks::{MlsStorage, Namespace, Store, StoreError, StoreKeyMaterial, Tx};
use matrix_mls_kit::peer::{Peer, SUITE, identity};
use openmls::prelude::{tls_codec::Deserialize as _, *};
use openmls_basic_credential::SignatureKeyPair;
use openmls_rust_crypto::RustCrypto;
use openmls_traits::OpenMlsProvider;
use rusqlite::Connection;
use serde_json::{Value, json};
use tempfile::TempDir;

const DATABASE: &str = "matrix-mls.db";
/// What sealing adds to a value.
const SEALING: i64 = 59;
const ROOM: &str = "!giant:example.org";
/// How many commits of each kind are kept, and how many are made while old epochs are let go. Few enough
/// that the adds among them do not double the tree of 1,000 devices.
const ROUNDS: usize = 12;
/// How many rotations follow, for what many commits make of the file.
const LONG_RUN: usize = 100;
/// How many epochs behind the head stay full in the second half, as in the library.
const KEPT_ANCESTORS: usize = 2;
/// How many members commit while the room grows, at the most.
const COMMITTERS: usize = 64;
/// How many of them go on committing.
const LIVE: usize = 4;

fn main() {
    // Flags that cargo adds are none of ours.
    let chosen: Vec<usize> = std::env::args().filter_map(|arg| arg.parse().ok()).collect();
    let sizes = if chosen.is_empty() { vec![100, 1_000] } else { chosen };
    for devices in sizes {
        measure(devices);
    }
}

fn measure(devices: usize) {
    eprintln!("growing a room of {devices} devices …");
    let mut peers = Peers::grow(devices);
    let mut device = Device::new();
    let mut whole = Whole::new();
    let (empty, empty_whole) = (used(&device.file), used(&whole.file));
    let welcome = peers.add(device.key_package(), true);
    device.join(&welcome);
    whole.follow(&device);
    let report = |what: &str, figure: Value| {
        println!("{}", json!({ "what": what, "devices": devices, "figure": figure }));
    };
    let first = used(&device.file) - empty;
    let first_whole = used(&whole.file) - empty_whole;
    report("first full epoch", json!({ "bytes": first, "whole_bytes": first_whole }));

    // Every epoch is kept.
    for kind in Kind::ALL {
        let (before, before_whole) = (used(&device.file), used(&whole.file));
        for round in 0..ROUNDS {
            device.follow(&mut peers, kind, round);
            whole.follow(&device);
        }
        let each = (used(&device.file) - before) / ROUNDS as u64;
        let each_whole = (used(&whole.file) - before_whole) / ROUNDS as u64;
        let percent = (each as f64 / first as f64 * 1000.0).round() / 10.0;
        let figure =
            json!({ "bytes": each, "percent_of_first": percent, "whole_bytes": each_whole });
        report(&format!("one more kept epoch: {}", kind.name()), figure);
    }

    // Only the head and its ancestors are.
    device.prune();
    whole.prune();
    for kind in Kind::ALL {
        let (mut times, mut log, mut log_whole) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..ROUNDS {
            let cost = device.follow(&mut peers, kind, round);
            times.push(cost.time);
            log.push(cost.log_bytes);
            log_whole.push(whole.follow(&device));
        }
        let figure = json!({
            "written_bytes": median(&mut log), "whole_written_bytes": median(&mut log_whole),
            "time": spread(&mut times),
        });
        report(&format!("a commit: {}", kind.name()), figure);
    }
    let mut times: Vec<_> = (0..ROUNDS).map(|_| device.load()).collect();
    report("loading the group", spread(&mut times));
    for round in 0..LONG_RUN {
        device.follow(&mut peers, Kind::Rotation, round);
        whole.follow(&device);
    }
    let figure = json!({
        "bytes": used(&device.file) - empty,
        "whole_bytes": used(&whole.file) - empty_whole,
        "commits": LONG_RUN + 2 * ROUNDS * Kind::ALL.len(),
    });
    report("three full epochs after many commits", figure);
}

fn median(bytes: &mut [u64]) -> u64 {
    bytes.sort_unstable();
    bytes[bytes.len() / 2]
}

fn spread(times: &mut [Duration]) -> Value {
    times.sort();
    let at = |part: usize| (times[times.len() * part / 100].as_secs_f64() * 1e7).round() / 10.0;
    json!({ "median_us": at(50), "p95_us": at(95) })
}

/// Who commits what.
#[derive(Clone, Copy)]
enum Kind {
    /// Another member renews its keys.
    Rotation,
    /// The measured device renews its own.
    OwnRotation,
    /// Another member adds a device, without a path.
    Add,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Rotation, Self::OwnRotation, Self::Add];

    fn name(self) -> &'static str {
        match self {
            Self::Rotation => "another's rotation",
            Self::OwnRotation => "own rotation",
            Self::Add => "an add",
        }
    }
}

/// The members that are not measured.
struct Peers {
    founder: Peer,
    live: Vec<Peer>,
    made: usize,
}

impl Peers {
    fn grow(devices: usize) -> Self {
        let mut founder = Peer::new("@user0:example.org", "D0");
        founder.create(ROOM, false);
        let mut peers = Self { founder, live: Vec::new(), made: 0 };
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
            let welcome = peers.add(member.key_package(), true);
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

    /// Adds one device; gives the Welcome.
    fn add(&mut self, package: KeyPackage, tree: bool) -> Vec<u8> {
        self.founder.put_tree_in_welcomes(tree);
        let (commit, welcome) = self.founder.add(&[package]);
        self.process(&commit, None);
        welcome
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
            Kind::OwnRotation => unreachable!("the measured device's own"),
        }
    }
}

/// What a commit cost.
struct Cost {
    time: Duration,
    log_bytes: u64,
}

/// The device that is measured.
struct Device {
    dir: TempDir,
    store: Store,
    /// A connection of the bench's own, to count pages with.
    file: Connection,
    crypto: RustCrypto,
    signer: SignatureKeyPair,
    epochs: Vec<Namespace>,
    prunes: bool,
}

impl Device {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Store::open(dir.path(), StoreKeyMaterial::Raw(&[7; 32])).expect("it opens");
        let file = Connection::open(dir.path().join(DATABASE)).expect("a second connection");
        let signer = SignatureKeyPair::new(SUITE.signature_algorithm()).expect("a key pair");
        let crypto = RustCrypto::default();
        Self { dir, store, file, crypto, signer, epochs: Vec::new(), prunes: false }
    }

    fn key_package(&self) -> KeyPackage {
        let credential = CredentialWithKey {
            credential: BasicCredential::new(identity("@me:example.org", "ME")).into(),
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

    /// Makes or takes in the next commit, in one transaction, into a namespace of its own.
    fn follow(&mut self, peers: &mut Peers, kind: Kind, round: usize) -> Cost {
        let theirs = match kind {
            Kind::OwnRotation => None,
            kind => Some(parse(&peers.commit(kind, round))),
        };
        cut_log(&self.file);
        let parent = *self.epochs.last().expect("the device is in the room");
        let old = self.epochs.len().checked_sub(KEPT_ANCESTORS + 1).filter(|_| self.prunes);
        let old = old.map(|at| self.epochs.remove(at));
        let start = Instant::now();
        let (child, ours) = self.write(|tx| {
            let child = tx.new_namespace()?;
            let provider = Provider::new(&self.crypto, MlsStorage::child(tx, parent, child));
            let mut group = load(provider.storage())?;
            let ours = match theirs {
                Some(message) => {
                    merge(&mut group, &provider, message);
                    None
                }
                None => Some(rotate(&mut group, &provider, &self.signer)),
            };
            tx.detach_namespace(child, parent)?;
            if let Some(old) = old {
                tx.delete_namespace(old)?;
            }
            Ok((child, ours))
        });
        let time = start.elapsed();
        self.epochs.push(child);
        if let Some(commit) = ours {
            peers.founder.process(&commit);
            peers.process(&commit, None);
        }
        Cost { time, log_bytes: log(&self.dir) }
    }

    /// Lets go of all but the latest epochs, and of each that falls behind from now on.
    fn prune(&mut self) {
        let old = self.epochs.len() - KEPT_ANCESTORS - 1;
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
        self.store.write(f).expect("the store takes it")
    }

    /// The rows of the latest epoch: key, and length of the sealed value if it is one.
    fn rows(&self) -> Vec<(Vec<u8>, i64)> {
        let sql = "SELECT key, CASE WHEN list IS NULL THEN LENGTH(value) ELSE ?1 +
                (SELECT SUM(LENGTH(mls_chunk.value) - ?1) FROM mls_piece
                 JOIN mls_chunk ON mls_chunk.id = chunk WHERE mls_piece.list = mls_row.list) END
            FROM mls_row WHERE namespace = (SELECT MAX(namespace) FROM mls_row)";
        let mut statement = self.file.prepare(sql).expect("our schema");
        let rows = statement.query_map([SEALING], |row| Ok((row.get(0)?, row.get(1)?)));
        rows.expect("rows").collect::<Result<_, _>>().expect("a row")
    }
}

/// The same rows in a file in which every epoch has its own copy: the schema before chunks.
struct Whole {
    dir: TempDir,
    file: Connection,
    epochs: Vec<i64>,
    prunes: bool,
}

impl Whole {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let file = Connection::open(dir.path().join(DATABASE)).expect("a file");
        file.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(())).expect("a log");
        file.query_row("PRAGMA secure_delete = 1", [], |_| Ok(())).expect("a setting");
        file.execute_batch(
            "CREATE TABLE mls_row (namespace INTEGER NOT NULL, key BLOB NOT NULL, value BLOB,
             PRIMARY KEY (namespace, key))",
        )
        .expect("a table");
        Self { dir, file, epochs: Vec::new(), prunes: false }
    }

    /// Keeps the device's latest epoch; gives how much that wrote.
    fn follow(&mut self, device: &Device) -> u64 {
        cut_log(&self.file);
        let epoch = self.epochs.last().map_or(1, |last| last + 1);
        self.epochs.push(epoch);
        let transaction = self.file.transaction().expect("nobody else writes");
        for (key, length) in device.rows() {
            let sql = "INSERT INTO mls_row VALUES (?1, ?2, ZEROBLOB(?3))";
            transaction.execute(sql, (epoch, key, length)).expect("it is written");
        }
        if self.prunes {
            let old = self.epochs.remove(0);
            transaction
                .execute("DELETE FROM mls_row WHERE namespace = ?1", [old])
                .expect("deleted");
        }
        transaction.commit().expect("it commits");
        log(&self.dir)
    }

    fn prune(&mut self) {
        let old = self.epochs.len() - KEPT_ANCESTORS - 1;
        for epoch in self.epochs.drain(..old) {
            self.file
                .execute("DELETE FROM mls_row WHERE namespace = ?1", [epoch])
                .expect("deleted");
        }
        self.prunes = true;
    }
}

/// The bytes of a file's pages that are in use.
fn used(file: &Connection) -> u64 {
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

fn number(file: &Connection, sql: &str) -> u64 {
    let number: i64 = file.query_row(sql, [], |row| row.get(0)).expect("a number");
    number.unsigned_abs()
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
