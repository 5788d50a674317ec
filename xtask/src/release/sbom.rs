//! The list of what the library is made of, in CycloneDX's JSON, by cargo-cyclonedx.

use std::{fs, path::Path};

use super::files::run_step;
use crate::{failure::Failure, paths::workspace, process, toolchain::cache};

/// The cargo-cyclonedx that makes the list.
const TOOL: &str = "0.5.9";

/// The name of the list, without its ending.
const NAME: &str = "matrix-mls.cdx";

/// Makes the list, and checks that it names what the library cannot be without.
pub(super) fn make(files: &Path) -> Result<(), Failure> {
    let root = cache::directory()?.join(format!("cargo-cyclonedx-{TOOL}"));
    // Cargo does nothing if this version is there already. It runs for a second, so it is built
    // fast.
    let mut install = process::cargo(["install", "cargo-cyclonedx", "--locked", "--debug"]);
    install.args(["--version", TOOL, "--root"]).arg(&root);
    run_step("installing cargo-cyclonedx (once: some minutes)", &mut install)?;
    let mut list = std::process::Command::new(root.join("bin/cargo-cyclonedx"));
    list.args(["cyclonedx", "--format", "json", "--spec-version", "1.5", "--no-build-deps"])
        .args(["--target", "all", "--override-filename", NAME])
        .current_dir(workspace());
    run_step("listing the dependencies", &mut list)?;
    // The tool writes one beside the manifest of each member; the library's is the workspace's own.
    let made = workspace().join(format!("{NAME}.json"));
    let text = fs::read_to_string(&made).map_err(Failure::io(&made))?;
    // Where this machine has its files is nobody's business, and differs from build to build.
    let text = text.replace(&format!("path+file://{}", workspace().display()), "path+file:///");
    let to = files.join(format!("{NAME}.json"));
    fs::write(&to, &text).map_err(Failure::io(&to))?;
    for member in ["", "bindings", "tests/kit", "xtask"] {
        let file = workspace().join(member).join(format!("{NAME}.json"));
        if file.exists() {
            fs::remove_file(&file).map_err(Failure::io(&file))?;
        }
    }
    for name in ["openmls", "rusqlite", "uniffi"] {
        if !text.contains(&format!("\"name\": \"{name}\"")) {
            return Err(Failure::Message(format!("the list of dependencies lacks {name}")));
        }
    }
    Ok(())
}
