//! Asking the homeserver which backup version it has.

use ruma::api::client::backup::get_latest_backup_info;

use crate::{
    failure::Failure,
    requests::{self, BACKUP_SCOPE, Purpose, REQUESTS},
    turn::Turn,
};

/// Asks the homeserver which backup version it has, unless that was asked already.
pub(crate) fn request_version(turn: &Turn<'_>) -> Result<(), Failure> {
    let queued = REQUESTS.in_scope(turn.tx, BACKUP_SCOPE)?;
    if queued.iter().any(|(_, queued)| matches!(queued.purpose, Purpose::BackupVersion)) {
        return Ok(());
    }
    let request = get_latest_backup_info::v3::Request::new();
    requests::enqueue(turn.tx, BACKUP_SCOPE, turn.now_ms, Purpose::BackupVersion, request)?;
    Ok(())
}
