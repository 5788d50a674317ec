//! Swift: the one on the PATH, or else Debian 13's packages. On an older Debian they go into a
//! Debian 13 of their own in the cache, and commands run in it with the workspace at its own path.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::{apt, cache};
use crate::{
    failure::Failure,
    paths::workspace,
    process::{self, succeeds},
};

/// Debian 13's packages that build and test Swift packages.
const PACKAGES: [&str; 3] = ["swiftlang", "libc6-dev", "libstdc++-14-dev"];

/// Runs `$3 …` in the directory `$2` inside the root `$1`. It runs in a mount namespace of its own,
/// so no mount outlives the command.
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
    /// The Swift on the PATH.
    OnPath,
    /// The Swift of the Debian in this directory.
    InRoot(PathBuf),
}

impl Swift {
    /// Finds Swift, or sets it up. Setting it up takes two or three minutes, once a machine.
    pub fn require() -> Result<Self, Failure> {
        if succeeds("swift", &["--version"]) {
            return Ok(Self::OnPath);
        }
        if !apt::is_usable() {
            return Err(Failure::Message(
                "Swift 6 is missing. Install it from https://swift.org/install, or on Debian 13: \
                 apt-get install swiftlang libstdc++-14-dev"
                    .to_owned(),
            ));
        }
        if apt::release().is_some_and(|release| release == "trixie") {
            apt::install(&PACKAGES)?;
            return Ok(Self::OnPath);
        }
        let root = cache::directory()?.join("swift-trixie");
        let swift = Self::InRoot(root.clone());
        // Written last. A directory without it is left over from a set-up that was interrupted.
        let ready = root.join(".matrix-mls-ready");
        if !ready.exists() {
            debootstrap(&root)?;
            if !swift.works() {
                return Err(Failure::Message(format!(
                    "Swift was installed into {} but does not run there. \
                     Delete that directory and try again",
                    root.display()
                )));
            }
            fs::write(&ready, "").map_err(Failure::io(&ready))?;
        }
        Ok(swift)
    }

    fn works(&self) -> bool {
        let mut command = self.command(workspace(), "swift", &["--version"]);
        let status = command.stdout(Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    }

    /// Its `docc`, if it brings one. Debian keeps it beside the PATH.
    pub fn docc(&self) -> Option<&'static str> {
        ["docc", "/usr/libexec/swift/bin/docc"].into_iter().find(|program| {
            let mut command = self.command(workspace(), program, &["--help"]);
            let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
            status.is_ok_and(|status| status.success())
        })
    }

    /// A command that runs a program in a directory of the workspace.
    pub fn command(&self, directory: &Path, program: &str, arguments: &[&str]) -> Command {
        match self {
            Self::OnPath => {
                let mut command = Command::new(program);
                command.args(arguments).current_dir(directory);
                command
            }
            Self::InRoot(root) => {
                let mut command = Command::new("unshare");
                command
                    .args(["--mount", "--propagation", "private", "sh", "-c", IN_ROOT, "sh"])
                    .arg(root)
                    .arg(directory)
                    .arg(program)
                    .args(arguments)
                    .env("WORKSPACE", workspace());
                command
            }
        }
    }
}

fn debootstrap(root: &Path) -> Result<(), Failure> {
    if !succeeds("debootstrap", &["--version"]) {
        apt::install(&["debootstrap"])?;
    }
    eprintln!("[xtask] setting up Swift in {} (two to three minutes, once)", root.display());
    if root.exists() {
        fs::remove_dir_all(root).map_err(Failure::io(root))?;
    }
    let log = root.with_extension("log");
    let output = fs::File::create(&log).map_err(Failure::io(&log))?;
    let errors = output.try_clone().map_err(Failure::io(&log))?;
    let mut command = Command::new("debootstrap");
    command
        .arg("--variant=minbase")
        .arg(format!("--include={}", PACKAGES.join(",")))
        .args([OsStr::new("trixie"), root.as_os_str()])
        .stdout(output)
        .stderr(errors);
    let what = format!("setting up a Debian 13 with Swift (see {})", log.display());
    process::run(&what, &mut command)
}
