//! What the Olm machine of the SDK does for the MLS device: one signature, and the key of the
//! backup that both share.
//!
//! matrix-sdk does not give out its Olm machine. So both are had from its crypto store, on which a
//! second Olm machine is opened for a moment. That machine writes nothing and is asked nothing
//! else.

use std::{path::Path, sync::Arc, time::Duration};

use matrix_mls::{BackupState, RecoveryKey, RestoreScope, key_of_secret};
use matrix_sdk_crypto::{OlmMachine, store::CryptoStore as _};
use matrix_sdk_sqlite::{SqliteCryptoStore, SqliteStoreConfig};

use crate::{Error, Mls, mls::Inner};

/// How long the homeserver may take over the backup.
const PATIENCE: Duration = Duration::from_secs(60);
const STEP: Duration = Duration::from_millis(200);

/// The crypto store of the client's, as it was opened with `ClientBuilder::sqlite_store`.
#[derive(Clone)]
pub struct OlmStore(SqliteStoreConfig);

impl OlmStore {
    /// The store in this directory, under this passphrase.
    pub fn new(directory: impl AsRef<Path>, passphrase: Option<&str>) -> Self {
        Self(SqliteStoreConfig::new(directory).passphrase(passphrase))
    }

    /// The store of a configuration.
    pub fn with_config(config: SqliteStoreConfig) -> Self {
        Self(config)
    }

    async fn machine(&self, inner: &Inner) -> Result<OlmMachine, Error> {
        let failed = |error: &dyn std::fmt::Display| Error::OlmStore(error.to_string());
        let session = inner.client.session_meta().ok_or(Error::NotLoggedIn)?;
        let store =
            SqliteCryptoStore::open_with_config(&self.0).await.map_err(|error| failed(&error))?;
        // Without an account a new one would be made.
        if store.load_account().await.map_err(|error| failed(&error))?.is_none() {
            return Err(Error::OlmStore("it has no account: it is not the client's".to_owned()));
        }
        OlmMachine::with_store(&session.user_id, &session.device_id, Arc::new(store), None)
            .await
            .map_err(|error| failed(&error))
    }
}

impl Mls {
    /// Has the Olm machine sign this device's MLS credential, once. Until then the device enters no
    /// groups. Call it after the login, or at each start: it does nothing the second time.
    pub async fn bind(&self, store: &OlmStore) -> Result<(), Error> {
        let Some(text) = self.inner.machine.binding_to_sign().await? else { return Ok(()) };
        let olm = store.machine(&self.inner).await?;
        let signed = olm.sign(&text).await.map_err(|error| Error::OlmStore(error.to_string()))?;
        let signatures = serde_json::to_value(signed).and_then(serde_json::from_value);
        let signatures = signatures.map_err(|error| Error::OlmStore(error.to_string()))?;
        let key = olm.identity_keys().ed25519.to_base64();
        Ok(self.inner.machine.bind_device(key, signatures).await?)
    }

    /// Backs up the MLS keys where the Olm machine backs up its own: in the same version of the
    /// backup, under the same key. One recovery key then brings back both.
    ///
    /// The client's backup must be enabled (`Recovery::enable`, or `Recovery::recover` on a new
    /// device). Fails with `Backup` where it is not.
    pub async fn share_backup(&self, store: &OlmStore) -> Result<(), Error> {
        let key = self.backup_key(store).await?;
        let backup = self.inner.machine.backup();
        backup.look().await?;
        let began = tokio::time::Instant::now();
        let mut is_asked = false;
        loop {
            self.send_outgoing_requests().await?;
            match backup.state().await? {
                BackupState::Enabled { megolm: true, .. } => return Ok(()),
                BackupState::Locked { .. } if !is_asked => {
                    backup.enable(key.clone()).await?;
                    is_asked = true;
                }
                BackupState::Unknown | BackupState::Working if began.elapsed() < PATIENCE => {
                    tokio::time::sleep(STEP).await;
                }
                state => return Err(Error::Backup(format!("it is not shared: {state:?}"))),
            }
        }
    }

    /// Starts to bring back all MLS keys of the shared backup. `Update::RestoreFinished` tells the
    /// end; then decrypt again what could not be read.
    pub async fn restore(&self) -> Result<u64, Error> {
        Ok(self.inner.machine.backup().restore(None, RestoreScope::AllRooms).await?)
    }

    async fn backup_key(&self, store: &OlmStore) -> Result<Arc<RecoveryKey>, Error> {
        let olm = store.machine(&self.inner).await?;
        let keys = olm.backup_machine().get_backup_keys().await;
        let keys = keys.map_err(|error| Error::OlmStore(error.to_string()))?;
        let key = keys.decryption_key.ok_or_else(|| {
            Error::Backup("the Olm machine does not have its key: enable or recover it".to_owned())
        })?;
        Ok(key_of_secret(key.to_base64().into_bytes())?)
    }
}
