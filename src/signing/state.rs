//! How the own identity stands, and telling the app when that changes.

use super::{
    error::SigningError,
    record::{Progress, progress},
};
use crate::{
    devices::{self, UserIdentity},
    exported::{IdentityState, Update},
    identity::{Identity, Publishing},
    protocol::encode_base64,
    store::{Collection, StoreError, Tx},
    turn::Turn,
};

/// The state that the app was told last.
const TOLD: Collection<IdentityState> = Collection::new("told_own_identity");

/// How the own identity stands.
pub(crate) fn state(tx: &Tx<'_>, identity: &Identity) -> Result<IdentityState, SigningError> {
    if identity.publishing() == Publishing::BesideOlm {
        return Err(SigningError::BesideOlm);
    }
    Ok(of_device(tx, identity)?)
}

fn of_device(tx: &Tx<'_>, identity: &Identity) -> Result<IdentityState, StoreError> {
    let own = identity.name();
    match progress(tx)? {
        Some(Progress::Auth(challenge)) => return Ok(IdentityState::AuthNeeded { challenge }),
        Some(Progress::Homeserver) => return Ok(IdentityState::Working),
        None => {}
    }
    let Some(published) = devices::user_identity(tx, &own.user_id)? else {
        let is_known = devices::is_list_known(tx, &own.user_id)?;
        return Ok(if is_known { IdentityState::Absent } else { IdentityState::Unknown });
    };
    if published.has_changed() {
        let master_key = encode_base64(&published.master);
        return Ok(IdentityState::Changed { master_key });
    }
    let missing_keys = missing_keys(tx, &published)?;
    let device_is_signed = devices::is_owner_signed(tx, &own, identity.public_key())?;
    Ok(if missing_keys.is_empty() && device_is_signed {
        IdentityState::Complete
    } else {
        IdentityState::Incomplete { device_is_signed, missing_keys }
    })
}

/// The private keys of this identity that this device does not have.
pub(crate) fn missing_keys(
    tx: &Tx<'_>,
    published: &UserIdentity,
) -> Result<Vec<String>, StoreError> {
    let keys = devices::private_keys(tx)?.of_identity(published);
    let keys = [
        ("master", keys.master.is_some()),
        ("self_signing", keys.self_signing.is_some()),
        ("user_signing", keys.user_signing.is_some()),
    ];
    let missing = keys.into_iter().filter(|(_, is_there)| !is_there);
    Ok(missing.map(|(name, _)| name.to_owned()).collect())
}

/// Tells the state, if it is another than the app was told last.
pub(crate) fn tell_state(turn: &Turn<'_>) -> Result<(), StoreError> {
    if turn.identity.publishing() == Publishing::BesideOlm {
        return Ok(());
    }
    let state = of_device(turn.tx, turn.identity)?;
    let told = TOLD.get(turn.tx, b"", b"")?.unwrap_or(IdentityState::Unknown);
    if state != told { tell(turn, state) } else { Ok(()) }
}

/// Tells the state, whether or not it is another.
pub(super) fn tell_again(turn: &Turn<'_>) -> Result<(), StoreError> {
    tell(turn, of_device(turn.tx, turn.identity)?)
}

fn tell(turn: &Turn<'_>, state: IdentityState) -> Result<(), StoreError> {
    TOLD.put(turn.tx, b"", b"", &state)?;
    turn.tell(Update::IdentityStateChanged { state });
    Ok(())
}
