//! What a message (and adding a device, docs/decisions/003) costs, by the size of the room: sealing (persisted: the SQLite commit included) and
//! opening, through the public API and on a real file, beside OpenMLS in memory in the same run.
//! `cargo xtask bench` adds openmls_sqlite_storage, which cannot be linked into the same program.
//!
//! Prints a JSON line a figure: who, operation, devices, and microseconds (median, 95th percentile).

use std::time::{Duration, Instant};

use matrix_mls_kit::{giant::Giant, peer::Peer};
use serde_json::json;

/// How often an operation is measured.
const ROUNDS: usize = 400;
/// How often a commit is measured.
const COMMITS: usize = 10;

fn report(who: &str, operation: &str, devices: usize, mut times: Vec<Duration>) {
    times.sort();
    let at = |part: usize| times[times.len() * part / 100].as_secs_f64() * 1e6;
    let line = json!({
        "who": who, "operation": operation, "devices": devices,
        "median_us": (at(50) * 10.0).round() / 10.0, "p95_us": (at(95) * 10.0).round() / 10.0,
    });
    println!("{line}");
}

fn main() {
    // `cargo bench -- 10 1000` measures those sizes; flags that cargo adds are none of ours.
    let chosen: Vec<usize> = std::env::args().filter_map(|arg| arg.parse().ok()).collect();
    let sizes = if chosen.is_empty() { vec![10, 100, 1_000, 10_000] } else { chosen };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    for devices in sizes {
        runtime.block_on(measure(devices));
    }
}

async fn measure(devices: usize) {
    let store = tempfile::tempdir().expect("a directory");
    eprintln!("making a room of {devices} devices …");
    let mut giant = Giant::new(devices, store.path()).await;
    let content = r#"{"msgtype":"m.text","body":"forty-two characters are enough for a text"}"#;

    let mut times = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let sealed = giant.room.encrypt("m.room.message".into(), content.into()).await;
        times.push(start.elapsed());
        sealed.expect("the room is ready");
    }
    report("matrix-mls", "encrypt, persisted", devices, times);

    let events: Vec<_> =
        (0..ROUNDS).map(|number| giant.message_event(&number.to_string())).collect();
    let mut times = Vec::with_capacity(ROUNDS);
    for event in &events {
        let event = event.clone();
        let start = Instant::now();
        let opened = giant.room.decrypt(event).await;
        times.push(start.elapsed());
        opened.expect("the message opens");
    }
    report("matrix-mls", "decrypt", devices, times);

    let plaintext = Peer::plaintext(&giant.room_id, content);
    let mut times = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let start = Instant::now();
        giant.founder.seal(&plaintext);
        times.push(start.elapsed());
    }
    report("OpenMLS, in memory", "encrypt, not persisted", devices, times);

    let package = Peer::new("@late:example.org", "LATE").key_package();
    for (path, operation) in [(true, "add one, with a path"), (false, "add one, without")] {
        let mut times = Vec::with_capacity(COMMITS);
        for _ in 0..COMMITS {
            let start = Instant::now();
            giant.founder.try_add(&package, path);
            times.push(start.elapsed());
        }
        report("OpenMLS, in memory", operation, devices, times);
    }
}
