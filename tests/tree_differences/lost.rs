//! Trees that the media repository has lost: whoever joins asks members for them.

use std::time::Duration;

use matrix_mls_kit::{
    Homeserver, OrMissing as _, Result,
    other::Other,
    together::{all_talk, log_in, quiet},
};
use serde_json::json;

use super::{
    DEVICES, Large,
    said::{Said, say},
    upload, url_of, with_mallory,
};

/// The algorithm of a to-device event that asks for a tree, without the ciphersuite.
const TREE_REQUEST: &str = "org.matrix.msc2883.v1.dmls.tree_request";

/// A base that the homeserver has deleted: whoever joins is given the tree, and mends it for all.
#[tokio::test]
async fn a_base_that_is_lost_is_given_to_whoever_joins_and_replaced() -> Result {
    let large = Large::new().await?;
    let Large { homeserver, alice, bob, room } = &large;
    large.renew(alice, "before").await?;
    let base = large.commits().await?.pop().or_missing("commit")?;
    let base = url_of(&base["tree_difference"]["whole"])?.to_owned();
    let controls = homeserver.controls().or_missing("controls")?;
    assert!(controls.delete_media(&base));
    large.media_requests().await?;
    let laptop = log_in(homeserver, "bob", "LAPTOP").await?;
    // The first tries find nothing. Then Alice, who has made the commit, is asked.
    let mut uploads = 0;
    let _waits = laptop.join_externally(room).await;
    for _ in 0..120 {
        if laptop.head(room).await.is_ok() {
            break;
        }
        quiet(&[alice, bob]).await;
        laptop.settle().await?;
        uploads += large.media_requests().await?.0;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(laptop.members(room).await?.len(), DEVICES + 3);
    assert_eq!(uploads, 2, "that of one member, and that of the laptop");
    let last = large.commits().await?.pop().or_missing("commit")?;
    assert!(last.get("ratchet_tree").is_some(), "whoever joins publishes a whole tree: {last}");
    all_talk(&[&laptop, alice, bob], room).await;
    // All build on that.
    large.renew(alice, "after").await?;
    let last = large.commits().await?.pop().or_missing("commit")?;
    assert_ne!(url_of(&last["tree_difference"]["whole"])?, base);
    let tablet = log_in(homeserver, "alice", "TABLET").await?;
    tablet.join_externally(room).await?;
    all_talk(&[&tablet, &laptop, alice, bob], room).await;
    Ok(())
}

/// Whoever is asked may answer with another tree. The tree hash says so, and the next is asked.
#[tokio::test]
async fn a_tree_that_is_offered_in_place_of_the_right_one_is_passed_over() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, mut mallory, room, base) = with_mallory(&homeserver).await?;
    let (_, old) = mallory.peer.public_state();
    say(Said::ABaseThatIsNowhere, &alice, &mut mallory, &room, &base).await?;
    alice.settle().await?;
    let mallorys = alice.head(&room).await?;
    let commit = mallorys.commit_event.clone().or_missing("event")?;
    let laptop = log_in(&homeserver, "alice", "LAPTOP").await?;
    let _waits = laptop.join_externally(&room).await;
    let mut is_asked = false;
    for _ in 0..120 {
        if laptop.head(&room).await.is_ok() {
            break;
        }
        if is_asked {
            alice.settle().await?;
        } else {
            let sync = mallory.http.get("/_matrix/client/v3/sync?timeout=0").await?;
            let events = sync["to_device"]["events"].as_array().cloned().unwrap_or_default();
            is_asked = events.iter().any(|event| {
                let algorithm = event["content"]["algorithm"].as_str().unwrap_or_default();
                algorithm.starts_with(TREE_REQUEST)
            });
            if is_asked {
                let algorithm =
                    "org.matrix.msc2883.v1.dmls.tree.dhkemx25519-aes128gcm-sha256-ed25519";
                let offer = json!({
                    "algorithm": algorithm, "room_id": room, "sender": mallory.name(),
                    "commit_event": commit, "ratchet_tree": upload(&alice, old.clone()).await?,
                });
                mallory.send_welcome(&laptop, offer).await?;
            }
        }
        laptop.settle().await?;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!(is_asked, "whoever made the commit is asked first");
    assert_eq!(laptop.head(&room).await?.epoch, mallorys.epoch + 1);
    all_talk(&[&alice, &laptop], &room).await;
    Ok(())
}

#[tokio::test]
async fn asking_for_trees_makes_a_member_upload_once_a_day_and_a_stranger_nothing() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, mallory, room, base) = with_mallory(&homeserver).await?;
    let eve = Other::register(&homeserver, "eve").await;
    let controls = homeserver.controls().or_missing("controls")?;
    controls.clear_requests();
    let ask = async |of: &Other, commit: &str| -> Result<usize> {
        let algorithm = format!("{TREE_REQUEST}.dhkemx25519-aes128gcm-sha256-ed25519");
        let content = json!({
            "algorithm": algorithm, "room_id": room, "sender": of.name(), "commit_event": commit,
        });
        of.send_welcome(&alice, content).await?;
        alice.settle().await?;
        let requests = controls.requests();
        Ok(requests.iter().filter(|sent| sent.path.contains("/media/v3/upload")).count())
    };
    assert_eq!(ask(&eve, &base).await?, 0, "a stranger");
    assert_eq!(ask(&mallory, "$nowhere:embedded.test").await?, 0, "no commit of the room");
    assert_eq!(ask(&mallory, &base).await?, 1);
    for commit in [&*base, "$nowhere:embedded.test", &base] {
        assert_eq!(ask(&mallory, commit).await?, 1, "once a day");
    }
    Ok(())
}
