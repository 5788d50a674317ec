//! Sessions that were written by somebody who has the backup's key, and are wrong all the same; and
//! history that a member gives.

use aes::cipher::{KeyIvInit as _, StreamCipher as _};
use matrix_mls::{
    HistoryFailure, RecoveryKey, RestoreScope, RoomSettings, UnreadableCause, Update,
};
use matrix_mls_kit::{
    Fields as _, Heard, Homeserver, OrMissing as _, Refused as _, Result,
    peer::{Peer, base64, from_base64},
    together::{lie_about_keys, log_in, pair, phone_of, quiet, say_in_a_new_epoch, texts},
};
use pbkdf2::hmac::{Hmac, Mac as _};
use serde_json::{Value, json};
use sha2_010::Sha256;

use super::says;

const KEYS: &str = "/_matrix/client/v3/room_keys/keys";

fn hmac(key: &[u8], bytes: &[u8]) -> Result<Vec<u8>> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key)?;
    mac.update(bytes);
    Ok(mac.finalize().into_bytes().to_vec())
}

/// The AES key and the MAC key of a session: HKDF of the backup's key, with the session's id.
fn keys(key: &[u8], id: &str) -> Result<[Vec<u8>; 2]> {
    let extracted = hmac(&[0; 32], key)?;
    let first = hmac(&extracted, &[id.as_bytes(), &[1]].concat())?;
    let second = hmac(&extracted, &[&first, id.as_bytes(), &[2]].concat())?;
    Ok([first, second])
}

fn count(key: &[u8], iv: &[u8], bytes: &mut [u8]) -> Result {
    let cipher = ctr::Ctr128BE::<aes::Aes256>::new_from_slices(key, iv);
    cipher.ok().or_missing("key and IV of the right lengths")?.apply_keystream(bytes);
    Ok(())
}

fn open(key: &[u8], id: &str, sealed: &Value) -> Result<Value> {
    let mut bytes = from_base64(sealed.text("ciphertext")?);
    let [encryption, _] = keys(key, id)?;
    count(&encryption, &from_base64(sealed.text("iv")?), &mut bytes)?;
    Ok(serde_json::from_slice(&bytes)?)
}

fn seal(key: &[u8], id: &str, session: &Value) -> Result<Value> {
    let [encryption, mac] = keys(key, id)?;
    let mut bytes = session.to_string().into_bytes();
    count(&encryption, &[7; 16], &mut bytes)?;
    let mac = hmac(&mac, &bytes)?;
    Ok(json!({ "iv": base64(&[7; 16]), "ciphertext": base64(&bytes), "mac": base64(&mac) }))
}

/// What is wrong with a session, and the words by which an app's log says so.
struct Wrong {
    code: &'static str,
    sentence: &'static str,
    is_of_leaves: bool,
    change: fn(&mut Value),
}

const WRONG: [Wrong; 4] = [
    Wrong {
        code: "bad_export",
        sentence: "the keys in the session are damaged",
        is_of_leaves: false,
        change: |session| session["group_export"] = json!(base64(b"no export")),
    },
    Wrong {
        code: "other_epoch",
        sentence: "another epoch than it was filed under",
        is_of_leaves: false,
        change: |session| session["epoch"][0] = json!("77"),
    },
    Wrong {
        code: "unsupported_session",
        sentence: "update the app",
        is_of_leaves: false,
        change: |session| session["algorithm"] = json!("org.example.new"),
    },
    Wrong {
        code: "bad_leaves",
        sentence: "the list of the epoch's members is damaged",
        is_of_leaves: true,
        change: |session| session["leaf_chunk"] = json!(base64(b"no leaves")),
    },
];

#[tokio::test]
async fn a_session_that_is_sealed_well_is_looked_at_all_the_same() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, _bob, room) = pair(&homeserver).await;
    let key = RecoveryKey::generate()?;
    alice.machine()?.backup().create(key.clone(), false).await?;
    alice.drive().await?;
    let path = format!("{KEYS}?version=1");
    let good = alice.http().get(&path).await?;
    let phone = log_in(&homeserver, "alice", "NEW").await?;
    let (heard, _listening) = Heard::of(&phone).await?;
    for wrong in WRONG {
        let mut bad = good.clone();
        for (id, entry) in bad["rooms"][&room].object_mut("sessions")? {
            if id.starts_with("leaves") == wrong.is_of_leaves {
                let mut session = open(&key.bytes(), id, &entry["session_data"])?;
                (wrong.change)(&mut session);
                entry["session_data"] = seal(&key.bytes(), id, &session)?;
            }
        }
        alice.http().try_json("DELETE", &path, json!({})).await?;
        alice.http().put(&path, bad).await?;
        phone.machine()?.backup().restore(Some(key.clone()), RestoreScope::AllRooms).await?;
        phone.drive().await?;
        let failures: Vec<HistoryFailure> = heard
            .hear(|update| match update {
                Update::RestoreFinished { failures, .. } => Some(failures.clone()),
                _ => None,
            })
            .await?;
        let failure = failures.iter().find(|failure| failure.code == wrong.code);
        let failure = failure.or_missing(&format!("{} in {failures:?}", wrong.code))?;
        assert!(failure.reason.contains(wrong.sentence), "{failure:?}");
    }
    alice.http().try_json("DELETE", &path, json!({})).await?;
    alice.http().put(&path, good).await?;
    phone.machine()?.backup().restore(Some(key), RestoreScope::AllRooms).await?;
    phone.drive().await?;
    assert_eq!(texts(&phone, &room).await, ["first"]);
    Ok(())
}

/// Carol's homeserver has had another key for Alice's phone from the start. Bob, who lets Carol in,
/// gives her what Alice had said, under the key that is Alice's as far as Bob knows.
#[tokio::test]
async fn a_member_gives_the_keys_that_their_devices_publish() -> Result {
    let homeserver = Homeserver::embedded()?;
    let (alice, bob, room) = pair(&homeserver).await;
    let settings = RoomSettings { share_history: true, ..RoomSettings::default() };
    bob.set_settings(&room, settings).await?;
    say_in_a_new_epoch(&bob, &room, "from now on it is shared").await?;
    quiet(&[&alice]).await;
    let said = alice.send_text(&room, "before Carol came").await?;
    quiet(&[&alice, &bob]).await;
    let carol = phone_of(&homeserver, "carol").await?;
    let ghost = Peer::new(alice.user_id(), alice.device_id());
    let (user, device) = (alice.user_id().to_owned(), alice.device_id().to_owned());
    let _lie = lie_about_keys(&homeserver, &carol, move |answer| {
        if let Some(keys) = answer.pointer_mut(&format!("/device_keys/{user}/{device}")) {
            *keys = ghost.device_keys();
        }
    })?;
    bob.invite(&room, carol.user_id()).await?;
    carol.join(&room).await?;
    bob.settle().await?;
    bob.send_text(&room, "welcome").await?;
    quiet(&[&bob, &carol]).await;
    let read = carol.read(&room).await?;
    let said = read.into_iter().find(|event| event.event_id == said).or_missing("Alice's words")?;
    let error = said.message.refused()?;
    says(&error, "forged_history", "gave another key for the sender than the sender publishes");
    assert_eq!(error.unreadable_cause(), Some(UnreadableCause::Forged));
    Ok(())
}
