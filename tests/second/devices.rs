//! Whose MLS key is whose, and who may be in a group (docs/spec/2-devices.md).

use std::collections::BTreeMap;

use ed25519_dalek::{Signature, VerifyingKey};
use matrix_mls_kit::Result;
use mls_rs::identity::SigningIdentity;
use ruma::CanonicalJsonObject;
use serde_json::{Value, json};

use crate::{
    head::{Device, Maker},
    mls::device_in,
    names,
    wire::{Reader, base64, from_base64},
};

/// A device of a list, whose own signature has been checked.
#[derive(Clone, Debug)]
struct Listed {
    /// The credential's key, if it is published.
    published: Option<Vec<u8>>,
    /// The key `ed25519:DEVICE`.
    ed25519: Vec<u8>,
    /// Whether the policy of D7 lets it in.
    trusted: bool,
}

/// All that the homeserver has told of devices.
#[derive(Default)]
pub struct Devices {
    lists: BTreeMap<String, BTreeMap<String, Listed>>,
    /// The first MLS key and the first `ed25519` key of each device (D4).
    first: BTreeMap<Device, (Option<Vec<u8>>, Vec<u8>)>,
    /// Users of whom a master key was seen.
    with_identity: BTreeMap<String, ()>,
}

/// What of JSON is signed.
fn signed(value: &Value) -> Result<String> {
    let mut object: CanonicalJsonObject = serde_json::from_value(value.clone())?;
    object.remove("signatures");
    object.remove("unsigned");
    Ok(serde_json::to_string(&object)?)
}

fn key(text: Option<&str>) -> Option<Vec<u8>> {
    from_base64(text?).ok().filter(|key| key.len() == 32)
}

fn verifies(key: &[u8], text: &[u8], signature: &[u8]) -> bool {
    let key = key.try_into().ok().and_then(|key| VerifyingKey::from_bytes(key).ok());
    let signature = Signature::from_slice(signature).ok();
    key.zip(signature).is_some_and(|(key, signature)| key.verify_strict(text, &signature).is_ok())
}

/// Whether a user's key has signed JSON.
fn has_signed(value: &Value, user: &str, key_id: &str, key: &[u8]) -> bool {
    let signature = value["signatures"][user][key_id].as_str();
    let signature = signature.and_then(|text| from_base64(text).ok());
    let text = signed(value).ok();
    signature.zip(text).is_some_and(|(signature, text)| verifies(key, text.as_bytes(), &signature))
}

/// The only key of a cross-signing object, with its id.
fn only_key(object: &Value) -> Option<(String, Vec<u8>)> {
    let (id, text) = object["keys"].as_object()?.iter().next()?;
    Some((id.clone(), key(text.as_str())?))
}

/// The device's keys without what this protocol has added (D9).
fn without_mls(keys: &Value, device: &str) -> Value {
    let mut keys = keys.clone();
    if let Some(all) = keys["keys"].as_object_mut() {
        for name in [names::CREDENTIAL.to_owned(), names::stable(names::CREDENTIAL)] {
            all.remove(&format!("{name}:{device}"));
        }
    }
    if let Some(algorithms) = keys["algorithms"].as_array_mut() {
        algorithms.retain(|name| name.as_str().is_none_or(|name| !names::is(name, names::ROOM)));
    }
    keys
}

impl Devices {
    /// Takes in the answer to `/keys/query` about these users.
    pub fn take(&mut self, users: &[String], answer: &Value) {
        for user in users {
            let listed = answer["device_keys"][user].as_object();
            let owner = self.self_signing_key(user, answer);
            let mut list = BTreeMap::new();
            for (device, keys) in listed.into_iter().flatten() {
                if let Some(found) = self.device(user, device, keys, owner.as_ref()) {
                    list.insert(device.clone(), found);
                }
            }
            self.lists.insert(user.clone(), list);
        }
    }

    /// The user's self-signing key; the inner is none where it signs nothing.
    fn self_signing_key(&mut self, user: &str, answer: &Value) -> Option<(String, Vec<u8>)> {
        let (master_id, master) = only_key(&answer["master_keys"][user])?;
        self.with_identity.insert(user.to_owned(), ());
        let object = &answer["self_signing_keys"][user];
        let own = only_key(object)?;
        has_signed(object, user, &master_id, &master).then_some(own)
    }

