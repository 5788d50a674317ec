//! An open store, and its transactions.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rusqlite::{Connection, Transaction, TransactionBehavior};

#[cfg(feature = "test-hooks")]
use super::hooks;
use super::{
    cipher::{Cipher, StoreKeyMaterial},
    connection,
    error::StoreError,
    file_mark::FileMark,
    flush::Unflushed,
    lock::{self, DirLock},
    log::{Log, Writer},
    opened::Opened,
    tx::Tx,
};

pub(super) const DATABASE: &str = "matrix-mls.db";

/// The reading side of a store, whether the store is open here or in another process.
pub struct StoreReader {
    /// Nothing while the store is suspended.
    pub(super) connection: Mutex<Option<Connection>>,
    pub(super) cipher: Cipher,
    path: PathBuf,
}

impl StoreReader {
    /// Opens the store in `dir` for reading, beside whoever has it open, and holds no lock. It
    /// makes no file and writes nothing, so it cannot upgrade an older store.
    pub fn open(dir: &Path, key: StoreKeyMaterial<'_>) -> Result<Self, StoreError> {
        let path = dir.join(DATABASE);
        let (connection, cipher) = connection::open_beside(&path, key)?;
        Ok(Self { connection: Mutex::new(Some(connection)), cipher, path })
    }

