//! What others take for the same work: mls-rs with its SQLite provider, and openmls_sqlite_storage.
//! Both on a real file, with the durability that matrix-mls asks of SQLite (WAL, synchronous=FULL).
//!
//!     matrix-mls-bench-peers GROUPS operations|graph DEVICES …
//!
//! GROUPS is the directory with the groups that all contenders enter,
//! `group-{blank,warm}-DEVICES.mls`, each an MLSMessage with a GroupInfo (`groups.rs`). Prints a
//! JSON line a figure; everything else goes to stderr.
//!
//! What counts as one operation (docs/bench): all of it that a crash must not undo. A commit is
//! stored when it is made and again when it is merged, two transactions, as its answer comes later;
//! everything else is one.

mod figures;
mod groups;
mod mls_rs_sqlite;
mod openmls_sqlite;

use std::{path::Path, process::ExitCode};

use groups::{Groups, Tree};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [directory, part, sizes @ ..] = arguments.as_slice() else { return usage() };
    let Ok(sizes) = sizes.iter().map(|size| size.parse()).collect::<Result<Vec<usize>, _>>() else {
        return usage();
    };
    let groups = Groups::at(Path::new(directory));
    match part.as_str() {
        "operations" => {
            for devices in sizes {
                for tree in Tree::ALL {
                    openmls_sqlite::operations(&groups, tree, devices);
                    mls_rs_sqlite::operations(&groups, tree, devices);
                }
            }
        }
        "graph" => {
            for devices in sizes {
                mls_rs_sqlite::create(devices);
                for tree in Tree::ALL {
                    mls_rs_sqlite::graph(&groups, tree, devices);
                }
            }
        }
        _ => return usage(),
    }
    ExitCode::SUCCESS
}

fn usage() -> ExitCode {
    eprintln!("usage: matrix-mls-bench-peers GROUPS operations|graph DEVICES …");
    ExitCode::from(2)
}
