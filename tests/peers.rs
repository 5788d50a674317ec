//! The library in one room with plain OpenMLS, over a homeserver and through the public API: messages
//! and commits both ways, and what a member can do that an honest one would not.

use matrix_mls::{DeviceTrust, EventOutcome, MlsError, RoomSettings, Update, UpdateObserver};
use matrix_mls_kit::{
    Client, Homeserver, Http,
    other::{Other, join_path},
    peer::{Peer, from_base64},
};
use openmls::prelude::Capabilities;
use serde_json::{Value, json};

/// Alice with the library and the other without, in one group that Alice made.
async fn group(homeserver: &Homeserver) -> (Client, Other, String, String) {
    let alice = Client::register(homeserver, "alice", "PHONE").await.unwrap();
    alice.settle().await.unwrap();
    let mut other = Other::register(homeserver, "other").await;
    let request = json!({ "preset": "private_chat", "invite": [other.peer.user] });
    let room = alice.create_room_from(request).await.unwrap();
    other.http.post(&join_path(&room), json!({})).await.unwrap();
    alice.settle().await.unwrap();
    alice.room(&room).await.unwrap().enable(RoomSettings::default()).await.unwrap();
    alice.settle().await.unwrap();
    alice.prepare(&room).await.unwrap();
    let commit_event = other.join_by_welcome().await;
    alice.settle().await.unwrap();
    (alice, other, room, commit_event)
}

fn alices_name(alice: &Client) -> Value {
    json!([alice.user_id(), alice.device_id()])
}

/// The result of the one event that a sync brings after the other has sent it.
async fn outcome(alice: &Client, event_id: &str) -> EventOutcome {
    let summary = alice.sync().await.unwrap().summary;
    let mut events = summary.rooms.into_iter().flat_map(|room| room.events);
    events.find(|event| event.event_id.as_deref() == Some(event_id)).unwrap().outcome
}

async fn sealed(alice: &Client, room: &str, body: &str) -> Vec<u8> {
    let content = json!({ "body": body }).to_string();
    let handle = alice.room(room).await.unwrap();
    let content = handle.encrypt("m.room.message".into(), content).await.unwrap();
    let content: Value = serde_json::from_str(&content).unwrap();
    from_base64(content["ciphertext"].as_str().unwrap())
}

/// Both can say something and the other reads it.
async fn works(alice: &Client, other: &mut Other, room: &str, creator: &Value, commit: &str) {
    alice.prepare(room).await.unwrap();
    let ciphertext = sealed(alice, room, "still here").await;
    let plaintext = String::from_utf8(other.peer.process(&ciphertext).unwrap()).unwrap();
    assert!(plaintext.contains("still here"));
    let content = other.message(&Peer::plaintext(room, "me too"), creator, commit);
    let event = other.send(room, content).await;
    let outcome = outcome(alice, &event).await;
    assert!(matches!(outcome, EventOutcome::Message { .. }), "{outcome:?}");
}

