//! Collections: named sets of sealed records.
//!
//! A record is any serde value, kept as CBOR. Its scope groups it with the records that are listed
//! and deleted together, such as those of one room. Scope and key are stored only as keyed hashes,
//! so a record that is read from a list has to carry its own key.

use std::marker::PhantomData;

use serde::{Serialize, de::DeserializeOwned};
use zeroize::Zeroizing;

use super::{
    StoreError, Tx,
    cipher::{Hash, OpenedValue, Place, Plaintext, decode},
    opened::{Columns, Opened},
};

/// A named set of records of type `T`. Two collections of one name are the same collection.
pub struct Collection<T> {
    name: &'static str,
    // `fn`: a collection holds no `T`, so it is Send and Sync whatever `T` is.
    records: PhantomData<fn() -> T>,
}

impl<T: Serialize + DeserializeOwned> Collection<T> {
    /// The collection of this name.
    pub const fn new(name: &'static str) -> Self {
        Self { name, records: PhantomData }
    }

    /// The record at `key` in `scope`. A transaction that writes opens each record once.
    pub fn get(&self, tx: &Tx<'_>, scope: &[u8], key: &[u8]) -> Result<Option<T>, StoreError> {
        tx.check_open()?;
        let name = (self.name, scope, key);
        let known = |opened: &Opened| opened.with(name, |_, value| value.map(decode).transpose());
        if let Some(known) = tx.opened.as_ref().and_then(known) {
            return known;
        }
        let columns = self.columns(tx, scope, key);
        let value = self.open(tx, &columns)?;
        if let Some(opened) = &tx.opened {
            let payload = value.as_ref().map(OpenedValue::payload);
            opened.keep(name, columns, payload.map(|bytes| Zeroizing::new(bytes.to_vec())));
        }
        value.map(|value| value.decode()).transpose()
    }

    fn open(&self, tx: &Tx<'_>, columns: &Columns) -> Result<Option<OpenedValue>, StoreError> {
        tx.bring_record(self.name, &columns.scope, &columns.key)?;
        let mut statement = tx.statement(
            "SELECT value FROM record WHERE collection = ?1 AND scope = ?2 AND key = ?3",
        )?;
        let mut rows = statement.query((self.name, columns.scope, columns.key))?;
        let Some(row) = rows.next()? else {
            return Ok(None);
        };
        let sealed = row.get_ref(0)?.as_blob().map_err(rusqlite::Error::from)?;
        tx.cipher.open(&columns.place, sealed).map(Some)
    }

    /// Whether there is a record at `key` in `scope`. The record is not opened.
    pub fn has(&self, tx: &Tx<'_>, scope: &[u8], key: &[u8]) -> Result<bool, StoreError> {
        let columns = self.known_columns(tx, scope, key);
        tx.bring_record(self.name, &columns.scope, &columns.key)?;
        let mut statement =
            tx.statement("SELECT 1 FROM record WHERE collection = ?1 AND scope = ?2 AND key = ?3")?;
        Ok(statement.exists((self.name, columns.scope, columns.key))?)
    }

    /// Writes the record at `key` in `scope`, over the one that is there. Its rank in lists stays.
    /// A record that is known to be the same already is not written.
    pub fn put(&self, tx: &Tx<'_>, scope: &[u8], key: &[u8], value: &T) -> Result<(), StoreError> {
        let name = (self.name, scope, key);
        let columns = self.known_columns(tx, scope, key);
        let mut plaintext = Plaintext::new(&columns.place);
        plaintext.encode(value)?;
        let payload = plaintext.payload();
        let is_same = |opened: &Opened| opened.with(name, |_, known| known == Some(payload));
        if tx.opened.as_ref().and_then(is_same) == Some(true) {
            return tx.check_open();
        }
        let kept = tx.opened.as_ref().map(|opened| (opened, Zeroizing::new(payload.to_vec())));
        let sealed = tx.cipher.seal_plaintext(plaintext)?;
        tx.bring_record(self.name, &columns.scope, &columns.key)?;
        tx.execute(
            "INSERT INTO record (collection, scope, key, value) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (collection, scope, key) DO UPDATE SET value = excluded.value",
            (self.name, columns.scope, columns.key, sealed),
        )?;
        if let Some((opened, kept)) = kept {
            opened.keep(name, columns, Some(kept));
        }
        Ok(())
    }

    /// Deletes the record at `key` in `scope`; tells whether it existed.
    pub fn delete(&self, tx: &Tx<'_>, scope: &[u8], key: &[u8]) -> Result<bool, StoreError> {
        let columns = self.known_columns(tx, scope, key);
        tx.bring_record(self.name, &columns.scope, &columns.key)?;
        let deleted = tx.execute(
            "DELETE FROM record WHERE collection = ?1 AND scope = ?2 AND key = ?3",
            (self.name, columns.scope, columns.key),
        )?;
        if let Some(opened) = &tx.opened {
            opened.keep((self.name, scope, key), columns, None);
        }
        Ok(deleted > 0)
    }

