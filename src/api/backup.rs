//! `MlsBackup` and `RecoveryKey`: the key backup, as an app holds it. Thin, like `machine`.

use std::{fmt, sync::Arc};

use openmls_traits::random::OpenMlsRand;
use ruma::{OwnedRoomId, RoomId};

use super::{
    error::MlsError,
    slot::{EngineSlot, blocking},
};
use crate::{
    backup::{self, ActiveKey, Counts, Mode, Scope},
    engine::Engine,
    exported::{BackupState, HistoryFailure},
    identity::Crypto,
    protocol::{decode_base64, encode_base64},
    sessions::{BackupKey, PassphraseInfo, ROUNDS, session_id_of_event},
};

/// The key of a backup: whoever has it can read all that is in the backup.
///
/// Show it to the user once, as [`text`](Self::text), to be written down, or put
/// [`bytes`](Self::bytes) into secret storage. It is wiped from memory when the last handle goes.
#[derive(uniffi::Object)]
pub struct RecoveryKey {
    key: BackupKey,
    passphrase: PassphraseInfo,
}

/// Shows nothing of the key.
impl fmt::Debug for RecoveryKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("RecoveryKey(..)")
    }
}

#[uniffi::export(async_runtime = "tokio")]
impl RecoveryKey {
    /// A new random key.
    #[uniffi::constructor]
    pub fn generate() -> Result<Arc<Self>, MlsError> {
        let key = BackupKey::generate(&Crypto::default())
            .map_err(|error| MlsError::internal("random", error))?;
        Ok(Arc::new(Self { key, passphrase: PassphraseInfo::default() }))
    }

    /// Reads the text form. Whitespace is ignored. Fails with `InvalidInput`, whose code says what is
    /// wrong: `recovery_key_alphabet`, `recovery_key_length`, `recovery_key_prefix` or, when a character is
    /// mistyped, `recovery_key_parity`.
    #[uniffi::constructor]
    pub fn parse(text: String) -> Result<Arc<Self>, MlsError> {
        let text = zeroize::Zeroizing::new(text);
        let key = BackupKey::parse(&text)?;
        Ok(Arc::new(Self { key, passphrase: PassphraseInfo::default() }))
    }

    /// The key of these 32 bytes, from secret storage.
    #[uniffi::constructor]
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Arc<Self>, MlsError> {
        let bytes = zeroize::Zeroizing::new(bytes);
        let key = BackupKey::from_bytes(&bytes)?;
        Ok(Arc::new(Self { key, passphrase: PassphraseInfo::default() }))
    }

    /// A new key that a passphrase stands for. It takes a noticeable time. The backup that is created with it
    /// says how the passphrase becomes the key.
    #[uniffi::constructor]
    pub async fn from_new_passphrase(passphrase: String) -> Result<Arc<Self>, MlsError> {
        let salt: [u8; 24] = Crypto::default()
            .random_array()
            .map_err(|error| MlsError::internal("random", error))?;
        Self::from_passphrase(passphrase, encode_base64(&salt), ROUNDS).await
    }

    /// The key that a passphrase stands for, as `BackupState::Locked` says how. It takes a noticeable time.
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

    /// The text to write down: 48 characters in groups of four.
    pub fn text(&self) -> String {
        self.key.text().to_string()
    }

    /// The 32 bytes, for secret storage.
    pub fn bytes(&self) -> Vec<u8> {
        self.key.bytes().to_vec()
    }
}

/// How much is backed up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, uniffi::Record)]
pub struct BackupCounts {
    /// Epochs that this device can read and that are in the backup.
    pub backed_up: u64,
    /// Those and the ones that are still to be uploaded.
    pub total: u64,
    /// Sessions the homeserver says it has, of all devices and kinds, where it has said so.
    pub on_server: Option<u64>,
}

