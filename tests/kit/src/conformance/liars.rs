//! Scenarios: members and strangers who lie. Theirs is a device of plain OpenMLS.

use openmls::prelude::{
    BasicCredential, Capabilities, CredentialWithKey, KeyPackageIn, LeafNodeParameters,
    OpenMlsProvider as _, ProtocolVersion,
};
use serde_json::{Value, json};
use tls_codec::DeserializeBytes as _;

use super::{
    keys,
    stage::{Meeting, Stage},
};
use crate::{
    OrMissing as _, Result,
    other::{Other, join_path, name_of},
    peer::{ALGORITHM, Peer, WELCOME_ALGORITHM, base64, from_base64, identity},
};

/// Sends the client's device something.
async fn send_to_device(from: &Other, meeting: &Meeting<'_>, content: &Value) -> Result {
    let (user, device) = (&meeting.tested.user_id, &meeting.tested.device_id);
    let messages = json!({ "messages": { user: { device: content } } });
    let number: u64 = rand::random();
    let path = format!("/_matrix/client/v3/sendToDevice/m.room.encrypted/{number}");
    from.http.put(&path, messages).await?;
    Ok(())
}

/// A Welcome to a group of a liar's own under a room's id, whose epochs go on from a number.
async fn welcome_to_own_group(
    mallory: &mut Other,
    meeting: &Meeting<'_>,
    room: &str,
    number: u64,
    commit_event: &str,
) -> Result {
    mallory.make_own_group(room, number);
    let (_, package) =
        keys::claim(&meeting.alice, &meeting.tested).await?.or_missing("key package")?;
    let bytes = from_base64(package.as_str().unwrap_or_default());
    let package = KeyPackageIn::tls_deserialize_exact_bytes(&bytes)?;
    let package = package.validate(mallory.peer.provider.crypto(), ProtocolVersion::Mls10)?;
    let (_, welcome) = mallory.peer.add(&[package]);
    let content = json!({
        "algorithm": WELCOME_ALGORITHM, "ciphertext": base64(&welcome), "room_id": room,
        "sender": mallory.name(), "resolves": [], "commit_event": commit_event,
    });
    send_to_device(mallory, meeting, &content).await
}

pub async fn refuses_a_made_up_number(stage: &Stage) -> Result {
    let (mut meeting, mut mallory, at) = stage.meet_with_liar().await?;
    let room = meeting.room.clone();
    // A good commit beside a number that nobody takes is followed, and nobody goes by the number.
    let mut content = mallory.renewal(&name_of(&meeting.alice), &at);
    let number = mallory.peer.group().epoch().as_u64();
    let forged = mallory.peer.forged_group_info(number + 7);
    content["public_group_state"] = json!(base64(&forged));
    mallory.send(&room, content).await;
    meeting.quiet().await?;
    let seen = meeting.tested.head(&room).await?.0;
    stage.equal("the number of the epoch that the commit leads to", &number, &seen)?;
    // Groups of her own that go on from numbers of her own are none.
    for number in [number + 7, 1 << 40] {
        mallory.make_own_group(&room, number);
        let state = mallory.peer.group_info();
        let content = mallory.announcement(&state);
        mallory.send(&room, content).await;
    }
    welcome_to_own_group(&mut mallory, &meeting, &room, 1 << 40, "$none:example.org").await?;
    meeting.quiet().await?;
    meeting.talk().await?;
    let seen = meeting.tested.head(&room).await?.0;
    let expected = format!("below {}", number + 7);
    stage.holds("the number of its head", &expected, seen, seen < number + 7)
}

pub async fn is_led_away_by_no_group_of_a_members_own(stage: &Stage) -> Result {
    let (mut meeting, mut mallory, _) = stage.meet_with_liar().await?;
    let room = meeting.room.clone();
    let number = meeting.tested.head(&room).await?.0;
    welcome_to_own_group(&mut mallory, &meeting, &room, number + 40, "$none:example.org").await?;
    meeting.quiet().await?;
    meeting.talk().await?;
    let seen = meeting.tested.head(&room).await?.0;
    let expected = format!("below {}", number + 40);
    stage.holds("the number of its head", &expected, seen, seen < number + 40)
}

