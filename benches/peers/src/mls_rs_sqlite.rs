//! mls-rs with its SQLite provider.
//!
//! Its groups are loaded whole and written whole (`write_to_storage`), the ratchet tree in them.
//! For messages it can leave out the tree, where the app keeps that elsewhere: measured as well, as
//! "tree kept apart".

use std::path::{Path, PathBuf};

use mls_rs::{
    CipherSuite, CipherSuiteProvider, Client, CryptoProvider, ExtensionList, Group, MlsMessage,
    client_builder::{MlsConfig, PaddingMode},
    crypto::SignatureSecretKey,
    group::{CommitOutput, ExportedTree, ReceivedMessage},
    identity::{
        SigningIdentity,
        basic::{BasicCredential, BasicIdentityProvider},
    },
    mls_rules::{CommitOptions, DefaultMlsRules, EncryptionOptions},
    storage_provider::sqlite::{
        SqLiteDataStorageEngine, SqLiteDataStorageError, connection_strategy::ConnectionStrategy,
    },
};
use mls_rs_crypto_rustcrypto::RustCryptoProvider;
use rusqlite::Connection;

use crate::{
    figures::{Figure, measure, timed},
    groups::{Groups, Tree},
};

const WHO: &str = "mls-rs, SQLite";
const SUITE: CipherSuite = CipherSuite::CURVE25519_AES128;
const MESSAGES: usize = 200;
const COMMITS: usize = 20;
const TEXT: [u8; 120] = [42; 120];

/// A connection with the durability that matrix-mls asks for. The provider opens one for each of
/// its tables.
struct Durable(PathBuf);

impl ConnectionStrategy for Durable {
    fn make_connection(&self) -> Result<Connection, SqLiteDataStorageError> {
        let connection = Connection::open(&self.0).expect("a database");
        connection
            .execute_batch("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;")
            .expect("the settings are taken");
        let mode: String =
            connection.pragma_query_value(None, "journal_mode", |row| row.get(0)).expect("a mode");
        let level: i64 =
            connection.pragma_query_value(None, "synchronous", |row| row.get(0)).expect("a level");
        assert_eq!((mode.as_str(), level), ("wal", 2));
        Ok(connection)
    }
}

/// What names a device and signs for it.
#[derive(Clone)]
struct Name(SigningIdentity, SignatureSecretKey);

impl Name {
    fn new(name: &str) -> Self {
        let suite = RustCryptoProvider::default().cipher_suite_provider(SUITE).expect("the suite");
        let (secret, public) = suite.signature_key_generate().expect("a key pair");
        let credential = BasicCredential::new(name.as_bytes().to_vec()).into_credential();
        Self(SigningIdentity::new(credential, public), secret)
    }
}

/// As our rooms have it: handshake messages are encrypted, an add needs no path, each commit comes
/// with public group state, the ratchet tree is beside GroupInfo and Welcome.
fn rules() -> DefaultMlsRules {
    DefaultMlsRules::new()
        .with_commit_options(
            CommitOptions::new()
                .with_path_required(false)
                .with_ratchet_tree_extension(false)
                .with_allow_external_commit(true),
        )
        .with_encryption_options(EncryptionOptions::new(true, PaddingMode::None))
}

fn stored(directory: &Path, name: &Name) -> Client<impl MlsConfig + use<>> {
    let engine =
        SqLiteDataStorageEngine::new(Durable(directory.join("mls-rs.db"))).expect("an engine");
    Client::builder()
        .group_state_storage(engine.group_state_storage().expect("a schema"))
        .key_package_repo(engine.key_package_storage().expect("a schema"))
        .psk_store(engine.pre_shared_key_storage().expect("a schema"))
        .identity_provider(BasicIdentityProvider)
        .crypto_provider(RustCryptoProvider::default())
        .mls_rules(rules())
        .signing_identity(name.0.clone(), name.1.clone(), SUITE)
        .build()
}

fn in_memory(name: &Name) -> Client<impl MlsConfig + use<>> {
    Client::builder()
        .identity_provider(BasicIdentityProvider)
        .crypto_provider(RustCryptoProvider::default())
        .mls_rules(rules())
        .signing_identity(name.0.clone(), name.1.clone(), SUITE)
        .build()
}

