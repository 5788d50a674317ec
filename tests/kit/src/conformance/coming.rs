//! Scenarios: coming into a group, and who is in it.

use serde_json::json;

use super::stage::{Meeting, Stage};
use crate::{
    Client, Fields as _, OrMissing as _, Result,
    cross_signing::CrossSigning,
    olm::bound_phone,
    other::join_path,
    peer::{ALGORITHM, KEY_PACKAGE, base64, from_base64},
};
use openmls::prelude::{KeyPackageIn, OpenMlsProvider as _, ProtocolVersion};
use tls_codec::DeserializeBytes as _;

pub async fn joins_by_welcome(stage: &Stage) -> Result {
    let mut meeting = stage.meet().await?;
    meeting.tested_reads("the first words", 1).await?;
    let commits = meeting.commits().await?.len();
    stage.equal("how many commits the client needed", &0, &commits)?;
    meeting.talk().await
}

pub async fn is_added_while_invited(stage: &Stage) -> Result {
    let alice = stage.phone("alice").await?;
    let mut tested = stage.client().await?;
    let room = alice.create_room(&[]).await?;
    alice.invite(&room, &tested.user_id).await?;
    alice.settle().await?;
    alice.enable(&room, Default::default()).await?;
    alice.send_text(&room, "before you came").await?;
    alice.settle().await?;
    // The Welcome comes before the room does.
    tested.settle().await?;
    tested.does(&format!("join {room}")).await?;
    let mut meeting = Meeting { stage, alice, tested, room, rounds: 0 };
    meeting.quiet().await?;
    meeting.tested_reads("before you came", 1).await?;
    meeting.talk().await
}

pub async fn begins_a_group(stage: &Stage) -> Result {
    let alice = stage.phone("alice").await?;
    let mut tested = stage.client().await?;
    let made = tested.does(&format!("create-room {}", alice.user_id())).await?;
    let room = made.room.or_missing("line `room` of `create-room`")?;
    alice.join(&room).await?;
    tested.settle().await?;
    tested.does(&format!("enable {room}")).await?;
    tested.says(&room, "words of a founder").await?;
    alice.settle().await?;
    let mut meeting = Meeting { stage, alice, tested, room, rounds: 0 };
    let encryption = format!(
        "/_matrix/client/v3/rooms/{}/state/m.room.encryption/",
        crate::http::segment(&meeting.room)
    );
    let encryption = meeting.alice.http().get(&encryption).await?;
    stage.equal("the room's algorithm", &json!(ALGORITHM), &encryption["algorithm"])?;
    let commits = meeting.commits().await?;
    let first = &commits.first().or_missing("announcement of the client's")?["content"];
    stage.equal("the ciphertext of its first commit", &json!(""), &first["ciphertext"])?;
    let history = meeting.alice.history(&meeting.room).await?;
    let create = history.iter().find(|event| event["type"] == "m.room.create");
    let create = &create.or_missing("m.room.create")?["event_id"];
    stage.equal("`commit_event` of the announcement", create, &first["commit_event"])?;
    meeting.is_read(&meeting.alice, "words of a founder", true).await?;
    meeting.talk().await
}

pub async fn joins_externally(stage: &Stage) -> Result {
    let alice = stage.phone("alice").await?;
    let bob = stage.phone("bob").await?;
    let room = alice.create_group(&[&bob], Default::default()).await?;
    alice.send_text(&room, "among two").await?;
    alice.settle().await?;
    bob.settle().await?;
    let mut tested = stage.client().await?;
    alice.invite(&room, &tested.user_id).await?;
    tested.does(&format!("join {room}")).await?;
    // Nobody else is about.
    tested.says(&room, "by myself").await?;
    let mut meeting = Meeting { stage, alice, tested, room, rounds: 0 };
    external_commit(&meeting).await?;
    meeting.quiet().await?;
    meeting.is_read(&meeting.alice, "by myself", true).await?;
    meeting.tested_reads("among two", 0).await?;
    meeting.talk().await?;
    bob.settle().await?;
    meeting.is_read(&bob, &format!("tested {}", meeting.rounds), true).await
}

