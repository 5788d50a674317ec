//! Histories of a room with everything going wrong that can: whatever happened, all devices come
//! to agree, and nobody reads what was not meant for them. See docs/simulator.md.
//!
//! `MATRIX_MLS_SCHEDULES` says how many are run, `MATRIX_MLS_SEED=Forks:17` runs that one and prints what
//! happens in it.

use std::{env, process::Command};

use matrix_mls_kit::sim::{
    Profile, Schedule, Search,
    farm::{self, Job},
};

/// Schedules that once failed, each with why.
const KNOWN: &str = include_str!("simulator.jsonl");
/// How many schedules are run where it is not said.
const SCHEDULES: u64 = 2_000;
/// What they are drawn from.
const PROFILES: [Profile; 1] = [Profile::Calm];

#[derive(serde::Deserialize)]
struct Known {
    why: String,
    schedule: Schedule,
}

/// The schedules that once failed, and then new ones, on all cores.
#[test]
fn devices_come_to_agree() {
    if let Ok(seed) = env::var("MATRIX_MLS_SEED") {
        return one(&seed);
    }
    let mut search = Search::new().unwrap();
    for line in KNOWN.lines().filter(|line| !line.is_empty()) {
        let known: Known = serde_json::from_str(line).unwrap();
        let outcome = search.run(&known.schedule);
        let violation = outcome.violation.map(|violation| violation.to_string());
        assert_eq!(violation, None, "{}:\n{}", known.why, outcome.trace.join("\n"));
    }
    drop(search);

    let schedules = env::var("MATRIX_MLS_SCHEDULES").ok();
    let job = Job {
        profiles: PROFILES.to_vec(),
        seed: 1,
        schedules: schedules.map_or(SCHEDULES, |number| number.parse().unwrap()),
        stride: 1,
    };
    let this = env::current_exe().unwrap();
    let harvest = farm::run(&job, true, || {
        let mut command = Command::new(&this);
        command.args(["--exact", "worker", "--nocapture"]);
        command
    });
    let harvest = harvest.unwrap();
    println!("{harvest}");
    assert!(harvest.findings.is_empty() && harvest.broken.is_empty(), "{harvest}");
}

/// What the other test starts on each core; nothing else.
#[test]
fn worker() {
    farm::work();
}

/// The same schedule is the same history, though every key in it is another.
#[test]
fn a_seed_is_a_history() {
    if env::var_os(farm::VARIABLE).is_some() {
        return;
    }
}

fn one(seed: &str) {
    let (profile, seed) = seed.split_once(':').expect("PROFILE:NUMBER");
    let profile = Profile::ALL.into_iter().find(|known| format!("{known:?}") == profile);
    let (profile, seed) = (profile.expect("a profile"), seed.parse().expect("a number"));
    let mut search = Search::new().unwrap();
    let outcome = search.seed(profile, seed);
    println!("{}", outcome.trace.join("\n"));
    if let Some(finding) = search.shrink(profile, seed, outcome) {
        panic!("{finding}");
    }
}
