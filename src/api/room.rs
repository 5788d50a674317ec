//! `MlsRoom`: one room, as an app sees it. Thin, like `machine`.

use std::{collections::BTreeSet, fmt, sync::Arc};

use ruma::{OwnedRoomId, RoomId};

use super::{
    error::MlsError,
    event::{DecryptedMessage, EventResult},
    ids, sealing,
    settings::RoomSettings,
    slot::EngineSlot,
    verdict::Verdict,
    verification::Verification,
};
use crate::{
    engine::{Engine, Readiness, diagnostics::Call},
    exported::OutgoingRequest,
    exporter::Wanted,
    protocol::DeviceName,
    room::Upgrade,
};

/// Whether a room is ready to be sent to.
#[derive(Debug, Clone, PartialEq, Eq, uniffi::Enum)]
pub enum SendPlan {
    /// The group's members are those of the room: encrypt.
    Ready,
    /// Something has to be sent or waited for first.
    Waiting {
        /// The requests to send. Mark each as sent, then call `prepare_to_send` again.
        requests: Vec<OutgoingRequest>,
        /// How long to wait before the next call, in milliseconds. It is set only if `requests` is
        /// empty.
        retry_after_ms: Option<u64>,
    },
}

/// One device in a room's group.
#[derive(Debug, Clone, PartialEq, Eq, uniffi::Record)]
pub struct RoomMember {
    /// The id of the device's user.
    pub user_id: String,
    /// The device's id.
    pub device_id: String,
    /// What is known now of who the device is.
    pub verdict: Verdict,
    /// Whether it is this device.
    pub is_own_device: bool,
}

/// One epoch of a room's group, for a debug screen.
#[derive(Debug, Clone, PartialEq, Eq, uniffi::Record)]
pub struct EpochInfo {
    /// The MLS epoch number.
    pub epoch: u64,
    /// A hash in hex. It distinguishes epochs with the same number.
    pub id: String,
    /// The id of the epoch that it was made from, if this device knows that one.
    pub parent: Option<String>,
    /// The id of the user whose device made it.
    pub creator_user_id: String,
    /// The id of the device that made it.
    pub creator_device_id: String,
    /// The id of the event with the commit that made it, once this device has seen that event.
    /// What a Welcome says of it is a claim of its sender, and does not stand here.
    pub commit_event: Option<String>,
    /// Whether it is the head: the epoch that this device sends on.
    pub is_head: bool,
    /// Whether this device can still process commits on it. Otherwise it can only decrypt.
    pub is_full: bool,
    /// The number of devices in it.
    pub members: u32,
    /// Whether it began with a device that joined by itself (an external commit, RFC 9420
    /// §12.4.3.2).
    pub is_external: bool,
    /// The ids of epochs of other branches that it supersedes.
    pub resolves: Vec<String>,
    /// What in its commit does not fit the Matrix room, one sentence each (see
    /// `Update::UnfitCommit`).
    pub doubts: Vec<String>,
}

/// A secret that all devices of an epoch can export.
#[derive(Clone, PartialEq, Eq, uniffi::Record)]
#[uniffi::export(Debug)]
pub struct ExportedSecret {
    /// The secret. Forget it when it is not needed any more.
    pub secret: Vec<u8>,
    /// The MLS epoch number. On different branches two epochs can have the same.
    pub epoch: u64,
    /// The id of the epoch: 64 digits in hex. It is no secret, and others need it.
    pub epoch_id: String,
}

/// Leaves out the secret.
impl fmt::Debug for ExportedSecret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "ExportedSecret(epoch {}, {})", self.epoch, self.epoch_id)
    }
}

/// What is known of a room's upgrades: the rooms before and after it.
#[derive(Debug, Clone, PartialEq, Eq, uniffi::Record)]
pub struct RoomUpgrade {
    /// The id of the room that replaces this one, as the room's state says (`m.room.tombstone`).
    /// Nothing is sent to a room that has one.
    pub replacement_room_id: Option<String>,
    /// The id of the room that this one says it replaces (`predecessor` of `m.room.create`).
    pub predecessor_room_id: Option<String>,
    /// Whether this device knows that room, and that room names this one as its replacement. Without
    /// that the predecessor is a claim of whoever has made this room.
    pub is_confirmed: bool,
    /// Whether the predecessor is confirmed and uses MLS, and this room does not.
    pub is_downgrade: bool,
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

