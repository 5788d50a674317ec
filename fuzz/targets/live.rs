//! Inputs that are choices: real events, Welcomes and answers, changed, for devices in a room.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    slice,
};

use matrix_mls::{DeviceListChanges, RestoreScope, RoomChanges, SyncChanges};
use matrix_mls_kit::{Client, Result, feed, news, peer::base64, peer::from_base64};
use openmls_traits::signatures::Signer as _;
use serde_json::{Value, json};

use super::{
    change,
    choices::Choices,
    world::{Check, World, answered, answered_event, answered_sync, event_of, step},
};

/// How many events one input has at most.
const EVENTS: usize = 4;
/// A GroupInfo in an MLSMessage: what stands before what is signed, and the signature.
const HEADER: usize = 4;
const SIGNATURE: usize = 66;

/// Commits, announcements and messages, changed, for both phones; some are signed by a member.
pub fn room(input: &[u8]) {
    World::take(input, Check::TheyTalk, async |world| {
        let mut choices = Choices::of(input);
        let way = choices.below(4);
        let mut events = Vec::new();
        while events.is_empty() || (events.len() < EVENTS && !choices.are_over()) {
            events.push(encrypted(world, &mut choices)?.to_string());
        }
        for client in [&world.alice, &world.bob] {
            show(client, &world.room, way, &events).await?;
        }
        Ok(())
    });
}

/// An encrypted event of the room, changed. One that is changed has another id, as ids are hashes
/// of events: a server that gives two events one id keeps one of them from a device, which it can
/// do anyway.
fn encrypted(world: &mut World, choices: &mut Choices<'_>) -> Result<Value> {
    let all: Vec<Value> =
        world.events.iter().filter(|event| is_encrypted(event)).cloned().collect();
    let good = choices.one_of(&all).cloned().unwrap_or_default();
    let again = choices.below(4) > 0;
    let mut event = good.clone();
    match choices.below(6) {
        0 => sign_group_info(world, choices, &mut event),
        1 => event = sealed(world, choices)?,
        _ => change::some(&mut event, choices, &all),
    }
    if (again || event != good) && event["event_id"].is_string() {
        let mut hash = DefaultHasher::new();
        event.to_string().hash(&mut hash);
        event["event_id"] = json!(format!("${:x}:example.org", hash.finish()));
    }
    Ok(event)
}

fn is_encrypted(event: &Value) -> bool {
    event["type"] == "m.room.encrypted"
}

/// Puts a GroupInfo into the event that says whatever the input says, and that Trudy has signed.
fn sign_group_info(world: &World, choices: &mut Choices<'_>, event: &mut Value) {
    let own: Vec<&Value> =
        world.events.iter().filter(|event| event["sender"] == world.trudy.peer.user).collect();
    let state = choices.one_of(&own).and_then(|own| own["content"]["public_group_state"].as_str());
    let mut info = from_base64(state.unwrap_or_default());
    if info.len() < HEADER + SIGNATURE {
        return;
    }
    let mut signed = info.split_off(HEADER);
    signed.truncate(signed.len() - SIGNATURE);
    let other = signed.clone();
    for _ in 0..=choices.below(3) {
        change::bytes(&mut signed, choices, &other);
    }
    let mut labelled = vec![20];
    labelled.extend_from_slice(b"MLS 1.0 GroupInfoTBS");
    let length = u32::try_from(signed.len()).unwrap_or_default() | 1 << 31;
    match u16::try_from(signed.len()) {
        Ok(short @ 64..0x4000) => labelled.extend((short | 1 << 14).to_be_bytes()),
        Ok(short @ ..64) => labelled.push(short.to_be_bytes()[1]),
        _ => labelled.extend(length.to_be_bytes()),
    }
    labelled.extend_from_slice(&signed);
    let Ok(signature) = world.trudy.peer.signer.sign(&labelled) else { return };
    info.extend(signed);
    info.extend([0x40, 64]);
    info.extend(signature);
    event["sender"] = json!(world.trudy.peer.user);
    event["content"]["sender"] = world.trudy.name();
    event["content"]["public_group_state"] = json!(base64(&info));
}

