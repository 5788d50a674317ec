//! `cargo xtask lowest-rust`: builds what an app builds with the Rust that `rust-version` names.
//!
//! The library, its generator and the adapter for matrix-sdk are checked with their locked
//! dependencies. Tests, benches and this package are built with the Rust of rust-toolchain.toml
//! alone. `cargo xtask test` keeps the cheap half: clippy knows since when each function of the
//! standard library is there, and a test below compares `rust-version` with the dependencies'.

use std::{
    collections::{HashMap, HashSet},
    process::Command,
};

use serde_json::Value;

use crate::{
    failure::Failure,
    paths::{target_directory, workspace},
    plan::Plan,
    process,
    toolchain::rust,
};

/// A lock file's manifest, and the packages there that an app builds.
type Built = (&'static str, [&'static str; 2]);

/// The library and its generator.
const LIBRARY: Built = ("Cargo.toml", ["matrix-mls", "matrix-mls-bindgen"]);
/// The adapter for matrix-sdk, and what stands for a fork of matrix-sdk-ffi.
const ADAPTER: Built = ("adapters/matrix-sdk/Cargo.toml", ["matrix-mls-sdk", "sdk-ffi"]);

/// Compares `rust-version` with the dependencies', and builds with that Rust.
pub fn run() -> Result<(), Failure> {
    let mut plan = Plan::new(3);
    let version = plan.step("comparing rust-version with that of the dependencies", || {
        let [library, adapter] = [stated(LIBRARY)?, stated(ADAPTER)?];
        if library != adapter {
            let text = format!("{LIBRARY:?} needs Rust {library}, and {ADAPTER:?} {adapter}");
            return Err(Failure::Message(text));
        }
        Ok(library)
    })?;
    rust::require_toolchain(&version)?;
    let what = format!("checking the library with Rust {version} (at first: some minutes)");
    plan.command(&what, &mut check(&version, LIBRARY))?;
    let what = format!("checking the adapter with Rust {version} (at first: some minutes)");
    plan.command(&what, &mut check(&version, ADAPTER))?;
    plan.finish("lowest-rust");
    Ok(())
}

/// Checks these packages in a target directory of their own, so that the everyday one keeps what
/// the everyday Rust has built.
fn check(version: &str, (manifest, packages): Built) -> Command {
    let mut command = Command::new("rustup");
    command.args(["run", version, "cargo", "check", "--locked", "--manifest-path", manifest]);
    command.args(packages.iter().flat_map(|package| ["--package", package]));
    command.arg("--target-dir").arg(target_directory().join("lowest-rust"));
    command.current_dir(workspace());
    command
}

/// The `rust-version` of these packages, which is at least that of what they are built from.
fn stated((manifest, packages): Built) -> Result<String, Failure> {
    let arguments = ["metadata", "--locked", "--format-version", "1", "--manifest-path", manifest];
    let text = process::output("listing the dependencies", &mut process::cargo(arguments))?;
    serde_json::from_str(&text)
        .map_err(|error| error.to_string())
        .and_then(|metadata: Value| lowest(&metadata, &packages))
        .map_err(|fault| Failure::Message(format!("{manifest}: {fault}")))
}

