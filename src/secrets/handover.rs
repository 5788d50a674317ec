//! Handing this user's secrets from one of their devices to another that was verified.
//!
//! Olm has `m.secret.send` for that. Without Olm the verification itself gives the keys
//! (`verification::handover`): each is for one direction between these two devices, and seals one
//! event. What comes is taken only if the identity that the keys belong to is the one that the
//! verification has confirmed, and published now.

use std::collections::BTreeMap;

use ruma::{
    OwnedDeviceId, UserId, api::client::to_device::send_event_to_device, events::ToDeviceEventType,
    serde::Raw, to_device::DeviceIdOrAllDevices,
};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use super::{
    error::SecretsError,
    format::{SECRETS, Secret},
    recover::{Opened, use_keys},
    write::secrets,
};
use crate::{
    devices,
    exported::Update,
    failure::Failure,
    identity::Publishing,
    protocol::{
        DeviceName, decode_base64, encode_base64, identifiers::SECRETS_ALGORITHM, write_content,
    },
    rejection::Rejection,
    requests::{self, Purpose, REQUESTS},
    sessions::{BackupKey, SessionData, seal},
    store::Collection,
    turn::Turn,
    verification::{self, VerificationError, handover},
};

/// The scope of these requests.
const SCOPE: &[u8] = b"handover";
/// The longest transaction's id, and the longest sealed secrets, in characters.
const LONGEST_ID: usize = 255;
const LONGEST_SEALED: usize = 8_192;

/// The content of the event.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct HandoverContent {
    pub(super) algorithm: String,
    sender: DeviceName,
    transaction_id: String,
    pub(super) sealed: SessionData,
}

/// What is sealed: the secrets by their names, in base64.
#[derive(Serialize, Deserialize)]
pub(super) struct Contents {
    secrets: BTreeMap<String, String>,
}

impl Drop for Contents {
    fn drop(&mut self) {
        self.secrets.values_mut().for_each(Zeroize::zeroize);
    }
}

/// Those that have come before the verification was done here, by its transaction.
const EARLY: Collection<HandoverContent> = Collection::new("early_handover");

/// Seals this device's secrets for the device of a verification that is done, and queues them. A
/// second call changes nothing.
pub(crate) fn offer(turn: &Turn<'_>, id: &str) -> Result<(), SecretsError> {
    if turn.identity.publishing() == Publishing::BesideOlm {
        return Err(VerificationError::BesideOlm.into());
    }
    let Some(handover) = handover::find(turn, id)? else {
        verification::find(turn.tx, id)?.ok_or(VerificationError::Unknown)?;
        let why = "done, of another device of this user's, and less than ten minutes old";
        return Err(VerificationError::NotNow(why).into());
    };
    let Some(key) = handover.sending() else { return Ok(()) };
    let own = turn.identity.name();
    // What was verified must be what the homeserver lists, still.
    let listed =
        devices::signed_object(turn.tx, &own.user_id, &handover.device_id, &handover.ed25519)?;
    if listed.is_none() {
        return Err(VerificationError::NotNow("of a device that the homeserver lists").into());
    }
    let values = secrets(turn)?.into_iter();
    let contents = Contents {
        secrets: values
            .map(|(secret, bytes)| (secret.name().to_owned(), encode_base64(&bytes)))
            .collect(),
    };
    let plaintext = Zeroizing::new(
        serde_json::to_vec(&contents).map_err(|error| Failure::defect("handover", error))?,
    );
    let sealed = seal::seal(turn.crypto, &key_of(key)?, SECRETS_ALGORITHM, &plaintext)?;
    let content = HandoverContent {
        algorithm: SECRETS_ALGORITHM.to_owned(),
        sender: own.clone(),
        transaction_id: handover.transaction.clone(),
        sealed,
    };
    let content = write_content(&content, "the secrets")
        .map_err(|error| Failure::defect("handover", error))?;
    let device = DeviceIdOrAllDevices::DeviceId(handover.device_id.clone());
    let request = send_event_to_device::v3::Request::new_raw(
        ToDeviceEventType::from("m.room.encrypted"),
        requests::transaction_id(),
        [(own.user_id, [(device, Raw::from_json(content))].into())].into(),
    );
    let purpose = Purpose::HandOver { verification: id.to_owned() };
    requests::enqueue(turn.tx, SCOPE, turn.now_ms, purpose, request)?;
    handover::sealed(turn.tx, handover)?;
    Ok(())
}

