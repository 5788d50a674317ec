//! Sessions: sealed, in the key backup, and in bundles of history (docs/spec/5-history.md).

use std::collections::BTreeMap;

use aes::cipher::{KeyIvInit as _, StreamCipher as _};
use matrix_mls_kit::{Fields as _, OrMissing as _, Result, bail, eyre, schema};
use mls_rs::CipherSuiteProvider as _;
use serde_json::{Value, json};

use crate::{
    client::Second,
    events::{HistoryOffer, Sealed, Session},
    head::{Device, EpochId},
    names,
    opening::{Export, sha256, suite},
    room::{Epoch, Room},
    wire::{Reader, base64, from_base64},
};

/// The exporter's label of a bundle.
const HISTORY_LABEL: &[u8] = b"org.matrix.msc2883.v1.dmls.history";

type Aes256Ctr = ctr::Ctr128BE<aes::Aes256>;

/// The key of a backup.
pub struct BackupKey([u8; 32]);

/// The AES key and the MAC key of a session.
fn keys(key: &[u8], id: &str) -> Result<(Vec<u8>, Vec<u8>)> {
    let suite = suite()?;
    let extracted = suite.kdf_extract(&[0; 32], key)?;
    let made = suite.kdf_expand(&extracted, id.as_bytes(), 64)?;
    Ok((made[..32].to_vec(), made[32..].to_vec()))
}

fn count(key: &[u8], iv: &[u8], bytes: &mut [u8]) -> Result {
    let cipher = Aes256Ctr::new_from_slices(key, iv);
    cipher.ok().or_missing("key and IV of the right lengths")?.apply_keystream(bytes);
    Ok(())
}

/// `sealed(key, id, plaintext)`.
fn seal_with(key: &[u8], id: &str, plaintext: &[u8], iv: &[u8]) -> Result<Sealed> {
    let (aes, mac) = keys(key, id)?;
    let mut ciphertext = plaintext.to_vec();
    count(&aes, iv, &mut ciphertext)?;
    let mac = suite()?.mac(&mac, &ciphertext)?;
    Ok(Sealed { iv: base64(iv), ciphertext: base64(&ciphertext), mac: base64(&mac) })
}

fn seal(key: &[u8], id: &str, plaintext: &[u8]) -> Result<Sealed> {
    let mut iv = [0; 16];
    suite()?.random_bytes(&mut iv)?;
    iv[8] &= 0x7F;
    seal_with(key, id, plaintext, &iv)
}

/// The reverse, after the MAC was checked (H5).
fn open(key: &[u8], id: &str, sealed: &Sealed) -> Result<Vec<u8>> {
    let (aes, mac) = keys(key, id)?;
    let mut bytes = from_base64(&sealed.ciphertext)?;
    let expected = suite()?.mac(&mac, &bytes)?;
    if !bool::from(subtle::ConstantTimeEq::ct_eq(&*expected, &*from_base64(&sealed.mac)?)) {
        bail!("the MAC of {id} does not fit");
    }
    count(&aes, &from_base64(&sealed.iv)?, &mut bytes)?;
    Ok(bytes)
}

impl BackupKey {
    /// A new one.
    pub fn generate() -> Result<Self> {
        let mut key = [0; 32];
        suite()?.random_bytes(&mut key)?;
        Ok(Self(key))
    }

    /// As people write it down ("Cryptographic key representation").
    pub fn text(&self) -> Result<String> {
        let mut bytes = [&[0x8B, 0x01], &self.0[..]].concat();
        bytes.push(bytes.iter().fold(0, |parity, byte| parity ^ byte));
        let mut text = [0; 64];
        let length = bs58::encode(bytes).onto(&mut text[..]).ok().or_missing("room for a key")?;
        let parts: Vec<_> = text[..length].chunks(4).map(String::from_utf8_lossy).collect();
        Ok(parts.join(" "))
    }

    /// The reverse.
    pub fn parse(text: &str) -> Result<Self> {
        let text: String = text.split_whitespace().collect();
        let mut bytes = [0; 64];
        let length = bs58::decode(text).onto(&mut bytes[..]).ok().or_missing("base58")?;
        let bytes = &bytes[..length];
        if bytes.iter().fold(0, |parity, byte| parity ^ byte) != 0 || bytes[..2] != [0x8B, 0x01] {
            bail!("this is no key");
        }
        let key = bytes.get(2..34).filter(|_| bytes.len() == 35).or_missing("32 bytes")?;
        Ok(Self(key.try_into()?))
    }

    /// What proves it.
    fn auth_data(&self) -> Result<Value> {
        let proof = seal(&self.0, "", &[0; 32])?;
        Ok(json!({ "iv": proof.iv, "mac": proof.mac }))
    }