/// That the client has made an external commit.
async fn external_commit(meeting: &Meeting<'_>) -> Result {
    let commits = meeting.commits().await?;
    let external = commits.iter().filter(|event| {
        // An MLSMessage with a PublicMessage: version 1, wire format 1.
        let bytes = event["content"]["ciphertext"].as_str().map(from_base64);
        bytes.is_some_and(|bytes| bytes.starts_with(&[0, 1, 0, 1]))
    });
    let external = external.count();
    let expected = "at least one";
    meeting.stage.holds("the client's external commits", expected, external, external > 0)
}

/// A device of plain OpenMLS makes the group and adds the client, whose Welcome is lost.
pub async fn loses_its_welcome(stage: &Stage) -> Result {
    let mut mallory = stage.liar("mallory").await;
    let mut tested = stage.client().await?;
    let request = json!({
        "preset": "private_chat", "invite": [tested.user_id],
        "initial_state": [{
            "type": "m.room.encryption", "state_key": "", "content": { "algorithm": ALGORITHM },
        }],
    });
    let room = mallory.http.post("/_matrix/client/v3/createRoom", request).await?;
    let room = room.text("room_id")?.to_owned();
    tested.does(&format!("join {room}")).await?;
    let messages = format!(
        "/_matrix/client/v3/rooms/{}/messages?dir=f&limit=100",
        crate::http::segment(&room)
    );
    let history = mallory.http.get(&messages).await?;
    let create = history["chunk"][0]["event_id"].clone();
    mallory.peer.create(&room, true);
    let state = mallory.peer.group_info();
    let mut content = mallory.announcement(&state);
    content["commit_event"] = create;
    let announcement = mallory.send(&room, content).await;
    let asked = json!({ "one_time_keys": { &tested.user_id: { &tested.device_id: KEY_PACKAGE } } });
    let answer = mallory.http.post("/_matrix/client/v3/keys/claim", asked).await?;
    let keys = answer["one_time_keys"][&tested.user_id][&tested.device_id].as_object();
    let package = keys.and_then(|keys| keys.values().next()).and_then(|key| key.as_str());
    let bytes = from_base64(package.or_missing("key package of the client's")?);
    let package = KeyPackageIn::tls_deserialize_exact_bytes(&bytes)?;
    let package = package.validate(mallory.peer.provider.crypto(), ProtocolVersion::Mls10)?;
    let (commit, _) = mallory.peer.add(&[package]);
    let mut content = mallory.commit(&commit, &mallory.name(), &announcement);
    content["public_group_state"] = json!(base64(&mallory.peer.group_info()));
    let added = mallory.send(&room, content).await;
    tested.says(&room, "though nobody let me in").await?;
    // Plain OpenMLS takes in what the client has sent since, in its order.
    let history = mallory.http.get(&messages).await?;
    let events = history["chunk"].as_array().cloned().unwrap_or_default();
    let since = events.iter().skip_while(|event| event["event_id"] != *added).skip(1);
    let mut read = Vec::new();
    for event in since.filter(|event| event["type"] == "m.room.encrypted") {
        let bytes = from_base64(event["content"].text("ciphertext")?);
        if let Some(plaintext) = mallory.peer.process(&bytes) {
            let plaintext: serde_json::Value = serde_json::from_slice(&plaintext)?;
            read.push(plaintext["content"]["body"].clone());
        }
    }
    stage.equal("what OpenMLS reads", &vec![json!("though nobody let me in")], &read)?;
    let leaves = mallory.peer.group().members().count();
    stage.equal("the leaves after it joined by itself", &2, &leaves)
}

pub async fn adds_a_device(stage: &Stage) -> Result {
    let mut meeting = stage.meet().await?;
    let carol = stage.phone("carol").await?;
    meeting.alice.invite(&meeting.room, carol.user_id()).await?;
    carol.join(&meeting.room).await?;
    meeting.tested_says("welcome, carol").await?;
    carol.settle().await?;
    meeting.is_read(&carol, "welcome, carol", true).await?;
    meeting.is_read(&carol, "the first words", false).await?;
    meeting.quiet().await?;
    meeting.talk().await
}

