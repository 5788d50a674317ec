//! mls-rs as this client sets it up: who is who, what a commit may change, which key packages stay.

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use matrix_mls_kit::{OrMissing as _, Result, bail, eyre};
use mls_rs::{
    CipherSuite, CipherSuiteProvider as _, Client, CryptoProvider as _, Extension, ExtensionList,
    Group, IdentityProvider, KeyPackageStorage, MlsMessage, MlsRules,
    client_builder::{
        BaseConfig, WithCryptoProvider, WithIdentityProvider, WithKeyPackageRepo, WithMlsRules,
    },
    crypto::SignatureSecretKey,
    group::{ExportedTree, GroupContext, Roster, proposal::Proposal},
    identity::{CredentialType, SigningIdentity, basic::BasicCredential},
    mls_rs_codec::MlsEncode as _,
    mls_rules::{CommitDirection, CommitOptions, CommitSource, EncryptionOptions, ProposalBundle},
    time::MlsTime,
};

use crate::{
    crypto::Crypto,
    head::{Device, EpochId},
    opening::sha256,
    wire::{Reader, vector},
};

type Config = WithMlsRules<
    Rules,
    WithKeyPackageRepo<
        Packages,
        WithIdentityProvider<Identities, WithCryptoProvider<Crypto, BaseConfig>>,
    >,
>;
/// A client of mls-rs.
pub type MlsClient = Client<Config>;
/// A group at one epoch.
pub type MlsGroup = Group<Config>;

/// Trees of more leaves go to the media repository.
const LEAVES_INLINE: usize = 80;
/// Two years (D11).
const LIFETIME: Duration = Duration::from_secs(2 * 365 * 86_400);
/// The extension of a last-resort package (D10).
const LAST_RESORT: u16 = 0x000A;

/// DeviceIdentity.
pub fn identity(device: &Device) -> Vec<u8> {
    let mut bytes = Vec::new();
    vector(&mut bytes, device.0.as_bytes());
    vector(&mut bytes, device.1.as_bytes());
    bytes
}

/// The reverse (D1).
pub fn device_of(identity: &[u8]) -> Result<Device> {
    let mut reader = Reader(identity);
    let user = String::from_utf8(reader.vector()?.to_vec())?;
    let device = String::from_utf8(reader.vector()?.to_vec())?;
    reader.end()?;
    if !user.starts_with('@') || !user.contains(':') || device.is_empty() {
        bail!("{user} and {device} are no Matrix ids");
    }
    Ok((user, device))
}

/// The device that a leaf names.
pub fn device_in(identity: &SigningIdentity) -> Result<Device> {
    device_of(&identity.credential.as_basic().or_missing("BasicCredential")?.identifier)
}

/// A leaf is who it says, with the key it has: one device can be in a tree under two keys (D5).
#[derive(Clone, Default)]
pub struct Identities {
    /// A liar's: whoever joins by itself may take anybody's place.
    lies: Arc<AtomicBool>,
}

/// What the traits of mls-rs want as an error.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Refusal(String);

impl mls_rs::error::IntoAnyError for Refusal {
    fn into_dyn_error(self) -> Result<Box<dyn std::error::Error + Send + Sync>, Self> {
        Ok(self.into())
    }
}

impl IdentityProvider for Identities {
    type Error = Refusal;

    fn validate_member(
        &self,
        identity: &SigningIdentity,
        _: Option<MlsTime>,
        _: mls_rs_core::identity::MemberValidationContext<'_>,
    ) -> Result<(), Refusal> {
        device_in(identity).map(drop).map_err(|error| Refusal(error.to_string()))
    }

    fn validate_external_sender(
        &self,
        _: &SigningIdentity,
        _: Option<MlsTime>,
        _: Option<&ExtensionList>,
    ) -> Result<(), Refusal> {
        Err(Refusal("no external senders".into()))
    }

    fn identity(&self, identity: &SigningIdentity, _: &ExtensionList) -> Result<Vec<u8>, Refusal> {
        identity.mls_encode_to_vec().map_err(|error| Refusal(error.to_string()))
    }

