//! Taking an epoch's export out of what OpenMLS stores: the only place that reads OpenMLS's stored
//! message secrets.
//!
//! OpenMLS has no call for an epoch's encryption secret, but hands it to its storage: a fresh epoch's
//! secret tree is written with the secret at its root (where there is one member, the root is that
//! member's leaf) before any ratchet has moved. So this must be done in the transaction that made the
//! epoch, before a message is sent or received in it through OpenMLS; later it answers
//! [`CaptureError::NotFresh`], and never with wrong keys. Of what is stored, only the fields named here are
//! read, and a field that an OpenMLS update has moved is named in the error.
//!
//! No error carries text of serde's: it may quote the value it stumbled on, which here is a secret.

use serde::{Deserialize, de::IgnoredAny};
use tls_codec::{SecretVLByteVec, VLByteVec};

use super::export::{EpochKeys, ExportError};
use crate::store::cbor;

/// Why stored message secrets give no export.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CaptureError {
    /// Not CBOR, or a field of another type than OpenMLS 0.9 gives it.
    #[error("the stored message secrets cannot be read")]
    Unreadable,
    /// A field is not where OpenMLS 0.9 has it.
    #[error("the stored message secrets have no {0}")]
    Missing(&'static str),
    /// The secret tree has been used already: its root is gone.
    #[error("the epoch's secret tree has been used already")]
    NotFresh,
    /// The fields are there, but do not fit each other.
    #[error(transparent)]
    Export(#[from] ExportError),
}

/// Takes the export out of the CBOR of what `StorageProvider::write_message_secrets` was given for an
/// epoch that has just begun.
pub fn capture(bytes: &[u8]) -> Result<EpochKeys, CaptureError> {
    let stored: Stored = cbor::read(bytes).map_err(|_| CaptureError::Unreadable)?;
    stored.into_export()
}

/// OpenMLS's `MessageSecretsStore`. In all these structs every field may be missing, so that the one that
/// is can be named.
#[derive(Deserialize)]
struct Stored {
    message_secrets: Option<StoredMessageSecrets>,
}

/// OpenMLS's `MessageSecrets`.
#[derive(Deserialize)]
struct StoredMessageSecrets {
    sender_data_secret: Option<StoredNode>,
    serialized_context: Option<VLByteVec>,
    secret_tree: Option<StoredSecretTree>,
}

/// OpenMLS's `SecretTree`.
#[derive(Deserialize)]
struct StoredSecretTree {
    own_index: Option<u32>,
    leaf_nodes: Option<Vec<Option<StoredNode>>>,
    parent_nodes: Option<Vec<Option<StoredNode>>>,
    handshake_sender_ratchets: Option<Vec<Option<IgnoredAny>>>,
    application_sender_ratchets: Option<Vec<Option<IgnoredAny>>>,
    /// The number of nodes, leaves and parents.
    size: Option<u32>,
}

/// OpenMLS's `SecretTreeNode` and `SenderDataSecret`: a `Secret` in a struct.
#[derive(Deserialize)]
struct StoredNode {
    secret: Option<StoredSecret>,
}

/// OpenMLS's `Secret`.
#[derive(Deserialize)]
struct StoredSecret {
    value: Option<SecretVLByteVec>,
}

impl Stored {
    fn into_export(self) -> Result<EpochKeys, CaptureError> {
        let secrets = present(self.message_secrets, "message_secrets")?;
        let context = present(secrets.serialized_context, "serialized_context")?;
        let sender_data = present(secrets.sender_data_secret, "sender_data_secret")?;
        let tree = present(secrets.secret_tree, "secret_tree")?;
        let own_leaf = present(tree.own_index, "secret_tree.own_index")?;
        let nodes = present(tree.size, "secret_tree.size")?;
        let leaves = present(tree.leaf_nodes, "secret_tree.leaf_nodes")?;
        let parents = present(tree.parent_nodes, "secret_tree.parent_nodes")?;
        let handshake =
            present(tree.handshake_sender_ratchets, "secret_tree.handshake_sender_ratchets")?;
        let application =
            present(tree.application_sender_ratchets, "secret_tree.application_sender_ratchets")?;

        // n leaves, n - 1 parents. The root is the middle one of all the nodes: among the parents the
        // one at n / 2 - 1, and where there are none, the only leaf.
        let tree_size = nodes / 2 + 1;
        let (root_leaf, root_parent) = match tree_size {
            1 => (Some(0), None),
            n => (None, Some(n as usize / 2 - 1)),
        };
        let mut root = None;
        for (nodes, root_at) in [(leaves, root_leaf), (parents, root_parent)] {
            for (at, node) in nodes.into_iter().enumerate() {
                match node {
                    Some(node) if root_at == Some(at) => root = Some(node),
                    Some(_) => return Err(CaptureError::NotFresh),
                    None => {}
                }
            }
        }
        if handshake.iter().chain(&application).any(Option::is_some) {
            return Err(CaptureError::NotFresh);
        }
        let root = root.ok_or(CaptureError::NotFresh)?;
        Ok(EpochKeys::new(
            context.into(),
            secret_of(sender_data, "sender_data_secret.secret.value")?,
            secret_of(root, "secret_tree root's secret.value")?,
            tree_size,
            own_leaf,
        )?)
    }
}

fn present<T>(field: Option<T>, name: &'static str) -> Result<T, CaptureError> {
    field.ok_or(CaptureError::Missing(name))
}

fn secret_of(node: StoredNode, name: &'static str) -> Result<SecretVLByteVec, CaptureError> {
    present(node.secret.and_then(|secret| secret.value), name)
}
