//! The policy of a device decides who is in a group, and who has to go.

use matrix_mls::{MemberPolicy, RoomSettings};
use matrix_mls_kit::{
    Client, ClientOptions, Homeserver, Result,
    cross_signing::CrossSigning,
    together::{all_talk, log_in, pair, phone_of, quiet, texts},
};

use super::{is_member, is_member_of_user, listening, not_cross_signed, with_identity};

/// Bob makes an identity while his laptop is in the group, and signs his phone alone: the laptop is
/// removed before the next message.
#[tokio::test]
async fn a_device_that_drops_below_the_policy_is_removed_before_the_next_message() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair(&homeserver).await;
    let laptop = log_in(&homeserver, "bob", "LAPTOP").await?;
    quiet(&[&alice, &bob]).await;
    alice.send_text(&room, "for all").await?;
    quiet(&[&alice, &bob, &laptop]).await;
    assert!(is_member(&alice, &room, "LAPTOP").await?);
    let (heard, _listening) = listening(&alice).await?;
    CrossSigning::bootstrap(&bob).await?;
    quiet(&[&alice, &bob]).await;
    heard.wait_for(not_cross_signed("LAPTOP")).await?;
    alice.send_text(&room, "not for the laptop").await?;
    assert!(!is_member(&alice, &room, "LAPTOP").await?);
    quiet(&[&alice, &bob, &laptop]).await;
    assert_eq!(texts(&laptop, &room).await, ["for all"]);
    all_talk(&[&alice, &bob], &room).await;
    Ok(())
}

/// Bob has an identity that has signed his phone and not his laptop, Carol has none.
#[tokio::test]
async fn the_policy_decides_who_is_in_a_group() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (_alice, bob, ..) = with_identity(&homeserver).await?;
    let carol = phone_of(&homeserver, "carol").await?;
    let laptop = log_in(&homeserver, "bob", "LAPTOP").await?;
    let name = |client: &Client| (client.user_id().to_owned(), client.device_id().to_owned());
    for (policy, expected) in [
        (MemberPolicy::CrossSigned, vec![name(&bob)]),
        (MemberPolicy::CrossSignedOrUserHasNoIdentity, vec![name(&bob), name(&carol)]),
        (MemberPolicy::AnySigned, vec![name(&laptop), name(&bob), name(&carol)]),
    ] {
        let options = ClientOptions { member_policy: Some(policy), ..ClientOptions::default() };
        let eve = format!("eve-{policy:?}").to_lowercase();
        let eve = Client::register_with(&homeserver, &eve, "PHONE", options).await?;
        eve.settle().await?;
        let room = eve.create_group(&[&bob, &carol], RoomSettings::default()).await?;
        eve.send_text(&room, "hello").await?;
        let mut others: Vec<_> = eve
            .members(&room)
            .await?
            .into_iter()
            .filter(|member| !member.is_own_device)
            .map(|member| (member.user_id, member.device_id))
            .collect();
        others.sort();
        assert_eq!(others, expected, "{policy:?}");
    }
    Ok(())
}

/// A store that is opened with another policy compares its rooms with it before the next message.
#[tokio::test]
async fn a_stricter_policy_removes_who_is_in_the_group_already() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (mut alice, bob, room) = pair(&homeserver).await;
    assert!(is_member_of_user(&alice, &room, &bob).await?);
    alice.set_member_policy(Some(MemberPolicy::CrossSigned));
    alice.restart().await?;
    alice.send_text(&room, "to myself").await?;
    assert!(!is_member_of_user(&alice, &room, &bob).await?);
    alice.set_member_policy(Some(MemberPolicy::AnySigned));
    alice.restart().await?;
    alice.send_text(&room, "to both").await?;
    assert!(is_member_of_user(&alice, &room, &bob).await?);
    Ok(())
}
