//! Founding a group with all its members at once.
//!
//! RFC 9420 (section 11) has a founder make a group of one and add the others with a commit. Nobody
//! but the founder is in the first epoch, so nobody else ever takes in that commit: what the others
//! get is the Welcome. OpenMLS makes the commit step by step, which grows with the square of the
//! group. This file computes the same second epoch in one go: the tree has all leaves and blank
//! parents, the commit is written, signed and hashed into the transcript, the key schedule runs
//! from a secret of the system's generator, and the Welcomes' secrets are sealed on all cores. Then
//! the commit is forgotten. What comes out is what a member of epoch 1 of an ordinary group gets,
//! and the founder itself enters by its own part of the Welcome (`commits::founding`).
//!
//! Whether the key packages are good, and fit together, was looked at before.

#[cfg(test)]
mod tests;
mod tree;
mod wire;

use openmls::prelude::{GroupId, KeyPackage};
use openmls_traits::{crypto::OpenMlsCrypto as _, random::OpenMlsRand as _, signatures::Signer};
use tls_codec::{Error as WireError, SecretVLBytes, Serialize as _};
use zeroize::Zeroizing;

use crate::{
    failure::Failure,
    identity::{Crypto, SUITE},
    parallel,
};

/// A group that was founded, as far as its members need it.
pub(crate) struct Founded {
    /// The Welcome of all but the founder (an MLSMessage).
    pub(crate) welcome: Vec<u8>,
    /// The Welcome of the founder.
    pub(crate) own_welcome: Vec<u8>,
    /// The ratchet tree, in its encoding.
    pub(crate) tree: Vec<u8>,
    /// Whether the Welcomes have the ratchet tree as well.
    pub(crate) is_tree_inline: bool,
    /// The references of the key packages, without the founder's, in their order.
    pub(crate) references: Vec<Vec<u8>>,
}

/// Who founds a group, and with whom.
pub(crate) struct Founding<'a, S> {
    pub(crate) crypto: &'a Crypto,
    pub(crate) signer: &'a S,
    pub(crate) group_id: &'a GroupId,
    /// The founder's key package.
    pub(crate) own: &'a KeyPackage,
    /// Those of the others, in the order of their leaves.
    pub(crate) others: &'a [KeyPackage],
    /// Whether a ratchet tree of so many bytes goes into the Welcomes.
    pub(crate) is_inline: &'a dyn Fn(usize) -> bool,
    /// Whether the work is to end without a result.
    pub(crate) stop: &'a (dyn Fn() -> bool + Sync),
}

impl From<WireError> for Failure {
    fn from(error: WireError) -> Self {
        Self::defect("founding", error)
    }
}

fn failed(error: impl std::fmt::Debug) -> Failure {
    Failure::defect("founding", format!("{error:?}"))
}

