//! `Update`: what an app is told after the fact.

use super::{
    backup::{BackupState, HistoryFailure},
    device::MlsDevice,
    own_identity::{IdentityState, RecoveryState, SecretFailure},
    request::RequestKind,
    verification::VerificationState,
};

/// A change that observers are told of.
#[derive(Debug, Clone, PartialEq, Eq, uniffi::Enum)]
#[non_exhaustive]
pub enum Update {
    /// This device entered a room's group, by a Welcome or by creating the group.
    Joined {
        /// The room's id.
        room_id: String,
        /// The MLS epoch number.
        epoch: u64,
    },
    /// The room's group moved to a new epoch: its members or its keys changed.
    EpochChanged {
        /// The room's id.
        room_id: String,
        /// The new MLS epoch number.
        epoch: u64,
        /// The devices that were added.
        added: Vec<MlsDevice>,
        /// The devices that were removed.
        removed: Vec<MlsDevice>,
    },
    /// This device was removed from the room's group.
    Removed {
        /// The room's id.
        room_id: String,
    },
    /// The group has forked: two commits were made on one epoch.
    ///
    /// Every device tracks every branch, all continue on the same one, and messages on any branch
    /// stay readable. The app need not do anything.
    Forked {
        /// The room's id.
        room_id: String,
        /// The number that both new epochs have.
        epoch: u64,
    },
    /// Somebody who may set the room's state has started the room's group anew
    /// (`MlsRoom::restart`), and the room goes on in the new group.
    ///
    /// Messages of the old group stay readable. This device is let into the new group, or joins it
    /// by itself; before it is in there, it sends nothing. The app need not do anything.
    Restarted {
        /// The room's id.
        room_id: String,
        /// The id of the user who started it anew.
        by_user_id: String,
    },
    /// Another room replaces this MLS room (`m.room.tombstone`): nothing can be sent here any more.
    ///
    /// Offer your user to join that room. Old messages stay readable here. The homeserver's word is
    /// all there is for it; what the new room gets is told by `Update::RoomUpgraded`.
    RoomReplaced {
        /// The id of the room that was replaced.
        room_id: String,
        /// The id of the room that replaces it.
        replacement_room_id: String,
    },
    /// A room replaces an MLS room, by the word of both, and uses MLS too.
    ///
    /// This device's settings of the old room were carried over, unless the app had chosen some for
    /// the new one. The new room gets its group before the first message. The app need not do
    /// anything.
    RoomUpgraded {
        /// The id of the new room.
        room_id: String,
        /// The id of the MLS room that it replaces.
        predecessor_room_id: String,
    },
    /// A room replaces an MLS room, by the word of both, and does not use MLS.
    ///
    /// What is said there has other protection, or none. Tell your user before they write there.
    /// Call `MlsRoom::enable` if the room is not encrypted at all and is to use MLS;
    /// `Update::RoomUpgraded` follows.
    UpgradeNotEncrypted {
        /// The id of the new room.
        room_id: String,
        /// The id of the MLS room that it replaces.
        predecessor_room_id: String,
        /// The algorithm that the new room uses instead; absent if it is not encrypted.
        algorithm: Option<String>,
    },
    /// Secrets that the app has exported (`MlsRoom::export_secret`) are of an epoch that is over.
    ///
    /// Call `prepare_to_send` and `export_secret` again, and send with the new secret from then on.
    /// Take what others send with the secret that they name: those of the epoch before for
    /// `previous_for_ms` longer, as not everybody hears of the new epoch at once. Then forget them.
    /// It is told once for each export, however many epochs follow.
    ExportedSecretsChanged {
        /// The room's id.
        room_id: String,
        /// The MLS epoch number of the new epoch.
        epoch: u64,
        /// The id of the new epoch, as in `ExportedSecret::epoch_id`.
        epoch_id: String,
        /// The id of the epoch that the app has exported from.
        previous_epoch_id: String,
        /// For how long its secrets are still taken, in milliseconds from now.
        previous_for_ms: u64,
    },
    /// A commit adds or removes devices without a reason that this device knows of.
    UnfitCommit {
        /// The room's id.
        room_id: String,
        /// The device that made the commit.
        committer: MlsDevice,
        /// What does not fit, one sentence each.
        doubts: Vec<String>,
    },
    /// Another member removed a device that, by what this device knows, belongs in the group.
    /// Messages are sent without it for now.
    ///
    /// The two devices were told different device lists or members by their homeservers. This
    /// device has asked for the user's devices anew. It adds the device again when something has
    /// changed for it, or after the delay.
    AddUndone {
        /// The room's id.
        room_id: String,
        /// The id of the removed device's user.
        user_id: String,
        /// The removed device's id.
        device_id: String,
        /// The device that made the commit.
        by: MlsDevice,
        /// The time until the device may be added again, in milliseconds.
        retry_after_ms: u64,
    },
    /// This device cannot continue in a room, and is about to join its group anew.
    Healing {
        /// The room's id.
        room_id: String,
        /// Why, as a sentence for a log.
        reason: String,
    },
    /// This device has joined the group anew, and can send and receive again.
    Healed {
        /// The room's id.
        room_id: String,
        /// Why it had to join anew, as a sentence for a log.
        reason: String,
    },
    /// Joining anew failed for now. It is tried again later, and whenever something is to be sent.
    HealingFailed {
        /// The room's id.
        room_id: String,
        /// Why, as a sentence for a log.
        reason: String,
    },
    /// Another person's device cannot take part in groups.
    DeviceRejected {
        /// The id of the device's user.
        user_id: String,
        /// The device's id.
        device_id: String,
        /// Why: the same in every release.
        ///
        /// It is `"malformed_keys"`, `"wrong_identity"`, `"no_credential"`, `"bad_signature"`,
        /// `"changed_keys"`, `"too_many_devices"` or `"not_cross_signed"`.
        ///
        /// With `"no_credential"` the device publishes none, and none of its leaves or key packages
        /// has bound one to it so far: most likely its app does not use MLS. It is asked for again
        /// now and then.
        ///
        /// With `"changed_keys"` the device has other keys than it had at first, however long ago.
        /// Its store was lost, and its user has to log in as a new device; or the homeserver lies.
        /// With `"too_many_devices"` its user has had more than 10,000 devices. With
        /// `"not_cross_signed"` its owner has not signed it, and `MachineConfig::member_policy`
        /// asks for that: the owner has to verify it, or the homeserver has invented it.
        code: String,
        /// Why, as a sentence for a log.
        reason: String,
    },
    /// The homeserver hands out another master key for a user than the pinned one.
    ///
    /// The user has reset their cross-signing identity, or the homeserver lies. It is told once for
    /// each new key, and also when the pinned key is back: the user may have replaced it because it
    /// was stolen. Show it, and call `MlsMachine::accept_identity` when your user has seen it or has
    /// checked the new key. `MlsMachine::user_identity` has both keys. Sending goes on, unless your
    /// user has verified the user (`MlsError::UntrustedMembers`). No history is given to others
    /// until it is accepted.
    IdentityChanged {
        /// The user's id.
        user_id: String,
    },
    /// Something else is known of these users' devices than before (`Verdict`): a device list was
    /// told for the first time or has changed, a user was verified, or has another identity.
    ///
    /// Show the shields of their messages and devices anew: `MlsMachine::device_verdict` has the
    /// verdict of each device.
    TrustChanged {
        /// The users' ids.
        user_ids: Vec<String>,
    },
    /// This user's own cross-signing identity stands otherwise than before.
    ///
    /// With `IdentityState::AuthNeeded` it is told for each challenge of the homeserver, also where
    /// that is the same as the last.
    IdentityStateChanged {
        /// How it stands now.
        state: IdentityState,
    },
    /// A new identity came to nothing; what was there before stays.
    IdentityFailed {
        /// The reason: the same in every release.
        ///
        /// It is `"identity_exists"`, `"cancelled"`, or the homeserver's own code.
        code: String,
        /// The reason, as a sentence for a log.
        reason: String,
    },
    /// Secret storage stands otherwise than before.
    RecoveryChanged {
        /// How it stands now.
        state: RecoveryState,
    },
    /// Reading or storing secrets came to nothing; what was there before stays.
    RecoveryFailed {
        /// The reason: the same in every release.
        ///
        /// It is `"no_recovery"` if there is no secret storage, `"wrong_key"`,
        /// `"unsupported_recovery"`, `"recovery_exists"` if there is secret storage with another
        /// key that was not to be replaced, `"identity_incomplete"` if this device has lost private
        /// keys meanwhile, or the homeserver's own code.
        code: String,
        /// The reason, as a sentence for a log.
        reason: String,
    },
    /// Secrets were recovered with the recovery key.
    ///
    /// The identity's keys sign this device next, and the backup is enabled with its key: see
    /// `IdentityStateChanged`, `BackupChanged` and `BackupFailed`.
    RecoveryFinished {
        /// The names of the secrets that are used from now on.
        recovered: Vec<String>,
        /// The secrets that are not, and why.
        failures: Vec<SecretFailure>,
    },
    /// This user has another device that the user's own identity has not signed.
    ///
    /// The user has logged in there and not verified that device yet, or the homeserver has made it
    /// up. Ask the user. It is told once for each device.
    UnsignedOwnDevice {
        /// The device's id.
        device_id: String,
    },
    /// The homeserver hands out something else for this very device than it has uploaded. Others do
    /// not let it into their groups, or not with the keys that it has.
    OwnDeviceAltered {
        /// What is wrong: the same in every release.
        ///
        /// It is `"missing"` where the homeserver leaves this device out, or `"altered"` where its
        /// keys or signatures are others.
        code: String,
        /// What is wrong, as a sentence for a log.
        reason: String,
    },
    /// The homeserver has taken a signature that this device has made with a cross-signing key of
    /// its user's.
    ///
    /// What it signs counts as signed once the homeserver hands the signature out, which it is
    /// asked for next.
    SignatureUploaded {
        /// The id of the user whose device or master key is signed.
        user_id: String,
        /// The id of the device that is signed; absent where it is the user's master key.
        device_id: Option<String>,
    },
    /// The homeserver has refused a signature that this device has made with a cross-signing key of
    /// its user's.
    SignatureRefused {
        /// The id of the user whose device or master key is signed.
        user_id: String,
        /// The id of the device that is signed; absent where it is the user's master key.
        device_id: Option<String>,
        /// The Matrix `"errcode"`, or `HTTP_` and the status.
        code: String,
        /// The homeserver's sentence.
        reason: String,
    },
    /// Somebody asks to verify this user, or another device of this user asks. Show it, and call
    /// `Verification::accept` or `cancel` (`MlsMachine::verification` gives the handle).
    ///
    /// Nothing is known yet of who asks but the homeserver's word. The request lapses after two
    /// minutes.
    VerificationRequested {
        /// The verification's id on this device.
        verification_id: String,
        /// The id of the user who asks.
        user_id: String,
        /// The id of the device that asks.
        device_id: String,
    },
    /// A verification has come further, or has ended.
    VerificationChanged {
        /// The verification's id on this device.
        verification_id: String,
        /// How far it has come.
        state: VerificationState,
    },
    /// Another device of this user, which was verified, has handed the user's secrets to this one.
    ///
    /// The identity's keys sign this device next, and the backup is enabled with its key, if it was
    /// among them: restore from it then. It is told once.
    SecretsReceived {
        /// The verification's id on this device.
        verification_id: String,
        /// The id of the device that has handed them over.
        device_id: String,
        /// The names of the secrets that are used from now on.
        recovered: Vec<String>,
        /// The secrets that are not, and why.
        failures: Vec<SecretFailure>,
    },
    /// A device has no usable key package, so it was not added for now.
    ///
    /// It is tried again before messages, ten minutes later and then more and more seldom.
    DeviceUnreachable {
        /// The id of the room that the device should be added to.
        room_id: String,
        /// The id of the device's user.
        user_id: String,
        /// The device's id.
        device_id: String,
    },
    /// This device's clock and its homeserver's differ by an hour or more, or agree again.
    ///
    /// It is told when an event of this device comes back by sync, and again when the difference
    /// has changed by an hour. Show the user that the clock is wrong. With a clock that is more
    /// than 60 days ahead, commits that add devices cannot be followed and no device can be added;
    /// what is said in the meantime may stay unreadable here.
    ClockOff {
        /// By how many milliseconds this device's clock is ahead; negative where it is behind, 0
        /// where both agree again.
        ahead_ms: i64,
    },
    /// The homeserver refused a request for good.
    ///
    /// What it stood for was undone. Where that is needed all the same it is planned again later:
    /// after a minute, and after longer with each further refusal.
    RequestRefused {
        /// What the request was for.
        kind: RequestKind,
        /// The id of the room that the request was for, if it was for one.
        room_id: Option<String>,
        /// The Matrix `"errcode"`, or `HTTP_` and the status.
        code: String,
        /// The homeserver's sentence.
        reason: String,
    },
    /// The homeserver has other keys for this device. This device uploads and sends nothing.
    ///
    /// The store that held those keys was lost, or another app uses the device's id. Log out, and
    /// log in as a new device with a new store. It is told at each start of the machine.
    NewDeviceNeeded {
        /// Why, as a sentence for a log.
        reason: String,
    },
    /// The homeserver refuses the app's access token. It is told once, until something has worked
    /// again or the app tries anew (`access_token_renewed`, which `drive` calls). Requests wait and
    /// are not lost.
    Unauthorized {
        /// The Matrix `"errcode"`, such as `"M_UNKNOWN_TOKEN"`.
        code: String,
        /// Whether the homeserver keeps the device (`"soft_logout"`): the app can log in again with
        /// the same device id.
        soft_logout: bool,
    },
    /// The state of the key backup changed.
    BackupChanged {
        /// The new state.
        state: BackupState,
    },
    /// The backup request failed; the previous backup stays.
    BackupFailed {
        /// The reason: the same in every release.
        ///
        /// It is `"wrong_key"`, `"no_backup"`, `"backup_exists"`, `"unsupported_backup"`, or the
        /// homeserver's own code.
        code: String,
        /// The reason, as a sentence for a log.
        reason: String,
    },
    /// Epochs were uploaded into the backup.
    BackupProgress {
        /// The number of epochs that are in the backup.
        backed_up: u64,
        /// The number of epochs that are in the backup or still to be uploaded.
        total: u64,
    },
    /// A member that added this device gave it earlier messages. Decrypt again what could not be
    /// read.
    HistoryShared {
        /// The room's id.
        room_id: String,
        /// The device that gave them. Who sent which message is its claim.
        by: MlsDevice,
        /// The number of epochs that became readable.
        epochs: u64,
    },
    /// A restore has made progress.
    RestoreProgress {
        /// The restore's id.
        restore: u64,
        /// The number of sessions that were restored or found to be bad.
        done: u64,
        /// The number of sessions to restore.
        total: u64,
    },
    /// A restore has ended. Decrypt again what could not be read.
    RestoreFinished {
        /// The restore's id.
        restore: u64,
        /// The number of epochs that became readable.
        epochs: u64,
        /// What was left out, and why. With the code `"wrong_key"` nothing was restored.
        failures: Vec<HistoryFailure>,
    },
    /// This device was away, and follows the commits that it has missed.
    ///
    /// It is told again and again while that goes on, and once at the end, with `total` equal to
    /// `done`. Messages of the epochs that were followed can be decrypted from then on.
    CatchingUp {
        /// The room's id.
        room_id: String,
        /// The number of commits that were followed so far.
        done: u64,
        /// The number of commits to follow, as far as it is known. Other devices say it, so it may
        /// be wrong.
        total: Option<u64>,
    },
    /// This device could not follow the group over a stretch of epochs, and has joined it anew
    /// behind them.
    ///
    /// The messages of these epochs cannot be decrypted, unless a backup or a commit that comes
    /// late brings their keys.
    EpochsMissed {
        /// The room's id.
        room_id: String,
        /// The MLS epoch number of the first missed epoch.
        first: u64,
        /// The MLS epoch number of the last missed epoch.
        last: u64,
    },
    /// Events that waited for what they need were dropped, because there were too many or they were
    /// too old.
    EventsDropped {
        /// The room's id.
        room_id: String,
        /// The number of events.
        count: u64,
    },
}
