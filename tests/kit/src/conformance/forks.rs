//! Scenarios: commits of others, forks, absences, and rooms that are started anew.

use serde_json::{Value, json};

use super::stage::Stage;
use crate::{
    Http, OrMissing as _, Result,
    http::segment,
    other::join_path,
    together::{quiet, say_in_a_new_epoch},
};

/// How many commits an absence has: more than a sync brings.
const ABSENCE: usize = 60;

pub async fn follows_commits(stage: &Stage) -> Result {
    let mut meeting = stage.meet().await?;
    let before = meeting.commits().await?.len();
    for number in 0..4 {
        let text = format!("in epoch {number}");
        say_in_a_new_epoch(&meeting.alice, &meeting.room, &text).await?;
        meeting.tested.settle().await?;
        meeting.tested_reads(&text, 1).await?;
        meeting.one_head().await?;
    }
    let made = meeting.commits().await?.len() - before;
    stage.equal("how many commits the client needed", &0, &made)?;
    meeting.talk().await
}

pub async fn both_commit_at_once(stage: &Stage) -> Result {
    let mut meeting = stage.meet().await?;
    meeting.talk().await?;
    let base = meeting.alice.head(&meeting.room).await?;
    let commits = meeting.commits().await?.len();
    say_in_a_new_epoch(&meeting.alice, &meeting.room, "on alice's branch").await?;
    meeting.tested.does(&format!("rotate {}", meeting.room)).await?;
    let made = meeting.commits().await?;
    let own = made.get(commits).or_missing("commit of the client's")?;
    let seen = own["content"]["commit_event"].as_str().map(str::to_owned);
    // Who has synced first has made no fork, and nothing could be seen of it.
    stage.equal("the base of the client's commit", &base.commit_event, &seen)?;
    meeting.tested.does(&format!("send {} on the client's branch", meeting.room)).await?;
    meeting.quiet().await?;
    meeting.tested_reads("on alice's branch", 1).await?;
    meeting.tested_reads("on the client's branch", 1).await?;
    meeting.is_read(&meeting.alice, "on the client's branch", true).await?;
    meeting.one_head().await?;
    meeting.talk().await
}

pub async fn follows_both_branches(stage: &Stage) -> Result {
    let mut meeting = stage.meet().await?;
    let room = meeting.room.clone();
    let bob = stage.phone("bob").await?;
    meeting.alice.invite(&room, bob.user_id()).await?;
    bob.join(&room).await?;
    meeting.alice_says("with bob").await?;
    quiet(&[&meeting.alice, &bob]).await;
    meeting.tested.settle().await?;
    // Neither syncs, so both go on from one epoch.
    for (phone, text) in [(&meeting.alice, "alice's branch"), (&bob, "bob's branch")] {
        for number in ["one", "two"] {
            phone.rotate_keys(&room).await?;
            phone.send_text(&room, &format!("{text} {number}")).await?;
        }
    }
    meeting.tested.settle().await?;
    for text in ["alice's branch one", "alice's branch two", "bob's branch one", "bob's branch two"]
    {
        meeting.tested_reads(text, 1).await?;
    }
    quiet(&[&meeting.alice, &bob]).await;
    meeting.one_head().await?;
    meeting.talk().await
}

pub async fn merges_a_fork(stage: &Stage) -> Result {
    let mut meeting = stage.meet().await?;
    meeting.talk().await?;
    let room = meeting.room.clone();
    let carol = stage.phone("carol").await?;
    meeting.alice.invite(&room, carol.user_id()).await?;
    carol.join(&room).await?;
    // One adds Carol while the other, who does not know of her, renews twice.
    for _ in 0..2 {
        meeting.tested.does(&format!("rotate {room}")).await?;
    }
    meeting.alice.send_text(&room, "carol is added").await?;
    meeting.alice.settle().await?;
    meeting.tested_says("carol is here too").await?;
    for _ in 0..2 {
        meeting.quiet().await?;
        carol.settle().await?;
    }
    meeting.tested_reads("carol is added", 1).await?;
    meeting.is_read(&carol, "carol is here too", true).await?;
    meeting.talk().await?;
    carol.settle().await?;
    meeting.is_read(&carol, &format!("tested {}", meeting.rounds), true).await
}

pub async fn returns_after_many_commits(stage: &Stage) -> Result {
    let mut meeting = stage.meet().await?;
    meeting.talk().await?;
    for number in 0..ABSENCE {
        let text = format!("while you were away {number}");
        say_in_a_new_epoch(&meeting.alice, &meeting.room, &text).await?;
    }
    meeting.tested.settle().await?;
    meeting.quiet().await?;
    for number in [0, 1, ABSENCE / 2, ABSENCE - 1] {
        meeting.tested_reads(&format!("while you were away {number}"), 1).await?;
    }
    let facts = meeting.tested.reading(&meeting.room).await?;
    let read = facts.texts.iter().filter(|text| text.body.starts_with("while you were away"));
    stage.equal("how much of the absence the client reads", &ABSENCE, &read.count())?;
    meeting.talk().await
}

pub async fn does_without_a_redacted_commit(stage: &Stage) -> Result {
    let mut meeting = stage.meet().await?;
    meeting.talk().await?;
    let room = meeting.room.clone();
    say_in_a_new_epoch(&meeting.alice, &room, "behind what is gone").await?;
    let commit = meeting.alice.head(&room).await?.commit_event.or_missing("event of the commit")?;
    meeting.redact(&commit).await?;
    say_in_a_new_epoch(&meeting.alice, &room, "further on").await?;
    meeting.quiet().await?;
    meeting.tested_says("back again").await?;
    meeting.quiet().await?;
    meeting.is_read(&meeting.alice, "back again", true).await?;
    meeting.tested_reads("behind what is gone", 0).await?;
    meeting.talk().await
}

