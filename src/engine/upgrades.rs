//! Room upgrades: what an MLS room leaves to the room that replaces it.
//!
//! An upgrade counts where both rooms say so (`room::upgrade`) and the old one uses MLS. Then the
//! new room gets this device's settings of the old one, once, unless the app has chosen others; and
//! it gets a group. The devices of whoever has made the new room make that group unasked, one after
//! the other, so that the first does and the others find it. Any other device makes it where it has
//! something to send and finds none. A new room that does not use MLS gets nothing: the app is
//! told, and the room's encryption stays for the app to decide.

use ruma::RoomId;
use sha2::{Digest, Sha256};

use super::{consequences::in_room, rooms::change_settings};
use crate::{
    commits::{self, NextStep},
    exported::Update,
    failure::Failure,
    history::archive,
    messages::SendError,
    protocol::{DeviceName, credential},
    rejoin, requests,
    room::{self, RejoinReason, Room, Settings, Standing, membership},
    turn::Turn,
};

/// How long each further device of the room's maker waits for those before it, in milliseconds.
const TURN_MS: u64 = 30_000;
/// For how many devices that is done. Those behind them take the last turn.
const MOST_TURNS: usize = 20;

/// Looks whether a room of which a sync has told is one side of an upgrade whose other side is
/// known.
pub(super) fn look(turn: &Turn<'_>, room_id: &RoomId) -> Result<(), Failure> {
    let Some(room) = room::find(turn.tx, room_id)? else { return Ok(()) };
    if let Some(predecessor) = room.upgrade.predecessor()
        && let Some(old) = room::find(turn.tx, predecessor)?
    {
        follow(turn, &old, &room)?;
    }
    if let Some(replacement) = &room.upgrade.replacement
        && let Some(new) = room::find(turn.tx, replacement)?
    {
        follow(turn, &room, &new)?;
    }
    Ok(())
}

/// Does what follows from an upgrade, if this is one and it has not followed yet.
fn follow(turn: &Turn<'_>, old: &Room, new: &Room) -> Result<(), Failure> {
    let is_done = new.upgrade.carried_from.as_ref() == Some(&old.id);
    if is_done || !old.uses_mls() || !old.is_replaced_by(new) {
        return Ok(());
    }
    in_room(turn, &new.id, |new| {
        if new.uses_mls() { carry_over(turn, old, new) } else { tell_downgrade(turn, old, new) }
    })
}

fn tell_downgrade(turn: &Turn<'_>, old: &Room, new: &mut Room) -> Result<(), Failure> {
    if !std::mem::replace(&mut new.upgrade.is_downgrade, true) {
        turn.tell(Update::UpgradeNotEncrypted {
            room_id: new.id.to_string(),
            predecessor_room_id: old.id.to_string(),
            algorithm: new.state.algorithm.clone(),
        });
    }
    Ok(())
}

fn carry_over(turn: &Turn<'_>, old: &Room, new: &mut Room) -> Result<(), Failure> {
    new.upgrade.carried_from = Some(old.id.clone());
    new.upgrade.is_downgrade = false;
    if !new.upgrade.settings_chosen && new.settings == Settings::default() {
        change_settings(turn, new, old.settings.clone())?;
    }
    turn.tell(Update::RoomUpgraded {
        room_id: new.id.to_string(),
        predecessor_room_id: old.id.to_string(),
    });
    let own = turn.identity.name().user_id;
    let is_maker = new.upgrade.creation.as_ref().is_some_and(|made| made.sender == own);
    if !is_maker || !new.awaits_group() || new.standing != Standing::NoGroup {
        return Ok(());
    }
    let wait = TURN_MS.saturating_mul(place_among_own_devices(turn, old, &new.id)? as u64);
    rejoin::require(turn, new, RejoinReason::NoGroup)?;
    if let Some(rejoin) = new.standing.rejoin_mut() {
        rejoin.unasked_from_ms = turn.now_ms.saturating_add(wait);
    }
    Ok(())
}

/// How many devices of this user come before this one, in an order that is the same on all of them.
fn place_among_own_devices(turn: &Turn<'_>, old: &Room, new: &RoomId) -> Result<usize, Failure> {
    let own = turn.identity.name();
    let draw = |device: &DeviceName| {
        Sha256::new()
            .chain_update(new.as_bytes())
            .chain_update(credential::encode(device))
            .finalize()
    };
    let Some(head) = old.standing.head() else { return Ok(0) };
    let own_draw = draw(&own);
    let mut before = 0;
    for (_, leaf) in archive::leaves(turn.tx, &old.id, head)? {
        let credential = leaf.credential().map_err(Failure::from)?;
        let device = credential::parse(credential.serialized_content()).map_err(Failure::from)?;
        if device.user_id == own.user_id && device != own && draw(&device) < own_draw {
            before += 1;
        }
    }
    Ok(before.min(MOST_TURNS))
}

/// Makes the group of a room that replaces an MLS room, where a look through the room's history has
/// shown that nobody has made it.
pub(super) fn found_where_none_is(
    turn: &Turn<'_>,
    room: &mut Room,
    step: Result<NextStep, SendError>,
) -> Result<NextStep, SendError> {
    let own = turn.identity.name().user_id;
    let found_none = matches!(step, Err(SendError::CannotRejoin(_)))
        && room.awaits_group()
        && rejoin::has_found_nothing(turn, room)?
        && membership::is_joined(turn.tx, &room.id, &own)?;
    if !found_none {
        return step;
    }
    commits::create_group(turn, room, room.settings.clone())?;
    Ok(NextStep::Waiting(requests::ids_of_room(turn.tx, &room.id)?))
}
