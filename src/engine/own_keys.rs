//! What is done before it is known whose keys the homeserver has under this device's id, and where
//! they are others (`identity::own_keys`).
//!
//! The homeserver is asked first. Until it has answered nothing of a room is sent and no keys are
//! uploaded. Where it has other keys, that stays so, and whoever wants to send gets an error. A
//! device beside Olm sends nothing before it has its binding either
//! (`identity::can_be_recognised`).

use super::{core::Engine, error::EngineError};
use crate::{
    commits::NextStep,
    devices::LeafBinding,
    exported::{SyncChanges, Update},
    failure::Failure,
    identity::{self, IdentityError, OTHER_KEYS, OlmSignatures, OwnKeys, UploadPlan},
    messages::SendError,
    mls::note_bindings,
    requests::{self, BACKUP_SCOPE, DEVICE_SCOPE, PausedWork, Purpose, QueuedRequest, REQUESTS},
    store::{StoreError, Tx},
    turn::Turn,
};

/// How many requests are handed out at once.
const MAX_HANDED_OUT: usize = 50;

impl Engine {
    /// The text that binds this device's credential to the device once it is signed.
    pub(crate) fn binding_to_sign(&self) -> Result<Option<String>, EngineError> {
        self.read(|tx| {
            if identity::own_keys(tx)? == OwnKeys::Others {
                return Err(IdentityError::OtherKeys.into());
            }
            Ok(self.identity().binding_to_sign(tx)?)
        })
    }

    /// Takes in the signature over that text.
    pub(crate) fn bind_device(
        &self,
        device_key: &str,
        signatures: &OlmSignatures,
    ) -> Result<(), EngineError> {
        self.turn(|turn| {
            if identity::own_keys(turn.tx)? == OwnKeys::Others {
                return Err(IdentityError::OtherKeys.into());
            }
            let Some(signature) = turn.identity.bind(turn.tx, device_key, signatures)? else {
                return Ok(());
            };
            identity::replace_key_packages(turn.tx)?;
            let (device, key) = (turn.identity.name(), turn.identity.public_key().to_vec());
            Ok(note_bindings(turn, [LeafBinding { device, key, signature }])?)
        })
    }
}

/// What has to come before anything is sent to a room; nothing if it may be sent.
pub(super) fn before_sending(turn: &Turn<'_>) -> Result<Option<NextStep>, SendError> {
    match identity::own_keys(turn.tx)? {
        OwnKeys::Ours => refuse_unready(turn).map(|()| None),
        OwnKeys::Others => Err(SendError::OtherKeys),
        OwnKeys::Unknown => match check(turn)? {
            Some(id) => Ok(Some(NextStep::Waiting(vec![id]))),
            None => Err(SendError::NotReady(
                "the homeserver refuses to say which keys it has for this device: send the machine's requests (drive), and try again later",
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

/// Fails if the homeserver has other keys under this device's id, or nobody could tell that this
/// device's leaves are its own.
pub(super) fn refuse_unready(turn: &Turn<'_>) -> Result<(), SendError> {
    refuse_others(turn.tx)?;
    if identity::can_be_recognised(turn.tx, turn.identity)? {
        return Ok(());
    }
    let reason = "the Olm machine beside this device has not signed the device's binding yet: have it sign bindingToSign (binding_to_sign in Rust), and pass that to bindDevice (bind_device)";
    Err(SendError::NotReady(reason))
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
            && !is_of_own_keys(&queued.purpose)
    });
    due.truncate(MAX_HANDED_OUT);
    Ok(due)
}

/// Whether a request puts something on the homeserver that only the device's own keys stand for.
fn is_of_own_keys(purpose: &Purpose) -> bool {
    matches!(
        purpose,
        Purpose::UploadKeys(_)
            | Purpose::UploadIdentity
            | Purpose::UploadSignature(_)
            | Purpose::WriteSecret { .. }
    )
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

/// Takes in what a sync says of this device's key packages.
pub(super) fn note_counts(turn: &Turn<'_>, changes: &SyncChanges) -> Result<(), StoreError> {
    let unused = changes.unused_fallback_key_types.as_deref();
    let counts = changes.one_time_key_counts.as_ref();
    if identity::are_of_lost_store(turn.tx, turn.identity, counts, unused)? {
        note_lost_store(turn)?;
    }
    Ok(())
}

/// Takes in what the answer to an upload says of this device's key packages.
pub(super) fn note_upload(
    turn: &Turn<'_>,
    plan: &UploadPlan,
    body: &[u8],
) -> Result<(), StoreError> {
    if identity::finds_lost_store(turn.identity, plan, body) {
        note_lost_store(turn)
    } else {
        Ok(())
    }
}

/// The homeserver has key packages of another store for this device.
fn note_lost_store(turn: &Turn<'_>) -> Result<(), StoreError> {
    if identity::note_counted_keys(turn.tx, turn.now_ms)? {
        tracing::warn!("the homeserver has key packages of another store for this device");
        turn.tell(Update::NewDeviceNeeded { reason: OTHER_KEYS.to_owned() });
    }
    Ok(())
}
