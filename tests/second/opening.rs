//! The export of an epoch, and how messages are opened with it: RFC 9420 §6.3 and §9, and docs/spec
//! "Keys for later", written anew. Only hash functions and ciphers come from a library.

use ciborium::Value;
use matrix_mls_kit::{OrMissing as _, Result, bail, eyre};
use mls_rs::{
    CipherSuite, CipherSuiteProvider, CryptoProvider, group::ExportedTree,
    mls_rs_codec::MlsEncode as _,
};
use mls_rs_crypto_rustcrypto::RustCryptoProvider;

use crate::{
    crypto::{Inner, Secrets},
    wire::{Reader, vector},
};

/// Leaves in a chunk.
const CHUNK: usize = 64;
/// How far a ratchet is followed.
const FURTHEST: u32 = 100_000;

/// Suite 1, without notes.
pub fn suite() -> Result<Inner> {
    let provider = RustCryptoProvider::default();
    provider.cipher_suite_provider(CipherSuite::CURVE25519_AES128).or_missing("suite 1")
}

/// A leaf as a chunk has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// RFC 9420's `struct Credential`.
    pub credential: Vec<u8>,
    /// The MLS key.
    pub signature_key: Vec<u8>,
}

impl Leaf {
    /// The identity of a BasicCredential.
    pub fn identity(&self) -> Result<Vec<u8>> {
        let mut reader = Reader(&self.credential);
        if reader.number(2)? != 1 {
            bail!("no BasicCredential");
        }
        let identity = reader.vector()?.to_vec();
        reader.end()?;
        Ok(identity)
    }
}

/// What opens the messages of an epoch.
#[derive(Clone)]
pub struct Export {
    /// GroupContext as its bytes.
    pub context: Vec<u8>,
    secrets: Secrets,
    tree_size: u32,
    /// All leaves; none of them is blank at the end.
    pub leaves: Vec<Option<Leaf>>,
}

/// An opened message.
#[derive(Debug, PartialEq, Eq)]
pub struct Opened {
    /// The application data.
    pub plaintext: Vec<u8>,
    /// The leaf that signed it.
    pub leaf: u32,
    /// The generation that it was sealed under.
    pub generation: u32,
}

/// The front of a PrivateMessage.
pub struct Header<'a> {
    /// The group's id.
    pub group_id: &'a [u8],
    /// The number of its epoch.
    pub number: u64,
    /// 1 for application data, 3 for a commit.
    pub content_type: u64,
    authenticated_data: &'a [u8],
    sender_data: &'a [u8],
    ciphertext: &'a [u8],
}

impl<'a> Header<'a> {
    /// Reads an MLSMessage that is a PrivateMessage.
    pub fn read(message: &'a [u8]) -> Result<Self> {
        let mut reader = Reader(message);
        if (reader.number(2)?, reader.number(2)?) != (1, 2) {
            bail!("no PrivateMessage of MLS 1.0");
        }
        let header = Self {
            group_id: reader.vector()?,
            number: reader.number(8)?,
            content_type: reader.number(1)?,
            authenticated_data: reader.vector()?,
            sender_data: reader.vector()?,
            ciphertext: reader.vector()?,
        };
        reader.end()?;
        Ok(header)
    }

    /// SenderDataAAD; PrivateContentAAD begins with the same.
    fn aad(&self) -> Vec<u8> {
        let mut aad = Vec::new();
        vector(&mut aad, self.group_id);
        aad.extend(self.number.to_be_bytes());
        aad.push(u8::try_from(self.content_type).unwrap_or_default());
        aad
    }
}

/// RFC 9420 §8.
fn expand(secret: &[u8], label: &str, context: &[u8], length: u16) -> Result<Vec<u8>> {
    let mut info = length.to_be_bytes().to_vec();
    vector(&mut info, format!("MLS 1.0 {label}").as_bytes());
    vector(&mut info, context);
    Ok(suite()?.kdf_expand(secret, &info, usize::from(length))?.to_vec())
}

impl Export {
    /// That of an epoch that mls-rs has just made.
    pub fn of(context: Vec<u8>, secrets: Secrets, tree: &ExportedTree) -> Result<Self> {
        let leaves = tree.total_leaf_count();
        let mut found = vec![None; usize::try_from(leaves)?];
        for member in tree.roster().members_iter() {
            let identity = member.signing_identity;
            found[usize::try_from(member.index)?] = Some(Leaf {
                credential: identity.credential.mls_encode_to_vec()?,
                signature_key: identity.signature_key.to_vec(),
            });
        }
        while found.last().is_some_and(Option::is_none) {
            found.pop();
        }
        Ok(Self { context, secrets, tree_size: leaves, leaves: found })
    }

