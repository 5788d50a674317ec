//! Queues: ordered, sealed entries, each with an id of its own and a time when it is due.
//!
//! Ids rise with each push over all queues and are never reused, so a late answer to one entry is
//! never taken for the answer to a newer one. Oldest first means lowest id first: an entry keeps
//! its rank when it is postponed. The due time is stored in clear, because SQLite looks entries up
//! by it; the sealed value is bound to it.

use std::marker::PhantomData;

use rusqlite::{CachedStatement, OptionalExtension, Params, Row};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    StoreError, Tx,
    cipher::{Hash, Place},
};

/// A named queue of entries of type `T`. Two queues of one name are the same queue.
pub struct Queue<T> {
    name: &'static str,
    entries: PhantomData<fn() -> T>,
}

impl<T: Serialize + DeserializeOwned> Queue<T> {
    /// The queue of this name.
    pub const fn new(name: &'static str) -> Self {
        Self { name, entries: PhantomData }
    }

    /// Adds an entry at the end; gives its id.
    pub fn push(
        &self,
        tx: &Tx<'_>,
        scope: &[u8],
        due_ms: u64,
        value: &T,
    ) -> Result<i64, StoreError> {
        // The id is part of the sealed value's place, so it must be known before the insert. Inside
        // a write transaction this is the id that SQLite itself would choose.
        let last: i64 = tx
            .statement("SELECT seq FROM sqlite_sequence WHERE name = 'queue_entry'")?
            .query_row([], |row| row.get(0))
            .optional()?
            .unwrap_or(0);
        let id = last
            .checked_add(1)
            .ok_or_else(|| StoreError::Damaged("the ids of queue entries ran out".to_owned()))?;
        let (scope, due) = (self.scope(tx, scope), due_column(due_ms));
        let sealed = tx.cipher.seal(&self.place(tx, id, &scope, due), value)?;
        tx.execute(
            "INSERT INTO queue_entry (id, queue, scope, due_ms, value)
             VALUES (?1, ?2, ?3, ?4, ?5)",
            (id, self.name, scope, due, sealed),
        )?;
        Ok(id)
    }

    /// The entry of this id.
    pub fn get(&self, tx: &Tx<'_>, id: i64) -> Result<Option<T>, StoreError> {
        tx.bring_entry(id)?;
        let statement = tx.statement(
            "SELECT id, scope, due_ms, value FROM queue_entry WHERE id = ?1 AND queue = ?2",
        )?;
        Ok(self.collect(tx, statement, (id, self.name))?.pop().map(|(_, value)| value))
    }

    /// Replaces the value and the due time of an entry, which keeps its id and rank. Fails with
    /// [`StoreError::Damaged`] if there is no such entry.
    pub fn update(&self, tx: &Tx<'_>, id: i64, due_ms: u64, value: &T) -> Result<(), StoreError> {
        tx.bring_entry(id)?;
        let scope: Vec<u8> = tx
            .statement("SELECT scope FROM queue_entry WHERE id = ?1 AND queue = ?2")?
            .query_row((id, self.name), |row| row.get(0))
            .optional()?
            .ok_or_else(|| StoreError::Damaged(format!("queue entry {id} does not exist")))?;
        let due = due_column(due_ms);
        let sealed = tx.cipher.seal(&self.place(tx, id, &scope, due), value)?;
        tx.execute(
            "UPDATE queue_entry SET due_ms = ?2, value = ?3 WHERE id = ?1",
            (id, due, sealed),
        )?;
        Ok(())
    }

    /// Removes an entry; tells whether it existed.
    pub fn remove(&self, tx: &Tx<'_>, id: i64) -> Result<bool, StoreError> {
        tx.bring_entry(id)?;
        let removed =
            tx.execute("DELETE FROM queue_entry WHERE id = ?1 AND queue = ?2", (id, self.name))?;
        Ok(removed > 0)
    }

    /// The entries due at `now_ms`, oldest first, at most `limit`.
    pub fn due(&self, tx: &Tx<'_>, now_ms: u64, limit: usize) -> Result<Vec<(i64, T)>, StoreError> {
        tx.bring_queue(self.name)?;
        let statement = tx.statement(
            "SELECT id, scope, due_ms, value FROM queue_entry
             WHERE queue = ?1 AND due_ms <= ?2 ORDER BY id LIMIT ?3",
        )?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.collect(tx, statement, (self.name, due_column(now_ms), limit))
    }

    /// The entries due at `now_ms`, and those due later than `beyond_ms`; oldest first, at most
    /// `limit`.
    pub fn due_or_beyond(
        &self,
        tx: &Tx<'_>,
        now_ms: u64,
        beyond_ms: u64,
        limit: usize,
    ) -> Result<Vec<(i64, T)>, StoreError> {
        tx.bring_queue(self.name)?;
        let statement = tx.statement(
            "SELECT id, scope, due_ms, value FROM queue_entry
             WHERE queue = ?1 AND (due_ms <= ?2 OR due_ms > ?3) ORDER BY id LIMIT ?4",
        )?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let (now, beyond) = (due_column(now_ms), due_column(beyond_ms));
        self.collect(tx, statement, (self.name, now, beyond, limit))
    }

