//! A device's clock that is off is told, and blocks nothing.

use matrix_mls::{SendPlan, Update};
use matrix_mls_kit::{
    Client, Clock, Heard, Homeserver, OrMissing as _, Result, Target, eyre,
    together::{all_talk, head, newcomer, pair, phone_of, quiet},
};

const MINUTE_MS: u64 = 60 * 1000;
const HOUR_MS: u64 = 60 * MINUTE_MS;
const DAY_MS: u64 = 24 * HOUR_MS;

/// What the app heard of the clock, in hours.
async fn clock_off(heard: &Heard) -> Result<i64> {
    heard
        .hear(|update| match update {
            Update::ClockOff { ahead_ms } => Some(ahead_ms / 3_600_000),
            _ => None,
        })
        .await
}

#[tokio::test]
async fn a_clock_that_is_off_is_told_once_and_when_it_is_right_again() -> Result {
    let clock = Clock::take().await;
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair(&homeserver).await;
    let (heard, _subscription) = Heard::of(&alice).await?;
    for (now_ms, hours) in
        [(Clock::today_ms() + 2 * HOUR_MS + MINUTE_MS, 2), (Clock::today_ms() - 5 * HOUR_MS, -5)]
    {
        clock.set(now_ms);
        for text in ["is it late?", "or early?"] {
            alice.send_text(&room, text).await?;
            alice.settle().await?;
        }
        assert_eq!(clock_off(&heard).await?, hours);
    }
    clock.is_right();
    all_talk(&[&alice, &bob], &room).await;
    assert_eq!(clock_off(&heard).await?, 0);
    let again = heard.all().into_iter().filter(|update| matches!(update, Update::ClockOff { .. }));
    assert_eq!(again.count(), 0, "each was told once");
    Ok(())
}

/// Two phones that believe it is 1970, or 2040, talk as ever, and when it is today again too.
#[tokio::test]
async fn people_whose_clocks_are_years_off_talk_and_add_each_other() -> Result {
    let clock = Clock::take().await;
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair(&homeserver).await;
    clock.set(1_000);
    let carol = newcomer(&homeserver, "carol", &alice, &room).await?;
    quiet(&[&alice, &bob, &carol]).await;
    all_talk(&[&alice, &bob, &carol], &room).await;
    clock.set(Clock::today_ms() + 14 * 365 * DAY_MS);
    all_talk(&[&alice, &bob, &carol], &room).await;
    // Published when it seemed to be 2040, and good today.
    let dave = phone_of(&homeserver, "dave").await?;
    clock.is_right();
    alice.invite(&room, dave.user_id()).await?;
    dave.join(&room).await?;
    quiet(&[&alice, &bob, &carol, &dave]).await;
    all_talk(&[&alice, &bob, &carol, &dave], &room).await;
    Ok(())
}

/// Whether a device has a commit to send now.
async fn sends_a_commit(client: &Client) -> Result<bool> {
    let requests = client.machine()?.outgoing_requests().await?;
    Ok(requests.iter().any(|request| request.path.contains("/send/m.room.encrypted")))
}

/// What was put off while the clock was years ahead is not put off for years.
#[tokio::test]
async fn what_waits_for_a_time_of_a_clock_that_was_ahead_waits_no_longer() -> Result {
    let clock = Clock::take().await;
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair(&homeserver).await;
    let carol = newcomer(&homeserver, "carol", &alice, &room).await?;
    alice.settle().await?;
    let ahead_ms = Clock::today_ms() + 14 * 365 * DAY_MS;
    clock.set(ahead_ms);
    // By that clock Carol's key packages have expired.
    alice.send_text(&room, "in 2040").await?;
    assert_eq!(alice.members(&room).await?.len(), 2);
    clock.is_right();
    alice.send_text(&room, "today").await?;
    assert_eq!(alice.members(&room).await?.len(), 3);

    // A request that failed, by the queue.
    clock.set(ahead_ms);
    // By that clock it is long since that the homeserver said who is in the room.
    alice.prepare(&room).await?;
    homeserver.controls().or_missing("controls")?.fail(
        Target::path("/send/m.room.encrypted"),
        1,
        500,
    );
    let handle = alice.room(&room).await?;
    handle.rotate_keys().await?;
    let plan = handle.prepare_to_send().await?;
    let SendPlan::Waiting { requests, .. } = plan else {
        return Err(eyre!("nothing to send: {plan:?}"));
    };
    for request in requests {
        alice.send_request(&request).await?;
    }
    assert!(!sends_a_commit(&alice).await?, "it is put off");
    clock.is_right();
    assert!(sends_a_commit(&alice).await?, "it is due");
    quiet(&[&alice, &bob, &carol]).await;
    all_talk(&[&alice, &bob, &carol], &room).await;
    Ok(())
}

/// A device joins by itself ten times an hour at the most. Joins of an hour that is still to come
/// do not count today.
#[tokio::test]
async fn joins_by_a_clock_that_was_ahead_are_long_past() -> Result {
    let clock = Clock::take().await;
    let homeserver = Homeserver::embedded()?;
    let mut ahead_ms = Clock::today_ms() + 14 * 365 * DAY_MS;
    clock.set(ahead_ms);
    let (alice, bob, room) = pair(&homeserver).await;
    let mut heads = vec![head(&bob, &room).await];
    for joins in 0..11 {
        bob.join_externally(&room).await?;
        // It waits for longer each time, up to eight minutes.
        ahead_ms += 500 << joins;
        clock.set(ahead_ms);
        // The last is refused.
        let prepared = bob.prepare(&room).await;
        assert_eq!(prepared.is_ok(), joins < 10, "{prepared:?}");
        quiet(&[&bob, &alice]).await;
        heads.push(head(&bob, &room).await);
    }
    let last = heads.split_off(10);
    assert!(heads.windows(2).all(|two| two[0] != two[1]), "ten times it joins");
    assert_eq!(last[0], last[1], "and no more within the hour");
    clock.is_right();
    quiet(&[&bob, &alice]).await;
    assert_ne!(head(&bob, &room).await, last[1]);
    all_talk(&[&alice, &bob], &room).await;
    Ok(())
}
