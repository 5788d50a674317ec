//! The file's format: databases of earlier versions open, newer ones are refused untouched.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use openmls::prelude::*;
use openmls_basic_credential::SignatureKeyPair;
use openmls_traits::OpenMlsProvider;
use rusqlite::Connection;
use tempfile::TempDir;

use super::{Outcome, Record, mls_flow::Provider, open, record};
use crate::store::handle::DATABASE;
use crate::store::{
    Collection, MlsStorage, Namespace, Queue, StoreError, migrations, migrations::MIGRATIONS,
};

const RECORDS: Collection<Record> = Collection::new("fixture");
const QUEUE: Queue<Record> = Queue::new("fixture");
const CREDENTIAL: &[u8] = b"fixture";
const GROUP: &[u8] = b"fixture group";
const SUITE: Ciphersuite = Ciphersuite::MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519;

/// A database of each version that was released: `tests/fixtures/store/v<version>`.
fn fixture(version: u32) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    root.join(format!("tests/fixtures/store/v{version}")).join(DATABASE)
}

/// Writes a few rows of each kind, the same ones that lie in the fixtures.
fn write_fixture(dir: &Path) -> Outcome {
    let store = open(dir)?;
    store.write(|tx| {
        RECORDS.put(tx, b"a", b"1", &record("overwritten"))?;
        RECORDS.put(tx, b"a", b"2", &record("a2"))?;
        RECORDS.put(tx, b"a", b"1", &record("a1"))?;
        RECORDS.put(tx, b"b", b"1", &record("b1"))?;
        QUEUE.push(tx, b"a", 10, &record("first"))?;
        let removed = QUEUE.push(tx, b"a", 20, &record("removed"))?;
        QUEUE.push(tx, b"b", 30, &record("third"))?;
        QUEUE.remove(tx, removed)?;
        let (parent, child) = (tx.new_namespace()?, tx.new_namespace()?);
        tx.take_generations(parent, 0, 7)?;
        let provider = Provider::new(MlsStorage::new(tx, parent));
        let signer = SignatureKeyPair::new(SUITE.signature_algorithm())?;
        signer.store(provider.storage())?;
        let credential_with_key = CredentialWithKey {
            credential: BasicCredential::new(CREDENTIAL.to_vec()).into(),
            signature_key: signer.to_public_vec().into(),
        };
        let mut group = MlsGroup::builder()
            .ciphersuite(SUITE)
            .with_group_id(GroupId::from_slice(GROUP))
            .build(&provider, &signer, credential_with_key)?;
        // The child is an overlay, one epoch on.
        let provider = Provider::new(MlsStorage::child(tx, parent, child));
        group.self_update(&provider, &signer, LeafNodeParameters::default())?;
        group.merge_pending_commit(&provider)?;
        Outcome::Ok(())
    })?;
    Ok(())
}

/// Reads what [`write_fixture`] wrote.
fn read_fixture(dir: &Path) -> Outcome {
    let store = open(dir)?;
    store.write(|tx| {
        assert_eq!(RECORDS.get(tx, b"a", b"2")?, Some(record("a2")));
        assert_eq!(RECORDS.list(tx, b"a")?, ["a1", "a2"].map(record));
        assert_eq!(RECORDS.list_all(tx)?, ["a1", "a2", "b1"].map(record));
        assert_eq!(QUEUE.all(tx)?, [(1, record("first")), (3, record("third"))]);
        assert_eq!(QUEUE.due(tx, 10, 9)?, [(1, record("first"))]);
        assert_eq!(QUEUE.push(tx, b"a", 0, &record("new"))?, 4);
        let namespaces: Vec<Namespace> =
            serde_json::from_str("[1, 2]").map_err(|e| StoreError::Io(e.to_string()))?;
        let (parent, child) = (namespaces[0], namespaces[1]);
        // Earlier versions have them in clear.
        tx.seal_generations()?;
        assert_eq!((tx.generation(parent)?, tx.generation(child)?), (7, 0));
        let id = GroupId::from_slice(GROUP);
        for (epoch, storage) in
            [(0, MlsStorage::new(tx, parent)), (1, MlsStorage::child(tx, parent, child))]
        {
            let provider = Provider::new(storage);
            let mut group = MlsGroup::load(provider.storage(), &id)?.ok_or("no group is stored")?;
            assert_eq!(group.epoch().as_u64(), epoch);
            let leaf = group.own_leaf_node().ok_or("the group has no leaf of ours")?;
            let signer = SignatureKeyPair::read(
                provider.storage(),
                leaf.signature_key().as_slice(),
                SUITE.signature_algorithm(),
            )
            .ok_or("no signature key is stored")?;
            group.create_message(&provider, &signer, b"it works")?;
        }
        tx.detach_namespace(child, parent)?;
        tx.delete_namespace(parent)?;
        let group = MlsGroup::load(&MlsStorage::new(tx, child), &id)?
            .ok_or("the detached child holds no group")?;
        assert_eq!(group.members().count(), 1);
        Outcome::Ok(())
    })?;
    Ok(())
}

