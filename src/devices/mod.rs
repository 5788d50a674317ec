//! Other people's devices: whose device lists are tracked, what `/keys/query` said of them, and how
//! far a credential is trusted.
//!
//! A device may take part in groups if its published keys are consistent (see `verify`). A device
//! whose keys are not is kept with the reason, is reported, and is never offered to a group. The
//! first credential key that was seen for a device counts for good (`pins`): a later answer with
//! another key is a conflict, whatever the homeserver said in between.
//!
//! This folder makes ruma's request values and reads the bodies of answers. It knows nothing of
//! queues and rooms.

mod claim;
mod pins;
mod query;
mod record;
#[cfg(test)]
mod tests;
mod tracking;
mod verify;

pub(crate) use self::{
    claim::{ClaimedPackage, claim_request, parse_claim_response},
    query::{KeyQuery, handle_query_response, query_refused, query_request},
    record::{
        Device, DevicesError, Trust, device, eligible_devices, is_unheard_of, may_have_devices,
        pin_own, trust,
    },
    tracking::{
        is_list_current, mark_all_outdated, mark_outdated, note_device_lists, outdated, track,
        untrack,
    },
};