/// What to restore.
#[derive(Debug, Clone, PartialEq, Eq, uniffi::Enum)]
pub enum RestoreScope {
    /// Everything.
    AllRooms,
    /// One room.
    Room {
        /// The room.
        room_id: String,
    },
    /// What one message needs, and no more than its room.
    Message {
        /// The message's `m.room.encrypted` event, as JSON with its `room_id` or from its timeline.
        event: String,
        /// The room.
        room_id: String,
    },
}

/// A restore under way.
#[derive(Debug, Clone, PartialEq, Eq, uniffi::Record)]
pub struct RestoreStatus {
    /// Its id.
    pub id: u64,
    /// How many sessions were taken or found wrong.
    pub done: u64,
    /// How many there are; 0 until the homeserver has given them.
    pub total: u64,
}

/// What an import came to.
#[derive(Debug, Clone, PartialEq, Eq, uniffi::Record)]
pub struct ImportSummary {
    /// How many epochs became readable that were not before.
    pub epochs: u64,
    /// What was left out.
    pub failures: Vec<HistoryFailure>,
}

/// A backup's key in secret storage.
#[derive(Clone, PartialEq, Eq, uniffi::Record)]
pub struct BackupSecret {
    /// The name in secret storage.
    pub name: String,
    /// The secret as it is stored there, before encryption: unpadded base64, in ASCII.
    pub value: Vec<u8>,
}

/// Shows nothing of the secret.
impl fmt::Debug for BackupSecret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "BackupSecret({})", self.name)
    }
}

/// The name in secret storage of the key of a Megolm backup (Matrix spec, "Secrets").
const MEGOLM_SECRET: &str = "m.megolm_backup.v1";
/// That of a backup of our own.
const OWN_SECRET: &str = "org.matrix.msc4038.v0";

