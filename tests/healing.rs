//! Devices that cannot go on by themselves: without a group, without their state, on a branch that
//! nobody else took, or with an older copy of their own store. All end in a working room.

use matrix_mls::{MlsError, RoomSettings, Update};
use matrix_mls_kit::{
    Client, Heard, Homeserver, Refused as _, Result,
    together::{all_talk, head, log_in, newcomer, pair, quiet, texts},
};

#[tokio::test]
async fn a_new_device_joins_with_nobody_online() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair(&homeserver).await;
    let laptop = log_in(&homeserver, "bob", "LAPTOP").await?;
    // Nobody else does anything.
    laptop.join_externally(&room).await?;
    laptop.settle().await?;
    assert_eq!(laptop.members(&room).await?.len(), 3);
    laptop.send_text(&room, "from the laptop").await?;
    quiet(&[&alice, &bob, &laptop]).await;
    for client in [&alice, &bob] {
        assert!(texts(client, &room).await.contains(&"from the laptop".to_owned()));
        let head = client.head(&room).await?;
        assert!(head.is_external);
        assert_eq!((head.members, &*head.creator_device_id), (3, "LAPTOP"));
    }
    assert!(!texts(&laptop, &room).await.contains(&"first".to_owned()));
    all_talk(&[&alice, &bob, &laptop], &room).await;
    Ok(())
}

#[tokio::test]
async fn whoever_wants_to_send_before_anybody_has_added_it_joins_by_itself() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair(&homeserver).await;
    let carol = newcomer(&homeserver, "carol", &alice, &room).await?;
    carol.settle().await?;
    carol.send_text(&room, "hello").await?;
    // And is added at the same time by somebody who has not heard of it.
    alice.send_text(&room, "welcome").await?;
    quiet(&[&alice, &bob, &carol]).await;
    for client in [&alice, &bob] {
        assert!(texts(client, &room).await.contains(&"hello".to_owned()));
    }
    all_talk(&[&alice, &bob, &carol], &room).await;
    Ok(())
}

#[tokio::test]
async fn a_room_without_a_group_cannot_be_joined_and_says_so() -> Result {
    let homeserver = Homeserver::embedded()?;
    let alice = Client::register(&homeserver, "alice", "PHONE").await?;
    let room = alice.create_room(&[]).await?;
    alice.settle().await?;
    let handle = alice.room(&room).await?;
    handle.join_externally().await?;
    alice.drive().await?;
    let error = handle.prepare_to_send().await.refused()?;
    assert!(
        matches!(&error, MlsError::NotInGroup { details } if details.code == "cannot_heal"),
        "{error}"
    );
    // It can still be made one.
    handle.enable(RoomSettings::default()).await?;
    alice.send_text(&room, "alone").await?;
    Ok(())
}

#[tokio::test]
async fn a_room_that_forbids_it_lets_nobody_join_by_itself() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair(&homeserver).await;
    let strict = RoomSettings { allow_external_joins: false, ..RoomSettings::default() };
    for client in [&alice, &bob] {
        let handle = client.room(&room).await?;
        handle.set_settings(strict.clone()).await?;
        assert_eq!(handle.settings().await?, strict);
    }
    let before = head(&alice, &room).await;
    // A device that does not know of the setting.
    let laptop = log_in(&homeserver, "bob", "LAPTOP").await?;
    laptop.join_externally(&room).await?;
    laptop.settle().await?;
    quiet(&[&alice, &bob]).await;
    assert_eq!(head(&alice, &room).await, before);
    // It is added as any device is, and finds its way there.
    alice.send_text(&room, "to all").await?;
    quiet(&[&alice, &bob, &laptop]).await;
    assert_eq!(head(&alice, &room).await, head(&bob, &room).await);
    assert_eq!(alice.members(&room).await?.len(), 3);
    assert!(texts(&laptop, &room).await.contains(&"to all".to_owned()));
    Ok(())
}

/// Brings an older copy of Bob's store back: after it he has sent messages, and a commit if asked
/// for.
async fn restored(commits: bool) -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, mut bob, room) = pair(&homeserver).await;
    bob.send_text(&room, "before the backup").await?;
    let backup = bob.back_up().await?;
    for number in 0..40 {
        bob.send_text(&room, &format!("after the backup {number}")).await?;
    }
    if commits {
        bob.rotate_keys(&room).await?;
        bob.send_text(&room, "with fresh keys").await?;
    }
    quiet(&[&alice]).await;
    bob.restore_backup(&backup).await?;
    let (heard, _watching) = Heard::of(&bob).await?;
    // Not a message with a generation that was used.
    let handle = bob.room(&room).await?;
    let error = handle.encrypt("m.room.message".into(), "{}".into()).await.refused()?;
    assert!(matches!(error, MlsError::NotReady { .. }), "{error}");
    bob.send_text(&room, "restored").await?;
    quiet(&[&alice, &bob]).await;
    all_talk(&[&alice, &bob], &room).await;
    let restored = texts(&alice, &room).await;
    assert_eq!(restored.iter().filter(|text| text.starts_with("after the backup")).count(), 40);
    let heard = heard.all();
    assert!(heard.iter().any(|update| matches!(update, Update::Healed { .. })), "{heard:?}");
    // What it had forgotten it reads again.
    assert!(texts(&bob, &room).await.contains(&"after the backup 39".to_owned()));
    Ok(())
}

#[tokio::test]
async fn an_older_copy_of_the_store_sends_nothing_with_keys_that_were_used() -> Result {
    restored(false).await
}

#[tokio::test]
async fn an_older_copy_of_the_store_from_before_a_commit_of_its_own_finds_back() -> Result {
    restored(true).await
}

#[tokio::test]
async fn a_branch_that_nobody_else_took_is_left_for_that_of_the_others() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair(&homeserver).await;
    let carol = newcomer(&homeserver, "carol", &alice, &room).await?;
    quiet(&[&alice]).await;
    alice.send_text(&room, "all three").await?;
    quiet(&[&alice, &bob, &carol]).await;
    // Carol keeps nothing but the head and its parent, and commits twice beside what the others do
    // meanwhile.
    let short = RoomSettings { kept_epochs: 0, ..RoomSettings::default() };
    let (heard, _watching) = Heard::of(&carol).await?;
    carol.set_settings(&room, short).await?;
    for _ in 0..2 {
        carol.rotate_keys(&room).await?;
        carol.prepare(&room).await?;
    }
    carol.send_text(&room, "carol's branch").await?;
    for number in 0..3 {
        alice.rotate_keys(&room).await?;
        alice.prepare(&room).await?;
        alice.send_text(&room, &format!("alice's branch {number}")).await?;
    }
    quiet(&[&bob, &alice, &carol]).await;
    // What is said until then is lost to her.
    carol.prepare(&room).await?;
    quiet(&[&bob, &alice, &carol]).await;
    all_talk(&[&alice, &bob, &carol], &room).await;
    let heard = heard.all();
    let at = |of: fn(&Update) -> bool| heard.iter().position(of);
    let healing = at(|update| matches!(update, Update::Healing { .. }));
    let healed = at(|update| matches!(update, Update::Healed { .. }));
    assert!(healing.is_some() && healing < healed, "{heard:?}");
    assert!(texts(&bob, &room).await.contains(&"carol's branch".to_owned()));
    Ok(())
}
