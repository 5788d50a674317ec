//! Getting an epoch's keys out of OpenMLS: the only place that knows how it stores them.
//!
//! OpenMLS has no call for the encryption secret. It hands its message secrets to our storage when a
//! group is created, joined, or moved by a commit; at that moment the secret stands in the root of the
//! secret tree, which nothing has used yet. This reads it there, from the CBOR our storage wrote. A
//! change of that form in an OpenMLS update is an error here and fails this file's test; it can
//! never go unnoticed, as a wrong secret opens nothing.

use serde::Deserialize;
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::{EpochKeys, HistoryError};

/// As OpenMLS stores it; only what is needed, under OpenMLS's names.
#[derive(Deserialize)]
struct MessageSecretsStore {
    message_secrets: MessageSecrets,
}

#[derive(Deserialize)]
struct MessageSecrets {
    sender_data_secret: SecretHolder,
    serialized_context: Vec<u8>,
    secret_tree: SecretTree,
}

#[derive(Deserialize)]
struct SecretTree {
    own_index: u32,
    leaf_nodes: Vec<Option<SecretHolder>>,
    parent_nodes: Vec<Option<SecretHolder>>,
    size: u32,
}

#[derive(Deserialize)]
struct SecretHolder {
    secret: Secret,
}

#[derive(Deserialize)]
struct Secret {
    value: SecretBytes,
}

/// Bytes, which OpenMLS writes as `{vec: …}`.
#[derive(Deserialize, Zeroize, ZeroizeOnDrop)]
struct SecretBytes {
    vec: Vec<u8>,
}

impl SecretHolder {
    fn take(mut self) -> Vec<u8> {
        std::mem::take(&mut self.secret.value.vec)
    }
}

/// The keys of a fresh epoch, from what OpenMLS stored when it began.
pub(crate) fn epoch_keys(message_secrets_cbor: &[u8]) -> Result<EpochKeys, HistoryError> {
    let store: MessageSecretsStore = ciborium::from_reader(message_secrets_cbor)
        .map_err(|error| HistoryError::UnknownForm(error.to_string()))?;
    let MessageSecrets { sender_data_secret, serialized_context, secret_tree } =
        store.message_secrets;
    let SecretTree { own_index, leaf_nodes, parent_nodes, size } = secret_tree;

    // The tree of n leaves has 2n - 1 nodes, and its root is the parent in the middle; of one
    // leaf, the leaf itself (RFC 9420, appendix C).
    let leaf_count = size / 2 + 1;
    let (nodes, root) = match leaf_count {
        1 => (leaf_nodes, 0),
        _ => (parent_nodes, leaf_count as usize / 2 - 1),
    };
    let mut present = nodes.into_iter().enumerate().filter_map(|(at, node)| Some((at, node?)));
    let (Some((at, secret)), None) = (present.next(), present.next()) else {
        return Err(HistoryError::UnknownForm("the epoch has been used already".to_owned()));
    };
    if at != root || !leaf_count.is_power_of_two() {
        return Err(HistoryError::UnknownForm(
            "the secret tree has no secret at its root".to_owned(),
        ));
    }
    EpochKeys::new(
        serialized_context,
        sender_data_secret.take(),
        secret.take(),
        leaf_count,
        own_index,
    )
}
