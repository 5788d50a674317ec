//! Reading and sealing application messages from an epoch's export, without a group.
//!
//! OpenMLS's own ratchets forget: a message opens once, one's own not at all, and every message
//! rewrites the epoch's secrets. A Matrix room has scrollback, so this module keeps what an epoch
//! started with (its *export*) and derives from it whatever a message needs: RFC 9420, section 9
//! (secret tree) and section 6.3 (message protection). An export opens the epoch's application
//! messages and nothing else; it holds no private key of the ratchet tree and no init or joiner
//! secret. What keeping it costs is told in `docs/protocol.md`.
//!
//! | | |
//! |---|---|
//! | `export` | the epoch's keys |
//! | `leaves` | its members, in chunks that epochs share |
//! | `capture` | how the keys are got from OpenMLS: the one place that knows its stored form |
//! | `secret_tree`, `framing` | the derivations and the wire format |
//! | `open`, `seal` | a message |
//! | `archive` | all of it in the store |

pub(crate) mod archive;
pub(crate) mod capture;
mod export;
mod framing;
pub(crate) mod leaves;
mod open;
mod seal;
mod secret_tree;
#[cfg(test)]
mod tests;

pub(crate) use self::{
    export::EpochKeys,
    framing::peek,
    leaves::{ChunkId, Leaf, LeafChunk},
    open::{OpenError, Opened, RatchetCache, open},
    seal::{SenderRatchet, seal},
    secret_tree::MAX_GENERATION,
};

/// What can go wrong below a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HistoryError {
    /// The bytes are no MLS message of the kind that was expected.
    #[error("not an MLS message: {0}")]
    Malformed(&'static str),
    /// It is a proposal or a commit.
    #[error("the message holds no application data")]
    NotApplication,
    /// It belongs to another group or epoch.
    #[error("the message belongs to another group or epoch")]
    OtherEpoch,
    /// It does not decrypt: it was damaged or forged, or belongs to a branch of the same number.
    #[error("the message does not decrypt")]
    DoesNotOpen,
    /// It names a generation beyond what is derived.
    #[error("generation {0} is out of range")]
    GenerationOutOfRange(u32),
    /// It names a leaf without a member.
    #[error("the sender is no member of the epoch")]
    UnknownSender,
    /// The sender did not sign it.
    #[error("the sender's signature does not fit")]
    BadSignature,
    /// The crypto provider refused.
    #[error("crypto: {0}")]
    Crypto(String),
    /// OpenMLS stores its secrets in a form this version does not know.
    #[error("OpenMLS's stored message secrets have changed: {0}")]
    UnknownForm(String),
}
