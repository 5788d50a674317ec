//! Verifications in rooms.

use std::sync::Arc;

use matrix_mls::{Verification, VerificationState};
use matrix_mls_kit::{
    Client, Homeserver, Refused as _, Result,
    together::{log_in, pair, pair_without_a_group, quiet, two_phones},
};

use serde_json::json;

use crate::puppet::{code_of, incoming, info};

async fn to_the_comparison(
    alice: &Client,
    bob: &Client,
    room: &str,
) -> Result<[Arc<Verification>; 2]> {
    let asked = alice.room(room).await?.request_verification(bob.user_id().to_owned()).await?;
    quiet(&[alice, bob]).await;
    let theirs = incoming(bob.machine()?).await?;
    assert_eq!(info(&theirs).await?.room_id.as_deref(), Some(room));
    theirs.accept().await?;
    quiet(&[bob, alice]).await;
    assert_eq!(info(&asked).await?.state, VerificationState::Ready);
    theirs.start_sas().await?;
    quiet(&[bob, alice]).await;
    let (state, other) = (info(&asked).await?.state, info(&theirs).await?.state);
    assert_eq!(state, other);
    assert!(matches!(state, VerificationState::Comparing { .. }), "{state:?}");
    Ok([asked, theirs])
}

#[tokio::test]
async fn a_room_in_clear_carries_a_verification() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob) = two_phones(&homeserver).await?;
    let clear = json!({ "preset": "private_chat", "invite": [bob.user_id()] });
    let room = alice.create_room_from(clear).await?;
    bob.join(&room).await?;
    alice.settle().await?;
    let sides = to_the_comparison(&alice, &bob, &room).await?;
    for side in &sides {
        side.confirm().await?;
    }
    quiet(&[&alice, &bob]).await;
    for side in &sides {
        assert!(matches!(info(side).await?.state, VerificationState::Done { .. }));
    }
    Ok(())
}

#[tokio::test]
async fn in_a_room_with_mls_it_is_sealed() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair(&homeserver).await;
    let desktop = log_in(&homeserver, "bob", "DESKTOP").await?;
    alice.send_text(&room, "all are here").await?;
    quiet(&[&alice, &bob, &desktop]).await;
    let asked = alice.room(&room).await?.request_verification(bob.user_id().to_owned()).await?;
    quiet(&[&alice, &bob, &desktop]).await;
    let on_phone = incoming(bob.machine()?).await?;
    let on_desktop = incoming(desktop.machine()?).await?;
    on_phone.accept().await?;
    quiet(&[&bob, &desktop, &alice]).await;
    assert_eq!(code_of(&on_desktop).await?, "m.accepted");
    assert_eq!(info(&asked).await?.device_id.as_deref(), Some("PHONE"));
    asked.start_sas().await?;
    quiet(&[&alice, &bob]).await;
    let (state, other) = (info(&asked).await?.state, info(&on_phone).await?.state);
    assert_eq!(state, other);
    assert!(matches!(state, VerificationState::Comparing { .. }), "{state:?}");
    asked.confirm().await?;
    on_phone.confirm().await?;
    quiet(&[&alice, &bob, &desktop]).await;
    for side in [&asked, &on_phone] {
        assert!(matches!(info(side).await?.state, VerificationState::Done { .. }));
    }
    // The homeserver has seen none of it.
    let path = format!("/_matrix/client/v3/rooms/{room}/messages?dir=b&limit=100");
    let page = alice.http().get(&path).await?.to_string();
    assert!(!page.contains("m.key.verification"), "{page}");
    assert!(page.contains("m.reference"));
    Ok(())
}

#[tokio::test]
async fn in_a_room_without_its_group_nothing_can_be_asked() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair_without_a_group(&homeserver).await?;
    let asked = alice.room(&room).await?.request_verification(bob.user_id().to_owned()).await?;
    quiet(&[&alice, &bob]).await;
    assert_eq!(code_of(&asked).await?, "refused");
    let oneself = alice.room(&room).await?.request_verification(alice.user_id().to_owned()).await;
    assert_eq!(oneself.refused()?.code(), "own_user");
    Ok(())
}

#[tokio::test]
async fn in_a_room_a_user_declines() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair(&homeserver).await;
    let asked = alice.room(&room).await?.request_verification(bob.user_id().to_owned()).await?;
    quiet(&[&alice, &bob]).await;
    incoming(bob.machine()?).await?.cancel().await?;
    quiet(&[&bob, &alice]).await;
    assert_eq!(code_of(&asked).await?, "m.user");
    Ok(())
}
