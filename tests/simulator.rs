//! Histories of a room with everything going wrong that can: whatever happened, all devices come
//! to agree, and nobody reads what was not meant for them. See docs/simulator.md.

use std::{env, process::Command};

use matrix_mls_kit::{
    Result,
    sim::farm::{self, Job},
};

/// How many schedules are run.
const SCHEDULES: u64 = 2_000;

/// The first schedules of all, on all cores. `cargo xtask simulate` runs more, and one of them again.
#[test]
fn devices_come_to_agree() -> Result {
    let this = env::current_exe()?;
    let harvest = farm::run(&Job::new(SCHEDULES), None, true, || {
        let mut command = Command::new(&this);
        command.args(["--exact", "worker", "--nocapture"]);
        command
    })?;
    println!("{harvest}");
    assert!(harvest.holds(), "{harvest}");
    Ok(())
}

/// What the other test starts on each core; nothing else.
#[test]
fn worker() {
    farm::work();
}
