//! A peer made of plain OpenMLS: a device that shares no code with the library under test.
//!
//! It keeps its state in memory and speaks the wire format by hand, so that tests and benches can
//! see whether the library is understood by others, and can be given rooms that no homeserver would
//! carry (ten thousand devices in one Welcome). What a test asks of it works, or ends the test with
//! the sentence of what did not; only what a test may expect to fail gives an error.

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use eyre::{WrapErr as _, bail, eyre};
use openmls::prelude::*;
use openmls_basic_credential::SignatureKeyPair;
use openmls_rust_crypto::OpenMlsRustCrypto;
use openmls_traits::signatures::Signer as _;
use ruma::CanonicalJsonObject;
use serde_json::{Value, json};
use tls_codec::{Deserialize as _, Serialize as _, VLBytes};

use crate::{OrMissing as _, Result, faulty::FaultyProvider, result::sure};

/// The ciphersuite and its name in Matrix.
pub const SUITE: Ciphersuite = Ciphersuite::MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519;
/// The room algorithm of that suite.
pub const ALGORITHM: &str = "org.matrix.msc2883.v1.dmls.dhkemx25519-aes128gcm-sha256-ed25519";
/// The Welcome algorithm of that suite.
pub const WELCOME_ALGORITHM: &str =
    "org.matrix.msc2883.v1.dmls.welcome.dhkemx25519-aes128gcm-sha256-ed25519";
/// What a key package's key id starts with.
pub const KEY_PACKAGE: &str =
    "org.matrix.msc2883.v1.dmls.key_package.dhkemx25519-aes128gcm-sha256-ed25519";

/// Unpadded base64, as on the wire.
pub fn base64(bytes: &[u8]) -> String {
    STANDARD_NO_PAD.encode(bytes)
}

/// The reverse.
pub fn from_base64(text: &str) -> Vec<u8> {
    surely("reading base64", || Ok(STANDARD_NO_PAD.decode(text)?))
}

/// The credential identity of a device: TLS `{opaque user_id<V>; opaque device_id<V>}`.
pub fn identity(user: &str, device: &str) -> Vec<u8> {
    surely("writing an identity", || {
        let mut bytes = Vec::new();
        for part in [user, device] {
            VLBytes::new(part.as_bytes().to_vec()).tls_serialize(&mut bytes)?;
        }
        Ok(bytes)
    })
}

/// Signs `device_keys` with one key under both key ids, as a device without Olm does.
pub fn device_keys(user: &str, device: &str, signer: &SignatureKeyPair) -> Value {
    let key = base64(signer.public());
    let device_key = format!("ed25519:{device}");
    let credential_key = format!("org.matrix.msc2883.v1.dmls.credential.ed25519:{device}");
    let mut keys = json!({
        "user_id": user,
        "device_id": device,
        "algorithms": [ALGORITHM],
        "keys": { &device_key: key, &credential_key: key },
    });
    let signature = surely("signing device keys", || {
        let canonical: CanonicalJsonObject = serde_json::from_value(keys.clone())?;
        let signature = signer.sign(serde_json::to_string(&canonical)?.as_bytes());
        Ok(base64(&signature.map_err(|error| eyre!("{error:?}"))?))
    });
    keys["signatures"] = json!({ user: { &device_key: signature, &credential_key: signature } });
    keys
}

/// A new signature key.
pub fn new_signer() -> SignatureKeyPair {
    surely("making a key pair", || Ok(SignatureKeyPair::new(SUITE.signature_algorithm())?))
}

/// The outcome of steps for which there is no error to give.
#[track_caller]
fn surely<T>(what: &str, steps: impl FnOnce() -> Result<T>) -> T {
    sure(steps().wrap_err_with(|| format!("plain OpenMLS: {what}")))
}

/// An MLSMessage as it crosses the wire.
fn message(bytes: &[u8]) -> Result<MlsMessageIn> {
    Ok(MlsMessageIn::tls_deserialize_exact(bytes)?)
}

/// What a signature takes in a key package: its length in two bytes, and 64 bytes.
const SIGNATURE: usize = 66;

