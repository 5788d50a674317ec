//! What the homeserver answers, and what becomes of it: accepted, refused, put off, lost, repeated.

use matrix_mls::{MlsError, OutgoingRequest, RequestOutcome, RoomSettings, SendPlan, Update};
use matrix_mls_kit::{
    Client, Heard, Homeserver, OrMissing as _, RateLimit, Refused as _, Result, Target, bail,
    together::{pair, pair_without_a_group, phone_of, quiet, texts},
};

async fn outgoing(client: &Client) -> Result<Vec<OutgoingRequest>> {
    Ok(client.machine()?.outgoing_requests().await?)
}

async fn waiting(client: &Client, room: &str) -> Result<(Vec<OutgoingRequest>, Option<u64>)> {
    match client.room(room).await?.prepare_to_send().await? {
        SendPlan::Waiting { requests, retry_after_ms } => Ok((requests, retry_after_ms)),
        SendPlan::Ready => bail!("the room is ready already"),
    }
}

async fn answer(client: &Client, id: &str, status: u16, body: &str) -> Result<RequestOutcome> {
    let machine = client.machine()?;
    Ok(machine.mark_request_as_sent(id.to_owned(), status, body.into()).await?)
}

async fn talk(from: &Client, to: &Client, room: &str, text: &str) -> Result {
    from.send_text(room, text).await?;
    // A Welcome that failed the first time is still to be sent.
    from.settle().await?;
    to.settle().await?;
    let messages = to.sync().await?.messages;
    assert!(messages.iter().any(|message| message.content.contains(text)), "{messages:?}");
    Ok(())
}

#[tokio::test]
async fn an_unanswered_request_is_the_same_after_a_restart() -> Result {
    let homeserver = Homeserver::embedded()?;
    let mut alice = Client::register(&homeserver, "alice", "PHONE").await?;
    let upload = outgoing(&alice).await?;
    assert_eq!(upload.len(), 1);
    assert_eq!((&*upload[0].method, &*upload[0].content_type), ("POST", "application/json"));
    alice.restart().await?;
    assert_eq!(outgoing(&alice).await?, upload);
    alice.settle().await?;

    let bob = phone_of(&homeserver, "bob").await?;
    let room = alice.create_room(&[&bob]).await?;
    bob.join(&room).await?;
    alice.settle().await?;
    alice.enable(&room, RoomSettings::default()).await?;
    // The announcement, the query, the claim, the commit, the Welcome, each over a restart.
    let mut kinds = Vec::new();
    loop {
        let plan = alice.room(&room).await?.prepare_to_send().await?;
        let SendPlan::Waiting { requests, .. } = plan else { break };
        alice.restart().await?;
        let again = outgoing(&alice).await?;
        for request in &requests {
            assert!(again.contains(request), "{} is another request now", request.path);
            kinds.push(
                request.path.split('/').rev().nth(1).or_missing("kind in the path")?.to_owned(),
            );
            alice.send_request(request).await?;
        }
    }
    assert_eq!(kinds.iter().filter(|kind| *kind == "m.room.encrypted").count(), 3, "{kinds:?}");
    assert!(kinds.iter().filter(|kind| *kind == "keys").count() >= 1, "{kinds:?}");
    talk(&alice, &bob, &room, "hello").await
}

