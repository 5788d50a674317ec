//! An other side, or a homeserver, that does not keep to the rules.

use matrix_mls::VerificationState;
use matrix_mls_kit::{
    Client, Homeserver, Refused as _, Result, bail, cross_signing::CrossSigning, peer::base64,
    together::two_phones,
};
use serde_json::{Value, json};

use crate::puppet::{
    Puppet, cancelled_with, code_of, give, incoming, info, now_ms, only_sent, sent_by,
};

async fn alice_and_puppet() -> Result<(Homeserver, Client, Client, Puppet)> {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob) = two_phones(&homeserver).await?;
    let puppet = Puppet::of(&bob, "transaction").await?;
    alice.drive().await?;
    Ok((homeserver, alice, bob, puppet))
}

/// Alice's side is asked by the puppet, has accepted and begun.
async fn alice_begins(alice: &Client, puppet: &Puppet) -> Result<(String, Value)> {
    puppet.request(alice).await?;
    let verification = incoming(alice.machine()?).await?;
    verification.accept().await?;
    assert_eq!(only_sent(alice).await?.event_type, "m.key.verification.ready");
    verification.start_sas().await?;
    let start = only_sent(alice).await?;
    assert_eq!(start.event_type, "m.key.verification.start");
    Ok((verification.id(), start.content))
}

#[tokio::test]
async fn the_other_side_computes_the_same_whoever_begins() -> Result {
    let (_homeserver, alice, bob, mut puppet) = alice_and_puppet().await?;
    let verification = puppet.until_comparing(&alice).await?;
    let VerificationState::Comparing { decimals, .. } = info(&verification).await?.state else {
        bail!("not comparing");
    };
    assert_eq!(decimals, puppet.decimals(&alice, true)?);
    let mac = puppet.mac_content(&alice, &[("PHONE", &puppet.ed25519)])?;
    puppet.give(&alice, "mac", mac).await?;
    verification.confirm().await?;
    let sent = sent_by(&alice).await?;
    let types: Vec<_> = sent.iter().map(|sent| sent.event_type.as_str()).collect();
    assert_eq!(types, ["m.key.verification.mac", "m.key.verification.done"]);
    assert!(matches!(info(&verification).await?.state, VerificationState::Done { .. }));

    let mut puppet = Puppet::of(&bob, "another").await?;
    let (id, start) = alice_begins(&alice, &puppet).await?;
    let commitment = puppet.commitment(&start)?;
    puppet.give(&alice, "accept", puppet.accept_content(&commitment)).await?;
    let key = only_sent(&alice).await?;
    puppet.agree(&key.content["key"])?;
    puppet.key(&alice).await?;
    let verification = alice.machine()?.verification(id);
    let VerificationState::Comparing { decimals, .. } = info(&verification).await?.state else {
        bail!("not comparing");
    };
    assert_eq!(decimals, puppet.decimals(&alice, false)?);
    Ok(())
}

#[tokio::test]
async fn a_key_that_was_not_committed_to_ends_it() -> Result {
    let (_homeserver, alice, bob, puppet) = alice_and_puppet().await?;
    let (id, start) = alice_begins(&alice, &puppet).await?;
    let commitment = puppet.commitment(&start)?;
    puppet.give(&alice, "accept", puppet.accept_content(&commitment)).await?;
    only_sent(&alice).await?;
    // Another key, chosen after Alice's is known.
    let other = Puppet::of(&bob, "transaction").await?;
    other.key(&alice).await?;
    assert_eq!(cancelled_with(&alice).await?, "m.mismatched_commitment");
    assert_eq!(code_of(&alice.machine()?.verification(id)).await?, "m.mismatched_commitment");
    Ok(())
}