    /// As it crosses the wire: `group_export` and its chunks.
    pub fn write(&self) -> (Vec<u8>, Vec<Vec<u8>>) {
        let chunks: Vec<_> = self.leaves.chunks(CHUNK).map(write_chunk).collect();
        let names: Vec<u8> = chunks.iter().flat_map(|chunk| sha256(chunk)).collect();
        let mut bytes = vec![0, 1];
        for part in [&self.context, &self.secrets.sender_data, &self.secrets.encryption] {
            vector(&mut bytes, part);
        }
        bytes.extend(self.tree_size.to_be_bytes());
        vector(&mut bytes, &names);
        (bytes, chunks)
    }

    /// Reads one; `chunk` gives the bytes of a name (H1).
    pub fn read(bytes: &[u8], chunk: impl Fn(&[u8]) -> Option<Vec<u8>>) -> Result<Self> {
        let mut reader = Reader(bytes);
        if reader.number(2)? != 1 {
            bail!("another version");
        }
        let context = reader.vector()?.to_vec();
        let sender_data = reader.vector()?.to_vec();
        let encryption = reader.vector()?.to_vec();
        let tree_size = u32::try_from(reader.number(4)?)?;
        let names = reader.vector()?;
        reader.end()?;
        let mut leaves = Vec::new();
        for name in names.chunks(32) {
            if !leaves.len().is_multiple_of(CHUNK) {
                bail!("a chunk before the last is short");
            }
            let chunk = chunk(name).or_missing("chunk of leaves")?;
            if sha256(&chunk) != name {
                bail!("a chunk has another name");
            }
            leaves.extend(read_chunk(&chunk)?);
        }
        if leaves.is_empty()
            || leaves.len() > usize::try_from(tree_size)?
            || !tree_size.is_power_of_two()
        {
            bail!("the tree's size does not fit its leaves");
        }
        Ok(Self { context, secrets: Secrets { sender_data, encryption }, tree_size, leaves })
    }

    /// The leaf and the generation that a PrivateMessage says.
    fn sender(&self, header: &Header) -> Result<(u32, u32, [u8; 4])> {
        let secret = &self.secrets.sender_data;
        let sample = &header.ciphertext[..header.ciphertext.len().min(32)];
        let key = expand(secret, "key", sample, 16)?;
        let nonce = expand(secret, "nonce", sample, 12)?;
        let opened = suite()?.aead_open(&key, header.sender_data, Some(&header.aad()), &nonce)?;
        let mut reader = Reader(&opened);
        let (leaf, generation) = (reader.number(4)?, reader.number(4)?);
        let guard = reader.take(4)?.try_into()?;
        reader.end()?;
        Ok((u32::try_from(leaf)?, u32::try_from(generation)?, guard))
    }

    /// The secret of a leaf in the secret tree.
    fn leaf_secret(&self, leaf: u32) -> Result<Vec<u8>> {
        if leaf >= self.tree_size {
            bail!("there is no leaf {leaf}");
        }
        let mut secret = self.secrets.encryption.clone();
        let mut half = self.tree_size / 2;
        while half > 0 {
            let side: &[u8] = if leaf & half == 0 { b"left" } else { b"right" };
            secret = expand(&secret, "tree", side, 32)?;
            half /= 2;
        }
        Ok(secret)
    }

    /// Opens an application message and verifies who signed it.
    pub fn open(&self, message: &[u8]) -> Result<Opened> {
        let header = Header::read(message)?;
        if header.content_type != 1 {
            bail!("no application message");
        }
        let (leaf, generation, guard) = self.sender(&header)?;
        if generation > FURTHEST {
            bail!("generation {generation} is too far");
        }
        let mut secret = expand(&self.leaf_secret(leaf)?, "application", &[], 32)?;
        for before in 0..generation {
            secret = expand(&secret, "secret", &before.to_be_bytes(), 32)?;
        }
        let key = expand(&secret, "key", &generation.to_be_bytes(), 16)?;
        let mut nonce = expand(&secret, "nonce", &generation.to_be_bytes(), 12)?;
        nonce.iter_mut().zip(guard).for_each(|(byte, guard)| *byte ^= guard);
        let mut aad = header.aad();
        vector(&mut aad, header.authenticated_data);
        let opened = suite()?.aead_open(&key, header.ciphertext, Some(&aad), &nonce)?;
        let mut reader = Reader(&opened);
        let (plaintext, signature) = (reader.vector()?, reader.vector()?);
        if reader.0.iter().any(|byte| *byte != 0) {
            bail!("the padding is not of zeros");
        }
        self.verify(&header, leaf, plaintext, signature)?;
        Ok(Opened { plaintext: plaintext.to_vec(), leaf, generation })
    }

