//! Two commits on one epoch: all branches are followed, everybody goes on with the same one, and what was
//! said on any is read. And what comes in another order than it was sent.

use matrix_mls::{EventOutcome, MlsError, RoomSettings, SendPlan};
use matrix_mls_kit::{
    Client, Homeserver,
    together::{head, quiet},
};

async fn group(homeserver: &Homeserver) -> (Client, Client, String) {
    let alice = Client::register(homeserver, "alice", "PHONE").await.unwrap();
    let bob = Client::register(homeserver, "bob", "PHONE").await.unwrap();
    for client in [&alice, &bob] {
        client.settle().await.unwrap();
    }
    let room = alice.create_group(&[&bob], RoomSettings::default()).await.unwrap();
    alice.send_text(&room, "first").await.unwrap();
    bob.settle().await.unwrap();
    bob.send_text(&room, "second").await.unwrap();
    for client in [&alice, &bob] {
        client.settle().await.unwrap();
        client.sync().await.unwrap();
    }
    (alice, bob, room)
}

/// What became of the events of a sync, those that count.
async fn outcomes(client: &Client) -> Vec<EventOutcome> {
    let summary = client.sync().await.unwrap().summary;
    let events = summary.rooms.into_iter().flat_map(|room| room.events);
    events.map(|event| event.outcome).collect()
}

async fn commits(client: &Client, room: &str) -> usize {
    client.room(room).await.unwrap().epochs().await.unwrap().len()
}

#[tokio::test]
async fn two_commits_on_one_epoch_converge_without_a_third() {
    let homeserver = Homeserver::embedded().unwrap();
    let (mut alice, bob, room) = group(&homeserver).await;
    // Both want fresh keys at once, and both commits reach the homeserver. (Asked for by the settings: a
    // rotation that the app asks for is made again where it lost.)
    let settings = RoomSettings { rotate_after_messages: 1, ..RoomSettings::default() };
    for client in [&alice, &bob] {
        let handle = client.room(&room).await.unwrap();
        handle.set_settings(settings.clone()).await.unwrap();
        client.prepare(&room).await.unwrap();
        handle.set_settings(RoomSettings::default()).await.unwrap();
    }
    let (alices, bobs) = (head(&alice, &room).await, head(&bob, &room).await);
    assert_ne!(alices, bobs, "each has committed on the same epoch");
    let before = commits(&alice, &room).await;

    // Each speaks on its own branch before it has heard of the other.
    alice.send_text(&room, "on alice's").await.unwrap();
    bob.send_text(&room, "on bob's").await.unwrap();
    quiet(&[&alice, &bob]).await;
    assert_eq!(head(&alice, &room).await, head(&bob, &room).await);
    assert!([alices, bobs].contains(&head(&alice, &room).await), "one of the two won");
    assert_eq!(commits(&alice, &room).await, before + 1, "no third commit");
    alice.restart().await.unwrap();
    alice.send_text(&room, "together").await.unwrap();
    quiet(&[&alice, &bob]).await;
    for client in [&alice, &bob] {
        let texts = client.read_texts(&room).await.unwrap();
        assert_eq!(texts, ["first", "second", "on alice's", "on bob's", "together"]);
    }
    assert_eq!(commits(&alice, &room).await, before + 1);
}

#[tokio::test]
async fn fresh_keys_that_were_asked_for_are_made_again_where_their_branch_lost() {
    let homeserver = Homeserver::embedded().unwrap();
    let (alice, bob, room) = group(&homeserver).await;
    for client in [&alice, &bob] {
        client.room(&room).await.unwrap().rotate_keys().await.unwrap();
        client.prepare(&room).await.unwrap();
    }
    quiet(&[&alice, &bob]).await;
    for client in [&alice, &bob] {
        client.send_text(&room, "after").await.unwrap();
        quiet(&[&alice, &bob]).await;
    }
    assert_eq!(head(&alice, &room).await, head(&bob, &room).await);
    let epochs = alice.room(&room).await.unwrap().epochs().await.unwrap();
    let mut next = epochs.iter().find(|epoch| epoch.is_head);
    let mut creators = Vec::new();
    while let Some(epoch) = next {
        creators.push(epoch.creator_user_id.clone());
        next = epochs.iter().find(|parent| Some(&parent.id) == epoch.parent.as_ref());
    }
    for client in [&alice, &bob] {
        assert!(creators.contains(&client.user_id().to_owned()), "{creators:?}");
    }
}

