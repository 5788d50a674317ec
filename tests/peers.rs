//! The library in one room with plain OpenMLS, over a homeserver and through the public API:
//! messages and commits both ways, and what a member can do that an honest one would not.

use matrix_mls::{EventOutcome, MlsError, Update, Verdict};
use matrix_mls_kit::{
    Client, Fields as _, Heard, Homeserver, Http, OrMissing as _, Result,
    other::{Other, group_of_two, join_path, name_of},
    peer::{Peer, from_base64, identity},
};
use openmls::{
    group::{MlsGroupJoinConfig, PURE_PLAINTEXT_WIRE_FORMAT_POLICY},
    prelude::{
        BasicCredential, Capabilities, CredentialWithKey, LeafNodeParameters, OpenMlsProvider as _,
    },
};
use serde_json::{Value, json};

/// The result of the one event that a sync brings after the other has sent it.
async fn outcome(alice: &Client, event_id: &str) -> Result<EventOutcome> {
    let summary = alice.sync().await?.summary;
    let mut events = summary.rooms.into_iter().flat_map(|room| room.events);
    let event = events.find(|event| event.event_id.as_deref() == Some(event_id));
    Ok(event.or_missing("result of that event")?.outcome)
}

async fn sealed(alice: &Client, room: &str, body: &str) -> Result<Vec<u8>> {
    let content = json!({ "body": body }).to_string();
    let handle = alice.room(room).await?;
    let content = handle.encrypt("m.room.message".into(), content).await?;
    let content: Value = serde_json::from_str(&content)?;
    Ok(from_base64(content.text("ciphertext")?))
}

/// What the other opens of a message.
fn opened(other: &mut Other, ciphertext: &[u8]) -> Result<Vec<u8>> {
    other.peer.process(ciphertext).or_missing("message in what was sealed")
}

/// Both can say something and the other reads it.
async fn works(
    alice: &Client,
    other: &mut Other,
    room: &str,
    creator: &Value,
    commit: &str,
) -> Result {
    alice.prepare(room).await?;
    let ciphertext = sealed(alice, room, "still here").await?;
    let plaintext = String::from_utf8(opened(other, &ciphertext)?)?;
    assert!(plaintext.contains("still here"));
    let content = other.message(&Peer::plaintext(room, "me too"), creator, commit);
    let event = other.send(room, content).await;
    let outcome = outcome(alice, &event).await?;
    assert!(matches!(outcome, EventOutcome::Message { .. }), "{outcome:?}");
    Ok(())
}

#[tokio::test]
async fn openmls_and_the_library_read_each_other_over_commits_of_both() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, mut other, room, commit) = group_of_two(&homeserver).await?;
    let creator = name_of(&alice);
    let handle = alice.room(&room).await?;

    // Generations out of order and skipped, sizes, alphabets.
    let bodies = ["one".to_owned(), String::new(), "🙂 żółć".to_owned(), "x".repeat(30_000)];
    let mut ciphertexts = Vec::new();
    for body in &bodies {
        ciphertexts.push((body, sealed(&alice, &room, body).await?));
    }
    for _ in 0..20 {
        sealed(&alice, &room, "never delivered").await?;
    }
    ciphertexts.swap(0, 2);
    for (body, ciphertext) in &ciphertexts {
        let plaintext: Value = serde_json::from_slice(&opened(&mut other, ciphertext)?)?;
        assert_eq!(plaintext["content"]["body"], **body);
        assert_eq!(plaintext["room_id"], room);
    }
    let late = sealed(&alice, &room, "after the gap").await?;
    assert!(other.peer.process(&late).is_some());

    // The other commits; both go on in its epoch.
    let update = other.peer.update();
    let content = other.commit(&update, &creator, &commit);
    let event = other.send(&room, content).await;
    let seen = outcome(&alice, &event).await?;
    assert!(matches!(seen, EventOutcome::Commit { epoch: 2, .. }), "{seen:?}");
    let creator = other.name();
    works(&alice, &mut other, &room, &creator, &event).await?;

    // Alice commits; the other takes it in.
    handle.rotate_keys().await?;
    alice.prepare(&room).await?;
    let events = alice.history(&room).await?;
    let commit = events.iter().rev().find(|event| event["content"].get("resolves").is_some());
    let commit = commit.or_missing("commit")?;
    let bytes = from_base64(commit["content"].text("ciphertext")?);
    assert!(other.peer.process(&bytes).is_none());
    let event = commit.text("event_id")?.to_owned();
    works(&alice, &mut other, &room, &name_of(&alice), &event).await?;
    assert_eq!(other.peer.group().epoch().as_u64(), 3);

    let members = handle.members().await?;
    assert_eq!(members.len(), other.peer.group().members().count());
    let of_other = members.iter().find(|member| member.user_id == other.peer.user);
    assert_eq!(
        of_other.or_missing("the other among the members")?.verdict,
        Verdict::NotSignedByOwner
    );
    Ok(())
}

