//! Key packages over the years: whoever belongs in a room is added at the first try, and bad key
//! packages hold up nobody.
//!
//! The library's clock is the process's, so the tests take turns. OpenMLS looks at the system's.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use matrix_mls::{EventOutcome, RoomSettings, Update};
use matrix_mls_kit::{
    Client, Clock, Controls, Fields as _, Heard, Homeserver, Http, OrMissing as _, Result, Target,
    other::{Other, group_of_two, join_path, name_of},
    peer::{KEY_PACKAGE, Peer, SUITE, base64, identity},
    together::{phone_of, quiet, texts},
};
use openmls::prelude::{BasicCredential, CredentialWithKey, KeyPackage, Lifetime};
use serde_json::{Value, json};

const MINUTE_MS: u64 = 60 * 1000;
const HOUR_MS: u64 = 60 * MINUTE_MS;
const DAY_MS: u64 = 24 * HOUR_MS;
/// The most claims that one search for a usable key package makes.
const MOST_CLAIMS: usize = 12;

fn controls(homeserver: &Homeserver) -> Result<&Controls> {
    homeserver.controls().or_missing("controls")
}

/// How many claims a user has made since requests were last forgotten.
fn claims(homeserver: &Homeserver, client: &Client) -> Result<usize> {
    let requests = controls(homeserver)?.requests();
    let is_claim = |path: &str| path.contains("/keys/claim");
    let own = |user: &Option<String>| user.as_deref() == Some(client.user_id());
    Ok(requests.iter().filter(|request| is_claim(&request.path) && own(&request.user_id)).count())
}

/// Somebody whose app was last open so many days before what is the present from now on.
async fn away_for(clock: &Clock, homeserver: &Homeserver, name: &str, days: u64) -> Result<Client> {
    let client = phone_of(homeserver, name).await?;
    if days > 0 {
        clock.set(Clock::today_ms() + days * DAY_MS);
    }
    Ok(client)
}

/// Alice and Carol talk in a room, and Alice lets somebody into the Matrix room.
async fn room_with(homeserver: &Homeserver, new: &Client) -> Result<(Client, Client, String)> {
    let alice = phone_of(homeserver, "alice").await?;
    let carol = phone_of(homeserver, "carol").await?;
    let room = alice.create_group(&[&carol], RoomSettings::default()).await?;
    alice.send_text(&room, "first").await?;
    quiet(&[&alice, &carol]).await;
    alice.invite(&room, new.user_id()).await?;
    new.join(&room).await?;
    alice.settle().await?;
    controls(homeserver)?.clear_requests();
    Ok((alice, carol, room))
}

/// Replaces each key package that claims give.
fn replaced(answer: &mut Value, by: impl Fn() -> String) {
    let users = answer["one_time_keys"].as_object_mut();
    for (_, devices) in users.into_iter().flatten() {
        for (_, keys) in devices.as_object_mut().into_iter().flatten() {
            for (_, key) in keys.as_object_mut().into_iter().flatten() {
                *key = json!(by());
            }
        }
    }
}

/// Bob's phone lay in a drawer for 81 days. He is in a new room with its first message.
#[tokio::test]
async fn whoever_comes_back_after_months_is_added_with_the_first_message() -> Result {
    let clock = Clock::take().await;
    let homeserver = Homeserver::embedded()?;
    clock.set(Clock::today_ms() - 81 * DAY_MS);
    let bob = phone_of(&homeserver, "bob").await?;
    clock.is_right();
    bob.settle().await?;
    let alice = phone_of(&homeserver, "alice").await?;
    quiet(&[&alice, &bob]).await;
    let room = alice.create_group(&[&bob], RoomSettings::default()).await?;
    alice.send_text(&room, "hello").await?;
    assert_eq!(alice.members(&room).await?.len(), 2);
    assert_eq!(claims(&homeserver, &alice)?, 1);
    quiet(&[&alice, &bob]).await;
    assert!(texts(&bob, &room).await.contains(&"hello".to_owned()));
    Ok(())
}

/// Nobody has seen Bob for a year. He is added while he is away, and reads all of it when he comes.
#[tokio::test]
async fn whoever_is_away_for_a_year_is_added_all_the_same() -> Result {
    let clock = Clock::take().await;
    let homeserver = Homeserver::embedded()?;
    let bob = away_for(&clock, &homeserver, "bob", 365).await?;
    let (alice, _, room) = room_with(&homeserver, &bob).await?;
    alice.send_text(&room, "are you there?").await?;
    assert_eq!((alice.members(&room).await?.len(), claims(&homeserver, &alice)?), (3, 1));
    bob.settle().await?;
    assert!(texts(&bob, &room).await.contains(&"are you there?".to_owned()));
    Ok(())
}

