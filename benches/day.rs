//! An app's day: 500 rooms on disk, the store opened, a sync of 10,000 events over them, 100
//! messages sent.
//!
//! The rooms are made by this program, the day is had by another: itself, started anew with
//! `--day`, so that peak memory and what was written are the day's alone. **Cold**: a new process,
//! and the system holds nothing of the store's files (it is asked to let go of them). **Warm**: the
//! same process again, after the store was closed, with a second sync of the same size.
//!
//! `cargo bench --bench day -- 500 10000` (rooms, events of a sync; the default). Prints a JSON
//! line a figure. What the system does not tell (anywhere but on Linux) is left out.

use std::{
    path::Path,
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use matrix_mls::{EventOutcome, MlsMachine, SendPlan, sync_changes_from_response};
use matrix_mls_kit::{
    Result,
    many_rooms::{ManyRooms, config},
};
use serde_json::{Value, json};

/// How many of the rooms are large: one in so many.
const LARGE_ONE_IN: usize = 50;
const LARGE: usize = 100;
const SMALL: usize = 5;
/// How many messages are sent, each in another room.
const SENDS: usize = 100;
/// How often the store is opened cold.
const OPENINGS: usize = 5;
const CONTENT: &str = r#"{"msgtype":"m.text","body":"forty-two characters are enough for a text"}"#;

fn main() -> Result {
    let arguments: Vec<String> = std::env::args().collect();
    let runtime = tokio::runtime::Runtime::new()?;
    let at = |option: &str| {
        let position = arguments.iter().position(|argument| argument == option)?;
        arguments.get(position + 1).map(Path::new)
    };
    if let Some(directory) = at("--open") {
        println!("{}", runtime.block_on(open(directory))?.1.as_nanos());
        Ok(())
    } else if let Some(directory) = at("--day") {
        runtime.block_on(day(directory))
    } else {
        // Flags that cargo adds are none of ours.
        let chosen: Vec<usize> = arguments.iter().filter_map(|arg| arg.parse().ok()).collect();
        let (rooms, events) = match chosen[..] {
            [rooms, events, ..] => (rooms, events),
            _ => (500, 10_000),
        };
        run(&runtime, rooms, events)
    }
}

/// Makes the rooms, then has others go through the day.
fn run(runtime: &tokio::runtime::Runtime, rooms: usize, events: usize) -> Result {
    let directory = tempfile::tempdir()?;
    eprintln!("making {rooms} rooms …");
    let sizes: Vec<_> =
        (0..rooms).map(|room| if room % LARGE_ONE_IN == 0 { LARGE } else { SMALL }).collect();
    let store = directory.path().join("store");
    let mut others = runtime.block_on(ManyRooms::new(&sizes, &store))?;
    for number in 0..2 {
        let response = others.sync(events / rooms);
        std::fs::write(directory.path().join(format!("sync-{number}.json")), response)?;
    }
    drop(others);

    let mut times = Vec::with_capacity(OPENINGS);
    for _ in 0..OPENINGS {
        let output = again("--open", directory.path())?.output()?;
        assert!(output.status.success(), "opening failed");
        let text = String::from_utf8(output.stdout)?;
        times.push(Duration::from_nanos(text.trim().parse()?));
    }
    let operation = format!("open {rooms} rooms, cold");
    report(&operation, rooms, &mut times, json!({ "database_bytes": size(directory.path())? }));
    let status = again("--day", directory.path())?.status()?;
    assert!(status.success(), "the day failed");
    Ok(())
}

/// This program again, after the system has let go of what it holds of the store's files.
fn again(option: &str, directory: &Path) -> Result<Command> {
    for file in std::fs::read_dir(directory.join("store"))?.flatten() {
        // GNU dd asks for that, of a whole file, when it copies nothing of it.
        let of = format!("of={}", file.path().display());
        let arguments = [of.as_str(), "oflag=nocache", "conv=notrunc,fdatasync", "count=0"];
        let _ = Command::new("dd").args(arguments).output();
    }
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(option).arg(directory);
    Ok(command)
}

/// Opens the store and takes the handle of each room, as an app does before it shows the list.
async fn open(directory: &Path) -> Result<(Arc<MlsMachine>, Duration, usize)> {
    let start = Instant::now();
    let machine = MlsMachine::open(config(&directory.join("store"))).await?;
    let mut rooms = Vec::new();
    for id in machine.rooms().await? {
        rooms.push(machine.room(id)?);
    }
    Ok((machine, start.elapsed(), rooms.len()))
}

async fn day(directory: &Path) -> Result {
    for (number, state) in ["cold", "warm"].into_iter().enumerate() {
        let (machine, took, rooms) = open(directory).await?;
        if state == "warm" {
            report(&format!("open {rooms} rooms, warm"), rooms, &mut [took], memory());
        }
        let ids = machine.rooms().await?;

        let response = std::fs::read_to_string(directory.join(format!("sync-{number}.json")))?;
        let input = response.len();
        let before = Written::now();
        let start = Instant::now();
        let changes = sync_changes_from_response(response, Some("fed".to_owned()))?;
        let summary = machine.receive_sync(changes).await?;
        let took = start.elapsed();
        let mut events = 0;
        for event in summary.rooms.into_iter().flat_map(|room| room.events) {
            let outcome = event.outcome;
            let is_good =
                matches!(outcome, EventOutcome::Message { .. } | EventOutcome::Commit { .. });
            assert!(is_good, "{outcome:?}");
            events += 1;
        }
        let mut fields = memory();
        fields["input_bytes"] = json!(input);
        fields["events"] = json!(events);
        before.until_now(&mut fields);
        fields["database_bytes"] = json!(size(directory)?);
        report(&format!("sync, {state}"), rooms, &mut [took], fields);

        let before = Written::now();
        let (mut plans, mut seals) = (Vec::new(), Vec::new());
        for id in ids.iter().take(SENDS) {
            let room = machine.room(id.clone())?;
            let start = Instant::now();
            let plan = room.prepare_to_send().await?;
            plans.push(start.elapsed());
            assert_eq!(plan, SendPlan::Ready, "{id}");
            let start = Instant::now();
            let sealed = room.encrypt("m.room.message".into(), CONTENT.into()).await;
            seals.push(start.elapsed());
            sealed?;
        }
        let mut fields = memory();
        before.until_now(&mut fields);
        let total: Duration = plans.iter().chain(&seals).sum();
        fields["total_us"] = json!(total.as_micros());
        report(&format!("send, {state}"), rooms, &mut both(&plans, &seals), fields);
        report(&format!("send: prepare, {state}"), rooms, &mut plans, json!({}));
        report(&format!("send: encrypt, {state}"), rooms, &mut seals, json!({}));
        machine.shutdown().await?;
    }
    Ok(())
}

fn both(plans: &[Duration], seals: &[Duration]) -> Vec<Duration> {
    plans.iter().zip(seals).map(|(plan, seal)| *plan + *seal).collect()
}

fn report(operation: &str, rooms: usize, times: &mut [Duration], fields: Value) {
    times.sort();
    let at = |part: usize| {
        let microseconds = times[times.len() * part / 100].as_secs_f64() * 1e6;
        (microseconds * 10.0).round() / 10.0
    };
    let mut line = json!({
        "part": "day", "who": "matrix-mls", "operation": operation, "rooms": rooms,
        "median_us": at(50), "p95_us": at(95), "runs": times.len(),
    });
    if let (Some(line), Value::Object(fields)) = (line.as_object_mut(), fields) {
        line.extend(fields);
    }
    println!("{line}");
}

/// The most memory that this process has had resident.
fn memory() -> Value {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kilobytes = status.lines().find_map(|line| {
        let rest = line.strip_prefix("VmHWM:")?.trim().strip_suffix("kB")?;
        rest.trim().parse::<u64>().ok()
    });
    kilobytes.map_or(json!({}), |kilobytes| json!({ "peak_bytes": kilobytes * 1024 }))
}

/// What this process has written so far: to files as it sees it, and to pages that reach the disk.
struct Written(Option<(u64, u64)>);

impl Written {
    fn now() -> Self {
        let text = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
        let field = |name: &str| {
            text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok())
        };
        Self(field("wchar:").zip(field("write_bytes:")))
    }

    fn until_now(self, fields: &mut Value) {
        if let (Some(before), Some(now)) = (self.0, Self::now().0) {
            fields["file_bytes"] = json!(now.0 - before.0);
            fields["written_bytes"] = json!(now.1 - before.1);
        }
    }
}

/// How large the store's files are together.
fn size(directory: &Path) -> Result<u64> {
    let files = std::fs::read_dir(directory.join("store"))?.flatten();
    Ok(files.filter_map(|file| Some(file.metadata().ok()?.len())).sum())
}
