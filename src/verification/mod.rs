//! Interactive verification by short authentication strings: two people compare emojis or numbers,
//! and their devices then know that they have each other's true keys.
//!
//! A verification (`flow`) is a record in the store with the steps of its two sides (`steps`). Its
//! secret keys are in memory only (`secrets`). A turn changes both, so an event is taken in as a
//! whole or not at all; what is to be sent goes through the queue of requests, one event after the
//! other (`post`). At the end each side vouches for its keys, and what the other vouches for is
//! held against what the homeserver hands out (`vouch`). The result is a signature with the user's
//! own cross-signing keys (`signing`).
//!
//! Everything here may come from somebody hostile. The number of verifications is bounded
//! (`table`), each ends after ten minutes, and none counts before the user has confirmed it.
//!
//! This folder is for devices without an Olm machine. Beside one, the machine verifies.

mod calls;
mod content;
mod emoji;
mod error;
mod flow;
pub(crate) mod handover;
mod in_room;
mod keys;
mod outbox;
mod post;
mod receive;
mod secrets;
mod steps;
mod table;
mod vouch;

pub(crate) use self::{
    calls::{Act, act, request},
    error::VerificationError,
    flow::{Flow, Parcel, Place},
    in_room::{RoomEventIn, receive_in_room},
    keys::{answered as keys_came, refused as keys_refused},
    outbox::{refused, sealed, sent, to_seal},
    receive::receive_to_device,
    secrets::Secrets,
    table::{expire, find, lose, open},
};
