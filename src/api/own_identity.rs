//! `MlsIdentity`: this user's own cross-signing identity, as an app sees it. Thin, like `machine`.

use std::sync::Arc;

use ruma::OwnedDeviceId;

use super::{backup::RecoveryKey, error::MlsError, ids, slot::EngineSlot};
use crate::{
    engine::Engine,
    exported::{IdentityState, RecoveryState},
    protocol::decode_base64,
    secrets::Task,
};

/// This user's own cross-signing identity: three keys by which others know which devices are the
/// user's (Matrix spec, "Cross-signing").
///
/// For an app without an Olm machine. With `Publishing::BesideOlm` the Olm machine owns the
/// identity, and every call fails with `Unsupported` (`"beside_olm"`).
///
/// Most calls take effect as requests are sent and answered. Observers are told of the results by
/// `Update::IdentityStateChanged`, `Update::IdentityFailed` and the updates that the calls name.
/// What was begun goes on after a restart of the app.
#[derive(uniffi::Object)]
pub struct MlsIdentity {
    engine: Arc<EngineSlot>,
}

impl MlsIdentity {
    pub(super) fn new(engine: Arc<EngineSlot>) -> Self {
        Self { engine }
    }

    async fn begin(&self, task: Task) -> Result<(), MlsError> {
        let done = self.engine.run(move |engine| engine.begin_with_secrets(task)).await;
        self.engine.note_change();
        done
    }
}

#[uniffi::export(async_runtime = "tokio")]
impl MlsIdentity {
    /// How the identity stands, what is missing, and what to do.
    pub async fn state(&self) -> Result<IdentityState, MlsError> {
        self.engine.run(Engine::identity_state).await
    }

    /// Makes an identity for a user who has none, and signs this device with it.
    ///
    /// The keys are made on this device and published. They count once the homeserver has taken
    /// them. A homeserver may first ask who the user is (`IdentityState::AuthNeeded`). Calling this
    /// again meanwhile does nothing.
    ///
    /// Fails with `InvalidInput` (`"identity_exists"`) if the user is known to have an identity; if
    /// that turns out later, observers are told `IdentityFailed` with the same code. Fails with
    /// `NotReady` (`"identity_busy"`) while a reset is under way, and with `NewDeviceNeeded` if the
    /// homeserver has other keys for this device.
    pub async fn create(&self) -> Result<(), MlsError> {
        let done = self.engine.run(|engine| engine.new_identity(false)).await;
        self.engine.note_change();
        done
    }

    /// Makes the identity anew, in place of the one that there is, and signs this device with it.
    ///
    /// Every other device of the user has to be verified or recovered again, and everybody who has
    /// verified the user is told of the change. For a user who has lost all devices and the
    /// recovery key. A homeserver asks who the user is (`IdentityState::AuthNeeded`). Fails as
    /// [`create`](Self::create) does, but for `"identity_exists"`.
    pub async fn reset(&self) -> Result<(), MlsError> {
        let done = self.engine.run(|engine| engine.new_identity(true)).await;
        self.engine.note_change();
        done
    }

    /// Answers `IdentityState::AuthNeeded`: `auth` is the JSON object that goes into the upload as
    /// `"auth"` (Matrix spec, "User-Interactive Authentication API"). For a password it is
    /// `{"type": "m.login.password", "identifier": {"type": "m.id.user", "user": …}, "password": …,
    /// "session": …}`.
    ///
    /// It stays in the store, sealed, until the homeserver has answered. If it is not enough, the
    /// state is `AuthNeeded` again. Fails with `InvalidInput` (`"no_auth_needed"`, `"bad_auth"`).
    pub async fn authorize(&self, auth: String) -> Result<(), MlsError> {
        let auth = zeroize::Zeroizing::new(auth);
        let done = self.engine.run(move |engine| engine.authorize_identity(&auth)).await;
        self.engine.note_change();
        done
    }

    /// Signs another device of this user's, which the user has verified: others let it into their
    /// groups from then on.
    ///
    /// `ed25519_key` is the device's Ed25519 key as unpadded base64, as the user has compared it.
    /// Observers are told `Update::SignatureUploaded` or `Update::SignatureRefused`.
    ///
    /// Fails with `NotReady`: `"no_identity"`, `"identity_changed"`, `"no_private_key"` or
    /// `"other_private_key"` if this device cannot sign (see [`state`](Self::state)), and
    /// `"no_such_device"` if the homeserver lists no such device with this key, or its keys have
    /// not signed themselves. Fails with `InvalidInput` (`"bad_key"`) if the key is none.
    pub async fn sign_device(
        &self,
        device_id: String,
        ed25519_key: String,
    ) -> Result<(), MlsError> {
        let key = key_of("ed25519_key", &ed25519_key)?;
        let device = OwnedDeviceId::from(device_id);
        let done = self.engine.run(move |engine| engine.sign_own_device(&device, &key)).await;
        self.engine.note_change();
        done
    }

