//! The keys that a finished verification of two devices of one user leaves behind, by which the one
//! can hand its secrets to the other.
//!
//! They come from the exchange that both users have compared and both devices have confirmed, and
//! name both devices, their Ed25519 keys and the transaction. So nobody else has them, and what is
//! sealed with them is from the one device and for the other. There is one for each direction. Each
//! serves once, and both are deleted after ten minutes (docs/decisions/035).

use ruma::{OwnedDeviceId, UserId};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use zeroize::Zeroize;

use super::{flow::Flow, steps::Side, table};
use crate::{
    failure::Failure,
    protocol::encode_base64,
    store::{Collection, StoreError, Tx},
    turn::Turn,
};

/// How long the keys are kept, in milliseconds.
const KEPT_MS: u64 = 10 * 60 * 1000;
/// How many verifications have some at once. The oldest give way.
const MOST: usize = 8;
/// How long a key is, in bytes.
const KEY: usize = 32;

/// The keys of one verification.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Handover {
    /// The verification's id on this device.
    pub(crate) verification: String,
    pub(crate) transaction: String,
    /// The other device, which is this user's too.
    pub(crate) device_id: OwnedDeviceId,
    /// Its Ed25519 key, which was compared.
    pub(crate) ed25519: ByteBuf,
    /// Seals what this device sends.
    sending: ByteBuf,
    /// Opens what the other sends.
    receiving: ByteBuf,
    /// This device has sealed its secrets, and they are on their way.
    is_sealed: bool,
    began_ms: u64,
}

impl Drop for Handover {
    fn drop(&mut self) {
        self.sending.zeroize();
        self.receiving.zeroize();
    }
}

impl Handover {
    /// The key that seals what this device sends; nothing once that is on its way.
    pub(crate) fn sending(&self) -> Option<&[u8]> {
        (!self.is_sealed).then_some(&*self.sending)
    }

    /// The key that opens what the other device sends.
    pub(crate) fn receiving(&self) -> &[u8] {
        &self.receiving
    }
}

const HANDOVERS: Collection<Handover> = Collection::new("verification_handover");

/// What the key of one direction is for: a user, two devices with their Ed25519 keys in base64, and
/// the transaction.
pub(crate) fn info(
    user: &UserId,
    from: (&str, &str),
    to: (&str, &str),
    transaction: &str,
) -> String {
    // With its length in front no part runs into the next, whatever ids look like.
    let parts = [user.as_str(), from.0, from.1, to.0, to.1, transaction];
    let text: String = parts.iter().map(|part| format!("|{}:{part}", part.len())).collect();
    format!("MATRIX_MLS_HANDOVER{text}")
}

/// A verification is done: keeps its keys, if it was one of two devices of this user.
pub(super) fn keep(turn: &Turn<'_>, side: &Side<'_>, flow: &Flow) -> Result<(), Failure> {
    let (Some(device), Some(ed25519)) = (&flow.device_id, flow.their_key()) else { return Ok(()) };
    if flow.user_id != side.own.user_id {
        return Ok(());
    }
    let ours = (side.own.device_id.as_str(), encode_base64(turn.identity.public_key()));
    let theirs = (device.as_str(), encode_base64(ed25519));
    let key = |from: &(&str, String), to: &(&str, String)| {
        let (from, to) = ((from.0, &*from.1), (to.0, &*to.1));
        let info = info(&side.own.user_id, from, to, flow.transaction());
        side.secrets.derive(&flow.id, &info, KEY)
    };
    let (Some(sending), Some(receiving)) = (key(&ours, &theirs), key(&theirs, &ours)) else {
        return Err(Failure::defect("verification", "the keys of a verification are gone"));
    };
    let handover = Handover {
        verification: flow.id.clone(),
        transaction: flow.transaction().to_owned(),
        device_id: device.clone(),
        ed25519: ed25519.clone(),
        sending: ByteBuf::from(sending.to_vec()),
        receiving: ByteBuf::from(receiving.to_vec()),
        is_sealed: false,
        began_ms: turn.now_ms,
    };
    HANDOVERS.put(turn.tx, b"", flow.id.as_bytes(), &handover)?;
    let mut all = HANDOVERS.list(turn.tx, b"")?;
    all.sort_by_key(|handover| handover.began_ms);
    for old in all.iter().take(all.len().saturating_sub(MOST)) {
        HANDOVERS.delete(turn.tx, b"", old.verification.as_bytes())?;
    }
    Ok(())
}

/// The keys of a verification, while they count.
pub(crate) fn find(turn: &Turn<'_>, verification: &str) -> Result<Option<Handover>, StoreError> {
    let found = HANDOVERS.get(turn.tx, b"", verification.as_bytes())?;
    Ok(found.filter(|handover| !turn.has_passed(handover.began_ms, KEPT_MS)))
}

/// Those of the verification with this device and transaction, while they count.
pub(crate) fn of_transaction(
    turn: &Turn<'_>,
    transaction: &str,
    device: &OwnedDeviceId,
) -> Result<Option<Handover>, StoreError> {
    let mut all = HANDOVERS.list(turn.tx, b"")?;
    let at = all.iter().position(|handover| {
        handover.transaction == transaction
            && handover.device_id == *device
            && !turn.has_passed(handover.began_ms, KEPT_MS)
    });
    Ok(at.map(|at| all.swap_remove(at)))
}

/// Whether a verification with this device and transaction goes on, which may leave keys behind.
pub(crate) fn may_come(
    turn: &Turn<'_>,
    own: &UserId,
    transaction: &str,
    device: &OwnedDeviceId,
) -> Result<bool, StoreError> {
    let flow = table::of_transaction(turn.tx, own, transaction)?;
    Ok(flow.is_some_and(|flow| flow.is_open() && flow.device_id.as_ref() == Some(device)))
}

/// This device has sealed its secrets.
pub(crate) fn sealed(tx: &Tx<'_>, mut handover: Handover) -> Result<(), StoreError> {
    handover.is_sealed = true;
    HANDOVERS.put(tx, b"", handover.verification.as_bytes(), &handover)
}

/// The homeserver has refused to pass them on: the user may try again.
pub(crate) fn refused(tx: &Tx<'_>, verification: &str) -> Result<(), StoreError> {
    let Some(mut handover) = HANDOVERS.get(tx, b"", verification.as_bytes())? else {
        return Ok(());
    };
    handover.is_sealed = false;
    HANDOVERS.put(tx, b"", verification.as_bytes(), &handover)
}

/// Forgets the keys of a verification; tells whether there were any.
pub(crate) fn forget(tx: &Tx<'_>, verification: &str) -> Result<bool, StoreError> {
    let there_were = HANDOVERS.has(tx, b"", verification.as_bytes())?;
    HANDOVERS.delete(tx, b"", verification.as_bytes())?;
    Ok(there_were)
}

/// Forgets those that have not been used in time.
pub(crate) fn expire(turn: &Turn<'_>) -> Result<(), StoreError> {
    for handover in HANDOVERS.list(turn.tx, b"")? {
        if turn.has_passed(handover.began_ms, KEPT_MS) {
            HANDOVERS.delete(turn.tx, b"", handover.verification.as_bytes())?;
        }
    }
    Ok(())
}
