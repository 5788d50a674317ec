//! Devices that cannot go on by themselves: without a group, without their state, on a branch that
//! nobody else took, or with an older copy of their own store. All end in a working room.

use matrix_mls::{MlsError, RoomSettings, Update, UpdateObserver};
use matrix_mls_kit::{
    Client, Homeserver,
    together::{all_talk, head, pair, quiet, texts},
};

#[tokio::test]
async fn a_new_device_joins_with_nobody_online() {
    let homeserver = Homeserver::embedded().unwrap();
    let (alice, bob, room) = pair(&homeserver).await;
    let laptop = Client::log_in(&homeserver, "bob", "LAPTOP").await.unwrap();
    laptop.settle().await.unwrap();
    // Nobody else does anything.
    let handle = laptop.room(&room).await.unwrap();
    handle.join_externally().await.unwrap();
    laptop.settle().await.unwrap();
    assert_eq!(handle.members().await.unwrap().len(), 3);
    laptop.send_text(&room, "from the laptop").await.unwrap();
    quiet(&[&alice, &bob, &laptop]).await;
    for client in [&alice, &bob] {
        assert!(texts(client, &room).await.contains(&"from the laptop".to_owned()));
        let epochs = client.room(&room).await.unwrap().epochs().await.unwrap();
        let head = epochs.iter().find(|epoch| epoch.is_head).unwrap();
        assert!(head.is_external);
        assert_eq!((head.members, &*head.creator_device_id), (3, "LAPTOP"));
    }
    assert!(!texts(&laptop, &room).await.contains(&"first".to_owned()));
    all_talk(&[&alice, &bob, &laptop], &room).await;
}

#[tokio::test]
async fn whoever_wants_to_send_before_anybody_has_added_it_joins_by_itself() {
    let homeserver = Homeserver::embedded().unwrap();
    let (alice, bob, room) = pair(&homeserver).await;
    let carol = Client::register(&homeserver, "carol", "PHONE").await.unwrap();
    carol.settle().await.unwrap();
    alice.invite(&room, carol.user_id()).await.unwrap();
    carol.join(&room).await.unwrap();
    carol.settle().await.unwrap();
    carol.send_text(&room, "hello").await.unwrap();
    // And is added at the same time by somebody who has not heard of it.
    alice.send_text(&room, "welcome").await.unwrap();
    quiet(&[&alice, &bob, &carol]).await;
    for client in [&alice, &bob] {
        assert!(texts(client, &room).await.contains(&"hello".to_owned()));
    }
    all_talk(&[&alice, &bob, &carol], &room).await;
}

#[tokio::test]
async fn a_room_without_a_group_cannot_be_joined_and_says_so() {
    let homeserver = Homeserver::embedded().unwrap();
    let alice = Client::register(&homeserver, "alice", "PHONE").await.unwrap();
    let room = alice.create_room(&[]).await.unwrap();
    alice.settle().await.unwrap();
    let handle = alice.room(&room).await.unwrap();
    handle.join_externally().await.unwrap();
    alice.drive().await.unwrap();
    let error = handle.prepare_to_send().await.unwrap_err();
    assert!(
        matches!(&error, MlsError::NotInGroup { details } if details.code == "cannot_heal"),
        "{error}"
    );
    // It can still be made one.
    handle.enable(RoomSettings::default()).await.unwrap();
    alice.send_text(&room, "alone").await.unwrap();
}

#[tokio::test]
async fn a_room_that_forbids_it_lets_nobody_join_by_itself() {
    let homeserver = Homeserver::embedded().unwrap();
    let (alice, bob, room) = pair(&homeserver).await;
    let strict = RoomSettings { allow_external_joins: false, ..RoomSettings::default() };
    for client in [&alice, &bob] {
        let handle = client.room(&room).await.unwrap();
        handle.set_settings(strict.clone()).await.unwrap();
        assert_eq!(handle.settings().await.unwrap(), strict);
    }
    let before = head(&alice, &room).await;
    // A device that does not know of the setting.
    let laptop = Client::log_in(&homeserver, "bob", "LAPTOP").await.unwrap();
    laptop.settle().await.unwrap();
    laptop.room(&room).await.unwrap().join_externally().await.unwrap();
    laptop.settle().await.unwrap();
    quiet(&[&alice, &bob]).await;
    assert_eq!(head(&alice, &room).await, before);
    // It is added as any device is, and finds its way there.
    alice.send_text(&room, "to all").await.unwrap();
    quiet(&[&alice, &bob, &laptop]).await;
    assert_eq!(head(&alice, &room).await, head(&bob, &room).await);
    assert_eq!(alice.room(&room).await.unwrap().members().await.unwrap().len(), 3);
    assert!(texts(&laptop, &room).await.contains(&"to all".to_owned()));
}

