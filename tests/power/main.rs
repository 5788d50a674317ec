//! Losses of power: what was not flushed is gone, and nothing that was promised is among it.

mod disk;
mod phone;

use std::cell::Cell;

use matrix_mls::{RoomSettings, test_hooks};
use matrix_mls_kit::{
    Client, Homeserver, KitError, ReadEvent, Result,
    together::{all_talk, newcomer, pair, phone_of, quiet, say_in_a_new_epoch},
};

use disk::{Lost, flushes};
use phone::Phone;

/// Flushes are left out, and counted, for the whole process.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// A story of Alice's phone, whose power goes off at one point of it; tells whether the story has
/// that many. `unflushed`: for how many points before nothing is flushed.
async fn story(nth: u32, lost: Lost, unflushed: u32) -> Result<bool> {
    let homeserver = Homeserver::embedded()?;
    let bob = phone_of(&homeserver, "bob").await?;
    let alice = Client::register(&homeserver, "alice", "PHONE").await?;
    let mut alice = Phone::new(alice, nth, lost, unflushed);
    alice.does(async |alice| alice.settle().await).await?;

    // She makes a group.
    let room = alice.client.create_room(&[&bob]).await?;
    bob.join(&room).await?;
    let group = room.clone();
    alice
        .does(async |alice| {
            alice.settle().await?;
            match alice.client.enable(&group, RoomSettings::default()).await {
                Err(error) if !error.to_string().contains("already") => return Err(error.into()),
                _ => {}
            }
            alice.point()?;
            alice.say(&group, "first").await
        })
        .await?;
    settle(&[&bob]).await?;
    bob.send_text(&room, "of bob").await?;
    alice.does(async |alice| alice.settle().await).await?;

    // She adds somebody.
    let carol = newcomer(&homeserver, "carol", &alice.client, &room).await?;
    alice
        .does(async |alice| {
            alice.settle().await?;
            alice.say(&room, "welcome").await?;
            alice.settle().await
        })
        .await?;
    settle(&[&bob, &carol]).await?;

    // She renews her keys, and says a few things with them.
    let asked = Cell::new(false);
    alice
        .does(async |alice| {
            if !asked.replace(true) {
                alice.client.rotate_keys(&room).await?;
                alice.point()?;
            }
            for text in ["renewed", "again", "and again", "and once more"] {
                alice.say(&room, text).await?;
            }
            Ok(())
        })
        .await?;
    settle(&[&bob, &carol]).await?;

    // She follows Bob.
    say_in_a_new_epoch(&bob, &room, "of bob in an epoch of his").await?;
    alice.does(async |alice| alice.settle().await).await?;

    // Both commit on one epoch.
    let asked = Cell::new(false);
    say_in_a_new_epoch(&bob, &room, "on one branch").await?;
    alice
        .does(async |alice| {
            if !asked.replace(true) {
                alice.client.rotate_keys(&room).await?;
                alice.point()?;
            }
            alice.say(&room, "on the other").await?;
            alice.settle().await
        })
        .await?;
    settle(&[&bob, &carol]).await?;

    // She starts her app anew.
    alice.client.restart().await?;
    alice
        .does(async |alice| {
            alice.settle().await?;
            alice.say(&room, "after a restart").await
        })
        .await?;

    let Phone { client: alice, said, was_off, .. } = alice;
    let all = [&alice, &bob, &carol];
    settle(&all).await?;
    for client in all {
        client.send_text(&room, &format!("{} at the end", client.name())).await?;
        settle(&all).await?;
    }
    let last = all.map(|client| format!("{} at the end", client.name()));
    let expected: Vec<&str> = said
        .iter()
        .map(String::as_str)
        .filter(|text| *text != "first" && *text != "welcome")
        .chain(["of bob in an epoch of his", "on one branch"])
        .chain(last.iter().map(String::as_str))
        .collect();
    for client in all {
        read_all(client, &room, &expected).await?;
        for epoch in client.epochs(&room).await? {
            if epoch.is_external {
                return Err(wrong(format!("{} has seen somebody join anew", client.name())).into());
            }
        }
    }
    read_all(&bob, &room, &["first", "of bob", "welcome"]).await?;
    read_all(&alice, &room, &["first", "of bob", "welcome"]).await?;
    Ok(was_off)
}

/// Has everybody see what the others did, and answer it.
async fn settle(clients: &[&Client]) -> Result {
    for _ in 0..4 {
        for client in clients {
            client.settle().await?;
        }
    }
    Ok(())
}

fn wrong(what: String) -> KitError {
    KitError::Setup(what)
}

/// Each text is read once, and nothing is taken for a repetition.
async fn read_all(client: &Client, room: &str, expected: &[&str]) -> Result {
    let events = client.read(room).await?;
    let read: Vec<String> = events.iter().filter_map(ReadEvent::text).collect();
    for text in expected {
        if read.iter().filter(|other| other == text).count() != 1 {
            return Err(
                wrong(format!("{} reads {read:?}, not {text:?} once", client.name())).into()
            );
        }
    }
    Ok(())
}