#[test]
fn databases_of_all_versions_open_and_hold_what_was_written() -> Outcome {
    for version in 1..=migrations::latest(MIGRATIONS) {
        let dir = TempDir::new()?;
        fs::copy(fixture(version), dir.path().join(DATABASE))?;
        read_fixture(dir.path())?;
    }
    Ok(())
}

/// Also how the fixture of a new version is made: with `MATRIX_MLS_FIXTURE_DIR` set to an empty
/// directory, the database is left there.
#[test]
fn the_current_version_holds_what_was_written() -> Outcome {
    let temporary = TempDir::new()?;
    let dir = std::env::var_os("MATRIX_MLS_FIXTURE_DIR")
        .map_or_else(|| temporary.path().to_owned(), PathBuf::from);
    write_fixture(&dir)?;
    let copy = TempDir::new()?;
    fs::copy(dir.join(DATABASE), copy.path().join(DATABASE))?;
    read_fixture(copy.path())?;
    Ok(())
}

#[test]
fn a_newer_version_is_refused_and_the_files_are_untouched() -> Outcome {
    let supported = migrations::latest(MIGRATIONS);
    let made = TempDir::new()?;
    fs::copy(fixture(supported), made.path().join(DATABASE))?;
    let connection = Connection::open(made.path().join(DATABASE))?;
    connection.pragma_update(None, "user_version", supported + 1)?;
    // Copied while open: the new version is in the log only, as after a kill.
    let dir = TempDir::new()?;
    let log = format!("{DATABASE}-wal");
    for name in [DATABASE, &log] {
        fs::copy(made.path().join(name), dir.path().join(name))?;
    }
    let files = || -> io::Result<[Vec<u8>; 2]> {
        Ok([fs::read(dir.path().join(DATABASE))?, fs::read(dir.path().join(&log))?])
    };
    let before = files()?;
    let error = open(dir.path()).expect_err("a newer version opened");
    assert_eq!(error, StoreError::TooNew { found: supported + 1, supported });
    assert!(files()? == before);
    drop(connection);
    fs::copy(made.path().join(DATABASE), dir.path().join(DATABASE))?;
    fs::write(dir.path().join(&log), b"")?;
    let before = files()?;
    let error = open(dir.path()).expect_err("a newer version opened");
    assert_eq!(error, StoreError::TooNew { found: supported + 1, supported });
    assert!(files()? == before);
    Ok(())
}

#[test]
fn a_failed_migration_is_undone_and_those_before_it_are_kept() -> Outcome {
    let mut connection = Connection::open_in_memory()?;
    let steps = [
        "CREATE TABLE one (x)",
        "CREATE TABLE two (x); INSERT INTO two VALUES (1)",
        "CREATE TABLE three (x); INSERT INTO missing VALUES (1)",
    ];
    assert!(matches!(migrations::upgrade(&mut connection, &steps), Err(StoreError::Damaged(_))));
    assert_eq!(migrations::version(&connection)?, 2);
    let tables = |connection: &Connection| -> rusqlite::Result<i64> {
        let sql = "SELECT count(*) FROM sqlite_schema";
        connection.query_row(sql, [], |row| row.get(0))
    };
    assert_eq!(tables(&connection)?, 2);
    let mended = [steps[0], steps[1], "CREATE TABLE three (x)"];
    migrations::upgrade(&mut connection, &mended)?;
    migrations::upgrade(&mut connection, &mended)?;
    assert_eq!((migrations::version(&connection)?, tables(&connection)?), (3, 3));
    Ok(())
}
