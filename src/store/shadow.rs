//! A shadow of a store: what is written in it stays in memory, and is gone with it.
//!
//! A shadow stands beside whoever has the store open. It has a database of its own in memory, with
//! the same schema, and the store's file beside that as `disk`, opened for reading only. Before a
//! statement runs, the rows that it is about are brought from the file, unless they were before. So
//! the code above works as in a store, and sees what it has written itself over what the file has.
//! A row that was brought and then deleted does not come back. Ids that the shadow gives begin
//! behind those of the file.
//!
//! Its transactions lock the file no longer than they run, and for reading only. A transaction that
//! finds that somebody has written to the file fails with [`StoreError::Changed`]: the rows that
//! were brought may be old. The shadow is useless then, and another is made. All that it holds in
//! memory is bounded; beyond that it fails with [`StoreError::NoRoom`].

use std::path::Path;

use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use rusqlite::{Connection, OpenFlags, TransactionBehavior, config::DbConfig, params};

use super::{
    StoreError, Tx, cipher::Hash, connection, handle, migrations::MIGRATIONS, namespace::Namespace,
    opened::Opened,
};

/// Which rows were brought, by their ids in the file.
const BROUGHT: &str = "
    CREATE TABLE brought_record (id INTEGER PRIMARY KEY);
    CREATE TABLE brought_queue_entry (id INTEGER PRIMARY KEY);
    CREATE TABLE brought_namespace (id INTEGER PRIMARY KEY);";

/// Has ids begin behind those of the file. The rows that hold the places are nobody's.
const IDS: &str = "
    DELETE FROM namespace;
    DELETE FROM sqlite_sequence;
    INSERT INTO sqlite_sequence SELECT * FROM disk.sqlite_sequence;
    INSERT INTO record SELECT COALESCE(MAX(id), 0) + 1, '', X'', X'', X'' FROM disk.record;
    INSERT INTO mls_chunk SELECT COALESCE(MAX(id), 0) + 1, X'', X'' FROM disk.mls_chunk;
    INSERT INTO mls_piece
        SELECT COALESCE(MAX(list), 0) + 1, 0, (SELECT MAX(id) FROM mls_chunk) FROM disk.mls_piece;";

/// A shadow of a store.
pub struct Shadow {
    connection: Connection,
    /// What the file was when the shadow was made.
    version: i64,
    most_bytes: u64,
}

impl Shadow {
    /// Makes a shadow of the store in this file. It holds so much in memory at the most.
    pub(super) fn of(path: &Path, most_bytes: u64) -> Result<Self, StoreError> {
        if !path.try_exists()? {
            return Err(StoreError::Missing);
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX
            | OpenFlags::SQLITE_OPEN_URI;
        let mut connection = Connection::open_with_flags(":memory:", flags)?;
        connection.busy_timeout(connection::BUSY_TIMEOUT)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        connection.pragma_update(None, "temp_store", "MEMORY")?;
        connection.set_prepared_statement_cache_capacity(2 * connection::STATEMENTS);
        for migration in MIGRATIONS {
            connection.execute_batch(migration)?;
        }
        connection.execute_batch(BROUGHT)?;
        // Every byte that a URL may give a meaning is encoded: a directory's name is not ours.
        let file = percent_encode(path.as_os_str().as_encoded_bytes(), NON_ALPHANUMERIC);
        connection.execute("ATTACH ?1 AS disk", [format!("file:{file}?mode=ro")])?;
        connection.pragma_update(None, "foreign_keys", true)?;
        let transaction = connection.transaction()?;
        let version = version(&transaction)?;
        connection::check_latest(transaction.query_row(
            "PRAGMA disk.user_version",
            [],
            |row| row.get(0),
        )?)?;
        transaction.execute_batch(IDS)?;
        transaction.commit()?;
        Ok(Self { connection, version, most_bytes })
    }
}

/// A number that is another once somebody has written to the file.
fn version(connection: &Connection) -> Result<i64, StoreError> {
    Ok(connection.query_row("PRAGMA disk.data_version", [], |row| row.get(0))?)
}

impl handle::StoreReader {
    /// Makes a shadow of the store, which holds so much in memory at the most.
    pub fn shadow(&self, most_bytes: u64) -> Result<Shadow, StoreError> {
        if handle::lock(&self.connection).is_none() {
            return Err(StoreError::Suspended);
        }
        Shadow::of(self.path(), most_bytes)
    }

    /// Runs `f` in a transaction of a shadow of this store.
    pub fn write_shadow<T, E: From<StoreError>>(
        &self,
        shadow: &mut Shadow,
        f: impl FnOnce(&Tx<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        // Deferred: one that means to write would lock the file for that as well.
        let transaction =
            shadow.connection.transaction_with_behavior(TransactionBehavior::Deferred);
        let transaction = transaction.map_err(StoreError::from)?;
        // Reading this begins the transaction on the file: all that follows sees the same.
        if version(&transaction)? != shadow.version {
            return Err(StoreError::Changed("a shadow of it is out of date").into());
        }
        let mut tx =
            Tx::new(&transaction, &self.cipher, Opened::of(TransactionBehavior::Immediate));
        tx.most_shadow_bytes = Some(shadow.most_bytes);
        let value = f(&tx)?;
        tx.check_open()?;
        tx.check_room(shadow.most_bytes, 0)?;
        transaction.commit().map_err(StoreError::from)?;
        Ok(value)
    }
}

impl Tx<'_> {
    /// Brings the record at this place.
    pub(super) fn bring_record(
        &self,
        collection: &str,
        scope: &Hash,
        key: &Hash,
    ) -> Result<(), StoreError> {
        let place = params![collection, scope, key];
        self.bring_rows("record", "collection = ?1 AND scope = ?2 AND key = ?3", place)
    }

