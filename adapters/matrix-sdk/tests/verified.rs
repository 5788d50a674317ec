//! A device of matrix-sdk that its owner and others have verified becomes an MLS device, on
//! Synapse. What it has published stays as it is, so it stays verified, nobody has to do anything,
//! and each person sees the same shields beside the other's messages as before.
//!
//! `cargo xtask demo --clients sdk` runs this, and shows what it prints.

use std::{collections::HashMap, path::Path, sync::Arc};

use matrix_mls::{MemberPolicy, Publishing, RoomSettings, Shield, Verdict, shield_of};
use matrix_mls_kit::{
    Client as MlsClient, ClientOptions, Homeserver, OrMissing as _, Result, eyre,
    together::{all_talk, quiet, texts},
};
use matrix_sdk::{
    Client,
    config::SyncSettings,
    deserialized_responses::{ShieldState, VerificationState},
    ruma::{EventId, OwnedDeviceId, OwnedUserId, RoomId, UserId, api::client::uiaa},
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

    /// What matrix-sdk says of another person's device: whether the owner has signed it, and
    /// whether this person trusts it for that.
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

    /// Tells this library which identity is this person's, as the Olm machine knows it.
    async fn confirm_own_identity(&self) -> Result {
        let own = self.sdk.encryption().get_user_identity(&self.user()?).await?;
        let own = own.or_missing("own identity")?;
        assert!(own.is_verified(), "the Olm machine has its private keys");
        let key = own.master_key().get_first_key().or_missing("master key")?;
        Ok(self.mls.machine()?.confirm_own_identity(key.to_base64()).await?)
    }

    /// The shields that matrix-sdk has for a message of an Olm room: for strict apps, and for
    /// others.
    async fn olm_shields(&self, room: &str, event: &str) -> Result<[Shown; 2]> {
        self.sdk.sync_once(SyncSettings::default()).await?;
        let room = self.sdk.get_room(&RoomId::parse(room)?).or_missing("room")?;
        let event = room.event(&EventId::parse(event)?, None).await?;
        let info = event.encryption_info().or_missing("a message that opens")?;
        let state: &VerificationState = &info.verification_state;
        Ok([state.to_shield_state_strict(), state.to_shield_state_lax()].map(Shown::of_olm))
    }

    /// The shields that this library has for a message of another person's, and the verdict behind.
    async fn mls_shields(&self, room: &str, text: &str) -> Result<(Verdict, [Shown; 2])> {
        let events = self.mls.read(room).await?;
        let event = events.into_iter().find(|event| event.text().as_deref() == Some(text));
        let verdict = event.or_missing(text)?.message?.verdict;
        Ok((verdict, [true, false].map(|strict| Shown::of_mls(shield_of(verdict, strict)))))
    }

    /// What the homeserver hands out for this person.
    async fn published(&self) -> Result<Value> {
        let query = json!({ "device_keys": { self.mls.user_id(): [] } });
        Ok(self.mls.http().post("/_matrix/client/v3/keys/query", query).await?)
    }
}

/// A shield, as a person sees it: its colour, and its code.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Shown(&'static str, String);

impl Shown {
    fn of_olm(shield: ShieldState) -> Self {
        match shield {
            ShieldState::None => Self("none", String::new()),
            ShieldState::Grey { code, .. } => Self("grey", format!("{code:?}")),
            ShieldState::Red { code, .. } => Self("red", format!("{code:?}")),
        }
    }

    fn of_mls(shield: Shield) -> Self {
        match shield {
            Shield::None => Self("none", String::new()),
            Shield::Grey { code, .. } => Self("grey", format!("{code:?}")),
            Shield::Red { code, .. } => Self("red", format!("{code:?}")),
        }
    }
}