/// Stories side by side, each with a loss of power at a point of its own, until a point is beyond
/// the end or a story fails.
async fn stories(next: &Cell<u32>, lost: &[Lost]) -> Result {
    loop {
        let nth = next.replace(next.get() + 1);
        for (number, lost) in lost.iter().enumerate() {
            // The first kind at each point, the others at some.
            if number > 0 && !nth.is_multiple_of(6) {
                continue;
            }
            match story(nth, *lost, 0).await {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                Err(error) => return Err(wrong(format!("{lost:?} at point {nth}: {error}")).into()),
            }
        }
    }
}

/// At every point of the story all that was not flushed is lost, and at some of them the end of it.
/// Everybody reads what was said, once; nobody has to join anew; no key seals two messages, as the
/// second would be taken for a repetition.
#[tokio::test]
async fn nothing_that_was_promised_is_lost() -> Result {
    let _alone = ALONE.lock().await;
    disk::watch();
    let next = Cell::new(1);
    let lost = [Lost::All, Lost::Torn, Lost::Half];
    let (one, other) = tokio::join!(stories(&next, &lost), stories(&next, &lost));
    one.and(other)?;
    assert!(next.get() > 60, "the story has {} points only", next.get());
    Ok(())
}

/// The story does fail where the last few flushes before the loss are left out, at points where a
/// commit or a message has left since. Elsewhere nothing is missed.
#[tokio::test]
async fn without_the_last_flushes_something_is_lost() -> Result {
    let _alone = ALONE.lock().await;
    disk::watch();
    let mut failed = Vec::new();
    for nth in 12..80 {
        let ended = story(nth, Lost::All, 4).await;
        test_hooks::leave_out_flushes(false);
        if ended.is_err() {
            failed.push(nth);
        }
        if failed.len() == 3 {
            return Ok(());
        }
    }
    panic!("only at {failed:?}");
}

/// How often the log is flushed for something. Where the log was cut meanwhile, that is no measure,
/// and it is done again.
async fn flushed(client: &Client, work: impl AsyncFn() -> Result) -> Result<u64> {
    for _ in 0..10 {
        let before = flushes(&client.store_path());
        work().await?;
        let after = flushes(&client.store_path());
        if after.others == before.others {
            return Ok(after.log - before.log);
        }
    }
    Err(wrong("the log was cut each time".to_owned()).into())
}

/// A flush for what leaves, and for the end of a sync; none for what comes back.
#[tokio::test]
async fn what_is_flushed_is_counted() -> Result {
    let _alone = ALONE.lock().await;
    disk::watch();
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair(&homeserver).await;
    quiet(&[&alice, &bob]).await;

    // An update of her own: the commit is handed out, its answer comes, the room is ready.
    let commits = Cell::new(0);
    let update = flushed(&alice, async || {
        alice.rotate_keys(&room).await?;
        commits.set(test_hooks::commits());
        alice.prepare(&room).await?;
        commits.set(test_hooks::commits() - commits.get());
        Ok(())
    });
    assert_eq!(update.await?, 2, "one for her wish, and one for the commit");
    assert!(commits.get() >= 3, "{} transactions", commits.get());

    // Messages: generations are taken in runs of 1, 2, 4 …
    let mut reserved = Vec::new();
    for number in 0..7 {
        let text = format!("message {number}");
        let said = flushed(&alice, async || Ok(alice.send_text(&room, &text).await.map(drop)?));
        reserved.push(said.await?);
    }
    assert_eq!(reserved, [1, 1, 0, 1, 0, 0, 0]);

    // Syncs: with messages, with a commit, and with nothing.
    quiet(&[&alice, &bob]).await;
    let with_a_message = flushed(&alice, async || {
        bob.send_text(&room, "for a sync").await?;
        alice.sync().await?;
        Ok(())
    });
    assert_eq!(with_a_message.await?, 1);
    let with_a_commit = flushed(&alice, async || {
        say_in_a_new_epoch(&bob, &room, "in an epoch of its own").await?;
        alice.sync().await?;
        Ok(())
    });
    assert_eq!(with_a_commit.await?, 1);
    alice.settle().await?;
    let with_nothing = flushed(&alice, async || {
        alice.sync().await?;
        Ok(())
    });
    assert!(with_nothing.await? <= 1);

    // An add: lists and key packages are asked for, the commit and the Welcome are sent.
    let carol = phone_of(&homeserver, "carol").await?;
    alice.invite(&room, carol.user_id()).await?;
    carol.join(&room).await?;
    alice.sync().await?;
    let before = flushes(&alice.store_path());
    let add = flushed(&alice, async || Ok(alice.prepare(&room).await?));
    let add = add.await?;
    let after = flushes(&alice.store_path());
    if after.others == before.others {
        assert_eq!(add, 1);
    }
    all_talk(&[&alice, &bob, &carol], &room).await;
    Ok(())
}
