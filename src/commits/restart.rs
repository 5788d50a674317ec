//! Starting a room anew: a second group beside the first, for whoever may set the room's state.
//!
//! It takes two steps. The group is made and announced like a room's first one. Once the homeserver
//! has the announcement, and so its event id, the room's state names it. Until the homeserver has
//! taken the state too, the new group is nothing: this device is in it and sends nothing there.
//! Where either is refused, the room goes on in its old group as if nothing had happened.

use openmls_traits::random::OpenMlsRand as _;
use ruma::{OwnedEventId, api::client::state::send_state_event, serde::Raw};

use super::{
    create::found,
    staged::{self, StagedCommit},
};
use crate::{
    epochs::{
        EpochRecord, Status, graph,
        head::{self, NewEpoch},
        restarts,
    },
    failure::Failure,
    messages::SendError,
    protocol::{EpochId, GroupName, RestartContent, identifiers, write_content},
    requests::{self, Purpose, REQUESTS},
    room::{OwnLeaf, OwnRestart, Restart, Room},
    store::StoreError,
    turn::Turn,
};

/// Makes another group for a room that uses MLS, and queues its announcement.
pub(crate) fn restart(turn: &Turn<'_>, room: &mut Room) -> Result<(), SendError> {
    if !room.uses_mls() || room.state.own_user_left || room.standing.is_gone() {
        return Err(room.outside().into());
    }
    if room.restarts.own.is_some() {
        return Ok(());
    }
    let is_being_made = match room.standing.staged() {
        Some(staged) => staged::get(turn.tx, &room.id, staged)?.commit_hash.is_none(),
        None => room.standing.is_gathering(),
    };
    if is_being_made {
        return Err(SendError::NotReady(
            "the room's group is being made: send the machine's requests (drive), and try again",
        ));
    }
    let nonce = turn.crypto.random_array().map_err(|error| Failure::defect("random", error))?;
    let number = room.group().number().saturating_add(1);
    let group = GroupName::Restarted { number, nonce };
    let epoch = found(turn, room, group)?;
    let replaces = match room.standing.head() {
        Some(head) => graph::get(turn.tx, &room.id, head)?.commit_event,
        None => None,
    };
    let replaces = replaces.map(|event| event.to_string());
    room.restarts.own = Some(OwnRestart { group, epoch, announcement: None, replaces });
    Ok(())
}

/// Whether an epoch is the first one of a group with which this device starts the room anew.
pub(crate) fn is_own(room: &Room, epoch: EpochId) -> bool {
    room.restarts.own.as_ref().is_some_and(|own| own.epoch == epoch)
}

/// The homeserver has the announcement: the room's state is to name it.
pub(super) fn announced(
    turn: &Turn<'_>,
    room: &mut Room,
    mut epoch: EpochRecord,
    event: OwnedEventId,
    announced: &StagedCommit,
) -> Result<(), SendError> {
    let id = epoch.id;
    epoch.commit_event = Some(event.clone());
    room.renewal.keep_leaf(OwnLeaf::renewed(id, epoch.since_ms), &room.kept);
    let new = NewEpoch { epoch, added: &announced.added, removed: &announced.removed() };
    head::enter(turn, room, new)?;
    let last = room.group().number();
    let Some(own) = &mut room.restarts.own else { return Ok(()) };
    if own.group.number() <= last {
        // Somebody else has started it anew meanwhile.
        room.restarts.own = None;
        return Ok(());
    }
    own.announcement = Some(event.clone());
    let content = RestartContent {
        number: own.group.number(),
        announcement: event,
        replaces: own.replaces.clone(),
    };
    let [event_type, _] = identifiers::RESTART_TYPES;
    let request = send_state_event::v3::Request::new_raw(
        room.id.clone(),
        event_type.into(),
        String::new(),
        Raw::from_json(write_content(&content, event_type)?),
    );
    let purpose = Purpose::Restart { room_id: room.id.clone(), epoch: id };
    requests::enqueue(turn.tx, room.id.as_bytes(), turn.now_ms, purpose, request)?;
    Ok(())
}

/// The homeserver has the state. Where another restart of the same number counts already, the syncs
/// say which of the two the room's state names.
pub(crate) fn stated(turn: &Turn<'_>, room: &mut Room, epoch: EpochId) -> Result<(), Failure> {
    if !is_own(room, epoch) {
        return Ok(());
    }
    let Some(OwnRestart { group, announcement: Some(announcement), .. }) = room.restarts.own.take()
    else {
        return Ok(());
    };
    if group.number() <= room.group().number() {
        return Ok(());
    }
    let by = turn.identity.name().user_id;
    restarts::start(turn, room, Restart { group, announcement, by }, None)
}

/// The homeserver refuses the state: the group is one that nobody goes on in.
pub(crate) fn refused(room: &mut Room, epoch: EpochId) {
    if is_own(room, epoch) {
        room.restarts.own = None;
    }
}

/// The room goes on in another group: a restart of this device's own is over if it is that, or
/// comes too late. State that may have reached the homeserver waits for the answer.
pub(crate) fn overtaken(turn: &Turn<'_>, room: &mut Room) -> Result<(), Failure> {
    let Some(own) = room.restarts.own.clone() else { return Ok(()) };
    let counts = own.group == room.group();
    if !counts && own.group.number() > room.group().number() {
        return Ok(());
    }
    for (request, queued) in REQUESTS.in_scope(turn.tx, room.id.as_bytes())? {
        if matches!(&queued.purpose, Purpose::Restart { epoch, .. } if *epoch == own.epoch) {
            if queued.handed_out && !counts {
                return Ok(());
            }
            requests::remove(turn.tx, request)?;
        }
    }
    if own.announcement.is_some() {
        room.restarts.own = None;
        return Ok(());
    }
    let announcing = staged::staged_requests(turn.tx, &room.id, own.epoch)?;
    if !announcing.is_out {
        for request in announcing.ids {
            requests::remove(turn.tx, request)?;
        }
        forget(turn, room)?;
    }
    Ok(())
}

/// Forgets a restart of this device's own that the homeserver does not have yet.
pub(crate) fn forget(turn: &Turn<'_>, room: &mut Room) -> Result<(), StoreError> {
    let Some(own) = room.restarts.own.take() else { return Ok(()) };
    staged::delete(turn.tx, &room.id, own.epoch)?;
    if let Some(epoch) = graph::find(turn.tx, &room.id, own.epoch)?
        && epoch.status == Status::Staged
    {
        graph::remove(turn.tx, &room.id, &epoch)?;
    }
    Ok(())
}
