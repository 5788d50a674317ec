//! The Ed25519 keys of one user's devices, as an answer of the homeserver has them.
//!
//! People compare Ed25519 keys, whether or not a device speaks MLS. So whoever verifies somebody
//! asks for these by itself, whether or not the user's devices are tracked. Nothing is kept of them
//! here. What the answer says of the user's identity is taken in as any answer's.

use std::collections::{BTreeMap, BTreeSet};

use ruma::{
    CanonicalJsonObject, CanonicalJsonValue, OwnedDeviceId, UserId, api::client::keys::get_keys,
};
use serde_bytes::ByteBuf;

use super::{
    cross_signing::is_signed_under,
    pins::{self, Pin},
    policy::{Rule, rule},
    query::{Answer, KeyQuery},
    record::{DevicesError, LONGEST_DEVICE_ID, note_owner},
    tracking,
    user_identity::{self, TakenIn},
    verification::{self, Own},
};
use crate::{
    protocol::{DeviceName, decode_base64, identifiers},
    store::{StoreError, Tx},
};

/// What an answer says of a user.
pub(crate) struct PublishedUser {
    /// The devices whose keys hold together, each with its Ed25519 key.
    pub(crate) devices: BTreeMap<OwnedDeviceId, ByteBuf>,
    /// Whether the app is to be told that the user's master key is another than the pinned one.
    pub(crate) identity_is_news: bool,
    /// Whether the identity stands otherwise than before.
    pub(crate) trust_changed: bool,
}

/// A query for what these users publish.
pub(crate) fn published_request<'a>(
    tx: &Tx<'_>,
    users: impl IntoIterator<Item = &'a UserId>,
) -> Result<(KeyQuery, get_keys::v3::Request), StoreError> {
    let users: BTreeSet<&UserId> = users.into_iter().collect();
    let query = KeyQuery::about(tx, users.iter().copied())?;
    let mut request = get_keys::v3::Request::new();
    request.device_keys = users.into_iter().map(|user| (user.to_owned(), Vec::new())).collect();
    Ok((query, request))
}

/// Takes in what an answer says of a user; nothing where it says nothing usable. Of the user's
/// identity a later answer may have said more before.
pub(crate) fn take_in_published(
    tx: &Tx<'_>,
    query: &KeyQuery,
    user: &UserId,
    body: &[u8],
    now_ms: u64,
) -> Result<Option<PublishedUser>, DevicesError> {
    let answer = Answer::parse(body).map_err(|_| DevicesError::MalformedAnswer)?;
    let Some(published) = answer.devices_of(user) else { return Ok(None) };
    let identity = answer.identity_of(user);
    let rule = rule(tx)?;
    let own_user = rule.as_ref().map(Rule::own_user);
    let taken = match query.is_overtaken(tx, user)? {
        true => None,
        false => user_identity::take_in(tx, user, &identity, own_user, now_ms)?,
    };
    let (mut identity_is_news, mut trust_changed) = (false, false);
    if let Some(TakenIn { before, now, is_news }) = taken {
        identity_is_news = is_news;
        let now = verification::put(tx, Own::load(tx)?.as_ref(), before.as_ref(), now)?;
        trust_changed =
            before.as_ref().map(|before| before.standing).unwrap_or_default() != now.standing;
        if before.as_ref() != Some(&now) {
            // Their devices are judged by it.
            let is_another = before.is_some_and(|before| before.master != now.master);
            note_owner(tx, user, now.standing, is_another)?;
            tracking::mark_outdated(tx, [user])?;
        }
    }
    let mut devices = BTreeMap::new();
    for (device, keys) in &published {
        if device.is_empty() || device.len() > LONGEST_DEVICE_ID {
            continue;
        }
        let device = OwnedDeviceId::from(device.as_str());
        let Ok(CanonicalJsonValue::Object(keys)) = serde_json::from_str(keys.get()) else {
            continue;
        };
        let name = DeviceName::new(user.to_owned(), device.clone());
        let Some(key) = ed25519_key(&name, &keys) else { continue };
        // A device that speaks MLS is the one that it was at first, or nobody.
        let pinned = pins::get(tx, &name)?;
        let has_other = |pin: Pin| credential_of(&name, &keys).is_some_and(|key| *pin.key != *key);
        if !pinned.is_some_and(has_other) {
            devices.insert(device, ByteBuf::from(key));
        }
    }
    Ok(Some(PublishedUser { devices, identity_is_news, trust_changed }))
}

/// The Ed25519 key of a device, if its object names it and the key has signed the object.
fn ed25519_key(name: &DeviceName, object: &CanonicalJsonObject) -> Option<Vec<u8>> {
    let named = |field: &str| object.get(field).and_then(CanonicalJsonValue::as_str);
    if named("user_id") != Some(name.user_id.as_str())
        || named("device_id") != Some(name.device_id.as_str())
    {
        return None;
    }
    let id = format!("ed25519:{}", name.device_id);
    let key = decode_base64(object.get("keys")?.as_object()?.get(&id)?.as_str()?)?;
    is_signed_under(object, &name.user_id, &id, &key).then_some(key)
}

fn credential_of(name: &DeviceName, object: &CanonicalJsonObject) -> Option<Vec<u8>> {
    let keys = object.get("keys")?.as_object()?;
    let ids = identifiers::credential_key_ids(name.device_id.as_str());
    ids.iter().find_map(|id| decode_base64(keys.get(id)?.as_str()?))
}