pub async fn takes_no_welcome_for_a_commit(stage: &Stage) -> Result {
    let (mut meeting, mut mallory, _) = stage.meet_with_liar().await?;
    meeting.talk().await?;
    let room = meeting.room.clone();
    meeting.alice.rotate_keys(&room).await?;
    meeting.alice.send_text(&room, "in an epoch whose event is taken").await?;
    let head = meeting.alice.head(&room).await?;
    let commit = head.commit_event.or_missing("event of the commit")?;
    welcome_to_own_group(&mut mallory, &meeting, &room, 0, &commit).await?;
    meeting.quiet().await?;
    meeting.tested_reads("in an epoch whose event is taken", 1).await?;
    meeting.talk().await
}

pub async fn takes_no_strangers_welcome(stage: &Stage) -> Result {
    let mut meeting = stage.meet().await?;
    meeting.talk().await?;
    let mut stranger = stage.liar("stranger").await;
    let room = meeting.room.clone();
    let number = meeting.tested.head(&room).await?.0;
    let commit = meeting.alice.head(&room).await?.commit_event.unwrap_or_default();
    welcome_to_own_group(&mut stranger, &meeting, &room, number + 9, &commit).await?;
    meeting.quiet().await?;
    meeting.talk().await?;
    let seen = meeting.tested.head(&room).await?.0;
    let expected = format!("below {}", number + 9);
    stage.holds("the number of its head", &expected, seen, seen < number + 9)
}

pub async fn makes_no_room_one_of_this_protocol(stage: &Stage) -> Result {
    let (mut meeting, mut mallory, _) = stage.meet_with_liar().await?;
    let invite = [&meeting.tested.user_id, &mallory.peer.user];
    let request = json!({ "preset": "private_chat", "invite": invite });
    let plain = meeting.alice.create_room_from(request).await?;
    meeting.tested.does(&format!("join {plain}")).await?;
    mallory.http.post(&join_path(&plain), json!({})).await?;
    welcome_to_own_group(&mut mallory, &meeting, &plain, 0, "$none:example.org").await?;
    let state = mallory.peer.group_info();
    let content = mallory.announcement(&state);
    mallory.send(&plain, content).await;
    meeting.quiet().await?;
    let sent = meeting.tested.tries(&format!("send {plain} in a room without encryption")).await?;
    stage.equal("whether the client sends there", &false, &sent.is_some())?;
    let history = meeting.alice.history(&plain).await?;
    let own = history.iter().filter(|event| {
        event["sender"] == *meeting.tested.user_id && event["type"] != "m.room.member"
    });
    stage.equal("what it has sent there", &0, &own.count())?;
    meeting.talk().await
}

pub async fn refuses_a_message_sealed_again(stage: &Stage) -> Result {
    let (mut meeting, mut mallory, at) = stage.meet_with_liar().await?;
    let room = meeting.room.clone();
    let creator = name_of(&meeting.alice);
    for (generation, times) in [(0, 1), (7, 0), (2, 1)] {
        let text = format!("generation {generation}");
        let mut plaintext: Value = serde_json::from_slice(&Peer::plaintext(&room, &text))?;
        plaintext["generation"] = json!(generation);
        let content = mallory.message(plaintext.to_string().as_bytes(), &creator, &at);
        mallory.send(&room, content.clone()).await;
        // And once more in a second event.
        mallory.send(&room, content).await;
        meeting.quiet().await?;
        meeting.tested_reads(&text, times).await?;
    }
    // Another member sends it as his own; and one is of another room.
    let text = Peer::plaintext(&room, "whose is it");
    let content = mallory.message(&text, &creator, &at);
    meeting.alice.send_unencrypted(&room, "m.room.encrypted", content).await?;
    let text = Peer::plaintext("!another:example.org", "of another room");
    let content = mallory.message(&text, &creator, &at);
    mallory.send(&room, content).await;
    meeting.quiet().await?;
    meeting.tested_reads("whose is it", 0).await?;
    meeting.tested_reads("of another room", 0).await?;
    // The client's own message in a second event is none either.
    meeting.tested_says("said once").await?;
    let own = meeting.sent().await?.pop().or_missing("message")?;
    mallory.send(&room, own["content"].clone()).await;
    meeting.quiet().await?;
    meeting.tested_reads("said once", 1).await?;
    meeting.talk().await
}

