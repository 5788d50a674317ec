//! How this user's own cross-signing identity and secret storage stand, for an app to show.

use serde::{Deserialize, Serialize};

use super::backup::PassphraseParameters;

/// How this user's own cross-signing identity stands on this device, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, uniffi::Enum)]
pub enum IdentityState {
    /// The homeserver has not said yet which identity this user has: send the machine's requests.
    Unknown,
    /// This user has no identity: create one.
    Absent,
    /// A new identity is on its way to the homeserver: send the machine's requests.
    Working,
    /// The homeserver wants the user to prove who they are before it takes the new identity: call
    /// `MlsIdentity::authorize` or `MlsIdentity::cancel`.
    AuthNeeded {
        /// What the homeserver asks for.
        challenge: AuthChallenge,
    },
    /// The homeserver hands out another identity than the pinned one, and this device signs
    /// nothing.
    ///
    /// The user has reset the identity on another device, or the homeserver lies. If the user says
    /// that it is theirs, call `MlsMachine::accept_identity` for this user, and recover. If not,
    /// reset it.
    Changed {
        /// The master key that the homeserver hands out, as unpadded base64.
        master_key: String,
    },
    /// The user has an identity, and something of it is missing on this device: recover it with the
    /// recovery key, or verify this device from another one.
    Incomplete {
        /// Whether the user has signed this device. Unless it is signed, others do not let it into
        /// their groups.
        device_is_signed: bool,
        /// Which private keys this device does not have: `"master"`, `"self_signing"`,
        /// `"user_signing"`.
        missing_keys: Vec<String>,
    },
    /// This device is signed and has all private keys of its user's identity.
    Complete,
}

/// What a homeserver asks for before it takes a new identity (Matrix spec, "User-Interactive
/// Authentication API").
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, uniffi::Record)]
pub struct AuthChallenge {
    /// The `"session"`, which the app's `auth` object has to name.
    pub session: Option<String>,
    /// The ways to prove it.
    pub flows: Vec<AuthFlow>,
    /// The stages that the homeserver has taken already (`"completed"`).
    pub completed: Vec<String>,
    /// Why the last `auth` object was not enough: the Matrix `"errcode"`, if the answer has one.
    pub code: Option<String>,
    /// The homeserver's sentence about that.
    pub reason: Option<String>,
    /// The whole answer as JSON, for stages with parameters (`"params"`).
    pub json: String,
}

/// One way to prove who the user is: all of these stages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, uniffi::Record)]
pub struct AuthFlow {
    /// The stages, such as `"m.login.password"`, in the order in which they are done.
    pub stages: Vec<String>,
}

/// How secret storage stands: the private keys of the identity and the backup's key in the account
/// data, sealed with a recovery key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, uniffi::Enum)]
pub enum RecoveryState {
    /// The homeserver was not asked yet: call `MlsIdentity::look_for_recovery`.
    Unknown,
    /// There is no secret storage: call `MlsIdentity::store_secrets`.
    Absent,
    /// Something is being read or stored: send the machine's requests.
    Working,
    /// There is secret storage: call `MlsIdentity::recover` with its key where something is
    /// missing.
    Present {
        /// The id of the default key.
        key_id: String,
        /// How a passphrase makes the key, if one does.
        passphrase: Option<PassphraseParameters>,
    },
    /// There is secret storage of a kind that this library does not know, or its description is
    /// damaged.
    Unsupported {
        /// The id of the default key.
        key_id: String,
    },
}

/// A secret that was not recovered.
#[derive(Debug, Clone, PartialEq, Eq, uniffi::Record)]
pub struct SecretFailure {
    /// The secret's name, such as `"m.cross_signing.master"`.
    pub name: String,
    /// Why: the same in every release.
    ///
    /// It is `"missing"` if it is not stored under this key, `"damaged"` if it does not open with
    /// the key or is no key, or `"other_identity"` if it belongs to another identity than the
    /// published one.
    pub code: String,
}
