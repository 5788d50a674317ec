//! The hostile member's client: plain OpenMLS, with a copy of its state for each epoch that it has
//! been in. So it can go on from any of them, as the library's devices can.

use std::collections::HashMap;

use eyre::{bail, eyre};
use openmls::prelude::*;
use openmls_rust_crypto::OpenMlsRustCrypto;
use tls_codec::{Deserialize as _, Serialize as _};

use crate::{
    OrMissing as _, Result,
    peer::{KEY_PACKAGE, Peer, SUITE, base64, identity},
};

/// All that OpenMLS has stored.
pub(super) type Values = HashMap<Vec<u8>, Vec<u8>>;

/// For how long key packages are good, in seconds, from 1970 on: the machines' clock is behind.
const KEYS_UNTIL_S: u64 = 2 * 365 * 86_400;

/// An epoch that the liar has been in.
#[derive(Clone)]
pub(super) struct Place {
    /// The event of the commit that made it.
    pub(super) event: String,
    /// `[user_id, device_id]` of who made it.
    pub(super) creator: serde_json::Value,
    pub(super) number: u64,
    pub(super) group_id: Vec<u8>,
    values: Values,
}

/// A device of plain OpenMLS that can be copied.
pub(in crate::sim) struct Client {
    pub(in crate::sim) peer: Peer,
}

/// The message in some bytes.
fn message(bytes: &[u8]) -> Result<MlsMessageIn> {
    Ok(MlsMessageIn::tls_deserialize_exact(bytes)?)
}

impl Client {
    pub(in crate::sim) fn new(user: &str, device: &str) -> Self {
        Self { peer: Peer::new(user, device) }
    }

    /// The same device, whose state goes its own way from now on.
    pub(super) fn copy(&self) -> Result<Self> {
        let signer = serde_json::from_value(serde_json::to_value(&self.peer.signer)?)?;
        let mut copy = Self::new(&self.peer.user, &self.peer.device);
        copy.peer.signer = signer;
        copy.restore(&self.values()?)?;
        Ok(copy)
    }

    /// What it has stored now.
    pub(super) fn values(&self) -> Result<Values> {
        let values = self.peer.provider.storage().values.read();
        Ok(values.map_err(|error| eyre!("{error}"))?.clone())
    }

    /// It has stored this, and is in no group.
    pub(super) fn restore(&mut self, values: &Values) -> Result {
        let provider = OpenMlsRustCrypto::default();
        *provider.storage().values.write().map_err(|error| eyre!("{error}"))? = values.clone();
        self.peer.provider = provider;
        self.peer.group = None;
        Ok(())
    }

    /// It is in an epoch again.
    pub(super) fn stand(&mut self, place: &Place) -> Result {
        self.restore(&place.values)?;
        let id = GroupId::from_slice(&place.group_id);
        self.peer.group = MlsGroup::load(self.peer.provider.storage(), &id)?;
        self.group().map(drop)
    }

    /// Where it is now, as the epoch of this event.
    pub(super) fn place(&mut self, event: &str, creator: serde_json::Value) -> Result<Place> {
        let group = self.group()?;
        let (number, group_id) = (group.epoch().as_u64(), group.group_id().as_slice().to_vec());
        let values = self.values()?;
        Ok(Place { event: event.to_owned(), creator, number, group_id, values })
    }

    pub(super) fn group(&mut self) -> Result<&mut MlsGroup> {
        self.peer.group.as_mut().or_missing("group that the liar is in")
    }

    /// The members of its group, as identities.
    pub(super) fn members(&mut self) -> Result<Vec<(LeafNodeIndex, Vec<u8>)>> {
        let members = self.group()?.members();
        let name = |member: &Member| member.credential.serialized_content().to_vec();
        Ok(members.map(|member| (member.index, name(&member))).collect())
    }

    fn in_group<T>(
        &mut self,
        steps: impl FnOnce(&mut MlsGroup, &OpenMlsRustCrypto, &Peer) -> Result<T>,
    ) -> Result<T> {
        let mut group = self.peer.group.take().or_missing("group that the liar is in")?;
        let done = steps(&mut group, &self.peer.provider, &self.peer);
        self.peer.group = Some(group);
        done
    }

