//! `Verification`: one interactive verification, as an app sees it. Thin, like `machine`.

use std::sync::Arc;

use super::{error::MlsError, slot::EngineSlot};
use crate::{
    exported::VerificationState,
    verification::{Act, Flow, Place},
};

/// What an app shows of a verification.
#[derive(Debug, Clone, PartialEq, Eq, uniffi::Record)]
pub struct VerificationInfo {
    /// Its id on this device.
    pub id: String,
    /// The other user's id; this user's own where another of their devices is verified.
    pub user_id: String,
    /// The other device's id, once one has asked or answered.
    pub device_id: Option<String>,
    /// The room in which it takes place; absent where it goes from device to device.
    pub room_id: Option<String>,
    /// Whether the other side has asked.
    pub is_incoming: bool,
    /// How far it has come.
    pub state: VerificationState,
}

/// One interactive verification: two users compare emojis or numbers that their devices show.
///
/// Each call only queues what is to be sent: send the machine's requests, and feed its syncs.
/// `Update::VerificationChanged` tells what comes of it. A verification ends after ten minutes, and
/// with the app's process once the two devices agree on keys.
#[derive(uniffi::Object)]
pub struct Verification {
    id: String,
    engine: Arc<EngineSlot>,
}

#[uniffi::export(async_runtime = "tokio")]
impl Verification {
    /// Its id on this device, for `MlsMachine::verification`.
    pub fn id(&self) -> String {
        self.id.clone()
    }

    /// Who is verified, and how far that has come.
    ///
    /// Fails with `InvalidInput` (`"no_verification"`) if it has been over for long: the last 64
    /// are remembered.
    pub async fn info(&self) -> Result<VerificationInfo, MlsError> {
        let id = self.id.clone();
        Ok(self.engine.run(move |engine| engine.verification(&id)).await?.into())
    }

    /// The user wants it too: answers the other side's request.
    ///
    /// Fails with `InvalidInput` if there is no request to answer by now (`"not_now"`), or no such
    /// verification (`"no_verification"`).
    pub async fn accept(&self) -> Result<(), MlsError> {
        self.act(Act::Accept).await
    }

    /// Begins the comparison, when both sides are ready. Either side may.
    ///
    /// Fails with `InvalidInput` if they are not, or it has begun (`"not_now"`), or there is no
    /// such verification (`"no_verification"`).
    pub async fn start_sas(&self) -> Result<(), MlsError> {
        self.act(Act::Start).await
    }

    /// The user says that both devices show the same.
    ///
    /// It is done when the other side says so too and the keys are right. Then this device signs
    /// the other user's master key, or this user's other device, if it has the private key for
    /// that; and a changed master key of that user is accepted. Fails with `InvalidInput` if
    /// nothing is to be compared (`"not_now"`), or there is no such verification
    /// (`"no_verification"`).
    pub async fn confirm(&self) -> Result<(), MlsError> {
        self.act(Act::Confirm).await
    }

    /// The user says that the devices show different things: somebody is in between. Ends it with
    /// `"m.mismatched_sas"`.
    ///
    /// Fails with `InvalidInput` if nothing is to be compared (`"not_now"`), or there is no such
    /// verification (`"no_verification"`).
    pub async fn mismatch(&self) -> Result<(), MlsError> {
        self.act(Act::Mismatch).await
    }

    /// Hands this user's secrets to their other device, once it is verified: the private keys of the
    /// identity, and the backup's key if a backup is enabled.
    ///
    /// Call it on the device that has them, after `VerificationState::Done`. They are sealed with keys
    /// that the two devices have from this very verification, so nobody else can open them. The other
    /// device takes them by itself (`Update::SecretsReceived`), and has to hear of them within ten
    /// minutes. A second call does nothing.
    ///
    /// Fails with `InvalidInput` (`"not_now"`) if the verification is not done, is older than ten
    /// minutes, was of another user, or the homeserver does not list the device any more; and
    /// (`"no_verification"`) if there is none. Fails with `NotReady` (`"identity_incomplete"`) if this
    /// device does not have all private keys of the identity.
    pub async fn offer_secrets(&self) -> Result<(), MlsError> {
        let id = self.id.clone();
        let done = self.engine.run(move |engine| engine.offer_secrets(&id)).await;
        self.engine.note_change();
        done
    }

    /// Neither sends nor takes secrets by this verification any more; tells whether it would have.
    ///
    /// What has left this device cannot be called back.
    pub async fn withdraw_secrets(&self) -> Result<bool, MlsError> {
        let id = self.id.clone();
        self.engine.run(move |engine| engine.withdraw_secrets(&id)).await
    }

    /// Ends it with `"m.user"`, or declines the other side's request. It changes nothing where it is
    /// over.
    ///
    /// Fails with `InvalidInput` if there is no such verification (`"no_verification"`).
    pub async fn cancel(&self) -> Result<(), MlsError> {
        self.act(Act::Cancel).await
    }
}

impl Verification {
    pub(super) fn new(engine: Arc<EngineSlot>, id: String) -> Arc<Self> {
        Arc::new(Self { id, engine })
    }

    async fn act(&self, act: Act) -> Result<(), MlsError> {
        let id = self.id.clone();
        let done = self.engine.run(move |engine| engine.act_on_verification(&id, act)).await;
        self.engine.note_change();
        done
    }
}

impl From<Flow> for VerificationInfo {
    fn from(flow: Flow) -> Self {
        Self {
            state: flow.state(),
            id: flow.id,
            user_id: flow.user_id.to_string(),
            device_id: flow.device_id.map(|device| device.to_string()),
            room_id: match flow.place {
                Place::Devices { .. } => None,
                Place::Room { room_id, .. } => Some(room_id.to_string()),
            },
            is_incoming: flow.is_incoming,
        }
    }
}
