//! Scenario: a room whose ratchet tree is in the media repository.

use matrix_mls_kit::{
    Homeserver, Result, crowd,
    together::{phone_of, texts},
};

use crate::{
    client::Second,
    meeting::{Meeting, holds, scenario},
};

/// More than the tree of an event.
const DEVICES: usize = 280;

#[tokio::test]
async fn founded_at_once() -> Result {
    let steps = async {
        let homeserver = Homeserver::embedded()?;
        let alice = phone_of(&homeserver, "alice").await?;
        let room = alice.create_room(&[]).await?;
        let crowd = crowd::register(&homeserver, "crowd", 30).await?;
        crowd::enter_room(&alice, &room, &crowd).await?;
        let mut second = Second::register(&homeserver, "second").await?;
        alice.invite(&room, &second.device.0).await?;
        second.join(&room).await?;
        alice.settle().await?;
        alice.enable(&room, Default::default()).await?;
        alice.send_text(&room, "to all of you").await?;
        second.settle().await?;
        let head = second.head(&room)?;
        let known = second.room(&room)?;
        let claims: Vec<_> = known.claims.values().map(|claim| claim.number).collect();
        holds(claims == [1], || format!("one announcement, of epoch 1, and not {claims:?}"))?;
        let number = known.epoch(head)?.number;
        holds(number == 1, || format!("it is welcomed to epoch {number}"))?;
        let mut meeting = Meeting { homeserver, alice, second, room: room.clone() };
        meeting.reads("to all of you").await?;
        // Nothing but the announcement lets its other device in.
        let mut tablet = Second::log_in(&meeting.homeserver, "second", "TABLET").await?;
        tablet.join_externally(&room).await?;
        tablet.say_at_once(&room, "from the tablet").await?;
        meeting.quiet().await?;
        meeting.reads("from the tablet").await?;
        meeting.both_talk().await
    };
    scenario("founded_at_once", "a group that begins with all its members is joined", steps).await
}

#[tokio::test]
async fn large_tree() -> Result {
    let steps = async {
        let homeserver = Homeserver::embedded()?;
        let alice = phone_of(&homeserver, "alice").await?;
        let room = alice.create_room(&[]).await?;
        let crowd = crowd::register(&homeserver, "crowd", DEVICES).await?;
        crowd::enter_room(&alice, &room, &crowd).await?;
        alice.settle().await?;
        alice.enable(&room, Default::default()).await?;
        alice.send_text(&room, "to the crowd").await?;
        // It is added to a tree that the Welcome does not have.
        let mut second = Second::register(&homeserver, "second").await?;
        alice.invite(&room, &second.device.0).await?;
        second.join(&room).await?;
        alice.settle().await?;
        alice.send_text(&room, "welcome").await?;
        second.settle().await?;
        let known = second.room(&room)?;
        let by_media = known
            .claims
            .values()
            .filter(|claim| claim.tree.is_some() || claim.difference.is_some())
            .count();
        holds(by_media > 0, || "the tree is in the media repository".into())?;
        let mut meeting = Meeting { homeserver, alice, second, room: room.clone() };
        meeting.reads("welcome").await?;
        // It adds somebody to it, who needs its own tree.
        let carol = phone_of(&meeting.homeserver, "carol").await?;
        meeting.alice.invite(&room, carol.user_id()).await?;
        carol.join(&room).await?;
        meeting.second.say(&room, "welcome, carol").await?;
        carol.settle().await?;
        let read = texts(&carol, &room).await;
        holds(read == ["welcome, carol"], || format!("carol reads {read:?}"))?;
        // Another device comes in by itself.
        let mut tablet = Second::log_in(&meeting.homeserver, "second", "TABLET").await?;
        tablet.join_externally(&room).await?;
        tablet.say_at_once(&room, "from the tablet").await?;
        meeting.quiet().await?;
        meeting.reads("from the tablet").await?;
        meeting.both_talk().await
    };
    scenario("large_tree", "a tree that no event holds is fetched, checked and uploaded", steps)
        .await
}
