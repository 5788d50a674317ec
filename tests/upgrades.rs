//! A room upgrade carries the group over: the new room gets one, with the settings of the old, for
//! everybody who follows. What only one of the two rooms says is no upgrade, whoever says it.

use std::{sync::Arc, time::Duration};

use matrix_mls::{MlsError, MlsRoom, RoomSettings, Update, create_room_body};
use matrix_mls_kit::{
    Client, Heard, Homeserver, OrMissing as _, Refused as _, Result, Target,
    together::{all_talk, log_in, phone_of, quiet, texts},
};
use serde_json::{Value, json};

/// A room whose state says that it uses MLS, with a group of these devices.
async fn group_of(clients: &[&Client], settings: RoomSettings) -> Result<String> {
    let (first, others) = clients.split_first().or_missing("a client")?;
    let invite: Vec<_> = others.iter().map(|other| other.user_id()).collect();
    let request = json!({ "preset": "private_chat", "invite": invite, "room_version": "11" });
    let body: Value = serde_json::from_str(&create_room_body(request.to_string())?)?;
    let room = first.create_room_from(body).await?;
    for other in others {
        other.join(&room).await?;
    }
    quiet(clients).await;
    first.enable(&room, settings).await?;
    first.send_text(&room, "in the old room").await?;
    quiet(clients).await;
    Ok(room)
}

/// Settings that differ from the defaults in ways that can be seen.
fn chosen() -> RoomSettings {
    RoomSettings {
        rotate_after_messages: 7,
        share_history: true,
        keep_history_ms: Some(86_400_000),
        ..RoomSettings::default()
    }
}

/// All that was told, once nothing more comes.
async fn all(heard: &Heard) -> Vec<Update> {
    let mut told = heard.all();
    loop {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let more = heard.all();
        if more.len() == told.len() {
            return more;
        }
        told = more;
    }
}

async fn refused(room: Arc<MlsRoom>) -> Result<String> {
    let error = room.prepare_to_send().await.refused()?;
    let named = match &error {
        MlsError::RoomReplaced { replacement_room_id, .. } => Some(replacement_room_id),
        _ => None,
    };
    let replacement_room_id = named.or_missing(&format!("a replacement, in {error}"))?;
    assert!(!error.retryable() && error.code() == "room_replaced", "{error}");
    assert!(error.reason().contains(replacement_room_id), "{error}");
    let content = json!({ "body": "too late" }).to_string();
    let sealed = room.encrypt("m.room.message".to_owned(), content).await.refused()?;
    assert_eq!(sealed.code(), "room_replaced");
    assert_eq!(room.restart().await.refused()?.code(), "room_replaced");
    assert_eq!(room.enable(RoomSettings::default()).await.refused()?.code(), "room_replaced");
    Ok(replacement_room_id.clone())
}

#[tokio::test]
async fn a_room_upgrade_carries_the_group_over() -> Result {
    carries_over(&Homeserver::embedded()?, "embedded").await
}

#[tokio::test]
async fn so_it_does_on_synapse() -> Result {
    carries_over(&*Homeserver::shared_synapse().await?, "synapse").await
}

