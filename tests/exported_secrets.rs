//! Secrets for calls: who has which, when they change, and what cannot be had.

use std::sync::Arc;

use matrix_mls::{ExportedSecret, MlsError, MlsRoom, RoomSettings, Update};
use matrix_mls_kit::{
    Client, Heard, Homeserver, OrMissing as _, Refused as _, Result, Target,
    together::{head, log_in, newcomer, pair, phone_of, quiet, renew_keys, say_in_a_new_epoch},
};

const LABEL: &str = "org.example.call.media";

async fn of_head(client: &Client, room: &str, context: &str) -> Result<ExportedSecret> {
    client.prepare(room).await?;
    let handle = client.room(room).await?;
    Ok(handle.export_secret(LABEL.to_owned(), context.as_bytes().to_vec(), 32).await?)
}

async fn of_epoch(room: &MlsRoom, epoch: &str, context: &str) -> Result<ExportedSecret, MlsError> {
    let context = context.as_bytes().to_vec();
    room.export_secret_of_epoch(epoch.to_owned(), LABEL.to_owned(), context, 32).await
}

#[tokio::test]
async fn all_devices_of_an_epoch_have_the_same_bytes_and_a_removed_one_has_not() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair(&homeserver).await;
    let carol = newcomer(&homeserver, "carol", &alice, &room).await?;
    quiet(&[&alice, &bob, &carol]).await;
    alice.send_text(&room, "all three").await?;
    quiet(&[&alice, &bob, &carol]).await;
    renew_keys(&[&alice, &bob, &carol], &room).await;

    let secret = of_head(&alice, &room, "call|alice").await?;
    assert_eq!(secret.secret.len(), 32);
    assert_eq!(secret.epoch_id, head(&alice, &room).await);
    for client in [&bob, &carol] {
        assert_eq!(of_head(client, &room, "call|alice").await?, secret, "{}", client.name());
        let named = of_epoch(&*client.room(&room).await?, &secret.epoch_id, "call|alice").await?;
        assert_eq!(named, secret);
    }
    // Another sender, another label and another length are another secret.
    let handle = alice.room(&room).await?;
    let others = [
        handle.export_secret(LABEL.to_owned(), b"call|bob".to_vec(), 32).await?,
        handle.export_secret("org.example.call".to_owned(), b"call|alice".to_vec(), 32).await?,
        handle.export_secret(LABEL.to_owned(), b"call|alice".to_vec(), 48).await?,
    ];
    for other in others {
        assert_ne!(other.secret[..32], secret.secret[..]);
        assert_eq!(other.epoch_id, secret.epoch_id);
    }
    assert!(!format!("{secret:?}").contains("secret:"), "a secret is printed: {secret:?}");

    let carols = carol.room(&room).await?;
    alice.kick(&room, carol.user_id()).await?;
    quiet(&[&alice, &bob]).await;
    let after = of_head(&alice, &room, "call|alice").await?;
    assert_ne!(after.secret, secret.secret);
    quiet(&[&bob, &alice]).await;
    assert_eq!(of_head(&bob, &room, "call|alice").await?, after);
    // Carol has not heard yet that she is out, and knows nothing of that epoch.
    let error = of_epoch(&carols, &after.epoch_id, "call|alice").await.refused()?;
    assert!(matches!(error, MlsError::UnknownEpoch { .. }) && error.retryable(), "{error}");
    carol.settle().await?;
    for id in [&after.epoch_id, &secret.epoch_id] {
        let error = of_epoch(&carols, id, "call|alice").await.refused()?;
        assert_eq!(error.code(), "left_group", "{error}");
    }
    Ok(())
}

