//! `MlsRoom`: the handle an app holds for one room. Thin, like `machine`.

use std::{collections::BTreeSet, sync::Arc};

use ruma::{OwnedRoomId, UserId};
use serde_json::value::RawValue;

use super::{
    error::MlsError,
    event::{DecryptedMessage, DeviceTrust, EventResult},
    settings::RoomSettings,
    slot::EngineSlot,
};
use crate::{
    engine::Readiness,
    exported::OutgoingRequest,
    protocol::{DeviceName, parse},
};

/// Whether a room can be sent to now.
#[derive(Debug, Clone, PartialEq, Eq, uniffi::Enum)]
pub enum SendPlan {
    /// The group's members are the room's: encrypt.
    Ready,
    /// Something has to be sent first.
    Waiting {
        /// Send these, mark them as sent, and call `prepare_to_send` again.
        requests: Vec<OutgoingRequest>,
        /// Only when `requests` is empty: how long to wait before calling again, in milliseconds.
        retry_after_ms: Option<u64>,
    },
}

/// A device in a room's group.
#[derive(Debug, Clone, PartialEq, Eq, uniffi::Record)]
pub struct RoomMember {
    /// Its user.
    pub user_id: String,
    /// The device.
    pub device_id: String,
    /// How far it is trusted.
    pub trust: DeviceTrust,
    /// Whether it is this device.
    pub is_own_device: bool,
}

/// One epoch of a room's group, for a debug screen.
#[derive(Debug, Clone, PartialEq, Eq, uniffi::Record)]
pub struct EpochInfo {
    /// The MLS epoch number.
    pub epoch: u64,
    /// A hash that tells it from others of the same number, in hex.
    pub id: String,
    /// The id of the epoch it was made from, where this device knows it.
    pub parent: Option<String>,
    /// The user whose device made it.
    pub creator_user_id: String,
    /// The device that made it.
    pub creator_device_id: String,
    /// The event with the commit that made it.
    pub commit_event: Option<String>,
    /// Whether it is the epoch to send on.
    pub is_head: bool,
    /// Whether this device can still process commits on it; else it can only decrypt.
    pub is_full: bool,
    /// How many devices are in it.
    pub members: u32,
    /// Whether it began with a device that joined by itself (an external commit).
    pub is_external: bool,
    /// The ids of the epochs of other branches that it says it supersedes.
    pub resolves: Vec<String>,
    /// What in its commit does not fit the Matrix room, a sentence each (see `Update::UnfitCommit`).
    pub doubts: Vec<String>,
}

/// One room, on one device.
#[derive(uniffi::Object)]
pub struct MlsRoom {
    engine: Arc<EngineSlot>,
    room_id: OwnedRoomId,
    own: DeviceName,
}

impl MlsRoom {
    pub(super) fn new(engine: Arc<EngineSlot>, room_id: OwnedRoomId, own: DeviceName) -> Self {
        Self { engine, room_id, own }
    }
}

#[uniffi::export(async_runtime = "tokio")]
impl MlsRoom {
    /// The room's id.
    pub fn room_id(&self) -> String {
        self.room_id.to_string()
    }

    /// Whether the room says that it uses MLS, as far as this device has seen.
    pub async fn is_enabled(&self) -> Result<bool, MlsError> {
        let room = self.room_id.clone();
        let record = self.engine.run(move |engine| engine.room(&room)).await?;
        Ok(record.is_some_and(|record| record.uses_mls()))
    }

    /// Makes the room an MLS room: creates its group with this device in it and queues the group's
    /// announcement. The others are added by [`prepare_to_send`](Self::prepare_to_send).
    ///
    /// Fails with `InvalidInput` when this device already has a group for the room or the room is
    /// encrypted with something else.
    pub async fn enable(&self, settings: RoomSettings) -> Result<(), MlsError> {
        let room = self.room_id.clone();
        let settings = settings.checked()?;
        self.engine.run(move |engine| engine.enable(&room, settings)).await
    }

    /// The room's settings on this device: those it was enabled with, or the defaults where another
    /// device did that, until [`set_settings`](Self::set_settings) says otherwise.
    pub async fn settings(&self) -> Result<RoomSettings, MlsError> {
        let room = self.room_id.clone();
        let record = self.engine.run(move |engine| engine.room(&room)).await?;
        Ok(record.map(|record| record.settings).unwrap_or_default().into())
    }

    /// Replaces the room's settings on this device.
    pub async fn set_settings(&self, settings: RoomSettings) -> Result<(), MlsError> {
        let room = self.room_id.clone();
        let settings = settings.checked()?;
        self.engine.run(move |engine| engine.set_settings(&room, settings)).await
    }

    /// Says who the joined users of the room are, for apps that learn of members otherwise than by
    /// `m.room.member` events in what they feed to the machine.
    pub async fn set_members(&self, user_ids: Vec<String>) -> Result<(), MlsError> {
        let room = self.room_id.clone();
        let mut users = BTreeSet::new();
        for user in user_ids {
            users.insert(UserId::parse(&user).map_err(|error| {
                MlsError::invalid("bad_user_id", format!("user_ids: {user}: {error}"))
            })?);
        }
        self.engine.run(move |engine| engine.set_members(&room, &users)).await
    }

