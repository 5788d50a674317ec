//! Epochs that come sealed, in a file or in the backup: opened, changed, and sealed again with the
//! right key, as somebody does who has the passphrase, or a device of the account that lies.

use aes::{
    Aes256,
    cipher::{KeyIvInit as _, StreamCipher as _},
};
use ctr::Ctr128BE;
use matrix_mls::RestoreScope;
use matrix_mls_kit::{
    Client, Fields as _, OrMissing as _, Result, eyre,
    peer::{base64, from_base64},
};
use pbkdf2::hmac::{Hmac, Mac as _};
use serde_json::{Value, json};
use sha2_010::{Sha256, Sha512};

use super::{
    change,
    choices::Choices,
    world::{Check, World, answered},
};

const PASSPHRASE: &str = "correct horse";
const BEGIN: &str = "-----BEGIN MLS EPOCH EXPORT-----";
const END: &str = "-----END MLS EPOCH EXPORT-----";
/// Version, salt and IV, and the rounds.
const HEADER: usize = 1 + 16 + 16 + 4;
const MAC: usize = 32;
/// How many sessions one input has at most.
const SESSIONS: usize = 4;

/// The sessions of a device's export.
pub async fn sessions_of(client: &Client) -> Result<Vec<Value>> {
    let file = client.machine()?.backup().export_history(None, PASSPHRASE.to_owned()).await?;
    let bytes = from_base64(&file.replace(BEGIN, "").replace(END, "").replace('\n', ""));
    let (sealed, _) = bytes.split_at(bytes.len().saturating_sub(MAC));
    let (header, body) = sealed.split_at_checked(HEADER).or_missing("the header of a file")?;
    let rounds = u32::from_be_bytes(header[33..].try_into()?);
    let keys = stretched(&header[1..17], rounds);
    let mut plaintext = body.to_vec();
    keystream(&keys[..32], &header[17..33], &mut plaintext)?;
    Ok(serde_json::from_slice(&plaintext)?)
}

/// A file with this in it. One round makes it cheap.
fn file(plaintext: &[u8], choices: &mut Choices<'_>) -> Result<String> {
    let rounds = [1_u32, 1, 1, 0, u32::MAX, 1_000][choices.below(6)];
    let mut bytes = vec![if choices.below(16) == 15 { choices.byte() } else { 1 }];
    bytes.extend([7; 32]);
    bytes.extend(rounds.to_be_bytes());
    let keys = stretched(&[7; 16], rounds.clamp(1, 1_000));
    let mut body = plaintext.to_vec();
    keystream(&keys[..32], &[7; 16], &mut body)?;
    bytes.extend(body);
    let mac = hmac(&keys[32..], &bytes)?;
    bytes.extend(mac);
    if choices.below(16) == 15 {
        // Never the rounds: ten million of them are allowed, and take seconds.
        let mut body = bytes.split_off(HEADER);
        change::bytes(&mut body, choices, b"");
        bytes.extend(body);
    }
    let mut text = format!("{BEGIN}\n{}\n{END}\n", base64(&bytes)).into_bytes();
    if choices.below(16) == 15 {
        let at = choices.below(text.len());
        text[at] = choices.byte();
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}

fn stretched(salt: &[u8], rounds: u32) -> [u8; 64] {
    let mut keys = [0; 64];
    pbkdf2::pbkdf2_hmac::<Sha512>(PASSPHRASE.as_bytes(), salt, rounds, &mut keys);
    keys
}

fn keystream(key: &[u8], iv: &[u8], bytes: &mut [u8]) -> Result {
    let cipher = Ctr128BE::<Aes256>::new_from_slices(key, iv);
    cipher.map_err(|error| eyre!("{error}"))?.apply_keystream(bytes);
    Ok(())
}

fn hmac(key: &[u8], bytes: &[u8]) -> Result<Vec<u8>> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).map_err(|error| eyre!("{error}"))?;
    mac.update(bytes);
    Ok(mac.finalize().into_bytes().to_vec())
}

/// Some sessions, changed.
fn changed(choices: &mut Choices<'_>, all: &[Value]) -> Vec<Value> {
    let mut sessions = Vec::new();
    while sessions.len() < SESSIONS && (sessions.is_empty() || !choices.are_over()) {
        let mut session = choices.one_of(all).cloned().unwrap_or_default();
        change::some(&mut session, choices, all);
        sessions.push(session);
    }
    sessions
}