fn key_package(client: &Client<impl MlsConfig>) -> MlsMessage {
    let none = ExtensionList::new();
    client.generate_key_package_message(none.clone(), none, None).expect("a key package")
}

/// As it comes over the wire.
fn received(message: &MlsMessage) -> MlsMessage {
    let bytes = message.to_bytes().expect("it serialises");
    MlsMessage::from_bytes(&bytes).expect("it is an MLS message")
}

fn length(message: &MlsMessage) -> usize {
    message.to_bytes().expect("it serialises").len()
}

/// Makes a commit and stores it, then merges it and stores that.
fn commit<C: MlsConfig>(
    group: &mut Group<C>,
    make: impl FnOnce(&mut Group<C>) -> CommitOutput,
) -> CommitOutput {
    let output = make(group);
    group.write_to_storage().expect("it is stored");
    group.apply_pending_commit().expect("an own commit merges");
    group.write_to_storage().expect("it is stored");
    output
}

fn add(group: &mut Group<impl MlsConfig>, package: &MlsMessage) -> CommitOutput {
    let builder = group.commit_builder().add_member(package.clone()).expect("a key package");
    builder.build().expect("a commit")
}

fn remove(group: &mut Group<impl MlsConfig>, leaf: u32) -> CommitOutput {
    group.commit_builder().remove_member(leaf).expect("a member").build().expect("a commit")
}

fn update(group: &mut Group<impl MlsConfig>) -> CommitOutput {
    group.commit_builder().build().expect("a commit")
}

/// What a commit sends, without and with the ratchet tree.
fn sent(output: &CommitOutput) -> (usize, usize) {
    let welcomes: usize = output.welcome_messages.iter().map(length).sum();
    let info = output.external_commit_group_info.as_ref().map_or(0, length);
    let bytes = length(&output.commit_message) + welcomes + info;
    let tree = output.ratchet_tree.as_ref().map_or(0, |tree| tree.byte_size());
    (bytes, bytes + tree)
}

/// Takes in another's message and stores what comes of it.
fn process(group: &mut Group<impl MlsConfig>, message: MlsMessage) {
    group.process_incoming_message(message).expect("it is valid");
    group.write_to_storage().expect("it is stored");
}

/// The device with the store, and the one in memory, in the group of a file.
fn enter<A: MlsConfig, B: MlsConfig>(
    groups: &Groups,
    (tree, devices): (Tree, usize),
    ours: &Client<A>,
    other: &Client<B>,
) -> (Group<A>, Group<B>) {
    let info = MlsMessage::from_bytes(&groups.info(tree, devices)).expect("a GroupInfo");
    let (mut theirs, _) = other.commit_external(info).expect("the group can be entered");
    let info = theirs.group_info_message_allowing_ext_commit(true).expect("a GroupInfo");
    let (mut group, commit) = ours.commit_external(received(&info)).expect("it can be entered");
    group.write_to_storage().expect("it is stored");
    theirs.process_incoming_message(commit).expect("a good commit");
    (group, theirs)
}

/// Part graph: a group made with all its members at once.
pub fn create(devices: usize) {
    let names: Vec<Name> = (1..devices).map(|number| Name::new(&format!("D{number}"))).collect();
    let packages: Vec<MlsMessage> =
        names.iter().map(|name| key_package(&in_memory(name))).collect();
    let own = Name::new("own");
    let (mut bytes, mut bytes_tree) = (0, 0);
    let times = measure(COMMITS, || {
        let directory = tempfile::tempdir().expect("a directory");
        let client = stored(directory.path(), &own);
        let (took, output) = timed(|| {
            let none = ExtensionList::new();
            let mut group = client.create_group(none.clone(), none, None).expect("a group");
            commit(&mut group, |group| {
                let mut builder = group.commit_builder();
                for package in &packages {
                    builder = builder.add_member(package.clone()).expect("a key package");
                }
                builder.build().expect("a commit")
            })
        });
        (bytes, bytes_tree) = sent(&output);
        took
    });
    Figure::new("graph", WHO, "create", devices)
        .with("bytes", bytes)
        .with("bytes_tree", bytes_tree)
        .print(times);
}

