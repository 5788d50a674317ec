//! The same on a real Synapse, with a kill in the middle of the upload and of the restore. Five
//! rooms; with `MATRIX_MLS_BACKUP=full` in the environment 200 epochs and 10,000 messages.

use std::time::Instant;

use super::*;

const ROOMS: usize = 5;

/// Epochs of each room, and messages of each epoch.
fn scale() -> (usize, usize) {
    match std::env::var("MATRIX_MLS_BACKUP").as_deref() {
        Ok("full") => (40, 50),
        _ => (4, 5),
    }
}

#[tokio::test]
async fn all_of_several_rooms_comes_back() -> Result {
    let homeserver = Homeserver::shared_synapse().await?;
    let (epochs, messages) = scale();
    let name = format!("keeper-{:x}", std::process::id());
    let mut alice = Client::register(&homeserver, &name, "PHONE").await?;
    let bob = Client::register(&homeserver, &format!("{name}-bob"), "PHONE").await?;
    quiet(&[&alice, &bob]).await;
    let key = RecoveryKey::generate()?;
    backup(&alice)?.create(key.clone(), false).await?;
    alice.drive().await?;
    let began = Instant::now();
    let mut rooms = Vec::new();
    for _ in 0..ROOMS {
        let room = alice.create_group(&[&bob], Default::default()).await?;
        for epoch in 0..epochs {
            if epoch > 0 {
                alice.rotate_keys(&room).await?;
            }
            for message in 0..messages {
                let text = format!("{epoch}.{message}");
                alice.send_text(&room, &text).await?;
            }
        }
        rooms.push(room);
    }
    println!("{} messages in {:?}", ROOMS * epochs * messages, began.elapsed());

    // Killed when the server has got an upload and the answer has not come.
    let began = Instant::now();
    let requests = alice.machine()?.outgoing_requests().await?;
    let upload = requests.iter().find(|request| request.path.contains("room_keys"));
    let upload = upload.or_missing("upload")?;
    alice.transmit(upload).await?;
    alice.crash().await?;
    alice.settle().await?;
    let BackupCounts { backed_up, total, on_server } = counts(&alice).await?;
    // Beside those with messages each room has the one of its making, in which Alice is alone.
    assert_eq!((backed_up, total), (total, (ROOMS * (epochs + 1)) as u64));
    println!("{backed_up} epochs, {on_server:?} sessions uploaded in {:?}", began.elapsed());

    let mut phone = log_in(&homeserver, &name, "NEW").await?;
    let began = Instant::now();
    backup(&phone)?.restore(Some(key), RestoreScope::AllRooms).await?;
    // Killed when the sessions are there and were not given to the engine.
    for _ in 0..2 {
        let requests = phone.machine()?.outgoing_requests().await?;
        phone.transmit(&requests[0]).await?;
        phone.crash().await?;
        phone.send_request(&requests[0]).await?;
    }
    phone.drive().await?;
    assert!(backup(&phone)?.restores().await?.is_empty());
    println!("restored in {:?}", began.elapsed());
    let began = Instant::now();
    let mut read = 0;
    for room in &rooms {
        read += phone.read_texts(room).await?.len();
    }
    assert_eq!(read, ROOMS * epochs * messages);
    println!("{read} messages fetched and read in {:?}", began.elapsed());
    Ok(())
}
