//! A peer made of plain OpenMLS: a device that shares no code with the library under test.
//!
//! It keeps its state in memory and speaks the wire format by hand, so that tests and benches can
//! see whether the library is understood by others, and can be given rooms that no homeserver would
//! carry (ten thousand devices in one Welcome).

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use openmls::prelude::*;
use openmls_basic_credential::SignatureKeyPair;
use openmls_rust_crypto::OpenMlsRustCrypto;
use openmls_traits::signatures::Signer as _;
use ruma::CanonicalJsonObject;
use serde_json::{Value, json};
use tls_codec::{Deserialize as _, Serialize as _, VLBytes};

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
    STANDARD_NO_PAD.decode(text).expect("the library writes base64")
}

/// The credential identity of a device: TLS `{opaque user_id<V>; opaque device_id<V>}`.
pub fn identity(user: &str, device: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for part in [user, device] {
        VLBytes::new(part.as_bytes().to_vec()).tls_serialize(&mut bytes).expect("short strings");
    }
    bytes
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
    let canonical: CanonicalJsonObject =
        serde_json::from_value(keys.clone()).expect("it is canonical");
    let text = serde_json::to_string(&canonical).expect("it serialises");
    let signature = base64(&signer.sign(text.as_bytes()).expect("Ed25519 signs"));
    keys["signatures"] = json!({ user: { &device_key: signature, &credential_key: signature } });
    keys
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
            signer: SignatureKeyPair::new(SUITE.signature_algorithm()).expect("a key pair"),
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

    /// A fresh key package.
    pub fn key_package(&self) -> KeyPackage {
        KeyPackage::builder()
            .build(SUITE, &self.provider, &self.signer, self.credential())
            .expect("a key package")
            .key_package()
            .clone()
    }

    /// A fresh key package as `/keys/upload` and `/keys/claim` have it: key id and value.
    pub fn published_key_package(&self) -> (String, String) {
        let package = self.key_package();
        let reference = package.hash_ref(self.provider.crypto()).expect("a reference");
        let bytes = package.tls_serialize_detached().expect("it serialises");
        (format!("{KEY_PACKAGE}:{}", base64(reference.as_slice())), base64(&bytes))
    }

    /// Makes a group with itself in it.
    pub fn create(&mut self, room_id: &str, tree_in_welcome: bool) {
        let config = MlsGroupCreateConfig::builder()
            .ciphersuite(SUITE)
            .wire_format_policy(MIXED_CIPHERTEXT_WIRE_FORMAT_POLICY)
            .use_ratchet_tree_extension(tree_in_welcome)
            .max_past_epochs(0)
            .build();
        let group = MlsGroup::new_with_group_id(
            &self.provider,
            &self.signer,
            &config,
            GroupId::from_slice(room_id.as_bytes()),
            self.credential(),
        );
        self.group = Some(group.expect("a group"));
    }

    /// The group it is in.
    pub fn group(&mut self) -> &mut MlsGroup {
        self.group.as_mut().expect("the peer is in a group")
    }

    /// From now on its Welcomes hold the tree, or do not: a Welcome without is smaller and cheaper.
    pub fn put_tree_in_welcomes(&mut self, tree: bool) {
        let config = MlsGroupJoinConfig::builder()
            .wire_format_policy(MIXED_CIPHERTEXT_WIRE_FORMAT_POLICY)
            .use_ratchet_tree_extension(tree)
            .max_past_epochs(0)
            .build();
        let group = self.group.as_mut().expect("the peer is in a group");
        group.set_configuration(self.provider.storage(), &config).expect("memory takes it");
    }

    /// Adds devices in one commit without a path; gives the commit and the Welcome.
    pub fn add(&mut self, packages: &[KeyPackage]) -> (Vec<u8>, Vec<u8>) {
        let group = self.group.as_mut().expect("the peer is in a group");
        let (commit, welcome, _) = group
            .add_members_without_update(&self.provider, &self.signer, packages)
            .expect("the members can be added");
        group.merge_pending_commit(&self.provider).expect("an own commit merges");
        (commit.to_bytes().expect("it serialises"), welcome.to_bytes().expect("it serialises"))
    }

    /// What others join by: the GroupInfo with the key for external commits, and the ratchet tree beside it.
    pub fn public_state(&mut self) -> (Vec<u8>, Vec<u8>) {
        let group = self.group.as_mut().expect("the peer is in a group");
        let info = group
            .export_group_info(self.provider.crypto(), &self.signer, false)
            .expect("a GroupInfo")
            .to_bytes()
            .expect("it serialises");
        let tree = group.export_ratchet_tree().tls_serialize_detached().expect("it serialises");
        (info, tree)
    }

    /// Removes a device; gives the commit.
    pub fn remove(&mut self, user: &str, device: &str) -> Vec<u8> {
        let name = identity(user, device);
        let group = self.group.as_mut().expect("the peer is in a group");
        let leaf = group
            .members()
            .find(|member| member.credential.serialized_content() == name)
            .expect("it is a member")
            .index;
        let (commit, ..) =
            group.remove_members(&self.provider, &self.signer, &[leaf]).expect("it can be removed");
        group.merge_pending_commit(&self.provider).expect("an own commit merges");
        commit.to_bytes().expect("it serialises")
    }

    /// What others join by, with the ratchet tree in it.
    pub fn group_info(&mut self) -> Vec<u8> {
        let group = self.group.as_mut().expect("the peer is in a group");
        let info = group.export_group_info(self.provider.crypto(), &self.signer, true);
        info.expect("a GroupInfo").to_bytes().expect("it serialises")
    }

    /// Makes a commit that would add a device, with or without a path, and drops it.
    pub fn try_add(&mut self, package: &KeyPackage, path: bool) {
        let group = self.group.as_mut().expect("the peer is in a group");
        group
            .commit_builder()
            .propose_adds([package.clone()])
            .force_self_update(path)
            .load_psks(self.provider.storage())
            .expect("no PSKs")
            .build(self.provider.rand(), self.provider.crypto(), &self.signer, |_| true)
            .expect("a commit")
            .stage_commit(&self.provider)
            .expect("it can be staged");
        group.clear_pending_commit(self.provider.storage()).expect("memory takes it");
    }

    /// Renews its keys; gives the commit.
    pub fn update(&mut self) -> Vec<u8> {
        let group = self.group.as_mut().expect("the peer is in a group");
        let bundle = group
            .self_update(&self.provider, &self.signer, LeafNodeParameters::default())
            .expect("an update");
        let commit = bundle.into_commit().to_bytes().expect("it serialises");
        group.merge_pending_commit(&self.provider).expect("an own commit merges");
        commit
    }

    /// Joins by Welcome.
    pub fn join(&mut self, welcome: &[u8]) {
        let message = MlsMessageIn::tls_deserialize_exact(welcome).expect("an MLS message");
        let MlsMessageBodyIn::Welcome(welcome) = message.extract() else { panic!("not a Welcome") };
        let config = MlsGroupJoinConfig::builder()
            .wire_format_policy(MIXED_CIPHERTEXT_WIRE_FORMAT_POLICY)
            .use_ratchet_tree_extension(true)
            .build();
        let staged = StagedWelcome::new_from_welcome(&self.provider, &config, welcome, None);
        let group = staged.expect("a good Welcome").into_group(&self.provider);
        self.group = Some(group.expect("a group"));
    }

    /// Joins by an external commit from an MLSMessage with a GroupInfo that holds the tree. Gives the epoch it
    /// is in now, and the commit.
    pub fn try_join_externally(&mut self, group_info: &[u8]) -> Result<(u64, Vec<u8>), String> {
        let message = MlsMessageIn::tls_deserialize_exact(group_info).map_err(|e| e.to_string())?;
        let MlsMessageBodyIn::GroupInfo(info) = message.extract() else {
            return Err("not a GroupInfo".to_owned());
        };
        let config = MlsGroupJoinConfig::builder()
            .wire_format_policy(MIXED_CIPHERTEXT_WIRE_FORMAT_POLICY)
            .max_past_epochs(0)
            .build();
        let (group, bundle) = MlsGroup::external_commit_builder()
            .with_config(config)
            .build_group(&self.provider, info, self.credential())
            .map_err(|e| e.to_string())?
            .load_psks(self.provider.storage())
            .map_err(|e| e.to_string())?
            .build(self.provider.rand(), self.provider.crypto(), &self.signer, |_| true)
            .map_err(|e| e.to_string())?
            .finalize(&self.provider)
            .map_err(|e| e.to_string())?;
        let epoch = group.epoch().as_u64();
        self.group = Some(group);
        Ok((epoch, bundle.into_commit().to_bytes().expect("it serialises")))
    }

    /// Seals bytes as an application message.
    pub fn seal(&mut self, plaintext: &[u8]) -> Vec<u8> {
        let group = self.group.as_mut().expect("the peer is in a group");
        group
            .create_message(&self.provider, &self.signer, plaintext)
            .expect("a message")
            .to_bytes()
            .expect("it serialises")
    }

    /// Takes in a message or a commit; gives the plaintext of the former.
    pub fn process(&mut self, message: &[u8]) -> Option<Vec<u8>> {
        let message = MlsMessageIn::tls_deserialize_exact(message).expect("an MLS message");
        let message = message.try_into_protocol_message().expect("a protocol message");
        let group = self.group.as_mut().expect("the peer is in a group");
        let processed = group.process_message(&self.provider, message).expect("it is valid");
        match processed.into_content() {
            ProcessedMessageContent::ApplicationMessage(message) => Some(message.into_bytes()),
            ProcessedMessageContent::StagedCommitMessage(commit) => {
                group.merge_staged_commit(&self.provider, *commit).expect("the commit merges");
                None
            }
            _ => panic!("neither a message nor a commit"),
        }
    }

    /// The plaintext of a Matrix message.
    pub fn plaintext(room_id: &str, body: &str) -> Vec<u8> {
        let content = json!({ "msgtype": "m.text", "body": body });
        json!({ "type": "m.room.message", "content": content, "room_id": room_id })
            .to_string()
            .into_bytes()
    }
}