/// A message of Mallory's that holds whatever the input says.
fn sealed(world: &mut World, choices: &mut Choices<'_>) -> Result<Value> {
    let good = json!({
        "type": "m.room.message", "content": { "msgtype": "m.text", "body": "from mallory" },
        "room_id": world.room,
    });
    let mut plaintext = good.clone();
    change::some(&mut plaintext, choices, slice::from_ref(&good));
    let mut plaintext = plaintext.to_string().into_bytes();
    if choices.below(3) == 0 {
        change::bytes(&mut plaintext, choices, b"");
    }
    let (commit, creator) = world.base.clone();
    let content = world.mallory.message(&plaintext, &creator, &commit);
    Ok(event_of(&world.mallory, "$sealed:example.org", content))
}

/// Shows events to a device, in one of several ways.
async fn show(client: &Client, room: &str, way: usize, events: &[String]) -> Result {
    let handle = client.room(room).await?;
    let machine = client.machine()?;
    match way {
        0 => {
            for result in answered(handle.receive_events(events.to_vec()).await).unwrap_or_default()
            {
                answered_event(&result.outcome);
            }
        }
        1 => answered_sync(machine.receive_sync(of(news(room, events.to_vec()))).await),
        2 => {
            let changes = RoomChanges { limited: true, ..news(room, events.to_vec()) };
            answered_sync(machine.receive_sync(of(changes)).await);
        }
        _ => {
            for event in events.iter().rev() {
                answered_sync(machine.receive_sync(of(news(room, vec![event.clone()]))).await);
            }
        }
    }
    for event in events {
        answered(handle.decrypt(event.clone()).await);
    }
    Ok(())
}

/// A sync with changes of one room.
fn of(changes: RoomChanges) -> SyncChanges {
    SyncChanges { rooms: vec![changes], ..feed() }
}

/// State events, changed, wherever a sync has them. The truth is told after that.
pub fn state(input: &[u8]) {
    World::take(input, Check::TheyAnswer, async |world| {
        let mut choices = Choices::of(input);
        let all: Vec<Value> =
            world.events.iter().filter(|event| !is_encrypted(event)).cloned().collect();
        let mut changes = news(&world.room, Vec::new());
        changes.limited = choices.below(2) == 1;
        while !choices.are_over() && changes.timeline.len() < EVENTS {
            let mut event = choices.one_of(&all).cloned().unwrap_or_default();
            let place = choices.below(3);
            change::some(&mut event, &mut choices, &all);
            let text = event.to_string();
            match place {
                0 => changes.timeline.push(text),
                1 => changes.state.push(text),
                _ => changes.state_after.push(text),
            }
        }
        let users = [world.bob.user_id(), &world.mallory.peer.user, "@nobody:example.org"];
        let mut some = || choices.one_of(&users).map(|user| vec![(*user).to_owned()]);
        let lists = DeviceListChanges {
            changed: some().unwrap_or_default(),
            left: some().unwrap_or_default(),
        };
        for client in [&world.alice, &world.bob] {
            let sync = SyncChanges { device_lists: Some(lists.clone()), ..of(changes.clone()) };
            let machine = client.machine()?;
            answered_sync(machine.receive_sync(sync).await);
            answered(client.room(&world.room).await?.prepare_to_send().await);
            let truth = all.iter().map(Value::to_string).collect();
            let truth = RoomChanges { state_after: truth, ..news(&world.room, Vec::new()) };
            answered_sync(machine.receive_sync(of(truth)).await);
        }
        Ok(())
    });
}

