//! Other people's devices: whose lists are followed, what `/keys/query` said of them, and how far a
//! credential is trusted.
//!
//! A device may take part in groups when what it publishes holds together (see `verify`). A device
//! that does not is kept with the reason, is reported, and is never offered. The first credential
//! key seen for a device is the one that counts: a later answer with another key is a conflict.
//!
//! This folder makes ruma's request values and reads the bodies of answers. Queues and rooms are
//! unknown here.

mod claim;
mod query;
mod record;
#[cfg(test)]
mod tests;
mod tracking;
mod verify;

pub(crate) use self::{
    claim::{claim_request, parse_claim_response},
    query::{KeyQuery, handle_query_response, query_request},
    record::{Device, DevicesError, Trust, device, eligible_devices, trust},
    tracking::{doubt, note_device_lists, outdated, track, untrack},
};
