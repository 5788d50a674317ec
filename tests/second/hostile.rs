//! Scenarios: members who lie. Mallory's device is one of plain OpenMLS.

use matrix_mls_kit::{
    OrMissing as _, Result,
    other::{Other, join_path},
    peer::{Peer, base64, from_base64},
};
use openmls::prelude::{KeyPackageIn, OpenMlsProvider as _, ProtocolVersion};
use serde_json::{Value, json};
use tls_codec::DeserializeBytes as _;

use crate::{
    client::Second,
    meeting::{Meeting, holds, scenario},
};

/// The second implementation's room, with Alice and Mallory in the group; the event of the commit
/// that added her.
async fn with_mallory() -> Result<(Meeting, Other, String)> {
    let mut meeting = Meeting::of_second().await?;
    let mut mallory = Other::register(&meeting.homeserver, "mallory").await;
    let room = meeting.room.clone();
    meeting.second.invite(&room, &mallory.peer.user).await?;
    mallory.http.post(&join_path(&room), json!({})).await?;
    meeting.second.say(&room, "with mallory").await?;
    let at = mallory.join_by_welcome().await;
    meeting.quiet().await?;
    Ok((meeting, mallory, at))
}

/// Mallory adds the second device to a group of hers under the room's id, whose epochs go on from a
/// number of her own.
async fn welcome_to_own_group(mallory: &mut Other, meeting: &mut Meeting, number: u64) -> Result {
    mallory.make_own_group(&meeting.room, number);
    let (user, device) = meeting.second.device.clone();
    let request = json!({ "one_time_keys": { &user: { &device: crate::names::KEY_PACKAGE } } });
    let answer = mallory.http.post("/_matrix/client/v3/keys/claim", request).await?;
    let keys = answer["one_time_keys"][&user][&device].as_object().or_missing("keys")?;
    let package = keys.values().next().and_then(Value::as_str).or_missing("key package")?;
    let package = KeyPackageIn::tls_deserialize_exact_bytes(&from_base64(package))?;
    let package = package.validate(mallory.peer.provider.crypto(), ProtocolVersion::Mls10)?;
    let (_, welcome) = mallory.peer.add(&[package]);
    let welcome = json!({
        "algorithm": crate::names::WELCOME, "ciphertext": base64(&welcome),
        "room_id": meeting.room, "sender": mallory.name(), "resolves": [],
        "commit_event": "$none:example.org",
    });
    let messages = json!({ "messages": { user: { device: welcome } } });
    let path = format!("/_matrix/client/v3/sendToDevice/m.room.encrypted/own{number}");
    mallory.http.put(&path, messages).await?;
    meeting.quiet().await
}

#[tokio::test]
async fn refuses_a_made_up_number() -> Result {
    let steps = async {
        let (mut meeting, mut mallory, at) = with_mallory().await?;
        let room = meeting.room.clone();
        // A good commit beside a number that nobody takes is followed, and nobody goes by the
        // number.
        let mut content = mallory.renewal(&json!(meeting.second.device), &at);
        let number = mallory.peer.group().epoch().as_u64();
        let forged = mallory.peer.forged_group_info(number + 7);
        content["public_group_state"] = json!(base64(&forged));
        let event = mallory.send(&room, content).await;
        meeting.quiet().await?;
        let head = meeting.second.head(&room)?;
        let followed = meeting.second.room(&room)?.epoch(head)?.commit_event == Some(event.clone());
        holds(followed, || "the commit is followed".into())?;
        let claimed = meeting.second.room(&room)?.claims.contains_key(&event);
        holds(!claimed, || "its GroupInfo is not kept".into())?;
        // A group of her own that goes on from a number of her own is none.
        for number in [number + 7, 1 << 40] {
            mallory.make_own_group(&room, number);
            let state = mallory.peer.group_info();
            let content = mallory.announcement(&state);
            let event = mallory.send(&room, content).await;
            meeting.quiet().await?;
            let refused = meeting.second.room(&room)?.refused.iter().any(|(of, _)| *of == event);
            holds(refused, || format!("the announcement with {number} is refused"))?;
        }
        welcome_to_own_group(&mut mallory, &mut meeting, 1 << 40).await?;
        let known = meeting.second.room(&room)?;
        let highest = known.epochs.values().map(|epoch| epoch.number).max();
        holds(highest < Some(1 << 40), || "the Welcome is refused".into())?;
        holds(meeting.second.head(&room)? == head, || "the head stays".into())?;
        meeting.both_talk().await
    };
    scenario("refuses_a_made_up_number", "a number that continues nothing leads nobody away", steps)
        .await
}

