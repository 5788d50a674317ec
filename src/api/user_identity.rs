//! `UserIdentity`: what an app sees of a user's cross-signing identity.

use crate::{
    devices::{self, Standing},
    protocol::encode_base64,
};

/// A user's cross-signing identity, as this device has seen it. Keys are Ed25519 public keys in
/// unpadded base64, as Matrix shows fingerprints.
#[derive(Debug, Clone, PartialEq, Eq, uniffi::Record)]
pub struct UserIdentity {
    /// The user's id.
    pub user_id: String,
    /// The master key that the homeserver hands out. Devices count as signed by their owner if
    /// this key leads to them.
    pub master_key: String,
    /// When it was first handed out, in milliseconds since 1970.
    pub master_key_since_ms: u64,
    /// The master key that was seen first, or that `MlsMachine::accept_identity` has accepted.
    pub pinned_master_key: String,
    /// When it was pinned, in milliseconds since 1970.
    pub pinned_since_ms: u64,
    /// Whether the two differ: the user has reset the identity, or the homeserver lies.
    pub has_changed: bool,
    /// The key that signs the user's devices, if the master key has signed one.
    pub self_signing_key: Option<String>,
    /// The key that signs other users' master keys, if the master key has signed one. A homeserver
    /// hands it out to its owner only.
    pub user_signing_key: Option<String>,
    /// Whether your user has verified the identity.
    pub verification: VerificationStatus,
}

/// Whether your user has verified a user's identity.
///
/// Your user verifies another with the user-signing key, in this app or any other. It counts once
/// this device knows your user's own identity for sure (`MlsMachine::confirm_own_identity`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, uniffi::Enum)]
pub enum VerificationStatus {
    /// No, or this device cannot tell.
    NotVerified,
    /// Yes.
    Verified,
    /// An earlier identity was verified. Nothing is sent to rooms of this user's until your user
    /// decides (`MlsError::UntrustedMembers`).
    Changed,
}

impl From<devices::UserIdentity> for UserIdentity {
    fn from(identity: devices::UserIdentity) -> Self {
        let has_changed = identity.has_changed();
        Self {
            user_id: identity.user_id.to_string(),
            master_key: encode_base64(&identity.master),
            master_key_since_ms: identity.master_ms,
            pinned_master_key: encode_base64(&identity.pinned),
            pinned_since_ms: identity.pinned_ms,
            has_changed,
            self_signing_key: identity.self_signing.map(|key| encode_base64(&key)),
            user_signing_key: identity.user_signing.map(|key| encode_base64(&key)),
            verification: match identity.standing {
                Standing::NotVerified => VerificationStatus::NotVerified,
                Standing::Verified => VerificationStatus::Verified,
                Standing::Changed => VerificationStatus::Changed,
            },
        }
    }
}
