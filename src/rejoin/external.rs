//! The external commit: joining with nobody online, on an epoch's public group state (RFC 9420
//! §12.4.3.2).
//!
//! Before it is made, the claims in the public group state are checked: its signature by a leaf of
//! its own tree, the tree's hashes and signatures (all by OpenMLS), that the leaf is that of the
//! device which the event names, and that this leaf is no impostor's. Members who do not belong in
//! the room are removed before the first message, as always. An older leaf of this device is
//! replaced in the same commit.

use openmls::{
    group::MlsGroup, messages::group_info::VerifiableGroupInfo, prelude::LeafNodeParameters,
};
use openmls_traits::OpenMlsProvider;

use crate::{
    commits::{BaseName, CommitDraft, publish},
    devices,
    epochs::{EpochRecord, JoinableEpoch, Origin, Status, graph, head},
    failure::Failure,
    identity::Provider,
    incoming::EventError,
    mls::{join_config, keep_export, note_bindings_of_members, refuse_conflicting},
    protocol::{EpochId, credential},
    ratchet_trees::parse_tree,
    rejection::{InputError, Rejection},
    room::Room,
    turn::Turn,
};

/// Stages an external commit on a joinable epoch and queues what has to be sent for it; gives the
/// staged epoch.
pub(super) fn stage(
    turn: &Turn<'_>,
    room: &Room,
    onto: &JoinableEpoch,
    tree: Option<Vec<u8>>,
) -> Result<EpochId, EventError> {
    let info = onto.info()?;
    // What was ranked is what is joined.
    if EpochId::of(info.group_context()).map_err(Failure::from)? != onto.id {
        return Err(Failure::damaged("an epoch to join has changed").into());
    }
    if info.ciphersuite() != turn.identity.ciphersuite() {
        return Err(Rejection::OtherCiphersuite.into());
    }
    let namespace = turn.tx.new_namespace()?;
    let provider = turn.provider(namespace);
    let (group, commit) = commit(turn, &provider, info, tree)?;
    note_bindings_of_members(turn, &group).map_err(Failure::from)?;
    check_members(turn, &group, onto)?;

    let base = graph::find(turn.tx, &room.id, onto.id)?;
    let origin = Origin {
        namespace,
        creator: turn.identity.name(),
        parent: base.as_ref().map(|base| base.id),
        group: (onto.group, room.rank_of(onto.group)),
        status: Status::Staged,
        since_ms: turn.now_ms,
    };
    let mut epoch = EpochRecord::of(&group, origin)?;
    epoch.external = true;
    match base {
        Some(base) => epoch.root = base.root,
        None => epoch.begin_tree(),
    }
    let resolves = head::other_tips(turn.tx, room, onto.group)?;
    epoch.resolves = resolves.iter().map(|tip| tip.id).collect();
    keep_export(turn.tx, &room.id, epoch.id, &group, &provider, room.settings.history)?;
    graph::put(turn.tx, &room.id, &epoch)?;
    tracing::debug!(room = %room.id, epoch = epoch.number, "external commit staged");
    let base =
        BaseName { creator: onto.creator.clone(), commit_event: onto.commit_event.to_string() };
    let draft = CommitDraft { commit: Some(commit), resolves, ..CommitDraft::default() };
    publish(turn, &room.id, &epoch, &group, base, draft)?;
    Ok(epoch.id)
}

/// Has OpenMLS verify the public group state and make the commit.
fn commit(
    turn: &Turn<'_>,
    provider: &Provider<'_>,
    info: VerifiableGroupInfo,
    tree: Option<Vec<u8>>,
) -> Result<(MlsGroup, Vec<u8>), InputError> {
    let mut builder = MlsGroup::external_commit_builder()
        .with_config(join_config())
        // As for a Welcome: an old room must not become unjoinable.
        .skip_lifetime_validation();
    if let Some(tree) = tree {
        let group = info.group_context().group_id();
        builder = builder.with_ratchet_tree(parse_tree(turn.crypto, group, &tree)?);
    }
    let leaf = turn.identity.leaf_parts(turn.tx).map_err(Failure::from)?;
    let leaf = LeafNodeParameters::builder()
        .with_capabilities(leaf.capabilities)
        .with_extensions(leaf.extensions)
        .build();
    let (group, bundle) = builder
        .build_group(provider, info, turn.identity.credential_with_key())?
        .leaf_node_parameters(leaf)
        .load_psks(provider.storage())?
        .build(turn.crypto, turn.crypto, turn.identity.signer(), |_| true)?
        .finalize(provider)?;
    Ok((group, bundle.commit().to_bytes()?))
}

/// Checks that the maker of the public group state is one of the members, whose leaf has signed it,
/// and no impostor. This device's own older self may have made it. An impostor among the others is
/// removed before anything is sealed.
fn check_members(
    turn: &Turn<'_>,
    group: &MlsGroup,
    onto: &JoinableEpoch,
) -> Result<(), InputError> {
    let (own, creator) = (turn.identity.name(), &onto.creator);
    let mut creator_has_signed = *creator == own;
    for member in group.members() {
        let device = credential::parse(member.credential.serialized_content())?;
        if device != own && device == *creator {
            refuse_conflicting(turn.tx, &device, &member.signature_key)?;
            if devices::is_silent(turn.tx, &device).map_err(Failure::from)? {
                // The leaf has no binding by the device, so anybody may have made it.
                return Err(Rejection::StrangerState.into());
            }
            creator_has_signed |= onto.is_signed_with(turn, member.signature_key)?;
        }
    }
    if creator_has_signed { Ok(()) } else { Err(Rejection::StrangerState.into()) }
}
