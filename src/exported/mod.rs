//! The exported types that the core itself makes or takes: updates and their observers, requests, a
//! sync's changes, and the state of the backup.
//!
//! Plain data without decisions. The rest of the exported API is in `api`, above the core.

mod backup;
mod device;
mod observers;
mod own_identity;
mod policy;
mod request;
mod rollback_guard;
mod sync;
mod update;
mod verification;

pub use self::{
    backup::{BackupState, HistoryFailure, PassphraseParameters},
    device::MlsDevice,
    observers::{UpdateObserver, UpdateSubscription},
    own_identity::{AuthChallenge, AuthFlow, IdentityState, RecoveryState, SecretFailure},
    policy::MemberPolicy,
    request::{OutgoingRequest, PendingRequests, RequestKind, RequestOutcome},
    rollback_guard::RollbackGuard,
    sync::{DeviceListChanges, FollowedRooms, RoomChanges, SyncChanges, SyncStart},
    update::Update,
    verification::{SasEmoji, VerificationState},
};
pub(crate) use observers::Observers;
