//! What a refusal of the homeserver means for the backup.

use super::{
    backlog,
    error::BackupError,
    lookup::request_version,
    record::{Intent, edit},
    restore, upload, version,
};
use crate::{
    requests::{self, PausedWork, Purpose},
    turn::Turn,
};

/// How often in a row the backup may turn out to have another version before uploads pause.
const FREE_REFUSALS: u32 = 2;

/// What a refusal means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The refusal says something useful and counts as an answer.
    Answer,
    /// The request failed for good. `told`: the app has been told of it.
    Refusal { told: bool },
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
        Purpose::BackupVersion => {
            version::give_up(turn, code, "the homeserver does not say which backup it has")?;
            restore::fail_proving(turn, code)?;
            return Ok(Verdict::Refusal { told: true });
        }
        Purpose::CreateBackup => {
            version::give_up(turn, code, "the homeserver refuses to create a backup")?;
            return Ok(Verdict::Refusal { told: true });
        }
        Purpose::DeleteBackup => {
            version::give_up(turn, code, "the homeserver refuses to delete the backup")?;
            return Ok(Verdict::Refusal { told: true });
        }
        Purpose::BackUp(_) if status == 413 && upload::shrink(turn)? => {}
        Purpose::BackUp(_) if status == 404 || code == "M_WRONG_ROOM_KEYS_VERSION" => {
            // A homeserver that names a version and does not take it is not asked on and on.
            requests::pause(turn.tx, PausedWork::BackUp, turn.now_ms, FREE_REFUSALS)?;
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
        Purpose::BackUp(_) => {
            requests::pause(turn.tx, PausedWork::BackUp, turn.now_ms, 0)?;
            return Ok(Verdict::Refusal { told: false });
        }
        // The session was not there, or goes with its version.
        Purpose::DeleteFromBackup { .. } if status == 404 => {}
        Purpose::RestoreKeys { restore } => restore::refused(turn, *restore, status, code)?,
        _ => return Ok(Verdict::Refusal { told: false }),
    }
    Ok(Verdict::Answer)
}