/// A file of exported epochs, for devices that have these epochs and for one that has none.
pub fn files(input: &[u8]) {
    World::take(input, Check::TheyTalk, async |world| {
        let mut choices = Choices::of(input);
        let damage = choices.below(16) == 15;
        let mut plaintext = json!(changed(&mut choices, &world.sessions)).to_string().into_bytes();
        if damage {
            change::bytes(&mut plaintext, &mut choices, b"");
        }
        let file = file(&plaintext, &mut choices)?;
        for client in [&world.laptop, &world.alice, &world.bob] {
            let backup = client.machine()?.backup();
            answered(backup.import_history(file.clone(), PASSPHRASE.to_owned()).await);
        }
        Ok(())
    });
}

/// Sessions from the backup, sealed for their places or for others, for a device that restores.
pub fn backup(input: &[u8]) {
    World::take(input, Check::TheyTalk, async |world| {
        let mut choices = Choices::of(input);
        let client = [&world.alice, &world.laptop][choices.below(2)];
        let machine = client.machine()?;
        let key = Some(world.key.clone());
        answered(machine.backup().restore(key, RestoreScope::AllRooms).await);
        for _ in 0..8 {
            for request in machine.outgoing_requests().await? {
                let mut answer = client.transmit(&request).await?;
                if request.path.contains("/room_keys/keys") && answer.status == 200 {
                    answer.body = resealed(world, &mut choices, &answer.body)?;
                }
                let marked = machine.mark_request_as_sent(request.id, answer.status, answer.body);
                answered(marked.await);
            }
        }
        for restore in machine.backup().restores().await? {
            machine.backup().cancel_restore(restore.id).await?;
        }
        Ok(())
    });
}

/// The sessions of an answer, changed and sealed again; the outer JSON is changed as well at times.
fn resealed(world: &World, choices: &mut Choices<'_>, body: &[u8]) -> Result<Vec<u8>> {
    let mut answer: Value = serde_json::from_slice(body)?;
    let key = world.key.bytes();
    let good = answer.clone();
    if let Some(sessions) = answer["rooms"][&world.room]["sessions"].as_object_mut() {
        let ids: Vec<String> = sessions.keys().cloned().collect();
        for id in &ids {
            let opened = open(&key, id, &sessions[id]["session_data"])?;
            let mut session: Value = serde_json::from_slice(&opened)?;
            change::some(&mut session, choices, &world.sessions);
            let mut place = id.clone();
            if choices.below(8) == 7 {
                place = choices.one_of(&ids).cloned().unwrap_or_default();
            }
            let mut entry = sessions[id].clone();
            entry["session_data"] = seal(&key, &place, session.to_string().as_bytes())?;
            sessions.insert(place, entry);
        }
    }
    if choices.below(4) == 3 {
        change::some(&mut answer, choices, &[good]);
    }
    Ok(answer.to_string().into_bytes())
}

/// The two keys of a session (MSC3270): HKDF of the key, with the session's id.
fn session_keys(key: &[u8], id: &str) -> Result<[Vec<u8>; 2]> {
    let extracted = hmac(&[0; 8], key)?;
    let first = hmac(&extracted, &[id.as_bytes(), &[1]].concat())?;
    let second = hmac(&extracted, &[&first, id.as_bytes(), &[2]].concat())?;
    Ok([first, second])
}

fn open(key: &[u8], id: &str, data: &Value) -> Result<Vec<u8>> {
    let [encryption, _] = session_keys(key, id)?;
    let mut bytes = from_base64(data.text("ciphertext")?);
    keystream(&encryption, &from_base64(data.text("iv")?), &mut bytes)?;
    Ok(bytes)
}

fn seal(key: &[u8], id: &str, plaintext: &[u8]) -> Result<Value> {
    let [encryption, mac] = session_keys(key, id)?;
    let mut bytes = plaintext.to_vec();
    keystream(&encryption, &[7; 16], &mut bytes)?;
    let mac = hmac(&mac, &bytes)?;
    Ok(json!({ "iv": base64(&[7; 16]), "ciphertext": base64(&bytes), "mac": base64(&mac) }))
}
