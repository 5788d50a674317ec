//! Application messages: sealed with the head's keys, opened with the export of their epoch.
//!
//! Sealing and opening load no OpenMLS group, so their cost does not grow with the room. Where
//! messages are read once (`read_once`), both go through the group instead.

mod error;
mod event;
pub(crate) mod late;
mod open;
pub(crate) mod read_once;
mod readers;
mod seal;

pub(crate) use self::{
    error::{MessageError, SendError},
    event::parse_event,
    open::{Message, open},
    readers::Readers,
    seal::{SealContext, Sealer, ready_head, refuse_replaced},
};
