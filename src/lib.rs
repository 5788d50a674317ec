//! Messaging Layer Security (RFC 9420) for Matrix rooms: the engine that a Matrix app embeds.
//!
//! The app feeds this library what `/sync` brought, and sends the HTTP requests that the library
//! gives it. The library does no network I/O, and keeps everything it knows in one SQLite store.
//!
//! Start with [`MlsMachine::open`]:
//!
//! ```no_run
//! # use matrix_mls::*;
//! # async fn http(_: &OutgoingRequest) -> (u16, Vec<u8>) { unimplemented!() }
//! # async fn example(sync_response: String, since: Option<String>) -> Result<(), MlsError> {
//! let machine = MlsMachine::open(MachineConfig {
//!     user_id: "@alice:example.org".into(),
//!     device_id: "PHONE".into(),
//!     store_path: "/data/mls".into(),
//!     store_key: StoreKey::Raw { key: vec![7; 32] },
//!     publishing: Publishing::Alone,
//!     member_policy: None,
//! })
//! .await?;
//! machine.receive_sync(sync_changes_from_response(sync_response, since)?).await?;
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
//! `docs/architecture.md` says how the library is built, `docs/protocol.md` what crosses the wire.

#![deny(missing_docs, unsafe_code)]

mod api;
mod attachments;
mod backup;
mod commits;
mod compared;
mod devices;
mod engine;
mod epochs;
mod exported;
mod exporter;
mod failure;
mod groups;
mod history;
mod homeserver_time;
mod identity;
mod incoming;
mod messages;
mod mls;
mod parallel;
mod protocol;
mod ratchet_trees;
mod rejection;
mod rejoin;
mod requests;
mod rollback;
mod room;
mod secrets;
mod sessions;
mod sharing;
mod signing;
mod store;
mod turn;
mod verification;

pub use api::{
    AttachmentKey, AttachmentProgress, BackupCounts, BackupSecret, DecryptedMessage, Diagnostics,
    EncryptedAttachment, EpochInfo, ErrorDetails, EventOutcome, EventResult, ExportedSecret,
    FollowStep, ImportSummary, LogLevel, LogSink, MachineConfig, MlsBackup, MlsError, MlsFollower,
    MlsIdentity, MlsMachine, MlsReader, MlsRoom, Publishing, RecoveryKey, RestoreScope,
    RestoreStatus, RoomMember, RoomSettings, RoomSummary, RoomUpgrade, SendPlan, Shield,
    ShieldCode, StoreKey, SyncSummary, ToDeviceResult, UnreadableCause, UserIdentity, Verdict,
    Verification, VerificationInfo, VerificationStatus, create_room_body, decrypt_attachment,
    decrypt_attachment_file, encrypt_attachment, encrypt_attachment_file, is_commit_event,
    key_of_secret, set_log_sink, shield_of, sync_changes_from_response,
    sync_changes_from_sliding_sync, unreadable_cause_name, wipe_store,
};
pub use exported::{
    AuthChallenge, AuthFlow, BackupState, DeviceListChanges, FollowedRooms, HistoryFailure,
    IdentityState, MemberPolicy, MlsDevice, OutgoingRequest, PassphraseParameters, PendingRequests,
    RecoveryState, RequestKind, RequestOutcome, RollbackGuard, RoomChanges, SasEmoji,
    SecretFailure, SyncChanges, SyncStart, Update, UpdateObserver, UpdateSubscription,
    VerificationState,
};

/// What tests and benches use beneath the exported API. A build that ships does not have it.
#[cfg(feature = "test-hooks")]
pub mod test_hooks {
    pub use crate::store::hooks::*;
    /// The store itself, which the bench of epochs uses without a machine.
    pub use crate::store::{MlsStorage, Namespace, Store, StoreError, StoreKeyMaterial, Tx};
}

uniffi::setup_scaffolding!();
