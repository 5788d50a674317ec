//! OpenMLS with openmls_sqlite_storage, its own SQLite provider.
//!
//! The codec of what is stored is the app's choice there; JSON is what its own tests use.

use std::{borrow::Borrow, path::Path, time::Duration};

use openmls::prelude::{
    tls_codec::{Deserialize as _, Serialize as _, Size as _},
    *,
};
use openmls_basic_credential::SignatureKeyPair;
use openmls_rust_crypto::{OpenMlsRustCrypto, RustCrypto};
use openmls_sqlite_storage::{Codec, SqliteStorageProvider};
use rusqlite::Connection;
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    figures::{Figure, measure, timed},
    groups::{Groups, Tree},
};

const WHO: &str = "openmls_sqlite_storage";
const SUITE: Ciphersuite = Ciphersuite::MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519;
const MESSAGES: usize = 200;
const COMMITS: usize = 20;
const TEXT: [u8; 120] = [42; 120];

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

struct Provider<'a, C: Borrow<Connection>> {
    crypto: &'a RustCrypto,
    storage: SqliteStorageProvider<Json, C>,
}

impl<C: Borrow<Connection>> OpenMlsProvider for Provider<'_, C> {
    type CryptoProvider = RustCrypto;
    type RandProvider = RustCrypto;
    type StorageProvider = SqliteStorageProvider<Json, C>;

    fn storage(&self) -> &Self::StorageProvider {
        &self.storage
    }
    fn crypto(&self) -> &Self::CryptoProvider {
        self.crypto
    }
    fn rand(&self) -> &Self::RandProvider {
        self.crypto
    }
}

/// What names a device and signs for it.
struct Name(CredentialWithKey, SignatureKeyPair);

impl Name {
    fn new(name: &str) -> Self {
        let signer = SignatureKeyPair::new(SUITE.signature_algorithm()).expect("a key pair");
        let credential = CredentialWithKey {
            credential: BasicCredential::new(name.as_bytes().to_vec()).into(),
            signature_key: signer.public().into(),
        };
        Self(credential, signer)
    }

    fn key_package(&self, provider: &impl OpenMlsProvider) -> KeyPackage {
        let bundle = KeyPackage::builder().build(SUITE, provider, &self.1, self.0.clone());
        bundle.expect("a key package").key_package().clone()
    }
}

/// A database.
struct Store {
    crypto: RustCrypto,
    connection: Connection,
}

impl Store {
    fn open(directory: &Path) -> Self {
        let mut connection = Connection::open(directory.join("openmls.db")).expect("a database");
        connection
            .execute_batch("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;")
            .expect("the settings are taken");
        SqliteStorageProvider::<Json, _>::new(&mut connection).run_migrations().expect("a schema");
        Self { crypto: RustCrypto::default(), connection }
    }

