//! Taking a room over to MLS that has messages already, encrypted with Megolm or not at all.
//!
//! The room stays the same room. Its `m.room.encryption` names MLS from then on, and a group is
//! made. Messages from before stay with the Olm machine: the SDK's timeline shows them as ever.
//! Nobody takes it back, as devices that have seen it send nothing there without MLS.

use std::{collections::BTreeSet, fmt};

use http::Method;
use matrix_mls::{MlsDevice, MlsError, RoomSettings};
use matrix_sdk::{
    RoomMemberships, RoomState,
    ruma::{OwnedRoomId, OwnedUserId, RoomId, events::StateEventType},
};
use serde_json::{Map, Value, json};

use crate::{
    Error, Mls,
    http::{Request, segment},
};

/// The room algorithm (docs/protocol.md, "Identifiers").
const ALGORITHM: &str = "org.matrix.msc2883.v1.dmls.dhkemx25519-aes128gcm-sha256-ed25519";
/// What all room algorithms of MLS begin with.
const MLS: [&str; 2] = ["org.matrix.msc2883.v1.dmls.", "m.dmls.v1."];

/// How a room is encrypted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Encryption {
    /// It is not.
    None,
    /// With Megolm.
    Megolm,
    /// With MLS.
    Mls,
    /// With something that this crate does not know.
    Other(String),
}

/// Why a room cannot go over to MLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Obstacle {
    /// This user is not in the room, or the client has not synced it yet.
    NotJoined,
    /// This user may not change the room's encryption: somebody with more power has to do it.
    NoPower,
    /// The Olm machine has not signed this device's MLS credential yet: `Mls::bind` does it.
    DeviceNotBound,
    /// The room is encrypted with something else than Megolm.
    OtherEncryption,
}

/// What an upgrade of a room will do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpgradePlan {
    /// The room.
    pub room_id: OwnedRoomId,
    /// How it is encrypted now. Where it is MLS already, an upgrade does what is left to do of one
    /// that was interrupted, and nothing otherwise.
    pub encryption: Encryption,
    /// The joined users.
    pub members: BTreeSet<OwnedUserId>,
    /// All devices of these users that the homeserver lists. Which of them have MLS shows when they
    /// are added: those that have not read nothing that is sent later.
    pub devices: BTreeSet<MlsDevice>,
    /// What stands in the way. Without any, the upgrade can begin.
    pub obstacles: Vec<Obstacle>,
}

/// What an upgrade has done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upgraded {
    /// The devices in the group.
    pub devices: BTreeSet<MlsDevice>,
    /// The devices of the room's members that are not in the group: they have no MLS yet, or their
    /// owner has not signed them. They are added with a later message, once they can be.
    pub left_out: BTreeSet<MlsDevice>,
}

impl Mls {
    /// Says what an upgrade of a room will do. It changes nothing.
    pub async fn upgrade_plan(&self, room_id: &RoomId) -> Result<UpgradePlan, Error> {
        let mut plan = UpgradePlan {
            room_id: room_id.to_owned(),
            encryption: Encryption::None,
            members: BTreeSet::new(),
            devices: BTreeSet::new(),
            obstacles: Vec::new(),
        };
        if self.inner.machine.binding_to_sign().await?.is_some() {
            plan.obstacles.push(Obstacle::DeviceNotBound);
        }
        let room = self.inner.client.get_room(room_id);
        let Some(room) = room.filter(|room| room.state() == RoomState::Joined) else {
            plan.obstacles.push(Obstacle::NotJoined);
            return Ok(plan);
        };
        plan.encryption = self.encryption(room_id).await?;
        if matches!(plan.encryption, Encryption::Other(_)) {
            plan.obstacles.push(Obstacle::OtherEncryption);
        }
        // A room that was just made has no state in the SDK's store: then the homeserver decides.
        let is_powerless = room.power_levels().await.is_ok_and(|power| {
            !power.user_can_send_state(room.own_user_id(), StateEventType::RoomEncryption)
        });
        if plan.encryption != Encryption::Mls && is_powerless {
            plan.obstacles.push(Obstacle::NoPower);
        }
        let members = room.members(RoomMemberships::JOIN).await?;
        plan.members = members.iter().map(|member| member.user_id().to_owned()).collect();
        plan.devices = self.devices_of(&plan.members).await?;
        Ok(plan)
    }

