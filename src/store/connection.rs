//! The database file: making it, opening it, and the settings of its connections.
//!
//! A new store is written under another name in one transaction and then renamed. So the file under
//! the real name is a whole store from its first moment: a process killed at any point leaves
//! either no store or one that opens, and an empty or half-written file under that name is damage.
//!
//! A commit is written into the log and not flushed (`synchronous=NORMAL`): a loss of power takes
//! the last ones, and never one from the middle. Which of them have to be on disk, `flush` sees to.
//! `secure_delete` overwrites deleted rows, so that old epochs' keys do not stay in free pages.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, OpenFlags, OptionalExtension, TransactionBehavior, config::DbConfig};

use super::{
    StoreError,
    cipher::{Cipher, StoreKeyMaterial},
    migrations::{self, MIGRATIONS},
};

/// How long to wait for another connection's lock. Only our own two connections use the file, and
/// in WAL mode they block each other for moments only.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// How many prepared statements are cached: more than the store has.
pub(super) const STATEMENTS: usize = 64;

/// After a checkpoint the log is truncated to this size, so that one large commit does not keep its
/// space for ever.
const LOG_SIZE_LIMIT: i64 = 4 * 1024 * 1024;

/// Opens the store's file, making it if there is none. Gives its writer and its cipher.
pub(super) fn open_writer(
    path: &Path,
    key: StoreKeyMaterial<'_>,
) -> Result<(Connection, Cipher), StoreError> {
    if !path.try_exists()? {
        create(path, key)?;
    }
    let metadata = fs::metadata(path)?;
    if metadata.is_file() && metadata.len() == 0 {
        return Err(StoreError::Damaged("the database file is empty".to_owned()));
    }
    let mut connection = connect(path)?;
    // Closing must not write the log back until the file is known to be ours to write.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    check_version(&connection)?;
    let cipher = load_cipher(&connection, key)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?;
    configure(&connection)?;
    migrations::upgrade(&mut connection, MIGRATIONS)?;
    Ok((connection, cipher))
}

/// Opens the file of a store whose cipher is known, for writing. It is one that this library can
/// use as it is: it was open before.
pub(super) fn reopen_writer(path: &Path) -> Result<Connection, StoreError> {
    let connection = connect(path)?;
    let found = check_version(&connection)?;
    if found < migrations::latest(MIGRATIONS) {
        return Err(StoreError::Damaged("the store is older than it was".to_owned()));
    }
    configure(&connection)?;
    Ok(connection)
}

/// Opens the second connection, for reading beside the writer.
pub(super) fn open_reader(path: &Path) -> Result<Connection, StoreError> {
    let connection = connect(path)?;
    configure(&connection)?;
    connection.pragma_update(None, "query_only", true)?;
    Ok(connection)
}

/// Opens an existing store for reading beside a writer in another process, and gives its cipher.
///
/// The file handle may write, because a reader of a write-ahead log marks its place in shared
/// memory. The connection itself refuses every change and leaves the log alone when it closes.
pub(super) fn open_beside(
    path: &Path,
    key: StoreKeyMaterial<'_>,
) -> Result<(Connection, Cipher), StoreError> {
    let connection = reopen_beside(path)?;
    let cipher = load_cipher(&connection, key)?;
    Ok((connection, cipher))
}

/// The same, of a store whose cipher is known.
pub(super) fn reopen_beside(path: &Path) -> Result<Connection, StoreError> {
    if !path.try_exists()? {
        return Err(StoreError::Missing);
    }
    let connection = connect(path)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    connection.pragma_update(None, "query_only", true)?;
    let found = check_version(&connection)?;
    if found < migrations::latest(MIGRATIONS) {
        return Err(StoreError::NotUpgraded);
    }
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    Ok(connection)
}

/// The store's schema version, if this library can use it.
fn check_version(connection: &Connection) -> Result<u32, StoreError> {
    let (found, supported) = (migrations::version(connection)?, migrations::latest(MIGRATIONS));
    if found > supported {
        return Err(StoreError::TooNew { found, supported });
    }
    if found == 0 {
        return Err(StoreError::Damaged("the database has no schema of ours".to_owned()));
    }
    Ok(found)
}

/// Fails unless a store of this schema version can be read as it is.
pub(super) fn check_latest(found: u32) -> Result<(), StoreError> {
    let supported = migrations::latest(MIGRATIONS);
    match found.cmp(&supported) {
        std::cmp::Ordering::Greater => Err(StoreError::TooNew { found, supported }),
        std::cmp::Ordering::Less => Err(StoreError::NotUpgraded),
        std::cmp::Ordering::Equal => Ok(()),
    }
}

