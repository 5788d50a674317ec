//! Messaging Layer Security (RFC 9420) for Matrix rooms: the engine that a Matrix app embeds.
//!
//! An app that speaks HTTP with its homeserver feeds this library what `/sync` brought and sends the
//! requests it hands out; this library does no network I/O. What it knows is in one SQLite store.
//!
//! Start with [`MlsMachine::open`]; the rest follows from there:
//!
//! ```no_run
//! # use matrix_mls::*;
//! # async fn http(_: &OutgoingRequest) -> (u16, Vec<u8>) { unimplemented!() }
//! # async fn example(sync_response: String) -> Result<(), MlsError> {
//! let machine = MlsMachine::open(MachineConfig {
//!     user_id: "@alice:example.org".into(),
//!     device_id: "PHONE".into(),
//!     store_path: "/data/mls".into(),
//!     store_key: StoreKey::Raw { key: vec![7; 32] },
//!     publishing: Publishing::Alone,
//! })
//! .await?;
//! machine.receive_sync(sync_changes_from_response(sync_response)?).await?;
//! let room = machine.room("!room:example.org".into())?;
//! room.enable(RoomSettings::default()).await?;
//! while let SendPlan::Waiting { requests, .. } = room.prepare_to_send().await? {
//!     for request in requests {
//!         let (status, body) = http(&request).await;
//!         machine.mark_request_as_sent(request.id, status, body).await?;
//!     }
//! }
//! let content = room.encrypt("m.room.message".into(), r#"{"body":"hi"}"#.into()).await?;
//! # Ok(()) }
//! ```
//!
//! How it is built is told in `docs/architecture.md`; what crosses the wire in `docs/protocol.md`.

#![deny(missing_docs, unsafe_code)]

mod backup;
mod devices;
mod engine;
mod error;
mod group;
mod history;
mod identity;
mod key_backup;
mod logging;
mod machine;
mod protocol;
mod reader;
mod requests;
mod room;
mod settings;
mod store;
mod updates;

pub use error::{ErrorDetails, MlsError};
pub use key_backup::{
    BackupCounts, BackupSecret, BackupState, HistoryFailure, ImportSummary, MlsBackup,
    PassphraseParameters, RecoveryKey, RestoreScope, RestoreStatus, key_of_secret,
};
pub use logging::{LogLevel, LogSink, set_log_sink};
pub use machine::{
    MachineConfig, MlsMachine, Publishing, RoomChanges, RoomSummary, SignedDeviceKeys, StoreKey,
    SyncChanges, SyncSummary, ToDeviceResult, sync_changes_from_response,
};
pub use reader::MlsReader;
pub use requests::{OutgoingRequest, RequestOutcome};
pub use room::{
    DecryptedMessage, DeviceTrust, EpochInfo, EventOutcome, EventResult, MlsRoom, RoomMember,
    SendPlan,
};
pub use settings::RoomSettings;
#[cfg(feature = "test-hooks")]
pub use store::hooks as test_hooks;
pub use updates::{Subscription, Update, UpdateObserver};

uniffi::setup_scaffolding!();
