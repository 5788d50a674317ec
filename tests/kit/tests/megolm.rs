//! A backup that Megolm and MLS share, on Synapse: what matrix-sdk-crypto keeps in it stays as it
//! is, and it goes on reading and writing it. What it does here is what the SDK around it does.

use std::collections::BTreeSet;

use matrix_mls::{BackupState, RecoveryKey};
use matrix_mls_kit::{
    Client, Fields as _, Homeserver, OrMissing as _, Result,
    together::{quiet, texts},
};
use matrix_sdk_crypto::{
    DecryptionSettings, EncryptionSettings, OlmMachine, TrustRequirement,
    olm::ExportedRoomKey,
    store::types::BackupDecryptionKey,
    types::{RoomKeyBackupInfo, events::room::encrypted::EncryptedEvent},
};
// The ruma of matrix-sdk-crypto.
use ruma_olm::{
    OwnedRoomId, RoomId, UserId,
    api::client::backup::{KeyBackupData, add_backup_keys},
    serde::Raw,
    uint,
};
use serde_json::{Value, json};

const VERSION: &str = "/_matrix/client/v3/room_keys/version";

/// An Olm machine on the client's account, without a network of its own.
struct Megolm<'a> {
    machine: OlmMachine,
    client: &'a Client,
    room: OwnedRoomId,
}

impl<'a> Megolm<'a> {
    async fn new(client: &'a Client, room: &str) -> Result<Self> {
        let user = UserId::parse(client.user_id())?;
        let machine = OlmMachine::new(&user, client.device_id().into()).await;
        Ok(Self { machine, client, room: RoomId::parse(room)? })
    }

    /// Sends a message in a session of its own.
    async fn say(&self, text: &str) -> Result {
        self.machine.discard_room_key(&self.room).await?;
        let shared = self.machine.share_room_key(
            &self.room,
            std::iter::empty(),
            EncryptionSettings::default(),
        );
        assert!(shared.await?.is_empty());
        let content = Raw::from_json_string(json!({ "body": text }).to_string())?;
        let sealed = self.machine.encrypt_room_event_raw(&self.room, "m.room.message", &content);
        let sealed = sealed.await?.content;
        let path = format!("/_matrix/client/v3/rooms/{}/send/m.room.encrypted/{text}", self.room);
        let content: Value = serde_json::from_str(sealed.json().get())?;
        self.client.http().put(&path, content).await?;
        Ok(())
    }

    async fn enable(&self, key: &BackupDecryptionKey, version: &str) -> Result {
        let public = key.megolm_v1_public_key();
        public.set_version(version.to_owned());
        self.machine.backup_machine().enable_backup_v1(public).await?;
        Ok(())
    }

    /// Uploads what is not in the backup yet; tells how many sessions that was.
    async fn back_up(&self) -> Result<usize> {
        let mut uploaded = 0;
        while let Some((id, request)) = self.machine.backup_machine().backup().await? {
            uploaded += request.rooms.values().map(|room| room.sessions.len()).sum::<usize>();
            let path = format!("/_matrix/client/v3/room_keys/keys?version={}", request.version);
            let answer = self.client.http().put(&path, json!({ "rooms": request.rooms })).await?;
            assert!(answer["count"].as_u64().or_missing("count")? >= uploaded as u64);
            let answer = add_backup_keys::v3::Response::new("etag".to_owned(), uint!(1));
            self.machine.mark_request_as_sent(&id, &answer).await?;
        }
        Ok(uploaded)
    }

    /// Restores as the SDK does: what is not readable as Megolm's is passed over. Gives the session
    /// ids of that.
    async fn restore(&self, key: &BackupDecryptionKey, version: &str) -> Result<BTreeSet<String>> {
        let path = format!("/_matrix/client/v3/room_keys/keys?version={version}");
        let keys = self.client.http().get(&path).await?;
        let (mut room_keys, mut passed_over) = (Vec::new(), BTreeSet::new());
        for (room, sessions) in keys.object("rooms")? {
            for (session_id, data) in sessions.object("sessions")? {
                let data = Raw::<KeyBackupData>::from_json_string(data.to_string())?;
                let Ok(data) = data.deserialize() else {
                    passed_over.insert(session_id.clone());
                    continue;
                };
                let room_key = key.decrypt_session_data(data.session_data)?;
                let room = RoomId::parse(room)?;
                room_keys.push(ExportedRoomKey::from_backed_up_room_key(
                    room,
                    session_id.clone(),
                    room_key,
                ));
            }
        }
        let total = room_keys.len();
        let imported = self.machine.store().import_room_keys(room_keys, Some(version), |_, _| {});
        assert_eq!(imported.await?.imported_count, total);
        Ok(passed_over)
    }

