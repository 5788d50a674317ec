//! A group of Mallory's own under the room's id.

use matrix_mls_kit::{
    Result,
    peer::{Peer, base64},
    together::{head, quiet},
};
use serde_json::json;

use super::Trio;

/// Mallory makes a group, announces it as one must, and commits on it thirty times: its number is
/// higher than that of the room's group. With or without her speaking there, within a day nobody
/// follows.
async fn own_group(speaks: bool) -> Result {
    let mut trio = Trio::new().await?;
    let honest = head(&trio.alice, &trio.room).await;
    let room = trio.room.clone();
    trio.mallory.make_own_group(&room, 0);
    let state = trio.mallory.peer.group_info();
    let content = trio.mallory.announcement(&state);
    trio.send_commit(content).await;
    for _ in 0..30 {
        trio.renew().await;
    }
    trio.quiet().await;
    for number in 0..3 {
        if speaks {
            trio.say(&format!("over here, {number}")).await;
        }
        trio.talk(&[&trio.alice, &trio.bob], &format!("round {number}")).await?;
        trio.assert_stands(&honest, &format!("round {number}, speaks: {speaks}")).await?;
    }
    let laptop = trio.laptop().await?;
    trio.assert_goes_on(&laptop, &honest, "beside Mallory's group").await?;
    if !speaks {
        trio.later(2, &[&laptop]).await?;
        trio.assert_goes_on(&laptop, &honest, "days later").await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_group_of_a_members_own_leads_nobody_away() -> Result {
    own_group(false).await
}

#[tokio::test]
async fn a_group_in_which_a_member_speaks_alone_leads_nobody_away() -> Result {
    own_group(true).await
}

/// Mallory speaks in her own group for days. Who cannot be had otherwise is joined in the end:
/// whatever head that gives, it is the same for all, and they read each other on each day.
#[tokio::test]
async fn whoever_stays_in_another_group_parts_nobody() -> Result {
    let mut trio = Trio::new().await?;
    let room = trio.room.clone();
    trio.mallory.make_own_group(&room, 0);
    let state = trio.mallory.peer.group_info();
    let content = trio.mallory.announcement(&state);
    trio.send_commit(content).await;
    for _ in 0..30 {
        trio.renew().await;
    }
    let laptop = trio.laptop().await?;
    laptop.join_externally(&room).await?;
    quiet(&[&trio.alice, &trio.bob, &laptop]).await;
    for day in 0..4 {
        trio.say(&format!("over here, day {day}")).await;
        trio.later(1, &[&laptop]).await?;
        trio.talk(&[&trio.alice, &trio.bob, &laptop], &format!("day {day}")).await?;
    }
    Ok(())
}

/// Mallory adds a leaf with Bob's name to her group, and the homeserver sends what that leaf commits
/// as Bob's. Alice is in that group as well, by a Welcome. It is not Bob who has spoken there.
async fn in_bobs_name(device: Option<&str>) -> Result {
    let mut trio = Trio::new().await?;
    let room = trio.room.clone();
    trio.talk(&[&trio.alice, &trio.bob], "before").await?;
    let honest = head(&trio.alice, &room).await;
    trio.mallory.make_own_group(&room, 50);
    let none = "$none:example.org";
    let content = trio.mallory.welcome_to(&trio.alice, &room, none).await?;
    trio.mallory.send_welcome(&trio.alice, content).await?;
    trio.alice.settle().await?;
    assert_eq!(trio.alice.epochs(&room).await?.iter().filter(|epoch| epoch.epoch == 51).count(), 1);
    let device = device.unwrap_or(trio.bob.device_id()).to_owned();
    let mut ghost = Peer::new(trio.bob.user_id(), &device);
    let (commit, welcome) = trio.mallory.peer.add(&[ghost.key_package()]);
    let mut content = trio.mallory.commit(&commit, &trio.mallory.name(), none);
    content["public_group_state"] = json!(base64(&trio.mallory.peer.group_info()));
    let event = trio.mallory.send(&room, content).await;
    ghost.join(&welcome);
    let commit = ghost.update();
    let mut content = trio.mallory.commit(&commit, &trio.mallory.name(), &event);
    content["sender"] = json!([trio.bob.user_id(), device]);
    content["public_group_state"] = json!(base64(&ghost.group_info()));
    trio.bob.send_unencrypted(&room, "m.room.encrypted", content).await?;
    trio.quiet().await;
    // It was followed, so that it could have led her away.
    let epochs = trio.alice.epochs(&room).await?;
    assert!(
        epochs.iter().any(|epoch| epoch.creator_user_id == trio.bob.user_id() && epoch.epoch == 53),
        "{epochs:?}"
    );
    trio.assert_stands(&honest, &format!("after a commit of {device}'s")).await?;
    trio.talk(&[&trio.alice, &trio.bob], "after it").await?;
    trio.assert_stands(&honest, "after they have talked").await
}

#[tokio::test]
async fn a_leaf_with_anothers_name_has_no_vote() -> Result {
    in_bobs_name(None).await
}

#[tokio::test]
async fn a_device_that_its_user_does_not_list_has_no_vote() -> Result {
    in_bobs_name(Some("GHOST")).await
}
