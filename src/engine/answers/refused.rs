//! What a refusal means, by what its request was for: what it stood for is undone.

use ruma::RoomId;

use super::later::{MatrixError, later};
use crate::{
    backup::{self, Verdict},
    commits::{self, outcome},
    devices,
    engine::{consequences::in_room, error::EngineError, push_rules},
    epochs::missing,
    exported::{RequestOutcome, Update},
    failure::Failure,
    identity,
    incoming::{catch_up, media, members, unshown, walk},
    protocol::EpochId,
    rejoin,
    requests::{self, PausedWork, Purpose, QueuedRequest, Wait},
    room, secrets, signing,
    store::StoreError,
    turn::Turn,
    verification::{self, Secrets, handover},
};

/// How often a value that the media repository does not have is asked for: another homeserver's may
/// take a while to come.
const DOWNLOAD_TRIES: u32 = 4;

/// What to do with a refused request.
enum Refusal {
    /// It is sent again.
    Later,
    /// The homeserver has answered all the same.
    Answer,
    /// It is over; the app is told, unless it hears of that otherwise.
    Over { tell: bool },
}

/// Takes in a refusal.
pub(super) fn refused(
    turn: &Turn<'_>,
    secrets: &Secrets,
    id: i64,
    queued: QueuedRequest,
    status: u16,
    error: MatrixError,
) -> Result<RequestOutcome, EngineError> {
    let code = if error.errcode.is_empty() { format!("HTTP_{status}") } else { error.errcode };
    match undo(turn, secrets, &queued, status, &code, &error.error)? {
        Refusal::Later => Ok(later(turn, id, queued, Wait::Refused, None)?),
        Refusal::Answer => {
            requests::remove(turn.tx, id)?;
            Ok(RequestOutcome::Accepted)
        }
        Refusal::Over { tell } => {
            requests::remove(turn.tx, id)?;
            if tell {
                turn.tell(Update::RequestRefused {
                    kind: queued.purpose.kind(),
                    room_id: queued.purpose.room().map(ToString::to_string),
                    code: code.clone(),
                    reason: error.error.clone(),
                });
            }
            Ok(RequestOutcome::Refused { code, reason: error.error })
        }
    }
}

