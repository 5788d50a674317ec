//! What each operation costs, by the size of the room: this library through its public API on a
//! real file (an operation has ended when what it changed is on disk), beside OpenMLS in memory in
//! the same run. `cargo xtask bench` adds libraries that cannot be linked into the same program.
//!
//! `cargo bench --bench operations -- 10 1000` measures those sizes; with `--constant` only what
//! must not grow with the room, which the tests do. `--flush-and-open-all` flushes every commit and
//! opens records each time, as before docs/decisions/029. `--create` makes rooms alone, founded in
//! one step and by commits, and `--verify-each-time` remembers no signature, as before
//! docs/decisions/038. Prints a JSON line a figure. `written_bytes` is what one operation
//! writes to files, where the system counts that (Linux).

mod support;

use std::time::{Duration, Instant};

use matrix_mls_kit::{
    OrMissing as _, Result,
    giant::{Device, Giant, ROOM},
    peer::Peer,
    written_tree::Shape,
};
use openmls::group::MlsGroup;
use openmls_traits::OpenMlsProvider as _;
use support::{Figure, OPENMLS, OURS, rooms, rounds, sizes};

/// How often what does not grow with the room is measured.
const MESSAGES: usize = 400;
/// How often a commit is, and a join.
const COMMITS: usize = 5;
/// How many devices one commit adds at the most, as in this library (docs/decisions/007).
const BATCH: usize = 500;
const TEXT: &str = r#"{"msgtype":"m.text","body":"forty-two characters are enough for a text"}"#;

fn main() -> Result {
    let runtime = tokio::runtime::Runtime::new()?;
    // Durability and reading as they were before docs/decisions/029.
    matrix_mls::test_hooks::flush_and_open_all(
        std::env::args().any(|argument| argument == "--flush-and-open-all"),
    );
    // Signatures as they were before docs/decisions/038.
    matrix_mls::test_hooks::verify_each_time(
        std::env::args().any(|argument| argument == "--verify-each-time"),
    );
    let only_create = std::env::args().any(|argument| argument == "--create");
    let only_constant = std::env::args().any(|argument| argument == "--constant");
    for devices in sizes(&[10, 100, 1_000, 10_000]) {
        eprintln!("rooms of {devices} devices …");
        if only_constant {
            runtime.block_on(constant(devices))?;
            continue;
        }
        runtime.block_on(rooms::create("operations", devices))?;
        if only_create {
            runtime.block_on(rooms::create_by_commits("operations", devices))?;
            continue;
        }
        create(devices);
        for shape in Shape::ALL {
            runtime.block_on(measure(devices, shape))?;
        }
    }
    Ok(())
}

/// Figures of both, for a room of one size and shape.
struct Figures {
    devices: usize,
    shape: Shape,
}

impl Figures {
    fn of(&self, who: &str, operation: &str) -> Figure {
        Figure::new("operations", who, operation, self.devices).tree(self.shape)
    }

    fn both(&self, operation: &str, ours: Vec<Duration>, openmls: Vec<Duration>) {
        self.of(OURS, operation).times(ours).print();
        self.of(OPENMLS, operation).times(openmls).print();
    }
}

/// What must not grow with the room.
async fn constant(devices: usize) -> Result {
    let store = tempfile::tempdir()?;
    let shape = Shape::Blank;
    let mut giant = Giant::new(devices, shape, store.path()).await?;
    let figures = Figures { devices, shape };
    messages(&figures, &mut giant).await?;
    open(&figures, giant, store.path()).await
}

async fn measure(devices: usize, shape: Shape) -> Result {
    let store = tempfile::tempdir()?;
    let mut giant = Giant::new(devices, shape, store.path()).await?;
    let figures = Figures { devices, shape };
    if shape == Shape::Blank {
        messages(&figures, &mut giant).await?;
    }
    commits(&figures, &mut giant).await?;
    join_by_welcome(&figures, &mut giant).await?;
    join_externally(&figures, &mut giant).await?;
    rooms::update("operations", devices, shape, &mut giant).await?;
    rooms::add("operations", devices, shape, &mut giant).await?;
    rooms::remove("operations", devices, shape, &mut giant).await?;
    if shape == Shape::Blank {
        open(&figures, giant, store.path()).await?;
    }
    Ok(())
}

/// The bytes that this process has written so far.
fn written() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/io").ok()?;
    text.lines().find_map(|line| line.strip_prefix("wchar: "))?.parse().ok()
}

