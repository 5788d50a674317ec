//! The conformance run (docs/spec/8-conformance.md): a client in a process of its own meets a
//! partner of this library's and liars of plain OpenMLS, over nothing but Matrix's HTTP.
//!
//! What the client did is judged from the homeserver where that is possible, and from what it
//! prints where it is not. Each scenario has accounts and rooms of its own, and ends whatever the
//! client does; a client that hangs is given up after some scenarios.

mod coming;
mod device;
mod facts;
mod forks;
mod keeping;
mod keys;
mod leaving;
mod liars;
mod report;
mod stage;
mod trees;

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use tokio::{sync::Semaphore, task::JoinSet};

pub use self::report::{Outcome, Report};
use self::{
    device::Patience,
    report::{LeftOut, Log},
    stage::Stage,
};
use crate::{Homeserver, HomeserverKind, Result, bail, together::phone_of};

type Steps = for<'a> fn(&'a Stage) -> Pin<Box<dyn Future<Output = Result> + Send + 'a>>;

struct Scenario {
    name: &'static str,
    requirements: &'static [&'static str],
    expected: &'static str,
    steps: Steps,
}

macro_rules! scenarios {
    ($($module:ident::$name:ident [$($requirement:literal),*] $expected:literal;)*) => {
        /// All of them, in the order of the specification's pages.
        const SCENARIOS: &[Scenario] = &[$(Scenario {
            name: stringify!($name),
            requirements: &[$($requirement),*],
            expected: $expected,
            steps: |stage| Box::pin($module::$name(stage)),
        }),*];
    };
}

scenarios! {
    keys::publishes_device_keys ["I1", "I2", "D4"]
        "publish `device_keys` that name and sign themselves";
    keys::publishes_key_packages ["I2", "D1", "D10", "D11", "D12"]
        "publish bare KeyPackages under their KeyPackageRefs, and one of last resort";
    keys::is_added_by_its_last_resort_package ["D10", "D13"]
        "be added twice by the package of last resort";
    coming::joins_by_welcome ["R1", "R13"]
        "take a Welcome, read and be read, and need no commit for it";
    coming::is_added_while_invited ["D7", "R13"]
        "keep a Welcome until the room is shown, and read what was said before it came";
    coming::begins_a_group ["R2", "R12"]
        "announce a group, claim key packages, commit, send Welcomes";
    coming::joins_externally ["E14", "E15"]
        "come in by itself when it is asked to send and nobody is about";
    coming::loses_its_welcome ["E14", "E15", "R3"]
        "come in by itself in the place of the leaf that it has no Welcome for";
    coming::adds_a_device ["E8", "E9"]
        "add who came into the room before it says anything";
    coming::removes_a_device ["E8", "E9"]
        "remove who was put out or logged out before it says anything";
    coming::is_read_by_openmls ["E9", "R8", "R12"]
        "send commits, Welcomes and messages that plain OpenMLS takes";
    coming::takes_a_binding ["D2", "D3"]
        "know a device beside Olm by its leaf";
    coming::keeps_to_the_first_key ["D4", "D7"]
        "seal nothing to a device that is listed under other keys than before";
    coming::leaves_out_what_the_owner_has_not_signed ["D7"]
        "seal nothing to a device that its owner has not signed";
    coming::renews_its_keys ["E1", "R6"]
        "make a commit that has only a path";
    coming::renews_after_a_hundred ["E12"]
        "renew its keys after a hundred messages";
    coming::large_tree ["R15"]
        "fetch, check and upload a tree that no event holds";
    trees::joins_by_a_difference ["R15", "R17"]
        "join by what differs from a tree that is there, with a Welcome and by itself";
    trees::follows_beside_a_false_difference ["R18"]
        "follow commits beside differences that lead nowhere or to another tree";
    forks::follows_commits ["E1", "E4"]
        "follow commits one by one";
    forks::both_commit_at_once ["E1", "E4"]
        "follow a commit beside its own, read both branches, choose the same head";
    forks::follows_both_branches ["E1", "E4"]
        "follow two branches of others, read both, choose the same head";
    forks::merges_a_fork ["E9", "E10"]
        "add on the head whom the other branch has added";
    forks::returns_after_many_commits ["E2"]
        "page back over an absence of sixty commits, and read all of it";
    forks::does_without_a_redacted_commit ["E2", "E14"]
        "come in again where a commit that it never saw is gone";
    forks::follows_a_removed_device_not ["E4", "E9"]
        "keep its head beside a longer branch of a removed device";
    forks::goes_on_when_a_member_leaves ["E8", "E9"]
        "seal nothing more to who has left";
    forks::goes_where_the_room_is_started_anew ["E16", "E17", "I4"]
        "go on in the group of a restart, and read what was said before";
    forks::goes_nowhere_by_forged_restarts ["E16"]
        "stay where it is beside state that starts nothing";
    leaving::is_put_out ["D7", "E9"]
        "read and send nothing once it is put out, and come back by an invitation";
    leaving::comes_back_from_a_removal ["E14"]
        "come in again after a member removed its leaf";
    liars::refuses_a_made_up_number ["E7", "R6"]
        "follow the commit beside a made-up GroupInfo, and refuse the GroupInfo";
    liars::is_led_away_by_no_group_of_a_members_own ["E6"]
        "stay with the others beside a Welcome to a group that is further on";
    liars::takes_no_welcome_for_a_commit ["R14"]
        "process a commit whose event a Welcome to another group names";
    liars::takes_no_strangers_welcome ["R13", "E6"]
        "stay with the others beside a stranger's Welcome";
    liars::makes_no_room_one_of_this_protocol ["R1", "R13"]
        "stay out of rooms whose state does not name the protocol";
    liars::refuses_a_message_sealed_again ["R8", "R9"]
        "bind a message to its generation, its sender, its event and its room";
    liars::refuses_an_impostor ["D5"]
        "follow the commit that adds one, read nothing of it, remove it";
    liars::refuses_a_commit_in_anothers_name ["R4"]
        "compare `sender` with the event and with the leaf";
    liars::refuses_what_a_commit_may_not_change ["R3"]
        "refuse another credential in a leaf, and a proposal that stands alone";
    liars::passes_over_garbage ["R5", "R15"]
        "go on beside contents that are nothing";
    liars::reads_edits_of_nothing ["R8"]
        "read messages that relate to an event that is gone";
    keeping::its_backup_is_read ["H1", "H3", "H5"]
        "write a backup that another implementation reads";
    keeping::reads_a_backup ["H3", "H5", "H6"]
        "prove a key, and read with another implementation's backup";
    keeping::takes_offered_history ["H8"]
        "open a bundle with the exporter of an epoch that it is in";
    keeping::goes_on_after_a_kill ["D4", "R10", "R12"]
        "be killed and started again, also in the middle of sending, and go on as the same device";
}

