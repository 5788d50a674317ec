//! What each request is for: ids and plain data, enough to take in its answer after a restart.

use ruma::{OwnedDeviceId, OwnedEventId, OwnedRoomId, OwnedUserId, RoomId};
use serde::{Deserialize, Serialize};

use crate::{
    devices::KeyQuery,
    exported::RequestKind,
    history::ChunkId,
    identity::UploadPlan,
    protocol::{DeviceName, EpochId, MediaReference},
};

/// What a request is for, and so what its answer means. Rows hold these names: a variant that is
/// renamed keeps its old name in its serde form.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Purpose {
    /// `POST /keys/query` of this device alone: which keys the homeserver has for it.
    CheckKeys,
    /// `POST /keys/upload`: device keys and key packages.
    UploadKeys(UploadPlan),
    /// `POST /keys/claim`: a key package of this device itself, which is too old for others.
    TakeBackKey,
    /// `POST /keys/query`: the device lists of users.
    QueryKeys(KeyQuery),
    /// `POST /keys/claim`: a key package of each of these devices, for one room.
    ClaimKeys {
        room_id: OwnedRoomId,
        #[serde(deserialize_with = "crate::protocol::devices_in_row")]
        devices: Vec<DeviceName>,
    },
    /// `POST /keys/claim`: whether these devices, of which no credential is known, have key
    /// packages. `awaited`: a message waits for the answer.
    AskSilent { room_id: OwnedRoomId, devices: Vec<DeviceName>, awaited: bool },
    /// `PUT /rooms/…/state/m.room.encryption`.
    EnableEncryption { room_id: OwnedRoomId },
    /// `PUT /rooms/…/send/m.room.encrypted`: a commit, or the announcement of a new group.
    Commit { room_id: OwnedRoomId, epoch: EpochId },
    /// `PUT /rooms/…/state/…restart`: the room goes on in the group that begins with this epoch.
    Restart { room_id: OwnedRoomId, epoch: EpochId },
    /// `PUT /sendToDevice/m.room.encrypted`: Welcomes.
    Welcome { room_id: OwnedRoomId },
    /// `POST /media/upload`: a part of a commit that no event could hold.
    Upload { room_id: OwnedRoomId, epoch: EpochId, part: CommitPart },
    /// `GET /media/download/…`: a part of another device's commit.
    Download { room_id: OwnedRoomId, reference: MediaReference },
    /// `GET /rooms/…/event/…`: a commit that others are based on.
    FetchEvent { room_id: OwnedRoomId, event_id: OwnedEventId },
    /// `GET /rooms/…/state/…/`: whether the room uses MLS.
    FetchEncryption { room_id: OwnedRoomId, place: EncryptionPlace },
    /// `GET /rooms/…/state/…restart`: with which group the room was started anew.
    FetchRestart { room_id: OwnedRoomId },
    /// `GET /rooms/…/messages`, backwards: where the room's public group state is.
    #[serde(rename = "WalkBack")]
    FindGroup { room_id: OwnedRoomId },
    /// `GET /rooms/…/messages`, backwards: where commits are that the homeserver does not have by
    /// their event ids.
    FindCommits { room_id: OwnedRoomId },
    /// `GET /rooms/…/context/…`: where in the room's history a known commit is.
    FindPlace { room_id: OwnedRoomId },
    /// `GET /rooms/…/messages`, forwards: the commits that were missed.
    CatchUp { room_id: OwnedRoomId },
    /// `GET /rooms/…/members`: who is in the room.
    FetchMembers { room_id: OwnedRoomId },
    /// `GET /rooms/…/messages`, backwards: who has come and gone since a known event.
    FollowMembers { room_id: OwnedRoomId },
    /// `PUT /pushrules/global/override/…`: commits notify nobody.
    SetPushRule,
    /// `GET /room_keys/version`: which backup there is.
    BackupVersion,
    /// `POST /room_keys/version`.
    CreateBackup,
    /// `DELETE /room_keys/version/…`.
    DeleteBackup,
    /// `PUT /room_keys/keys`: epochs for the backup.
    BackUp(BackupBatch),
    /// `DELETE /room_keys/keys/…`: an epoch whose keys were deleted here.
    #[serde(rename = "Unback")]
    DeleteFromBackup { room_id: OwnedRoomId },
    /// `GET /room_keys/keys…`: what a restore brings back.
    RestoreKeys { restore: u64 },
    /// `POST /media/upload`: history for devices that were added.
    OfferHistory(HistoryBundle),
    /// `PUT /sendToDevice/m.room.encrypted`: where that history is, or that it is asked for.
    TellHistory { room_id: OwnedRoomId },
    /// `POST /media/upload`: a ratchet tree for a device that cannot fetch it.
    GiveTree(GivenTree),
    /// `PUT /sendToDevice/m.room.encrypted`: where that tree is, or that it is asked for.
    TellTree { room_id: OwnedRoomId },
    /// `GET /user/…/account_data/…`: an event of secret storage.
    ReadSecret { kind: String },
    /// `PUT /user/…/account_data/…`: an event of secret storage.
    WriteSecret { kind: String },
    /// `POST /keys/device_signing/upload`: a new identity of this user.
    UploadIdentity,
    /// `POST /keys/signatures/upload`: one signature with a cross-signing key of this user.
    UploadSignature(UploadedSignature),
    /// `PUT /sendToDevice/m.key.verification.…`, or the same into a room: an event of a
    /// verification.
    Verification { verification: String },
    /// `PUT /sendToDevice/m.room.encrypted`: this user's secrets, for another of their devices.
    HandOver { verification: String },
    /// `POST /keys/query`: the keys of who is verified.
    VerificationKeys {
        verification: String,
        #[serde(default)]
        query: KeyQuery,
    },
}

