//! What an app asks of a room, beside messages.

use std::collections::BTreeSet;

use ruma::{OwnedRoomId, OwnedUserId, RoomId};

use super::{consequences::in_room, core::Engine, error::EngineError, own_keys};
use crate::{
    commits,
    devices::{self, Verdict},
    epochs::{EpochRecord, Status, graph, retention},
    exporter::{self, Exported, Wanted},
    failure::Failure,
    history::archive,
    incoming::members,
    messages::{SendError, refuse_replaced},
    protocol::{DeviceName, credential},
    rejoin,
    room::{self, Doubt, Retention, Room, Settings},
    store::StoreError,
    turn::Turn,
};

/// Replaces a room's settings.
pub(super) fn change_settings(
    turn: &Turn<'_>,
    room: &mut Room,
    settings: Settings,
) -> Result<(), Failure> {
    let is_once = |settings: &Settings| settings.history == Retention::ReadOnce;
    // How an epoch's messages are read is decided when it begins.
    room.renewal.wanted |=
        room.standing.head().is_some() && is_once(&settings) != is_once(&room.settings);
    room.settings = settings;
    room.standing.unsettle();
    retention::delete_old(turn, room)
}

/// A device in a room's group.
pub(crate) struct GroupMember {
    pub(crate) device: DeviceName,
    pub(crate) verdict: Verdict,
}

impl Engine {
    /// Makes a room's group.
    pub(crate) fn enable(&self, room: &RoomId, settings: Settings) -> Result<(), EngineError> {
        self.turn(|turn| {
            own_keys::refuse_unready(turn)?;
            Ok(in_room(turn, room, |room| {
                refuse_replaced(room)?;
                commits::create_group(turn, room, settings)?;
                room.upgrade.settings_chosen = true;
                Ok::<_, SendError>(())
            })?)
        })
    }

    /// Starts a room anew with another group.
    pub(crate) fn restart(&self, room: &RoomId) -> Result<(), EngineError> {
        self.turn(|turn| {
            own_keys::refuse_unready(turn)?;
            Ok(in_room(turn, room, |room| {
                refuse_replaced(room)?;
                commits::restart::restart(turn, room)
            })?)
        })
    }

    /// Says who the joined users of a room are.
    pub(crate) fn set_members(
        &self,
        room: &RoomId,
        users: &BTreeSet<OwnedUserId>,
    ) -> Result<(), EngineError> {
        self.turn(|turn| {
            Ok(room::edit(turn.tx, room, |room| members::set_by_app(turn, room, users))?)
        })
    }

    /// Has the homeserver asked who is in a room, before it is sent to.
    pub(crate) fn doubt_members(&self, room: &RoomId) -> Result<(), EngineError> {
        self.turn(|turn| {
            Ok(room::edit(turn.tx, room, |room| members::doubt_list(turn, room, Doubt::List))?)
        })
    }

    /// Asks for fresh keys with the next commit.
    pub(crate) fn rotate(&self, room: &RoomId) -> Result<(), EngineError> {
        self.turn(|turn| {
            Ok(room::edit(turn.tx, room, |room| {
                if room.standing.head().is_none() {
                    return Err(SendError::from(room.outside()));
                }
                room.renewal.wanted = true;
                Ok(())
            })?)
        })
    }

    /// Joins a room's group by an external commit.
    pub(crate) fn join_externally(&self, room: &RoomId) -> Result<(), EngineError> {
        self.turn(|turn| {
            Ok(room::edit(turn.tx, room, |room| {
                if !room.uses_mls() || room.state.own_user_left {
                    return Err(SendError::from(room.outside()));
                }
                Ok(rejoin::ask(turn, room)?)
            })?)
        })
    }

    /// Replaces a room's settings.
    pub(crate) fn set_settings(
        &self,
        room: &RoomId,
        settings: Settings,
    ) -> Result<(), EngineError> {
        self.turn(|turn| {
            Ok(in_room(turn, room, |room| {
                room.upgrade.settings_chosen = true;
                change_settings(turn, room, settings)
            })?)
        })
    }

    /// Leaves a room's group.
    pub(crate) fn leave(&self, room: &RoomId) -> Result<(), EngineError> {
        self.turn(|turn| {
            Ok(in_room(turn, room, |room| {
                let standing = &room.standing;
                let joins = standing.staged().is_some()
                    || standing.rejoin().is_some()
                    || standing.is_gathering();
                if standing.head().is_none() && !joins && room.set_aside.epochs.is_empty() {
                    return Err(SendError::from(room.outside()));
                }
                Ok(rejoin::leave(turn, room)?)
            })?)
        })
    }

    /// Exports a secret from a room's head, or from an epoch that is named.
    pub(crate) fn export_secret(
        &self,
        room: &RoomId,
        epoch: Option<&str>,
        wanted: &Wanted<'_>,
    ) -> Result<Exported, EngineError> {
        self.repeatable_turn(|turn| {
            own_keys::refuse_others(turn.tx)?;
            Ok(match epoch {
                Some(epoch) => exporter::of_epoch(turn, room, epoch, wanted)?,
                None => exporter::of_head(turn, room, wanted)?,
            })
        })
    }

    /// The devices in a room's group.
    pub(crate) fn members(&self, room: &RoomId) -> Result<Vec<GroupMember>, EngineError> {
        self.read(|tx| {
            let known = room::load(tx, room)?;
            let Some(head) = known.standing.head() else {
                return Err(SendError::from(known.outside()).into());
            };
            let mut members = Vec::new();
            for (_, leaf) in archive::leaves(tx, room, head)? {
                let credential = leaf.credential().map_err(Failure::from)?;
                let device =
                    credential::parse(credential.serialized_content()).map_err(Failure::from)?;
                let key = leaf.signature_key();
                let verdict = devices::verdict(tx, &device, key)?;
                members.push(GroupMember { device, verdict });
            }
            Ok(members)
        })
    }

    /// The accepted epochs of a room, and which is the head.
    pub(crate) fn epochs(&self, room: &RoomId) -> Result<(Room, Vec<EpochRecord>), EngineError> {
        self.read(|tx| {
            let mut epochs = graph::all(tx, room)?;
            epochs.retain(|epoch| epoch.status == Status::Accepted);
            Ok((room::load(tx, room)?, epochs))
        })
    }

    /// What is known of a room, and whether the room that it says it replaces confirms that.
    pub(crate) fn upgrade(&self, room: &RoomId) -> Result<(Option<Room>, bool), EngineError> {
        self.read(|tx| {
            let Some(room) = room::find(tx, room)? else { return Ok((None, false)) };
            let old = match room.upgrade.predecessor() {
                Some(old) => room::find(tx, old)?,
                None => None,
            };
            let is_confirmed = old.is_some_and(|old| old.is_replaced_by(&room));
            Ok((Some(room), is_confirmed))
        })
    }

    /// What is known of a room, if anything.
    pub(crate) fn room(&self, room: &RoomId) -> Result<Option<Room>, EngineError> {
        self.read(|tx| Ok(room::find(tx, room)?))
    }

    /// The rooms that use MLS.
    pub(crate) fn rooms(&self) -> Result<Vec<OwnedRoomId>, EngineError> {
        self.read(|tx| {
            let rooms = room::all(tx)?.into_iter();
            Ok::<_, StoreError>(rooms.filter(Room::uses_mls).map(|room| room.id).collect())
        })
        .map_err(EngineError::from)
    }
}
