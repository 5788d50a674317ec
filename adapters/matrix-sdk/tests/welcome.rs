//! A Welcome that was acknowledged is kept, also where the app is killed between the SDK's writing
//! of its token and the machine's writing of the Welcome.

mod app;

use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use app::{App, Closed, PASSPHRASE, Setup, client, encryption, mls_config};
use matrix_mls_kit::{Homeserver, OrMissing as _, Result};
use matrix_mls_sdk::Mls;
use matrix_sdk::{Client, authentication::matrix::MatrixSession, ruma::RoomId};
use matrix_sdk_crypto::store::CryptoStore as _;
use matrix_sdk_sqlite::SqliteCryptoStore;

const URL: &str = "MATRIX_MLS_SDK_TEST_URL";
const DIRECTORY: &str = "MATRIX_MLS_SDK_TEST_DIRECTORY";
const SESSION: &str = "MATRIX_MLS_SDK_TEST_SESSION";

async fn restored(base_url: &str, directory: &Path, session: &MatrixSession) -> Result<Client> {
    let client = client(base_url, directory, Setup::default()).await?;
    client.restore_session(session.clone()).await?;
    Ok(client)
}

/// Not a test: the process that is killed. Its machine is suspended, so that it can write nothing.
/// The SDK syncs, writes its token down, and hands the Welcome on.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a process that another test starts and kills"]
async fn the_process_that_is_killed() -> Result {
    let Ok(url) = std::env::var(URL) else { return Ok(()) };
    let directory = PathBuf::from(std::env::var(DIRECTORY)?);
    let session: MatrixSession = serde_json::from_str(&std::env::var(SESSION)?)?;
    let client = restored(&url, &directory, &session).await?;
    let mls = Mls::attach(&client, mls_config(&directory, Setup::default())).await?;
    mls.machine().suspend().await?;
    let sync = encryption(&client).await?;
    let syncs = tokio::spawn(async move { sync.sync_once().await.map(drop) });
    // Without the machine the sync would be over in a moment, as there is news.
    tokio::time::sleep(Duration::from_secs(6)).await;
    println!("held {}", !syncs.is_finished());
    tokio::time::sleep(Duration::from_secs(600)).await;
    Ok(())
}

/// Runs the process on an app's directory until it is held, and kills it.
fn run_and_kill(url: &str, app: &Closed) -> Result {
    let mut child = Command::new(std::env::current_exe()?)
        .args(["--ignored", "--exact", "--nocapture", "the_process_that_is_killed"])
        .env(URL, url)
        .env(DIRECTORY, &app.directory)
        .env(SESSION, serde_json::to_string(&app.session)?)
        .stdout(Stdio::piped())
        .spawn()?;
    let output = child.stdout.take().or_missing("standard output")?;
    let line = BufReader::new(output).lines().map_while(Result::ok);
    let held = line.into_iter().find(|line| line.contains("held "));
    child.kill()?;
    child.wait()?;
    assert!(held.is_some_and(|line| line.ends_with("held true")), "the SDK waits for the machine");
    Ok(())
}

/// Bob is killed with a Welcome between the SDK's disk and the machine's. Gives whether he is in
/// the group after the next start.
async fn is_in_the_group(homeserver: &Homeserver, tag: &str, looks_first: bool) -> Result<bool> {
    let name = |name: &str| format!("{name}-{tag}");
    let alice = App::register(homeserver, &name("alice"), Setup::default()).await?;
    let bob = App::register(homeserver, &name("bob"), Setup::default()).await?;
    let room = alice.create_plain_room(&[&bob]).await?;
    bob.sdk_knows(&room).await?;
    let bob = bob.close().await?;
    let upgraded = alice.mls.upgrade(&room, Default::default()).await?;
    assert_eq!(upgraded.devices.len(), 2, "{upgraded:?}");
    // The Welcome is on its way.
    alice.says(&room, "welcome").await?;
    alice.mls.send_outgoing_requests().await?;

    let url = homeserver.base_url().to_owned();
    let before = sdk_token(&bob.directory).await?;
    let bob = tokio::task::spawn_blocking(move || run_and_kill(&url, &bob).map(|()| bob)).await??;
    let after = sdk_token(&bob.directory).await?;
    assert_ne!(before, after, "the SDK has written its token down");

    let client = restored(homeserver.base_url(), &bob.directory, &bob.session).await?;
    let mls = Mls::attach(&client, mls_config(&bob.directory, Setup::default())).await?;
    if looks_first {
        mls.before_sync().await?;
    }
    let sync = encryption(&client).await?;
    // The first request acknowledges what the killed process had.
    sync.sync_once().await?;
    sync.sync_once().await?;
    mls.before_sync().await?;
    mls.sync_once(Duration::ZERO).await?;
    let is_in = has_group(&mls, &room).await;
    mls.close().await?;
    Ok(is_in)
}

async fn has_group(mls: &Mls, room: &RoomId) -> bool {
    match mls.room(room) {
        Ok(room) => room.members().await.is_ok(),
        Err(_) => false,
    }
}

/// The token of to-device events, as the SDK has it on its disk.
async fn sdk_token(directory: &Path) -> Result<Option<String>> {
    let store = SqliteCryptoStore::open(directory.join("sdk"), Some(PASSPHRASE)).await?;
    Ok(store.next_batch_token().await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_welcome_between_two_disks_is_read_before_it_is_acknowledged() -> Result {
    let homeserver = Homeserver::synapse().await?;
    assert!(is_in_the_group(&homeserver, "looks", true).await?);
    // What `before_sync` is there for: without it the Welcome is gone.
    assert!(!is_in_the_group(&homeserver, "forgets", false).await?);
    Ok(())
}

/// The store fails while the app runs, and not for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_welcome_waits_for_a_store_that_fails_for_a_while() -> Result {
    let homeserver = Homeserver::synapse().await?;
    let alice = App::register(&homeserver, "alice", Setup::default()).await?;
    let mut bob = App::register(&homeserver, "bob", Setup::default()).await?;
    let room = alice.create_plain_room(&[&bob]).await?;
    bob.sdk_knows(&room).await?;
    bob.mls.machine().suspend().await?;
    alice.mls.upgrade(&room, Default::default()).await?;
    let event = alice.says(&room, "while you could not write").await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    bob.mls.machine().resume().await?;
    bob.mls.network_available().await?;
    assert_eq!(bob.reads(&event).await?.body(), Some("while you could not write"));
    Ok(())
}
