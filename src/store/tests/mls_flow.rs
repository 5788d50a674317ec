//! The life of a group over this storage and over OpenMLS's in-memory one: the same outcomes.
//!
//! Every step loads the group anew, so nothing comes from anywhere but the storage.

use openmls::prelude::{tls_codec::*, *};
use openmls_basic_credential::SignatureKeyPair;
use openmls_memory_storage::MemoryStorage;
use openmls_rust_crypto::RustCrypto;
use openmls_traits::{OpenMlsProvider, storage::StorageProvider};

use super::{Outcome, fresh};
use crate::store::MlsStorage;

pub(super) const SUITE: Ciphersuite = Ciphersuite::MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519;

/// OpenMLS's provider over any storage.
pub(super) struct Provider<S> {
    crypto: RustCrypto,
    storage: S,
}

impl<S> Provider<S> {
    pub(super) fn new(storage: S) -> Self {
        Self { crypto: RustCrypto::default(), storage }
    }
}

impl<S: StorageProvider<1>> OpenMlsProvider for Provider<S> {
    type CryptoProvider = RustCrypto;
    type RandProvider = RustCrypto;
    type StorageProvider = S;

    fn storage(&self) -> &S {
        &self.storage
    }

    fn crypto(&self) -> &RustCrypto {
        &self.crypto
    }

    fn rand(&self) -> &RustCrypto {
        &self.crypto
    }
}

/// A storage whose failures a test can hand on.
pub(super) trait Storage: StorageProvider<1, Error: 'static> {}

impl<S: StorageProvider<1, Error: 'static>> Storage for S {}

/// A member's keys, its signature key stored as OpenMLS's users store theirs.
pub(super) struct Member {
    pub(super) signer: SignatureKeyPair,
    credential: CredentialWithKey,
}

impl Member {
    pub(super) fn new<S: Storage>(name: &str, provider: &Provider<S>) -> Outcome<Self> {
        let signer = SignatureKeyPair::new(SUITE.signature_algorithm())?;
        signer.store(provider.storage())?;
        let credential = CredentialWithKey {
            credential: BasicCredential::new(name.as_bytes().to_vec()).into(),
            signature_key: signer.to_public_vec().into(),
        };
        Ok(Self { signer, credential })
    }

    pub(super) fn key_package<S: Storage>(&self, provider: &Provider<S>) -> Outcome<KeyPackage> {
        let bundle =
            KeyPackage::builder().build(SUITE, provider, &self.signer, self.credential.clone())?;
        Ok(bundle.key_package().clone())
    }

    pub(super) fn create<S: Storage>(&self, provider: &Provider<S>) -> Outcome {
        let config = MlsGroupCreateConfig::builder()
            .ciphersuite(SUITE)
            .use_ratchet_tree_extension(true)
            .wire_format_policy(PURE_CIPHERTEXT_WIRE_FORMAT_POLICY)
            .build();
        let credential = self.credential.clone();
        MlsGroup::new_with_group_id(provider, &self.signer, &config, group_id(), credential)?;
        Ok(())
    }
}

pub(super) fn group_id() -> GroupId {
    GroupId::from_slice(b"!room:example.org")
}

pub(super) fn load<S: Storage>(provider: &Provider<S>) -> Outcome<MlsGroup> {
    let group = MlsGroup::load(provider.storage(), &group_id())?;
    Ok(group.ok_or("no group is stored")?)
}

pub(super) fn wire(message: &MlsMessageOut) -> Outcome<MlsMessageIn> {
    Ok(MlsMessageIn::tls_deserialize_exact(message.tls_serialize_detached()?)?)
}

pub(super) fn join<S: Storage>(provider: &Provider<S>, welcome: &MlsMessageOut) -> Outcome {
    let config = MlsGroupJoinConfig::builder()
        .use_ratchet_tree_extension(true)
        .wire_format_policy(PURE_CIPHERTEXT_WIRE_FORMAT_POLICY)
        .build();
    let MlsMessageBodyIn::Welcome(welcome) = wire(welcome)?.extract() else {
        return Err("not a welcome".into());
    };
    StagedWelcome::new_from_welcome(provider, &config, welcome, None)?.into_group(provider)?;
    Ok(())
}

/// Processes a message, merges or queues what it holds, and gives what it said.
pub(super) fn receive<S: Storage>(
    provider: &Provider<S>,
    message: &MlsMessageOut,
) -> Outcome<String> {
    let mut group = load(provider)?;
    let message = wire(message)?.try_into_protocol_message()?;
    Ok(match group.process_message(provider, message)?.into_content() {
        ProcessedMessageContent::ApplicationMessage(message) => {
            String::from_utf8(message.into_bytes())?
        }
        ProcessedMessageContent::StagedCommitMessage(commit) => {
            group.merge_staged_commit(provider, *commit)?;
            "a commit".to_owned()
        }
        ProcessedMessageContent::ProposalMessage(proposal) => {
            group.store_pending_proposal(provider.storage(), *proposal)?;
            "a proposal".to_owned()
        }
        _ => return Err("an unexpected message".into()),
    })
}