/// The version at the end of a storage key, and what stands before it.
fn split_version(key: &[u8]) -> Option<(&[u8], &[u8])> {
    key.split_last_chunk::<2>().map(|(name, version)| (version.as_slice(), name))
}

/// Keys that are put into a key package; those that are none stay as they are.
#[derive(Default)]
pub struct ForgedKeys {
    /// The key package's init key.
    pub init_key: Option<Vec<u8>>,
    /// The leaf's encryption key.
    pub encryption_key: Option<Vec<u8>>,
}

/// The type of the leaf extension that binds a credential to a device.
pub const BINDING: u16 = 0xFB43;

/// What stands in a peer's leaves as its binding.
#[derive(Clone)]
pub struct PeerBinding {
    /// The extension's content.
    pub bytes: Vec<u8>,
    /// Whether the leaf's capabilities list the extension. OpenMLS makes no key package and no
    /// group that does not.
    pub is_listed: bool,
}

/// A device of plain OpenMLS, in at most one group.
pub struct Peer {
    /// Its user id.
    pub user: String,
    /// Its device id.
    pub device: String,
    /// Its crypto and state.
    pub provider: OpenMlsRustCrypto,
    /// Its signature key.
    pub signer: SignatureKeyPair,
    /// What its leaves hold as its binding, if anything.
    pub binding: Option<PeerBinding>,
    /// Its group, once it has one.
    pub group: Option<MlsGroup>,
}

impl Peer {
    /// A new device.
    pub fn new(user: &str, device: &str) -> Self {
        Self {
            user: user.to_owned(),
            device: device.to_owned(),
            provider: OpenMlsRustCrypto::default(),
            signer: new_signer(),
            binding: None,
            group: None,
        }
    }

    fn credential(&self) -> CredentialWithKey {
        CredentialWithKey {
            credential: BasicCredential::new(identity(&self.user, &self.device)).into(),
            signature_key: self.signer.public().into(),
        }
    }

    /// What it publishes.
    pub fn device_keys(&self) -> Value {
        device_keys(&self.user, &self.device, &self.signer)
    }

    /// What its leaves say beside its keys.
    fn leaf(&self) -> (Capabilities, Extensions<LeafNode>) {
        let Some(PeerBinding { bytes, is_listed }) = &self.binding else {
            return (Capabilities::default(), Extensions::empty());
        };
        let listed = if *is_listed { vec![ExtensionType::Unknown(BINDING)] } else { Vec::new() };
        let extension = Extension::Unknown(BINDING, UnknownExtension(bytes.clone()));
        let extensions = surely("making a leaf", || Ok(Extensions::single(extension)?));
        (Capabilities::builder().extensions(listed).build(), extensions)
    }

    /// A fresh key package.
    pub fn key_package(&self) -> KeyPackage {
        surely("making a key package", || {
            let (capabilities, extensions) = self.leaf();
            let package = KeyPackage::builder()
                .leaf_node_capabilities(capabilities)
                .leaf_node_extensions(extensions);
            let bundle = package.build(SUITE, &self.provider, &self.signer, self.credential())?;
            Ok(bundle.key_package().clone())
        })
    }

    /// A fresh key package as `/keys/upload` and `/keys/claim` have it: key id and value.
    pub fn published_key_package(&self) -> (String, String) {
        let package = self.key_package();
        surely("writing a key package", || {
            let reference = package.hash_ref(self.provider.crypto())?;
            let bytes = package.tls_serialize_detached()?;
            Ok((format!("{KEY_PACKAGE}:{}", base64(reference.as_slice())), base64(&bytes)))
        })
    }