/// After two years and more all that Bob's phone has published is out of date. He has come back and
/// is added at the first try, as his phone has used up the old key packages itself.
#[tokio::test]
async fn whoever_comes_back_after_years_uses_up_the_old_key_packages() -> Result {
    let clock = Clock::take().await;
    let homeserver = Homeserver::embedded()?;
    let bob = away_for(&clock, &homeserver, "bob", 800).await?;
    controls(&homeserver)?.clear_requests();
    bob.settle().await?;
    assert_eq!(claims(&homeserver, &bob)?, 50);
    bob.settle().await?;
    assert_eq!(claims(&homeserver, &bob)?, 50, "and no more");
    let (alice, _, room) = room_with(&homeserver, &bob).await?;
    alice.send_text(&room, "welcome back").await?;
    assert_eq!((alice.members(&room).await?.len(), claims(&homeserver, &alice)?), (3, 1));
    bob.settle().await?;
    assert!(texts(&bob, &room).await.contains(&"welcome back".to_owned()));
    Ok(())
}

/// The same on Synapse, whose one-time keys are as real as they get.
#[tokio::test]
async fn on_synapse_old_key_packages_are_used_up_too() -> Result {
    let clock = Clock::take().await;
    let homeserver = Homeserver::shared_synapse().await?;
    let bob = away_for(&clock, &homeserver, "bob", 800).await?;
    bob.settle().await?;
    let upload = bob.http().post("/_matrix/client/v3/keys/upload", json!({})).await?;
    assert_eq!(upload["one_time_key_counts"][KEY_PACKAGE], json!(50), "new ones only");
    let alice = phone_of(&homeserver, "alice").await?;
    let room = alice.create_group(&[&bob], RoomSettings::default()).await?;
    alice.send_text(&room, "welcome back").await?;
    assert_eq!(alice.members(&room).await?.len(), 2);
    bob.settle().await?;
    assert!(texts(&bob, &room).await.contains(&"welcome back".to_owned()));
    Ok(())
}

/// Bob is still away, and all of his key packages expire within a month. Alice asks for some of
/// them, and Carol reads the message. Once he is back, the next try adds him.
#[tokio::test]
async fn key_packages_that_expire_soon_are_passed_over_and_hold_up_nobody() -> Result {
    let clock = Clock::take().await;
    let homeserver = Homeserver::embedded()?;
    let bob = away_for(&clock, &homeserver, "bob", 700).await?;
    let (alice, carol, room) = room_with(&homeserver, &bob).await?;
    let (heard, _subscription) = Heard::of(&alice).await?;
    alice.send_text(&room, "without bob").await?;
    assert_eq!((alice.members(&room).await?.len(), claims(&homeserver, &alice)?), (2, MOST_CLAIMS));
    heard.wait_for(|update| matches!(update, Update::DeviceUnreachable { .. })).await?;
    carol.settle().await?;
    assert!(texts(&carol, &room).await.contains(&"without bob".to_owned()));
    alice.send_text(&room, "at once again").await?;
    assert_eq!(claims(&homeserver, &alice)?, MOST_CLAIMS, "not within ten minutes");
    bob.settle().await?;
    clock.set(Clock::today_ms() + 700 * DAY_MS + 11 * MINUTE_MS);
    alice.send_text(&room, "with bob").await?;
    assert_eq!(
        (alice.members(&room).await?.len(), claims(&homeserver, &alice)?),
        (3, MOST_CLAIMS + 1)
    );
    quiet(&[&alice, &bob, &carol]).await;
    assert!(texts(&bob, &room).await.contains(&"with bob".to_owned()));
    Ok(())
}

/// A few bad ones lie before the good ones: the first message reaches Bob all the same.
#[tokio::test]
async fn bad_key_packages_are_passed_over_at_once() -> Result {
    let clock = Clock::take().await;
    let homeserver = Homeserver::embedded()?;
    let bob = away_for(&clock, &homeserver, "bob", 0).await?;
    let (alice, _, room) = room_with(&homeserver, &bob).await?;
    let number = AtomicU64::new(0);
    controls(&homeserver)?.tamper(Target::path("/keys/claim"), move |answer| {
        let number = number.fetch_add(1, Ordering::SeqCst);
        if number < 5 {
            replaced(answer, || base64(&number.to_be_bytes()));
        }
    });
    alice.send_text(&room, "hello").await?;
    assert_eq!((alice.members(&room).await?.len(), claims(&homeserver, &alice)?), (3, 6));
    bob.settle().await?;
    assert!(texts(&bob, &room).await.contains(&"hello".to_owned()));
    Ok(())
}

