//! Making a room's group: epoch 0, with this device alone in it, and its announcement.

use openmls::group::MlsGroup;
use ruma::RoomId;

use super::{
    EpochRecord, Status, Turn, graph,
    publish::{self, Base, Draft},
    rooms,
    turn::{create_config, group_id},
};
use crate::{
    error::MlsError,
    protocol::{CommitContent, identifiers},
};

/// Creates the group of a room and queues its announcement. The epoch is staged until the
/// homeserver has accepted that.
pub(crate) fn create(
    turn: &Turn<'_>,
    room_id: &RoomId,
    settings: rooms::Settings,
) -> Result<(), MlsError> {
    let mut room = rooms::get(turn.tx, room_id)?;
    if (room.head.is_some() || room.staged.is_some()) && !room.gone {
        return Err(MlsError::invalid(
            "already_enabled",
            "room: this device already has an MLS group for it",
        ));
    }
    if room.others_group {
        return Err(MlsError::invalid(
            "group_exists",
            "room: another device has made its MLS group; its members add this device",
        ));
    }
    let algorithm = identifiers::room_algorithm(turn.identity.ciphersuite());
    match &room.algorithm {
        Some(known) if identifiers::suite_of_room_algorithm(known).is_none() => {
            return Err(MlsError::invalid(
                "other_algorithm",
                format!("room: it is already encrypted with {known}"),
            ));
        }
        Some(_) => {}
        None => super::outcome::queue_room_encryption(turn, room_id, &algorithm)?,
    }

    let namespace = turn.tx.new_namespace()?;
    let provider = turn.provider(namespace);
    let group = MlsGroup::new_with_group_id(
        &provider,
        turn.identity.signer(),
        &create_config(turn.identity),
        group_id(room_id),
        turn.identity.credential_with_key(),
    )?;
    let own = turn.identity.name();
    let epoch = EpochRecord::of(&group, namespace, own.clone(), None, Status::Staged, turn.now_ms)?;
    turn.keep_export(room_id, &epoch, &group, &provider, settings.history)?;
    graph::put(turn.tx, room_id, &epoch)?;
    let base = Base {
        creator: own,
        commit_event: room.create_event.as_ref().map(ToString::to_string).unwrap_or_default(),
    };
    publish::publish(turn, room_id, &epoch, &group, base, Draft::default())?;

    room.settings = settings;
    room.algorithm.get_or_insert(algorithm);
    room.staged = Some(epoch.id);
    room.settled = None;
    room.gone = false;
    rooms::put(turn.tx, &room)?;
    rooms::track_members(turn.tx, &room)?;
    Ok(())
}

/// Whether an event is the announcement of a group that somebody made.
pub(crate) fn is_announcement(content: &CommitContent) -> bool {
    content.ciphertext.is_empty()
}