pub async fn refuses_an_impostor(stage: &Stage) -> Result {
    let (mut meeting, mut mallory, at) = stage.meet_with_liar().await?;
    let room = meeting.room.clone();
    let mut ghost = Peer::new(meeting.alice.user_id(), meeting.alice.device_id());
    let (commit, welcome) = mallory.peer.add(&[ghost.key_package()]);
    ghost.join(&welcome);
    let mut content = mallory.commit(&commit, &name_of(&meeting.alice), &at);
    content["public_group_state"] = json!(base64(&mallory.peer.group_info()));
    let event = mallory.send(&room, content).await;
    meeting.tested.settle().await?;
    // The homeserver shows what the impostor says as Alice's.
    let sealed = ghost.seal(&Peer::plaintext(&room, "not alice"));
    let content = json!({
        "algorithm": ALGORITHM, "ciphertext": base64(&sealed), "epoch_creator": mallory.name(),
        "commit_event": event,
    });
    meeting.alice.send_unencrypted(&room, "m.room.encrypted", content).await?;
    meeting.tested.settle().await?;
    meeting.tested_reads("not alice", 0).await?;
    let before = meeting.sent().await?.len();
    meeting.tested_says("not for the impostor").await?;
    let sent = meeting.sent().await?;
    let since = sent.get(before..).unwrap_or_default();
    let commits: Vec<&Value> = since
        .iter()
        .filter(|event| crate::is_commit(event))
        .map(|event| &event["content"]["commit_event"])
        .collect();
    let follows = commits.first() == Some(&&json!(event));
    stage.holds("its first commit since", &format!("one on {event}"), &commits, follows)?;
    let message = since.iter().find(|event| !crate::is_commit(event)).or_missing("message")?;
    let in_own = message["content"]["commit_event"] != *event;
    let seen = &message["content"]["commit_event"];
    stage.holds(
        "the epoch of its message",
        &format!("another than that of {event}"),
        seen,
        in_own,
    )?;
    let sealed = from_base64(message["content"]["ciphertext"].as_str().unwrap_or_default());
    // The impostor follows what a member can follow.
    let commit = since.iter().find(|event| crate::is_commit(event)).or_missing("commit")?;
    let commit = from_base64(commit["content"]["ciphertext"].as_str().unwrap_or_default());
    ghost.process(&commit);
    let is_active = ghost.group().is_active();
    stage.equal("whether the impostor is still in the group", &false, &is_active)?;
    stage.holds("the message", "some bytes", sealed.len(), !sealed.is_empty())?;
    meeting.quiet().await?;
    meeting.is_read(&meeting.alice, "not for the impostor", true).await?;
    meeting.talk().await
}

pub async fn refuses_a_commit_in_anothers_name(stage: &Stage) -> Result {
    let (mut meeting, mut mallory, at) = stage.meet_with_liar().await?;
    meeting.quiet().await?;
    let room = meeting.room.clone();
    let head = meeting.tested.head(&room).await?.1;
    let commit = mallory.renewal(&name_of(&meeting.alice), &at);
    let names = [name_of(&meeting.alice), json!([mallory.peer.user, "ELSE"]), json!("mallory")];
    for name in names {
        let mut content = commit.clone();
        content["sender"] = name.clone();
        mallory.send(&room, content).await;
        meeting.quiet().await?;
        meeting.head_is(&format!("its head beside a commit in the name of {name}"), &head).await?;
    }
    meeting.talk().await
}