#[tokio::test]
async fn a_request_that_is_put_off_comes_back_when_it_is_due_and_not_before() -> Result {
    let homeserver = Homeserver::embedded()?;
    let alice = Client::register(&homeserver, "alice", "PHONE").await?;
    let id = outgoing(&alice).await?.remove(0).id;
    let limited = r#"{"errcode":"M_LIMIT_EXCEEDED","error":"slow","retry_after_ms":60000}"#;
    let later = answer(&alice, &id, 429, limited).await?;
    assert_eq!(later, RequestOutcome::RetryLater { after_ms: 60_000 });
    assert_eq!(outgoing(&alice).await?, []);

    // What has no delay of its own gets one that grows; no answer tells us to wait for ever.
    let mut last = 0;
    for (status, body) in [(0, ""), (503, "<html>"), (401, "{}"), (200, "no JSON"), (429, "")] {
        let RequestOutcome::RetryLater { after_ms } = answer(&alice, &id, status, body).await?
        else {
            panic!("status {status} does not put it off")
        };
        assert!(after_ms > last, "status {status}");
        last = after_ms;
    }
    let absurd = r#"{"retry_after_ms":18446744073709551615}"#;
    let later = answer(&alice, &id, 429, absurd).await?;
    assert_eq!(later, RequestOutcome::RetryLater { after_ms: 3_600_000 });
    let soon = r#"{"retry_after_ms":1}"#;
    assert_eq!(answer(&alice, &id, 429, soon).await?, RequestOutcome::RetryLater { after_ms: 1 });
    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    assert_eq!(outgoing(&alice).await?[0].id, id);
    Ok(())
}

#[tokio::test]
async fn a_rate_limited_homeserver_is_obeyed() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair_without_a_group(&homeserver).await?;
    let interval = std::time::Duration::from_millis(60);
    homeserver.controls().or_missing("controls")?.set_rate_limit(Some(RateLimit {
        path: "/_matrix/client".to_owned(),
        burst: 3,
        interval,
    }));
    alice.enable(&room, RoomSettings::default()).await?;
    alice.prepare(&room).await?;
    homeserver.controls().or_missing("controls")?.set_rate_limit(None);
    talk(&alice, &bob, &room, "patience").await
}

#[tokio::test]
async fn a_refused_commit_is_undone_told_and_planned_again() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair_without_a_group(&homeserver).await?;
    alice.enable(&room, RoomSettings::default()).await?;
    alice.settle().await?;
    let (heard, _subscription) = Heard::of(&alice).await?;
    let before = alice.epochs(&room).await?;
    let commit = loop {
        let (requests, _) = waiting(&alice, &room).await?;
        match requests.iter().find(|request| request.path.contains("/send/m.room.encrypted")) {
            Some(commit) => break commit.clone(),
            None => {
                for request in &requests {
                    alice.send_request(request).await?;
                }
            }
        }
    };
    let refusal = r#"{"errcode":"M_FORBIDDEN","error":"not now"}"#;
    let outcome = answer(&alice, &commit.id, 403, refusal).await?;
    assert_eq!(
        outcome,
        RequestOutcome::Refused { code: "M_FORBIDDEN".into(), reason: "not now".into() }
    );
    let told = heard.wait_for(|update| matches!(update, Update::RequestRefused { .. })).await?;
    assert!(matches!(told, Update::RequestRefused { room_id: Some(id), .. } if id == room));
    assert_eq!(alice.epochs(&room).await?, before);

    let (requests, retry_after_ms) = waiting(&alice, &room).await?;
    assert_eq!(requests, [], "it is not made again at once");
    assert!(retry_after_ms.is_some());
    talk(&alice, &bob, &room, "second try").await
}

#[tokio::test]
async fn an_answer_to_a_commit_without_an_event_id_does_not_count() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair_without_a_group(&homeserver).await?;
    alice.enable(&room, RoomSettings::default()).await?;
    let (requests, _) = waiting(&alice, &room).await?;
    let announcement = requests.iter().find(|request| request.path.contains("m.room.encrypted"));
    let announcement = announcement.or_missing("announcement")?;
    for body in ["", "{}", "[]", r#"{"event_id":3}"#, r#"{"event_id":"no event id"}"#] {
        let outcome = answer(&alice, &announcement.id, 200, body).await?;
        assert!(matches!(outcome, RequestOutcome::RetryLater { .. }), "{body}: {outcome:?}");
    }
    assert_eq!(alice.epochs(&room).await?, []);
    alice.send_request(announcement).await?;
    assert_eq!(alice.epochs(&room).await?.len(), 1);
    // Once more is once too often, and does nothing.
    alice.send_request(announcement).await?;
    assert_eq!(alice.epochs(&room).await?.len(), 1);
    talk(&alice, &bob, &room, "hello").await
}

