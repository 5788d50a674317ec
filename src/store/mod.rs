//! The store: one SQLite file that holds everything this device must not forget.
//!
//! The store owns the file, its lock, its schema and its encryption at rest. It offers transactions
//! ([`Store::write`], [`Store::read`]) and, inside them, sealed records ([`Collection`]), ordered
//! queues ([`Queue`]), and OpenMLS's rows in one namespace for each epoch ([`MlsStorage`]). It
//! promises that a transaction is kept whole or not at all, through kills and losses of power, that
//! what was promised is kept (`flush`), and that a file that was damaged or tampered with gives
//! [`StoreError::Damaged`], never a panic. It knows nothing of rooms, epochs or requests.
//!
//! There are two connections, each behind its own mutex: the writer, and a reader that sees the
//! last commit while a long write runs. A mutex that a panic has poisoned is used all the same: the
//! panic unwound through the transaction, which rolled back, so the guarded state is sound.

pub(crate) mod cbor;
mod changes;
mod cipher;
mod collection;
mod connection;
mod error;
mod file_mark;
mod flush;
mod handle;
#[cfg(feature = "test-hooks")]
pub mod hooks;
mod lock;
mod log;
mod migrations;
mod namespace;
mod opened;
mod openmls;
pub(crate) mod packed;
mod queue;
mod shadow;
mod sizes;
#[cfg(test)]
mod tests;
mod tx;
mod wipe;

pub(crate) use self::cbor::Mark;
pub use self::{
    changes::{ChangeMark, Changes},
    cipher::StoreKeyMaterial,
    collection::Collection,
    error::StoreError,
    file_mark::FileMark,
    handle::{Store, StoreReader},
    namespace::Namespace,
    openmls::{MlsStorage, RowsMark},
    queue::Queue,
    shadow::Shadow,
    tx::Tx,
    wipe::wipe,
};
