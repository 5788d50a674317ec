//! Who people are, as the app and its user say: accepted keys, verifications, and what they change.

use ruma::{OwnedUserId, UserId};

use super::{core::Engine, error::EngineError};
use crate::{
    devices::{self, UserIdentity, Verdict},
    protocol::DeviceName,
    room::membership,
    signing,
    turn::Turn,
};

impl Engine {
    /// The cross-signing identity of a user, if one was ever seen.
    pub(crate) fn user_identity(&self, user: &UserId) -> Result<Option<UserIdentity>, EngineError> {
        self.read(|tx| Ok(devices::user_identity(tx, user)?))
    }

    /// What is known of who a device is.
    pub(crate) fn device_verdict(&self, device: &DeviceName) -> Result<Verdict, EngineError> {
        if *device == self.identity.name() {
            return Ok(Verdict::Verified);
        }
        self.read(|tx| Ok(devices::verdict_by_first_key(tx, device)?))
    }

    /// Pins the master key that the homeserver hands out for a user, if it is this one.
    pub(crate) fn accept_identity(&self, user: &UserId, key: &[u8]) -> Result<bool, EngineError> {
        self.turn(|turn| {
            let others = devices::accept_identity(turn.tx, user, key, turn.now_ms)?;
            signing::tell_state(turn)?;
            tell_if_done(turn, others)
        })
    }

    /// This master key is the own user's, if the homeserver hands it out.
    pub(crate) fn confirm_own_identity(&self, key: &[u8]) -> Result<bool, EngineError> {
        let own = self.identity.name();
        self.turn(|turn| {
            let others = devices::confirm_own_identity(turn.tx, &own.user_id, key)?;
            tell_if_done(turn, others)
        })
    }

    /// Whether the app sends to verified devices only.
    pub(crate) fn send_only_to_verified(&self, only: bool) -> Result<(), EngineError> {
        self.turn(|turn| {
            if devices::send_only_to_verified(turn.tx, only)? {
                membership::unsettle_all(turn.tx)?;
            }
            Ok(())
        })
    }

    /// The app's user vouches for a user no more.
    pub(crate) fn withdraw_verification(&self, user: &UserId) -> Result<(), EngineError> {
        self.turn(|turn| {
            let others = devices::withdraw_verification(turn.tx, user, turn.now_ms)?;
            Ok(signing::tell_trust_changed(turn, others)?)
        })
    }
}

fn tell_if_done(turn: &Turn<'_>, others: Option<Vec<OwnedUserId>>) -> Result<bool, EngineError> {
    let Some(others) = others else { return Ok(false) };
    signing::tell_trust_changed(turn, others)?;
    Ok(true)
}
