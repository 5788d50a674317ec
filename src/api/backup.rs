//! `MlsBackup` and `RecoveryKey`: the key backup, as an app sees it. Thin, like `machine`.

use std::{fmt, sync::Arc};

use openmls_traits::random::OpenMlsRand;
use ruma::OwnedRoomId;

use super::{
    error::MlsError,
    ids,
    slot::{EngineSlot, blocking},
};
use crate::{
    backup::{self, ActiveKey, Counts, MEGOLM_SECRET, Mode, OWN_SECRET, Scope},
    engine::Engine,
    exported::{BackupState, HistoryFailure},
    identity::Crypto,
    protocol::{decode_base64, encode_base64},
    sessions::{BackupKey, PassphraseInfo, ROUNDS, session_id_of_event},
};

/// The key of a backup. Whoever has it can read everything in the backup.
///
/// Show it to the user once, as [`text`](Self::text), to be written down, or put
/// [`bytes`](Self::bytes) into secret storage. The key is wiped from memory when its last handle is
/// released.
#[derive(uniffi::Object)]
#[uniffi::export(Debug)]
pub struct RecoveryKey {
    pub(super) key: BackupKey,
    pub(super) passphrase: PassphraseInfo,
}

/// Shows nothing of the key.
impl fmt::Debug for RecoveryKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("RecoveryKey(..)")
    }
}

#[uniffi::export(async_runtime = "tokio")]
impl RecoveryKey {
    /// Generates a new random key.
    #[uniffi::constructor]
    pub fn generate() -> Result<Arc<Self>, MlsError> {
        let key = BackupKey::generate(&Crypto::default())
            .map_err(|error| MlsError::internal("random", error))?;
        Ok(Arc::new(Self { key, passphrase: PassphraseInfo::default() }))
    }

    /// Reads the text form of a key. Whitespace is ignored.
    ///
    /// Fails with `InvalidInput`. The code says what is wrong: `"recovery_key_alphabet"` for a
    /// character that cannot occur, `"recovery_key_length"` for a missing or extra character,
    /// `"recovery_key_prefix"` for another kind of key, `"recovery_key_parity"` for a mistyped
    /// character.
    #[uniffi::constructor]
    pub fn parse(text: String) -> Result<Arc<Self>, MlsError> {
        let text = zeroize::Zeroizing::new(text);
        let key = BackupKey::parse(&text)?;
        Ok(Arc::new(Self { key, passphrase: PassphraseInfo::default() }))
    }

    /// Reads the key from its 32 bytes, as secret storage has them.
    ///
    /// Fails with `InvalidInput` (`"recovery_key_length"`) if there are not 32 bytes.
    #[uniffi::constructor]
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Arc<Self>, MlsError> {
        let bytes = zeroize::Zeroizing::new(bytes);
        let key = BackupKey::from_bytes(&bytes)?;
        Ok(Arc::new(Self { key, passphrase: PassphraseInfo::default() }))
    }

    /// Derives a new key from a passphrase, with a new random salt. Takes a noticeable time.
    ///
    /// A backup that is created with this key stores how the passphrase makes it, so that the user
    /// can type the passphrase later. Fails with `InvalidInput` (`"empty_passphrase"`).
    #[uniffi::constructor]
    pub async fn from_new_passphrase(passphrase: String) -> Result<Arc<Self>, MlsError> {
        let salt: [u8; 24] = Crypto::default()
            .random_array()
            .map_err(|error| MlsError::internal("random", error))?;
        Self::from_passphrase(passphrase, encode_base64(&salt), ROUNDS).await
    }

