//! Sessions on their way out and back: what they prove, what they refuse, and what they weigh.

use std::error::Error;

use openmls::prelude::{BasicCredential, LeafNodeIndex, Member};
use openmls_rust_crypto::RustCrypto;
use ruma::{OwnedRoomId, owned_event_id, owned_room_id, owned_user_id};
use tls_codec::{Serialize as _, TlsSerialize, TlsSize, VLBytes};

use super::{
    key::BackupKey,
    seal,
    session::{
        Kept, Session, SessionArray, SessionError, SessionJson, epoch_session_id,
        is_leaves_session_id, is_mls_session_id, leaves_session_id, session_id_suffix,
    },
};
use crate::{
    history::{
        EpochKeys,
        archive::{self, Holding},
        restored::{self, ReadableEpoch, Source},
        transfer::TransferError,
    },
    protocol::EpochId,
    protocol::{DeviceName, credential},
    store::{Store, StoreKeyMaterial},
};

/// What a test gives, and what a helper of one gives: a failure goes up to the test.
type Outcome<T = ()> = Result<T, Box<dyn Error>>;

fn room() -> OwnedRoomId {
    owned_room_id!("!room:example.org")
}

fn device(number: u32) -> DeviceName {
    DeviceName::new(owned_user_id!("@alice:example.org"), format!("DEVICE{number:04}").into())
}

fn member(index: u32) -> Member {
    let credential = BasicCredential::new(credential::encode(&device(index)));
    let key = [index.to_be_bytes().to_vec(), vec![0xA5; 28]].concat();
    Member::new(LeafNodeIndex::new(index), vec![0; 32], key, credential.into())
}

/// The keys of an epoch of a group, as long as real ones.
fn keys(group: &str, epoch: u64, tree_size: u32) -> Outcome<EpochKeys> {
    #[derive(TlsSerialize, TlsSize)]
    struct Context {
        version: u16,
        suite: u16,
        group_id: VLBytes,
        epoch: u64,
        tree_hash: VLBytes,
        transcript: VLBytes,
        extensions: VLBytes,
    }
    let context = Context {
        version: 1,
        suite: 1,
        group_id: group.as_bytes().to_vec().into(),
        epoch,
        tree_hash: vec![1; 32].into(),
        transcript: vec![2; 32].into(),
        extensions: Vec::new().into(),
    };
    let context = context.tls_serialize_detached()?;
    let secret = |byte: u8| [epoch.to_be_bytes().to_vec(), vec![byte; 24]].concat().into();
    Ok(EpochKeys::new(context, secret(3), secret(4), tree_size, Some(0))?)
}

fn readable(keys: &EpochKeys) -> ReadableEpoch {
    ReadableEpoch {
        id: EpochId::of_tls(keys.group_context()),
        number: keys.epoch(),
        creator: device(0),
        commit_event: Some(owned_event_id!("$commit")),
        began_ms: 1_700_000_000_000,
        shared: true,
        source: Source::Own,
        ended_ms: None,
    }
}

struct Stored {
    store: Store,
    _directory: tempfile::TempDir,
}

fn store() -> Outcome<Stored> {
    let directory = tempfile::tempdir()?;
    let store = Store::open(directory.path(), StoreKeyMaterial::Raw(&[7; 32]))?;
    Ok(Stored { store, _directory: directory })
}

/// The JSON sessions of one epoch with three members: leaves, epoch.
fn sessions(from: &Store, keys: &EpochKeys) -> Outcome<Vec<Vec<u8>>> {
    let epoch = readable(keys);
    from.write(|tx| {
        archive::keep(tx, &room(), epoch.id, Some(keys.clone()), (0..3).map(member))?;
        let mut sessions = SessionArray::default();
        sessions.add(tx, &room(), &[epoch])?;
        Ok(sessions.into_sessions().iter().map(|json| json.to_vec()).collect())
    })
}

fn read(json: &[u8], session_id: Option<&str>) -> Result<Session, SessionError> {
    Session::read(json, &room(), session_id, Source::Backup)
}

