//! History that a device gives to others goes where its messages go: to nobody whom its user does
//! not trust. All members of an epoch can open what is offered to one of them.

use matrix_mls::RoomSettings;
use matrix_mls_kit::{
    Client, Clock, Homeserver, Refused as _, Result,
    cross_signing::CrossSigning,
    together::{all_talk, newcomer, quiet, texts, two_phones},
    two_identities::{identify, verify},
};

const MINUTE_MS: u64 = 60 * 1000;

fn sharing() -> RoomSettings {
    RoomSettings { share_history: true, ..RoomSettings::default() }
}

/// A room that shows its past, and Alice's identity. She has verified Bob, and she alone gives
/// history.
async fn room(alice: &Client, bob: &Client) -> Result<(String, CrossSigning)> {
    let room = alice.create_group(&[bob], sharing()).await?;
    let (of_alice, _) = identify(alice, bob).await?;
    verify(alice, &of_alice, bob).await?;
    alice.send_text(&room, "hello").await?;
    quiet(&[alice, bob]).await;
    Ok((room, of_alice))
}

/// Carol lets herself in, and will ask for history.
async fn comes_in(carol: &Client, room: &str) -> Result {
    carol.settle().await?;
    carol.set_settings(room, sharing()).await?;
    carol.join_externally(room).await?;
    Ok(())
}

async fn reads_the_past(client: &Client, room: &str) -> bool {
    texts(client, room).await.contains(&"hello".to_owned())
}

/// The homeserver replaces the identity of Bob, whom Alice has verified. Carol, whose owner has
/// signed her device, comes in and asks. Bob's device could open what Carol is given.
#[tokio::test]
async fn nothing_is_given_where_a_verified_user_has_another_identity() -> Result {
    let clock = Clock::take().await;
    clock.stop();
    let homeserver = Homeserver::embedded()?;
    let (alice, bob) = two_phones(&homeserver).await?;
    let (room, _) = room(&alice, &bob).await?;
    let other = CrossSigning::bootstrap(&bob).await?;
    quiet(&[&alice, &bob]).await;
    assert_eq!(
        alice.room(&room).await?.prepare_to_send().await.refused()?.code(),
        "identity_changed"
    );
    let carol = newcomer(&homeserver, "carol", &alice, &room).await?;
    CrossSigning::bootstrap(&carol).await?;
    comes_in(&carol, &room).await?;
    for _ in 0..3 {
        quiet(&[&alice, &bob, &carol]).await;
        clock.pass(11 * MINUTE_MS);
    }
    assert!(!reads_the_past(&carol, &room).await);

    alice.machine()?.accept_identity(bob.user_id().to_owned(), other.master_key()).await?;
    quiet(&[&alice, &bob, &carol]).await;
    assert!(reads_the_past(&carol, &room).await);
    all_talk(&[&alice, &bob, &carol], &room).await;
    Ok(())
}

/// The same of a user whom Alice has not verified: the identity that she has not accepted may be the
/// homeserver's, and have signed a device that can open what Carol is given.
#[tokio::test]
async fn nothing_is_given_before_another_identity_is_accepted() -> Result {
    let clock = Clock::take().await;
    clock.stop();
    let homeserver = Homeserver::embedded()?;
    let (alice, bob) = two_phones(&homeserver).await?;
    let room = alice.create_group(&[&bob], sharing()).await?;
    identify(&alice, &bob).await?;
    alice.send_text(&room, "hello").await?;
    quiet(&[&alice, &bob]).await;
    let other = CrossSigning::bootstrap(&bob).await?;
    quiet(&[&alice, &bob]).await;
    alice.send_text(&room, "she goes on").await?;
    let carol = newcomer(&homeserver, "carol", &alice, &room).await?;
    CrossSigning::bootstrap(&carol).await?;
    comes_in(&carol, &room).await?;
    for _ in 0..3 {
        quiet(&[&alice, &carol]).await;
        clock.pass(11 * MINUTE_MS);
    }
    assert!(!reads_the_past(&carol, &room).await);
    alice.machine()?.accept_identity(bob.user_id().to_owned(), other.master_key()).await?;
    quiet(&[&alice, &carol]).await;
    assert!(reads_the_past(&carol, &room).await);
    Ok(())
}

/// Carol's device was stolen, and she replaces the key that has signed it. Alice hears of that with
/// the device's question, and looks before she answers.
#[tokio::test]
async fn nothing_is_given_before_it_is_known_that_the_owners_signature_still_counts() -> Result {
    let clock = Clock::take().await;
    clock.stop();
    let homeserver = Homeserver::embedded()?;
    let (alice, bob) = two_phones(&homeserver).await?;
    let (room, _) = room(&alice, &bob).await?;
    let carol = newcomer(&homeserver, "carol", &alice, &room).await?;
    let mut of_carol = CrossSigning::bootstrap(&carol).await?;
    quiet(&[&alice]).await;
    comes_in(&carol, &room).await?;
    for _ in 0..3 {
        carol.settle().await?;
        clock.pass(11 * MINUTE_MS);
    }
    of_carol.replace_self_signing();
    of_carol.upload(carol.http()).await?;
    quiet(&[&alice, &bob, &carol]).await;
    assert!(!reads_the_past(&carol, &room).await);

    of_carol.sign(&carol).await?;
    quiet(&[&alice, &bob, &carol]).await;
    assert!(reads_the_past(&carol, &room).await);
    Ok(())
}

/// Alice sends to verified devices only. She adds Carol, as everybody would, and tells her nothing.
#[tokio::test]
async fn nothing_is_given_to_devices_that_are_not_verified_where_the_user_wants_that() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob) = two_phones(&homeserver).await?;
    let (room, of_alice) = room(&alice, &bob).await?;
    alice.machine()?.send_only_to_verified(true).await?;
    all_talk(&[&alice, &bob], &room).await;
    for (name, is_verified) in [("carol", false), ("dave", true)] {
        let new = newcomer(&homeserver, name, &alice, &room).await?;
        CrossSigning::bootstrap(&new).await?;
        if is_verified {
            of_alice.verify_user(alice.http(), new.user_id()).await?;
        }
        quiet(&[&alice, &bob]).await;
        let sent = alice.send_text(&room, "welcome").await;
        quiet(&[&alice, &bob, &new]).await;
        let added = alice.members(&room).await?;
        assert!(added.iter().any(|member| member.user_id == new.user_id()), "{name}");
        assert_eq!(sent.is_ok(), is_verified, "{name}");
        assert_eq!(reads_the_past(&new, &room).await, is_verified, "{name}");
        alice.kick(&room, new.user_id()).await?;
        quiet(&[&alice, &bob]).await;
        all_talk(&[&alice, &bob], &room).await;
    }
    Ok(())
}