async fn carries_over(homeserver: &Homeserver, tag: &str) -> Result {
    let alice = phone_of(homeserver, &format!("alice-upgrades-{tag}")).await?;
    let bob = phone_of(homeserver, &format!("bob-upgrades-{tag}")).await?;
    let carol = phone_of(homeserver, &format!("carol-upgrades-{tag}")).await?;
    let old = group_of(&[&alice, &bob, &carol], chosen()).await?;
    bob.set_settings(&old, RoomSettings { rotate_after_messages: 9, ..chosen() }).await?;
    let (at_alice, _alices) = Heard::of(&alice).await?;
    let (at_bob, _bobs) = Heard::of(&bob).await?;

    let new = alice.upgrade_room(&old, "12").await?;
    alice.invite(&new, bob.user_id()).await?;
    quiet(&[&alice, &bob, &carol]).await;
    // Nobody has asked for it: the room has its group, and only its maker is in there yet.
    assert_eq!(alice.members(&new).await?.len(), 1);
    bob.join(&new).await?;
    quiet(&[&alice, &bob]).await;
    all_talk(&[&alice, &bob], &new).await;
    assert_eq!(alice.members(&new).await?.len(), 2, "who has not followed is not there");

    for (client, heard, rotate) in [(&alice, &at_alice, 7), (&bob, &at_bob, 9)] {
        let replaced =
            Update::RoomReplaced { room_id: old.clone(), replacement_room_id: new.clone() };
        let upgraded =
            Update::RoomUpgraded { room_id: new.clone(), predecessor_room_id: old.clone() };
        for update in [replaced, upgraded] {
            let told = all(heard).await.into_iter().filter(|heard| *heard == update).count();
            assert_eq!(told, 1, "{}: {update:?}", client.name());
        }
        let settings = client.room(&new).await?.settings().await?;
        assert_eq!(settings, RoomSettings { rotate_after_messages: rotate, ..chosen() });
        let handle = client.room(&old).await?;
        assert_eq!(refused(handle.clone()).await?, new);
        assert_eq!(handle.upgrade().await?.replacement_room_id.as_deref(), Some(&*new));
        let upgrade = client.room(&new).await?.upgrade().await?;
        assert_eq!(upgrade.predecessor_room_id.as_deref(), Some(&*old));
        assert!(upgrade.is_confirmed && !upgrade.is_downgrade);
        assert!(texts(client, &old).await.contains(&"in the old room".to_owned()));
    }
    // Carol has not joined the new room: she is told its name, and nothing of hers is there.
    assert_eq!(refused(carol.room(&old).await?).await?, new);
    let unknown = carol.room(&new).await?.upgrade().await?;
    assert!(unknown.predecessor_room_id.is_none() && !unknown.is_confirmed);
    Ok(())
}

/// Two devices of the room's maker make one group, and a room that is read once stays one.
#[tokio::test]
async fn two_devices_of_the_maker_make_one_group_that_is_read_once() -> Result {
    let homeserver = Homeserver::embedded()?;
    let phone = phone_of(&homeserver, "alice").await?;
    let laptop = log_in(&homeserver, "alice", "LAPTOP").await?;
    let once = RoomSettings { read_once: true, ..RoomSettings::default() };
    let old = group_of(&[&phone], once.clone()).await?;
    laptop.settle().await?;
    laptop.set_settings(&old, once.clone()).await?;
    quiet(&[&phone, &laptop]).await;
    let new = phone.upgrade_room(&old, "12").await?;
    quiet(&[&laptop, &phone]).await;
    quiet(&[&laptop, &phone]).await;
    laptop.prepare(&new).await?;
    phone.prepare(&new).await?;
    quiet(&[&laptop, &phone]).await;
    assert_eq!(phone.members(&new).await?.len(), 2);
    assert_eq!(phone.head(&new).await?.id, laptop.head(&new).await?.id);
    let announced =
        phone.history(&new).await?.iter().filter(|event| is_announcement(event)).count();
    assert_eq!(announced, 1);
    for client in [&phone, &laptop] {
        assert!(client.room(&new).await?.settings().await?.read_once);
    }
    let id = laptop.send_text(&new, "once").await?;
    let seen = phone.sync().await?;
    assert!(seen.messages.iter().any(|message| message.event_id.as_deref() == Some(&*id)));
    assert_eq!(texts(&phone, &new).await, Vec::<String>::new(), "it is read once");
    Ok(())
}

fn is_announcement(event: &Value) -> bool {
    event["content"]["ciphertext"] == "" && event["content"].get("public_group_state").is_some()
}

/// The homeserver shows a client rooms that are not there, or not so.
async fn shown(client: &Client, rooms: &[(&str, Vec<Value>)]) -> Result {
    let joined: serde_json::Map<_, _> = rooms
        .iter()
        .map(|(room, events)| ((*room).to_owned(), json!({ "state": { "events": events } })))
        .collect();
    let sync = json!({ "next_batch": "lie", "rooms": { "join": joined } });
    let changes = matrix_mls::sync_changes_from_response(sync.to_string(), Some("s".to_owned()))?;
    client.machine()?.receive_sync(changes).await?;
    Ok(())
}

