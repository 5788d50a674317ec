//! Epochs that are claimed and that nobody else is in.

use matrix_mls::{EpochInfo, RoomSettings};
use matrix_mls_kit::{
    Result,
    peer::base64,
    together::{head, quiet},
};
use serde_json::{Value, json};

use super::Trio;

/// No group has an event by this name.
const NOWHERE: &str = "$nowhere:embedded.test";

/// The header of a commit says that it was sealed in another epoch than it was.
fn forge_header(commit: &mut [u8], number: u64) {
    // An MLSMessage's four bytes, then the group's id, whose length is one byte.
    let at = 5 + usize::from(commit[4]);
    commit[at..at + 8].copy_from_slice(&number.to_be_bytes());
}

/// A commit of Mallory's that is in order, with the public state of her epoch under another number.
/// The commit's own header can be made to fit.
fn renewal_as(trio: &mut Trio, number: u64, with_header: bool, on: &str) -> Value {
    let mut commit = trio.mallory.peer.update();
    if with_header {
        forge_header(&mut commit, number - 1);
    }
    let mut content = trio.mallory.commit(&commit, &trio.creator, on);
    content["public_group_state"] = json!(base64(&trio.mallory.peer.forged_group_info(number)));
    content
}

/// A commit that nobody can follow, and whose epoch has a number far ahead.
pub fn claim_far_ahead(trio: &mut Trio, number: u64) -> Value {
    renewal_as(trio, number, true, NOWHERE)
}

/// Mallory, a member, announces the group's state under the epoch number 2^48. No commit leads
/// there and nobody else is in it: Alice and Bob stay where they are, and a laptop that comes later
/// finds them.
#[tokio::test]
async fn an_announced_epoch_of_a_huge_number_leads_nobody_away() -> Result {
    let mut trio = Trio::new().await?;
    let honest = head(&trio.alice, &trio.room).await;
    let state = trio.mallory.peer.forged_group_info(1 << 48);
    trio.mallory.send(&trio.room, trio.mallory.announcement(&state)).await;
    trio.quiet().await;
    let laptop = trio.laptop().await?;
    for days in [1, 8] {
        trio.later(days, &[&laptop]).await?;
    }
    trio.assert_goes_on(&laptop, &honest, "after the announcement").await
}

/// The same where nobody may join by himself, and with a number that is merely too large: nobody
/// takes himself for one that is lost and waits for ever to be added again.
#[tokio::test]
async fn an_announced_epoch_stops_nobody_where_nobody_may_join_by_himself() -> Result {
    let settings = RoomSettings { allow_external_joins: false, ..RoomSettings::default() };
    let mut trio = Trio::with(settings).await?;
    let honest = head(&trio.alice, &trio.room).await;
    let state = trio.mallory.peer.forged_group_info(1_000);
    trio.mallory.send(&trio.room, trio.mallory.announcement(&state)).await;
    trio.quiet().await;
    let laptop = trio.laptop().await?;
    for days in [1, 30] {
        trio.later(days, &[&laptop]).await?;
    }
    trio.assert_goes_on(&laptop, &honest, "after the announcement").await
}

/// A commit that everybody can follow, with a state under a number that is not the commit's. The
/// commit counts, and the state beside it does not.
#[tokio::test]
async fn a_good_commit_with_a_made_up_number_beside_it_is_followed() -> Result {
    let mut trio = Trio::new().await?;
    let before = trio.alice.head(&trio.room).await?;
    // She has to be where they are, to commit there.
    trio.follow().await?;
    let on = trio.at.clone();
    let content = renewal_as(&mut trio, 500, false, &on);
    trio.send_commit(content).await;
    trio.quiet().await;
    for client in [&trio.alice, &trio.bob] {
        let now = client.head(&trio.room).await?;
        assert_eq!(now.creator_user_id, trio.mallory.peer.user);
        assert_eq!((now.parent, now.epoch), (Some(before.id.clone()), before.epoch + 1));
    }
    // A laptop can join on what came before the commit only, and the fork ends on either branch.
    let laptop = trio.laptop().await?;
    trio.later(2, &[&laptop]).await?;
    trio.assert_goes_on(&laptop, &before.id, "after the commit").await
}

