//! Tests of the module as a whole: the official vectors, OpenMLS and mls-rs at the other end, the order of
//! reading, and damaged messages.

mod counting;
mod damage;
mod leaf_sets;
mod mls_rs_peer;
mod openmls_peer;
mod ratchets;
mod stored_shape;
mod vectors;

use openmls::prelude::{
    BasicCredential, Ciphersuite, Credential, CredentialWithKey, GroupId, KeyPackage,
    KeyPackageBundle, MlsGroup, MlsGroupCreateConfig, MlsGroupJoinConfig, MlsMessageBodyIn,
    MlsMessageIn, OpenMlsProvider, ProcessedMessageContent, StagedWelcome,
    tls_codec::Deserialize as _,
};
use openmls_basic_credential::SignatureKeyPair;
use openmls_rust_crypto::{OpenMlsRustCrypto, RustCrypto};
use openmls_traits::storage::{self, StorageProvider};
use serde::{Deserialize, Serialize};

use super::{
    EpochKeys, Leaf, LeafChunk, MessageDraft, OpenError, Opened, RatchetCache, capture, chunks,
    locate, open, seal,
};

const SUITE: Ciphersuite = Ciphersuite::MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519;

/// What OpenMLS gave its storage, whatever its shape.
#[derive(Serialize, Deserialize)]
#[serde(transparent)]
struct StoredSecrets(ciborium::Value);

impl storage::Entity<{ storage::CURRENT_VERSION }> for StoredSecrets {}
impl storage::traits::MessageSecrets<{ storage::CURRENT_VERSION }> for StoredSecrets {}

/// One OpenMLS client and its group.
struct Device {
    provider: OpenMlsRustCrypto,
    signer: SignatureKeyPair,
    credential: CredentialWithKey,
    group: Option<MlsGroup>,
}

impl Device {
    fn new(name: &str) -> Self {
        Self::with_suite(name, SUITE)
    }

    fn with_suite(name: &str, suite: Ciphersuite) -> Self {
        let signer = SignatureKeyPair::new(suite.signature_algorithm()).unwrap();
        let credential = CredentialWithKey {
            credential: BasicCredential::new(name.as_bytes().to_vec()).into(),
            signature_key: signer.public().into(),
        };
        Self { provider: OpenMlsRustCrypto::default(), signer, credential, group: None }
    }

    fn crypto(&self) -> &RustCrypto {
        self.provider.crypto()
    }

    fn group(&mut self) -> &mut MlsGroup {
        self.group.as_mut().unwrap()
    }

    fn create_group(&mut self, suite: Ciphersuite) {
        let config = MlsGroupCreateConfig::builder()
            .ciphersuite(suite)
            .use_ratchet_tree_extension(true)
            .padding_size(64)
            .build();
        let group = MlsGroup::new_with_group_id(
            &self.provider,
            &self.signer,
            &config,
            GroupId::from_slice(b"!room:example.org"),
            self.credential.clone(),
        );
        self.group = Some(group.unwrap());
    }

    fn key_package(&self, suite: Ciphersuite) -> KeyPackageBundle {
        KeyPackage::builder()
            .build(suite, &self.provider, &self.signer, self.credential.clone())
            .unwrap()
    }

    /// Adds and merges; gives the commit and the Welcome.
    fn add(&mut self, key_packages: &[KeyPackage]) -> (Vec<u8>, Vec<u8>) {
        let group = self.group.as_mut().unwrap();
        let (commit, welcome, _) =
            group.add_members(&self.provider, &self.signer, key_packages).unwrap();
        group.merge_pending_commit(&self.provider).unwrap();
        (commit.to_bytes().unwrap(), welcome.to_bytes().unwrap())
    }

    fn update(&mut self) -> Vec<u8> {
        let group = self.group.as_mut().unwrap();
        let bundle = group.self_update(&self.provider, &self.signer, Default::default()).unwrap();
        group.merge_pending_commit(&self.provider).unwrap();
        bundle.commit().to_bytes().unwrap()
    }

    fn join(&mut self, welcome: &[u8]) {
        let message = MlsMessageIn::tls_deserialize_exact(welcome).unwrap();
        let MlsMessageBodyIn::Welcome(welcome) = message.extract() else {
            panic!("not a Welcome");
        };
        let config = MlsGroupJoinConfig::builder().padding_size(64).build();
        let staged =
            StagedWelcome::new_from_welcome(&self.provider, &config, welcome, None).unwrap();
        self.group = Some(staged.into_group(&self.provider).unwrap());
    }