/// A homeserver hands out bad key packages for ever. It is asked more and more seldom.
#[tokio::test]
async fn bad_key_packages_without_end_cost_a_bounded_number_of_claims() -> Result {
    let clock = Clock::take().await;
    let homeserver = Homeserver::embedded()?;
    let bob = away_for(&clock, &homeserver, "bob", 0).await?;
    let (alice, carol, room) = room_with(&homeserver, &bob).await?;
    let number = AtomicU64::new(0);
    controls(&homeserver)?.tamper(Target::path("/keys/claim"), move |answer| {
        replaced(answer, || base64(&number.fetch_add(1, Ordering::SeqCst).to_be_bytes()));
    });
    let began_ms = Clock::today_ms();
    // It is asked now, and 10, 10 + 20, 10 + 20 + 40 … minutes later, and then twice a day.
    for (minutes, rounds) in [(0, 1), (9, 1), (11, 2), (25, 2), (32, 3), (60, 3), (75, 4)] {
        clock.set(began_ms + minutes * MINUTE_MS);
        alice.send_text(&room, &format!("after {minutes} minutes")).await?;
        assert_eq!(claims(&homeserver, &alice)?, rounds * MOST_CLAIMS, "after {minutes} minutes");
    }
    clock.set(began_ms + 30 * DAY_MS);
    let mut hours = 0;
    while hours < 100 {
        hours += 1;
        clock.set(began_ms + 30 * DAY_MS + hours * HOUR_MS);
        alice.prepare(&room).await?;
    }
    let rounds = claims(&homeserver, &alice)? / MOST_CLAIMS;
    assert!((12..=18).contains(&rounds), "{rounds} rounds in a hundred hours");
    clock.is_right();
    carol.settle().await?;
    assert!(texts(&carol, &room).await.contains(&"after 75 minutes".to_owned()));
    Ok(())
}

/// A homeserver that fails at every claim delays a message by seconds. Who was asked for is added
/// once it works again.
#[tokio::test]
async fn claims_that_fail_hold_up_no_message_for_long() -> Result {
    let clock = Clock::take().await;
    let homeserver = Homeserver::embedded()?;
    let bob = away_for(&clock, &homeserver, "bob", 0).await?;
    let (alice, carol, room) = room_with(&homeserver, &bob).await?;
    controls(&homeserver)?.fail(Target::path("/keys/claim"), 1_000, 500);
    tokio::time::timeout(Duration::from_secs(30), alice.send_text(&room, "without bob")).await??;
    assert_eq!(alice.members(&room).await?.len(), 2);
    carol.settle().await?;
    assert!(texts(&carol, &room).await.contains(&"without bob".to_owned()));
    controls(&homeserver)?.heal();
    clock.set(Clock::today_ms() + 11 * MINUTE_MS);
    alice.settle().await?;
    alice.send_text(&room, "with bob").await?;
    assert_eq!(alice.members(&room).await?.len(), 3);
    Ok(())
}

/// The homeserver of a user is down: one claim says so, and nobody waits for it.
#[tokio::test]
async fn a_server_that_cannot_be_asked_is_asked_once_a_round() -> Result {
    let clock = Clock::take().await;
    let homeserver = Homeserver::embedded()?;
    let bob = away_for(&clock, &homeserver, "bob", 0).await?;
    let (alice, _, room) = room_with(&homeserver, &bob).await?;
    let down = controls(&homeserver)?.tamper(Target::path("/keys/claim"), |answer| {
        *answer = json!({
            "one_time_keys": {}, "failures": { "embedded.test": { "status": 503 } },
        });
    });
    alice.send_text(&room, "without bob").await?;
    assert_eq!((alice.members(&room).await?.len(), claims(&homeserver, &alice)?), (2, 1));
    down.stop();
    clock.set(Clock::today_ms() + 11 * MINUTE_MS);
    alice.send_text(&room, "with bob").await?;
    assert_eq!((alice.members(&room).await?.len(), claims(&homeserver, &alice)?), (3, 2));
    Ok(())
}

