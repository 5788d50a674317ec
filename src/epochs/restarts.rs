//! With which group a room was started anew.
//!
//! The room's state names the announcement of the new group. The homeserver enforces who may set
//! the state, and it can forge the state of its own users. So a restart counts only once its
//! announcement is known and was signed by a device of the state's sender, whose key that user
//! publishes. It goes forward only: the number of a restart is in the group id, which the device
//! signs, and it has to be higher than that of the last one. Of two with the same number the one
//! counts that the room's state showed last, as Matrix has resolved it.
//!
//! What cannot be checked yet is kept ([`claim`]), and changes nothing until then ([`settle`]).

use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId, RoomId, UserId};
use serde::{Deserialize, Serialize};

use super::{
    graph,
    head::choose,
    joinable::{self, JoinableEpoch},
    missing, set_aside,
};
use crate::{
    devices,
    exported::Update,
    failure::{EndsTurn, Failure},
    protocol::{DeviceName, GroupName, GroupRank, RestartContent},
    rejection::InputError,
    room::{Restart, Room, membership, undone, wake},
    store::{Collection, StoreError, Tx},
    turn::{Consequence, Turn},
};

/// How many are kept of one room that cannot be checked.
const MOST_CLAIMS: usize = 8;
/// By how much a number may be higher than the last: nobody uses up all numbers at once.
const MOST_AHEAD: u64 = 1 << 20;

/// What the room's state says.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Claim {
    number: u64,
    announcement: OwnedEventId,
    by: OwnedUserId,
    /// The state showed it after all claims with a lower one.
    order: u64,
    /// What the announcement says, once that has come.
    shown: Option<JoinableEpoch>,
    /// A member of the room was seen to commit in the announced group.
    #[serde(default)]
    vouched: bool,
}

const CLAIMS: Collection<Claim> = Collection::new("claimed_restart");
/// The rooms that have some.
const ROOMS: Collection<OwnedRoomId> = Collection::new("room_with_claimed_restart");

impl Claim {
    fn key(&self) -> Vec<u8> {
        [self.announcement.as_bytes(), &[0], self.by.as_bytes()].concat()
    }
}

/// The state of a room says that it was started anew. `is_news`: it says so now, and not at some
/// time in the past.
pub(crate) fn claim(
    tx: &Tx<'_>,
    room: &Room,
    by: &UserId,
    content: &RestartContent,
    is_news: bool,
) -> Result<(), StoreError> {
    let (last, number) = (room.group().number(), content.number);
    let mut claims = list(tx, &room.id)?;
    let counts = room.restarts.last.as_ref();
    if counts.is_some_and(|last| last.announcement == content.announcement && last.by == by) {
        if is_news {
            // The others of this number have lost.
            forget_up_to(tx, room, u64::MAX, number)?;
        }
        return Ok(());
    }
    let is_ahead = number > last && number - last <= MOST_AHEAD;
    let is_rival = is_news && number == last && number > 0;
    if !is_ahead && !is_rival {
        return Ok(());
    }
    let newest = claims.last().map_or(0, |claim| claim.order);
    let order = if is_news { newest.saturating_add(1) } else { 0 };
    let (announcement, by) = (content.announcement.clone(), by.to_owned());
    let mut claim = Claim { number, announcement, by, order, shown: None, vouched: false };
    if let Some(known) = CLAIMS.get(tx, room.id.as_bytes(), &claim.key())? {
        claim.order = claim.order.max(known.order);
        claim.shown = known.shown;
        claim.vouched = known.vouched;
    }
    CLAIMS.put(tx, room.id.as_bytes(), &claim.key(), &claim)?;
    // Commits of the group may be waiting, and vouch for it.
    wake(tx, &room.id)?;
    ROOMS.put(tx, b"", room.id.as_bytes(), &room.id)?;
    claims.retain(|other| other.key() != claim.key());
    let surplus = (claims.len() + 1).saturating_sub(MOST_CLAIMS);
    for oldest in claims.iter().take(surplus) {
        CLAIMS.delete(tx, room.id.as_bytes(), &oldest.key())?;
    }
    Ok(())
}

/// The claims of a room, in the order in which the state showed them.
fn list(tx: &Tx<'_>, room: &RoomId) -> Result<Vec<Claim>, StoreError> {
    let mut claims = CLAIMS.list(tx, room.as_bytes())?;
    claims.sort_by_key(|claim| claim.order);
    Ok(claims)
}

/// Whether any claim waits.
pub(crate) fn is_any(tx: &Tx<'_>, room: &RoomId) -> Result<bool, StoreError> {
    Ok(CLAIMS.count(tx, room.as_bytes())? > 0)
}

