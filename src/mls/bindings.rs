//! The bindings in verified leaves: where they are taken from, and what follows from those that are
//! news (`devices::note_bindings`).
//!
//! Only leaves whose own signatures OpenMLS has verified are looked at. A leaf's maker holds the
//! leaf's key then, and nobody can bind another's MLS key to a device.

use openmls::{
    group::{MlsGroup, StagedCommit},
    prelude::LeafNode,
};

use crate::{
    devices::{self, LeafBinding},
    exported::Update,
    protocol::{binding, credential},
    room::membership,
    store::StoreError,
    turn::Turn,
};

/// The binding in a verified leaf, if it has one.
pub(crate) fn binding_of(leaf: &LeafNode) -> Option<LeafBinding> {
    let signature = binding::in_leaf(leaf)?.to_vec();
    let device = credential::parse(leaf.credential().serialized_content()).ok()?;
    Some(LeafBinding { device, key: leaf.signature_key().as_slice().to_vec(), signature })
}

/// Takes in the bindings of those whom a commit adds, and of its committer.
pub(crate) fn note_bindings_of_commit(
    turn: &Turn<'_>,
    staged: &StagedCommit,
) -> Result<(), StoreError> {
    let added = staged
        .add_proposals()
        .filter_map(|add| binding_of(add.add_proposal().key_package().leaf_node()));
    let committer = staged.update_path_leaf_node().and_then(binding_of);
    note_bindings(turn, added.chain(committer))
}

/// Takes in the bindings of all members of a group that this device has just joined.
pub(crate) fn note_bindings_of_members(
    turn: &Turn<'_>,
    group: &MlsGroup,
) -> Result<(), StoreError> {
    let tree = group.public_group();
    let leaves = tree.members().filter_map(|member| tree.leaf(member.index));
    note_bindings(turn, leaves.filter_map(binding_of))
}

/// Takes in bindings. Where a device may take part now, the rooms of its user are looked at again.
pub(crate) fn note_bindings(
    turn: &Turn<'_>,
    leaves: impl IntoIterator<Item = LeafBinding>,
) -> Result<(), StoreError> {
    let noted = devices::note_bindings(turn.tx, leaves)?;
    let users = || noted.users.iter().map(|user| &**user);
    membership::unsettle_rooms_of(turn.tx, users())?;
    membership::devices_changed(turn.tx, users())?;
    if !noted.users.is_empty() {
        turn.tell(Update::TrustChanged { user_ids: users().map(ToString::to_string).collect() });
    }
    for rejected in noted.rejected {
        turn.tell(Update::DeviceRejected {
            user_id: rejected.name.user_id.to_string(),
            device_id: rejected.name.device_id.to_string(),
            code: rejected.reason.code().to_owned(),
            reason: rejected.reason.to_string(),
        });
    }
    Ok(())
}
