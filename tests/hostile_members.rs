//! What a member of the room can do with a client of its own: commits that do not apply, public group
//! states that lie, forged claims, chains without an end. Each costs the others a bounded amount of work,
//! and the room goes on.

use matrix_mls::{EventOutcome, MlsError, RoomSettings};
use matrix_mls_kit::{
    Client, Homeserver,
    other::{Other, join_path},
    peer::base64,
    together::{all_talk, head, quiet},
};
use openmls::prelude::OpenMlsProvider;
use serde_json::{Value, json};

/// Alice, Bob and Mallory in one group; and the event of its last commit.
async fn group(homeserver: &Homeserver) -> (Client, Client, Other, String, String) {
    let alice = Client::register(homeserver, "alice", "PHONE").await.unwrap();
    let bob = Client::register(homeserver, "bob", "PHONE").await.unwrap();
    quiet(&[&alice, &bob]).await;
    let mut mallory = Other::register(homeserver, "mallory").await;
    let request = json!({ "preset": "private_chat", "invite": [mallory.peer.user, bob.user_id()] });
    let room = alice.create_room_from(request).await.unwrap();
    mallory.http.post(&join_path(&room), json!({})).await.unwrap();
    bob.join(&room).await.unwrap();
    quiet(&[&alice, &bob]).await;
    alice.room(&room).await.unwrap().enable(RoomSettings::default()).await.unwrap();
    alice.send_text(&room, "first").await.unwrap();
    quiet(&[&alice, &bob]).await;
    let commit = mallory.join_by_welcome().await;
    (alice, bob, mallory, room, commit)
}

/// The public group state of the epoch that Mallory is in.
fn state(mallory: &mut Other) -> String {
    let group = mallory.peer.group.as_ref().unwrap();
    let info = group
        .export_group_info(mallory.peer.provider.crypto(), &mallory.peer.signer, true)
        .unwrap();
    base64(&info.to_bytes().unwrap())
}

fn name(client: &Client) -> Value {
    json!([client.user_id(), client.device_id()])
}

#[tokio::test]
async fn commits_that_apply_nowhere_make_nobody_leave_the_head() {
    let homeserver = Homeserver::embedded().unwrap();
    let (alice, bob, mut mallory, room, base) = group(&homeserver).await;
    let before = head(&alice, &room).await;
    let (mut on, mut creator) = (base, name(&alice));
    // Each with a public group state that is right in itself, a chain of them.
    for _ in 0..5 {
        let mut commit = mallory.peer.update();
        let end = commit.len() - 1;
        commit[end] ^= 1;
        let mut content = mallory.commit(&commit, &creator, &on);
        content["public_group_state"] = json!(state(&mut mallory));
        on = mallory.send(&room, content).await;
        creator = mallory.name();
        quiet(&[&alice, &bob]).await;
        for client in [&alice, &bob] {
            assert_eq!(head(client, &room).await, before);
        }
    }
    // Nor does it help to speak there.
    let content = mallory.message(b"{}", &creator, &on);
    mallory.send(&room, content).await;
    all_talk(&[&alice, &bob], &room).await;
    assert_eq!(head(&alice, &room).await, before, "not one commit was made for it");
}

#[tokio::test]
async fn a_public_group_state_that_lies_costs_a_newcomer_one_epoch() {
    let homeserver = Homeserver::embedded().unwrap();
    let (alice, bob, mut mallory, room, base) = group(&homeserver).await;
    // A good commit, and the state of another epoch beside it.
    let stale = state(&mut mallory);
    let commit = mallory.peer.update();
    let mut content = mallory.commit(&commit, &name(&alice), &base);
    content["public_group_state"] = json!(stale);
    mallory.send(&room, content).await;
    quiet(&[&alice, &bob]).await;
    let laptop = Client::log_in(&homeserver, "bob", "LAPTOP").await.unwrap();
    laptop.settle().await.unwrap();
    laptop.room(&room).await.unwrap().join_externally().await.unwrap();
    quiet(&[&laptop, &alice, &bob]).await;
    alice.send_text(&room, "to all of you").await.unwrap();
    quiet(&[&laptop, &alice, &bob]).await;
    all_talk(&[&alice, &bob, &laptop], &room).await;
}

