//! What is known of a Matrix room: its settings, its members, and where its group stands.
//!
//! Members come from `m.room.member` or from the app; a reverse index tells which rooms a changed
//! device list concerns. A room is *settled* on an epoch when that epoch's members were compared
//! with the room's and found right; anything that could change the outcome unsettles it. Encryption
//! asks only for that mark, so that its cost does not grow with the room.

use std::collections::{BTreeMap, BTreeSet};

use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId, RoomId, UserId};
use serde::{Deserialize, Serialize};

use super::{EpochId, graph::Rank, heal::Healing, retention::Retention};
use crate::{
    devices,
    protocol::{MemberContent, identifiers},
    store::{Collection, StoreError, Tx},
};

/// A room's settings, as the store keeps them.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Settings {
    pub(crate) rotate_after_messages: u32,
    pub(crate) rotate_after_ms: u64,
    pub(crate) include_invited: bool,
    pub(crate) kept_epochs: u32,
    pub(crate) kept_for_ms: u64,
    pub(crate) allow_external_joins: bool,
    pub(crate) refuse_unfit_commits: bool,
    pub(crate) history: Retention,
    pub(crate) share_history: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            rotate_after_messages: 100,
            rotate_after_ms: 7 * 24 * 60 * 60 * 1000,
            include_invited: false,
            kept_epochs: 16,
            kept_for_ms: 7 * 24 * 60 * 60 * 1000,
            allow_external_joins: true,
            refuse_unfit_commits: false,
            history: Retention::Keep,
            share_history: false,
        }
    }
}

/// A room.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct RoomRecord {
    pub(crate) room_id: OwnedRoomId,
    pub(crate) settings: Settings,
    /// The event id of `m.room.create`.
    pub(crate) create_event: Option<OwnedEventId>,
    /// The algorithm the room says it uses; once set it never goes away.
    pub(crate) algorithm: Option<String>,
    /// Somebody else has announced a group for the room, while this device had none.
    pub(crate) others_group: bool,
    /// The epoch to send on.
    pub(crate) head: Option<EpochId>,
    /// The accepted epochs whose full state is kept, the head among them.
    #[serde(default)]
    pub(crate) kept: Vec<EpochId>,
    /// An epoch of our own that the homeserver has not accepted yet.
    pub(crate) staged: Option<EpochId>,
    /// The epoch whose members are known to be the room's.
    pub(crate) settled: Option<EpochId>,
    /// When to look again for devices that could not be added, in milliseconds since 1970.
    pub(crate) recheck_ms: Option<u64>,
    /// How many commits in a row the homeserver has refused.
    pub(crate) refusals: u32,
    /// Until when no commit is made after a refusal, in milliseconds since 1970.
    pub(crate) blocked_until_ms: Option<u64>,
    /// The app asked for fresh keys.
    pub(crate) rotate: bool,
    /// The epoch in which this device last renewed its keys because the app had asked for it. If that
    /// branch loses, they are renewed again.
    #[serde(default)]
    pub(crate) rotated: Option<EpochId>,
    /// What is being done because this device cannot go on by itself.
    #[serde(default)]
    pub(crate) healing: Option<Healing>,
    /// The epoch by which this device joined anew after its store had turned out to be an older copy.
    #[serde(default)]
    pub(crate) trusted_from: Option<Rank>,
    /// When this device joined externally of late, in milliseconds since 1970.
    #[serde(default)]
    pub(crate) external_joins: Vec<u64>,
    /// How many commits in a row were asked for by event id without one that could be processed.
    #[serde(default)]
    pub(crate) fetched: u32,
    /// The room's history visibility, as far as it is known.
    #[serde(default)]
    pub(crate) visibility: Option<String>,
    /// The last that was heard of this device's user is that they left the Matrix room.
    pub(crate) own_user_left: bool,
    /// This device left the group, or was removed from it.
    pub(crate) gone: bool,
}

impl RoomRecord {
    fn new(room_id: OwnedRoomId) -> Self {
        Self {
            room_id,
            settings: Settings::default(),
            create_event: None,
            algorithm: None,
            others_group: false,
            head: None,
            kept: Vec::new(),
            staged: None,
            settled: None,
            recheck_ms: None,
            refusals: 0,
            blocked_until_ms: None,
            rotate: false,
            rotated: None,
            healing: None,
            trusted_from: None,
            external_joins: Vec::new(),
            fetched: 0,
            visibility: None,
            own_user_left: false,
            gone: false,
        }
    }
}

impl RoomRecord {
    /// Whether the room says that it uses MLS.
    pub(crate) fn uses_mls(&self) -> bool {
        self.algorithm.as_deref().is_some_and(|a| identifiers::suite_of_room_algorithm(a).is_some())
    }
}

/// How a user stands to a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Membership {
    Joined,
    Invited,
}

