//! What a device does that cannot go on by itself: it lost its state, everybody else went on with a branch
//! that it cannot follow, or its store is an older copy of itself.
//!
//! One cure serves all: join the group anew by an external commit, onto the best epoch that is known from
//! its public group state, looking for one in the room's history where none is. A Welcome does as well.
//! Devices that need it at the same moment would fork the group again, so each waits a little first, longer
//! with each time, and there is a limit for an hour: no member and no homeserver can have a device join for
//! ever.

use ruma::{OwnedRoomId, RoomId, UserId};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{
    EpochId, Turn, external, foreign,
    graph::{self, Rank},
    media,
    plan::{self, Step},
    rooms::{self, RoomRecord},
    search::{self, SEARCH_AGAIN_MS, Search, Strangers},
};
use crate::{devices, error::MlsError, protocol::credential, store::Collection, updates::Update};

/// How often a device joins externally within an hour, in one room.
const MOST_JOINS: usize = 10;
const HOUR_MS: u64 = 60 * 60 * 1000;
/// The unit of the time that is waited before an external join, in milliseconds.
const FIRST_WAIT_MS: u64 = 500;
/// How long a device that was removed waits to be added again before it joins by itself.
const REMOVED_WAIT_MS: u64 = 5_000;
/// How long is waited for a ratchet tree that cannot be had, in milliseconds, doubling with each time; and
/// how often.
const FIRST_MEDIA_WAIT_MS: u64 = 30_000;
const MOST_MEDIA_TRIES: u32 = 5;

/// Why a device joins anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Reason {
    /// It has no group (yet, or any more), and something is to be sent; or the app asked.
    NoGroup,
    /// It was removed, and its user is in the room.
    Removed,
    /// All that is known of the group came from one who has no place in the room.
    Doubtful,
    /// The others went on with a branch that cannot be followed.
    Outrun,
    /// The store is older than what this device has sent: keys could be used twice.
    OldCopy,
}

impl Reason {
    /// For a log and an update.
    pub(crate) fn describe(self) -> &'static str {
        match self {
            Self::NoGroup => "this device had no group",
            Self::Doubtful => "this device was invited into the group by a stranger",
            Self::Removed => "this device had been removed from the group",
            Self::Outrun => "the others went on with a branch that this device could not follow",
            Self::OldCopy => "the store was an older copy of itself",
        }
    }

    /// Whether it is seen to without anything to be sent.
    fn is_urgent(self) -> bool {
        matches!(self, Self::Outrun | Self::OldCopy | Self::Doubtful)
    }
}

/// How far it has come.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Healing {
    pub(crate) reason: Reason,
    pub(crate) not_before_ms: u64,
    /// Only after a sync: what this device has forgotten may be in there.
    pub(crate) after_sync: bool,
    /// Until when nothing is done unless something is to be sent, after it has failed.
    #[serde(default)]
    resting_until_ms: u64,
    /// How often the best epoch's ratchet tree could not be had.
    #[serde(default)]
    media_tries: u32,
    /// Whether a public group state was passed over as its maker's user is not in the room, and whether
    /// such a one will do: where all who made one have left, it is that or no group.
    #[serde(default)]
    pub(super) strangers: Strangers,
    pub(super) search: Search,
}

/// The rooms that have something to see to.
const ROOMS: Collection<OwnedRoomId> = Collection::new("healing_room");

/// This device has to join a room's group anew.
pub(crate) fn need(turn: &Turn<'_>, room_id: &RoomId, reason: Reason) -> Result<(), MlsError> {
    let mut room = rooms::get(turn.tx, room_id)?;
    if let Some(healing) = &room.healing
        && (healing.reason == reason
            || healing.reason == Reason::OldCopy
            // Who removed it goes on, of course. That is no reason to come back sooner.
            || (healing.reason == Reason::Removed && reason == Reason::Outrun))
    {
        return Ok(());
    }
    let wait = match reason {
        Reason::NoGroup if room.external_joins.is_empty() => 0,
        Reason::Removed => REMOVED_WAIT_MS + jitter(turn, &room),
        _ => jitter(turn, &room),
    };
    tracing::info!(room = %room_id, reason = reason.describe(), wait, "has to join anew");
    room.healing = Some(Healing {
        reason,
        not_before_ms: turn.now_ms.saturating_add(wait),
        after_sync: false,
        resting_until_ms: 0,
        media_tries: 0,
        strangers: Strangers::NoneSeen,
        search: Search::NotYet,
    });
    if matches!(reason, Reason::OldCopy | Reason::Doubtful | Reason::Removed) {
        room.settled = None;
    }
    rooms::put(turn.tx, &room)?;
    ROOMS.put(turn.tx, b"", room_id.as_bytes(), &room_id.to_owned())?;
    if reason.is_urgent() {
        let reason = reason.describe().to_owned();
        turn.tell(Update::Healing { room_id: room_id.to_string(), reason });
    }
    Ok(())
}

