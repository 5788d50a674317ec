//! Which silent devices may be asked for a key package now.

use std::collections::BTreeSet;

use ruma::OwnedUserId;

use super::{
    policy::{Rule, rule},
    silent,
    user_identity::user_identity,
};
use crate::{
    protocol::DeviceName,
    store::{StoreError, Tx},
};

/// Which silent devices may be asked for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Due {
    /// Those for whom nobody asked yet, in order of their names.
    pub(crate) new: Vec<DeviceName>,
    /// Those who were asked for in vain some time ago, each with how often.
    pub(crate) again: Vec<(DeviceName, u32)>,
    /// When the first of the others may be asked for, in milliseconds since 1970.
    pub(crate) next_ms: Option<u64>,
}

/// Which silent devices of these users may be asked for now. Whoever could not take part even with
/// a credential is left out.
pub(crate) fn due(
    tx: &Tx<'_>,
    users: &BTreeSet<OwnedUserId>,
    now_ms: u64,
) -> Result<Due, StoreError> {
    let mut due = Due::default();
    let rule = rule(tx)?;
    for row in silent::all(tx)? {
        if !users.contains(&row.user_id) {
            continue;
        }
        let has_identity = user_identity(tx, &row.user_id)?.is_some();
        for (device_id, device) in row.devices {
            let name = DeviceName::new(row.user_id.clone(), device_id);
            if Rule::fault(rule.as_ref(), &name, has_identity, device.owner_signed).is_some()
                || rule.as_ref().is_some_and(|rule| rule.is_own(&name))
            {
                continue;
            }
            match (device.rests_until(now_ms), device.asked) {
                (Some(until_ms), _) => {
                    due.next_ms = Some(due.next_ms.map_or(until_ms, |at| at.min(until_ms)));
                }
                (None, 0) => due.new.push(name),
                (None, asked) => due.again.push((name, asked)),
            }
        }
    }
    Ok(due)
}
