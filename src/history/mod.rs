//! Reading and sealing the application messages of an epoch from its export, without an OpenMLS
//! group (RFC 9420 §9, the secret tree, and §6.3, message protection).
//!
//! This folder owns the epoch export ([`EpochKeys`] and the leaf sets beside it), the capture of
//! exports from what OpenMLS stores, and the message protection done with them. It promises that
//! opening only reads: any application message of the epoch opens, this device's own included, in
//! any order and any number of times, and a message that opens was signed by the leaf that is
//! reported. Opening remembers no generations. The caller makes sure that no generation is sealed
//! twice. `archive`, `replay` and `restored` keep rows in the store; nothing here knows of requests
//! or JSON.

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
