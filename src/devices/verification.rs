//! Whom this device's user has verified.
//!
//! A user verifies another with the user-signing key: it signs the other's master key, and the
//! homeserver hands the signature out with that key. It counts if the user-signing key is led to by
//! a master key that is known to be the own user's. A homeserver cannot tell this device which one
//! that is: the app says so, or the device knows it from a verification or from recovery.
//!
//! What was verified once stays so. A homeserver that leaves the signature out changes nothing. One
//! that hands out another master key, which nobody has verified, makes the identity a changed one:
//! then this device's own sending stops, until the app accepts the new key or withdraws the
//! verification. Nobody is removed from a group for it, as the others do not know whom this user
//! has verified. A master key of which the verification was given up, or whose user was verified
//! with another one since, is verified by no signature from before.
//!
//! What follows for a device is kept in its row, so that no message costs a further look.

use std::collections::BTreeSet;

use ruma::{OwnedUserId, UserId};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use super::{
    record::note_owner,
    user_identity::{IDENTITIES, Standing, UserIdentity, Verified, user_identity},
};
use crate::store::{Collection, StoreError, Tx};

/// The own user, whose master key is known for sure.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct OwnMaster {
    user_id: OwnedUserId,
    master: ByteBuf,
}

const OWN_MASTER: Collection<OwnMaster> = Collection::new("own_master_key");
/// There if the app sends to verified devices only.
const ONLY_VERIFIED: Collection<bool> = Collection::new("send_only_to_verified");
/// Users who were verified with another identity than they have now.
const CHANGED: Collection<OwnedUserId> = Collection::new("changed_identity");

/// What decides whether somebody is verified.
pub(super) struct Own {
    master: OwnMaster,
    /// The key that signs others, if the known master key has signed one.
    user_signing: Option<ByteBuf>,
}

impl Own {
    pub(super) fn load(tx: &Tx<'_>) -> Result<Option<Self>, StoreError> {
        let Some(master) = OWN_MASTER.get(tx, b"", b"")? else { return Ok(None) };
        let identity = user_identity(tx, &master.user_id)?;
        let user_signing = identity
            .filter(|identity| identity.master == master.master)
            .and_then(|identity| identity.user_signing);
        Ok(Some(Self { master, user_signing }))
    }
}

/// Decides how an identity stands, and writes it.
pub(super) fn put(
    tx: &Tx<'_>,
    own: Option<&Own>,
    before: Option<&UserIdentity>,
    mut identity: UserIdentity,
) -> Result<UserIdentity, StoreError> {
    identity.standing = standing(&mut identity, own);
    let user = identity.user_id.as_bytes();
    if before.map(|before| before.standing) != Some(identity.standing) {
        if identity.standing == Standing::Changed {
            CHANGED.put(tx, b"", user, &identity.user_id)?;
        } else {
            CHANGED.delete(tx, b"", user)?;
        }
    }
    if before != Some(&identity) {
        IDENTITIES.put(tx, b"", user, &identity)?;
    }
    Ok(identity)
}

fn standing(identity: &mut UserIdentity, own: Option<&Own>) -> Standing {
    let Some(own) = own else { return Standing::NotVerified };
    let own_master = &own.master.master;
    let of_master = |verified: &ByteBuf| match *verified == identity.master {
        true => Standing::Verified,
        false => Standing::Changed,
    };
    if identity.user_id == own.master.user_id {
        return of_master(own_master);
    }
    let is_signed = own.user_signing.as_ref().is_some_and(|key| identity.signers.contains(key));
    if is_signed && !identity.is_given_up(&identity.master) {
        let (master, by) = (identity.master.clone(), own_master.clone());
        identity.note_verified(Verified { master, by });
        return Standing::Verified;
    }
    match &identity.verified {
        Some(verified) if verified.by == *own_master => of_master(&verified.master),
        // It was verified with an identity of the own user's that is another now.
        _ => Standing::NotVerified,
    }
}

