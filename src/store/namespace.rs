//! Namespaces: sets of OpenMLS rows, so that many epoch states of one group are stored side by
//! side.
//!
//! A namespace is one epoch state. A new one starts as an overlay over the state it was made from
//! ([`MlsStorage::child`](super::MlsStorage::child)) and is then detached: the rows that it lacks
//! are copied, and from then on it does not need its parent. Overlays are one level deep, since a
//! parent is always detached. Each namespace also has a message generation: a counter that is
//! sealed, as whoever could set it back would make a key seal two messages.

use serde::{Deserialize, Serialize};

use super::{cipher::Place, error::StoreError, tx::Tx};

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
        let namespace = Namespace(self.last_id());
        self.put_generation(namespace, 0)?;
        Ok(namespace)
    }

    /// Deletes a namespace: all its rows and its generation. Does nothing when there is none;
    /// refuses the global one.
    pub fn delete_namespace(&self, namespace: Namespace) -> Result<(), StoreError> {
        if namespace == Namespace::GLOBAL {
            return Err(StoreError::Damaged("the global namespace is not deleted".to_owned()));
        }
        self.bring_namespace(namespace)?;
        // The rows go with it: ON DELETE CASCADE.
        if self.execute("DELETE FROM namespace WHERE id = ?1", [namespace.0])? > 0 {
            self.note_deleted_secrets();
        }
        Ok(())
    }

    /// The message generation of a namespace; 0 if there is no such namespace.
    ///
    /// Fails with [`StoreError::Changed`] if what is stored is not what this library stored there.
    pub fn generation(&self, namespace: Namespace) -> Result<u32, StoreError> {
        self.bring_namespace(namespace)?;
        let mut statement = self.statement("SELECT counter FROM namespace WHERE id = ?1")?;
        let mut rows = statement.query([namespace.0])?;
        let Some(row) = rows.next()? else { return Ok(0) };
        let sealed = row.get_ref(0)?.as_blob_or_null().map_err(|_| EDITED)?.ok_or(EDITED)?;
        let opened = self.cipher.open(&self.counter_place(namespace), sealed);
        opened.and_then(|value| value.decode()).map_err(|_| EDITED)
    }

    /// Takes the generations from `from` up to `to`: the generation of the namespace becomes `to`.
    ///
    /// Fails with [`StoreError::Changed`] if the generation is not `from`: another opener has taken
    /// some since, or the store was edited. A generation used twice would repeat a key and a nonce.
    /// So the transaction promises it.
    pub fn take_generations(
        &self,
        namespace: Namespace,
        from: u32,
        to: u32,
    ) -> Result<(), StoreError> {
        if self.generation(namespace)? != from {
            return Err(StoreError::Changed("it has used other generations"));
        }
        if to < from {
            return Err(StoreError::Damaged(format!("generations do not go from {from} to {to}")));
        }
        self.promise();
        self.put_generation(namespace, to)
    }

    fn put_generation(&self, namespace: Namespace, value: u32) -> Result<(), StoreError> {
        let sealed = self.cipher.seal(&self.counter_place(namespace), &value)?;
        self.bring_namespace(namespace)?;
        let changed =
            self.execute("UPDATE namespace SET counter = ?2 WHERE id = ?1", (namespace.0, sealed))?;
        if changed == 0 {
            return Err(StoreError::Damaged(format!("there is no namespace {}", namespace.0)));
        }
        Ok(())
    }

    fn counter_place(&self, namespace: Namespace) -> Place {
        self.cipher.place("generation of namespace", &[&namespace.0.to_be_bytes()])
    }

    /// Seals the generations that a store of an earlier version has in clear. Only whoever knows
    /// that the store is such a one may call this: it takes them for what they are.
    pub fn seal_generations(&self) -> Result<(), StoreError> {
        let mut earlier = Vec::new();
        {
            let mut statement =
                self.statement("SELECT id, generation FROM namespace WHERE counter IS NULL")?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                earlier.push((Namespace(row.get(0)?), row.get::<_, u32>(1)?));
            }
        }
        for (namespace, generation) in earlier {
            self.put_generation(namespace, generation)?;
        }
        self.run("UPDATE namespace SET generation = 0")
    }
}

/// A generation is not what was stored.
const EDITED: StoreError = StoreError::Changed("a generation was edited");
