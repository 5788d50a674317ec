//! What a commit must not do, whatever MLS allows. It is checked before the commit is merged.

use openmls::{
    group::{MlsGroup, StagedCommit},
    messages::proposals::Proposal,
    prelude::{LeafNodeIndex, Member},
};

use crate::{
    devices::{self, Verdict},
    protocol::{DeviceName, credential},
    rejection::{InputError, Rejection},
    store::{StoreError, Tx},
};

/// An external commit takes the place of its maker's older leaf, and of nobody else's (RFC 9420,
/// section 12.4.3.2 leaves that to the application).
pub(crate) fn check_external_commit(
    tx: &Tx<'_>,
    group: &MlsGroup,
    staged: &StagedCommit,
    joiner: &DeviceName,
) -> Result<Removed, InputError> {
    let Some(leaf) = staged.update_path_leaf_node() else {
        return Err(Rejection::NotAMember("the joiner has no leaf").into());
    };
    refuse_conflicting(tx, joiner, leaf.signature_key().as_slice())?;
    let mut removed = Removed::default();
    for proposal in staged.queued_proposals() {
        match proposal.proposal() {
            Proposal::ExternalInit(_) => {}
            Proposal::Remove(remove) => {
                let (device, member) = removed_member(group, remove.removed())?;
                if device != *joiner {
                    return Err(Rejection::RemovesAnother.into());
                }
                removed.note(tx, device, &member.signature_key)?;
            }
            _ => return Err(Rejection::UnexpectedProposal.into()),
        }
    }
    Ok(removed)
}

/// Refuses what no honest client of ours commits, and tells who is removed. MLS itself lets a
/// member take any credential with a commit (RFC 9420, section 5.3.1 leaves that to the
/// application); here a leaf stays its device's.
pub(crate) fn check_commit(
    tx: &Tx<'_>,
    group: &MlsGroup,
    staged: &StagedCommit,
    committer: &Member,
) -> Result<Removed, InputError> {
    let mut removed = Removed::default();
    for proposal in staged.queued_proposals() {
        match proposal.proposal() {
            Proposal::Add(_) => {}
            Proposal::Remove(remove) => {
                let (device, member) = removed_member(group, remove.removed())?;
                removed.note(tx, device, &member.signature_key)?;
            }
            _ => return Err(Rejection::UnexpectedProposal.into()),
        }
    }
    if let Some(leaf) = staged.update_path_leaf_node()
        && (*leaf.credential() != committer.credential
            || leaf.signature_key().as_slice() != committer.signature_key)
    {
        return Err(Rejection::CredentialChange.into());
    }
    Ok(removed)
}

/// The devices that a commit removes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Removed {
    pub(crate) devices: Vec<DeviceName>,
    /// Those of them whose leaf has another key than this device has seen first.
    pub(crate) impostors: Vec<DeviceName>,
}

impl Removed {
    /// Notes that a device's leaf is removed, which has this signature key.
    pub(crate) fn note(
        &mut self,
        tx: &Tx<'_>,
        device: DeviceName,
        key: &[u8],
    ) -> Result<(), StoreError> {
        if is_conflicting(tx, &device, key)? {
            self.impostors.push(device.clone());
        }
        self.devices.push(device);
        Ok(())
    }
}

/// The member of a group that a proposal removes. OpenMLS refuses a commit that removes nobody, and
/// so does this, with the same consequence.
fn removed_member(
    group: &MlsGroup,
    leaf: LeafNodeIndex,
) -> Result<(DeviceName, Member), Rejection> {
    let nobody = || Rejection::BadCommit("the commit removes a leaf that is blank".to_owned());
    let member = group.member_at(leaf).ok_or_else(nobody)?;
    Ok((credential::parse(member.credential.serialized_content())?, member))
}

/// The devices that a commit adds.
#[derive(Default)]
pub(crate) struct Added {
    pub(crate) devices: Vec<DeviceName>,
    /// Those of them whose leaf has another key than this device has seen first.
    pub(crate) impostors: Vec<DeviceName>,
}

