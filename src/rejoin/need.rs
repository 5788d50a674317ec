//! Whether a device has to join anew, and when that is over.

use ruma::OwnedRoomId;

use super::pace::{crowd_wait, jitter, recent, welcome_wait};
use crate::{
    epochs::{
        graph, head, joinable,
        numbers::{self, Reach},
        restarts, set_aside,
    },
    exported::Update,
    failure::Failure,
    protocol::{EpochId, Rank},
    room::{self, Rejoin, RejoinReason, Room, Standing, membership},
    store::{Collection, StoreError},
    turn::Turn,
};

/// How long a device that was removed waits to be added again before it joins by itself.
const REMOVED_WAIT_MS: u64 = 5_000;

/// The rooms in which a rejoin is under way. The name is that of rows written by earlier versions.
const ROOMS: Collection<OwnedRoomId> = Collection::new("healing_room");

/// The rooms in which a rejoin is under way.
pub(crate) fn rooms_to_see_to(turn: &Turn<'_>) -> Result<Vec<OwnedRoomId>, StoreError> {
    let mut rooms = Vec::new();
    for room_id in ROOMS.list(turn.tx, b"")? {
        if room::load(turn.tx, &room_id)?.standing.rejoin().is_some() {
            rooms.push(room_id);
        } else {
            ROOMS.delete(turn.tx, b"", room_id.as_bytes())?;
        }
    }
    Ok(rooms)
}

/// This device has to join the room's group anew, for this reason.
pub(crate) fn require(
    turn: &Turn<'_>,
    room: &mut Room,
    reason: RejoinReason,
) -> Result<(), StoreError> {
    if reason == RejoinReason::OldCopy && room.standing.head().is_none() {
        set_aside::forget(turn, room)?;
    }
    if room.standing.is_gathering() {
        // There is no group yet. If there is one, the founding ends, and asks again (`founding`).
        return Ok(());
    }
    let unasked_from_ms = turn.now_ms.saturating_add(crowd_wait(turn, room)?);
    if let Some(rejoin) = room.standing.rejoin_mut()
        && rejoin.reason == reason
    {
        // A Welcome that cannot be used is none that could be waited for.
        rejoin.unasked_from_ms = rejoin.unasked_from_ms.min(unasked_from_ms);
    }
    if let Some(rejoin) = room.standing.rejoin()
        && (rejoin.reason == reason
            || rejoin.reason == RejoinReason::OldCopy
            // Whoever removed it goes on, of course. That is no reason to come back sooner.
            || (rejoin.reason == RejoinReason::Removed && reason == RejoinReason::Outrun)
            // What becomes of it in an older group is of no matter.
            || (rejoin.reason == RejoinReason::Restarted && reason != RejoinReason::OldCopy))
    {
        return Ok(());
    }
    let wait = match reason {
        RejoinReason::NoGroup if recent(turn, room) == 0 => 0,
        RejoinReason::Removed | RejoinReason::Restarted => REMOVED_WAIT_MS + jitter(turn, room),
        _ => jitter(turn, room),
    };
    tracing::info!(room = %room.id, reason = reason.describe(), wait, "has to join anew");
    let rejoin = Rejoin::new(reason, turn.now_ms.saturating_add(wait));
    room.standing.begin_rejoin(Rejoin { unasked_from_ms, ..rejoin });
    if reason == RejoinReason::OldCopy {
        head::distrust(turn, room)?;
    }
    if !matches!(reason, RejoinReason::NoGroup | RejoinReason::Outrun) {
        room.standing.unsettle();
    }
    ROOMS.put(turn.tx, b"", room.id.as_bytes(), &room.id)?;
    if reason.is_urgent() {
        let reason = reason.describe().to_owned();
        turn.tell(Update::Healing { room_id: room.id.to_string(), reason });
    }
    Ok(())
}

