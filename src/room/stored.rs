//! The row of a room: flat, as every version since the first has written it.
//!
//! Rows that say more than one thing of the device's standing are read as what they would have led
//! to: a head makes a member, whatever else the row says.

use ruma::{OwnedEventId, OwnedRoomId};
use serde::{Deserialize, Serialize};

use super::{
    own_leaf::OwnLeaf,
    power::Power,
    record::{CommitPace, ExternalJoins, Renewal, Room, RoomState, SetAside},
    rejoin::Rejoin,
    restarts::Restarts,
    settings::Settings,
    standing::{Member, Standing},
    upgrade::Upgrade,
};
use crate::protocol::{EpochId, Rank};

/// A room's row.
#[derive(Serialize, Deserialize)]
pub(super) struct StoredRoom {
    room_id: OwnedRoomId,
    settings: Settings,
    create_event: Option<OwnedEventId>,
    algorithm: Option<String>,
    others_group: bool,
    head: Option<EpochId>,
    #[serde(default)]
    kept: Vec<EpochId>,
    #[serde(default)]
    set_aside: SetAside,
    staged: Option<EpochId>,
    settled: Option<EpochId>,
    recheck_ms: Option<u64>,
    refusals: u32,
    blocked_until_ms: Option<u64>,
    rotate: bool,
    #[serde(default)]
    rotated: Option<EpochId>,
    #[serde(default)]
    own_leaves: Vec<OwnLeaf>,
    #[serde(default)]
    healing: Option<Rejoin>,
    #[serde(default)]
    trusted_from: Option<Rank>,
    #[serde(default)]
    external_joins: Vec<u64>,
    #[serde(default)]
    fetched: u32,
    #[serde(default)]
    visibility: Option<String>,
    #[serde(default)]
    power: Power,
    own_user_left: bool,
    gone: bool,
    /// It gathers key packages for the group that it makes.
    #[serde(default)]
    gathers: bool,
    #[serde(default)]
    restarts: Restarts,
    #[serde(default)]
    upgrade: Upgrade,
}

impl From<StoredRoom> for Room {
    fn from(row: StoredRoom) -> Self {
        let standing = match (row.head, row.healing, row.staged) {
            (Some(head), rejoin, staged) => {
                let settled = row.settled == Some(head);
                Standing::Member(Member { head, settled, staged, rejoin })
            }
            _ if row.gone => Standing::Gone,
            (None, Some(rejoin), staged) => Standing::Joining { rejoin, staged },
            (None, None, staged @ Some(_)) => Standing::Founding { staged },
            (None, None, None) if row.gathers => Standing::Founding { staged: None },
            (None, None, None) => Standing::NoGroup,
        };
        Self {
            id: row.room_id,
            settings: row.settings,
            state: RoomState {
                create_event: row.create_event,
                algorithm: row.algorithm,
                history_visibility: row.visibility,
                power: row.power,
                own_user_left: row.own_user_left,
            },
            others_group: row.others_group,
            standing,
            restarts: row.restarts,
            upgrade: row.upgrade,
            kept: row.kept,
            set_aside: row.set_aside,
            renewal: Renewal { wanted: row.rotate, done_in: row.rotated, leaves: row.own_leaves },
            pace: CommitPace {
                refusals: row.refusals,
                blocked_until_ms: row.blocked_until_ms,
                recheck_ms: row.recheck_ms,
            },
            joins: ExternalJoins { times_ms: row.external_joins, trusted_from: row.trusted_from },
            commits_fetched: row.fetched,
        }
    }
}

impl From<Room> for StoredRoom {
    fn from(room: Room) -> Self {
        let (head, staged) = (room.standing.head(), room.standing.staged());
        Self {
            head,
            staged,
            settled: head.filter(|_| room.standing.is_settled()),
            healing: room.standing.rejoin().cloned(),
            gone: room.standing.is_gone(),
            gathers: room.standing.is_gathering(),
            room_id: room.id,
            settings: room.settings,
            create_event: room.state.create_event,
            algorithm: room.state.algorithm,
            visibility: room.state.history_visibility,
            power: room.state.power,
            own_user_left: room.state.own_user_left,
            others_group: room.others_group,
            restarts: room.restarts,
            upgrade: room.upgrade,
            kept: room.kept,
            set_aside: room.set_aside,
            rotate: room.renewal.wanted,
            rotated: room.renewal.done_in,
            own_leaves: room.renewal.leaves,
            refusals: room.pace.refusals,
            blocked_until_ms: room.pace.blocked_until_ms,
            recheck_ms: room.pace.recheck_ms,
            external_joins: room.joins.times_ms,
            trusted_from: room.joins.trusted_from,
            fetched: room.commits_fetched,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::identifiers;

    #[test]
    fn a_room_row_of_an_earlier_version_is_read_and_written_as_it_was()
    -> Result<(), serde_json::Error> {
        let suite = openmls::prelude::Ciphersuite::MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519;
        let row = serde_json::json!({
            "room_id": "!room:example.org", "settings": {}, "create_event": "$create",
            "algorithm": identifiers::room_algorithm(suite), "others_group": false,
            "head": vec![4; 32], "kept": [vec![4; 32]], "staged": null, "settled": vec![4; 32],
            "recheck_ms": 7, "refusals": 1, "blocked_until_ms": 9, "rotate": true, "gone": false,
            "own_user_left": false,
        });
        let stored: StoredRoom = serde_json::from_value(row.clone())?;
        let room = Room::from(stored);
        assert!(room.uses_mls() && room.standing.is_settled());
        assert_eq!(room.standing.head(), Some(EpochId::from_bytes([4; 32])));
        let written = serde_json::to_value(StoredRoom::from(room.clone()))?;
        for (field, value) in
            row.as_object().into_iter().flatten().filter(|(f, _)| *f != "settings")
        {
            assert_eq!(written.get(field), Some(value), "{field}");
        }
        assert_eq!(Room::from(serde_json::from_value::<StoredRoom>(written)?), room);
        let mut gathering = room;
        gathering.standing.gather();
        let written = serde_json::to_value(StoredRoom::from(gathering.clone()))?;
        assert_eq!(Room::from(serde_json::from_value::<StoredRoom>(written)?), gathering);
        Ok(())
    }
}