/// Decides anew how a user's identity stands; tells whether that is otherwise than before.
fn decide_again(
    tx: &Tx<'_>,
    own: Option<&Own>,
    before: &UserIdentity,
    after: UserIdentity,
) -> Result<bool, StoreError> {
    let after = put(tx, own, Some(before), after)?;
    if after.standing == before.standing {
        return Ok(false);
    }
    note_owner(tx, &after.user_id, after.standing, false)?;
    Ok(true)
}

/// Decides anew for everybody: what the own user's keys are has changed. Gives those who stand
/// otherwise than before.
pub(super) fn decide_for_all(tx: &Tx<'_>) -> Result<Vec<OwnedUserId>, StoreError> {
    let own = Own::load(tx)?;
    let mut others = Vec::new();
    for identity in IDENTITIES.list(tx, b"")? {
        if decide_again(tx, own.as_ref(), &identity, identity.clone())? {
            others.push(identity.user_id);
        }
    }
    Ok(others)
}

/// Whether a master key is known to be the own user's.
pub(crate) fn is_own_identity_confirmed(tx: &Tx<'_>, master: &[u8]) -> Result<bool, StoreError> {
    Ok(OWN_MASTER.get(tx, b"", b"")?.is_some_and(|own| *own.master == *master))
}

/// A master key is known to be the own user's. Gives the users who stand otherwise now; nothing if
/// the homeserver hands out another.
pub(crate) fn confirm_own_identity(
    tx: &Tx<'_>,
    own_user: &UserId,
    master: &[u8],
) -> Result<Option<Vec<OwnedUserId>>, StoreError> {
    if user_identity(tx, own_user)?.is_none_or(|identity| *identity.master != *master) {
        return Ok(None);
    }
    let own = OwnMaster { user_id: own_user.to_owned(), master: ByteBuf::from(master) };
    OWN_MASTER.put(tx, b"", b"", &own)?;
    Ok(Some(decide_for_all(tx)?))
}

/// The homeserver has taken a new identity of this device's own user: it is pinned and known to be
/// the user's, whatever the homeserver hands out next. The keys are master, self-signing and
/// user-signing key. Gives the users who stand otherwise now.
pub(crate) fn adopt_own_identity(
    tx: &Tx<'_>,
    own_user: &UserId,
    keys: [&[u8]; 3],
    now_ms: u64,
) -> Result<Vec<OwnedUserId>, StoreError> {
    let [master, self_signing, user_signing] = keys.map(ByteBuf::from);
    let known = user_identity(tx, own_user)?;
    let is_another = known.as_ref().is_some_and(|known| known.master != master);
    let mut identity = known.unwrap_or_else(|| UserIdentity::new(own_user, master.clone(), now_ms));
    if is_another {
        identity.replace_here();
    }
    identity.hand_over(master.clone(), now_ms);
    identity.self_signing = Some(self_signing);
    identity.user_signing = Some(user_signing);
    identity.pin(now_ms);
    IDENTITIES.put(tx, b"", own_user.as_bytes(), &identity)?;
    note_owner(tx, own_user, identity.standing, is_another)?;
    Ok(confirm_own_identity(tx, own_user, &master)?.unwrap_or_default())
}

/// The own user has verified this master key of another user. Gives the users who stand otherwise
/// now. It says nothing while the own identity is not known for sure.
pub(crate) fn verified(
    tx: &Tx<'_>,
    user: &UserId,
    master: &[u8],
) -> Result<Vec<OwnedUserId>, StoreError> {
    let (Some(own), Some(before)) = (Own::load(tx)?, user_identity(tx, user)?) else {
        return Ok(Vec::new());
    };
    let verified = Verified { master: ByteBuf::from(master), by: own.master.master.clone() };
    let mut after = before.clone();
    after.note_verified(verified);
    let is_other = decide_again(tx, Some(&own), &before, after)?;
    Ok(if is_other { vec![before.user_id] } else { Vec::new() })
}

