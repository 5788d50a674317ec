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
    sim::{
        Profile,
        farm::{self, Job},
    },
};

/// How many schedules are run that are the same each time, and how many that nobody has seen.
const FIXED: u64 = 1_000;
const NEW: u64 = 100;
/// The same of those in which a member and servers lie. `cargo xtask simulate --only Hostile` runs
/// more.
const FIXED_HOSTILE: u64 = 140;
const NEW_HOSTILE: u64 = 20;
/// The same of those with phones that sync by sliding sync.
const FIXED_PHONES: u64 = 90;
const NEW_PHONES: u64 = 5;
/// New seeds are above those that people choose, and below this.
const LOWEST_NEW: u64 = 1_000_000_000;
const HIGHEST_NEW: u64 = 1_000_000_000_000;

/// The first schedules of all, and some new ones, on all cores. `cargo xtask simulate` runs more,
/// and one of them again.
#[test]
fn devices_come_to_agree() -> Result {
    all_hold(&Profile::HONEST, "", FIXED, NEW)
}

/// The same where a member of the room lies, and servers lie to their devices.
#[test]
fn honest_devices_come_to_agree_beside_liars() -> Result {
    all_hold(&[Profile::Hostile], " --only Hostile", FIXED_HOSTILE, NEW_HOSTILE)
}

/// The same where phones sync by sliding sync, sleep for weeks, and have the wrong time.
#[test]
fn phones_that_sleep_for_weeks_come_to_agree() -> Result {
    all_hold(&[Profile::Phones], " --only Phones", FIXED_PHONES, NEW_PHONES)
}

/// Runs so many schedules of these kinds: the first ones, and new ones.
fn all_hold(profiles: &[Profile], only: &str, fixed: u64, new: u64) -> Result {
    let drawn = RandomState::new().hash_one("the first of the new seeds");
    let first = LOWEST_NEW + drawn % (HIGHEST_NEW - LOWEST_NEW);
    // Past the harness, which shows what a test prints only where it fails.
    let again = format!("cargo xtask simulate --seed {first} --schedules {new}{only}");
    if new > 0 {
        writeln!(io::stderr(), "the new seeds again: {again}")?;
    }
    for (seed, schedules) in [(1, fixed), (first, new)].into_iter().filter(|(_, many)| *many > 0) {
        let this = env::current_exe()?;
        let job = Job { seed, profiles: profiles.to_vec(), ..Job::new(schedules) };
        let harvest = farm::run(&job, None, true, || {
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
