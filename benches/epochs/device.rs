//! A device that is measured: OpenMLS over this library's store, an epoch in a namespace of its
//! own.

use std::time::{Duration, Instant};

use matrix_mls::test_hooks::{self, MlsStorage, Namespace, Store, StoreKeyMaterial, Tx};
use matrix_mls_kit::{
    OrMissing as _, Result, bail,
    peer::{SUITE, identity},
};
use openmls::prelude::{tls_codec::Deserialize as _, *};
use openmls_basic_credential::SignatureKeyPair;
use openmls_rust_crypto::RustCrypto;
use openmls_traits::OpenMlsProvider;
use rusqlite::Connection;
use tempfile::TempDir;

use super::{KEPT, ROOM, USER};

const DATABASE: &str = "matrix-mls.db";

/// What a commit cost.
pub struct Cost {
    pub time: Duration,
    pub log_bytes: u64,
    /// By how much the file has grown.
    pub kept_bytes: i64,
}

/// A device that is measured.
pub struct Device {
    dir: TempDir,
    store: Store,
    /// A connection of the bench's own, to count pages with.
    pub file: Connection,
    crypto: RustCrypto,
    signer: SignatureKeyPair,
    name: &'static str,
    /// Every epoch has its own copy of everything.
    whole: bool,
    epochs: Vec<Namespace>,
    prunes: bool,
}

impl Device {
    pub fn new(name: &'static str, whole: bool) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let store = Store::open(dir.path(), StoreKeyMaterial::Raw(&[7; 32]))?;
        let file = Connection::open(dir.path().join(DATABASE))?;
        let signer = SignatureKeyPair::new(SUITE.signature_algorithm())?;
        let (crypto, epochs) = (RustCrypto::default(), Vec::new());
        Ok(Self { dir, store, file, crypto, signer, name, whole, epochs, prunes: false })
    }

    pub fn key_package(&self) -> Result<KeyPackage> {
        let credential = CredentialWithKey {
            credential: BasicCredential::new(identity(USER, self.name)).into(),
            signature_key: self.signer.public().into(),
        };
        self.write(|tx| {
            let provider = Provider::new(&self.crypto, MlsStorage::new(tx, Namespace::GLOBAL));
            let bundle = KeyPackage::builder().build(SUITE, &provider, &self.signer, credential)?;
            Ok(bundle.key_package().clone())
        })
    }

    pub fn join(&mut self, welcome: &[u8]) -> Result {
        let MlsMessageBodyIn::Welcome(welcome) = parse(welcome)?.extract() else {
            bail!("not a Welcome")
        };
        let config = MlsGroupJoinConfig::builder()
            .wire_format_policy(MIXED_CIPHERTEXT_WIRE_FORMAT_POLICY)
            .use_ratchet_tree_extension(true)
            .max_past_epochs(0)
            .build();
        let namespace = self.write(|tx| {
            let namespace = tx.new_namespace()?;
            let provider = Provider::new(&self.crypto, MlsStorage::new(tx, namespace));
            StagedWelcome::new_from_welcome(&provider, &config, welcome, None)?
                .into_group(&provider)?;
            Ok(namespace)
        })?;
        self.epochs.push(namespace);
        Ok(())
    }

    /// Takes in a commit.
    pub fn process(&mut self, commit: &[u8]) -> Result<Cost> {
        let message = parse(commit)?;
        Ok(self.next_epoch(|group, provider, _| merge(group, provider, message))?.0)
    }

    /// Makes a commit.
    pub fn rotate(&mut self) -> Result<(Cost, Vec<u8>)> {
        self.next_epoch(rotate)
    }