/// The scenarios of what a client may leave out. The specification has them in italics.
const OPTIONAL: &[&str] = &["takes_offered_history", "goes_on_after_a_kill"];

/// So many steps without an answer, and the rest of the scenarios is not tried.
const HANGS: usize = 3;
/// The shortest time for a step, in seconds.
const PATIENCE: u64 = 120;
/// How many scenarios run at once.
const AT_ONCE: usize = 3;

/// What to run.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where.
    pub homeserver: HomeserverKind,
    /// Only scenarios whose names hold this.
    pub only: Option<String>,
    /// How long a step may take, in seconds, where that is told.
    pub patience: Option<u64>,
}

/// A client to be run: its name and the shell command that starts it.
#[derive(Debug, Clone)]
pub struct Program {
    /// What the report calls it.
    pub name: String,
    /// The command, without the four arguments.
    pub command: String,
}

/// Runs all scenarios with a client; `told` hears of each as it ends.
pub async fn run(
    options: &Options,
    program: &Program,
    mut told: impl FnMut(&Outcome),
) -> Result<Report> {
    let chosen = |scenario: &&Scenario| {
        options.only.as_ref().is_none_or(|only| scenario.name.contains(&**only))
    };
    let chosen: Vec<&Scenario> = SCENARIOS.iter().filter(chosen).collect();
    if chosen.is_empty() {
        bail!("no scenario has {} in its name", options.only.as_deref().unwrap_or_default());
    }
    let homeserver = Arc::new(Homeserver::start(options.homeserver).await?);
    // A slow machine is slow for the partner as well.
    let began = Instant::now();
    phone_of(&homeserver, "measure").await?;
    let seconds = options.patience.unwrap_or_else(|| PATIENCE.max(100 * began.elapsed().as_secs()));
    let patience = Patience { seconds, hangs: Arc::new(AtomicUsize::new(0)) };
    let turns = Arc::new(Semaphore::new(AT_ONCE));
    let mut running = JoinSet::new();
    for (place, scenario) in chosen.into_iter().enumerate() {
        let stage = Stage {
            homeserver: homeserver.clone(),
            log: Log::default(),
            tag: place.to_string(),
            command: program.command.clone(),
            patience: patience.clone(),
        };
        let turns = turns.clone();
        running.spawn(async move {
            let _turn = turns.acquire_owned().await;
            (place, tried(scenario, stage).await)
        });
    }
    let mut outcomes = Vec::new();
    while let Some(outcome) = running.join_next().await {
        let (place, outcome) = outcome?;
        told(&outcome);
        outcomes.push((place, outcome));
    }
    outcomes.sort_by_key(|(place, _)| *place);
    let scenarios: Vec<Outcome> = outcomes.into_iter().map(|(_, outcome)| outcome).collect();
    let passed = scenarios.iter().filter(|outcome| outcome.passed).count();
    let left_out = scenarios.iter().filter(|outcome| outcome.left_out).count();
    Ok(Report {
        client: program.name.clone(),
        homeserver: format!("{:?}", options.homeserver).to_lowercase(),
        passed,
        failed: scenarios.len() - passed - left_out,
        left_out,
        scenarios,
    })
}