/// There is a group, and this device is not in it: it joins by itself where no Welcome comes. Who
/// only reads is let in as well as who has something to say.
pub(crate) fn left_out(turn: &Turn<'_>, room: &mut Room) -> Result<(), StoreError> {
    let own = turn.identity.name().user_id;
    if room.standing != Standing::NoGroup
        || !room.uses_mls()
        || !membership::is_joined(turn.tx, &room.id, &own)?
    {
        return Ok(());
    }
    let wait = welcome_wait(turn, room)?;
    require(turn, room, RejoinReason::NoGroup)?;
    if let Some(rejoin) = room.standing.rejoin_mut() {
        rejoin.unasked_from_ms = turn.now_ms.saturating_add(wait);
    }
    Ok(())
}

/// A device that the room has left behind in an older group joins the new one where no Welcome
/// comes.
pub(crate) fn started_anew(turn: &Turn<'_>, room: &mut Room) -> Result<(), StoreError> {
    let is_restarted = |rejoin: &Rejoin| rejoin.reason == RejoinReason::Restarted;
    if room.standing.rejoin().is_some_and(is_restarted) || !restarts::is_left_behind(turn.tx, room)?
    {
        return Ok(());
    }
    let wait = welcome_wait(turn, room)?;
    require(turn, room, RejoinReason::Restarted)?;
    if let Some(rejoin) = room.standing.rejoin_mut().filter(|rejoin| is_restarted(rejoin)) {
        rejoin.unasked_from_ms = turn.now_ms.saturating_add(wait);
    }
    Ok(())
}

/// The app wants this device to join by itself, now.
pub(crate) fn ask(turn: &Turn<'_>, room: &mut Room) -> Result<(), StoreError> {
    room.standing.come_back();
    room.standing.end_gathering();
    room.standing.end_rejoin();
    require(turn, room, RejoinReason::NoGroup)?;
    if let Some(rejoin) = room.standing.rejoin_mut() {
        rejoin.unasked_from_ms = 0;
    }
    Ok(())
}

/// The store turned out to be an older copy of itself, or may be one: nothing is sent to the room
/// with what it holds.
pub(crate) fn distrust_store(turn: &Turn<'_>, room: &mut Room) -> Result<(), StoreError> {
    if room.standing.head().is_none() {
        return set_aside::forget(turn, room);
    }
    require(turn, room, RejoinReason::OldCopy)?;
    if let Some(rejoin) = room.standing.rejoin_mut() {
        rejoin.after_sync = true;
    }
    Ok(())
}

/// An epoch has become known that would be the best to join: what did not work with another may
/// work with it.
pub(crate) fn better_epoch_known(turn: &Turn<'_>, room: &mut Room) {
    let wait = jitter(turn, room);
    if let Some(rejoin) = room.standing.rejoin_mut().filter(|rejoin| rejoin.media_tries > 0) {
        rejoin.media_tries = 0;
        rejoin.not_before_ms = turn.now_ms.saturating_add(wait);
    }
}

/// A message of this device turned up that it does not remember. In epochs from before it last
/// joined anew that is to be expected.
pub(crate) fn forgotten_message(
    turn: &Turn<'_>,
    room: &mut Room,
    epoch: &Rank,
) -> Result<(), StoreError> {
    match &room.joins.trusted_from {
        Some(from) if epoch > from => Ok(()),
        _ => require(turn, room, RejoinReason::OldCopy),
    }
}

/// A sync was taken in: rejoins that waited for one go on.
pub(crate) fn mark_synced(turn: &Turn<'_>) -> Result<(), StoreError> {
    for room_id in ROOMS.list(turn.tx, b"")? {
        room::edit(turn.tx, &room_id, |room| {
            if let Some(rejoin) = room.standing.rejoin_mut() {
                rejoin.after_sync = false;
            }
            Ok::<_, StoreError>(())
        })?;
    }
    Ok(())
}