    /// Derives an existing backup's key from a passphrase. Takes a noticeable time.
    ///
    /// `salt` and `rounds` are those of `BackupState::Locked`; the derivation is PBKDF2 with
    /// HMAC-SHA-512 (`m.pbkdf2` of the Matrix spec). Fails with `InvalidInput`
    /// (`"empty_passphrase"`, or `"bad_rounds"` for fewer than 100,000 rounds or more than
    /// 10,000,000: the homeserver says how many, and few make a key that can be guessed).
    #[uniffi::constructor]
    pub async fn from_passphrase(
        passphrase: String,
        salt: String,
        rounds: u32,
    ) -> Result<Arc<Self>, MlsError> {
        blocking(move || {
            let passphrase = zeroize::Zeroizing::new(passphrase);
            let key = BackupKey::from_passphrase(&passphrase, &salt, rounds)?;
            let passphrase = PassphraseInfo {
                private_key_salt: Some(salt),
                private_key_iterations: Some(rounds),
            };
            Ok(Arc::new(Self { key, passphrase }))
        })
        .await
    }

    /// The text to write down: 48 characters in groups of four, separated by spaces.
    ///
    /// The form is the Matrix spec's, "Cryptographic key representation".
    pub fn text(&self) -> String {
        self.key.text().to_string()
    }

    /// The 32 bytes, for secret storage.
    pub fn bytes(&self) -> Vec<u8> {
        self.key.bytes().to_vec()
    }
}

/// How much of this device's history is backed up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, uniffi::Record)]
pub struct BackupCounts {
    /// The number of epochs that this device can read and that are in the backup.
    pub backed_up: u64,
    /// The number of epochs that are in the backup or still to be uploaded.
    pub total: u64,
    /// The number of sessions that the homeserver says it holds, of all devices and kinds, if it
    /// has said so.
    pub on_server: Option<u64>,
}

/// What to restore from the backup.
#[derive(Debug, Clone, PartialEq, Eq, uniffi::Enum)]
pub enum RestoreScope {
    /// The epochs of all rooms.
    AllRooms,
    /// The epochs of one room.
    Room {
        /// The room's id.
        room_id: String,
    },
    /// The epoch that one message needs. At most its whole room is restored.
    Message {
        /// The message's `m.room.encrypted` event, as JSON, with or without its `"room_id"`.
        event: String,
        /// The room's id.
        room_id: String,
    },
}

/// A restore under way.
#[derive(Debug, Clone, PartialEq, Eq, uniffi::Record)]
pub struct RestoreStatus {
    /// The restore's id.
    pub id: u64,
    /// The number of sessions that were restored or found to be bad.
    pub done: u64,
    /// The number of sessions to restore; 0 until the homeserver has given them.
    pub total: u64,
}

/// The result of an import.
#[derive(Debug, Clone, PartialEq, Eq, uniffi::Record)]
pub struct ImportSummary {
    /// The number of epochs that became readable.
    pub epochs: u64,
    /// What was left out, counted by reason.
    pub failures: Vec<HistoryFailure>,
}

/// A backup's key in the form that secret storage has.
#[derive(Clone, PartialEq, Eq, uniffi::Record)]
#[uniffi::export(Debug)]
pub struct BackupSecret {
    /// The secret's name in secret storage.
    pub name: String,
    /// The secret before it is encrypted for secret storage: unpadded base64, in ASCII.
    pub value: Vec<u8>,
}

/// Shows nothing of the secret.
impl fmt::Debug for BackupSecret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "BackupSecret({})", self.name)
    }
}

/// The key backup of one device: its epochs on the homeserver, sealed with a key that only the user
/// has (MSC4038).
///
/// Most calls take effect as requests are sent and answered: see
/// [`MlsMachine::outgoing_requests`](crate::MlsMachine::outgoing_requests). Observers are told of
/// the results by `Update::BackupChanged`, `Update::BackupFailed`, `Update::BackupProgress`,
/// `Update::RestoreProgress` and `Update::RestoreFinished`.
///
/// A backup has a price: whoever has the recovery key and the homeserver's data can read all
/// messages of the epochs in the backup, for as long as the backup exists.
/// `RoomSettings::keep_history_ms` limits that for a room, and a room with
/// `RoomSettings::read_once` is not backed up.
#[derive(uniffi::Object)]
pub struct MlsBackup {
    engine: Arc<EngineSlot>,
}