    /// One transaction that makes the next epoch in a namespace of its own.
    fn next_epoch<T>(
        &mut self,
        step: impl FnOnce(&mut MlsGroup, &Provider<'_>, &SignatureKeyPair) -> Result<T>,
    ) -> Result<(Cost, T)> {
        cut_log(&self.file)?;
        let used_before = used(&self.file)?;
        let parent = *self.epochs.last().or_missing("epoch of the device")?;
        let old = self.epochs.len().checked_sub(KEPT).filter(|_| self.prunes);
        let old = old.map(|_| self.epochs.remove(0));
        let start = Instant::now();
        let (child, value) = self.write(|tx| {
            let child = tx.new_namespace()?;
            let provider = Provider::new(&self.crypto, MlsStorage::child(tx, parent, child));
            let mut group = load(provider.storage())?;
            let value = step(&mut group, &provider, &self.signer)?;
            tx.detach_namespace(child, parent)?;
            if let Some(old) = old {
                tx.delete_namespace(old)?;
            }
            Ok((child, value))
        })?;
        let time = start.elapsed();
        self.epochs.push(child);
        let kept_bytes = used(&self.file)? - used_before;
        Ok((Cost { time, log_bytes: log(&self.dir)?, kept_bytes }, value))
    }

    /// Lets go of all but the latest epochs, and of each that falls behind from now on.
    pub fn prune(&mut self) -> Result {
        let old = self.epochs.len() - KEPT;
        for namespace in self.epochs.drain(..old).collect::<Vec<_>>() {
            self.write(|tx| Ok(tx.delete_namespace(namespace)?))?;
        }
        self.prunes = true;
        Ok(())
    }

    pub fn load(&self) -> Result<Duration> {
        let head = *self.epochs.last().or_missing("epoch of the device")?;
        let start = Instant::now();
        self.write(|tx| load(&MlsStorage::new(tx, head)).map(drop))?;
        Ok(start.elapsed())
    }

    fn write<T>(&self, steps: impl FnOnce(&Tx<'_>) -> Result<T>) -> Result<T> {
        test_hooks::keep_values_whole(self.whole);
        self.store.write(steps)
    }
}

/// The bytes of a file's pages that are in use.
pub fn used(file: &Connection) -> Result<i64> {
    let pages = number(file, "PRAGMA page_count")? - number(file, "PRAGMA freelist_count")?;
    Ok(pages * number(file, "PRAGMA page_size")?)
}

fn cut_log(file: &Connection) -> Result {
    number(file, "PRAGMA wal_checkpoint(TRUNCATE)").map(drop)
}

/// The bytes written to the log since it was cut.
fn log(dir: &TempDir) -> Result<u64> {
    Ok(dir.path().join(format!("{DATABASE}-wal")).metadata()?.len())
}

fn number(file: &Connection, sql: &str) -> Result<i64> {
    Ok(file.query_row(sql, [], |row| row.get(0))?)
}

fn parse(message: &[u8]) -> Result<MlsMessageIn> {
    Ok(MlsMessageIn::tls_deserialize_exact(message)?)
}

fn load(storage: &MlsStorage<'_>) -> Result<MlsGroup> {
    MlsGroup::load(storage, &GroupId::from_slice(ROOM.as_bytes()))?.or_missing("group")
}

fn merge(group: &mut MlsGroup, provider: &Provider<'_>, message: MlsMessageIn) -> Result {
    let message = message.try_into_protocol_message()?;
    let processed = group.process_message(provider, message)?;
    let ProcessedMessageContent::StagedCommitMessage(commit) = processed.into_content() else {
        bail!("not a commit")
    };
    Ok(group.merge_staged_commit(provider, *commit)?)
}

fn rotate(
    group: &mut MlsGroup,
    provider: &Provider<'_>,
    signer: &SignatureKeyPair,
) -> Result<Vec<u8>> {
    let bundle = group.self_update(provider, signer, LeafNodeParameters::default())?;
    group.merge_pending_commit(provider)?;
    Ok(bundle.into_commit().to_bytes()?)
}

/// OpenMLS's provider over the store.
struct Provider<'a> {
    crypto: &'a RustCrypto,
    storage: MlsStorage<'a>,
}

impl<'a> Provider<'a> {
    fn new(crypto: &'a RustCrypto, storage: MlsStorage<'a>) -> Self {
        Self { crypto, storage }
    }
}

impl<'a> OpenMlsProvider for Provider<'a> {
    type CryptoProvider = RustCrypto;
    type RandProvider = RustCrypto;
    type StorageProvider = MlsStorage<'a>;

    fn storage(&self) -> &MlsStorage<'a> {
        &self.storage
    }

    fn crypto(&self) -> &RustCrypto {
        self.crypto
    }

    fn rand(&self) -> &RustCrypto {
        self.crypto
    }
}
