//! Logging in, or going on with the session of an earlier start.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
};

use matrix_mls_sdk::{Config, Mls, OlmStore, matrix_mls::RecoveryKey};
use matrix_sdk::{
    Client,
    authentication::matrix::MatrixSession,
    encryption::EncryptionSettings,
    ruma::api::client::{account::register::v3 as register, uiaa},
    sliding_sync::VersionBuilder,
};

use crate::Result;

const USAGE: &str = "usage: chat --homeserver URL --user NAME --password PASSWORD \
                     [--directory DIRECTORY] [--register]";

/// The command line.
pub struct Options {
    homeserver: String,
    user: String,
    password: String,
    directory: PathBuf,
    registers: bool,
}

impl Options {
    pub fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self> {
        let (mut homeserver, mut user, mut password, mut directory) = (None, None, None, None);
        let mut registers = false;
        while let Some(name) = arguments.next() {
            match &*name {
                "--homeserver" => homeserver = arguments.next(),
                "--user" => user = arguments.next(),
                "--password" => password = arguments.next(),
                "--directory" => directory = arguments.next().map(PathBuf::from),
                "--register" => registers = true,
                _ => return Err(USAGE.into()),
            }
        }
        let (homeserver, user) = (homeserver.ok_or(USAGE)?, user.ok_or(USAGE)?);
        let directory = directory.unwrap_or_else(|| Path::new("matrix-mls-chat").join(&user));
        Ok(Self { homeserver, user, password: password.ok_or(USAGE)?, directory, registers })
    }
}

/// A client that is logged in, and a machine that is attached to it.
pub struct Account {
    pub client: Client,
    pub mls: Mls,
    pub olm: OlmStore,
}

/// Logs in, in the directory. An app on a phone has the keys in the platform's key store.
pub async fn enter(options: &Options) -> Result<Account> {
    fs::create_dir_all(&options.directory)?;
    let key = store_key(&options.directory)?;
    let passphrase = hex(&key);
    let sdk = options.directory.join("sdk");
    let client = Client::builder()
        .homeserver_url(&options.homeserver)
        .sqlite_store(&sdk, Some(&passphrase))
        .sliding_sync_version_builder(VersionBuilder::Native)
        .with_encryption_settings(EncryptionSettings {
            auto_enable_cross_signing: true,
            ..EncryptionSettings::default()
        })
        .build()
        .await?;
    let session = options.directory.join("session.json");
    if let Ok(text) = fs::read(&session) {
        client.restore_session(serde_json::from_slice::<MatrixSession>(&text)?).await?;
    } else {
        log_in(&client, options).await?;
        let kept = client.matrix_auth().session().ok_or("no session")?;
        write_private(&session, &serde_json::to_vec(&kept)?)?;
    }
    client.encryption().wait_for_e2ee_initialization_tasks().await;
    let mls = Mls::attach(&client, Config::new(options.directory.join("mls"), key)).await?;
    Ok(Account { client, mls, olm: OlmStore::new(sdk, Some(&passphrase)) })
}

async fn log_in(client: &Client, options: &Options) -> Result {
    if options.registers {
        let mut request = register::Request::new();
        request.username = Some(options.user.clone());
        request.password = Some(options.password.clone());
        request.auth = Some(uiaa::AuthData::Dummy(uiaa::Dummy::new()));
        request.inhibit_login = true;
        client.matrix_auth().register(request).await?;
    }
    let login = client.matrix_auth().login_username(&options.user, &options.password);
    login.initial_device_display_name("matrix-mls chat").send().await?;
    Ok(())
}

/// 32 random bytes, made at the first start.
fn store_key(directory: &Path) -> Result<Vec<u8>> {
    let path = directory.join("store.key");
    if let Ok(key) = fs::read(&path) {
        return Ok(key);
    }
    let key = RecoveryKey::generate()?.bytes();
    write_private(&path, &key)?;
    Ok(key)
}

/// Writes a file that nobody else on this machine can read.
fn write_private(path: &Path, bytes: &[u8]) -> Result {
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    Ok(options.open(path)?.write_all(bytes)?)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
