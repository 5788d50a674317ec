//! Welcomes that lead to a group of Mallory's own.

use matrix_mls::{SyncChanges, ToDeviceResult};
use matrix_mls_kit::{
    OrMissing as _, Result, feed,
    together::{head, quiet, texts},
};
use serde_json::json;

use super::Trio;

/// Bob is offline while Alice commits. Mallory welcomes him to a group of her own and names the
/// event of Alice's commit. When he comes back he follows Alice all the same, as the commit itself
/// says otherwise.
#[tokio::test]
async fn a_welcome_does_not_take_the_place_of_a_commit() -> Result {
    let mut trio = Trio::new().await?;
    let room = trio.room.clone();
    for _ in 0..3 {
        trio.alice.rotate_keys(&room).await?;
        trio.alice.send_text(&room, "rotated").await?;
    }
    trio.quiet().await;
    trio.alice.rotate_keys(&room).await?;
    trio.alice.send_text(&room, "while bob is away").await?;
    let honest = trio.alice.head(&room).await?;
    let commit = honest.commit_event.or_missing("event of the commit")?;
    trio.mallory.make_own_group(&room, 0);
    let welcome = trio.mallory.welcome_to(&trio.bob, &room, &commit).await?;
    trio.mallory.send_welcome(&trio.bob, welcome).await?;
    trio.bob.settle().await?;
    let laptop = trio.laptop().await?;
    for _ in 0..3 {
        trio.later(1, &[&laptop]).await?;
    }
    let read = texts(&trio.bob, &room).await;
    let missed = "while bob is away".to_owned();
    assert!(read.contains(&missed), "bob never reads what was said while he was away: {read:?}");
    trio.assert_goes_on(&laptop, &honest.id, "three days after the Welcome").await
}

/// A Welcome whose epoch number no group gets to. All else about it is right.
#[tokio::test]
async fn a_welcome_with_a_huge_epoch_number_changes_nothing() -> Result {
    let mut trio = Trio::new().await?;
    let room = trio.room.clone();
    let honest = head(&trio.bob, &room).await;
    let before = trio.bob.epochs(&room).await?.len();
    for number in [1 << 21, 1 << 50, u64::MAX - 1] {
        trio.mallory.make_own_group(&room, number - 1);
        let content = trio.mallory.welcome_to(&trio.bob, &room, "$made-up:embedded.test").await?;
        let event = json!({
            "type": "m.room.encrypted", "sender": trio.mallory.peer.user, "content": content,
        });
        let changes = SyncChanges { to_device: vec![event.to_string()], ..feed() };
        let results = trio.bob.machine()?.receive_sync(changes).await?.to_device;
        let [ToDeviceResult::Failed { error }] = &results[..] else {
            panic!("{number}: {results:?}")
        };
        assert_eq!(error.code(), "bad_epoch", "{number}: {error}");
        assert_eq!(head(&trio.bob, &room).await, honest);
        assert_eq!(trio.bob.epochs(&room).await?.len(), before);
    }
    let laptop = trio.laptop().await?;
    trio.assert_goes_on(&laptop, &honest, "after the Welcomes").await
}

/// A device that has no group, and is let into one with such a number: it finds the others all the
/// same.
#[tokio::test]
async fn a_newcomer_is_not_let_into_a_group_with_a_huge_epoch_number() -> Result {
    let mut trio = Trio::new().await?;
    let room = trio.room.clone();
    let honest = head(&trio.alice, &room).await;
    let laptop = trio.laptop().await?;
    for number in [1 << 50, u64::MAX - 1] {
        trio.mallory.make_own_group(&room, number - 1);
        let content = trio.mallory.welcome_to(&laptop, &room, "$made-up:embedded.test").await?;
        trio.mallory.send_welcome(&laptop, content).await?;
    }
    laptop.settle().await?;
    assert!(laptop.epochs(&room).await?.iter().all(|epoch| epoch.epoch < 1_000));
    trio.assert_goes_on(&laptop, &honest, "after the Welcomes").await
}

/// What the Welcome of a secret branch names as its commit.
#[derive(Debug, Clone, Copy)]
enum Named {
    /// A commit that everybody has, of an earlier epoch.
    Earlier,
    /// An event that is no commit.
    Message,
    /// An event that there is not.
    Nothing,
    /// A commit that everybody has, of another epoch with the same number.
    SameNumber,
}

/// Mallory goes on in secret without Bob's phone, and lets Bob's new laptop in there. The Welcome
/// names something else than the commit, which nobody has. The laptop adds the phone again, so
/// Bob is there, in an epoch to which no event leads, and Alice is a member to whom nobody sends a
/// Welcome. She learns of it, and they come together.
async fn goes_on_where_no_event_leads(named: Named) -> Result {
    let mut trio = Trio::new().await?;
    let room = trio.room.clone();
    trio.follow().await?;
    let laptop = trio.laptop().await?;
    let (user, phone) = (trio.bob.user_id().to_owned(), trio.bob.device_id().to_owned());
    trio.mallory.peer.remove(&user, &phone);
    for _ in 0..5 {
        trio.mallory.peer.update();
    }
    // The Welcome's own commit comes on top.
    let number = trio.mallory.peer.group().epoch().as_u64() + 1;
    let name = match named {
        Named::Earlier => trio.at.clone(),
        Named::Message => trio.alice.send_text(&room, "no commit").await?,
        Named::Nothing => "$nothing:embedded.test".to_owned(),
        Named::SameNumber => {
            while trio.alice.head(&room).await?.epoch < number {
                trio.alice.rotate_keys(&room).await?;
                trio.alice.send_text(&room, "rotated").await?;
            }
            let there = trio.alice.head(&room).await?;
            assert_eq!(there.epoch, number, "she has made one commit too many");
            there.commit_event.or_missing("event of the commit")?
        }
    };
    let welcome = trio.mallory.welcome_to(&laptop, &room, &name).await?;
    trio.mallory.send_welcome(&laptop, welcome).await?;
    laptop.settle().await?;
    laptop.send_text(&room, "the phone is missing").await?;
    for _ in 0..3 {
        laptop.rotate_keys(&room).await?;
        laptop.send_text(&room, "rotated").await?;
    }
    let there = laptop.head(&room).await?;
    assert!(there.epoch > 7, "{named:?}: the laptop is not where Mallory let it in: {there:?}");
    quiet(&[&trio.alice, &trio.bob, &laptop]).await;
    for _ in 0..3 {
        for client in [&trio.alice, &trio.bob, &laptop] {
            trio.send(client, "hello").await?;
        }
        trio.later(1, &[&laptop]).await?;
    }
    trio.talk(&[&trio.alice, &trio.bob, &laptop], &format!("{named:?}, in the end")).await
}

#[tokio::test]
async fn who_goes_on_where_no_event_leads_is_found() -> Result {
    for named in [Named::Earlier, Named::Message, Named::Nothing, Named::SameNumber] {
        goes_on_where_no_event_leads(named).await?;
    }
    Ok(())
}