#[tokio::test]
async fn a_key_of_small_order_ends_it() -> Result {
    let (_homeserver, alice, _bob, mut puppet) = alice_and_puppet().await?;
    puppet.request(&alice).await?;
    let verification = incoming(alice.machine()?).await?;
    verification.accept().await?;
    only_sent(&alice).await?;
    puppet.give(&alice, "start", puppet.start_content()).await?;
    only_sent(&alice).await?;
    puppet.public = base64(&[0; 32]);
    puppet.key(&alice).await?;
    assert_eq!(cancelled_with(&alice).await?, "m.invalid_message");
    Ok(())
}

#[tokio::test]
async fn who_vouches_for_other_keys_than_the_homeserver_hands_out_is_not_verified() -> Result {
    let (_homeserver, alice, bob, puppet) = alice_and_puppet().await?;
    let identity = CrossSigning::bootstrap(&bob).await?;
    let true_master = identity.master_key();
    let (own, other) = (puppet.ed25519.clone(), base64(&[9; 32]));
    let cases: [(&str, Vec<(&str, &str)>); 6] = [
        ("another device key", vec![("PHONE", &other), (&true_master, &true_master)]),
        ("another master key", vec![("PHONE", &own), (&other, &other)]),
        ("another under the name of the true one", vec![("PHONE", &own), (&true_master, &other)]),
        ("the master key alone", vec![(&true_master, &true_master)]),
        ("the device alone", vec![("PHONE", &own)]),
        ("nothing", vec![]),
    ];
    for (what, keys) in cases {
        let mut puppet = Puppet::of(&bob, "transaction").await?;
        let verification = puppet.until_comparing(&alice).await?;
        verification.confirm().await?;
        only_sent(&alice).await?;
        puppet.give(&alice, "mac", puppet.mac_content(&alice, &keys)?).await?;
        assert_eq!(cancelled_with(&alice).await?, "m.key_mismatch", "{what}");
        assert_eq!(code_of(&verification).await?, "m.key_mismatch", "{what}");
    }
    // The MAC of the list itself is another's.
    let mut puppet = Puppet::of(&bob, "transaction").await?;
    let verification = puppet.until_comparing(&alice).await?;
    verification.confirm().await?;
    only_sent(&alice).await?;
    let right = [("PHONE", &*own), (&*true_master, &*true_master)];
    let mut mac = puppet.mac_content(&alice, &right)?;
    mac["keys"] = mac["mac"]["ed25519:PHONE"].clone();
    puppet.give(&alice, "mac", mac).await?;
    assert_eq!(cancelled_with(&alice).await?, "m.key_mismatch");
    // And this is what all of them lack.
    let mut puppet = Puppet::of(&bob, "transaction").await?;
    let verification = puppet.until_comparing(&alice).await?;
    verification.confirm().await?;
    puppet.give(&alice, "mac", puppet.mac_content(&alice, &right)?).await?;
    let state = info(&verification).await?.state;
    // Alice has no identity of her own, so she signs nothing.
    let master_key = Some(true_master);
    assert_eq!(state, VerificationState::Done { master_key, is_signed: false });
    Ok(())
}

#[tokio::test]
async fn an_identity_that_changes_before_the_end_is_not_verified() -> Result {
    let (_homeserver, alice, bob, mut puppet) = alice_and_puppet().await?;
    let first = CrossSigning::bootstrap(&bob).await?.master_key();
    let verification = puppet.until_comparing(&alice).await?;
    CrossSigning::bootstrap(&bob).await?;
    // Alice's device hears of it by asking for somebody else's verification.
    let again = alice.machine()?.request_verification(bob.user_id().to_owned(), None).await?;
    sent_by(&alice).await?;
    again.cancel().await?;
    sent_by(&alice).await?;
    verification.confirm().await?;
    sent_by(&alice).await?;
    let mac = puppet.mac_content(&alice, &[("PHONE", &puppet.ed25519), (&first, &first)])?;
    puppet.give(&alice, "mac", mac).await?;
    assert_eq!(code_of(&verification).await?, "m.key_mismatch");
    Ok(())
}