/// Here this implementation is the one that lies: OpenMLS makes no such commit.
#[tokio::test]
async fn refuses_a_join_that_removes_another() -> Result {
    let steps = async {
        let mut meeting = Meeting::of_alice().await?;
        meeting.quiet().await?;
        let room = meeting.room.clone();
        let head = meeting.alice.head(&room).await?.id;
        let alice = (meeting.alice.user_id().to_owned(), meeting.alice.device_id().to_owned());
        let mut tablet = Second::log_in(&meeting.homeserver, "second", "TABLET").await?;
        tablet.mls.lie();
        tablet.join_in_place_of(&room, &alice).await?;
        meeting.quiet().await?;
        let library = meeting.alice.head(&room).await?.id;
        holds(library == head, || "the library's head stays".into())?;
        let second = hex::encode(meeting.second.head(&room)?);
        holds(second == head, || "the second device's head stays".into())?;
        meeting.both_talk().await
    };
    scenario("refuses_a_join_that_removes_another", "a device takes nobody's place", steps).await
}

#[tokio::test]
async fn refuses_a_message_sealed_again() -> Result {
    let steps = async {
        let (mut meeting, mut mallory, at) = with_mallory().await?;
        let room = meeting.room.clone();
        let creator = json!(meeting.second.device);
        let mut texts = Vec::new();
        for (generation, is_own) in [(0, true), (7, false), (2, true)] {
            let text = format!("generation {generation}");
            let mut plaintext: Value = serde_json::from_slice(&Peer::plaintext(&room, &text))?;
            plaintext["generation"] = json!(generation);
            let content = mallory.message(plaintext.to_string().as_bytes(), &creator, &at);
            let event = mallory.send(&room, content.clone()).await;
            let again = mallory.send(&room, content).await;
            texts.push((text, is_own, event, again));
        }
        meeting.quiet().await?;
        let known = meeting.second.room(&room)?;
        for (text, is_own, event, again) in texts {
            let times = known.texts().iter().filter(|read| **read == text).count();
            holds(times == usize::from(is_own), || format!("{text} is read {times} times"))?;
            let refused = |id: &str| known.refused.iter().any(|(of, _)| of == id);
            holds(refused(&event) != is_own, || format!("{text} is judged by its generation"))?;
            holds(refused(&again), || format!("{text} in a second event is refused"))?;
        }
        // Its own message in a second event is none either.
        let own = meeting.second.say(&room, "once").await?;
        let history = meeting.alice.history(&room).await?;
        let own = history.iter().find(|event| event["event_id"] == own).or_missing("event")?;
        let again = meeting.second.send(&room, "m.room.encrypted", &own["content"]).await?;
        meeting.second.settle().await?;
        let known = meeting.second.room(&room)?;
        let refused = known.refused.iter().any(|(of, _)| *of == again);
        holds(refused, || "its own message in a second event is refused".into())?;
        let of_another = Peer::plaintext("!another:example.org", "of another room");
        let content = mallory.message(&of_another, &creator, &at);
        let event = mallory.send(&room, content).await;
        meeting.quiet().await?;
        let refused = meeting.second.room(&room)?.refused.iter().any(|(of, _)| *of == event);
        holds(refused, || "what is of another room is refused".into())?;
        meeting.both_talk().await
    };
    scenario(
        "refuses_a_message_sealed_again",
        "a message is one event's, under the generation and for the room that it says",
        steps,
    )
    .await
}

