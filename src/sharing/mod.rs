//! History for those who come later: whoever adds devices sends them the exports of epochs that the
//! room lets them read.
//!
//! The room's history visibility, at the time of the epoch, says which those are. An epoch counts
//! when it was `shared` or `world_readable` from its first moment to its last; a change begins a
//! new epoch. The exports go as one bundle to the media repository, sealed with a key that only
//! members of the new epoch can make (the MLS exporter, RFC 9420 §8.5), and a to-device event names
//! it to the added devices (`offer`). It is bounded, newest epochs first.
//!
//! A device that came in by itself was added by nobody: it asks for history (`wanted`), and whoever
//! is asked gives it to devices that their owner has signed (`asked`).
//!
//! What comes is one member's word: the member's leaves say who sent which message (`receive`). So
//! messages of such epochs say who shared them, and a message whose key is not its device's is
//! refused.

mod asked;
mod bundle_key;
mod offer;
mod receive;
#[cfg(test)]
mod vectors;
mod waiting;
mod wanted;

pub(crate) use self::{
    asked::{HistoryRequest, answer, asked},
    offer::{HistoryOffer, offer, uploaded},
    receive::{receive, retry},
    wanted::{ask, want},
};