pub async fn follows_a_removed_device_not(stage: &Stage) -> Result {
    let (mut meeting, mut mallory, at) = stage.meet_with_liar().await?;
    meeting.talk().await?;
    let room = meeting.room.clone();
    let (mut creator, mut base) = (crate::other::name_of(&meeting.alice), at);
    // Mallory's device is deleted; what it does from now on another device of hers sends.
    let login = json!({
        "type": "m.login.password", "device_id": "HELPER", "password": "p",
        "identifier": { "type": "m.id.user", "user": stage.name("mallory") },
    });
    let helper = Http::new(stage.homeserver.base_url(), "the helper")?;
    let answer = helper.post("/_matrix/client/v3/login", login).await?;
    mallory.http.post("/_matrix/client/v3/logout", json!({})).await?;
    mallory.http = helper.with_token(answer["access_token"].as_str().or_missing("token")?);
    meeting.tested_says("without mallory").await?;
    meeting.quiet().await?;
    let head = meeting.alice.head(&room).await?;
    meeting.head_is("the client's head once it has removed her", &head.id).await?;
    for _ in 0..6 {
        let content = mallory.renewal(&creator, &base);
        creator = mallory.name();
        base = mallory.send(&room, content).await;
    }
    meeting.quiet().await?;
    meeting.head_is("its head beside her longer branch", &head.id).await?;
    meeting.talk().await
}

pub async fn goes_where_the_room_is_started_anew(stage: &Stage) -> Result {
    let mut meeting = stage.meet().await?;
    meeting.talk().await?;
    meeting.alice.restart_group(&meeting.room).await?;
    meeting.alice_says("in the second group").await?;
    meeting.quiet().await?;
    meeting.tested_reads("in the second group", 1).await?;
    meeting.tested_reads("the first words", 1).await?;
    meeting.talk().await?;
    let last = meeting.sent().await?.pop().or_missing("event of the client's")?;
    let bytes =
        crate::peer::from_base64(last["content"]["ciphertext"].as_str().unwrap_or_default());
    // An MLSMessage's four bytes, and the group's id with its length in one byte or two.
    let id = meeting.room.as_bytes();
    let at = bytes.windows(id.len()).position(|window| window == id).or_missing("room id")?;
    let number = bytes.get(at + id.len()..at + id.len() + 9);
    let expected = [0, 0, 0, 0, 0, 0, 0, 0, 1];
    stage.equal("what follows the room's id in the group id", &Some(&expected[..]), &number)
}

/// State that says so and has no announcement, or one of another's, or another number.
pub async fn goes_nowhere_by_forged_restarts(stage: &Stage) -> Result {
    let (mut meeting, mut mallory, _) = stage.meet_with_liar().await?;
    meeting.talk().await?;
    let room = meeting.room.clone();
    let head = meeting.alice.head(&room).await?;
    let state = |content: &Value| {
        let kind = "org.matrix.msc2883.v1.dmls.restart";
        let path = format!("/_matrix/client/v3/rooms/{}/state/{kind}/", segment(&room));
        let content = content.clone();
        (path, content)
    };
    // Her announcement, and Alice's word for it: the sender of the state is another.
    mallory.make_own_group(&room, 0);
    let info = mallory.peer.group_info();
    let announcement = mallory.announcement(&info);
    let event = mallory.send(&room, announcement).await;
    for content in [
        json!({ "number": 1, "announcement": "$none" }),
        json!({ "number": 1, "announcement": event }),
        json!({ "number": 1_u64 << 40, "announcement": event }),
        json!({ "number": "1", "announcement": [] }),
    ] {
        let (path, content) = state(&content);
        meeting.alice.http().put(&path, content.clone()).await?;
        meeting.quiet().await?;
        meeting.head_is(&format!("the client's head beside {content}"), &head.id).await?;
    }
    meeting.talk().await
}

/// A user who comes by a branch that loses is told apart from one whom nobody added.
pub async fn goes_on_when_a_member_leaves(stage: &Stage) -> Result {
    let (mut meeting, mallory, _) = stage.meet_with_liar().await?;
    meeting.talk().await?;
    let leave = join_path(&meeting.room).replace("/join", "/leave");
    mallory.http.post(&leave, json!({})).await?;
    meeting.tested_says("among two").await?;
    let name = format!("{}|{}", mallory.peer.user, mallory.peer.device);
    let members = meeting.tested.does(&format!("look {}", meeting.room)).await?.members;
    let is_out = !members.contains(&name);
    stage.holds("the members", "that who left is not among them", &members, is_out)?;
    let mut mallory = mallory;
    let sent = meeting.sent().await?;
    let message = sent.iter().rfind(|event| !crate::is_commit(event)).or_missing("message")?;
    let bytes = crate::peer::from_base64(message["content"]["ciphertext"].as_str().unwrap_or(""));
    let number = epoch_of(&bytes).or_missing("number in the message's header")?;
    let left_at = mallory.peer.group().epoch().as_u64();
    let expected = format!("above {left_at}, where who left still is");
    stage.holds("the epoch of the client's message", &expected, number, number > left_at)?;
    meeting.talk().await
}

/// The epoch's number in the header of a PrivateMessage.
fn epoch_of(bytes: &[u8]) -> Option<u64> {
    let (length, at) = match bytes.get(4)? {
        first @ 0..=63 => (usize::from(*first), 5),
        first => (usize::from(first & 0x3F) << 8 | usize::from(*bytes.get(5)?), 6),
    };
    let number = bytes.get(at + length..at + length + 8)?;
    Some(u64::from_be_bytes(number.try_into().ok()?))
}
