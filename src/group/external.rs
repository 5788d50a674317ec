//! Joining with nobody online: an external commit on an epoch's public group state (RFC 9420, section
//! 12.4.3.2).
//!
//! Before it is made, the claims in the public group state are checked: its signature by a leaf of its own
//! tree, the tree's hashes and signatures (all by OpenMLS), that the leaf is the device that the event
//! says (of a user in the room, where there is such a one: see `heal`), and that no leaf has a key that its device does not publish. Members who do
//! not belong in the room are removed before the first message, as always. An older leaf of this device is
//! replaced in the same commit.

use openmls::{
    group::MlsGroup,
    prelude::{LeafNodeParameters, RatchetTreeIn, tls_codec::Deserialize as _},
};
use openmls_traits::OpenMlsProvider;

use super::{
    EpochId, EpochRecord, Status, Turn,
    checks::refuse_conflicting,
    foreign::ForeignEpoch,
    graph, head,
    publish::{self, Base, Draft},
    rooms::{self, RoomRecord},
    turn::join_config,
};
use crate::{error::MlsError, protocol::credential};

/// Stages an external commit on a foreign epoch and queues what has to be sent for it.
pub(crate) fn stage(
    turn: &Turn<'_>,
    room: &mut RoomRecord,
    onto: &ForeignEpoch,
    tree: Option<Vec<u8>>,
) -> Result<(), MlsError> {
    let room_id = room.room_id.clone();
    let info = onto.info()?;
    // What was ranked is what is joined.
    if EpochId::of(info.group_context())? != onto.id {
        return Err(MlsError::damaged("a foreign epoch has changed"));
    }
    if info.ciphersuite() != turn.identity.ciphersuite() {
        return Err(MlsError::unsupported("ciphersuite", "the group uses another ciphersuite"));
    }

    let namespace = turn.tx.new_namespace()?;
    let provider = turn.provider(namespace);
    let mut builder = MlsGroup::external_commit_builder()
        .with_config(join_config())
        // As for a Welcome: an old room must not become unjoinable.
        .skip_lifetime_validation();
    if let Some(tree) = tree {
        let tree = RatchetTreeIn::tls_deserialize_exact(tree.as_slice())
            .map_err(|_| MlsError::rejected("bad_tree", "the ratchet tree does not parse"))?;
        builder = builder.with_ratchet_tree(tree);
    }
    let leaf =
        LeafNodeParameters::builder().with_capabilities(turn.identity.capabilities()).build();
    let (group, bundle) = builder
        .build_group(&provider, info, turn.identity.credential_with_key())?
        .leaf_node_parameters(leaf)
        .load_psks(provider.storage())?
        .build(turn.crypto, turn.crypto, turn.identity.signer(), |_| true)?
        .finalize(&provider)?;
    let mut creator_is_member = false;
    for member in group.members() {
        let device = credential::parse(member.credential.serialized_content())?;
        if device == turn.identity.name() {
            continue;
        }
        refuse_conflicting(turn, &device, &member.signature_key)?;
        creator_is_member |= device == onto.creator;
    }
    // Our own older self may have made it.
    if !creator_is_member && onto.creator != turn.identity.name() {
        return Err(MlsError::rejected(
            "stranger_state",
            "the public group state comes from a device that is not in the group",
        ));
    }

    let parent = graph::find(turn.tx, &room_id, onto.id)?.map(|epoch| epoch.id);
    let mut epoch = EpochRecord::of(
        &group,
        namespace,
        turn.identity.name(),
        parent,
        Status::Staged,
        turn.now_ms,
    )?;
    epoch.external = true;
    let resolves = head::other_tips(turn.tx, room)?;
    epoch.resolves = resolves.iter().map(|tip| tip.id).collect();
    turn.keep_export(&room_id, &epoch, &group, &provider, room.settings.history)?;
    graph::put(turn.tx, &room_id, &epoch)?;
    tracing::debug!(room = %room_id, epoch = epoch.number, "external commit staged");
    let base = Base { creator: onto.creator.clone(), commit_event: onto.commit_event.to_string() };
    let draft = Draft { commit: Some(bundle.commit().to_bytes()?), resolves, ..Draft::default() };
    publish::publish(turn, &room_id, &epoch, &group, base, draft)?;
    room.staged = Some(epoch.id);
    Ok(rooms::put(turn.tx, room)?)
}