/// Those that each of so many operations has written since.
fn since(before: Option<u64>, operations: usize) -> Option<u64> {
    Some((written()? - before?).div_ceil(operations as u64))
}

fn timed<T>(times: &mut Vec<Duration>, job: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let value = job();
    times.push(start.elapsed());
    value
}

/// OpenMLS makes a group as this library does.
fn create(devices: usize) {
    let peers: Vec<_> = (1..devices)
        .map(|number| {
            let user = format!("@user{}:example.org", number / rooms::DEVICES_OF_A_USER);
            Peer::new(&user, &format!("D{number}"))
        })
        .collect();
    let packages: Vec<_> = peers.iter().map(Peer::key_package).collect();
    let mut times = Vec::new();
    let mut bytes = 0;
    let runs = if devices >= 5_000 { 1 } else { rounds(devices, 3) };
    for _ in 0..runs {
        let mut founder = Peer::new("@founder:example.org", "FOUNDER");
        bytes = timed(&mut times, || {
            founder.create(ROOM, false);
            let batches = packages.chunks(BATCH).map(|batch| founder.add(batch));
            batches.map(|(commit, welcome)| commit.len() + welcome.len()).sum()
        });
    }
    let figure = Figure::new("operations", OPENMLS, "create", devices);
    figure.times(times).bytes((bytes, 0)).print();
}

async fn messages(figures: &Figures, giant: &mut Giant) -> Result {
    let (mut ours, mut openmls) = (Vec::new(), Vec::new());
    let plaintext = Peer::plaintext(ROOM, TEXT);
    let mut sealed = Vec::new();
    let before = written();
    for _ in 0..MESSAGES {
        let start = Instant::now();
        let event = giant.device.room.encrypt("m.room.message".into(), TEXT.into()).await;
        ours.push(start.elapsed());
        event?;
        sealed.push(timed(&mut openmls, || giant.founder.seal(&plaintext)));
    }
    figures.of(OURS, "encrypt").times(ours).written(since(before, MESSAGES)).print();
    figures.of(OPENMLS, "encrypt").times(openmls).print();

    let (mut ours, mut openmls) = (Vec::new(), Vec::new());
    let before = written();
    for message in &sealed {
        let event = giant.message_event(TEXT);
        let start = Instant::now();
        let opened = giant.device.room.decrypt(event).await;
        ours.push(start.elapsed());
        opened?;
        timed(&mut openmls, || giant.observer.process(message))
            .or_missing("message in what was sealed")?;
    }
    figures.of(OURS, "decrypt").times(ours).written(since(before, MESSAGES)).print();
    figures.of(OPENMLS, "decrypt").times(openmls).print();
    Ok(())
}

/// The founder commits; the library's device and the observer take it in.
async fn commits(figures: &Figures, giant: &mut Giant) -> Result {
    let runs = rounds(figures.devices, COMMITS);
    giant.founder.put_tree_in_welcomes(false);
    let name = |number: usize| format!("EARLY{number}");
    let user = giant.founder.user.clone();
    for operation in ["update", "add", "remove"] {
        let (mut made, mut ours, mut openmls) = (Vec::new(), Vec::new(), Vec::new());
        let mut bytes = 0;
        for number in 0..runs {
            let commit = match operation {
                "update" => timed(&mut made, || giant.founder.update()),
                "add" => {
                    let peer = Peer::new(&user, &name(number));
                    giant.tables.publish(&user, &peer.device, peer.device_keys());
                    let package = peer.key_package();
                    let (commit, welcome) =
                        timed(&mut made, || giant.founder.add(std::slice::from_ref(&package)));
                    bytes = welcome.len();
                    commit
                }
                _ => {
                    giant.tables.unpublish(&user, &name(number));
                    timed(&mut made, || giant.founder.remove(&user, &name(number)))
                }
            };
            rooms::tell_of_devices(giant).await?;
            bytes = commit.len() + if operation == "add" { bytes } else { 0 };
            timed(&mut openmls, || giant.observer.process(&commit));
            let event = giant.founders_commit(&commit, false)?;
            let start = Instant::now();
            giant.device.sync(Vec::new(), Vec::new(), vec![event]).await?;
            let taken = start.elapsed();
            ours.push(taken + giant.tables.settle(&giant.device.machine).await?.calls);
            let epochs = giant.device.room.epochs().await?;
            let head = epochs.iter().find(|epoch| epoch.is_head).or_missing("head")?;
            assert_eq!(head.epoch, giant.founder.group().epoch().as_u64(), "{operation}");
        }
        figures.of(OPENMLS, operation).times(made).bytes((bytes, 0)).print();
        figures.both(&format!("process {operation}"), ours, openmls);
    }
    Ok(())
}

