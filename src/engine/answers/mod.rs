//! What the homeserver's answer to a request means.
//!
//! An answer is taken in one turn together with the removal of its request, so it counts once. What
//! may pass (no answer, 429, 5xx) puts the request off; so does a 401, which the app is told of.
//! Any other refusal undoes what the request stood for.

mod accepted;
mod later;
mod refused;

use super::{catching_up, core::Engine, error::EngineError, events};
use crate::{
    exported::RequestOutcome,
    failure::EndsTurn,
    requests::{self, Purpose, QueuedRequest, REQUESTS, Release, Wait},
    signing,
    store::StoreError,
    turn::Turn,
    verification::Secrets,
};
use later::{MatrixError, later, unauthorized};

/// What became of an answer.
pub(crate) struct Answered {
    pub(crate) outcome: RequestOutcome,
    /// Why it cannot be read, where the homeserver says that the request was done.
    pub(crate) unread: Option<EngineError>,
}

impl From<RequestOutcome> for Answered {
    fn from(outcome: RequestOutcome) -> Self {
        Self { outcome, unread: None }
    }
}

impl Engine {
    /// Takes in the answer to a request; status 0 stands for none.
    pub(crate) fn answered(
        &self,
        id: &str,
        status: u16,
        body: &[u8],
    ) -> Result<Answered, EngineError> {
        self.unmarked.answered(id);
        let id: i64 = id.parse().map_err(|_| EngineError::UnknownRequest)?;
        let readers = &self.opener.readers;
        // The answer to a request that is still there is asked for again.
        let answered = self.repeatable_turn(|turn| {
            let Some(queued) = REQUESTS.get(turn.tx, id)? else {
                // Answered before, or overtaken by what sync brought.
                return Ok(RequestOutcome::Accepted.into());
            };
            if queued.purpose.is_done_once() {
                turn.tx.promise();
            }
            // The token is good: the homeserver wants to know who the user is.
            if status == 401
                && matches!(queued.purpose, Purpose::UploadIdentity)
                && signing::challenged(turn, body)?
            {
                requests::remove(turn.tx, id)?;
                has_worked(turn)?;
                return Ok(RequestOutcome::Accepted.into());
            }
            match status {
                200..=299 => {
                    let taken = turn.atomically(|| {
                        accepted::accepted(turn, &self.secrets, &queued.purpose, body)
                    });
                    match taken {
                        Ok(()) => {
                            requests::remove(turn.tx, id)?;
                            has_worked(turn)?;
                            catching_up::go_on(turn, readers)?;
                            events::go_on(turn, readers)?;
                            Ok(RequestOutcome::Accepted.into())
                        }
                        Err(error) if error.ends_turn() => Err(error),
                        // The request may or may not have been done, and sending it again does no
                        // harm.
                        Err(error) => {
                            let outcome = later(turn, id, queued, Wait::Unanswered, None)?;
                            Ok(Answered { outcome, unread: Some(error) })
                        }
                    }
                }
                429 => {
                    let delay = MatrixError::of(body).retry_after_ms;
                    Ok(later(turn, id, queued, Wait::Imposed, delay)?.into())
                }
                // A 401 without a code is no homeserver's: a proxy is in the way, and that may
                // pass.
                401 if !MatrixError::of(body).errcode.is_empty() => {
                    Ok(unauthorized(turn, id, queued, MatrixError::of(body))?.into())
                }
                // A homeserver without cross-signing says so with a 501 or a 404. It will not have
                // learnt it when it is asked again.
                400..=501 if is_refusal(status, &queued.purpose) => {
                    let error = MatrixError::of(body);
                    let outcome = refused::refused(turn, &self.secrets, id, queued, status, error)?;
                    catching_up::go_on(turn, readers)?;
                    events::go_on(turn, readers)?;
                    Ok(outcome.into())
                }
                // No answer at all, a proxy in the way, a server that is down.
                _ => Ok(later(turn, id, queued, Wait::Unanswered, None)?.into()),
            }
        })?;
        // Where that was what a restore waited for. The answer has been taken in whatever comes of
        // it.
        match self.go_on_restoring() {
            Err(_) if self.is_suspended() => Ok(answered),
            restored => restored.map(|()| answered),
        }
    }
}

/// What became of the answer to a reader's request.
pub(super) enum OfReader {
    /// It is taken in.
    Taken,
    /// It says nothing.
    Nothing,
    /// It cannot be read.
    Unread(EngineError),
}

impl OfReader {
    /// Why it cannot be read.
    pub(super) fn unread(self) -> Option<EngineError> {
        match self {
            Self::Unread(error) => Some(error),
            Self::Taken | Self::Nothing => None,
        }
    }
}

/// Takes in the answer to a request of a reader, for which nothing is put off.
pub(super) fn of_reader(
    turn: &Turn<'_>,
    secrets: &Secrets,
    id: i64,
    queued: QueuedRequest,
    status: u16,
    body: &[u8],
) -> Result<OfReader, EngineError> {
    match status {
        200..=299 => {
            let taken =
                turn.atomically(|| accepted::accepted(turn, secrets, &queued.purpose, body));
            match taken {
                Ok(()) => {
                    requests::remove(turn.tx, id)?;
                    Ok(OfReader::Taken)
                }
                Err(error) if error.ends_turn() => Err(error),
                Err(error) => Ok(OfReader::Unread(error)),
            }
        }
        429 => Ok(OfReader::Nothing),
        400..=501 if is_refusal(status, &queued.purpose) => {
            let error = MatrixError::of(body);
            refused::refused(turn, secrets, id, queued, status, error)?;
            Ok(OfReader::Taken)
        }
        _ => Ok(OfReader::Nothing),
    }
}

/// Whether a status from 400 on says that the homeserver will not do what it was asked.
fn is_refusal(status: u16, purpose: &Purpose) -> bool {
    match status {
        401 | 407 | 408 => false,
        501 => matches!(purpose, Purpose::UploadIdentity),
        status => status < 500,
    }
}

/// The homeserver has taken something of this device's: the network, the homeserver and the access
/// token work, so what waited for them waits no longer.
pub(super) fn has_worked(turn: &Turn<'_>) -> Result<(), StoreError> {
    requests::note_token_works(turn.tx)?;
    requests::release(turn.tx, turn.now_ms, Release::Success)
}
