//! `cargo xtask fuzz`: builds the fuzzer and gives each target its share of the time.
//!
//! The fuzzer is built by the stable compiler with LLVM's coverage pass, which libFuzzer reads.
//! What it learns stays in cargo's directory of that package; an input that breaks a promise is
//! printed with its place.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{failure::Failure, paths::workspace, plan::Plan, process};

/// The targets, as in `fuzz/targets/mod.rs`.
pub const TARGETS: [&str; 9] =
    ["sync", "sliding", "keys", "room", "state", "to_device", "answers", "files", "backup"];
/// How long all targets take together, if nothing else is said.
const SECONDS: u64 = 600;
/// Where Linux keeps files in memory.
const MEMORY: &str = "/dev/shm";
/// The passes that tell libFuzzer which code an input reaches.
const INSTRUMENTED: &str = "--cfg fuzzing -Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares";

/// The options of the fuzzer.
#[derive(Debug, Default, clap::Args)]
pub struct Options {
    /// How long to run, all targets together (600 if left out).
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    seconds: Option<u64>,

    /// Run only this target.
    #[arg(long, value_name = "TARGET", value_parser = TARGETS)]
    only: Option<String>,

    /// Run this input again, or all of a directory in the order of their names.
    #[arg(long, value_name = "PATH", requires = "only")]
    again: Option<PathBuf>,
}

impl Options {
    fn targets(&self) -> Vec<&str> {
        self.only.as_deref().map_or_else(|| TARGETS.to_vec(), |only| vec![only])
    }

    /// How many seconds each target has.
    fn share(&self) -> u64 {
        let targets = u64::try_from(self.targets().len()).unwrap_or(u64::MAX);
        (self.seconds.unwrap_or(SECONDS) / targets).max(1)
    }
}

/// Builds the fuzzer and runs it.
pub fn run(options: &Options) -> Result<(), Failure> {
    require_compiler()?;
    let target = host()?;
    let targets = options.targets();
    let mut plan = Plan::new(1 + targets.len());
    let manifest = ["--release", "--locked", "--manifest-path", "fuzz/Cargo.toml"];
    let mut build = process::cargo(["build"]);
    // With a target named, build scripts and macros are built without the passes, and can be
    // linked.
    build.args(manifest).args(["--target", &target]).env("RUSTFLAGS", INSTRUMENTED);
    build.env("CARGO_TARGET_DIR", directory());
    plan.command("building the fuzzer (the first time: about fifteen minutes)", &mut build)?;
    let program = directory().join(target).join("release/matrix-mls-fuzz");
    let mut broken = Vec::new();
    for name in targets {
        let mut fuzz = fuzzer(&program, name, options)?;
        if plan.command(&format!("fuzzing {name}"), &mut fuzz).is_err() {
            broken.push(name);
        }
    }
    // libFuzzer ends without cleaning up.
    fs::remove_dir_all(stores()).map_err(Failure::io(stores()))?;
    plan.finish("fuzz");
    if broken.is_empty() {
        return Ok(());
    }
    Err(Failure::Message(format!(
        "a promise is broken in: {}. The inputs are in {}, and all that the room had taken before \
         is in {}. `cargo xtask fuzz --only TARGET --again PATH` runs them again",
        broken.join(", "),
        directory().join("broken").display(),
        directory().join("trail").display(),
    )))
}

/// libFuzzer's command line for a target.
fn fuzzer(program: &Path, name: &str, options: &Options) -> Result<Command, Failure> {
    let mut command = Command::new(program);
    command.env("MATRIX_MLS_FUZZ_TARGET", name);
    let stores = stores();
    fs::create_dir_all(&stores).map_err(Failure::io(&stores))?;
    command.env("TMPDIR", stores);
    if let Some(again) = &options.again {
        command.args(inputs(again)?);
        return Ok(command);
    }
    let (learnt, broken) = (directory().join("learnt").join(name), directory().join("broken"));
    command.env("MATRIX_MLS_FUZZ_TRAIL", trail(name));
    for made in [&learnt, &broken] {
        fs::create_dir_all(made).map_err(Failure::io(made))?;
    }
    let longest = if ["sync", "sliding"].contains(&name) { 8192 } else { 256 };
    command
        .arg(format!("-max_total_time={}", options.share()))
        .arg(format!("-artifact_prefix={}/{name}-", broken.display()))
        .arg(format!("-max_len={longest}"))
        .args(["-timeout=60", "-rss_limit_mb=4096", "-print_final_stats=1", "-len_control=0"])
        .args([learnt, workspace().join("fuzz/corpus").join(name)]);
    Ok(command)
}

/// Where the stores are: in memory where that can be, so that nothing waits for a disk.
fn stores() -> PathBuf {
    let memory = Path::new(MEMORY);
    let place = if memory.is_dir() { memory.to_owned() } else { directory() };
    place.join(format!("matrix-mls-fuzz-{}", std::process::id()))
}

/// Where the inputs are that the room has taken.
fn trail(name: &str) -> PathBuf {
    directory().join("trail").join(name)
}

/// A file, or those of a directory in the order of their names.
fn inputs(path: &Path) -> Result<Vec<PathBuf>, Failure> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let files = fs::read_dir(path).map_err(Failure::io(path))?;
    let mut files: Vec<_> = files.filter_map(|file| Some(file.ok()?.path())).collect();
    files.sort();
    Ok(files)
}

/// Where the fuzzer is built, and keeps what it learns.
fn directory() -> PathBuf {
    workspace().join("fuzz/target")
}

/// Makes sure that there is a C++ compiler, which libFuzzer is built with.
fn require_compiler() -> Result<(), Failure> {
    let compiler = std::env::var("CXX").unwrap_or_else(|_| "c++".to_owned());
    if process::succeeds(&compiler, &["--version"]) {
        return Ok(());
    }
    Err(Failure::Message(format!(
        "The fuzzer needs a C++ compiler, and `{compiler}` does not run. Install it: apt-get \
         install g++"
    )))
}

/// The name of the system that this runs on, such as `x86_64-unknown-linux-gnu`.
fn host() -> Result<String, Failure> {
    let about = process::output("asking rustc for its host", Command::new("rustc").arg("-vV"))?;
    let host = about.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned)
        .ok_or_else(|| Failure::Message("rustc does not say what its host is".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_is_shared() {
        assert_eq!(Options::default().share(), SECONDS / 9);
        let one = Options { only: Some("room".to_owned()), seconds: Some(30), again: None };
        assert_eq!((one.targets(), one.share()), (vec!["room"], 30));
        assert_eq!(Options { seconds: Some(1), ..Options::default() }.share(), 1);
    }

    #[test]
    fn each_target_has_inputs_and_is_in_the_list() {
        let list = workspace().join("fuzz/targets/mod.rs");
        let list = fs::read_to_string(list).unwrap();
        for name in TARGETS {
            assert!(list.contains(&format!("Target {{ name: \"{name}\"")), "{name}");
            assert!(workspace().join("fuzz/corpus").join(name).is_dir(), "{name}");
        }
        assert_eq!(list.matches("Target { name: ").count(), TARGETS.len());
    }
}