impl MlsBackup {
    pub(super) fn new(engine: Arc<EngineSlot>) -> Self {
        Self { engine }
    }
}

#[uniffi::export(async_runtime = "tokio")]
impl MlsBackup {
    /// The state of the backup, as far as this device knows.
    pub async fn state(&self) -> Result<BackupState, MlsError> {
        self.engine.run(Engine::backup_state).await
    }

    /// Asks the homeserver which backup it has. This also finds out if the backup in use was
    /// replaced.
    pub async fn look(&self) -> Result<(), MlsError> {
        self.engine.run(Engine::look_for_backup).await
    }

    /// Creates a backup with this key, and backs up everything that this device can read.
    ///
    /// If the homeserver has a backup already and `replace` is false, nothing is created and
    /// observers are told `BackupFailed` with the code `"backup_exists"`. If `replace` is true, the
    /// new backup becomes the current one, for Megolm too.
    pub async fn create(&self, key: Arc<RecoveryKey>, replace: bool) -> Result<(), MlsError> {
        self.engine
            .run(move |engine| {
                engine.create_backup(key.key.clone(), key.passphrase.clone(), replace)
            })
            .await
    }

    /// Uses the backup that the homeserver has. `key` must be that backup's key.
    ///
    /// If it is not, observers are told `BackupFailed` with the code `"wrong_key"`, `"no_backup"`
    /// or `"unsupported_backup"`. A Megolm backup is shared: pass Megolm's key.
    pub async fn enable(&self, key: Arc<RecoveryKey>) -> Result<(), MlsError> {
        self.engine.run(move |engine| engine.enable_backup(key.key.clone())).await
    }

    /// Stops backing up, and forgets the key. The backup stays on the homeserver.
    pub async fn disable(&self) -> Result<(), MlsError> {
        self.engine.run(Engine::disable_backup).await
    }

    /// Deletes the backup from the homeserver with everything in it, including Megolm's sessions.
    ///
    /// Fails with `InvalidInput` (`"no_backup"`) if this device knows of no backup.
    pub async fn delete(&self) -> Result<(), MlsError> {
        self.engine.run(Engine::delete_backup).await
    }

    /// How much is backed up. All counts are 0 or absent while no backup is enabled.
    pub async fn counts(&self) -> Result<BackupCounts, MlsError> {
        let Counts { backed_up, waiting, on_server } =
            self.engine.run(Engine::backup_counts).await?;
        Ok(BackupCounts { backed_up, total: backed_up + waiting, on_server })
    }

    /// The enabled backup's key, for example to show it again. Absent while no backup is enabled.
    pub async fn recovery_key(&self) -> Result<Option<Arc<RecoveryKey>>, MlsError> {
        let key = self.engine.run(Engine::recovery_key).await?;
        let recovery_key = |ActiveKey { recovery_key, passphrase, .. }| {
            Arc::new(RecoveryKey { key: recovery_key, passphrase })
        };
        Ok(key.map(recovery_key))
    }

    /// The enabled backup's key, to be put into secret storage. Absent while no backup is enabled.
    pub async fn secret(&self) -> Result<Option<BackupSecret>, MlsError> {
        let key = self.engine.run(Engine::recovery_key).await?;
        Ok(key.map(|active| BackupSecret {
            name: match active.mode {
                Mode::Own => OWN_SECRET.to_owned(),
                Mode::BesideMegolm => MEGOLM_SECRET.to_owned(),
            },
            value: encode_base64(active.recovery_key.bytes()).into_bytes(),
        }))
    }

    /// The names that the backup's key may have in secret storage. [`key_of_secret`] reads the
    /// secret.
    pub fn secret_names(&self) -> Vec<String> {
        [OWN_SECRET, MEGOLM_SECRET].map(str::to_owned).to_vec()
    }

