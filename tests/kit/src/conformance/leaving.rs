//! Scenarios: the client is put out, and comes back.

use serde_json::json;

use super::stage::Stage;
use crate::{Result, peer::base64};

pub async fn is_put_out(stage: &Stage) -> Result {
    let mut meeting = stage.meet().await?;
    meeting.talk().await?;
    let room = meeting.room.clone();
    meeting.alice.kick(&room, &meeting.tested.user_id).await?;
    meeting.alice.settle().await?;
    meeting.alice.send_text(&room, "without you").await?;
    meeting.alice.settle().await?;
    let name = meeting.tested.name();
    let members = meeting.alice.members(&room).await?;
    let still =
        members.iter().any(|member| format!("{}|{}", member.user_id, member.device_id) == name);
    stage.equal("whether it is still in the group", &false, &still)?;
    meeting.tested.settle().await?;
    let before = meeting.sent().await?.len();
    let sent = meeting.tested.tries(&format!("send {room} still here")).await?.is_some();
    stage.equal("whether the client can still send", &false, &sent)?;
    meeting.tested.settle().await?;
    let now = meeting.sent().await?.len();
    stage.equal("how much it has sent since", &0, &(now - before))?;
    // A client that shows nothing of a room that it left has nothing to answer.
    let read = meeting.tested.tries(&format!("read {room}")).await?.unwrap_or_default();
    stage.equal("how often it reads “without you”", &0, &read.times("without you"))?;
    // It is invited again.
    meeting.alice.invite(&room, &meeting.tested.user_id).await?;
    meeting.tested.does(&format!("join {room}")).await?;
    meeting.alice.settle().await?;
    meeting.alice_says("with you again").await?;
    meeting.quiet().await?;
    meeting.tested_reads("with you again", 1).await?;
    meeting.tested_reads("without you", 0).await?;
    meeting.talk().await
}

/// A member removes the client's leaf, though its user is in the room.
pub async fn comes_back_from_a_removal(stage: &Stage) -> Result {
    let (mut meeting, mut mallory, at) = stage.meet_with_liar().await?;
    let room = meeting.room.clone();
    let commit = mallory.peer.remove(&meeting.tested.user_id, &meeting.tested.device_id);
    let creator = crate::other::name_of(&meeting.alice);
    let mut content = mallory.commit(&commit, &creator, &at);
    content["public_group_state"] = json!(base64(&mallory.peer.group_info()));
    mallory.send(&room, content).await;
    meeting.alice.settle().await?;
    meeting.tested_says("here again").await?;
    meeting.quiet().await?;
    meeting.is_read(&meeting.alice, "here again", true).await?;
    meeting.talk().await
}
