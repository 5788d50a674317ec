//! Bindings: which MLS key a device's Ed25519 key has bound to the device, where the device does
//! not publish that.
//!
//! They come from leaves whose own signatures were verified: of key packages, of commits, of trees.
//! So whoever made the leaf holds the MLS key, and a valid binding says that the device's Ed25519
//! key means this MLS key. The first valid one pins the key (`pins`), like the first published one
//! does. A later one with another key changes nothing here: its leaf is an impostor's.
//!
//! A leaf may come before its device's list does. So what cannot be verified yet is kept, a few for
//! each device, and looked at when the list comes. What is dropped for want of room is learnt from
//! a key package later (`silent`).

use std::collections::{BTreeMap, BTreeSet};

use ruma::{OwnedUserId, UserId};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use super::{
    pins,
    policy::{Rule, rule},
    record::{self, DEVICES, update_eligible},
    user_identity::user_identity,
    verify::{DeviceFault, RejectedDevice},
};
use crate::{
    protocol::{DeviceName, binding},
    store::{Collection, StoreError, Tx},
};

/// How many are kept of one device until its list comes.
const MOST_OF_DEVICE: usize = 4;
/// How many devices of one user that are not listed have some kept.
const MOST_UNLISTED: u64 = 1_000;

/// A binding, as it stands in a leaf whose own signature was verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LeafBinding {
    pub(crate) device: DeviceName,
    /// The leaf's signature key.
    pub(crate) key: Vec<u8>,
    pub(crate) signature: Vec<u8>,
}

impl LeafBinding {
    /// Whether this Ed25519 key of the device has made it.
    pub(crate) fn is_valid(&self, device_key: &[u8]) -> bool {
        binding::is_valid(&self.device, &self.key, &self.signature, device_key)
    }
}

/// A key and its binding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Bound {
    key: ByteBuf,
    signature: ByteBuf,
}

/// Bindings that were seen of each device, newest last. One that was valid stands alone.
const BINDINGS: Collection<Vec<Bound>> = Collection::new("leaf_binding");

/// What came of bindings.
#[derive(Debug, Default)]
pub(crate) struct Noted {
    /// The users of whom a device may take part now.
    pub(crate) users: BTreeSet<OwnedUserId>,
    /// The devices whose credential is known now and which may not take part all the same.
    pub(crate) rejected: Vec<RejectedDevice>,
}

/// What the bindings of a device say.
pub(super) enum BoundKey {
    /// There is none.
    None,
    /// The device's Ed25519 key has bound this key.
    Key(Vec<u8>),
    /// It is not the Ed25519 key that bound the device's first key.
    OtherDeviceKey,
}

/// What the bindings of a listed device say, by its Ed25519 key. The one of the pinned key comes
/// first.
pub(super) fn bound_key(
    tx: &Tx<'_>,
    name: &DeviceName,
    device_key: &[u8],
    pinned: Option<&[u8]>,
) -> Result<BoundKey, StoreError> {
    let Some(mut seen) = get(tx, name)? else { return Ok(BoundKey::None) };
    seen.sort_by_key(|bound| Some(&**bound.key) != pinned);
    let is_valid =
        |bound: &&Bound| binding::is_valid(name, &bound.key, &bound.signature, device_key);
    if let Some(valid) = seen.iter().find(is_valid).cloned() {
        if seen.len() > 1 {
            put(tx, name, vec![valid.clone()])?;
        }
        return Ok(BoundKey::Key(valid.key.into_vec()));
    }
    // Other bindings than the one that made the pin are anybody's.
    Ok(match seen.first() {
        Some(first) if Some(&**first.key) == pinned => BoundKey::OtherDeviceKey,
        _ => BoundKey::None,
    })
}

