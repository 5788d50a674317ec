//! A device that was away while the room's keys were renewed many times: it finds the commits that
//! it has missed on pages of the room's history, follows them in their order, reads what was said
//! all the while, and goes on.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use matrix_mls::{OutgoingRequest, RoomSettings, SyncChanges, Update, test_hooks};
use matrix_mls_kit::{
    Client, Heard, Homeserver, OrMissing as _, Result, feed, is_commit, news,
    other::{group_of_three, name_of},
    peer::{base64, from_base64},
    together::{all_talk, head, pair, quiet, renew_keys, texts},
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// Alice renews her keys so often, and says something each time.
async fn talk_alone(alice: &Client, room: &str, commits: usize) -> Result {
    for number in 0..commits {
        alice.rotate_keys(room).await?;
        alice.send_text(room, &format!("text {number}")).await?;
    }
    Ok(())
}

/// Bob reads what Alice has said so often, by following her commits.
async fn reads_all(bob: &Client, room: &str, commits: usize) -> Result {
    let read = texts(bob, room).await;
    let missed: Vec<_> =
        (0..commits).filter(|number| !read.contains(&format!("text {number}"))).collect();
    assert!(missed.is_empty(), "bob never reads {missed:?}");
    let epochs = bob.room(room).await?.epochs().await?;
    assert!(epochs.len() > commits, "he followed each commit");
    assert!(epochs.iter().all(|epoch| !epoch.is_external), "nobody had to join anew");
    Ok(())
}

/// What a device has told of catching up: how far it was, of how much.
fn progress(heard: &Heard) -> Vec<(u64, Option<u64>)> {
    let updates = heard.all().into_iter();
    updates
        .filter_map(|update| match update {
            Update::CatchingUp { done, total, .. } => Some((done, total)),
            _ => None,
        })
        .collect()
}

/// The requests of this kind that a device wants sent.
async fn requests(client: &Client, part: &str) -> Result<Vec<OutgoingRequest>> {
    let requests = client.machine()?.outgoing_requests().await?;
    Ok(requests.into_iter().filter(|request| request.path.contains(part)).collect())
}

#[tokio::test]
async fn whoever_was_away_for_many_commits_reads_all_that_was_said() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair(&homeserver).await;
    talk_alone(&alice, &room, 150).await?;
    let (heard, _listening) = Heard::of(&bob).await?;
    quiet(&[&alice, &bob]).await;
    let told = progress(&heard);
    assert!(told.windows(2).all(|two| two[0].0 <= two[1].0), "{told:?}");
    assert!(told.iter().all(|(done, total)| total.is_some_and(|total| total >= *done)), "{told:?}");
    let (done, total) = *told.last().or_missing("progress")?;
    assert!(done > 130 && total == Some(done), "{told:?}");
    all_talk(&[&alice, &bob], &room).await;
    reads_all(&bob, &room, 150).await
}

/// The commits are more than may wait in a room.
#[tokio::test]
async fn an_absence_of_a_thousand_commits_is_followed_in_order() -> Result {
    const COMMITS: usize = 1_200;
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair(&homeserver).await;
    talk_alone(&alice, &room, COMMITS).await?;
    let controls = homeserver.controls().or_missing("controls")?;
    controls.clear_requests();
    let (heard, _listening) = Heard::of(&bob).await?;
    bob.settle().await?;
    let made = controls.requests();
    let of_history = made.iter().filter(|request| request.path.contains("/messages")).count();
    assert!(of_history <= COMMITS * 2 / 100 + 2, "{of_history} pages");
    assert!(made.len() < of_history + 30, "{} requests", made.len());
    let dropped = |update: &Update| matches!(update, Update::EventsDropped { .. });
    assert!(!heard.all().iter().any(dropped), "nothing that waited was lost");
    assert_eq!(head(&alice, &room).await, head(&bob, &room).await);
    reads_all(&bob, &room, COMMITS).await?;
    all_talk(&[&alice, &bob], &room).await;
    Ok(())
}

/// Each page is taken in a process that dies right after.
#[tokio::test]
async fn catching_up_goes_on_over_restarts() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, mut bob, room) = pair(&homeserver).await;
    talk_alone(&alice, &room, 120).await?;
    bob.sync().await?;
    let mut pages = 0;
    loop {
        let due = bob.machine()?.outgoing_requests().await?;
        let Some(request) = due.first() else { break };
        pages += usize::from(request.path.contains("dir=f"));
        bob.send_request(request).await?;
        bob.crash().await?;
    }
    assert_eq!(pages, 2, "the last commits came with the sync");
    quiet(&[&alice, &bob]).await;
    reads_all(&bob, &room, 120).await?;
    all_talk(&[&alice, &bob], &room).await;
    Ok(())
}

