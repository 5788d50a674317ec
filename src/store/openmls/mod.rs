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
mod provider;
mod rows;

pub(super) use self::rows::copy_inherited;

use serde::Serialize;

use self::kind::Kind;
use super::{Namespace, StoreError, Tx};

/// OpenMLS's `StorageProvider` in one namespace, or in an overlay of a child over its parent.
///
/// Rows that belong to no group are in [`Namespace::GLOBAL`] whichever namespace this is for, and
/// are deleted there for good.
pub struct MlsStorage<'a> {
    tx: &'a Tx<'a>,
    namespace: Namespace,
    parent: Option<Namespace>,
}

impl<'a> MlsStorage<'a> {
    /// Reads and writes `namespace`.
    pub fn new(tx: &'a Tx<'a>, namespace: Namespace) -> Self {
        Self { tx, namespace, parent: None }
    }

    /// Reads `child`, then `parent`; writes `child`. A deletion is remembered in `child`; nothing
    /// of `parent` changes.
    pub fn child(tx: &'a Tx<'a>, parent: Namespace, child: Namespace) -> Self {
        Self { tx, namespace: child, parent: Some(parent) }
    }

    /// What OpenMLS last wrote with `write_message_secrets` for this group in this namespace, as
    /// CBOR.
    pub fn message_secrets_cbor(
        &self,
        group_id: &impl Serialize,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let row = self.read_row(Kind::MessageSecrets, group_id)?;
        Ok(row.map(|opened| opened.payload().to_vec()))
    }

    /// Gives the parent the message secrets that the child has of it, with the ratchets moved on. Made
    /// for a commit that a child sealed with the parent's keys: the next one that is sealed from the same
    /// parent must not use the same.
    pub fn hand_up_message_secrets(&self, group_id: &impl Serialize) -> Result<(), StoreError> {
        let (Some(parent), Some(secrets)) =
            (self.parent, self.read_row(Kind::MessageSecrets, group_id)?)
        else {
            return Ok(());
        };
        rows::put_payload(self.tx, parent, Kind::MessageSecrets, group_id, secrets.payload())
    }
}