impl Purpose {
    /// The room that the request is for, if it is for one.
    pub(crate) fn room(&self) -> Option<&RoomId> {
        match self {
            Self::ClaimKeys { room_id, .. }
            | Self::AskSilent { room_id, .. }
            | Self::EnableEncryption { room_id }
            | Self::Commit { room_id, .. }
            | Self::Restart { room_id, .. }
            | Self::FetchRestart { room_id }
            | Self::Welcome { room_id }
            | Self::Upload { room_id, .. }
            | Self::Download { room_id, .. }
            | Self::FetchEvent { room_id, .. }
            | Self::FetchEncryption { room_id, .. }
            | Self::FindGroup { room_id }
            | Self::FindCommits { room_id }
            | Self::FindPlace { room_id }
            | Self::CatchUp { room_id }
            | Self::FetchMembers { room_id }
            | Self::FollowMembers { room_id }
            | Self::DeleteFromBackup { room_id }
            | Self::TellHistory { room_id }
            | Self::TellTree { room_id } => Some(room_id),
            Self::OfferHistory(bundle) => Some(&bundle.room_id),
            Self::GiveTree(given) => Some(&given.room_id),
            Self::CheckKeys
            | Self::UploadKeys(_)
            | Self::TakeBackKey
            | Self::QueryKeys(_)
            | Self::SetPushRule
            | Self::BackupVersion
            | Self::CreateBackup
            | Self::DeleteBackup
            | Self::BackUp(_)
            | Self::RestoreKeys { .. }
            | Self::ReadSecret { .. }
            | Self::WriteSecret { .. }
            | Self::UploadIdentity
            | Self::UploadSignature(_)
            | Self::Verification { .. }
            | Self::HandOver { .. }
            | Self::VerificationKeys { .. } => None,
        }
    }

    /// Whether the request asks only, or is made again the same where a loss of power took it after
    /// it was sent: no more is lost than time. A Welcome is of a commit that was sent before it,
    /// and comes again with the answer to that.
    pub(super) fn is_made_again(&self) -> bool {
        match self {
            Self::CheckKeys
            | Self::TakeBackKey
            | Self::QueryKeys(_)
            | Self::ClaimKeys { .. }
            | Self::AskSilent { .. }
            | Self::Welcome { .. }
            | Self::Download { .. }
            | Self::FetchEvent { .. }
            | Self::FetchEncryption { .. }
            | Self::FetchRestart { .. }
            | Self::FindGroup { .. }
            | Self::FindCommits { .. }
            | Self::FindPlace { .. }
            | Self::CatchUp { .. }
            | Self::FetchMembers { .. }
            | Self::FollowMembers { .. }
            | Self::SetPushRule
            | Self::BackupVersion
            | Self::RestoreKeys { .. }
            | Self::ReadSecret { .. }
            | Self::VerificationKeys { .. } => true,
            Self::UploadKeys(_)
            | Self::EnableEncryption { .. }
            | Self::Commit { .. }
            | Self::Restart { .. }
            | Self::Upload { .. }
            | Self::CreateBackup
            | Self::DeleteBackup
            | Self::BackUp(_)
            | Self::DeleteFromBackup { .. }
            | Self::OfferHistory(_)
            | Self::TellHistory { .. }
            | Self::GiveTree(_)
            | Self::TellTree { .. }
            | Self::WriteSecret { .. }
            | Self::UploadIdentity
            | Self::UploadSignature(_)
            | Self::Verification { .. }
            | Self::HandOver { .. } => false,
        }
    }

