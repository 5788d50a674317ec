//! Making a commit on the head.
//!
//! OpenMLS cannot replay a commit of one's own from a saved parent, so the child epoch is made
//! together with the commit, in a namespace of its own. The parent stays as it was, but for the
//! place in this device's handshake ratchet: a second commit on the parent uses other keys.
//! Acceptance makes the child an epoch of the room, a refusal drops its namespace (`outcome`).

use openmls::{
    group::MlsGroup,
    prelude::{KeyPackage, LeafNodeIndex, LeafNodeParameters},
};
use openmls_traits::OpenMlsProvider;
use tls_codec::Size as _;

use super::{
    in_tree::{self, Unfit},
    publish::{BaseName, CommitDraft, TreePlace, publish},
};
use crate::{
    epochs::{EpochRecord, Origin, Status, graph, head},
    failure::Failure,
    messages::SendError,
    mls::{Removed, keep_export, take_group},
    protocol::DeviceName,
    room::Room,
    turn::Turn,
};

/// What a parent node of a ratchet tree takes, in bytes: a public key, a hash, and their lengths.
const BYTES_OF_A_PARENT: usize = 80;

/// What a commit is to change.
#[derive(Clone, Default)]
pub(super) struct Change {
    pub(super) add: Vec<(DeviceName, KeyPackage)>,
    /// The devices to remove, with their leaves.
    pub(super) remove: Vec<(DeviceName, u32)>,
    /// Renew this device's keys on the way to the root.
    pub(super) rotate: bool,
}

/// What became of a change.
pub(super) enum Staged {
    /// Its commit is on its way.
    Done,
    /// Nothing was done, as these devices cannot be added.
    Unfit(Vec<(DeviceName, Unfit)>),
}

/// Stages a commit on the head of a room and queues what has to be sent for it.
pub(super) fn stage(
    turn: &Turn<'_>,
    room: &mut Room,
    base: &EpochRecord,
    change: Change,
) -> Result<Staged, SendError> {
    let namespace = turn.tx.new_namespace()?;
    let provider = turn.child_provider(base.namespace, namespace);
    let mut group = take_group(turn, base.namespace, &provider, &room.id, base.group)?;
    let unfit = in_tree::unfit(&group, &change.add, &change.remove);
    if !unfit.is_empty() {
        turn.groups.keep(turn.tx, base.namespace, group)?;
        return Ok(Staged::Unfit(unfit));
    }

    // A commit that only adds goes without a path: it renews no keys, and the path is what makes a
    // commit expensive. A commit that removes must have it (RFC 9420 §12.4).
    let path = change.rotate || !change.remove.is_empty();
    let tree_place = tree_place(&group, &change);
    let (added, key_packages) = referenced(turn, change.add)?;
    let mut removed = Removed::default();
    let mut leaves = Vec::with_capacity(change.remove.len());
    for (device, leaf) in change.remove {
        let leaf = LeafNodeIndex::new(leaf);
        let key = group.member_at(leaf).map(|member| member.signature_key).unwrap_or_default();
        removed.note(turn.tx, device, &key)?;
        leaves.push(leaf);
    }
    let mut builder = group
        .commit_builder()
        .consume_proposal_store(false)
        .propose_removals(leaves)
        .propose_adds(key_packages)
        .force_self_update(path);
    if path {
        // The leaf may be older than this device's binding.
        let leaf = turn.identity.leaf_parts(turn.tx)?;
        builder = builder.leaf_node_parameters(
            LeafNodeParameters::builder()
                .with_capabilities(leaf.capabilities)
                .with_extensions(leaf.extensions)
                .build(),
        );
    }
    let bundle = builder
        .load_psks(provider.storage())
        .map_err(Failure::from)?
        .use_ratchet_tree_extension(tree_place == TreePlace::Inline)
        .build(turn.crypto, turn.crypto, turn.identity.signer(), |_| true)
        .map_err(Failure::from)?
        .stage_commit(&provider)
        .map_err(Failure::from)?;
    let commit = bundle.commit().to_bytes().map_err(Failure::from)?;
    let welcome = bundle.to_welcome_msg().map(|welcome| welcome.to_bytes()).transpose();
    provider.storage().hand_up_message_secrets(group.group_id())?;
    group.merge_pending_commit(&provider).map_err(Failure::from)?;

    let resolves = head::other_tips(turn.tx, room, base.group)?;
    let origin = Origin {
        namespace,
        creator: turn.identity.name(),
        parent: Some(base.id),
        group: (base.group, base.group_rank),
        status: Status::Staged,
        since_ms: turn.now_ms,
    };
    let mut epoch = EpochRecord::of(&group, origin)?;
    epoch.root = base.root;
    epoch.resolves = resolves.iter().map(|tip| tip.id).collect();
    keep_export(turn.tx, &room.id, epoch.id, &group, &provider, room.settings.history)?;
    turn.tx.detach_namespace(namespace, base.namespace)?;
    graph::put(turn.tx, &room.id, &epoch)?;
    tracing::debug!(
        room = %room.id, epoch = epoch.number, added = added.len(),
        removed = removed.devices.len(), path, "commit staged"
    );
    let draft = CommitDraft {
        commit: Some(commit),
        welcome: welcome.map_err(Failure::from)?.unwrap_or_default(),
        added,
        removed,
        resolves,
        rotates: room.renewal.wanted,
        renews: path,
        welcome_tree: Some(tree_place),
    };
    publish(turn, &room.id, &epoch, &group, base_name(base), draft)?;
    turn.groups.keep(turn.tx, namespace, group)?;
    room.standing.stage(epoch.id);
    Ok(Staged::Done)
}

/// Where the ratchet tree will stand once this change is made: OpenMLS puts it into the Welcome or
/// leaves it out before its size is known.
fn tree_place(group: &MlsGroup, change: &Change) -> TreePlace {
    let leaves = change
        .add
        .iter()
        .map(|(_, key_package)| key_package.leaf_node().tls_serialized_len() + BYTES_OF_A_PARENT);
    TreePlace::of(group.export_ratchet_tree().tls_serialized_len() + leaves.sum::<usize>())
}

/// Devices with the references of their key packages.
type Referenced = Vec<(DeviceName, Vec<u8>)>;

/// Takes the references of key packages, by which each device finds its part of the Welcome.
fn referenced(
    turn: &Turn<'_>,
    add: Vec<(DeviceName, KeyPackage)>,
) -> Result<(Referenced, Vec<KeyPackage>), Failure> {
    let (mut added, mut key_packages) = (Vec::new(), Vec::new());
    for (device, key_package) in add {
        let reference = key_package
            .hash_ref(turn.crypto)
            .map_err(|error| Failure::defect("key_package", error))?;
        added.push((device, reference.as_slice().to_vec()));
        key_packages.push(key_package);
    }
    Ok((added, key_packages))
}

/// An epoch as the event of a commit on it names it.
fn base_name(epoch: &EpochRecord) -> BaseName {
    BaseName {
        creator: epoch.creator.clone(),
        commit_event: epoch.commit_event.as_ref().map(ToString::to_string).unwrap_or_default(),
    }
}
