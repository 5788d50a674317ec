//! An identity that the homeserver hides from those who have seen it, or from one member alone.

use matrix_mls::{Update, Verdict};
use matrix_mls_kit::{
    Client, Fault, Homeserver, OrMissing as _, Result,
    cross_signing::CrossSigning,
    is_commit,
    together::{all_talk, lie_about_keys, pair, phone_of, quiet, texts},
};

use super::{
    Ghost, identity_of, is_member, is_member_of_user, listening, look_again, not_cross_signed,
    with_identity,
};

/// One client's homeserver hides a user's identity, and what it has signed.
fn hide(homeserver: &Homeserver, told_to: &Client, hidden: &Client) -> Result<Fault> {
    let user = hidden.user_id().to_owned();
    lie_about_keys(homeserver, told_to, move |answer| {
        for field in ["master_keys", "self_signing_keys", "user_signing_keys"] {
            if let Some(keys) = answer[field].as_object_mut() {
                keys.remove(&user);
            }
        }
    })
}

/// An identity that was seen is not unseen: hiding it does not make a ghost acceptable.
#[tokio::test]
async fn an_identity_that_is_hidden_later_still_counts() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (mut alice, bob, room, keys) = with_identity(&homeserver).await?;
    let hidden = hide(&homeserver, &alice, &bob)?;
    let ghost = Ghost::of(&homeserver, &bob, &[&alice], None)?;
    alice.restart().await?;
    let (heard, _listening) = listening(&alice).await?;
    look_again(&alice).await?;
    heard.wait_for(not_cross_signed(Ghost::DEVICE)).await?;
    alice.send_text(&room, "not for the ghost").await?;
    assert!(!is_member(&alice, &room, Ghost::DEVICE).await?);
    assert!(is_member_of_user(&alice, &room, &bob).await?, "Bob's phone is signed as before");
    assert_eq!(identity_of(&alice, &bob).await?.master_key, keys.master_key());
    ghost.stop();
    hidden.stop();
    look_again(&alice).await?;
    all_talk(&[&alice, &bob], &room).await;
    Ok(())
}

/// Alice has seen Bob's identity; Carol's homeserver hides it from her and shows her a ghost. Alice
/// removes the ghost, Carol leaves it out for a while, and there is an end to it.
#[tokio::test]
async fn two_who_see_different_identities_settle() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair(&homeserver).await;
    let carol = phone_of(&homeserver, "carol").await?;
    alice.invite(&room, carol.user_id()).await?;
    carol.join(&room).await?;
    quiet(&[&alice, &bob, &carol]).await;
    all_talk(&[&alice, &bob, &carol], &room).await;
    let hidden = hide(&homeserver, &carol, &bob)?;
    CrossSigning::bootstrap(&bob).await?;
    quiet(&[&alice, &bob, &carol]).await;
    let ghost = Ghost::of(&homeserver, &bob, &[&carol], None)?;
    look_again(&carol).await?;
    let commits = async || -> Result<usize> {
        Ok(alice.history(&room).await?.iter().filter(|event| is_commit(event)).count())
    };
    let before = commits().await?;
    let (heard, _listening) = listening(&carol).await?;
    carol.send_text(&room, "the ghost reads this").await?;
    assert!(is_member(&carol, &room, Ghost::DEVICE).await?, "for Carol it has every right");
    quiet(&[&alice, &bob, &carol]).await;
    let members = alice.members(&room).await?;
    let shown = members.iter().find(|member| member.device_id == Ghost::DEVICE);
    let verdict = shown.or_missing("ghost")?.verdict;
    assert_eq!(verdict, Verdict::UnknownDevice, "Alice sees it, until she sends");
    for round in 0..4 {
        for client in [&alice, &bob, &carol] {
            let text = format!("{} in round {round}", client.name());
            client.send_text(&room, &text).await?;
            assert!(!is_member(client, &room, Ghost::DEVICE).await?, "{text}");
            quiet(&[&alice, &bob, &carol]).await;
            for reader in [&alice, &bob, &carol] {
                assert!(texts(reader, &room).await.contains(&text), "{} {text}", reader.name());
            }
        }
    }
    heard.wait_for(|update| matches!(update, Update::AddUndone { .. })).await?;
    let made = commits().await? - before;
    assert!(made <= 6, "{made} commits");
    hidden.stop();
    ghost.stop();
    look_again(&carol).await?;
    assert!(carol.machine()?.user_identity(bob.user_id().to_owned()).await?.is_some());
    all_talk(&[&alice, &bob, &carol], &room).await;
    Ok(())
}
