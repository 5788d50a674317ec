//! Histories of a room with everything going wrong that can: whatever happened, all devices come
//! to agree, and nobody reads what was not meant for them. See docs/simulator.md.
//!
//! `MATRIX_MLS_SCHEDULES` says how many are run, `MATRIX_MLS_SEED=Forks:17` runs that one and tells what
//! happens in it, and so does a schedule in its place.

use std::{env, process::Command};

use matrix_mls_kit::sim::{
    Profile, Schedule, Search,
    farm::{self, Job},
    loud,
};

/// Schedules that once failed, each with why.
const KNOWN: &str = include_str!("simulator.jsonl");
/// How many schedules are run where it is not said.
const SCHEDULES: u64 = 2_000;
/// What they are drawn from.
const PROFILES: [Profile; 3] = Profile::ALL;

#[derive(serde::Deserialize)]
struct Known {
    why: String,
    schedule: Schedule,
}

/// The schedules that once failed, and then new ones, on all cores.
#[test]
fn devices_come_to_agree() {
    if let Ok(which) = env::var("MATRIX_MLS_SEED") {
        return one(&which);
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
        profiles: match env::var("MATRIX_MLS_PROFILE") {
            Ok(only) => PROFILES.into_iter().filter(|known| format!("{known:?}") == only).collect(),
            Err(_) => PROFILES.to_vec(),
        },
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

/// Runs one schedule, named by its profile and seed or written out, and tells everything.
fn one(which: &str) {
    loud::be_loud();
    let mut search = Search::new().unwrap();
    let outcome = match serde_json::from_str::<Schedule>(which) {
        Ok(schedule) => search.run(&schedule),
        Err(_) => {
            let (profile, seed) = which.split_once(':').expect("PROFILE:NUMBER, or a schedule");
            let profile = Profile::ALL.into_iter().find(|known| format!("{known:?}") == profile);
            search.seed(profile.expect("a profile"), seed.parse().expect("a number"))
        }
    };
    let violation = outcome.violation.map(|violation| violation.to_string());
    assert_eq!(violation, None, "{:#?} {:#?}", outcome.figures, outcome.counts);
}