    /// Brings all records of a scope.
    pub(super) fn bring_records(&self, collection: &str, scope: &Hash) -> Result<(), StoreError> {
        self.bring_rows("record", "collection = ?1 AND scope = ?2", params![collection, scope])
    }

    /// Brings the entry of this id.
    pub(super) fn bring_entry(&self, id: i64) -> Result<(), StoreError> {
        self.bring_rows("queue_entry", "id = ?1", params![id])
    }

    /// Brings the entries of a queue's scope.
    pub(super) fn bring_entries(&self, queue: &str, scope: &Hash) -> Result<(), StoreError> {
        self.bring_rows("queue_entry", "queue = ?1 AND scope = ?2", params![queue, scope])
    }

    /// Brings all entries of a queue.
    pub(super) fn bring_queue(&self, queue: &str) -> Result<(), StoreError> {
        self.bring_rows("queue_entry", "queue = ?1", params![queue])
    }

    /// Brings the rows of a table that fulfil a condition.
    fn bring_rows(
        &self,
        table: &str,
        condition: &str,
        parameters: &[&dyn rusqlite::ToSql],
    ) -> Result<(), StoreError> {
        let Some(most_bytes) = self.most_shadow_bytes else { return Ok(()) };
        let missing = format!(
            "FROM disk.{table} WHERE {condition} AND id NOT IN (SELECT id FROM brought_{table})"
        );
        self.bring(
            most_bytes,
            &format!("SELECT COALESCE(SUM(LENGTH(value)), 0) {missing}"),
            [
                &format!("INSERT INTO {table} SELECT * {missing}"),
                &format!(
                    "INSERT OR IGNORE INTO brought_{table}
                     SELECT id FROM disk.{table} WHERE {condition}"
                ),
            ],
            parameters,
        )
    }

    /// Brings a namespace and its rows, but not what is in pieces.
    pub(super) fn bring_namespace(&self, namespace: Namespace) -> Result<(), StoreError> {
        let Some(most_bytes) = self.most_shadow_bytes else { return Ok(()) };
        self.bring(
            most_bytes,
            "SELECT COALESCE(SUM(LENGTH(value)), 0) FROM disk.mls_row
             WHERE namespace = ?1 AND namespace NOT IN (SELECT id FROM brought_namespace)",
            [
                "INSERT INTO namespace SELECT * FROM disk.namespace
                 WHERE id = ?1 AND id NOT IN (SELECT id FROM brought_namespace)",
                "INSERT INTO mls_row SELECT * FROM disk.mls_row
                 WHERE namespace = ?1 AND namespace NOT IN (SELECT id FROM brought_namespace)",
                "INSERT OR IGNORE INTO brought_namespace VALUES (?1)",
            ],
            params![namespace.id()],
        )
    }

    /// Brings the pieces of a list. They never change: where the shadow has them, they are the
    /// same.
    pub(super) fn bring_list(&self, list: i64) -> Result<(), StoreError> {
        let Some(most_bytes) = self.most_shadow_bytes else { return Ok(()) };
        self.bring(
            most_bytes,
            "SELECT COALESCE(SUM(LENGTH(value)), 0) FROM disk.mls_chunk WHERE id IN
                 (SELECT chunk FROM disk.mls_piece WHERE list = ?1)
             AND id NOT IN (SELECT id FROM mls_chunk)
             AND NOT EXISTS (SELECT 1 FROM mls_piece WHERE list = ?1)",
            [
                "INSERT OR IGNORE INTO mls_chunk SELECT * FROM disk.mls_chunk WHERE id IN
                     (SELECT chunk FROM disk.mls_piece WHERE list = ?1)
                 AND NOT EXISTS (SELECT 1 FROM mls_piece WHERE list = ?1)",
                "INSERT INTO mls_piece SELECT * FROM disk.mls_piece WHERE list = ?1
                 AND NOT EXISTS (SELECT 1 FROM mls_piece WHERE list = ?1)",
            ],
            params![list],
        )
    }

    /// Brings rows of so many bytes, if there is room for them.
    fn bring<const STEPS: usize>(
        &self,
        most_bytes: u64,
        bytes: &str,
        steps: [&str; STEPS],
        parameters: &[&dyn rusqlite::ToSql],
    ) -> Result<(), StoreError> {
        let bytes: i64 = self.statement(bytes)?.query_row(parameters, |row| row.get(0))?;
        if bytes > 0 {
            self.check_room(most_bytes, bytes.unsigned_abs())?;
        }
        for step in steps {
            self.execute(step, parameters)?;
        }
        Ok(())
    }

    /// Whether the shadow has room for so many bytes more.
    fn check_room(&self, most_bytes: u64, more: u64) -> Result<(), StoreError> {
        let held: i64 = self
            .statement("SELECT page_count * page_size FROM pragma_page_count, pragma_page_size")?
            .query_row([], |row| row.get(0))?;
        if held.unsigned_abs().saturating_add(more) > most_bytes {
            return Err(StoreError::NoRoom);
        }
        Ok(())
    }
}
