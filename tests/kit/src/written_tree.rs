//! Groups of any size that nobody made commit by commit: they are written down.
//!
//! A group in which each of ten thousand members has committed would take ten thousand commits. Its
//! ratchet tree, though, can be built in one walk, so that it passes every check of RFC 9420 (§7.9:
//! tree hashes, parent hashes, signatures). What comes out is the GroupInfo of such a group:
//! whoever joins it by an external commit is in a group of one more. The other members are there as
//! leaves and signature keys; they cannot process anything, as nobody kept their HPKE keys.

use eyre::eyre;
use openmls::prelude::*;
use openmls_basic_credential::SignatureKeyPair;
use openmls_rust_crypto::OpenMlsRustCrypto;
use openmls_traits::signatures::Signer as _;
use tls_codec::Serialize as _;

use crate::{
    OrMissing as _, Result,
    peer::{SUITE, device_keys, identity, new_signer},
};

/// How many users the members belong to, unless somebody wants it otherwise.
pub const USERS: usize = 100;
/// For how long the leaves of a blank tree are valid.
const LIFETIME_S: u64 = 80 * 24 * 3600;

// Code points of RFC 9420, section 17.
const MLS_10: u16 = 1;
const WIRE_GROUP_INFO: u16 = 4;
const EXTENSION_RATCHET_TREE: u16 = 2;
const EXTENSION_EXTERNAL_PUB: u16 = 4;
const SOURCE_KEY_PACKAGE: u8 = 1;
const SOURCE_COMMIT: u8 = 3;
const NODE_LEAF: u8 = 1;
const NODE_PARENT: u8 = 2;

/// What a group's ratchet tree looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Nobody has committed since they were added: no parent has a key.
    Blank,
    /// Every member has committed: every parent has a key.
    Warm,
}

impl Shape {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Blank, Self::Warm];

    /// How figures and files name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Blank => "blank",
            Self::Warm => "warm",
        }
    }
}

/// A member of a written group.
pub struct Member {
    /// Its user.
    pub user: String,
    /// Its device.
    pub device: String,
    signer: SignatureKeyPair,
}

impl Member {
    /// What it publishes.
    pub fn device_keys(&self) -> serde_json::Value {
        device_keys(&self.user, &self.device, &self.signer)
    }
}

/// A group that was written down.
pub struct WrittenGroup {
    /// An MLSMessage with its GroupInfo, which holds the tree and the key for external commits.
    pub group_info: Vec<u8>,
    /// Its members, by leaf.
    pub members: Vec<Member>,
}

impl WrittenGroup {
    /// Writes a group of so many devices, at least one: `@user0:example.org|D0` and so on.
    pub fn new(group_id: &str, devices: usize, shape: Shape) -> Result<Self> {
        Self::among(group_id, devices, USERS, shape)
    }

    /// The same of so many users, who have as many devices each, or one more.
    pub fn among(group_id: &str, devices: usize, users: usize, shape: Shape) -> Result<Self> {
        Self::write(group_id, devices, users, shape, None)
    }

    /// `wrong`: the leaf whose parent's key gets a parent hash that is off by a bit, everything
    /// around it right.
    fn write(
        group_id: &str,
        devices: usize,
        users: usize,
        shape: Shape,
        wrong: Option<usize>,
    ) -> Result<Self> {
        let members: Vec<_> = (0..devices)
            .map(|number| Member {
                user: format!("@user{}:example.org", number % users),
                device: format!("D{number}"),
                signer: new_signer(),
            })
            .collect();
        let mut writer = Writer {
            provider: OpenMlsRustCrypto::default(),
            group_id: group_id.as_bytes(),
            members: &members,
            shape,
            wrong,
            nodes: vec![None; 2 * devices - 1],
        };
        let width = devices.next_power_of_two();
        // RFC 9420, section 7.9: the root's parent hash is empty.
        let tree_hash = writer.subtree(0, width, &[])?;
        let group_info = writer.group_info(&tree_hash)?;
        Ok(Self { group_info, members })
    }
}