/// This device has joined anew, by its own commit or a Welcome.
pub(crate) fn joined(turn: &Turn<'_>, room: &mut Room) -> Result<(), Failure> {
    if room.standing.head().is_some() {
        set_aside::forget(turn, room)?;
    }
    if room.standing.rejoin().is_some_and(|rejoin| rejoin.reason == RejoinReason::OldCopy) {
        room.joins.trusted_from = head::rank(turn.tx, room)?;
    }
    if restarts::is_left_behind(turn.tx, room)? {
        return Ok(started_anew(turn, room)?);
    }
    end(turn, room)?;
    head_changed(turn, room)
}

/// This device has joined by itself. What it could have joined by as well and comes behind is not
/// joined again, even where the others cannot come to the epoch that it has come to.
pub(crate) fn joined_externally(
    turn: &Turn<'_>,
    room: &mut Room,
    epoch: EpochId,
) -> Result<(), Failure> {
    let rank = graph::get(turn.tx, &room.id, epoch)?.rank();
    joinable::forget_behind(turn.tx, &room.id, &Reach::at(rank))?;
    joined(turn, room)
}

/// Where this device has joined anew because it could not follow the others, what they said in
/// between is lost to it.
pub(crate) fn tell_missed(turn: &Turn<'_>, room: &Room, epoch: EpochId) -> Result<(), StoreError> {
    let was_outrun =
        room.standing.rejoin().is_some_and(|rejoin| rejoin.reason == RejoinReason::Outrun);
    let epoch = graph::get(turn.tx, &room.id, epoch)?;
    let is_own_join = epoch.external && epoch.creator == turn.identity.name();
    if !was_outrun || !is_own_join || epoch.parent.is_some() {
        return Ok(());
    }
    let before = graph::last_number_before(turn.tx, &room.id, epoch.group, epoch.number)?;
    if let Some(first) = before.map(|before| before + 1)
        && first < epoch.number
    {
        let (room_id, last) = (room.id.to_string(), epoch.number - 1);
        turn.tell(Update::EpochsMissed { room_id, first, last });
    }
    Ok(())
}

/// Ends a rejoin, and tells whoever heard that it began.
pub(super) fn end(turn: &Turn<'_>, room: &mut Room) -> Result<(), StoreError> {
    let Some(rejoin) = room.standing.end_rejoin() else { return Ok(()) };
    ROOMS.delete(turn.tx, b"", room.id.as_bytes())?;
    joinable::forget_lineage(turn.tx, &room.id)?;
    if !matches!(rejoin.reason, RejoinReason::NoGroup | RejoinReason::Restarted) {
        let reason = rejoin.reason.describe().to_owned();
        turn.tell(Update::Healed { room_id: room.id.to_string(), reason });
    }
    Ok(())
}

/// There is another head: compares it with the epochs that this device could join.
pub(crate) fn head_changed(turn: &Turn<'_>, room: &mut Room) -> Result<(), Failure> {
    if restarts::is_left_behind(turn.tx, room)? {
        return Ok(started_anew(turn, room)?);
    }
    stop(turn, room, RejoinReason::Restarted)?;
    let Some(reach) = head::reach(turn, room)? else { return Ok(()) };
    joinable::forget_behind(turn.tx, &room.id, &reach)?;
    if room.standing.head().is_some() {
        joinable::forget_of_outsiders(turn.tx, room)?;
        joinable::forget_above(turn.tx, &room.id, numbers::highest_claim(turn.tx, room)?)?;
    }
    if room.standing.head().is_some() && joinable::best(turn.tx, &room.id, Some(&reach))?.is_some()
    {
        return Ok(require(turn, room, RejoinReason::Outrun)?);
    }
    // Nothing comes before it that this device is not in.
    stop(turn, room, RejoinReason::Removed)?;
    Ok(stop(turn, room, RejoinReason::Outrun)?)
}

/// There is no longer this reason to join anew.
pub(crate) fn stop(
    turn: &Turn<'_>,
    room: &mut Room,
    reason: RejoinReason,
) -> Result<(), StoreError> {
    match room.standing.rejoin() {
        Some(rejoin) if rejoin.reason == reason => end(turn, room),
        _ => Ok(()),
    }
}