pub async fn removes_a_device(stage: &Stage) -> Result {
    let mut meeting = stage.meet().await?;
    let room = meeting.room.clone();
    let carol = stage.phone("carol").await?;
    let laptop = stage.log_in("alice", "LAPTOP").await?;
    meeting.alice.invite(&room, carol.user_id()).await?;
    carol.join(&room).await?;
    meeting.tested_says("for all").await?;
    for other in [&carol, &laptop] {
        other.settle().await?;
        meeting.is_read(other, "for all", true).await?;
    }
    // A user is put out, and a device logs out.
    meeting.alice.kick(&room, carol.user_id()).await?;
    let name = format!("{}|LAPTOP", laptop.user_id());
    laptop.log_out().await?;
    meeting.tested_says("for fewer").await?;
    meeting.is_read(&meeting.alice, "for fewer", true).await?;
    let members = meeting.tested.does(&format!("look {room}")).await?.members;
    let gone = [name, format!("{}|{}", carol.user_id(), carol.device_id())];
    let none = gone.iter().all(|gone| !members.contains(gone));
    stage.holds("the members", &format!("none of {gone:?}"), &members, none)?;
    meeting.quiet().await?;
    meeting.talk().await
}

pub async fn renews_its_keys(stage: &Stage) -> Result {
    let mut meeting = stage.meet().await?;
    meeting.talk().await?;
    let before = meeting.alice.head(&meeting.room).await?;
    let commits = meeting.commits().await?.len();
    meeting.tested.does(&format!("rotate {}", meeting.room)).await?;
    meeting.quiet().await?;
    let made = meeting.commits().await?.len() - commits;
    stage.equal("how many commits `rotate` makes", &1, &made)?;
    let after = meeting.alice.head(&meeting.room).await?;
    stage.equal("the number of the partner's head", &(before.epoch + 1), &after.epoch)?;
    meeting.talk().await
}

pub async fn renews_after_a_hundred(stage: &Stage) -> Result {
    let mut meeting = stage.meet().await?;
    meeting.talk().await?;
    let before = meeting.commits().await?.len();
    for number in 0..=100 {
        meeting.tested.does(&format!("send {} number {number}", meeting.room)).await?;
    }
    let made = meeting.commits().await?.len() - before;
    stage.holds("the client's commits in 101 messages", "at least one", made, made > 0)?;
    meeting.quiet().await?;
    meeting.is_read(&meeting.alice, "number 100", true).await?;
    meeting.talk().await
}

pub async fn takes_a_binding(stage: &Stage) -> Result {
    let mut meeting = stage.meet().await?;
    let (carol, _olm) = bound_phone(&stage.homeserver, &stage.name("carol")).await?;
    meeting.alice.invite(&meeting.room, carol.user_id()).await?;
    carol.join(&meeting.room).await?;
    meeting.tested_says("to a device beside Olm").await?;
    carol.settle().await?;
    meeting.is_read(&carol, "to a device beside Olm", true).await?;
    carol.send_text(&meeting.room, "from a device beside Olm").await?;
    meeting.quiet().await?;
    meeting.tested_reads("from a device beside Olm", 1).await?;
    meeting.talk().await
}

pub async fn leaves_out_what_the_owner_has_not_signed(stage: &Stage) -> Result {
    let mut meeting = stage.meet().await?;
    // Alice has an identity now, which has signed her phone and not the laptop.
    CrossSigning::bootstrap(&meeting.alice).await?;
    let laptop = stage.log_in("alice", "LAPTOP").await?;
    meeting.tested_says("for the phone").await?;
    meeting.quiet().await?;
    meeting.is_read(&meeting.alice, "for the phone", true).await?;
    laptop.settle().await?;
    meeting.is_read(&laptop, "for the phone", false).await?;
    meeting.talk().await
}

