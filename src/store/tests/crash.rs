//! Kills at the steps of a commit: what was committed is there after, what was not is not.

use std::{
    os::unix::process::ExitStatusExt,
    process::{Command, Output},
};

use tempfile::TempDir;

use super::{Outcome, Record, open, record};
use crate::store::{
    Collection, Queue,
    hooks::{self, AFTER_COMMIT, BEFORE_COMMIT},
};

const RECORDS: Collection<Record> = Collection::new("records");
const QUEUE: Queue<Record> = Queue::new("queue");
const DIR: &str = "MATRIX_MLS_CRASH_DIR";
const ARM: &str = "MATRIX_MLS_CRASH_ARM";
const SIGKILL: i32 = 9;

/// The child's part. Run as a test of its own it writes to a directory of its own.
#[test]
fn child_writes_four_times() -> Outcome {
    let temporary = TempDir::new()?;
    let dir = std::env::var_os(DIR).map_or_else(|| temporary.path().to_owned(), Into::into);
    let store = open(&dir)?;
    // The other way to set a trap; what `arm` does replaces what the variable said.
    if let Ok(nth) = std::env::var(ARM) {
        hooks::arm(AFTER_COMMIT, nth.parse()?);
    }
    let before = hooks::commits();
    for n in 1..=4 {
        let name = format!("{n}");
        store.write(|tx| {
            RECORDS.put(tx, b"", name.as_bytes(), &record(&name))?;
            QUEUE.push(tx, b"", 0, &record(&name))
        })?;
    }
    assert!(hooks::commits() >= before + 4);
    assert_eq!(store.read(|tx| RECORDS.count(tx, b""))?, 4);
    Ok(())
}

fn run_child(dir: &TempDir, kill: &str) -> Outcome<Output> {
    Ok(child(dir, kill)?.output()?)
}

fn child(dir: &TempDir, kill: &str) -> Outcome<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command
        .args(["--exact", "store::tests::crash::child_writes_four_times", "--test-threads=1"])
        .env(DIR, dir.path())
        .env("MATRIX_MLS_KILL", kill);
    Ok(command)
}

#[test]
fn a_kill_keeps_what_was_committed_and_nothing_else() -> Outcome {
    for (point, nth, kept) in
        [(BEFORE_COMMIT, 1, 0), (AFTER_COMMIT, 1, 1), (BEFORE_COMMIT, 3, 2), (AFTER_COMMIT, 4, 4)]
    {
        let dir = TempDir::new()?;
        let status = run_child(&dir, &format!("{point}:{nth}"))?.status;
        assert_eq!(status.signal(), Some(SIGKILL), "{point}:{nth}");
        let store = open(dir.path())?;
        let (records, entries) =
            store.read(|tx| Ok::<_, super::StoreError>((RECORDS.list_all(tx)?, QUEUE.all(tx)?)))?;
        let expected: Vec<_> = (1..=kept).map(|n| record(&n.to_string())).collect();
        assert_eq!(records, expected, "{point}:{nth}");
        assert_eq!(entries.into_iter().map(|(_, value)| value).collect::<Vec<_>>(), expected);
    }
    Ok(())
}

#[test]
fn an_armed_trap_kills_too() -> Outcome {
    let dir = TempDir::new()?;
    let output = child(&dir, "before-commit:1")?.env(ARM, "2").output()?;
    assert_eq!(output.status.signal(), Some(SIGKILL));
    let store = open(dir.path())?;
    assert_eq!(store.read(|tx| RECORDS.count(tx, b""))?, 2);
    Ok(())
}

#[test]
fn a_point_never_reached_kills_nothing() -> Outcome {
    for kill in ["before-commit:9", "elsewhere:1", "before-commit", "before-commit:0x"] {
        let dir = TempDir::new()?;
        assert!(run_child(&dir, kill)?.status.success(), "{kill}");
    }
    Ok(())
}

#[test]
fn a_second_process_is_refused_until_the_first_lets_go() -> Outcome {
    let dir = TempDir::new()?;
    let store = open(dir.path())?;
    let refused = run_child(&dir, "")?;
    assert!(!refused.status.success());
    let said = [refused.stdout, refused.stderr].concat();
    assert!(String::from_utf8_lossy(&said).contains("InUse"));
    drop(store);
    assert!(run_child(&dir, "")?.status.success());
    Ok(())
}