    /// What it reads in its room.
    async fn texts(&self) -> Result<Vec<String>> {
        let settings =
            DecryptionSettings { sender_device_trust_requirement: TrustRequirement::Untrusted };
        let mut texts = Vec::new();
        for event in self.client.history(self.room.as_str()).await? {
            if event["content"]["algorithm"] == "m.megolm.v1.aes-sha2" {
                let event = Raw::<EncryptedEvent>::from_json_string(event.to_string())?;
                let read = self.machine.decrypt_room_event(&event, &self.room, &settings);
                let event: Value = serde_json::from_str(read.await?.event.json().get())?;
                texts.push(event["content"].text("body")?.to_owned());
            }
        }
        Ok(texts)
    }
}

async fn version(client: &Client) -> Result<Value> {
    Ok(client.http().get(VERSION).await?)
}

#[tokio::test]
async fn megolm_reads_its_own_in_a_backup_that_mls_shares() -> Result {
    let homeserver = Homeserver::shared_synapse().await?;
    let name = format!("both-{:x}", std::process::id());
    let alice = Client::register(&homeserver, &name, "PHONE").await?;
    let bob = Client::register(&homeserver, &format!("{name}-bob"), "PHONE").await?;
    quiet(&[&alice, &bob]).await;
    let mls_room = alice.create_group(&[&bob], Default::default()).await?;
    alice.send_text(&mls_room, "in MLS").await?;

    // First there is Megolm's alone.
    let megolm_room = alice.create_room_from(json!({ "preset": "private_chat" })).await?;
    let megolm = Megolm::new(&alice, &megolm_room).await?;
    let key = BackupDecryptionKey::new();
    let info = serde_json::to_value(key.to_backup_info())?;
    alice.http().post(VERSION, info.clone()).await?;
    let made = version(&alice).await?;
    let number = made.text("version")?.to_owned();
    megolm.enable(&key, &number).await?;
    megolm.say("one").await?;
    assert_eq!(megolm.back_up().await?, 1);

    // MLS shares it, with the key that Megolm has.
    let backup = alice.machine()?.backup();
    let recovery_key = RecoveryKey::parse(key.to_base58())?;
    assert_eq!(recovery_key.bytes(), key.as_bytes());
    assert_eq!(recovery_key.text().replace(' ', ""), key.to_base58().replace(' ', ""));
    backup.enable(recovery_key).await?;
    alice.settle().await?;
    let shared = BackupState::Enabled { version: number.clone(), megolm: true };
    assert_eq!(backup.state().await?, shared);
    assert_eq!(backup.counts().await?.backed_up, 2);

    // Both go on.
    megolm.say("two").await?;
    assert_eq!(megolm.back_up().await?, 1);
    alice.rotate_keys(&mls_room).await?;
    alice.send_text(&mls_room, "in MLS again").await?;
    alice.settle().await?;
    assert_eq!(backup.counts().await?.backed_up, 3);
    let now = version(&alice).await?;
    assert_eq!((&now["version"], &now["algorithm"]), (&made["version"], &made["algorithm"]));
    assert_eq!(now["auth_data"], made["auth_data"]);
    let info: RoomKeyBackupInfo = serde_json::from_value(now.clone())?;
    assert!(key.backup_key_matches(&info));

    // On a new device each reads its own and passes the other's over.
    let phone = Client::log_in(&homeserver, &name, "NEW").await?;
    let restored = Megolm::new(&phone, &megolm_room).await?;
    let passed_over = restored.restore(&key, &number).await?;
    assert_eq!(now["count"], passed_over.len() + 2);
    assert!(passed_over.iter().all(|session_id| session_id.contains('|')), "{passed_over:?}");
    assert_eq!(restored.texts().await?, ["one", "two"]);
    // What came from the backup need not go there again; what is new does.
    restored.enable(&key, &number).await?;
    assert_eq!(restored.back_up().await?, 0);
    restored.say("three").await?;
    assert_eq!(restored.back_up().await?, 1);
    phone.settle().await?;
    let epochs = phone.restore_history(&key.to_base58()).await?;
    assert_eq!(epochs, 3);
    assert_eq!(texts(&phone, &mls_room).await, ["in MLS", "in MLS again"]);

    // MLS's go without touching Megolm's.
    let path = format!("/_matrix/client/v3/room_keys/keys/{mls_room}?version={number}");
    phone.http().try_json("DELETE", &path, json!({})).await?;
    let megolm = Megolm::new(&alice, &megolm_room).await?;
    assert_eq!(megolm.restore(&key, &number).await?, BTreeSet::new());
    assert_eq!(megolm.texts().await?, ["one", "two", "three"]);
    Ok(())
}
