//! What crosses the wire: names and JSON, plain serde without logic.
//!
//! It knows nothing of the store, of OpenMLS's groups or of requests. Where a thing has more than
//! one name on the wire, one is written and all are read.

pub(crate) mod credential;
mod events;
pub(crate) mod identifiers;
mod payload;

pub(crate) use credential::CredentialError;
pub(crate) use events::*;
pub(crate) use payload::{MediaReference, Payload, PayloadError, decode_base64, encode_base64};