fn state(kind: &str, sender: &str, content: Value) -> Value {
    json!({
        "type": kind, "state_key": "", "sender": sender, "content": content,
        "event_id": format!("${kind}-{}", rand_name()),
    })
}

fn rand_name() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

fn tombstone(to: &str) -> Value {
    state("m.room.tombstone", "@mallory:embedded.test", json!({ "replacement_room": to }))
}

fn created(from: Option<&str>) -> Value {
    let content = match from {
        Some(from) => json!({ "predecessor": { "room_id": from }, "room_version": "11" }),
        None => json!({ "room_version": "11" }),
    };
    state("m.room.create", "@mallory:embedded.test", content)
}

fn encrypted(algorithm: &str) -> Value {
    state("m.room.encryption", "@mallory:embedded.test", json!({ "algorithm": algorithm }))
}

const MLS: &str = "org.matrix.msc2883.v1.dmls.dhkemx25519-aes128gcm-sha256-ed25519";

/// What one of the rooms says and the other does not is no upgrade: nothing is carried over.
#[tokio::test]
async fn a_claim_of_one_room_alone_is_no_upgrade() -> Result {
    let homeserver = Homeserver::embedded()?;
    let alice = phone_of(&homeserver, "alice").await?;
    let old = group_of(&[&alice], chosen()).await?;
    let (heard, _subscription) = Heard::of(&alice).await?;
    let (claims, named, third) = ("!claims:embedded.test", "!named:embedded.test", "!3:x.test");
    // A room that says it replaces Alice's, and nothing in hers says so.
    shown(&alice, &[(claims, vec![created(Some(&old)), encrypted(MLS)])]).await?;
    let claim = alice.room(claims).await?;
    assert_eq!(claim.upgrade().await?.predecessor_room_id.as_deref(), Some(&*old));
    assert!(!claim.upgrade().await?.is_confirmed);
    assert_eq!(claim.settings().await?, RoomSettings::default());
    all_talk(&[&alice], &old).await;
    // The old room names another: of two rooms that claim it, that one counts. A room that the
    // tombstone names, and that says nothing of Alice's, gets nothing either.
    shown(&alice, &[(third, vec![created(None), encrypted(MLS)]), (&old, vec![tombstone(third)])])
        .await?;
    assert_eq!(alice.room(third).await?.settings().await?, RoomSettings::default());
    // Its creation was shown: a second one says nothing.
    shown(&alice, &[(third, vec![created(Some(&old))])]).await?;
    assert!(!alice.room(third).await?.upgrade().await?.is_confirmed);
    assert_eq!(alice.room(third).await?.settings().await?, RoomSettings::default());
    shown(&alice, &[(named, vec![created(Some(&old)), encrypted(MLS)])]).await?;
    shown(&alice, &[(&old, vec![tombstone(named)])]).await?;
    assert_eq!(alice.room(named).await?.settings().await?, chosen());
    assert_eq!(claim.settings().await?, RoomSettings::default());
    let upgraded: Vec<_> = all(&heard)
        .await
        .into_iter()
        .filter(|update| matches!(update, Update::RoomUpgraded { .. }))
        .collect();
    let expected =
        Update::RoomUpgraded { room_id: named.to_owned(), predecessor_room_id: old.clone() };
    assert_eq!(upgraded, [expected]);
    Ok(())
}