/// Undoes what a refused request stood for.
fn undo(
    turn: &Turn<'_>,
    secrets: &Secrets,
    queued: &QueuedRequest,
    status: u16,
    code: &str,
    reason: &str,
) -> Result<Refusal, EngineError> {
    match &queued.purpose {
        // Without these nothing works: they are planned again, more and more seldom.
        Purpose::CheckKeys => pause(turn, PausedWork::CheckKeys)?,
        Purpose::UploadKeys(_) => pause(turn, PausedWork::UploadKeys)?,
        Purpose::QueryKeys(query) => devices::query_refused(turn.tx, query, turn.now_ms)?,
        Purpose::TakeBackKey => {
            identity::take_back(turn.tx, turn.crypto, None, turn.now_ms)?;
            return Ok(Refusal::Over { tell: false });
        }
        Purpose::Download { .. } if queued.failures < DOWNLOAD_TRIES => return Ok(Refusal::Later),
        Purpose::Download { room_id, reference } => {
            media::lost(turn, room_id, reference)?;
            catch_up::go_on(turn, room_id)?;
        }
        Purpose::ClaimKeys { room_id, devices } => {
            commits::claim_refused(turn, room_id, devices)?;
        }
        Purpose::AskSilent { room_id, devices, .. } => {
            commits::silent_refused(turn, room_id, devices)?;
        }
        Purpose::Commit { room_id, epoch } => commit_refused(turn, room_id, *epoch)?,
        Purpose::Upload { room_id, epoch, .. } => {
            for request in commits::staged_requests(turn.tx, room_id, *epoch)?.ids {
                requests::remove(turn.tx, request)?;
            }
            commit_refused(turn, room_id, *epoch)?;
        }
        Purpose::Restart { room_id, epoch } => room::edit(turn.tx, room_id, |room| {
            commits::restart::refused(room, *epoch);
            Ok::<_, Failure>(())
        })?,
        // The room has no such state.
        Purpose::FetchRestart { .. } => return Ok(Refusal::Over { tell: false }),
        Purpose::FetchEvent { room_id, event_id } => match status {
            404 => walk::look_for(turn, room_id, event_id)?,
            _ => missing::put_off(turn, room_id, event_id)?,
        },
        Purpose::FindCommits { room_id } => walk::refused(turn, room_id)?,
        Purpose::FindPlace { room_id } | Purpose::CatchUp { room_id } => {
            catch_up::refused(turn, room_id)?;
        }
        Purpose::FindGroup { room_id } => room::edit(turn.tx, room_id, |room| {
            rejoin::search_refused(turn, room);
            Ok::<_, Failure>(())
        })?,
        Purpose::FetchMembers { room_id } => members::refused(turn, room_id, true)?,
        Purpose::FollowMembers { room_id } => {
            members::refused(turn, room_id, false)?;
            // The full list is asked for next.
            return Ok(Refusal::Over { tell: false });
        }
        Purpose::FetchEncryption { room_id, place } => {
            unshown::refused(turn, room_id, *place, status)?;
            // A room that is not encrypted is none of this library's.
            return Ok(Refusal::Over { tell: false });
        }
        Purpose::SetPushRule => push_rules::refused(turn)?,
        Purpose::OfferHistory(_)
        | Purpose::GiveTree(_)
        | Purpose::TellTree { .. }
        | Purpose::EnableEncryption { .. }
        | Purpose::Welcome { .. }
        | Purpose::TellHistory { .. } => {}
        Purpose::ReadSecret { kind } if status == 404 => {
            secrets::answered(turn, kind, None)?;
            return Ok(Refusal::Answer);
        }
        Purpose::ReadSecret { .. } | Purpose::WriteSecret { .. } => {
            secrets::refused(turn, code, reason)?;
            return Ok(Refusal::Over { tell: false });
        }
        Purpose::UploadIdentity => {
            signing::identity_refused(turn, code, reason)?;
            return Ok(Refusal::Over { tell: false });
        }
        Purpose::UploadSignature(signature) => {
            signing::refused(turn, signature, code, reason);
            return Ok(Refusal::Over { tell: false });
        }
        Purpose::Verification { verification: id } => {
            verification::refused(turn, secrets, id, reason)?
        }
        Purpose::HandOver { verification: id } => handover::refused(turn.tx, id)?,
        Purpose::VerificationKeys { verification: id, .. } => {
            verification::keys_refused(turn, secrets, id)?;
        }
        // The backup tells what it means itself.
        Purpose::BackupVersion
        | Purpose::CreateBackup
        | Purpose::DeleteBackup
        | Purpose::BackUp(_)
        | Purpose::DeleteFromBackup { .. }
        | Purpose::RestoreKeys { .. } => {
            return Ok(match backup::refused(turn, &queued.purpose, status, code)? {
                Verdict::Answer => Refusal::Answer,
                Verdict::Refusal { told } => Refusal::Over { tell: !told },
            });
        }
    }
    Ok(Refusal::Over { tell: true })
}

/// Work that is needed all the same was refused: it is planned again after a pause.
fn pause(turn: &Turn<'_>, work: PausedWork) -> Result<(), StoreError> {
    requests::pause(turn.tx, work, turn.now_ms, 0)
}

/// A commit of this device's own, or a part of it, was refused: the next has to wait.
fn commit_refused(turn: &Turn<'_>, room: &RoomId, epoch: EpochId) -> Result<(), Failure> {
    in_room(turn, room, |room| {
        if !commits::restart::is_own(room, epoch) {
            commits::block_commits(turn, room);
        }
        outcome::dropped(turn, room, epoch)
    })
}
