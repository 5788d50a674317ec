//! What comes in about a room: its events one by one, Welcomes, and what has to be fetched for
//! them.
//!
//! | to … | see |
//! |---|---|
//! | take in a commit of somebody else's | `commit`: `receive` decides, `apply` checks and merges |
//! | take in this device's own commit coming back | `commit::own` |
//! | join by a Welcome | `welcome` |
//! | follow the room's state | `state`; who is in the room, when a sync leaves that in doubt, `members` |
//! | take in that the room was started anew | `restart` |
//! | ask for the encryption of a room whose state no sync has shown | `unshown` |
//! | notice what a message says beside its text | `message` |
//! | keep events that came too early | `waiting` |
//! | ask for a commit by its event id | `fetch` |
//! | find commits in the room's history | `walk`, over `history_pages` |
//! | follow the commits of an absence, in their order | `catch_up`, over `history_pages` |
//! | fetch large values | `media`; ratchet trees of several, `ratchet_tree`; trees that cannot be fetched, `lost_tree` |
//! | bound what strangers have waiting | `fair_share` |
//!
//! One event is one part of a turn: what it changed is undone if it fails (`engine::events`).

pub(crate) mod catch_up;
pub(crate) mod commit;
mod error;
pub(crate) mod fair_share;
pub(crate) mod fetch;
pub(crate) mod history_pages;
pub(crate) mod lost_tree;
pub(crate) mod media;
pub(crate) mod members;
pub(crate) mod message;
mod outcome;
pub(crate) mod ratchet_tree;
pub(crate) mod restart;
pub(crate) mod state;
pub(crate) mod unshown;
pub(crate) mod waiting;
pub(crate) mod walk;
pub(crate) mod welcome;

pub(crate) use self::{
    error::{Awaited, EventError},
    outcome::{Outcome, ReceivedEvent},
};
