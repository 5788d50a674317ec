//! What an app asks and says of who people are: `MlsMachine`'s calls about identities, verification
//! and verdicts.

use super::{
    error::MlsError, ids, machine::MlsMachine, user_identity::UserIdentity, verdict::Verdict,
};
use crate::protocol::{DeviceName, decode_base64};

#[uniffi::export(async_runtime = "tokio")]
impl MlsMachine {
    /// The cross-signing identity of a user, if the homeserver has ever handed one out to this
    /// device. It does so for the users of rooms that use MLS.
    ///
    /// Fails with `InvalidInput` (`"bad_user_id"`).
    pub async fn user_identity(&self, user_id: String) -> Result<Option<UserIdentity>, MlsError> {
        let user = ids::user_id("user_id", &user_id)?;
        let identity = self.engine.run(move |engine| engine.user_identity(&user)).await?;
        Ok(identity.map(UserIdentity::from))
    }

    /// Accepts a user's changed master key: it is the pinned one from then on, and whatever your
    /// user has verified of the user before counts no more.
    ///
    /// `master_key` is the key that your user has seen (`UserIdentity::master_key`). Fails with
    /// `InvalidInput` if it is not the one that the homeserver hands out by now
    /// (`"other_identity"`), or the user id cannot be read (`"bad_user_id"`).
    pub async fn accept_identity(
        &self,
        user_id: String,
        master_key: String,
    ) -> Result<(), MlsError> {
        let user = ids::user_id("user_id", &user_id)?;
        let accepted = match decode_base64(&master_key) {
            Some(key) => self.engine.run(move |engine| engine.accept_identity(&user, &key)).await?,
            None => false,
        };
        handed_out(accepted)
    }

    /// Says that this is your user's own master key. Whom your user has verified with that identity
    /// counts as verified from then on (`Verdict`).
    ///
    /// An app says so that knows it: from an Olm machine beside this one, or because your user has
    /// compared it with another device's. A homeserver cannot be asked, as it may lie.
    ///
    /// `master_key` is `UserIdentity::master_key` of the own user. Fails with `InvalidInput` if it
    /// is not the one that the homeserver hands out by now (`"other_identity"`).
    pub async fn confirm_own_identity(&self, master_key: String) -> Result<(), MlsError> {
        let confirmed = match decode_base64(&master_key) {
            Some(key) => self.engine.run(move |engine| engine.confirm_own_identity(&key)).await?,
            None => false,
        };
        handed_out(confirmed)
    }

    /// Forgets on this device that your user has verified a user: the user counts as any other whom
    /// nobody has verified, with whatever identity the user has by now.
    ///
    /// Other devices of yours are not told. Fails with `InvalidInput` (`"bad_user_id"`).
    pub async fn withdraw_verification(&self, user_id: String) -> Result<(), MlsError> {
        let user = ids::user_id("user_id", &user_id)?;
        self.engine.run(move |engine| engine.withdraw_verification(&user)).await
    }

    /// Whether this device sends only to rooms whose devices are all verified (`Verdict::Verified`).
    /// It is remembered, and off at first.
    ///
    /// `MlsRoom::prepare_to_send` then fails with `UntrustedMembers` (`"not_verified"`) where a
    /// group has others, and no history is given there. A group is shared, so no device can be left
    /// out by one member alone.
    pub async fn send_only_to_verified(&self, only: bool) -> Result<(), MlsError> {
        self.engine.run(move |engine| engine.send_only_to_verified(only)).await
    }

    /// What is known now of who a device is.
    ///
    /// Fails with `InvalidInput` (`"bad_user_id"`).
    pub async fn device_verdict(
        &self,
        user_id: String,
        device_id: String,
    ) -> Result<Verdict, MlsError> {
        let device = DeviceName::new(ids::user_id("user_id", &user_id)?, device_id.into());
        Ok(self.engine.run(move |engine| engine.device_verdict(&device)).await?.into())
    }
}

/// Whether a master key is the one that the homeserver hands out.
fn handed_out(is: bool) -> Result<(), MlsError> {
    if is {
        return Ok(());
    }
    let reason = "master_key: it is not the one that the homeserver hands out for this user";
    Err(MlsError::invalid("other_identity", reason))
}