    /// The records of a scope, in the order in which they were first written.
    pub fn list(&self, tx: &Tx<'_>, scope: &[u8]) -> Result<Vec<T>, StoreError> {
        let statement = tx.statement(
            "SELECT scope, key, value FROM record WHERE collection = ?1 AND scope = ?2
             ORDER BY id",
        )?;
        let scope = self.scope(tx, scope);
        tx.bring_records(self.name, &scope)?;
        self.collect(tx, statement, (self.name, scope))
    }

    /// The records of a scope that were first written last, newest first, at most `limit`.
    pub fn newest(&self, tx: &Tx<'_>, scope: &[u8], limit: usize) -> Result<Vec<T>, StoreError> {
        let statement = tx.statement(
            "SELECT scope, key, value FROM record WHERE collection = ?1 AND scope = ?2
             ORDER BY id DESC LIMIT ?3",
        )?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let scope = self.scope(tx, scope);
        tx.bring_records(self.name, &scope)?;
        self.collect(tx, statement, (self.name, scope, limit))
    }

    #[cfg(test)]
    /// The records of all scopes, in the order in which they were first written.
    pub fn list_all(&self, tx: &Tx<'_>) -> Result<Vec<T>, StoreError> {
        let statement =
            tx.statement("SELECT scope, key, value FROM record WHERE collection = ?1 ORDER BY id")?;
        self.collect(tx, statement, (self.name,))
    }

    /// How many records a scope has.
    pub fn count(&self, tx: &Tx<'_>, scope: &[u8]) -> Result<u64, StoreError> {
        let scope = self.scope(tx, scope);
        tx.bring_records(self.name, &scope)?;
        let count: i64 = tx
            .statement("SELECT count(*) FROM record WHERE collection = ?1 AND scope = ?2")?
            .query_row((self.name, scope), |row| row.get(0))?;
        Ok(count.unsigned_abs())
    }

    /// Deletes the records of a scope; tells how many there were.
    pub fn delete_scope(&self, tx: &Tx<'_>, scope: &[u8]) -> Result<u64, StoreError> {
        let columns = self.scope(tx, scope);
        tx.bring_records(self.name, &columns)?;
        let deleted = tx.execute(
            "DELETE FROM record WHERE collection = ?1 AND scope = ?2",
            (self.name, columns),
        )?;
        if let Some(opened) = &tx.opened {
            opened.forget_scope(self.name, scope);
        }
        Ok(deleted as u64)
    }

    fn collect(
        &self,
        tx: &Tx<'_>,
        mut statement: rusqlite::CachedStatement<'_>,
        parameters: impl rusqlite::Params,
    ) -> Result<Vec<T>, StoreError> {
        let mut rows = statement.query(parameters)?;
        let mut values = Vec::new();
        while let Some(row) = rows.next()? {
            let blob = |column| -> Result<&[u8], StoreError> {
                Ok(row.get_ref(column)?.as_blob().map_err(rusqlite::Error::from)?)
            };
            let place = self.place(tx, blob(0)?, blob(1)?);
            values.push(tx.cipher.open(&place, blob(2)?)?.decode()?);
        }
        Ok(values)
    }

    fn scope(&self, tx: &Tx<'_>, scope: &[u8]) -> Hash {
        tx.cipher.hash(&format!("scope of records of {}", self.name), scope)
    }

    /// Where a record is. The key's hash covers its scope, so that one key in two scopes has two
    /// hashes.
    fn columns(&self, tx: &Tx<'_>, scope: &[u8], key: &[u8]) -> Columns {
        let scope = self.scope(tx, scope);
        let mut bytes = scope.to_vec();
        bytes.extend_from_slice(key);
        let key = tx.cipher.hash(&format!("key of records of {}", self.name), &bytes);
        Columns { scope, key, place: self.place(tx, &scope, &key) }
    }

    /// The same, not computed anew where it is known.
    fn known_columns(&self, tx: &Tx<'_>, scope: &[u8], key: &[u8]) -> Columns {
        let known = |opened: &Opened| opened.with((self.name, scope, key), |columns, _| *columns);
        let known = tx.opened.as_ref().and_then(known);
        known.unwrap_or_else(|| self.columns(tx, scope, key))
    }

    fn place(&self, tx: &Tx<'_>, scope: &[u8], key: &[u8]) -> Place {
        tx.cipher.place("record", &[self.name.as_bytes(), scope, key])
    }
}
