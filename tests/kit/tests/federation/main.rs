//! Two Synapses that federate: what crosses between them, what is answered while they cannot reach
//! each other, and that nothing is lost by it. `--nocapture` shows how long each takes.

mod parted;
mod person;

use std::time::{Duration, Instant};

use matrix_mls::RoomSettings;
use matrix_mls_kit::{Client, Federation, Result, peer::KEY_PACKAGE};
use serde_json::json;

use self::person::Person;

fn took(what: &str, time: Duration) {
    println!("{what}: {} ms", time.as_millis());
}

/// Four servers at once would keep each other waiting.
static ONE_AT_A_TIME: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// One test, as starting the servers is most of the work.
#[tokio::test]
async fn two_servers_share_rooms_and_lose_nothing_to_a_cut() -> Result {
    let _alone = ONE_AT_A_TIME.lock().await;
    let began = Instant::now();
    let federation = Federation::start().await?;
    took("both servers up", began.elapsed());
    let mut alice = Person::register(&federation.a, "alice").await?;
    let mut bob = Person::register(&federation.b, "bob").await?;
    assert!(alice.server() != bob.server() && bob.server().starts_with("localhost:"));

    let began = Instant::now();
    let room_id = alice.client.create_room(&[&bob.client]).await?;
    let early = alice.say(&room_id, "before Bob").await?;
    alice.say(&room_id, "just before Bob").await?;
    bob.client.join(&room_id).await?;
    took("a room of both", began.elapsed());
    the_past_comes_by_pages_alone(&room_id, &early, &bob).await?;
    everything_crosses(&room_id, &mut alice, &mut bob).await?;
    an_mls_group_spans_both(&alice, &bob).await?;
    for round in 1..=2 {
        println!("cut {round}");
        nothing_is_lost(&federation, &room_id, round, &mut alice, &mut bob).await?;
    }
    everything_crosses(&room_id, &mut alice, &mut bob).await
}

/// A server fetches nothing of another for the sake of one event.
async fn the_past_comes_by_pages_alone(room_id: &str, early: &str, bob: &Person) -> Result {
    assert_eq!(bob.fetch(room_id, early).await?, 404);
    let history = bob.client.history(room_id).await?;
    assert!(history.iter().any(|event| event["event_id"] == early));
    assert_eq!(bob.fetch(room_id, early).await?, 200);
    Ok(())
}

async fn everything_crosses(room_id: &str, alice: &mut Person, bob: &mut Person) -> Result {
    let event_id = alice.say(room_id, "from A").await?;
    took("an event from A to B", bob.sees(room_id, &event_id).await?);
    let event_id = bob.say(room_id, "from B").await?;
    took("an event from B to A", alice.sees(room_id, &event_id).await?);
    alice.pass(bob, 1).await?;
    took("a to-device message from A to B", bob.gets(&[1]).await?);
    bob.pass(alice, 2).await?;
    took("a to-device message from B to A", alice.gets(&[2]).await?);

    for (by, of) in [(&*alice, &*bob), (&*bob, &*alice)] {
        let queried = by.query(of.id()).await?;
        assert!(queried["device_keys"][of.id()].get("PHONE").is_some(), "{queried}");
        assert_eq!(queried["failures"], json!({}));
        let claimed = by.claim(of.id(), KEY_PACKAGE).await?;
        let keys = claimed["one_time_keys"][of.id()]["PHONE"].as_object();
        assert_eq!(keys.map(|keys| keys.len()), Some(1), "{claimed}");
        let blob: Vec<u8> = (0..=255).cycle().take(1_000_000).collect();
        let uri = of.client.upload_media(blob.clone()).await?;
        let began = Instant::now();
        assert!(by.client.download_media(&uri).await? == blob);
        took("a megabyte of the other server's media", began.elapsed());
    }
    Ok(())
}

async fn an_mls_group_spans_both(alice: &Person, bob: &Person) -> Result {
    let began = Instant::now();
    let room_id = alice.client.create_group(&[&bob.client], RoomSettings::default()).await?;
    alice.client.send_text(&room_id, "Hello, Bob").await?;
    bob.reads(&room_id, "Hello, Bob").await?;
    bob.client.send_text(&room_id, "Hello, Alice").await?;
    alice.reads(&room_id, "Hello, Alice").await?;
    took("an MLS group of both, and a message each way", began.elapsed());
    Ok(())
}

