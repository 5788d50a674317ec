//! The numbered migrations of the schema.
//!
//! `PRAGMA user_version` is the number of the last migration done. A migration and its number are
//! written in one transaction, so a process killed between two migrations continues with the next.
//! A released migration is never edited: add the next one, and add a database made before it to
//! `tests/fixtures/store`.

use rusqlite::{Connection, TransactionBehavior};

use super::StoreError;

/// All migrations; the first brings version 0 (no tables) to version 1.
pub(super) const MIGRATIONS: &[&str] = &[
    include_str!("migrations/0001_initial.sql"),
    include_str!("migrations/0002_shared_chunks.sql"),
    include_str!("migrations/0003_sealed_generations.sql"),
];

/// The version of a database after these migrations.
pub(super) fn latest(migrations: &[&str]) -> u32 {
    u32::try_from(migrations.len()).unwrap_or(u32::MAX)
}

/// The database's version.
pub(super) fn version(connection: &Connection) -> Result<u32, StoreError> {
    let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    u32::try_from(version)
        .map_err(|_| StoreError::Damaged(format!("schema version {version} makes no sense")))
}

/// Runs the migrations from `done` on, inside the caller's transaction.
pub(super) fn apply(
    connection: &Connection,
    migrations: &[&str],
    done: u32,
) -> Result<(), StoreError> {
    for (version, migration) in (1u32..).zip(migrations).filter(|(version, _)| *version > done) {
        connection.execute_batch(migration)?;
        connection.pragma_update(None, "user_version", version)?;
    }
    Ok(())
}

/// Brings an older database to the latest version, each step in a transaction of its own.
pub(super) fn upgrade(connection: &mut Connection, migrations: &[&str]) -> Result<(), StoreError> {
    let found = version(connection)?;
    for target in found.saturating_add(1)..=latest(migrations) {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let until = usize::try_from(target).unwrap_or(usize::MAX).min(migrations.len());
        apply(&transaction, migrations.get(..until).unwrap_or_default(), target - 1)?;
        transaction.commit()?;
    }
    Ok(())
}
