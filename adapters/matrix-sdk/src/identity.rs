//! The own cross-signing identity: the Olm machine verifies it, and the machine is told.

use std::time::Duration;

use matrix_sdk::encryption::VerificationState;

use crate::{Error, mls::Inner};

/// The pause before the own identity is confirmed again, which the machine may not know yet.
const CONFIRM_AGAIN: Duration = Duration::from_secs(2);

impl Inner {
    /// Tells the machine which identity is this user's, as soon as the Olm machine trusts it.
    pub(crate) async fn follow_own_identity(&self) {
        let mut changes = self.client.encryption().verification_state();
        while let Some(state) = changes.next().await {
            if state == VerificationState::Verified {
                self.confirm_own_identity().await;
            }
        }
        std::future::pending().await
    }

    async fn confirm_own_identity(&self) {
        loop {
            match self.try_to_confirm().await {
                Ok(true) => return,
                Ok(false) => {}
                // The machine may not have heard of it yet.
                Err(error) => tracing::debug!(%error, "the own identity is confirmed later"),
            }
            tokio::time::sleep(CONFIRM_AGAIN).await;
        }
    }

    /// Whether there was something to confirm.
    async fn try_to_confirm(&self) -> Result<bool, Error> {
        let session = self.client.session_meta().ok_or(Error::NotLoggedIn)?;
        let identity = self.client.encryption().get_user_identity(&session.user_id).await;
        let identity = identity.map_err(|error| Error::OlmStore(error.to_string()))?;
        let Some(identity) = identity.filter(|identity| identity.is_verified()) else {
            return Ok(false);
        };
        let Some(key) = identity.master_key().get_first_key() else { return Ok(false) };
        self.machine.confirm_own_identity(key.to_base64()).await?;
        Ok(true)
    }
}
