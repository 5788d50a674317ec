//! Changes of members that meet each other: whatever comes first, all end on one head whose members
//! are the devices of the people in the room, and nobody reads what was not meant for them.
//! Somebody who does not sync has not heard of what the others did.

use std::collections::BTreeSet;

use matrix_mls::RoomSettings;
use matrix_mls_kit::{
    Client, Homeserver, OrMissing as _, Refused as _, Result, Target,
    parted::members,
    together::{all_talk, log_in, newcomer, phone_of, quiet, renew_keys, texts, two_phones},
};

/// Alice, Bob and Carol with a phone each, in a room of Alice's.
async fn three(homeserver: &Homeserver) -> Result<(Client, Client, Client, String)> {
    let (alice, bob) = two_phones(homeserver).await?;
    let carol = phone_of(homeserver, "carol").await?;
    quiet(&[&alice, &bob, &carol]).await;
    let settings = RoomSettings::default();
    let room = alice.create_group(&[&bob, &carol], settings).await?;
    alice.send_text(&room, "first").await?;
    quiet(&[&alice, &bob, &carol]).await;
    renew_keys(&[&bob, &carol], &room).await;
    quiet(&[&alice]).await;
    Ok((alice, bob, carol, room))
}

/// Somebody who comes into the Matrix room; Alice has heard of it, nobody else.
async fn comes(homeserver: &Homeserver, name: &str, alice: &Client, room: &str) -> Result<Client> {
    let new = newcomer(homeserver, name, alice, room).await?;
    alice.settle().await?;
    Ok(new)
}

/// These are the group, as each of them sees it, and they talk.
async fn are_the_group(clients: &[&Client], room: &str) -> Result {
    all_talk(clients, room).await;
    let expected: BTreeSet<_> = clients.iter().map(|client| client.name()).collect();
    for client in clients {
        let members = members(client, room).await?;
        assert_eq!(members, expected, "as {} sees it", client.name());
    }
    Ok(())
}

#[tokio::test]
async fn one_adds_while_another_removes() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, carol, room) = three(&homeserver).await?;
    let dave = comes(&homeserver, "dave", &alice, &room).await?;
    // Bob's device hears of both, Alice's of Dave alone.
    alice.kick(&room, carol.user_id()).await?;
    bob.settle().await?;
    bob.send_text(&room, "with Dave, without Carol").await?;
    alice.send_text(&room, "with Dave").await?;
    quiet(&[&alice, &bob, &carol, &dave]).await;
    are_the_group(&[&alice, &bob, &dave], &room).await?;
    for client in [&alice, &bob] {
        let read = texts(client, &room).await;
        assert!(read.contains(&"with Dave, without Carol".to_owned()), "{read:?}");
        assert!(read.contains(&"with Dave".to_owned()), "{read:?}");
    }
    // The server shows her nothing any more; and if it did, she could open nothing.
    for event in alice.history(&room).await? {
        let read = carol.room(&room).await?.decrypt(event.to_string()).await;
        let text = read.map(|message| message.content).unwrap_or_default();
        assert!(!text.contains("without Carol") && !text.contains("is here"), "{text}");
    }
    Ok(())
}

#[tokio::test]
async fn what_the_removed_said_before_they_heard_of_it_is_read() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, carol, room) = three(&homeserver).await?;
    carol.rotate_keys(&room).await?;
    carol.send_text(&room, "on a branch of mine").await?;
    alice.kick(&room, carol.user_id()).await?;
    // Alice gets the newest first: the kick, then the message, then the commit it was sent on.
    homeserver.controls().or_missing("controls")?.reverse_timelines(alice.user_id(), true);
    quiet(&[&alice, &bob]).await;
    alice.send_text(&room, "without Carol").await?;
    quiet(&[&alice, &bob]).await;
    are_the_group(&[&alice, &bob], &room).await?;
    for client in [&alice, &bob] {
        assert!(texts(client, &room).await.contains(&"on a branch of mine".to_owned()));
    }
    Ok(())
}

#[tokio::test]
async fn somebody_added_on_both_sides_is_in_once() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, carol, room) = three(&homeserver).await?;
    let dave = comes(&homeserver, "dave", &alice, &room).await?;
    bob.settle().await?;
    let before = alice.commits(&room).await?.len();
    alice.send_text(&room, "hello Dave, says Alice").await?;
    bob.send_text(&room, "hello Dave, says Bob").await?;
    quiet(&[&alice, &bob, &carol, &dave]).await;
    let everybody = [&alice, &bob, &carol, &dave];
    for client in everybody {
        let read = texts(client, &room).await;
        for greeting in ["hello Dave, says Alice", "hello Dave, says Bob"] {
            assert!(read.contains(&greeting.to_owned()), "{}: {read:?}", client.name());
        }
    }
    assert_eq!(alice.commits(&room).await?.len(), before + 2, "one on each side");
    are_the_group(&everybody, &room).await?;
    assert_eq!(alice.commits(&room).await?.len(), before + 3, "Dave renews the keys he came with");
    Ok(())
}