/// Bob comes back with something to say: he says it where the group is, and not where it was.
#[tokio::test]
async fn whoever_comes_back_to_say_something_catches_up_first() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair(&homeserver).await;
    renew_keys(&[&alice, &bob], &room).await;
    talk_alone(&alice, &room, 60).await?;
    bob.sync().await?;
    while requests(&bob, "/event/").await?.len() == 1 {
        bob.send_request(requests(&bob, "/event/").await?.first().or_missing("request")?).await?;
    }
    bob.send_text(&room, "I am back").await?;
    assert_eq!(head(&alice, &room).await, head(&bob, &room).await);
    quiet(&[&alice, &bob]).await;
    assert!(texts(&alice, &room).await.contains(&"I am back".to_owned()));
    reads_all(&bob, &room, 60).await
}

/// A homeserver whose pages never come, and whose other requests do, holds up nobody for good.
#[tokio::test]
async fn pages_that_never_come_hold_up_no_message() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair(&homeserver).await;
    renew_keys(&[&alice, &bob], &room).await;
    talk_alone(&alice, &room, 80).await?;
    bob.sync().await?;
    while let Some(request) = requests(&bob, "/event/").await?.first() {
        bob.send_request(request).await?;
    }
    let controls = homeserver.controls().or_missing("controls")?;
    let target = matrix_mls_kit::Target::path("/context/").user(bob.user_id());
    let broken = controls.fail(target, u64::MAX, 502);
    bob.send_text(&room, "in spite of it").await?;
    assert_eq!(broken.hits(), 3);
    broken.stop();
    quiet(&[&alice, &bob]).await;
    reads_all(&bob, &room, 80).await?;
    all_talk(&[&alice, &bob], &room).await;
    Ok(())
}

/// The head of Bob's is a commit of his own, which comes after the one by which Alice's branch
/// began.
#[tokio::test]
async fn a_branch_that_began_before_the_head_is_followed() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair(&homeserver).await;
    let controls = homeserver.controls().or_missing("controls")?;
    alice.rotate_keys(&room).await?;
    alice.send_text(&room, "text 0").await?;
    // Bob has not heard of that.
    let deaf = controls.partition(matrix_mls_kit::Target::path("/sync").user(alice.user_id()));
    bob.rotate_keys(&room).await?;
    bob.send_text(&room, "a branch of mine").await?;
    talk_alone(&alice, &room, 40).await?;
    deaf.stop();
    let newest = alice.history(&room).await?.pop().or_missing("event")?;
    bob.room(&room).await?.receive_events(vec![newest.to_string()]).await?;
    bob.drive().await?;
    assert_eq!(head(&alice, &room).await, head(&bob, &room).await);
    quiet(&[&alice, &bob]).await;
    reads_all(&bob, &room, 40).await?;
    all_talk(&[&alice, &bob], &room).await;
    Ok(())
}

/// Beyond the setting a device joins anew, and says which epochs it cannot read.
#[tokio::test]
async fn a_setting_bounds_what_is_followed() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair(&homeserver).await;
    let settings = RoomSettings { catch_up_events: 100, ..RoomSettings::default() };
    bob.set_settings(&room, settings).await?;
    talk_alone(&alice, &room, 150).await?;
    // Nor is there any of it in the pages back.
    let controls = homeserver.controls().or_missing("controls")?;
    controls.fail(matrix_mls_kit::Target::path("dir=b").user(bob.user_id()), u64::MAX, 403);
    let (heard, _listening) = Heard::of(&bob).await?;
    let before = bob.head(&room).await?.epoch;
    for _ in 0..20 {
        quiet(&[&alice, &bob]).await;
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    let stretch = heard
        .hear(|update| match update {
            Update::EpochsMissed { room_id, first, last } => Some((room_id.clone(), *first, *last)),
            _ => None,
        })
        .await?;
    controls.heal();
    let (told_of, first, last) = stretch;
    assert_eq!(told_of, room);
    assert!(first >= before + 50 && last == before + 150, "{before}: {first} to {last}");
    let read = texts(&bob, &room).await;
    assert!(read.contains(&"text 40".to_owned()) && !read.contains(&"text 130".to_owned()));
    all_talk(&[&alice, &bob], &room).await;
    Ok(())
}

/// A homeserver that does not know the commit any more, or gives no pages, does not end it all.
#[tokio::test]
async fn what_the_homeserver_refuses_is_done_without() -> Result {
    for part in ["/context/", "dir=f"] {
        let homeserver = Homeserver::embedded()?;
        let (alice, bob, room) = pair(&homeserver).await;
        talk_alone(&alice, &room, 80).await?;
        let controls = homeserver.controls().or_missing("controls")?;
        let target = matrix_mls_kit::Target::path(part).user(bob.user_id());
        let refusing = controls.fail(target, u64::MAX, 404);
        quiet(&[&alice, &bob]).await;
        assert!((1..10).contains(&refusing.hits()), "{part}: {}", refusing.hits());
        // They are on the pages back as well.
        reads_all(&bob, &room, 80).await?;
        all_talk(&[&alice, &bob], &room).await;
    }
    Ok(())
}

