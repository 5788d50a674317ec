//! Verifications that take too long, and clocks that are off. These tests set the clock of the
//! process.

use matrix_mls::{IdentityState, SyncChanges, VerificationState};
use matrix_mls_kit::{
    Client, Clock, Homeserver, OrMissing as _, Refused as _, Result, bail, feed,
    together::{log_in, pair, phone_of, quiet, two_phones},
};
use serde_json::json;

const MINUTE_MS: u64 = 60 * 1000;
const HOUR_MS: u64 = 60 * MINUTE_MS;

async fn code_of(client: &Client, id: &str) -> Result<(String, bool)> {
    match client.machine()?.verification(id.to_owned()).info().await?.state {
        VerificationState::Cancelled { code, by_this_device, .. } => Ok((code, by_this_device)),
        state => bail!("not cancelled: {state:?}"),
    }
}

async fn only(client: &Client) -> Result<String> {
    let mut all = client.machine()?.verifications().await?;
    assert_eq!(all.len(), 1);
    Ok(all.pop().or_missing("a verification")?.id)
}

#[tokio::test]
async fn a_verification_that_takes_too_long_ends() -> Result {
    let clock = Clock::take().await;
    let homeserver = Homeserver::embedded()?;
    let (alice, bob) = two_phones(&homeserver).await?;
    clock.stop();
    let ours = alice.machine()?.request_verification(bob.user_id().to_owned(), None).await?;
    quiet(&[&alice, &bob]).await;
    let theirs = only(&bob).await?;
    clock.pass(MINUTE_MS);
    bob.machine()?.verification(theirs.clone()).accept().await?;
    quiet(&[&bob, &alice]).await;
    clock.pass(8 * MINUTE_MS);
    assert_eq!(ours.info().await?.state, VerificationState::Ready);
    clock.pass(2 * MINUTE_MS);
    // Bob's device hears of it from Alice's, or sees for itself.
    alice.drive().await?;
    assert_eq!(code_of(&alice, &ours.id()).await?, ("m.timeout".to_owned(), true));
    assert_eq!(code_of(&bob, &theirs).await?.0, "m.timeout");
    assert!(alice.machine()?.verifications().await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn a_request_that_nobody_answers_lapses_and_may_be_answered_elsewhere() -> Result {
    let clock = Clock::take().await;
    let homeserver = Homeserver::embedded()?;
    let (alice, bob) = two_phones(&homeserver).await?;
    clock.stop();
    let ours = alice.machine()?.request_verification(bob.user_id().to_owned(), None).await?;
    quiet(&[&alice, &bob]).await;
    let theirs = only(&bob).await?;
    clock.pass(2 * MINUTE_MS + 1);
    quiet(&[&bob, &alice]).await;
    assert_eq!(code_of(&bob, &theirs).await?, ("m.timeout".to_owned(), true));
    // Alice was told nothing: another device of Bob's may answer.
    assert_eq!(ours.info().await?.state, VerificationState::Requested);
    Ok(())
}

#[tokio::test]
async fn a_clock_that_is_set_back_keeps_nothing_open_for_years() -> Result {
    let clock = Clock::take().await;
    let homeserver = Homeserver::embedded()?;
    let (alice, bob) = two_phones(&homeserver).await?;
    clock.stop();
    let ours = alice.machine()?.request_verification(bob.user_id().to_owned(), None).await?;
    alice.drive().await?;
    clock.set_back(24 * HOUR_MS);
    alice.drive().await?;
    assert_eq!(code_of(&alice, &ours.id()).await?, ("m.timeout".to_owned(), true));
    Ok(())
}

/// A device whose clock is off knows from its homeserver what time it is.
#[tokio::test]
async fn a_device_whose_clock_is_off_is_asked_all_the_same() -> Result {
    let clock = Clock::take().await;
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair(&homeserver).await;
    for now_ms in [Clock::today_ms() + 30 * MINUTE_MS, Clock::today_ms() - 5 * HOUR_MS] {
        clock.set(now_ms);
        bob.send_text(&room, "what time is it?").await?;
        bob.settle().await?;
        let ask = async |sent_ms: u64, id: &str| -> Result<usize> {
            let content = json!({
                "transaction_id": id, "from_device": "PHONE", "methods": ["m.sas.v1"],
                "timestamp": sent_ms,
            });
            let event = json!({
                "type": "m.key.verification.request", "sender": alice.user_id(),
                "content": content,
            });
            let sync = SyncChanges { to_device: vec![event.to_string()], ..feed() };
            bob.machine()?.receive_sync(sync).await?;
            let open = bob.machine()?.verifications().await?;
            for info in &open {
                bob.machine()?.verification(info.id.clone()).cancel().await?;
            }
            Ok(open.len())
        };
        assert_eq!(ask(Clock::today_ms(), &format!("now {now_ms}")).await?, 1);
        let old_ms = Clock::today_ms() - 12 * MINUTE_MS;
        assert_eq!(ask(old_ms, &format!("old {now_ms}")).await?, 0);
    }
    Ok(())
}

/// Secrets are handed over within ten minutes after the verification, by either side's clock.
#[tokio::test]
async fn secrets_of_a_verification_that_was_long_ago_are_not_handed_over() -> Result {
    let clock = Clock::take().await;
    let homeserver = Homeserver::embedded()?;
    let phone = phone_of(&homeserver, "alice").await?;
    phone.make_identity().await?;
    let laptop = log_in(&homeserver, "alice", "LAPTOP").await?;
    quiet(&[&phone, &laptop]).await;
    clock.stop();
    for late_at_the_other in [false, true] {
        let (user, device) = (laptop.user_id().to_owned(), "LAPTOP".to_owned());
        let ours = phone.machine()?.request_verification(user, Some(device)).await?;
        quiet(&[&phone, &laptop]).await;
        let theirs = laptop.machine()?.verification(only(&laptop).await?);
        theirs.accept().await?;
        quiet(&[&laptop, &phone]).await;
        ours.start_sas().await?;
        quiet(&[&phone, &laptop]).await;
        ours.confirm().await?;
        theirs.confirm().await?;
        quiet(&[&phone, &laptop]).await;
        if late_at_the_other {
            ours.offer_secrets().await?;
            phone.drive().await?;
            clock.pass(11 * MINUTE_MS);
        } else {
            clock.pass(11 * MINUTE_MS);
            assert_eq!(ours.offer_secrets().await.refused()?.code(), "not_now");
        }
        quiet(&[&phone, &laptop]).await;
        let state = laptop.machine()?.identity().state().await?;
        assert_ne!(state, IdentityState::Complete, "{late_at_the_other}");
    }
    Ok(())
}