pub async fn refuses_what_a_commit_may_not_change(stage: &Stage) -> Result {
    let (mut meeting, mut mallory, at) = stage.meet_with_liar().await?;
    meeting.quiet().await?;
    let room = meeting.room.clone();
    let creator = name_of(&meeting.alice);
    let head = meeting.tested.head(&room).await?.1;
    // Another credential in the committer's own leaf.
    let another = BasicCredential::new(identity(meeting.alice.user_id(), "ANOTHER"));
    let parameters = LeafNodeParameters::builder()
        .with_credential_with_key(CredentialWithKey {
            credential: another.into(),
            signature_key: mallory.peer.signer.public().into(),
        })
        .with_capabilities(Capabilities::default())
        .build();
    let Peer { group, provider, signer, .. } = &mut mallory.peer;
    let group = group.as_mut().or_missing("group")?;
    let commit = group.self_update(provider, signer, parameters)?.into_commit().to_bytes()?;
    group.clear_pending_commit(provider.storage())?;
    // A proposal that stands alone.
    let proposal =
        group.propose_self_update(provider, signer, LeafNodeParameters::default())?.0.to_bytes()?;
    group.clear_pending_proposals(provider.storage())?;
    for bytes in [commit, proposal] {
        let mut content = mallory.commit(&bytes, &creator, &at);
        content["public_group_state"] = json!(base64(&mallory.peer.group_info()));
        mallory.send(&room, content).await;
        meeting.quiet().await?;
        meeting.head_is("its head beside a commit that may not be", &head).await?;
    }
    meeting.talk().await
}

pub async fn passes_over_garbage(stage: &Stage) -> Result {
    let (mut meeting, mut mallory, at) = stage.meet_with_liar().await?;
    let room = meeting.room.clone();
    let creator = name_of(&meeting.alice);
    let good = mallory.message(&Peer::plaintext(&room, "good"), &creator, &at);
    let commit = mallory.renewal(&creator, &at);
    for base in [good, commit] {
        for (field, value) in [
            ("ciphertext", json!("AAAA")),
            ("ciphertext", json!("not base64 …")),
            ("ciphertext", json!({ "url": "mxc://none/none", "size": 1, "sha256": "AA" })),
            ("ciphertext", json!({ "url": 7 })),
            ("epoch_creator", json!([1, 2, 3])),
            ("commit_event", Value::Null),
            ("resolves", json!({ "a": "b" })),
            ("public_group_state", json!("AAAA")),
            ("sender", json!([])),
            ("algorithm", json!(7)),
        ] {
            let mut content = base.clone();
            content[field] = value;
            mallory.send(&room, content).await;
        }
    }
    for content in [
        json!({}),
        json!({ "algorithm": WELCOME_ALGORITHM }),
        json!({ "algorithm": WELCOME_ALGORITHM, "ciphertext": "AAAA", "room_id": room,
            "sender": mallory.name(), "resolves": [], "commit_event": at }),
        json!({ "algorithm": ALGORITHM, "ciphertext": ["x"] }),
        json!({ "algorithm": "m.megolm.v1.aes-sha2", "ciphertext": "x" }),
    ] {
        send_to_device(&mallory, &meeting, &content).await?;
    }
    meeting.quiet().await?;
    meeting.tested_reads("the first words", 1).await?;
    meeting.talk().await
}

pub async fn reads_edits_of_nothing(stage: &Stage) -> Result {
    let mut meeting = stage.meet().await?;
    let room = meeting.room.clone();
    // A homeserver refuses what relates to an event that never was.
    let gone = meeting.alice.send_text(&room, "soon gone").await?;
    meeting.redact(&gone).await?;
    for (relation, text) in [
        (json!({ "rel_type": "m.replace", "event_id": gone }), "an edit of nothing"),
        (json!({ "m.in_reply_to": { "event_id": gone } }), "an answer to nothing"),
        (json!({ "rel_type": "m.thread", "event_id": gone }), "a thread of nothing"),
    ] {
        let content = json!({
            "msgtype": "m.text", "body": text, "m.relates_to": relation,
            "m.new_content": { "msgtype": "m.text", "body": text },
        });
        meeting.alice.send(&room, "m.room.message", content).await?;
        meeting.quiet().await?;
        meeting.tested_reads(text, 1).await?;
    }
    meeting.tested_reads("soon gone", 0).await?;
    meeting.talk().await
}
