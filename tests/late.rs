//! Messages that come when their epoch has long ended: they open, and are marked.

use matrix_mls::{DecryptedMessage, EventOutcome, MlsReader, RoomSettings};
use matrix_mls_kit::{
    Client, Clock, Homeserver, OrMissing as _, Refused as _, Result, feed, news, store_key,
    together::{newcomer, pair, quiet},
};
use serde_json::{Value, json};

const MINUTE_MS: u64 = 60 * 1000;
const HOUR_MS: u64 = 60 * MINUTE_MS;
const DAY_MS: u64 = 24 * HOUR_MS;

/// What somebody seals now and the homeserver shows at some time, as of whatever time it likes.
struct Sealed {
    sender: String,
    content: Value,
}

impl Sealed {
    async fn by(client: &Client, room: &str) -> Result<Self> {
        client.prepare(room).await?;
        let content = json!({ "msgtype": "m.text", "body": "am I late?" }).to_string();
        let sealed = client.room(room).await?.encrypt("m.room.message".into(), content).await?;
        Ok(Self { sender: client.user_id().to_owned(), content: serde_json::from_str(&sealed)? })
    }

    fn event(&self, id: &str, origin_server_ts: u64) -> String {
        let event = json!({
            "type": "m.room.encrypted", "sender": self.sender, "event_id": id,
            "origin_server_ts": origin_server_ts, "content": self.content,
        });
        event.to_string()
    }
}

/// What a sync brings to a client.
async fn synced(client: &Client, room: &str, event: &str) -> Result<DecryptedMessage> {
    let mut changes = feed();
    changes.rooms.push(news(room, vec![event.to_owned()]));
    let summary = client.machine()?.receive_sync(changes).await?;
    let mut events = summary.rooms.into_iter().flat_map(|room| room.events);
    match events.next().or_missing("result")?.outcome {
        EventOutcome::Message { message } => Ok(message),
        other => panic!("{other:?}"),
    }
}

async fn opened(client: &Client, room: &str, event: &str) -> Result<DecryptedMessage> {
    Ok(client.room(room).await?.decrypt(event.to_owned()).await?)
}

/// Carol has been removed. Hours later the homeserver shows what she writes into her last epoch, as
/// if it were from before.
#[tokio::test]
async fn what_a_removed_device_writes_into_its_old_epoch_is_marked() -> Result {
    let clock = Clock::take().await;
    clock.stop();
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair(&homeserver).await;
    let carol = newcomer(&homeserver, "carol", &alice, &room).await?;
    quiet(&[&alice, &bob, &carol]).await;
    alice.send_text(&room, "with carol").await?;
    quiet(&[&alice, &bob, &carol]).await;
    carol.send_text(&room, "here I am").await?;
    quiet(&[&alice, &bob, &carol]).await;
    let mut sealed = Vec::new();
    for _ in 0..3 {
        sealed.push(Sealed::by(&carol, &room).await?);
    }
    let said_ms = clock.now_ms();
    alice.kick(&room, carol.user_id()).await?;
    quiet(&[&alice, &bob]).await;
    alice.send_text(&room, "without carol").await?;
    quiet(&[&alice, &bob]).await;

    clock.pass(10 * MINUTE_MS);
    let overtaken = sealed[0].event("$overtaken", said_ms);
    assert!(!synced(&bob, &room, &overtaken).await?.is_late, "it was on its way");
    clock.pass(2 * HOUR_MS);
    let late = sealed[1].event("$late", said_ms);
    assert!(synced(&bob, &room, &late).await?.is_late, "she is gone for hours");
    for (event, is_late) in [(&overtaken, false), (&late, true)] {
        assert_eq!(opened(&bob, &room, event).await?.is_late, is_late, "and stays what it was");
    }
    // Scrolled to, and not synced: only the homeserver says when it was.
    let dated = sealed[2].event("$dated", clock.now_ms());
    assert!(opened(&bob, &room, &dated).await?.is_late);
    let path = bob.store_path().to_string_lossy().into_owned();
    let reader = MlsReader::open(path, store_key()).await?;
    assert!(reader.decrypt(room.clone(), late.clone()).await?.is_late);
    assert!(!reader.decrypt(room.clone(), overtaken.clone()).await?.is_late);

    // An app that wants none of that says so.
    let settings = RoomSettings { refuse_late_messages: true, ..RoomSettings::default() };
    bob.set_settings(&room, settings).await?;
    opened(&bob, &room, &overtaken).await?;
    let handle = bob.room(&room).await?;
    for event in [&late, &dated] {
        assert_eq!(handle.decrypt(event.clone()).await.refused()?.code(), "late");
        assert_eq!(reader.decrypt(room.clone(), event.clone()).await.refused()?.code(), "late");
    }
    let shown = handle.receive_events(vec![late]).await?.remove(0).outcome;
    let is_refused = matches!(&shown, EventOutcome::Failed { error } if error.code() == "late");
    assert!(is_refused, "{shown:?}");
    Ok(())
}