#[tokio::test]
async fn a_change_is_told_and_both_secrets_are_there_meanwhile() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair(&homeserver).await;
    renew_keys(&[&alice, &bob], &room).await;
    let (heard, _subscription) = Heard::of(&bob).await?;
    let before = of_head(&bob, &room, "call|bob").await?;
    say_in_a_new_epoch(&alice, &room, "one").await?;
    say_in_a_new_epoch(&alice, &room, "two").await?;
    // Bob is behind, and has what he had.
    let behind = of_head_as_it_is(&bob, &room).await?;
    assert_eq!(behind, before);
    bob.sync().await?;
    let told = heard
        .hear(|update| match update {
            Update::ExportedSecretsChanged { .. } => Some(update.clone()),
            _ => None,
        })
        .await?;
    let Update::ExportedSecretsChanged { room_id, previous_epoch_id, previous_for_ms, .. } = told
    else {
        return Ok(());
    };
    assert_eq!((room_id, &previous_epoch_id), (room.clone(), &before.epoch_id));
    assert_eq!(previous_for_ms, 60_000);
    let after = of_head(&bob, &room, "call|bob").await?;
    assert_ne!(after.secret, before.secret);
    assert_eq!(after, of_head(&alice, &room, "call|bob").await?);
    // What is still under way is taken in.
    for client in [&alice, &bob] {
        let handle = client.room(&room).await?;
        assert_eq!(of_epoch(&handle, &before.epoch_id, "call|bob").await?, before);
    }
    // Two epochs came, and it was told once; who has exported nothing is told nothing.
    let again = |update: &Update| matches!(update, Update::ExportedSecretsChanged { .. });
    bob.settle().await?;
    assert!(!heard.all().iter().any(again), "{:?}", heard.all());
    Ok(())
}

async fn of_head_as_it_is(client: &Client, room: &str) -> Result<ExportedSecret> {
    let handle = client.room(room).await?;
    Ok(handle.export_secret(LABEL.to_owned(), b"call|bob".to_vec(), 32).await?)
}

/// Two devices commit at once: each exports from its own branch until both are on one, and each can
/// take in what the other has sent meanwhile.
#[tokio::test]
async fn forked_devices_take_in_each_others_and_end_on_one() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair(&homeserver).await;
    renew_keys(&[&alice, &bob], &room).await;
    alice.rotate_keys(&room).await?;
    bob.rotate_keys(&room).await?;
    let at_alice = of_head(&alice, &room, "call").await?;
    let at_bob = of_head(&bob, &room, "call").await?;
    assert_eq!(at_alice.epoch, at_bob.epoch);
    assert_ne!(at_alice.epoch_id, at_bob.epoch_id);
    assert_ne!(at_alice.secret, at_bob.secret);
    quiet(&[&alice, &bob]).await;
    for client in [&alice, &bob] {
        let handle = client.room(&room).await?;
        assert_eq!(of_epoch(&handle, &at_alice.epoch_id, "call").await?, at_alice);
        assert_eq!(of_epoch(&handle, &at_bob.epoch_id, "call").await?, at_bob);
    }
    renew_keys(&[&alice, &bob], &room).await;
    assert_eq!(of_head(&alice, &room, "call").await?, of_head(&bob, &room, "call").await?);
    Ok(())
}

#[tokio::test]
async fn what_the_library_exports_itself_is_not_for_apps() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, _bob, room) = pair(&homeserver).await;
    let secret = of_head(&alice, &room, "call").await?;
    let handle = alice.room(&room).await?;
    let long = "a".repeat(256);
    for (label, code) in [
        ("org.matrix.msc2883.v1.dmls.history", "reserved_label"),
        ("ORG.MATRIX.MSC2883.V1.DMLS.HISTORY", "reserved_label"),
        ("m.dmls.v1.history", "reserved_label"),
        ("m.mls.v1.anything", "reserved_label"),
        ("", "bad_label"),
        (&long, "bad_label"),
    ] {
        let head = handle.export_secret(label.to_owned(), Vec::new(), 32).await.refused()?;
        let named = handle
            .export_secret_of_epoch(secret.epoch_id.clone(), label.to_owned(), Vec::new(), 32)
            .await
            .refused()?;
        for error in [head, named] {
            assert!(matches!(error, MlsError::InvalidInput { .. }), "{error}");
            assert_eq!(error.code(), code, "{label}: {error}");
        }
    }
    for length in [0, 15, 1025, u32::MAX] {
        let error = handle.export_secret(LABEL.to_owned(), Vec::new(), length).await.refused()?;
        assert_eq!(error.code(), "bad_length", "{length}");
    }
    for length in [16, 1024] {
        let exported = handle.export_secret(LABEL.to_owned(), vec![7; 65_535], length).await?;
        assert_eq!(exported.secret.len() as u32, length);
    }
    let error = handle.export_secret(LABEL.to_owned(), vec![7; 65_536], 32).await.refused()?;
    assert_eq!(error.code(), "bad_context");
    for id in ["", "00", "no hex", &secret.epoch_id[1..], &format!("{}0", secret.epoch_id)] {
        let error = of_epoch(&handle, id, "call").await.refused()?;
        assert_eq!(error.code(), "bad_epoch_id", "{id}");
    }
    let error = of_epoch(&handle, &"0".repeat(64), "call").await.refused()?;
    assert_eq!((error.code(), error.retryable()), ("unknown_epoch", true));
    Ok(())
}