    /// A fresh key package with other keys in it, signed as if all were well. It is published as
    /// [`published_key_package`](Self::published_key_package) gives it.
    pub fn forged_key_package(&self, keys: &ForgedKeys) -> (String, String) {
        surely("forging a key package", || {
            let mut bytes = self.key_package().tls_serialize_detached()?;
            // Version and suite, the init key and the leaf's encryption key of 32 bytes each.
            for (at, key) in [(5, &keys.init_key), (38, &keys.encryption_key)] {
                if let Some(key) = key {
                    bytes[at..at + 32].copy_from_slice(key);
                }
            }
            // Last come the leaf's signature, no extensions, and the signature of it all.
            let end = bytes.len() - SIGNATURE;
            let leaf_end = end - 1 - SIGNATURE;
            self.sign_in_place(&mut bytes, "LeafNodeTBS", 37, leaf_end)?;
            self.sign_in_place(&mut bytes, "KeyPackageTBS", 0, end)?;
            let package = KeyPackageIn::tls_deserialize_exact(&bytes)?;
            let package = package.validate(self.provider.crypto(), ProtocolVersion::Mls10)?;
            let reference = package.hash_ref(self.provider.crypto())?;
            Ok((format!("{KEY_PACKAGE}:{}", base64(reference.as_slice())), base64(&bytes)))
        })
    }

    /// Signs what stands between two places, and puts the signature behind it.
    fn sign_in_place(&self, bytes: &mut [u8], label: &str, from: usize, to: usize) -> Result {
        let mut signed = Vec::new();
        for part in [format!("MLS 1.0 {label}").as_bytes(), &bytes[from..to]] {
            VLBytes::new(part.to_vec()).tls_serialize(&mut signed)?;
        }
        let signature = self.signer.sign(&signed).map_err(|error| eyre!("{error:?}"))?;
        bytes[to + 2..to + SIGNATURE].copy_from_slice(&signature);
        Ok(())
    }

    /// The encryption key of a member's leaf.
    pub fn encryption_key_of(&mut self, user: &str, device: &str) -> Vec<u8> {
        let name = identity(user, device);
        let is_it = |member: &Member| member.credential.serialized_content() == name;
        sure(self.group().members().find(is_it).or_missing("member of that name")).encryption_key
    }

    /// Makes a group with itself in it.
    pub fn create(&mut self, room_id: &str, tree_in_welcome: bool) {
        let config = MlsGroupCreateConfig::builder()
            .ciphersuite(SUITE)
            .wire_format_policy(MIXED_CIPHERTEXT_WIRE_FORMAT_POLICY)
            .use_ratchet_tree_extension(tree_in_welcome)
            .max_past_epochs(0)
            .build();
        let group = surely("making a group", || {
            Ok(MlsGroup::new_with_group_id(
                &self.provider,
                &self.signer,
                &config,
                GroupId::from_slice(room_id.as_bytes()),
                self.credential(),
            )?)
        });
        self.group = Some(group);
    }

    /// The group it is in.
    pub fn group(&mut self) -> &mut MlsGroup {
        sure(self.group.as_mut().or_missing("group that the peer is in"))
    }

    /// Something that it does in its group.
    fn in_group<T>(
        &mut self,
        what: &str,
        steps: impl FnOnce(&mut MlsGroup, &OpenMlsRustCrypto, &SignatureKeyPair) -> Result<T>,
    ) -> T {
        surely(what, || {
            let group = self.group.as_mut().or_missing("group that the peer is in")?;
            steps(group, &self.provider, &self.signer)
        })
    }

    /// From now on its Welcomes hold the tree, or do not: a Welcome without is smaller and cheaper.
    pub fn put_tree_in_welcomes(&mut self, tree: bool) {
        let config = MlsGroupJoinConfig::builder()
            .wire_format_policy(MIXED_CIPHERTEXT_WIRE_FORMAT_POLICY)
            .use_ratchet_tree_extension(tree)
            .max_past_epochs(0)
            .build();
        self.in_group("setting up its group", |group, provider, _| {
            Ok(group.set_configuration(provider.storage(), &config)?)
        });
    }

    /// Adds devices in one commit without a path; gives the commit and the Welcome.
    pub fn add(&mut self, packages: &[KeyPackage]) -> (Vec<u8>, Vec<u8>) {
        self.in_group("adding devices", |group, provider, signer| {
            let (commit, welcome, _) =
                group.add_members_without_update(provider, signer, packages)?;
            group.merge_pending_commit(provider)?;
            Ok((commit.to_bytes()?, welcome.to_bytes()?))
        })
    }

