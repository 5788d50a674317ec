//! The files of a crate form no circle, and a file of `src/` knows only what is on lower floors.
//!
//! The floors stand in docs/architecture.md, between the lines `<!-- floors -->` and
//! `<!-- /floors -->`, as a table:
//!
//! ```text
//! | floor | place | what it owns |
//! |---|---|---|
//! | 1 | `turn.rs`, `turn/` | one transaction |
//! | 0 | `store/` | the file |
//! ```
//!
//! `floor` is a number; the ground is 0. `place` is one path or several below `src/`, each in
//! backticks, with commas between them. A folder ends with `/` and covers all files below it,
//! except those that a longer path covers. Every file is covered, every path exists, and no path is
//! listed twice. All paths of one row are one place.
//!
//! A file that names an item has an edge to the file that defines the item. Re-exports are
//! followed: `crate::store::Tx` is an edge to `store/tx.rs`, also when `store/mod.rs` re-exports
//! it. The re-export itself is an edge from `store/mod.rs` to `store/tx.rs`. A `use` that ends at a
//! module is an edge to the module's file. Code for tests makes no edge. The rules are:
//!
//! - In the library, in xtask and in the bindings' generator, edges form no circle. The test kit is
//!   not held to this: its parts are the two ends of a conversation, and no application builds on
//!   it.
//! - An edge from one place to another goes to a lower floor. There are no exceptions.
//!
//! `FLOORS_PRINT=1 cargo test --test floors matrix_mls` prints every edge of that crate.

mod cfg;
mod circles;
mod edges;
mod made_up;
mod resolve;
mod scope;
mod table;
mod tokens;
mod tree;

use std::{env, fs, io::Write as _, path::Path};

use edges::Edges;
use table::Table;
use tree::Package;

/// Reads a crate of the project, and prints its edges if that is wanted.
fn read(name: &str, src: &str) -> (Package, Edges) {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join(src);
    let package = Package::read(name, &src).unwrap_or_else(|error| panic!("{name}:\n{error}"));
    let edges = edges::of(&package).unwrap_or_else(|error| panic!("{name}:\n{error}"));
    assert!(!edges.is_empty(), "{name} has files that know nothing of each other");
    (package, edges)
}

fn assert_no_circle(name: &str, src: &str) {
    let (package, edges) = read(name, src);
    if env::var_os("FLOORS_PRINT").is_some_and(|value| value == "1") {
        let lines = edges.iter().map(|(edge, names)| edges::line(&package, *edge, names) + "\n");
        let text = lines.collect::<String>();
        // Not `print!`, which the test runner keeps to itself.
        std::io::stdout().lock().write_all(text.as_bytes()).unwrap();
    }
    let report = circles::report(&package, &edges);
    assert!(report.is_empty(), "{name} has circles:\n{report}");
}

#[test]
fn matrix_mls_has_no_circle() {
    assert_no_circle("matrix_mls", "src");
}

#[test]
fn xtask_has_no_circle() {
    assert_no_circle("xtask", "xtask/src");
}

#[test]
fn bindings_have_no_circle() {
    assert_no_circle("matrix_mls_bindgen", "bindings/src");
}

#[test]
fn knowledge_goes_down() {
    let (package, edges) = read("matrix_mls", "src");
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/architecture.md");
    let table = Table::read(&fs::read_to_string(page).unwrap());
    let table = table.unwrap_or_else(|error| panic!("docs/architecture.md: {error}"));
    let report = table.report(&package, &edges);
    assert!(report.is_empty(), "docs/architecture.md and src/ differ:\n{report}");
}
