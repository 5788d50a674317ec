//! Says how a store stands: `inspect STORE [--json] [--graph FILE.svg [--room ROOM]]`.
//!
//! It reads beside whoever has the store open, and writes nothing into the store's directory. The
//! store's key comes from the environment, where no list of processes shows it.

use std::{env, fs, process::ExitCode};

use matrix_mls::{Diagnostics, EpochInfo, MlsReader, StoreKey};
use matrix_mls_kit::{KitError, Result, graph};
use serde_json::Value;

const KEY: &str = "MATRIX_MLS_STORE_KEY";
const PASSPHRASE: &str = "MATRIX_MLS_STORE_PASSPHRASE";

/// What the command line asks for.
#[derive(Default)]
struct Wanted {
    store: String,
    json: bool,
    graph: Option<String>,
    room: Option<String>,
}

fn main() -> ExitCode {
    match wanted().and_then(run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("inspect: {error}");
            ExitCode::FAILURE
        }
    }
}

fn wanted() -> Result<Wanted> {
    let mut wanted = Wanted::default();
    let mut arguments = env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--json" => wanted.json = true,
            "--graph" => wanted.graph = arguments.next(),
            "--room" => wanted.room = arguments.next(),
            _ => wanted.store = argument,
        }
    }
    Ok(wanted)
}

fn run(wanted: Wanted) -> Result {
    let runtime = tokio::runtime::Runtime::new()?;
    let report = runtime.block_on(report(wanted.store))?;
    if let Some(file) = wanted.graph {
        let json: Value = serde_json::from_str(&report.json)?;
        let room = room(&json, wanted.room.as_deref())?;
        fs::write(&file, graph::svg(&title(room), &epochs(room)))?;
        println!("{file}");
    } else if wanted.json {
        println!("{}", report.json);
    } else {
        print!("{}", report.text);
    }
    Ok(())
}

async fn report(store: String) -> Result<Diagnostics> {
    let reader = MlsReader::open(store, store_key()?).await?;
    Ok(reader.diagnostics().await?)
}

fn store_key() -> Result<StoreKey> {
    if let Ok(passphrase) = env::var(PASSPHRASE) {
        return Ok(StoreKey::Passphrase { passphrase });
    }
    let Ok(hex) = env::var(KEY) else { return Ok(StoreKey::Unprotected) };
    let digits: Option<Vec<u32>> = hex.trim().chars().map(|digit| digit.to_digit(16)).collect();
    let wrong = || KitError::Setup(format!("{KEY} must be 64 hex digits"));
    let digits = digits.filter(|digits| digits.len() == 64).ok_or_else(wrong)?;
    let byte = |pair: &[u32]| pair.iter().fold(0, |byte, digit| byte * 16 + digit);
    let key = digits.chunks(2).map(|pair| u8::try_from(byte(pair)));
    Ok(StoreKey::Raw { key: key.collect::<std::result::Result<_, _>>()? })
}

/// The room with this name, or the only one.
fn room<'a>(report: &'a Value, name: Option<&str>) -> Result<&'a Value> {
    let rooms = report["rooms"]["list"].as_array().map(Vec::as_slice).unwrap_or_default();
    let names: Vec<&str> = rooms.iter().filter_map(|room| room["room"].as_str()).collect();
    let found = match (name, rooms) {
        (None, [room]) => Some(room),
        (None, _) => None,
        (Some(name), _) => rooms.iter().find(|room| room["room"] == name),
    };
    Ok(found.ok_or_else(|| {
        KitError::Setup(format!("name one of these rooms with --room: {}", names.join(", ")))
    })?)
}

fn title(room: &Value) -> String {
    let text = |name: &str| room[name].as_str().unwrap_or_default().to_owned();
    format!("Room {}: {}", text("room"), text("standing"))
}

/// The epochs of a room, as a picture has them. Who made one is known by a short name alone.
fn epochs(room: &Value) -> Vec<EpochInfo> {
    let all = room["epochs"].as_array().map(Vec::as_slice).unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let texts = |value: &Value| -> Vec<String> {
        value.as_array().map(|all| all.iter().map(text).collect()).unwrap_or_default()
    };
    let is = |value: &Value| value.as_bool().unwrap_or_default();
    let accepted = all.iter().filter(|epoch| !is(&epoch["is_staged"]));
    accepted
        .map(|epoch| EpochInfo {
            epoch: epoch["number"].as_u64().unwrap_or_default(),
            id: text(&epoch["id"]),
            parent: epoch["parent"].as_str().map(ToOwned::to_owned),
            creator_user_id: String::new(),
            creator_device_id: text(&epoch["by"]),
            commit_event: epoch["event"].as_str().map(ToOwned::to_owned),
            is_head: is(&epoch["is_head"]),
            is_full: is(&epoch["is_full"]),
            members: epoch["devices"].as_u64().and_then(|n| n.try_into().ok()).unwrap_or_default(),
            is_external: is(&epoch["is_external"]),
            resolves: texts(&epoch["resolves"]),
            doubts: texts(&epoch["doubts"]),
        })
        .collect()
}