/// The app wants this device to join by itself, now.
pub(crate) fn ask(turn: &Turn<'_>, room_id: &RoomId) -> Result<(), MlsError> {
    let mut room = rooms::get(turn.tx, room_id)?;
    room.gone = false;
    room.healing = None;
    rooms::put(turn.tx, &room)?;
    need(turn, room_id, Reason::NoGroup)
}

/// The store turned out to be an older copy of itself, or may be one: no room is sent to with what it
/// holds.
pub(crate) fn distrust_store(turn: &Turn<'_>) -> Result<(), MlsError> {
    for room in rooms::all(turn.tx)? {
        if room.head.is_some() && !room.gone {
            need(turn, &room.room_id, Reason::OldCopy)?;
            let mut room = rooms::get(turn.tx, &room.room_id)?;
            if let Some(healing) = &mut room.healing {
                healing.after_sync = true;
                rooms::put(turn.tx, &room)?;
            }
        }
    }
    Ok(())
}

/// An epoch has become known that would be the best to join: what did not work with another may with it.
pub(crate) fn news(turn: &Turn<'_>, room_id: &RoomId) -> Result<(), MlsError> {
    let mut room = rooms::get(turn.tx, room_id)?;
    let wait = jitter(turn, &room);
    if let Some(healing) = room.healing.as_mut().filter(|healing| healing.media_tries > 0) {
        healing.media_tries = 0;
        healing.not_before_ms = turn.now_ms.saturating_add(wait);
        rooms::put(turn.tx, &room)?;
    }
    Ok(())
}

/// A user was seen to go on with a commit that did not apply here.
pub(crate) fn confirmed(
    turn: &Turn<'_>,
    room_id: &RoomId,
    commit_event: &str,
    user: &UserId,
) -> Result<(), MlsError> {
    if foreign::confirm(turn, room_id, commit_event, user)? {
        head_changed(turn, room_id)?;
    }
    Ok(())
}

/// A message of this device turned up that it does not remember. In epochs from before it last joined
/// anew that is no news.
pub(crate) fn forgotten_message(
    turn: &Turn<'_>,
    room_id: &RoomId,
    epoch: &Rank,
) -> Result<(), MlsError> {
    match rooms::get(turn.tx, room_id)?.trusted_from {
        Some(from) if *epoch > from => Ok(()),
        _ => need(turn, room_id, Reason::OldCopy),
    }
}

/// A sync was taken in.
pub(crate) fn synced(turn: &Turn<'_>) -> Result<(), MlsError> {
    for room_id in ROOMS.list(turn.tx, b"")? {
        let mut room = rooms::get(turn.tx, &room_id)?;
        if let Some(healing) = room.healing.as_mut().filter(|healing| healing.after_sync) {
            healing.after_sync = false;
            rooms::put(turn.tx, &room)?;
        }
    }
    Ok(())
}

/// This device has joined anew, by its own commit or a Welcome.
pub(crate) fn joined(turn: &Turn<'_>, room_id: &RoomId) -> Result<(), MlsError> {
    let mut room = rooms::get(turn.tx, room_id)?;
    if room.healing.as_ref().is_some_and(|healing| healing.reason == Reason::OldCopy) {
        room.trusted_from = head_rank(turn, &room)?;
    }
    done(turn, room)?;
    head_changed(turn, room_id)
}

