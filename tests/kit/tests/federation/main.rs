//! Two Synapses that federate: what crosses between them, what is answered while they cannot reach each other, and
//! that nothing is lost by it.

mod person;

use std::time::{Duration, Instant};

use matrix_mls::RoomSettings;
use matrix_mls_kit::{Federation, KitError, peer::KEY_PACKAGE};
use serde_json::{Value, json};

use self::person::Person;

type TestResult = Result<(), Box<dyn std::error::Error>>;

/// Says how long something took. `--nocapture` shows it.
fn took(what: &str, time: Duration) {
    println!("{what}: {} ms", time.as_millis());
}

#[tokio::test]
async fn two_servers_share_rooms_and_lose_nothing_to_a_cut() -> TestResult {
    let began = Instant::now();
    let federation = Federation::start().await?;
    took("both servers up", began.elapsed());
    let mut alice = Person::register(&federation.a, "alice").await?;
    let mut bob = Person::register(&federation.b, "bob").await?;
    assert_ne!(alice.server(), bob.server());

    let began = Instant::now();
    let room_id = alice.client.create_room(&[&bob.client]).await?;
    bob.client.join(&room_id).await?;
    took("a room of both", began.elapsed());
    everything_crosses(&room_id, &mut alice, &mut bob).await?;
    for round in 1..=2 {
        println!("cut {round}");
        cut_and_heal(&federation, &room_id, &mut alice, &mut bob).await?;
    }
    everything_crosses(&room_id, &mut alice, &mut bob).await?;
    took("all", began.elapsed());
    Ok(())
}

async fn everything_crosses(room_id: &str, alice: &mut Person, bob: &mut Person) -> TestResult {
    let event_id = alice.say(room_id, "from A").await?;
    took("an event from A to B", bob.sees(room_id, &event_id).await?);
    let event_id = bob.say(room_id, "from B").await?;
    took("an event from B to A", alice.sees(room_id, &event_id).await?);
    alice.notes().await?;
    bob.notes().await?;
    alice.pass(bob, 1).await?;
    took("a to-device message from A to B", bob.gets(&[1]).await?);
    bob.pass(alice, 2).await?;
    took("a to-device message from B to A", alice.gets(&[2]).await?);

    for (by, of) in [(&*alice, &*bob), (&*bob, &*alice)] {
        let queried = by.query(of.id()).await?;
        assert!(queried["device_keys"][of.id()].get("PHONE").is_some(), "{queried}");
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

async fn cut_and_heal(
    federation: &Federation,
    room_id: &str,
    alice: &mut Person,
    bob: &mut Person,
) -> TestResult {
    let uri = bob.client.upload_media(b"a blob".to_vec()).await?;
    let began = Instant::now();
    federation.cut().await;
    took("cutting", began.elapsed());

    let mut said = Vec::new();
    for number in 0..3 {
        said.push((alice.say(room_id, &format!("A in the dark {number}")).await?, true));
        said.push((bob.say(room_id, &format!("B in the dark {number}")).await?, false));
        alice.pass(bob, number).await?;
        bob.pass(alice, number).await?;
    }
    let began = Instant::now();
    println!("query known {}", alice.query(bob.id()).await?);
    took("query", began.elapsed());
    let began = Instant::now();
    println!("query unknown {}", alice.query(&format!("@kit-caller:{}", bob.server())).await?);
    took("query", began.elapsed());
    let began = Instant::now();
    println!("claim {}", alice.claim(bob.id(), KEY_PACKAGE).await?);
    took("claim", began.elapsed());
    let began = Instant::now();
    println!("media {:?}", alice.client.download_media(&uri).await.err());
    took("media", began.elapsed());
    let began = Instant::now();
    println!("event {}", alice.event(room_id, &said[1].0).await?);
    took("event", began.elapsed());
    let path = format!("/rooms/{room_id}/messages?dir=b&limit=100");
    let began = Instant::now();
    println!("messages {}", alice.ask("GET", &path, Value::Null).await?.status);
    took("messages", began.elapsed());
    tokio::time::sleep(Duration::from_secs(1)).await;

    let began = Instant::now();
    federation.heal().await?;
    took("healing", began.elapsed());
    for (event_id, by_alice) in &said {
        let other = if *by_alice { &*bob } else { &*alice };
        other.sees(room_id, event_id).await?;
    }
    took("until all events have crossed", began.elapsed());
    bob.gets(&[0, 1, 2]).await?;
    alice.gets(&[0, 1, 2]).await?;
    took("until all to-device messages have crossed", began.elapsed());
    println!("claim {}", alice.claim(bob.id(), KEY_PACKAGE).await?);
    Ok(())
}