/// One scenario, whose failure is its outcome; a panic of the partner's is one too.
async fn tried(scenario: &'static Scenario, stage: Stage) -> Outcome {
    let (log, hangs) = (stage.log.clone(), stage.patience.hangs.clone());
    let began = Instant::now();
    let mut left_out = false;
    let result = if hangs.load(Ordering::Relaxed) >= HANGS {
        Err(format!("not tried: the client has given no answer {HANGS} times"))
    } else {
        match tokio::spawn(async move { (scenario.steps)(&stage).await }).await {
            Ok(result) => result.map_err(|error| {
                left_out = error.is::<LeftOut>() && OPTIONAL.contains(&scenario.name);
                error.to_string()
            }),
            Err(broken) => Err(reason_of(broken)),
        }
    };
    Outcome {
        scenario: scenario.name,
        requirements: scenario.requirements,
        expected: scenario.expected,
        passed: result.is_ok(),
        left_out,
        reason: result.err(),
        seen: log.all(),
        milliseconds: began.elapsed().as_millis(),
    }
}

/// What a task that did not end by itself has said.
fn reason_of(broken: tokio::task::JoinError) -> String {
    let Ok(panic) = broken.try_into_panic() else { return "the scenario was ended".to_owned() };
    let said = panic.downcast_ref::<String>().map(String::as_str);
    let said = said.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or_default();
    format!("the partner could not go on: {said}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The specification has a row for each scenario, and a requirement for each name in it.
    #[test]
    fn the_specification_has_each_scenario_and_each_requirement() {
        let page = include_str!("../../../../docs/spec/8-conformance.md");
        let others = [
            include_str!("../../../../docs/spec/1-identifiers.md"),
            include_str!("../../../../docs/spec/2-devices.md"),
            include_str!("../../../../docs/spec/3-events.md"),
            include_str!("../../../../docs/spec/4-epochs.md"),
            include_str!("../../../../docs/spec/5-history.md"),
        ]
        .concat();
        for scenario in SCENARIOS {
            let shows = scenario.requirements.join(", ");
            let row = format!("`{}` | {} | {shows} |", scenario.name, scenario.expected);
            // What a client may leave out is in italics.
            let row = if OPTIONAL.contains(&scenario.name) {
                format!("| *{}", row.replacen("` |", "`* |", 1))
            } else {
                format!("| {row}")
            };
            let is_there = page.lines().any(|line| line.contains(&row));
            assert!(is_there, "8-conformance.md has no row {row}");
            for requirement in scenario.requirements {
                assert!(others.contains(&format!("**{requirement}**")), "{requirement} is nowhere");
            }
        }
    }
}
