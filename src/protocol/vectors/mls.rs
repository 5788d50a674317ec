//! A device of plain OpenMLS that makes the groups of the vectors: its commits are merged at once,
//! and nobody else has to join.

use openmls::{
    group::{GroupId, MlsGroup, MlsGroupCreateConfig},
    prelude::{
        BasicCredential, Ciphersuite, CredentialWithKey, KeyPackage, LeafNodeIndex, Lifetime,
        OpenMlsProvider as _, tls_codec::Serialize as _,
    },
};
use openmls_basic_credential::SignatureKeyPair;
use openmls_rust_crypto::OpenMlsRustCrypto;
use openmls_traits::signatures::Signer as _;
use ruma::CanonicalJsonObject;
use serde_json::{Value, json};

use super::{Outcome, device};
use crate::protocol::{DeviceName, credential, encode_base64, identifiers};

const SUITE: Ciphersuite = Ciphersuite::MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519;
/// The room algorithm.
pub(crate) const ALGORITHM: &str =
    "org.matrix.msc2883.v1.dmls.dhkemx25519-aes128gcm-sha256-ed25519";
/// The year 2100: the vectors are checked for a long time.
const NOT_AFTER_S: u64 = 4_102_444_800;

/// A device and its group.
pub(crate) struct Member {
    pub(crate) name: DeviceName,
    provider: OpenMlsRustCrypto,
    signer: SignatureKeyPair,
    credential: CredentialWithKey,
    group: MlsGroup,
}

impl Member {
    /// A device that is alone in a group of this id.
    pub(crate) fn alone(user: &str, id: &str, group_id: &[u8]) -> Outcome<Self> {
        let name = device(user, id)?;
        let signer = SignatureKeyPair::new(SUITE.signature_algorithm())?;
        Self::founding(name, signer, group_id)
    }

    /// The same device, alone in another group.
    pub(crate) fn again(self, group_id: &[u8]) -> Outcome<Self> {
        Self::founding(self.name, self.signer, group_id)
    }

    fn founding(name: DeviceName, signer: SignatureKeyPair, group_id: &[u8]) -> Outcome<Self> {
        let provider = OpenMlsRustCrypto::default();
        let credential = CredentialWithKey {
            credential: BasicCredential::new(credential::encode(&name)).into(),
            signature_key: signer.public().into(),
        };
        let config = MlsGroupCreateConfig::builder()
            .ciphersuite(SUITE)
            .lifetime(Lifetime::init(0, NOT_AFTER_S))
            .build();
        let id = GroupId::from_slice(group_id);
        let founder = credential.clone();
        let group = MlsGroup::new_with_group_id(&provider, &signer, &config, id, founder)?;
        Ok(Self { name, provider, signer, credential, group })
    }

    /// The `device_keys` that such a device publishes: it has one key for everything.
    pub(crate) fn device_keys(&self) -> Outcome<Value> {
        let (user, device) = (self.name.user_id.as_str(), self.name.device_id.as_str());
        let key = encode_base64(self.signer.public());
        let names = [format!("ed25519:{device}"), identifiers::credential_key_id(device)];
        let each = |value: &str| names.each_ref().map(|name| (name.clone(), json!(value)));
        let mut keys = json!({
            "user_id": user, "device_id": device, "algorithms": [ALGORITHM],
            "keys": Value::Object(each(&key).into_iter().collect()),
        });
        let canonical: CanonicalJsonObject = serde_json::from_value(keys.clone())?;
        let text = serde_json::to_string(&canonical)?;
        let signature = self.signer.sign(text.as_bytes()).map_err(|_| "it does not sign")?;
        let signatures: Value =
            Value::Object(each(&encode_base64(&signature)).into_iter().collect());
        keys["signatures"] = json!({ user: signatures });
        Ok(keys)
    }

    /// A key package, and the id under which it is published.
    pub(crate) fn key_package(&self) -> Outcome<(KeyPackage, Vec<u8>)> {
        let made = KeyPackage::builder()
            .key_package_lifetime(Lifetime::init(0, NOT_AFTER_S))
            .build(SUITE, &self.provider, &self.signer, self.credential.clone())?;
        let package = made.key_package().clone();
        let id = package.hash_ref(self.provider.crypto())?.as_slice().to_vec();
        Ok((package, id))
    }

    /// Adds devices, by a commit with a path or without.
    pub(crate) fn add(&mut self, packages: &[KeyPackage], has_path: bool) -> Outcome {
        let (provider, signer) = (&self.provider, &self.signer);
        if has_path {
            self.group.add_members(provider, signer, packages)?;
        } else {
            self.group.add_members_without_update(provider, signer, packages)?;
        }
        Ok(self.group.merge_pending_commit(provider)?)
    }

    /// Makes a commit that has only a path; gives the MLSMessage.
    pub(crate) fn renew(&mut self) -> Outcome<Vec<u8>> {
        let made = self.group.self_update(&self.provider, &self.signer, Default::default())?;
        self.group.merge_pending_commit(&self.provider)?;
        Ok(made.commit().tls_serialize_detached()?)
    }

    /// Removes leaves.
    pub(crate) fn remove(&mut self, leaves: &[u32]) -> Outcome {
        let leaves: Vec<_> = leaves.iter().copied().map(LeafNodeIndex::new).collect();
        self.group.remove_members(&self.provider, &self.signer, &leaves)?;
        Ok(self.group.merge_pending_commit(&self.provider)?)
    }

    /// The ratchet tree, as it is published.
    pub(crate) fn tree(&self) -> Outcome<Vec<u8>> {
        Ok(self.group.export_ratchet_tree().tls_serialize_detached()?)
    }

    /// The `public_group_state` of a commit that has no tree in it.
    pub(crate) fn group_info(&self) -> Outcome<Vec<u8>> {
        let info = self.group.export_group_info(self.provider.crypto(), &self.signer, false)?;
        Ok(info.tls_serialize_detached()?)
    }
}