/// A room that is not ready exports nothing to send with, and one without a group nothing at all.
#[tokio::test]
async fn a_room_that_is_not_ready_exports_nothing() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair(&homeserver).await;
    of_head(&alice, &room, "call").await?;
    let carol = phone_of(&homeserver, "carol").await?;
    let handle: Arc<MlsRoom> = carol.room(&room).await?;
    let error = handle.export_secret(LABEL.to_owned(), Vec::new(), 32).await.refused()?;
    assert_eq!(error.code(), "not_enabled");
    let error = of_epoch(&handle, &"0".repeat(64), "call").await.refused()?;
    assert_eq!(error.code(), "not_enabled");
    // Bob has left, and is in the group until the next commit: nobody sends with its secrets.
    bob.leave(&room).await?;
    alice.sync().await?;
    let handle = alice.room(&room).await?;
    let error = handle.export_secret(LABEL.to_owned(), Vec::new(), 32).await.refused()?;
    assert!(matches!(error, MlsError::NotReady { .. }) && error.retryable(), "{error}");
    let alone = of_head(&alice, &room, "call").await?;
    assert_eq!(alice.members(&room).await?.len(), 1);
    // The homeserver says that another room is there now.
    let controls = homeserver.controls().or_missing("controls")?;
    let name = room.clone();
    let lie = controls.tamper(Target::path("/sync"), move |answer| {
        let event = serde_json::json!({
            "type": "m.room.tombstone", "state_key": "", "sender": "@mallory:embedded.test",
            "event_id": "$tombstone", "content": { "replacement_room": "!other:embedded.test" },
        });
        answer["rooms"]["join"][&name] = serde_json::json!({
            "timeline": { "events": [event] }
        });
    });
    alice.sync().await?;
    lie.stop();
    let error = handle.export_secret(LABEL.to_owned(), Vec::new(), 32).await.refused()?;
    assert_eq!(error.code(), "room_replaced");
    assert_eq!(of_epoch(&handle, &alone.epoch_id, "call").await?, alone, "to end the call");
    Ok(())
}

/// A backup has what reads messages, and nothing that exports: not what was restored, and nothing
/// that was dropped.
#[tokio::test]
async fn restored_and_dropped_epochs_export_nothing() -> Result {
    let homeserver = Homeserver::embedded()?;
    let alice = phone_of(&homeserver, "alice").await?;
    let room =
        alice.create_group(&[], RoomSettings { kept_epochs: 0, ..RoomSettings::default() }).await?;
    let first = of_head(&alice, &room, "call").await?;
    alice.send_text(&room, "kept in the backup").await?;
    let backup = alice.machine()?.backup();
    let file = backup.export_history(None, "a passphrase".to_owned()).await?;
    say_in_a_new_epoch(&alice, &room, "next").await?;
    say_in_a_new_epoch(&alice, &room, "and next").await?;
    let handle = alice.room(&room).await?;
    let error = of_epoch(&handle, &first.epoch_id, "call").await.refused()?;
    assert!(matches!(error, MlsError::UnknownEpoch { .. }) && !error.retryable(), "{error}");
    assert_eq!(error.code(), "epoch_not_kept");

    let laptop = log_in(&homeserver, "alice", "LAPTOP").await?;
    quiet(&[&alice, &laptop]).await;
    alice.send_text(&room, "with the laptop").await?;
    quiet(&[&alice, &laptop]).await;
    laptop.machine()?.backup().import_history(file, "a passphrase".to_owned()).await?;
    let read = matrix_mls_kit::together::texts(&laptop, &room).await;
    assert!(read.contains(&"kept in the backup".to_owned()), "{read:?}");
    let handle = laptop.room(&room).await?;
    let error = of_epoch(&handle, &first.epoch_id, "call").await.refused()?;
    assert_eq!((error.code(), error.retryable()), ("restored_epoch", false), "{error}");
    Ok(())
}
