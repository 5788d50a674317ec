//! Rooms that go over to MLS: what is said before stays with the Olm machine.

mod app;

use app::{App, Setup, eventually};
use matrix_mls_kit::{Homeserver, Result};
use matrix_mls_sdk::{Encryption, Error, Obstacle, matrix_mls::MlsDevice};
use matrix_sdk::ruma::events::room::message::RoomMessageEventContent;

#[tokio::test(flavor = "multi_thread")]
async fn a_megolm_room_goes_over_to_mls_and_its_past_stays_readable() -> Result {
    let homeserver = Homeserver::synapse().await?;
    let alice = App::register(&homeserver, "alice", Setup::default()).await?;
    let mut bob = App::register(&homeserver, "bob", Setup::default()).await?;
    // Somebody whose app has no MLS.
    let old = matrix_mls_kit::Http::register(homeserver.base_url(), "old", "OLD").await?;
    let room = alice.create_plain_room(&[&bob]).await?;
    let invite = serde_json::json!({ "user_id": old.0 });
    alice.act(&room, "invite", invite).await?;
    old.1.post(&format!("/_matrix/client/v3/rooms/{room}/join"), serde_json::json!({})).await?;
    let olm = matrix_mls_kit::olm::Olm::new(&old.0, "OLD");
    olm.upload(&old.1).await?;
    let sdk = alice.sdk_knows(&room).await?;
    sdk.enable_encryption().await?;
    let sent = sdk.send(RoomMessageEventContent::text_plain("before")).await?.response.event_id;
    let readable = async |app: &App| {
        eventually("what was said before", async || {
            Ok(app.sdk_reads(&room, &sent).await?.filter(|text| text == "before"))
        })
        .await
    };
    readable(&bob).await?;

    // Bob may not; the plan changes nothing.
    let plan = bob.mls.upgrade_plan(&room).await?;
    assert_eq!(plan.encryption, Encryption::Megolm);
    assert_eq!(plan.obstacles, [Obstacle::NoPower]);
    let refused = bob.mls.upgrade(&room, Default::default()).await;
    assert!(matches!(refused, Err(Error::CannotUpgrade { .. })), "{refused:?}");
    let plan = alice.mls.upgrade_plan(&room).await?;
    assert_eq!((plan.members.len(), plan.obstacles.len()), (3, 0), "{plan:?}");
    assert_eq!(plan.encryption, Encryption::Megolm);
    let device = |user: &str, id: &str| MlsDevice { user_id: user.into(), device_id: id.into() };
    let old_device = device(&old.0, "OLD");
    assert!(plan.devices.contains(&old_device), "{plan:?}");
    assert!(!alice.mls.uses_mls(&room).await?);

    let upgraded = alice.mls.upgrade(&room, Default::default()).await?;
    let names = [&alice, &bob].map(|app| device(app.user().as_str(), "PHONE"));
    assert_eq!(upgraded.devices, names.into_iter().collect());
    assert_eq!(upgraded.left_out, [old_device].into_iter().collect());
    bob.knows_mls(&room).await?;
    let event = alice.says(&room, "after").await?;
    assert_eq!(bob.reads(&event).await?.body(), Some("after"));
    readable(&bob).await?;
    readable(&alice).await?;
    // Again does nothing.
    let again = alice.mls.upgrade(&room, Default::default()).await?;
    assert_eq!(again.devices, upgraded.devices);
    assert_eq!(alice.mls.upgrade_plan(&room).await?.encryption, Encryption::Mls);
    // The SDK sends nothing there any more.
    eventually("Alice's SDK sends nothing there", async || {
        let plain = RoomMessageEventContent::text_plain("over Megolm");
        Ok(sdk.send(plain).await.is_err().then_some(()))
    })
    .await?;
    Ok(())
}
