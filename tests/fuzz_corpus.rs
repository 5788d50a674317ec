//! The inputs in `fuzz/corpus`, one after the other: what the fuzzer was given to begin with, and what
//! it has found. No fuzzer is needed for it.

#[path = "../fuzz/targets/mod.rs"]
mod targets;

use std::{fs, path::PathBuf, time::Duration};

use matrix_mls::RecoveryKey;
use matrix_mls_kit::Result;
use serde_json::{Value, json};

/// How long one input may take: this is built without optimisation, and runs beside other tests.
const LONGEST: Duration = Duration::from_secs(10);

/// How large an input and all of them may be.
const LARGEST: usize = 4 << 10;
const ALL: usize = 500 << 10;

fn corpus(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name)
}

/// The inputs of a target, in the order of their names.
fn inputs(name: &str) -> Result<Vec<PathBuf>> {
    let files = fs::read_dir(corpus(name))?.map(|file| Ok(file?.path())).collect::<Result<_>>();
    let mut files: Vec<PathBuf> = files?;
    files.sort();
    Ok(files)
}

#[test]
fn every_input_is_taken() -> Result {
    let mut size = 0;
    for target in targets::TARGETS {
        targets::World::end();
        let began = std::time::Instant::now();
        let inputs = inputs(target.name)?;
        assert!(!inputs.is_empty(), "{} has no inputs", target.name);
        for input in &inputs {
            println!("{}", input.display());
            let bytes = fs::read(input)?;
            assert!(bytes.len() <= LARGEST, "{} is too large", input.display());
            size += bytes.len();
            (target.run)(&bytes);
        }
        println!("{}: {} inputs, {:?}", target.name, inputs.len(), began.elapsed());
    }
    assert!(size <= ALL, "the corpus has {size} bytes");
    Ok(())
}

/// Writes the inputs that come from a room: bodies of syncs with a Welcome, commits, offers and
/// messages.
#[test]
#[ignore = "it writes into the corpus: run it where the wire has changed"]
fn what_a_room_recorded_is_written() -> Result {
    let write = |target: &str, name: &str, text: &str| fs::write(corpus(target).join(name), text);
    let (to_device, events) = targets::World::show(|world| {
        let unnamed = |value: &Value| targets::unnamed(&value.to_string(), world);
        let all = |values: &[Value]| values.iter().map(unnamed).collect::<Vec<_>>();
        (all(&world.to_device), all(&world.events))
    });
    for (number, event) in to_device.iter().enumerate() {
        let body = json!({ "next_batch": "1", "to_device": { "events": [null] } });
        let body = body.to_string().replace("null", event);
        write("sync", &format!("to-device-{number}"), &body)?;
    }
    for (number, event) in events.iter().enumerate() {
        let room = json!({ "{room}": { "timeline": { "events": [null] } } });
        let body = json!({ "next_batch": "1", "rooms": { "join": room } });
        write("sync", &format!("event-{number:02}"), &body.to_string().replace("null", event))?;
        write("keys", &format!("event-{number:02}"), event)?;
        let request = json!({ "conn_id": "rooms", "lists": { "all": { "ranges": [[0, 9]] } } });
        let room = json!({ "{room}": { "timeline": [null], "required_state": [] } });
        let body = json!({ "pos": "1", "rooms": room, "lists": { "all": { "count": 1 } } });
        let body = body.to_string().replace("null", event);
        write("sliding", &format!("event-{number:02}"), &format!("\n{request}\n{body}"))?;
    }
    let key = RecoveryKey::from_bytes((0..32).collect())?;
    Ok(write("keys", "text", &key.text())?)
}