/// Rooms that replace each other, or themselves, and tombstones that are none.
#[tokio::test]
async fn loops_and_tombstones_that_name_nothing_do_no_harm() -> Result {
    let homeserver = Homeserver::embedded()?;
    let alice = phone_of(&homeserver, "alice").await?;
    let room = group_of(&[&alice], chosen()).await?;
    let nothings = [
        json!({}),
        json!({ "replacement_room": "" }),
        json!({ "replacement_room": 7 }),
        json!({ "replacement_room": null }),
        json!({ "replacement_room": "no room" }),
        json!({ "replacement_room": room }),
    ];
    for nothing in nothings {
        let event = state("m.room.tombstone", "@mallory:embedded.test", nothing.clone());
        shown(&alice, &[(&room, vec![event])]).await?;
        assert_eq!(
            alice.room(&room).await?.upgrade().await?.replacement_room_id,
            None,
            "{nothing}"
        );
        alice.send_text(&room, "on").await?;
    }
    let (a, b) = ("!a:embedded.test", "!b:embedded.test");
    let of_a = vec![created(Some(b)), encrypted(MLS), tombstone(b)];
    let of_b = vec![created(Some(a)), encrypted(MLS), tombstone(a)];
    for _ in 0..2 {
        shown(&alice, &[(a, of_a.clone()), (b, of_b.clone())]).await?;
    }
    assert_eq!(refused(alice.room(a).await?).await?, b);
    assert_eq!(refused(alice.room(b).await?).await?, a);
    // A tombstone that is shown somewhere in the past says nothing of now.
    let past = vec![tombstone(a).to_string()];
    alice.room(&room).await?.receive_events(past).await?;
    alice.send_text(&room, "still").await?;
    // One that was redacted counts no more.
    shown(&alice, &[(&room, vec![tombstone(a)])]).await?;
    assert_eq!(refused(alice.room(&room).await?).await?, a);
    let redacted = state("m.room.tombstone", "@mallory:embedded.test", json!({}));
    shown(&alice, &[(&room, vec![redacted])]).await?;
    alice.send_text(&room, "again").await?;
    Ok(())
}

/// A replacement without MLS is told, whichever room is shown first, and enabling it carries over.
#[tokio::test]
async fn a_downgrade_is_told_and_never_silent() -> Result {
    let homeserver = Homeserver::embedded()?;
    let alice = phone_of(&homeserver, "alice").await?;
    let (heard, _subscription) = Heard::of(&alice).await?;
    let is_downgrade = |update: &Update| matches!(update, Update::UpgradeNotEncrypted { .. });
    let megolm = "m.megolm.v1.aes-sha2";
    for (at, algorithm) in [None, Some(megolm)].into_iter().enumerate() {
        let old = group_of(&[&alice], chosen()).await?;
        let new = format!("!plain{at}:embedded.test");
        let mut events = vec![created(Some(&old))];
        events.extend(algorithm.map(encrypted));
        shown(&alice, &[(&new, events.clone())]).await?;
        let told = all(&heard).await.into_iter().filter(is_downgrade).count();
        assert_eq!(told, at, "it is a claim so far");
        let before = alice.room(&new).await?.prepare_to_send().await.refused()?;
        assert_ne!(before.code(), "downgraded");
        shown(&alice, &[(&old, vec![tombstone(&new)])]).await?;
        shown(&alice, &[(&new, events), (&old, vec![tombstone(&new)])]).await?;
        let told: Vec<_> = all(&heard).await.into_iter().filter(is_downgrade).collect();
        assert_eq!(told.len(), at + 1, "{told:?}");
        let expected = Update::UpgradeNotEncrypted {
            room_id: new.clone(),
            predecessor_room_id: old.clone(),
            algorithm: algorithm.map(str::to_owned),
        };
        assert_eq!(told.last(), Some(&expected));
        let handle = alice.room(&new).await?;
        assert!(handle.upgrade().await?.is_downgrade && !handle.is_enabled().await?);
        let error = handle.prepare_to_send().await.refused()?;
        assert!(matches!(error, MlsError::NotInGroup { .. }) && error.code() == "downgraded");
        assert!(error.reason().contains(&old), "{error}");
        // Nothing was asked of the homeserver that would change the room.
        let requests = alice.machine()?.outgoing_requests().await?;
        assert!(!requests.iter().any(|request| request.path.contains("m.room.encryption")));
    }
    Ok(())
}

