//! The client of the SDK: as much of matrix-sdk-ffi's `Client` as the tests need.

use std::{path::PathBuf, sync::Arc};

use async_compat::Compat;
use matrix_mls_sdk::{Config, Mls as Attached, OlmStore};
use matrix_sdk::{
    SqliteStoreConfig,
    encryption::{EncryptionSettings, VerificationState as SdkState},
    ruma::{
        OwnedUserId, RoomId,
        api::client::{
            account::register::v3 as register, room::create_room::v3 as create_room, uiaa,
        },
    },
    sliding_sync::VersionBuilder,
};

use crate::{error::ClientError, mls::Mls};

/// A client of matrix-sdk that is logged in.
#[derive(uniffi::Object)]
pub struct Client {
    /// Dropped in a runtime, as matrix-sdk-ffi does with its own: the SDK's stores need one then,
    /// and Kotlin's and Swift's threads have none.
    inner: Compat<matrix_sdk::Client>,
    directory: PathBuf,
    store: SqliteStoreConfig,
}

/// Whether this device is verified. matrix-sdk-ffi has this enum, and `matrix_mls` another one of
/// the same name.
#[derive(uniffi::Enum)]
pub enum VerificationState {
    /// It is not known yet.
    Unknown,
    /// It is.
    Verified,
    /// It is not.
    Unverified,
}

#[uniffi::export(async_runtime = "tokio")]
impl Client {
    /// Registers a user, and logs in. The SDK's stores are in this directory, under this key of 32
    /// bytes.
    #[uniffi::constructor]
    pub async fn register(
        homeserver: String,
        user: String,
        password: String,
        directory: String,
        store_key: Vec<u8>,
    ) -> Result<Arc<Self>, ClientError> {
        let directory = PathBuf::from(directory);
        let key = <[u8; 32]>::try_from(store_key)
            .map_err(|_| ClientError::generic("the key of a store has 32 bytes"))?;
        let store = SqliteStoreConfig::new(directory.join("sdk")).key(Some(&key));
        let inner = matrix_sdk::Client::builder()
            .homeserver_url(homeserver)
            .sqlite_store_with_config_and_cache_path(store.clone(), None::<PathBuf>)
            .sliding_sync_version_builder(VersionBuilder::Native)
            .with_encryption_settings(EncryptionSettings {
                auto_enable_cross_signing: true,
                ..EncryptionSettings::default()
            })
            .build()
            .await
            .map_err(ClientError::generic)?;
        let mut request = register::Request::new();
        request.username = Some(user.clone());
        request.password = Some(password.clone());
        request.auth = Some(uiaa::AuthData::Dummy(uiaa::Dummy::new()));
        request.inhibit_login = true;
        inner.matrix_auth().register(request).await.map_err(ClientError::generic)?;
        let login = inner.matrix_auth().login_username(user, &password);
        login.send().await.map_err(ClientError::generic)?;
        inner.encryption().wait_for_e2ee_initialization_tasks().await;
        Ok(Arc::new(Self { inner: Compat::new(inner), directory, store }))
    }

    /// Makes a private room, and invites these users.
    pub async fn create_room(&self, invited: Vec<String>) -> Result<String, ClientError> {
        let mut request = create_room::Request::new();
        request.preset = Some(create_room::RoomPreset::PrivateChat);
        let invited = invited.into_iter().map(OwnedUserId::try_from).collect::<Result<_, _>>();
        request.invite = invited.map_err(ClientError::generic)?;
        let room = self.inner.get_ref().create_room(request).await.map_err(ClientError::generic)?;
        Ok(room.room_id().to_string())
    }

    /// Joins a room.
    pub async fn join_room(&self, room_id: String) -> Result<(), ClientError> {
        let room_id = RoomId::parse(room_id).map_err(ClientError::generic)?;
        self.inner.get_ref().join_room_by_id(&room_id).await.map_err(ClientError::generic)?;
        Ok(())
    }

    /// Attaches an MLS machine to this client, and syncs from now on: first for the machine what
    /// the homeserver still has, then the SDK and the machine side by side.
    pub async fn attach_mls(&self, store_key: Vec<u8>) -> Result<Arc<Mls>, ClientError> {
        let config = Config::new(self.directory.join("mls"), store_key);
        let attached = Attached::attach(self.inner.get_ref(), config).await?;
        attached.before_sync().await?;
        attached.bind(&OlmStore::with_config(self.store.clone())).await?;
        Mls::start(attached).await
    }
}

#[uniffi::export]
impl Client {
    /// The user's id.
    pub fn user_id(&self) -> Option<String> {
        self.inner.get_ref().user_id().map(ToString::to_string)
    }

    /// Whether this device is verified.
    pub fn verification_state(&self) -> VerificationState {
        match self.inner.get_ref().encryption().verification_state().get() {
            SdkState::Unknown => VerificationState::Unknown,
            SdkState::Verified => VerificationState::Verified,
            SdkState::Unverified => VerificationState::Unverified,
        }
    }
}
