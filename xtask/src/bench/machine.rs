//! What the figures were measured on: machine, date, and the versions of the contenders.

use std::{
    fs,
    process::Command,
    thread,
    time::{SystemTime, UNIX_EPOCH},
};

use serde_json::{Map, Value};

use crate::step::workspace;

/// All of it, by name.
pub fn describe() -> Map<String, Value> {
    let mut all = Map::new();
    let mut put = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            all.insert(name.to_owned(), Value::String(value));
        }
    };
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    put("date", Some(date(seconds / 86_400)));
    put("processor", line_of("/proc/cpuinfo", "model name"));
    put("cores", thread::available_parallelism().ok().map(|cores| cores.to_string()));
    put("memory", line_of("/proc/meminfo", "MemTotal"));
    put("system", said_by("uname", "-sr"));
    put("compiler", said_by("rustc", "--version"));
    let ours = ["openmls", "vodozemac", "rusqlite"].map(|name| (name, "Cargo.lock"));
    let peers = ["mls-rs", "mls-rs-provider-sqlite", "openmls_sqlite_storage"];
    let peers = peers.map(|name| (name, "benches/peers/Cargo.lock"));
    for (name, lock) in ours.into_iter().chain(peers) {
        let text = fs::read_to_string(workspace().join(lock)).unwrap_or_default();
        put(name, version(&text, name));
    }
    all
}

fn line_of(file: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn said_by(program: &str, argument: &str) -> Option<String> {
    let output = Command::new(program).arg(argument).output().ok()?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The version of a package in a Cargo.lock.
fn version(lock: &str, name: &str) -> Option<String> {
    let (_, after) = lock.split_once(&format!("name = \"{name}\"\nversion = \""))?;
    Some(after.split('"').next()?.to_owned())
}

/// The date of a day since 1970, as ISO 8601 has it.
fn date(mut days: u64) -> String {
    let is_leap = |year: u64| {
        (year.is_multiple_of(4) && !year.is_multiple_of(100)) || year.is_multiple_of(400)
    };
    let mut year = 1970;
    while days >= 365 + u64::from(is_leap(year)) {
        days -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let february = 28 + u64::from(is_leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    format!("{year}-{month:02}-{:02}", days + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        assert_eq!(date(0), "1970-01-01");
        assert_eq!(date(365 + 365 + 59), "1972-02-29");
        assert_eq!(date(20_782), "2026-11-25");
        assert_eq!(date(20_818), "2026-12-31");
    }

    #[test]
    fn versions() {
        let lock = "[[package]]\nname = \"openmls\"\nversion = \"0.9.2\"\n";
        assert_eq!(version(lock, "openmls").as_deref(), Some("0.9.2"));
        assert_eq!(version(lock, "open"), None);
    }
}