    fn valid_successor(
        &self,
        before: &SigningIdentity,
        after: &SigningIdentity,
        _: &ExtensionList,
    ) -> Result<bool, Refusal> {
        Ok(before.credential == after.credential || self.lies.load(Relaxed))
    }

    fn supported_types(&self) -> Vec<CredentialType> {
        vec![CredentialType::BASIC]
    }
}

/// Commits change members and keys and nothing else (R3).
#[derive(Clone)]
pub struct Rules;

impl MlsRules for Rules {
    type Error = Refusal;

    fn filter_proposals(
        &self,
        _: CommitDirection,
        _: CommitSource,
        _: &Roster,
        _: &GroupContext,
        proposals: ProposalBundle,
    ) -> Result<ProposalBundle, Refusal> {
        for proposal in proposals.clone().into_proposals() {
            let fits = matches!(
                proposal.proposal,
                Proposal::Add(_) | Proposal::Remove(_) | Proposal::ExternalInit(_)
            );
            if !fits || proposal.is_by_reference() {
                return Err(Refusal("a proposal that is no Add, Remove or ExternalInit".into()));
            }
        }
        Ok(proposals)
    }

    fn commit_options(
        &self,
        roster: &Roster,
        _: &GroupContext,
        _: &ProposalBundle,
    ) -> Result<CommitOptions, Refusal> {
        Ok(CommitOptions::new()
            .with_allow_external_commit(true)
            .with_single_welcome_message(false)
            .with_ratchet_tree_extension(roster.members_iter().count() <= LEAVES_INLINE))
    }

    fn encryption_options(
        &self,
        _: &Roster,
        _: &GroupContext,
    ) -> Result<EncryptionOptions, Refusal> {
        Ok(EncryptionOptions::new(true, Default::default()))
    }
}

/// Private keys of key packages. Those of a last-resort package outlive a join (D10, D13).
#[derive(Clone, Default)]
pub struct Packages(Arc<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    packages: BTreeMap<Vec<u8>, mls_rs::storage_provider::KeyPackageData>,
    last_resort: BTreeSet<Vec<u8>>,
}

impl Packages {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many private keys there are.
    pub fn len(&self) -> usize {
        self.kept().packages.len()
    }
}

impl KeyPackageStorage for Packages {
    type Error = Infallible;

    fn delete(&mut self, id: &[u8]) -> Result<(), Infallible> {
        let mut kept = self.kept();
        if !kept.last_resort.contains(id) {
            kept.packages.remove(id);
        }
        Ok(())
    }

    fn insert(
        &mut self,
        id: Vec<u8>,
        package: mls_rs::storage_provider::KeyPackageData,
    ) -> Result<(), Infallible> {
        self.kept().packages.insert(id, package);
        Ok(())
    }

    fn get(
        &self,
        id: &[u8],
    ) -> Result<Option<mls_rs::storage_provider::KeyPackageData>, Infallible> {
        Ok(self.kept().packages.get(id).cloned())
    }
}

/// A device's MLS: its keys and what it makes groups with.
pub struct Mls {
    /// mls-rs.
    pub client: MlsClient,
    /// What takes notes of epochs' secrets.
    pub crypto: Crypto,
    /// The private keys of key packages.
    pub packages: Packages,
    /// The MLS key.
    pub key: Vec<u8>,
    secret: SignatureSecretKey,
    identities: Identities,
}

impl Mls {
    /// A new device.
    pub fn new(device: &Device) -> Result<Self> {
        let crypto = Crypto::default();
        let suite = crypto.cipher_suite_provider(CipherSuite::CURVE25519_AES128);
        let (secret, public) = suite.or_missing("suite 1")?.signature_key_generate()?;
        let credential = BasicCredential::new(identity(device)).into_credential();
        let key = public.to_vec();
        let packages = Packages::default();
        let identities = Identities::default();
        let client = Client::builder()
            .crypto_provider(crypto.clone())
            .identity_provider(identities.clone())
            .key_package_repo(packages.clone())
            .mls_rules(Rules)
            .key_package_lifetime(LIFETIME)
            .extension_type(LAST_RESORT.into())
            .signing_identity(
                SigningIdentity::new(credential, public),
                secret.clone(),
                CipherSuite::CURVE25519_AES128,
            )
            .build();
        Ok(Self { client, crypto, packages, key, secret, identities })
    }

