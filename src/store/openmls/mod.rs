//! OpenMLS's storage over a transaction.
//!
//! [`MlsStorage`] decides in which namespace a row is; `rows` reads and writes it; `provider`
//! implements OpenMLS's trait, method by method. Keys are hashes of the kind of row and OpenMLS's
//! key in CBOR. Values are in the form of [`packed`](super::packed), because OpenMLS needs them to
//! be self-describing; rows of earlier versions are CBOR. Lists are CBOR sequences (RFC 8742), so
//! that appending needs no decoding. Large values that grow with the room are in `chunks` that
//! epochs share. A [`RowsMark`] tells whether a namespace's rows are still those that they were.

mod chunks;
mod cut;
mod kind;
mod mark;
mod overlay;
mod provider;
pub(crate) mod rows;
mod storage;

pub use self::{mark::RowsMark, storage::MlsStorage};
