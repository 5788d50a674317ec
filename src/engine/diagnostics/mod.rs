//! How a store stands, for a report of a bug: rooms, epochs, forks, what waits, requests and sizes.
//!
//! It reads, in one transaction, and writes nothing, so a reader beside a running machine can do it
//! as well. It holds no key, no text of a message and no id: of each id it has a short name that is
//! the same on every device (`names`). What others have written (algorithms, codes of a homeserver)
//! is left out too. Its work is bounded, whatever is in the store: so many rooms, epochs and
//! requests are looked at, and the rest is counted.

mod calls;
mod epochs;
mod names;
mod requests;
mod rooms;
mod text;

use std::collections::BTreeMap;

use serde::Serialize;

pub(crate) use self::calls::{Call, Calls};
use self::{names::short_device, requests::Requests, rooms::Rooms};
use super::{
    core::{Engine, now_ms},
    error::EngineError,
    opener::ReadOnlyEngine,
};
use crate::{
    backup,
    exported::BackupState,
    identity::{self, OwnKeys},
    store::{StoreError, Tx},
};

/// The version of the report's form. It counts up when a field changes its meaning or goes.
const FORM: u32 = 1;

/// How a store stands.
#[derive(Serialize)]
pub(crate) struct Report {
    form: u32,
    library: &'static str,
    /// When it was made, in milliseconds since 1970.
    at_ms: u64,
    device: Option<String>,
    own_keys: &'static str,
    backup: &'static str,
    store: StoreReport,
    requests: Requests,
    rooms: Rooms,
    /// What has happened since the machine was opened. A reader does not know that.
    calls: Option<Calls>,
}

/// How large the store is.
#[derive(Serialize)]
struct StoreReport {
    bytes: u64,
    free_bytes: u64,
    log_bytes: u64,
    full_epochs: u64,
    /// How many records there are, by the store's own name for their kind.
    records: BTreeMap<String, u64>,
}

impl Engine {
    /// How the store stands, and what has happened since it was opened.
    pub(crate) fn report(&self, calls: Calls) -> Result<Report, EngineError> {
        let device = self.identity.name();
        let log_bytes = self.store.log_bytes();
        Ok(self.read(|tx| {
            Report::of(tx, now_ms(), log_bytes, Some(short_device(&device)), Some(calls))
        })?)
    }
}

impl ReadOnlyEngine {
    /// How the store stands.
    pub(crate) fn report(&self) -> Result<Report, StoreError> {
        self.read(|tx| Report::of(tx, now_ms(), self.log_bytes(), None, None))
    }
}

impl Report {
    fn of(
        tx: &Tx<'_>,
        now_ms: u64,
        log_bytes: u64,
        device: Option<String>,
        calls: Option<Calls>,
    ) -> Result<Self, StoreError> {
        let sizes = tx.sizes()?;
        Ok(Self {
            form: FORM,
            library: env!("CARGO_PKG_VERSION"),
            at_ms: now_ms,
            device,
            own_keys: match identity::own_keys(tx)? {
                OwnKeys::Unknown => "unknown",
                OwnKeys::Ours => "ours",
                OwnKeys::Others => "others",
            },
            backup: match backup::state(tx)? {
                BackupState::Unknown => "unknown",
                BackupState::Absent => "absent",
                BackupState::Working => "working",
                BackupState::Locked { .. } => "locked",
                BackupState::Unsupported { .. } => "unsupported",
                BackupState::Enabled { .. } => "enabled",
            },
            requests: Requests::of(tx, now_ms)?,
            rooms: Rooms::of(tx, now_ms)?,
            store: StoreReport {
                bytes: sizes.bytes,
                free_bytes: sizes.free_bytes,
                log_bytes,
                // One namespace holds what belongs to no group.
                full_epochs: sizes.namespaces.saturating_sub(1),
                records: sizes.records.into_iter().collect(),
            },
            calls,
        })
    }
}
