//! Reading and sealing the application messages of an epoch from its export, with no OpenMLS
//! group at hand (RFC 9420 §9, the secret tree, and §6.3, message protection).
//!
//! This module owns the epoch export ([`EpochKeys`] and the leaf sets beside it), taking it out of
//! what OpenMLS stores, and the message protection done with it. It promises that opening is a
//! read: any application message of the epoch opens, own ones included, in any order and any
//! number of times, and what opens was signed by the leaf it is reported for. It does not
//! remember which generations were seen or used; never sealing twice in one generation is the
//! caller's. Only `archive` knows the store, and nothing here knows of requests or JSON.

pub mod archive;
mod capture;
mod export;
mod framing;
mod header;
mod leaves;
mod open;
mod ratchet_cache;
pub mod replay;
pub mod restored;
mod seal;
mod secret_tree;
#[cfg(test)]
mod tests;
pub mod transfer;

pub use self::{
    capture::{CaptureError, capture},
    export::EpochKeys,
    framing::Malformed,
    header::{Header, peek},
    leaves::{CHUNK_LEAVES, ChunkId, Leaf, LeafChunk, LeavesError, chunks, locate},
    open::{OpenError, Opened, open},
    ratchet_cache::RatchetCache,
    seal::{MessageDraft, SealError, seal},
    secret_tree::MAX_GENERATION,
};
#[cfg(test)]
pub use self::{
    export::ExportError, framing::ContentType, ratchet_cache::MAX_CACHED_RATCHETS,
    secret_tree::RatchetError,
};
