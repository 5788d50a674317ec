//! Commits and messages that a member with a client of its own sends.

use matrix_mls_kit::{
    Homeserver, OrMissing as _, Refused as _, Result,
    other::{group_of_three, name_of},
    peer::{Peer, SUITE, base64},
    together::{all_talk, phone_of, quiet},
};
use openmls::prelude::{BasicCredential, CredentialWithKey, Extensions, KeyPackage};
use serde_json::json;

use super::{error_in_sync, says};

#[tokio::test]
async fn what_a_member_seals_is_an_event_of_the_room() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, mut mallory, room, base) = group_of_three(&homeserver).await?;
    let content = mallory.message(b"not JSON", &name_of(&alice), &base);
    let event = mallory.send(&room, content).await;
    says(&error_in_sync(&alice, &event).await?, "bad_plaintext", "the plaintext is not an event");
    let moved = Peer::plaintext("!elsewhere:example.org", "moved");
    let content = mallory.message(&moved, &name_of(&alice), &base);
    let event = mallory.send(&room, content).await;
    says(&error_in_sync(&alice, &event).await?, "other_room", "another room");
    all_talk(&[&alice, &bob], &room).await;
    Ok(())
}

#[tokio::test]
async fn what_is_of_another_group_is_not_the_rooms() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, mut mallory, room, base) = group_of_three(&homeserver).await?;
    mallory.make_own_group("!elsewhere:example.org", 0);
    let commit = mallory.peer.update();
    let event = mallory.send(&room, mallory.commit(&commit, &name_of(&alice), &base)).await;
    says(
        &error_in_sync(&alice, &event).await?,
        "other_group",
        "the commit belongs to another group",
    );
    let content = mallory.message(&Peer::plaintext(&room, "hello"), &name_of(&alice), &base);
    let event = mallory.send(&room, content).await;
    let error = error_in_sync(&alice, &event).await?;
    says(&error, "other_group", "the message belongs to another group");
    all_talk(&[&alice, &bob], &room).await;
    Ok(())
}

#[tokio::test]
async fn a_commit_holds_adds_and_removes_only() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, mut mallory, room, base) = group_of_three(&homeserver).await?;
    let Peer { group, provider, signer, .. } = &mut mallory.peer;
    let group = group.as_mut().or_missing("group of Mallory")?;
    let (commit, ..) =
        group.update_group_context_extensions(provider, Extensions::empty(), signer)?;
    let commit = mallory.commit(&commit.to_bytes()?, &name_of(&alice), &base);
    let event = mallory.send(&room, commit).await;
    let error = error_in_sync(&alice, &event).await?;
    says(&error, "unexpected_proposal", "a proposal that Matrix rooms do not use");
    all_talk(&[&alice, &bob], &room).await;
    Ok(())
}

/// A commit adds what is no device of Matrix.
#[tokio::test]
async fn a_member_is_a_device() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, mut mallory, room, base) = group_of_three(&homeserver).await?;
    let nobody = Peer::new("@nobody:example.org", "X");
    let credential = CredentialWithKey {
        credential: BasicCredential::new(b"no device".to_vec()).into(),
        signature_key: nobody.signer.public().into(),
    };
    let package =
        KeyPackage::builder().build(SUITE, &nobody.provider, &nobody.signer, credential)?;
    let (commit, _) = mallory.peer.add(&[package.key_package().clone()]);
    let event = mallory.send(&room, mallory.commit(&commit, &name_of(&alice), &base)).await;
    says(
        &error_in_sync(&alice, &event).await?,
        "bad_credential",
        "does not name a Matrix user and device",
    );
    all_talk(&[&alice, &bob], &room).await;
    Ok(())
}