    /// From now on this device takes anybody's place where it joins by itself.
    pub fn lie(&self) {
        self.identities.lies.store(true, Relaxed);
    }

    /// Signs with the MLS key.
    pub fn sign(&self, bytes: &[u8]) -> Result<Vec<u8>> {
        let suite = self.crypto.cipher_suite_provider(CipherSuite::CURVE25519_AES128);
        Ok(suite.or_missing("suite 1")?.sign(&self.secret, bytes)?)
    }

    /// A key package: its KeyPackageRef and its bytes, which are no MLSMessage.
    pub fn key_package(&self, last_resort: bool) -> Result<(Vec<u8>, Vec<u8>)> {
        let mut extensions = ExtensionList::new();
        if last_resort {
            extensions.set(Extension::new(LAST_RESORT.into(), Vec::new()));
        }
        let made =
            self.client.generate_key_package_message(extensions, ExtensionList::new(), None)?;
        let suite = self.crypto.cipher_suite_provider(CipherSuite::CURVE25519_AES128);
        let reference = made.key_package_reference(&suite.or_missing("suite 1")?)?;
        let reference = reference.or_missing("KeyPackageRef")?.to_vec();
        if last_resort {
            self.packages.kept().last_resort.insert(reference.clone());
        }
        let package = made.into_key_package().or_missing("key package")?;
        Ok((reference, package.mls_encode_to_vec()?))
    }
}

/// A key package that came bare, as the message that mls-rs takes.
pub fn package_message(bytes: &[u8]) -> Result<MlsMessage> {
    let message = [&[0, 1, 0, 5], bytes].concat();
    MlsMessage::from_bytes(&message).map_err(|error| eyre!("no key package: {error:?}"))
}

/// The lifetime and the device's binding in a key package (RFC 9420 §7.2 and §10).
pub struct PackageFacts {
    /// `not_before` and `not_after`.
    pub lifetime: (u64, u64),
    /// The content of the extension 0xFB43.
    pub binding: Option<Vec<u8>>,
}

impl PackageFacts {
    /// Reads a bare KeyPackage.
    pub fn read(bytes: &[u8]) -> Result<Self> {
        let mut reader = Reader(bytes);
        reader.take(4)?;
        for _ in 0..3 {
            reader.vector()?;
        }
        reader.take(2)?;
        // The identity, and the five lists of the capabilities.
        for _ in 0..6 {
            reader.vector()?;
        }
        if reader.number(1)? != 1 {
            bail!("the leaf is not one of a key package");
        }
        let lifetime = (reader.number(8)?, reader.number(8)?);
        let mut extensions = Reader(reader.vector()?);
        let mut binding = None;
        while !extensions.0.is_empty() {
            let kind = extensions.number(2)?;
            let content = extensions.vector()?;
            if kind == u64::from(crate::names::BINDING) {
                binding = Some(content.to_vec());
            }
        }
        Ok(Self { lifetime, binding })
    }
}

/// The id of the epoch with this context.
pub fn epoch_id(context: &GroupContext) -> Result<EpochId> {
    let bytes = sha256(&context.mls_encode_to_vec()?);
    bytes.try_into().ok().or_missing("SHA-256")
}

/// The members' leaves of a tree: the leaf's index, its device and its key.
pub fn members(tree: &ExportedTree) -> Vec<(u32, Option<Device>, Vec<u8>)> {
    let members = tree.roster().members();
    let read = members.into_iter().map(|member| {
        let key = member.signing_identity.signature_key.to_vec();
        (member.index, device_in(&member.signing_identity).ok(), key)
    });
    read.collect()
}