/// Takes in the bindings of verified leaves.
pub(crate) fn note_bindings(
    tx: &Tx<'_>,
    leaves: impl IntoIterator<Item = LeafBinding>,
) -> Result<Noted, StoreError> {
    let mut noted = Noted::default();
    let mut by_user: BTreeMap<OwnedUserId, Vec<LeafBinding>> = BTreeMap::new();
    for leaf in leaves {
        by_user.entry(leaf.device.user_id.clone()).or_default().push(leaf);
    }
    for (user, leaves) in by_user {
        let mut changed = false;
        for leaf in leaves {
            changed |= note(tx, &leaf, &mut noted)?;
        }
        if changed {
            update_eligible(tx, &user)?;
            noted.users.insert(user);
        }
    }
    Ok(noted)
}

/// Takes in one; tells whether the device's row has changed.
fn note(tx: &Tx<'_>, leaf: &LeafBinding, noted: &mut Noted) -> Result<bool, StoreError> {
    let LeafBinding { device, key, signature } = leaf;
    let record = record::find(tx, &device.user_id, &device.device_id)?;
    let Some((mut record, device_key)) =
        record.and_then(|record| record.binding_key.clone().map(|key| (record, key)))
    else {
        keep(tx, leaf)?;
        return Ok(false);
    };
    let is_known = record.rejection != Some(DeviceFault::NoCredential)
        && record.credential_key.as_ref() == Some(key);
    if is_known || !leaf.is_valid(&device_key) {
        return Ok(false);
    }
    let has_identity = user_identity(tx, &device.user_id)?.is_some();
    match pins::get(tx, device)? {
        Some(pinned) if *pinned.key != **key => return Ok(false),
        Some(_) => {}
        None => {
            let mut count = pins::Count::of(tx, &device.user_id)?;
            if !count.pin(tx, device, key, record.owner_signed)? {
                return Ok(false);
            }
        }
    }
    let bound = Bound { key: key.clone().into(), signature: signature.clone().into() };
    put(tx, device, vec![bound])?;
    let rule = rule(tx)?;
    record.credential_key = Some(key.clone());
    record.rejection = Rule::fault(rule.as_ref(), device, has_identity, record.owner_signed);
    if let Some(reason) = record.rejection {
        noted.rejected.push(RejectedDevice { name: device.clone(), reason });
    }
    DEVICES.put(tx, device.user_id.as_bytes(), device.device_id.as_bytes(), &record)?;
    Ok(true)
}

/// Keeps a binding that cannot be verified yet.
fn keep(tx: &Tx<'_>, leaf: &LeafBinding) -> Result<(), StoreError> {
    let bound = Bound { key: leaf.key.clone().into(), signature: leaf.signature.clone().into() };
    let mut seen = match get(tx, &leaf.device)? {
        Some(seen) => seen,
        None if is_full(tx, &leaf.device.user_id)? => return Ok(()),
        None => Vec::new(),
    };
    if seen.contains(&bound) {
        return Ok(());
    }
    if seen.len() >= MOST_OF_DEVICE {
        // What the pin comes from stays.
        let pinned = pins::get(tx, &leaf.device)?;
        let oldest =
            seen.iter().position(|bound| pinned.as_ref().map(|pin| &pin.key) != Some(&bound.key));
        seen.remove(oldest.unwrap_or(0));
    }
    seen.push(bound);
    put(tx, &leaf.device, seen)
}

fn is_full(tx: &Tx<'_>, user: &UserId) -> Result<bool, StoreError> {
    Ok(BINDINGS.count(tx, user.as_bytes())? >= MOST_UNLISTED)
}

fn get(tx: &Tx<'_>, name: &DeviceName) -> Result<Option<Vec<Bound>>, StoreError> {
    BINDINGS.get(tx, name.user_id.as_bytes(), name.device_id.as_bytes())
}

fn put(tx: &Tx<'_>, name: &DeviceName, seen: Vec<Bound>) -> Result<(), StoreError> {
    BINDINGS.put(tx, name.user_id.as_bytes(), name.device_id.as_bytes(), &seen)
}
