//! Devices that have no place in the room any more.

use matrix_mls_kit::{
    Fields as _, Http, OrMissing as _, Result, is_commit,
    peer::{base64, from_base64},
    together::{head, texts},
};
use serde_json::json;

use super::Trio;

/// Mallory logs her device out by another, and Alice's next message removes it. Gives the head
/// after it.
async fn log_mallory_out(trio: &mut Trio) -> Result<String> {
    let http = Http::new(trio.homeserver.base_url(), "spare")?;
    let login = json!({
        "type": "m.login.password", "password": "p", "device_id": "SPARE",
        "identifier": { "type": "m.id.user", "user": "mallory" },
    });
    let answer = http.post("/_matrix/client/v3/login", login).await?;
    let spare = http.with_token(answer.text("access_token")?);
    let gone = json!({ "devices": [trio.mallory.peer.device] });
    spare.post("/_matrix/client/v3/delete_devices", gone).await?;
    trio.mallory.http = spare;
    trio.quiet().await;
    trio.alice.send_text(&trio.room, "without that device").await?;
    trio.quiet().await;
    Ok(head(&trio.alice, &trio.room).await)
}

/// Alice and Bob send where they did, without that device.
async fn assert_out(trio: &Trio, honest: &str, when: &str) -> Result {
    trio.assert_stands(honest, when).await?;
    for client in [&trio.alice, &trio.bob] {
        let members = client.members(&trio.room).await?;
        let is_in = members.iter().any(|member| member.device_id == trio.mallory.peer.device);
        assert!(!is_in, "{when}: {} has the removed device in the group", client.name());
    }
    Ok(())
}

/// The removed device keeps on committing where it was, thirty commits: more than the honest branch
/// has.
#[tokio::test]
async fn a_removed_device_cannot_commit_its_way_back() -> Result {
    let mut trio = Trio::new().await?;
    let honest = log_mallory_out(&mut trio).await?;
    for _ in 0..30 {
        trio.renew().await;
    }
    trio.quiet().await;
    assert_out(&trio, &honest, "after its commits").await?;
    let laptop = trio.laptop().await?;
    trio.assert_goes_on(&laptop, &honest, "after its commits").await?;
    assert_out(&trio, &honest, "in the end").await
}

/// The removed device joins again by the public state, as anybody can who reads the room, and goes
/// on from there. It does not lead, and is not sealed to.
#[tokio::test]
async fn a_logged_out_device_that_joins_again_does_not_lead() -> Result {
    let mut trio = Trio::new().await?;
    let honest = log_mallory_out(&mut trio).await?;
    let history = trio.alice.history(&trio.room).await?;
    let mut commits = history.iter().filter(|event| is_commit(event));
    let last = commits.next_back().or_missing("commit")?;
    let state = from_base64(last["content"].text("public_group_state")?);
    trio.mallory.peer.provider = Default::default();
    let (_, commit) = trio.mallory.peer.try_join_externally(&state)?;
    let base = last.text("event_id")?;
    let creator = last["content"]["sender"].clone();
    let mut content = trio.mallory.commit(&commit, &creator, base);
    let info = trio.mallory.peer.group_info();
    content["public_group_state"] = json!(base64(&info));
    trio.send_commit(content).await;
    trio.quiet().await;
    assert_out(&trio, &honest, "after it has joined").await?;
    for _ in 0..5 {
        trio.renew().await;
    }
    trio.say("hello again").await;
    trio.quiet().await;
    assert_out(&trio, &honest, "after it has gone on").await?;
    let laptop = trio.laptop().await?;
    trio.later(2, &[&laptop]).await?;
    trio.assert_goes_on(&laptop, &honest, "days later").await?;
    assert_out(&trio, &honest, "in the end").await
}

/// Mallory, a member, removes Bob by a real commit, and at once lets him into a group of her own.
/// Alice adds him again with her next message, and then Bob is with her.
#[tokio::test]
async fn whoever_was_removed_and_let_into_another_group_comes_back() -> Result {
    let mut trio = Trio::new().await?;
    let room = trio.room.clone();
    trio.follow().await?;
    let commit = {
        let (user, device) = (trio.bob.user_id(), trio.bob.device_id());
        trio.mallory.peer.remove(user, device)
    };
    let mut content = trio.mallory.commit(&commit, &trio.creator, &trio.at);
    let info = trio.mallory.peer.group_info();
    content["public_group_state"] = json!(base64(&info));
    trio.send_commit(content).await;
    trio.alice.settle().await?;
    let members = trio.alice.members(&room).await?;
    assert!(members.iter().all(|member| member.user_id != trio.bob.user_id()), "{members:?}");
    trio.mallory.make_own_group(&room, 0);
    let welcome = trio.mallory.welcome_to(&trio.bob, &room, &trio.at.clone()).await?;
    trio.mallory.send_welcome(&trio.bob, welcome).await?;
    trio.bob.settle().await?;
    trio.quiet().await;
    for day in 0..3 {
        trio.send(&trio.alice, &format!("alice, day {day}")).await?;
        trio.quiet().await;
        trio.send(&trio.bob, &format!("bob, day {day}")).await?;
        trio.later(1, &[]).await?;
    }
    trio.talk(&[&trio.alice, &trio.bob], "in the end").await?;
    let read = texts(&trio.alice, &room).await;
    assert!(read.contains(&"bob, day 2".to_owned()), "{read:?}");
    Ok(())
}