    /// Runs `f` in a read transaction, like [`Store::read`].
    pub fn read<T, E: From<StoreError>>(
        &self,
        f: impl FnOnce(&Tx<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut connection = lock(&self.connection);
        let connection = connection.as_mut().ok_or(StoreError::Suspended)?;
        transact(connection, &self.cipher, TransactionBehavior::Deferred, f)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// How long the log beside the database is, in bytes.
    pub fn log_bytes(&self) -> u64 {
        let mut path = self.path.clone().into_os_string();
        path.push("-wal");
        // No log is one without bytes.
        fs::metadata(path).map(|file| file.len()).unwrap_or(0)
    }

    /// Waits for the transaction under way, then closes the file. Every later call fails with
    /// [`StoreError::Suspended`] until [`StoreReader::resume`].
    pub fn suspend(&self) {
        close(lock(&self.connection).take());
    }

    /// Opens the file again, if it is closed.
    pub fn resume(&self) -> Result<(), StoreError> {
        let mut connection = lock(&self.connection);
        if connection.is_none() {
            *connection = Some(connection::reopen_beside(&self.path)?);
        }
        Ok(())
    }
}

/// What a transaction leaves to be done after its commit.
#[derive(Default)]
struct End {
    promises: bool,
    deletes_secrets: bool,
}

/// An open store.
pub struct Store {
    /// Nothing while the store is suspended.
    pub(super) writer: Arc<Writer>,
    log: Log,
    unflushed: Unflushed,
    pub(super) reader: StoreReader,
    /// The mark that tells this store's file from a copy of it.
    file_mark: Option<FileMark>,
    directory: PathBuf,
    // The last field: fields are dropped in order, and the lock must outlive the connections.
    lock: Mutex<Option<DirLock>>,
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
        let connection = Mutex::new(Some(connection::open_reader(&path)?));
        let file_mark = FileMark::of(&path, &lock::path(dir)?)?;
        let writer = Arc::new(Mutex::new(Some(writer)));
        Ok(Self {
            log: Log::of(writer.clone()),
            writer,
            unflushed: Unflushed::unknown(),
            reader: StoreReader { connection, cipher, path },
            file_mark,
            directory: dir.to_owned(),
            lock: Mutex::new(Some(lock)),
        })
    }

    /// Waits for the transactions under way, then closes the file and releases every lock: SQLite's
    /// and the one that keeps other openers out. Every later call fails with
    /// [`StoreError::Suspended`] until [`Store::resume`]. The store's key stays in memory.
    pub fn suspend(&self) {
        // In the order in which an open store goes.
        let mut writer = lock(&self.writer);
        close(writer.take());
        self.reader.suspend();
        drop(self.dir_lock().take());
    }

    /// Opens the file again, if it is closed.
    ///
    /// Fails with [`StoreError::InUse`] while another `Store` has it open, and with
    /// [`StoreError::Damaged`] if another file has taken its place. The store then stays suspended.
    pub fn resume(&self) -> Result<(), StoreError> {
        let mut writer = lock(&self.writer);
        if writer.is_some() {
            return Ok(());
        }
        let path = &self.reader.path;
        if !path.try_exists()? {
            return Err(StoreError::Missing);
        }
        let dir_lock = DirLock::take(&self.directory)?;
        if FileMark::of(path, &lock::path(&self.directory)?)? != self.file_mark {
            let reason = "another file has taken the store's place while it was suspended";
            return Err(StoreError::Damaged(reason.to_owned()));
        }
        let opened = connection::reopen_writer(path)?;
        let mut reader = lock(&self.reader.connection);
        *reader = Some(connection::open_reader(path)?);
        *writer = Some(opened);
        self.unflushed.reopened();
        *self.dir_lock() = Some(dir_lock);
        Ok(())
    }

    fn dir_lock(&self) -> MutexGuard<'_, Option<DirLock>> {
        self.lock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long the log beside the database is, in bytes.
    pub fn log_bytes(&self) -> u64 {
        self.reader.log_bytes()
    }

    /// The mark that tells the store's file from a copy of it, where the system provides one.
    pub fn file_mark(&self) -> Option<&FileMark> {
        self.file_mark.as_ref()
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

    /// Has SQLite let go of pages that it keeps in memory, except on a connection that is in use.
    pub fn release_memory(&self) {
        for connection in [&*self.writer, &self.reader.connection] {
            if let Ok(connection) = connection.try_lock()
                && let Some(connection) = &*connection
                && let Err(error) = connection.execute_batch("PRAGMA shrink_memory")
            {
                tracing::warn!(%error, "the store did not let go of memory");
            }
        }
    }

    /// Writes the log back into the file and truncates it, so that neither holds what was deleted
    /// or replaced. Where a reader is in the way it is tried again later.
    pub fn cut_log(&self) {
        self.log.cut();
    }

    /// Runs `f` in a write transaction (`BEGIN IMMEDIATE`), committed when `f` succeeds and undone
    /// when it fails or panics. When this returns `Ok`, the commit is on disk, and so are all
    /// before it. Where it fails because the disk could not be flushed, the commit has been made,
    /// and later calls fail until it is on disk.
    ///
    /// Writers wait for each other. `write` is not re-entrant: calling it from inside `f`, on any
    /// `Store` of the same directory, deadlocks. Use [`Tx::savepoint`] for a part that may fail.
    pub fn write<T, E: From<StoreError>>(
        &self,
        f: impl FnOnce(&Tx<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        self.write_repeatable(|tx| {
            tx.promise();
            f(tx)
        })
    }

    /// The same for work that is done again where it is lost. The commit outlives the process; a
    /// loss of power may take it, with all that came after it, unless it has promised something
    /// ([`Tx::promise`]).
    pub fn write_repeatable<T, E: From<StoreError>>(
        &self,
        f: impl FnOnce(&Tx<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut end = End::default();
        let mut writer = lock(&self.writer);
        let connection = writer.as_mut().ok_or(StoreError::Suspended)?;
        self.unflushed.recover(connection)?;
        #[cfg(feature = "test-hooks")]
        self.heed_disk(connection)?;
        let before = connection.total_changes();
        let written =
            transact(connection, &self.reader.cipher, TransactionBehavior::Immediate, |tx| {
                let value = f(tx)?;
                end =
                    End { promises: tx.has_promised(), deletes_secrets: tx.has_deleted_secrets() };
                #[cfg(feature = "test-hooks")]
                hooks::reached(hooks::BEFORE_COMMIT);
                Ok::<T, E>(value)
            })?;
        self.end(connection, before, &end)?;
        drop(writer);
        if end.deletes_secrets {
            self.log.secrets_deleted();
        }
        Ok(written)
    }

    /// Where a test says that the disk is full, the database may have no more pages.
    #[cfg(feature = "test-hooks")]
    fn heed_disk(&self, connection: &Connection) -> Result<(), StoreError> {
        let Some(is_full) = hooks::has_full_disk(&self.directory) else { return Ok(()) };
        // SQLite takes no limit below what there is, and this one for none at all.
        let most: u32 = if is_full { 1 } else { u32::MAX - 1 };
        connection.pragma_update_and_check(None, "max_page_count", most, |_| Ok(()))?;
        Ok(())
    }

    /// What follows a commit.
    #[inline(never)]
    fn end(&self, connection: &Connection, before: u64, end: &End) -> Result<(), StoreError> {
        if connection.total_changes() != before {
            self.unflushed.committed();
        }
        #[cfg(feature = "test-hooks")]
        let promises = end.promises || hooks::flushes_and_opens_all();
        #[cfg(not(feature = "test-hooks"))]
        let promises = end.promises;
        if promises {
            self.unflushed.flush(connection)?;
        }
        #[cfg(feature = "test-hooks")]
        hooks::committed();
        Ok(())
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

pub(super) fn lock(connection: &Mutex<Option<Connection>>) -> MutexGuard<'_, Option<Connection>> {
    connection.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Closes a connection. SQLite closes the file whatever it says.
fn close(connection: Option<Connection>) {
    if let Some(Err((connection, error))) = connection.map(Connection::close) {
        tracing::warn!(%error, "the store's file was not closed at once");
        drop(connection);
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // The thread that cuts the log may hold the connection for a moment: it is closed here,
        // while the lock is held.
        close(lock(&self.writer).take());
    }
}

/// Runs `f` in a transaction. Only the call of `f` is compiled for each caller
/// (docs/decisions/005).
fn transact<T, E: From<StoreError>>(
    connection: &mut Connection,
    cipher: &Cipher,
    behavior: TransactionBehavior,
    f: impl FnOnce(&Tx<'_>) -> Result<T, E>,
) -> Result<T, E> {
    let opened = Opened::of(behavior);
    let transaction = begin(connection, behavior)?;
    // An early return or a panic drops the transaction, which rolls it back.
    let tx = Tx::new(&transaction, cipher, opened);
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
