//! The key of a bundle.

use ruma::RoomId;
use zeroize::Zeroizing;

use crate::{
    epochs::EpochRecord, failure::Failure, mls::load_group, protocol::identifiers::HISTORY_LABEL,
    sessions::BackupKey, turn::Turn,
};

/// The bundle's key: every member of the epoch can make it, and nobody else.
pub(super) fn bundle_key(
    turn: &Turn<'_>,
    room: &RoomId,
    epoch: &EpochRecord,
    bundle_id: &str,
) -> Result<BackupKey, Failure> {
    let group = load_group(&turn.provider(epoch.namespace), room, epoch.group)?;
    let secret = group
        .export_secret(turn.crypto, HISTORY_LABEL, bundle_id.as_bytes(), 32)
        .map_err(|error| Failure::defect("exporter", error))?;
    BackupKey::from_bytes(&Zeroizing::new(secret))
        .map_err(|error| Failure::defect("exporter", error))
}
