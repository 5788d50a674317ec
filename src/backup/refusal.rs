//! What a refusal of the homeserver means for the backup.

use super::{
    backlog,
    error::BackupError,
    lookup::look,
    record::{Wish, change},
    restore, upload, version,
};
use crate::{requests::Purpose, turn::Turn};

/// What a refusal of the homeserver comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It says something that is of use: as good as an answer.
    Answer,
    /// The request is to be sent again.
    Later,
    /// What was wanted does not come about.
    Refusal,
}

/// The homeserver refuses a request of the backup's.
pub(crate) fn refused(
    turn: &Turn<'_>,
    purpose: &Purpose,
    status: u16,
    code: &str,
) -> Result<Verdict, BackupError> {
    match purpose {
        Purpose::BackupVersion if status == 404 => version::none_there(turn)?,
        Purpose::DeleteBackup if status == 404 => version::deleted(turn)?,
        Purpose::CreateBackup => {
            version::give_up(turn, code, "the homeserver refuses to make a backup")?;
            return Ok(Verdict::Refusal);
        }
        Purpose::BackUp(_) if status == 413 => upload::too_large(turn)?,
        Purpose::BackUp(_) if status == 404 || code == "M_WRONG_ROOM_KEYS_VERSION" => {
            change(turn, |record| {
                if let Some(active) = record.active.take()
                    && record.wish.is_none()
                {
                    record.wish = Some(Wish::Follow { key: active.recovery_key });
                }
            })?;
            backlog::stop(turn)?;
            look(turn)?;
        }
        // It was not there, or will go with its version.
        Purpose::DeleteFromBackup { .. } => {}
        Purpose::RestoreKeys { restore } => restore::refused(turn, *restore, status, code)?,
        _ => return Ok(Verdict::Later),
    }
    Ok(Verdict::Answer)
}
