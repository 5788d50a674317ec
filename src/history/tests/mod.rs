//! Tests of the module as a whole: the official vectors, OpenMLS and mls-rs at the other end, the
//! order of reading, and damaged messages.

mod counting;
mod damage;
mod export_vectors;
mod leaf_sets;
mod mls_rs_peer;
mod openmls_peer;
mod ratchets;
mod stored_shape;
mod vectors;

use std::error::Error;

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

/// What a test gives, and what a helper of one gives: a failure goes up to the test.
type Outcome<T = ()> = Result<T, Box<dyn Error>>;

const NO_GROUP: &str = "the device is in no group";

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
    fn new(name: &str) -> Outcome<Self> {
        Self::with_suite(name, SUITE)
    }

    fn with_suite(name: &str, suite: Ciphersuite) -> Outcome<Self> {
        let signer = SignatureKeyPair::new(suite.signature_algorithm())?;
        let credential = CredentialWithKey {
            credential: BasicCredential::new(name.as_bytes().to_vec()).into(),
            signature_key: signer.public().into(),
        };
        Ok(Self { provider: OpenMlsRustCrypto::default(), signer, credential, group: None })
    }

    fn crypto(&self) -> &RustCrypto {
        self.provider.crypto()
    }

    fn group(&mut self) -> Outcome<&mut MlsGroup> {
        Ok(self.group.as_mut().ok_or(NO_GROUP)?)
    }

    fn create_group(&mut self, suite: Ciphersuite) -> Outcome {
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
        self.group = Some(group?);
        Ok(())
    }

    fn key_package(&self, suite: Ciphersuite) -> Outcome<KeyPackageBundle> {
        Ok(KeyPackage::builder().build(
            suite,
            &self.provider,
            &self.signer,
            self.credential.clone(),
        )?)
    }

    /// Adds and merges; gives the commit and the Welcome.
    fn add(&mut self, key_packages: &[KeyPackage]) -> Outcome<(Vec<u8>, Vec<u8>)> {
        let group = self.group.as_mut().ok_or(NO_GROUP)?;
        let (commit, welcome, _) = group.add_members(&self.provider, &self.signer, key_packages)?;
        group.merge_pending_commit(&self.provider)?;
        Ok((commit.to_bytes()?, welcome.to_bytes()?))
    }

    fn update(&mut self) -> Outcome<Vec<u8>> {
        let group = self.group.as_mut().ok_or(NO_GROUP)?;
        let bundle = group.self_update(&self.provider, &self.signer, Default::default())?;
        group.merge_pending_commit(&self.provider)?;
        Ok(bundle.commit().to_bytes()?)
    }

    fn join(&mut self, welcome: &[u8]) -> Outcome {
        let message = MlsMessageIn::tls_deserialize_exact(welcome)?;
        let MlsMessageBodyIn::Welcome(welcome) = message.extract() else {
            return Err("not a Welcome".into());
        };
        let config = MlsGroupJoinConfig::builder().padding_size(64).build();
        let staged = StagedWelcome::new_from_welcome(&self.provider, &config, welcome, None)?;
        self.group = Some(staged.into_group(&self.provider)?);
        Ok(())
    }

    /// Joins with a GroupInfo (an MLSMessage); gives the commit.
    fn join_externally(&mut self, info: &[u8]) -> Outcome<Vec<u8>> {
        let message = MlsMessageIn::tls_deserialize_exact(info)?;
        let MlsMessageBodyIn::GroupInfo(info) = message.extract() else {
            return Err("not a GroupInfo".into());
        };
        let (group, bundle) = MlsGroup::external_commit_builder()
            .build_group(&self.provider, info, self.credential.clone())?
            .load_psks(self.provider.storage())?
            .build(self.provider.rand(), self.provider.crypto(), &self.signer, |_| true)?
            .finalize(&self.provider)?;
        self.group = Some(group);
        Ok(bundle.commit().to_bytes()?)
    }

    /// Processes a message as OpenMLS does; a commit is merged, an application message's text
    /// returned.
    fn process(&mut self, message: &[u8]) -> Outcome<Option<Vec<u8>>> {
        let message = MlsMessageIn::tls_deserialize_exact(message)?;
        let group = self.group.as_mut().ok_or(NO_GROUP)?;
        let processed =
            group.process_message(&self.provider, message.try_into_protocol_message()?)?;
        Ok(match processed.into_content() {
            ProcessedMessageContent::ApplicationMessage(message) => Some(message.into_bytes()),
            ProcessedMessageContent::StagedCommitMessage(commit) => {
                group.merge_staged_commit(&self.provider, *commit)?;
                None
            }
            _ => return Err("an unexpected message".into()),
        })
    }

    fn send(&mut self, aad: &[u8], text: &[u8]) -> Outcome<Vec<u8>> {
        let group = self.group.as_mut().ok_or(NO_GROUP)?;
        group.set_aad(aad.to_vec());
        Ok(group.create_message(&self.provider, &self.signer, text)?.to_bytes()?)
    }

    /// What OpenMLS stored last for the group, as CBOR.
    fn stored_secrets(&self) -> Outcome<ciborium::Value> {
        let group_id = self.group.as_ref().ok_or(NO_GROUP)?.group_id();
        let stored: Option<StoredSecrets> = self.provider.storage().message_secrets(group_id)?;
        Ok(stored.ok_or("no message secrets are stored")?.0)
    }

    /// The export of the epoch that has just begun.
    fn export(&self) -> Outcome<Epoch> {
        let keys = capture(&cbor(&self.stored_secrets()?)?)?;
        let leaves = chunks(self.group.as_ref().ok_or(NO_GROUP)?.members())?;
        Ok(Epoch { keys, leaves: leaves.into_iter().map(|(_, chunk)| chunk).collect() })
    }
}

fn cbor(value: &impl Serialize) -> Outcome<Vec<u8>> {
    let mut bytes = Vec::new();
    ciborium::into_writer(value, &mut bytes)?;
    Ok(bytes)
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

    fn seal(&self, signer: &SignatureKeyPair, generation: u32, text: &[u8]) -> Outcome<Vec<u8>> {
        let draft = MessageDraft {
            generation,
            authenticated_data: b"beside",
            plaintext: text,
            padding: 64,
        };
        let crypto = RustCrypto::default();
        Ok(seal(&self.keys, &mut RatchetCache::default(), &crypto, signer, &draft)?)
    }
}

/// The name in a leaf's basic credential.
fn name_of(leaf: &Leaf) -> Outcome<Vec<u8>> {
    let credential: Credential = leaf.credential()?;
    let basic = BasicCredential::try_from(credential)?;
    Ok(basic.identity().to_vec())
}

/// A message opens with these contents.
fn assert_opens(epoch: &Epoch, message: &[u8], leaf: u32, name: &str, text: &[u8]) -> Outcome<u32> {
    let opened = epoch.open(message)?;
    assert_eq!(opened.leaf, leaf);
    assert_eq!(name_of(&opened.leaf_data)?, name.as_bytes());
    assert_eq!(*opened.plaintext, text);
    Ok(opened.generation)
}
