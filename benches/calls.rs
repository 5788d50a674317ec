//! What calls of the exported API cost from Rust: the measure for what Kotlin and Swift add. The
//! programs `Calls` of bindings/kotlin and bindings/swift do the same, step by step, and `cargo
//! xtask bench` runs all three.
//!
//! A device that is alone in a room; the call that does nothing in Rust but hand out a string,
//! sealing, opening the message just sealed, and taking in an empty sync. Each waits for the one
//! before.
//!
//! `--hop` measures what the change to another thread and back costs alone: one of tokio's that may
//! block, and one that waits for work of its own (docs/decisions/041). Prints a JSON line a figure.

use std::{
    future::Future,
    time::{Duration, Instant},
};

use matrix_mls::{MlsMachine, MlsRoom, RoomSettings, SendPlan};
use matrix_mls_kit::{Result, config, feed};
use serde_json::{Value, json};

const ROUNDS: usize = 2_000;
/// A call of a microsecond is timed in runs of so many.
const AT_ONCE: u32 = 100;
const ROOM: &str = "!calls:example.org";
const CONTENT: &str = r#"{"msgtype":"m.text","body":"forty-two characters are enough for a text"}"#;

#[tokio::main]
async fn main() -> Result {
    if std::env::args().any(|argument| argument == "--hop") {
        return hop().await;
    }
    let store = tempfile::tempdir()?;
    let machine = MlsMachine::open(config("@alice:example.org", "PHONE", store.path())).await?;
    let room = enable_alone(&machine).await?;

    let mut times = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let start = Instant::now();
        for _ in 0..AT_ONCE {
            std::hint::black_box(machine.user_id());
        }
        times.push(start.elapsed() / AT_ONCE);
    }
    report("userId", times);

    let mut sealed = String::new();
    let mut times = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let call = room.encrypt("m.room.message".into(), CONTENT.into());
        sealed = timed(&mut times, call).await?;
    }
    report("encrypt", times);

    let content: Value = serde_json::from_str(&sealed)?;
    let event = json!({
        "type": "m.room.encrypted", "event_id": "$message:example.org",
        "sender": "@alice:example.org", "content": content,
    })
    .to_string();
    let mut times = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        timed(&mut times, room.decrypt(event.clone())).await?;
    }
    report("decrypt", times);

    let mut times = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        timed(&mut times, machine.receive_sync(feed())).await?;
    }
    report("receiveSync", times);
    Ok(())
}

/// Changes to another thread and back, in two ways, in turn.
async fn hop() -> Result {
    type Work = Box<dyn FnOnce() + Send>;
    let (own, works) = std::sync::mpsc::channel::<Work>();
    let thread = std::thread::spawn(move || works.into_iter().for_each(|work| work()));
    let (mut tokios, mut owns) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        timed(&mut tokios, tokio::task::spawn_blocking(|| ())).await?;
        let back = async {
            let (done, ended) = tokio::sync::oneshot::channel();
            // Whoever waits for the answer sees that none came.
            let job = move || {
                // Whoever has begun this waits for it.
                let _ = done.send(());
            };
            let _ = own.send(Box::new(job));
            ended.await
        };
        timed(&mut owns, back).await?;
    }
    drop(own);
    assert!(thread.join().is_ok());
    report("hop, spawn_blocking", tokios);
    report("hop, a thread of its own", owns);
    Ok(())
}

async fn timed<T>(times: &mut Vec<Duration>, call: impl Future<Output = T>) -> T {
    let start = Instant::now();
    let value = call.await;
    times.push(start.elapsed());
    value
}

async fn enable_alone(machine: &MlsMachine) -> Result<std::sync::Arc<MlsRoom>> {
    // The first sync has the device lists asked for.
    machine.receive_sync(feed()).await?;
    let room = machine.room(ROOM.into())?;
    let settings = RoomSettings { rotate_after_messages: 1_000_000, ..RoomSettings::default() };
    room.enable(settings).await?;
    while let SendPlan::Waiting { requests, .. } = room.prepare_to_send().await? {
        assert!(!requests.is_empty(), "nothing to do and not ready");
        for request in machine.outgoing_requests().await? {
            let answer = match &request.path {
                path if path.contains("/keys/upload") => json!({ "one_time_key_counts": {} }),
                path if path.contains("/keys/query") => json!({ "device_keys": {} }),
                path if path.contains("/members") => json!({ "chunk": [{
                    "type": "m.room.member", "state_key": machine.user_id(),
                    "sender": machine.user_id(), "event_id": "$join",
                    "content": { "membership": "join" },
                }] }),
                _ => json!({ "event_id": format!("${}:example.org", request.id) }),
            };
            let answer = answer.to_string().into_bytes();
            machine.mark_request_as_sent(request.id, 200, answer).await?;
        }
    }
    Ok(room)
}

fn report(operation: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |part: usize| {
        let microseconds = times[times.len() * part / 100].as_secs_f64() * 1e6;
        (microseconds * 100.0).round() / 100.0
    };
    let line = json!({
        "part": "bindings", "who": "Rust", "operation": operation,
        "median_us": at(50), "p95_us": at(95), "runs": times.len(),
    });
    println!("{line}");
}
