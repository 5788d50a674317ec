//! `run`: the loops that sync and send, until they are ended.
//!
//! Whatever can be tried again is, after a pause that doubles up to a minute. A network that is
//! back, a token that was refreshed and an answer that came end the pauses. Dropping `run` at any
//! moment loses nothing: what counts is on the disk, and requests are kept until their answers are
//! known.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use matrix_mls::{MlsError, OutgoingRequest, RequestOutcome};
use matrix_sdk::SessionChange;
use tokio::sync::{Notify, broadcast, watch};

use crate::{
    Error, Mls,
    http::Request,
    mls::{Inner, is_closed},
};

/// How long a sync waits for news.
const LONG_POLL: Duration = Duration::from_secs(30);
/// How long the loop that sends waits at the most before it asks the machine again.
const ASK_AGAIN: Duration = Duration::from_secs(5);
/// The pauses after failures.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// How [`Mls::run`] stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It does not run.
    Stopped,
    /// It runs and has not heard from the homeserver yet.
    Starting,
    /// The homeserver answers.
    Connected,
    /// The homeserver does not answer, or fails: it is tried again.
    Offline,
    /// The homeserver refuses the access token, and the client could not refresh it. Log in again
    /// as the same device. It is tried again, now and then.
    Unauthorized,
}

/// The pause after a failure, longer each time.
#[derive(Debug, Default)]
pub(crate) struct Pause {
    failures: u32,
}

impl Pause {
    fn length(&mut self, error: &Error) -> Duration {
        let own = FIRST_PAUSE.saturating_mul(1 << self.failures.min(10)).min(LONGEST_PAUSE);
        self.failures = self.failures.saturating_add(1);
        match error {
            Error::Refused { retry_after_ms: Some(asked), .. } => {
                // A homeserver that asks for a day is asked sooner.
                Duration::from_millis(*asked).clamp(own, LONGEST_PAUSE * 10)
            }
            _ => own,
        }
    }

    /// Waits, unless it is woken.
    pub(crate) async fn after(&mut self, error: &Error, wake: &Notify) {
        let length = self.length(error);
        tracing::info!(%error, ?length, "trying again later");
        tokio::select! {
            () = tokio::time::sleep(length) => {}
            () = wake.notified() => self.failures = 0,
        }
    }
}

impl Mls {
    /// Syncs and sends, until [`close`](Self::close) is called or this is dropped. Spawn it.
    ///
    /// Without a network it waits and tries again. Fails with `AlreadyRunning`, and where nothing
    /// that it could do by itself would help: the store is damaged, or the client is not logged in.
    pub async fn run(&self) -> Result<(), Error> {
        if self.inner.is_running.swap(true, Ordering::AcqRel) {
            return Err(Error::AlreadyRunning);
        }
        let _running = Running(self.inner.clone());
        self.inner.state.send_replace(State::Starting);
        let mut closed = self.inner.is_closed.subscribe();
        let ended = tokio::select! {
            _ = closed.wait_for(|is_closed| *is_closed) => Ok(()),
            error = self.inner.sync_on() => error,
            error = self.inner.send_on() => error,
            () = self.inner.follow_tokens() => Ok(()),
            () = self.inner.follow_own_identity() => Ok(()),
        };
        match ended {
            Err(error) if is_closed(&error) => Ok(()),
            ended => ended,
        }
    }

    /// How [`run`](Self::run) stands, and how it will.
    pub fn state(&self) -> watch::Receiver<State> {
        self.inner.state.subscribe()
    }

    /// Says that the network is back: what waits is tried at once.
    pub async fn network_available(&self) -> Result<(), Error> {
        self.inner.machine.network_available().await?;
        self.inner.wake.notify_waiters();
        Ok(())
    }

    /// Sends what the machine wants to send now, until nothing is left that is due.
    ///
    /// [`run`](Self::run) does it by itself; this is for a fetch in the background.
    pub async fn send_outgoing_requests(&self) -> Result<(), Error> {
        while self.inner.send_due().await? > 0 {}
        Ok(())
    }
}

/// Says that `run` has ended, however it ends.
struct Running(Arc<Inner>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.state.send_replace(State::Stopped);
        self.0.is_running.store(false, Ordering::Release);
    }
}

