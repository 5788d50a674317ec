//! What a sync leaves out: a few commits are asked for by their event id, more are found on pages
//! of the room's history. Where the homeserver does not have one, or answers with something else,
//! the device gets on by another way.

use matrix_mls::{
    EventOutcome, MlsError, OutgoingRequest, RequestOutcome, RoomChanges, SendPlan, SyncChanges,
};
use matrix_mls_kit::{
    Client, Homeserver, OrMissing as _, Refused as _, Result, feed, is_commit, news,
    together::{all_talk, head, pair, quiet, texts},
};
use serde_json::{Value, json};

/// The last event of a room's history.
fn last(events: &[Value]) -> Result<&Value> {
    events.last().or_missing("event in the room")
}

/// Alice makes commits and says something after each, none of which Bob's sync brings; all her
/// room's events, oldest first.
async fn unseen(alice: &Client, room: &str, commits: usize) -> Result<Vec<Value>> {
    for number in 0..commits {
        alice.rotate_keys(room).await?;
        alice.send_text(room, &format!("after commit {number}")).await?;
    }
    Ok(alice.history(room).await?)
}

async fn outcome(client: &Client, room: &str, event: &Value) -> Result<EventOutcome> {
    let handle = client.room(room).await?;
    Ok(handle.receive_events(vec![event.to_string()]).await?.remove(0).outcome)
}

/// The requests for single events.
async fn fetches(client: &Client) -> Result<Vec<OutgoingRequest>> {
    let requests = client.machine()?.outgoing_requests().await?;
    Ok(requests.into_iter().filter(|request| request.path.contains("/event/")).collect())
}

/// The requests for pages of a room's history, and for a place in it.
async fn pages(client: &Client) -> Result<Vec<OutgoingRequest>> {
    let requests = client.machine()?.outgoing_requests().await?;
    Ok(requests.into_iter().filter(is_of_history).collect())
}

fn is_of_history(request: &OutgoingRequest) -> bool {
    request.path.contains("/messages") || request.path.contains("/context/")
}

/// What a homeserver answers that does not have an event.
fn not_found() -> Value {
    json!({ "errcode": "M_NOT_FOUND", "error": "Event not found." })
}

fn read(outcomes: impl IntoIterator<Item = EventOutcome>) -> Vec<String> {
    outcomes
        .into_iter()
        .filter_map(|outcome| match outcome {
            EventOutcome::Message { message } => Some(message.content),
            _ => None,
        })
        .collect()
}

/// Sends the requests for what is missing until none is left. Gives how many were for one event,
/// and how many for a page.
async fn fetch_all(client: &Client) -> Result<(usize, usize)> {
    let (mut single, mut paged) = (0, 0);
    loop {
        let (events, pages) = (fetches(client).await?, pages(client).await?);
        let Some(request) = events.first().or(pages.first()) else { return Ok((single, paged)) };
        *(if events.is_empty() { &mut paged } else { &mut single }) += 1;
        client.send_request(request).await?;
        let mut left = fetches(client).await?.into_iter().chain(self::pages(client).await?);
        assert!(left.all(|other| other.id != request.id), "answered once");
    }
}

#[tokio::test]
async fn a_few_commits_that_the_sync_left_out_are_fetched_one_by_one() -> Result {
    closes_a_gap(8, (8, 0)).await
}

#[tokio::test]
async fn more_commits_than_that_are_found_on_pages_of_the_history() -> Result {
    // The first beyond, and what one page of 100 events has room for: a commit and its message
    // each. One request more says where the page begins.
    for commits in [9, 20, 50] {
        closes_a_gap(commits, (8, 2)).await?;
    }
    closes_a_gap(60, (8, 3)).await
}

/// Bob lacks this many commits, and gets them by so many requests: for one event, for a page.
async fn closes_a_gap(commits: usize, requests: (usize, usize)) -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair(&homeserver).await;
    let events = unseen(&alice, &room, commits).await?;
    let waiting = outcome(&bob, &room, last(&events)?).await?;
    assert!(matches!(waiting, EventOutcome::Waiting { .. }));
    let asked = fetch_all(&bob).await?;
    assert_eq!(asked, requests, "each commit once, and nothing that is known");
    // What the app fed is told to it when it next feeds something.
    let handle = bob.room(&room).await?;
    let results = handle.receive_events(Vec::new()).await?;
    let texts = read(results.into_iter().map(|result| result.outcome));
    let newest = format!("after commit {}", commits - 1);
    assert!(texts.len() == 1 && texts[0].contains(&newest), "{texts:?}");
    assert_eq!(head(&alice, &room).await, head(&bob, &room).await);
    all_talk(&[&alice, &bob], &room).await;
    assert_eq!(self::texts(&bob, &room).await.len(), commits + 3);
    Ok(())
}

