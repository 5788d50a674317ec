//! Commits of our own: made, stored and queued in one transaction, in force only when the
//! homeserver has accepted the event.
//!
//! OpenMLS cannot replay a commit of one's own from a saved parent, so the child epoch is made
//! together with the commit, in a namespace of its own. The parent stays as it was, but for the place in
//! our handshake ratchet, so that a second commit on it uses other keys. Acceptance makes the child an
//! epoch of the room, a refusal drops its namespace; both are in `outcome`.

use openmls::prelude::{KeyPackage, LeafNodeIndex};
use openmls_traits::OpenMlsProvider;

use super::{
    EpochRecord, Status, Turn, graph, head,
    publish::{self, Base, Draft, TREE_INLINE},
    rooms::{self, RoomRecord},
    turn::load_group,
};
use crate::{error::MlsError, protocol::DeviceName};

/// What a commit is to change.
#[derive(Default)]
pub(crate) struct Change {
    pub(crate) add: Vec<(DeviceName, KeyPackage)>,
    pub(crate) remove: Vec<(DeviceName, u32)>,
    /// Renew this device's keys on the way to the root.
    pub(crate) rotate: bool,
}

/// Stages a commit on the head of a room and queues what has to be sent for it.
pub(crate) fn stage(
    turn: &Turn<'_>,
    room: &mut RoomRecord,
    base: &EpochRecord,
    change: Change,
) -> Result<(), MlsError> {
    let room_id = room.room_id.clone();
    let namespace = turn.tx.new_namespace()?;
    let provider = turn.child_provider(base.namespace, namespace);
    let mut group = load_group(&provider, &room_id)?;

    // A commit that only adds goes without a path: it renews no keys and needs none, and the path
    // is what makes a commit expensive (RFC 9420, section 12.4). One that removes must have it.
    let path = change.rotate || !change.remove.is_empty();
    let devices = base.members as usize + change.add.len();
    let (mut added, mut key_packages) = (Vec::new(), Vec::new());
    for (device, key_package) in change.add {
        let reference = key_package
            .hash_ref(turn.crypto)
            .map_err(|error| MlsError::internal("key_package", error))?;
        added.push((device, reference.as_slice().to_vec()));
        key_packages.push(key_package);
    }
    let (removed, leaves): (Vec<_>, Vec<_>) = change.remove.into_iter().unzip();
    let bundle = group
        .commit_builder()
        .consume_proposal_store(false)
        .propose_removals(leaves.into_iter().map(LeafNodeIndex::new))
        .propose_adds(key_packages)
        .force_self_update(path)
        .load_psks(provider.storage())?
        .use_ratchet_tree_extension(devices - removed.len().min(devices) <= TREE_INLINE)
        .build(turn.crypto, turn.crypto, turn.identity.signer(), |_| true)?
        .stage_commit(&provider)?;
    let commit = bundle.commit().to_bytes()?;
    let welcome = bundle.to_welcome_msg().map(|welcome| welcome.to_bytes()).transpose()?;
    provider.storage().hand_up_message_secrets(group.group_id())?;
    group.merge_pending_commit(&provider)?;

    let resolves = head::other_tips(turn.tx, room)?;
    let mut epoch = EpochRecord::of(
        &group,
        namespace,
        turn.identity.name(),
        Some(base.id),
        Status::Staged,
        turn.now_ms,
    )?;
    epoch.resolves = resolves.iter().map(|tip| tip.id).collect();
    turn.keep_export(&room_id, &epoch, &group, &provider, room.settings.history)?;
    turn.tx.detach_namespace(namespace, base.namespace)?;
    graph::put(turn.tx, &room_id, &epoch)?;
    tracing::debug!(
        room = %room_id, epoch = epoch.number, added = added.len(),
        removed = removed.len(), path, "commit staged"
    );
    let draft = Draft {
        commit: Some(commit),
        welcome: welcome.unwrap_or_default(),
        added,
        removed,
        resolves,
        rotates: room.rotate,
    };
    publish::publish(turn, &room_id, &epoch, &group, based_on(base), draft)?;
    room.staged = Some(epoch.id);
    Ok(rooms::put(turn.tx, room)?)
}

/// An epoch as the event of a commit on it names it.
fn based_on(epoch: &EpochRecord) -> Base {
    Base {
        creator: epoch.creator.clone(),
        commit_event: epoch.commit_event.as_ref().map(ToString::to_string).unwrap_or_default(),
    }
}