/// Ends it: nothing is sent that has not left yet, and nothing is taken any more.
pub(crate) fn withdraw(turn: &Turn<'_>, id: &str) -> Result<bool, SecretsError> {
    let mut had = handover::forget(turn.tx, id)?;
    for (request, queued) in REQUESTS.in_scope(turn.tx, SCOPE)? {
        if matches!(&queued.purpose, Purpose::HandOver { verification } if verification == id) {
            had |= requests::remove(turn.tx, request)?;
        }
    }
    Ok(had)
}

/// Takes in secrets from another device of this user. Gives the other device where they were taken;
/// nothing where they have to wait for the end of the verification.
pub(crate) fn receive(
    turn: &Turn<'_>,
    sender: &UserId,
    content: HandoverContent,
) -> Result<Option<OwnedDeviceId>, SecretsError> {
    let own = turn.identity.name();
    let is_short =
        content.transaction_id.len() <= LONGEST_ID && content.sealed.length() <= LONGEST_SEALED;
    if turn.identity.publishing() == Publishing::BesideOlm
        || *sender != own.user_id
        || content.sender.user_id != own.user_id
        || !is_short
    {
        return Err(Rejection::UnaskedSecrets.into());
    }
    let (transaction, device) = (&content.transaction_id, &content.sender.device_id);
    let Some(handover) = handover::of_transaction(turn, transaction, device)? else {
        if handover::may_come(turn, &own.user_id, transaction, device)? {
            EARLY.put(turn.tx, b"", transaction.as_bytes(), &content)?;
            return Ok(None);
        }
        return Err(Rejection::UnaskedSecrets.into());
    };
    // Whoever has withdrawn that this is their identity takes no keys of it.
    let identity = devices::user_identity(turn.tx, &own.user_id)?;
    let is_known = match identity.filter(|identity| !identity.has_changed()) {
        Some(identity) => devices::is_own_identity_confirmed(turn.tx, &identity.master)?,
        None => false,
    };
    if !is_known {
        return Err(Rejection::UnaskedSecrets.into());
    }
    let key = key_of(handover.receiving())?;
    let opened = seal::open(turn.crypto, &key, SECRETS_ALGORITHM, &content.sealed)
        .map_err(|_| Rejection::UnaskedSecrets)?;
    let contents: Contents =
        serde_json::from_slice(&opened).map_err(|_| Rejection::UnaskedSecrets)?;
    handover::forget(turn.tx, &handover.verification)?;
    take(turn, &handover.verification, device, &contents)?;
    Ok(Some(device.clone()))
}

fn take(
    turn: &Turn<'_>,
    verification: &str,
    device: &OwnedDeviceId,
    contents: &Contents,
) -> Result<(), SecretsError> {
    let mut opened = Opened::default();
    for secret in SECRETS {
        let Some(value) = contents.secrets.get(secret.name()) else {
            if !matches!(secret, Secret::OwnBackup | Secret::MegolmBackup) {
                opened.miss(secret);
            }
            continue;
        };
        let bytes = decode_base64(value).map(Zeroizing::new);
        opened.add(secret, bytes.as_ref().map_or(&[], |bytes| bytes));
    }
    let (recovered, failures) = use_keys(turn, opened, false)?;
    turn.tell(Update::SecretsReceived {
        verification_id: verification.to_owned(),
        device_id: device.to_string(),
        recovered,
        failures,
    });
    Ok(())
}

/// Tries what has come before its verification was done.
pub(crate) fn take_early(turn: &Turn<'_>) -> Result<(), SecretsError> {
    let own = turn.identity.name().user_id;
    for content in EARLY.list(turn.tx, b"")? {
        EARLY.delete(turn.tx, b"", content.transaction_id.as_bytes())?;
        match turn.atomically(|| receive(turn, &own, content)) {
            Err(SecretsError::Rejected(rejection)) => {
                tracing::info!(%rejection, "secrets of another device are not taken");
            }
            taken => drop(taken?),
        }
    }
    Ok(())
}

fn key_of(bytes: &[u8]) -> Result<BackupKey, Failure> {
    BackupKey::from_bytes(bytes).map_err(|error| Failure::defect("handover", error))
}