    async fn export(
        &self,
        epoch: Option<String>,
        label: String,
        context: Vec<u8>,
        length: u32,
    ) -> Result<ExportedSecret, MlsError> {
        let room = self.room_id.clone();
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        self.engine
            .run(move |engine| {
                let wanted = Wanted { label: &label, context: &context, length };
                let exported = engine.export_secret(&room, epoch.as_deref(), &wanted)?;
                Ok::<_, MlsError>(ExportedSecret {
                    secret: exported.secret.to_vec(),
                    epoch: exported.number,
                    epoch_id: exported.epoch.to_hex(),
                })
            })
            .await
    }
}

#[uniffi::export(async_runtime = "tokio")]
impl MlsRoom {
    /// The room's id.
    pub fn room_id(&self) -> String {
        self.room_id.to_string()
    }

    /// Whether the room uses MLS, as far as this device has seen.
    pub async fn is_enabled(&self) -> Result<bool, MlsError> {
        let room = self.room_id.clone();
        let record = self.engine.run(move |engine| engine.room(&room)).await?;
        Ok(record.is_some_and(|record| record.uses_mls()))
    }

    /// What is known of the room's upgrades: which room replaces it, and which it replaces.
    ///
    /// `Update::RoomReplaced`, `RoomUpgraded` and `UpgradeNotEncrypted` tell of changes.
    pub async fn upgrade(&self) -> Result<RoomUpgrade, MlsError> {
        let room = self.room_id.clone();
        let (room, is_confirmed) = self.engine.run(move |engine| engine.upgrade(&room)).await?;
        let upgrade = room.as_ref().map(|room| &room.upgrade);
        let id = |id: &RoomId| id.to_string();
        Ok(RoomUpgrade {
            replacement_room_id: upgrade.and_then(|known| known.replacement.as_deref()).map(id),
            predecessor_room_id: upgrade.and_then(Upgrade::predecessor).map(id),
            is_confirmed,
            is_downgrade: upgrade.is_some_and(|known| known.is_downgrade) && is_confirmed,
        })
    }

    /// Makes the room an MLS room: creates its group and queues the group's announcement.
    ///
    /// This device is the group's first member; [`prepare_to_send`](Self::prepare_to_send) adds the
    /// others. With three users or more in the room the devices are counted first: the group is
    /// made when `outgoing_requests` or `prepare_to_send` is called after the answers have come,
    /// and from 16 devices on it has all of them from the beginning. Until then this device is in
    /// no group (`NotInGroup`). Fails with `InvalidInput` if this device already has a group for
    /// the room (`"already_enabled"`), another device has made one (`"group_exists"`), the room is
    /// encrypted with something else (`"other_algorithm"`), the room's state says that this user
    /// may not set its encryption (`"no_power"`), or a setting is out of range (`"bad_settings"`).
    /// Then nothing has changed.
    ///
    /// A room that was created with the body of [`create_room_body`](crate::create_room_body) says
    /// already that it is encrypted, so that no client takes it for one that is not.
    pub async fn enable(&self, settings: RoomSettings) -> Result<(), MlsError> {
        let room = self.room_id.clone();
        let settings = settings.checked()?;
        self.engine.run(move |engine| engine.enable(&room, settings)).await
    }

    /// Asks a user of the room for an interactive verification, by messages of the room.
    ///
    /// In a room that uses MLS they are sealed as messages are, and the room is made ready for them
    /// as `prepare_to_send` does; all of that are requests of the machine. Fails with
    /// `InvalidInput` if the user id cannot be read (`"bad_user_id"`) or is this user's
    /// (`"own_user"`), with `NotReady` if 16 verifications are under way
    /// (`"too_many_verifications"`), and with `Unsupported` beside Olm (`"beside_olm"`).
    pub async fn request_verification(
        &self,
        user_id: String,
    ) -> Result<Arc<Verification>, MlsError> {
        let user = ids::user_id("user_id", &user_id)?;
        let room = Some(self.room_id.clone());
        let id =
            self.engine.run(move |engine| engine.request_verification(&user, None, room)).await?;
        self.engine.note_change();
        Ok(Verification::new(self.engine.clone(), id))
    }

