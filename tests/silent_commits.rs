//! Commits are no messages to people: they notify nobody, count as nothing unread, and are told
//! from messages without a key. What cannot be read says why.

use matrix_mls::{MlsError, UnreadableCause, is_commit_event, unreadable_cause_name};
use matrix_mls_kit::{
    Client, Fields as _, Homeserver, OrMissing as _, Refused as _, Result,
    together::{log_in, newcomer, quiet},
};
use serde_json::{Value, json};

/// How many events notify a user, and how many of those are commits.
async fn notified(client: &Client, room: &str) -> Result<(usize, usize)> {
    let answer = client.http().get("/_matrix/client/v3/notifications?limit=500").await?;
    let notes = answer["notifications"].as_array().or_missing("notifications")?;
    let of_room =
        |note: &&Value| note["room_id"] == room && note["event"]["type"] == "m.room.encrypted";
    let notes: Vec<_> = notes.iter().filter(of_room).collect();
    let commits = notes.iter().filter(|note| is_commit_event(note["event"].to_string())).count();
    Ok((notes.len(), commits))
}

async fn commits_notify_nobody(homeserver: &Homeserver, tag: &str) -> Result {
    let alice = Client::register(homeserver, &format!("silent-alice{tag}"), "PHONE").await?;
    let bob = Client::register(homeserver, &format!("silent-bob{tag}"), "PHONE").await?;
    quiet(&[&alice, &bob]).await;
    let room = alice.create_group(&[&bob], Default::default()).await?;
    alice.send_text(&room, "first").await?;
    // Bob's device has a room with MLS now, and sets the rules.
    quiet(&[&alice, &bob]).await;
    let (before, _) = notified(&bob, &room).await?;
    for number in 0..3 {
        alice.rotate_keys(&room).await?;
        alice.send_text(&room, &format!("message {number}")).await?;
    }
    quiet(&[&alice, &bob]).await;
    let (after, _) = notified(&bob, &room).await?;
    assert_eq!(after - before, 3, "three messages and three commits");
    // A second device of the same account sets the same rules: nothing changes.
    let laptop = log_in(homeserver, &format!("silent-bob{tag}"), "LAPTOP").await?;
    quiet(&[&alice, &bob, &laptop]).await;
    let rules = bob.http().get("/_matrix/client/v3/pushrules/global/").await?;
    let ours = rules["override"].as_array().or_missing("override rules")?.iter();
    let ours = ours.filter(|rule| rule["rule_id"].as_str().is_some_and(|id| id.contains("mls")));
    assert_eq!(ours.count(), 2, "{rules}");
    Ok(())
}

#[tokio::test]
async fn commits_notify_nobody_on_the_embedded_homeserver() -> Result {
    commits_notify_nobody(&Homeserver::embedded()?, "").await
}

#[tokio::test]
async fn commits_notify_nobody_on_synapse() -> Result {
    let homeserver = Homeserver::shared_synapse().await?;
    commits_notify_nobody(&homeserver, "-synapse").await
}

#[tokio::test]
async fn what_cannot_be_read_says_why() -> Result {
    let homeserver = Homeserver::embedded()?;
    let alice = Client::register(&homeserver, "alice", "PHONE").await?;
    let bob = Client::register(&homeserver, "bob", "PHONE").await?;
    quiet(&[&alice, &bob]).await;
    let room = alice.create_group(&[&bob], Default::default()).await?;
    let early = alice.send_text(&room, "before carol").await?;
    let carol = newcomer(&homeserver, "carol", &alice, &room).await?;
    alice.settle().await?;
    alice.send_text(&room, "with carol").await?;
    quiet(&[&alice, &bob, &carol]).await;
    let events = carol.history(&room).await?;
    let find = |id: &str| {
        let found = events.iter().find(|event| event["event_id"] == id);
        found.or_missing("event").cloned()
    };
    let message = find(&early)?;
    let commit = events.iter().rfind(|event| is_commit_event(event.to_string()));
    let commit = commit.or_missing("commit")?.clone();
    let mut redacted = message.clone();
    redacted["content"] = json!({});
    let mut megolm = message.clone();
    megolm["content"] = json!({ "algorithm": "m.megolm.v1.aes-sha2", "ciphertext": "AA" });
    let mut damaged = events.last().or_missing("event")?.clone();
    let text = damaged["content"].text("ciphertext")?.replace(['A', 'b'], "c");
    damaged["content"]["ciphertext"] = json!(text);
    damaged["event_id"] = json!("$damaged:event");
    let mut twice = events.last().or_missing("event")?.clone();
    twice["event_id"] = json!("$twice:event");
    // Carol's phone has not seen the commit before this one.
    alice.rotate_keys(&room).await?;
    alice.send_text(&room, "after a commit").await?;
    let ahead = alice.history(&room).await?.last().or_missing("event")?.clone();
    let handle = carol.room(&room).await?;
    for (event, cause) in [
        (message, UnreadableCause::BeforeJoining),
        (commit, UnreadableCause::Commit),
        (redacted, UnreadableCause::Redacted),
        (megolm, UnreadableCause::OtherEncryption),
        (damaged, UnreadableCause::Damaged),
        (twice, UnreadableCause::Forged),
        (ahead, UnreadableCause::NotYetHere),
    ] {
        let error = handle.decrypt(event.to_string()).await.refused()?;
        assert_eq!(error.unreadable_cause(), Some(cause), "{error}: {event}");
        assert!(!unreadable_cause_name(cause).is_empty());
    }
    let error: MlsError = alice.machine()?.room("no room".into()).refused()?;
    assert_eq!(error.unreadable_cause(), None, "{error}");
    Ok(())
}
