//! What is founded is understood by unmodified OpenMLS, whatever its size.

use std::{
    error::Error,
    sync::atomic::{AtomicUsize, Ordering},
};

use openmls::prelude::{
    BasicCredential, CredentialWithKey, LeafNodeParameters, MlsGroup, MlsGroupJoinConfig,
    MlsMessageBodyIn, MlsMessageIn, ProcessedMessageContent, StagedWelcome,
    tls_codec::Deserialize as _,
};
use openmls_basic_credential::SignatureKeyPair;
use openmls_rust_crypto::OpenMlsRustCrypto;

use super::*;

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// A device of plain OpenMLS.
struct Peer {
    provider: OpenMlsRustCrypto,
    signer: SignatureKeyPair,
    group: Option<MlsGroup>,
}

impl Peer {
    fn new() -> Outcome<Self> {
        let signer = SignatureKeyPair::new(SUITE.signature_algorithm())?;
        Ok(Self { provider: OpenMlsRustCrypto::default(), signer, group: None })
    }

    fn key_package(&self, name: &str) -> Outcome<KeyPackage> {
        let credential = CredentialWithKey {
            credential: BasicCredential::new(name.as_bytes().to_vec()).into(),
            signature_key: self.signer.public().into(),
        };
        let package = KeyPackage::builder();
        let package = package.build(SUITE, &self.provider, &self.signer, credential)?;
        Ok(package.key_package().clone())
    }

    fn join(&mut self, welcome: &[u8]) -> Outcome<&MlsGroup> {
        let MlsMessageBodyIn::Welcome(welcome) =
            MlsMessageIn::tls_deserialize_exact(welcome)?.extract()
        else {
            return Err("no Welcome".into());
        };
        let config = MlsGroupJoinConfig::builder().use_ratchet_tree_extension(true).build();
        let provider = &self.provider;
        let staged = StagedWelcome::new_from_welcome(provider, &config, welcome, None)?;
        Ok(self.group.insert(staged.into_group(provider)?))
    }

    /// A commit with a path.
    fn update(&mut self) -> Outcome<Vec<u8>> {
        let group = self.group.as_mut().ok_or("group")?;
        let leaf = LeafNodeParameters::default();
        Ok(group.self_update(&self.provider, &self.signer, leaf)?.into_commit().to_bytes()?)
    }

    fn follow(&mut self, commit: &[u8]) -> Outcome<u64> {
        let group = self.group.as_mut().ok_or("group")?;
        let message = MlsMessageIn::tls_deserialize_exact(commit)?.try_into_protocol_message()?;
        let processed = group.process_message(&self.provider, message)?;
        let ProcessedMessageContent::StagedCommitMessage(commit) = processed.into_content() else {
            return Err("no commit".into());
        };
        group.merge_staged_commit(&self.provider, *commit)?;
        Ok(group.epoch().as_u64())
    }
}

/// A founder, those who are to be in the group, and their key packages, the founder's first.
fn people(number: usize) -> Outcome<(Vec<Peer>, Vec<KeyPackage>)> {
    let peers = (0..number).map(|_| Peer::new()).collect::<Outcome<Vec<_>>>()?;
    let packages = peers.iter().enumerate();
    let packages = packages.map(|(place, peer)| peer.key_package(&format!("device {place}")));
    let packages = packages.collect::<Outcome<_>>()?;
    Ok((peers, packages))
}

fn found(
    peers: &[Peer],
    packages: &[KeyPackage],
    stop: &(dyn Fn() -> bool + Sync),
) -> Outcome<Option<Founded>> {
    let (crypto, group_id) = (Crypto::default(), GroupId::from_slice(b"!room:example.org"));
    let (founder, own) = (peers.first().ok_or("founder")?, packages.first().ok_or("package")?);
    let others = packages.get(1..).unwrap_or_default();
    let founding = Founding {
        crypto: &crypto,
        signer: &founder.signer,
        group_id: &group_id,
        own,
        others,
        is_inline: &|_| true,
        stop,
    };
    Ok(founding.found()?)
}

#[test]
fn whatever_its_size_every_member_joins_and_all_share_the_epoch() -> Outcome {
    for number in [2, 3, 4, 5, 7, 8, 9, 16, 33, 70] {
        let (mut peers, packages) = people(number)?;
        let founded = found(&peers, &packages, &|| false)?.ok_or("group")?;
        assert_eq!(founded.references.len(), number - 1);
        let (founder, others) = peers.split_first_mut().ok_or("founder")?;
        let group = founder.join(&founded.own_welcome)?;
        let epoch = group.epoch_authenticator().as_slice().to_vec();
        for (place, other) in others.iter_mut().enumerate() {
            let group = other.join(&founded.welcome)?;
            assert_eq!(group.epoch_authenticator().as_slice(), epoch, "{place} of {number}");
            assert_eq!((group.epoch().as_u64(), group.members().count()), (1, number));
            assert_eq!(group.own_leaf_index().usize(), place + 1);
            assert_eq!(group.extensions().iter().count(), 0);
        }
        // The next commit is as any: with a path, by the last, taken in by all.
        let commit = others.last_mut().ok_or("member")?.update()?;
        assert_eq!(founder.follow(&commit)?, 2, "of {number}");
    }
    Ok(())
}

#[test]
fn two_groups_of_the_same_people_share_nothing() -> Outcome {
    let (peers, packages) = people(3)?;
    let one = found(&peers, &packages, &|| false)?.ok_or("group")?;
    let other = found(&peers, &packages, &|| false)?.ok_or("group")?;
    assert_eq!(one.tree, other.tree);
    assert_ne!(one.own_welcome, other.own_welcome);
    Ok(())
}

#[test]
fn it_can_be_stopped_between_any_two_steps() -> Outcome {
    let (peers, packages) = people(5)?;
    let asked = AtomicUsize::new(0);
    let ask_up_to = |most: usize| {
        asked.store(0, Ordering::SeqCst);
        found(&peers, &packages, &|| asked.fetch_add(1, Ordering::SeqCst) >= most)
    };
    assert!(ask_up_to(usize::MAX)?.is_some());
    let steps = asked.load(Ordering::SeqCst);
    assert!(steps >= packages.len());
    for most in 0..steps {
        assert!(ask_up_to(most)?.is_none(), "stopped after {most}");
    }
    Ok(())
}
