//! Which devices an identity's owner has signed: those are in, and no other gets anything.

use std::time::Duration;

use matrix_mls_kit::{
    Fault, Homeserver, OrMissing as _, Result,
    cross_signing::CrossSigning,
    is_commit,
    together::{all_talk, lie_about_keys, log_in, quiet, texts},
};
use serde_json::json;

use super::{
    Ghost, answer_about, identity_of, is_member, is_member_of_user, listening, look_again,
    not_cross_signed, with_identity,
};

#[tokio::test]
async fn a_device_that_its_owner_has_not_signed_gets_nothing_and_is_told() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room, _) = with_identity(&homeserver).await?;
    let (heard, _listening) = listening(&alice).await?;
    let ghost = Ghost::of(&homeserver, &bob, &[&alice, &bob], None)?;
    look_again(&alice).await?;
    look_again(&bob).await?;
    heard.wait_for(not_cross_signed(Ghost::DEVICE)).await?;
    for client in [&alice, &bob] {
        client.send_text(&room, "not for the ghost").await?;
        assert!(!is_member(client, &room, Ghost::DEVICE).await?);
        quiet(&[&alice, &bob]).await;
    }
    ghost.stop();
    quiet(&[&alice, &bob]).await;
    all_talk(&[&alice, &bob], &room).await;
    Ok(())
}

/// The ghost bears the signature of a key that is not Bob's. Then the homeserver hands out that key
/// as Bob's self-signing key, which his master key has not signed.
#[tokio::test]
async fn only_the_owners_own_chain_counts() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room, keys) = with_identity(&homeserver).await?;
    let other = CrossSigning::new(bob.user_id());
    let (heard, _listening) = listening(&alice).await?;
    let ghost = Ghost::of(&homeserver, &bob, &[&alice], Some(&other))?;
    look_again(&alice).await?;
    heard.wait_for(not_cross_signed(Ghost::DEVICE)).await?;
    let (user, forged) = (bob.user_id().to_owned(), other.published()?);
    let mut swapped = None;
    for _ in 0..2 {
        alice.send_text(&room, "not for the ghost").await?;
        assert!(!is_member(&alice, &room, Ghost::DEVICE).await?);
        assert!(is_member_of_user(&alice, &room, &bob).await?);
        let identity = identity_of(&alice, &bob).await?;
        assert_eq!(identity.self_signing_key, Some(keys.self_signing_key()));
        let (user, forged) = (user.clone(), forged["self_signing_key"].clone());
        swapped.get_or_insert(lie_about_keys(&homeserver, &alice, move |answer| {
            answer["self_signing_keys"][&user] = forged.clone();
        })?);
        look_again(&alice).await?;
    }
    ghost.stop();
    swapped.or_missing("lie")?.stop();
    look_again(&alice).await?;
    all_talk(&[&alice, &bob], &room).await;
    Ok(())
}

/// Bob's laptop spoke Olm when he verified it. Its MLS credential has been put beside its Olm keys
/// since, and the homeserver keeps the signature from before.
#[tokio::test]
async fn a_device_that_its_owner_signed_before_it_spoke_mls_is_in() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room, keys) = with_identity(&homeserver).await?;
    let laptop = log_in(&homeserver, "bob", "LAPTOP").await?;
    let credential = "org.matrix.msc2883.v1.dmls.credential.ed25519:LAPTOP";
    let mut before =
        answer_about(&alice, bob.user_id()).await?["device_keys"][bob.user_id()]["LAPTOP"].take();
    let of_device = before["keys"].as_object_mut().or_missing("keys")?;
    of_device.remove(credential).or_missing("credential")?;
    before["algorithms"] = json!([]);
    let mut another = before.clone();
    another["keys"]["ed25519:LAPTOP"] = json!(keys.master_key());
    for (what, signed, is_in) in [("another key", another, false), ("its keys", before, true)] {
        let signatures = keys.sign_device(signed)?["signatures"][bob.user_id()].take();
        let id = format!("ed25519:{}", keys.self_signing_key());
        let (user, signature) = (bob.user_id().to_owned(), signatures[&id].clone());
        let mut lies = Vec::new();
        for client in [&alice, &bob] {
            let (user, id, signature) = (user.clone(), id.clone(), signature.clone());
            lies.push(lie_about_keys(&homeserver, client, move |answer| {
                let keys = &mut answer["device_keys"][&user]["LAPTOP"];
                if keys.is_object() {
                    keys["signatures"][&user][&id] = signature.clone();
                }
            })?);
        }
        look_again(&alice).await?;
        look_again(&bob).await?;
        alice.send_text(&room, what).await?;
        assert_eq!(is_member(&alice, &room, "LAPTOP").await?, is_in, "{what}");
        lies.iter().for_each(Fault::stop);
    }
    laptop.settle().await?;
    assert!(texts(&laptop, &room).await.contains(&"its keys".to_owned()));
    Ok(())
}

/// Bob logs in on a laptop that he has yet to verify: it comes in once he has signed it.
#[tokio::test]
async fn a_device_comes_in_once_its_owner_has_signed_it() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room, keys) = with_identity(&homeserver).await?;
    let laptop = log_in(&homeserver, "bob", "LAPTOP").await?;
    look_again(&alice).await?;
    alice.send_text(&room, "before").await?;
    assert!(!is_member(&alice, &room, "LAPTOP").await?);
    keys.sign(&laptop).await?;
    quiet(&[&alice, &bob]).await;
    alice.send_text(&room, "after").await?;
    assert!(is_member(&alice, &room, "LAPTOP").await?);
    quiet(&[&alice, &bob, &laptop]).await;
    all_talk(&[&alice, &bob, &laptop], &room).await;
    assert!(!texts(&laptop, &room).await.contains(&"before".to_owned()));
    Ok(())
}

/// Bob's laptop, which he has not signed, lets itself in and speaks, again and again. Nobody seals
/// to it, the others go on, and it costs them a bounded number of commits.
#[tokio::test]
async fn a_device_that_its_owner_has_not_signed_cannot_let_itself_in() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room, keys) = with_identity(&homeserver).await?;
    let laptop = log_in(&homeserver, "bob", "LAPTOP").await?;
    quiet(&[&alice, &bob, &laptop]).await;
    let commits = async || -> Result<usize> {
        Ok(alice.history(&room).await?.iter().filter(|event| is_commit(event)).count())
    };
    let before = commits().await?;
    for round in 0..4 {
        let speaks = laptop.send_text(&room, "let me in");
        // It may be refused: what matters is what the others do.
        let _ = tokio::time::timeout(Duration::from_secs(5), speaks).await;
        quiet(&[&alice, &bob, &laptop]).await;
        for client in [&alice, &bob] {
            let text = format!("{} in round {round}", client.name());
            client.send_text(&room, &text).await?;
            assert!(!is_member(client, &room, "LAPTOP").await?);
            quiet(&[&alice, &bob, &laptop]).await;
            assert!(!texts(&laptop, &room).await.contains(&text), "the laptop reads {text}");
        }
    }
    let made = commits().await? - before;
    assert!(made <= 8, "{made} commits");
    all_talk(&[&alice, &bob], &room).await;
    keys.sign(&laptop).await?;
    quiet(&[&alice, &bob, &laptop]).await;
    alice.send_text(&room, "welcome").await?;
    quiet(&[&alice, &bob, &laptop]).await;
    assert!(texts(&laptop, &room).await.contains(&"welcome".to_owned()));
    Ok(())
}
