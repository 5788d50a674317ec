//! What the two sides vouch for once their users have confirmed: MACs of the device's Ed25519 key
//! and of the user's master key.
//!
//! A device vouches for its own user's master key only if it does not have that from the homeserver
//! alone: it has the private key, another device of its user has vouched for it, or the app has.
//! What the other side vouches for counts if it is what the homeserver hands out. So a homeserver
//! that shows the two sides other keys is found out here.

use std::collections::{BTreeMap, BTreeSet};

use ruma::UserId;
use serde_bytes::ByteBuf;

use super::{
    content::{Kind, MacContent},
    flow::{Flow, Stage, code},
    handover,
    steps::Side,
};
use crate::{
    devices::{self, UserIdentity},
    failure::Failure,
    protocol::{DeviceName, encode_base64},
    signing,
    store::{StoreError, Tx},
    turn::Turn,
};

/// This user's master key, if this device may vouch for it.
fn own_master(tx: &Tx<'_>, own: &UserId) -> Result<Option<ByteBuf>, StoreError> {
    let Some(identity) = devices::user_identity(tx, own)? else { return Ok(None) };
    if identity.has_changed() {
        return Ok(None);
    }
    let has_private = devices::private_keys(tx)?.of_identity(&identity).master.is_some();
    let is_known = devices::is_own_identity_confirmed(tx, &identity.master)?;
    Ok((has_private || is_known).then_some(identity.master))
}

/// The beginning of what each MAC is bound to.
fn info(from: &DeviceName, to: &DeviceName, flow: &Flow) -> String {
    format!(
        "MATRIX_KEY_VERIFICATION_MAC{}{}{}{}{}",
        from.user_id,
        from.device_id,
        to.user_id,
        to.device_id,
        flow.transaction()
    )
}

fn names(flow: &Flow, own: &DeviceName) -> Option<(DeviceName, DeviceName)> {
    let theirs = DeviceName::new(flow.user_id.clone(), flow.device_id.clone()?);
    Some((own.clone(), theirs))
}

/// The user has confirmed: vouches for this side's keys.
pub(super) fn confirm(turn: &Turn<'_>, side: &Side<'_>, flow: &mut Flow) -> Result<(), Failure> {
    let Stage::Comparing { their_mac, .. } = &flow.stage else { return Ok(()) };
    let their_mac = their_mac.clone();
    let lost = || Failure::defect("verification", "the keys of a verification are gone");
    let (own, theirs) = names(flow, side.own).ok_or_else(lost)?;
    let info = info(&own, &theirs, flow);
    let mut keys = vec![(own.device_id.to_string(), encode_base64(turn.identity.public_key()))];
    if let Some(master) = own_master(turn.tx, &own.user_id)? {
        let master = encode_base64(&master);
        keys.push((master.clone(), master));
    }
    let mut mac = BTreeMap::new();
    for (id, key) in keys {
        let id = format!("ed25519:{id}");
        let of_key = side.secrets.mac(&flow.id, &key, &format!("{info}{id}")).ok_or_else(lost)?;
        mac.insert(id, of_key);
    }
    let ids = ids_of(&mac);
    let keys = side.secrets.mac(&flow.id, &ids, &format!("{info}KEY_IDS")).ok_or_else(lost)?;
    flow.post(Kind::Mac, &MacContent { mac, keys })?;
    flow.stage = Stage::Confirmed { their_mac };
    Ok(())
}

fn ids_of(mac: &BTreeMap<String, String>) -> String {
    mac.keys().map(String::as_str).collect::<Vec<_>>().join(",")
}

/// Ends a verification that both users have confirmed, once the other side's keys are known.
pub(super) fn finish(turn: &Turn<'_>, side: &Side<'_>, flow: &mut Flow) -> Result<(), Failure> {
    let Stage::Confirmed { their_mac: Some(content) } = &flow.stage else { return Ok(()) };
    if flow.keys.is_none() {
        return Ok(());
    }
    let identity = devices::user_identity(turn.tx, &flow.user_id)?;
    let Some(master) = check(side, flow, content, identity.as_ref()) else {
        let reason = "the other device vouches for other keys than the homeserver hands out";
        return flow.cancel(code::KEY_MISMATCH, reason);
    };
    if let Some(master) = &master {
        // The user has checked it, so a change of it is a question no more.
        let accepted = devices::accept_identity(turn.tx, &flow.user_id, master, turn.now_ms)?;
        let mut others: BTreeSet<_> = accepted.into_iter().flatten().collect();
        if flow.user_id == side.own.user_id {
            let confirmed = devices::confirm_own_identity(turn.tx, &flow.user_id, master)?;
            others.extend(confirmed.into_iter().flatten());
        } else {
            others.extend(devices::verified(turn.tx, &flow.user_id, master)?);
        }
        signing::tell_trust_changed(turn, others)?;
    }
    let is_signed = sign(turn, flow, master.as_ref())?;
    handover::keep(turn, side, flow)?;
    flow.post(Kind::Done, &serde_json::json!({}))?;
    flow.stage = Stage::Done { master_key: master, is_signed };
    Ok(())
}

/// The master key that the other side vouches for, if there is one; nothing at all where the other
/// side vouches for another key than the homeserver hands out.
fn check(
    side: &Side<'_>,
    flow: &Flow,
    content: &MacContent,
    identity: Option<&UserIdentity>,
) -> Option<Option<ByteBuf>> {
    let (own, theirs) = names(flow, side.own)?;
    let info = info(&theirs, &own, flow);
    let is_mac = |text: &str, id: &str, mac: &str| {
        side.secrets.is_mac(&flow.id, text, &format!("{info}{id}"), mac)
    };
    if !is_mac(&ids_of(&content.mac), "KEY_IDS", &content.keys) {
        return None;
    }
    let vouches_for = |id: &str, key: &str| {
        let id = format!("ed25519:{id}");
        content.mac.get(&id).is_some_and(|mac| is_mac(key, &id, mac))
    };
    let device_key = encode_base64(flow.their_key()?);
    if !vouches_for(theirs.device_id.as_str(), &device_key) {
        return None;
    }
    let master = identity.map(|identity| &identity.master);
    let named = master.map(|key| encode_base64(key));
    // A device that is called like the master key would let one MAC pass for another's.
    if named.as_deref() == Some(theirs.device_id.as_str()) {
        return None;
    }
    if let (Some(key), Some(name)) = (master, &named)
        && content.mac.contains_key(&format!("ed25519:{name}"))
    {
        return vouches_for(name, name).then(|| Some(key.clone()));
    }
    // It vouches for a master key that the homeserver does not hand out here. Or it has no say
    // about the master key, and then another user is not verified by it.
    let is_complete = content.mac.len() == 1;
    (is_complete && (flow.user_id == own.user_id || master.is_none())).then_some(None)
}

/// Signs what was verified, if this device has the key for that; tells whether it has.
fn sign(turn: &Turn<'_>, flow: &Flow, master: Option<&ByteBuf>) -> Result<bool, Failure> {
    let signed = if flow.user_id == turn.identity.name().user_id {
        let (Some(device), Some(key)) = (&flow.device_id, flow.their_key()) else {
            return Ok(false);
        };
        turn.atomically(|| signing::sign_own_device(turn, device, key))
    } else {
        let Some(master) = master else { return Ok(false) };
        turn.atomically(|| signing::sign_user(turn, &flow.user_id, master))
    };
    match signed {
        Ok(_) => Ok(true),
        Err(signing::SigningError::Failure(failure)) => Err(failure),
        Err(error) => {
            tracing::info!(%error, "what was verified is not signed");
            Ok(false)
        }
    }
}
