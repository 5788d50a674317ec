//! One backup, one recovery key: Megolm's keys and those of MLS.

mod app;

use app::{App, Setup, eventually};
use matrix_mls_kit::{Homeserver, Result};
use matrix_sdk::ruma::events::room::message::RoomMessageEventContent;
use serde_json::Value;

#[tokio::test(flavor = "multi_thread")]
async fn a_recovery_key_brings_back_both() -> Result {
    let homeserver = Homeserver::synapse().await?;
    let alice = App::register(&homeserver, "alice", Setup::default()).await?;
    let bob = App::register(&homeserver, "bob", Setup::default()).await?;
    let refused = alice.mls.share_backup(&alice.olm_store()).await;
    assert!(refused.is_err(), "there is no backup yet");

    let mls = alice.create_room(&[&bob]).await?;
    let megolm = alice.create_plain_room(&[&bob]).await?;
    let sdk = alice.sdk_knows(&megolm).await?;
    sdk.enable_encryption().await?;
    let over_megolm = sdk.send(RoomMessageEventContent::text_plain("over Megolm")).await?;
    let over_megolm = over_megolm.response.event_id;
    let over_mls = alice.says(&mls, "over MLS").await?;
    let recovery = alice.client.encryption().recovery();
    let key = recovery.enable().wait_for_backups_to_upload().await?;
    alice.mls.share_backup(&alice.olm_store()).await?;
    eventually("all is backed up", async || {
        let counts = alice.mls.machine().backup().counts().await?;
        Ok((counts.total > 0 && counts.backed_up == counts.total).then_some(()))
    })
    .await?;
    let version: Value = alice.http.get("/_matrix/client/v3/room_keys/version").await?;

    // The phone is lost; the key is on paper.
    drop(alice);
    let tablet = App::log_in(&homeserver, "alice", "TABLET", Setup::default()).await?;
    tablet.client.encryption().recovery().recover(&key).await?;
    tablet.mls.share_backup(&tablet.olm_store()).await?;
    tablet.mls.restore().await?;
    tablet.knows_mls(&mls).await?;
    let room = tablet.sdk_knows(&mls).await?;
    let event = room.event(&over_mls, None).await?;
    eventually("the MLS message can be read", async || {
        let read = tablet.mls.decrypt(&mls, event.raw()).await.ok();
        Ok(read.filter(|read| read.body() == Some("over MLS")))
    })
    .await?;
    eventually("the Megolm message can be read", async || {
        let backups = tablet.client.encryption().backups();
        backups.download_room_keys_for_room(&megolm).await?;
        let text = tablet.sdk_reads(&megolm, &over_megolm).await?;
        Ok(text.filter(|text| text == "over Megolm"))
    })
    .await?;
    let after: Value = tablet.http.get("/_matrix/client/v3/room_keys/version").await?;
    assert_eq!(after["version"], version["version"], "one version for both");
    // The new device is signed, so it talks.
    tablet.says(&mls, "from the tablet").await?;
    Ok(())
}
