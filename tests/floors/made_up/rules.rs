//! Circles, steps up and gaps in the table are found, and nothing is where there is nothing.

use super::read;
use crate::{circles, table::Table};

fn circles(text: &str) -> String {
    let (package, edges) = read(text);
    circles::report(&package, &edges)
}

/// `group` over `store`, whose errors are on the ground, and `lib.rs` over all.
const TREE: &str = "//- lib.rs\nmod group;\nmod store;\nfn x() { group::f() }\n\
    //- group/mod.rs\nmod head;\npub fn f() { head::g() }\n\
    //- group/head.rs\nuse crate::store::{Tx, error::Fault};\npub fn g() {}\n\
    //- store/mod.rs\npub mod error;\npub struct Tx(error::Fault);\n\
    //- store/error.rs\npub struct Fault;\n";

const ROWS: &str = "| 3 | `lib.rs` | all |\n| 2 | `group/` | epochs |\n| 1 | `store/` | a file |\n\
    | 0 | `store/error.rs` | faults |\n";

fn page(rows: &str) -> String {
    format!(
        "# Page\n\n<!-- floors -->\n\n| floor | place | what it owns |\n|---:|---|---|\n{rows}\n\
         <!-- /floors -->\n\n| other | table |\n|---|---|\n"
    )
}

fn floors(tree: &str, rows: &str) -> String {
    let (package, edges) = read(tree);
    Table::read(&page(rows)).unwrap().report(&package, &edges)
}

#[test]
fn a_tree_without_a_circle() {
    assert_eq!(circles(TREE), "");
}

#[test]
fn a_circle_around_a_corner() {
    let text = "//- lib.rs\nmod a;\nmod b;\nmod c;\nmod d;\n\
        //- a.rs\nuse crate::b::f;\n\
        //- b.rs\npub fn f() {\n    super::c::g();\n}\n\
        //- c.rs\npub fn g() { assert!(crate::a::X, \"{}\", crate::d::Y) }\n\
        //- d.rs\npub const Y: u8 = 0;\n";
    let expected = "a circle of 3 files, 3 edges:\n\
        \x20 a.rs -> b.rs: crate::b::f (1)\n\
        \x20 b.rs -> c.rs: super::c::g (2)\n\
        \x20 c.rs -> a.rs: crate::a::X (1)\n";
    assert_eq!(circles(text), expected);
}

#[test]
fn two_circles_are_two() {
    let text = "//- lib.rs\nmod a;\nmod b;\nmod c;\nmod d;\n\
        //- a.rs\nuse crate::{b, c};\n//- b.rs\nuse crate::a;\n\
        //- c.rs\nuse crate::d;\n//- d.rs\nuse crate::c;\n";
    let report = circles(text);
    assert_eq!(report.matches("a circle of 2 files, 2 edges").count(), 2, "{report}");
    assert!(!report.contains("a.rs -> c.rs"), "{report}");
}

#[test]
fn a_child_that_names_what_its_mod_rs_defines() {
    let child = "//- store/tx.rs\nuse super::Fault;\npub struct Tx(Fault);\n";
    let mod_rs = "//- lib.rs\nmod store;\n//- store/mod.rs\nmod tx;\npub struct Fault;\n";
    assert_eq!(circles(&format!("{mod_rs}{child}")), "");
    // A re-export makes it a circle, and so does a use.
    for more in ["pub use tx::Tx;\n", "fn x() { tx::Tx::y() }\n"] {
        let report = circles(&format!("{mod_rs}{more}{child}"));
        assert!(report.starts_with("a circle of 2 files"), "{more}: {report}");
    }
    // Not if the child's name for it leads to another child.
    let moved = "//- lib.rs\nmod store;\n//- store/mod.rs\nmod fault;\nmod tx;\n\
        pub use self::{fault::Fault, tx::Tx};\n//- store/fault.rs\npub struct Fault;\n";
    assert_eq!(circles(&format!("{moved}{child}")), "");
}

#[test]
fn all_steps_go_down() {
    assert_eq!(floors(TREE, ROWS), "");
}

#[test]
fn a_step_up() {
    let up = format!(
        "{TREE}\nuse crate::store;\nfn x() {{\n    matches!(x, crate::group::Tip::A)\n}}\n"
    );
    let expected = "up, 0 -> 1: store/error.rs -> store/mod.rs: crate::store (3)\n";
    let report = floors(&up, ROWS);
    assert!(report.contains(expected), "{report}");
    let expected = "up, 0 -> 2: store/error.rs -> group/mod.rs: crate::group::Tip::A (5)\n";
    assert!(report.contains(expected), "{report}");
    assert_eq!(report.lines().count(), 2, "{report}");
}

#[test]
fn a_level_step() {
    let level = ROWS.replace("| 1 |", "| 2 |");
    let expected = "level, 2 -> 2: group/head.rs -> store/mod.rs: crate::store::Tx (1)\n";
    assert_eq!(floors(TREE, &level), expected);
}

#[test]
fn steps_inside_one_place_are_free() {
    let one = "| 1 | `lib.rs`, `group/` | both |\n| 0 | `store/` | a file |\n";
    assert_eq!(floors(TREE, one), "");
    let apart = "| 1 | `lib.rs` | one |\n| 1 | `group/` | other |\n| 0 | `store/` | a file |\n";
    assert_eq!(floors(TREE, apart), "level, 1 -> 1: lib.rs -> group/mod.rs: group::f (3)\n");
}

#[test]
fn a_file_on_no_floor() {
    let gap = ROWS.replace("`group/`", "`group/mod.rs`");
    assert_eq!(floors(TREE, &gap), "group/head.rs is on no floor\n");
}

#[test]
fn a_place_that_is_not_there_and_one_listed_twice() {
    let gone = format!("{ROWS}| 9 | `engine/`, `group/hea` |  |\n").replace("hea`", "tail.rs`");
    let expected = "`engine/` is listed and does not exist\n\
        `group/tail.rs` is listed and does not exist\n";
    assert_eq!(floors(TREE, &gone), expected);
    let twice = format!("{ROWS}| 2 | `group/` | again |\n");
    assert!(floors(TREE, &twice).starts_with("`group/` is listed twice\n"));
}

#[test]
fn a_table_that_is_none() {
    let fails = |markdown: &str| Table::read(markdown).err().unwrap_or_default();
    assert!(fails("# Page\n").starts_with("there is no table"));
    assert!(fails("<!-- /floors -->\n<!-- floors -->\n").contains("comes before"));
    assert!(fails(&page("").replace("what it owns", "what")).contains("columns are not"));
    assert!(fails(&page("").replace("|---:|---|---|\n", "")).contains("no line below"));
    assert_eq!(fails(&page("| low | `a/` | x |\n")), "floor `low` is no number");
    assert_eq!(fails(&page("| 0 | a/ | x |\n")), "place a/ is no `folder/` and no `file.rs`");
    assert_eq!(fails(&page("| 0 | `a` | x |\n")), "place `a` is no `folder/` and no `file.rs`");
    assert!(fails(&page("| 0 | `a/` |\n")).contains("is no row of three columns"));
    assert!(fails(&page("words\n")).contains("is no row of three columns"));
}