/// The rooms in which claims wait.
pub(crate) fn rooms(tx: &Tx<'_>) -> Result<Vec<OwnedRoomId>, StoreError> {
    let mut rooms = Vec::new();
    for room in ROOMS.list(tx, b"")? {
        if is_any(tx, &room)? {
            rooms.push(room);
        } else {
            ROOMS.delete(tx, b"", room.as_bytes())?;
        }
    }
    Ok(rooms)
}

/// An announcement has come; tells whether a claim names it.
pub(crate) fn announced(
    tx: &Tx<'_>,
    room: &RoomId,
    shown: &JoinableEpoch,
) -> Result<bool, StoreError> {
    let mut is_named = false;
    for mut claim in list(tx, room)? {
        if claim.announcement != shown.commit_event {
            continue;
        }
        if claim.by == shown.creator.user_id {
            claim.shown = Some(shown.clone());
            CLAIMS.put(tx, room.as_bytes(), &claim.key(), &claim)?;
            wake(tx, room)?;
            is_named = true;
        } else {
            // Somebody else has announced it.
            CLAIMS.delete(tx, room.as_bytes(), &claim.key())?;
        }
    }
    Ok(is_named)
}

/// A commit has come of a group that does not count yet. Where a device that is listed for a joined
/// user has signed it, that user vouches for the group; tells whether a claim waits for that.
pub(crate) fn vouch(turn: &Turn<'_>, room: &Room, commit: &JoinableEpoch) -> Result<bool, Failure> {
    let user = &commit.creator.user_id;
    if *user == turn.identity.name().user_id || !membership::is_joined(turn.tx, &room.id, user)? {
        return Ok(false);
    }
    let Some(device) = devices::device(turn.tx, &commit.creator)? else { return Ok(false) };
    let mut is_awaited = false;
    for mut claim in list(turn.tx, &room.id)? {
        let is_of_it = claim.shown.as_ref().is_some_and(|shown| shown.group == commit.group);
        if !is_of_it || claim.vouched {
            continue;
        }
        match commit.is_signed_with(turn, device.credential_key.clone()) {
            Ok(true) => {}
            Err(InputError::Failure(error)) if error.ends_turn() => return Err(error),
            Ok(false) | Err(_) => return Ok(false),
        }
        claim.vouched = true;
        CLAIMS.put(turn.tx, room.id.as_bytes(), &claim.key(), &claim)?;
        is_awaited = true;
    }
    Ok(is_awaited)
}

/// What a claim lacks.
enum Check {
    /// Nothing.
    Counts(GroupName),
    /// Its announcement.
    Announcement,
    /// The device that announced it, in the list of its user.
    Device,
    /// It is no restart.
    Never,
}

/// Looks at what the state has said: what is right by now counts. Gives the announcements that are
/// still to be fetched.
pub(crate) fn settle(turn: &Turn<'_>, room: &mut Room) -> Result<Vec<OwnedEventId>, Failure> {
    let mut missing = Vec::new();
    for claim in list(turn.tx, &room.id)? {
        let last = room.group().number();
        match check(turn, room, &claim)? {
            Check::Counts(group) if claim.number >= last => {
                forget_up_to(turn.tx, room, claim.order, claim.number)?;
                let restart =
                    Restart { group, announcement: claim.announcement.clone(), by: claim.by };
                start(turn, room, restart, claim.shown)?;
            }
            Check::Announcement => missing.push(claim.announcement),
            Check::Device => {}
            Check::Counts(_) | Check::Never => {
                CLAIMS.delete(turn.tx, room.id.as_bytes(), &claim.key())?;
            }
        }
    }
    // What was looked at before another came to count may be over.
    missing.retain(|event| is_claimed(turn.tx, &room.id, event).unwrap_or(true));
    Ok(missing)
}

fn is_claimed(tx: &Tx<'_>, room: &RoomId, event: &OwnedEventId) -> Result<bool, StoreError> {
    Ok(list(tx, room)?.iter().any(|claim| claim.announcement == *event))
}