#[tokio::test]
async fn what_a_member_may_not_do_is_refused_and_the_room_goes_on() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, mut other, room, commit) = group_of_two(&homeserver).await?;
    let creator = name_of(&alice);

    let in_another_room = Peer::plaintext("!elsewhere:example.org", "moved");
    let no_event = b"not JSON".to_vec();
    // Whoever read the second type would read another event than whoever read the first.
    let twice = String::from_utf8(Peer::plaintext(&room, "twice"))?;
    let twice = twice.replacen('{', r#"{"type":"m.room.topic","#, 1).into_bytes();
    for plaintext in [in_another_room, no_event, twice] {
        let content = other.message(&plaintext, &creator, &commit);
        let event = other.send(&room, content).await;
        let seen = outcome(&alice, &event).await?;
        assert!(
            matches!(seen, EventOutcome::Failed { error: MlsError::Rejected { .. } }),
            "{seen:?}"
        );
    }

    // A message of the other's, sent again by Alice's own account: the sender does not fit.
    let content = other.message(&Peer::plaintext(&room, "mine"), &creator, &commit);
    let stolen = alice.send_unencrypted(&room, "m.room.encrypted", content).await?;
    let seen = outcome(&alice, &stolen).await?;
    assert!(
        matches!(&seen, EventOutcome::Failed { error } if error.code() == "sender_mismatch"),
        "{seen:?}"
    );

    // A commit that says it is somebody else's, one on an epoch nobody knows, one that is none.
    let mut lie = other.commit(b"", &creator, &commit);
    lie["ciphertext"] = json!("AAAA");
    lie["sender"] = json!(["@somebody:example.org", "X"]);
    let event = other.send(&room, lie).await;
    let seen = outcome(&alice, &event).await?;
    assert!(matches!(&seen, EventOutcome::Failed { error } if error.code() == "sender_mismatch"));
    let garbage = other.commit(&[0, 1, 0, 2, 3], &creator, &commit);
    let event = other.send(&room, garbage).await;
    let seen = outcome(&alice, &event).await?;
    assert!(matches!(&seen, EventOutcome::Failed { error } if error.code() == "malformed_mls"));
    let as_commit = other.peer.seal(b"a message");
    let event = other.send(&room, other.commit(&as_commit, &creator, &commit)).await;
    let seen = outcome(&alice, &event).await?;
    assert!(matches!(&seen, EventOutcome::Failed { error } if error.code() == "not_a_commit"));

    works(&alice, &mut other, &room, &creator, &commit).await
}

