//! Flushing: which commits survive a loss of power.
//!
//! A commit that is in the log and was not flushed survives the end of the process, not that of the
//! system. The log is in order, so one flush covers all commits before it, and a loss of power
//! takes the last ones alone: what is left is a state that the store was in.
//!
//! [`Store::write`](super::Store::write) flushes. A transaction whose work is done again where it
//! is lost may go without ([`Store::write_repeatable`](super::Store::write_repeatable)), unless it
//! promises something ([`Tx::promise`](super::Tx::promise)): then something is about to leave the
//! device, or the caller may forget what the transaction was made from.
//!
//! After a flush that has failed nothing is known of the log: the system may have dropped what it
//! could not write, and then say that all is well. So nothing more is written until the log was
//! copied into the file as a whole.

use std::{
    ptr,
    sync::atomic::{AtomicBool, Ordering},
};

use rusqlite::{Connection, ffi};

use super::{StoreError, log};

/// What has not been flushed. It is looked at and changed by whoever holds the writer.
pub(super) struct Unflushed {
    /// Whether commits may have been made since the last flush.
    commits: AtomicBool,
    /// Whether the last flush failed.
    failed: AtomicBool,
}

impl Unflushed {
    /// A store that was just opened: its last opener may have flushed nothing.
    pub(super) fn unknown() -> Self {
        Self { commits: AtomicBool::new(true), failed: AtomicBool::new(false) }
    }

    /// The file was closed and opened again.
    pub(super) fn reopened(&self) {
        self.committed();
    }

    /// A transaction has changed something.
    pub(super) fn committed(&self) {
        self.commits.store(true, Ordering::SeqCst);
    }

    /// Makes up for a flush that has failed.
    pub(super) fn recover(&self, connection: &Connection) -> Result<(), StoreError> {
        if !self.failed.load(Ordering::SeqCst) {
            return Ok(());
        }
        if !log::checkpoint(connection)? {
            return Err(StoreError::Io("the log could not be flushed".to_owned()));
        }
        self.failed.store(false, Ordering::SeqCst);
        Ok(())
    }

    /// Has all commits so far survive a loss of power.
    pub(super) fn flush(&self, connection: &Connection) -> Result<(), StoreError> {
        if !self.commits.load(Ordering::SeqCst) {
            return Ok(());
        }
        if let Err(error) = flush(connection) {
            self.failed.store(true, Ordering::SeqCst);
            return Err(error);
        }
        self.commits.store(false, Ordering::SeqCst);
        Ok(())
    }
}

/// How SQLite is to flush. On Apple's systems `fsync` leaves data in the drive's cache.
const HOW: i32 =
    if cfg!(target_vendor = "apple") { ffi::SQLITE_SYNC_FULL } else { ffi::SQLITE_SYNC_NORMAL };

/// Flushes the log, as SQLite does at each commit under `synchronous=FULL`. SQLite has no statement
/// for that, and its own handle of the file is the one that is sure to reach it.
#[allow(unsafe_code, reason = "SQLite gives its handle of the log to C alone")]
fn flush(connection: &Connection) -> Result<(), StoreError> {
    #[cfg(feature = "test-hooks")]
    if super::hooks::keeps_from_flushing() {
        return Ok(());
    }
    let mut file: *mut ffi::sqlite3_file = ptr::null_mut();
    // SAFETY: the connection is open while it is borrowed. This opcode writes one pointer to a
    // file, which belongs to the connection and stays as long as the connection does nothing else.
    let code = unsafe {
        ffi::sqlite3_file_control(
            connection.handle(),
            c"main".as_ptr(),
            ffi::SQLITE_FCNTL_JOURNAL_POINTER,
            (&raw mut file).cast(),
        )
    };
    check(code)?;
    // SAFETY: SQLite gives null, or a file of its own. One that is not open has no methods.
    let sync = unsafe { file.as_ref().and_then(|file| file.pMethods.as_ref()) }
        .and_then(|methods| methods.xSync);
    // Without a log there is nothing to flush: `connection::configure` has commits do it.
    let Some(sync) = sync else { return Ok(()) };
    // SAFETY: the method is called with the file that it is of, which nobody else uses meanwhile:
    // the connection is borrowed, and only one thread has it at a time.
    check(unsafe { sync(file, HOW) })
}

fn check(code: i32) -> Result<(), StoreError> {
    if code == ffi::SQLITE_OK {
        return Ok(());
    }
    Err(rusqlite::Error::SqliteFailure(ffi::Error::new(code), None).into())
}