/// The header of the commit is forged so that it fits the number. It continues no base that anybody
/// knows, and it is not the one that it names.
#[tokio::test]
async fn a_number_that_does_not_continue_its_base_leads_nobody_away() -> Result {
    let mut trio = Trio::new().await?;
    let honest = head(&trio.alice, &trio.room).await;
    for on in [trio.at.clone(), NOWHERE.to_owned()] {
        let content = renewal_as(&mut trio, 500, true, &on);
        trio.mallory.send(&trio.room, content).await;
        trio.quiet().await;
        trio.assert_stands(&honest, &on).await?;
    }
    let laptop = trio.laptop().await?;
    for days in [0, 2, 8] {
        trio.later(days, &[&laptop]).await?;
        trio.talk(&[&trio.alice, &trio.bob], &format!("{days} days later")).await?;
    }
    trio.assert_goes_on(&laptop, &honest, "after the claims").await
}

/// Bob logs in on a laptop while the last event of the timeline is a claim, and nobody is there to
/// add it: the laptop joins where the others are.
#[tokio::test]
async fn a_laptop_that_logs_in_beside_a_claim_finds_the_others() -> Result {
    let mut trio = Trio::new().await?;
    let honest = head(&trio.alice, &trio.room).await;
    let content = renewal_as(&mut trio, 500, true, NOWHERE);
    trio.mallory.send(&trio.room, content).await;
    let laptop = trio.laptop().await?;
    laptop.join_externally(&trio.room).await?;
    laptop.settle().await?;
    let head = laptop.head(&trio.room).await?;
    assert!(head.epoch < 100 && head.is_external, "{head:?}");
    trio.send(&laptop, "from the laptop").await?;
    trio.assert_goes_on(&laptop, &honest, "after the laptop has come").await
}

/// A device that is in no group has nothing to compare a number with, and remembers the claim. Once
/// it is in, it compares: it does not join an epoch to which it could let in none of the others.
/// When Mallory is gone there are two users, and numbers decide among them.
#[tokio::test]
async fn a_claim_from_before_a_laptop_was_in_parts_it_from_nobody() -> Result {
    let mut trio = Trio::new().await?;
    let honest = head(&trio.alice, &trio.room).await;
    let claim = claim_far_ahead(&mut trio, 1 << 48);
    trio.mallory.send(&trio.room, claim).await;
    let laptop = trio.laptop().await?;
    laptop.join_externally(&trio.room).await?;
    for _ in 0..3 {
        trio.clock.pass(60 * 1000)?;
        quiet(&[&laptop, &trio.alice, &trio.bob]).await;
        laptop.prepare(&trio.room).await?;
    }
    let highest = laptop.epochs(&trio.room).await?.into_iter().map(|epoch| epoch.epoch).max();
    assert!(highest < Some(1 << 20), "the laptop is in an epoch of the number {highest:?}");
    trio.alice.kick(&trio.room, &trio.mallory.peer.user).await?;
    quiet(&[&laptop, &trio.alice, &trio.bob]).await;
    trio.talk(&[&trio.alice, &trio.bob, &laptop], "when Mallory is gone").await?;
    trio.assert_stands(&honest, "when Mallory is gone").await
}

/// Mallory welcomes a new laptop to a group of her own, with the highest number that a device
/// without a group takes, and leaves. Then there are two users, and numbers would decide among
/// them; but nobody else can come to an epoch with such a number, so the laptop goes to where the
/// others are.
#[tokio::test]
async fn a_laptop_led_to_a_number_that_nobody_takes_comes_back() -> Result {
    let mut trio = Trio::new().await?;
    let room = trio.room.clone();
    let honest = head(&trio.alice, &room).await;
    let laptop = trio.laptop().await?;
    trio.mallory.make_own_group(&room, (1 << 48) - 1);
    let content = trio.mallory.welcome_to(&laptop, &room, "$made-up:embedded.test").await?;
    trio.mallory.send_welcome(&laptop, content).await?;
    laptop.settle().await?;
    assert_eq!(laptop.head(&room).await?.epoch, 1 << 48, "the laptop believes the Welcome");
    trio.alice.kick(&room, &trio.mallory.peer.user).await?;
    let all = [&laptop, &trio.alice, &trio.bob];
    for _ in 0..3 {
        trio.clock.pass(60 * 1000)?;
        quiet(&all).await;
        for client in all {
            client.prepare(&room).await?;
        }
    }
    trio.talk(&[&trio.alice, &trio.bob, &laptop], "when Mallory is gone").await?;
    trio.assert_stands(&honest, "when Mallory is gone").await
}