    /// Does something in a transaction of its own.
    fn turn<T>(&mut self, job: impl FnOnce(&Provider<'_, &Connection>) -> T) -> T {
        let transaction = self.connection.transaction().expect("a transaction");
        let value = job(&Provider {
            crypto: &self.crypto,
            storage: SqliteStorageProvider::new(&*transaction),
        });
        transaction.commit().expect("a commit");
        value
    }
}

/// The measured device and one in memory, in one group.
struct Two {
    store: Store,
    own: Name,
    group: MlsGroup,
    memory: OpenMlsRustCrypto,
    other: Name,
    theirs: MlsGroup,
}

fn join_config() -> MlsGroupJoinConfig {
    MlsGroupJoinConfig::builder()
        .wire_format_policy(MIXED_CIPHERTEXT_WIRE_FORMAT_POLICY)
        .use_ratchet_tree_extension(false)
        .max_past_epochs(0)
        .build()
}

fn message_in(bytes: &[u8]) -> MlsMessageIn {
    MlsMessageIn::tls_deserialize_exact(bytes).expect("an MLS message")
}

fn join_externally(
    provider: &impl OpenMlsProvider,
    name: &Name,
    info: &[u8],
) -> (MlsGroup, Vec<u8>) {
    let MlsMessageBodyIn::GroupInfo(info) = message_in(info).extract() else {
        panic!("not a GroupInfo")
    };
    let (group, bundle) = MlsGroup::external_commit_builder()
        .with_config(join_config())
        .skip_lifetime_validation()
        .build_group(provider, info, name.0.clone())
        .expect("the group can be entered")
        .load_psks(provider.storage())
        .expect("no PSKs")
        .build(provider.rand(), provider.crypto(), &name.1, |_| true)
        .expect("a commit")
        .finalize(provider)
        .expect("it is in");
    (group, bundle.into_commit().to_bytes().expect("it serialises"))
}

/// Takes in another's message.
fn process(provider: &impl OpenMlsProvider, group: &mut MlsGroup, message: &[u8]) {
    let message = message_in(message).try_into_protocol_message().expect("a protocol message");
    match group.process_message(provider, message).expect("it is valid").into_content() {
        ProcessedMessageContent::ApplicationMessage(_) => {}
        ProcessedMessageContent::StagedCommitMessage(commit) => {
            group.merge_staged_commit(provider, *commit).expect("the commit merges");
        }
        _ => panic!("neither a message nor a commit"),
    }
}

/// What a commit changes.
enum Change<'a> {
    Add(&'a KeyPackage),
    Remove(LeafNodeIndex),
    Update,
}

/// What a commit sends.
struct Sent {
    commit: Vec<u8>,
    welcome: Option<Vec<u8>>,
    info: Vec<u8>,
}

fn stage(
    provider: &impl OpenMlsProvider,
    name: &Name,
    group: &mut MlsGroup,
    change: &Change<'_>,
) -> Sent {
    let builder = group.commit_builder();
    // As our rooms do it: an add needs no path.
    let builder = match change {
        Change::Add(package) => builder.propose_adds([(*package).clone()]).force_self_update(false),
        Change::Remove(leaf) => builder.propose_removals([*leaf]),
        Change::Update => builder.force_self_update(true),
    };
    let bundle = builder
        .load_psks(provider.storage())
        .expect("no PSKs")
        .create_group_info(true)
        .use_ratchet_tree_extension(false)
        .build(provider.rand(), provider.crypto(), &name.1, |_| true)
        .expect("a commit")
        .stage_commit(provider)
        .expect("it can be staged");
    let (commit, welcome, info) = bundle.into_messages();
    let bytes = |message: MlsMessageOut| message.to_bytes().expect("it serialises");
    Sent {
        commit: bytes(commit),
        welcome: welcome.map(bytes),
        info: info.map(bytes).unwrap_or_default(),
    }
}

fn merge(provider: &impl OpenMlsProvider, group: &mut MlsGroup) {
    group.merge_pending_commit(provider).expect("an own commit merges");
}

fn last_leaf(group: &MlsGroup) -> LeafNodeIndex {
    group.members().last().expect("a member").index
}

impl Two {
    fn enter(groups: &Groups, (tree, devices): (Tree, usize), directory: &Path) -> Self {
        let mut store = Store::open(directory);
        let memory = OpenMlsRustCrypto::default();
        let (own, other) = (Name::new("own"), Name::new("other"));
        let (mut theirs, _) = join_externally(&memory, &other, &groups.info(tree, devices));
        let info = public_state(&theirs, &memory, &other);
        let (group, commit) = store.turn(|provider| join_externally(provider, &own, &info));
        process(&memory, &mut theirs, &commit);
        Self { store, own, group, memory, other, theirs }
    }

    /// The measured device commits; the other takes it in. How long the former took.
    fn commit(&mut self, change: &Change<'_>) -> (Duration, (usize, usize)) {
        let Self { store, own, group, .. } = self;
        let (took, sent) = timed(|| {
            let sent = store.turn(|provider| stage(provider, own, group, change));
            store.turn(|provider| merge(provider, group));
            sent
        });
        process(&self.memory, &mut self.theirs, &sent.commit);
        let bytes = sent.commit.len() + sent.welcome.map_or(0, |it| it.len()) + sent.info.len();
        (took, (bytes, bytes + self.group.export_ratchet_tree().tls_serialized_len()))
    }

