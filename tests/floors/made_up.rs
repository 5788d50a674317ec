//! The test's own tests: small made-up crates with what each kind of path must come to, and with
//! circles and steps up that must be found.

mod paths;
mod rules;
mod trees;

use std::{fs, path::Path};

use tempfile::TempDir;

use crate::{
    edges::{self, Edges},
    tree::Package,
};

/// Writes files out of one text, in which `//- store/tx.rs` begins a file.
fn write(text: &str) -> TempDir {
    let folder = TempDir::new().unwrap();
    for file in text.split("//- ").skip(1) {
        let (path, code) = file.split_once('\n').unwrap();
        let path = folder.path().join(path.trim());
        fs::create_dir_all(path.parent().unwrap_or(Path::new("."))).unwrap();
        fs::write(path, code).unwrap();
    }
    folder
}

/// The made-up crate `it` and its edges.
fn read(text: &str) -> (Package, Edges) {
    let folder = write(text);
    let package = Package::read("it", folder.path()).unwrap();
    let edges = edges::of(&package).unwrap();
    (package, edges)
}

/// What is wrong with a made-up crate.
fn error(text: &str) -> String {
    let folder = write(text);
    let edges = Package::read("it", folder.path()).and_then(|package| edges::of(&package));
    edges.err().unwrap_or_default()
}

/// Each edge as `from -> to`, in order.
fn pairs(text: &str) -> Vec<String> {
    let (package, edges) = read(text);
    let pair =
        |(from, to): &(usize, usize)| format!("{} -> {}", package.files[*from], package.files[*to]);
    let mut pairs: Vec<String> = edges.keys().map(pair).collect();
    pairs.sort();
    pairs
}

/// Each edge with names and lines, in order.
fn lines(text: &str) -> Vec<String> {
    let (package, edges) = read(text);
    let mut lines: Vec<String> =
        edges.iter().map(|(edge, names)| edges::line(&package, *edge, names)).collect();
    lines.sort();
    lines
}