async fn nothing_is_lost(
    federation: &Federation,
    room_id: &str,
    round: u64,
    alice: &mut Person,
    bob: &mut Person,
) -> Result {
    let [fetched, unfetched] = [
        bob.client.upload_media(b"fetched before".to_vec()).await?,
        bob.client.upload_media(b"not fetched".to_vec()).await?,
    ];
    alice.client.download_media(&fetched).await?;
    federation.cut().await;

    let (mut of_alice, mut of_bob) = (Vec::new(), Vec::new());
    for number in 0..3 {
        of_alice.push(alice.say(room_id, &format!("A in the dark {number}")).await?);
        of_bob.push(bob.say(room_id, &format!("B in the dark {number}")).await?);
        alice.pass(bob, number).await?;
        bob.pass(alice, number).await?;
    }
    let tablet = format!("TABLET{round}");
    Client::log_in(&federation.b, "bob", &tablet).await?.settle().await?;
    let carol = Person::register(&federation.b, &format!("carol{round}")).await?;
    bob.client.invite(room_id, carol.id()).await?;
    carol.client.join(room_id).await?;

    let began = Instant::now();
    // Devices that the server knows are answered as if nothing were, though there is a new one.
    let queried = alice.query(bob.id()).await?;
    assert!(queried["device_keys"][bob.id()].get("PHONE").is_some(), "{queried}");
    assert!(queried["device_keys"][bob.id()].get(&tablet).is_none(), "{queried}");
    assert_eq!(queried["failures"], json!({}));
    // Those of users with whom it shares no room, and keys, are a failure of their server.
    let strangers = alice.query(carol.id()).await?;
    assert_eq!(strangers["device_keys"], json!({}));
    assert_eq!(strangers["failures"][bob.server()]["status"], json!(503), "{strangers}");
    let claimed = alice.claim(bob.id(), KEY_PACKAGE).await?;
    assert_eq!(claimed["one_time_keys"], json!({}));
    assert_eq!(claimed["failures"][bob.server()]["status"], json!(503), "{claimed}");
    assert_eq!(alice.client.download_media(&fetched).await?, b"fetched before");
    let refused = alice.client.download_media(&unfetched).await.err();
    assert_eq!(refused.and_then(|error| error.status()), Some(502));
    assert_eq!(alice.fetch(room_id, &of_bob[0]).await?, 404);
    let page = alice.get(&format!("/rooms/{room_id}/messages?dir=b&limit=100")).await?;
    assert_eq!(page.status, 200);
    took("all questions while the link is cut", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(5), "a cut link keeps nobody waiting");

    tokio::time::sleep(Duration::from_secs(1)).await;
    alice.knows_nothing_of(&of_bob).await?;
    bob.knows_nothing_of(&of_alice).await?;
    let began = Instant::now();
    federation.heal().await?;
    took("healing", began.elapsed());
    for (person, said) in [(&mut *alice, &of_bob), (&mut *bob, &of_alice)] {
        for event_id in said {
            person.sees(room_id, event_id).await?;
        }
    }
    took("until all events had crossed", began.elapsed());
    bob.gets(&[0, 1, 2]).await?;
    alice.gets(&[0, 1, 2]).await?;
    took("until all to-device messages had crossed", began.elapsed());
    alice.finds(bob.id(), &tablet).await?;
    alice.finds(carol.id(), "PHONE").await?;
    took("until the new devices were known", began.elapsed());
    alice.meets(room_id, carol.id()).await?;
    took("until the new member had joined", began.elapsed());
    let claimed = alice.claim(bob.id(), KEY_PACKAGE).await?;
    assert_eq!(claimed["failures"], json!({}));
    assert_eq!(alice.client.download_media(&unfetched).await?, b"not fetched");
    Ok(())
}

#[tokio::test]
async fn an_mls_room_gets_over_cuts() -> Result {
    let _alone = ONE_AT_A_TIME.lock().await;
    let federation = Federation::start().await?;
    parted::rooms_get_over_cuts(&federation).await
}
