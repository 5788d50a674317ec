//! Scenarios: ratchet trees that commits publish as what differs from a tree that is there.

use serde_json::{Value, json};

use super::stage::{Meeting, Stage};
use crate::{
    OrMissing as _, Result, is_commit, other::name_of, peer::base64, together::say_in_a_new_epoch,
};

/// The contents of a room's commits, oldest first.
async fn commits(meeting: &Meeting<'_>) -> Result<Vec<Value>> {
    let history = meeting.alice.history(&meeting.room).await?;
    let commits = history.into_iter().filter(is_commit);
    Ok(commits.map(|event| event["content"].clone()).collect())
}

/// That the last commit of the partner's has a difference in it.
async fn last_is_a_difference(meeting: &Meeting<'_>) -> Result {
    let commits = commits(meeting).await?;
    let own = name_of(&meeting.alice);
    let last = commits.iter().rfind(|content| content["sender"] == own);
    let difference = &last.or_missing("commit of the partner's")?["tree_difference"];
    let is_one = difference["nodes"].is_string() && difference["whole"].is_object();
    let expected = "a difference in the event";
    meeting.stage.holds("the tree of the partner's last commit", expected, difference, is_one)
}

pub async fn joins_by_a_difference(stage: &Stage) -> Result {
    let mut meeting = stage.meet_in_a_crowd().await?;
    let room = meeting.room.clone();
    last_is_a_difference(&meeting).await?;
    meeting.tested_reads("the first words", 1).await?;
    let own = meeting.commits().await?.len();
    stage.equal("how many commits the client needed", &0, &own)?;
    // Another device of the client's comes in by itself, by a commit of that kind.
    say_in_a_new_epoch(&meeting.alice, &room, "in another epoch").await?;
    last_is_a_difference(&meeting).await?;
    let mut tablet = stage.device(&meeting.tested.user_id, "TABLET").await?;
    tablet.says(&room, "from the tablet").await?;
    let made = commits(&meeting).await?;
    let of_tablet = made.iter().rfind(|content| content["sender"] == tablet.json());
    let of_tablet = of_tablet.or_missing("commit of the tablet's")?;
    let names = ["ratchet_tree", "tree_difference"].iter().any(|it| of_tablet[it].is_object());
    stage.holds("whether the tablet's commit names a tree", "that it does", names, names)?;
    meeting.quiet().await?;
    meeting.is_read(&meeting.alice, "from the tablet", true).await?;
    meeting.tested_reads("from the tablet", 1).await?;
    // What the client has published is enough for who comes next.
    let carol = stage.phone("carol").await?;
    meeting.alice.invite(&room, carol.user_id()).await?;
    carol.join(&room).await?;
    meeting.tested_says("welcome, carol").await?;
    carol.settle().await?;
    meeting.is_read(&carol, "welcome, carol", true).await?;
    meeting.quiet().await?;
    meeting.talk().await
}

pub async fn follows_beside_a_false_difference(stage: &Stage) -> Result {
    let (mut meeting, mut mallory, mut at) = stage.meet_with_liar().await?;
    let room = meeting.room.clone();
    let (mut creator, server) = (name_of(&meeting.alice), mallory.peer.user.clone());
    let server = server.split_once(':').or_missing("server's name")?.1;
    let nowhere = json!({
        "url": format!("mxc://{server}/nowhere"), "size": 70_000,
        "sha256": "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0",
    });
    for difference in [
        json!({ "whole": nowhere, "nodes": base64(b"no difference") }),
        json!({ "whole": nowhere, "middle": nowhere }),
        json!({ "whole": nowhere, "nodes": 7 }),
        json!("none"),
    ] {
        let mut content = mallory.renewal(&creator, &at);
        content["tree_difference"] = difference.clone();
        at = mallory.send(&room, content).await;
        creator = mallory.name();
        meeting.quiet().await?;
        let number = mallory.peer.group().epoch().as_u64();
        let seen = meeting.tested.head(&room).await?.0;
        let what = format!("the number of its head after a commit with {difference}");
        stage.equal(&what, &number, &seen)?;
    }
    meeting.talk().await
}