    fn verify(&self, header: &Header, leaf: u32, plaintext: &[u8], signature: &[u8]) -> Result {
        let member = self.leaf(leaf).or_missing("leaf that signed")?;
        let mut signed = vec![0, 1, 0, 2];
        vector(&mut signed, header.group_id);
        signed.extend(header.number.to_be_bytes());
        signed.push(1);
        signed.extend(leaf.to_be_bytes());
        vector(&mut signed, header.authenticated_data);
        signed.push(1);
        vector(&mut signed, plaintext);
        signed.extend(&self.context);
        let mut content = Vec::new();
        vector(&mut content, b"MLS 1.0 FramedContentTBS");
        vector(&mut content, &signed);
        let key = member.signature_key.clone().into();
        suite()?.verify(&key, signature, &content).map_err(|error| eyre!("signature: {error:?}"))
    }

    /// A leaf that is not blank.
    pub fn leaf(&self, leaf: u32) -> Option<&Leaf> {
        self.leaves.get(usize::try_from(leaf).ok()?)?.as_ref()
    }
}

/// SHA-256.
pub fn sha256(bytes: &[u8]) -> Vec<u8> {
    use sha2::Digest as _;
    sha2::Sha256::digest(bytes).to_vec()
}

/// The head of a CBOR item in its shortest form.
fn head(to: &mut Vec<u8>, kind: u8, length: usize) {
    let length = u16::try_from(length).unwrap_or(u16::MAX);
    let kind = kind << 5;
    match length {
        0..24 => to.push(kind | length.to_be_bytes()[1]),
        24..256 => to.extend([kind | 24, length.to_be_bytes()[1]]),
        _ => {
            to.push(kind | 25);
            to.extend(length.to_be_bytes());
        }
    }
}

fn item(to: &mut Vec<u8>, kind: u8, bytes: &[u8]) {
    head(to, kind, bytes.len());
    to.extend(bytes);
}

fn write_chunk(leaves: &[Option<Leaf>]) -> Vec<u8> {
    let blank = leaves.iter().rev().take_while(|leaf| leaf.is_none()).count();
    let leaves = &leaves[..leaves.len() - blank];
    let mut bytes = Vec::new();
    head(&mut bytes, 5, 1);
    item(&mut bytes, 3, b"leaves");
    head(&mut bytes, 4, leaves.len());
    for leaf in leaves {
        let Some(leaf) = leaf else {
            bytes.push(0xF6);
            continue;
        };
        head(&mut bytes, 5, 2);
        item(&mut bytes, 3, b"credential");
        item(&mut bytes, 2, &leaf.credential);
        item(&mut bytes, 3, b"signature_key");
        item(&mut bytes, 2, &leaf.signature_key);
    }
    bytes
}

/// The leaves of a chunk, of which those that were left out at the end are blank.
fn read_chunk(bytes: &[u8]) -> Result<Vec<Option<Leaf>>> {
    let value: Value = ciborium::from_reader(bytes)?;
    let leaves = field(&value, "leaves").and_then(Value::as_array).or_missing("leaves")?;
    let read = |leaf: &Value| -> Result<Option<Leaf>> {
        if leaf.is_null() {
            return Ok(None);
        }
        let bytes = |name: &str| field(leaf, name).and_then(Value::as_bytes).cloned();
        Ok(Some(Leaf {
            credential: bytes("credential").or_missing("credential")?,
            signature_key: bytes("signature_key").or_missing("signature key")?,
        }))
    };
    let read = leaves.iter().map(read).collect::<Result<Vec<_>>>()?;
    if read.len() > CHUNK || write_chunk(&read) != bytes {
        bail!("a chunk in another form");
    }
    Ok(read)
}

fn field<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    let is_it = |(key, _): &&(Value, Value)| key.as_text() == Some(name);
    value.as_map()?.iter().find(is_it).map(|(_, value)| value)
}
