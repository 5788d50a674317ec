//! A group of Mallory's own under the room's id.

use matrix_mls_kit::{
    Result,
    together::{head, quiet},
};

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