fn take(store: &Store, json: &[u8], session_id: Option<&str>) -> Result<Kept, SessionError> {
    let session = read(json, session_id)?;
    store.write(|tx| session.keep(tx, &room()))
}

#[test]
fn an_epoch_comes_back_with_all_that_reading_takes() -> Outcome {
    let (from, to) = (store()?, store()?);
    let keys = keys(room().as_str(), 5, 4)?;
    let epoch = readable(&keys);
    let written = sessions(&from.store, &keys)?;
    let id = epoch_session_id(5, &device(0), None);
    let early = take(&to.store, &written[1], Some(&id));
    assert!(matches!(&early, Err(SessionError::MissingLeaves(chunks)) if chunks.len() == 1));
    assert!(matches!(take(&to.store, &written[0], None), Ok(Kept::Leaves(_))));
    assert_eq!(take(&to.store, &written[1], Some(&id)), Ok(Kept::NewEpoch(epoch.id)));
    assert_eq!(take(&to.store, &written[1], None), Ok(Kept::KnownEpoch(epoch.id)));
    let suffixed = epoch_session_id(5, &device(0), Some(&session_id_suffix(epoch.id)));
    assert_eq!(take(&to.store, &written[1], Some(&suffixed)), Ok(Kept::KnownEpoch(epoch.id)));
    to.store.read(|tx| {
        for event in ["$commit", "$unknown", ""] {
            let named = restored::matching(tx, &room(), event, 5, &device(0))?;
            assert_eq!(named, [ReadableEpoch { source: Source::Backup, ..epoch.clone() }]);
        }
        assert!(restored::matching(tx, &room(), "$commit", 6, &device(0))?.is_empty());
        let export = restored::export(tx, &room(), epoch.id)?.ok_or("no export is kept")?;
        assert_eq!(export.keys.group_context(), keys.group_context());
        assert_eq!(export.keys.own_leaf(), None);
        assert_eq!(archive::holding(tx, &room(), epoch.id)?, Holding::Nothing);
        let [chunk] = export.chunks.as_slice() else { return Err("not one chunk".into()) };
        let chunk = archive::chunk(tx, &room(), *chunk)?;
        let leaf = chunk.leaf(2).ok_or("the third leaf is missing")?;
        assert_eq!(leaf.signature_key(), member(2).signature_key);
        assert!(chunk.leaf(3).is_none());
        Outcome::Ok(())
    })?;
    Ok(())
}

/// What this device has of an epoch stays as it is, whatever comes in beside it.
#[test]
fn an_import_changes_nothing_of_an_own_epoch() -> Outcome {
    let (from, to) = (store()?, store()?);
    let keys = keys(room().as_str(), 5, 4)?;
    let epoch = readable(&keys);
    let written = sessions(&from.store, &keys)?;
    let own = EpochKeys::new(
        keys.group_context().to_vec(),
        vec![8; 32].into(),
        vec![9; 32].into(),
        4,
        Some(2),
    )?;
    to.store.write(|tx| {
        Outcome::Ok(archive::keep(tx, &room(), epoch.id, Some(own.clone()), (0..3).map(member))?)
    })?;
    take(&to.store, &written[0], None)?;
    assert_eq!(take(&to.store, &written[1], None), Ok(Kept::KnownEpoch(epoch.id)));
    let export = to.store.read(|tx| archive::find(tx, &room(), epoch.id))?;
    assert_eq!(export.ok_or("no export is kept")?.keys.own_leaf(), Some(2));
    // Deleted for its age, it may come back, beside.
    let drop_keys = |may_return| -> Outcome<bool> {
        Ok(to.store.write(|tx| archive::drop_keys(tx, &room(), epoch.id, may_return))?)
    };
    assert!(drop_keys(true)?);
    assert_eq!(take(&to.store, &written[1], None), Ok(Kept::NewEpoch(epoch.id)));
    to.store.write(|tx| {
        let holding = archive::holding(tx, &room(), epoch.id)?;
        assert_eq!(holding, Holding::Leaves { may_return: true });
        let restored = restored::find(tx, &room(), epoch.id)?.ok_or("it was not restored")?;
        restored::forget(tx, &room(), &restored)?;
        assert!(restored::export(tx, &room(), epoch.id)?.is_none());
        Outcome::Ok(())
    })?;
    // Deleted because it was to be read once, it may not, whatever is said later.
    for may_return in [false, true] {
        assert!(!drop_keys(may_return)?);
        assert_eq!(take(&to.store, &written[1], None), Err(SessionError::ReadOnce));
    }
    Ok(())
}

