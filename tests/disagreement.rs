//! Devices that disagree on who belongs in the group, as their homeservers tell them different
//! device lists: removal wins, nobody waits for it, and there is an end to it. The clock is the
//! whole process's, so one test at a time.

use std::sync::atomic::{AtomicU32, Ordering};

use matrix_mls::{MlsDevice, SendPlan, Update};
use matrix_mls_kit::{
    Client, Clock, Fault, Heard, Homeserver, OrMissing as _, Result, Target,
    together::{all_talk, log_in, newcomer, pair, quiet, renew_keys, texts},
};
use serde_json::json;

const MINUTE_MS: u64 = 60 * 1000;
const DAY_MS: u64 = 24 * 60 * MINUTE_MS;

/// Of one device, so many adds are undone within a day (docs/protocol.md, "When devices disagree").
const MOST_UNDONE: usize = 6;

/// The clock, from a month ago on: key packages must be valid by the real one too.
async fn month_ago() -> Clock {
    let clock = Clock::take().await;
    clock.set_back(30 * DAY_MS);
    clock
}

/// From now on, this client's homeserver tells it that somebody has no devices.
fn hide(homeserver: &Homeserver, from: &Client, hidden: &Client) -> Result<Fault> {
    let controls = homeserver.controls().or_missing("controls")?;
    let hidden = hidden.user_id().to_owned();
    let target = Target::path("/keys/query").user(from.user_id());
    Ok(controls.tamper(target, move |answer| {
        if answer["device_keys"].get(&hidden).is_some() {
            answer["device_keys"][&hidden] = json!({});
        }
    }))
}

/// From now on, this client's homeserver cannot reach that of somebody.
fn cut(homeserver: &Homeserver, from: &Client, hidden: &str) -> Result<Fault> {
    let controls = homeserver.controls().or_missing("controls")?;
    let hidden = hidden.to_owned();
    let server = hidden.split_once(':').or_missing("server name")?.1.to_owned();
    let target = Target::path("/keys/query").user(from.user_id());
    Ok(controls.tamper(target, move |answer| {
        if let Some(users) = answer["device_keys"].as_object_mut()
            && users.remove(&hidden).is_some()
        {
            answer["failures"][&server] = json!({ "status": 503 });
        }
    }))
}

/// Syncs and says something, if the room can be made ready without time passing; tells whether.
async fn tries_to_say(client: &Client, room: &str, text: &str) -> Result<bool> {
    client.settle().await?;
    let handle = client.room(room).await?;
    for _ in 0..30 {
        match handle.prepare_to_send().await {
            Ok(SendPlan::Ready) => {
                client.send_text(room, text).await?;
                return Ok(true);
            }
            Ok(SendPlan::Waiting { requests, .. }) if !requests.is_empty() => {
                for request in &requests {
                    client.send_request(request).await?;
                }
            }
            Ok(SendPlan::Waiting { .. }) | Err(_) => return Ok(false),
        }
    }
    Ok(false)
}

async fn says(client: &Client, room: &str, text: &str) -> Result {
    assert!(tries_to_say(client, room, text).await?, "{} cannot say {text}", client.name());
    Ok(())
}

/// Alice, Bob and Carol in a room. Bob is told that Carol has no devices. Alice has added Carol,
/// and Bob has removed her.
async fn undone(homeserver: &Homeserver) -> Result<(Client, Client, Client, String, Fault)> {
    let (alice, bob, room) = pair(homeserver).await;
    let carol = newcomer(homeserver, "carol", &alice, &room).await?;
    let lie = hide(homeserver, &bob, &carol)?;
    says(&alice, &room, "Carol is here").await?;
    quiet(&[&carol]).await;
    assert!(alice.has_member(&room, &carol).await?);
    says(&bob, &room, "between us").await?;
    assert!(!bob.has_member(&room, &carol).await?, "removed before anything is sealed");
    assert_eq!(texts(&carol, &room).await, ["Carol is here"]);
    Ok((alice, bob, carol, room, lie))
}

