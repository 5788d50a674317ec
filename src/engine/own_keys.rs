//! What is done before it is known whose keys the homeserver has under this device's id, and where
//! they are others (`identity::own_keys`).
//!
//! The homeserver is asked first. Until it has answered nothing of a room is sent and no keys are
//! uploaded. Where it has other keys, that stays so, and whoever wants to send gets an error.

use super::{core::Engine, error::EngineError};
use crate::{
    commits::NextStep,
    exported::Update,
    failure::Failure,
    identity::{self, IdentityError, OTHER_KEYS, OwnKeys, SignedKeys},
    messages::SendError,
    requests::{self, BACKUP_SCOPE, DEVICE_SCOPE, PausedWork, Purpose, QueuedRequest, REQUESTS},
    store::{StoreError, Tx},
    turn::Turn,
};

/// How many requests are handed out at once.
const MAX_HANDED_OUT: usize = 50;

impl Engine {
    /// Adds this device's credential to device keys, and signs them.
    pub(crate) fn sign_device_keys(&self, device_keys: &str) -> Result<SignedKeys, EngineError> {
        match self.read(identity::own_keys)? {
            OwnKeys::Ours => Ok(self.identity().sign_device_keys(device_keys)?),
            OwnKeys::Unknown => Err(IdentityError::NotChecked.into()),
            OwnKeys::Others => Err(IdentityError::OtherKeys.into()),
        }
    }
}

/// What has to come before anything is sent to a room; nothing if it may be sent.
pub(super) fn before_sending(turn: &Turn<'_>) -> Result<Option<NextStep>, SendError> {
    match identity::own_keys(turn.tx)? {
        OwnKeys::Ours => Ok(None),
        OwnKeys::Others => Err(SendError::OtherKeys),
        OwnKeys::Unknown => match check(turn)? {
            Some(id) => Ok(Some(NextStep::Waiting(vec![id]))),
            None => Err(SendError::NotReady(
                "the homeserver refuses to say which keys it has for this device",
            )),
        },
    }
}

/// Fails if the homeserver has other keys under this device's id.
pub(super) fn refuse_others(tx: &Tx<'_>) -> Result<(), SendError> {
    match identity::own_keys(tx)? {
        OwnKeys::Others => Err(SendError::OtherKeys),
        OwnKeys::Ours | OwnKeys::Unknown => Ok(()),
    }
}

/// The requests that are due. While it is not known that the homeserver has this store's keys, or
/// none, nothing of a room is sent, and no keys.
pub(super) fn due(tx: &Tx<'_>, now_ms: u64) -> Result<Vec<(i64, QueuedRequest)>, StoreError> {
    if identity::own_keys(tx)? == OwnKeys::Ours {
        return requests::due(tx, now_ms, MAX_HANDED_OUT);
    }
    let mut due = REQUESTS.in_scope(tx, DEVICE_SCOPE)?;
    due.extend(REQUESTS.in_scope(tx, BACKUP_SCOPE)?);
    due.retain(|(_, queued)| {
        requests::is_due(queued, now_ms)
            && queued.purpose.room().is_none()
            && !matches!(queued.purpose, Purpose::UploadKeys(_))
    });
    due.truncate(MAX_HANDED_OUT);
    Ok(due)
}

/// Asks which keys the homeserver has for this device, where that is not known; the request's id.
/// Nothing where it is known, or where the homeserver refuses to say.
pub(super) fn check(turn: &Turn<'_>) -> Result<Option<i64>, Failure> {
    let queued = REQUESTS.in_scope(turn.tx, DEVICE_SCOPE)?;
    if let Some((id, _)) =
        queued.iter().find(|(_, queued)| matches!(queued.purpose, Purpose::CheckKeys))
    {
        return Ok(Some(*id));
    }
    if !identity::must_ask_for_own_keys(turn.tx, turn.now_ms)?
        || requests::is_paused(turn.tx, PausedWork::CheckKeys, turn.now_ms)?
    {
        return Ok(None);
    }
    let request = identity::own_keys_request(turn.identity);
    requests::enqueue(turn.tx, DEVICE_SCOPE, turn.now_ms, Purpose::CheckKeys, request).map(Some)
}

/// Takes in what the homeserver says of this device's own keys, among others or alone.
pub(super) fn note(turn: &Turn<'_>, body: &[u8], asked: bool) -> Result<(), EngineError> {
    if identity::note_own_keys(turn.tx, turn.identity, body, asked, turn.now_ms)? {
        tracing::warn!("the homeserver has other keys for this device");
        turn.tell(Update::NewDeviceNeeded { reason: OTHER_KEYS.to_owned() });
    }
    Ok(())
}