/// Nothing is left to do, and whoever heard that there was hears of it.
pub(super) fn done(turn: &Turn<'_>, mut room: RoomRecord) -> Result<(), MlsError> {
    let Some(healing) = room.healing.take() else { return Ok(()) };
    rooms::put(turn.tx, &room)?;
    ROOMS.delete(turn.tx, b"", room.room_id.as_bytes())?;
    if healing.reason != Reason::NoGroup {
        let reason = healing.reason.describe().to_owned();
        turn.tell(Update::Healed { room_id: room.room_id.to_string(), reason });
    }
    Ok(())
}

/// There is another head: it may have made a foreign branch irrelevant, or not.
pub(crate) fn head_changed(turn: &Turn<'_>, room_id: &RoomId) -> Result<(), MlsError> {
    let Some(head) = head_rank(turn, &rooms::get(turn.tx, room_id)?)? else { return Ok(()) };
    foreign::forget_behind(turn, room_id, &head)?;
    if foreign::best(turn, room_id, Some(&head))?.is_some() {
        return need(turn, room_id, Reason::Outrun);
    }
    // Nothing comes before it that this device is not in.
    stop(turn, room_id, Reason::Removed)?;
    stop(turn, room_id, Reason::Outrun)
}

/// There is no longer this reason to join anew.
pub(crate) fn stop(turn: &Turn<'_>, room_id: &RoomId, reason: Reason) -> Result<(), MlsError> {
    let room = rooms::get(turn.tx, room_id)?;
    match &room.healing {
        Some(healing) if healing.reason == reason => done(turn, room),
        _ => Ok(()),
    }
}

/// The rank of the head, if there is one.
pub(crate) fn head_rank(turn: &Turn<'_>, room: &RoomRecord) -> Result<Option<Rank>, MlsError> {
    Ok(match room.head {
        Some(head) => Some(graph::get(turn.tx, &room.room_id, head)?.rank()),
        None => None,
    })
}

/// When the next step may be made, if that is not now.
pub(crate) fn waits_until(turn: &Turn<'_>, room: &RoomRecord) -> Option<u64> {
    let healing = room.healing.as_ref()?;
    Some(healing.not_before_ms).filter(|at| *at > turn.now_ms)
}

/// Does what can be done now in every room that needs it, whether or not something is to be sent.
pub(crate) fn see_to_rooms(turn: &Turn<'_>) -> Result<(), MlsError> {
    for room_id in ROOMS.list(turn.tx, b"")? {
        let room = rooms::get(turn.tx, &room_id)?;
        let Some(healing) = &room.healing else {
            ROOMS.delete(turn.tx, b"", room_id.as_bytes())?;
            continue;
        };
        let own = turn.identity.name().0;
        // Nothing is wanted of whoever is not in the room; and if that is not known, only on demand.
        let out = !rooms::is_joined(turn.tx, &room_id, &own)?
            && (healing.reason == Reason::NoGroup || rooms::has_members(turn.tx, &room)?);
        let waits =
            out || healing.reason == Reason::Removed || healing.resting_until_ms > turn.now_ms;
        if waits || room.staged.is_some() || room.gone {
            continue;
        }
        match turn.part(|| step(turn, room)) {
            Ok(_) => {}
            Err(error) if error.stops_everything() => return Err(error),
            Err(error) => {
                let mut room = rooms::get(turn.tx, &room_id)?;
                if let Some(healing) = &mut room.healing {
                    healing.resting_until_ms = turn.now_ms.saturating_add(SEARCH_AGAIN_MS);
                    rooms::put(turn.tx, &room)?;
                }
                turn.tell(Update::HealingFailed {
                    room_id: room_id.to_string(),
                    reason: error.reason().to_owned(),
                });
            }
        }
    }
    Ok(())
}