/// The key backup of one device: its epochs on the homeserver, sealed with a key that only the user has.
///
/// What is asked for here takes effect as requests are sent and answered: see
/// [`MlsMachine::outgoing_requests`](crate::MlsMachine::outgoing_requests). Observers hear of it by
/// `Update::BackupChanged`, `BackupFailed`, `BackupProgress`, `RestoreProgress` and `RestoreFinished`.
///
/// What it costs: whoever has the recovery key and the homeserver's data can read all messages of the epochs
/// that are backed up, as long as the backup exists. `RoomSettings::keep_history_ms` bounds that for a room, and
/// with `RoomSettings::read_once` a room has no backup.
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
    /// How the backup stands, as far as this device knows.
    pub async fn state(&self) -> Result<BackupState, MlsError> {
        self.engine.run(Engine::backup_state).await
    }

    /// Asks the homeserver which backup there is. Also notices another version than the one in use.
    pub async fn look(&self) -> Result<(), MlsError> {
        self.engine.run(Engine::look_for_backup).await
    }

    /// Makes a backup with this key and backs up all that this device can read. Where the homeserver has a
    /// backup already, observers hear `BackupFailed` with code `backup_exists`, unless `replace` is true:
    /// then that one is no longer current, for Megolm either.
    pub async fn create(&self, key: Arc<RecoveryKey>, replace: bool) -> Result<(), MlsError> {
        self.engine
            .run(move |engine| {
                engine.create_backup(key.key.clone(), key.passphrase.clone(), replace)
            })
            .await
    }

    /// Goes on with the backup that the homeserver has, if this is its key; else observers hear
    /// `BackupFailed` with code `wrong_key`, `no_backup` or `unsupported_backup`. A Megolm backup is
    /// shared: give the key that Megolm has.
    pub async fn enable(&self, key: Arc<RecoveryKey>) -> Result<(), MlsError> {
        self.engine.run(move |engine| engine.enable_backup(key.key.clone())).await
    }

    /// Backs up nothing any more, and forgets the key. What is on the homeserver stays.
    pub async fn disable(&self) -> Result<(), MlsError> {
        self.engine.run(Engine::disable_backup).await
    }

    /// Deletes the backup from the homeserver with all that is in it, what Megolm has there included. Fails
    /// with `InvalidInput` (`no_backup`) when this device knows of none.
    pub async fn delete(&self) -> Result<(), MlsError> {
        self.engine.run(Engine::delete_backup).await
    }

    /// How much is backed up.
    pub async fn counts(&self) -> Result<BackupCounts, MlsError> {
        let Counts { backed_up, waiting, on_server } =
            self.engine.run(Engine::backup_counts).await?;
        Ok(BackupCounts { backed_up, total: backed_up + waiting, on_server })
    }

    /// The enabled backup's key, to show it again.
    pub async fn recovery_key(&self) -> Result<Option<Arc<RecoveryKey>>, MlsError> {
        let key = self.engine.run(Engine::recovery_key).await?;
        let recovery_key = |ActiveKey { recovery_key, passphrase, .. }| {
            Arc::new(RecoveryKey { key: recovery_key, passphrase })
        };
        Ok(key.map(recovery_key))
    }

    /// The enabled backup's key, for the app to put into secret storage.
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

    /// The names under which secret storage may have the backup's key; see [`key_of_secret`].
    pub fn secret_names(&self) -> Vec<String> {
        [OWN_SECRET, MEGOLM_SECRET].map(str::to_owned).to_vec()
    }

    /// Brings epochs back from the backup, so that this device can read their messages. Gives the restore's
    /// id; observers hear how it goes. Without a key, that of the enabled backup is used. It goes on after
    /// a restart. What is wrong in the backup is left out and told at the end.
    ///
    /// Fails with `InvalidInput` (`no_key`) when there is neither a key nor an enabled backup.
    pub async fn restore(
        &self,
        key: Option<Arc<RecoveryKey>>,
        scope: RestoreScope,
    ) -> Result<u64, MlsError> {
        let room = |text: &str| {
            RoomId::parse(text)
                .map_err(|error| MlsError::invalid("bad_room_id", format!("room_id: {error}")))
        };
        let scope = match scope {
            RestoreScope::AllRooms => Scope::All,
            RestoreScope::Room { room_id } => Scope::Room(room(&room_id)?),
            RestoreScope::Message { event, room_id } => {
                Scope::Session(room(&room_id)?, session_id_of_event(&event)?)
            }
        };
        self.engine.run(move |engine| engine.restore(key.map(|key| key.key.clone()), scope)).await
    }

    /// Stops a restore. What it has brought back stays. Tells whether it was under way; observers hear
    /// `RestoreFinished` with the failure `cancelled`.
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

    /// Writes the epochs of these rooms, or of all, as text sealed with a passphrase: for moving them
    /// without a server. It takes a noticeable time.
    pub async fn export_history(
        &self,
        room_ids: Option<Vec<String>>,
        passphrase: String,
    ) -> Result<String, MlsError> {
        let rooms = room_ids.map(|rooms| {
            let parse = |room: &String| {
                RoomId::parse(room).map_err(|error| {
                    MlsError::invalid("bad_room_id", format!("room_ids: {room}: {error}"))
                })
            };
            rooms.iter().map(parse).collect::<Result<Vec<OwnedRoomId>, MlsError>>()
        });
        let (rooms, passphrase) = (rooms.transpose()?, zeroize::Zeroizing::new(passphrase));
        self.engine.run(move |engine| engine.export_history(rooms, &passphrase)).await
    }

    /// Takes what [`export_history`](Self::export_history) wrote. Fails with `InvalidInput`: `bad_file`, or
    /// `wrong_passphrase`. What is wrong inside is left out and told.
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

/// Reads a backup's key as secret storage has it, once it is decrypted there.
#[uniffi::export]
pub fn key_of_secret(value: Vec<u8>) -> Result<Arc<RecoveryKey>, MlsError> {
    let value = zeroize::Zeroizing::new(value);
    let bytes = std::str::from_utf8(&value)
        .ok()
        .and_then(|text| decode_base64(text.trim()))
        .ok_or_else(|| MlsError::invalid("bad_secret", "value: it is not base64"))?;
    RecoveryKey::from_bytes(bytes)
}