#[tokio::test]
async fn openmls_and_the_library_read_each_other_over_commits_of_both() {
    let homeserver = Homeserver::embedded().unwrap();
    let (alice, mut other, room, commit) = group(&homeserver).await;
    let creator = alices_name(&alice);
    let handle = alice.room(&room).await.unwrap();

    // Generations out of order and skipped, sizes, alphabets.
    let bodies = ["one".to_owned(), String::new(), "🙂 żółć".to_owned(), "x".repeat(30_000)];
    let mut ciphertexts = Vec::new();
    for body in &bodies {
        ciphertexts.push((body, sealed(&alice, &room, body).await));
    }
    for _ in 0..20 {
        sealed(&alice, &room, "never delivered").await;
    }
    ciphertexts.swap(0, 2);
    for (body, ciphertext) in &ciphertexts {
        let plaintext = other.peer.process(ciphertext).unwrap();
        let plaintext: Value = serde_json::from_slice(&plaintext).unwrap();
        assert_eq!(plaintext["content"]["body"], **body);
        assert_eq!(plaintext["room_id"], room);
    }
    let late = sealed(&alice, &room, "after the gap").await;
    assert!(other.peer.process(&late).is_some());

    // The other commits; both go on in its epoch.
    let update = other.peer.update();
    let content = other.commit(&update, &creator, &commit);
    let event = other.send(&room, content).await;
    let seen = outcome(&alice, &event).await;
    assert!(matches!(seen, EventOutcome::Commit { epoch: 2, .. }), "{seen:?}");
    let creator = other.name();
    works(&alice, &mut other, &room, &creator, &event).await;

    // Alice commits; the other takes it in.
    handle.rotate_keys().await.unwrap();
    alice.prepare(&room).await.unwrap();
    let events = alice.history(&room).await.unwrap();
    let commit = events.iter().rev().find(|event| event["content"].get("resolves").is_some());
    let commit = commit.unwrap();
    let bytes = from_base64(commit["content"]["ciphertext"].as_str().unwrap());
    assert!(other.peer.process(&bytes).is_none());
    let event = commit["event_id"].as_str().unwrap().to_owned();
    works(&alice, &mut other, &room, &alices_name(&alice), &event).await;
    assert_eq!(other.peer.group().epoch().as_u64(), 3);

    let members = handle.members().await.unwrap();
    assert_eq!(members.len(), other.peer.group().members().count());
    let of_other = members.iter().find(|member| member.user_id == other.peer.user).unwrap();
    assert_eq!(of_other.trust, DeviceTrust::Signed);
}

#[tokio::test]
async fn what_a_member_may_not_do_is_refused_and_the_room_goes_on() {
    let homeserver = Homeserver::embedded().unwrap();
    let (alice, mut other, room, commit) = group(&homeserver).await;
    let creator = alices_name(&alice);

    let in_another_room = Peer::plaintext("!elsewhere:example.org", "moved");
    let no_event = b"not JSON".to_vec();
    for plaintext in [in_another_room, no_event] {
        let content = other.message(&plaintext, &creator, &commit);
        let event = other.send(&room, content).await;
        let seen = outcome(&alice, &event).await;
        assert!(
            matches!(seen, EventOutcome::Failed { error: MlsError::Rejected { .. } }),
            "{seen:?}"
        );
    }

    // A message of the other's, sent again by Alice's own account: the sender does not fit.
    let content = other.message(&Peer::plaintext(&room, "mine"), &creator, &commit);
    let stolen = alice.send_unencrypted(&room, "m.room.encrypted", content).await.unwrap();
    let seen = outcome(&alice, &stolen).await;
    assert!(
        matches!(&seen, EventOutcome::Failed { error } if error.code() == "sender_mismatch"),
        "{seen:?}"
    );

    // A commit that says it is somebody else's, one on an epoch nobody knows, one that is none.
    let mut lie = other.commit(b"", &creator, &commit);
    lie["ciphertext"] = json!("AAAA");
    lie["sender"] = json!(["@somebody:example.org", "X"]);
    let event = other.send(&room, lie).await;
    let seen = outcome(&alice, &event).await;
    assert!(matches!(&seen, EventOutcome::Failed { error } if error.code() == "sender_mismatch"));
    let garbage = other.commit(&[0, 1, 0, 2, 3], &creator, &commit);
    let event = other.send(&room, garbage).await;
    let seen = outcome(&alice, &event).await;
    assert!(matches!(&seen, EventOutcome::Failed { error } if error.code() == "malformed_mls"));
    let as_commit = other.peer.seal(b"a message");
    let event = other.send(&room, other.commit(&as_commit, &creator, &commit)).await;
    let seen = outcome(&alice, &event).await;
    assert!(matches!(&seen, EventOutcome::Failed { error } if error.code() == "not_a_commit"));

    works(&alice, &mut other, &room, &creator, &commit).await;
}