/// A member may frame a commit as RFC 9420 allows it: encrypted or not. What is said may not be in
/// the clear.
#[tokio::test]
async fn a_commit_in_the_clear_is_followed_and_a_message_is_not() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, mut other, room, commit) = group_of_two(&homeserver).await?;
    let creator = name_of(&alice);
    let Peer { group, provider, .. } = &mut other.peer;
    let in_the_clear =
        MlsGroupJoinConfig::builder().wire_format_policy(PURE_PLAINTEXT_WIRE_FORMAT_POLICY).build();
    let group = group.as_mut().or_missing("group of the other")?;
    group.set_configuration(provider.storage(), &in_the_clear)?;
    let content = other.renewal(&creator, &commit);
    // An MLSMessage with a PublicMessage: version 1, wire format 1.
    let bytes = from_base64(content.text("ciphertext")?);
    assert_eq!(bytes.get(..4), Some(&[0, 1, 0, 1][..]));
    let mut message = content.clone();
    message.as_object_mut().or_missing("a content")?.remove("public_group_state");
    let event = other.send(&room, message).await;
    let seen = outcome(&alice, &event).await?;
    assert!(
        matches!(&seen, EventOutcome::Failed { error } if error.code() == "bad_message"),
        "{seen:?}"
    );
    let event = other.send(&room, content).await;
    let seen = outcome(&alice, &event).await?;
    assert!(matches!(&seen, EventOutcome::Commit { .. }), "{seen:?}");
    Ok(())
}

#[tokio::test]
async fn a_commit_that_changes_more_than_members_and_keys_is_refused() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, mut other, room, commit) = group_of_two(&homeserver).await?;
    let creator = name_of(&alice);
    // Another credential in the committer's own leaf.
    let peer = &mut other.peer;
    let impostor = BasicCredential::new(identity(alice.user_id(), "ANOTHER"));
    let parameters = LeafNodeParameters::builder()
        .with_credential_with_key(CredentialWithKey {
            credential: impostor.into(),
            signature_key: peer.signer.public().into(),
        })
        .with_capabilities(Capabilities::default())
        .build();
    let group = peer.group.as_mut().or_missing("group of the other")?;
    let bundle = group.self_update(&peer.provider, &peer.signer, parameters)?;
    let bytes = bundle.into_commit().to_bytes()?;
    let event = other.send(&room, other.commit(&bytes, &creator, &commit)).await;
    let seen = outcome(&alice, &event).await?;
    assert!(
        matches!(&seen, EventOutcome::Failed { error } if error.code() == "credential_change"),
        "{seen:?}"
    );
    // The impostor drops its commit, and the room goes on as it was.
    let Peer { group, provider, .. } = &mut other.peer;
    let group = group.as_mut().or_missing("group of the other")?;
    group.clear_pending_commit(provider.storage())?;
    works(&alice, &mut other, &room, &creator, &commit).await
}

#[tokio::test]
async fn devices_that_cannot_take_part_are_reported_and_do_not_hold_up_the_room() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, mut other, room, commit) = group_of_two(&homeserver).await?;
    let (heard, _subscription) = Heard::of(&alice).await?;
    // One without an MLS credential, one whose credential has not signed, one without key packages.
    let mut people = Vec::new();
    for (name, change) in [("plain", 0), ("unsigned", 1), ("empty", 2)] {
        let (user, http) = Http::register(homeserver.base_url(), name, "X").await?;
        let mut keys = Peer::new(&user, "X").device_keys();
        let credential = "org.matrix.msc2883.v1.dmls.credential.ed25519:X";
        match change {
            0 => drop(keys.object_mut("keys")?.remove(credential)),
            1 => drop(keys["signatures"].object_mut(&user)?.remove(credential)),
            _ => {}
        }
        http.post("/_matrix/client/v3/keys/upload", json!({ "device_keys": keys })).await?;
        alice.invite(&room, &user).await?;
        http.post(&join_path(&room), json!({})).await?;
        people.push(user);
    }
    alice.settle().await?;
    works(&alice, &mut other, &room, &name_of(&alice), &commit).await?;
    assert_eq!(alice.members(&room).await?.len(), 2);
    let updates = heard.wait_for_so_many(3).await?;
    let reason = |user: &str| {
        let reason = updates.iter().find_map(|update| match update {
            Update::DeviceRejected { user_id, reason, .. } if user_id == user => {
                Some(reason.clone())
            }
            Update::DeviceUnreachable { user_id, .. } if user_id == user => Some("none".into()),
            _ => None,
        });
        reason.or_missing("report of that device")
    };
    assert!(reason(&people[0])?.contains("no MLS credential"), "{updates:?}");
    assert!(reason(&people[1])?.contains("not signed"), "{updates:?}");
    assert_eq!(reason(&people[2])?, "none", "{updates:?}");
    Ok(())
}
