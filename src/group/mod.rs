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
//! | bring a commit to the homeserver, in events or by its media repository | `publish` |
//! | take in others' commits | `process`; `checks` and `policy` say what they may do |
//! | know the epochs; choose the head, and what to keep | `graph`; `head` |
//! | join by Welcome | `welcome` |
//! | join by external commit | `external`, onto a `foreign` epoch |
//! | repair a device that cannot go on | `heal`, with `search` for a group to join in the room's history |
//! | fetch commits and large values that are missing | `fetch`, `gap`, `media` |
//! | seal and open messages | `message` |
//! | seal and open messages that are read once | `read_once` |
//! | give those who come later what they may read | `share` |
//! | delete what makes old epochs readable | `retention` |
//! | know who is in the Matrix room | `rooms`; `members` asks where a sync leaves it in doubt |
//! | leave | `leave` |

mod checks;
mod commit;
pub(crate) mod create;
mod errors;
mod external;
pub(crate) mod fetch;
mod foreign;
pub(crate) mod gap;
pub(crate) mod graph;
mod head;
pub(crate) mod heal;
pub(crate) mod leave;
pub(crate) mod media;
pub(crate) mod members;
pub(crate) mod message;
pub(crate) mod outcome;
pub(crate) mod plan;
mod policy;
pub(crate) mod process;
pub(crate) mod publish;
pub(crate) mod read_once;
pub(crate) mod retention;
pub(crate) mod rooms;
pub(crate) mod search;
pub(crate) mod share;
#[cfg(test)]
mod tests;
pub(crate) mod timeline;
mod turn;
pub(crate) mod waiting;
pub(crate) mod welcome;

pub(crate) use graph::{EpochId, EpochRecord, Status};
pub(crate) use publish::Part;
pub(crate) use rooms::RoomRecord;
pub(crate) use turn::Turn;
