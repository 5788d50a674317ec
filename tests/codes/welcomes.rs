//! What comes by to-device events: Welcomes, and offers of history.

use matrix_mls::{SyncChanges, ToDeviceResult};
use matrix_mls_kit::{
    Client, Fields as _, Homeserver, OrMissing as _, Result, feed,
    other::{Other, group_of_three, name_of},
    peer::{ALGORITHM, base64, from_base64},
    together::{all_talk, log_in, pair, phone_of},
};
use serde_json::{Value, json};

use super::{error_to_device, says};

/// A room of Alice's with Mallory in its group, and Carol, who has joined the Matrix room alone and
/// knows who is in it.
struct Room {
    alice: Client,
    carol: Client,
    mallory: Other,
    id: String,
    /// The event of the last commit.
    commit: String,
}

async fn room(homeserver: &Homeserver) -> Result<Room> {
    let (alice, _bob, mallory, id, commit) = group_of_three(homeserver).await?;
    let carol = phone_of(homeserver, "carol").await?;
    alice.invite(&id, carol.user_id()).await?;
    carol.join(&id).await?;
    carol.sync().await?;
    Ok(Room { alice, carol, mallory, id, commit })
}

#[tokio::test]
async fn a_welcome_opens_and_is_one() -> Result {
    let homeserver = Homeserver::embedded()?;
    let Room { alice, carol, mut mallory, id, commit } = room(&homeserver).await?;
    let mut content = mallory.welcome_to(&carol, &id, &commit).await?;
    let good = content.clone();
    content["ciphertext"] = json!(base64(&mallory.peer.update()));
    mallory.send_welcome(&carol, content).await?;
    says(&error_to_device(&carol).await?, "not_a_welcome", "another kind of message");
    for (sender, why) in [
        (name_of(&alice), "another user as sender"),
        (json!([mallory.peer.user, "ANOTHER"]), "another device than the event says"),
    ] {
        let mut content = good.clone();
        content["sender"] = sender;
        mallory.send_welcome(&carol, content).await?;
        says(&error_to_device(&carol).await?, "sender_mismatch", why);
    }
    let mut changed = from_base64(good.text("ciphertext")?);
    let end = changed.len() - 1;
    changed[end] ^= 1;
    let mut content = good.clone();
    content["ciphertext"] = json!(base64(&changed));
    mallory.send_welcome(&carol, content).await?;
    says(&error_to_device(&carol).await?, "bad_welcome", "Decryption failed");
    let mut content = good;
    content["tree_difference"] = json!({ "whole": {
        "url": "mxc://example.org/x", "size": 2, "sha256": SHA256,
    } });
    mallory.send_welcome(&carol, content).await?;
    says(&error_to_device(&carol).await?, "bad_tree", "nothing leads");
    carol.settle().await?;
    alice.settle().await?;
    all_talk(&[&alice, &carol], &id).await;
    Ok(())
}

/// A hash that no upload has.
const SHA256: &str = "RBNvo1WzZ4oRRq0W9+hknpT7T8If536DEMBg9hyq/4o";

/// Mallory lets Carol in by the package that Carol's device keeps, and sends that Welcome twice.
#[tokio::test]
async fn a_group_is_joined_once() -> Result {
    let homeserver = Homeserver::embedded()?;
    let Room { carol, mut mallory, id, commit, .. } = room(&homeserver).await?;
    // The last one that is left is given to everybody.
    let mut last = None;
    for _ in 0..500 {
        let package = mallory.claim(&carol).await?;
        let is_same = last.as_ref() == Some(&package);
        last = Some(package);
        if is_same {
            break;
        }
    }
    let content = mallory.welcome_to(&carol, &id, &commit).await?;
    mallory.send_welcome(&carol, content.clone()).await?;
    let joined = carol.sync().await?.summary.to_device;
    assert!(matches!(joined.as_slice(), [ToDeviceResult::Joined { .. }]), "{joined:?}");
    let mut content = content;
    content["commit_event"] = json!("$another");
    mallory.send_welcome(&carol, content).await?;
    says(&error_to_device(&carol).await?, "known_epoch", "this device already is in that epoch");
    Ok(())
}

/// A stranger tells Alice of one room after the other that she is not in.
#[tokio::test]
async fn so_much_of_one_sender_waits() -> Result {
    let homeserver = Homeserver::embedded()?;
    let alice = phone_of(&homeserver, "alice").await?;
    let sender = "@stranger:example.org";
    let offer = |number: u32| {
        let content = offer(
            &format!("!{number}:example.org"),
            &json!([sender, "X"]),
            "$x",
            "AAAA",
            "mxc://example.org/x",
        );
        json!({ "type": "m.room.encrypted", "sender": sender, "content": content }).to_string()
    };
    let changes = SyncChanges { to_device: (0..100).map(offer).collect(), ..feed() };
    let results = alice.machine()?.receive_sync(changes).await?.to_device;
    let refused = results.into_iter().find_map(|result| match result {
        ToDeviceResult::Failed { error } => Some(error),
        _ => None,
    });
    says(&refused.or_missing("refused event")?, "too_many_wait", "waits already");
    Ok(())
}

fn offer(room: &str, sender: &Value, commit: &str, id: &str, url: &str) -> Value {
    json!({
        "algorithm": ALGORITHM.replace("dmls.", "dmls.history."), "room_id": room,
        "sender": sender, "commit_event": commit, "bundle_id": id,
        "bundle": { "url": url, "size": 2, "sha256": SHA256 },
    })
}

/// Alice's account offers history: in the name of a tablet that is in no group, and with a bundle
/// that the media repository does not have.
#[tokio::test]
async fn history_is_offered_by_members_with_what_is_there() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair(&homeserver).await;
    let tablet = log_in(&homeserver, "alice", "TABLET").await?;
    let commit = bob.head(&room).await?.commit_event.or_missing("event of the commit")?;
    let nowhere = "mxc://example.org/nowhere";
    let tell = async |by: &Client, id: &str| -> Result {
        let content = offer(&room, &name_of(by), &commit, id, nowhere);
        let messages = json!({ "messages": { bob.user_id(): { "PHONE": content } } });
        let path = format!("/_matrix/client/v3/sendToDevice/m.room.encrypted/{id}");
        by.http().put(&path, messages).await?;
        Ok(())
    };
    tell(&tablet, "AAAA").await?;
    says(&error_to_device(&bob).await?, "not_a_member", "the sender is not in that epoch");
    tell(&alice, "AAAB").await?;
    says(&error_to_device(&bob).await?, "value_in_media", "media repository");
    bob.settle().await?;
    tell(&alice, "AAAC").await?;
    says(&error_to_device(&bob).await?, "bad_media", "does not have the value");
    all_talk(&[&alice, &bob], &room).await;
    Ok(())
}
