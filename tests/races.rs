//! Changes of members that meet each other: whatever comes first, all end on one head whose members are the
//! devices of the people in the room, and nobody reads what was not meant for them. Somebody who does not sync
//! has not heard of what the others did.

use std::collections::BTreeSet;

use matrix_mls::RoomSettings;
use matrix_mls_kit::{
    Client, Homeserver,
    together::{all_talk, quiet, texts},
};

/// Alice, Bob and Carol with a phone each, in a room of Alice's.
async fn three(homeserver: &Homeserver) -> (Client, Client, Client, String) {
    let mut people = Vec::new();
    for name in ["alice", "bob", "carol"] {
        people.push(Client::register(homeserver, name, "PHONE").await.unwrap());
    }
    let [alice, bob, carol] = people.try_into().ok().unwrap();
    quiet(&[&alice, &bob, &carol]).await;
    let settings = RoomSettings::default();
    let room = alice.create_group(&[&bob, &carol], settings).await.unwrap();
    alice.send_text(&room, "first").await.unwrap();
    quiet(&[&alice, &bob, &carol]).await;
    (alice, bob, carol, room)
}

/// Somebody who comes into the Matrix room; Alice has heard of it, nobody else.
async fn comes(homeserver: &Homeserver, name: &str, alice: &Client, room: &str) -> Client {
    let new = Client::register(homeserver, name, "PHONE").await.unwrap();
    new.settle().await.unwrap();
    alice.invite(room, new.user_id()).await.unwrap();
    new.join(room).await.unwrap();
    alice.settle().await.unwrap();
    new
}

async fn commits(client: &Client, room: &str) -> usize {
    let events = client.history(room).await.unwrap();
    events.iter().filter(|event| event["content"].get("public_group_state").is_some()).count()
}

/// These are the group, as each of them sees it, and they talk.
async fn are_the_group(clients: &[&Client], room: &str) {
    all_talk(clients, room).await;
    let expected: BTreeSet<_> = clients.iter().map(|client| client.name()).collect();
    for client in clients {
        let members = client.room(room).await.unwrap().members().await.unwrap();
        let members: BTreeSet<_> =
            members.iter().map(|m| format!("{}/{}", m.user_id, m.device_id)).collect();
        assert_eq!(members, expected, "as {} sees it", client.name());
    }
}

#[tokio::test]
async fn one_adds_while_another_removes() {
    let homeserver = Homeserver::embedded().unwrap();
    let (alice, bob, carol, room) = three(&homeserver).await;
    let dave = comes(&homeserver, "dave", &alice, &room).await;
    // Bob's device hears of both, Alice's of Dave alone.
    alice.kick(&room, carol.user_id()).await.unwrap();
    bob.settle().await.unwrap();
    bob.send_text(&room, "with Dave, without Carol").await.unwrap();
    alice.send_text(&room, "with Dave").await.unwrap();
    quiet(&[&alice, &bob, &carol, &dave]).await;
    are_the_group(&[&alice, &bob, &dave], &room).await;
    for client in [&alice, &bob] {
        let read = texts(client, &room).await;
        assert!(read.contains(&"with Dave, without Carol".to_owned()), "{read:?}");
        assert!(read.contains(&"with Dave".to_owned()), "{read:?}");
    }
    // The server shows her nothing any more; and if it did, she could open nothing.
    for event in alice.history(&room).await.unwrap() {
        let read = carol.room(&room).await.unwrap().decrypt(event.to_string()).await;
        let text = read.map(|message| message.content).unwrap_or_default();
        assert!(!text.contains("without Carol") && !text.contains("is here"), "{text}");
    }
}

#[tokio::test]
async fn what_the_removed_said_before_they_heard_of_it_is_read() {
    let homeserver = Homeserver::embedded().unwrap();
    let (alice, bob, carol, room) = three(&homeserver).await;
    carol.room(&room).await.unwrap().rotate_keys().await.unwrap();
    carol.send_text(&room, "on a branch of mine").await.unwrap();
    alice.kick(&room, carol.user_id()).await.unwrap();
    // Alice gets the newest first: the kick, then the message, then the commit it was sent on.
    homeserver.controls().unwrap().reverse_timelines(alice.user_id(), true);
    quiet(&[&alice, &bob]).await;
    alice.send_text(&room, "without Carol").await.unwrap();
    quiet(&[&alice, &bob]).await;
    are_the_group(&[&alice, &bob], &room).await;
    for client in [&alice, &bob] {
        assert!(texts(client, &room).await.contains(&"on a branch of mine".to_owned()));
    }
}

