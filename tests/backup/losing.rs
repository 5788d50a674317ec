//! A lost phone: all rooms, one room, the epoch of one message, through kills; and a file instead
//! of a server.

use super::*;

#[tokio::test]
async fn a_new_phone_shows_the_old_messages() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair(&homeserver).await;
    let mut said = vec!["first".to_owned()];
    said.extend(talk(&alice, &room, 3).await?);
    let text = create(&alice).await?.text();
    // And what comes after.
    quiet(&[&alice, &bob]).await;
    said.extend(talk(&bob, &room, 3).await?);
    quiet(&[&alice, &bob]).await;
    let BackupCounts { backed_up, total, on_server } = counts(&alice).await?;
    // Each epoch, and the leaves once: nobody came or went.
    assert!(backed_up >= 7, "{backed_up}");
    assert_eq!((total, on_server), (backed_up, Some(backed_up + 2)));

    // The phone is lost. The new one knows nothing but the password, and the key on paper.
    drop(alice);
    let phone = log_in(&homeserver, "alice", "NEW").await?;
    assert!(texts(&phone, &room).await.is_empty());
    let key = RecoveryKey::parse(text.to_lowercase()).refused()?;
    assert!(["recovery_key_prefix", "recovery_key_alphabet"].contains(&key.code()), "{key}");
    let key = RecoveryKey::parse(text)?;
    let (heard, _subscription) = Heard::of(&phone).await?;
    backup(&phone)?.enable(key.clone()).await?;
    let id = backup(&phone)?.restore(Some(key), RestoreScope::AllRooms).await?;
    phone.drive().await?;
    let progress =
        heard.wait_for(|update| matches!(update, Update::RestoreProgress { .. })).await?;
    let sessions = backed_up + 2;
    assert_eq!(progress, Update::RestoreProgress { restore: id, done: sessions, total: sessions });
    assert_eq!(restored(&heard).await?, (backed_up, Vec::new()));
    assert!(backup(&phone)?.restores().await?.is_empty());
    assert_eq!(texts(&phone, &room).await, said);
    // What was restored need not be uploaded.
    assert_eq!(counts(&phone).await?.total, counts(&phone).await?.backed_up);

    // And goes on talking; what it is added by it may have restored before.
    all_talk(&[&bob, &phone], &room).await;
    let now = texts(&phone, &room).await;
    assert_eq!(now[..said.len()], said);
    assert_eq!(now.len(), said.len() + 2);
    Ok(())
}

#[tokio::test]
async fn an_epoch_that_was_restored_can_still_be_entered() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair(&homeserver).await;
    let key = create(&alice).await?;
    let phone = Client::log_in(&homeserver, "alice", "NEW").await?;
    phone.drive().await?;
    // The old phone adds the new one, and backs that epoch up before the new one has seen the
    // Welcome; and then the epoch after it, of which the new one has not seen the commit.
    alice.settle().await?;
    alice.send_text(&room, "you are in").await?;
    let added = talk(&alice, &room, 2).await?;
    alice.settle().await?;
    let (_, failures) = restore_all(&phone, &key).await?;
    assert_eq!(failures, []);
    assert!(texts(&phone, &room).await.contains(&added[3]));
    phone.settle().await?;
    let epochs = phone.epochs(&room).await?;
    assert!(epochs.iter().any(|epoch| epoch.is_head && epoch.is_full), "{epochs:?}");
    all_talk(&[&alice, &bob, &phone], &room).await;
    Ok(())
}

#[tokio::test]
async fn nothing_is_lost_when_the_app_is_killed() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (mut alice, bob, room) = pair(&homeserver).await;
    let said = talk(&alice, &room, 4).await?;
    let key = RecoveryKey::generate()?;
    backup(&alice)?.create(key.clone(), false).await?;
    // Killed after each request was made, after each was sent, and after each answer.
    let mut uploads = Vec::new();
    for _ in 0..20 {
        alice.crash().await?;
        let requests = alice.machine()?.outgoing_requests().await?;
        alice.crash().await?;
        let again = alice.machine()?.outgoing_requests().await?;
        assert_eq!(requests, again);
        let Some(request) = requests.first() else { break };
        alice.transmit(request).await?;
        alice.crash().await?;
        alice.send_request(request).await?;
        uploads.push(request.path.clone());
    }
    assert!(uploads.iter().any(|path| path.contains("/room_keys/keys")), "{uploads:?}");
    let BackupCounts { backed_up, total, .. } = counts(&alice).await?;
    assert_eq!((backed_up, total), (total, 5 + 1));
    let (_, keys) = sessions(&alice).await?;
    assert_eq!(keys["rooms"][&room].object("sessions")?.len(), 6 + 2);

    let mut phone = log_in(&homeserver, "alice", "NEW").await?;
    backup(&phone)?.restore(Some(key), RestoreScope::AllRooms).await?;
    for _ in 0..20 {
        phone.crash().await?;
        let requests = phone.machine()?.outgoing_requests().await?;
        phone.crash().await?;
        let Some(request) = requests.first() else { break };
        phone.send_request(request).await?;
    }
    phone.crash().await?;
    phone.drive().await?;
    assert!(backup(&phone)?.restores().await?.is_empty());
    let read = texts(&phone, &room).await;
    assert_eq!(read[read.len() - said.len()..], said);
    drop(bob);
    Ok(())
}

