//! A reader that follows commits which the machine has not seen: it reads a push's message of an
//! epoch that the store does not know, and leaves the store as it is.

use std::{path::Path, sync::Arc};

use matrix_mls::{
    DecryptedMessage, FollowStep, MlsError, MlsFollower, MlsReader, OutgoingRequest, RoomSettings,
    UnreadableCause,
};
use matrix_mls_kit::{
    Answer, Client, Homeserver, OrMissing as _, Refused as _, Result, bail, is_commit, store_key,
    together::{all_talk, newcomer, pair, phone_of, quiet, texts},
};
use serde_json::{Value, json};

/// What a reader has asked for, and what has become of the message.
struct Followed {
    paths: Vec<String>,
    read: Result<DecryptedMessage, MlsError>,
}

impl Followed {
    fn text(self) -> Result<String> {
        Ok(self.read?.content)
    }

    fn code(self) -> Result<String> {
        Ok(self.read.refused()?.code().to_owned())
    }
}

async fn reader(of: &Client) -> Result<Arc<MlsReader>> {
    Ok(MlsReader::open(of.store_path().to_string_lossy().into_owned(), store_key()).await?)
}

/// Whether a message cannot be read for what does not come, and not for what it is.
fn is_out_of_reach(error: &MlsError) -> bool {
    matches!(error.unreadable_cause(), Some(UnreadableCause::NotYetHere | UnreadableCause::Lost))
}

/// The room's newest event, as a push handler gets it.
async fn newest(client: &Client, room: &str) -> Result<String> {
    Ok(client.history(room).await?.pop().or_missing("event")?.to_string())
}

/// Has a follower go on until it has the message or fails. Answers pass through `change`.
async fn drive(
    follower: &MlsFollower,
    client: &Client,
    change: impl Fn(&OutgoingRequest, Answer) -> Answer,
) -> Result<Followed> {
    let mut paths = Vec::new();
    let mut read = None;
    while read.is_none() {
        match follower.next_step().await {
            Ok(FollowStep::Read { message }) => read = Some(Ok(message)),
            Err(error) => read = Some(Err(error)),
            Ok(FollowStep::Send { requests }) => {
                for request in requests {
                    assert_eq!(request.method, "GET", "it changes nothing: {request:?}");
                    paths.push(request.path.clone());
                    let answer = change(&request, client.transmit(&request).await?);
                    let id = request.id.clone();
                    let taken = follower.mark_request_as_sent(id, answer.status, answer.body);
                    if let Err(error) = taken.await {
                        read = Some(Err(error));
                    }
                }
            }
        }
    }
    Ok(Followed { paths, read: read.or_missing("end")? })
}

async fn follow(reader: &MlsReader, client: &Client, room: &str, event: &str) -> Result<Followed> {
    let follower = reader.follow(room.to_owned(), event.to_owned()).await?;
    drive(&follower, client, |_, answer| answer).await
}

/// Alice renews her keys so often, and then says something.
async fn moves_on(alice: &Client, room: &str, commits: usize, text: &str) -> Result<String> {
    for _ in 0..commits {
        alice.rotate_keys(room).await?;
        alice.prepare(room).await?;
    }
    alice.send_text(room, text).await?;
    newest(alice, room).await
}

/// The bytes of a store's database and log.
fn files(directory: &Path) -> Result<(Vec<u8>, Vec<u8>)> {
    let log = std::fs::read(directory.join("matrix-mls.db-wal")).unwrap_or_default();
    Ok((std::fs::read(directory.join("matrix-mls.db"))?, log))
}

#[tokio::test]
async fn a_message_after_a_commit_is_read_and_the_store_stays_as_it_is() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair(&homeserver).await;
    let event = moves_on(&alice, &room, 1, "after a commit").await?;
    let reader = reader(&bob).await?;
    let unread = reader.decrypt(room.clone(), event.clone()).await.refused()?;
    assert_eq!(unread.code(), "unknown_epoch");
    let before = files(&bob.store_path())?;
    for _ in 0..2 {
        let followed = follow(&reader, &bob, &room, &event).await?;
        assert_eq!(followed.paths.len(), 1, "{:?}", followed.paths);
        assert!(followed.text()?.contains("after a commit"));
    }
    assert!(files(&bob.store_path())? == before, "nothing was written");
    // The machine finds all as if nobody had looked, and a later reader needs no requests.
    quiet(&[&alice, &bob]).await;
    assert!(texts(&bob, &room).await.contains(&"after a commit".to_owned()));
    let followed = follow(&reader, &bob, &room, &event).await?;
    assert_eq!(followed.paths, [""; 0]);
    followed.text()?;
    all_talk(&[&alice, &bob], &room).await;
    Ok(())
}