#[tokio::test]
async fn a_gap_is_closed_over_a_restart() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, mut bob, room) = pair(&homeserver).await;
    let events = unseen(&alice, &room, 4).await?;
    let waiting = outcome(&bob, &room, last(&events)?).await?;
    assert!(matches!(waiting, EventOutcome::Waiting { .. }));
    for _ in 0..4 {
        let [fetch] = &*fetches(&bob).await? else { panic!("one at a time") };
        bob.send_request(fetch).await?;
        bob.crash().await?;
    }
    let handle = bob.room(&room).await?;
    let results = handle.receive_events(Vec::new()).await?;
    assert_eq!(read(results.into_iter().map(|result| result.outcome)).len(), 1);
    assert_eq!(head(&alice, &room).await, head(&bob, &room).await);
    Ok(())
}

#[tokio::test]
async fn a_long_gap_is_followed_by_pages_and_nobody_joins_anew() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair(&homeserver).await;
    let events = unseen(&alice, &room, 120).await?;
    outcome(&bob, &room, last(&events)?).await?;
    let (single, paged) = fetch_all(&bob).await?;
    assert_eq!((single, paged), (8, 4), "a place, and 120 commits with their messages");
    assert_eq!(head(&alice, &room).await, head(&bob, &room).await);
    quiet(&[&alice, &bob]).await;
    all_talk(&[&alice, &bob], &room).await;
    let epochs = bob.room(&room).await?.epochs().await?;
    assert!(epochs.iter().all(|epoch| !epoch.is_external), "he followed each commit");
    Ok(())
}

/// What the homeserver answers instead of the commit that Bob lacks; he gets there by another way.
async fn answered_with(
    status: u16,
    make: impl FnOnce(&Value, &[Value]) -> Result<Value>,
) -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair(&homeserver).await;
    let events = unseen(&alice, &room, 2).await?;
    let commits: Vec<_> = events.iter().filter(|event| is_commit(event)).collect();
    let [.., missing, newest] = &*commits else { panic!("two commits") };
    assert!(matches!(outcome(&bob, &room, newest).await?, EventOutcome::Waiting { .. }));
    let [fetch] = &*fetches(&bob).await? else { panic!("one request") };
    let answer = make(missing, &events)?.to_string().into_bytes();
    let machine = bob.machine()?;
    let done = machine.mark_request_as_sent(fetch.id.clone(), status, answer).await?;
    assert!(!matches!(done, RequestOutcome::RetryLater { .. }), "{done:?}");
    assert!(fetches(&bob).await?.is_empty(), "it is not asked again");
    if status == 404 {
        // It is looked for in the history once, and is not there either.
        let [page] = &*pages(&bob).await? else { panic!("one request for a page") };
        let nothing = json!({ "chunk": [], "start": "t1" }).to_string().into_bytes();
        machine.mark_request_as_sent(page.id.clone(), 200, nothing).await?;
        assert!(pages(&bob).await?.is_empty() && fetches(&bob).await?.is_empty());
    }
    let handle = bob.room(&room).await?;
    let results = handle.receive_events(Vec::new()).await?;
    assert!(results.is_empty(), "the newest commit still waits: {results:?}");
    // He does not: he looks for it in the room's history before he speaks, and joins anew if it is
    // not there either.
    bob.send_text(&room, "by another way").await?;
    quiet(&[&alice, &bob]).await;
    assert!(texts(&alice, &room).await.contains(&"by another way".to_owned()));
    all_talk(&[&alice, &bob], &room).await;
    Ok(())
}

#[tokio::test]
async fn an_event_that_is_not_there_is_done_without() -> Result {
    answered_with(404, |_, _| Ok(not_found())).await
}

/// As of a homeserver that was cut off, and has yet to fetch them of another.
#[tokio::test]
async fn commits_that_the_homeserver_lacks_are_found_in_the_history() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, mut bob, room) = pair(&homeserver).await;
    let events = unseen(&alice, &room, 5).await?;
    outcome(&bob, &room, last(&events)?).await?;
    let [fetch] = &*fetches(&bob).await? else { panic!("one request") };
    let (id, none) = (fetch.id.clone(), not_found().to_string().into_bytes());
    bob.machine()?.mark_request_as_sent(id, 404, none).await?;
    bob.restart().await?;
    let [page] = &*pages(&bob).await? else { panic!("one request for a page") };
    bob.send_request(page).await?;
    assert!(pages(&bob).await?.is_empty() && fetches(&bob).await?.is_empty(), "all is there");
    let results = bob.room(&room).await?.receive_events(Vec::new()).await?;
    assert_eq!(read(results.into_iter().map(|result| result.outcome)).len(), 1);
    assert_eq!(head(&alice, &room).await, head(&bob, &room).await);
    assert_eq!(texts(&bob, &room).await.len(), 6);
    all_talk(&[&alice, &bob], &room).await;
    Ok(())
}