#[tokio::test]
async fn forged_claims_in_a_good_commit_change_nothing() {
    let homeserver = Homeserver::embedded().unwrap();
    let (alice, bob, mut mallory, room, base) = group(&homeserver).await;
    let commit = mallory.peer.update();
    let mut content = mallory.commit(&commit, &json!(["@nobody:example.org", "X"]), &base);
    content["public_group_state"] = json!(state(&mut mallory));
    content["resolves"] = json!([["1", name(&alice)], ["99999999999999999999999", name(&bob)]]);
    mallory.send(&room, content).await;
    quiet(&[&alice, &bob]).await;
    let epochs = alice.room(&room).await.unwrap().epochs().await.unwrap();
    let moved = epochs.iter().find(|epoch| epoch.is_head).unwrap();
    assert_eq!(moved.creator_user_id, mallory.peer.user);
    all_talk(&[&alice, &bob], &room).await;
}

/// Answers every request for an event with a commit on yet another one, until there are no more.
#[tokio::test]
async fn a_chain_of_bases_without_an_end_is_followed_a_bounded_way() {
    let homeserver = Homeserver::embedded().unwrap();
    let (alice, bob, mut mallory, room, _) = group(&homeserver).await;
    let commit = mallory.peer.update();
    let state = state(&mut mallory);
    let event = |id: &str, base: &str| {
        let mut content = mallory.commit(&commit, &name(&alice), base);
        // Of an epoch that nobody knows, or it would be tried on the one that fits.
        content["epoch_creator"] = json!(["@nobody:example.org", "X"]);
        content["public_group_state"] = json!(state);
        json!({
            "type": "m.room.encrypted", "event_id": id, "sender": mallory.peer.user,
            "content": content,
        })
    };
    let machine = alice.machine().unwrap().clone();
    let handle = alice.room(&room).await.unwrap();
    let first = event("$chain:example.org", "$chain-0:example.org").to_string();
    let result = handle.receive_events(vec![first]).await.unwrap().remove(0);
    assert!(
        matches!(&result.outcome, EventOutcome::Waiting { error: MlsError::UnknownEpoch { .. } }),
        "{result:?}"
    );
    let mut asked = 0;
    for _ in 0..1_000 {
        let requests = machine.outgoing_requests().await.unwrap();
        let Some(fetch) = requests.iter().find(|request| request.path.contains("/event/")) else {
            break;
        };
        asked += 1;
        let id = fetch.path.rsplit('/').next().unwrap().replace("%24", "$").replace("%3A", ":");
        let answer = event(&id, &format!("$chain-{asked}:example.org")).to_string();
        machine.mark_request_as_sent(fetch.id.clone(), 200, answer.into_bytes()).await.unwrap();
    }
    assert!((50..200).contains(&asked), "{asked}");
    // The chain leads nowhere and is told as that, the room goes on.
    let results = handle.receive_events(Vec::new()).await.unwrap();
    assert!(results.iter().all(|result| matches!(result.outcome, EventOutcome::Failed { .. })));
    // Her state at its end is that of an epoch that exists, if only Mallory is in it: Alice goes there, as she
    // has to where a server has lost a commit. Who does not see why follows her, and from then on all is well.
    alice.send_text(&room, "where is everybody?").await.unwrap();
    quiet(&[&alice, &bob]).await;
    bob.send_text(&room, "here").await.unwrap();
    quiet(&[&alice, &bob]).await;
    all_talk(&[&alice, &bob], &room).await;
    assert!(handle.epochs().await.unwrap().len() < 10);
}