impl Membership {
    /// What an `m.room.member` event says; nothing where the user is not, or no longer, in the room.
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

const ROOMS: Collection<RoomRecord> = Collection::new("room");
const MEMBERS: Collection<Member> = Collection::new("member");
const ROOMS_OF_USER: Collection<OwnedRoomId> = Collection::new("room_of_user");

/// The record of a room, if there is one.
pub(crate) fn find(tx: &Tx<'_>, room: &RoomId) -> Result<Option<RoomRecord>, StoreError> {
    ROOMS.get(tx, b"", room.as_bytes())
}

/// The record of a room, made up where there is none yet.
pub(crate) fn get(tx: &Tx<'_>, room: &RoomId) -> Result<RoomRecord, StoreError> {
    Ok(find(tx, room)?.unwrap_or_else(|| RoomRecord::new(room.to_owned())))
}

/// Stores a room.
pub(crate) fn put(tx: &Tx<'_>, room: &RoomRecord) -> Result<(), StoreError> {
    ROOMS.put(tx, b"", room.room_id.as_bytes(), room)
}

/// All rooms that have ever been heard of.
pub(crate) fn all(tx: &Tx<'_>) -> Result<Vec<RoomRecord>, StoreError> {
    ROOMS.list(tx, b"")
}

/// Whether a user is or was just invited to be in the room.
pub(crate) fn is_known(tx: &Tx<'_>, room: &RoomId, user: &UserId) -> Result<bool, StoreError> {
    Ok(MEMBERS.get(tx, room.as_bytes(), user.as_bytes())?.is_some())
}

/// What a user is to the room.
pub(crate) fn membership(
    tx: &Tx<'_>,
    room: &RoomId,
    user: &UserId,
) -> Result<Option<Membership>, StoreError> {
    Ok(MEMBERS.get(tx, room.as_bytes(), user.as_bytes())?.map(|member| member.membership))
}

/// Whether anybody is known to be in the room.
pub(crate) fn has_members(tx: &Tx<'_>, room: &RoomRecord) -> Result<bool, StoreError> {
    Ok(MEMBERS.count(tx, room.room_id.as_bytes())? > 0)
}

/// Whether a user is in the room.
pub(crate) fn is_joined(tx: &Tx<'_>, room: &RoomId, user: &UserId) -> Result<bool, StoreError> {
    let member = MEMBERS.get(tx, room.as_bytes(), user.as_bytes())?;
    Ok(member.is_some_and(|member| member.membership == Membership::Joined))
}

/// The users whose devices belong into the group.
pub(crate) fn users(tx: &Tx<'_>, room: &RoomRecord) -> Result<BTreeSet<OwnedUserId>, StoreError> {
    Ok(MEMBERS
        .list(tx, room.room_id.as_bytes())?
        .into_iter()
        .filter(|member| member.membership == Membership::Joined || room.settings.include_invited)
        .map(|member| member.user_id)
        .collect())
}

/// Notes what a user is to a room, nothing meaning that the user left; tells whether that is news.
pub(crate) fn set_membership(
    tx: &Tx<'_>,
    room: &RoomId,
    user: &UserId,
    membership: Option<Membership>,
) -> Result<bool, StoreError> {
    let before = MEMBERS.get(tx, room.as_bytes(), user.as_bytes())?;
    if before.map(|member| member.membership) == membership {
        return Ok(false);
    }
    match membership {
        Some(membership) => {
            let member = Member { user_id: user.to_owned(), membership };
            MEMBERS.put(tx, room.as_bytes(), user.as_bytes(), &member)?;
            ROOMS_OF_USER.put(tx, user.as_bytes(), room.as_bytes(), &room.to_owned())?;
            if find(tx, room)?.is_some_and(|room| room.uses_mls()) {
                devices::track(tx, [user])?;
            }
        }
        None => {
            MEMBERS.delete(tx, room.as_bytes(), user.as_bytes())?;
            ROOMS_OF_USER.delete(tx, user.as_bytes(), room.as_bytes())?;
            if ROOMS_OF_USER.count(tx, user.as_bytes())? == 0 {
                devices::untrack(tx, [user])?;
            }
        }
    }
    unsettle(tx, room)?;
    Ok(true)
}

/// The room has turned out to use MLS: its members' devices matter from now on.
pub(crate) fn track_members(tx: &Tx<'_>, room: &RoomRecord) -> Result<(), StoreError> {
    let members = MEMBERS.list(tx, room.room_id.as_bytes())?;
    devices::track(tx, members.iter().map(|member| &*member.user_id))
}

/// The app's sync has begun anew: what changed in between was not told.
pub(crate) fn doubt_members(tx: &Tx<'_>, room: &RoomId) -> Result<(), StoreError> {
    let members = MEMBERS.list(tx, room.as_bytes())?;
    devices::doubt(tx, members.iter().map(|member| &*member.user_id))?;
    unsettle(tx, room)
}

/// Replaces the joined members of a room by these.
pub(crate) fn set_members(
    tx: &Tx<'_>,
    room: &RoomId,
    users: &BTreeSet<OwnedUserId>,
) -> Result<(), StoreError> {
    for member in MEMBERS.list(tx, room.as_bytes())? {
        if member.membership == Membership::Joined && !users.contains(&member.user_id) {
            set_membership(tx, room, &member.user_id, None)?;
        }
    }
    for user in users {
        set_membership(tx, room, user, Some(Membership::Joined))?;
    }
    Ok(())
}

/// Replaces all that is known of who is in a room.
pub(crate) fn replace_members(
    tx: &Tx<'_>,
    room: &RoomId,
    members: &BTreeMap<OwnedUserId, Membership>,
) -> Result<(), StoreError> {
    for member in MEMBERS.list(tx, room.as_bytes())? {
        if !members.contains_key(&member.user_id) {
            set_membership(tx, room, &member.user_id, None)?;
        }
    }
    for (user, membership) in members {
        set_membership(tx, room, user, Some(*membership))?;
    }
    Ok(())
}

/// The room's members have to be compared with the group's again before the next message.
pub(crate) fn unsettle(tx: &Tx<'_>, room: &RoomId) -> Result<(), StoreError> {
    if let Some(mut record) = find(tx, room)?
        && record.settled.is_some()
    {
        record.settled = None;
        put(tx, &record)?;
    }
    Ok(())
}

/// The same for every room that these users are in.
pub(crate) fn unsettle_rooms_of<'a>(
    tx: &Tx<'_>,
    users: impl IntoIterator<Item = &'a UserId>,
) -> Result<(), StoreError> {
    for user in users {
        for room in ROOMS_OF_USER.list(tx, user.as_bytes())? {
            unsettle(tx, &room)?;
        }
    }
    Ok(())
}
