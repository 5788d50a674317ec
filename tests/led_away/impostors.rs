//! A leaf that bears the name of another user's device, and a homeserver that sends for it.

use matrix_mls_kit::{
    Result,
    peer::{Peer, base64},
    together::head,
};
use serde_json::json;

use super::Trio;

/// Mallory adds a leaf with the name of Bob's phone, and Alice removes it before she says more.
/// From where it was the leaf goes on all the same, and the homeserver sends that as Bob's: thirty
/// commits, more than the honest branch has.
#[tokio::test]
async fn an_impostor_cannot_commit_its_way_back() -> Result {
    let mut trio = Trio::new().await?;
    let room = trio.room.clone();
    let phone = trio.bob.device_id().to_owned();
    trio.follow().await?;
    let mut ghost = Peer::new(trio.bob.user_id(), &phone);
    let (commit, welcome) = trio.mallory.peer.add(&[ghost.key_package()]);
    let mut content = trio.mallory.commit(&commit, &trio.creator, &trio.at);
    content["public_group_state"] = json!(base64(&trio.mallory.peer.group_info()));
    trio.send_commit(content).await;
    ghost.join(&welcome);
    trio.quiet().await;
    trio.send(&trio.alice, "without the impostor").await?;
    trio.quiet().await;
    let honest = head(&trio.alice, &room).await;
    let commits = trio.commits_of(&trio.alice).await? + trio.commits_of(&trio.bob).await?;

    let (mut at, mut creator) = (trio.at.clone(), trio.creator.clone());
    for _ in 0..30 {
        let commit = ghost.update();
        let mut content = trio.mallory.commit(&commit, &creator, &at);
        content["sender"] = json!([trio.bob.user_id(), phone]);
        content["public_group_state"] = json!(base64(&ghost.group_info()));
        at = trio.bob.send_unencrypted(&room, "m.room.encrypted", content.clone()).await?;
        creator = content["sender"].clone();
    }
    trio.quiet().await;
    // It was followed, so that it could have led them away.
    let epochs = trio.alice.epochs(&room).await?;
    let highest = epochs.iter().map(|epoch| epoch.epoch).max().unwrap_or_default();
    let stands = epochs.iter().find(|epoch| epoch.is_head).map_or(0, |epoch| epoch.epoch);
    assert!(highest > stands + 20, "{epochs:?}");
    trio.assert_stands(&honest, "after the impostor's commits").await?;
    trio.talk(&[&trio.alice, &trio.bob], "after the impostor's commits").await?;
    trio.assert_stands(&honest, "after they have talked").await?;
    let after = trio.commits_of(&trio.alice).await? + trio.commits_of(&trio.bob).await?;
    assert_eq!(after - commits, 30, "the honest ones have committed because of it");
    Ok(())
}