#[tokio::test]
async fn a_commit_whose_answer_was_lost_counts_when_sync_brings_it() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair_without_a_group(&homeserver).await?;
    alice.enable(&room, RoomSettings::default()).await?;
    alice.forget_answers("/send/m.room.encrypted", 10);
    let (requests, _) = waiting(&alice, &room).await?;
    for request in &requests {
        alice.send_request(request).await?;
    }
    assert_eq!(alice.epochs(&room).await?, [], "not answered");
    alice.sync().await?;
    assert_eq!(alice.epochs(&room).await?.len(), 1, "but seen");
    // The requests are gone; their answers, should they come after all, change nothing.
    for request in &requests {
        let outcome = answer(&alice, &request.id, 200, r#"{"event_id":"$late"}"#).await?;
        assert_eq!(outcome, RequestOutcome::Accepted);
    }
    assert_eq!(alice.epochs(&room).await?.len(), 1);
    alice.prepare(&room).await?;
    talk(&alice, &bob, &room, "hello").await
}

#[tokio::test]
async fn a_network_that_loses_requests_and_answers_costs_time_only() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair_without_a_group(&homeserver).await?;
    let controls = homeserver.controls().or_missing("controls")?;
    controls.drop_requests(Target::path("/keys/"), 1);
    controls.drop_answers(Target::path("/send"), 2);
    controls.fail(Target::path("/sendToDevice"), 1, 502);
    alice.enable(&room, RoomSettings::default()).await?;
    alice.prepare(&room).await?;
    talk(&alice, &bob, &room, "through it all").await?;
    talk(&bob, &alice, &room, "and back").await
}

#[tokio::test]
async fn ids_that_name_no_request_are_told_apart() -> Result {
    let homeserver = Homeserver::embedded()?;
    let alice = Client::register(&homeserver, "alice", "PHONE").await?;
    assert_eq!(answer(&alice, "123456", 200, "{}").await?, RequestOutcome::Accepted);
    let machine = alice.machine()?;
    for id in ["", "one", "1.5", "99999999999999999999"] {
        let error = machine.mark_request_as_sent(id.into(), 200, Vec::new()).await.refused()?;
        assert!(matches!(error, MlsError::InvalidInput { .. }), "{id}: {error}");
    }
    Ok(())
}

#[tokio::test]
async fn a_room_is_rotated_after_as_many_messages_as_its_settings_say() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair_without_a_group(&homeserver).await?;
    let settings = RoomSettings { rotate_after_messages: 3, ..RoomSettings::default() };
    alice.enable(&room, settings).await?;
    let mut epochs = Vec::new();
    for number in 0..8 {
        let text = format!("message {number}");
        alice.send_text(&room, &text).await?;
        bob.settle().await?;
        let messages = bob.sync().await?.messages;
        epochs.extend(messages.iter().map(|message| message.epoch));
    }
    assert_eq!(epochs.len(), 8);
    assert!(epochs.is_sorted());
    epochs.dedup();
    assert!(epochs.len() >= 3, "{epochs:?}");
    Ok(())
}

/// The homeserver tells Alice another event id for her commit than it tells everybody.
#[tokio::test]
async fn a_commit_that_is_answered_under_another_id_keeps_nothing_from_being_read() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair(&homeserver).await;
    alice.rotate_keys(&room).await?;
    let controls = homeserver.controls().or_missing("controls")?;
    let target = Target::path("/send/m.room.encrypted").user(alice.user_id());
    let lie =
        controls.tamper(target, |answer| answer["event_id"] = "$another:embedded.test".into());
    alice.prepare(&room).await?;
    lie.stop();
    alice.send_text(&room, "before the sync").await?;
    quiet(&[&alice, &bob]).await;
    alice.send_text(&room, "after it").await?;
    quiet(&[&alice, &bob]).await;
    let read = texts(&bob, &room).await;
    for text in ["before the sync", "after it"] {
        assert!(read.contains(&text.to_owned()), "{text}: {read:?}");
    }
    Ok(())
}
