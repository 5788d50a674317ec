//! Devices that publish no MLS credential: how often they are asked whether they have one.
//!
//! The library's clock is the process's, so the tests take turns.

use matrix_mls::RoomSettings;
use matrix_mls_kit::{
    Client, Clock, Homeserver, OrMissing as _, Result, Target,
    olm::{Olm, olm_phone},
    together::{phone_of, quiet, texts},
};

const MINUTE_MS: u64 = 60 * 1000;

/// How many requests of a client went to a path since they were counted last.
fn count(homeserver: &Homeserver, client: &Client, path: &str) -> Result<usize> {
    let controls = homeserver.controls().or_missing("controls")?;
    let is_it = |user: &Option<String>| user.as_deref() == Some(client.user_id());
    let requests = controls.requests();
    let found = requests.iter().filter(|sent| is_it(&sent.user_id) && sent.path.contains(path));
    let number = found.count();
    controls.clear_requests();
    Ok(number)
}

/// Nobody tells when an Olm device becomes capable. It is asked for seldom, whatever is said
/// meanwhile, and found.
#[tokio::test]
async fn an_olm_device_costs_a_question_now_and_then_and_is_found_in_the_end() -> Result {
    let clock = Clock::take().await;
    let homeserver = Homeserver::embedded()?;
    let alice = phone_of(&homeserver, "alice").await?;
    let (bob, olm) = olm_phone(&homeserver, "bob").await?;
    let room = alice.create_group(&[&bob], RoomSettings::default()).await?;
    count(&homeserver, &alice, "")?;
    for number in 0..20 {
        alice.send_text(&room, &format!("message {number}")).await?;
        alice.settle().await?;
    }
    assert_eq!(count(&homeserver, &alice, "/keys/claim")?, 1);
    // A day later, message by message, every minute for an hour: each rest is twice as long.
    let mut asked = 0;
    for minute in 1..=60 {
        clock.set(Clock::today_ms() + minute * MINUTE_MS);
        alice.send_text(&room, "still here").await?;
        alice.settle().await?;
        asked += count(&homeserver, &alice, "/keys/claim")?;
    }
    assert_eq!(asked, 2, "after ten minutes, and after twenty more");
    olm.bind(&bob).await?;
    bob.settle().await?;
    clock.set(Clock::today_ms() + 25 * 60 * MINUTE_MS);
    // The first message after a day asks and does not wait, the next one adds.
    for text in ["are you there?", "and now?"] {
        alice.send_text(&room, text).await?;
        quiet(&[&alice, &bob]).await;
    }
    assert!(texts(&bob, &room).await.contains(&"and now?".to_owned()));
    Ok(())
}

/// A crowd of Olm devices: the first message waits for one question about some of them, and the
/// others are asked for a minute at a time.
#[tokio::test]
async fn a_crowd_of_olm_devices_holds_up_one_message_for_one_question() -> Result {
    let clock = Clock::take().await;
    let homeserver = Homeserver::embedded()?;
    let controls = homeserver.controls().or_missing("controls")?;
    let alice = phone_of(&homeserver, "alice").await?;
    let (bob, _olm) = olm_phone(&homeserver, "bob").await?;
    let mut crowd = serde_json::Map::new();
    for number in 0..1_200 {
        let device = format!("OLM{number:04}");
        crowd.insert(device.clone(), Olm::new(bob.user_id(), &device).device_keys()?);
    }
    let user = bob.user_id().to_owned();
    let _crowd =
        controls.tamper(Target::path("/keys/query").user(alice.user_id()), move |answer| {
            if let Some(devices) = answer["device_keys"][&user].as_object_mut() {
                devices.extend(crowd.clone());
            }
        });
    let room = alice.create_group(&[&bob], RoomSettings::default()).await?;
    count(&homeserver, &alice, "")?;
    let mut asked = Vec::new();
    for minute in 0..6 {
        clock.set(Clock::today_ms() + minute * MINUTE_MS);
        for _ in 0..3 {
            alice.send_text(&room, "hello").await?;
            alice.settle().await?;
        }
        asked.push(count(&homeserver, &alice, "/keys/claim")?);
    }
    assert_eq!(asked, [1, 2, 0, 0, 0, 0], "500, 500, and the rest, which one request can ask for");
    Ok(())
}