/// A device of the days when the MSC is accepted publishes under the stable name alone.
#[tokio::test]
async fn key_packages_under_the_stable_name_are_claimed() -> Result {
    let _clock = Clock::take().await;
    let homeserver = Homeserver::embedded()?;
    let (user, http) = Http::register(homeserver.base_url(), "new", "NEW").await?;
    let peer = Peer::new(&user, "NEW");
    let (id, package) = peer.published_key_package();
    let id = id.replacen("org.matrix.msc2883.v1.dmls.", "m.dmls.v1.", 1);
    let upload = json!({ "device_keys": peer.device_keys(), "one_time_keys": { id: package } });
    http.post("/_matrix/client/v3/keys/upload", upload).await?;
    let bob = phone_of(&homeserver, "bob").await?;
    let (alice, _, room) = room_with(&homeserver, &bob).await?;
    alice.invite(&room, &user).await?;
    http.post(&join_path(&room), json!({})).await?;
    alice.settle().await?;
    alice.send_text(&room, "hello").await?;
    // Bob's under the one name, that under the other.
    assert_eq!((alice.members(&room).await?.len(), claims(&homeserver, &alice)?), (4, 2));
    Ok(())
}

/// Both devices of a user have one and the same signature key, each with a key package that is well
/// made. MLS lets only one of them in (RFC 9420, section 7.3), and the room does not wait for the
/// other.
#[tokio::test]
async fn a_device_that_cannot_be_added_holds_up_nobody() -> Result {
    let _clock = Clock::take().await;
    let homeserver = Homeserver::embedded()?;
    let bob = phone_of(&homeserver, "bob").await?;
    let (alice, carol, room) = room_with(&homeserver, &bob).await?;
    let first = Other::register(&homeserver, "twice").await;
    let login = json!({
        "type": "m.login.password", "device_id": "SECOND", "password": "p",
        "identifier": { "type": "m.id.user", "user": "twice" },
    });
    let http = Http::new(homeserver.base_url(), "twice/SECOND")?;
    let answer = http.post("/_matrix/client/v3/login", login).await?;
    let http = http.with_token(answer.text("access_token")?);
    let mut second = Peer::new(&first.peer.user, "SECOND");
    second.signer = serde_json::from_value(serde_json::to_value(&first.peer.signer)?)?;
    let (id, package) = second.published_key_package();
    let upload = json!({ "device_keys": second.device_keys(), "one_time_keys": { id: package } });
    http.post("/_matrix/client/v3/keys/upload", upload).await?;
    alice.invite(&room, &first.peer.user).await?;
    first.http.post(&join_path(&room), json!({})).await?;
    alice.settle().await?;
    alice.send_text(&room, "all the same").await?;
    for reader in [&bob, &carol] {
        reader.settle().await?;
        assert!(texts(reader, &room).await.contains(&"all the same".to_owned()));
    }
    assert_eq!(alice.members(&room).await?.len(), 4, "one of the two is in");
    Ok(())
}

/// A member adds a key package that expires within seconds. Whoever takes the commit in later hears
/// why it cannot be followed.
#[tokio::test]
async fn a_commit_that_comes_after_its_key_package_has_expired_says_so() -> Result {
    let _clock = Clock::take().await;
    let homeserver = Homeserver::embedded()?;
    let (alice, mut other, room, commit_event) = group_of_two(&homeserver).await?;
    let third = Peer::new("@third:embedded.test", "THIRD");
    let now_s = Clock::today_ms() / 1000;
    let credential = CredentialWithKey {
        credential: BasicCredential::new(identity(&third.user, &third.device)).into(),
        signature_key: third.signer.to_public_vec().into(),
    };
    let package = KeyPackage::builder().key_package_lifetime(Lifetime::init(0, now_s + 3)).build(
        SUITE,
        &third.provider,
        &third.signer,
        credential,
    )?;
    let (commit, _) = other.peer.add(&[package.key_package().clone()]);
    let mut content = other.commit(&commit, &name_of(&alice), &commit_event);
    content["public_group_state"] = json!(base64(&other.peer.group_info()));
    let event = other.send(&room, content).await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    let summary = alice.sync().await?.summary;
    let mut events = summary.rooms.into_iter().flat_map(|room| room.events);
    let event = events.find(|result| result.event_id.as_deref() == Some(&*event));
    let outcome = event.or_missing("result of the commit")?.outcome;
    assert!(
        matches!(&outcome, EventOutcome::Failed { error } if error.code() == "out_of_time"),
        "{outcome:?}"
    );
    // She comes in by herself: the lifetime of a leaf in the ratchet tree keeps nobody out.
    let number = other.peer.group().epoch().as_u64();
    assert!(alice.head(&room).await?.epoch < number);
    alice.send_text(&room, "here again").await?;
    assert!(alice.head(&room).await?.epoch > number);
    Ok(())
}