/// An Olm room of two, in which each has said something; the room, and the events.
async fn olm_room(alice: &Person, bob: &Person) -> Result<(String, [String; 2])> {
    let room = alice.mls.create_room_from(json!({
        "preset": "private_chat", "invite": [bob.mls.user_id()],
        "initial_state": [{
            "type": "m.room.encryption", "state_key": "",
            "content": { "algorithm": "m.megolm.v1.aes-sha2" },
        }],
    }));
    let room = room.await?;
    bob.mls.join(&room).await?;
    let mut events = Vec::new();
    for sender in [alice, bob] {
        for person in [alice, bob] {
            person.sdk.sync_once(SyncSettings::default()).await?;
        }
        let room = sender.sdk.get_room(&RoomId::parse(&*room)?).or_missing("room")?;
        let content = json!({ "msgtype": "m.text", "body": "over Olm" });
        let sent = room.send_raw("m.room.message", content).await?;
        events.push(sent.response.event_id.to_string());
    }
    Ok((room, events.try_into().map_err(|events| eyre!("{events:?}"))?))
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
    let (olm_room, [alices, bobs]) = olm_room(&alice, &bob).await?;
    let of_bob = alice.olm_shields(&olm_room, &bobs).await?;
    let of_alice = bob.olm_shields(&olm_room, &alices).await?;
    let none = Shown("none", String::new());
    let unverified = Shown("red", "UnverifiedIdentity".to_owned());
    assert_eq!(of_bob, [none.clone(), none.clone()], "Alice has verified Bob");
    assert_eq!(of_alice, [unverified, none], "Bob has not verified Alice");
    println!(
        "Over Olm: beside Bob's message Alice has {of_bob:?}, beside hers he has {of_alice:?}."
    );

    alice.bind().await?;
    bob.bind().await?;
    println!("Both apps get MLS with an update: each has its Olm machine sign one text.");
    let room = alice.mls.create_group(&[&bob.mls], RoomSettings::default()).await?;
    alice.mls.send_text(&room, "over MLS").await?;
    quiet(&[&alice.mls, &bob.mls]).await;
    assert!(texts(&bob.mls, &room).await.contains(&"over MLS".to_owned()));
    all_talk(&[&alice.mls, &bob.mls], &room).await;
    // Every shield is as it was: this library believes what the Olm machine knows of its own user.
    alice.confirm_own_identity().await?;
    bob.confirm_own_identity().await?;
    let said = [alice.mls.name(), bob.mls.name()].map(|name| format!("{name} is here"));
    let (of_bob_now, shown) = alice.mls_shields(&room, &said[1]).await?;
    assert_eq!((of_bob_now, &shown), (Verdict::Verified, &of_bob));
    println!("Over MLS: beside Bob's message Alice has {shown:?} ({of_bob_now:?}),");
    let (of_alice_now, shown) = bob.mls_shields(&room, &said[0]).await?;
    assert_eq!((of_alice_now, &shown), (Verdict::OwnerNotVerified, &of_alice));
    println!("and beside hers he has {shown:?} ({of_alice_now:?}): every shield is as it was.");
    for (person, other, verdict) in [(&alice, &bob, of_bob_now), (&bob, &alice, of_alice_now)] {
        let members = person.mls.members(&room).await?;
        let of_other = members.iter().find(|member| member.user_id == other.mls.user_id());
        assert_eq!(of_other.or_missing("member")?.verdict, verdict);
        let own = members.iter().find(|member| member.user_id == person.mls.user_id());
        assert_eq!(own.or_missing("own member")?.verdict, Verdict::Verified);
    }

    for person in [&alice, &bob] {
        person.sdk.sync_once(SyncSettings::default()).await?;
        assert!(person.own_device_is_verified().await?, "{}'s own device", person.mls.user_id());
    }
    assert_eq!(alice.judges(&bob).await?, (true, true));
    assert_eq!(bob.judges(&alice).await?, (true, false));
    assert_eq!(alice.olm_shields(&olm_room, &bobs).await?, of_bob, "in the Olm room as well");
    assert_eq!(bob.olm_shields(&olm_room, &alices).await?, of_alice, "in the Olm room as well");
    assert_eq!([alice.published().await?, bob.published().await?], before, "not a byte is another");
    // Somebody whose app has only just heard of them.
    let carol = Person::register(&homeserver, "carol").await?;
    assert_eq!(carol.judges(&bob).await?, (true, false));
    Ok(())
}
