//! What a refusal of the homeserver means for the backup.

use super::{
    backlog,
    error::BackupError,
    lookup::request_version,
    record::{Intent, edit},
    restore, upload, version,
};
use crate::{requests::Purpose, turn::Turn};

/// What a refusal means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The refusal says something useful and counts as an answer.
    Answer,
    /// The request has to be sent again.
    Later,
    /// The request failed for good.
    Refusal,
}

/// Takes in the homeserver's refusal of a backup request.
pub(crate) fn refused(
    turn: &Turn<'_>,
    purpose: &Purpose,
    status: u16,
    code: &str,
) -> Result<Verdict, BackupError> {
    match purpose {
        Purpose::BackupVersion if status == 404 => version::no_version_found(turn)?,
        Purpose::DeleteBackup if status == 404 => version::version_deleted(turn)?,
        Purpose::CreateBackup => {
            version::give_up(turn, code, "the homeserver refuses to create a backup")?;
            return Ok(Verdict::Refusal);
        }
        Purpose::BackUp(_) if status == 413 => upload::shrink(turn)?,
        Purpose::BackUp(_) if status == 404 || code == "M_WRONG_ROOM_KEYS_VERSION" => {
            edit(turn, |record| {
                if let Some(active) = record.active.take()
                    && record.intent.is_none()
                {
                    record.intent = Some(Intent::Follow { key: active.recovery_key });
                }
            })?;
            backlog::clear(turn)?;
            request_version(turn)?;
        }
        // The session was not there, or goes with its version.
        Purpose::DeleteFromBackup { .. } => {}
        Purpose::RestoreKeys { restore } => restore::refused(turn, *restore, status, code)?,
        _ => return Ok(Verdict::Later),
    }
    Ok(Verdict::Answer)
}
