//! The loop between the engine's request queue and the homeserver.

use std::{
    sync::PoisonError,
    time::{Duration, Instant},
};

use matrix_mls::{
    ErrorDetails, MlsError, OutgoingRequest, PendingRequests, RequestOutcome, SendPlan,
};

use super::Client;
use crate::{Answer, KitError, schema};

/// The shortest pause before a request is offered again, so that no loop spins.
const SHORTEST_PAUSE: Duration = Duration::from_millis(10);

/// What [`Client::drive`] sent.
#[derive(Debug, Clone, Default)]
pub struct Driven {
    /// How many requests were accepted.
    pub accepted: usize,
    /// The refused ones: method and path, code, reason.
    pub refused: Vec<(String, String, String)>,
}

impl Client {
    /// The answers to the next `times` requests of the engine whose path contains `part` are
    /// thrown away after the homeserver has executed them.
    pub fn forget_answers(&self, part: &str, times: u32) {
        let mut forgotten = self.forgotten_answers.lock().unwrap_or_else(PoisonError::into_inner);
        forgotten.push((part.to_owned(), times));
    }

    fn forgets(&self, path: &str) -> bool {
        let mut forgotten = self.forgotten_answers.lock().unwrap_or_else(PoisonError::into_inner);
        let matching = forgotten.iter_mut().find(|(part, times)| *times > 0 && path.contains(part));
        matching.map(|(_, times)| *times -= 1).is_some()
    }

    /// Sends one request of the engine and tells it the answer.
    pub async fn send_request(
        &self,
        request: &OutgoingRequest,
    ) -> Result<RequestOutcome, KitError> {
        let Answer { status, body } = self.transmit(request).await?;
        let what = format!("{} {} answered {status}", request.method, request.path);
        let outcome = self.machine()?.mark_request_as_sent(request.id.clone(), status, body).await;
        outcome.map_err(self.engine(what))
    }

    /// Sends one request as the engine wants it sent: a `GET` without a body, anything else with
    /// its content type. The answer's bytes come as they are; the status is 0 where there was none.
    pub async fn transmit(&self, request: &OutgoingRequest) -> Result<Answer, KitError> {
        let OutgoingRequest { method, path, content_type, body, .. } = request;
        schema::check(method, path, body)
            .map_err(|fault| self.gave_up("sending what the specification describes", fault))?;
        schema::check(method, path, body)
            .map_err(|fault| self.gave_up("sending what the specification describes", fault))?;
        match self.http.send(method, path, content_type, body.clone()).await {
            Ok(_) if self.forgets(path) => Ok(Answer { status: 0, body: Vec::new() }),
            Err(KitError::NoAnswer { .. }) => Ok(Answer { status: 0, body: Vec::new() }),
            sent => sent,
        }
    }

    /// Sends what the engine wants sent until nothing is left. Waits for what was put off, whoever
    /// put it off, within the client's patience; refusals are reported, not errors. A refused
    /// access token is one.
    pub async fn drive(&self) -> Result<Driven, KitError> {
        let what = "sending the engine's requests";
        let mut driven = Driven::default();
        let began = Instant::now();
        let renewed = self.machine()?.access_token_renewed().await;
        renewed.map_err(self.engine(what))?;
        let mut stuck: Option<PendingRequests> = None;
        loop {
            let requests = self.machine()?.outgoing_requests().await;
            let requests = requests.map_err(self.engine("listing outgoing requests"))?;
            if !requests.is_empty() {
                stuck = None;
                self.send_all(&requests, &mut driven).await?;
                self.pause(began, None, what, &requests).await?;
                continue;
            }
            let pending = self.machine()?.pending_requests().await.map_err(self.engine(what))?;
            if pending.unauthorized {
                return Err(self.engine(what)(unauthorized("another call's request was refused")));
            }
            let Some(after_ms) = pending.retry_after_ms else { return Ok(driven) };
            // Time stands still where a test has set the clock.
            if stuck.as_ref() == Some(&pending) {
                return Ok(driven);
            }
            let pause = Duration::from_millis(after_ms).max(SHORTEST_PAUSE);
            if pause > self.options.patience.saturating_sub(began.elapsed()) {
                return Err(self.gave_up(what, format!("what waits: {pending:?}")));
            }
            stuck = Some(pending);
            let longest_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
            self.machine()?.wait_for_change(longest_ms).await;
        }
    }

