//! How a machine is attached.

use std::path::PathBuf;

use matrix_mls::{MemberPolicy, StoreKey};

/// What attaching a machine to a client needs.
#[derive(Clone)]
pub struct Config {
    /// A directory for this device alone. It is made if it does not exist. Delete it as a whole, or
    /// not at all.
    pub directory: PathBuf,
    /// How the machine's store is sealed.
    pub store_key: StoreKey,
    /// Which devices of the people in a room become members of its group; see
    /// `MachineConfig::member_policy`.
    pub member_policy: Option<MemberPolicy>,
    /// How many events of a room one sync has at the most; at least 1. Commits that are left out
    /// are asked for one by one.
    pub timeline_limit: u32,
}

impl Config {
    /// A configuration with the defaults: `store_key` are 32 bytes from the platform's key store.
    pub fn new(directory: impl Into<PathBuf>, store_key: Vec<u8>) -> Self {
        Self {
            directory: directory.into(),
            store_key: StoreKey::Raw { key: store_key },
            member_policy: None,
            timeline_limit: 10,
        }
    }
}