    /// What others join by: the GroupInfo with the key for external commits, and the ratchet tree
    /// beside it.
    pub fn public_state(&mut self) -> (Vec<u8>, Vec<u8>) {
        self.in_group("writing its public state", |group, provider, signer| {
            let info = group.export_group_info(provider.crypto(), signer, false)?;
            Ok((info.to_bytes()?, group.export_ratchet_tree().tls_serialize_detached()?))
        })
    }

    /// What others join by, with the ratchet tree in it.
    pub fn group_info(&mut self) -> Vec<u8> {
        self.in_group("writing a GroupInfo", |group, provider, signer| {
            Ok(group.export_group_info(provider.crypto(), signer, true)?.to_bytes()?)
        })
    }

    /// What others join by, under an epoch number that its group does not have, signed as if it
    /// did.
    pub fn forged_group_info(&mut self, number: u64) -> Vec<u8> {
        let mut bytes = self.group_info();
        // An MLSMessage's four bytes; version, suite and the group's id, whose length is one byte;
        // then comes the number, and last the signature of all but the four bytes.
        let at = 9 + usize::from(bytes[8]);
        bytes[at..at + 8].copy_from_slice(&number.to_be_bytes());
        let end = bytes.len() - SIGNATURE;
        surely("forging a GroupInfo", || self.sign_in_place(&mut bytes, "GroupInfoTBS", 4, end));
        bytes
    }

    /// What others join by, with another key for external commits than the epoch's.
    pub fn group_info_with_external_key(&mut self, key: &[u8]) -> Vec<u8> {
        let mut bytes = self.group_info();
        let own =
            self.in_group("reading its key for external commits", |group, provider, signer| {
                let info = group.export_group_info(provider.crypto(), signer, false)?.to_bytes()?;
                let MlsMessageBodyIn::GroupInfo(info) = message(&info)?.extract() else {
                    bail!("this is no GroupInfo")
                };
                let extension = info.extensions().external_pub().or_missing("external_pub")?;
                Ok(extension.external_pub().as_slice().to_vec())
            });
        let at = bytes.windows(own.len()).position(|window| window == own);
        let at = sure(at.or_missing("key for external commits"));
        bytes[at..at + own.len()].copy_from_slice(key);
        let end = bytes.len() - SIGNATURE;
        surely("forging a GroupInfo", || self.sign_in_place(&mut bytes, "GroupInfoTBS", 4, end));
        bytes
    }

    /// Makes a group with itself in it whose epochs go on from this number: all but the number is
    /// as it should be.
    pub fn create_at(&mut self, room_id: &str, number: u64) {
        self.create(room_id, true);
        let id = GroupId::from_slice(room_id.as_bytes());
        let group = surely("making up an epoch number", || {
            let mut values =
                self.provider.storage().values.write().map_err(|error| eyre!("{error}"))?;
            let (mut contexts, mut keys) = (0, Vec::new());
            for (key, value) in values.iter_mut() {
                if key.starts_with(b"GroupContext") {
                    let mut context: Value = serde_json::from_slice(value)?;
                    context["epoch"] = json!(number);
                    *value = serde_json::to_vec(&context)?;
                    contexts += 1;
                }
                // The name ends with the epoch and the leaf, both 0, and two bytes for a version.
                if let (true, Some((version, name))) =
                    (key.starts_with(b"EpochKeyPairs"), split_version(key))
                {
                    let made_up = format!("{number}0");
                    let name = [&name[..name.len() - 2], made_up.as_bytes(), version];
                    keys.push((name.concat(), value.clone()));
                }
            }
            assert_eq!((contexts, keys.len()), (1, 1), "OpenMLS stores something else");
            values.extend(keys);
            drop(values);
            Ok(MlsGroup::load(self.provider.storage(), &id)?)
        });
        self.group = group;
    }

