//! Scenarios: forks, and rooms that are started anew.

use matrix_mls_kit::{
    Http, OrMissing as _, Result,
    other::{Other, join_path},
    together::texts,
};
use serde_json::json;

use crate::meeting::{Meeting, holds, scenario};

#[tokio::test]
async fn both_commit_at_once() -> Result {
    let steps = async {
        let mut meeting = Meeting::of_alice().await?;
        meeting.quiet().await?;
        let room = meeting.room.clone();
        meeting.alice.rotate_keys(&room).await?;
        meeting.alice.send_text(&room, "on alice's branch").await?;
        let own = meeting.second.renew(&room).await?;
        meeting.second.say_at_once(&room, "on second's branch").await?;
        meeting.quiet().await?;
        let base = meeting.second.room(&room)?.epoch(own)?.number;
        let of_number = meeting
            .second
            .room(&room)?
            .epochs
            .values()
            .filter(|epoch| epoch.number == base)
            .count();
        holds(of_number == 2, || format!("{of_number} epochs of one number"))?;
        meeting.reads("on alice's branch").await?;
        meeting.reads("on second's branch").await?;
        meeting.on_one_head().await?;
        meeting.both_talk().await
    };
    scenario("both_commit_at_once", "both branches are read, and one head is chosen", steps).await
}

#[tokio::test]
async fn branches_that_differ_in_members_come_together() -> Result {
    let steps = async {
        let mut meeting = Meeting::of_alice().await?;
        meeting.quiet().await?;
        let room = meeting.room.clone();
        let carol = matrix_mls_kit::together::phone_of(&meeting.homeserver, "carol").await?;
        meeting.alice.invite(&room, carol.user_id()).await?;
        carol.join(&room).await?;
        // One adds Carol while the other, who does not know of her, renews twice.
        meeting.second.renew(&room).await?;
        meeting.second.renew(&room).await?;
        meeting.alice.send_text(&room, "carol is added").await?;
        for _ in 0..2 {
            meeting.quiet().await?;
            carol.settle().await?;
        }
        meeting.reads("carol is added").await?;
        meeting.second.say(&room, "carol is here too").await?;
        meeting.quiet().await?;
        carol.settle().await?;
        let read = texts(&carol, &room).await;
        holds(read.contains(&"carol is here too".into()), || format!("carol reads: {read:?}"))?;
        meeting.both_talk().await
    };
    scenario(
        "branches_that_differ_in_members_come_together",
        "who was added on the branch that lost is added on the one that won",
        steps,
    )
    .await
}

#[tokio::test]
async fn follows_a_removed_device_not() -> Result {
    let steps = async {
        let mut meeting = Meeting::of_second().await?;
        let room = meeting.room.clone();
        let mut mallory = Other::register(&meeting.homeserver, "mallory").await;
        meeting.second.invite(&room, &mallory.peer.user).await?;
        mallory.http.post(&join_path(&room), json!({})).await?;
        meeting.second.say(&room, "with mallory").await?;
        let at = mallory.join_by_welcome().await;
        meeting.quiet().await?;
        // Mallory's device is deleted; what it does from now on another device of hers sends.
        let login = json!({
            "type": "m.login.password", "device_id": "HELPER", "password": "p",
            "identifier": { "type": "m.id.user", "user": "mallory" },
        });
        let helper = Http::new(meeting.homeserver.base_url(), "mallory/HELPER")?;
        let answer = helper.post("/_matrix/client/v3/login", login).await?;
        mallory.http.post("/_matrix/client/v3/logout", json!({})).await?;
        mallory.http = helper.with_token(answer["access_token"].as_str().or_missing("token")?);
        meeting.second.say(&room, "without mallory").await?;
        meeting.quiet().await?;
        let head = meeting.second.head(&room)?;
        let mut base = (json!(meeting.second.device), at);
        for _ in 0..4 {
            let content = mallory.renewal(&base.0, &base.1);
            base = (mallory.name(), mallory.send(&room, content).await);
        }
        meeting.quiet().await?;
        let highest = meeting.second.room(&room)?.epochs.values().map(|epoch| epoch.number).max();
        let number = meeting.second.room(&room)?.epoch(head)?.number;
        holds(highest > Some(number), || "its branch is followed, and it is longer".into())?;
        let now = meeting.second.head(&room)?;
        holds(now == head, || "the head stays where it was".into())?;
        meeting.both_talk().await
    };
    scenario(
        "follows_a_removed_device_not",
        "however many commits a removed device makes, no head is among them",
        steps,
    )
    .await
}

#[tokio::test]
async fn restarts() -> Result {
    let steps = async {
        let mut meeting = Meeting::of_alice().await?;
        meeting.quiet().await?;
        let room = meeting.room.clone();
        meeting.alice.restart_group(&room).await?;
        meeting.alice.send_text(&room, "in the second group").await?;
        meeting.quiet().await?;
        meeting.reads("in the second group").await?;
        meeting.reads("from alice").await?;
        meeting.both_talk().await?;
        let mut meeting = Meeting::of_second().await?;
        let room = meeting.room.clone();
        meeting.second.restart(&room).await?;
        meeting.second.say(&room, "in the second group").await?;
        meeting.quiet().await?;
        meeting.reads("in the second group").await?;
        meeting.both_talk().await
    };
    scenario("restarts", "a room that was started anew goes on in its new group", steps).await
}