/// Whoever has Alice's access token sends commits in her phone's name.
#[tokio::test]
async fn a_commit_in_this_devices_name_is_this_devices() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, mut mallory, room, base) = group_of_three(&homeserver).await?;
    let commit = base64(&mallory.peer.update());
    for (state, code, sentence) in [
        (commit.clone(), "no_group_info", "no GroupInfo"),
        (base64(&mallory.peer.group_info()), "bad_signature", "not signed by the device"),
    ] {
        let mut content = mallory.commit(&[], &name_of(&bob), &base);
        content["ciphertext"] = json!(commit);
        content["sender"] = name_of(&alice);
        content["public_group_state"] = json!(state);
        let event = alice.send_unencrypted(&room, "m.room.encrypted", content).await?;
        says(&error_in_sync(&alice, &event).await?, code, sentence);
    }
    all_talk(&[&alice, &bob], &room).await;
    Ok(())
}

/// Alice's phone is brought back to what it was before it committed.
#[tokio::test]
async fn an_older_copy_does_not_know_its_own_commits() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (mut alice, bob, _mallory, room, _) = group_of_three(&homeserver).await?;
    let before = alice.back_up().await?;
    alice.rotate_keys(&room).await?;
    alice.prepare(&room).await?;
    let commit = alice.head(&room).await?.commit_event.or_missing("event of the commit")?;
    alice.restore_backup(&before).await?;
    let error = error_in_sync(&alice, &commit).await?;
    says(&error, "unknown_own_commit", "which has no memory of it");
    quiet(&[&alice, &bob]).await;
    all_talk(&[&alice, &bob], &room).await;
    Ok(())
}

/// Carol is in the room, and nobody who could add her device is online.
#[tokio::test]
async fn what_is_said_in_a_group_waits_for_the_way_in() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, _bob, mut mallory, room, base) = group_of_three(&homeserver).await?;
    let carol = phone_of(&homeserver, "carol").await?;
    alice.invite(&room, carol.user_id()).await?;
    carol.join(&room).await?;
    carol.sync().await?;
    let content = mallory.renewal(&name_of(&alice), &base);
    let event = mallory.send(&room, content).await;
    let error = error_in_sync(&carol, &event).await?;
    says(&error, "no_group_yet", "this device is not in the room's group yet");
    assert!(error.details().retryable);
    Ok(())
}

/// Mallory speaks in an epoch whose commit nobody could follow.
#[tokio::test]
async fn an_epoch_is_lost_with_its_commit() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, mut mallory, room, base) = group_of_three(&homeserver).await?;
    let mut commit = mallory.peer.update();
    let end = commit.len() - 1;
    commit[end] ^= 1;
    let event = mallory.send(&room, mallory.commit(&commit, &name_of(&alice), &base)).await;
    says(&error_in_sync(&alice, &event).await?, "forked", "the room goes on without it");
    let content = mallory.message(&Peer::plaintext(&room, "lost"), &mallory.name(), &event);
    let message = mallory.send(&room, content).await;
    quiet(&[&alice]).await;
    let read = alice.read(&room).await?;
    let read = read.into_iter().find(|read| read.event_id == message).or_missing("the message")?;
    let error = read.message.refused()?;
    says(&error, "lost_epoch", "cannot be had");
    assert!(!error.details().retryable);
    all_talk(&[&alice, &bob], &room).await;
    Ok(())
}

/// Mallory's second device has the signature key of her first. So OpenMLS has it take the place of
/// the first when it joins by itself.
#[tokio::test]
async fn who_joins_by_itself_removes_no_other_device() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, mut mallory, room, base) = group_of_three(&homeserver).await?;
    let state = mallory.peer.group_info();
    mallory.peer.device = "SECOND".to_owned();
    let (_, commit) = mallory.peer.try_join_externally(&state)?;
    let event = mallory.send(&room, mallory.commit(&commit, &name_of(&alice), &base)).await;
    let error = error_in_sync(&alice, &event).await?;
    says(&error, "removes_another", "a device that joins by itself removes another");
    assert_eq!(alice.members(&room).await?.len(), 3);
    all_talk(&[&alice, &bob], &room).await;
    Ok(())
}
