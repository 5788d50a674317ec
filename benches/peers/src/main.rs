//! What a message costs with openmls_sqlite_storage: OpenMLS's own SQLite provider, on a real file
//! with the same durability as matrix-mls asks of SQLite (WAL, synchronous=FULL), one transaction a
//! message. Prints the same JSON lines as `benches/messages.rs`.

use std::{
    borrow::Borrow,
    time::{Duration, Instant},
};

use openmls::prelude::*;
use openmls_basic_credential::SignatureKeyPair;
use openmls_rust_crypto::RustCrypto;
use openmls_sqlite_storage::{Codec, SqliteStorageProvider};
use rusqlite::Connection;
use serde::{Serialize, de::DeserializeOwned};

const SUITE: Ciphersuite = Ciphersuite::MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519;
const ROUNDS: usize = 400;

#[derive(Default)]
struct Json;

impl Codec for Json {
    type Error = serde_json::Error;

    fn to_vec<T: Serialize>(value: &T) -> Result<Vec<u8>, Self::Error> {
        serde_json::to_vec(value)
    }

    fn from_slice<T: DeserializeOwned>(slice: &[u8]) -> Result<T, Self::Error> {
        serde_json::from_slice(slice)
    }
}

struct Provider<C: Borrow<Connection>> {
    crypto: RustCrypto,
    storage: SqliteStorageProvider<Json, C>,
}

impl<C: Borrow<Connection>> OpenMlsProvider for Provider<C> {
    type CryptoProvider = RustCrypto;
    type RandProvider = RustCrypto;
    type StorageProvider = SqliteStorageProvider<Json, C>;

    fn storage(&self) -> &Self::StorageProvider {
        &self.storage
    }
    fn crypto(&self) -> &Self::CryptoProvider {
        &self.crypto
    }
    fn rand(&self) -> &Self::RandProvider {
        &self.crypto
    }
}

fn credential(signer: &SignatureKeyPair, name: usize) -> CredentialWithKey {
    CredentialWithKey {
        credential: BasicCredential::new(format!("@user:example.org|D{name}").into_bytes()).into(),
        signature_key: signer.public().into(),
    }
}

fn main() {
    let chosen: Vec<usize> = std::env::args().filter_map(|arg| arg.parse().ok()).collect();
    let sizes = if chosen.is_empty() { vec![10, 100, 1_000, 10_000] } else { chosen };
    for devices in sizes {
        measure(devices);
    }
}

fn measure(devices: usize) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("openmls.db");
    let mut connection = Connection::open(path).expect("a database");
    connection
        .execute_batch("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;")
        .expect("the settings are taken");
    SqliteStorageProvider::<Json, _>::new(&mut connection).run_migrations().expect("a schema");
    let signer = SignatureKeyPair::new(SUITE.signature_algorithm()).expect("a key pair");

    eprintln!("openmls_sqlite_storage: making a group of {devices} devices …");
    connection.execute_batch("BEGIN").expect("a transaction");
    let mut group = {
        let provider = Provider {
            crypto: RustCrypto::default(),
            storage: SqliteStorageProvider::<Json, _>::new(&connection),
        };
        let config = MlsGroupCreateConfig::builder()
            .ciphersuite(SUITE)
            .use_ratchet_tree_extension(false)
            .max_past_epochs(0)
            .build();
        let own = credential(&signer, 0);
        let mut group = MlsGroup::new(&provider, &signer, &config, own).expect("a group");
        let mut packages = Vec::new();
        for name in 1..devices {
            let member = SignatureKeyPair::new(SUITE.signature_algorithm()).expect("a key pair");
            let other = openmls_rust_crypto::OpenMlsRustCrypto::default();
            let own = credential(&member, name);
            let bundle = KeyPackage::builder().build(SUITE, &other, &member, own);
            packages.push(bundle.expect("a key package").key_package().clone());
        }
        for batch in packages.chunks(500) {
            group.add_members_without_update(&provider, &signer, batch).expect("members");
            group.merge_pending_commit(&provider).expect("a merge");
        }
        group
    };
    connection.execute_batch("COMMIT").expect("a commit");

    let mut times = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let transaction = connection.transaction().expect("a transaction");
        {
            let provider = Provider {
                crypto: RustCrypto::default(),
                storage: SqliteStorageProvider::<Json, _>::new(&*transaction),
            };
            group.create_message(&provider, &signer, &[42; 120]).expect("a message");
        }
        transaction.commit().expect("a commit");
        times.push(start.elapsed());
    }
    report(devices, times);
}

fn report(devices: usize, mut times: Vec<Duration>) {
    times.sort();
    let at = |part: usize| times[times.len() * part / 100].as_secs_f64() * 1e6;
    println!(
        "{}",
        serde_json::json!({
            "who": "openmls_sqlite_storage", "operation": "encrypt, persisted", "devices": devices,
            "median_us": (at(50) * 10.0).round() / 10.0, "p95_us": (at(95) * 10.0).round() / 10.0,
        })
    );
}
