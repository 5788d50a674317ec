//! What a commit must not do, whatever MLS allows: looked at before it is merged.

use openmls::{
    group::{MlsGroup, StagedCommit},
    messages::proposals::Proposal,
    prelude::Member,
};

use super::Turn;
use crate::{
    devices::{self, Trust},
    error::MlsError,
    protocol::{DeviceName, credential},
};

/// An external commit takes the place of its maker's older leaf, and of nobody else's (RFC 9420, section
/// 12.4.3.2 leaves that to the application).
pub(super) fn check_external(
    turn: &Turn<'_>,
    group: &MlsGroup,
    staged: &StagedCommit,
    joiner: &DeviceName,
) -> Result<Vec<DeviceName>, MlsError> {
    let Some(leaf) = staged.update_path_leaf_node() else {
        return Err(MlsError::rejected("not_a_member", "the joiner has no leaf"));
    };
    refuse_conflicting(turn, joiner, leaf.signature_key().as_slice())?;
    let mut removed = Vec::new();
    for proposal in staged.queued_proposals() {
        match proposal.proposal() {
            Proposal::ExternalInit(_) => {}
            Proposal::Remove(remove) => {
                let leaf = group.member(remove.removed()).ok_or_else(|| {
                    MlsError::rejected("no_such_leaf", "the commit removes a leaf that is blank")
                })?;
                let device = credential::parse(leaf.serialized_content())?;
                if device != *joiner {
                    return Err(MlsError::rejected(
                        "removes_another",
                        "a device that joins by itself removes another",
                    ));
                }
                removed.push(device);
            }
            _ => {
                return Err(MlsError::rejected(
                    "unexpected_proposal",
                    "the commit holds a proposal that Matrix rooms do not use",
                ));
            }
        }
    }
    Ok(removed)
}

/// Refuses what no honest client of ours commits, and tells who is removed. MLS itself lets a member
/// take any credential with a commit (RFC 9420, section 5.3.1 leaves that to the application); here a
/// leaf stays its device's.
pub(super) fn check(
    group: &MlsGroup,
    staged: &StagedCommit,
    committer: &Member,
) -> Result<Vec<DeviceName>, MlsError> {
    let mut removed = Vec::new();
    for proposal in staged.queued_proposals() {
        match proposal.proposal() {
            Proposal::Add(_) => {}
            Proposal::Remove(remove) => {
                let leaf = group.member(remove.removed()).ok_or_else(|| {
                    MlsError::rejected("no_such_leaf", "the commit removes a leaf that is blank")
                })?;
                removed.push(credential::parse(leaf.serialized_content())?);
            }
            _ => {
                return Err(MlsError::rejected(
                    "unexpected_proposal",
                    "the commit holds a proposal that Matrix rooms do not use",
                ));
            }
        }
    }
    if let Some(leaf) = staged.update_path_leaf_node()
        && (*leaf.credential() != committer.credential
            || leaf.signature_key().as_slice() != committer.signature_key)
    {
        return Err(MlsError::rejected(
            "credential_change",
            "the committer's new leaf has another credential or signature key",
        ));
    }
    Ok(removed)
}

/// The devices that a commit adds, none of which may be an impostor.
pub(super) fn refuse_conflicting_adds(
    turn: &Turn<'_>,
    staged: &StagedCommit,
) -> Result<Vec<DeviceName>, MlsError> {
    let mut added = Vec::new();
    for add in staged.add_proposals() {
        let leaf = add.add_proposal().key_package().leaf_node();
        let device = credential::parse(leaf.credential().serialized_content())?;
        refuse_conflicting(turn, &device, leaf.signature_key().as_slice())?;
        added.push(device);
    }
    Ok(added)
}

/// A leaf whose key is not the one its device publishes is an impostor's.
pub(crate) fn refuse_conflicting(
    turn: &Turn<'_>,
    device: &DeviceName,
    key: &[u8],
) -> Result<(), MlsError> {
    match devices::trust(turn.tx, &device.0, &device.1, key)? {
        Trust::Conflicting => Err(MlsError::rejected(
            "conflicting_credential",
            format!("{device} is added with a key that it does not publish"),
        )),
        Trust::Unknown | Trust::Signed => Ok(()),
    }
}
