//! Devices that cannot go on where they are, and come to where the others are.

use matrix_mls::RoomSettings;
use matrix_mls_kit::{
    Homeserver, Result,
    together::{all_talk, head, newcomer, pair, quiet},
};

use super::{Clock, Trio, claims::claim_far_ahead};

const SECOND_MS: u64 = 1_000;

/// A device keeps nothing but its head.
fn forgetful() -> RoomSettings {
    RoomSettings { kept_epochs: 0, ..RoomSettings::default() }
}

/// Carol was on a branch of her own, and the base of the others' is gone. Her user says nothing
/// more: she is where the others are once they speak.
#[tokio::test]
async fn whoever_was_really_outrun_comes_back_once_the_others_speak() -> Result {
    let clock = Clock::take().await;
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair(&homeserver).await;
    let carol = newcomer(&homeserver, "carol", &alice, &room).await?;
    quiet(&[&alice]).await;
    alice.send_text(&room, "all three").await?;
    quiet(&[&alice, &bob, &carol]).await;
    carol.set_settings(&room, forgetful()).await?;
    for _ in 0..2 {
        carol.rotate_keys(&room).await?;
        carol.prepare(&room).await?;
    }
    let own = head(&carol, &room).await;
    for number in 0..4 {
        alice.rotate_keys(&room).await?;
        alice.send_text(&room, &format!("alice's branch {number}")).await?;
    }
    quiet(&[&alice, &bob, &carol]).await;
    for round in 0..3 {
        // Whoever joins by themselves waits a moment first.
        clock.pass(SECOND_MS)?;
        for client in [&alice, &bob] {
            client.send_text(&room, &format!("where is carol? {round}")).await?;
            quiet(&[&alice, &bob, &carol]).await;
        }
    }
    let there = head(&carol, &room).await;
    assert_ne!(there, own, "carol is where she was");
    assert_eq!(there, head(&alice, &room).await);
    // She scrolls back. Where people were then says nothing of where they are.
    let history = carol.history(&room).await?;
    let backwards = history.iter().rev().map(ToString::to_string).collect();
    carol.room(&room).await?.receive_events(backwards).await?;
    assert_eq!(head(&carol, &room).await, there, "carol is where the others were");
    all_talk(&[&alice, &bob, &carol], &room).await;
    Ok(())
}

/// Mallory has claimed an epoch far ahead, in which nobody is. An hour later that keeps nobody from
/// joining where the others really are.
#[tokio::test]
async fn a_claim_far_ahead_does_not_keep_who_is_outrun_away() -> Result {
    let mut trio = Trio::new().await?;
    trio.bob.set_settings(&trio.room, forgetful()).await?;
    trio.quiet().await;
    let number = trio.bob.head(&trio.room).await?.epoch + 100_000;
    let claim = claim_far_ahead(&mut trio, number);
    trio.mallory.send(&trio.room, claim).await;
    trio.quiet().await;
    // On the first day they join it, beside their heads.
    for _ in 0..2 {
        trio.later(1, &[]).await?;
    }
    // Bob is on a branch of his own, and does not keep the base of Alice's.
    for _ in 0..2 {
        trio.bob.rotate_keys(&trio.room).await?;
        trio.bob.prepare(&trio.room).await?;
    }
    let own = head(&trio.bob, &trio.room).await;
    for number in 0..4 {
        trio.alice.rotate_keys(&trio.room).await?;
        trio.alice.send_text(&trio.room, &format!("alice's branch {number}")).await?;
    }
    trio.later(1, &[]).await?;
    for round in 0..3 {
        trio.clock.pass(SECOND_MS)?;
        trio.alice.send_text(&trio.room, &format!("where is bob? {round}")).await?;
        trio.quiet().await;
    }
    assert_ne!(head(&trio.bob, &trio.room).await, own, "bob is where he was");
    trio.talk(&[&trio.alice, &trio.bob], "when bob is back").await
}

/// Where two users have devices there is nobody else to be heard: the branch that is ahead counts
/// at once.
#[tokio::test]
async fn among_two_users_the_branch_that_is_ahead_counts_at_once() -> Result {
    let _clock = Clock::take().await;
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair(&homeserver).await;
    bob.set_settings(&room, forgetful()).await?;
    for _ in 0..2 {
        bob.rotate_keys(&room).await?;
        bob.prepare(&room).await?;
    }
    let own = head(&bob, &room).await;
    for _ in 0..5 {
        alice.rotate_keys(&room).await?;
        alice.prepare(&room).await?;
    }
    // Alice has said nothing on her branch, and says nothing after.
    let ahead = head(&alice, &room).await;
    quiet(&[&bob]).await;
    bob.send_text(&room, "bob is with alice").await?;
    let now = bob.head(&room).await?;
    assert_ne!(now.id, own);
    quiet(&[&alice, &bob]).await;
    let epochs = alice.epochs(&room).await?;
    let mut at = epochs.iter().find(|epoch| epoch.id == now.id);
    while let Some(epoch) = at.filter(|epoch| epoch.id != ahead) {
        at = epochs.iter().find(|other| Some(&other.id) == epoch.parent.as_ref());
    }
    assert!(at.is_some(), "bob is not on alice's branch");
    all_talk(&[&alice, &bob], &room).await;
    Ok(())
}
