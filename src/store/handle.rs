//! An open store, and its transactions.

use std::{
    fs,
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

use rusqlite::{Connection, Transaction, TransactionBehavior};

#[cfg(feature = "test-hooks")]
use super::hooks;
use super::{
    cipher::{Cipher, StoreKeyMaterial},
    connection,
    error::StoreError,
    lock::DirLock,
    tx::Tx,
};

pub(super) const DATABASE: &str = "matrix-mls.db";

/// The reading side of a store, whether the store is open here or in another process.
pub struct StoreReader {
    pub(super) connection: Mutex<Connection>,
    pub(super) cipher: Cipher,
}

impl StoreReader {
    /// Opens the store in `dir` for reading, beside whoever has it open, and holds no lock. It
    /// makes no file and writes nothing, so it cannot upgrade an older store.
    pub fn open(dir: &Path, key: StoreKeyMaterial<'_>) -> Result<Self, StoreError> {
        let (connection, cipher) = connection::open_beside(&dir.join(DATABASE), key)?;
        Ok(Self { connection: Mutex::new(connection), cipher })
    }

    /// Runs `f` in a read transaction, like [`Store::read`].
    pub fn read<T, E: From<StoreError>>(
        &self,
        f: impl FnOnce(&Tx<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut connection = lock(&self.connection);
        transact(&mut connection, &self.cipher, TransactionBehavior::Deferred, f)
    }
}

/// An open store.
pub struct Store {
    pub(super) writer: Mutex<Connection>,
    pub(super) reader: StoreReader,
    /// The mark that tells this store's file from a copy of it.
    file_mark: Option<Vec<u8>>,
    // The last field: fields are dropped in order, and the lock must outlive the connections.
    _lock: DirLock,
}

impl Store {
    /// Opens the store in `dir`, making directory and store if they do not exist.
    ///
    /// Fails with [`StoreError::InUse`] while another `Store` has it open, in this process or
    /// another. A failure leaves the file unchanged.
    pub fn open(dir: &Path, key: StoreKeyMaterial<'_>) -> Result<Self, StoreError> {
        fs::create_dir_all(dir)?;
        let lock = DirLock::take(dir)?;
        let path = dir.join(DATABASE);
        let (writer, cipher) = connection::open_writer(&path, key)?;
        let reader = Mutex::new(connection::open_reader(&path)?);
        let reader = StoreReader { connection: reader, cipher };
        let file_mark = connection::file_mark(&path)?;
        Ok(Self { writer: Mutex::new(writer), reader, file_mark, _lock: lock })
    }

    /// The mark that tells the store's file from a copy of it, where the system provides one.
    pub fn file_mark(&self) -> Option<&[u8]> {
        self.file_mark.as_deref()
    }

    /// Seals the store under another key, or another kind of key, from now on.
    ///
    /// Rows are not rewritten: only the store cipher is sealed again.
    pub fn change_key(&self, key: StoreKeyMaterial<'_>) -> Result<(), StoreError> {
        // Before the transaction: stretching a passphrase takes long.
        let sealed = self.reader.cipher.export(key)?;
        self.write(|tx| tx.save_cipher(key.mode(), &sealed))?;
        // The log still has the cipher sealed under the old key.
        self.cut_log();
        Ok(())
    }

    /// Writes the log back into the file and truncates it, so that neither holds what was deleted
    /// or replaced. Does as much as possible now: a reader may be in the way.
    pub fn cut_log(&self) {
        let cut = lock(&self.writer).query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
        if let Err(error) = cut {
            tracing::warn!(%error, "the log could not be cut");
        }
    }

    /// Runs `f` in a write transaction (`BEGIN IMMEDIATE`), committed when `f` succeeds and
    /// undone when it fails or panics. When this returns `Ok`, the commit is on disk.
    ///
    /// Writers wait for each other. `write` is not re-entrant: calling it from inside `f`, on any
    /// `Store` of the same directory, deadlocks. Use [`Tx::savepoint`] for a part that may fail.
    pub fn write<T, E: From<StoreError>>(
        &self,
        f: impl FnOnce(&Tx<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut connection = lock(&self.writer);
        transact(&mut connection, &self.reader.cipher, TransactionBehavior::Immediate, |tx| {
            let value = f(tx)?;
            #[cfg(feature = "test-hooks")]
            hooks::reached(hooks::BEFORE_COMMIT);
            Ok(value)
        })
        .inspect(|_| {
            #[cfg(feature = "test-hooks")]
            hooks::committed();
        })
    }

    /// Runs `f` in a read transaction. `f` sees one state, that of the last commit, however long it
    /// takes, and cannot write. Reading runs beside a writer; readers wait for each other.
    ///
    /// Not re-entrant. May be called inside [`Store::write`], but does not see what that wrote.
    pub fn read<T, E: From<StoreError>>(
        &self,
        f: impl FnOnce(&Tx<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        self.reader.read(f)
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Store").finish_non_exhaustive()
    }
}

pub(super) fn lock(connection: &Mutex<Connection>) -> MutexGuard<'_, Connection> {
    connection.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs `f` in a transaction. Only the call of `f` is compiled for each caller
/// (docs/decisions/005).
fn transact<T, E: From<StoreError>>(
    connection: &mut Connection,
    cipher: &Cipher,
    behavior: TransactionBehavior,
    f: impl FnOnce(&Tx<'_>) -> Result<T, E>,
) -> Result<T, E> {
    let transaction = begin(connection, behavior)?;
    // An early return or a panic drops the transaction, which rolls it back.
    let tx = Tx::new(&transaction, cipher);
    let value = f(&tx)?;
    tx.check_open()?;
    commit(transaction)?;
    Ok(value)
}

#[inline(never)]
fn begin(
    connection: &mut Connection,
    behavior: TransactionBehavior,
) -> Result<Transaction<'_>, StoreError> {
    // A transaction is still open only when the last rollback failed.
    if !connection.is_autocommit() {
        connection.execute_batch("ROLLBACK")?;
    }
    Ok(connection.transaction_with_behavior(behavior)?)
}

#[inline(never)]
fn commit(transaction: Transaction<'_>) -> Result<(), StoreError> {
    Ok(transaction.commit()?)
}
