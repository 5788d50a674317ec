//! The groups that all contenders enter, as files: an MLSMessage with the GroupInfo (ratchet tree
//! and external_pub in it) of a group of so many devices. `cargo xtask bench` writes them.
//!
//! Two devices enter each by external commit, the one that is measured and one in memory that
//! answers it, so a file is looked up by two devices less than the group is to have.

use std::{
    fmt,
    path::{Path, PathBuf},
};

/// Whether the group's members have committed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Tree {
    /// None has: the tree has no parent nodes.
    Blank,
    /// Each has: the tree is full.
    Warm,
}

impl Tree {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Blank, Self::Warm];
}

impl fmt::Display for Tree {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Blank => "blank",
            Self::Warm => "warm",
        })
    }
}

/// The directory with the files.
pub struct Groups(PathBuf);

impl Groups {
    /// Those in a directory.
    pub fn at(directory: &Path) -> Self {
        Self(directory.to_owned())
    }

    /// The GroupInfo of a group that has this many devices (about) when two more have entered.
    pub fn info(&self, tree: Tree, devices: usize) -> Vec<u8> {
        let path = self.0.join(format!("group-{tree}-{devices}.mls"));
        std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }
}
