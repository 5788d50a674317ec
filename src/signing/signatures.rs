//! Signatures on their way to the homeserver.
//!
//! A homeserver answers an upload with 200 also where it has taken nothing, and says so in
//! `failures`. So each request uploads one signature, and what became of it is told. Whether it
//! counts is seen when the homeserver hands it out.

use ruma::{CanonicalJsonObject, CanonicalJsonValue, DeviceId, UserId};
use serde_json::Value;

use super::{error::SigningError, trust::tell_trust_changed};
use crate::{
    devices::{self, SignedObject},
    exported::Update,
    failure::Failure,
    identity::Publishing,
    rejection::Rejection,
    requests::{self, DEVICE_SCOPE, PausedWork, Purpose, REQUESTS, UploadedSignature},
    store::{Collection, Mark, StoreError},
    turn::Turn,
};

const UPLOAD: (&str, &str) = ("POST", "/keys/signatures/upload");

/// Fails beside an Olm machine, which owns the identity.
pub(crate) fn must_be_alone(turn: &Turn<'_>) -> Result<(), SigningError> {
    match turn.identity.publishing() {
        Publishing::Alone => Ok(()),
        Publishing::BesideOlm => Err(SigningError::BesideOlm),
    }
}

/// Set once the app has asked for the own identity.
const FOLLOWED: Collection<Mark> = Collection::new("own_identity_followed");

/// Follows the own user's devices from now on, also where the user is in no room. An app that never
/// asks for the identity sends no request for it.
pub(crate) fn follow(turn: &Turn<'_>) -> Result<(), SigningError> {
    must_be_alone(turn)?;
    if !FOLLOWED.has(turn.tx, b"", b"")? {
        FOLLOWED.put(turn.tx, b"", b"", &Mark)?;
    }
    Ok(devices::track(turn.tx, [&*turn.identity.name().user_id])?)
}

/// Signs this device where it is not signed and its user's key is here. The homeserver may hide the
/// signature, so it is made again, more and more seldom.
pub(crate) fn plan(turn: &Turn<'_>) -> Result<(), SigningError> {
    if turn.identity.publishing() == Publishing::BesideOlm {
        return Ok(());
    }
    let own = turn.identity.name();
    if FOLLOWED.has(turn.tx, b"", b"")? {
        devices::track(turn.tx, [&*own.user_id])?;
    }
    if !devices::is_list_current(turn.tx, &own.user_id)?
        || devices::is_owner_signed(turn.tx, &own, turn.identity.public_key())?
        || requests::is_paused(turn.tx, PausedWork::SignDevice, turn.now_ms)?
    {
        return Ok(());
    }
    match sign_own_device(turn, &own.device_id, turn.identity.public_key()) {
        Ok(_) => Ok(requests::pause(turn.tx, PausedWork::SignDevice, turn.now_ms, 0)?),
        // There is no identity, or its key is not here.
        Err(SigningError::Keys(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Signs the device of this user that has this Ed25519 key with the self-signing key, and queues
/// the upload; the request's id.
pub(crate) fn sign_own_device(
    turn: &Turn<'_>,
    device: &DeviceId,
    ed25519: &[u8],
) -> Result<i64, SigningError> {
    must_be_alone(turn)?;
    let own = turn.identity.name().user_id;
    let signed = devices::sign_device(turn.tx, &own, device, ed25519)?;
    upload(turn, &own, Some(device), signed)
}

/// Signs another user's master key with the user-signing key, and queues the upload; the request's
/// id. Fails if the homeserver hands out another master key by now.
pub(crate) fn sign_user(
    turn: &Turn<'_>,
    user: &UserId,
    master: &[u8],
) -> Result<i64, SigningError> {
    must_be_alone(turn)?;
    let own = turn.identity.name().user_id;
    let signed = devices::sign_user(turn.tx, &own, user, master)?;
    // The own user vouches for that key now, whatever becomes of the upload.
    tell_trust_changed(turn, devices::verified(turn.tx, user, master)?)?;
    upload(turn, user, None, signed)
}

fn upload(
    turn: &Turn<'_>,
    user: &UserId,
    device: Option<&DeviceId>,
    SignedObject { name, object }: SignedObject,
) -> Result<i64, SigningError> {
    let signature = UploadedSignature {
        user_id: user.to_owned(),
        device_id: device.map(ToOwned::to_owned),
        name: name.clone(),
    };
    let nested = |name: String, value| {
        CanonicalJsonValue::Object(CanonicalJsonObject::from([(name, value)]))
    };
    let body = nested(user.to_string(), nested(name, CanonicalJsonValue::Object(object)));
    let body = serde_json::to_vec(&body).map_err(|error| Failure::defect("signature", error))?;
    // An earlier upload may be for what was published before.
    for (id, queued) in REQUESTS.in_scope(turn.tx, DEVICE_SCOPE)? {
        if matches!(&queued.purpose, Purpose::UploadSignature(other) if *other == signature) {
            if queued.body == body {
                return Ok(id);
            }
            requests::remove(turn.tx, id)?;
        }
    }
    let purpose = Purpose::UploadSignature(signature);
    Ok(requests::enqueue_json(turn.tx, DEVICE_SCOPE, turn.now_ms, purpose, UPLOAD, body)?)
}

/// Takes in the homeserver's answer to an upload.
pub(crate) fn uploaded(
    turn: &Turn<'_>,
    signature: &UploadedSignature,
    body: &[u8],
) -> Result<(), SigningError> {
    let answer: Value = serde_json::from_slice(body)
        .ok()
        .filter(Value::is_object)
        .ok_or(Rejection::MalformedAnswer("the answer to a signature is no object"))?;
    let failures = &answer["failures"][signature.user_id.as_str()];
    if let Some(failure) = failures.get(&signature.name) {
        let text = |name: &str| failure[name].as_str();
        let code = text("errcode").unwrap_or("M_UNKNOWN");
        let reason = text("error").or(text("message")).unwrap_or_default();
        refused(turn, signature, code, reason);
        return Ok(());
    }
    turn.tell(Update::SignatureUploaded {
        user_id: signature.user_id.to_string(),
        device_id: signature.device_id.as_ref().map(ToString::to_string),
    });
    Ok(look_again(turn, &signature.user_id)?)
}

/// The homeserver has refused an upload.
pub(crate) fn refused(turn: &Turn<'_>, signature: &UploadedSignature, code: &str, reason: &str) {
    turn.tell(Update::SignatureRefused {
        user_id: signature.user_id.to_string(),
        device_id: signature.device_id.as_ref().map(ToString::to_string),
        code: code.to_owned(),
        reason: reason.to_owned(),
    });
}

/// Has a user's keys asked for again.
pub(super) fn look_again(turn: &Turn<'_>, user: &UserId) -> Result<(), StoreError> {
    devices::mark_outdated(turn.tx, [user])
}
