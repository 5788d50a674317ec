//! Runs test programs side by side.
//!
//! Cargo runs one test program after the other, and many tests wait: for a flush, for a turn with
//! the clock, for a homeserver. With a core more than there is, all are busy. Each program stays a
//! process of its own, so a test that sets the clock or the log of its process disturbs no other.
//! What a program prints is shown when it has ended: all of it if it fails, else its result and
//! what it wrote past the harness.

use std::{
    collections::VecDeque,
    fmt::Write as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::{Mutex, PoisonError},
    thread,
    time::Instant,
};

use serde_json::Value;

use crate::{failure::Failure, paths::workspace, process};

/// What takes longest, so that nothing waits for it in the end. Another name does no harm.
const FIRST: [&str; 9] = [
    "simulator.rs",
    "restarts.rs",
    "story.rs",
    "tree_differences/main.rs",
    "power/main.rs",
    "crash.rs",
    "federation/main.rs",
    "led_away/main.rs",
    "absence.rs",
];

/// A test program that cargo has built.
#[derive(Debug, PartialEq, Eq)]
struct Program {
    /// Its source, as a person finds it.
    name: String,
    path: PathBuf,
    /// Where cargo starts it: the directory of its package.
    directory: PathBuf,
}

/// Builds the tests that `cargo test` with these arguments runs, and runs all of them, also after
/// some have failed.
pub fn cargo_test(arguments: &[&str]) -> Result<(), Failure> {
    let test = || process::cargo(["test", "--locked"].iter().chain(arguments));
    let mut build = test();
    build.args(["--no-run", "--message-format", "json-render-diagnostics"]);
    let messages = process::output("building the tests", &mut build)?;
    let programs = programs(&messages);
    if programs.is_empty() {
        return Err(Failure::Message("cargo names no test program".to_owned()));
    }
    let at_once = thread::available_parallelism().map_or(2, usize::from) + 1;
    let failed = run(programs, at_once, Program::passes);
    process::run("testing the examples in the documentation", test().args(["--quiet", "--doc"]))?;
    if failed.is_empty() {
        return Ok(());
    }
    let names: Vec<_> = failed.iter().map(|program| &*program.name).collect();
    Err(Failure::Message(format!("tests have failed in {}", names.join(", "))))
}

/// The test programs that cargo's messages name, those that take longest first.
fn programs(messages: &str) -> Vec<Program> {
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut programs: Vec<Program> = messages.filter_map(|message| program(&message)).collect();
    programs.sort_by_key(|program| {
        FIRST.iter().position(|first| program.name.ends_with(first)).unwrap_or(FIRST.len())
    });
    programs
}

fn program(message: &Value) -> Option<Program> {
    if message["reason"] != "compiler-artifact" || message["profile"]["test"] != true {
        return None;
    }
    let source = Path::new(message["target"]["src_path"].as_str()?);
    let name = source.strip_prefix(workspace()).unwrap_or(source);
    Some(Program {
        name: name.display().to_string(),
        path: message["executable"].as_str()?.into(),
        directory: Path::new(message["manifest_path"].as_str()?).parent()?.into(),
    })
}

/// Runs the programs, so many at once; gives those that fail.
fn run<Program: Send>(
    programs: Vec<Program>,
    at_once: usize,
    passes: impl Fn(&Program) -> bool + Sync,
) -> Vec<Program> {
    let (queue, failed) = (Mutex::new(VecDeque::from(programs)), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                    let Some(program) = next else { break };
                    if !passes(&program) {
                        failed.lock().unwrap_or_else(PoisonError::into_inner).push(program);
                    }
                }
            });
        }
    });
    failed.into_inner().unwrap_or_else(PoisonError::into_inner)
}

impl Program {
    /// Runs it and tells how it went.
    fn passes(&self) -> bool {
        let began = Instant::now();
        let mut command = Command::new(&self.path);
        command.current_dir(&self.directory).env("CARGO_MANIFEST_DIR", &self.directory);
        let (passes, text) = match command.stdin(Stdio::null()).output() {
            Ok(output) => (output.status.success(), report(&output)),
            Err(error) => (false, format!("it does not start: {error}\n")),
        };
        // In one piece, as others report at the same time.
        eprint!("[xtask] {} ({} s): {text}", self.name, began.elapsed().as_secs());
        passes
    }
}

/// What is told of a program that has ended.
fn report(output: &Output) -> String {
    let (out, errors) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if !output.status.success() {
        return format!("FAILED ({})\n{out}{errors}", output.status);
    }
    let result = out.lines().rfind(|line| line.starts_with("test result: "));
    let mut text = format!("{}\n", result.unwrap_or("test result: ok."));
    for line in errors.lines() {
        // Writing into a string cannot fail.
        let _ = writeln!(text, "[xtask]     {line}");
    }
    text
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeSet,
        sync::{
            Barrier,
            atomic::{AtomicUsize, Ordering},
        },
    };

    use serde_json::json;

    use super::*;

    fn artifact(source: &str, test: bool, executable: Option<&str>) -> String {
        let source = workspace().join(source);
        json!({
            "reason": "compiler-artifact",
            "manifest_path": workspace().join("tests/kit/Cargo.toml"),
            "target": { "src_path": source },
            "profile": { "test": test },
            "executable": executable,
        })
        .to_string()
    }

    #[test]
    fn only_test_programs_are_run_and_the_longest_first() {
        let messages = [
            artifact("src/lib.rs", false, None),
            artifact("examples/two_devices.rs", false, Some("/x/two_devices")),
            artifact("tests/forks.rs", true, Some("/x/forks")),
            "no JSON".to_owned(),
            artifact("tests/simulator.rs", true, Some("/x/simulator")),
            json!({ "reason": "build-finished", "success": true }).to_string(),
        ];
        let found = programs(&messages.join("\n"));
        let names: Vec<_> = found.iter().map(|program| &*program.name).collect();
        assert_eq!(names, ["tests/simulator.rs", "tests/forks.rs"]);
        assert_eq!(found[1].path, Path::new("/x/forks"));
        assert_eq!(found[1].directory, workspace().join("tests/kit"));
    }

    #[test]
    fn all_are_run_side_by_side_and_those_that_fail_are_given() {
        // The first two meet: one after the other they would never end.
        let (meeting, ran) = (Barrier::new(2), AtomicUsize::new(0));
        let failed = run((0..9).collect(), 2, |number| {
            if *number < 2 {
                meeting.wait();
            }
            ran.fetch_add(1, Ordering::Relaxed);
            number % 4 != 0
        });
        assert_eq!(ran.into_inner(), 9);
        assert_eq!(BTreeSet::from_iter(failed), BTreeSet::from([0, 4, 8]));
    }

    #[test]
    fn a_failure_is_shown_whole_and_a_success_by_its_result() {
        let run = |text: &str| {
            let output = Command::new("sh").arg("-c").arg(text).output().unwrap();
            report(&output)
        };
        let text = "echo test one; echo seeds >&2; echo test result: ok. 1 passed";
        assert_eq!(run(text), "test result: ok. 1 passed\n[xtask]     seeds\n");
        let failed = run(&format!("{text}; exit 1"));
        assert!(failed.contains("test one\n") && failed.contains("seeds\n"), "{failed}");
    }

    #[test]
    fn a_program_that_does_not_start_has_failed() {
        let directory = workspace().to_owned();
        let program = Program { name: "none".to_owned(), path: "/no/such".into(), directory };
        assert!(!program.passes());
    }
}
