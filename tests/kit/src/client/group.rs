//! A room's MLS group, as the engine has it: the calls that tests make most, with errors that name
//! the device.

use matrix_mls::{EpochInfo, RoomMember, RoomSettings};

use super::Client;
use crate::KitError;

impl Client {
    /// Makes the room's group.
    pub async fn enable(&self, room_id: &str, settings: RoomSettings) -> Result<(), KitError> {
        let enabled = self.room(room_id).await?.enable(settings).await;
        enabled.map_err(self.engine(format!("enabling {room_id}")))
    }

    /// Starts the room anew, and adds all who belong in it.
    pub async fn restart_group(&self, room_id: &str) -> Result<(), KitError> {
        let restarted = self.room(room_id).await?.restart().await;
        restarted.map_err(self.engine(format!("starting {room_id} anew")))?;
        self.prepare(room_id).await
    }

    /// Sets how this device treats the room.
    pub async fn set_settings(
        &self,
        room_id: &str,
        settings: RoomSettings,
    ) -> Result<(), KitError> {
        let set = self.room(room_id).await?.set_settings(settings).await;
        set.map_err(self.engine(format!("changing the settings of {room_id}")))
    }

    /// Asks for fresh keys: the commit is part of what comes before the next message.
    pub async fn rotate_keys(&self, room_id: &str) -> Result<(), KitError> {
        let rotated = self.room(room_id).await?.rotate_keys().await;
        rotated.map_err(self.engine(format!("rotating keys in {room_id}")))
    }

    /// Has this device join the group by itself, once its requests are sent.
    pub async fn join_externally(&self, room_id: &str) -> Result<(), KitError> {
        let joined = self.room(room_id).await?.join_externally().await;
        joined.map_err(self.engine(format!("joining {room_id} externally")))
    }

    /// The devices in the group.
    pub async fn members(&self, room_id: &str) -> Result<Vec<RoomMember>, KitError> {
        let members = self.room(room_id).await?.members().await;
        members.map_err(self.engine(format!("listing the members of {room_id}")))
    }

    /// Whether another device is in the group, as this one sees it.
    pub async fn has_member(&self, room_id: &str, other: &Client) -> Result<bool, KitError> {
        let (user_id, device_id) = (other.user_id(), other.device_id());
        let members = self.members(room_id).await?;
        Ok(members.iter().any(|it| it.user_id == user_id && it.device_id == device_id))
    }

    /// The epochs that this device knows.
    pub async fn epochs(&self, room_id: &str) -> Result<Vec<EpochInfo>, KitError> {
        let epochs = self.room(room_id).await?.epochs().await;
        epochs.map_err(self.engine(format!("listing the epochs of {room_id}")))
    }

    /// The epoch that this device sends in.
    pub async fn head(&self, room_id: &str) -> Result<EpochInfo, KitError> {
        let head = self.epochs(room_id).await?.into_iter().find(|epoch| epoch.is_head);
        head.ok_or_else(|| {
            self.gave_up(format!("looking for the head of {room_id}"), "no epoch is")
        })
    }
}