struct Writer<'a> {
    provider: OpenMlsRustCrypto,
    group_id: &'a [u8],
    members: &'a [Member],
    shape: Shape,
    wrong: Option<usize>,
    /// The nodes that are not blank, in the order of the array representation.
    nodes: Vec<Option<Vec<u8>>>,
}

impl Writer<'_> {
    /// Writes the subtree over the leaves from `start` on, `width` of them, whose root has this
    /// parent hash. Gives its tree hash.
    ///
    /// The last to have committed below a parent is on its left: so it is the left child that
    /// carries the parent's hash, over the tree hash of the right one, and what the right one
    /// carries is of an earlier parent that nobody can check any more.
    fn subtree(&mut self, start: usize, width: usize, parent_hash: &[u8]) -> Result<Vec<u8>> {
        if width == 1 {
            return self.leaf(start, parent_hash);
        }
        let half = width / 2;
        let is_filled = self.shape == Shape::Warm && start + half < self.members.len();
        if !is_filled {
            // What has nobody on its right is on no filtered direct path, and stays blank (section
            // 4.1.2).
            let left = self.subtree(start, half, parent_hash)?;
            let right = self.subtree(start + half, half, &[])?;
            return self.parent_tree_hash(None, &left, &right);
        }
        let key = self.hpke_key(&self.random()?)?;
        let right = self.subtree(start + half, half, &self.random()?)?;
        let mut input = Vec::new();
        put_bytes(&mut input, &key)?;
        put_bytes(&mut input, parent_hash)?;
        put_bytes(&mut input, &right)?;
        let mut hash = self.hash(&input)?;
        if self.wrong == Some(start) && width == 2 {
            hash[0] ^= 1;
        }
        let left = self.subtree(start, half, &hash)?;
        let mut node = Vec::new();
        put_bytes(&mut node, &key)?;
        put_bytes(&mut node, parent_hash)?;
        // No unmerged leaves.
        put_bytes(&mut node, &[])?;
        let tree_hash = self.parent_tree_hash(Some(&node), &left, &right)?;
        self.nodes[2 * start + width - 1] = Some([&[NODE_PARENT], &node[..]].concat());
        Ok(tree_hash)
    }

    fn leaf(&mut self, index: usize, parent_hash: &[u8]) -> Result<Vec<u8>> {
        let member = self.members.get(index);
        let node = member.map(|member| self.leaf_node(index, member, parent_hash)).transpose()?;
        let mut input = vec![NODE_LEAF];
        input.extend(u32::try_from(index)?.to_be_bytes());
        put_optional(&mut input, node.as_deref());
        if let Some(node) = node {
            self.nodes[2 * index] = Some([&[NODE_LEAF], &node[..]].concat());
        }
        self.hash(&input)
    }

    fn leaf_node(&self, index: usize, member: &Member, parent_hash: &[u8]) -> Result<Vec<u8>> {
        let crypto = self.provider.crypto();
        let mut node = Vec::new();
        put_bytes(&mut node, &self.hpke_key(&self.random()?)?)?;
        put_bytes(&mut node, member.signer.public())?;
        let credential: Credential =
            BasicCredential::new(identity(&member.user, &member.device)).into();
        put(&mut node, &credential)?;
        let capabilities = Capabilities::builder()
            .ciphersuites(crypto.supported_ciphersuites())
            .extensions(vec![ExtensionType::LastResort])
            .build();
        put(&mut node, &capabilities)?;
        match self.shape {
            Shape::Blank => {
                let now = std::time::UNIX_EPOCH.elapsed()?.as_secs();
                node.push(SOURCE_KEY_PACKAGE);
                node.extend((now - 3600).to_be_bytes());
                node.extend((now + LIFETIME_S).to_be_bytes());
            }
            Shape::Warm => {
                node.push(SOURCE_COMMIT);
                put_bytes(&mut node, parent_hash)?;
            }
        }
        // No extensions.
        put_bytes(&mut node, &[])?;
        let mut signed = node.clone();
        if self.shape == Shape::Warm {
            put_bytes(&mut signed, self.group_id)?;
            signed.extend(u32::try_from(index)?.to_be_bytes());
        }
        put_bytes(&mut node, &sign(member, "LeafNodeTBS", &signed)?)?;
        Ok(node)
    }

    fn parent_tree_hash(&self, node: Option<&[u8]>, left: &[u8], right: &[u8]) -> Result<Vec<u8>> {
        let mut input = vec![NODE_PARENT];
        put_optional(&mut input, node);
        put_bytes(&mut input, left)?;
        put_bytes(&mut input, right)?;
        self.hash(&input)
    }

    /// The GroupInfo, signed by the first member.
    fn group_info(&self, tree_hash: &[u8]) -> Result<Vec<u8>> {
        let transcript_hash = self.random()?;
        let epoch_secret = self.random()?;
        let external_pub = self.hpke_key(&self.derive(&epoch_secret, "external")?)?;
        let mut info = Vec::new();
        info.extend(MLS_10.to_be_bytes());
        info.extend(u16::from(SUITE).to_be_bytes());
        put_bytes(&mut info, self.group_id)?;
        info.extend(1_u64.to_be_bytes());
        put_bytes(&mut info, tree_hash)?;
        put_bytes(&mut info, &transcript_hash)?;
        put_bytes(&mut info, &[])?;

        let mut tree = Vec::new();
        for node in &self.nodes {
            put_optional(&mut tree, node.as_deref());
        }
        let mut extensions = Vec::new();
        for (kind, value) in [
            (EXTENSION_RATCHET_TREE, vector(&tree)?),
            (EXTENSION_EXTERNAL_PUB, vector(&external_pub)?),
        ] {
            extensions.extend(kind.to_be_bytes());
            put_bytes(&mut extensions, &value)?;
        }
        put_bytes(&mut info, &extensions)?;
        let confirmation_key = self.derive(&epoch_secret, "confirm")?;
        let crypto = self.provider.crypto();
        let tag = crypto.hmac(SUITE.hash_algorithm(), &confirmation_key, &transcript_hash)?;
        put_bytes(&mut info, tag.as_slice())?;
        info.extend(0_u32.to_be_bytes());
        let first = self.members.first().or_missing("member")?;
        let signature = sign(first, "GroupInfoTBS", &info)?;
        put_bytes(&mut info, &signature)?;
        Ok([&MLS_10.to_be_bytes()[..], &WIRE_GROUP_INFO.to_be_bytes(), &info].concat())
    }

    /// DeriveSecret (section 8).
    fn derive(&self, secret: &[u8], label: &str) -> Result<Vec<u8>> {
        let size = SUITE.hash_length();
        let mut info = u16::try_from(size)?.to_be_bytes().to_vec();
        put_bytes(&mut info, format!("MLS 1.0 {label}").as_bytes())?;
        put_bytes(&mut info, &[])?;
        let crypto = self.provider.crypto();
        let derived = crypto.hkdf_expand(SUITE.hash_algorithm(), secret, &info, size)?;
        Ok(derived.as_slice().to_vec())
    }

    /// A public key.
    fn hpke_key(&self, secret: &[u8]) -> Result<Vec<u8>> {
        let crypto = self.provider.crypto();
        Ok(crypto.derive_hpke_keypair(SUITE.hpke_config(), secret)?.public)
    }

    fn random(&self) -> Result<Vec<u8>> {
        Ok(self.provider.rand().random_vec(SUITE.hash_length())?)
    }

    fn hash(&self, input: &[u8]) -> Result<Vec<u8>> {
        Ok(self.provider.crypto().hash(SUITE.hash_algorithm(), input)?)
    }
}