    /// Renews its keys; the commit.
    pub(super) fn renew(&mut self) -> Result<Vec<u8>> {
        self.in_group(|group, provider, peer| {
            let parameters = LeafNodeParameters::default();
            let commit = group.self_update(provider, &peer.signer, parameters)?.into_commit();
            group.merge_pending_commit(provider)?;
            Ok(commit.to_bytes()?)
        })
    }

    /// Removes leaves; the commit.
    pub(super) fn remove(&mut self, leaves: &[LeafNodeIndex]) -> Result<Vec<u8>> {
        self.in_group(|group, provider, peer| {
            let (commit, ..) = group.remove_members(provider, &peer.signer, leaves)?;
            group.merge_pending_commit(provider)?;
            Ok(commit.to_bytes()?)
        })
    }

    /// Adds a device; the commit and the Welcome.
    pub(super) fn add(&mut self, package: KeyPackage) -> Result<(Vec<u8>, Vec<u8>)> {
        self.in_group(|group, provider, peer| {
            let (commit, welcome, _) =
                group.add_members_without_update(provider, &peer.signer, &[package])?;
            group.merge_pending_commit(provider)?;
            Ok((commit.to_bytes()?, welcome.to_bytes()?))
        })
    }

    /// The GroupInfo of its epoch, with the tree.
    pub(super) fn state(&mut self) -> Result<Vec<u8>> {
        self.in_group(|group, provider, peer| {
            Ok(group.export_group_info(provider.crypto(), &peer.signer, true)?.to_bytes()?)
        })
    }

    /// Seals a message.
    pub(super) fn seal(&mut self, plaintext: &[u8]) -> Result<Vec<u8>> {
        self.in_group(|group, provider, peer| {
            Ok(group.create_message(provider, &peer.signer, plaintext)?.to_bytes()?)
        })
    }

    /// Takes in what others have sent; the plaintext, if it is a message.
    pub(super) fn process(&mut self, bytes: &[u8]) -> Result<Option<Vec<u8>>> {
        self.in_group(|group, provider, _| {
            let message = message(bytes)?.try_into_protocol_message()?;
            match group.process_message(provider, message)?.into_content() {
                ProcessedMessageContent::ApplicationMessage(message) => {
                    Ok(Some(message.into_bytes()))
                }
                ProcessedMessageContent::StagedCommitMessage(commit) => {
                    group.merge_staged_commit(provider, *commit)?;
                    Ok(None)
                }
                _ => bail!("neither a message nor a commit"),
            }
        })
    }

    /// Joins by a Welcome.
    pub(super) fn join(&mut self, welcome: &[u8]) -> Result {
        let config = MlsGroupJoinConfig::builder()
            .wire_format_policy(MIXED_CIPHERTEXT_WIRE_FORMAT_POLICY)
            .use_ratchet_tree_extension(true)
            .build();
        let MlsMessageBodyIn::Welcome(welcome) = message(welcome)?.extract() else {
            bail!("this is no Welcome")
        };
        let provider = &self.peer.provider;
        let staged = StagedWelcome::new_from_welcome(provider, &config, welcome, None)?;
        self.peer.group = Some(staged.into_group(provider)?);
        Ok(())
    }

    /// A key package that is good on the machines' clock and on the real one: its key id and value.
    pub(in crate::sim) fn key_package(&self) -> Result<(KeyPackage, String, String)> {
        let peer = &self.peer;
        let until = std::time::UNIX_EPOCH.elapsed()?.as_secs() + KEYS_UNTIL_S;
        let credential = CredentialWithKey {
            credential: BasicCredential::new(identity(&peer.user, &peer.device)).into(),
            signature_key: peer.signer.public().into(),
        };
        let package = KeyPackage::builder()
            .key_package_lifetime(Lifetime::init(0, until))
            .build(SUITE, &peer.provider, &peer.signer, credential)?
            .key_package()
            .clone();
        let reference = package.hash_ref(peer.provider.crypto())?;
        let id = format!("{KEY_PACKAGE}:{}", base64(reference.as_slice()));
        let value = base64(&package.tls_serialize_detached()?);
        Ok((package, id, value))
    }

    /// Another device's key package, as a server hands it out.
    pub(super) fn read_package(&self, bytes: &[u8]) -> Result<KeyPackage> {
        let package = KeyPackageIn::tls_deserialize_exact_bytes(bytes)?;
        Ok(package.validate(self.peer.provider.crypto(), ProtocolVersion::Mls10)?)
    }
}