async fn join_by_welcome(figures: &Figures, giant: &mut Giant) -> Result {
    let (mut ours, mut openmls) = (Vec::new(), Vec::new());
    giant.founder.put_tree_in_welcomes(true);
    for number in 0..rounds(figures.devices, COMMITS) {
        let store = tempfile::tempdir()?;
        let name = format!("W{number}");
        let device = Device::open("@fresh:example.org", &name, store.path()).await?;
        let mut peer = Peer::new("@fresh:example.org", &format!("{name}PEER"));
        giant.tables.publish(&peer.user, &peer.device, peer.device_keys());
        let package = device.upload(&mut giant.tables).await?;
        let (commit, welcome) = giant.founder.add(&[package, peer.key_package()]);
        giant.founders_commit(&commit, false)?;
        timed(&mut openmls, || peer.join(&welcome));
        let (to_device, state) = (giant.welcome_event(&welcome), giant.room_state());
        // The room is known before: its members are not the Welcome's price.
        device.sync(Vec::new(), state, Vec::new()).await?;
        giant.tables.settle(&device.machine).await?;
        let start = Instant::now();
        device.sync(vec![to_device], Vec::new(), Vec::new()).await?;
        ours.push(start.elapsed());
        device.room.members().await?;
    }
    figures.both("join by Welcome", ours, openmls);
    Ok(())
}

async fn join_externally(figures: &Figures, giant: &mut Giant) -> Result {
    let (mut ours, mut openmls) = (Vec::new(), Vec::new());
    let mut bytes = (0, 0);
    for number in 0..rounds(figures.devices, COMMITS) {
        let store = tempfile::tempdir()?;
        let name = format!("E{number}");
        let device = Device::open("@fresh:example.org", &name, store.path()).await?;
        device.upload(&mut giant.tables).await?;
        let commit = giant.founder.update();
        let event = giant.founders_commit(&commit, true)?;
        let info = giant.founder.group_info();
        let mut peer = Peer::new("@fresh:example.org", &format!("{name}PEER"));
        timed(&mut openmls, || peer.try_join_externally(&info))?;
        let state = giant.room_state();
        device.sync(Vec::new(), state, Vec::new()).await?;
        giant.tables.settle(&device.machine).await?;
        giant.tables.take_sent();
        let start = Instant::now();
        device.sync(Vec::new(), Vec::new(), vec![event]).await?;
        let taken = start.elapsed();
        ours.push(taken + giant.tables.make_ready(&device.machine, &device.room).await?.calls);
        let sent = giant.tables.take_sent();
        bytes = (sent.bytes - sent.tree_bytes, sent.tree_bytes);
        device.room.members().await?;
        // The next one must not add it.
        giant.tables.unpublish("@fresh:example.org", &name);
    }
    figures.of(OURS, "join by external commit").times(ours).bytes(bytes).print();
    figures.of(OPENMLS, "join by external commit").times(openmls).print();
    Ok(())
}

/// Opening the store, and the first message after it: what loads the room.
async fn open(figures: &Figures, giant: Giant, store: &std::path::Path) -> Result {
    let (mut opened, mut loaded, mut openmls) = (Vec::new(), Vec::new(), Vec::new());
    let Giant { mut device, founder, .. } = giant;
    let mut bytes = None;
    for _ in 0..20 {
        device.machine.shutdown().await?;
        let start = Instant::now();
        device = Device::open("@me:example.org", "ME", store).await?;
        opened.push(start.elapsed());
        let before = written();
        let start = Instant::now();
        let sealed = device.room.encrypt("m.room.message".into(), TEXT.into()).await;
        loaded.push(start.elapsed());
        sealed?;
        bytes = since(before, 1);
    }
    let id = openmls::prelude::GroupId::from_slice(ROOM.as_bytes());
    for _ in 0..rounds(figures.devices, COMMITS) {
        timed(&mut openmls, || MlsGroup::load(founder.provider.storage(), &id).map(drop))?;
    }
    figures.of(OURS, "open the store").times(opened).print();
    figures.of(OURS, "load a room").times(loaded).written(bytes).print();
    figures.of(OPENMLS, "load a room").times(openmls).print();
    Ok(())
}