impl Inner {
    async fn sync_on(&self) -> Result<(), Error> {
        let mut pause = Pause::default();
        loop {
            match self.sync(LONG_POLL).await {
                Ok(()) => {
                    pause = Pause::default();
                    self.note(State::Connected);
                }
                Err(error) => {
                    match &error {
                        Error::Unauthorized { .. } => self.note(State::Unauthorized),
                        error if error.is_transient() => self.note(State::Offline),
                        Error::Refused { .. } => self.note(State::Offline),
                        _ => return Err(error),
                    }
                    pause.after(&error, &self.wake).await;
                }
            }
        }
    }

    async fn send_on(&self) -> Result<(), Error> {
        let mut pause = Pause::default();
        loop {
            match self.send_and_wait().await {
                Ok(()) => pause = Pause::default(),
                Err(error) => {
                    match &error {
                        Error::Unauthorized { .. } => self.note(State::Unauthorized),
                        error if error.is_transient() => {}
                        _ => return Err(error),
                    }
                    pause.after(&error, &self.wake).await;
                }
            }
        }
    }

    /// Sends what is due, and where nothing is, waits until something may be.
    async fn send_and_wait(&self) -> Result<(), Error> {
        if self.send_due().await? > 0 {
            return Ok(());
        }
        let pending = self.machine.pending_requests().await?;
        let longest = u64::try_from(ASK_AGAIN.as_millis()).unwrap_or(u64::MAX);
        // Not less than a moment, so that it does not spin.
        let wait = pending.retry_after_ms.unwrap_or(longest).clamp(10, longest);
        self.machine.wait_for_change(wait).await;
        Ok(())
    }

    /// Ends pauses when the client has another token.
    async fn follow_tokens(&self) {
        let mut changes = self.client.subscribe_to_session_changes();
        loop {
            match changes.recv().await {
                Ok(SessionChange::TokensRefreshed)
                | Err(broadcast::error::RecvError::Lagged(_)) => {
                    if let Err(error) = self.machine.access_token_renewed().await {
                        tracing::info!(%error, "the machine was not told of another access token");
                    }
                    self.wake.notify_waiters();
                }
                Ok(SessionChange::UnknownToken(_)) => self.note(State::Unauthorized),
                // The client lives as long as this.
                Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
            }
        }
    }

    fn note(&self, state: State) {
        self.state.send_if_modified(|before| std::mem::replace(before, state) != state);
    }

    /// Sends the requests that are due. Gives how many there were.
    pub(crate) async fn send_due(&self) -> Result<usize, Error> {
        let _sending = self.sending.lock().await;
        let requests = self.machine.outgoing_requests().await?;
        self.send_all(&requests).await?;
        Ok(requests.len())
    }

    /// Sends requests in order; whoever calls holds `sending`. Gives whether one was accepted.
    pub(crate) async fn send_all(&self, requests: &[OutgoingRequest]) -> Result<bool, Error> {
        let mut has_moved = false;
        for request in requests {
            match self.send_one(request).await? {
                RequestOutcome::Accepted => has_moved = true,
                RequestOutcome::RetryLater { .. } => {}
                RequestOutcome::Refused { code, reason } => {
                    tracing::info!(?request, code, reason, "a request was refused");
                }
                RequestOutcome::Unauthorized { code, .. } => {
                    return Err(Error::Unauthorized { code });
                }
            }
        }
        Ok(has_moved)
    }

    async fn send_one(&self, request: &OutgoingRequest) -> Result<RequestOutcome, Error> {
        let answer = Request::of_machine(request)?.send(&self.client).await?;
        let id = request.id.clone();
        Ok(self.machine.mark_request_as_sent(id, answer.status, answer.body).await?)
    }
}

/// Whether calling again after other requests may help.
pub(crate) fn is_not_ready(error: &MlsError) -> bool {
    matches!(error, MlsError::NotReady { .. })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_minute_and_heed_the_homeserver() {
        let mut pause = Pause::default();
        let lost = Error::NoAnswer { what: "it".into() };
        let lengths: Vec<u128> = (0..12).map(|_| pause.length(&lost).as_millis()).collect();
        assert_eq!(lengths[..4], [500, 1000, 2000, 4000]);
        assert_eq!(lengths[11], 60_000);
        let limited = |asked| Error::Refused {
            what: "it".into(),
            status: 429,
            code: "M_LIMIT_EXCEEDED".into(),
            reason: String::new(),
            retry_after_ms: Some(asked),
        };
        assert_eq!(Pause::default().length(&limited(3_000)).as_millis(), 3_000);
        assert_eq!(Pause::default().length(&limited(0)).as_millis(), 500);
        assert_eq!(Pause::default().length(&limited(u64::MAX)).as_millis(), 600_000);
    }
}
