//! The calls about this user's own cross-signing identity.

use ruma::{DeviceId, UserId};

use super::{core::Engine, error::EngineError};
use crate::{
    exported::{IdentityState, RecoveryState},
    secrets::{self, Task as SecretsTask},
    signing,
};

impl Engine {
    /// How the own identity stands.
    pub(crate) fn identity_state(&self) -> Result<IdentityState, EngineError> {
        self.turn(|turn| {
            signing::follow(turn)?;
            Ok(signing::state(turn.tx, turn.identity)?)
        })
    }

    /// Makes an identity. `is_reset`: it may replace the one that there is.
    pub(crate) fn new_identity(&self, is_reset: bool) -> Result<(), EngineError> {
        self.turn(|turn| Ok(signing::begin(turn, is_reset)?))
    }

    /// Proves who the user is.
    pub(crate) fn authorize_identity(&self, auth: &str) -> Result<(), EngineError> {
        self.turn(|turn| Ok(signing::authorize(turn, auth)?))
    }

    /// Signs a device of this user's.
    pub(crate) fn sign_own_device(
        &self,
        device: &DeviceId,
        ed25519: &[u8],
    ) -> Result<(), EngineError> {
        self.turn(|turn| Ok(signing::sign_own_device(turn, device, ed25519).map(drop)?))
    }

    /// Signs another user's master key.
    pub(crate) fn sign_user(&self, user: &UserId, master: &[u8]) -> Result<(), EngineError> {
        self.turn(|turn| Ok(signing::sign_user(turn, user, master).map(drop)?))
    }

    /// How secret storage stands.
    pub(crate) fn recovery_state(&self) -> Result<RecoveryState, EngineError> {
        // The call is refused beside Olm, as all of these are.
        self.identity_state()?;
        Ok(self.read(secrets::state)?)
    }

    /// Reads, stores or recovers secrets.
    pub(crate) fn begin_with_secrets(&self, task: SecretsTask) -> Result<(), EngineError> {
        self.turn(|turn| Ok(secrets::begin(turn, task)?))
    }

    /// Gives a new identity up.
    pub(crate) fn cancel_identity(&self) -> Result<bool, EngineError> {
        self.turn(|turn| Ok(signing::cancel(turn)?))
    }
}