/// Half an answer, an answer of something else, and one that goes round in a circle.
#[tokio::test]
async fn answers_that_are_none_lose_nothing() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair(&homeserver).await;
    talk_alone(&alice, &room, 80).await?;
    bob.sync().await?;
    while let Some(request) = requests(&bob, "/event/").await?.first() {
        bob.send_request(request).await?;
    }
    let machine = bob.machine()?;
    let [place] = &*requests(&bob, "/context/").await? else { panic!("a place is asked for") };
    for body in ["", "[]", "{\"events_after\":7}"] {
        let done = machine.mark_request_as_sent(place.id.clone(), 200, body.into()).await?;
        assert!(matches!(done, matrix_mls::RequestOutcome::RetryLater { .. }), "{done:?}");
    }
    // Nothing there: it is looked for otherwise.
    let nothing = json!({ "events_after": [{}, 3, "x"], "end": null }).to_string();
    machine.mark_request_as_sent(place.id.clone(), 200, nothing.into_bytes()).await?;
    quiet(&[&alice, &bob]).await;
    reads_all(&bob, &room, 80).await?;
    all_talk(&[&alice, &bob], &room).await;
    Ok(())
}

/// A commit among the missed is so large that it is in the media repository: the ones behind it
/// wait.
#[tokio::test]
async fn a_large_commit_among_the_missed_is_fetched_in_its_place() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, mut mallory, room, mut base) = group_of_three(&homeserver).await?;
    let mut creator = name_of(&alice);
    for number in 0..20 {
        let commit = mallory.peer.update();
        let mut content = mallory.commit(&commit, &creator, &base);
        content["public_group_state"] = json!(base64(&mallory.peer.group_info()));
        if number % 7 == 3 {
            content["ciphertext"] = upload(&alice, &content["ciphertext"]).await?;
        }
        base = mallory.send(&room, content).await;
        creator = mallory.name();
    }
    let newest = alice.history(&room).await?.pop().or_missing("event")?;
    assert!(is_commit(&newest));
    bob.room(&room).await?.receive_events(vec![newest.to_string()]).await?;
    bob.drive().await?;
    assert_eq!(bob.head(&room).await?.creator_user_id, mallory.peer.user);
    quiet(&[&alice, &bob]).await;
    all_talk(&[&alice, &bob], &room).await;
    let epochs = bob.room(&room).await?.epochs().await?;
    assert!(epochs.len() > 20 && epochs.iter().all(|epoch| !epoch.is_external));
    Ok(())
}

/// Puts what a content has inline into the media repository.
async fn upload(by: &Client, inline: &Value) -> Result<Value> {
    let bytes = from_base64(inline.as_str().or_missing("text")?);
    let size = bytes.len();
    let hash = base64(&Sha256::digest(&bytes));
    let uri = by.upload_media(bytes).await?;
    Ok(json!({ "url": uri, "size": size, "sha256": hash }))
}

/// A sync of hundreds of commits does not keep others from the lock: somebody else can say
/// something meanwhile, in another room.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_sync_lets_others_in_between() -> Result {
    const COMMITS: usize = 100;
    // On a fast machine as on a slow one, the sync is many turns.
    test_hooks::set_turn_ms(10);
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair(&homeserver).await;
    let other = bob.create_group(&[], RoomSettings::default()).await?;
    bob.send_text(&other, "alone").await?;
    talk_alone(&alice, &room, COMMITS).await?;
    let timeline: Vec<String> = alice.history(&room).await?.iter().map(Value::to_string).collect();
    let sync = SyncChanges { rooms: vec![news(&room, timeline)], ..feed() };
    let machine = bob.machine()?.clone();
    let (syncing, said) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicU64::new(0)));
    let speaking = tokio::spawn({
        let (room, syncing, said) = (bob.room(&other).await?, syncing.clone(), said.clone());
        async move {
            while syncing.load(Ordering::SeqCst) {
                // It writes, so it needs the lock.
                room.rotate_keys().await?;
                said.fetch_add(1, Ordering::SeqCst);
            }
            Ok::<_, matrix_mls::MlsError>(())
        }
    });
    let (began, before) = (std::time::Instant::now(), said.load(Ordering::SeqCst));
    let summary = machine.receive_sync(sync).await?;
    let (took, in_between) = (began.elapsed(), said.load(Ordering::SeqCst));
    syncing.store(false, Ordering::SeqCst);
    speaking.await??;
    let messages = summary.rooms[0].events.iter();
    let messages = messages
        .filter(|event| matches!(event.outcome, matrix_mls::EventOutcome::Message { .. }))
        .count();
    assert!(messages >= COMMITS, "{messages} messages");
    // One more may have been about to, before the sync had the lock.
    assert!(in_between - before >= 3, "{before} and {in_between} times in {took:?}");
    reads_all(&bob, &room, COMMITS).await
}