fn check(turn: &Turn<'_>, room: &Room, claim: &Claim) -> Result<Check, Failure> {
    let known = graph::by_event(turn.tx, &room.id, &claim.announcement)?;
    let (group, number, creator) = match (&known, &claim.shown) {
        (Some(epoch), _) => (epoch.group, epoch.number, &epoch.creator),
        (None, Some(shown)) => (shown.group, shown.number, &shown.creator),
        (None, None) => return Ok(Check::Announcement),
    };
    if number > 0 || group.number() != claim.number || creator.user_id != claim.by {
        return Ok(Check::Never);
    }
    let key = if *creator == turn.identity.name() {
        Some(turn.identity.public_key().to_vec())
    } else {
        devices::device(turn.tx, creator)?.map(|device| device.credential_key)
    };
    match (key, &claim.shown) {
        // MLS has proven what the graph knows.
        (Some(_), _) if known.is_some() => Ok(Check::Counts(group)),
        (Some(key), Some(shown)) => match shown.is_signed_with(turn, key) {
            Ok(true) => Ok(Check::Counts(group)),
            Err(InputError::Failure(error)) if error.ends_turn() => Err(error),
            Ok(false) | Err(_) => Ok(Check::Never),
        },
        (Some(_), None) => Ok(Check::Announcement),
        (None, _) => unlisted(turn, room, group, creator, claim.vouched),
    }
}

/// What follows where the device that announced a group is not in the list of its user. It may be
/// new, and it may have been logged out since. Whoever is in no group has nothing to lose by
/// believing the room's state, and finds nobody in an older group. Who is in one believes it where
/// another member has gone on in the new group.
fn unlisted(
    turn: &Turn<'_>,
    room: &Room,
    group: GroupName,
    creator: &DeviceName,
    is_vouched_for: bool,
) -> Result<Check, Failure> {
    let user = &*creator.user_id;
    devices::track(turn.tx, [user])?;
    let is_gone = devices::is_list_current(turn.tx, user)?;
    let is_in_a_group = room.standing.head().is_some();
    Ok(if is_gone && (is_vouched_for || !is_in_a_group) {
        Check::Counts(group)
    } else {
        Check::Device
    })
}

/// Forgets the claims that the state showed up to here with a number up to this.
fn forget_up_to(tx: &Tx<'_>, room: &Room, order: u64, number: u64) -> Result<(), StoreError> {
    for claim in list(tx, &room.id)? {
        if claim.number < number || (claim.number == number && claim.order <= order) {
            CLAIMS.delete(tx, room.id.as_bytes(), &claim.key())?;
        }
    }
    Ok(())
}

/// The room goes on in another group: what is of it comes before all else.
pub(crate) fn start(
    turn: &Turn<'_>,
    room: &mut Room,
    restart: Restart,
    shown: Option<JoinableEpoch>,
) -> Result<(), Failure> {
    let (group, announcement) = (restart.group, restart.announcement.clone());
    tracing::info!(room = %room.id, number = group.number(), by = %restart.by, "started anew");
    let (room_id, by_user_id) = (room.id.to_string(), restart.by.to_string());
    turn.tell(Update::Restarted { room_id, by_user_id });
    room.restarts.last = Some(restart);
    for mut epoch in graph::kept(turn.tx, room)? {
        let rank = if epoch.group == group || epoch.group_rank == room.rank_of(group) {
            // Another group of the same number has lost.
            room.rank_of(epoch.group)
        } else {
            epoch.group_rank
        };
        if rank != epoch.group_rank {
            epoch.group_rank = rank;
            graph::put(turn.tx, &room.id, &epoch)?;
        }
    }
    set_aside::forget(turn, room)?;
    joinable::forget_all(turn.tx, &room.id)?;
    // Who removed whom in the old group is of no matter.
    undone::forget_all(turn.tx, &room.id)?;
    missing::mark_found(turn, &room.id, announcement.as_str())?;
    if let Some(shown) = shown {
        let noted = joinable::note(turn.tx, room, shown, None);
        match noted {
            Err(InputError::Failure(failure)) => return Err(failure),
            Ok(_) | Err(InputError::Rejected(_)) => {}
        }
    }
    room.standing.unsettle();
    wake(turn.tx, &room.id)?;
    turn.report(Consequence::Restarted);
    choose(turn, room)
}

/// Whether this device is in none of the epochs of the group in which the room goes on, and sends
/// on an older one: nothing may be sent there any more.
pub(crate) fn is_left_behind(tx: &Tx<'_>, room: &Room) -> Result<bool, StoreError> {
    let (Some(head), GroupName::Restarted { .. }) = (room.standing.head(), room.group()) else {
        return Ok(false);
    };
    Ok(graph::get(tx, &room.id, head)?.group != room.group())
}

/// Whether a group is one that the room's state may name, and does not name yet: what is of it
/// waits. A device that is in it follows it.
pub(crate) fn is_unnamed(tx: &Tx<'_>, room: &Room, group: GroupName) -> Result<bool, StoreError> {
    if room.rank_of(group) != GroupRank::Unnamed || group.number() < room.group().number() {
        return Ok(false);
    }
    Ok(graph::kept(tx, room)?.iter().all(|epoch| epoch.group != group))
}