/// Made-up commits cost a room no more pages than it may spend in an hour.
#[tokio::test]
async fn looking_for_what_never_was_has_an_end() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair(&homeserver).await;
    let events = unseen(&alice, &room, 1).await?;
    let mut turned = 0;
    for number in 0..8 {
        let mut event = last(&events)?.clone();
        event["event_id"] = json!(format!("$made-up-{number}"));
        event["content"]["commit_event"] = json!(format!("$never-was-{number}"));
        outcome(&bob, &room, &event).await?;
        loop {
            let (fetches, pages) = (fetches(&bob).await?, pages(&bob).await?);
            if fetches.is_empty() && pages.is_empty() {
                break;
            }
            let machine = bob.machine()?;
            for fetch in fetches {
                machine.mark_request_as_sent(fetch.id, 404, b"{}".to_vec()).await?;
            }
            for page in pages {
                turned += 1;
                let endless = json!({ "chunk": [], "end": format!("t{turned}") });
                let endless = endless.to_string().into_bytes();
                machine.mark_request_as_sent(page.id, 200, endless).await?;
            }
        }
    }
    assert_eq!(turned, 120);
    // What is there is found by the syncs.
    quiet(&[&alice, &bob]).await;
    all_talk(&[&alice, &bob], &room).await;
    Ok(())
}

/// Another homeserver's events can overtake each other: a commit may come after what is based on
/// it, and after the homeserver has said that it does not have it.
#[tokio::test]
async fn a_commit_that_comes_after_all_is_followed() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair(&homeserver).await;
    let events = unseen(&alice, &room, 2).await?;
    let commits: Vec<_> = events.iter().filter(|event| is_commit(event)).collect();
    let [.., late, newest] = &*commits else { panic!("two commits") };
    for early in [newest, last(&events)?] {
        assert!(matches!(outcome(&bob, &room, early).await?, EventOutcome::Waiting { .. }));
    }
    let [fetch] = &*fetches(&bob).await? else { panic!("one request") };
    let machine = bob.machine()?;
    let none = not_found().to_string().into_bytes();
    machine.mark_request_as_sent(fetch.id.clone(), 404, none).await?;
    let handle = bob.room(&room).await?;
    let results = handle.receive_events(vec![late.to_string()]).await?;
    let texts = read(results.into_iter().map(|result| result.outcome));
    assert!(texts.len() == 1 && texts[0].contains("after commit 1"), "{texts:?}");
    quiet(&[&alice, &bob]).await;
    all_talk(&[&alice, &bob], &room).await;
    Ok(())
}

/// The state beside a timeline is that of its beginning, on one branch of the room's history: it
/// may know nothing of a removal on another.
#[tokio::test]
async fn a_removed_user_is_not_added_again_because_of_an_old_state() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair(&homeserver).await;
    let mut state = Vec::new();
    for event in alice.history(&room).await? {
        if event["state_key"] == bob.user_id() && event["content"]["membership"] == "join" {
            state.push(event.to_string());
        }
    }
    assert_eq!(state.len(), 1);
    alice.kick(&room, bob.user_id()).await?;
    quiet(&[&alice, &bob]).await;
    alice.send_text(&room, "without bob").await?;
    // The first sync of another connection goes on from nothing, which is a doubt of its own.
    let other = |rooms| SyncChanges { connection: "other".into(), rooms, ..feed() };
    alice.machine()?.receive_sync(other(vec![news(&room, Vec::new())])).await?;
    alice.prepare(&room).await?;
    let old = RoomChanges { state, ..news(&room, Vec::new()) };
    let sync = other(vec![old]);
    alice.machine()?.receive_sync(sync).await?;
    let handle = alice.room(&room).await?;
    let error = handle.encrypt("m.room.message".into(), "{}".into()).await.refused()?;
    assert!(matches!(error, MlsError::NotReady { .. }), "{error}");
    let SendPlan::Waiting { requests, .. } = handle.prepare_to_send().await? else {
        panic!("it is asked who is in the room")
    };
    assert!(requests.len() == 1 && requests[0].path.contains("/members"), "{requests:?}");
    alice.send_text(&room, "still without him").await?;
    let members = handle.members().await?;
    assert!(members.len() == 1 && members[0].is_own_device, "{members:?}");
    Ok(())
}

#[tokio::test]
async fn an_event_that_was_redacted_is_done_without() -> Result {
    answered_with(200, |missing, _| {
        let mut redacted = missing.clone();
        redacted["content"] = json!({});
        Ok(redacted)
    })
    .await
}

#[tokio::test]
async fn another_event_than_was_asked_for_does_not_count() -> Result {
    answered_with(200, |_, events| Ok(events[0].clone())).await
}

#[tokio::test]
async fn an_event_with_another_ones_content_does_not_count() -> Result {
    answered_with(200, |missing, events| {
        let mut swapped = missing.clone();
        swapped["content"] = last(events)?["content"].clone();
        Ok(swapped)
    })
    .await
}

#[tokio::test]
async fn an_answer_that_is_no_event_does_not_count() -> Result {
    answered_with(200, |_, _| Ok(json!(["what", "is", "this"]))).await
}
