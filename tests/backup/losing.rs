//! A lost phone: all rooms, one room, the epoch of one message, through kills; and a file instead of a server.

use super::*;

#[tokio::test]
async fn a_new_phone_shows_the_old_messages() {
    let homeserver = Homeserver::embedded().unwrap();
    let (alice, bob, room) = pair(&homeserver).await;
    let mut said = vec!["first".to_owned()];
    said.extend(talk(&alice, &room, 3).await);
    let text = create(&alice).await.text();
    // And what comes after.
    quiet(&[&alice, &bob]).await;
    said.extend(talk(&bob, &room, 3).await);
    quiet(&[&alice, &bob]).await;
    let BackupCounts { backed_up, total, on_server } = counts(&alice).await;
    // Each epoch, and the leaves once: nobody came or went.
    assert!(backed_up >= 7, "{backed_up}");
    assert_eq!((total, on_server), (backed_up, Some(backed_up + 2)));

    // The phone is lost. The new one knows nothing but the password, and the key on paper.
    drop(alice);
    let phone = Client::log_in(&homeserver, "alice", "NEW").await.unwrap();
    phone.settle().await.unwrap();
    assert!(texts(&phone, &room).await.is_empty());
    let key = RecoveryKey::parse(text.to_lowercase()).unwrap_err();
    assert!(["recovery_key_prefix", "recovery_key_alphabet"].contains(&key.code()), "{key}");
    let key = RecoveryKey::parse(text).unwrap();
    let (heard, _subscription) = Heard::of(&phone).await;
    backup(&phone).enable(key.clone()).await.unwrap();
    let id = backup(&phone).restore(Some(key), RestoreScope::AllRooms).await.unwrap();
    phone.drive().await.unwrap();
    let progress = heard.wait_for(|update| matches!(update, Update::RestoreProgress { .. })).await;
    let sessions = backed_up + 2;
    assert_eq!(progress, Update::RestoreProgress { restore: id, done: sessions, total: sessions });
    assert_eq!(heard.restored().await, (backed_up, Vec::new()));
    assert!(backup(&phone).restores().await.unwrap().is_empty());
    assert_eq!(texts(&phone, &room).await, said);
    // What was restored need not be uploaded.
    assert_eq!(counts(&phone).await.total, counts(&phone).await.backed_up);

    // And goes on talking; what it is added by it may have restored before.
    all_talk(&[&bob, &phone], &room).await;
    let now = texts(&phone, &room).await;
    assert_eq!(now[..said.len()], said);
    assert_eq!(now.len(), said.len() + 2);
}

#[tokio::test]
async fn an_epoch_that_was_restored_can_still_be_entered() {
    let homeserver = Homeserver::embedded().unwrap();
    let (alice, bob, room) = pair(&homeserver).await;
    let key = create(&alice).await;
    let phone = Client::log_in(&homeserver, "alice", "NEW").await.unwrap();
    phone.drive().await.unwrap();
    // The old phone adds the new one, and backs that epoch up before the new one has seen the Welcome; and
    // then the epoch after it, of which the new one has not seen the commit.
    alice.settle().await.unwrap();
    alice.send_text(&room, "you are in").await.unwrap();
    let added = talk(&alice, &room, 2).await;
    alice.settle().await.unwrap();
    let (_, failures) = restore_all(&phone, &key).await;
    assert_eq!(failures, []);
    assert!(texts(&phone, &room).await.contains(&added[3]));
    phone.settle().await.unwrap();
    let epochs = phone.room(&room).await.unwrap().epochs().await.unwrap();
    assert!(epochs.iter().any(|epoch| epoch.is_head && epoch.is_full), "{epochs:?}");
    all_talk(&[&alice, &bob, &phone], &room).await;
}