/// Ten claims within an hour, each higher than the last, of epochs that exist: Mallory is in them
/// alone. Alice and Bob may join them beside their head, a bounded number of times, and are never
/// held up.
#[tokio::test]
async fn claims_without_end_hold_nobody_up_and_cost_a_bounded_number_of_commits() -> Result {
    let mut trio = Trio::new().await?;
    let honest = head(&trio.alice, &trio.room).await;
    let before = trio.commits_of(&trio.alice).await?;
    let room = trio.room.clone();
    for number in 1..=10 {
        trio.mallory.make_own_group(&room, number * 100);
        let name = trio.mallory.name();
        let content = trio.mallory.renewal(&name, NOWHERE);
        trio.mallory.send(&room, content).await;
        trio.send(&trio.alice, &format!("message {number}")).await?;
        trio.clock.pass(5 * 60 * 1000)?;
        trio.quiet().await;
        trio.assert_stands(&honest, &format!("after claim {number}")).await?;
    }
    let made = trio.commits_of(&trio.alice).await? - before;
    assert!(made <= 11, "Alice has made {made} commits for ten claims");
    trio.talk(&[&trio.alice, &trio.bob], "after ten claims").await?;
    let made = trio.commits_of(&trio.alice).await? - before;
    assert!(made <= 12, "Alice has made {made} commits for ten claims");
    quiet(&[&trio.alice, &trio.bob]).await;
    trio.assert_stands(&honest, "in the end").await
}

/// Mallory is in a group of her own whose number is as far ahead as one may be told of, and one
/// less. Whoever joins it comes to a number that the others cannot come to, or that nobody can
/// continue. Each claim is joined beside the head once at the most, and not again and again.
#[tokio::test]
async fn a_claim_at_the_edge_of_what_may_be_claimed_is_joined_once_at_the_most() -> Result {
    const CLAIMS: usize = 4;
    for below in [0, 1, 2] {
        let mut trio = Trio::new().await?;
        let honest = head(&trio.alice, &trio.room).await;
        let room = trio.room.clone();
        let epochs = trio.alice.epochs(&room).await?;
        let reached = epochs.iter().map(|epoch| epoch.epoch).max().unwrap_or_default();
        trio.mallory.make_own_group(&room, reached + (1 << 20) - below - 1);
        let name = trio.mallory.name();
        let content = trio.mallory.renewal(&name, NOWHERE);
        trio.send_commit(content).await;
        trio.quiet().await;
        // She goes on there, which makes it come to more than may be claimed.
        for _ in 1..CLAIMS {
            trio.renew().await;
            trio.later(1, &[]).await?;
            trio.talk(&[&trio.alice, &trio.bob], &format!("{below} below the edge")).await?;
        }
        for _ in 0..5 {
            trio.later(1, &[]).await?;
        }
        for client in [&trio.alice, &trio.bob] {
            let epochs = client.epochs(&room).await?;
            let joined = |epoch: &&EpochInfo| {
                epoch.epoch > 1 << 19 && epoch.creator_user_id == client.user_id()
            };
            let joins = epochs.iter().filter(joined).count();
            let name = client.name();
            // What the one joins by is a claim to the other.
            assert!(joins <= 2 * CLAIMS, "{below} below the edge: {name} has joined {joins} times");
        }
        trio.assert_stands(&honest, &format!("{below} below the edge")).await?;
    }
    Ok(())
}