#[tokio::test]
async fn whoever_sees_an_add_undone_sends_without_the_device() -> Result {
    let clock = month_ago().await;
    let homeserver = Homeserver::embedded()?;
    let (mut alice, bob, carol, room, _lie) = undone(&homeserver).await?;
    let controls = homeserver.controls().or_missing("controls")?;
    // Later than the key packages were made, or a clock that is set back would not like them.
    clock.pass(4 * DAY_MS);
    let (heard, subscription) = Heard::of(&alice).await?;
    controls.clear_requests();
    let before = alice.commits(&room).await?.len();
    says(&alice, &room, "without her").await?;
    let told = heard
        .hear(|update| match update {
            Update::AddUndone { user_id, device_id, by, retry_after_ms, .. } => {
                Some((user_id.clone(), device_id.clone(), by.clone(), *retry_after_ms))
            }
            _ => None,
        })
        .await?;
    let by = MlsDevice { user_id: bob.user_id().to_owned(), device_id: bob.device_id().to_owned() };
    let (user_id, device_id) = (carol.user_id().to_owned(), carol.device_id().to_owned());
    assert_eq!(told, (user_id, device_id, by, 10 * MINUTE_MS));
    let asked = controls.requests();
    let asked = asked.iter().filter(|request| request.path.contains("/keys/query"));
    assert!(asked.count() > 0, "Carol's device list is asked for anew");
    drop(subscription);
    // Also after a restart, and however often something is said.
    alice.restart().await?;
    for number in 0..3 {
        clock.pass(2 * MINUTE_MS);
        says(&alice, &room, &format!("still without her {number}")).await?;
        says(&bob, &room, &format!("so be it {number}")).await?;
    }
    assert_eq!(alice.commits(&room).await?.len(), before, "not one commit");
    assert!(!alice.has_member(&room, &carol).await?);
    // The delay is over: one more try, and a longer delay.
    clock.pass(5 * MINUTE_MS);
    says(&alice, &room, "with her").await?;
    assert!(alice.has_member(&room, &carol).await?);
    says(&bob, &room, "not with me").await?;
    clock.pass(20 * MINUTE_MS);
    says(&alice, &room, "without her again").await?;
    assert_eq!(alice.commits(&room).await?.len(), before + 2);
    // A clock that is set back by more than any delay does not keep her out for as long.
    clock.set_back(3 * DAY_MS);
    says(&alice, &room, "with her by another clock").await?;
    assert!(alice.has_member(&room, &carol).await?);
    Ok(())
}

#[tokio::test]
async fn a_third_device_does_not_take_it_up() -> Result {
    let clock = month_ago().await;
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair(&homeserver).await;
    let dave = newcomer(&homeserver, "dave", &alice, &room).await?;
    says(&alice, &room, "Dave is here").await?;
    renew_keys(&[&alice, &bob, &dave], &room).await;
    let carol = newcomer(&homeserver, "carol", &alice, &room).await?;
    let _lie = hide(&homeserver, &bob, &carol)?;
    says(&alice, &room, "Carol is here").await?;
    quiet(&[&dave]).await;
    says(&bob, &room, "not to me").await?;
    let before = alice.commits(&room).await?.len();
    for client in [&dave, &alice, &bob, &dave] {
        says(client, &room, "and so on").await?;
    }
    assert_eq!(alice.commits(&room).await?.len(), before);
    clock.pass(11 * MINUTE_MS);
    says(&dave, &room, "one more try").await?;
    assert!(dave.has_member(&room, &carol).await?);
    Ok(())
}

#[tokio::test]
async fn in_a_day_the_two_make_a_stated_number_of_commits() -> Result {
    let clock = month_ago().await;
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, carol, room, lie) = undone(&homeserver).await?;
    let dave = newcomer(&homeserver, "dave", &alice, &room).await?;
    says(&alice, &room, "Dave is here").await?;
    renew_keys(&[&alice, &bob, &dave], &room).await;
    // The first add and its undoing are in the past; the commit that adds Dave is no part of it.
    let before = alice.commits(&room).await?.len() - 2;
    let everybody = [&alice, &bob, &carol, &dave];
    let mut carol_spoke = 0_usize;
    for round in 0..(DAY_MS / (15 * MINUTE_MS) - 1) {
        for client in everybody {
            let spoke = tries_to_say(client, &room, &format!("round {round}")).await?;
            carol_spoke += usize::from(spoke && client.user_id() == carol.user_id());
            clock.pass(3 * MINUTE_MS);
        }
        clock.pass(3 * MINUTE_MS);
    }
    let made = alice.commits(&room).await?.len() - before;
    // With her first message after each add she renews the keys that she came with.
    assert!(made <= 3 * MOST_UNDONE, "{made} commits in a day");
    assert!(made >= MOST_UNDONE - 1, "only {made} commits: it must be tried again");
    // Since she joined by herself she talks with those who see her. Bob stays where she is not, and
    // makes no commit for that.
    assert!(carol_spoke > 0);
    // Each day after that there is one more.
    let before = alice.commits(&room).await?.len();
    for round in 0..24 {
        for client in everybody {
            tries_to_say(client, &room, &format!("later {round}")).await?;
        }
        clock.pass(DAY_MS / 24);
    }
    let made = alice.commits(&room).await?.len() - before;
    assert!(made <= 3, "{made} commits in the day after");
    // Once Bob is told the same as the others, he himself adds her.
    lie.stop();
    let laptop = log_in(&homeserver, "carol", "LAPTOP").await?;
    quiet(&everybody).await;
    says(&bob, &room, "now I see you").await?;
    assert!(bob.has_member(&room, &carol).await? && bob.has_member(&room, &laptop).await?);
    quiet(&[&alice, &bob, &carol, &dave, &laptop]).await;
    all_talk(&[&alice, &bob, &carol, &dave, &laptop], &room).await;
    Ok(())
}

