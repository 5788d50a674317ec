//! What the figures were measured on: the machine, the date, and the versions of the contenders.

use std::{fs, process::Command, thread};

use serde_json::{Map, Value};

use crate::paths::workspace;

/// Everything that is known, by name.
pub fn describe() -> Map<String, Value> {
    let mut all = Map::new();
    let mut put = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            all.insert(name.to_owned(), Value::String(value));
        }
    };
    put("date", said_by("date", "+%F"));
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

/// The value in the first line of a file that starts with this name, such as `MemTotal: 24 kB`.
fn line_of(file: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// What a program prints.
fn said_by(program: &str, argument: &str) -> Option<String> {
    let output = Command::new(program).arg(argument).output().ok()?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The version of a package in a Cargo.lock.
fn version(lock: &str, name: &str) -> Option<String> {
    let (_, after) = lock.split_once(&format!("name = \"{name}\"\nversion = \""))?;
    Some(after.split('"').next()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_found_by_the_whole_name() {
        let lock = "[[package]]\nname = \"openmls\"\nversion = \"0.9.2\"\n";
        assert_eq!(version(lock, "openmls").as_deref(), Some("0.9.2"));
        assert_eq!(version(lock, "open"), None);
    }
}