    /// Asks for all device lists anew.
    pub async fn look_again(&self) -> Result<(), KitError> {
        let doubted = self.machine()?.doubt_device_lists().await;
        doubted.map_err(self.engine("doubting the device lists"))?;
        self.drive().await.map(drop)
    }

    /// Sends these requests in order. Returns for how long those that failed want to wait.
    async fn send_all(
        &self,
        requests: &[OutgoingRequest],
        driven: &mut Driven,
    ) -> Result<Option<Duration>, KitError> {
        let mut pause: Option<Duration> = None;
        for request in requests {
            match self.send_request(request).await? {
                RequestOutcome::Accepted => driven.accepted += 1,
                RequestOutcome::RetryLater { after_ms } => {
                    let after = Duration::from_millis(after_ms).max(SHORTEST_PAUSE);
                    pause = Some(pause.map_or(after, |pause| pause.min(after)));
                }
                RequestOutcome::Unauthorized { code, .. } => {
                    let what = format!("{} {}", request.method, request.path);
                    return Err(self.engine(what)(unauthorized(&code)));
                }
                RequestOutcome::Refused { code, reason } => {
                    let what = format!("{} {}", request.method, request.path);
                    driven.refused.push((what, code, reason));
                }
            }
        }
        Ok(pause)
    }

    async fn pause(
        &self,
        began: Instant,
        pause: Option<Duration>,
        what: &str,
        requests: &[OutgoingRequest],
    ) -> Result<(), KitError> {
        let left = self.options.patience.saturating_sub(began.elapsed());
        let pause = pause.unwrap_or_default();
        if left.is_zero() || pause > left {
            let paths: Vec<&str> = requests.iter().map(|request| request.path.as_str()).collect();
            return Err(self.gave_up(what, format!("still to send: {}", paths.join(", "))));
        }
        tokio::time::sleep(pause).await;
        Ok(())
    }

    /// Sends what the engine asks for next before a send to this room; tells whether it is ready.
    pub async fn prepare_one_step(&self, room_id: &str) -> Result<bool, KitError> {
        let room = self.room(room_id).await?;
        let plan = room.prepare_to_send().await;
        match plan.map_err(self.engine(format!("preparing to send to {room_id}")))? {
            SendPlan::Ready => Ok(true),
            SendPlan::Waiting { requests, .. } => {
                self.send_all(&requests, &mut Driven::default()).await?;
                Ok(false)
            }
        }
    }

    /// Does what has to come before a send to this room, until the engine says it is ready.
    pub async fn prepare(&self, room_id: &str) -> Result<(), KitError> {
        let room = self.room(room_id).await?;
        let began = Instant::now();
        let what = format!("preparing to send to {room_id}");
        let mut put_off = 0;
        loop {
            let plan = room.prepare_to_send().await.map_err(self.engine(&*what))?;
            let (requests, retry_after) = match plan {
                SendPlan::Ready => return Ok(()),
                SendPlan::Waiting { requests, retry_after_ms } => {
                    (requests, retry_after_ms.map(Duration::from_millis))
                }
            };
            let mut driven = Driven::default();
            let mut pause = self.send_all(&requests, &mut driven).await?;
            if driven.accepted == 0 {
                // Nothing moved: what the engine waits for may be on the homeserver already. Each
                // other time only, as a sync uses up what a rate limit allows next.
                put_off += usize::from(pause.is_some());
                if put_off % 2 == 0 {
                    self.sync_aside().await?;
                }
                pause = Some(pause.or(retry_after).unwrap_or_default().max(SHORTEST_PAUSE));
            }
            self.pause(began, pause, &what, &requests).await?;
        }
    }

    /// Sends and syncs until this device has nothing to send and sees nothing new. Messages that
    /// come are kept for the next [`Client::sync`].
    pub async fn settle(&self) -> Result<(), KitError> {
        let began = Instant::now();
        loop {
            let driven = self.drive().await?;
            let synced = self.sync_once(Duration::ZERO).await?;
            let is_quiet = synced.is_quiet;
            self.unread().extend(synced.messages);
            if is_quiet && driven.accepted == 0 {
                return Ok(());
            }
            self.pause(began, None, "settling", &[]).await?;
        }
    }
}

/// The error of a call that needs a homeserver which refuses the access token.
fn unauthorized(why: &str) -> MlsError {
    let reason = format!("the homeserver refuses the access token: {why}");
    MlsError::Unauthorized {
        details: ErrorDetails { code: "unauthorized".to_owned(), reason, retryable: true },
    }
}
