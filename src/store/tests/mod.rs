//! Tests of the store, by what it promises: transactions, records and queues, opening, damage,
//! and OpenMLS's rows.

mod changes;
mod chunks;
#[cfg(all(unix, feature = "test-hooks"))]
mod crash;
mod damage;
mod format;
mod mls_flow;
mod mls_overlay;
mod mls_rows;
mod old_rows;
mod opened_rows;
mod opening;
mod records;
mod shadow;
mod transactions;

use std::{
    error::Error,
    ops::Deref,
    path::Path,
    sync::{Mutex, MutexGuard},
};

use rusqlite::{Connection, Params};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use super::{Store, StoreError, StoreKeyMaterial};

/// What a test gives, and what a helper of one gives: a failure goes up to the test.
type Outcome<T = ()> = Result<T, Box<dyn Error>>;

const KEY: [u8; 32] = [7; 32];

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Record {
    name: String,
    bytes: Vec<u8>,
}

fn record(name: &str) -> Record {
    Record { name: name.to_owned(), bytes: name.bytes().rev().collect() }
}

/// Opens a store that nobody else opens. A process that another test starts at this moment holds
/// what this process has open, the lock of a store that was just closed among it, until it becomes
/// another program: that passes.
fn open(dir: &Path) -> Result<Store, StoreError> {
    for _ in 0..100 {
        match Store::open(dir, StoreKeyMaterial::Raw(&KEY)) {
            Err(StoreError::InUse) => std::thread::sleep(std::time::Duration::from_millis(10)),
            opened => return opened,
        }
    }
    Store::open(dir, StoreKeyMaterial::Raw(&KEY))
}

fn fresh() -> Result<(TempDir, Store), StoreError> {
    let dir = TempDir::new()?;
    let store = open(dir.path())?;
    Ok((dir, store))
}

/// A connection of a store that is not suspended.
struct Opened<'a>(MutexGuard<'a, Option<Connection>>);

impl Deref for Opened<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        match &*self.0 {
            Some(connection) => connection,
            None => panic!("the store is suspended"),
        }
    }
}

fn opened(connection: &Mutex<Option<Connection>>) -> Opened<'_> {
    Opened(super::handle::lock(connection))
}

/// Changes rows behind the store's back.
fn raw(store: &Store, sql: &str, parameters: impl Params) -> Result<usize, StoreError> {
    Ok(opened(&store.writer).execute(sql, parameters)?)
}

fn is_damaged<T>(result: Result<T, StoreError>) -> bool {
    matches!(result, Err(StoreError::Damaged(_)))
}