#[tokio::test]
async fn events_out_of_order_end_it_and_repeated_ones_change_nothing() -> Result {
    let (_homeserver, alice, bob, puppet) = alice_and_puppet().await?;
    for (kind, content) in [
        ("accept", puppet.accept_content("x")),
        ("key", json!({ "key": puppet.public })),
        ("mac", json!({ "mac": {}, "keys": "" })),
        ("start", puppet.start_content()),
    ] {
        let puppet = Puppet::of(&bob, kind).await?;
        puppet.request(&alice).await?;
        let verification = incoming(alice.machine()?).await?;
        puppet.give(&alice, kind, content).await?;
        assert_eq!(cancelled_with(&alice).await?, "m.unexpected_message", "{kind}");
        assert_eq!(code_of(&verification).await?, "m.unexpected_message", "{kind}");
        // It is over, and asking again under its name does not begin it anew.
        puppet.request(&alice).await?;
        puppet.key(&alice).await?;
        assert!(sent_by(&alice).await?.is_empty(), "{kind}");
        assert!(alice.machine()?.verifications().await?.is_empty(), "{kind}");
    }
    // Everything twice.
    let mut puppet = Puppet::of(&bob, "twice").await?;
    let request = puppet.request_content();
    puppet.give(&alice, "request", request.clone()).await?;
    puppet.give(&alice, "request", request).await?;
    let verification = incoming(alice.machine()?).await?;
    verification.accept().await?;
    only_sent(&alice).await?;
    for _ in 0..2 {
        puppet.give(&alice, "start", puppet.start_content()).await?;
    }
    only_sent(&alice).await?;
    for _ in 0..2 {
        puppet.key(&alice).await?;
    }
    let key = only_sent(&alice).await?;
    puppet.agree(&key.content["key"])?;
    puppet.give(&alice, "start", puppet.start_content()).await?;
    let mac = puppet.mac_content(&alice, &[("PHONE", &puppet.ed25519)])?;
    for _ in 0..2 {
        puppet.give(&alice, "mac", mac.clone()).await?;
    }
    verification.confirm().await?;
    assert!(matches!(info(&verification).await?.state, VerificationState::Done { .. }));
    assert_eq!(verification.confirm().await.refused()?.code(), "not_now");
    Ok(())
}

