//! Swift: what is on the PATH; or Debian 13's packages; or, on an older Debian, a Debian 13 in a
//! directory of the cache, in which commands run with the workspace at its own path.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::{apt, cache, runs};
use crate::step::{Failure, workspace};

/// What has to be installed in a Debian 13 to build and test Swift packages.
const PACKAGES: [&str; 3] = ["swiftlang", "libc6-dev", "libstdc++-14-dev"];

/// Runs `$3 …` in the directory `$2` inside the root `$1`. A mount namespace of its own: whatever
/// becomes of the command, no mount is left behind.
const IN_ROOT: &str = r#"
root=$1 directory=$2; shift 2
for path in "$WORKSPACE" /tmp; do
    mkdir -p "$root$path" && mount --rbind "$path" "$root$path" || exit 1
done
mount -t proc proc "$root/proc" && mount --rbind /dev "$root/dev" || exit 1
exec chroot "$root" /usr/bin/env HOME=/root PATH=/usr/local/bin:/usr/bin:/bin \
    sh -c 'cd "$0" && exec "$@"' "$directory" "$@"
"#;

/// A Swift that works.
#[derive(Debug, Clone)]
pub enum Swift {
    /// On the PATH.
    Here,
    /// In this Debian.
    In(PathBuf),
}

impl Swift {
    /// Finds Swift, or sets it up: two or three minutes, once a machine.
    pub fn require() -> Result<Self, Failure> {
        if runs("swift", &["--version"]) {
            return Ok(Self::Here);
        }
        if !apt::is_there() {
            return Err(Failure::Missing(
                "Swift 6 is missing. Install it from https://swift.org/install, or on Debian 13: \
                 apt-get install swiftlang libstdc++-14-dev"
                    .to_owned(),
            ));
        }
        if apt::release().is_some_and(|release| release == "trixie") {
            apt::install(&PACKAGES)?;
            return Ok(Self::Here);
        }
        let root = cache()?.join("swift-trixie");
        let swift = Self::In(root.clone());
        // Written last: without it the directory is what an interrupted set-up left.
        let ready = root.join(".matrix-mls-ready");
        if !ready.exists() {
            debootstrap(&root)?;
            if !swift.works() {
                return Err(Failure::Missing(format!(
                    "Swift was installed into {} but does not run there; delete that directory and try again",
                    root.display()
                )));
            }
            fs::write(&ready, "").map_err(Failure::io(&ready))?;
        }
        Ok(swift)
    }

    fn works(&self) -> bool {
        let status =
            self.command(workspace(), &["swift", "--version"]).stdout(Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    }

    /// A command in a directory of the workspace.
    pub fn command(&self, directory: &Path, arguments: &[&str]) -> Command {
        match self {
            Self::Here => {
                let mut command = Command::new(arguments[0]);
                command.args(&arguments[1..]).current_dir(directory);
                command
            }
            Self::In(root) => {
                let mut command = Command::new("unshare");
                command
                    .args(["--mount", "--propagation", "private", "sh", "-c", IN_ROOT, "sh"])
                    .arg(root)
                    .arg(directory)
                    .args(arguments)
                    .env("WORKSPACE", workspace());
                command
            }
        }
    }

    /// The same as text for a shell, for whoever starts it later.
    pub fn shell(&self, directory: &Path, arguments: &[&str]) -> String {
        let command = self.command(directory, arguments);
        let quote =
            |text: &std::ffi::OsStr| format!("'{}'", text.to_string_lossy().replace('\'', r"'\''"));
        let mut words = vec!["env".to_owned()];
        for (name, value) in command.get_envs() {
            let value = value.map(quote).unwrap_or_default();
            words.push(format!("{}={value}", name.to_string_lossy()));
        }
        words.push(quote(command.get_program()));
        words.extend(command.get_args().map(quote));
        words.join(" ")
    }
}

fn debootstrap(root: &Path) -> Result<(), Failure> {
    if !runs("debootstrap", &["--version"]) {
        apt::install(&["debootstrap"])?;
    }
    eprintln!("[xtask] setting up Swift in {} (two to three minutes, once)", root.display());
    if root.exists() {
        fs::remove_dir_all(root).map_err(Failure::io(root))?;
    }
    let log = root.with_extension("log");
    let output = fs::File::create(&log).map_err(Failure::io(&log))?;
    let errors = output.try_clone().map_err(Failure::io(&log))?;
    let status = Command::new("debootstrap")
        .arg("--variant=minbase")
        .arg(format!("--include={}", PACKAGES.join(",")))
        .args([std::ffi::OsStr::new("trixie"), root.as_os_str()])
        .stdout(output)
        .stderr(errors)
        .status()
        .map_err(Failure::start("debootstrap"))?;
    if status.success() {
        return Ok(());
    }
    let what = format!("setting up a Debian 13 with Swift (see {})", log.display());
    Err(Failure::Step { what, status })
}
