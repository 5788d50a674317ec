//! Making a room's group: epoch 0, with this device alone in it, and its announcement. A room of
//! many is founded in one step instead (`founding`).

use openmls::group::MlsGroup;
use ruma::{RoomId, api::client::state::send_state_event, events::StateEventType, serde::Raw};

use super::{
    gathering,
    publish::{BaseName, CommitDraft, publish},
};
use crate::{
    epochs::{EpochRecord, Origin, Status, graph},
    failure::Failure,
    messages::SendError,
    mls::{create_config, group_id, keep_export},
    protocol::{EpochId, GroupName, identifiers, write_content},
    requests::{self, Purpose},
    room::{Room, Settings, Standing, membership},
    turn::Turn,
};

/// Creates the group of a room and queues its announcement, or has it founded with all members at
/// once. The epoch is staged until the homeserver has accepted the announcement.
pub(crate) fn create_group(
    turn: &Turn<'_>,
    room: &mut Room,
    settings: Settings,
) -> Result<(), SendError> {
    check_can_create(room)?;
    let algorithm = identifiers::room_algorithm(turn.identity.ciphersuite());
    match &room.state.algorithm {
        Some(known) if !identifiers::is_room_algorithm(known) => {
            return Err(SendError::OtherAlgorithm(known.clone()));
        }
        Some(_) => {}
        None if room.state.power.is_too_little() => return Err(SendError::NoPower),
        None => queue_room_encryption(turn, &room.id, &algorithm)?,
    }

    room.settings = settings;
    room.state.algorithm.get_or_insert(algorithm);
    if gathering::is_worth_while(turn, room)? {
        gathering::begin(turn, room)?;
    } else {
        let epoch = found(turn, room, GroupName::First)?;
        room.standing.stage(epoch);
    }
    Ok(membership::track_devices(turn.tx, &room.id)?)
}

/// Makes a group with this device alone in it, and queues its announcement; gives its first epoch,
/// which is staged.
pub(super) fn found(
    turn: &Turn<'_>,
    room: &Room,
    group_name: GroupName,
) -> Result<EpochId, SendError> {
    let namespace = turn.tx.new_namespace()?;
    let provider = turn.provider(namespace);
    let config = create_config(turn.identity, turn.identity.leaf_parts(turn.tx)?)?;
    let group = MlsGroup::new_with_group_id(
        &provider,
        turn.identity.signer(),
        &config,
        group_id(&room.id, group_name),
        turn.identity.credential_with_key(),
    )
    .map_err(Failure::from)?;
    let own = turn.identity.name();
    let origin = Origin {
        namespace,
        creator: own.clone(),
        parent: None,
        group: (group_name, room.rank_of(group_name)),
        status: Status::Staged,
        since_ms: turn.now_ms,
    };
    let mut epoch = EpochRecord::of(&group, origin)?;
    epoch.begin_tree();
    keep_export(turn.tx, &room.id, epoch.id, &group, &provider, room.settings.history)?;
    graph::put(turn.tx, &room.id, &epoch)?;
    let created_by = room.state.create_event.as_ref();
    let base = BaseName {
        creator: own,
        commit_event: created_by.map(ToString::to_string).unwrap_or_default(),
    };
    publish(turn, &room.id, &epoch, &group, base, CommitDraft::default())?;
    Ok(epoch.id)
}

/// A room has one group: this device's, or another's that it waits to be added to.
fn check_can_create(room: &Room) -> Result<(), SendError> {
    let has_one = match &room.standing {
        Standing::Founding { .. } | Standing::Member(_) => true,
        Standing::Joining { staged, .. } => staged.is_some(),
        Standing::NoGroup | Standing::Gone => false,
    };
    if has_one {
        return Err(SendError::AlreadyEnabled);
    }
    if room.others_group {
        return Err(SendError::GroupExists);
    }
    Ok(())
}

/// Queues the state event that says the room is encrypted with MLS.
fn queue_room_encryption(turn: &Turn<'_>, room: &RoomId, algorithm: &str) -> Result<(), SendError> {
    let content = serde_json::json!({ "algorithm": algorithm });
    let request = send_state_event::v3::Request::new_raw(
        room.to_owned(),
        StateEventType::RoomEncryption,
        String::new(),
        Raw::from_json(write_content(&content, "m.room.encryption")?),
    );
    let purpose = Purpose::EnableEncryption { room_id: room.to_owned() };
    requests::enqueue(turn.tx, room.as_bytes(), turn.now_ms, purpose, request)?;
    Ok(())
}
