//! The same on a real Synapse, with a kill in the middle of the upload and of the restore. Five rooms; with
//! `MATRIX_MLS_BACKUP=full` in the environment 200 epochs and 10,000 messages.

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
async fn all_of_several_rooms_comes_back() {
    let homeserver = Homeserver::shared_synapse().await.unwrap();
    let (epochs, messages) = scale();
    let name = format!("keeper-{:x}", std::process::id());
    let mut alice = Client::register(&homeserver, &name, "PHONE").await.unwrap();
    let bob = Client::register(&homeserver, &format!("{name}-bob"), "PHONE").await.unwrap();
    quiet(&[&alice, &bob]).await;
    let key = RecoveryKey::generate().unwrap();
    backup(&alice).create(key.clone(), false).await.unwrap();
    alice.drive().await.unwrap();
    let began = Instant::now();
    let mut rooms = Vec::new();
    for _ in 0..ROOMS {
        let room = alice.create_group(&[&bob], Default::default()).await.unwrap();
        for epoch in 0..epochs {
            if epoch > 0 {
                alice.room(&room).await.unwrap().rotate_keys().await.unwrap();
            }
            for message in 0..messages {
                let text = format!("{epoch}.{message}");
                alice.send_text(&room, &text).await.unwrap();
            }
        }
        rooms.push(room);
    }
    println!("{} messages in {:?}", ROOMS * epochs * messages, began.elapsed());

    // Killed when the server has got an upload and the answer has not come.
    let began = Instant::now();
    let requests = alice.machine().unwrap().outgoing_requests().await.unwrap();
    let upload = requests.iter().find(|request| request.path.contains("room_keys")).unwrap();
    alice.transmit(upload).await.unwrap();
    alice.crash().await.unwrap();
    alice.settle().await.unwrap();
    let BackupCounts { backed_up, total, on_server } = counts(&alice).await;
    // Beside those with messages each room has the one of its making, in which Alice is alone.
    assert_eq!((backed_up, total), (total, (ROOMS * (epochs + 1)) as u64));
    println!("{backed_up} epochs, {on_server:?} sessions uploaded in {:?}", began.elapsed());

    let mut phone = Client::log_in(&homeserver, &name, "NEW").await.unwrap();
    phone.settle().await.unwrap();
    let began = Instant::now();
    backup(&phone).restore(Some(key), RestoreScope::AllRooms).await.unwrap();
    // Killed when the sessions are there and were not given to the engine.
    for _ in 0..2 {
        let requests = phone.machine().unwrap().outgoing_requests().await.unwrap();
        phone.transmit(&requests[0]).await.unwrap();
        phone.crash().await.unwrap();
        phone.send_request(&requests[0]).await.unwrap();
    }
    phone.drive().await.unwrap();
    assert!(backup(&phone).restores().await.unwrap().is_empty());
    println!("restored in {:?}", began.elapsed());
    let began = Instant::now();
    let mut read = 0;
    for room in &rooms {
        read += phone.read_texts(room).await.unwrap().len();
    }
    assert_eq!(read, ROOMS * epochs * messages);
    println!("{read} messages fetched and read in {:?}", began.elapsed());
}