    /// Starts to restore epochs from the backup, and gives the restore's id.
    ///
    /// Restored epochs make their messages readable on this device. Without a `key`, the enabled
    /// backup's key is used. Observers are told the progress and the end. A restore continues after
    /// a restart of the app. Bad sessions are left out and counted at the end.
    ///
    /// Fails with `InvalidInput` (`"no_key"`) if there is neither a `key` nor an enabled backup,
    /// and with `NotReady` if too many restores are under way. An end with the failure
    /// `"wrong_key"` means that nothing was restored.
    pub async fn restore(
        &self,
        key: Option<Arc<RecoveryKey>>,
        scope: RestoreScope,
    ) -> Result<u64, MlsError> {
        let room = |text: &str| ids::room_id("room_id", text);
        let scope = match scope {
            RestoreScope::AllRooms => Scope::All,
            RestoreScope::Room { room_id } => Scope::Room(room(&room_id)?),
            RestoreScope::Message { event, room_id } => {
                Scope::Session(room(&room_id)?, session_id_of_event(&event)?)
            }
        };
        self.engine.run(move |engine| engine.restore(key.map(|key| key.key.clone()), scope)).await
    }

    /// Stops a restore; tells whether it was under way. Restored epochs stay.
    ///
    /// Observers are told `RestoreFinished` with the failure `"cancelled"`.
    pub async fn cancel_restore(&self, id: u64) -> Result<bool, MlsError> {
        self.engine.run(move |engine| engine.cancel_restore(id)).await
    }

    /// The restores under way.
    pub async fn restores(&self) -> Result<Vec<RestoreStatus>, MlsError> {
        let restores = self.engine.run(Engine::restores).await?;
        let status = |restore: backup::Restore| RestoreStatus {
            id: restore.id,
            done: restore.done,
            total: restore.total,
        };
        Ok(restores.into_iter().map(status).collect())
    }

    /// Writes the epochs of these rooms, or of all rooms, as text that is sealed with a passphrase.
    ///
    /// The text moves history to another device without a server. Takes a noticeable time. Fails
    /// with `InvalidInput` (`"bad_room_id"` or `"empty_passphrase"`).
    pub async fn export_history(
        &self,
        room_ids: Option<Vec<String>>,
        passphrase: String,
    ) -> Result<String, MlsError> {
        let rooms = room_ids.map(|rooms| {
            let parse = |room: &String| ids::room_id("room_ids", room);
            rooms.iter().map(parse).collect::<Result<Vec<OwnedRoomId>, MlsError>>()
        });
        let (rooms, passphrase) = (rooms.transpose()?, zeroize::Zeroizing::new(passphrase));
        self.engine.run(move |engine| engine.export_history(rooms, &passphrase)).await
    }

    /// Reads a text that [`export_history`](Self::export_history) wrote. Bad sessions are left out
    /// and counted.
    ///
    /// Takes a noticeable time. Fails with `InvalidInput` (`"bad_file"`, `"wrong_passphrase"` or
    /// `"empty_passphrase"`) and with `Unsupported` (`"file_version"`).
    pub async fn import_history(
        &self,
        text: String,
        passphrase: String,
    ) -> Result<ImportSummary, MlsError> {
        let passphrase = zeroize::Zeroizing::new(passphrase);
        let (epochs, failures) =
            self.engine.run(move |engine| engine.import_history(&text, &passphrase)).await?;
        Ok(ImportSummary { epochs, failures: failures.into_iter().map(Into::into).collect() })
    }
}

/// Reads a backup's key from secret storage's value, after that was decrypted.
///
/// Fails with `InvalidInput` (`"bad_secret"` or `"recovery_key_length"`).
#[uniffi::export]
pub fn key_of_secret(value: Vec<u8>) -> Result<Arc<RecoveryKey>, MlsError> {
    let value = zeroize::Zeroizing::new(value);
    let bytes = std::str::from_utf8(&value)
        .ok()
        .and_then(|text| decode_base64(text.trim()))
        .ok_or_else(|| MlsError::invalid("bad_secret", "value: it is not base64"))?;
    RecoveryKey::from_bytes(bytes)
}