    /// Starts the room anew: makes another group, in which the room goes on from then on.
    ///
    /// This is the way out where a hostile member has made the room's group unusable. Remove that
    /// member from the Matrix room first: whoever is in the room comes into the new group. It takes
    /// the power to set the room's state (usually 50 or 100), which the homeserver enforces.
    ///
    /// The plan is stored when this returns. Its requests come from `outgoing_requests` and from
    /// [`prepare_to_send`](Self::prepare_to_send), which adds the others as it does after
    /// [`enable`](Self::enable): call it right away, as before a message. `Update::Restarted` tells
    /// each device when the new group counts. Old messages stay readable.
    ///
    /// Where the homeserver refuses (`Update::RequestRefused` with `RequestKind::Restart` or
    /// `Commit`), the room goes on in its old group, and nothing is lost. A second call while the
    /// first is under way changes nothing. Fails with `NotInGroup` if this device does not know
    /// that the room uses MLS, or its user has left the room, and with `NotReady` while the room's
    /// first group is being made.
    pub async fn restart(&self) -> Result<(), MlsError> {
        let room = self.room_id.clone();
        self.engine.run(move |engine| engine.restart(&room)).await
    }

    /// The room's settings on this device.
    ///
    /// They are those that the room was enabled with, or the defaults if another device enabled it,
    /// until [`set_settings`](Self::set_settings) replaces them.
    pub async fn settings(&self) -> Result<RoomSettings, MlsError> {
        let room = self.room_id.clone();
        let record = self.engine.run(move |engine| engine.room(&room)).await?;
        Ok(record.map(|record| record.settings).unwrap_or_default().into())
    }

    /// Replaces the room's settings on this device. Fails with `InvalidInput` (`"bad_settings"`).
    pub async fn set_settings(&self, settings: RoomSettings) -> Result<(), MlsError> {
        let room = self.room_id.clone();
        let settings = settings.checked()?;
        self.engine.run(move |engine| engine.set_settings(&room, settings)).await
    }

    /// Sets the joined users of the room.
    ///
    /// This is for apps that know the members without their `m.room.member` events. The list counts
    /// where the last sync's `joined_count` agrees with it. Otherwise the machine asks the
    /// homeserver before anything is sent. Fails with `InvalidInput` (`"bad_user_id"`).
    pub async fn set_members(&self, user_ids: Vec<String>) -> Result<(), MlsError> {
        let room = self.room_id.clone();
        let mut users = BTreeSet::new();
        for user in user_ids {
            users.insert(ids::user_id("user_ids", &user)?);
        }
        self.engine.run(move |engine| engine.set_members(&room, &users)).await
    }

    /// Has the homeserver asked who is in the room, before anything is sent there.
    ///
    /// Call it when the app has reason to believe that the machine was not told of a change. What
    /// the machine can see by itself it asks about by itself.
    pub async fn doubt_members(&self) -> Result<(), MlsError> {
        let room = self.room_id.clone();
        self.engine.run(move |engine| engine.doubt_members(&room)).await
    }

    /// Does the next step towards a group whose members are those of the room.
    ///
    /// Call it before a message is encrypted, again and again until the result is `Ready`. As long
    /// as the result is `Waiting`, send its `requests` and mark each as sent, or, if there are
    /// none, wait for `retry_after_ms` milliseconds.
    ///
    /// Fails with `NotInGroup` if nothing says that the room uses MLS (`"not_enabled"`), this
    /// device has left the group (`"left_group"`), or it cannot join anew for now
    /// (`"cannot_heal"`). Fails with `RoomReplaced` if another room replaces this one, and with
    /// `NotInGroup` (`"downgraded"`) if the room replaces an MLS room and does not use MLS. Fails
    /// with `InvalidInput` (`"other_algorithm"`) in a room that is encrypted with something else.
    /// Fails with `NotReady` (`"members_unknown"`) if the homeserver does not say who is in the
    /// room: nothing is sent to a room whose members are not known.
    pub async fn prepare_to_send(&self) -> Result<SendPlan, MlsError> {
        let room = self.room_id.clone();
        Ok(
            match self.engine.run_timed(Call::Prepare, move |engine| engine.prepare(&room)).await? {
                Readiness::Ready => SendPlan::Ready,
                Readiness::Waiting { requests, retry_after_ms } => {
                    SendPlan::Waiting { requests, retry_after_ms }
                }
            },
        )
    }