/// The one `rust-version` of these packages of `cargo metadata`. None of the packages that they are
/// built from, on any system, may need a newer Rust. Those of their tests may.
fn lowest(metadata: &Value, packages: &[&str]) -> Result<String, String> {
    let listed = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let by_id = |list: &Value| -> HashMap<String, Value> {
        let with_id = |item: Value| Some((item["id"].as_str()?.to_owned(), item));
        listed(list).into_iter().filter_map(with_id).collect()
    };
    let (all, nodes) = (by_id(&metadata["packages"]), by_id(&metadata["resolve"]["nodes"]));
    let mut next = Vec::new();
    let mut own = HashSet::new();
    for name in packages {
        let found = all.iter().find(|(_, it)| it["name"] == *name && it["source"].is_null());
        let (id, package) = found.ok_or_else(|| format!("there is no package {name}"))?;
        next.push(id.clone());
        own.insert(package["rust_version"].as_str().unwrap_or("none"));
    }
    let [stated] = own.into_iter().collect::<Vec<_>>()[..] else {
        return Err(format!("{packages:?} have several rust-versions"));
    };
    let limit = parse(stated).ok_or_else(|| format!("the rust-version is {stated}"))?;
    let (mut seen, mut newer) = (HashSet::new(), Vec::new());
    while let Some(id) = next.pop() {
        if !seen.insert(id.clone()) {
            continue;
        }
        let package = &all[&id];
        if let Some(needed) = package["rust_version"].as_str()
            && parse(needed).is_none_or(|needed| needed > limit)
        {
            newer.push(format!("{} {} needs {needed}", package["name"], package["version"]));
        }
        let built = |dependency: &Value| {
            listed(&dependency["dep_kinds"]).iter().any(|kind| kind["kind"] != "dev")
        };
        let dependencies = listed(&nodes[&id]["deps"]).into_iter().filter(built);
        next.extend(dependencies.filter_map(|it| Some(it["pkg"].as_str()?.to_owned())));
    }
    if newer.is_empty() {
        return Ok(stated.to_owned());
    }
    newer.sort();
    Err(format!("rust-version is {stated}, but {}", newer.join(", ")))
}

/// A version of Rust, whose last number may be missing.
fn parse(version: &str) -> Option<[u64; 3]> {
    let mut numbers = version.split('.').map(|number| number.parse().ok());
    let first = [numbers.next()??, numbers.next()??];
    Some([first[0], first[1], numbers.next().unwrap_or(Some(0))?])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn no_locked_dependency_needs_a_newer_rust_than_is_stated() {
        assert_eq!(stated(LIBRARY).unwrap(), stated(ADAPTER).unwrap());
    }

    /// An app's package `a`, what it is built from, and what its tests are built from.
    fn metadata(own: &str, build: &str, below: &str, test: &str) -> Value {
        let package = |id: &str, rust: &str| {
            let source = (id != "a").then_some("registry");
            json!({ "id": id, "name": id, "version": "1.0.0", "source": source,
                "rust_version": rust })
        };
        let edge = |to: &str, kind: Option<&str>| json!({"pkg": to, "dep_kinds": [{"kind": kind}]});
        json!({
            "packages": [
                package("a", own), package("b", build), package("c", below), package("t", test)
            ],
            "resolve": { "nodes": [
                { "id": "a", "deps": [edge("b", Some("build")), edge("t", Some("dev"))] },
                { "id": "b", "deps": [edge("c", None)] },
                { "id": "c", "deps": [] },
                { "id": "t", "deps": [] },
            ] },
        })
    }

    #[test]
    fn a_dependency_that_needs_a_newer_rust_is_named() {
        let found = |own, build, below, test| lowest(&metadata(own, build, below, test), &["a"]);
        assert_eq!(found("1.93", "1.93.0", "1.9", "1.99"), Ok("1.93".to_owned()));
        for (build, below, name) in [("1.94", "1.60", "b"), ("1.60", "1.93.1", "c")] {
            let fault = found("1.93", build, below, "1.60").unwrap_err();
            assert!(fault.contains(&format!("\"{name}\" \"1.0.0\" needs 1.9")), "{fault}");
        }
        assert!(found("stable", "1.60", "1.60", "1.60").is_err());
        assert!(lowest(&metadata("1.93", "1.60", "1.60", "1.60"), &["a", "b"]).is_err());
    }

    #[test]
    fn versions_are_compared_by_their_numbers() {
        assert_eq!(parse("1.93"), Some([1, 93, 0]));
        assert!(parse("1.9.9") < parse("1.93"));
        assert_eq!(parse("1"), None);
        assert_eq!(parse("1.93.beta"), None);
    }
}
