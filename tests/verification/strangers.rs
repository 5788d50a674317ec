//! What a homeserver or a stranger may try in a verification by names: devices that are called like
//! keys, devices that nobody lists, and this side's own word sent back.

use matrix_mls::VerificationState;
use matrix_mls_kit::{
    Client, Homeserver, OrMissing as _, Result,
    cross_signing::CrossSigning,
    together::{lie_about_keys, pair, phone_of, quiet, two_phones},
};
use serde_json::json;

use crate::puppet::{Puppet, cancelled_with, code_of, incoming, info, only_sent, sent_by};

/// Both phones have the same device id. What Alice's vouches for is no word of Bob's.
#[tokio::test]
async fn ones_own_word_that_is_sent_back_vouches_for_nobody() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob) = two_phones(&homeserver).await?;
    assert_eq!(alice.device_id(), bob.device_id());
    let mut puppet = Puppet::of(&bob, "transaction").await?;
    let verification = puppet.until_comparing(&alice).await?;
    verification.confirm().await?;
    let own = only_sent(&alice).await?;
    assert_eq!(own.event_type, "m.key.verification.mac");
    puppet.give(&alice, "mac", own.content).await?;
    assert_eq!(cancelled_with(&alice).await?, "m.key_mismatch");
    assert_eq!(code_of(&verification).await?, "m.key_mismatch");
    Ok(())
}

/// A homeserver chooses device ids. Bob's device is called like a master key that the homeserver
/// has made for him: what the device says of itself is not said of the key.
#[tokio::test]
async fn a_device_that_is_called_like_a_master_key_does_not_vouch_for_it() -> Result {
    let homeserver = Homeserver::embedded()?;
    let alice = phone_of(&homeserver, "alice").await?;
    let user = alice.user_id().replace("alice", "bob");
    // A test's device id is the name of a directory.
    let (ghost, name) = loop {
        let ghost = CrossSigning::new(&user);
        let name = ghost.master_key();
        if !name.contains(['/', '+']) {
            break (ghost, name);
        }
    };
    let device = Client::register(&homeserver, "bob", &name).await?;
    device.settle().await?;
    assert_eq!(device.user_id(), user);
    let published = ghost.published()?;
    let _replaced = lie_about_keys(&homeserver, &alice, move |answer| {
        answer["master_keys"][&user] = published["master_key"].clone();
        answer["self_signing_keys"][&user] = published["self_signing_key"].clone();
    })?;
    let own = Puppet::of(&device, "").await?.ed25519;
    for keys in [vec![(&*name, &*own)], vec![(&*name, &*name)]] {
        let mut puppet = Puppet::of(&device, "").await?;
        let verification = puppet.until_comparing(&alice).await?;
        verification.confirm().await?;
        sent_by(&alice).await?;
        puppet.give(&alice, "mac", puppet.mac_content(&alice, &keys)?).await?;
        assert_eq!(cancelled_with(&alice).await?, "m.key_mismatch", "{keys:?}");
        assert_eq!(code_of(&verification).await?, "m.key_mismatch", "{keys:?}");
    }
    Ok(())
}

/// A request in Bob's name, from a device that his homeserver does not list, or lists with keys
/// that have not signed themselves. Alice's user accepts, and the verification ends.
#[tokio::test]
async fn a_device_without_published_keys_is_not_verified() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob) = two_phones(&homeserver).await?;
    for device in ["NOWHERE", "FORGED"] {
        let (user, forged) = (
            bob.user_id().to_owned(),
            json!({
                "user_id": bob.user_id(), "device_id": "FORGED", "algorithms": [],
                "keys": { "ed25519:FORGED": "A".repeat(43) },
                "signatures": { bob.user_id(): { "ed25519:FORGED": "A".repeat(86) } },
            }),
        );
        let _listed = lie_about_keys(&homeserver, &alice, move |answer| {
            answer["device_keys"][&user]["FORGED"] = forged.clone();
        })?;
        let mut puppet = Puppet::of(&bob, device).await?;
        puppet.device = device.to_owned();
        puppet.request(&alice).await?;
        let verification = incoming(alice.machine()?).await?;
        verification.accept().await?;
        sent_by(&alice).await?;
        assert_eq!(code_of(&verification).await?, "m.key_mismatch", "{device}");
    }
    Ok(())
}

/// In a room in clear the homeserver and each member can refer to anybody's request. Carol's word
/// moves nothing between Alice and Bob.
#[tokio::test]
async fn a_third_member_has_no_say_in_a_room() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob) = two_phones(&homeserver).await?;
    let carol = phone_of(&homeserver, "carol").await?;
    let invited = [bob.user_id(), carol.user_id()];
    let clear = json!({ "preset": "private_chat", "invite": invited });
    let room = alice.create_room_from(clear).await?;
    bob.join(&room).await?;
    carol.join(&room).await?;
    alice.settle().await?;
    let asked = alice.room(&room).await?.request_verification(bob.user_id().to_owned()).await?;
    quiet(&[&alice, &bob, &carol]).await;
    let theirs = incoming(bob.machine()?).await?;
    let history = alice.history(&room).await?;
    let request = history
        .iter()
        .find(|event| event["content"]["msgtype"] == "m.key.verification.request")
        .or_missing("the request")?;
    let refer = json!({ "rel_type": "m.reference", "event_id": request["event_id"] });
    let device = carol.device_id();
    let ready = json!({ "from_device": device, "methods": ["m.sas.v1"], "m.relates_to": refer });
    let cancel = json!({ "code": "m.user", "reason": "", "m.relates_to": refer });
    for (kind, content) in [("ready", ready), ("cancel", cancel)] {
        let path = format!(
            "/_matrix/client/v3/rooms/{room}/send/m.key.verification.{kind}/of-carol-{kind}"
        );
        carol.http().put(&path, content).await?;
    }
    quiet(&[&alice, &bob, &carol]).await;
    assert_eq!(info(&asked).await?.state, VerificationState::Requested);
    assert_eq!(info(&theirs).await?.state, VerificationState::Requested);
    assert!(carol.machine()?.verifications().await?.is_empty());
    theirs.accept().await?;
    quiet(&[&bob, &alice]).await;
    assert_eq!(info(&asked).await?.state, VerificationState::Ready);
    assert_eq!(info(&asked).await?.user_id, bob.user_id());
    Ok(())
}

/// A member of a room with MLS says in clear what counts only if it is sealed.
#[tokio::test]
async fn in_a_room_with_mls_nothing_counts_in_clear() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair(&homeserver).await;
    let content = json!({
        "msgtype": "m.key.verification.request", "body": "", "from_device": bob.device_id(),
        "methods": ["m.sas.v1"], "to": alice.user_id(),
    });
    let path = format!("/_matrix/client/v3/rooms/{room}/send/m.room.message/in-clear");
    bob.http().put(&path, content).await?;
    quiet(&[&alice, &bob]).await;
    assert!(alice.machine()?.verifications().await?.is_empty());
    Ok(())
}
