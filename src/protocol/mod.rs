//! What crosses the wire: names, JSON, and the order of epochs on which all clients agree.
//!
//! Everything here is plain data with its serde form. This folder knows nothing of the store, of
//! requests or of OpenMLS's groups. If something has more than one name on the wire, one name is
//! written and all are read.

pub(crate) mod binding;
pub(crate) mod credential;
mod device_name;
mod epoch_id;
mod events;
mod group_name;
pub(crate) mod identifiers;
mod json;
mod payload;
mod rank;
mod signature;
mod sync;
#[cfg(test)]
pub(crate) mod vectors;

pub(crate) use self::{
    credential::CredentialError,
    device_name::{DeviceName, device_in_row, devices_in_row},
    epoch_id::{EpochId, UnwritableContext},
    events::*,
    group_name::GroupName,
    json::{CONTENT_LIMIT, ContentError, JsonError, parse, write_content},
    payload::{MediaReference, Payload, PayloadError, decode_base64, encode_base64},
    rank::{GroupRank, Rank},
    signature::is_signed,
    sync::{
        DeviceLists, Ranges, RequestedList, SlidingSyncRequest, SlidingSyncResponse, SyncResponse,
    },
};
