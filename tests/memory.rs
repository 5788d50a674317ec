//! Groups that stay in memory, and memory that is let go: what is stored is what counts.

use matrix_mls::{MlsError, MlsMachine, RoomSettings};
use matrix_mls_kit::{
    Client, Homeserver, Refused as _, Result, config,
    together::{all_talk, head, newcomer, pair, quiet, texts},
};

/// Lets the clients' memory go.
async fn release(clients: &[&Client]) -> Result {
    for client in clients {
        client.machine()?.release_memory().await?;
    }
    Ok(())
}

/// Each commits, and says something after.
async fn all_commit(clients: &[&Client], room: &str, released: bool) -> Result {
    for client in clients {
        client.rotate_keys(room).await?;
        if released {
            release(clients).await?;
        }
        client.prepare(room).await?;
        if released {
            release(clients).await?;
        }
        client.send_text(room, "on a new epoch").await?;
        quiet(clients).await;
    }
    all_talk(clients, room).await;
    Ok(())
}

#[tokio::test]
async fn a_room_goes_on_with_its_groups_in_memory_and_without() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair(&homeserver).await;
    for released in [false, true, false] {
        all_commit(&[&alice, &bob], &room, released).await?;
    }
    let carol = newcomer(&homeserver, "carol", &alice, &room).await?;
    quiet(&[&alice, &bob, &carol]).await;
    for released in [false, true, false] {
        all_commit(&[&alice, &bob, &carol], &room, released).await?;
    }
    Ok(())
}

/// Both commit on one epoch at once, several times: one of each pair is undone or stays beside.
#[tokio::test]
async fn a_group_in_memory_is_not_on_the_branch_that_lost() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair(&homeserver).await;
    for round in 0..4 {
        for client in [&alice, &bob] {
            client.rotate_keys(&room).await?;
        }
        // Both are staged and on their way before either has seen the other's.
        let (one, other) = tokio::join!(alice.prepare(&room), bob.prepare(&room));
        one?;
        other?;
        quiet(&[&alice, &bob]).await;
        all_talk(&[&alice, &bob], &room).await;
        assert_eq!(head(&alice, &room).await, head(&bob, &room).await, "round {round}");
    }
    Ok(())
}

/// While a machine is suspended, another takes in commits and makes one on the same store.
#[tokio::test]
async fn a_group_in_memory_does_not_outlive_a_pause() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (mut alice, bob, room) = pair(&homeserver).await;
    all_commit(&[&alice, &bob], &room, false).await?;
    let machine = alice.machine()?.clone();
    for _ in 0..2 {
        machine.suspend().await?;
        let path = alice.store_path();
        let other = MlsMachine::open(config(alice.user_id(), alice.device_id(), &path)).await?;
        other.room(room.clone())?.rotate_keys().await?;
        other.room(room.clone())?.prepare_to_send().await?;
        other.shutdown().await?;
        bob.rotate_keys(&room).await?;
        bob.send_text(&room, "meanwhile").await?;
        machine.resume().await?;
        quiet(&[&alice, &bob]).await;
        all_commit(&[&alice, &bob], &room, false).await?;
    }
    assert!(texts(&alice, &room).await.contains(&"meanwhile".to_owned()));
    drop(machine);
    alice.restart().await?;
    all_commit(&[&alice, &bob], &room, false).await
}

#[tokio::test]
async fn messages_that_are_read_once_go_on_in_memory_and_without() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair(&homeserver).await;
    let once = RoomSettings { read_once: true, ..RoomSettings::default() };
    for client in [&alice, &bob] {
        client.room(&room).await?.set_settings(once.clone()).await?;
        client.rotate_keys(&room).await?;
        client.send_text(&room, "a new epoch").await?;
        quiet(&[&alice, &bob]).await;
    }
    let mut heard = Vec::new();
    for number in 0..12 {
        let (from, to) = if number % 3 == 0 { (&bob, &alice) } else { (&alice, &bob) };
        if number % 4 == 3 {
            release(&[&alice, &bob]).await?;
        }
        if number % 5 == 4 {
            from.rotate_keys(&room).await?;
        }
        from.send_text(&room, &format!("once {number}")).await?;
        let sync = to.sync().await?;
        heard.extend(sync.messages.into_iter().map(|message| message.content));
        quiet(&[&alice, &bob]).await;
    }
    for number in 0..12 {
        let text = format!("once {number}\"");
        assert_eq!(heard.iter().filter(|said| said.contains(&text)).count(), 1, "{heard:?}");
    }
    Ok(())
}

#[tokio::test]
async fn memory_is_let_go_while_suspended_and_not_after_the_end() -> Result {
    let directory = tempfile::tempdir()?;
    let machine = MlsMachine::open(config("@alice:example.org", "PHONE", directory.path())).await?;
    machine.release_memory().await?;
    machine.suspend().await?;
    machine.release_memory().await?;
    machine.resume().await?;
    machine.shutdown().await?;
    let error = machine.release_memory().await.refused()?;
    assert!(matches!(error, MlsError::Closed { .. }), "{error}");
    Ok(())
}