/// Members can invent epochs of a number. They keep none out that the user's own backup has.
#[test]
fn invented_epochs_keep_no_backup_out() -> Outcome {
    let (from, to) = (store()?, store()?);
    let numbers = 100..117_u32;
    let mut invented = Vec::new();
    for seed in numbers {
        let keys = keys(room().as_str(), 5, 4)?;
        // Another context makes another epoch of the same number.
        let mut context = keys.group_context().to_vec();
        let at = context.len() - 40;
        context[at] = u8::try_from(seed)?;
        let keys = EpochKeys::new(context, vec![8; 32].into(), vec![9; 32].into(), 4, Some(0))?;
        invented.push((readable(&keys).id, sessions(&from.store, &keys)?));
    }
    let by_member = |json: &[u8]| -> Result<Kept, SessionError> {
        let session = Session::read(json, &room(), None, Source::Member(device(1)))?;
        to.store.write(|tx| session.keep(tx, &room()))
    };
    for (at, (id, written)) in invented.iter().enumerate() {
        by_member(&written[0])?;
        let kept = by_member(&written[1]);
        let expected = if at < 16 { Kept::NewEpoch(*id) } else { Kept::KnownEpoch(*id) };
        assert_eq!(kept, Ok(expected), "{at}");
    }
    let (id, written) = &invented[16];
    assert_eq!(take(&to.store, &written[1], None), Ok(Kept::NewEpoch(*id)));
    let (all, room) = (to.store.read(|tx| restored::all(tx, &room()))?, room());
    assert_eq!(all.len(), 16);
    assert!(all.iter().any(|epoch| epoch.id == *id && epoch.source == Source::Backup));
    // The place of the first, which made way, is free for nobody else of theirs.
    let first = to.store.read(|tx| restored::export(tx, &room, invented[0].0))?;
    assert!(first.is_none());
    Ok(())
}

#[test]
fn what_is_of_another_place_is_refused() -> Outcome {
    let from = store()?;
    let keys = keys(room().as_str(), 5, 4)?;
    let written = sessions(&from.store, &keys)?;
    let error = |json: &[u8], id: Option<&str>| read(json, id).err();
    for id in [
        epoch_session_id(6, &device(0), None),
        epoch_session_id(5, &device(1), None),
        epoch_session_id(5, &device(0), Some("0000000000000000")),
        "5|".to_owned(),
        leaves_session_id(crate::history::ChunkId([0; 32])),
    ] {
        assert_eq!(error(&written[1], Some(&id)), Some(SessionError::OtherEpoch), "{id}");
    }
    let wrong_leaves = leaves_session_id(crate::history::ChunkId([0; 32]));
    assert!(matches!(error(&written[0], Some(&wrong_leaves)), Some(SessionError::Leaves(_))));
    let other =
        Session::read(&written[1], &owned_room_id!("!other:example.org"), None, Source::Backup);
    assert_eq!(other.err(), Some(SessionError::OtherRoom));
    // A group of another room, in a session that says it is this one's.
    let foreign = self::keys("!other:example.org", 5, 4)?;
    let export = archive::StoredExport {
        keys: foreign.clone(),
        chunks: vec![crate::history::ChunkId([1; 32])],
    };
    let lying = SessionJson::epoch(&room(), &readable(&foreign), &export)?;
    assert_eq!(error(&lying.to_json()?, None), Some(SessionError::OtherRoom));
    let text = String::from_utf8(written[1].clone())?;
    let changed = |from: &str, to: &str| {
        assert!(text.contains(from), "{text}");
        error(text.replacen(from, to, 1).as_bytes(), None)
    };
    assert_eq!(changed("\"5\"", "\"7\""), Some(SessionError::OtherEpoch));
    assert_eq!(changed("dhkemx25519", "x"), Some(SessionError::Unsupported));
    assert_eq!(changed("group_export", "group_import"), Some(SessionError::Unsupported));
    Ok(())
}

