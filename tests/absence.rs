//! A device that was away while the room's keys were renewed many times.

use matrix_mls_kit::{
    Homeserver,
    together::{all_talk, pair, quiet, texts},
};

/// Bob was away for more commits than are asked for one by one. He reads what was said all the
/// while, and the two go on.
#[tokio::test]
async fn whoever_was_away_for_many_commits_reads_all_that_was_said() {
    let homeserver = Homeserver::embedded().expect("a homeserver");
    let (alice, bob, room) = pair(&homeserver).await;
    let before = bob.room(&room).await.expect("a room").epochs().await.expect("epochs").len();
    for number in 0..150 {
        let handle = alice.room(&room).await.expect("a room");
        handle.rotate_keys().await.expect("keys are to be renewed");
        alice.send_text(&room, &format!("text {number}")).await.expect("a text is sent");
    }
    quiet(&[&alice, &bob]).await;
    all_talk(&[&alice, &bob], &room).await;
    let read = texts(&bob, &room).await;
    let missed: Vec<_> =
        (0..150).filter(|number| !read.contains(&format!("text {number}"))).collect();
    assert!(missed.is_empty(), "bob never reads {missed:?}");
    let epochs = bob.room(&room).await.expect("a room").epochs().await.expect("epochs");
    assert!(epochs.len() >= before + 150, "he followed each commit");
    assert!(epochs.iter().all(|epoch| !epoch.is_external), "nobody had to join anew");
}