#[tokio::test]
async fn somebody_added_on_both_sides_is_in_once() {
    let homeserver = Homeserver::embedded().unwrap();
    let (alice, bob, carol, room) = three(&homeserver).await;
    let dave = comes(&homeserver, "dave", &alice, &room).await;
    bob.settle().await.unwrap();
    alice.send_text(&room, "hello Dave, says Alice").await.unwrap();
    bob.send_text(&room, "hello Dave, says Bob").await.unwrap();
    quiet(&[&alice, &bob, &carol, &dave]).await;
    let everybody = [&alice, &bob, &carol, &dave];
    for client in everybody {
        let read = texts(client, &room).await;
        for greeting in ["hello Dave, says Alice", "hello Dave, says Bob"] {
            assert!(read.contains(&greeting.to_owned()), "{}: {read:?}", client.name());
        }
    }
    are_the_group(&everybody, &room).await;
    assert_eq!(commits(&alice, &room).await, 4, "announcement, first, and one on each side");
}

#[tokio::test]
async fn whoever_leaves_while_being_removed_is_out_for_good() {
    let homeserver = Homeserver::embedded().unwrap();
    let (alice, bob, carol, room) = three(&homeserver).await;
    let tablet = Client::log_in(&homeserver, "carol", "TABLET").await.unwrap();
    tablet.settle().await.unwrap();
    quiet(&[&alice, &bob, &carol, &tablet]).await;
    are_the_group(&[&alice, &bob, &carol, &tablet], &room).await;
    // A commit that removes the tablet is on its way while all of Carol leaves.
    tablet.log_out().await.unwrap();
    alice.settle().await.unwrap();
    let handle = alice.room(&room).await.unwrap();
    let mut commit = None;
    while commit.is_none() {
        let plan = handle.prepare_to_send().await.unwrap();
        let matrix_mls::SendPlan::Waiting { requests, .. } = plan else {
            panic!("a removal is due")
        };
        for request in requests {
            match request.path.contains("/send/") {
                true => commit = Some(request),
                false => drop(alice.send_request(&request).await.unwrap()),
            }
        }
    }
    carol.leave(&room).await.unwrap();
    bob.settle().await.unwrap();
    bob.send_text(&room, "she has left").await.unwrap();
    alice.send_request(&commit.unwrap()).await.unwrap();
    quiet(&[&alice, &bob, &carol]).await;
    are_the_group(&[&alice, &bob], &room).await;
    let error = carol.room(&room).await.unwrap().members().await.unwrap_err();
    assert!(matches!(error, matrix_mls::MlsError::NotInGroup { .. }), "{error}");
}

#[tokio::test]
async fn two_that_merge_a_fork_at_once_need_no_third_commit() {
    let homeserver = Homeserver::embedded().unwrap();
    let (alice, bob, carol, room) = three(&homeserver).await;
    let dave = comes(&homeserver, "dave", &alice, &room).await;
    bob.settle().await.unwrap();
    let erin = Client::register(&homeserver, "erin", "PHONE").await.unwrap();
    erin.settle().await.unwrap();
    bob.invite(&room, erin.user_id()).await.unwrap();
    erin.join(&room).await.unwrap();
    // A fork whose longer side, Alice's, lacks somebody: Bob's device alone has heard of Erin.
    bob.settle().await.unwrap();
    alice.prepare(&room).await.unwrap();
    alice.room(&room).await.unwrap().rotate_keys().await.unwrap();
    alice.prepare(&room).await.unwrap();
    bob.prepare(&room).await.unwrap();
    for _ in 0..2 {
        alice.sync().await.unwrap();
        bob.sync().await.unwrap();
    }
    let before = commits(&alice, &room).await;
    alice.prepare(&room).await.unwrap();
    bob.prepare(&room).await.unwrap();
    let everybody = [&alice, &bob, &carol, &dave, &erin];
    quiet(&everybody).await;
    are_the_group(&everybody, &room).await;
    let merging = commits(&alice, &room).await - before;
    assert!((1..=2).contains(&merging), "{merging}");
}