#[tokio::test]
async fn a_commit_that_changes_more_than_members_and_keys_is_refused() {
    let homeserver = Homeserver::embedded().unwrap();
    let (alice, mut other, room, commit) = group(&homeserver).await;
    let creator = alices_name(&alice);
    // Another credential in the committer's own leaf.
    let peer = &mut other.peer;
    let impostor = openmls::prelude::BasicCredential::new(matrix_mls_kit::peer::identity(
        alice.user_id(),
        "ANOTHER",
    ));
    let group = peer.group.as_mut().unwrap();
    let parameters = openmls::prelude::LeafNodeParameters::builder()
        .with_credential_with_key(openmls::prelude::CredentialWithKey {
            credential: impostor.into(),
            signature_key: openmls_basic_credential::SignatureKeyPair::public(&peer.signer).into(),
        })
        .with_capabilities(Capabilities::default())
        .build();
    let bundle = group.self_update(&peer.provider, &peer.signer, parameters).unwrap();
    let bytes = bundle.into_commit().to_bytes().unwrap();
    let event = other.send(&room, other.commit(&bytes, &creator, &commit)).await;
    let seen = outcome(&alice, &event).await;
    assert!(
        matches!(&seen, EventOutcome::Failed { error } if error.code() == "credential_change"),
        "{seen:?}"
    );
    // The impostor drops its commit, and the room goes on as it was.
    let peer = &mut other.peer;
    let storage = openmls_traits::OpenMlsProvider::storage(&peer.provider);
    peer.group.as_mut().unwrap().clear_pending_commit(storage).unwrap();
    works(&alice, &mut other, &room, &creator, &commit).await;
}

/// Remembers updates.
#[derive(Default)]
struct Heard(std::sync::Mutex<Vec<Update>>);

impl UpdateObserver for Heard {
    fn on_update(&self, update: Update) {
        self.0.lock().unwrap().push(update);
    }

    fn on_end(&self) {}
}

#[tokio::test]
async fn devices_that_cannot_take_part_are_reported_and_do_not_hold_up_the_room() {
    let homeserver = Homeserver::embedded().unwrap();
    let (alice, mut other, room, commit) = group(&homeserver).await;
    let heard = std::sync::Arc::new(Heard::default());
    let _subscription = alice.machine().unwrap().subscribe(heard.clone()).await.unwrap();
    // One without an MLS credential, one whose credential has not signed, one without key packages.
    let mut people = Vec::new();
    for (name, change) in [("plain", 0), ("unsigned", 1), ("empty", 2)] {
        let http = Http::new(homeserver.base_url(), name).unwrap();
        let request = json!({
            "username": name, "password": "p", "device_id": "X", "auth": { "type": "m.login.dummy" },
        });
        let answer = http.post("/_matrix/client/v3/register", request).await.unwrap();
        let http = http.with_token(answer["access_token"].as_str().unwrap());
        let user = answer["user_id"].as_str().unwrap().to_owned();
        let mut keys = Peer::new(&user, "X").device_keys();
        let credential = "org.matrix.msc2883.v1.dmls.credential.ed25519:X";
        match change {
            0 => drop(keys["keys"].as_object_mut().unwrap().remove(credential)),
            1 => drop(keys["signatures"][&user].as_object_mut().unwrap().remove(credential)),
            _ => {}
        }
        http.post("/_matrix/client/v3/keys/upload", json!({ "device_keys": keys })).await.unwrap();
        alice.invite(&room, &user).await.unwrap();
        http.post(&join_path(&room), json!({})).await.unwrap();
        people.push(user);
    }
    alice.settle().await.unwrap();
    works(&alice, &mut other, &room, &alices_name(&alice), &commit).await;
    assert_eq!(alice.room(&room).await.unwrap().members().await.unwrap().len(), 2);
    for _ in 0..500 {
        if heard.0.lock().unwrap().len() >= 3 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let updates = heard.0.lock().unwrap().clone();
    let reason = |user: &str| {
        updates.iter().find_map(|update| match update {
            Update::DeviceRejected { user_id, reason, .. } if user_id == user => {
                Some(reason.clone())
            }
            Update::DeviceUnreachable { user_id, .. } if user_id == user => Some("none".into()),
            _ => None,
        })
    };
    assert!(reason(&people[0]).unwrap().contains("no MLS credential"), "{updates:?}");
    assert!(reason(&people[1]).unwrap().contains("not signed"), "{updates:?}");
    assert_eq!(reason(&people[2]).unwrap(), "none", "{updates:?}");
}