pub(super) fn send<S: Storage>(
    provider: &Provider<S>,
    member: &Member,
    text: &str,
) -> Outcome<MlsMessageOut> {
    Ok(load(provider)?.create_message(provider, &member.signer, text.as_bytes())?)
}

pub(super) fn update<S: Storage>(
    provider: &Provider<S>,
    member: &Member,
) -> Outcome<MlsMessageOut> {
    let mut group = load(provider)?;
    let bundle = group.self_update(provider, &member.signer, LeafNodeParameters::default())?;
    load(provider)?.merge_pending_commit(provider)?;
    Ok(bundle.into_commit())
}

/// Everything about a group that does not depend on random keys.
fn state<S: Storage>(provider: &Provider<S>) -> Outcome<String> {
    let group = load(provider)?;
    let members: Vec<_> = group
        .members()
        .map(|member| {
            let name = String::from_utf8_lossy(member.credential.serialized_content()).into_owned();
            (member.index.u32(), name)
        })
        .collect();
    Ok(format!(
        "epoch {} own {} active {} members {members:?} proposals {}",
        group.epoch(),
        group.own_leaf_index(),
        group.is_active(),
        group.pending_proposals().count(),
    ))
}

fn life_of_a_group<S: Storage>(storages: [S; 3]) -> Outcome<Vec<String>> {
    let mut seen = Vec::new();
    let [alice, bob, carol] = storages.map(Provider::new);
    let all = [&alice, &bob, &carol];
    let (a, b, c) =
        (Member::new("alice", &alice)?, Member::new("bob", &bob)?, Member::new("carol", &carol)?);
    let packages = [b.key_package(&bob)?, c.key_package(&carol)?];

    let look = |seen: &mut Vec<String>| -> Outcome {
        for member in all {
            seen.push(state(member)?);
        }
        Ok(())
    };
    a.create(&alice)?;
    let (_, welcome, _) = load(&alice)?.add_members(&alice, &a.signer, &packages)?;
    load(&alice)?.merge_pending_commit(&alice)?;
    join(&bob, &welcome)?;
    join(&carol, &welcome)?;
    look(&mut seen)?;

    for round in 0..3 {
        let commit = update(&bob, &b)?;
        seen.push(receive(&alice, &commit)?);
        seen.push(receive(&carol, &commit)?);
        let message = send(&carol, &c, &format!("hello {round}"))?;
        seen.push(receive(&alice, &message)?);
        seen.push(receive(&bob, &message)?);
        look(&mut seen)?;
    }

    let bob_leaf = load(&bob)?.own_leaf_index();
    let (proposal, _) = load(&carol)?.propose_remove_member(&carol, &c.signer, bob_leaf)?;
    seen.push(receive(&alice, &proposal)?);
    seen.push(receive(&bob, &proposal)?);
    look(&mut seen)?;
    let (commit, _, _) = load(&alice)?.commit_to_pending_proposals(&alice, &a.signer)?;
    load(&alice)?.merge_pending_commit(&alice)?;
    seen.push(receive(&bob, &commit)?);
    seen.push(receive(&carol, &commit)?);
    look(&mut seen)?;
    seen.push(receive(&carol, &send(&alice, &a, "without bob")?)?);

    // A commit that is thrown away, and a group that is.
    let _ = load(&carol)?.self_update(&carol, &c.signer, LeafNodeParameters::default())?;
    load(&carol)?.clear_pending_commit(carol.storage())?;
    seen.push(receive(&carol, &update(&alice, &a)?)?);
    load(&bob)?.delete(bob.storage())?;
    seen.push(format!("{:?}", MlsGroup::load(bob.storage(), &group_id())?.is_none()));
    let same = load(&alice)?.epoch_authenticator().as_slice()
        == load(&carol)?.epoch_authenticator().as_slice();
    seen.push(format!("same epoch {same}"));
    Ok(seen)
}

#[test]
fn a_group_lives_as_over_the_in_memory_storage() -> Outcome {
    let expected = life_of_a_group([(); 3].map(|()| MemoryStorage::default()))?;
    assert!(expected.contains(&"hello 2".to_owned()));
    assert_eq!(expected.last().map(String::as_str), Some("same epoch true"));
    let (_dir, store) = fresh()?;
    let seen = store.write(|tx| {
        let namespaces = [tx.new_namespace()?, tx.new_namespace()?, tx.new_namespace()?];
        let seen = life_of_a_group(namespaces.map(|ns| MlsStorage::new(tx, ns)))?;
        // OpenMLS itself forgets the key pairs of a member that was removed.
        tx.delete_namespace(namespaces[1])?;
        let left: i64 = tx
            .statement("SELECT count(*) FROM mls_row WHERE namespace = ?1")?
            .query_row([namespaces[1].id()], |row| row.get(0))?;
        assert_eq!(left, 0);
        Outcome::Ok(seen)
    })?;
    assert_eq!(seen, expected);
    Ok(())
}