pub async fn keeps_to_the_first_key(stage: &Stage) -> Result {
    let (mut meeting, bob, _) = stage.meet_with_liar().await?;
    meeting.talk().await?;
    // The device is listed under the same name with other keys from now on.
    let (user, device) = (bob.peer.user.clone(), bob.peer.device.clone());
    bob.http.post("/_matrix/client/v3/logout", json!({})).await?;
    meeting.tested.settle().await?;
    let ghost = crate::peer::Peer::new(&user, &device);
    let login = json!({
        "type": "m.login.password", "device_id": device, "password": "p",
        "identifier": { "type": "m.id.user", "user": stage.name("mallory") },
    });
    let http = crate::Http::new(stage.homeserver.base_url(), "the ghost")?;
    let answer = http.post("/_matrix/client/v3/login", login).await?;
    let http = http.with_token(answer.text("access_token")?);
    let (id, package) = ghost.published_key_package();
    let upload = json!({ "device_keys": ghost.device_keys(), "one_time_keys": { id: package } });
    http.post("/_matrix/client/v3/keys/upload", upload).await?;
    meeting.tested_says("not for other keys").await?;
    meeting.is_read(&meeting.alice, "not for other keys", true).await?;
    let sync = http.get("/_matrix/client/v3/sync?timeout=0").await?;
    let inbox = sync["to_device"]["events"].as_array().cloned().unwrap_or_default();
    let senders: Vec<&serde_json::Value> = inbox.iter().map(|event| &event["sender"]).collect();
    let none = !senders.contains(&&json!(meeting.tested.user_id));
    stage.holds("who has sent the other keys something", "not the client", senders, none)?;
    let members = meeting.tested.does(&format!("look {}", meeting.room)).await?.members;
    let is_out = !members.contains(&format!("{user}|{device}"));
    stage.holds("the members", "that the device is not among them", &members, is_out)?;
    meeting.talk().await
}

pub async fn large_tree(stage: &Stage) -> Result {
    let mut meeting = stage.meet_in_a_crowd().await?;
    // Whole, or as what differs from one that is there.
    let by_media = |events: &[serde_json::Value]| {
        let names = |event: &&serde_json::Value| {
            ["ratchet_tree", "tree_difference"].iter().any(|it| event["content"][it].is_object())
        };
        events.iter().filter(names).count()
    };
    let uploaded = by_media(&meeting.alice.history(&meeting.room).await?);
    stage.holds(
        "the partner's commits that name a tree in the media repository",
        "some",
        uploaded,
        uploaded > 0,
    )?;
    meeting.tested_reads("the first words", 1).await?;
    // It adds somebody, who needs its own tree.
    let carol: Client = stage.phone("carol").await?;
    meeting.alice.invite(&meeting.room, carol.user_id()).await?;
    carol.join(&meeting.room).await?;
    meeting.tested_says("welcome, carol").await?;
    carol.settle().await?;
    meeting.is_read(&carol, "welcome, carol", true).await?;
    let own = by_media(&meeting.commits().await?);
    stage.holds(
        "the client's commits that name a tree in the media repository",
        "some",
        own,
        own > 0,
    )?;
    meeting.quiet().await?;
    meeting.talk().await
}

/// A device of plain OpenMLS joins the Matrix room and is welcomed by the client: what it sends is
/// read by something that is not the library.
pub async fn is_read_by_openmls(stage: &Stage) -> Result {
    let mut meeting = stage.meet().await?;
    let mut other = stage.liar("other").await;
    meeting.alice.invite(&meeting.room, &other.peer.user).await?;
    other.http.post(&join_path(&meeting.room), json!({})).await?;
    meeting.tested_says("to plain OpenMLS").await?;
    let commit = other.join_by_welcome().await;
    let sent = meeting.sent().await?;
    let message = sent.iter().rfind(|event| !crate::is_commit(event)).or_missing("message")?;
    stage.equal(
        "`commit_event` of message and Welcome",
        &json!(commit),
        &message["content"]["commit_event"],
    )?;
    let opened = other.peer.process(&from_base64(message["content"].text("ciphertext")?));
    let plaintext: serde_json::Value = serde_json::from_slice(&opened.or_missing("plaintext")?)?;
    let fits = crate::schema::fits("plaintext", &plaintext);
    stage.holds("the plaintext", "what fits the schema", &fits, fits.is_ok())?;
    stage.equal("its text", &json!("to plain OpenMLS"), &plaintext["content"]["body"])?;
    stage.equal("its room", &json!(meeting.room), &plaintext["room_id"])?;
    let creator = meeting.tested.json();
    stage.equal("`epoch_creator`", &creator, &message["content"]["epoch_creator"])?;
    let text = crate::peer::Peer::plaintext(&meeting.room, "from plain OpenMLS");
    let content = other.message(&text, &creator, &commit);
    other.send(&meeting.room, content).await;
    meeting.quiet().await?;
    meeting.tested_reads("from plain OpenMLS", 1).await?;
    meeting.talk().await
}