#[tokio::test]
async fn one_message_brings_its_epoch_alone() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, _bob, room) = pair(&homeserver).await;
    let said = talk(&alice, &room, 4).await?;
    let key = create(&alice).await?;
    let phone = log_in(&homeserver, "alice", "NEW").await?;
    backup(&phone)?.enable(key).await?;
    phone.drive().await?;
    let (heard, _subscription) = Heard::of(&phone).await?;
    let unread = phone.read(&room).await?;
    let last = unread.last().or_missing("event")?;
    let code = last.message.as_ref().refused()?.code();
    assert!(["unknown_epoch", "before_joining"].contains(&code), "{code}");
    let event = phone.history(&room).await?;
    let event = event.iter().find(|event| event["event_id"] == *last.event_id);
    let event = event.or_missing("event of the message")?;
    let message = RestoreScope::Message { event: event.to_string(), room_id: room.clone() };
    // The leaves are not here yet: they come with the first one, and nothing else does.
    homeserver.controls().or_missing("controls")?.clear_requests();
    backup(&phone)?.restore(None, message.clone()).await?;
    phone.drive().await?;
    let (epochs, failures) = restored(&heard).await?;
    assert_eq!((epochs, failures), (1, Vec::new()));
    assert_eq!(texts(&phone, &room).await, said[said.len() - 2..], "one epoch");
    let asked = session_requests(&homeserver)?;
    assert!(asked.iter().all(|path| path.split('/').count() == 3), "{asked:?}");

    // From then on one is enough; and what is not there says so.
    let later = talk(&alice, &room, 1).await?;
    alice.drive().await?;
    let event = phone.history(&room).await?.pop().or_missing("event")?;
    let of =
        |event: &Value| RestoreScope::Message { event: event.to_string(), room_id: room.clone() };
    backup(&phone)?.restore(None, of(&event)).await?;
    phone.drive().await?;
    assert_eq!(restored(&heard).await?, (1, Vec::new()));
    assert!(texts(&phone, &room).await.contains(&later[1]));
    let mut unknown = event.clone();
    unknown["content"]["epoch_creator"] = json!(["@carol:example.org", "PHONE"]);
    backup(&phone)?.restore(None, of(&unknown)).await?;
    phone.drive().await?;
    assert_eq!(restored(&heard).await?, (0, vec![("not_in_backup".to_owned(), 1)]));
    let no_message = RestoreScope::Message { event: "{}".to_owned(), room_id: room.clone() };
    assert!(matches!(
        backup(&phone)?.restore(None, no_message).await,
        Err(MlsError::Rejected { .. })
    ));
    Ok(())
}

/// What was asked of the backup's sessions: `/keys`, a room, a session.
fn session_requests(homeserver: &Homeserver) -> Result<Vec<String>> {
    let requests = homeserver.controls().or_missing("controls")?.requests();
    let paths = requests.into_iter().filter(|request| request.method == "GET");
    let paths = paths.filter_map(|request| {
        let (_, path) = request.path.split_once("/room_keys/")?;
        path.starts_with("keys").then(|| path.split('?').next().unwrap_or_default().to_owned())
    });
    Ok(paths.collect())
}