/// More commits than are asked for one by one, with people who come, talk and go.
async fn a_long_way(homeserver: &Homeserver, on: &str) -> Result {
    let alice = phone_of(homeserver, &format!("alice-{on}")).await?;
    let bob = phone_of(homeserver, &format!("bob-{on}")).await?;
    let room = alice.create_group(&[&bob], RoomSettings::default()).await?;
    alice.send_text(&room, "first").await?;
    quiet(&[&alice, &bob]).await;
    moves_on(&alice, &room, 20, "on the way").await?;
    let carol = newcomer(homeserver, &format!("carol-{on}"), &alice, &room).await?;
    quiet(&[&alice, &carol]).await;
    alice.send_text(&room, "hello carol").await?;
    quiet(&[&alice, &carol]).await;
    moves_on(&carol, &room, 20, "from carol").await?;
    let event = newest(&alice, &room).await?;
    let reader = reader(&bob).await?;
    let before = files(&bob.store_path())?;
    let followed = follow(&reader, &bob, &room, &event).await?;
    assert!(followed.paths.len() < 20, "{:?}", followed.paths);
    assert!(followed.paths.iter().any(|path| path.contains("/messages")), "{:?}", followed.paths);
    let message = followed.read?;
    assert!(message.content.contains("from carol"));
    assert_eq!(message.sender_user_id, carol.user_id());
    assert!(files(&bob.store_path())? == before, "nothing was written");
    quiet(&[&alice, &bob, &carol]).await;
    all_talk(&[&alice, &bob, &carol], &room).await;
    Ok(())
}

#[tokio::test]
async fn a_long_way_is_followed_on_pages_of_history() -> Result {
    a_long_way(&Homeserver::embedded()?, "embedded").await
}

#[tokio::test]
async fn a_long_way_is_followed_on_synapse() -> Result {
    a_long_way(&*Homeserver::shared_synapse().await?, "follow").await
}

/// Alice and Carol commit at once, and each talks on a branch.
#[tokio::test]
async fn a_message_on_either_branch_is_read() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair(&homeserver).await;
    let carol = newcomer(&homeserver, "carol", &alice, &room).await?;
    quiet(&[&alice, &bob, &carol]).await;
    alice.send_text(&room, "all are here").await?;
    quiet(&[&alice, &bob, &carol]).await;
    let on_one = moves_on(&alice, &room, 1, "alice on her branch").await?;
    let on_other = moves_on(&carol, &room, 2, "carol on her branch").await?;
    let reader = reader(&bob).await?;
    for (event, text) in [(&on_one, "alice on"), (&on_other, "carol on"), (&on_one, "alice on")] {
        let read = follow(&reader, &bob, &room, event).await?.text()?;
        assert!(read.contains(text), "{read}");
    }
    quiet(&[&alice, &bob, &carol]).await;
    all_talk(&[&alice, &bob, &carol], &room).await;
    Ok(())
}

/// The machine syncs in the middle: the reader begins anew, and finds that the store has all.
#[tokio::test]
async fn a_machine_that_catches_up_meanwhile_is_noticed() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair(&homeserver).await;
    let event = moves_on(&alice, &room, 3, "both get there").await?;
    let reader = reader(&bob).await?;
    let follower = reader.follow(room.clone(), event.clone()).await?;
    let FollowStep::Send { requests } = follower.next_step().await? else {
        bail!("it needs nothing");
    };
    quiet(&[&alice, &bob]).await;
    let Answer { status, body } = bob.transmit(&requests[0]).await?;
    follower.mark_request_as_sent(requests[0].id.clone(), status, body).await?;
    let FollowStep::Read { message } = follower.next_step().await? else {
        bail!("it does not see what the machine has done");
    };
    assert!(message.content.contains("both get there"));
    Ok(())
}

#[tokio::test]
async fn a_suspended_reader_follows_nothing_and_goes_on_when_it_is_resumed() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair(&homeserver).await;
    let event = moves_on(&alice, &room, 2, "after a pause").await?;
    let reader = reader(&bob).await?;
    let follower = reader.follow(room.clone(), event).await?;
    let FollowStep::Send { requests } = follower.next_step().await? else {
        bail!("it needs nothing");
    };
    reader.suspend().await?;
    // The file can go away: nothing has it open, and nothing has it locked.
    bob.machine()?.suspend().await?;
    let error = follower.next_step().await.err().or_missing("refusal")?;
    assert!(matches!(error, MlsError::Suspended { .. }), "{error}");
    follower.mark_request_as_sent(requests[0].id.clone(), 200, b"{}".to_vec()).await?;
    reader.resume().await?;
    let read = drive(&follower, &bob, |_, answer| answer).await?.text()?;
    assert!(read.contains("after a pause"));
    bob.machine()?.resume().await?;
    Ok(())
}