/// SignWithLabel (section 5.1.2).
fn sign(member: &Member, label: &str, content: &[u8]) -> Result<Vec<u8>> {
    let mut signed = Vec::new();
    put_bytes(&mut signed, format!("MLS 1.0 {label}").as_bytes())?;
    put_bytes(&mut signed, content)?;
    member.signer.sign(&signed).map_err(|error| eyre!("signing: {error:?}"))
}

fn put(to: &mut Vec<u8>, value: &impl tls_codec::Serialize) -> Result {
    value.tls_serialize(to)?;
    Ok(())
}

/// `opaque bytes<V>`.
fn put_bytes(to: &mut Vec<u8>, bytes: &[u8]) -> Result {
    put(to, &tls_codec::VLByteSlice(bytes))
}

fn vector(bytes: &[u8]) -> Result<Vec<u8>> {
    Ok(tls_codec::VLByteSlice(bytes).tls_serialize_detached()?)
}

/// `optional<T>`, of what is serialised already.
fn put_optional(to: &mut Vec<u8>, value: Option<&[u8]>) {
    match value {
        Some(value) => {
            to.push(1);
            to.extend(value);
        }
        None => to.push(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Refused as _, peer::Peer};

    const ROOM: &str = "!written:example.org";

    fn newcomer(name: &str) -> Peer {
        Peer::new("@new:example.org", name)
    }

    #[test]
    fn plain_openmls_joins_commits_and_is_followed() -> Result {
        for shape in Shape::ALL {
            for devices in [1, 2, 3, 4, 7, 64, 100] {
                let group = WrittenGroup::new(ROOM, devices, shape)?;
                let mut one = newcomer("ONE");
                one.try_join_externally(&group.group_info)?;
                assert_eq!(one.group().members().count(), devices + 1, "{shape:?} {devices}");
                let mut two = newcomer("TWO");
                one.put_tree_in_welcomes(true);
                let (_, welcome) = one.add(&[two.key_package()]);
                two.join(&welcome);
                let commit = two.update();
                one.process(&commit);
                let sealed = one.seal(b"text");
                let opened = two.process(&sealed);
                assert_eq!(opened.as_deref(), Some(&b"text"[..]), "{shape:?} {devices}");
            }
        }
        Ok(())
    }

    /// How long an external commit to a group of a hundred is, and an update after it.
    fn sizes(shape: Shape) -> Result<(usize, usize)> {
        let mut peer = newcomer("ONE");
        let group = WrittenGroup::new(ROOM, 100, shape)?;
        // The commit of the external join fills the joiner's own path.
        let (_, commit) = peer.try_join_externally(&group.group_info)?;
        Ok((commit.len(), peer.update().len()))
    }

    #[test]
    fn a_warm_tree_makes_an_update_short_and_a_blank_one_long() -> Result {
        let ((blank, _), (warm, update)) = (sizes(Shape::Blank)?, sizes(Shape::Warm)?);
        // One ciphertext for each of 100 leaves; one for each of at most 7 subtrees.
        assert!(blank > 100 * 80, "{blank}");
        assert!(warm < 3_000 && update < 3_000, "{warm} {update}");
        Ok(())
    }

    #[test]
    fn a_parent_hash_that_is_wrong_is_refused() -> Result {
        for wrong in [0, 2, 4] {
            let group = WrittenGroup::write(ROOM, 7, USERS, Shape::Warm, Some(wrong))?;
            let error = newcomer("ONE").try_join_externally(&group.group_info).refused()?;
            assert!(error.to_string().to_lowercase().contains("parent hash"), "{error}");
        }
        // The seventh has nobody beside it: there is nothing to be wrong.
        let group = WrittenGroup::write(ROOM, 7, USERS, Shape::Warm, Some(6))?;
        newcomer("ONE").try_join_externally(&group.group_info)?;
        Ok(())
    }
}