#[tokio::test]
async fn whoever_leaves_while_being_removed_is_out_for_good() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, carol, room) = three(&homeserver).await?;
    let tablet = log_in(&homeserver, "carol", "TABLET").await?;
    quiet(&[&alice, &bob, &carol, &tablet]).await;
    are_the_group(&[&alice, &bob, &carol, &tablet], &room).await?;
    // A commit that removes the tablet is on its way while all of Carol leaves.
    tablet.log_out().await?;
    alice.settle().await?;
    let handle = alice.room(&room).await?;
    let mut commit = None;
    while commit.is_none() {
        let plan = handle.prepare_to_send().await?;
        let matrix_mls::SendPlan::Waiting { requests, .. } = plan else {
            panic!("a removal is due")
        };
        for request in requests {
            match request.path.contains("/send/") {
                true => commit = Some(request),
                false => drop(alice.send_request(&request).await?),
            }
        }
    }
    carol.leave(&room).await?;
    bob.settle().await?;
    bob.send_text(&room, "she has left").await?;
    alice.send_request(&commit.or_missing("commit")?).await?;
    quiet(&[&alice, &bob, &carol]).await;
    are_the_group(&[&alice, &bob], &room).await?;
    let error = carol.room(&room).await?.members().await.refused()?;
    assert!(matches!(error, matrix_mls::MlsError::NotInGroup { .. }), "{error}");
    Ok(())
}

/// Bob leaves and comes back, and the Welcome comes after the next commits: they lead nowhere for
/// him until then, and are what he goes on with from there.
#[tokio::test]
async fn whoever_is_let_in_again_late_reads_what_was_said_meanwhile() -> Result {
    let homeserver = Homeserver::embedded()?;
    let controls = homeserver.controls().or_missing("controls")?;
    let (alice, bob, carol, room) = three(&homeserver).await?;
    controls.hold_to_device(bob.user_id());
    bob.leave(&room).await?;
    alice.settle().await?;
    alice.send_text(&room, "without him").await?;
    alice.invite(&room, bob.user_id()).await?;
    bob.join(&room).await?;
    alice.settle().await?;
    alice.send_text(&room, "with him again").await?;
    carol.settle().await?;
    carol.rotate_keys(&room).await?;
    carol.send_text(&room, "in a new epoch").await?;
    carol.rotate_keys(&room).await?;
    carol.send_text(&room, "and in another").await?;
    bob.settle().await?;
    controls.release_to_device(bob.user_id());
    for _ in 0..3 {
        quiet(&[&bob]).await;
        texts(&bob, &room).await;
    }
    let read = texts(&bob, &room).await;
    assert!(!read.contains(&"without him".to_owned()), "{read:?}");
    for text in ["with him again", "in a new epoch", "and in another"] {
        assert!(read.contains(&text.to_owned()), "bob never reads {text:?}: {read:?}");
    }
    quiet(&[&alice, &bob, &carol]).await;
    are_the_group(&[&alice, &bob, &carol], &room).await
}

/// Bob adds Dave, and is thrown out of the room before the Welcome has left his phone: it is owed
/// to Dave all the same, who reads what Bob said.
#[tokio::test]
async fn a_welcome_is_sent_by_a_device_that_is_out_of_the_room_as_well() -> Result {
    let homeserver = Homeserver::embedded()?;
    let controls = homeserver.controls().or_missing("controls")?;
    let (alice, bob, _carol, room) = three(&homeserver).await?;
    let dave = comes(&homeserver, "dave", &alice, &room).await?;
    bob.settle().await?;
    let partition = controls.partition(Target::path("sendToDevice").user(bob.user_id()));
    bob.send_text(&room, "to all four").await?;
    assert!(partition.hits() > 0, "the Welcome was not to be sent");
    alice.kick(&room, bob.user_id()).await?;
    bob.sync().await?;
    partition.stop();
    bob.settle().await?;
    quiet(&[&dave]).await;
    let read = texts(&dave, &room).await;
    assert!(read.contains(&"to all four".to_owned()), "Dave reads {read:?}");
    Ok(())
}

#[tokio::test]
async fn two_that_merge_a_fork_at_once_need_no_third_commit() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, carol, room) = three(&homeserver).await?;
    let dave = comes(&homeserver, "dave", &alice, &room).await?;
    bob.settle().await?;
    let erin = newcomer(&homeserver, "erin", &bob, &room).await?;
    // A fork whose longer side, Alice's, lacks somebody: Bob's device alone has heard of Erin.
    bob.settle().await?;
    alice.prepare(&room).await?;
    alice.rotate_keys(&room).await?;
    alice.prepare(&room).await?;
    bob.prepare(&room).await?;
    for _ in 0..2 {
        alice.sync().await?;
        bob.sync().await?;
    }
    let before = alice.commits(&room).await?.len();
    alice.prepare(&room).await?;
    bob.prepare(&room).await?;
    let everybody = [&alice, &bob, &carol, &dave, &erin];
    quiet(&everybody).await;
    let merging = alice.commits(&room).await?.len() - before;
    assert!((1..=2).contains(&merging), "{merging}");
    are_the_group(&everybody, &room).await?;
    Ok(())
}