    /// Whether it is the key of a backup (H6).
    fn is_proved_by(&self, auth_data: &Value) -> Result<bool> {
        let iv = from_base64(auth_data.text("iv")?)?;
        Ok(seal_with(&self.0, "", &[0; 32], &iv)?.mac == auth_data.text("mac")?)
    }
}

/// A device as text.
fn name(device: &Device) -> String {
    format!("{}|{}", device.0, device.1)
}

fn session_id(number: &str, creator: &Device, of: Option<&EpochId>) -> String {
    let id = format!("{number}|{}", base64(name(creator).as_bytes()));
    match of {
        Some(epoch) => format!("{id}|{}", hex::encode(&epoch[..8])),
        None => id,
    }
}

/// All that opens a room's messages, by session id.
fn sessions(room: &Room) -> Result<BTreeMap<String, Session>> {
    let mut sessions = BTreeMap::new();
    for (epoch_id, epoch) in &room.epochs {
        let (export, chunks) = epoch.export.write();
        let number = epoch.number.to_string();
        let is_twin =
            |other: &&Epoch| (other.number, &other.creator) == (epoch.number, &epoch.creator);
        let of = (room.epochs.values().filter(is_twin).count() > 1).then_some(epoch_id);
        let common = Session {
            algorithm: names::ROOM.into(),
            room_id: room.id.clone(),
            ..Session::default()
        };
        for chunk in chunks {
            let leaf_chunk = Some(base64(&chunk));
            let id = format!("leaves|{}", base64(&sha256(&chunk)));
            sessions.insert(id, Session { leaf_chunk, ..common.clone() });
        }
        let session = Session {
            epoch: Some((number.clone(), epoch.creator.clone())),
            group_export: Some(base64(&export)),
            commit_event: epoch.commit_event.clone(),
            ..common
        };
        sessions.insert(session_id(&number, &epoch.creator, of), session);
    }
    for session in sessions.values() {
        let json = serde_json::to_value(session)?;
        schema::fits("session", &json).map_err(|fault| eyre!(fault))?;
    }
    Ok(sessions)
}

impl Second {
    /// Makes a backup of all epochs; gives its key.
    pub async fn back_up(&self) -> Result<BackupKey> {
        let key = BackupKey::generate()?;
        let version = json!({ "algorithm": names::BACKUP, "auth_data": key.auth_data()? });
        let answer = self.post("/_matrix/client/v3/room_keys/version", version).await?;
        let version = answer.text("version")?.to_owned();
        let mut rooms = serde_json::Map::new();
        for room in self.rooms.values() {
            let mut kept = serde_json::Map::new();
            for (id, session) in sessions(room)? {
                let sealed = seal(&key.0, &id, &serde_json::to_vec(&session)?)?;
                let data = json!({
                    "first_message_index": 0, "forwarded_count": 0, "is_verified": true,
                    "session_data": sealed,
                });
                kept.insert(id, data);
            }
            rooms.insert(room.id.clone(), json!({ "sessions": kept }));
        }
        let path = format!("/_matrix/client/v3/room_keys/keys?version={version}");
        self.put(&path, json!({ "rooms": rooms })).await?;
        Ok(key)
    }

    /// Offers a device in the head what was said before it came.
    pub async fn offer(&mut self, room: &str, to: &Device) -> Result {
        let head = self.head(room)?;
        let known = self.room(room)?;
        let shared = sessions(known)?.into_values().map(|session| {
            let shared_history = session.epoch.as_ref().map(|_| true);
            Session { shared_history, ..session }
        });
        let shared = serde_json::to_vec(&shared.collect::<Vec<_>>())?;
        let epoch = known.epoch(head)?;
        let commit_event = epoch.commit_event.clone().or_missing("commit event")?;
        let mut random = [0; 16];
        suite()?.random_bytes(&mut random)?;
        let bundle_id = hex::encode(random);
        let group = epoch.group.as_ref().or_missing("state")?;
        let key = group.export_secret(HISTORY_LABEL, bundle_id.as_bytes(), 32)?;
        let sealed = seal(key.as_bytes(), &bundle_id, &shared)?;
        let offer = HistoryOffer {
            algorithm: names::HISTORY.into(),
            room_id: room.to_owned(),
            sender: self.device.clone(),
            commit_event,
            bundle_id,
            bundle: self.upload(serde_json::to_vec(&sealed)?).await?,
        };
        self.send_to(to, &offer).await
    }

