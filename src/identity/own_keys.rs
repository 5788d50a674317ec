//! Whose keys the homeserver has under this device's id.
//!
//! A device whose store was lost, and that logged in again under the same id, has new keys. Nobody
//! takes them: others remember the first ones. So before anything is uploaded the homeserver is
//! asked which keys it has for this device. Where those are others, nothing is uploaded and nothing
//! sent: the app has to log in as a new device. Keys of this store are its own, also when an
//! upload's answer was lost. Beside Olm the device keys are the Olm machine's, and say something
//! only where an earlier version has put a credential into them. Key packages that this store never
//! made say it there.
//!
//! The homeserver is believed. If it lies it stops this device, which it can do in other ways.

use std::collections::BTreeMap;

use ruma::api::client::keys::get_keys;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    device::{Identity, IdentityError, Publishing},
    upload,
};
use crate::{
    protocol::{decode_base64, identifiers},
    store::{Collection, StoreError, Tx},
};

/// How long the homeserver is not asked again after it has named other keys, in milliseconds.
const ASK_AGAIN_MS: u64 = 60 * 60 * 1000;

/// Whose keys the homeserver has under this device's id.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum OwnKeys {
    /// It was not asked yet.
    #[default]
    Unknown,
    /// This store's, or none.
    Ours,
    /// Others.
    Others,
}

/// What is known, and when that changes.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Known {
    keys: OwnKeys,
    /// When other keys were named last, in milliseconds since 1970.
    asked_ms: u64,
    /// Key packages were counted that are another store's. No answer about device keys takes that
    /// back.
    #[serde(default)]
    counted: bool,
}

const KNOWN: Collection<Known> = Collection::new("own_device_keys");

fn load(tx: &Tx<'_>) -> Result<Known, StoreError> {
    if let Some(known) = KNOWN.get(tx, b"", b"")? {
        return Ok(known);
    }
    // A store of an earlier version that has published its keys has asked nobody.
    let keys = if upload::has_published_keys(tx)? { OwnKeys::Ours } else { OwnKeys::Unknown };
    Ok(Known { keys, asked_ms: 0, counted: false })
}

/// Whose keys the homeserver has, as far as is known.
pub(crate) fn own_keys(tx: &Tx<'_>) -> Result<OwnKeys, StoreError> {
    Ok(load(tx)?.keys)
}

/// Whether the homeserver has to be asked.
pub(crate) fn must_ask_for_own_keys(tx: &Tx<'_>, now_ms: u64) -> Result<bool, StoreError> {
    let Known { keys, asked_ms, .. } = load(tx)?;
    Ok(match keys {
        OwnKeys::Unknown => true,
        OwnKeys::Ours => false,
        // A time in the future comes from a clock that has been set back since.
        OwnKeys::Others => asked_ms > now_ms || now_ms - asked_ms >= ASK_AGAIN_MS,
    })
}

/// The question.
pub(crate) fn own_keys_request(identity: &Identity) -> get_keys::v3::Request {
    let mut request = get_keys::v3::Request::new();
    let name = identity.name();
    request.device_keys = BTreeMap::from([(name.user_id, vec![name.device_id])]);
    request
}

/// The app starts again: where other keys were named, the homeserver is asked anew, so that the app
/// is told anew.
pub(crate) fn forget_other_keys(tx: &Tx<'_>) -> Result<(), StoreError> {
    let known = load(tx)?;
    if known.keys == OwnKeys::Others {
        KNOWN.put(tx, b"", b"", &Known { counted: known.counted, ..Known::default() })?;
    }
    Ok(())
}

/// Takes in an answer of `/keys/query`. `asked`: it was asked for this device, so that its silence
/// says that there are no keys. Tells whether the homeserver turns out to have other keys.
pub(crate) fn note_own_keys(
    tx: &Tx<'_>,
    identity: &Identity,
    body: &[u8],
    asked: bool,
    now_ms: u64,
) -> Result<bool, IdentityError> {
    let answer: Value = serde_json::from_slice(body).map_err(|_| IdentityError::MalformedAnswer)?;
    let answer = answer.as_object().ok_or(IdentityError::MalformedAnswer)?;
    let device_keys = answer
        .get("device_keys")
        .and_then(|users| users.get(identity.name.user_id.as_str()))
        .and_then(|devices| devices.get(identity.name.device_id.as_str()));
    let Known { keys: before, counted, .. } = load(tx)?;
    let keys = match device_keys.map(|keys| whose(identity, keys)) {
        _ if asked && counted => OwnKeys::Others,
        Some(Some(keys)) => keys,
        // Olm's keys alone, or none.
        Some(None) | None if asked => OwnKeys::Ours,
        Some(None) | None => return Ok(false),
    };
    if keys != before || keys == OwnKeys::Others {
        KNOWN.put(tx, b"", b"", &Known { keys, asked_ms: now_ms, counted })?;
    }
    Ok(keys == OwnKeys::Others && before != OwnKeys::Others)
}

/// The homeserver has counted key packages of this device that are another store's. Tells whether
/// that is news.
pub(crate) fn note_counted_keys(tx: &Tx<'_>, now_ms: u64) -> Result<bool, StoreError> {
    if own_keys(tx)? == OwnKeys::Others {
        return Ok(false);
    }
    let known = Known { keys: OwnKeys::Others, asked_ms: now_ms, counted: true };
    KNOWN.put(tx, b"", b"", &known)?;
    Ok(true)
}

/// Whose these device keys are; nothing where they say nothing of this library's.
fn whose(identity: &Identity, device_keys: &Value) -> Option<OwnKeys> {
    let device_id = identity.name.device_id.as_str();
    let is_ours = |id: &str| -> Option<bool> {
        let key = device_keys.get("keys")?.get(id)?;
        Some(key.as_str().and_then(decode_base64).as_deref() == Some(identity.public_key()))
    };
    let mut found: Vec<bool> =
        identifiers::credential_key_ids(device_id).iter().filter_map(|id| is_ours(id)).collect();
    if identity.publishing == Publishing::Alone {
        // Without Olm the credential's key is the device's key.
        found.extend(is_ours(&format!("ed25519:{device_id}")));
    }
    let all_ours = found.iter().all(|ours| *ours);
    (!found.is_empty()).then_some(if all_ours { OwnKeys::Ours } else { OwnKeys::Others })
}
