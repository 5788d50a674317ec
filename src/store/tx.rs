//! A transaction: the only way to rows.
//!
//! Everything in this folder that touches rows does so through [`Tx::statement`], which refuses
//! when SQLite has undone the transaction on its own (it does so when the disk is full, and after
//! some I/O errors). Without that, what followed would be committed statement by statement.

use std::cell::RefCell;

use rusqlite::{CachedStatement, Connection, Params};

use super::{StoreError, cipher::Cipher, connection};

/// A transaction under way, given to the closures of [`Store::write`](super::Store::write) and
/// [`Store::read`](super::Store::read).
pub struct Tx<'a> {
    connection: &'a Connection,
    pub(super) cipher: &'a Cipher,
    /// Why SQLite undid the transaction, for those who ask after.
    undone_by: RefCell<Option<StoreError>>,
    /// The first failure below OpenMLS.
    failure: RefCell<Option<StoreError>>,
}

impl<'a> Tx<'a> {
    pub(super) fn new(connection: &'a Connection, cipher: &'a Cipher) -> Self {
        Self { connection, cipher, undone_by: RefCell::new(None), failure: RefCell::new(None) }
    }

    /// Remembers a failure on its way up through OpenMLS, which wraps it in errors of its own.
    pub(super) fn remember<T>(&self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        result.inspect_err(|error| {
            self.failure.borrow_mut().get_or_insert_with(|| error.clone());
        })
    }

    /// The first failure of OpenMLS's storage since the last call.
    pub fn take_failure(&self) -> Option<StoreError> {
        self.failure.take()
    }

    /// A statement from the connection's cache.
    pub(super) fn statement(&self, sql: &str) -> Result<CachedStatement<'_>, StoreError> {
        self.check_open()?;
        Ok(self.connection.prepare_cached(sql)?)
    }

    /// Runs a statement that writes; gives how many rows it changed.
    pub(super) fn execute(&self, sql: &str, parameters: impl Params) -> Result<usize, StoreError> {
        let mut statement = self.statement(sql)?;
        statement.execute(parameters).map_err(|error| {
            let error = StoreError::from(error);
            if self.connection.is_autocommit() {
                self.undone_by.borrow_mut().get_or_insert(error.clone());
            }
            error
        })
    }

    /// The id of the row inserted last.
    pub(super) fn last_id(&self) -> i64 {
        self.connection.last_insert_rowid()
    }

    /// Fails when SQLite has undone the transaction by itself, with the error that made it.
    #[inline(never)]
    pub(super) fn check_open(&self) -> Result<(), StoreError> {
        if !self.connection.is_autocommit() {
            return Ok(());
        }
        let undone = || StoreError::Io("the transaction was undone by an I/O error".to_owned());
        Err(self.undone_by.borrow().clone().unwrap_or_else(undone))
    }

    /// Runs `f` so that, when it fails, everything it did is undone and the error returned, while
    /// the transaction around it goes on. Savepoints nest.
    ///
    /// A full disk or an I/O error may take the whole transaction with it; everything after then
    /// fails with the same error.
    pub fn savepoint<T, E: From<StoreError>>(
        &self,
        f: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        self.run("SAVEPOINT step")?;
        let guard = Savepoint { tx: self, open: true };
        let value = f()?;
        guard.release()?;
        Ok(value)
    }

    pub(super) fn save_cipher(&self, mode: &str, sealed: &[u8]) -> Result<(), StoreError> {
        self.check_open()?;
        connection::save_cipher(self.connection, mode, sealed)
    }

    /// Whether the file is a copy of the one that was opened last, or cannot be told from one.
    pub fn is_copy(&self, mark: &[u8]) -> Result<bool, StoreError> {
        self.check_open()?;
        Ok(connection::saved_file_mark(self.connection)?.is_some_and(|saved| saved != mark))
    }

    /// From now on this file is the one that was opened last.
    pub fn adopt_file(&self, mark: &[u8]) -> Result<(), StoreError> {
        self.check_open()?;
        connection::save_file_mark(self.connection, mark)
    }

    pub(super) fn run(&self, sql: &str) -> Result<(), StoreError> {
        self.execute(sql, []).map(|_| ())
    }
}

/// Undoes the step unless it was released, be it by an error or a panic. Nested steps share one
/// name: SQLite means the innermost.
struct Savepoint<'t> {
    tx: &'t Tx<'t>,
    open: bool,
}

impl Savepoint<'_> {
    fn release(mut self) -> Result<(), StoreError> {
        self.tx.run("RELEASE step")?;
        self.open = false;
        Ok(())
    }
}

impl Drop for Savepoint<'_> {
    fn drop(&mut self) {
        if self.open {
            // When this fails the whole transaction is gone, which `check_open` reports to
            // whoever goes on.
            let undone = self.tx.run("ROLLBACK TO step").and_then(|()| self.tx.run("RELEASE step"));
            if let Err(error) = undone {
                tracing::warn!(%error, "a savepoint could not be undone");
            }
        }
    }
}