#[tokio::test]
async fn a_homeserver_that_does_not_answer_or_has_nothing_ends_it_with_a_cause() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair(&homeserver).await;
    let event = moves_on(&alice, &room, 12, "out of reach").await?;
    let reader = reader(&bob).await?;
    let none = |status: u16, body: &[u8]| Answer { status, body: body.to_vec() };
    for (answer, code) in [
        (none(0, b""), "follow_no_answer"),
        (none(503, b"<html>"), "follow_no_answer"),
        (none(429, b"{\"retry_after_ms\":5}"), "follow_no_answer"),
        (none(401, b"{\"errcode\":\"M_UNKNOWN_TOKEN\"}"), "follow_no_answer"),
        (none(200, b"[]"), "unknown_epoch"),
        (none(404, b"{\"errcode\":\"M_NOT_FOUND\"}"), "unknown_epoch"),
        (none(403, b"{\"errcode\":\"M_FORBIDDEN\"}"), "unknown_epoch"),
        (none(200, &vec![b' '; 4 * 1024 * 1024]), "follow_too_far"),
    ] {
        let follower = reader.follow(room.clone(), event.clone()).await?;
        let followed = drive(&follower, &bob, |_, _| none(answer.status, &answer.body)).await?;
        let error = followed.read.refused()?;
        assert!(matches!(error, MlsError::UnknownEpoch { .. }), "{error}");
        assert_eq!(error.code(), code, "{} {error}", answer.status);
    }
    // And none of it stays.
    assert!(follow(&reader, &bob, &room, &event).await?.text()?.contains("out of reach"));
    Ok(())
}

/// A homeserver hands out commits whose every part is another's, cut short, or of another room.
#[tokio::test]
async fn forged_commits_lead_nowhere() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair(&homeserver).await;
    let event = moves_on(&alice, &room, 2, "behind forgeries").await?;
    let reader = reader(&bob).await?;
    let forgeries: [fn(&mut Value); 6] = [
        |event| event["sender"] = json!("@mallory:localhost"),
        |event| event["content"]["sender"] = json!("nobody"),
        |event| event["content"]["ciphertext"] = json!("AAEAAgA"),
        |event| event["content"]["commit_event"] = json!("$nowhere"),
        |event| event["content"] = json!({}),
        |event| event["event_id"] = json!("$another"),
    ];
    for (number, forge) in forgeries.into_iter().enumerate() {
        let follower = reader.follow(room.clone(), event.clone()).await?;
        let followed = drive(&follower, &bob, |_, mut answer| {
            if let Ok(mut body) = serde_json::from_slice::<Value>(&answer.body) {
                if body.get("chunk").is_some() {
                    for event in body["chunk"].as_array_mut().into_iter().flatten() {
                        forge(event);
                    }
                } else if body.get("event_id").is_some() {
                    forge(&mut body);
                }
                answer.body = body.to_string().into_bytes();
            }
            answer
        })
        .await?;
        let error = followed.read.refused()?;
        assert!(is_out_of_reach(&error), "forgery {number}: {error}");
    }
    assert!(follow(&reader, &bob, &room, &event).await?.text()?.contains("behind forgeries"));
    Ok(())
}

/// Each answer names an event before it, without end.
#[tokio::test]
async fn a_history_without_an_end_is_left_at_a_bound() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair(&homeserver).await;
    let event = moves_on(&alice, &room, 1, "never reached").await?;
    let commit = alice.history(&room).await?.into_iter().rfind(is_commit).or_missing("commit")?;
    let reader = reader(&bob).await?;
    let follower = reader.follow(room.clone(), event).await?;
    let number = std::cell::Cell::new(0);
    let followed = drive(&follower, &bob, |request, _| {
        let at = number.get() + 1;
        number.set(at);
        let mut made_up = commit.clone();
        made_up["content"]["commit_event"] = json!(format!("$before{at}:localhost"));
        let body = match request.path.split_once("/event/") {
            Some((_, id)) => {
                made_up["event_id"] = json!(id.replace("%24", "$").replace("%3A", ":"));
                made_up
            }
            None => {
                made_up["event_id"] = json!(format!("$page{at}:localhost"));
                json!({ "chunk": [made_up], "start": "a", "end": format!("page{at}") })
            }
        };
        Answer { status: 200, body: body.to_string().into_bytes() }
    })
    .await?;
    let asked = followed.paths.len();
    assert!((8..=61).contains(&asked), "{asked}");
    assert_eq!(followed.code()?, "follow_too_far");
    Ok(())
}