#[tokio::test]
async fn refuses_an_impostor() -> Result {
    let steps = async {
        let (mut meeting, mut mallory, at) = with_mallory().await?;
        let room = meeting.room.clone();
        let (user, device) = (meeting.alice.user_id().to_owned(), "PHONE".to_owned());
        let mut ghost = Peer::new(&user, &device);
        let (commit, welcome) = mallory.peer.add(&[ghost.key_package()]);
        ghost.join(&welcome);
        let creator = json!(meeting.second.device);
        let mut content = mallory.commit(&commit, &creator, &at);
        content["public_group_state"] = json!(base64(&mallory.peer.group_info()));
        let event = mallory.send(&room, content).await;
        meeting.second.settle().await?;
        let head = meeting.second.head(&room)?;
        let followed = meeting.second.room(&room)?.epoch(head)?.commit_event == Some(event.clone());
        holds(followed, || {
            format!("the commit is followed: {:?}", meeting.second.rooms[&room].refused)
        })?;
        // The homeserver shows what the impostor says as Alice's.
        let sealed = ghost.seal(&Peer::plaintext(&room, "not alice"));
        let content = json!({
            "algorithm": crate::names::ROOM, "ciphertext": base64(&sealed),
            "epoch_creator": mallory.name(), "commit_event": event,
        });
        let lie = meeting.alice.send_unencrypted(&room, "m.room.encrypted", content).await?;
        meeting.second.settle().await?;
        let known = meeting.second.room(&room)?;
        let refused = known.refused.iter().any(|(of, _)| *of == lie);
        holds(refused && !known.texts().contains(&"not alice"), || {
            "its message is refused".into()
        })?;
        meeting.second.say(&room, "not for the impostor").await?;
        let head = meeting.second.head(&room)?;
        let epoch = meeting.second.room(&room)?.epoch(head)?;
        let tree = epoch.group.as_ref().or_missing("state")?.export_tree().into_owned();
        let alices = crate::mls::members(&tree)
            .into_iter()
            .filter(|(_, member, _)| *member == Some((user.clone(), device.clone())))
            .count();
        holds(alices == 1, || format!("{alices} leaves say that they are alice's phone"))?;
        meeting.quiet().await?;
        meeting.reads("not for the impostor").await?;
        meeting.both_talk().await
    };
    scenario(
        "refuses_an_impostor",
        "a leaf with a device's name and another key is removed, and nothing of it is read",
        steps,
    )
    .await
}

#[tokio::test]
async fn refuses_a_commit_in_anothers_name() -> Result {
    let steps = async {
        let (mut meeting, mut mallory, at) = with_mallory().await?;
        let room = meeting.room.clone();
        let head = meeting.second.head(&room)?;
        let commit = mallory.renewal(&json!(meeting.second.device), &at);
        for name in [json!([meeting.alice.user_id(), "PHONE"]), json!([mallory.peer.user, "ELSE"])]
        {
            let mut content = commit.clone();
            content["sender"] = name.clone();
            let event = mallory.send(&room, content).await;
            meeting.quiet().await?;
            let refused = meeting.second.room(&room)?.refused.iter().any(|(of, _)| *of == event);
            holds(refused, || format!("a commit in the name of {name} is refused"))?;
        }
        holds(meeting.second.head(&room)? == head, || "the head stays".into())?;
        meeting.both_talk().await
    };
    scenario(
        "refuses_a_commit_in_anothers_name",
        "a commit is its leaf's and its event's sender's",
        steps,
    )
    .await
}

#[tokio::test]
async fn is_led_away_by_no_group_of_a_members_own() -> Result {
    let steps = async {
        let (mut meeting, mut mallory, _) = with_mallory().await?;
        let room = meeting.room.clone();
        let head = meeting.second.head(&room)?;
        let number = meeting.second.room(&room)?.epoch(head)?.number;
        // A group of hers under the room's id, further on than the room's, with a Welcome to it.
        welcome_to_own_group(&mut mallory, &mut meeting, number + 40).await?;
        let known = meeting.second.room(&room)?;
        let beside = known.epochs.values().any(|epoch| epoch.number == number + 41);
        holds(beside, || format!("it is in that group as well: {:?}", known.refused))?;
        meeting.both_talk().await?;
        let head = meeting.second.head(&room)?;
        let now = meeting.second.room(&room)?.epoch(head)?.number;
        holds(now < number + 40, || format!("it goes on where the others are, at {now}"))
    };
    scenario(
        "is_led_away_by_no_group_of_a_members_own",
        "the tree in which the room's users speak comes before a higher number",
        steps,
    )
    .await
}
