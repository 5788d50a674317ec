//! A device of matrix-sdk that its owner and others have verified becomes an MLS device, on Synapse. What
//! it has published stays as it is, so it stays verified, and nobody has to do anything.

use std::{collections::HashMap, path::Path, sync::Arc};

use matrix_mls::{MemberPolicy, Publishing, RoomSettings, Verdict};
use matrix_mls_kit::{
    Client as MlsClient, ClientOptions, Homeserver, OrMissing as _, Result,
    together::{all_talk, quiet, texts},
};
use matrix_sdk::{
    Client,
    config::SyncSettings,
    ruma::{OwnedDeviceId, OwnedUserId, UserId, api::client::uiaa},
};
use matrix_sdk_crypto::OlmMachine;
use matrix_sdk_sqlite::SqliteCryptoStore;
use serde_json::{Value, json};

const PASSPHRASE: &str = "passphrase";

/// A person whose app has matrix-sdk, and this library beside it, on one device.
struct Person {
    sdk: Client,
    mls: MlsClient,
    directory: tempfile::TempDir,
}

impl Person {
    /// Has an account, a device that matrix-sdk has published, and an identity that has signed it.
    /// Nothing of MLS is published.
    async fn register(homeserver: &Homeserver, name: &str) -> Result<Self> {
        let options = ClientOptions {
            publishing: Publishing::BesideOlm,
            member_policy: Some(MemberPolicy::CrossSigned),
            ..ClientOptions::default()
        };
        let mls = MlsClient::register_with(homeserver, name, "PHONE", options).await?;
        let directory = tempfile::tempdir()?;
        let sdk = Client::builder()
            .homeserver_url(homeserver.base_url())
            .sqlite_store(directory.path(), Some(PASSPHRASE))
            .build()
            .await?;
        sdk.matrix_auth().login_username(name, mls.password()).device_id("PHONE").send().await?;
        sdk.sync_once(SyncSettings::default()).await?;
        if let Err(error) = sdk.encryption().bootstrap_cross_signing(None).await {
            let session = error.as_uiaa_response().and_then(|asked| asked.session.clone());
            let user =
                uiaa::UserIdentifier::Matrix(uiaa::MatrixUserIdentifier::new(name.to_owned()));
            let mut password = uiaa::Password::new(user, mls.password().to_owned());
            password.session = session;
            let auth = uiaa::AuthData::Password(password);
            sdk.encryption().bootstrap_cross_signing(Some(auth)).await?;
        }
        sdk.sync_once(SyncSettings::default()).await?;
        let person = Self { sdk, mls, directory };
        assert!(person.own_device_is_verified().await?, "{name}'s own device, to begin with");
        Ok(person)
    }

    fn user(&self) -> Result<OwnedUserId> {
        Ok(UserId::parse(self.mls.user_id())?)
    }

    async fn own_device_is_verified(&self) -> Result<bool> {
        self.sdk.encryption().request_user_identity(&self.user()?).await?;
        let device = self.sdk.encryption().get_own_device().await?.or_missing("own device")?;
        Ok(device.is_cross_signed_by_owner() && device.is_verified())
    }

    /// What matrix-sdk says of another person's device: whether the owner has signed it, and whether
    /// this person trusts it for that.
    async fn judges(&self, other: &Self) -> Result<(bool, bool)> {
        let user = other.user()?;
        self.sdk.encryption().request_user_identity(&user).await?;
        let id = OwnedDeviceId::from(other.mls.device_id());
        let device = self.sdk.encryption().get_device(&user, &id).await?.or_missing("device")?;
        Ok((device.is_cross_signed_by_owner(), device.is_verified()))
    }

    /// Verifies another person, as after they have compared emojis.
    async fn verify(&self, other: &Self) -> Result {
        let identity = self.sdk.encryption().request_user_identity(&other.user()?).await?;
        identity.or_missing("identity")?.verify().await?;
        Ok(())
    }

    /// Has the Olm machine sign the binding: the app does that once, and shows nobody anything.
    async fn bind(&self) -> Result {
        let machine = self.mls.machine()?;
        let text = machine.binding_to_sign().await?.or_missing("binding to sign")?;
        let olm = olm_machine(&self.user()?, self.mls.device_id(), self.directory.path()).await?;
        let signatures: Value = serde_json::to_value(olm.sign(&text).await?)?;
        let signatures: HashMap<String, HashMap<String, String>> =
            serde_json::from_value(signatures)?;
        machine.bind_device(olm.identity_keys().ed25519.to_base64(), signatures).await?;
        self.mls.settle().await?;
        Ok(())
    }

    /// What the homeserver hands out for this person.
    async fn published(&self) -> Result<Value> {
        let query = json!({ "device_keys": { self.mls.user_id(): [] } });
        Ok(self.mls.http().post("/_matrix/client/v3/keys/query", query).await?)
    }
}

/// The Olm machine of matrix-sdk's store, which matrix-sdk does not give out.
async fn olm_machine(user: &UserId, device: &str, directory: &Path) -> Result<OlmMachine> {
    let store = SqliteCryptoStore::open(directory, Some(PASSPHRASE)).await?;
    let device = OwnedDeviceId::from(device);
    Ok(OlmMachine::with_store(user, &device, Arc::new(store), None).await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_verified_device_becomes_an_mls_device_and_stays_verified() -> Result {
    let homeserver = Homeserver::synapse().await?;
    let alice = Person::register(&homeserver, "alice").await?;
    let bob = Person::register(&homeserver, "bob").await?;
    alice.verify(&bob).await?;
    assert_eq!(alice.judges(&bob).await?, (true, true), "Alice has verified Bob");
    assert_eq!(bob.judges(&alice).await?, (true, false), "Bob has not verified Alice");
    let before = [alice.published().await?, bob.published().await?];

    alice.bind().await?;
    bob.bind().await?;
    let room = alice.mls.create_group(&[&bob.mls], RoomSettings::default()).await?;
    alice.mls.send_text(&room, "over MLS").await?;
    quiet(&[&alice.mls, &bob.mls]).await;
    assert!(texts(&bob.mls, &room).await.contains(&"over MLS".to_owned()));
    all_talk(&[&alice.mls, &bob.mls], &room).await;
    let members = alice.mls.members(&room).await?;
    let is_signed = |verdict| matches!(verdict, Verdict::OwnerNotVerified | Verdict::Verified);
    assert!(members.iter().all(|member| is_signed(member.verdict)), "{members:?}");

    for person in [&alice, &bob] {
        person.sdk.sync_once(SyncSettings::default()).await?;
        assert!(person.own_device_is_verified().await?, "{}'s own device", person.mls.user_id());
    }
    assert_eq!(alice.judges(&bob).await?, (true, true));
    assert_eq!(bob.judges(&alice).await?, (true, false));
    assert_eq!([alice.published().await?, bob.published().await?], before, "not a byte is another");
    // Somebody whose app has only just heard of them.
    let carol = Person::register(&homeserver, "carol").await?;
    assert_eq!(carol.judges(&bob).await?, (true, false));
    Ok(())
}