    fn device(
        &mut self,
        user: &str,
        device: &str,
        keys: &Value,
        owner: Option<&(String, Vec<u8>)>,
    ) -> Option<Listed> {
        if keys["user_id"] != user || keys["device_id"] != device {
            return None;
        }
        let name = format!("ed25519:{device}");
        let ed25519 = key(keys["keys"][&name].as_str())?;
        if !has_signed(keys, user, &name, &ed25519) {
            return None;
        }
        let named = [names::CREDENTIAL.to_owned(), names::stable(names::CREDENTIAL)];
        let named = named.map(|prefix| format!("{prefix}:{device}"));
        let mut published: Option<Vec<u8>> = None;
        // What is under either name has to be one key that has signed (D22).
        for name in named.iter().filter(|name| keys["keys"].get(name.as_str()).is_some()) {
            let key = key(keys["keys"][name].as_str())?;
            if published.as_ref().is_some_and(|other| *other != key) {
                return None;
            }
            if published.is_none() && !has_signed(keys, user, name, &key) {
                return None;
            }
            published = Some(key);
        }
        let first = self.first.entry((user.to_owned(), device.to_owned()));
        let first = first.or_insert_with(|| (published.clone(), ed25519.clone()));
        match (&first.0, &published) {
            (Some(known), Some(published)) if known != published => return None,
            // What has bound the key has to be there still (D4).
            (Some(_), None) if first.1 != ed25519 => return None,
            (None, None) => first.1.clone_from(&ed25519),
            _ => {}
        }
        first.0 = first.0.take().or_else(|| published.clone());
        let by_owner = |(id, key): &(String, Vec<u8>)| {
            let older = without_mls(keys, device);
            has_signed(keys, user, id, key) || has_signed(&older, user, id, key)
        };
        let trusted = match owner {
            Some(owner) => by_owner(owner),
            None => !self.with_identity.contains_key(user),
        };
        Some(Listed { published, ed25519, trusted })
    }

    fn listed(&self, device: &Device) -> Option<&Listed> {
        self.lists.get(&device.0)?.get(&device.1)
    }

    /// Whether a user's list is known and does not have the device.
    pub fn is_gone(&self, device: &Device) -> bool {
        self.lists.get(&device.0).is_some_and(|list| !list.contains_key(&device.1))
    }

    /// Whether a user's list is known and the device may not be in a group by it (D7).
    pub fn is_out(&self, device: &Device) -> bool {
        self.lists
            .get(&device.0)
            .is_some_and(|list| list.get(&device.1).is_none_or(|listed| !listed.trusted))
    }

    /// The devices of a user that may be in a group of theirs (D7).
    pub fn trusted_of(&self, user: &str) -> Vec<Device> {
        let list = self.lists.get(user).into_iter().flatten();
        let trusted = list.filter(|(_, listed)| listed.trusted);
        trusted.map(|(device, _)| (user.to_owned(), device.clone())).collect()
    }

    /// Whether this is the MLS key of the device: published, bound, or its first.
    pub fn is_key_of(&self, device: &Device, key: &[u8], binding: Option<&[u8]>) -> bool {
        let first = self.first.get(device).and_then(|(key, _)| key.as_deref());
        let listed = self.listed(device);
        if let Some(first) = first {
            return first == key;
        }
        let Some(listed) = listed else { return false };
        listed.published.as_deref() == Some(key)
            || binding.is_some_and(|binding| is_bound(device, key, &listed.ed25519, binding))
    }

    /// Whether the device is known under another MLS key (D5).
    pub fn conflicts(&self, device: &Device, key: &[u8]) -> bool {
        let first = self.first.get(device).and_then(|(key, _)| key.as_deref());
        first.is_some_and(|first| first != key)
    }

    /// Whose leaf has this name and this key.
    pub fn maker(&self, identity: &SigningIdentity) -> Result<Maker> {
        let device = device_in(identity)?;
        let is_impostor = self.conflicts(&device, &identity.signature_key);
        Ok(Maker { device, is_impostor })
    }

    /// Remembers the key that a verified leaf has bound.
    pub fn remember(&mut self, device: &Device, key: &[u8]) {
        if let Some(first) = self.first.get_mut(device) {
            first.0.get_or_insert_with(|| key.to_vec());
        }
    }
}

/// A DeviceBinding. `binding` is the extension's content.
fn is_bound(device: &Device, key: &[u8], ed25519: &[u8], binding: &[u8]) -> bool {
    let text = json!({
        "device_id": device.1, "mls_key": base64(key),
        "type": "org.matrix.msc2883.v1.dmls.binding", "user_id": device.0,
    });
    let mut reader = Reader(binding);
    let signature = reader.take(64);
    let is_whole = reader.end().is_ok();
    let Ok((signature, text)) = signature.and_then(|signature| Ok((signature, signed(&text)?)))
    else {
        return false;
    };
    is_whole && verifies(ed25519, text.as_bytes(), signature)
}
