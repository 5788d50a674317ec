//! The records that a write transaction has opened or written, so that none is opened twice.
//!
//! A transaction sees nobody's changes but its own, and each of those goes through here. So what is
//! kept is what the rows hold, until a part of the transaction is undone: then all of it is
//! forgotten. A record that is written as it is already is not written again. The values are wiped
//! when the transaction ends.

use std::{cell::RefCell, collections::HashMap};

use rusqlite::TransactionBehavior;
use zeroize::Zeroizing;

use super::cipher::{Hash, Place};

/// The longest value that is kept, in bytes: to encode a longer one takes longer than to open it.
const LONGEST: usize = 64 * 1024;
/// How much space all values take at the most, in bytes. Then all are forgotten.
const MOST_BYTES: usize = 2 * 1024 * 1024;

/// Where a record is, as the file has it.
#[derive(Clone, Copy)]
pub(super) struct Columns {
    pub(super) scope: Hash,
    pub(super) key: Hash,
    pub(super) place: Place,
}

/// What is known of a record.
struct Record {
    columns: Columns,
    /// Its encoded value; nothing where there is no record.
    value: Option<Zeroizing<Vec<u8>>>,
}

/// By key.
type Scope = HashMap<Vec<u8>, Record>;
/// By scope.
type Named = HashMap<Vec<u8>, Scope>;

/// The records that a transaction has opened or written, by the name of their collection.
#[derive(Default)]
pub(super) struct Opened(RefCell<Records>);

#[derive(Default)]
struct Records {
    collections: HashMap<&'static str, Named>,
    bytes: usize,
}

impl Opened {
    /// For a transaction that begins like this: nothing where it only reads, as such a one is
    /// short.
    pub(super) fn of(behavior: TransactionBehavior) -> Option<Self> {
        #[cfg(feature = "test-hooks")]
        if super::hooks::flushes_and_opens_all() {
            return None;
        }
        matches!(behavior, TransactionBehavior::Immediate).then(Self::default)
    }

    /// Does something with what is known of a record: where it is, and its value.
    pub(super) fn with<T>(
        &self,
        (name, scope, key): (&'static str, &[u8], &[u8]),
        f: impl FnOnce(&Columns, Option<&[u8]>) -> T,
    ) -> Option<T> {
        let records = self.0.borrow();
        let record = records.collections.get(name)?.get(scope)?.get(key)?;
        Some(f(&record.columns, record.value.as_ref().map(|value| value.as_slice())))
    }

    /// Keeps what a record holds now.
    pub(super) fn keep(
        &self,
        (name, scope, key): (&'static str, &[u8], &[u8]),
        columns: Columns,
        value: Option<Zeroizing<Vec<u8>>>,
    ) {
        let records = &mut *self.0.borrow_mut();
        let bytes = value.as_ref().map_or(0, |value| value.len());
        if bytes > LONGEST {
            if let Some(scope) =
                records.collections.get_mut(name).and_then(|all| all.get_mut(scope))
            {
                scope.remove(key);
            }
            return;
        }
        // What a key and its columns take, too.
        records.bytes = records.bytes.saturating_add(bytes + key.len() + 128);
        if records.bytes > MOST_BYTES {
            *records = Records::default();
        }
        let named = records.collections.entry(name).or_default();
        if !named.contains_key(scope) {
            named.insert(scope.to_vec(), Scope::default());
        }
        let Some(scope) = named.get_mut(scope) else { return };
        scope.insert(key.to_vec(), Record { columns, value });
    }

    /// The records of a scope are gone.
    pub(super) fn forget_scope(&self, name: &'static str, scope: &[u8]) {
        if let Some(named) = self.0.borrow_mut().collections.get_mut(name) {
            named.remove(scope);
        }
    }

    /// A part of the transaction was undone.
    pub(super) fn forget(&self) {
        *self.0.borrow_mut() = Records::default();
    }
}