/// Part graph: adding one, and an update.
pub fn graph(groups: &Groups, tree: Tree, devices: usize) {
    let figure = |operation: &str| {
        Figure::new("graph", WHO, operation, devices).with("tree", tree.to_string())
    };
    let directory = tempfile::tempdir().expect("a directory");
    let client = stored(directory.path(), &Name::new("own"));
    let (mut group, _) = enter(groups, (tree, devices), &client, &in_memory(&Name::new("other")));

    let package = key_package(&in_memory(&Name::new("new")));
    let mut bytes = (0, 0);
    let times = measure(COMMITS, || {
        let (took, output) = timed(|| commit(&mut group, |group| add(group, &package)));
        bytes = sent(&output);
        // The next run adds to the same group. This takes back the add, and blanks its path.
        let leaf = group.roster().members_iter().last().expect("a member").index;
        commit(&mut group, |group| remove(group, leaf));
        took
    });
    figure("add").with("bytes", bytes.0).with("bytes_tree", bytes.1).print(times);

    let times = measure(COMMITS, || {
        let (took, output) = timed(|| commit(&mut group, update));
        bytes = sent(&output);
        took
    });
    figure("update").with("bytes", bytes.0).with("bytes_tree", bytes.1).print(times);
}

/// Part operations. Messages, and opening, are measured in a blank tree alone, as ours are.
pub fn operations(groups: &Groups, tree: Tree, devices: usize) {
    eprintln!("{WHO}: {devices} devices, {tree} …");
    let figure = |operation: &str| {
        Figure::new("operations", WHO, operation, devices).with("tree", tree.to_string())
    };
    let directory = tempfile::tempdir().expect("a directory");
    let (own, other) = (Name::new("own"), Name::new("other"));
    let client = stored(directory.path(), &own);
    let (mut group, mut theirs) = enter(groups, (tree, devices), &client, &in_memory(&other));

    if tree == Tree::Blank {
        messages(&figure, &mut group, &mut theirs);
    }
    commits(&figure, &mut group, &mut theirs);
    joins(&figure, &mut group, &mut theirs);

    if tree != Tree::Blank {
        return;
    }
    let id = group.group_id().to_vec();
    drop((group, client));
    let times = measure(COMMITS, || timed(|| stored(directory.path(), &own)).0);
    figure("open the store").print(times);
    let client = stored(directory.path(), &own);
    let times = measure(COMMITS, || {
        let (took, group) = timed(|| client.load_group(&id));
        group.expect("it was stored");
        took
    });
    figure("load a room").print(times);
}

fn messages(
    figure: &dyn Fn(&str) -> Figure,
    group: &mut Group<impl MlsConfig>,
    theirs: &mut Group<impl MlsConfig>,
) {
    let mut bytes = 0;
    for (operation, with_tree) in [("encrypt", true), ("encrypt, tree kept apart", false)] {
        let times = measure(MESSAGES, || {
            let (took, message) = timed(|| {
                let message = group.encrypt_application_message(&TEXT, Vec::new());
                write(group, with_tree);
                message.expect("a message").to_bytes().expect("it serialises")
            });
            bytes = message.len();
            took
        });
        figure(operation).with("bytes", bytes).print(times);
    }
    for (operation, with_tree) in [("decrypt", true), ("decrypt, tree kept apart", false)] {
        let times = measure(MESSAGES, || {
            let message = theirs.encrypt_application_message(&TEXT, Vec::new());
            let message = message.expect("a message").to_bytes().expect("it serialises");
            let (took, received) = timed(|| {
                let message = MlsMessage::from_bytes(&message).expect("an MLS message");
                let received = group.process_incoming_message(message).expect("it is valid");
                write(group, with_tree);
                received
            });
            assert!(matches!(received, ReceivedMessage::ApplicationMessage(_)));
            took
        });
        figure(operation).print(times);
    }
    group.write_to_storage().expect("it is stored");
}

fn write(group: &mut Group<impl MlsConfig>, with_tree: bool) {
    let written = if with_tree {
        group.write_to_storage()
    } else {
        group.write_to_storage_without_ratchet_tree()
    };
    written.expect("it is stored");
}

