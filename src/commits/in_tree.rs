//! Whether key packages that are good by themselves can be added to this very group.
//!
//! RFC 9420 §7.3 and §12.2 ask more of a leaf than can be seen in its key package: its keys are its
//! own among the members and among what the same commit adds, and it supports what the group and
//! its members use. OpenMLS looks at that when the commit is made and refuses the whole commit,
//! without saying for which leaf. So it is looked at before.

use std::collections::BTreeSet;

use openmls::prelude::{
    CredentialType, ExtensionType, Extensions, GroupContext, KeyPackage, MlsGroup,
};

use crate::{identity::encryption_key, protocol::DeviceName};

/// What stands in the way of adding a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unfit {
    /// The device's signature key is another's: no key package of it can be added.
    Device,
    /// Something in this key package: another may do.
    Package,
}

/// The devices among these that cannot be added beside the members that stay, and beside those that
/// stand before them.
pub(super) fn unfit(
    group: &MlsGroup,
    add: &[(DeviceName, KeyPackage)],
    remove: &[(DeviceName, u32)],
) -> Vec<(DeviceName, Unfit)> {
    #[cfg(feature = "test-hooks")]
    if crate::store::hooks::all_fit() {
        return Vec::new();
    }
    if add.is_empty() {
        return Vec::new();
    }
    let mut taken = Taken::default();
    let removed: BTreeSet<u32> = remove.iter().map(|(_, leaf)| *leaf).collect();
    for member in group.members() {
        taken.credential_types.insert(member.credential.credential_type().into());
        if !removed.contains(&member.index.u32()) {
            taken.signature.insert(member.signature_key);
            taken.encryption.insert(member.encryption_key);
        }
    }
    let mut unfit = Vec::new();
    for (device, package) in add {
        match taken.take(Some(group.extensions()), package) {
            Ok(()) => {}
            Err(why) => unfit.push((device.clone(), why)),
        }
    }
    unfit
}

/// The devices among these that cannot be in a new group beside its founder and beside those that
/// stand before them. Its context has no extensions.
pub(super) fn unfit_together(
    founder: &KeyPackage,
    others: &[(DeviceName, KeyPackage)],
) -> Vec<(DeviceName, Unfit)> {
    #[cfg(feature = "test-hooks")]
    if crate::store::hooks::all_fit() {
        return Vec::new();
    }
    let mut taken = Taken::default();
    let credential = founder.leaf_node().credential();
    taken.credential_types.insert(credential.credential_type().into());
    // What stands in the way of the founder stands in the way of all who come after.
    let _ = taken.take(None, founder);
    let take = |(device, package): &(DeviceName, KeyPackage)| {
        taken.take(None, package).err().map(|why| (device.clone(), why))
    };
    others.iter().filter_map(take).collect()
}

/// What stands in a group's context; nothing of a new group.
type Context<'a> = Option<&'a Extensions<GroupContext>>;

/// The keys and the kinds of credentials that are in use.
#[derive(Default)]
struct Taken {
    signature: BTreeSet<Vec<u8>>,
    encryption: BTreeSet<Vec<u8>>,
    init: BTreeSet<Vec<u8>>,
    credential_types: BTreeSet<u16>,
}

impl Taken {
    /// Takes the keys of a key package, unless something stands in the way.
    fn take(&mut self, context: Context<'_>, package: &KeyPackage) -> Result<(), Unfit> {
        let leaf = package.leaf_node();
        let signature = leaf.signature_key().as_slice().to_vec();
        let Some(encryption) = encryption_key(leaf) else { return Err(Unfit::Package) };
        let init = package.hpke_init_key().as_slice().to_vec();
        if self.signature.contains(&signature) {
            return Err(Unfit::Device);
        }
        let is_used = |key| self.encryption.contains(key) || self.init.contains(key);
        if is_used(&encryption) || is_used(&init) || !self.supports(context, package) {
            return Err(Unfit::Package);
        }
        self.signature.insert(signature);
        self.encryption.insert(encryption);
        self.init.insert(init);
        Ok(())
    }

    /// Whether a leaf supports what the group's context needs and asks for, and the credentials of
    /// its members.
    fn supports(&self, context: Context<'_>, package: &KeyPackage) -> bool {
        let capabilities = package.leaf_node().capabilities();
        let extension = |kind: &ExtensionType| {
            is_known_to_all(*kind) || capabilities.extensions().contains(kind)
        };
        let credential = |kind: &CredentialType| capabilities.credentials().contains(kind);
        let required = context.and_then(Extensions::required_capabilities);
        context.is_none_or(|context| context.iter().all(|one| extension(&one.extension_type())))
            && required.is_none_or(|required| {
                required.extension_types().iter().all(extension)
                    && required.credential_types().iter().all(credential)
                    && required
                        .proposal_types()
                        .iter()
                        .all(|kind| capabilities.proposals().contains(kind))
            })
            && self.credential_types.iter().all(|kind| credential(&CredentialType::from(*kind)))
    }
}

/// Whether every implementation supports extensions of this type, and no capabilities list it (RFC
/// 9420 §7.2).
fn is_known_to_all(kind: ExtensionType) -> bool {
    matches!(
        kind,
        ExtensionType::ApplicationId
            | ExtensionType::RatchetTree
            | ExtensionType::RequiredCapabilities
            | ExtensionType::ExternalPub
            | ExtensionType::ExternalSenders
    )
}