#[tokio::test]
async fn a_large_backup_is_fetched_room_by_room() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair(&homeserver).await;
    let mut said = vec!["first".to_owned()];
    said.extend(talk(&alice, &room, 3).await?);
    let other = alice.create_group(&[&bob], Default::default()).await?;
    alice.send_text(&other, "second room").await?;
    let mut elsewhere = vec!["second room".to_owned()];
    elsewhere.extend(talk(&alice, &other, 2).await?);
    let text = create(&alice).await?.text();
    alice.drive().await?;
    let phone = log_in(&homeserver, "alice", "NEW").await?;
    quiet(&[&phone]).await;
    let controls = homeserver.controls().or_missing("controls")?;
    // As if 100,000 sessions of Megolm stood beside ours.
    let _many = controls.tamper(Target::path("/room_keys/version"), |answer| {
        if answer.get("count").is_some() {
            answer["count"] = json!(100_000);
        }
    });
    controls.clear_requests();
    let (heard, _subscription) = Heard::of(&phone).await?;
    let key = RecoveryKey::parse(text)?;
    backup(&phone)?.restore(Some(key), RestoreScope::AllRooms).await?;
    phone.drive().await?;
    let (epochs, failures) = restored(&heard).await?;
    assert!(epochs >= 7 && failures.is_empty(), "{epochs} {failures:?}");
    let asked = session_requests(&homeserver)?;
    assert!(asked.len() == 2 && asked.iter().all(|path| path.split('/').count() == 2), "{asked:?}");
    assert_eq!(texts(&phone, &room).await, said);
    assert_eq!(texts(&phone, &other).await, elsewhere);
    Ok(())
}

#[tokio::test]
async fn a_restore_can_be_stopped() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, _bob, room) = pair(&homeserver).await;
    let key = create(&alice).await?;
    let phone = log_in(&homeserver, "alice", "NEW").await?;
    let id = backup(&phone)?.restore(Some(key.clone()), RestoreScope::AllRooms).await?;
    // The same again is the same.
    let again = backup(&phone)?.restore(Some(key.clone()), RestoreScope::AllRooms).await?;
    assert_eq!(id, again);
    let requests = phone.machine()?.outgoing_requests().await?;
    phone.send_request(&requests[0]).await?;
    let requests = phone.machine()?.outgoing_requests().await?;
    assert!(requests[0].path.contains("/room_keys/keys"));
    let (heard, _subscription) = Heard::of(&phone).await?;
    assert!(backup(&phone)?.cancel_restore(id).await?);
    assert!(!backup(&phone)?.cancel_restore(id).await?);
    assert_eq!(restored(&heard).await?, (0, vec![("cancelled".to_owned(), 1)]));
    // The answer comes all the same.
    phone.send_request(&requests[0]).await?;
    assert!(phone.machine()?.outgoing_requests().await?.is_empty());
    assert!(texts(&phone, &room).await.is_empty());
    let room_only = RestoreScope::Room { room_id: room.clone() };
    backup(&phone)?.restore(Some(key), room_only).await?;
    phone.drive().await?;
    assert_eq!(texts(&phone, &room).await, ["first"]);
    Ok(())
}

#[tokio::test]
async fn a_file_moves_the_history_without_a_server() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair(&homeserver).await;
    let other = alice.create_group(&[&bob], Default::default()).await?;
    alice.send_text(&other, "in the other room").await?;
    let said = talk(&alice, &room, 3).await?;
    let (one, pass) = (Some(vec![room.clone()]), "correct horse".to_owned());
    let one = backup(&alice)?.export_history(one, pass.clone()).await?;
    let all = backup(&alice)?.export_history(None, pass.clone()).await?;
    let phone = log_in(&homeserver, "alice", "NEW").await?;
    let wrong = backup(&phone)?.import_history(one.clone(), "battery".to_owned()).await;
    assert_eq!(wrong.refused()?.code(), "wrong_passphrase");
    let cut = backup(&phone)?.import_history(one[..300].to_owned(), pass.clone()).await;
    assert_eq!(cut.refused()?.code(), "bad_file");
    let summary = backup(&phone)?.import_history(one.clone(), pass.clone()).await?;
    assert_eq!((summary.epochs, summary.failures.len()), (5, 0));
    assert_eq!(texts(&phone, &room).await[1..], said);
    assert!(texts(&phone, &other).await.is_empty());
    let summary = backup(&phone)?.import_history(all, pass.clone()).await?;
    assert_eq!((summary.epochs, summary.failures.len()), (2, 0));
    assert_eq!(texts(&phone, &other).await, ["in the other room"]);
    assert_eq!(backup(&phone)?.import_history(one, pass).await?.epochs, 0);
    let none = backup(&alice)?.export_history(None, String::new()).await.refused()?;
    assert_eq!(none.code(), "empty_passphrase");
    Ok(())
}