#[tokio::test]
async fn a_rotation_that_was_only_asked_for_is_made_on_what_came_meanwhile() {
    let homeserver = Homeserver::embedded().unwrap();
    let (alice, bob, room) = group(&homeserver).await;
    alice.room(&room).await.unwrap().rotate_keys().await.unwrap();
    bob.room(&room).await.unwrap().rotate_keys().await.unwrap();
    bob.send_text(&room, "bob was faster").await.unwrap();
    let seen = outcomes(&alice).await;
    assert!(seen.iter().any(|outcome| matches!(outcome, EventOutcome::Commit { .. })), "{seen:?}");
    assert_eq!(head(&alice, &room).await, head(&bob, &room).await);
    alice.send_text(&room, "alice after him").await.unwrap();
    bob.settle().await.unwrap();
    assert_eq!(head(&alice, &room).await, head(&bob, &room).await);
    let texts = bob.read_texts(&room).await.unwrap();
    assert_eq!(texts, ["first", "second", "bob was faster", "alice after him"]);
}

#[tokio::test]
async fn a_commit_is_taken_in_while_ours_is_on_its_way_and_refused() {
    let homeserver = Homeserver::embedded().unwrap();
    let (alice, bob, room) = group(&homeserver).await;
    let handle = alice.room(&room).await.unwrap();
    handle.rotate_keys().await.unwrap();
    let SendPlan::Waiting { requests, .. } = handle.prepare_to_send().await.unwrap() else {
        panic!("there is nothing to send")
    };
    bob.room(&room).await.unwrap().rotate_keys().await.unwrap();
    bob.send_text(&room, "bob was faster").await.unwrap();
    let seen = outcomes(&alice).await;
    assert!(seen.iter().any(|outcome| matches!(outcome, EventOutcome::Commit { .. })), "{seen:?}");
    assert_eq!(head(&alice, &room).await, head(&bob, &room).await);
    let machine = alice.machine().unwrap();
    for request in requests {
        let refusal = br#"{"errcode":"M_FORBIDDEN","error":"too late"}"#.to_vec();
        machine.mark_request_as_sent(request.id, 403, refusal).await.unwrap();
    }
    alice.send_text(&room, "alice after him").await.unwrap();
    quiet(&[&alice, &bob]).await;
    let texts = alice.read_texts(&room).await.unwrap();
    assert_eq!(texts, ["first", "second", "bob was faster", "alice after him"]);
    assert_eq!(head(&alice, &room).await, head(&bob, &room).await);
}

#[tokio::test]
async fn events_in_any_order_are_read_in_the_end() {
    let homeserver = Homeserver::embedded().unwrap();
    let (alice, mut bob, room) = group(&homeserver).await;
    for number in 0..3 {
        alice.room(&room).await.unwrap().rotate_keys().await.unwrap();
        alice.send_text(&room, &format!("in epoch {number}")).await.unwrap();
    }
    let mut events: Vec<String> =
        alice.history(&room).await.unwrap().iter().map(ToString::to_string).collect();
    events.reverse();
    let handle = bob.room(&room).await.unwrap();
    // The newest first, one at a time, and a restart in the middle.
    let half = events.len() / 2;
    let mut read = Vec::new();
    for (number, event) in events.iter().enumerate() {
        for result in handle.receive_events(vec![event.clone()]).await.unwrap() {
            if let EventOutcome::Message { message } = result.outcome {
                read.push(message.content);
            }
        }
        if number == half {
            break;
        }
    }
    drop(handle);
    bob.restart().await.unwrap();
    let handle = bob.room(&room).await.unwrap();
    for result in handle.receive_events(events[half + 1..].to_vec()).await.unwrap() {
        if let EventOutcome::Message { message } = result.outcome {
            read.push(message.content);
        }
    }
    for text in ["first", "second", "in epoch 0", "in epoch 1", "in epoch 2"] {
        assert!(read.iter().any(|content| content.contains(text)), "{text}: {read:?}");
    }
    assert_eq!(head(&alice, &room).await, head(&bob, &room).await);
    // All of it again is no news and does no harm.
    for result in handle.receive_events(events).await.unwrap() {
        let known = matches!(
            result.outcome,
            EventOutcome::Duplicate
                | EventOutcome::Message { .. }
                | EventOutcome::State
                | EventOutcome::Ignored
        );
        assert!(known || matches!(result.outcome, EventOutcome::Failed { .. }), "{result:?}");
    }
    assert_eq!(head(&alice, &room).await, head(&bob, &room).await);
}