#[tokio::test]
async fn nothing_is_lost_when_the_app_is_killed() {
    let homeserver = Homeserver::embedded().unwrap();
    let (mut alice, bob, room) = pair(&homeserver).await;
    let said = talk(&alice, &room, 4).await;
    let key = RecoveryKey::generate().unwrap();
    backup(&alice).create(key.clone(), false).await.unwrap();
    // Killed after each request was made, after each was sent, and after each answer.
    let mut uploads = Vec::new();
    for _ in 0..20 {
        alice.crash().await.unwrap();
        let requests = alice.machine().unwrap().outgoing_requests().await.unwrap();
        alice.crash().await.unwrap();
        let again = alice.machine().unwrap().outgoing_requests().await.unwrap();
        assert_eq!(requests, again);
        let Some(request) = requests.first() else { break };
        alice.transmit(request).await.unwrap();
        alice.crash().await.unwrap();
        alice.send_request(request).await.unwrap();
        uploads.push(request.path.clone());
    }
    assert!(uploads.iter().any(|path| path.contains("/room_keys/keys")), "{uploads:?}");
    let BackupCounts { backed_up, total, .. } = counts(&alice).await;
    assert_eq!((backed_up, total), (total, 5 + 1));
    let (_, keys) = sessions(&alice).await;
    assert_eq!(keys["rooms"][&room]["sessions"].as_object().unwrap().len(), 6 + 2);

    let mut phone = Client::log_in(&homeserver, "alice", "NEW").await.unwrap();
    phone.settle().await.unwrap();
    backup(&phone).restore(Some(key), RestoreScope::AllRooms).await.unwrap();
    for _ in 0..20 {
        phone.crash().await.unwrap();
        let requests = phone.machine().unwrap().outgoing_requests().await.unwrap();
        phone.crash().await.unwrap();
        let Some(request) = requests.first() else { break };
        phone.send_request(request).await.unwrap();
    }
    phone.crash().await.unwrap();
    phone.drive().await.unwrap();
    assert!(backup(&phone).restores().await.unwrap().is_empty());
    let read = texts(&phone, &room).await;
    assert_eq!(read[read.len() - said.len()..], said);
    drop(bob);
}

#[tokio::test]
async fn one_message_brings_its_epoch_alone() {
    let homeserver = Homeserver::embedded().unwrap();
    let (alice, _bob, room) = pair(&homeserver).await;
    let said = talk(&alice, &room, 4).await;
    let key = create(&alice).await;
    let phone = Client::log_in(&homeserver, "alice", "NEW").await.unwrap();
    phone.settle().await.unwrap();
    backup(&phone).enable(key).await.unwrap();
    phone.drive().await.unwrap();
    let (heard, _subscription) = Heard::of(&phone).await;
    let unread = phone.read(&room).await.unwrap();
    let last = unread.last().unwrap();
    let code = last.message.as_ref().unwrap_err().code();
    assert!(["unknown_epoch", "before_joining"].contains(&code), "{code}");
    let event = phone.history(&room).await.unwrap();
    let event = event.iter().find(|event| event["event_id"] == *last.event_id).unwrap();
    let message = RestoreScope::Message { event: event.to_string(), room_id: room.clone() };
    // The leaves are not here yet: the room's sessions come with the first one.
    backup(&phone).restore(None, message.clone()).await.unwrap();
    phone.drive().await.unwrap();
    let (epochs, failures) = heard.restored().await;
    assert_eq!((epochs, failures), (6, Vec::new()));
    assert_eq!(texts(&phone, &room).await[1..], said);

    // From then on one is enough; and what is not there says so.
    let later = talk(&alice, &room, 1).await;
    alice.drive().await.unwrap();
    let event = phone.history(&room).await.unwrap().pop().unwrap();
    let of =
        |event: &Value| RestoreScope::Message { event: event.to_string(), room_id: room.clone() };
    backup(&phone).restore(None, of(&event)).await.unwrap();
    phone.drive().await.unwrap();
    assert_eq!(heard.restored().await, (1, Vec::new()));
    assert!(texts(&phone, &room).await.contains(&later[1]));
    let mut unknown = event.clone();
    unknown["content"]["epoch_creator"] = json!(["@carol:example.org", "PHONE"]);
    backup(&phone).restore(None, of(&unknown)).await.unwrap();
    phone.drive().await.unwrap();
    assert_eq!(heard.restored().await, (0, vec![("not_in_backup".to_owned(), 1)]));
    let no_message = RestoreScope::Message { event: "{}".to_owned(), room_id: room.clone() };
    assert!(matches!(
        backup(&phone).restore(None, no_message).await,
        Err(MlsError::Rejected { .. })
    ));
}

