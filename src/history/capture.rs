//! Capturing an epoch's export from what OpenMLS stores. Nothing else reads OpenMLS's stored
//! message secrets.
//!
//! OpenMLS has no call for an epoch's encryption secret, but it hands the secret to its storage:
//! the secret tree of a fresh epoch is written with the secret at its root, before any ratchet has
//! moved. (In a group of one member the root is that member's leaf.) So the capture must happen in
//! the transaction that made the epoch, before OpenMLS sends or receives a message in it. A later
//! capture fails with [`CaptureError::NotFresh`]; it never gives wrong keys. Only the fields named
//! here are read, and if an OpenMLS update has moved one, the error names it.
//!
//! No error carries a text of serde's: such a text may quote the value it stopped at, which is a
//! secret here.

use serde::{Deserialize, de::IgnoredAny};
use tls_codec::{SecretVLByteVec, VLByteVec};

use super::export::{EpochKeys, ExportError};
use crate::store::packed;

/// Why no export can be captured from stored message secrets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CaptureError {
    /// The bytes do not decode, or a field has another type than OpenMLS 0.9 gives it.
    #[error("the stored message secrets cannot be read")]
    Unreadable,
    /// A field is not where OpenMLS 0.9 has it.
    #[error("the stored message secrets have no {0}")]
    Missing(&'static str),
    /// The secret tree has been used already, so its root is gone.
    #[error("the epoch's secret tree has been used already")]
    NotFresh,
    /// The fields are there, but do not fit each other.
    #[error(transparent)]
    Export(#[from] ExportError),
}

/// Captures the export from what `StorageProvider::write_message_secrets` was given for an epoch
/// that has just begun, as it is stored.
pub fn capture(bytes: &[u8]) -> Result<EpochKeys, CaptureError> {
    let stored: Stored = packed::read(bytes).map_err(|_| CaptureError::Unreadable)?;
    stored.into_export()
}

/// OpenMLS's `MessageSecretsStore`. Every field of these structs is optional, so that an error can
/// name the one that is missing.
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
    /// The number of nodes: leaves and parents.
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
        let secrets = required(self.message_secrets, "message_secrets")?;
        let context = required(secrets.serialized_context, "serialized_context")?;
        let sender_data = required(secrets.sender_data_secret, "sender_data_secret")?;
        let tree = required(secrets.secret_tree, "secret_tree")?;
        let own_leaf = required(tree.own_index, "secret_tree.own_index")?;
        let nodes = required(tree.size, "secret_tree.size")?;
        let leaves = required(tree.leaf_nodes, "secret_tree.leaf_nodes")?;
        let parents = required(tree.parent_nodes, "secret_tree.parent_nodes")?;
        let handshake =
            required(tree.handshake_sender_ratchets, "secret_tree.handshake_sender_ratchets")?;
        let application =
            required(tree.application_sender_ratchets, "secret_tree.application_sender_ratchets")?;

        // A tree has n leaves and n - 1 parents. The root is the middle one of all nodes: the
        // parent at n / 2 - 1, or the only leaf where there are no parents.
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
            Some(own_leaf),
        )?)
    }
}

fn required<T>(field: Option<T>, name: &'static str) -> Result<T, CaptureError> {
    field.ok_or(CaptureError::Missing(name))
}

fn secret_of(node: StoredNode, name: &'static str) -> Result<SecretVLByteVec, CaptureError> {
    required(node.secret.and_then(|secret| secret.value), name)
}
