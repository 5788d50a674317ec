//! OpenMLS's storage over a transaction.
//!
//! [`MlsStorage`] decides in which namespace a row is; `rows` reads and writes it; `provider`
//! implements OpenMLS's trait, method by method. Keys are hashes of the kind of row and OpenMLS's
//! key in CBOR. Values are CBOR, because OpenMLS needs them to be self-describing. Lists are CBOR
//! sequences (RFC 8742), so that appending needs no decoding. Large values that grow with the room
//! are in `chunks` that epochs share.

mod chunks;
mod cut;
mod kind;
mod overlay;
mod provider;
mod rows;
mod storage;

pub use self::storage::MlsStorage;