    /// The entries that are due after `now_ms`, the next one first, at most `limit`.
    pub fn later(
        &self,
        tx: &Tx<'_>,
        now_ms: u64,
        limit: usize,
    ) -> Result<Vec<(i64, T)>, StoreError> {
        tx.bring_queue(self.name)?;
        let statement = tx.statement(
            "SELECT id, scope, due_ms, value FROM queue_entry
             WHERE queue = ?1 AND due_ms > ?2 ORDER BY due_ms, id LIMIT ?3",
        )?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.collect(tx, statement, (self.name, due_column(now_ms), limit))
    }

    /// How many entries are due at `now_ms`.
    pub fn count_due(&self, tx: &Tx<'_>, now_ms: u64) -> Result<u64, StoreError> {
        tx.bring_queue(self.name)?;
        let count: i64 = tx
            .statement("SELECT count(*) FROM queue_entry WHERE queue = ?1 AND due_ms <= ?2")?
            .query_row((self.name, due_column(now_ms)), |row| row.get(0))?;
        Ok(count.unsigned_abs())
    }

    /// The entries of a scope, oldest first.
    pub fn in_scope(&self, tx: &Tx<'_>, scope: &[u8]) -> Result<Vec<(i64, T)>, StoreError> {
        let scope = self.scope(tx, scope);
        tx.bring_entries(self.name, &scope)?;
        let statement = tx.statement(
            "SELECT id, scope, due_ms, value FROM queue_entry
             WHERE queue = ?1 AND scope = ?2 ORDER BY id",
        )?;
        self.collect(tx, statement, (self.name, scope))
    }

    /// The oldest entry of a scope.
    pub fn first(&self, tx: &Tx<'_>, scope: &[u8]) -> Result<Option<(i64, T)>, StoreError> {
        let scope = self.scope(tx, scope);
        tx.bring_entries(self.name, &scope)?;
        let statement = tx.statement(
            "SELECT id, scope, due_ms, value FROM queue_entry
             WHERE queue = ?1 AND scope = ?2 ORDER BY id LIMIT 1",
        )?;
        Ok(self.collect(tx, statement, (self.name, scope))?.pop())
    }

    #[cfg(test)]
    /// All entries, oldest first.
    pub fn all(&self, tx: &Tx<'_>) -> Result<Vec<(i64, T)>, StoreError> {
        tx.bring_queue(self.name)?;
        let statement = tx.statement(
            "SELECT id, scope, due_ms, value FROM queue_entry WHERE queue = ?1 ORDER BY id",
        )?;
        self.collect(tx, statement, (self.name,))
    }

    /// How many entries there are.
    pub fn count(&self, tx: &Tx<'_>) -> Result<u64, StoreError> {
        tx.bring_queue(self.name)?;
        let count: i64 = tx
            .statement("SELECT count(*) FROM queue_entry WHERE queue = ?1")?
            .query_row([self.name], |row| row.get(0))?;
        Ok(count.unsigned_abs())
    }

    /// How many entries a scope has.
    pub fn count_scope(&self, tx: &Tx<'_>, scope: &[u8]) -> Result<u64, StoreError> {
        let scope = self.scope(tx, scope);
        tx.bring_entries(self.name, &scope)?;
        let count: i64 = tx
            .statement("SELECT count(*) FROM queue_entry WHERE queue = ?1 AND scope = ?2")?
            .query_row((self.name, scope), |row| row.get(0))?;
        Ok(count.unsigned_abs())
    }

    fn collect(
        &self,
        tx: &Tx<'_>,
        mut statement: CachedStatement<'_>,
        parameters: impl Params,
    ) -> Result<Vec<(i64, T)>, StoreError> {
        let mut rows = statement.query(parameters)?;
        let mut entries = Vec::new();
        while let Some(row) = rows.next()? {
            entries.push(self.entry(tx, row)?);
        }
        Ok(entries)
    }

    fn entry(&self, tx: &Tx<'_>, row: &Row<'_>) -> Result<(i64, T), StoreError> {
        let blob = |column| -> Result<&[u8], StoreError> {
            Ok(row.get_ref(column)?.as_blob().map_err(rusqlite::Error::from)?)
        };
        let (id, due): (i64, i64) = (row.get(0)?, row.get(2)?);
        let place = self.place(tx, id, blob(1)?, due);
        Ok((id, tx.cipher.open(&place, blob(3)?)?.decode()?))
    }

    fn scope(&self, tx: &Tx<'_>, scope: &[u8]) -> Hash {
        tx.cipher.hash(&format!("scope of queue {}", self.name), scope)
    }

    fn place(&self, tx: &Tx<'_>, id: i64, scope: &[u8], due: i64) -> Place {
        tx.cipher.place(
            "queue_entry",
            &[self.name.as_bytes(), &id.to_be_bytes(), scope, &due.to_be_bytes()],
        )
    }
}

/// SQLite's integers are signed. A time beyond their range is never due.
fn due_column(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}