    /// The other commits; the measured device takes it in. How long the latter took.
    fn process(&mut self, change: &Change<'_>) -> (Duration, Sent) {
        let sent = stage(&self.memory, &self.other, &mut self.theirs, change);
        merge(&self.memory, &mut self.theirs);
        let Self { store, group, .. } = self;
        let took = timed(|| store.turn(|provider| process(provider, group, &sent.commit))).0;
        (took, sent)
    }
}

/// Public group state with the tree in it.
fn public_state(group: &MlsGroup, provider: &OpenMlsRustCrypto, name: &Name) -> Vec<u8> {
    let info = group.export_group_info(provider.crypto(), &name.1, true).expect("a GroupInfo");
    info.to_bytes().expect("it serialises")
}

/// Part operations. Messages, and opening, are measured in a blank tree alone, as ours are.
pub fn operations(groups: &Groups, tree: Tree, devices: usize) {
    eprintln!("{WHO}: {devices} devices, {tree} …");
    let figure = |operation: &str| {
        Figure::new("operations", WHO, operation, devices).with("tree", tree.to_string())
    };
    let directory = tempfile::tempdir().expect("a directory");
    let mut two = Two::enter(groups, (tree, devices), directory.path());
    if tree == Tree::Blank {
        messages(&figure, &mut two);
    }
    commits(&figure, &mut two);
    joins(&figure, &mut two);

    if tree != Tree::Blank {
        return;
    }
    let id = two.group.group_id().clone();
    drop(two);
    let times = measure(COMMITS, || timed(|| Store::open(directory.path())).0);
    figure("open the store").print(times);
    let mut store = Store::open(directory.path());
    let times = measure(COMMITS, || {
        let (took, group) =
            timed(|| store.turn(|provider| MlsGroup::load(provider.storage(), &id)));
        assert!(group.expect("it can be read").is_some());
        took
    });
    figure("load a room").print(times);
}

fn messages(figure: &dyn Fn(&str) -> Figure, two: &mut Two) {
    let mut bytes = 0;
    let Two { store, own, group, memory, other, theirs } = two;
    let times = measure(MESSAGES, || {
        let (took, message) = timed(|| {
            let message = store.turn(|provider| group.create_message(provider, &own.1, &TEXT));
            message.expect("a message").to_bytes().expect("it serialises")
        });
        bytes = message.len();
        took
    });
    figure("encrypt").with("bytes", bytes).print(times);
    let times = measure(MESSAGES, || {
        let message = theirs.create_message(memory, &other.1, &TEXT).expect("a message");
        let message = message.to_bytes().expect("it serialises");
        timed(|| store.turn(|provider| process(provider, group, &message))).0
    });
    figure("decrypt").print(times);
}

fn commits(figure: &dyn Fn(&str) -> Figure, two: &mut Two) {
    // Added and removed in turn, so that the group stays as it is: here the measured device does it
    // …
    let package = Name::new("new").key_package(&OpenMlsRustCrypto::default());
    let mut bytes = [(0, 0); 3];
    let mut removes = Vec::new();
    let adds = measure(COMMITS, || {
        let (took, sent) = two.commit(&Change::Add(&package));
        bytes[0] = sent;
        let (removal, sent) = two.commit(&Change::Remove(last_leaf(&two.group)));
        bytes[1] = sent;
        removes.push(removal);
        took
    });
    let updates = measure(COMMITS, || {
        let (took, sent) = two.commit(&Change::Update);
        bytes[2] = sent;
        took
    });
    let times = [("add", adds), ("remove", removes), ("update", updates)];
    for ((operation, times), (bytes, with_tree)) in times.into_iter().zip(bytes) {
        figure(operation).with("bytes", bytes).with("bytes_tree", with_tree).print(times);
    }

    // … and here the other.
    let mut removes = Vec::new();
    let adds = measure(COMMITS, || {
        let took = two.process(&Change::Add(&package)).0;
        removes.push(two.process(&Change::Remove(last_leaf(&two.theirs))).0);
        took
    });
    let updates = measure(COMMITS, || two.process(&Change::Update).0);
    for (operation, times) in
        [("process add", adds), ("process remove", removes), ("process update", updates)]
    {
        figure(operation).print(times);
    }
}

fn joins(figure: &dyn Fn(&str) -> Figure, two: &mut Two) {
    let times = measure(COMMITS, || {
        let directory = tempfile::tempdir().expect("a directory");
        let mut store = Store::open(directory.path());
        let package = store.turn(|provider| Name::new("late").key_package(provider));
        let welcome = two.process(&Change::Add(&package)).1.welcome.expect("a Welcome");
        let tree = two.theirs.export_ratchet_tree().tls_serialize_detached().expect("a tree");
        let took = timed(|| {
            store.turn(|provider| {
                let MlsMessageBodyIn::Welcome(welcome) = message_in(&welcome).extract() else {
                    panic!("not a Welcome")
                };
                let tree = RatchetTreeIn::tls_deserialize_exact(&tree).expect("a tree");
                StagedWelcome::new_from_welcome(provider, &join_config(), welcome, Some(tree))
                    .expect("a good Welcome")
                    .into_group(provider)
                    .expect("a group");
            });
        })
        .0;
        two.process(&Change::Remove(last_leaf(&two.theirs)));
        took
    });
    figure("join by Welcome").print(times);

    let info = public_state(&two.theirs, &two.memory, &two.other);
    let mut bytes = 0;
    let times = measure(COMMITS, || {
        let directory = tempfile::tempdir().expect("a directory");
        let mut store = Store::open(directory.path());
        let late = Name::new("late");
        let (took, commit) =
            timed(|| store.turn(|provider| join_externally(provider, &late, &info).1));
        bytes = commit.len();
        took
    });
    figure("join by external commit").with("bytes", bytes).print(times);
}