    /// Takes in the account's backup; gives how many epochs became readable.
    pub async fn restore(&mut self, key: &BackupKey) -> Result<usize> {
        let version = self.http.get("/_matrix/client/v3/room_keys/version").await?;
        if version["algorithm"] != names::BACKUP || !key.is_proved_by(&version["auth_data"])? {
            bail!("this is not the backup's key");
        }
        let path =
            format!("/_matrix/client/v3/room_keys/keys?version={}", version.text("version")?);
        let all = self.http.get(&path).await?;
        let mut restored = 0;
        for (room, kept) in all.object("rooms")? {
            let mut sessions = BTreeMap::new();
            for (id, kept) in kept.object("sessions")? {
                let sealed: Result<Sealed, _> =
                    serde_json::from_value(kept["session_data"].clone());
                let opened = sealed.ok().and_then(|sealed| open(&key.0, id, &sealed).ok());
                let session = opened.and_then(|bytes| serde_json::from_slice(&bytes).ok());
                if let Some(session) = session {
                    sessions.insert(id.clone(), session);
                }
            }
            restored += self.take_sessions(room, &sessions)?;
            self.take_events(room).await?;
        }
        Ok(restored)
    }

    /// Takes sessions of a room by their ids; those that do not pass are left out (H3, H7).
    fn take_sessions(&mut self, room: &str, sessions: &BTreeMap<String, Session>) -> Result<usize> {
        let of_room = |session: &&Session| {
            session.room_id == room && names::is(&session.algorithm, names::ROOM)
        };
        let chunk = |of: &[u8]| {
            let session = sessions.get(&format!("leaves|{}", base64(of))).filter(of_room)?;
            from_base64(session.leaf_chunk.as_ref()?).ok()
        };
        let mut taken = 0;
        for (id, session) in sessions.iter().filter(|(_, session)| of_room(session)) {
            let Some(epoch) = read_epoch(id, session, chunk) else { continue };
            if names::group_number(room, &epoch.group_id).is_none() {
                continue;
            }
            let of: EpochId = sha256(&epoch.export.context).try_into().ok().or_missing("id")?;
            let known = self.rooms.get_mut(room).or_missing("room")?;
            if let std::collections::btree_map::Entry::Vacant(free) = known.epochs.entry(of) {
                free.insert(epoch);
                taken += 1;
            }
        }
        Ok(taken)
    }

    /// Takes the history that a member offers (H8); gives how many epochs became readable.
    pub async fn take_offer(&mut self, sender: &str, offer: &HistoryOffer) -> Result<usize> {
        let room = &*offer.room_id;
        if offer.sender.0 != sender || !self.room(room)?.joined.contains(sender) {
            bail!("{sender} offers history and is not joined");
        }
        let bundle = self.download(&offer.bundle).await?;
        let sealed: Sealed = serde_json::from_slice(&bundle)?;
        let known = self.room(room)?;
        let from_member = |epoch: &&Epoch| {
            epoch.commit_event.as_ref() == Some(&offer.commit_event)
                && epoch.export.leaves.iter().flatten().any(|leaf| {
                    leaf.identity()
                        .is_ok_and(|identity| identity == crate::mls::identity(&offer.sender))
                })
        };
        let groups =
            known.epochs.values().filter(from_member).filter_map(|epoch| epoch.group.as_ref());
        let opened = groups.into_iter().find_map(|group| {
            let key = group.export_secret(HISTORY_LABEL, offer.bundle_id.as_bytes(), 32).ok()?;
            open(key.as_bytes(), &offer.bundle_id, &sealed).ok()
        });
        let sessions: Vec<Session> =
            serde_json::from_slice(&opened.or_missing("epoch of the offer")?)?;
        let mut by_id = BTreeMap::new();
        for session in sessions {
            let id = match (&session.epoch, &session.leaf_chunk) {
                (Some((number, creator)), _) => {
                    let export = from_base64(session.group_export.as_ref().or_missing("export")?)?;
                    let mut reader = Reader(&export);
                    reader.take(2)?;
                    let of = sha256(reader.vector()?).try_into().ok();
                    session_id(number, creator, of.as_ref())
                }
                (None, Some(chunk)) => format!("leaves|{}", base64(&sha256(&from_base64(chunk)?))),
                (None, None) => continue,
            };
            by_id.insert(id, session);
        }
        let taken = self.take_sessions(room, &by_id)?;
        self.take_events(room).await?;
        Ok(taken)
    }
}

/// The epoch of a session under its id.
fn read_epoch(
    id: &str,
    session: &Session,
    chunk: impl Fn(&[u8]) -> Option<Vec<u8>>,
) -> Option<Epoch> {
    let (number, creator) = session.epoch.as_ref()?;
    let export = Export::read(&from_base64(session.group_export.as_ref()?).ok()?, chunk).ok()?;
    let of: EpochId = sha256(&export.context).try_into().ok()?;
    if id != session_id(number, creator, None) && id != session_id(number, creator, Some(&of)) {
        return None;
    }
    let mut context = Reader(&export.context);
    context.take(4).ok()?;
    let group_id = context.vector().ok()?.to_vec();
    let found = context.number(8).ok()?;
    (found.to_string() == *number).then(|| Epoch {
        node: None,
        group_id,
        number: found,
        creator: creator.clone(),
        commit_event: session.commit_event.clone(),
        group: None,
        export,
        sealed: 0,
    })
}