/// Bob is in the room all along, and his homeserver was cut off for days.
#[tokio::test]
async fn what_a_member_said_is_late_after_a_week() -> Result {
    let clock = Clock::take().await;
    clock.stop();
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair(&homeserver).await;
    bob.send_text(&room, "second").await?;
    quiet(&[&alice, &bob]).await;
    let sealed = [Sealed::by(&bob, &room).await?, Sealed::by(&bob, &room).await?];
    let said_ms = clock.now_ms();
    alice.rotate_keys(&room).await?;
    alice.send_text(&room, "in the next epoch").await?;
    quiet(&[&alice, &bob]).await;
    for (days, is_late) in [(6, false), (2, true)] {
        clock.pass(days * DAY_MS);
        let event = sealed[usize::from(is_late)].event(&format!("$after{days}"), said_ms);
        assert_eq!(synced(&alice, &room, &event).await?.is_late, is_late);
    }
    for event in alice.history(&room).await? {
        if let Ok(message) = opened(&alice, &room, &event.to_string()).await {
            assert!(!message.is_late, "what came in time is not late for whoever scrolls back");
        }
    }
    Ok(())
}

/// All phones' clocks are nine days behind the homeserver's: what was said in an epoch that has
/// ended bears a time of nine days after that end, and was said before it. Or they are as far ahead.
#[tokio::test]
async fn a_clock_that_is_off_makes_nothing_late() -> Result {
    for is_ahead in [false, true] {
        nothing_is_late(is_ahead).await?;
    }
    Ok(())
}

async fn nothing_is_late(is_ahead: bool) -> Result {
    let clock = Clock::take().await;
    if is_ahead {
        clock.pass(9 * DAY_MS);
    } else {
        clock.set_back(9 * DAY_MS);
    }
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair(&homeserver).await;
    let settings = RoomSettings { refuse_late_messages: true, ..RoomSettings::default() };
    for client in [&alice, &bob] {
        client.set_settings(&room, settings.clone()).await?;
        client.send_text(&room, "in the first epoch").await?;
        quiet(&[&alice, &bob]).await;
    }
    let overtaken = Sealed::by(&bob, &room).await?;
    alice.rotate_keys(&room).await?;
    alice.send_text(&room, "in the next epoch").await?;
    quiet(&[&alice, &bob]).await;
    let overtaken = overtaken.event("$overtaken", Clock::today_ms());
    assert!(!synced(&alice, &room, &overtaken).await?.is_late, "it was on its way");
    for client in [&alice, &bob] {
        let mut read = 0;
        for event in client.history(&room).await? {
            match client.room(&room).await?.decrypt(event.to_string()).await {
                Ok(message) => {
                    assert!(!message.is_late, "{}: {event}", client.name());
                    read += 1;
                }
                Err(error) => assert_ne!(error.code(), "late", "{}: {event}", client.name()),
            }
        }
        assert!(read >= 3, "{} reads {read}", client.name());
    }
    Ok(())
}