/// Welcomes and offers of history, changed, for the laptop that they are for, and for others.
pub fn to_device(input: &[u8]) {
    World::take(input, Check::TheyTalk, async |world| {
        let mut choices = Choices::of(input);
        let all = &world.to_device;
        let mut events = Vec::new();
        while events.is_empty() || (events.len() < EVENTS && !choices.are_over()) {
            let mut event = choices.one_of(all).cloned().unwrap_or_default();
            change::some(&mut event, &mut choices, all);
            events.push(event.to_string());
        }
        for client in [&world.laptop, &world.alice, &world.bob] {
            let sync = SyncChanges { to_device: events.clone(), ..feed() };
            answered_sync(client.machine()?.receive_sync(sync).await);
        }
        answered(world.laptop.room(&world.room).await?.members().await);
        answered(world.laptop.machine()?.outgoing_requests().await);
        Ok(())
    });
}

/// Answers to real requests, changed: device lists, members, the backup, commits, what was missing.
pub fn answers(input: &[u8]) {
    World::take(input, Check::TheyTalk, async |world| {
        let mut choices = Choices::of(input);
        let client = &world.alice;
        let (machine, room) = (client.machine()?, client.room(&world.room).await?);
        match choices.below(6) {
            0 => answered(machine.doubt_device_lists().await),
            1 => answered(room.doubt_members().await),
            2 => answered(machine.backup().look().await),
            3 => {
                let (backup, key) = (machine.backup(), world.key.clone());
                answered(backup.restore(Some(key), RestoreScope::AllRooms).await).map(drop)
            }
            4 => missing(world, &mut choices).await?,
            _ => {
                answered(room.rotate_keys().await);
                answered(room.prepare_to_send().await).map(drop)
            }
        };
        for _ in 0..3 {
            for request in machine.outgoing_requests().await?.into_iter().take(EVENTS) {
                let answer = client.transmit(&request).await?;
                let mut body = lie(&answer.body, &mut choices, &world.events);
                if names_another_event(&answer.body, &body) {
                    body = answer.body;
                }
                let status = if choices.below(8) == 7 { 500 } else { answer.status };
                answered(machine.mark_request_as_sent(request.id, status, body).await);
            }
        }
        machine.network_available().await?;
        machine.doubt_device_lists().await?;
        room.doubt_members().await?;
        for restore in machine.backup().restores().await? {
            machine.backup().cancel_restore(restore.id).await?;
        }
        step(client).await
    });
}

/// Has Alice look for an event that an input makes up.
async fn missing(world: &World, choices: &mut Choices<'_>) -> Result<Option<()>> {
    let commits = world.events.iter().filter(|event| event["content"]["resolves"].is_array());
    let commits: Vec<&Value> = commits.collect();
    let mut event = choices.one_of(&commits).copied().cloned().unwrap_or_default();
    event["event_id"] = json!(format!("$missing-{}-{}:example.org", world.inputs, choices.byte()));
    event["content"]["epoch_creator"] = json!(["@nobody:example.org", "X"]);
    let named = choices.one_of(&commits).map(|commit| commit["event_id"].clone());
    event["content"]["commit_event"] = named.unwrap_or_default();
    if choices.below(3) == 0 {
        event["content"]["ciphertext"] =
            json!({ "url": "mxc://example.org/abc", "size": 70_000, "sha256": "A".repeat(43) });
    }
    let changes = of(news(&world.room, vec![event.to_string()]));
    answered_sync(world.alice.machine()?.receive_sync(changes).await);
    Ok(Some(()))
}

/// Whether a lie gives an event that was sent another id. A server can have everybody miss a commit
/// by that, as it can by keeping the commit to itself.
fn names_another_event(truth: &[u8], lie: &[u8]) -> bool {
    let id = |body| serde_json::from_slice::<Value>(body).ok()?.get("event_id").cloned();
    id(truth).is_some() && id(lie).is_some() && id(truth) != id(lie)
}

/// The body of an answer, changed.
fn lie(body: &[u8], choices: &mut Choices<'_>, others: &[Value]) -> Vec<u8> {
    match serde_json::from_slice(body) {
        Ok(mut value) if choices.below(8) < 7 => {
            change::some(&mut value, choices, others);
            value.to_string().into_bytes()
        }
        _ => {
            let mut bytes = body.to_vec();
            change::bytes(&mut bytes, choices, b"");
            bytes
        }
    }
}