#[tokio::test]
async fn a_restore_can_be_stopped() {
    let homeserver = Homeserver::embedded().unwrap();
    let (alice, _bob, room) = pair(&homeserver).await;
    let key = create(&alice).await;
    let phone = Client::log_in(&homeserver, "alice", "NEW").await.unwrap();
    phone.settle().await.unwrap();
    let id = backup(&phone).restore(Some(key.clone()), RestoreScope::AllRooms).await.unwrap();
    // The same again is the same.
    let again = backup(&phone).restore(Some(key.clone()), RestoreScope::AllRooms).await.unwrap();
    assert_eq!(id, again);
    let requests = phone.machine().unwrap().outgoing_requests().await.unwrap();
    phone.send_request(&requests[0]).await.unwrap();
    let requests = phone.machine().unwrap().outgoing_requests().await.unwrap();
    assert!(requests[0].path.contains("/room_keys/keys"));
    let (heard, _subscription) = Heard::of(&phone).await;
    assert!(backup(&phone).cancel_restore(id).await.unwrap());
    assert!(!backup(&phone).cancel_restore(id).await.unwrap());
    assert_eq!(heard.restored().await, (0, vec![("cancelled".to_owned(), 1)]));
    // The answer comes all the same.
    phone.send_request(&requests[0]).await.unwrap();
    assert!(phone.machine().unwrap().outgoing_requests().await.unwrap().is_empty());
    assert!(texts(&phone, &room).await.is_empty());
    let room_only = RestoreScope::Room { room_id: room.clone() };
    backup(&phone).restore(Some(key), room_only).await.unwrap();
    phone.drive().await.unwrap();
    assert_eq!(texts(&phone, &room).await, ["first"]);
}

#[tokio::test]
async fn a_file_moves_the_history_without_a_server() {
    let homeserver = Homeserver::embedded().unwrap();
    let (alice, bob, room) = pair(&homeserver).await;
    let other = alice.create_group(&[&bob], Default::default()).await.unwrap();
    alice.send_text(&other, "in the other room").await.unwrap();
    let said = talk(&alice, &room, 3).await;
    let (one, pass) = (Some(vec![room.clone()]), "correct horse".to_owned());
    let one = backup(&alice).export_history(one, pass.clone()).await.unwrap();
    let all = backup(&alice).export_history(None, pass.clone()).await.unwrap();
    let phone = Client::log_in(&homeserver, "alice", "NEW").await.unwrap();
    phone.settle().await.unwrap();
    let wrong = backup(&phone).import_history(one.clone(), "battery".to_owned()).await;
    assert_eq!(wrong.unwrap_err().code(), "wrong_passphrase");
    let cut = backup(&phone).import_history(one[..300].to_owned(), pass.clone()).await;
    assert_eq!(cut.unwrap_err().code(), "bad_file");
    let summary = backup(&phone).import_history(one.clone(), pass.clone()).await.unwrap();
    assert_eq!((summary.epochs, summary.failures.len()), (5, 0));
    assert_eq!(texts(&phone, &room).await[1..], said);
    assert!(texts(&phone, &other).await.is_empty());
    let summary = backup(&phone).import_history(all, pass.clone()).await.unwrap();
    assert_eq!((summary.epochs, summary.failures.len()), (2, 0));
    assert_eq!(texts(&phone, &other).await, ["in the other room"]);
    assert_eq!(backup(&phone).import_history(one, pass).await.unwrap().epochs, 0);
    let none = backup(&alice).export_history(None, String::new()).await.unwrap_err();
    assert_eq!(none.code(), "empty_passphrase");
}
