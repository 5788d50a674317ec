//! Removals of devices that belong in the group by what this device knows.
//!
//! Such a removal counts once, when its commit leads to the head: what happens on a branch that
//! loses is undone anyway. It undoes an add where the device was added not long ago, by whomever;
//! then everybody who followed holds back (`room::undone`), so that a room of a thousand does not
//! undo one removal a thousand times.

use std::collections::BTreeSet;

use openmls::group::MlsGroup;
use ruma::RoomId;

use super::{graph, record::EpochRecord};
use crate::{
    devices,
    exported::Update,
    failure::Failure,
    history::archive,
    protocol::{DeviceName, EpochId, credential},
    room::{Membership, Room, membership, undone},
    store::{StoreError, Tx},
    turn::Turn,
};

/// How far back it is looked for the commit that added a device, in epochs.
const MOST_STEPS: u32 = 64;
/// For how long an add counts as one that a removal undoes, in milliseconds. An add of this
/// device's own counts whenever it was.
const LATELY_MS: u64 = 24 * 60 * 60 * 1000;

/// Of the devices that a commit removes, those that belong in the group by what this device knows,
/// and are not in the group that the commit leads to.
pub(crate) fn of_commit(
    tx: &Tx<'_>,
    room: &Room,
    removed: &[DeviceName],
    group: &MlsGroup,
) -> Result<Vec<DeviceName>, StoreError> {
    let mut contested = Vec::new();
    for device in removed {
        let belongs = match membership::get(tx, &room.id, &device.user_id)? {
            Some(Membership::Joined) => true,
            Some(Membership::Invited) => room.invited_are_in_group(),
            None => false,
        };
        if belongs && let Some(known) = devices::device(tx, device)? {
            contested.push((credential::encode(device), known));
        }
    }
    if contested.is_empty() {
        return Ok(Vec::new());
    }
    let members: BTreeSet<_> = group
        .members()
        .map(|member| (member.credential.serialized_content().to_vec(), member.signature_key))
        .collect();
    contested
        .retain(|(name, known)| !members.contains(&(name.clone(), known.credential_key.clone())));
    Ok(contested.into_iter().map(|(_, known)| known.name).collect())
}

/// Counts the removals that lead to the head, among the kept epochs, and tells the app.
pub(super) fn count(
    turn: &Turn<'_>,
    room: &Room,
    head: EpochId,
    kept: &[EpochRecord],
) -> Result<(), Failure> {
    for epoch in kept.iter().filter(|epoch| !epoch.contested.is_empty()) {
        if !graph::leads_to(turn.tx, &room.id, epoch, head)? {
            continue;
        }
        let mut counted = epoch.clone();
        for device in std::mem::take(&mut counted.contested) {
            let weight = weigh(turn, &room.id, epoch, &device)?;
            let until = undone::note(turn.tx, &room.id, &device, turn.now_ms, weight)?;
            if let Some(until_ms) = until {
                turn.tell(Update::AddUndone {
                    room_id: room.id.to_string(),
                    user_id: device.user_id.to_string(),
                    device_id: device.device_id.to_string(),
                    by: (&epoch.creator).into(),
                    retry_after_ms: until_ms.saturating_sub(turn.now_ms),
                });
            }
        }
        graph::put(turn.tx, &room.id, &counted)?;
    }
    Ok(())
}

/// Whether the removal of a device by an epoch's commit undoes an add.
fn weigh(
    turn: &Turn<'_>,
    room: &RoomId,
    epoch: &EpochRecord,
    device: &DeviceName,
) -> Result<undone::Weight, Failure> {
    let undoes = match added_in(turn.tx, room, epoch.parent, device)? {
        // A time in the future is that of a clock that was set back, and counts as now.
        Some(added) => {
            added.creator == turn.identity.name()
                || turn.now_ms.saturating_sub(added.since_ms) < LATELY_MS
        }
        None => false,
    };
    Ok(if undoes { undone::Weight::Undoes } else { undone::Weight::First })
}

/// The epoch whose commit put a device into the group, on the way to an epoch in which it is a
/// member. Nothing where that is too long ago, or from before this device was in the group.
fn added_in(
    tx: &Tx<'_>,
    room: &RoomId,
    epoch: Option<EpochId>,
    device: &DeviceName,
) -> Result<Option<EpochRecord>, Failure> {
    let find = |id: Option<EpochId>| match id {
        Some(id) => graph::find(tx, room, id),
        None => Ok(None),
    };
    let Some(mut epoch) = find(epoch)? else { return Ok(None) };
    let name = credential::encode(device);
    let mut at = None;
    for (index, leaf) in archive::leaves(tx, room, epoch.id)? {
        if leaf.credential()?.serialized_content() == name {
            at = Some(index);
        }
    }
    let Some(at) = at else { return Ok(None) };
    for _ in 0..MOST_STEPS {
        let Some(before) = find(epoch.parent)? else { return Ok(None) };
        let is_member = match archive::leaf(tx, room, before.id, at)? {
            Some(leaf) => leaf.credential()?.serialized_content() == name,
            None => false,
        };
        if !is_member {
            return Ok(Some(epoch));
        }
        epoch = before;
    }
    Ok(None)
}