#[tokio::test]
async fn events_of_unknown_transactions_are_answered_but_not_without_end() -> Result {
    let (_homeserver, alice, _bob, puppet) = alice_and_puppet().await?;
    puppet.key(&alice).await?;
    let sent = only_sent(&alice).await?;
    assert_eq!(sent.event_type, "m.key.verification.cancel");
    assert_eq!(sent.content["code"], "m.unknown_transaction");
    assert_eq!(sent.content["transaction_id"], "transaction");
    puppet.ready(&alice).await?;
    assert_eq!(only_sent(&alice).await?.devices, ["PHONE"]);
    puppet.give(&alice, "start", puppet.start_content()).await?;
    assert_eq!(cancelled_with(&alice).await?, "m.unexpected_message");
    puppet.give(&alice, "cancel", json!({ "code": "m.user", "reason": "" })).await?;
    puppet.give(&alice, "done", json!({})).await?;
    assert!(sent_by(&alice).await?.is_empty(), "that would go back and forth for ever");
    for number in 0..200 {
        let content = json!({ "transaction_id": number.to_string(), "key": puppet.public });
        give(&alice, &puppet.user, "m.key.verification.key", &content).await?;
    }
    assert!(sent_by(&alice).await?.len() <= 32);
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_read_harms_nothing() -> Result {
    let (_homeserver, alice, _bob, puppet) = alice_and_puppet().await?;
    let long = "x".repeat(1000);
    for content in [
        json!({}),
        json!([]),
        json!({ "transaction_id": 7 }),
        json!({ "transaction_id": "" }),
        json!({ "transaction_id": long, "from_device": "PHONE", "methods": ["m.sas.v1"] }),
        json!({ "transaction_id": "a", "from_device": long, "methods": ["m.sas.v1"], "timestamp": now_ms() }),
        json!({ "transaction_id": "a", "from_device": "", "methods": ["m.sas.v1"], "timestamp": now_ms() }),
        json!({ "transaction_id": "a", "from_device": "PHONE", "methods": "m.sas.v1", "timestamp": now_ms() }),
        json!({ "transaction_id": "a", "from_device": "PHONE", "methods": ["m.qr"], "timestamp": now_ms() }),
        json!({ "transaction_id": "a", "from_device": "PHONE", "methods": ["m.sas.v1"] }),
        json!({ "transaction_id": "a", "from_device": "PHONE", "methods": ["m.sas.v1"], "timestamp": -1 }),
        json!({ "transaction_id": "a", "from_device": "PHONE", "methods": ["m.sas.v1"], "timestamp": now_ms() - 11 * 60_000 }),
        json!({ "transaction_id": "a", "from_device": "PHONE", "methods": ["m.sas.v1"], "timestamp": now_ms() + 6 * 60_000 }),
    ] {
        give(&alice, &puppet.user, "m.key.verification.request", &content).await?;
        assert!(alice.machine()?.verifications().await?.is_empty(), "{content}");
    }
    assert!(sent_by(&alice).await?.is_empty());
    puppet.request(&alice).await?;
    let verification = incoming(alice.machine()?).await?;
    verification.accept().await?;
    only_sent(&alice).await?;
    puppet.give(&alice, "start", json!({ "from_device": 5 })).await?;
    assert_eq!(cancelled_with(&alice).await?, "m.invalid_message");
    Ok(())
}

#[tokio::test]
async fn methods_that_this_device_lacks_end_it() -> Result {
    let (_homeserver, alice, bob, _) = alice_and_puppet().await?;
    for (field, value) in [
        ("method", json!("m.reciprocate.v1")),
        ("hashes", json!(["sha512"])),
        ("key_agreement_protocols", json!(["curve25519"])),
        ("message_authentication_codes", json!(["hkdf-hmac-sha256"])),
        ("short_authentication_string", json!(["emoji"])),
    ] {
        let puppet = Puppet::of(&bob, field).await?;
        puppet.request(&alice).await?;
        incoming(alice.machine()?).await?.accept().await?;
        only_sent(&alice).await?;
        let mut start = puppet.start_content();
        start[field] = value;
        puppet.give(&alice, "start", start).await?;
        assert_eq!(cancelled_with(&alice).await?, "m.unknown_method", "{field}");
    }
    for (field, value) in [
        ("hash", json!("sha1")),
        ("key_agreement_protocol", json!("curve25519")),
        ("message_authentication_code", json!("hkdf-hmac-sha256")),
        ("short_authentication_string", json!(["smells"])),
        ("short_authentication_string", json!([])),
    ] {
        let puppet = Puppet::of(&bob, &format!("{field} {value}")).await?;
        let (_, start) = alice_begins(&alice, &puppet).await?;
        let mut accept = puppet.accept_content(&puppet.commitment(&start)?);
        accept[field] = value;
        puppet.give(&alice, "accept", accept).await?;
        assert_eq!(cancelled_with(&alice).await?, "m.unknown_method", "{field}");
    }
    // Without emojis there are numbers.
    let mut puppet = Puppet::of(&bob, "decimals").await?;
    puppet.request(&alice).await?;
    let verification = incoming(alice.machine()?).await?;
    verification.accept().await?;
    only_sent(&alice).await?;
    let mut start = puppet.start_content();
    start["short_authentication_string"] = json!(["decimal"]);
    puppet.give(&alice, "start", start).await?;
    let accept = only_sent(&alice).await?;
    assert_eq!(accept.content["short_authentication_string"], json!(["decimal"]));
    puppet.key(&alice).await?;
    puppet.agree(&only_sent(&alice).await?.content["key"])?;
    let VerificationState::Comparing { emojis, decimals } = info(&verification).await?.state else {
        bail!("not comparing");
    };
    assert!(emojis.is_empty());
    assert_eq!(decimals, puppet.decimals(&alice, true)?);
    Ok(())
}

#[tokio::test]
async fn a_flood_of_requests_leaves_room_for_others() -> Result {
    let (_homeserver, alice, _bob, puppet) = alice_and_puppet().await?;
    let ask = async |user: &str, number: usize| {
        let content = json!({
            "transaction_id": number.to_string(),
            "from_device": format!("DEVICE{number}"),
            "methods": ["m.sas.v1"],
            "timestamp": now_ms(),
        });
        give(&alice, user, "m.key.verification.request", &content).await
    };
    for number in 0..50 {
        ask("@mallory:localhost", number).await?;
    }
    assert!(alice.machine()?.verifications().await?.len() <= 4);
    puppet.request(&alice).await?;
    let all = alice.machine()?.verifications().await?;
    assert!(all.iter().any(|info| info.user_id == puppet.user), "{all:?}");
    for number in 0..50 {
        ask(&format!("@mallory{number}:localhost"), number).await?;
    }
    let all = alice.machine()?.verifications().await?;
    assert!(all.len() <= 16, "{}", all.len());
    assert!(sent_by(&alice).await?.is_empty());
    // It keeps Alice from nothing, and she has a bound of her own.
    for number in 0..17 {
        let nobody = format!("@nobody{number}:localhost");
        let asked = alice.machine()?.request_verification(nobody, None).await;
        if number < 16 {
            asked?;
        } else {
            assert_eq!(asked.refused()?.code(), "too_many_verifications");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_device_that_asks_twice_is_told_to_begin_anew() -> Result {
    let (_homeserver, alice, bob, puppet) = alice_and_puppet().await?;
    puppet.request(&alice).await?;
    let first = incoming(alice.machine()?).await?;
    Puppet::of(&bob, "second").await?.request(&alice).await?;
    let sent = sent_by(&alice).await?;
    let of = |id: &str| sent.iter().any(|sent| sent.content["transaction_id"] == *id);
    assert!(sent.len() == 2 && of("transaction") && of("second"), "{sent:?}");
    assert_eq!(code_of(&first).await?, "m.unexpected_message");
    Puppet::of(&bob, "third").await?.request(&alice).await?;
    incoming(alice.machine()?).await?;
    Ok(())
}

#[tokio::test]
async fn others_have_no_say_in_a_verification() -> Result {
    let (_homeserver, alice, _bob, mut puppet) = alice_and_puppet().await?;
    let verification = puppet.until_comparing(&alice).await?;
    let content = json!({ "transaction_id": puppet.transaction, "code": "m.user", "reason": "" });
    give(&alice, "@mallory:localhost", "m.key.verification.cancel", &content).await?;
    assert!(matches!(info(&verification).await?.state, VerificationState::Comparing { .. }));
    let machine = alice.machine()?;
    assert_eq!(
        machine.verification("none".to_owned()).info().await.refused()?.code(),
        "no_verification"
    );
    // What the other side says is shortened, and never more than a sentence.
    let content = json!({ "code": "c".repeat(9000), "reason": "r".repeat(9000) });
    puppet.give(&alice, "cancel", content).await?;
    let VerificationState::Cancelled { code, reason, by_this_device } =
        info(&verification).await?.state
    else {
        bail!("not cancelled");
    };
    assert!(code.len() == 64 && reason.len() == 256 && !by_this_device);
    assert!(sent_by(&alice).await?.is_empty());
    puppet.give(&alice, "cancel", json!({ "code": "m.user" })).await?;
    Ok(())
}
