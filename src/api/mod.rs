//! The exported API: what UniFFI turns into Kotlin and Swift, and what Rust apps use.
//!
//! Thin: each call parses its arguments, moves the work off the async executor's threads, and puts
//! the result into an exported shape. The core makes all decisions. Only `error_codes` gives the
//! core's errors their exported variants and codes.

mod attachments;
mod backup;
mod diagnostics;
mod error;
mod error_codes;
mod event;
mod follow;
mod identities;
mod ids;
mod logging;
mod machine;
mod new_room;
mod own_identity;
mod reader;
mod responses;
mod room;
mod sealing;
mod settings;
mod slot;
mod store_key;
mod sync;
mod unreadable;
mod user_identity;
mod verdict;
mod verification;
mod wiping;

pub use self::{
    attachments::{
        AttachmentKey, AttachmentProgress, EncryptedAttachment, decrypt_attachment,
        decrypt_attachment_file, encrypt_attachment, encrypt_attachment_file,
    },
    backup::{
        BackupCounts, BackupSecret, ImportSummary, MlsBackup, RecoveryKey, RestoreScope,
        RestoreStatus, key_of_secret,
    },
    diagnostics::Diagnostics,
    error::{ErrorDetails, MlsError},
    event::{DecryptedMessage, EventOutcome, EventResult, is_commit_event},
    follow::{FollowStep, MlsFollower},
    logging::{LogLevel, LogSink, set_log_sink},
    machine::{MachineConfig, MlsMachine, Publishing},
    new_room::create_room_body,
    own_identity::MlsIdentity,
    reader::MlsReader,
    responses::{sync_changes_from_response, sync_changes_from_sliding_sync},
    room::{EpochInfo, ExportedSecret, MlsRoom, RoomMember, RoomUpgrade, SendPlan},
    settings::RoomSettings,
    store_key::StoreKey,
    sync::{RoomSummary, SyncSummary, ToDeviceResult},
    unreadable::{UnreadableCause, unreadable_cause_name},
    user_identity::{UserIdentity, VerificationStatus},
    verdict::{Shield, ShieldCode, Verdict, shield_of},
    verification::{Verification, VerificationInfo},
    wiping::wipe_store,
};
