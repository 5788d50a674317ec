//! This user's own cross-signing identity, and people who compare emojis, as an app has it.

use std::sync::Arc;

use matrix_mls::{
    IdentityState, RecoveryKey, RestoreScope, SecretFailure, Update, Verification,
    VerificationState,
};

use super::{Client, password_auth};
use crate::{Heard, KitError};

/// How often two devices that verify each other settle before they give up.
const ROUNDS: usize = 6;

impl Client {
    /// Makes an identity for a user who has none.
    pub async fn make_identity(&self) -> Result<(), KitError> {
        let what = "making an identity";
        let identity = self.machine()?.identity();
        identity.create().await.map_err(self.engine(what))?;
        self.settle_identity(what).await
    }

    /// Makes the user's identity anew, and gives the password of a test account for that.
    pub async fn reset_identity(&self) -> Result<(), KitError> {
        let what = "making the identity anew";
        let identity = self.machine()?.identity();
        identity.reset().await.map_err(self.engine(what))?;
        self.drive().await?;
        let state = identity.state().await.map_err(self.engine(what))?;
        if let IdentityState::AuthNeeded { challenge } = state {
            let session = challenge.session.unwrap_or_default();
            let auth = password_auth(self.user_id(), &session).to_string();
            identity.authorize(auth).await.map_err(self.engine(what))?;
        }
        self.settle_identity(what).await
    }

    async fn settle_identity(&self, what: &str) -> Result<(), KitError> {
        self.settle().await?;
        self.settle().await?;
        let state = self.machine()?.identity().state().await.map_err(self.engine(what))?;
        match state {
            IdentityState::Complete => Ok(()),
            state => Err(self.gave_up(what, format!("{state:?}"))),
        }
    }

    /// Stores the identity's private keys, and the backup's if there is one, under a new recovery
    /// key. Gives its text, to be written down.
    pub async fn store_secrets(&self) -> Result<String, KitError> {
        let what = "storing secrets";
        let key = RecoveryKey::generate().map_err(self.engine(what))?;
        let (heard, listening) =
            Heard::of(self).await.map_err(|e| self.gave_up(what, e.to_string()))?;
        let identity = self.machine()?.identity();
        identity.store_secrets(key.clone(), false).await.map_err(self.engine(what))?;
        self.drive().await?;
        let stored = heard
            .hear(|update| match update {
                Update::RecoveryChanged { state: matrix_mls::RecoveryState::Present { .. } } => {
                    Some(Ok(()))
                }
                Update::RecoveryFailed { code, .. } => Some(Err(code.clone())),
                _ => None,
            })
            .await;
        listening.stop();
        match stored {
            Ok(Ok(())) => Ok(key.text()),
            Ok(Err(code)) => Err(self.gave_up(what, code)),
            Err(error) => Err(self.gave_up(what, error.to_string())),
        }
    }

    /// Opens secret storage with the recovery key that somebody has typed, and brings back what the
    /// backup has: the one step by which a new phone gets its trust and its history. Gives how many
    /// epochs became readable.
    pub async fn recover(&self, typed: &str) -> Result<u64, KitError> {
        let what = "recovering";
        let key = RecoveryKey::parse(typed.to_owned()).map_err(self.engine(what))?;
        let (heard, listening) =
            Heard::of(self).await.map_err(|e| self.gave_up(what, e.to_string()))?;
        let identity = self.machine()?.identity();
        identity.recover(key).await.map_err(self.engine(what))?;
        self.settle().await?;
        let failures = heard.hear(recovered).await;
        let failures = failures.map_err(|error| self.gave_up(what, error.to_string()))?;
        if !failures.is_empty() {
            return Err(self.gave_up(what, format!("{failures:?}")));
        }
        self.settle_identity(what).await?;
        let backup = self.machine()?.backup();
        let restored = backup.restore(None, RestoreScope::AllRooms).await;
        let id = restored.map_err(self.engine(what))?;
        self.drive().await?;
        let ended = heard.hear(|update| match update {
            Update::RestoreFinished { restore, epochs, failures } if *restore == id => {
                Some((*epochs, failures.clone()))
            }
            _ => None,
        });
        let ended = ended.await;
        listening.stop();
        match ended.map_err(|error| self.gave_up(what, error.to_string()))? {
            (epochs, failures) if failures.is_empty() => Ok(epochs),
            (_, failures) => Err(self.gave_up(what, format!("{failures:?}"))),
        }
    }

    /// Two people, or two devices of one, compare emojis, and find the same. Gives what both have
    /// seen, and the verification on each side.
    pub async fn compare_emojis(
        &self,
        other: &Self,
    ) -> Result<(Vec<String>, [Arc<Verification>; 2]), KitError> {
        let (what, machine) = ("comparing emojis", self.machine()?);
        let (user, device) = (other.user_id().to_owned(), other.device_id().to_owned());
        let ours = machine.request_verification(user, Some(device)).await;
        let ours = ours.map_err(self.engine(what))?;
        self.settle_with(other).await?;
        let asked = other.machine()?.verifications().await.map_err(other.engine(what))?;
        let asked = asked.into_iter().rfind(|asked| {
            asked.is_incoming
                && asked.user_id == self.user_id()
                && asked.device_id.as_deref() == Some(self.device_id())
        });
        let asked = asked.ok_or_else(|| other.gave_up(what, "nobody asks"))?;
        let theirs = other.machine()?.verification(asked.id);
        theirs.accept().await.map_err(other.engine(what))?;
        self.settle_with(other).await?;
        ours.start_sas().await.map_err(self.engine(what))?;
        self.settle_with(other).await?;
        let seen = [self.emojis(&ours).await?, other.emojis(&theirs).await?];
        if seen[0] != seen[1] || seen[0].len() != 7 {
            return Err(self.gave_up(what, format!("they see {seen:?}")));
        }
        ours.confirm().await.map_err(self.engine(what))?;
        theirs.confirm().await.map_err(other.engine(what))?;
        self.settle_with(other).await?;
        let [seen, _] = seen;
        Ok((seen, [ours, theirs]))
    }

    async fn settle_with(&self, other: &Self) -> Result<(), KitError> {
        for _ in 0..ROUNDS {
            other.settle().await?;
            self.settle().await?;
        }
        Ok(())
    }

    /// The emojis that this device shows.
    pub async fn emojis(&self, verification: &Verification) -> Result<Vec<String>, KitError> {
        let what = "showing emojis";
        let info = verification.info().await.map_err(self.engine(what))?;
        match info.state {
            VerificationState::Comparing { emojis, .. } => {
                Ok(emojis.into_iter().map(|emoji| emoji.symbol).collect())
            }
            state => Err(self.gave_up(what, format!("{state:?}"))),
        }
    }
}

/// What a recovery has left out, once it is over.
fn recovered(update: &Update) -> Option<Vec<SecretFailure>> {
    let failure = |name: &str, code: &str| SecretFailure { name: name.into(), code: code.into() };
    match update {
        Update::RecoveryFinished { failures, .. } => Some(failures.clone()),
        Update::RecoveryFailed { code, .. } => Some(vec![failure("all", code)]),
        _ => None,
    }
}