/// A maker whose real room lost its encryption in the upgrade enables it, with settings of the
/// app's.
#[tokio::test]
async fn enabling_a_downgraded_room_is_for_the_app() -> Result {
    let homeserver = Homeserver::embedded()?;
    let alice = phone_of(&homeserver, "alice").await?;
    let bob = phone_of(&homeserver, "bob").await?;
    let old = group_of(&[&alice, &bob], chosen()).await?;
    let controls = homeserver.controls().or_missing("controls")?;
    // This homeserver leaves the encryption out.
    let lie = controls.tamper(Target::path("/sync"), move |answer| {
        let rooms = answer.pointer_mut("/rooms/join").and_then(Value::as_object_mut);
        for room in rooms.into_iter().flat_map(|rooms| rooms.values_mut()) {
            for part in ["state", "timeline"] {
                let events = room.pointer_mut(&format!("/{part}/events"));
                let Some(events) = events.and_then(Value::as_array_mut) else { continue };
                let is_new = |event: &Value| event["content"].get("predecessor").is_some();
                if events.iter().any(is_new) {
                    events.retain(|event| event["type"] != "m.room.encryption");
                }
            }
        }
    });
    let new = alice.upgrade_room(&old, "12").await?;
    alice.settle().await?;
    assert!(lie.hits() > 0);
    lie.stop();
    assert!(alice.room(&new).await?.upgrade().await?.is_downgrade);
    alice.enable(&new, RoomSettings::default()).await?;
    alice.invite(&new, bob.user_id()).await?;
    bob.join(&new).await?;
    quiet(&[&alice, &bob]).await;
    all_talk(&[&alice, &bob], &new).await;
    assert_eq!(alice.room(&new).await?.settings().await?, RoomSettings::default(), "the app's");
    assert_eq!(bob.room(&new).await?.settings().await?, RoomSettings::default(), "not chosen yet");
    assert!(!alice.room(&new).await?.upgrade().await?.is_downgrade);
    Ok(())
}

/// Who has made the new room has no MLS device there: whoever speaks first makes the group, once
/// the room's history has shown that nobody has, and also where nobody may join by himself.
#[tokio::test]
async fn a_room_whose_maker_has_no_mls_gets_its_group_before_the_first_message() -> Result {
    let homeserver = Homeserver::embedded()?;
    let alice = phone_of(&homeserver, "alice").await?;
    let bob = phone_of(&homeserver, "bob").await?;
    let closed = RoomSettings { allow_external_joins: false, ..chosen() };
    let old = group_of(&[&bob, &alice], closed.clone()).await?;
    alice.set_settings(&old, closed.clone()).await?;
    // Bob's app is an old one that does not know of MLS: it upgrades the room and is gone.
    let new = bob.upgrade_room(&old, "12").await?;
    bob.invite(&new, alice.user_id()).await?;
    alice.join(&new).await?;
    alice.settle().await?;
    let handle = alice.room(&new).await?;
    assert!(handle.members().await.is_err(), "nobody has made it yet");
    alice.send_text(&new, "anybody?").await?;
    assert_eq!(handle.settings().await?, closed);
    bob.settle().await?;
    assert!(texts(&bob, &new).await.contains(&"anybody?".to_owned()));
    Ok(())
}

/// What was known is known after a restart, and told once.
#[tokio::test]
async fn an_upgrade_outlives_the_app() -> Result {
    let homeserver = Homeserver::embedded()?;
    let mut alice = phone_of(&homeserver, "alice").await?;
    let old = group_of(&[&alice], chosen()).await?;
    let new = alice.upgrade_room(&old, "12").await?;
    alice.sync().await?;
    alice.restart().await?;
    let (heard, _subscription) = Heard::of(&alice).await?;
    alice.forget_sync_token().await?;
    alice.settle().await?;
    assert_eq!(refused(alice.room(&old).await?).await?, new);
    assert!(alice.room(&new).await?.upgrade().await?.is_confirmed);
    alice.send_text(&new, "here").await?;
    let again = |update: &Update| {
        matches!(update, Update::RoomUpgraded { .. } | Update::RoomReplaced { .. })
    };
    let told = all(&heard).await;
    assert!(!told.iter().any(again), "{told:?}");
    Ok(())
}
