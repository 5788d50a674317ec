//! Keeping what it takes to read an epoch.

use openmls::group::MlsGroup;
use openmls_traits::OpenMlsProvider;
use ruma::RoomId;

use crate::{
    failure::Failure,
    history::{self, archive},
    identity::Provider,
    protocol::EpochId,
    room::Retention,
    store::Tx,
};

/// Keeps the export of the epoch that a group has just entered, or, where its messages are read
/// once, only who is in it. It must be called before any of the epoch's ratchets moves.
pub(crate) fn keep_export(
    tx: &Tx<'_>,
    room: &RoomId,
    epoch: EpochId,
    group: &MlsGroup,
    provider: &Provider<'_>,
    history: Retention,
) -> Result<(), Failure> {
    let keys = if history == Retention::ReadOnce {
        None
    } else {
        let secrets = provider
            .storage()
            .message_secrets_bytes(group.group_id())?
            .ok_or_else(|| Failure::defect("message_secrets", "OpenMLS wrote none"))?;
        Some(history::capture(&secrets)?)
    };
    Ok(archive::keep(tx, room, epoch, keys, group.members())?)
}
