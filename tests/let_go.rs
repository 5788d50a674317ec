//! Epochs that are let go after a time. Alone in its process, as the clock is one for all machines
//! in it.

use std::time::UNIX_EPOCH;

use matrix_mls_kit::{
    Homeserver, Result,
    together::{newcomer, pair, quiet},
};

#[tokio::test]
async fn fresh_keys_are_made_once_where_epochs_after_them_were_let_go() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair(&homeserver).await;
    let carol = newcomer(&homeserver, "carol", &alice, &room).await?;
    quiet(&[&alice, &bob, &carol]).await;
    alice.rotate_keys(&room).await?;
    alice.send_text(&room, "fresh keys").await?;
    // Carol is not seen again, so the epoch with her is kept; the one without her is soon let go.
    alice.kick(&room, carol.user_id()).await?;
    quiet(&[&alice, &bob]).await;
    let began_ms = u64::try_from(UNIX_EPOCH.elapsed()?.as_millis())?;
    for round in 0..4 {
        if round > 0 {
            bob.rotate_keys(&room).await?;
        }
        // What was sent on an epoch that all have left may be late for an hour.
        matrix_mls::test_hooks::set_clock_ms(began_ms + round * 2 * 3_600_000);
        for client in [&bob, &alice] {
            client.send_text(&room, &format!("round {round}")).await?;
            quiet(&[&alice, &bob]).await;
        }
    }
    let epochs = alice.epochs(&room).await?;
    assert!(epochs.windows(2).any(|two| two[0].is_full && !two[1].is_full), "{epochs:?}");
    let by_alice = epochs.iter().rev().take_while(|e| e.members == 2);
    let by_alice = by_alice.filter(|e| e.creator_user_id == alice.user_id()).count();
    assert_eq!(by_alice, 0, "nothing of hers was lost: {epochs:?}");
    Ok(())
}
