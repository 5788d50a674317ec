//! Histories of a room with everything going wrong that can: whatever happened, all devices come
//! to agree, and nobody reads what was not meant for them. See docs/simulator.md.

use std::{
    env,
    hash::{BuildHasher as _, RandomState},
    io::{self, Write as _},
    process::Command,
};

use matrix_mls_kit::{
    Result,
    sim::farm::{self, Job},
};

/// How many schedules are run that are the same each time, and how many that nobody has seen.
const FIXED: u64 = 1_000;
const NEW: u64 = 100;
/// New seeds are above those that people choose, and below this.
const LOWEST_NEW: u64 = 1_000_000_000;
const HIGHEST_NEW: u64 = 1_000_000_000_000;

/// The first schedules of all, and some new ones, on all cores. `cargo xtask simulate` runs more,
/// and one of them again.
#[test]
fn devices_come_to_agree() -> Result {
    let drawn = RandomState::new().hash_one("the first of the new seeds");
    let new = LOWEST_NEW + drawn % (HIGHEST_NEW - LOWEST_NEW);
    // Past the harness, which shows what a test prints only where it fails.
    let again = format!("cargo xtask simulate --seed {new} --schedules {NEW}");
    writeln!(io::stderr(), "the new seeds again: {again}")?;
    for (seed, schedules) in [(1, FIXED), (new, NEW)] {
        let this = env::current_exe()?;
        let harvest = farm::run(&Job { seed, ..Job::new(schedules) }, None, true, || {
            let mut command = Command::new(&this);
            command.args(["--exact", "worker", "--nocapture"]);
            command
        })?;
        println!("seeds from {seed} on:\n{harvest}");
        assert!(harvest.holds(), "seeds from {seed} on:\n{harvest}");
    }
    Ok(())
}

/// What the other test starts on each core; nothing else.
#[test]
fn worker() {
    farm::work();
}