/// Does the next step towards joining anew.
pub(crate) fn step(turn: &Turn<'_>, mut room: RoomRecord) -> Result<Step, MlsError> {
    let room_id = room.room_id.clone();
    let Some(mut healing) = room.healing.clone() else {
        return Err(MlsError::not_in_group(&room_id));
    };
    if healing.after_sync || healing.not_before_ms > turn.now_ms {
        return Ok(Step::Waiting(Vec::new()));
    }
    if !room.settings.allow_external_joins {
        return Err(MlsError::cannot_heal(
            "this device cannot go on, and the room's settings forbid joining by itself: it waits to \
             be added again",
        ));
    }
    // A device that is listed in no answer could not be checked by those who are to take it in.
    let users = rooms::users(turn.tx, &room)?;
    devices::track(turn.tx, users.iter().map(|user| &**user))?;
    let waiting = plan::query_outdated(turn, &users)?;
    if !waiting.is_empty() {
        return Ok(Step::Waiting(waiting));
    }
    room.external_joins.retain(|at| turn.now_ms.saturating_sub(*at) < HOUR_MS);
    if room.external_joins.len() >= MOST_JOINS {
        return Err(MlsError::cannot_heal(
            "this device has joined by itself too often of late; it tries again within the hour",
        ));
    }
    // Its store is not to be trusted: its own head is as foreign as any.
    let head = match healing.reason {
        Reason::OldCopy | Reason::NoGroup | Reason::Doubtful => None,
        Reason::Removed | Reason::Outrun => head_rank(turn, &room)?,
    };
    while let Some(onto) = foreign::best(turn, &room_id, head.as_ref())? {
        let tree = match &onto.tree {
            None => None,
            Some(reference) => match media::blob(turn, &room_id, reference) {
                Ok(tree) => Some(tree),
                Err(error) if media::is_awaited(&error) => {
                    media::queue_wanted(turn)?;
                    return Ok(Step::Waiting(plan::room_requests(turn, &room_id)?));
                }
                // An older epoch would be a branch that nobody follows: better to wait for this one.
                Err(error) if healing.media_tries < MOST_MEDIA_TRIES => {
                    tracing::warn!(room = %room_id, %error, "a ratchet tree cannot be had for now");
                    media::try_again(turn, &room_id, reference)?;
                    let wait = FIRST_MEDIA_WAIT_MS << healing.media_tries;
                    healing.media_tries += 1;
                    healing.not_before_ms = turn.now_ms.saturating_add(wait);
                    room.healing = Some(healing);
                    rooms::put(turn.tx, &room)?;
                    return Ok(Step::Waiting(Vec::new()));
                }
                Err(_) => {
                    foreign::forget(turn, &room_id, onto.id)?;
                    continue;
                }
            },
        };
        if !rooms::is_joined(turn.tx, &room_id, &onto.creator.0)?
            && healing.strangers != Strangers::Accepted
        {
            healing.strangers = Strangers::Seen;
            foreign::forget(turn, &room_id, onto.id)?;
            continue;
        }
        room.external_joins.push(turn.now_ms);
        match turn.part(|| external::stage(turn, &mut room, &onto, tree)) {
            Ok(()) => return Ok(Step::Waiting(plan::room_requests(turn, &room_id)?)),
            Err(error) if error.stops_everything() => return Err(error),
            Err(error) => {
                tracing::warn!(room = %room_id, %error, "a public group state cannot be joined by");
                room.external_joins.pop();
                foreign::forget(turn, &room_id, onto.id)?;
            }
        }
    }
    search::search(turn, room, healing)
}

/// A time that differs from device to device, and grows with each external join of late.
fn jitter(turn: &Turn<'_>, room: &RoomRecord) -> u64 {
    let joins = room.external_joins.len().min(10);
    let range = FIRST_WAIT_MS << joins;
    let seed = Sha256::new()
        .chain_update(credential::encode(&turn.identity.name()))
        .chain_update(room.room_id.as_bytes())
        .chain_update(joins.to_be_bytes())
        .finalize();
    let number = seed.iter().take(8).fold(0u64, |number, byte| number << 8 | u64::from(*byte));
    number % range
}

/// An external commit was refused or dropped: the next waits longer.
pub(crate) fn failed(turn: &Turn<'_>, room_id: &RoomId, epoch: EpochId) -> Result<(), MlsError> {
    let mut room = rooms::get(turn.tx, room_id)?;
    let wait = jitter(turn, &room);
    if let Some(healing) = &mut room.healing {
        tracing::info!(room = %room_id, epoch = %epoch.to_hex(), wait, "joining anew has to wait");
        healing.not_before_ms = turn.now_ms.saturating_add(wait);
        rooms::put(turn.tx, &room)?;
    }
    Ok(())
}
