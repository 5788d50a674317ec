//! OpenMLS's storage over a transaction.
//!
//! [`MlsStorage`] decides in which namespace a row is; `rows` reads and writes it; `provider` is
//! OpenMLS's trait, method by method. Keys are hashes of the kind of row and OpenMLS's key in
//! CBOR; values are CBOR, which OpenMLS needs to be self-describing. Lists are CBOR sequences
//! (RFC 8742), so that appending needs no decoding. Values that grow with the room are in `chunks`
//! that epochs share, where they are large.

mod chunks;
mod cut;
mod kind;
mod overlay;
mod provider;
mod rows;
mod storage;

pub use self::storage::MlsStorage;
