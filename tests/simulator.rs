//! Histories of a room with everything going wrong that can: whatever happened, all devices come
//! to agree, and nobody reads what was not meant for them. See docs/simulator.md.

use std::{env, process::Command};

use matrix_mls_kit::sim::farm::{self, Job};

/// How many schedules are run.
const SCHEDULES: u64 = 2_000;

/// The first schedules of all, on all cores. `cargo xtask simulate` runs more, and one of them again.
#[test]
fn devices_come_to_agree() {
    let this = env::current_exe().unwrap();
    let harvest = farm::run(&Job::new(SCHEDULES), None, true, || {
        let mut command = Command::new(&this);
        command.args(["--exact", "worker", "--nocapture"]);
        command
    });
    let harvest = harvest.unwrap();
    println!("{harvest}");
    assert!(harvest.holds(), "{harvest}");
}

/// What the other test starts on each core; nothing else.
#[test]
fn worker() {
    farm::work();
}
