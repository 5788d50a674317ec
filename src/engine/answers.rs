//! What the homeserver's answer to a request means.
//!
//! An answer is taken in one turn together with the removal of its request, so it counts once. A
//! refusal (most 4xx) undoes what the request stood for. Everything that may pass (no answer, 429,
//! 5xx, a login that has run out) leaves the request in the queue, with the delay the homeserver
//! asked for or one that doubles with each failure.

use ruma::OwnedEventId;
use serde::Deserialize;

use super::{Engine, keys};
use crate::{
    backup::{self, Verdict},
    error::MlsError,
    group::{Turn, fetch, gap, media, members, outcome, plan, publish, search, share, timeline},
    identity,
    requests::{self, Purpose, QueuedRequest, REQUESTS, RequestOutcome},
    updates::Update,
};

/// The longest delay that a homeserver can impose.
const MAX_IMPOSED_DELAY_MS: u64 = 60 * 60 * 1_000;

/// The part of a Matrix error that matters here.
#[derive(Default, Deserialize)]
struct MatrixError {
    #[serde(default)]
    errcode: String,
    #[serde(default)]
    error: String,
    retry_after_ms: Option<u64>,
}

#[derive(Deserialize)]
struct SentEvent {
    event_id: OwnedEventId,
}

#[derive(Deserialize)]
struct Uploaded {
    content_uri: String,
}

/// How often a value that the media repository does not have is asked for: another homeserver's may take
/// a while to come.
const DOWNLOAD_TRIES: u32 = 4;

impl Engine {
    /// Takes in the answer to a request; status 0 stands for none.
    pub(crate) fn answered(
        &self,
        id: &str,
        status: u16,
        body: &[u8],
    ) -> Result<RequestOutcome, MlsError> {
        let id: i64 = id
            .parse()
            .map_err(|_| MlsError::invalid("bad_request_id", "id: no request has such an id"))?;
        let outcome = self.turn(|turn| {
            let Some(queued) = REQUESTS.get(turn.tx, id)? else {
                // Answered before, or overtaken by what sync brought.
                return Ok(RequestOutcome::Accepted);
            };
            match status {
                200..=299 => match turn.part(|| accepted(turn, &queued.purpose, body)) {
                    Ok(()) => {
                        requests::remove(turn.tx, id)?;
                        timeline::go_on(turn, &self.opener.readers)?;
                        Ok(RequestOutcome::Accepted)
                    }
                    Err(error) if error.stops_everything() => Err(error),
                    // An answer that is not one: the request may or may not have been done, and
                    // sending it again does no harm.
                    Err(error) => {
                        tracing::warn!(code = error.code(), "the answer cannot be read");
                        later(turn, id, queued, None)
                    }
                },
                429 => {
                    let delay = matrix_error(body).retry_after_ms;
                    later(turn, id, queued, delay)
                }
                // A login that has run out, a proxy in the way, a server that is down.
                0 | 401 | 407 | 408 | 500..=599 => later(turn, id, queued, None),
                400..=499 => {
                    let error = matrix_error(body);
                    let outcome = refused(turn, id, queued, status, error)?;
                    timeline::go_on(turn, &self.opener.readers)?;
                    Ok(outcome)
                }
                _ => later(turn, id, queued, None),
            }
        })?;
        // Where that was what a restore waited for. The answer has been taken in whatever comes of it.
        self.go_on_restoring()?;
        Ok(outcome)
    }
}

fn matrix_error(body: &[u8]) -> MatrixError {
    serde_json::from_slice(body).unwrap_or_default()
}

fn accepted(turn: &Turn<'_>, purpose: &Purpose, body: &[u8]) -> Result<(), MlsError> {
    match purpose {
        Purpose::UploadKeys(plan) => Ok(identity::mark_uploaded(turn.tx, plan, body, turn.now_ms)?),
        Purpose::QueryKeys(query) => keys::queried(turn, query, body),
        Purpose::ClaimKeys { room_id, devices } => plan::claimed(turn, room_id, devices, body),
        Purpose::Commit { room_id, epoch } => {
            let sent: SentEvent = serde_json::from_slice(body)
                .map_err(|_| MlsError::rejected("no_event_id", "the answer names no event"))?;
            outcome::accepted(turn, room_id, *epoch, sent.event_id)
        }
        Purpose::EnableEncryption { .. } | Purpose::Welcome { .. } => Ok(()),
        Purpose::Upload { room_id, epoch, part } => {
            let uploaded: Uploaded = serde_json::from_slice(body)
                .map_err(|_| MlsError::rejected("malformed_answer", "the answer names no URL"))?;
            publish::uploaded(turn, room_id, *epoch, *part, &uploaded.content_uri)
        }
        Purpose::Download { room_id, reference } => {
            media::downloaded(turn, room_id, reference, body)
        }
        Purpose::FetchEvent { room_id, event_id } => fetch::fetched(turn, room_id, event_id, body),
        Purpose::OfferHistory(bundle) => {
            let uploaded: Uploaded = serde_json::from_slice(body)
                .map_err(|_| MlsError::rejected("malformed_answer", "the answer names no URL"))?;
            share::uploaded(turn, bundle, &uploaded.content_uri)
        }
        Purpose::TellHistory { .. } => Ok(()),
        Purpose::BackupVersion => backup::looked(turn, body),
        Purpose::CreateBackup => backup::created(turn, body),
        Purpose::DeleteBackup => backup::deleted(turn),
        Purpose::BackUp(batch) => backup::uploaded(turn, batch, body),
        Purpose::Unback { .. } => Ok(()),
        Purpose::RestoreKeys { restore } => backup::fetched(turn, *restore, body),
        Purpose::WalkBack { room_id } => search::walked_back(turn, room_id, body),
        Purpose::FindCommits { room_id } => gap::paged(turn, room_id, body),
        Purpose::FetchMembers { room_id } => members::fetched(turn, room_id, body),
    }
}