#[tokio::test]
async fn members_who_change_between_preparing_and_sending_have_to_be_looked_at_again() {
    let homeserver = Homeserver::embedded().unwrap();
    let (alice, bob, room) = group(&homeserver).await;
    alice.prepare(&room).await.unwrap();
    bob.leave(&room).await.unwrap();
    alice.sync().await.unwrap();
    let handle = alice.room(&room).await.unwrap();
    let error = handle.encrypt("m.room.message".into(), "{}".into()).await.unwrap_err();
    assert!(matches!(error, MlsError::NotReady { .. }), "{error}");
    alice.send_text(&room, "without bob").await.unwrap();
    assert_eq!(handle.members().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_device_that_logs_out_is_removed_and_one_that_leaves_can_come_back() {
    let homeserver = Homeserver::embedded().unwrap();
    let (alice, bob, room) = group(&homeserver).await;
    let laptop = Client::log_in(&homeserver, "bob", "LAPTOP").await.unwrap();
    laptop.settle().await.unwrap();
    alice.settle().await.unwrap();
    alice.send_text(&room, "to all three").await.unwrap();
    laptop.settle().await.unwrap();
    let texts = laptop.sync().await.unwrap().messages;
    assert!(texts.iter().any(|message| message.content.contains("to all three")));
    laptop.log_out().await.unwrap();
    alice.settle().await.unwrap();
    alice.send_text(&room, "to two").await.unwrap();
    assert_eq!(alice.room(&room).await.unwrap().members().await.unwrap().len(), 2);

    bob.settle().await.unwrap();
    bob.sync().await.unwrap();
    let handle = bob.room(&room).await.unwrap();
    handle.leave().await.unwrap();
    bob.leave(&room).await.unwrap();
    for error in [
        handle.prepare_to_send().await.unwrap_err(),
        handle.encrypt("m.room.message".into(), "{}".into()).await.unwrap_err(),
        handle.rotate_keys().await.unwrap_err(),
        handle.members().await.unwrap_err(),
        handle.leave().await.unwrap_err(),
    ] {
        assert!(matches!(error, MlsError::NotInGroup { .. }), "{error}");
    }
    alice.settle().await.unwrap();
    alice.send_text(&room, "behind his back").await.unwrap();

    alice.invite(&room, bob.user_id()).await.unwrap();
    bob.join(&room).await.unwrap();
    alice.settle().await.unwrap();
    alice.send_text(&room, "welcome back").await.unwrap();
    bob.settle().await.unwrap();
    bob.send_text(&room, "good to be back").await.unwrap();
    let read: Vec<_> = bob.read(&room).await.unwrap();
    let texts: Vec<_> = read.iter().filter_map(matrix_mls_kit::ReadEvent::text).collect();
    for text in ["first", "second", "to two", "welcome back", "good to be back"] {
        assert!(texts.iter().any(|seen| seen == text), "{text}: {texts:?}");
    }
    assert!(!texts.iter().any(|seen| seen == "behind his back"), "{texts:?}");
}