    /// Whether the request does or says something else when it is sent again after it was answered:
    /// then its answer must not be lost.
    pub(crate) fn is_done_once(&self) -> bool {
        matches!(
            self,
            Self::CreateBackup
                | Self::DeleteBackup
                | Self::DeleteFromBackup { .. }
                | Self::UploadIdentity
        )
    }

    /// What an app is told that the request is for.
    pub(crate) fn kind(&self) -> RequestKind {
        match self {
            Self::CheckKeys => RequestKind::CheckKeys,
            Self::UploadKeys(_) => RequestKind::UploadKeys,
            Self::TakeBackKey => RequestKind::TakeBackKey,
            Self::QueryKeys(_) => RequestKind::QueryKeys,
            Self::ClaimKeys { .. } | Self::AskSilent { .. } => RequestKind::ClaimKeys,
            Self::EnableEncryption { .. } => RequestKind::EnableEncryption,
            Self::Commit { .. } => RequestKind::Commit,
            Self::Restart { .. } => RequestKind::Restart,
            Self::Welcome { .. } => RequestKind::Welcome,
            Self::Upload { .. } | Self::GiveTree(_) | Self::TellTree { .. } => {
                RequestKind::UploadPart
            }
            Self::Download { .. } => RequestKind::DownloadPart,
            Self::FetchEvent { .. } | Self::FetchEncryption { .. } | Self::FetchRestart { .. } => {
                RequestKind::FetchEvent
            }
            Self::FindGroup { .. }
            | Self::FindCommits { .. }
            | Self::FindPlace { .. }
            | Self::CatchUp { .. } => RequestKind::FetchHistory,
            Self::FetchMembers { .. } | Self::FollowMembers { .. } => RequestKind::FetchMembers,
            Self::SetPushRule => RequestKind::SetPushRule,
            Self::BackupVersion
            | Self::CreateBackup
            | Self::DeleteBackup
            | Self::BackUp(_)
            | Self::DeleteFromBackup { .. } => RequestKind::Backup,
            Self::RestoreKeys { .. } => RequestKind::Restore,
            Self::OfferHistory(_) | Self::TellHistory { .. } => RequestKind::ShareHistory,
            Self::ReadSecret { .. } | Self::WriteSecret { .. } => RequestKind::SecretStorage,
            Self::UploadIdentity => RequestKind::UploadIdentity,
            Self::UploadSignature(_) => RequestKind::UploadSignature,
            Self::HandOver { .. } => RequestKind::HandOverSecrets,
            Self::Verification { .. } | Self::VerificationKeys { .. } => RequestKind::Verify,
        }
    }
}

/// Where a room can say that it is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum EncryptionPlace {
    /// `m.room.encryption`.
    Encryption,
    /// `encryption` in `m.room.create`.
    Creation,
}

/// A part of a commit that can stand in the media repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum CommitPart {
    /// The commit.
    Commit,
    /// The ratchet tree.
    Tree,
    /// What leads to the ratchet tree from one that was published before.
    TreeDifference,
}

/// What one upload to the backup holds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct BackupBatch {
    /// The backup's version.
    pub(crate) version: String,
    pub(crate) epochs: Vec<BackupEntry>,
    /// The chunks of leaves, by room.
    pub(crate) chunks: Vec<(OwnedRoomId, ChunkId)>,
}

/// One epoch of an upload to the backup.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct BackupEntry {
    /// Its id in the backlog of epochs to be uploaded.
    #[serde(rename = "waiting")]
    pub(crate) backlog_id: i64,
    pub(crate) room: OwnedRoomId,
    pub(crate) epoch: EpochId,
    pub(crate) session_id: String,
}

/// A signature with a cross-signing key of this user, on its way to the homeserver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct UploadedSignature {
    /// Whose device or master key is signed.
    pub(crate) user_id: OwnedUserId,
    /// The device that is signed; nothing where it is the user's master key.
    pub(crate) device_id: Option<OwnedDeviceId>,
    /// The name of what is signed: the device's id, or the master key.
    pub(crate) name: String,
}

/// A ratchet tree on its way to a device that cannot fetch it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct GivenTree {
    pub(crate) room_id: OwnedRoomId,
    /// The commit whose tree it is.
    pub(crate) commit_event: OwnedEventId,
    /// The device that asked.
    pub(crate) device: DeviceName,
    pub(crate) reference: MediaReference,
}

/// Shared history on its way to the media repository.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct HistoryBundle {
    pub(crate) room_id: OwnedRoomId,
    /// The epoch whose members can make the bundle's key.
    pub(crate) epoch: EpochId,
    /// The devices that are told of it.
    pub(crate) devices: Vec<DeviceName>,
    pub(crate) bundle_id: String,
    pub(crate) reference: MediaReference,
}