fn commits(
    figure: &dyn Fn(&str) -> Figure,
    group: &mut Group<impl MlsConfig>,
    theirs: &mut Group<impl MlsConfig>,
) {
    // Added and removed in turn, so that the group stays as it is: here the measured device does it
    // …
    let package = key_package(&in_memory(&Name::new("new")));
    let mut bytes = [(0, 0); 3];
    let mut removes = Vec::new();
    let adds = measure(COMMITS, || {
        let (took, output) = timed(|| commit(group, |group| add(group, &package)));
        bytes[0] = sent(&output);
        take_in(theirs, &output);
        let leaf = group.roster().members_iter().last().expect("a member").index;
        let (removal, output) = timed(|| commit(group, |group| remove(group, leaf)));
        bytes[1] = sent(&output);
        take_in(theirs, &output);
        removes.push(removal);
        took
    });
    let updates = measure(COMMITS, || {
        let (took, output) = timed(|| commit(group, update));
        bytes[2] = sent(&output);
        take_in(theirs, &output);
        took
    });
    let times = [("add", adds), ("remove", removes), ("update", updates)];
    for ((operation, times), (bytes, with_tree)) in times.into_iter().zip(bytes) {
        figure(operation).with("bytes", bytes).with("bytes_tree", with_tree).print(times);
    }

    // … and here the other.
    let mut removes = Vec::new();
    let adds = measure(COMMITS, || {
        let output = add(theirs, &package);
        theirs.apply_pending_commit().expect("an own commit merges");
        let message = received(&output.commit_message);
        let took = timed(|| process(group, message)).0;
        let leaf = theirs.roster().members_iter().last().expect("a member").index;
        let output = remove(theirs, leaf);
        theirs.apply_pending_commit().expect("an own commit merges");
        let message = received(&output.commit_message);
        removes.push(timed(|| process(group, message)).0);
        took
    });
    let updates = measure(COMMITS, || {
        let output = update(theirs);
        theirs.apply_pending_commit().expect("an own commit merges");
        let message = received(&output.commit_message);
        timed(|| process(group, message)).0
    });
    for (operation, times) in
        [("process add", adds), ("process remove", removes), ("process update", updates)]
    {
        figure(operation).print(times);
    }
}

fn take_in(theirs: &mut Group<impl MlsConfig>, output: &CommitOutput) {
    theirs.process_incoming_message(received(&output.commit_message)).expect("it is valid");
}

fn joins(
    figure: &dyn Fn(&str) -> Figure,
    group: &mut Group<impl MlsConfig>,
    theirs: &mut Group<impl MlsConfig>,
) {
    let times = measure(COMMITS, || {
        let directory = tempfile::tempdir().expect("a directory");
        let client = stored(directory.path(), &Name::new("late"));
        let output = add(theirs, &key_package(&client));
        theirs.apply_pending_commit().expect("an own commit merges");
        process(group, received(&output.commit_message));
        let welcome = output.welcome_messages[0].to_bytes().expect("it serialises");
        let tree = output.ratchet_tree.expect("a tree").to_bytes().expect("it serialises");
        let took = timed(|| {
            let welcome = MlsMessage::from_bytes(&welcome).expect("an MLS message");
            let tree = ExportedTree::from_bytes(&tree).expect("a tree");
            let (mut joined, _) = client.join_group(Some(tree), &welcome, None).expect("a group");
            joined.write_to_storage().expect("it is stored");
        })
        .0;
        let leaf = theirs.roster().members_iter().last().expect("a member").index;
        let output = remove(theirs, leaf);
        theirs.apply_pending_commit().expect("an own commit merges");
        process(group, received(&output.commit_message));
        took
    });
    figure("join by Welcome").print(times);

    let info = theirs.group_info_message_allowing_ext_commit(true).expect("a GroupInfo");
    let info = info.to_bytes().expect("it serialises");
    let mut bytes = 0;
    let times = measure(COMMITS, || {
        let directory = tempfile::tempdir().expect("a directory");
        let client = stored(directory.path(), &Name::new("late"));
        let (took, commit) = timed(|| {
            let info = MlsMessage::from_bytes(&info).expect("an MLS message");
            let (mut joined, commit) = client.commit_external(info).expect("a group");
            joined.write_to_storage().expect("it is stored");
            commit
        });
        bytes = length(&commit);
        took
    });
    figure("join by external commit").with("bytes", bytes).print(times);
}