    /// Encrypts an event. Gives the content of the `m.room.encrypted` event to send instead, as
    /// JSON.
    ///
    /// `content` is the plain content, a JSON object. Its `"m.relates_to"` stays readable for the
    /// homeserver.
    ///
    /// Fails with `NotReady` if [`prepare_to_send`](Self::prepare_to_send) has to be called first:
    /// with `"not_own_leaf"` if the store's keys for the room are not this device's, which then
    /// joins anew. Fails with `RoomReplaced` if another room replaces this one, with `TooLarge` if
    /// the result is too large for an event, and with `InvalidInput` (`"bad_content"`) if `content`
    /// is not a JSON object.
    pub async fn encrypt(&self, event_type: String, content: String) -> Result<String, MlsError> {
        sealing::encrypt(&self.engine, &self.room_id, event_type, content).await
    }

    /// Takes in events of this room, each as JSON, in any order and from anywhere in its history.
    /// Events that come too early are kept.
    ///
    /// Who was in the room when such an event was sent says nothing of now: only syncs change who
    /// this machine holds for a member.
    ///
    /// Gives one result for each event, in order, then the results of earlier events that waited
    /// and could be read now.
    pub async fn receive_events(&self, events: Vec<String>) -> Result<Vec<EventResult>, MlsError> {
        let room = self.room_id.clone();
        let outcomes = self.engine.run(move |engine| engine.receive_events(&room, &events)).await?;
        let results: Vec<_> = outcomes.into_iter().map(EventResult::from).collect();
        self.engine.note_events(&results);
        Ok(results)
    }

    /// Decrypts one `m.room.encrypted` message event, given as JSON.
    ///
    /// What cannot be read has its cause in `MlsError::unreadable_cause`: a commit, a redacted
    /// event, something sent before this device joined, and more.
    ///
    /// Decrypting changes nothing, so it can be repeated, in any order, and works for this device's
    /// own messages too. The exception is a room with `RoomSettings::read_once`: there a message is
    /// decrypted once.
    pub async fn decrypt(&self, event: String) -> Result<DecryptedMessage, MlsError> {
        let room = self.room_id.clone();
        let decrypt = move |engine: &Engine| engine.decrypt(&room, &event);
        let opened = self.engine.run_timed(Call::Decrypt, decrypt).await;
        opened.inspect_err(|error| self.engine.note_unreadable(error)).map(Into::into)
    }

    /// Exports a secret that every device of the room's group has and nobody else (RFC 9420 §8.5): for
    /// the keys of a call, for example.
    ///
    /// It is of the epoch that a message would be encrypted in now: call
    /// [`prepare_to_send`](Self::prepare_to_send) first, as before a message. Devices get the same
    /// bytes for the same epoch, label, context and length. Tell the others the `epoch_id`, so that
    /// they know which secret to take. A device that was removed has no secret of the epochs after
    /// that. `Update::ExportedSecretsChanged` tells when there is another epoch.
    ///
    /// `label` says what the secret is for: 1 to 255 bytes, beginning with a domain of yours. `context`
    /// tells secrets of one kind apart: at most 65,535 bytes, such as the ids of the call, the user
    /// and the device. `length` is 16 to 1,024 bytes. Use a secret for one purpose and keep it in
    /// memory only; two devices must not seal with one key, so put the sender into the context.
    ///
    /// Fails with `InvalidInput` (`"bad_label"`, `"reserved_label"`, `"bad_context"`, `"bad_length"`),
    /// and as [`encrypt`](Self::encrypt) does with `NotReady`, `NotInGroup` and `RoomReplaced`.
    pub async fn export_secret(
        &self,
        label: String,
        context: Vec<u8>,
        length: u32,
    ) -> Result<ExportedSecret, MlsError> {
        self.export(None, label, context, length).await
    }

