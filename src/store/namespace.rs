//! Namespaces: sets of OpenMLS rows, so that many epoch states of one group are stored side by
//! side.
//!
//! A namespace is one epoch state. A new one starts as an overlay over the state it was made from
//! ([`MlsStorage::child`](super::MlsStorage::child)) and is then detached: the rows that it lacks
//! are copied, and from then on it does not need its parent. Overlays are one level deep, since a
//! parent is always detached. Each namespace also has a message generation, a plain counter.

use rusqlite::OptionalExtension;
use serde::{Deserialize, Serialize};

use super::{error::StoreError, tx::Tx};

/// The id of a namespace. Ids are never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Namespace(i64);

impl Namespace {
    /// The namespace of rows that belong to no group: signature key pairs, key packages,
    /// encryption key pairs, pre-shared keys.
    pub const GLOBAL: Self = Self(0);

    pub(super) fn id(self) -> i64 {
        self.0
    }
}

impl Tx<'_> {
    /// Makes an empty namespace.
    pub fn new_namespace(&self) -> Result<Namespace, StoreError> {
        self.execute("INSERT INTO namespace DEFAULT VALUES", [])?;
        Ok(Namespace(self.last_id()))
    }

    /// Deletes a namespace: all its rows and its generation. Does nothing when there is none;
    /// refuses the global one.
    pub fn delete_namespace(&self, namespace: Namespace) -> Result<(), StoreError> {
        if namespace == Namespace::GLOBAL {
            return Err(StoreError::Damaged("the global namespace is not deleted".to_owned()));
        }
        // The rows go with it: ON DELETE CASCADE.
        self.execute("DELETE FROM namespace WHERE id = ?1", [namespace.0])?;
        Ok(())
    }

    /// The message generation of a namespace; 0 if it was never set.
    pub fn generation(&self, namespace: Namespace) -> Result<u32, StoreError> {
        Ok(self
            .statement("SELECT generation FROM namespace WHERE id = ?1")?
            .query_row([namespace.0], |row| row.get(0))
            .optional()?
            .unwrap_or(0))
    }

    /// Sets the message generation of a namespace, which must exist. A lower value is refused: a
    /// generation used twice would repeat a key and a nonce.
    pub fn set_generation(&self, namespace: Namespace, value: u32) -> Result<(), StoreError> {
        let changed = self.execute(
            "UPDATE namespace SET generation = ?2 WHERE id = ?1 AND generation <= ?2",
            (namespace.0, value),
        )?;
        if changed == 0 {
            return Err(StoreError::Damaged(format!(
                "the generation of namespace {} cannot become {value}",
                namespace.0
            )));
        }
        Ok(())
    }
}