#[tokio::test]
async fn a_change_of_the_list_or_the_membership_ends_the_delay() -> Result {
    let _clock = month_ago().await;
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, carol, room, _lie) = undone(&homeserver).await?;
    says(&alice, &room, "without her").await?;
    assert!(!alice.has_member(&room, &carol).await?);
    let laptop = log_in(&homeserver, "carol", "LAPTOP").await?;
    says(&alice, &room, "with both").await?;
    assert!(alice.has_member(&room, &carol).await? && alice.has_member(&room, &laptop).await?);
    says(&bob, &room, "with neither").await?;
    says(&alice, &room, "without them").await?;
    assert!(!alice.has_member(&room, &carol).await?);
    // She leaves and comes back.
    carol.leave(&room).await?;
    says(&alice, &room, "she is gone").await?;
    alice.invite(&room, carol.user_id()).await?;
    carol.join(&room).await?;
    says(&alice, &room, "she is back").await?;
    assert!(alice.has_member(&room, &carol).await? && alice.has_member(&room, &laptop).await?);
    quiet(&[&carol]).await;
    assert!(texts(&carol, &room).await.contains(&"she is back".to_owned()));
    Ok(())
}

#[tokio::test]
async fn a_list_that_changes_all_the_time_is_no_reason_for_more() -> Result {
    let _clock = month_ago().await;
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, carol, room, _lie) = undone(&homeserver).await?;
    let before = alice.commits(&room).await?.len() - 2;
    // Each time that Alice asks for Carol's devices, there is another one among them that is of no
    // use.
    let controls = homeserver.controls().or_missing("controls")?;
    let user = carol.user_id().to_owned();
    let target = Target::path("/keys/query").user(alice.user_id());
    let number = AtomicU32::new(0);
    let _flaps = controls.tamper(target, move |answer| {
        if let Some(devices) = answer["device_keys"][&user].as_object_mut() {
            devices.insert(format!("X{}", number.fetch_add(1, Ordering::Relaxed)), json!({}));
        }
    });
    for round in 0..20 {
        says(&alice, &room, &format!("round {round}")).await?;
        says(&bob, &room, &format!("round {round}, for us two")).await?;
    }
    let made = alice.commits(&room).await?.len() - before;
    assert!(made > 4, "only {made} commits: a change is a reason to try again");
    assert!(made <= 2 * MOST_UNDONE, "{made} commits");
    Ok(())
}

#[tokio::test]
async fn whose_devices_cannot_be_had_stays() -> Result {
    let clock = month_ago().await;
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair(&homeserver).await;
    renew_keys(&[&alice, &bob], &room).await;
    let outage = cut(&homeserver, &bob, &alice.user_id().replace("alice", "carol"))?;
    let carol = newcomer(&homeserver, "carol", &alice, &room).await?;
    says(&alice, &room, "Carol is here").await?;
    let before = alice.commits(&room).await?.len();
    quiet(&[&carol]).await;
    says(&bob, &room, "whoever you are").await?;
    assert_eq!(alice.commits(&room).await?.len(), before, "no reason to remove her");
    quiet(&[&carol]).await;
    assert_eq!(texts(&carol, &room).await, ["Carol is here", "whoever you are"]);
    // Once her devices can be had, they count.
    outage.stop();
    let lie = hide(&homeserver, &bob, &carol)?;
    clock.pass(2 * MINUTE_MS);
    bob.settle().await?;
    says(&bob, &room, "without her").await?;
    assert!(!bob.has_member(&room, &carol).await?);
    lie.stop();
    Ok(())
}
