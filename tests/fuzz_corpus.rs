//! The inputs in `fuzz/corpus`, one after the other: what the fuzzer was given to begin with, and
//! what it has found. No fuzzer is needed for it.

#[path = "../fuzz/targets/mod.rs"]
mod targets;

use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use matrix_mls::{ErrorDetails, MlsError, RecoveryKey};
use matrix_mls_kit::{OrMissing as _, Result};
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

/// Gives a target its inputs, in a world of their own.
fn replay(name: &str) -> Result {
    let target = targets::TARGETS.into_iter().find(|target| target.name == name);
    let run = target.or_missing("target of that name")?.run;
    targets::World::end();
    let (began, inputs) = (Instant::now(), inputs(name)?);
    assert!(!inputs.is_empty(), "{name} has no inputs");
    for input in &inputs {
        println!("{}", input.display());
        run(&fs::read(input)?);
    }
    println!("{name}: {} inputs, {:?}", inputs.len(), began.elapsed());
    Ok(())
}

/// A test for each target, so that they run side by side.
macro_rules! replayed {
    ($($name:ident),*) => {
        const REPLAYED: &[&str] = &[$(stringify!($name)),*];
        $(
            #[test]
            fn $name() -> Result {
                replay(stringify!($name))
            }
        )*
    };
}

replayed!(sync, sliding, keys, room, state, to_device, answers, files, backup);

#[test]
fn every_target_is_replayed_and_its_inputs_are_small() -> Result {
    let mut size = 0;
    for target in targets::TARGETS {
        assert!(REPLAYED.contains(&target.name), "{} is not replayed", target.name);
        for input in inputs(target.name)? {
            let length = usize::try_from(fs::metadata(&input)?.len())?;
            assert!(length <= LARGEST, "{} is too large", input.display());
            size += length;
        }
    }
    assert!(size <= ALL, "the corpus has {size} bytes");
    Ok(())
}

#[test]
#[should_panic(expected = "Internal")]
fn an_error_of_the_librarys_own_is_a_finding() {
    let (code, reason) = ("defect".to_owned(), "anything".to_owned());
    let details = ErrorDetails { code, reason, retryable: false };
    targets::answered::<()>(Err(MlsError::Internal { details }));
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
