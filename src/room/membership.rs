//! Who is in a Matrix room.
//!
//! Members come from `m.room.member`, from an answer of the homeserver, or from the app. A reverse
//! index tells which rooms a changed device list concerns. Whatever could change who belongs into
//! the group unsettles the room, so that the group is compared with it before the next message.

use std::collections::{BTreeMap, BTreeSet};

use ruma::{OwnedRoomId, OwnedUserId, RoomId, UserId};
use serde::{Deserialize, Serialize};

use super::{
    record::Room,
    rows::{self, edit},
    undone,
};
use crate::{
    devices,
    protocol::MemberContent,
    store::{ChangeMark, Changes, Collection, StoreError, Tx},
};

/// How a user stands to a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Membership {
    Joined,
    Invited,
}

impl Membership {
    /// What an `m.room.member` event says; nothing where the user is not, or no longer, in the
    /// room.
    pub(crate) fn of(content: &MemberContent) -> Option<Self> {
        match &*content.membership {
            "join" => Some(Self::Joined),
            "invite" => Some(Self::Invited),
            _ => None,
        }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Member {
    user_id: OwnedUserId,
    membership: Membership,
}

const MEMBERS: Collection<Member> = Collection::new("member");
/// Who has come, gone, or been invited, by room. So many are kept as change between two messages of
/// this device in a room of ten thousand.
const CHANGED: Changes<OwnedUserId> = Changes::new("changed_member", 256);
const ROOMS_OF_USER: Collection<OwnedRoomId> = Collection::new("room_of_user");

/// How a user stands to the room.
pub(crate) fn get(
    tx: &Tx<'_>,
    room: &RoomId,
    user: &UserId,
) -> Result<Option<Membership>, StoreError> {
    Ok(MEMBERS.get(tx, room.as_bytes(), user.as_bytes())?.map(|member| member.membership))
}

/// Whether a user is joined or invited.
pub(crate) fn is_known(tx: &Tx<'_>, room: &RoomId, user: &UserId) -> Result<bool, StoreError> {
    Ok(get(tx, room, user)?.is_some())
}

/// Whether a user is joined.
pub(crate) fn is_joined(tx: &Tx<'_>, room: &RoomId, user: &UserId) -> Result<bool, StoreError> {
    Ok(get(tx, room, user)? == Some(Membership::Joined))
}

/// How many are joined.
pub(crate) fn count_joined(tx: &Tx<'_>, room: &RoomId) -> Result<u64, StoreError> {
    let members = MEMBERS.list(tx, room.as_bytes())?;
    let joined = members.iter().filter(|member| member.membership == Membership::Joined);
    Ok(joined.count() as u64)
}

/// How many users are known to be in the room.
pub(crate) fn count(tx: &Tx<'_>, room: &RoomId) -> Result<u64, StoreError> {
    MEMBERS.count(tx, room.as_bytes())
}

/// The users whose devices belong into the group.
pub(crate) fn users_of_group(
    tx: &Tx<'_>,
    room: &Room,
) -> Result<BTreeSet<OwnedUserId>, StoreError> {
    Ok(MEMBERS
        .list(tx, room.id.as_bytes())?
        .into_iter()
        .filter(|member| belongs(room, member.membership))
        .map(|member| member.user_id)
        .collect())
}

/// Whether a user's devices belong into the group.
pub(crate) fn is_user_of_group(
    tx: &Tx<'_>,
    room: &Room,
    user: &UserId,
) -> Result<bool, StoreError> {
    Ok(get(tx, &room.id, user)?.is_some_and(|membership| belongs(room, membership)))
}

fn belongs(room: &Room, membership: Membership) -> bool {
    membership == Membership::Joined || room.invited_are_in_group()
}

/// The moment of now in the changes of who is in a room.
pub(crate) fn mark_changes(tx: &Tx<'_>, room: &RoomId) -> Result<ChangeMark, StoreError> {
    CHANGED.mark(tx, room.as_bytes())
}

/// Who stands otherwise to a room since then; nothing where that cannot be told.
pub(crate) fn changed_since(
    tx: &Tx<'_>,
    room: &RoomId,
    mark: &ChangeMark,
) -> Result<Option<Vec<OwnedUserId>>, StoreError> {
    CHANGED.since(tx, room.as_bytes(), mark)
}

/// Notes how a user stands to a room, nothing meaning that the user left; tells whether that is
/// another standing than before.
pub(crate) fn set(
    tx: &Tx<'_>,
    room: &mut Room,
    user: &UserId,
    membership: Option<Membership>,
) -> Result<bool, StoreError> {
    if get(tx, &room.id, user)? == membership {
        return Ok(false);
    }
    let scope = room.id.as_bytes();
    match membership {
        Some(membership) => {
            let member = Member { user_id: user.to_owned(), membership };
            MEMBERS.put(tx, scope, user.as_bytes(), &member)?;
            ROOMS_OF_USER.put(tx, user.as_bytes(), scope, &room.id)?;
            if room.uses_mls() {
                devices::track(tx, [user])?;
            }
        }
        None => {
            MEMBERS.delete(tx, scope, user.as_bytes())?;
            ROOMS_OF_USER.delete(tx, user.as_bytes(), scope)?;
            if ROOMS_OF_USER.count(tx, user.as_bytes())? == 0 {
                devices::untrack(tx, [user])?;
            }
        }
    }
    CHANGED.note(tx, scope, user.to_owned())?;
    undone::lift(tx, &room.id, user)?;
    room.standing.unsettle();
    Ok(true)
}

/// Replaces the joined members of a room by these; who is invited stays.
pub(crate) fn replace_joined(
    tx: &Tx<'_>,
    room: &mut Room,
    users: &BTreeSet<OwnedUserId>,
) -> Result<(), StoreError> {
    for member in MEMBERS.list(tx, room.id.as_bytes())? {
        if member.membership == Membership::Joined && !users.contains(&member.user_id) {
            set(tx, room, &member.user_id, None)?;
        }
    }
    for user in users {
        set(tx, room, user, Some(Membership::Joined))?;
    }
    Ok(())
}

/// Replaces all that is known of who is in a room.
pub(crate) fn replace_all(
    tx: &Tx<'_>,
    room: &mut Room,
    members: &BTreeMap<OwnedUserId, Membership>,
) -> Result<(), StoreError> {
    for member in MEMBERS.list(tx, room.id.as_bytes())? {
        if !members.contains_key(&member.user_id) {
            set(tx, room, &member.user_id, None)?;
        }
    }
    for (user, membership) in members {
        set(tx, room, user, Some(*membership))?;
    }
    Ok(())
}

/// Follows the device lists of the room's members: it has turned out to use MLS.
pub(crate) fn track_devices(tx: &Tx<'_>, room: &RoomId) -> Result<(), StoreError> {
    let members = MEMBERS.list(tx, room.as_bytes())?;
    devices::track(tx, members.iter().map(|member| &*member.user_id))
}

/// The devices of these users have changed: what was left out of a group may be added again.
pub(crate) fn devices_changed<'a>(
    tx: &Tx<'_>,
    users: impl IntoIterator<Item = &'a UserId>,
) -> Result<(), StoreError> {
    for user in users {
        for room in ROOMS_OF_USER.list(tx, user.as_bytes())? {
            undone::lift(tx, &room, user)?;
        }
    }
    Ok(())
}

/// Unsettles every room that one of these users is in.
pub(crate) fn unsettle_rooms_of<'a>(
    tx: &Tx<'_>,
    users: impl IntoIterator<Item = &'a UserId>,
) -> Result<(), StoreError> {
    for user in users {
        for room in ROOMS_OF_USER.list(tx, user.as_bytes())? {
            edit(tx, &room, |room| {
                room.standing.unsettle();
                Ok::<_, StoreError>(())
            })?;
        }
    }
    Ok(())
}

/// Has all device lists asked for again, and all rooms compared with them.
pub(crate) fn doubt_device_lists(tx: &Tx<'_>) -> Result<(), StoreError> {
    devices::mark_all_outdated(tx)?;
    unsettle_all(tx)
}

/// Unsettles every room.
pub(crate) fn unsettle_all(tx: &Tx<'_>) -> Result<(), StoreError> {
    for room in rows::all(tx)?.iter().filter(|room| room.standing.is_settled()) {
        edit(tx, &room.id, |room| {
            room.standing.unsettle();
            Ok::<_, StoreError>(())
        })?;
    }
    Ok(())
}