    /// Makes sure that the group's members are the room's before a message is encrypted. Each call
    /// does one step; go on until it says `Ready`:
    ///
    /// ```text
    /// while let Waiting { requests, retry_after_ms } = room.prepare_to_send() {
    ///     send and mark each of the requests, or wait if there are none
    /// }
    /// ```
    ///
    /// Fails with `NotInGroup` when this device has no group and cannot join one.
    pub async fn prepare_to_send(&self) -> Result<SendPlan, MlsError> {
        let room = self.room_id.clone();
        Ok(match self.engine.run(move |engine| engine.prepare(&room)).await? {
            Readiness::Ready => SendPlan::Ready,
            Readiness::Waiting { requests, retry_after_ms } => {
                SendPlan::Waiting { requests, retry_after_ms }
            }
        })
    }

    /// Encrypts an event: gives the content, as JSON, of the `m.room.encrypted` event to send in its
    /// place. `content` is a JSON object. What it relates to stays readable for the homeserver.
    ///
    /// Fails with `NotReady` when [`prepare_to_send`](Self::prepare_to_send) has to be called first,
    /// and with `TooLarge` when no event could hold the result.
    pub async fn encrypt(&self, event_type: String, content: String) -> Result<String, MlsError> {
        let room = self.room_id.clone();
        self.engine
            .run(move |engine| {
                let content: Box<RawValue> = parse(&content, "content")
                    .map_err(|error| MlsError::invalid("bad_content", error))?;
                if !content.get().starts_with('{') {
                    return Err(MlsError::invalid("bad_content", "content: it is no JSON object"));
                }
                Ok(engine.encrypt(&room, &event_type, &content)?)
            })
            .await
    }

    /// Takes in events of this room, in any order; those that come too early are kept. One result an
    /// event, in order, then the results of events that waited and could now be read.
    pub async fn receive_events(&self, events: Vec<String>) -> Result<Vec<EventResult>, MlsError> {
        let room = self.room_id.clone();
        let outcomes = self.engine.run(move |engine| engine.receive_events(&room, &events)).await?;
        Ok(outcomes.into_iter().map(EventResult::from).collect())
    }

    /// Decrypts one `m.room.encrypted` message event, given as JSON. Changes nothing, so it can be
    /// repeated, in any order, for this device's own messages too.
    pub async fn decrypt(&self, event: String) -> Result<DecryptedMessage, MlsError> {
        let room = self.room_id.clone();
        self.engine.run(move |engine| engine.decrypt(&room, &event)).await.map(Into::into)
    }

    /// Has the next [`prepare_to_send`](Self::prepare_to_send) renew this device's keys and start a
    /// new epoch: whoever had stolen the old keys can read nothing that is sent after it.
    pub async fn rotate_keys(&self) -> Result<(), MlsError> {
        let room = self.room_id.clone();
        self.engine.run(move |engine| engine.rotate(&room)).await
    }

    /// Has this device join the group by itself, with no member online: from the newest public group
    /// state in the room's timeline. What that takes is handed out by `outgoing_requests`, and by
    /// [`prepare_to_send`](Self::prepare_to_send), which does so on its own where this device has no
    /// group. The others learn of it by sync. In a group already, this device takes its place anew.
    ///
    /// Fails with `NotInGroup` when the room does not use MLS, as far as this device knows, or its user is
    /// not in it. What came before it joined stays unreadable.
    pub async fn join_externally(&self) -> Result<(), MlsError> {
        let room = self.room_id.clone();
        self.engine.run(move |engine| engine.join_externally(&room)).await
    }

    /// The devices in the group, this one included. Fails with `NotInGroup`.
    pub async fn members(&self) -> Result<Vec<RoomMember>, MlsError> {
        let room = self.room_id.clone();
        let members = self.engine.run(move |engine| engine.members(&room)).await?;
        Ok(members
            .into_iter()
            .map(|(device, trust)| {
                let is_own_device = device == self.own;
                let DeviceName { user_id, device_id } = device;
                let (user_id, device_id) = (user_id.to_string(), device_id.to_string());
                RoomMember { user_id, device_id, trust: trust.into(), is_own_device }
            })
            .collect())
    }

    /// The epochs this device knows, oldest first.
    pub async fn epochs(&self) -> Result<Vec<EpochInfo>, MlsError> {
        let room = self.room_id.clone();
        let (room, epochs) = self.engine.run(move |engine| engine.epochs(&room)).await?;
        let head = room.standing.head();
        Ok(epochs
            .into_iter()
            .map(|epoch| EpochInfo {
                epoch: epoch.number,
                id: epoch.id.to_hex(),
                parent: epoch.parent.map(|parent| parent.to_hex()),
                creator_user_id: epoch.creator.user_id.to_string(),
                creator_device_id: epoch.creator.device_id.to_string(),
                commit_event: epoch.commit_event.map(|event| event.to_string()),
                is_head: head == Some(epoch.id),
                is_full: epoch.full,
                members: epoch.members,
                is_external: epoch.external,
                resolves: epoch.resolves.iter().map(|id| id.to_hex()).collect(),
                doubts: epoch.doubts.iter().map(ToString::to_string).collect(),
            })
            .collect())
    }

    /// Leaves the group: this device can still read what it could read, and nothing sent from now
    /// on. Call it when the app leaves the Matrix room; the other devices then remove this one with
    /// their next message. (While the user stays in the room they would add it again instead.)
    pub async fn leave(&self) -> Result<(), MlsError> {
        let room = self.room_id.clone();
        self.engine.run(move |engine| engine.leave(&room)).await
    }
}
