//! Which devices may take part: the machine's policy, applied to what is known of each.
//!
//! The verdict stands in a device's row, so nothing is looked up when a room is compared with its
//! group. It is made when a device list is answered, and made again for all when the policy is
//! another than before.

use ruma::UserId;
use serde::{Deserialize, Serialize};

use super::{
    record::{DEVICES, DeviceRecord, pin_own, update_eligible},
    tracking,
    user_identity::user_identity,
    verify::DeviceFault,
};
use crate::{
    exported::MemberPolicy,
    protocol::DeviceName,
    store::{Collection, StoreError, Tx},
};

/// What decides, beside what is known of a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Rule {
    policy: MemberPolicy,
    /// This very device, which the others judge.
    own: DeviceName,
    /// How much of device lists the version reads that wrote this: [`READS`].
    #[serde(default)]
    reads: u32,
}

/// Counts what device lists are read for. Where a store's rule has another number, all lists are
/// asked for again: 1 since devices without a published credential may have bound one.
const READS: u32 = 1;

const RULE: Collection<Rule> = Collection::new("member_policy");

impl Rule {
    /// The user of this very device.
    pub(super) fn own_user(&self) -> &UserId {
        &self.own.user_id
    }

    /// This very device, if this is its user.
    pub(super) fn own_device_of(&self, user: &UserId) -> Option<&DeviceName> {
        (self.own.user_id == user).then_some(&self.own)
    }

    /// Whether this is the very device that judges.
    pub(super) fn is_own(&self, device: &DeviceName) -> bool {
        self.own == *device
    }

    /// Why a device whose keys are good may not take part all the same.
    pub(super) fn fault(
        rule: Option<&Self>,
        device: &DeviceName,
        owner_has_identity: bool,
        owner_signed: bool,
    ) -> Option<DeviceFault> {
        let Self { policy, own, .. } = rule?;
        let is_in = owner_signed
            || device == own
            || match policy {
                MemberPolicy::CrossSigned => false,
                MemberPolicy::CrossSignedOrUserHasNoIdentity => !owner_has_identity,
                MemberPolicy::AnySigned => true,
            };
        (!is_in).then_some(DeviceFault::NotCrossSigned)
    }
}

/// The rule; nothing in a store that was never opened with one.
pub(super) fn rule(tx: &Tx<'_>) -> Result<Option<Rule>, StoreError> {
    RULE.get(tx, b"", b"")
}

/// Sets the policy, and pins this device's own key. Tells whether the policy is another than
/// before, or an earlier version has set it, so that all rooms have to be looked at again.
pub(crate) fn set_policy(
    tx: &Tx<'_>,
    policy: MemberPolicy,
    own: &DeviceName,
    own_key: &[u8],
) -> Result<bool, StoreError> {
    pin_own(tx, own, own_key)?;
    let new = Rule { policy, own: own.clone(), reads: READS };
    if rule(tx)?.as_ref() == Some(&new) {
        return Ok(false);
    }
    RULE.put(tx, b"", b"", &new)?;
    for user in tracking::users(tx)? {
        judge_again(tx, &user)?;
    }
    Ok(true)
}

/// Tracks the device lists of these users. The policy may have changed while nobody followed them.
pub(crate) fn track<'a>(
    tx: &Tx<'_>,
    users: impl IntoIterator<Item = &'a UserId>,
) -> Result<(), StoreError> {
    for user in tracking::track(tx, users)? {
        judge_again(tx, &user)?;
    }
    Ok(())
}

/// Judges the devices of a user by the rule of now.
fn judge_again(tx: &Tx<'_>, user: &UserId) -> Result<(), StoreError> {
    let devices = DEVICES.list(tx, user.as_bytes())?;
    if devices.is_empty() {
        return Ok(());
    }
    let rule = rule(tx)?;
    let has_identity = user_identity(tx, user)?.is_some();
    let mut changed = false;
    for before in devices {
        if !matches!(before.rejection, None | Some(DeviceFault::NotCrossSigned)) {
            continue;
        }
        let signed = before.owner_signed;
        let rejection = Rule::fault(rule.as_ref(), &before.name, has_identity, signed);
        if rejection != before.rejection {
            let record = DeviceRecord { rejection, ..before };
            DEVICES.put(tx, user.as_bytes(), record.name.device_id.as_bytes(), &record)?;
            changed = true;
        }
    }
    if changed { update_eligible(tx, user) } else { Ok(()) }
}
