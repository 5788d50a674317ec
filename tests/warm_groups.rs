//! How often groups are read from the store: the counter is the whole process's, so this is alone.

use matrix_mls::test_hooks::groups_read;
use matrix_mls_kit::{
    Client, Homeserver, Result,
    together::{all_talk, pair, quiet},
};

/// Each commits, and all take that in; gives how often a group was read.
async fn commits(clients: &[&Client], room: &str, released: bool) -> Result<u64> {
    let before = groups_read();
    for client in clients {
        client.rotate_keys(room).await?;
        client.send_text(room, "on a new epoch").await?;
        if released {
            for client in clients {
                client.machine()?.release_memory().await?;
            }
        }
        quiet(clients).await;
    }
    let read = groups_read() - before;
    all_talk(clients, room).await;
    Ok(read)
}

#[tokio::test]
async fn a_commit_on_the_last_one_reads_no_group() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair(&homeserver).await;
    let clients = [&alice, &bob];
    commits(&clients, &room, false).await?;
    // Each commit is made by one and taken in by the other.
    assert_eq!(commits(&clients, &room, false).await?, 0);
    let cold = commits(&clients, &room, true).await?;
    assert!((2..=4).contains(&cold), "{cold} groups were read");
    commits(&clients, &room, false).await?;
    assert_eq!(commits(&clients, &room, false).await?, 0);
    Ok(())
}