/// Writes the sealed cipher, inside the caller's transaction.
pub(super) fn save_cipher(
    connection: &Connection,
    mode: &str,
    sealed: &[u8],
) -> Result<(), StoreError> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO meta (name, value) VALUES (?1, ?2)
         ON CONFLICT (name) DO UPDATE SET value = excluded.value",
    )?;
    statement.execute(("key_mode", mode.as_bytes()))?;
    statement.execute(("cipher", sealed))?;
    Ok(())
}

fn load_cipher(connection: &Connection, key: StoreKeyMaterial<'_>) -> Result<Cipher, StoreError> {
    let mut statement = connection.prepare("SELECT value FROM meta WHERE name = ?1")?;
    let mut read = |name: &str| -> Result<Vec<u8>, StoreError> {
        statement
            .query_row([name], |row| row.get(0))
            .optional()?
            .ok_or_else(|| StoreError::Damaged(format!("the store has no {name}")))
    };
    let (mode, sealed) = (read("key_mode")?, read("cipher")?);
    if mode != key.mode().as_bytes() {
        return Err(match mode.as_slice() {
            b"raw" | b"passphrase" | b"none" => StoreError::WrongKey,
            _ => StoreError::Damaged("the store is sealed in an unknown way".to_owned()),
        });
    }
    Cipher::import(key, &sealed)
}

fn connect(path: &Path) -> Result<Connection, StoreError> {
    // No CREATE: only `create` makes files. No URI: a directory name is not ours to parse.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    Ok(connection)
}

fn configure(connection: &Connection) -> Result<(), StoreError> {
    let mode = connection
        .pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get::<_, String>(0))?;
    // Where the file system has no place for a log, each commit flushes the file itself.
    let synchronous = if mode.eq_ignore_ascii_case("wal") { "NORMAL" } else { "FULL" };
    connection.pragma_update(None, "synchronous", synchronous)?;
    flush_fully(connection)?;
    // The journal that undoes one bad event of a sync is a few pages and ends with the event, so it
    // is kept in memory. On disk it would be as much as all else that a sync writes, in a directory
    // that is not ours.
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update_and_check(None, "secure_delete", true, |_| Ok(()))?;
    connection.pragma_update_and_check(None, "journal_size_limit", LOG_SIZE_LIMIT, |_| Ok(()))?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    Ok(())
}

/// On Apple's systems `fsync` leaves data in the drive's cache, where a loss of power takes it:
/// SQLite has to ask for `F_FULLFSYNC`.
#[cfg(target_vendor = "apple")]
fn flush_fully(connection: &Connection) -> Result<(), StoreError> {
    connection.pragma_update(None, "fullfsync", true)?;
    connection.pragma_update(None, "checkpoint_fullfsync", true)?;
    Ok(())
}

#[cfg(not(target_vendor = "apple"))]
#[expect(clippy::unnecessary_wraps, reason = "where there is something to do it can fail")]
fn flush_fully(_: &Connection) -> Result<(), StoreError> {
    Ok(())
}

/// Makes a whole store beside `path` and moves it there.
fn create(path: &Path, key: StoreKeyMaterial<'_>) -> Result<(), StoreError> {
    let draft = with_suffix(path, ".new");
    // The leftovers of an earlier attempt, and a log without its database, which SQLite would
    // replay into the new one.
    for leftover in [
        draft.clone(),
        with_suffix(&draft, "-journal"),
        with_suffix(path, "-wal"),
        with_suffix(path, "-shm"),
        with_suffix(path, "-journal"),
    ] {
        match fs::remove_file(&leftover) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
    }
    let cipher = Cipher::generate()?;
    let sealed = cipher.export(key)?;
    File::create_new(&draft)?;
    let mut connection = connect(&draft)?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    flush_fully(&connection)?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    migrations::apply(&transaction, MIGRATIONS, 0)?;
    save_cipher(&transaction, key.mode(), &sealed)?;
    transaction.commit()?;
    connection.close().map_err(|(_, error)| error)?;
    fs::rename(&draft, path)?;
    // The rename itself must survive a loss of power. Only Unix lets a directory be synced.
    #[cfg(unix)]
    if let Some(parent) = path.parent() {
        File::open(parent)?.sync_all()?;
    }
    Ok(())
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}