    /// Removes a device; gives the commit.
    pub fn remove(&mut self, user: &str, device: &str) -> Vec<u8> {
        let name = identity(user, device);
        self.in_group("removing a device", |group, provider, signer| {
            let is_it = |member: &Member| member.credential.serialized_content() == name;
            let member = group.members().find(is_it).or_missing("member of that name")?;
            let (commit, ..) = group.remove_members(provider, signer, &[member.index])?;
            group.merge_pending_commit(provider)?;
            Ok(commit.to_bytes()?)
        })
    }

    /// Renews its keys; gives the commit.
    pub fn update(&mut self) -> Vec<u8> {
        self.in_group("renewing its keys", |group, provider, signer| {
            let bundle = group.self_update(provider, signer, LeafNodeParameters::default())?;
            let commit = bundle.into_commit().to_bytes()?;
            group.merge_pending_commit(provider)?;
            Ok(commit)
        })
    }

    /// Renews its keys in a commit that these members cannot open, whose leaves have these
    /// encryption keys: all others can.
    pub fn update_closed_to(&mut self, victims: Vec<Vec<u8>>) -> Vec<u8> {
        self.in_group("making a commit that some cannot open", |group, provider, signer| {
            let faulty = FaultyProvider::new(provider, victims);
            let bundle = group.self_update(&faulty, signer, LeafNodeParameters::default())?;
            let commit = bundle.into_commit().to_bytes()?;
            group.merge_pending_commit(provider)?;
            Ok(commit)
        })
    }

    /// Joins by Welcome.
    pub fn join(&mut self, welcome: &[u8]) {
        let config = MlsGroupJoinConfig::builder()
            .wire_format_policy(MIXED_CIPHERTEXT_WIRE_FORMAT_POLICY)
            .use_ratchet_tree_extension(true)
            .build();
        let group = surely("joining by Welcome", || {
            let MlsMessageBodyIn::Welcome(welcome) = message(welcome)?.extract() else {
                bail!("this is no Welcome")
            };
            let provider = &self.provider;
            let staged = StagedWelcome::new_from_welcome(provider, &config, welcome, None)?;
            Ok(staged.into_group(provider)?)
        });
        self.group = Some(group);
    }

    /// Joins by an external commit from an MLSMessage with a GroupInfo that holds the tree. Gives
    /// the epoch it is in now, and the commit.
    pub fn try_join_externally(&mut self, group_info: &[u8]) -> Result<(u64, Vec<u8>)> {
        let MlsMessageBodyIn::GroupInfo(info) = message(group_info)?.extract() else {
            bail!("this is no GroupInfo")
        };
        let config = MlsGroupJoinConfig::builder()
            .wire_format_policy(MIXED_CIPHERTEXT_WIRE_FORMAT_POLICY)
            .max_past_epochs(0)
            .build();
        let (capabilities, extensions) = self.leaf();
        let leaf = LeafNodeParameters::builder()
            .with_capabilities(capabilities)
            .with_extensions(extensions)
            .build();
        let (group, bundle) = MlsGroup::external_commit_builder()
            .with_config(config)
            .build_group(&self.provider, info, self.credential())?
            .leaf_node_parameters(leaf)
            .load_psks(self.provider.storage())?
            .build(self.provider.rand(), self.provider.crypto(), &self.signer, |_| true)?
            .finalize(&self.provider)?;
        let epoch = group.epoch().as_u64();
        self.group = Some(group);
        Ok((epoch, bundle.into_commit().to_bytes()?))
    }

    /// Seals bytes as an application message.
    pub fn seal(&mut self, plaintext: &[u8]) -> Vec<u8> {
        self.in_group("sealing a message", |group, provider, signer| {
            Ok(group.create_message(provider, signer, plaintext)?.to_bytes()?)
        })
    }

    /// Takes in a message or a commit; gives the plaintext of the former.
    pub fn process(&mut self, bytes: &[u8]) -> Option<Vec<u8>> {
        self.in_group("taking in what was sent", |group, provider, _| {
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

    /// The plaintext of a Matrix message.
    pub fn plaintext(room_id: &str, body: &str) -> Vec<u8> {
        let content = json!({ "msgtype": "m.text", "body": body });
        json!({ "type": "m.room.message", "content": content, "room_id": room_id })
            .to_string()
            .into_bytes()
    }
}