/// The devices that a commit adds. A commit that adds an impostor is followed all the same: which
/// key was first differs between members whose homeservers lie to one of them, and who follows no
/// commit of the others is alone. Nothing is sealed to the impostor, as it is removed before that,
/// and nothing of its is read.
pub(crate) fn devices_added(tx: &Tx<'_>, staged: &StagedCommit) -> Result<Added, InputError> {
    let mut added = Added::default();
    for add in staged.add_proposals() {
        let leaf = add.add_proposal().key_package().leaf_node();
        let device = credential::parse(leaf.credential().serialized_content())?;
        let key = leaf.signature_key().as_slice();
        if devices::verdict(tx, &device, key)? == Verdict::Conflicting {
            added.impostors.push(device.clone());
        }
        added.devices.push(device);
    }
    Ok(added)
}

/// Refuses what is done by a leaf whose key is not the one that was first seen for its device.
pub(crate) fn refuse_conflicting(
    tx: &Tx<'_>,
    device: &DeviceName,
    key: &[u8],
) -> Result<(), InputError> {
    if is_conflicting(tx, device, key)? {
        return Err(Rejection::ConflictingCredential(device.clone()).into());
    }
    Ok(())
}

/// Whether a leaf's key is not the one that was first seen for its device: it is an impostor's.
pub(crate) fn is_conflicting(
    tx: &Tx<'_>,
    device: &DeviceName,
    key: &[u8],
) -> Result<bool, StoreError> {
    Ok(devices::verdict(tx, device, key)? == Verdict::Conflicting)
}

#[cfg(test)]
mod tests {
    use openmls::prelude::{
        BasicCredential, Ciphersuite, CredentialWithKey, KeyPackage, MlsGroupCreateConfig,
    };
    use openmls_basic_credential::SignatureKeyPair;
    use openmls_rust_crypto::OpenMlsRustCrypto;

    use super::*;

    type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

    const SUITE: Ciphersuite = Ciphersuite::MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519;

    /// A device of plain OpenMLS: its name, its key and its credential.
    fn device(user: &str) -> Outcome<(DeviceName, SignatureKeyPair, CredentialWithKey)> {
        let name = DeviceName::new(user.try_into()?, "PHONE".into());
        let signer = SignatureKeyPair::new(SUITE.signature_algorithm())?;
        let named = BasicCredential::new(credential::encode(&name));
        let signature_key = signer.public().into();
        Ok((name, signer, CredentialWithKey { credential: named.into(), signature_key }))
    }

    /// OpenMLS refuses a commit that removes nobody, so no test with a whole commit gets here.
    #[test]
    fn a_removal_removes_somebody() -> Outcome {
        let provider = OpenMlsRustCrypto::default();
        let (alice, signer, named) = device("@alice:example.org")?;
        let config = MlsGroupCreateConfig::builder().ciphersuite(SUITE).build();
        let mut group = MlsGroup::new(&provider, &signer, &config, named)?;
        let (bob, bobs, named) = device("@bob:example.org")?;
        let package = KeyPackage::builder().build(SUITE, &provider, &bobs, named)?;
        group.add_members(&provider, &signer, &[package.key_package().clone()])?;
        group.merge_pending_commit(&provider)?;
        let (first, second) = (LeafNodeIndex::new(0), LeafNodeIndex::new(1));
        assert_eq!(removed_member(&group, first)?.0, alice);
        assert_eq!(removed_member(&group, second)?.0, bob);
        group.remove_members(&provider, &signer, &[second])?;
        group.merge_pending_commit(&provider)?;
        for nobody in [second, LeafNodeIndex::new(7)] {
            let refused = removed_member(&group, nobody).err().ok_or("nobody is removed")?;
            assert_eq!(
                (refused.code(), refused.to_string().contains("blank")),
                ("bad_commit", true)
            );
        }
        Ok(())
    }
}