    /// Signs another user's identity, which this user has verified.
    ///
    /// `master_key` is that user's master key as unpadded base64, as the user has compared it.
    /// Observers are told `Update::SignatureUploaded` or `Update::SignatureRefused`.
    ///
    /// Fails as [`sign_device`](Self::sign_device) does, but for `"no_such_device"`; with
    /// `NotReady` (`"other_identity"`) if the homeserver hands out another master key for the user,
    /// or none; and with `InvalidInput` (`"bad_user_id"`, `"bad_key"`).
    pub async fn sign_user(&self, user_id: String, master_key: String) -> Result<(), MlsError> {
        let key = key_of("master_key", &master_key)?;
        let user = ids::user_id("user_id", &user_id)?;
        let done = self.engine.run(move |engine| engine.sign_user(&user, &key)).await;
        self.engine.note_change();
        done
    }

    /// How secret storage stands, as far as this device knows.
    pub async fn recovery_state(&self) -> Result<RecoveryState, MlsError> {
        self.engine.run(Engine::recovery_state).await
    }

    /// Asks the homeserver whether there is secret storage, and how a passphrase makes its key.
    /// Observers are told by `Update::RecoveryChanged` or `Update::RecoveryFailed`.
    pub async fn look_for_recovery(&self) -> Result<(), MlsError> {
        self.begin(Task::Look).await
    }

    /// Stores the private keys of the identity, and the backup's key if a backup is enabled, in the
    /// account data, sealed with `key`: whoever has the key can recover them on a new phone.
    ///
    /// Show the key to the user, to be written down. A key that was made from a passphrase can be
    /// made from it again. Where the secret storage that there is has this very key, what is stored
    /// there is brought up to date. Where it has another one and `replace` is false, nothing is
    /// stored and observers are told `RecoveryFailed` with the code `"recovery_exists"`. When all
    /// is stored they are told `RecoveryChanged`. Other clients, such as Element, read it too.
    ///
    /// Fails with `NotReady` (`"identity_incomplete"`) if this device does not have all private
    /// keys of the identity, and with `NotReady` (`"recovery_busy"`) while secrets are being read
    /// or stored.
    pub async fn store_secrets(
        &self,
        key: Arc<RecoveryKey>,
        replace: bool,
    ) -> Result<(), MlsError> {
        let (key, passphrase) = (key.key.clone(), key.passphrase.clone());
        self.begin(Task::Store { key, passphrase, replace }).await
    }

    /// Opens secret storage with its recovery key. This device is then signed, and the key backup
    /// is enabled: restore from it next.
    ///
    /// `RecoveryKey::parse` says what is wrong with a key that was mistyped. Observers are told
    /// `Update::RecoveryFinished`, or `Update::RecoveryFailed` with the code `"wrong_key"` for
    /// another key. Fails with `NotReady` (`"recovery_busy"`) while secrets are being read or
    /// stored.
    pub async fn recover(&self, key: Arc<RecoveryKey>) -> Result<(), MlsError> {
        self.begin(Task::Recover { key: key.key.clone(), with_history: false }).await
    }

    /// Opens secret storage with its recovery key, and brings back the whole history: what a new phone
    /// needs, in one step.
    ///
    /// It does what [`recover`](Self::recover) does. Then it restores all rooms from the key backup with
    /// the backup's key, if secret storage has that. Observers are told `Update::RecoveryFinished`, then
    /// `Update::RestoreProgress` and at the end `Update::RestoreFinished`. It goes on after a restart of
    /// the app. Fails as `recover` does.
    pub async fn recover_with_history(&self, key: Arc<RecoveryKey>) -> Result<(), MlsError> {
        self.begin(Task::Recover { key: key.key.clone(), with_history: true }).await
    }

    /// Gives up a new identity that waits for the user; tells whether there was one. What was there
    /// before stays, and observers are told `IdentityFailed` with the code `"cancelled"`.
    ///
    /// Fails with `NotReady` (`"identity_busy"`) while the new identity is on its way to the
    /// homeserver.
    pub async fn cancel(&self) -> Result<bool, MlsError> {
        self.engine.run(Engine::cancel_identity).await
    }
}

/// A public key as an app gives it.
fn key_of(name: &str, text: &str) -> Result<Vec<u8>, MlsError> {
    decode_base64(text)
        .filter(|key| key.len() == 32)
        .ok_or_else(|| MlsError::invalid("bad_key", format!("{name}: it is no Ed25519 key")))
}