    /// Takes a room over to MLS. Comes back when the devices that belong in the room are in its
    /// group.
    ///
    /// One that was interrupted goes on where it was. Fails with `CannotUpgrade` where the plan has
    /// obstacles.
    pub async fn upgrade(
        &self,
        room_id: &RoomId,
        settings: RoomSettings,
    ) -> Result<Upgraded, Error> {
        let plan = self.upgrade_plan(room_id).await?;
        if !plan.obstacles.is_empty() {
            let reason = format!("{:?}", plan.obstacles);
            return Err(Error::CannotUpgrade { room_id: room_id.to_owned(), reason });
        }
        let room = self.room(room_id)?;
        let path = state_path(room_id, "m.room.encryption");
        if plan.encryption != Encryption::Mls {
            let content = json!({ "algorithm": ALGORITHM });
            let request = Request::json(Method::PUT, path.clone(), &content);
            let answer = request.send_json(&self.inner.client).await?;
            tracing::info!(%room_id, event = ?answer["event_id"].as_str(), "a room goes over to MLS");
        }
        // The sync that tells of it may be a while.
        let get = Request::get(format!("{path}?format=event"));
        let event = get.send_json(&self.inner.client).await?;
        room.receive_events(vec![event.to_string()]).await?;
        match room.enable(settings).await {
            Ok(()) => {}
            Err(MlsError::InvalidInput { details })
                if matches!(&*details.code, "already_enabled" | "group_exists") => {}
            Err(error) => return Err(error.into()),
        }
        self.prepare(room_id).await?;
        let members = room.members().await?;
        let devices: BTreeSet<MlsDevice> = members
            .into_iter()
            .map(|member| MlsDevice { user_id: member.user_id, device_id: member.device_id })
            .collect();
        let left_out = plan.devices.difference(&devices).cloned().collect();
        Ok(Upgraded { devices, left_out })
    }

    /// How the homeserver says that a room is encrypted.
    async fn encryption(&self, room_id: &RoomId) -> Result<Encryption, Error> {
        let request = Request::get(state_path(room_id, "m.room.encryption"));
        let mut algorithm = match request.send_json(&self.inner.client).await {
            Ok(content) => content["algorithm"].as_str().map(str::to_owned),
            Err(Error::Refused { status: 404, .. }) => None,
            Err(error) => return Err(error),
        };
        if self.uses_mls(room_id).await? {
            // Its creation may say so.
            algorithm.get_or_insert_with(|| ALGORITHM.to_owned());
        }
        Ok(match algorithm {
            None => Encryption::None,
            Some(named) if MLS.iter().any(|start| named.starts_with(start)) => Encryption::Mls,
            Some(named) if named == "m.megolm.v1.aes-sha2" => Encryption::Megolm,
            Some(named) => Encryption::Other(named),
        })
    }

    /// The devices of users, as the homeserver lists them.
    async fn devices_of(
        &self,
        users: &BTreeSet<OwnedUserId>,
    ) -> Result<BTreeSet<MlsDevice>, Error> {
        let asked: Map<String, Value> =
            users.iter().map(|user| (user.to_string(), json!([]))).collect();
        let path = "/_matrix/client/v3/keys/query".to_owned();
        let request = Request::json(Method::POST, path, &json!({ "device_keys": asked }));
        let answer = request.send_json(&self.inner.client).await?;
        let listed = |user: &OwnedUserId| {
            let devices = answer["device_keys"][user.as_str()].as_object();
            let ids = devices.into_iter().flat_map(Map::keys).cloned();
            let named = |device_id| MlsDevice { user_id: user.to_string(), device_id };
            ids.map(named).collect::<Vec<_>>()
        };
        Ok(users.iter().flat_map(listed).collect())
    }
}

/// The sentences to show before an upgrade.
impl fmt::Display for UpgradePlan {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for obstacle in &self.obstacles {
            let sentence = match obstacle {
                Obstacle::NotJoined => "You are not in this room.",
                Obstacle::NoPower => "You may not change this room's encryption.",
                Obstacle::DeviceNotBound => "This device is not ready for MLS yet.",
                Obstacle::OtherEncryption => {
                    "This room is encrypted in a way this app does not know."
                }
            };
            writeln!(formatter, "{sentence}")?;
        }
        if !self.obstacles.is_empty() {
            return Ok(());
        }
        match self.encryption {
            Encryption::Mls => return writeln!(formatter, "This room uses MLS."),
            Encryption::None => writeln!(formatter, "What was said stays unencrypted.")?,
            Encryption::Megolm | Encryption::Other(_) => {
                writeln!(formatter, "Old messages stay readable where they are now.")?;
            }
        }
        let (people, devices) = (self.members.len(), self.devices.len());
        writeln!(formatter, "New messages are encrypted with MLS. Nobody can take that back.")?;
        writeln!(
            formatter,
            "{people} people with {devices} devices are in the room. Devices without MLS read \
             nothing that is sent from then on."
        )
    }
}

fn state_path(room_id: &RoomId, event_type: &str) -> String {
    format!("/_matrix/client/v3/rooms/{}/state/{event_type}/", segment(room_id.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_algorithm_is_the_library_s() {
        assert_eq!(ALGORITHM, matrix_mls_kit::peer::ALGORITHM);
    }

    #[test]
    fn a_plan_says_what_stands_in_the_way_or_what_will_happen() {
        let mut plan = UpgradePlan {
            room_id: RoomId::parse("!a:b").unwrap(),
            encryption: Encryption::Megolm,
            members: BTreeSet::new(),
            devices: BTreeSet::new(),
            obstacles: vec![Obstacle::NoPower],
        };
        assert_eq!(plan.to_string(), "You may not change this room's encryption.\n");
        plan.obstacles.clear();
        assert!(plan.to_string().starts_with("Old messages stay readable"), "{plan}");
    }
}