/// A commit that no event could hold is in the media repository.
#[tokio::test]
async fn a_large_commit_is_fetched_from_the_media_repository() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair(&homeserver).await;
    let event = moves_on(&alice, &room, 1, "after a large commit").await?;
    let mut history = alice.history(&room).await?;
    let commit = history.iter_mut().rfind(|event| is_commit(event)).or_missing("commit")?;
    let inline = commit["content"]["ciphertext"].as_str().or_missing("ciphertext")?.to_owned();
    let bytes = matrix_mls_kit::peer::from_base64(&inline);
    let hash = matrix_mls_kit::peer::base64(&<sha2::Sha256 as sha2::Digest>::digest(&bytes));
    let url = alice.upload_media(bytes.clone()).await?;
    commit["content"]["ciphertext"] = json!({ "url": url, "size": bytes.len(), "sha256": hash });
    let commit = commit.clone();
    let reader = reader(&bob).await?;
    let follower = reader.follow(room.clone(), event).await?;
    let followed =
        drive(&follower, &bob, |request, answer| match request.path.contains("/event/") {
            true => Answer { status: 200, body: commit.to_string().into_bytes() },
            false => answer,
        })
        .await?;
    let paths = followed.paths.join(" ");
    assert!(paths.contains("/media/download/"), "{paths}");
    assert!(followed.text()?.contains("after a large commit"));
    Ok(())
}

#[tokio::test]
async fn what_is_no_message_or_not_to_be_read_is_refused_at_once() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair(&homeserver).await;
    moves_on(&alice, &room, 1, "next").await?;
    let history = alice.history(&room).await?;
    let commit = history.iter().rfind(|event| is_commit(event)).or_missing("commit")?.to_string();
    let reader = reader(&bob).await?;
    for (event, code) in [
        (commit, "commit"),
        ("{".to_owned(), "malformed_event"),
        (
            json!({ "type": "m.room.message", "sender": "@a:b", "content": {} }).to_string(),
            "not_encrypted",
        ),
    ] {
        let error = reader.follow(room.clone(), event).await.err().or_missing("refusal")?;
        assert_eq!(error.code(), code);
    }
    // Of a room that it is not in, it knows nothing and asks for nothing.
    let dave = phone_of(&homeserver, "dave").await?;
    let elsewhere = alice.create_group(&[&dave], RoomSettings::default()).await?;
    alice.send_text(&elsewhere, "not for bob").await?;
    let event = newest(&alice, &elsewhere).await?;
    let followed = follow(&reader, &bob, &elsewhere, &event).await?;
    assert_eq!(followed.paths, [""; 0]);
    assert_eq!(followed.code()?, "unknown_epoch");
    // An id that was never handed out.
    let event = newest(&alice, &room).await?;
    let follower = reader.follow(room.clone(), event).await?;
    let error = follower.mark_request_as_sent("nonsense".to_owned(), 200, Vec::new()).await;
    assert_eq!(error.refused()?.code(), "bad_request_id");
    Ok(())
}

/// What waits in the store is a part of what a reader would have to hold.
#[tokio::test]
async fn what_takes_too_much_memory_is_left_to_the_machine() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair(&homeserver).await;
    let event = moves_on(&alice, &room, 2, "beside a lot").await?;
    let mut early: Value = serde_json::from_str(&event)?;
    early["unsigned"] = json!({ "pad": "x".repeat(120_000) });
    let padded = (0..90).map(|number| {
        early["event_id"] = json!(format!("$early{number}:localhost"));
        early.to_string()
    });
    bob.room(&room).await?.receive_events(padded.collect()).await?;
    let reader = reader(&bob).await?;
    let before = files(&bob.store_path())?;
    let followed = follow(&reader, &bob, &room, &event).await?;
    assert_eq!(followed.paths, [""; 0]);
    assert_eq!(followed.code()?, "follow_too_large");
    assert!(files(&bob.store_path())? == before, "nothing was written");
    quiet(&[&alice, &bob]).await;
    assert!(texts(&bob, &room).await.contains(&"beside a lot".to_owned()));
    Ok(())
}
