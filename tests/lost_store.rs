//! A device whose store was lost, and that logged in again under the same device id.

use matrix_mls::{MlsError, MlsMachine, RequestKind, RoomSettings, SendPlan, Update};
use matrix_mls_kit::{
    Client, Heard, Homeserver, KitError, OrMissing as _, Refused as _, Result, Target, config,
    olm::olm_phone,
    together::{all_talk, log_in, pair, phone_of, quiet},
};
use serde_json::{Value, json};

fn is_new_device_needed(error: &MlsError) -> bool {
    matches!(error, MlsError::NewDeviceNeeded { details } if details.code == "other_keys")
}

fn needs_new_device(error: &KitError) -> bool {
    error.of_engine().is_some_and(is_new_device_needed)
}

/// What the homeserver has of a device.
async fn published(asker: &Client, device: &Client) -> Result<Value> {
    let request = json!({ "device_keys": { device.user_id(): [] } });
    let answer = asker.http().post("/_matrix/client/v3/keys/query", request).await?;
    Ok(answer["device_keys"][device.user_id()][device.device_id()].clone())
}

/// Bob's phone comes back with an empty store. It uploads and sends nothing, says why at each
/// start, and the group goes on with what Bob logs in as next.
async fn a_lost_store(homeserver: &Homeserver, prefix: &str) -> Result {
    let (alice_name, bob_name) = (format!("{prefix}alice"), format!("{prefix}bob"));
    let alice = phone_of(homeserver, &alice_name).await?;
    let mut bob = phone_of(homeserver, &bob_name).await?;
    let room = alice.create_group(&[&bob], RoomSettings::default()).await?;
    alice.send_text(&room, "first").await?;
    quiet(&[&alice, &bob]).await;
    let before = published(&alice, &bob).await?;
    assert!(before.is_object(), "{before}");

    bob.wipe().await?;
    for _ in 0..2 {
        let (heard, _subscription) = Heard::of(&bob).await?;
        bob.settle().await?;
        let told = |update: &Update| matches!(update, Update::NewDeviceNeeded { .. });
        heard.wait_for(told).await?;
        let error = bob.prepare(&room).await.refused()?;
        assert!(needs_new_device(&error), "{error}");
        let handle = bob.room(&room).await?;
        let error = handle.encrypt("m.room.message".into(), "{}".into()).await.refused()?;
        assert!(is_new_device_needed(&error), "{error}");
        let other = bob.machine()?.room("!other:example.org".to_owned())?;
        let error = other.enable(RoomSettings::default()).await.refused()?;
        assert!(is_new_device_needed(&error), "{error}");
        bob.settle().await?;
        assert_eq!(bob.machine()?.outgoing_requests().await?, [], "it sends nothing");
        drop((handle, other));
        bob.restart().await?;
    }
    assert_eq!(published(&alice, &bob).await?, before, "nothing was uploaded");

    bob.log_out().await?;
    let bob = log_in(homeserver, &bob_name, "NEW").await?;
    quiet(&[&alice, &bob]).await;
    all_talk(&[&alice, &bob], &room).await;
    Ok(())
}

#[tokio::test]
async fn a_lost_store_is_noticed_before_anything_is_uploaded() -> Result {
    a_lost_store(&Homeserver::embedded()?, "").await
}

#[tokio::test]
async fn a_lost_store_is_noticed_on_synapse() -> Result {
    let name = format!("lost-{:x}-", std::process::id());
    a_lost_store(&*Homeserver::shared_synapse().await?, &name).await
}

/// The answer to the upload was lost: the keys there are this store's own.
#[tokio::test]
async fn keys_whose_upload_was_not_answered_are_ours() -> Result {
    let homeserver = Homeserver::embedded()?;
    let mut bob = Client::register(&homeserver, "bob", "PHONE").await?;
    let first = bob.machine()?.outgoing_requests().await?.remove(0);
    assert!(first.path.contains("/keys/query"), "{first:?}");
    bob.send_request(&first).await?;
    let upload = bob.machine()?.outgoing_requests().await?.remove(0);
    assert!(upload.path.contains("/keys/upload"), "{upload:?}");
    bob.transmit(&upload).await?;
    bob.crash().await?;
    bob.settle().await?;
    let alice = phone_of(&homeserver, "alice").await?;
    let room = alice.create_group(&[&bob], RoomSettings::default()).await?;
    all_talk(&[&alice, &bob], &room).await;
    Ok(())
}

