//! The epochs of a room: which are known, how they hang together, which one to send on, and for
//! how long their keys are kept.
//!
//! | to … | see |
//! |---|---|
//! | look up an epoch | `graph`; what a row holds, `record` |
//! | know the head rule | `head`; the order itself, `order` (of numbers and ids, `protocol::Rank`) |
//! | keep epochs able to process commits | `pruning` |
//! | know with which group a room was started anew | `restarts` |
//! | know which epoch numbers are made up | `numbers` |
//! | know who vouches for an epoch | `trees` |
//! | know who has no place in the room | `outsiders` |
//! | judge a commit by the Matrix room | `fit`; what does not fit, `doubt` |
//! | notice that others remove who belongs | `contested` |
//! | know epochs that this device could join | `joinable` |
//! | know how much of such an epoch's past is accounted for | `lineage` |
//! | remember commits that cannot be had | `missing` |
//! | know how far the other devices have come | `sightings` |
//! | part a store's imports from its own epochs | `apart` |
//! | follow again whoever left the Matrix room and came back | `set_aside` |
//! | delete the keys of old epochs | `retention` |
//!
//! Nothing here knows of requests. What a new head means for sends, rejoins and the backup is
//! reported as a `turn::Consequence`.

mod apart;
pub(crate) mod contested;
mod doubt;
pub(crate) mod fit;
pub(crate) mod graph;
pub(crate) mod head;
pub(crate) mod joinable;
mod lineage;
pub(crate) mod missing;
pub(crate) mod numbers;
pub(crate) mod order;
pub(crate) mod outsiders;
pub(crate) mod pruning;
mod record;
#[cfg(test)]
mod restart_vectors;
pub(crate) mod restarts;
pub(crate) mod retention;
pub(crate) mod set_aside;
pub(crate) mod sightings;
#[cfg(test)]
mod tests;
pub(crate) mod trees;
#[cfg(test)]
mod vectors;

pub(crate) use self::{
    apart::set_imports_apart,
    doubt::CommitDoubt,
    graph::UnknownEpoch,
    joinable::JoinableEpoch,
    record::{EpochRecord, Origin, Status},
};