    /// Joins with a GroupInfo (an MLSMessage); gives the commit.
    fn join_externally(&mut self, info: &[u8]) -> Vec<u8> {
        let message = MlsMessageIn::tls_deserialize_exact(info).unwrap();
        let MlsMessageBodyIn::GroupInfo(info) = message.extract() else {
            panic!("not a GroupInfo");
        };
        let (group, bundle) = MlsGroup::external_commit_builder()
            .build_group(&self.provider, info, self.credential.clone())
            .unwrap()
            .load_psks(self.provider.storage())
            .unwrap()
            .build(self.provider.rand(), self.provider.crypto(), &self.signer, |_| true)
            .unwrap()
            .finalize(&self.provider)
            .unwrap();
        self.group = Some(group);
        bundle.commit().to_bytes().unwrap()
    }

    /// Processes a message as OpenMLS does; a commit is merged, an application message's text returned.
    fn process(&mut self, message: &[u8]) -> Option<Vec<u8>> {
        let message = MlsMessageIn::tls_deserialize_exact(message).unwrap();
        let group = self.group.as_mut().unwrap();
        let processed = group
            .process_message(&self.provider, message.try_into_protocol_message().unwrap())
            .unwrap();
        match processed.into_content() {
            ProcessedMessageContent::ApplicationMessage(message) => Some(message.into_bytes()),
            ProcessedMessageContent::StagedCommitMessage(commit) => {
                group.merge_staged_commit(&self.provider, *commit).unwrap();
                None
            }
            _ => panic!("an unexpected message"),
        }
    }

    fn send(&mut self, aad: &[u8], text: &[u8]) -> Vec<u8> {
        let group = self.group.as_mut().unwrap();
        group.set_aad(aad.to_vec());
        group.create_message(&self.provider, &self.signer, text).unwrap().to_bytes().unwrap()
    }

    /// What OpenMLS stored last for the group, as CBOR.
    fn stored_secrets(&self) -> ciborium::Value {
        let group_id = self.group.as_ref().unwrap().group_id();
        let stored: Option<StoredSecrets> =
            self.provider.storage().message_secrets(group_id).unwrap();
        stored.unwrap().0
    }

    /// The export of the epoch that has just begun.
    fn export(&self) -> Epoch {
        let keys = capture(&cbor(&self.stored_secrets())).unwrap();
        let leaves = chunks(self.group.as_ref().unwrap().members()).unwrap();
        Epoch { keys, leaves: leaves.into_iter().map(|(_, chunk)| chunk).collect() }
    }
}

fn cbor(value: &impl Serialize) -> Vec<u8> {
    let mut bytes = Vec::new();
    ciborium::into_writer(value, &mut bytes).unwrap();
    bytes
}

/// An export with its leaves.
struct Epoch {
    keys: EpochKeys,
    leaves: Vec<LeafChunk>,
}

impl Epoch {
    fn leaf(&self, leaf: u32) -> Option<Leaf> {
        let (chunk, offset) = locate(leaf);
        self.leaves.get(chunk)?.leaf(offset).cloned()
    }

    fn open_with(&self, cache: &mut RatchetCache, message: &[u8]) -> Result<Opened, OpenError> {
        let crypto = RustCrypto::default();
        open(&self.keys, cache, &crypto, message, |leaf| Ok(self.leaf(leaf)))
    }

    fn open(&self, message: &[u8]) -> Result<Opened, OpenError> {
        self.open_with(&mut RatchetCache::default(), message)
    }

    fn seal(&self, signer: &SignatureKeyPair, generation: u32, text: &[u8]) -> Vec<u8> {
        let draft = MessageDraft {
            generation,
            authenticated_data: b"beside",
            plaintext: text,
            padding: 64,
        };
        let crypto = RustCrypto::default();
        seal(&self.keys, &mut RatchetCache::default(), &crypto, signer, &draft).unwrap()
    }
}

/// The name in a leaf's basic credential.
fn name_of(leaf: &Leaf) -> Vec<u8> {
    let credential: Credential = leaf.credential().unwrap();
    let basic = BasicCredential::try_from(credential).unwrap();
    basic.identity().to_vec()
}

/// A message opens with these contents.
fn assert_opens(epoch: &Epoch, message: &[u8], leaf: u32, name: &str, text: &[u8]) -> u32 {
    let opened = epoch.open(message).unwrap();
    assert_eq!(opened.leaf, leaf);
    assert_eq!(name_of(&opened.leaf_data), name.as_bytes());
    assert_eq!(*opened.plaintext, text);
    opened.generation
}