/// Keeps a request for later.
fn later(
    turn: &Turn<'_>,
    id: i64,
    mut queued: QueuedRequest,
    imposed_ms: Option<u64>,
) -> Result<RequestOutcome, MlsError> {
    let own = requests::delay_ms(queued.failures);
    let after_ms = imposed_ms.map_or(own, |delay| delay.min(MAX_IMPOSED_DELAY_MS));
    queued.failures = queued.failures.saturating_add(1);
    queued.due_ms = turn.now_ms.saturating_add(after_ms);
    REQUESTS.update(turn.tx, id, queued.due_ms, &queued)?;
    Ok(RequestOutcome::RetryLater { after_ms })
}

/// Undoes what a refused request stood for.
fn refused(
    turn: &Turn<'_>,
    id: i64,
    queued: QueuedRequest,
    status: u16,
    error: MatrixError,
) -> Result<RequestOutcome, MlsError> {
    let code = if error.errcode.is_empty() { format!("HTTP_{status}") } else { error.errcode };
    let room_id = match &queued.purpose {
        // Without these nothing works: they are tried again, more and more seldom.
        Purpose::UploadKeys(_) | Purpose::QueryKeys(_) => {
            tracing::warn!(%code, "the homeserver refuses a key request");
            return later(turn, id, queued, None);
        }
        Purpose::ClaimKeys { room_id, devices } => {
            plan::claim_refused(turn, room_id, devices)?;
            room_id
        }
        Purpose::Commit { room_id, epoch } => {
            outcome::dropped(turn, room_id, *epoch)?;
            plan::block(turn, room_id)?;
            room_id
        }
        Purpose::Upload { room_id, epoch, .. } => {
            for request in publish::staged_requests(turn, room_id, *epoch)?.0 {
                requests::remove(turn.tx, request)?;
            }
            outcome::dropped(turn, room_id, *epoch)?;
            plan::block(turn, room_id)?;
            room_id
        }
        Purpose::Download { .. } if queued.failures < DOWNLOAD_TRIES => {
            return later(turn, id, queued, None);
        }
        Purpose::Download { room_id, reference } => {
            media::lost(turn, room_id, reference)?;
            room_id
        }
        Purpose::FetchEvent { room_id, event_id } => {
            match status {
                404 => gap::look_for(turn, room_id, event_id)?,
                _ => fetch::not_had(turn, room_id, event_id)?,
            }
            room_id
        }
        Purpose::WalkBack { room_id } => {
            search::walk_refused(turn, room_id)?;
            room_id
        }
        Purpose::FetchMembers { room_id } => {
            members::settled(turn, room_id)?;
            room_id
        }
        Purpose::FindCommits { room_id } => {
            gap::refused(turn, room_id)?;
            room_id
        }
        Purpose::OfferHistory(bundle) => &bundle.room_id,
        Purpose::EnableEncryption { room_id }
        | Purpose::Welcome { room_id }
        | Purpose::TellHistory { room_id } => room_id,
        // What it means, the backup tells itself.
        Purpose::BackupVersion
        | Purpose::CreateBackup
        | Purpose::DeleteBackup
        | Purpose::BackUp(_)
        | Purpose::Unback { .. }
        | Purpose::RestoreKeys { .. } => {
            let verdict = backup::refused(turn, &queued.purpose, status, &code)?;
            if verdict == Verdict::Later {
                return later(turn, id, queued, None);
            }
            requests::remove(turn.tx, id)?;
            if verdict == Verdict::Answer {
                return Ok(RequestOutcome::Accepted);
            }
            return Ok(RequestOutcome::Refused { code, reason: error.error });
        }
    };
    requests::remove(turn.tx, id)?;
    turn.tell(Update::RequestRefused {
        room_id: Some(room_id.to_string()),
        code: code.clone(),
        reason: error.error.clone(),
    });
    Ok(RequestOutcome::Refused { code, reason: error.error })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_body_may_be_anything() {
        for body in [&b""[..], b"<html>", b"[]", b"{\"retry_after_ms\":-1}", b"{\"errcode\":1}"] {
            assert!(matrix_error(body).retry_after_ms.is_none());
        }
        assert_eq!(matrix_error(b"{\"retry_after_ms\":5}").retry_after_ms, Some(5));
    }
}
