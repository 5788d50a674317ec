//! What an app meets that was closed for a while: positions that were kept on one connection and
//! lost on the other, gaps, members and devices that are gone.

mod app;

use app::{App, Setup, eventually};
use matrix_mls_kit::{Homeserver, Result};
use matrix_sdk::ruma::RoomId;
use serde_json::json;

/// Everybody says something, and everybody reads it.
async fn all_talk(apps: &mut [App], room: &RoomId, words: &str) -> Result {
    for index in 0..apps.len() {
        let text = format!("{words} from {}", apps[index].name);
        let event = apps[index].says(room, &text).await?;
        for app in apps.iter_mut() {
            assert_eq!(app.reads(&event).await?.body(), Some(&*text), "{}", app.name);
        }
    }
    Ok(())
}

/// The SDK's `encryption` begins without a position at each start, and its `room-list` goes on. The
/// connection of this crate goes on as well, and then begins anew.
#[tokio::test(flavor = "multi_thread")]
async fn positions_are_kept_on_one_connection_and_lost_on_the_other() -> Result {
    let homeserver = Homeserver::synapse().await?;
    // Without an identity nobody has to sign Carol's tablet.
    let setup = Setup { timeline_limit: 1, has_identity: false };
    let alice = App::register(&homeserver, "alice", setup).await?;
    let bob = App::register(&homeserver, "bob", setup).await?;
    let carol = App::register(&homeserver, "carol", setup).await?;
    let room = alice.create_room(&[&bob, &carol]).await?;
    let mut apps = [alice, bob, carol];
    all_talk(&mut apps, &room, "hello").await?;
    let [alice, bob, carol] = apps;

    // Bob is away. Carol logs her phone out and comes with another; Alice leaves the timeline full.
    let bob = bob.close().await?;
    carol.http.post("/_matrix/client/v3/logout", json!({})).await?;
    drop(carol);
    let tablet = App::log_in(&homeserver, "carol", "TABLET", setup).await?;
    for number in 0..4 {
        alice.says(&room, &format!("number {number}")).await?;
    }
    alice.lets_in(&room, "|TABLET").await?;
    let bob = bob.open(&homeserver).await?;
    let mut apps = [alice, bob, tablet];
    all_talk(&mut apps, &room, "kept").await?;
    for app in &apps {
        let group = app.group(&room).await?;
        assert!(!group.iter().any(|name| name.ends_with("carol:synapse.test|PHONE")), "{group:?}");
    }
    let [alice, bob, tablet] = apps;

    // The same where the position of this crate's own connection is lost.
    let bob = bob.close().await?;
    bob.lose_position()?;
    tablet.act(&room, "leave", json!({})).await?;
    for number in 0..4 {
        alice.says(&room, &format!("later {number}")).await?;
    }
    let bob = bob.open(&homeserver).await?;
    let mut apps = [alice, bob];
    all_talk(&mut apps, &room, "lost").await?;
    for app in &apps {
        assert_eq!(app.group(&room).await?.len(), 2, "{}", app.name);
    }
    Ok(())
}

/// Killed between the machine's disk and the position's: the same response comes again.
#[tokio::test(flavor = "multi_thread")]
async fn a_response_whose_position_was_not_stored_comes_again() -> Result {
    let homeserver = Homeserver::synapse().await?;
    let alice = App::register(&homeserver, "alice", Setup::default()).await?;
    let bob = App::register(&homeserver, "bob", Setup::default()).await?;
    let room = alice.create_room(&[&bob]).await?;
    let mut apps = [alice, bob];
    all_talk(&mut apps, &room, "hello").await?;
    let [alice, bob] = apps;
    let bob = bob.close().await?;
    let earlier = std::fs::read(bob.position_file())?;
    let mut bob = bob.open(&homeserver).await?;
    let event = alice.says(&room, "taken in").await?;
    bob.reads(&event).await?;
    let bob = bob.close().await?;
    assert_ne!(std::fs::read(bob.position_file())?, earlier);
    std::fs::write(bob.position_file(), earlier)?;
    let mut apps = [alice, bob.open(&homeserver).await?];
    all_talk(&mut apps, &room, "and again").await
}

/// Somebody is removed while the other is away, in a gap, and the first thing that the other does
/// is to say something.
#[tokio::test(flavor = "multi_thread")]
async fn who_was_removed_in_a_gap_reads_nothing_of_what_is_said_next() -> Result {
    let homeserver = Homeserver::synapse().await?;
    let setup = Setup { timeline_limit: 1, ..Setup::default() };
    let alice = App::register(&homeserver, "alice", setup).await?;
    let bob = App::register(&homeserver, "bob", setup).await?;
    let mallory = App::register(&homeserver, "mallory", setup).await?;
    let room = alice.create_room(&[&bob, &mallory]).await?;
    let mut apps = [alice, bob, mallory];
    all_talk(&mut apps, &room, "hello").await?;
    let [alice, bob, mallory] = apps;
    let bob = bob.close().await?;
    alice.act(&room, "kick", json!({ "user_id": mallory.user() })).await?;
    // No more of MLS is said: the removal is Bob's to make.
    for _ in 0..3 {
        let path = format!("/_matrix/client/v3/rooms/{room}/send/org.example.noise");
        alice.http.post(&path, json!({})).await?;
    }
    let bob = bob.open(&homeserver).await?;
    bob.says(&room, "among us").await?;
    let group = bob.group(&room).await?;
    assert_eq!(group.len(), 2, "{group:?}");
    assert!(!group.iter().any(|name| name.starts_with("@mallory:")), "{group:?}");
    Ok(())
}

/// Refused tokens, a machine that is attached twice, and calls on what was closed.
#[tokio::test(flavor = "multi_thread")]
async fn mistakes_are_told() -> Result {
    use matrix_mls_sdk::{Error, State};
    let homeserver = Homeserver::synapse().await?;
    let alice = App::register(&homeserver, "alice", Setup::default()).await?;
    eventually("Alice is connected", async || {
        Ok((*alice.mls.state().borrow() == State::Connected).then_some(()))
    })
    .await?;
    assert!(matches!(alice.mls.run().await, Err(Error::AlreadyRunning)));
    let again = matrix_mls_sdk::Mls::attach(
        &alice.client,
        app::mls_config(alice.directory(), Setup::default()),
    );
    assert!(matches!(again.await, Err(Error::Mls(matrix_mls::MlsError::StoreInUse { .. }))));
    let nobody = app::client(homeserver.base_url(), alice.directory(), Setup::default()).await?;
    let config = app::mls_config(&alice.directory().join("nobody"), Setup::default());
    let attached = matrix_mls_sdk::Mls::attach(&nobody, config).await;
    assert!(matches!(attached, Err(Error::NotLoggedIn)));
    let room = alice.create_plain_room(&[]).await?;
    let refused = alice.mls.send_text(&room, "into a room without MLS").await;
    assert!(matches!(refused, Err(Error::Mls(_))), "{refused:?}");

    // The device is logged out elsewhere.
    alice.http.post("/_matrix/client/v3/logout", json!({})).await?;
    eventually("Alice hears that her token is refused", async || {
        Ok((*alice.mls.state().borrow() == State::Unauthorized).then_some(()))
    })
    .await?;
    let mls = alice.mls.clone();
    alice.close().await?;
    assert_eq!(*mls.state().borrow(), State::Stopped);
    assert!(mls.send_text(&room, "after the end").await.is_err());
    Ok(())
}