/// The app accepts a user's changed master key: it is the pinned one from now on, and an earlier
/// one is verified no more. Gives the users who stand otherwise now; nothing if the homeserver
/// hands out another.
pub(crate) fn accept_identity(
    tx: &Tx<'_>,
    user: &UserId,
    master: &[u8],
    now_ms: u64,
) -> Result<Option<Vec<OwnedUserId>>, StoreError> {
    let Some(before) = user_identity(tx, user)? else { return Ok(None) };
    if *before.master != *master {
        return Ok(None);
    }
    let mut after = before.clone();
    pin_instead(&mut after, now_ms);
    give_up(tx, &before, after).map(Some)
}

/// The master key that is handed out is the pinned one from now on. What was signed of the one
/// before counts no more, seen or not: the homeserver may hand it out again.
fn pin_instead(identity: &mut UserIdentity, now_ms: u64) {
    if identity.has_changed() {
        identity.give_up(identity.pinned.clone());
        identity.pin(now_ms);
    }
}

/// The app's user does not vouch for another any more, whoever that is now. Gives the users who
/// stand otherwise now.
pub(crate) fn withdraw_verification(
    tx: &Tx<'_>,
    user: &UserId,
    now_ms: u64,
) -> Result<Vec<OwnedUserId>, StoreError> {
    let Some(before) = user_identity(tx, user)? else { return Ok(Vec::new()) };
    let mut after = before.clone();
    pin_instead(&mut after, now_ms);
    after.give_up(after.master.clone());
    give_up(tx, &before, after)
}

/// Gives up what was verified of a user, if that is another identity than now or was withdrawn.
fn give_up(
    tx: &Tx<'_>,
    before: &UserIdentity,
    mut after: UserIdentity,
) -> Result<Vec<OwnedUserId>, StoreError> {
    let is_given_up =
        |master: &ByteBuf| *master != after.master || after.is_given_up(&after.master);
    let own = OWN_MASTER.get(tx, b"", b"")?.filter(|own| own.user_id == after.user_id);
    let is_own_given_up = own.is_some_and(|own| is_given_up(&own.master));
    let verified = after.verified.as_ref().map(|verified| verified.master.clone());
    if let Some(verified) = verified.filter(is_given_up) {
        after.give_up(verified);
    }
    let mut others = Vec::new();
    if is_own_given_up {
        OWN_MASTER.delete(tx, b"", b"")?;
        after.give_up_nothing();
    }
    if decide_again(tx, Own::load(tx)?.as_ref(), before, after)? {
        others.push(before.user_id.clone());
    }
    if is_own_given_up {
        others.extend(decide_for_all(tx)?);
    }
    Ok(others)
}

/// Those of these users who were verified with another identity than they have now.
pub(crate) fn changed_among(
    tx: &Tx<'_>,
    users: &BTreeSet<OwnedUserId>,
) -> Result<Vec<OwnedUserId>, StoreError> {
    let mut changed = CHANGED.list(tx, b"")?;
    changed.retain(|user| users.contains(user));
    Ok(changed)
}

/// Whether the app sends to verified devices only.
pub(crate) fn sends_only_to_verified(tx: &Tx<'_>) -> Result<bool, StoreError> {
    Ok(ONLY_VERIFIED.get(tx, b"", b"")?.is_some())
}

/// Sets whether the app sends to verified devices only; tells whether that is another than before.
pub(crate) fn send_only_to_verified(tx: &Tx<'_>, only: bool) -> Result<bool, StoreError> {
    if sends_only_to_verified(tx)? == only {
        return Ok(false);
    }
    if only {
        ONLY_VERIFIED.put(tx, b"", b"", &true)?;
    } else {
        ONLY_VERIFIED.delete(tx, b"", b"")?;
    }
    Ok(true)
}
