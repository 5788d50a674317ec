//! The conformance run judges: a client that hangs, dies, prints garbage or only says that all is
//! well fails each scenario with a reason, and the run ends.

use matrix_mls_kit::{
    HomeserverKind, Result,
    conformance::{self, Options, Outcome, Program, Report},
};

async fn report(only: &str, patience: u64, command: &str) -> Result<Report> {
    let options = Options {
        homeserver: HomeserverKind::Embedded,
        only: Some(only.to_owned()),
        patience: Some(patience),
    };
    let program = Program { name: "it".to_owned(), command: command.to_owned() };
    conformance::run(&options, &program, |_| {}).await
}

/// The reason for which such a client failed its first scenario.
async fn reason(patience: u64, command: &str) -> Result<String> {
    let report = report("joins_by_welcome", patience, command).await?;
    assert_eq!((report.passed, report.failed), (0, 1), "{command}");
    let reason = report.scenarios.into_iter().find_map(|outcome| outcome.reason);
    Ok(reason.unwrap_or_default())
}

#[tokio::test]
async fn whatever_a_client_does_a_scenario_ends_with_the_reason() -> Result {
    let long = "head -c 100000 /dev/zero; cat";
    let loud = "while read step; do yes unread; done";
    for (command, expected) in [
        ("sh -c 'sleep 100'", "`log-in`: the client gave no answer in 1 s"),
        (
            "sh -c 'echo lost >&2; exit 3'",
            "(exit status: 3); it last wrote to standard error: lost",
        ),
        ("sh -c 'read step; echo mumble'", "`log-in`: it printed a line that is no fact: mumble"),
        ("sh -c 'read step; echo epoch x'", "it printed a line that is no fact: epoch x"),
        (r"sh -c 'read step; printf \\377\\n'", "`log-in`: it printed bytes that are no UTF-8"),
        (&format!("sh -c '{long}'"), "`log-in`: it printed a line of more than 65536 bytes"),
        (&format!("sh -c '{loud}'"), "`log-in`: it printed 100000 lines and no answer"),
        ("sh -c 'read step; echo failed no idea'", "`log-in`: expected ok; seen failed: no idea"),
        ("./no-such-client", "`log-in`: the client ended (exit status: 127)"),
    ] {
        // Only who is silent is waited for.
        let patience = if command.contains("sleep") { 1 } else { 60 };
        let reason = reason(patience, command).await?;
        assert!(reason.contains(expected), "{command}: {reason}");
    }
    Ok(())
}

/// Each scenario looks at something: a client that says `ok` to every step passes none. One that
/// hangs is not waited for in each.
#[tokio::test]
async fn a_client_that_does_nothing_passes_nothing() -> Result {
    let report = report("", 1, "sh -c 'while read step; do echo ok; done'").await?;
    assert!(report.failed > 30, "{}", report.failed);
    let passed = report.scenarios.iter().filter(|outcome| outcome.passed);
    assert_eq!(passed.map(|outcome| outcome.scenario).collect::<Vec<_>>(), Vec::<&str>::new());
    let silent = self::report("", 1, "sh -c 'cat 1>&2'").await?;
    assert_eq!(silent.passed, 0);
    let waited = |outcome: &&Outcome| {
        outcome.reason.as_ref().is_some_and(|reason| reason.contains("gave no answer"))
    };
    let waited = silent.scenarios.iter().filter(waited).count();
    assert!((3..9).contains(&waited), "{waited}");
    Ok(())
}

/// Who says that it leaves out what a client may not leave out has failed.
#[tokio::test]
async fn a_client_leaves_out_only_what_it_may() -> Result {
    let report = report("", 1, "sh -c 'while read step; do echo left-out no idea; done'").await?;
    assert_eq!(report.passed, 0);
    let left_out = report.scenarios.iter().filter(|outcome| outcome.left_out);
    let left_out: Vec<_> = left_out.map(|outcome| outcome.scenario).collect();
    assert_eq!(left_out, ["takes_offered_history", "goes_on_after_a_kill"]);
    assert_eq!(report.left_out, 2);
    assert_eq!(report.failed, report.scenarios.len() - 2);
    for outcome in &report.scenarios {
        let reason = outcome.reason.as_deref().unwrap_or_default();
        assert!(reason.contains("leaves out `log-in`: no idea"), "{}: {reason}", outcome.scenario);
    }
    Ok(())
}
