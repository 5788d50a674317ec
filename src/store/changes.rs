//! What has changed in a set of records since a moment, for whoever keeps in memory what was made
//! of them.
//!
//! Such a keeper takes a [`ChangeMark`] when it looks at the records, and later asks for the
//! changes since ([`Changes::since`]). Whoever changes a record notes that ([`Changes::note`]) in
//! the same transaction. What is stored decides: a mark is the number and a random name of the last
//! change, and counts only where that very change is still stored. So a part of a transaction that
//! was undone, another opener of the store and an older copy of its file are all found, and the
//! keeper looks at everything again. It does so too where there are more changes than are kept.
//!
//! Before anybody has taken a mark nothing is noted.

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_bytes::ByteArray;

use super::{Collection, StoreError, Tx};

/// The changes of a set, by scope. A `T` says what has changed.
pub struct Changes<T> {
    entries: Collection<Entry<T>>,
    most: u64,
}

/// The moment after one change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangeMark {
    pub(super) number: u64,
    name: ByteArray<16>,
}

/// One change. The last one is stored under the empty key as well.
#[derive(Serialize, Deserialize)]
pub(super) struct Entry<T> {
    number: u64,
    /// Random, so that no other change has it.
    name: ByteArray<16>,
    /// Nothing in the first entry, with which noting begins.
    changed: Option<T>,
}

impl<T: Serialize + DeserializeOwned> Changes<T> {
    /// The changes of this name, of which so many are kept in each scope, at least one.
    pub const fn new(name: &'static str, most: u64) -> Self {
        Self { entries: Collection::new(name), most: if most == 0 { 1 } else { most } }
    }

    /// Notes a change, if anybody has ever taken a mark.
    pub fn note(&self, tx: &Tx<'_>, scope: &[u8], changed: T) -> Result<(), StoreError> {
        let Some(last) = self.last(tx, scope)? else { return Ok(()) };
        self.put(tx, scope, last.number.saturating_add(1), Some(changed)).map(drop)
    }

    /// The moment of now. From now on changes are noted.
    pub fn mark(&self, tx: &Tx<'_>, scope: &[u8]) -> Result<ChangeMark, StoreError> {
        match self.last(tx, scope)? {
            Some(Entry { number, name, .. }) => Ok(ChangeMark { number, name }),
            None => self.put(tx, scope, 0, None),
        }
    }

    /// What has changed since a mark, oldest first, maybe several times the same; nothing where
    /// that cannot be told.
    pub fn since(
        &self,
        tx: &Tx<'_>,
        scope: &[u8],
        mark: &ChangeMark,
    ) -> Result<Option<Vec<T>>, StoreError> {
        let Some(last) = self.last(tx, scope)? else { return Ok(None) };
        let Some(number) = last.number.checked_sub(mark.number) else { return Ok(None) };
        if number >= self.most || !self.has(tx, scope, mark)? {
            return Ok(None);
        }
        let mut changed = Vec::new();
        for number in mark.number + 1..=last.number {
            match self.entries.get(tx, scope, &self.key(number))? {
                Some(entry) if entry.number == number => changed.extend(entry.changed),
                _ => return Ok(None),
            }
        }
        Ok(Some(changed))
    }

    /// Whether the change that a mark is of is stored.
    fn has(&self, tx: &Tx<'_>, scope: &[u8], mark: &ChangeMark) -> Result<bool, StoreError> {
        let entry = self.entries.get(tx, scope, &self.key(mark.number))?;
        Ok(entry.is_some_and(|entry| entry.number == mark.number && entry.name == mark.name))
    }

    pub(super) fn last(&self, tx: &Tx<'_>, scope: &[u8]) -> Result<Option<Entry<T>>, StoreError> {
        self.entries.get(tx, scope, b"")
    }

    fn put(
        &self,
        tx: &Tx<'_>,
        scope: &[u8],
        number: u64,
        changed: Option<T>,
    ) -> Result<ChangeMark, StoreError> {
        let name: [u8; 16] =
            tx.statement("SELECT randomblob(16)")?.query_row([], |row| row.get(0))?;
        let entry = Entry { number, name: name.into(), changed };
        self.entries.put(tx, scope, &self.key(number), &entry)?;
        self.entries.put(tx, scope, b"", &entry)?;
        Ok(ChangeMark { number, name: entry.name })
    }

    /// Where a change is kept, until another takes its place.
    fn key(&self, number: u64) -> [u8; 8] {
        (number % self.most).to_be_bytes()
    }
}