#[test]
fn no_bytes_make_reading_panic() -> Outcome {
    let from = store()?;
    let keys = keys(room().as_str(), 5, 4)?;
    let written = sessions(&from.store, &keys)?;
    for json in &written {
        for end in 0..json.len() {
            assert!(read(&json[..end], None).is_err());
        }
        for at in 0..json.len() {
            let mut changed = json.clone();
            changed[at] ^= 4;
            let _ = read(&changed, None);
        }
    }
    let bytes = crate::history::transfer::write(&keys, &[crate::history::ChunkId([1; 32])]);
    let bytes = bytes?;
    let reread = |bytes: &[u8]| crate::history::transfer::read(bytes).err();
    assert_eq!(reread(&bytes), None);
    for end in 0..bytes.len() {
        assert_eq!(reread(&bytes[..end]), Some(TransferError::Malformed), "{end}");
    }
    assert_eq!(reread(&[&bytes[..], &[0]].concat()), Some(TransferError::Malformed));
    let newer = [&[0, 2][..], &bytes[2..]].concat();
    assert_eq!(reread(&newer), Some(TransferError::Version(2)));
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut changed = bytes.to_vec();
            changed[at] ^= 1 << bit;
            let _ = reread(&changed);
        }
    }
    // A tree of four leaves has one chunk.
    let two = crate::history::transfer::write(&keys, &[crate::history::ChunkId([1; 32]); 2]);
    assert_eq!(reread(&two?), Some(TransferError::Chunks));
    Ok(())
}

#[test]
fn session_ids_tell_whose_they_are() {
    let epoch = epoch_session_id(12, &device(0), None);
    assert_eq!(epoch, "12|QGFsaWNlOmV4YW1wbGUub3JnfERFVklDRTAwMDA");
    let leaves = leaves_session_id(crate::history::ChunkId([0; 32]));
    assert!(is_mls_session_id(&epoch) && is_mls_session_id(&leaves));
    assert!(is_leaves_session_id(&leaves) && !is_leaves_session_id(&epoch));
    for other in ["", "|", "x|y", "aGVsbG8", "-1|x", "1e3|x"] {
        assert!(!is_mls_session_id(other), "{other}");
    }
}

/// The aim: below 5 MB in the store, and in the backup.
#[test]
fn a_hundred_epochs_of_a_thousand_devices_weigh_little() -> Outcome {
    let Stored { store, _directory } = store()?;
    let crypto = RustCrypto::default();
    let key = BackupKey::from_bytes(&[1; 32])?;
    let mut epochs = Vec::new();
    store.write(|tx| {
        for number in 0..100 {
            // One device comes with each epoch.
            let keys = keys(room().as_str(), number, 2_048)?;
            let epoch = readable(&keys);
            let members = (0..1_000 + number as u32).map(member);
            archive::keep(tx, &room(), epoch.id, Some(keys), members)?;
            epochs.push(epoch);
        }
        Outcome::Ok(())
    })?;
    let mut sessions = SessionArray::default();
    store.read(|tx| sessions.add(tx, &room(), &epochs))?;
    let sessions = sessions.into_sessions();
    let mut in_backup = 0;
    for json in &sessions {
        let sealed = seal::seal(&crypto, &key, "1|a", json)?;
        in_backup += serde_json::to_vec(&sealed)?.len() + 150;
    }
    store.cut_log();
    drop(store);
    let file = std::fs::metadata(_directory.path().join("matrix-mls.db"))?.len();
    println!("{} sessions, {in_backup} bytes in the backup, {file} in the store", sessions.len());
    assert!(in_backup < 5_000_000, "{in_backup}");
    assert!(file < 5_000_000, "{file}");
    Ok(())
}