impl<S: Signer> Founding<'_, S> {
    /// Founds the group; gives nothing if it was stopped.
    pub(crate) fn found(&self) -> Result<Option<Founded>, Failure> {
        let packages: Vec<&KeyPackage> = [self.own].into_iter().chain(self.others).collect();
        let mut leaves = Vec::with_capacity(packages.len());
        for package in &packages {
            leaves.push(package.leaf_node().tls_serialize_detached()?);
        }
        let tree = tree::nodes(&leaves)?;
        let tree_hash = tree::hash(&leaves, &|input| self.hash(input))?;
        if (self.stop)() {
            return Ok(None);
        }

        let (transcript_hash, init_secret) = self.commit(&leaves)?;
        let context = self.context(1, &tree_hash, &transcript_hash)?;
        // Without a path the commit's secret is zero, and without PSKs theirs is (section 8).
        let zero = vec![0; SUITE.hash_length()];
        let extracted = self.extract(init_secret.as_slice(), &zero)?;
        let joiner_secret = self.expand(extracted.as_slice(), "joiner", &context)?;
        let member_secret = self.extract(joiner_secret.as_slice(), &zero)?;
        let epoch_secret = self.expand(member_secret.as_slice(), "epoch", &context)?;
        let confirmation_key = self.expand(epoch_secret.as_slice(), "confirm", &[])?;
        let tag = self.mac(confirmation_key.as_slice(), &transcript_hash)?;

        let is_tree_inline = (self.is_inline)(tree.len());
        let extensions = if is_tree_inline { wire::tree_extension(&tree)? } else { Vec::new() };
        let info = wire::group_info_tbs(&context, &extensions, &tag)?;
        let signature = self.sign("GroupInfoTBS", &info)?;
        let info = wire::Writer::default().raw(&info).opaque(&signature)?.finish();
        let info = self.seal_info(member_secret.as_slice(), &info)?;

        let secrets = Zeroizing::new(wire::group_secrets(joiner_secret.as_slice())?);
        let Some(sealed) = self.seal_secrets(&packages, &secrets, &info)? else { return Ok(None) };
        let (mut references, parts): (Vec<_>, Vec<_>) = sealed.into_iter().unzip();
        references.remove(0);
        let suite = u16::from(SUITE);
        let (own, others) = parts.split_at(1);
        Ok(Some(Founded {
            welcome: wire::welcome(suite, &others.concat(), &info)?,
            own_welcome: wire::welcome(suite, &own.concat(), &info)?,
            tree,
            is_tree_inline,
            references,
        }))
    }

    /// The commit on epoch 0 that adds the others: the confirmed transcript hash that it leads to,
    /// and epoch 0's init secret.
    fn commit(&self, leaves: &[Vec<u8>]) -> Result<(Vec<u8>, SecretVLBytes), Failure> {
        let own_leaf = leaves.get(..1).unwrap_or_default();
        let context = self.context(0, &tree::hash(own_leaf, &|input| self.hash(input))?, &[])?;
        let random = self.crypto.random_vec(SUITE.hash_length()).map_err(failed)?;
        let first_secret = Zeroizing::new(random);
        let confirmation_key = self.expand(&first_secret, "confirm", &[])?;
        let tag = self.mac(confirmation_key.as_slice(), &[])?;
        let interim = self.hash(&wire::Writer::default().opaque(&tag)?.finish())?;

        let mut packages = Vec::with_capacity(self.others.len());
        for package in self.others {
            packages.push(package.tls_serialize_detached()?);
        }
        let content = wire::adding_commit(self.group_id.as_slice(), &packages)?;
        let signature =
            self.sign("FramedContentTBS", &wire::framed_content_tbs(&content, &context))?;
        let transcript = wire::transcript_input(&interim, &content, &signature)?;
        Ok((self.hash(&transcript)?, self.expand(&first_secret, "init", &[])?))
    }

    /// The GroupInfo as it stands in the Welcome (section 12.4.3.1).
    fn seal_info(&self, member_secret: &[u8], info: &[u8]) -> Result<Vec<u8>, Failure> {
        let secret = self.expand(member_secret, "welcome", &[])?;
        let secret = secret.as_slice();
        let key = self.expand_to(SUITE.aead_key_length(), secret, "key", &[])?;
        let nonce = self.expand_to(SUITE.aead_nonce_length(), secret, "nonce", &[])?;
        let aead = SUITE.aead_algorithm();
        let sealed = self.crypto.aead_encrypt(aead, key.as_slice(), info, nonce.as_slice(), &[]);
        sealed.map_err(failed)
    }

    /// What each of these needs of the Welcome, behind the reference of its key package; nothing if
    /// the work was stopped.
    fn seal_secrets(
        &self,
        packages: &[&KeyPackage],
        secrets: &[u8],
        info: &[u8],
    ) -> Result<Option<Vec<Sealed>>, Failure> {
        let hpke_info = wire::labeled("Welcome", info)?;
        let crypto = self.crypto;
        let seal = |package: &&KeyPackage| -> Result<Sealed, Failure> {
            let reference = package.hash_ref(crypto).map_err(failed)?.as_slice().to_vec();
            let key = package.hpke_init_key().as_slice();
            let sealed = crypto.hpke_seal(SUITE.hpke_config(), key, &hpke_info, &[], secrets);
            let sealed = sealed.map_err(failed)?;
            let (output, ciphertext) = (sealed.kem_output.as_slice(), sealed.ciphertext.as_slice());
            let part = wire::encrypted_secrets(&reference, output, ciphertext)?;
            Ok((reference, part))
        };
        parallel::map(packages, self.stop, &seal)
            .map(|sealed| sealed.into_iter().collect())
            .transpose()
    }

    fn context(&self, epoch: u64, tree: &[u8], transcript: &[u8]) -> Result<Vec<u8>, Failure> {
        let group_id = self.group_id.as_slice();
        Ok(wire::group_context(SUITE.into(), group_id, epoch, tree, transcript)?)
    }

    fn hash(&self, input: &[u8]) -> Result<Vec<u8>, Failure> {
        self.crypto.hash(SUITE.hash_algorithm(), input).map_err(failed)
    }

    fn mac(&self, key: &[u8], message: &[u8]) -> Result<Vec<u8>, Failure> {
        let mac = self.crypto.hmac(SUITE.hash_algorithm(), key, message).map_err(failed)?;
        Ok(mac.as_slice().to_vec())
    }

    fn extract(&self, salt: &[u8], secret: &[u8]) -> Result<SecretVLBytes, Failure> {
        self.crypto.hkdf_extract(SUITE.hash_algorithm(), salt, secret).map_err(failed)
    }

    /// `ExpandWithLabel` to the length of a secret; `DeriveSecret` without a context (section 8).
    fn expand(&self, secret: &[u8], label: &str, context: &[u8]) -> Result<SecretVLBytes, Failure> {
        self.expand_to(SUITE.hash_length(), secret, label, context)
    }

    fn expand_to(
        &self,
        length: usize,
        secret: &[u8],
        label: &str,
        context: &[u8],
    ) -> Result<SecretVLBytes, Failure> {
        let info = wire::kdf_label(u16::try_from(length).map_err(failed)?, label, context)?;
        self.crypto.hkdf_expand(SUITE.hash_algorithm(), secret, &info, length).map_err(failed)
    }

    fn sign(&self, label: &str, content: &[u8]) -> Result<Vec<u8>, Failure> {
        self.signer.sign(&wire::labeled(label, content)?).map_err(failed)
    }
}

/// The reference of a key package, and its `EncryptedGroupSecrets`.
type Sealed = (Vec<u8>, Vec<u8>);
