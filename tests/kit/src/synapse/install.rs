//! Installing Synapse, once a machine: a virtual environment in a cache directory.
//!
//! It is filled under a temporary name and renamed when complete, so an interrupted install
//! leaves nothing that looks finished; a file lock lets one process install and others wait.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use crate::KitError;

/// The Synapse that the embedded homeserver is compared with.
pub(super) const VERSION: &str = "1.163.2";
/// The versions of all that Synapse needs, so that every machine installs the same.
const CONSTRAINTS: &str = include_str!("constraints.txt");
/// What Synapse asks of Python.
const OLDEST_PYTHON: (u32, u32) = (3, 10);

/// The Python of an environment with Synapse in it, which is made now if it is not there.
pub(super) fn python_with_synapse() -> Result<PathBuf, KitError> {
    let (python, minor) = find_python()?;
    let cache = cache_directory()?;
    fs::create_dir_all(&cache).map_err(KitError::io(format!("making {}", cache.display())))?;
    let name = format!("synapse-{VERSION}-py3.{minor}");
    let environment = cache.join(&name);
    let installed = environment.join("bin/python");
    if works(&installed) {
        return Ok(installed);
    }

    let lock_path = cache.join(format!("{name}.lock"));
    let lock = File::create(&lock_path)
        .map_err(KitError::io(format!("making {}", lock_path.display())))?;
    if lock.try_lock().is_err() {
        say("another process installs Synapse; waiting for it");
        lock.lock().map_err(KitError::io(format!("locking {}", lock_path.display())))?;
    }
    if works(&installed) {
        return Ok(installed);
    }
    remove_leftovers(&cache, &name)?;
    install(&python, &cache, &name)?;
    match works(&installed) {
        true => Ok(installed),
        false => Err(KitError::Setup(format!(
            "Synapse was installed into {} but does not run from there; delete that directory \
             and try again",
            environment.display()
        ))),
    }
}