#[derive(Default)]
struct Heard(std::sync::Mutex<Vec<Update>>);

impl UpdateObserver for Heard {
    fn on_update(&self, update: Update) {
        self.0.lock().unwrap().push(update);
    }

    fn on_end(&self) {}
}

/// Brings an older copy of Bob's store back: after it he has sent messages, and a commit if asked for.
async fn restored(commits: bool) {
    let homeserver = Homeserver::embedded().unwrap();
    let alice = Client::register(&homeserver, "alice", "PHONE").await.unwrap();
    let mut bob = Client::register(&homeserver, "bob", "PHONE").await.unwrap();
    quiet(&[&alice, &bob]).await;
    let room = alice.create_group(&[&bob], RoomSettings::default()).await.unwrap();
    alice.send_text(&room, "first").await.unwrap();
    quiet(&[&alice, &bob]).await;
    bob.send_text(&room, "before the backup").await.unwrap();
    let backup = bob.back_up().await.unwrap();
    for number in 0..40 {
        bob.send_text(&room, &format!("after the backup {number}")).await.unwrap();
    }
    if commits {
        bob.room(&room).await.unwrap().rotate_keys().await.unwrap();
        bob.send_text(&room, "with fresh keys").await.unwrap();
    }
    quiet(&[&alice]).await;
    bob.restore_backup(&backup).await.unwrap();
    let heard = std::sync::Arc::new(Heard::default());
    let _watching = bob.machine().unwrap().subscribe(heard.clone()).await.unwrap();
    // Not a message with a generation that was used.
    let handle = bob.room(&room).await.unwrap();
    let error = handle.encrypt("m.room.message".into(), "{}".into()).await.unwrap_err();
    assert!(matches!(error, MlsError::NotReady { .. }), "{error}");
    bob.send_text(&room, "restored").await.unwrap();
    quiet(&[&alice, &bob]).await;
    all_talk(&[&alice, &bob], &room).await;
    let restored = texts(&alice, &room).await;
    assert_eq!(restored.iter().filter(|text| text.starts_with("after the backup")).count(), 40);
    let heard = heard.0.lock().unwrap().clone();
    assert!(heard.iter().any(|update| matches!(update, Update::Healed { .. })), "{heard:?}");
    // What it had forgotten it reads again.
    assert!(texts(&bob, &room).await.contains(&"after the backup 39".to_owned()));
}

#[tokio::test]
async fn an_older_copy_of_the_store_sends_nothing_with_keys_that_were_used() {
    restored(false).await;
}

#[tokio::test]
async fn an_older_copy_of_the_store_from_before_a_commit_of_its_own_finds_back() {
    restored(true).await;
}

#[tokio::test]
async fn a_branch_that_nobody_else_took_is_left_for_that_of_the_others() {
    let homeserver = Homeserver::embedded().unwrap();
    let (alice, bob, room) = pair(&homeserver).await;
    let carol = Client::register(&homeserver, "carol", "PHONE").await.unwrap();
    carol.settle().await.unwrap();
    alice.invite(&room, carol.user_id()).await.unwrap();
    carol.join(&room).await.unwrap();
    quiet(&[&alice]).await;
    alice.send_text(&room, "all three").await.unwrap();
    quiet(&[&alice, &bob, &carol]).await;
    // Carol keeps nothing but the head and its parent, and commits twice beside what the others do meanwhile.
    let short = RoomSettings { kept_epochs: 0, ..RoomSettings::default() };
    let heard = std::sync::Arc::new(Heard::default());
    let _watching = carol.machine().unwrap().subscribe(heard.clone()).await.unwrap();
    let handle = carol.room(&room).await.unwrap();
    handle.set_settings(short).await.unwrap();
    for _ in 0..2 {
        handle.rotate_keys().await.unwrap();
        carol.prepare(&room).await.unwrap();
    }
    carol.send_text(&room, "carol's branch").await.unwrap();
    for number in 0..3 {
        alice.room(&room).await.unwrap().rotate_keys().await.unwrap();
        alice.prepare(&room).await.unwrap();
        alice.send_text(&room, &format!("alice's branch {number}")).await.unwrap();
    }
    quiet(&[&bob, &alice, &carol]).await;
    // What is said until then is lost to her.
    carol.prepare(&room).await.unwrap();
    quiet(&[&bob, &alice, &carol]).await;
    all_talk(&[&alice, &bob, &carol], &room).await;
    let heard = heard.0.lock().unwrap().clone();
    let at = |of: fn(&Update) -> bool| heard.iter().position(of);
    let healing = at(|update| matches!(update, Update::Healing { .. }));
    let healed = at(|update| matches!(update, Update::Healed { .. }));
    assert!(healing.is_some() && healing < healed, "{heard:?}");
    assert!(texts(&bob, &room).await.contains(&"carol's branch".to_owned()));
}
