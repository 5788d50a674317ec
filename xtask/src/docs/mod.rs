//! `cargo xtask docs`: the reference of each language and the guide, as HTML in the target
//! directory.
//!
//! Rust and Kotlin are always made. The guide needs mdBook, which is installed once. Swift needs a
//! `docc`: where the toolchain has none, the command says so and makes the rest. It publishes
//! nothing.

mod book;

use std::{fs, path::PathBuf, process::Command};

use crate::{
    bindings,
    failure::Failure,
    kotlin,
    paths::{target_directory, workspace},
    plan::Plan,
    process, swift,
    toolchain::{cache, java, swift::Swift},
};

/// The mdBook that the guide is made with.
const MDBOOK: &str = "0.5.4";

/// Makes all of it.
pub fn run() -> Result<(), Failure> {
    java::require()?;
    let mut plan = Plan::new(6);
    plan.command("the reference of the Rust library, without warnings", &mut rustdoc())?;
    plan.command(
        "building the library and the generator (the first time: some minutes)",
        &mut process::build(),
    )?;
    plan.step("generating Kotlin and Swift", || {
        bindings::install("debug")?;
        bindings::generate(&crate::paths::native().join("api.txt"))
    })?;
    let kotlin = out("kotlin")?;
    plan.command(
        "the reference in Kotlin (the first time this downloads Dokka)",
        &mut kotlin::reference(&kotlin),
    )?;
    let swift = plan.step("the reference in Swift", swift_reference)?;
    let guide = plan.step("the guide (the first time this installs mdBook: minutes)", guide)?;
    let rust = target_directory().join("doc/matrix_mls");
    let made = [("Rust", Some(rust)), ("Kotlin", Some(kotlin)), ("Swift", swift)];
    for (what, place) in made.into_iter().chain([("guide", Some(guide))]) {
        match place {
            Some(place) => println!("{what}: {}", place.join("index.html").display()),
            None => println!("{what}: not made, because this Swift has no docc"),
        }
    }
    plan.finish("docs");
    Ok(())
}

/// The reference of the Rust library, and of the test kit. A link that leads nowhere is an error.
pub fn rustdoc() -> Command {
    // The kit and an example are there for their dependencies (`process::build`).
    let what = ["doc", "--workspace", "--no-deps", "--lib", "--example", "two_devices"];
    let mut command = process::cargo(what.iter().chain(&["--locked"]));
    command.env("RUSTDOCFLAGS", "-D warnings");
    command
}

/// An empty directory for what this command makes.
fn out(name: &str) -> Result<PathBuf, Failure> {
    // Inside the workspace even if cargo builds elsewhere: a Swift in a root of its own sees
    // nothing else.
    let directory = workspace().join("target/docs").join(name);
    if directory.exists() {
        fs::remove_dir_all(&directory).map_err(Failure::io(&directory))?;
    }
    fs::create_dir_all(&directory).map_err(Failure::io(&directory))?;
    Ok(directory)
}

/// Where the Swift reference is; nothing where there is no `docc`.
fn swift_reference() -> Result<Option<PathBuf>, Failure> {
    let swift = Swift::require()?;
    let Some(docc) = swift.docc() else { return Ok(None) };
    let (symbols, pages) = (out("swift-symbols")?, out("swift")?);
    for mut command in swift::reference(&swift, docc, &symbols, &pages) {
        process::run("making the reference in Swift", &mut command)?;
    }
    Ok(Some(pages.join("documentation/matrixmls")))
}

/// Where the guide is.
fn guide() -> Result<PathBuf, Failure> {
    let source = out("guide-source")?;
    book::write(&workspace().join("docs"), &source)?;
    let pages = out("guide")?;
    let mut build = Command::new(mdbook()?);
    build.arg("build").arg(&source).arg("--dest-dir").arg(&pages);
    process::run("making the guide", &mut build)?;
    Ok(pages)
}

/// The program, which is installed where it is missing.
fn mdbook() -> Result<PathBuf, Failure> {
    let root = cache::directory()?.join(format!("mdbook-{MDBOOK}"));
    // Cargo does nothing if this version is there already. Serving and watching need much that
    // building does not.
    let mut install = process::cargo(["install", "mdbook", "--locked", "--no-default-features"]);
    install.args(["--features", "search", "--version", MDBOOK, "--root"]).arg(&root);
    process::run("installing mdBook", &mut install)?;
    Ok(root.join("bin/mdbook"))
}