/// Nothing of a room is sent before the homeserver has answered, also where that takes long.
#[tokio::test]
async fn nothing_is_sent_before_the_homeserver_has_answered() -> Result {
    let homeserver = Homeserver::embedded()?;
    let bob = Client::register(&homeserver, "bob", "PHONE").await?;
    let room = bob.create_room(&[]).await?;
    bob.sync().await?;
    bob.enable(&room, RoomSettings::default()).await?;
    let requests = bob.machine()?.outgoing_requests().await?;
    assert!(requests.iter().all(|request| request.path.contains("/keys/query")), "{requests:?}");
    let plan = bob.room(&room).await?.prepare_to_send().await?;
    let SendPlan::Waiting { requests: wanted, .. } = plan else {
        matrix_mls_kit::bail!("{plan:?}")
    };
    assert_eq!(wanted, requests[..1], "the question about the device itself");
    let pending = bob.machine()?.pending_requests().await?;
    assert_eq!(pending.due, requests.len() as u64, "{pending:?}");
    bob.send_text(&room, "hello").await?;
    Ok(())
}

/// A homeserver that refuses to say which keys it has stops the device, and the device says so.
#[tokio::test]
async fn a_refused_question_is_told_and_ends_what_waits() -> Result {
    let homeserver = Homeserver::embedded()?;
    let controls = homeserver.controls().or_missing("controls")?;
    let fault = controls.fail(Target::path("/keys/query"), u64::MAX, 403);
    let bob = Client::register(&homeserver, "bob", "PHONE").await?;
    let (heard, _subscription) = Heard::of(&bob).await?;
    let room = bob.create_room(&[]).await?;
    bob.settle().await?;
    let told = |update: &Update| {
        matches!(update, Update::RequestRefused { kind: RequestKind::CheckKeys, .. })
    };
    heard.wait_for(told).await?;
    bob.enable(&room, RoomSettings::default()).await?;
    let error = bob.prepare(&room).await.refused()?;
    assert!(matches!(error.of_engine(), Some(MlsError::NotReady { .. })), "{error}");
    let asked = fault.hits();
    assert!(asked <= 2, "the device's own keys, and its user's list: {asked} questions");
    bob.settle().await?;
    assert_eq!(fault.hits(), asked);
    Ok(())
}

/// Another machine under Bob's name, whose question was answered as if there were no keys.
async fn other_machine(bob: &Client, directory: &std::path::Path) -> Result<Value> {
    let machine = MlsMachine::open(config(bob.user_id(), bob.device_id(), directory)).await?;
    let question = machine.outgoing_requests().await?.remove(0);
    machine.mark_request_as_sent(question.id, 200, b"{\"device_keys\":{}}".to_vec()).await?;
    let upload = machine.outgoing_requests().await?.remove(0);
    machine.shutdown().await?;
    Ok(serde_json::from_slice(&upload.body)?)
}

/// An app that does not ask uploads other keys under Bob's device id. Alice is told, and so is
/// Bob's device that had the id first.
#[tokio::test]
async fn both_sides_are_told_when_a_devices_keys_change() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair(&homeserver).await;
    let (alice_heard, _alice) = Heard::of(&alice).await?;
    let (bob_heard, _bob) = Heard::of(&bob).await?;
    let directory = tempfile::tempdir()?;
    let upload = other_machine(&bob, directory.path()).await?;
    bob.http().post("/_matrix/client/v3/keys/upload", upload).await?;
    quiet(&[&alice, &bob]).await;
    alice_heard
        .wait_for(|update| {
            matches!(update, Update::DeviceRejected { user_id, code, .. }
                if user_id == bob.user_id() && code == "changed_keys")
        })
        .await?;
    bob_heard.wait_for(|update| matches!(update, Update::NewDeviceNeeded { .. })).await?;
    let error = bob.prepare(&room).await.refused()?;
    assert!(needs_new_device(&error), "{error}");
    alice.send_text(&room, "without that device").await?;
    Ok(())
}

/// Beside Olm the device's keys are there before ours, and are no lost store. Key packages that the
/// homeserver has of another store are, whichever way it counts them.
#[tokio::test]
async fn beside_olm_key_packages_of_another_store_are_a_lost_store() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (mut bob, olm) = olm_phone(&homeserver, "bob").await?;
    let before = published(&bob, &bob).await?;
    olm.bind(&bob).await?;
    bob.settle().await?;
    bob.restart().await?;
    bob.settle().await?;
    assert_eq!(published(&bob, &bob).await?, before, "nothing of it was touched");

    for is_told_by_sync in [true, false] {
        bob.wipe().await?;
        let (heard, _subscription) = Heard::of(&bob).await?;
        if is_told_by_sync {
            bob.sync().await?;
        } else {
            // An app that is not shown any counts learns it from the answer to its first upload.
            bob.drive().await?;
            olm.bind(&bob).await?;
            bob.drive().await?;
        }
        heard.wait_for(|update| matches!(update, Update::NewDeviceNeeded { .. })).await?;
        let error = bob.machine()?.binding_to_sign().await.refused()?;
        assert!(is_new_device_needed(&error), "{error}");
        // It is told again at each start, and stays so.
        bob.restart().await?;
        let (heard, _subscription) = Heard::of(&bob).await?;
        bob.settle().await?;
        heard.wait_for(|update| matches!(update, Update::NewDeviceNeeded { .. })).await?;
    }
    Ok(())
}
