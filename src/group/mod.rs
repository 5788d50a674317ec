//! The MLS group of a room: the epoch graph, and everything that moves along it.
//!
//! Each function here is one step inside a transaction that the caller opened: it reads what is
//! true, changes the graph, and queues what has to be sent. Nothing here waits, and nothing here
//! knows of HTTP or of the app.
//!
//! | to … | see |
//! |---|---|
//! | make a group | `create` |
//! | add, remove, rotate | `plan` decides, `commit` stages, `outcome` takes the homeserver's answer |
//! | take in others' commits | `process` |
//! | join by Welcome | `welcome` |
//! | seal and open messages | `message` |
//! | know which epoch is the head | `graph` |

pub(crate) mod commit;
pub(crate) mod create;
mod errors;
pub(crate) mod graph;
pub(crate) mod message;
pub(crate) mod outcome;
pub(crate) mod plan;
pub(crate) mod process;
pub(crate) mod rooms;
#[cfg(test)]
mod tests;
pub(crate) mod timeline;
mod turn;
pub(crate) mod waiting;
pub(crate) mod welcome;

pub(crate) use graph::{EpochId, EpochRecord, Status};
pub(crate) use rooms::RoomRecord;
pub(crate) use turn::Turn;