/// Whether this Python can import Synapse.
fn works(python: &Path) -> bool {
    let check = Command::new(python)
        .args(["-c", "import synapse.app"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    check.is_ok_and(|status| status.success())
}

/// Deletes what interrupted installs left, and an environment whose Python is gone.
fn remove_leftovers(cache: &Path, name: &str) -> Result<(), KitError> {
    let entries = fs::read_dir(cache).map_err(KitError::io("reading the cache directory"))?;
    for entry in entries.flatten() {
        let entry_name = entry.file_name();
        let entry_name = entry_name.to_string_lossy();
        if entry_name.starts_with(&format!("{name}.partial-")) {
            // The pip of a killed process may still be writing there; another time, then.
            let _ = fs::remove_dir_all(entry.path());
        } else if entry_name == name {
            let path = entry.path();
            let what = format!("deleting the broken {}", path.display());
            fs::remove_dir_all(&path).map_err(KitError::io(what))?;
        }
    }
    Ok(())
}

fn install(python: &Path, cache: &Path, name: &str) -> Result<(), KitError> {
    let began = Instant::now();
    let target = cache.join(name);
    let partial = cache.join(format!("{name}.partial-{}", std::process::id()));
    say(&format!("installing Synapse {VERSION} into {} (once)", target.display()));
    run(
        Command::new(python).args(["-m", "venv"]).arg(&partial),
        "making a virtual environment with `python3 -m venv`",
        "if ensurepip is missing, install it: apt-get install python3-venv",
    )?;
    let constraints = partial.join("constraints.txt");
    fs::write(&constraints, CONSTRAINTS).map_err(KitError::io("writing constraints.txt"))?;
    run(
        Command::new(partial.join("bin/python"))
            .args(["-m", "pip", "install", "--disable-pip-version-check", "--no-input"])
            .args(["--prefer-binary", "--progress-bar", "off", "-c"])
            .arg(&constraints)
            .arg(format!("matrix-synapse=={VERSION}")),
        "installing Synapse with pip",
        "pip needs the Python package index; behind a proxy set PIP_INDEX_URL or HTTPS_PROXY",
    )?;
    // Everything is run as `bin/python -m …`, which works from any name.
    fs::rename(&partial, &target)
        .map_err(KitError::io(format!("renaming {}", partial.display())))?;
    say(&format!("installed Synapse {VERSION} in {:.0?}", began.elapsed()));
    Ok(())
}

/// Runs a long step, says every ten seconds that it goes on, and explains its failure.
fn run(command: &mut Command, what: &str, advice: &str) -> Result<(), KitError> {
    let began = Instant::now();
    let mut log = tempfile::tempfile().map_err(KitError::io(what))?;
    let output = log.try_clone().map_err(KitError::io(what))?;
    let errors = log.try_clone().map_err(KitError::io(what))?;
    say(what);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors)
        .spawn()
        .map_err(KitError::io(what))?;
    let mut announced = Duration::ZERO;
    let status = loop {
        if let Some(status) = child.try_wait().map_err(KitError::io(what))? {
            break status;
        }
        if began.elapsed() > announced + Duration::from_secs(10) {
            announced = began.elapsed();
            say(&format!("{what}: {} s", announced.as_secs()));
        }
        std::thread::sleep(Duration::from_millis(100));
    };
    if status.success() {
        return Ok(());
    }
    let mut text = String::new();
    io::Seek::rewind(&mut log).map_err(KitError::io(what))?;
    io::Read::read_to_string(&mut log, &mut text).map_err(KitError::io(what))?;
    Err(KitError::Setup(format!(
        "{what} failed with {status} ({advice}). The end of its output:\n{}",
        super::tail(&text, 30)
    )))
}

/// A Python that is new enough and can make virtual environments, and its minor version.
fn find_python() -> Result<(PathBuf, u32), KitError> {
    let mut too_old = None;
    for name in ["python3", "python3.14", "python3.13", "python3.12", "python3.11"] {
        let version = Command::new(name)
            .args(["-c", "import sys; print(sys.version_info[0], sys.version_info[1])"])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .output();
        let Ok(version) = version else { continue };
        let text = String::from_utf8_lossy(&version.stdout).into_owned();
        let mut numbers = text.split_whitespace().map(|number| number.parse().unwrap_or(0));
        let found = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        if found < OLDEST_PYTHON {
            too_old = Some(found);
            continue;
        }
        let can_make_environments = Command::new(name)
            .args(["-c", "import venv, ensurepip"])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .status();
        if !can_make_environments.is_ok_and(|status| status.success()) {
            return Err(KitError::Setup(format!(
                "{name} cannot make virtual environments, as its ensurepip is missing. Install \
                 it: apt-get install python3-venv"
            )));
        }
        return Ok((PathBuf::from(name), found.1));
    }
    Err(KitError::Setup(match too_old {
        Some((major, minor)) => format!(
            "Synapse needs Python {}.{} or newer, and python3 is {major}.{minor}. Install a \
             newer one, for instance: apt-get install python3.11 python3.11-venv",
            OLDEST_PYTHON.0, OLDEST_PYTHON.1
        ),
        None => "Synapse needs Python, and there is no python3. Install it: apt-get install \
                 python3 python3-venv"
            .to_owned(),
    }))
}

/// `$MATRIX_MLS_CACHE`, or `matrix-mls` in the user's cache directory.
fn cache_directory() -> Result<PathBuf, KitError> {
    let from = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    if let Some(directory) = from("MATRIX_MLS_CACHE") {
        return Ok(PathBuf::from(directory));
    }
    let user = from("XDG_CACHE_HOME").map(PathBuf::from);
    let user = user.or_else(|| from("HOME").map(|home| PathBuf::from(home).join(".cache")));
    user.map(|directory| directory.join("matrix-mls")).ok_or_else(|| {
        KitError::Setup("set MATRIX_MLS_CACHE to a directory to install Synapse into".to_owned())
    })
}

/// Says a line even where the test harness captures output: this can take a minute.
fn say(line: &str) {
    let _ = writeln!(io::stderr(), "[synapse] {line}");
}