    /// Exports a secret of the epoch with this id: to take in what another device sends that has named
    /// the epoch.
    ///
    /// The arguments are those of [`export_secret`](Self::export_secret). It works for the epochs that
    /// this device was in and that can still take a commit (`RoomSettings::kept_epochs`,
    /// `kept_for_ms`), on any branch. Do not send with it.
    ///
    /// Fails with `InvalidInput` as `export_secret` does and with `"bad_epoch_id"`, with `NotInGroup`
    /// if this device is in no group of the room, and with `UnknownEpoch`: `"unknown_epoch"` if this
    /// device does not know it yet, `"restored_epoch"` if it has the epoch from a backup, a file or a
    /// member, and `"epoch_not_kept"` if the epoch is over and its secrets were deleted.
    pub async fn export_secret_of_epoch(
        &self,
        epoch_id: String,
        label: String,
        context: Vec<u8>,
        length: u32,
    ) -> Result<ExportedSecret, MlsError> {
        self.export(Some(epoch_id), label, context, length).await
    }

    /// Makes the next [`prepare_to_send`](Self::prepare_to_send) renew this device's keys in a new
    /// epoch.
    ///
    /// Whoever has stolen the old keys can read nothing that is sent after that epoch began. Fails
    /// with `NotInGroup`.
    pub async fn rotate_keys(&self) -> Result<(), MlsError> {
        let room = self.room_id.clone();
        self.engine.run(move |engine| engine.rotate(&room)).await
    }

    /// Makes this device join the group by itself, with no other member online (RFC 9420, external
    /// commit).
    ///
    /// The device joins from the newest public group state in the room's timeline. The requests
    /// come from `outgoing_requests` and from [`prepare_to_send`](Self::prepare_to_send), which
    /// joins on its own if this device has no group. The other devices learn of it by sync. A
    /// device that is in the group already joins anew in its own place. Messages from before the
    /// join stay unreadable.
    ///
    /// Fails with `NotInGroup` if this device does not know that the room uses MLS, or its user has
    /// left the room.
    pub async fn join_externally(&self) -> Result<(), MlsError> {
        let room = self.room_id.clone();
        self.engine.run(move |engine| engine.join_externally(&room)).await
    }

    /// The devices in the group, including this one. Fails with `NotInGroup`.
    pub async fn members(&self) -> Result<Vec<RoomMember>, MlsError> {
        let room = self.room_id.clone();
        let members = self.engine.run(move |engine| engine.members(&room)).await?;
        Ok(members
            .into_iter()
            .map(|member| {
                let is_own_device = member.device == self.own;
                RoomMember {
                    is_own_device,
                    user_id: member.device.user_id.to_string(),
                    device_id: member.device.device_id.to_string(),
                    verdict: if is_own_device { Verdict::Verified } else { member.verdict.into() },
                }
            })
            .collect())
    }

    /// The epochs that this device knows, oldest first.
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
                commit_event: epoch
                    .commit_event
                    .filter(|_| !epoch.event_is_hint)
                    .map(|event| event.to_string()),
                is_head: head == Some(epoch.id),
                is_full: epoch.full,
                members: epoch.members,
                is_external: epoch.external,
                resolves: epoch.resolves.iter().map(|id| id.to_hex()).collect(),
                doubts: epoch.doubts.iter().map(ToString::to_string).collect(),
            })
            .collect())
    }

    /// Leaves the group. This device keeps what it could read, and reads nothing that is sent
    /// later.
    ///
    /// Call it when the app leaves the Matrix room: the other devices remove this one with their
    /// next message. While the user stays in the room, they would add it again instead. Fails with
    /// `NotInGroup`.
    pub async fn leave(&self) -> Result<(), MlsError> {
        let room = self.room_id.clone();
        self.engine.run(move |engine| engine.leave(&room)).await
    }
}
