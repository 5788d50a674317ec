//! Getting a device: registering an account, logging in, logging out.

use std::{
    collections::VecDeque,
    sync::{Mutex, atomic::AtomicU32},
};

use serde_json::{Value, json};

use super::{Client, ClientOptions};
use crate::{Homeserver, Http, KitError};

impl Client {
    /// Registers an account and its first device.
    pub async fn register(
        homeserver: &Homeserver,
        username: &str,
        device_id: &str,
    ) -> Result<Self, KitError> {
        let options = ClientOptions::default();
        Self::register_with(homeserver, username, device_id, options).await
    }

    /// Registers an account and its first device, set up as `options` say.
    pub async fn register_with(
        homeserver: &Homeserver,
        username: &str,
        device_id: &str,
        options: ClientOptions,
    ) -> Result<Self, KitError> {
        let request = json!({
            "username": username, "password": password(username), "device_id": device_id,
            "initial_device_display_name": format!("{username}'s {device_id}"),
            "auth": { "type": "m.login.dummy" },
        });
        Self::enter(homeserver, "register", username, device_id, request, options).await
    }

    /// Logs in to an account that [`Client::register`] made, as a new device or a known one.
    pub async fn log_in(
        homeserver: &Homeserver,
        username: &str,
        device_id: &str,
    ) -> Result<Self, KitError> {
        let options = ClientOptions::default();
        Self::log_in_with(homeserver, username, device_id, options).await
    }

    /// Logs in, set up as `options` say. With the directory of an earlier client of the same
    /// device this continues from its store.
    pub async fn log_in_with(
        homeserver: &Homeserver,
        username: &str,
        device_id: &str,
        options: ClientOptions,
    ) -> Result<Self, KitError> {
        let request = json!({
            "type": "m.login.password", "identifier": { "type": "m.id.user", "user": username },
            "password": password(username), "device_id": device_id,
            "initial_device_display_name": format!("{username}'s {device_id}"),
        });
        Self::enter(homeserver, "login", username, device_id, request, options).await
    }

    async fn enter(
        homeserver: &Homeserver,
        endpoint: &str,
        username: &str,
        device_id: &str,
        request: Value,
        options: ClientOptions,
    ) -> Result<Self, KitError> {
        let name = format!("{username}/{device_id}");
        let http = Http::new(homeserver.base_url(), &name)?;
        let path = format!("/_matrix/client/v3/{endpoint}");
        let answer = http.post(&path, request).await?;
        let field = |field: &str| match answer[field].as_str() {
            Some(text) => Ok(text.to_owned()),
            None => Err(KitError::BadAnswer {
                device: name.clone(),
                what: format!("POST {path}"),
                answer: format!("no {field}"),
            }),
        };
        let user_id = field("user_id")?;
        let device_id = field("device_id")?;
        let http = Http::new(homeserver.base_url(), &format!("{user_id}/{device_id}"))?
            .with_token(&field("access_token")?);
        let (directory, temporary) = match &options.directory {
            Some(directory) => (directory.clone(), None),
            None => {
                let temporary =
                    tempfile::tempdir().map_err(KitError::io("making a directory for a store"))?;
                (temporary.path().to_owned(), Some(temporary))
            }
        };
        std::fs::create_dir_all(&directory)
            .map_err(KitError::io(format!("making {}", directory.display())))?;
        let mut client = Self {
            user_id,
            device_id,
            password: password(username),
            http,
            options,
            directory,
            _temporary: temporary,
            machine: None,
            position: tokio::sync::Mutex::default(),
            sync_nonce: AtomicU32::new(rand::random()),
            unread: Mutex::new(VecDeque::new()),
            forgotten_answers: Mutex::new(Vec::new()),
        };
        client.open_machine().await?;
        Ok(client)
    }

    /// Logs in as the same device; this client goes on with its old access token.
    pub async fn another_token(&self, homeserver: &Homeserver) -> Result<String, KitError> {
        let path = "/_matrix/client/v3/login";
        let request = json!({
            "type": "m.login.password", "password": self.password, "device_id": self.device_id,
            "identifier": { "type": "m.id.user", "user": self.user_id },
        });
        let answer = Http::new(homeserver.base_url(), &self.name())?.post(path, request).await?;
        match answer["access_token"].as_str() {
            Some(token) => Ok(token.to_owned()),
            None => Err(KitError::BadAnswer {
                device: self.name(),
                what: format!("POST {path}"),
                answer: "no access_token".to_owned(),
            }),
        }
    }

    /// Sends requests with this access token from now on.
    pub fn use_token(&mut self, homeserver: &Homeserver, token: &str) -> Result<(), KitError> {
        self.http = Http::new(homeserver.base_url(), &self.name())?.with_token(token);
        Ok(())
    }

    /// Logs out: the homeserver deletes the device. The store stays until this is dropped.
    pub async fn log_out(mut self) -> Result<(), KitError> {
        self.http.post("/_matrix/client/v3/logout", json!({})).await?;
        self.close().await
    }

    /// Deletes other devices of this user.
    pub async fn delete_devices(&self, device_ids: &[&str]) -> Result<(), KitError> {
        let username = self.user_id.trim_start_matches('@').split(':').next().unwrap_or_default();
        let path = "/_matrix/client/v3/delete_devices";
        let mut request = json!({ "devices": device_ids });
        // A real server first asks for the password, in a session that it names.
        let first = self.http.try_json("POST", path, request.clone()).await?;
        if first.status == 401
            && let Some(session) = first.json()["session"].as_str()
        {
            request["auth"] = json!({
                "type": "m.login.password", "session": session, "password": self.password,
                "identifier": { "type": "m.id.user", "user": username },
            });
        }
        if first.status != 200 {
            self.http.post(path, request).await?;
        }
        Ok(())
    }
}

/// The `auth` object by which a test account proves who its user is.
pub fn password_auth(user_id: &str, session: &str) -> Value {
    let username = user_id.trim_start_matches('@').split(':').next().unwrap_or_default();
    json!({
        "type": "m.login.password", "session": session, "password": password(username),
        "identifier": { "type": "m.id.user", "user": username },
    })
}

/// The password of every test account, so that another device can log in.
fn password(username: &str) -> String {
    format!("the password of {username}")
}
