//! A transaction: the only way to rows.
//!
//! Everything in this folder that touches rows does so through [`Tx::statement`]. That refuses once
//! SQLite has undone the transaction on its own, as SQLite does when the disk is full and after
//! some I/O errors. Without the check, whatever followed would be committed statement by statement.

use std::cell::{Cell, RefCell};

use rusqlite::{CachedStatement, Connection, Params};

use super::{StoreError, cipher::Cipher, connection, opened::Opened};

/// A transaction under way, given to the closures of [`Store::write`](super::Store::write) and
/// [`Store::read`](super::Store::read).
pub struct Tx<'a> {
    connection: &'a Connection,
    pub(super) cipher: &'a Cipher,
    /// What was opened so far, where the transaction writes. Others are short.
    pub(super) opened: Option<Opened>,
    /// How much the shadow may hold whose transaction this is, in bytes; nothing where it is the
    /// file's.
    pub(super) most_shadow_bytes: Option<u64>,
    /// Why SQLite undid the transaction, if it did.
    undone_by: RefCell<Option<StoreError>>,
    /// The first failure below OpenMLS.
    failure: RefCell<Option<StoreError>>,
    /// Whether secrets were deleted or replaced.
    deleted_secrets: Cell<bool>,
    /// Whether the transaction has to survive a loss of power.
    promises: Cell<bool>,
}

impl<'a> Tx<'a> {
    pub(super) fn new(
        connection: &'a Connection,
        cipher: &'a Cipher,
        opened: Option<Opened>,
    ) -> Self {
        Self {
            connection,
            cipher,
            opened,
            most_shadow_bytes: None,
            undone_by: RefCell::new(None),
            failure: RefCell::new(None),
            deleted_secrets: Cell::new(false),
            promises: Cell::new(false),
        }
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

    /// Notes that secrets were deleted or replaced: the log must not keep them for long.
    pub fn note_deleted_secrets(&self) {
        self.deleted_secrets.set(true);
    }

    /// Whether secrets were deleted or replaced so far.
    pub fn has_deleted_secrets(&self) -> bool {
        self.deleted_secrets.get()
    }

    /// This transaction, and all before it, survive a loss of power once the call that makes it
    /// returns: something is about to leave the device, or somebody is about to rely on it. A
    /// promise stays where the part that made it is undone.
    pub fn promise(&self) {
        self.promises.set(true);
    }

    /// Whether the transaction has promised something.
    pub(super) fn has_promised(&self) -> bool {
        self.promises.get()
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

    /// Fails if SQLite has undone the transaction on its own, with the error that made it do so.
    #[inline(never)]
    pub(super) fn check_open(&self) -> Result<(), StoreError> {
        if !self.connection.is_autocommit() {
            return Ok(());
        }
        let undone = || StoreError::Io("the transaction was undone by an I/O error".to_owned());
        Err(self.undone_by.borrow().clone().unwrap_or_else(undone))
    }

    /// Runs `f` so that a failure undoes everything that `f` did and returns the error, while the
    /// transaction around it continues. Savepoints nest.
    ///
    /// A full disk or an I/O error may undo the whole transaction. Everything after that fails with
    /// the same error.
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

    pub(super) fn run(&self, sql: &str) -> Result<(), StoreError> {
        self.execute(sql, []).map(|_| ())
    }
}

/// Undoes the step on drop, after an error or a panic, unless it was released. Nested steps share
/// one name: SQLite takes it for the innermost.
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
            if let Some(opened) = &self.tx.opened {
                opened.forget();
            }
            // If this fails, the whole transaction is gone; `check_open` reports that to the next
            // statement.
            let undone = self.tx.run("ROLLBACK TO step").and_then(|()| self.tx.run("RELEASE step"));
            if let Err(error) = undone {
                tracing::warn!(%error, "a savepoint could not be undone");
            }
        }
    }
}
