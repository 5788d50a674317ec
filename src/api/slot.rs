//! The engine behind the exported handles, and running its blocking work off the async executor.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, TryLockError},
    time::{Duration, Instant},
};

use tokio::sync::Notify;

use super::{
    error::MlsError,
    event::{EventOutcome, EventResult},
    unreadable::{UnreadableCause, unreadable_cause_name},
};
use crate::engine::{
    Engine,
    diagnostics::{Call, Calls},
};

/// Holds the engine until the machine is closed. Every handle shares it.
pub(super) struct EngineSlot {
    engine: RwLock<Option<Engine>>,
    changed: Notify,
    /// What has happened since the machine was opened.
    calls: Mutex<Calls>,
}

impl EngineSlot {
    /// A slot with an open engine.
    pub(super) fn new(engine: Engine) -> Arc<Self> {
        Arc::new(Self {
            engine: RwLock::new(Some(engine)),
            changed: Notify::new(),
            calls: Mutex::default(),
        })
    }

    /// Waits for running work, then takes the engine out. The slot is closed from now on.
    pub(super) fn close(&self) -> Option<Engine> {
        self.engine.write().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Says that there may be something to send: whoever waits looks again.
    pub(super) fn note_change(&self) {
        self.changed.notify_waiters();
    }

    /// Waits until there may be something to send, at most this long.
    pub(super) async fn wait_for_change(&self, longest: Duration) {
        // It makes no difference what ended the wait.
        let _ = tokio::time::timeout(longest, self.changed.notified()).await;
    }

    /// What has happened since the machine was opened.
    pub(super) fn calls(&self) -> Calls {
        self.noted().clone()
    }

    /// Notes that an event could not be read, if that is what the error says.
    pub(super) fn note_unreadable(&self, error: &MlsError) {
        if let Some(cause) = UnreadableCause::of(error.code()) {
            self.noted().note_unreadable(unreadable_cause_name(cause));
        }
    }

    /// Notes which of these events could not be read.
    pub(super) fn note_events(&self, events: &[EventResult]) {
        for event in events {
            if let EventOutcome::Waiting { error } | EventOutcome::Failed { error } = &event.outcome
            {
                self.note_unreadable(error);
            }
        }
    }

    fn noted(&self) -> MutexGuard<'_, Calls> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same as [`run`](Self::run), and takes the time of the work.
    pub(super) async fn run_timed<T: Send + 'static, E: Into<MlsError> + 'static>(
        self: &Arc<Self>,
        call: Call,
        work: impl FnOnce(&Engine) -> Result<T, E> + Send + 'static,
    ) -> Result<T, MlsError> {
        let began = Instant::now();
        let result = self.run(work).await;
        self.noted().note(call, began.elapsed(), result.is_err());
        result
    }

    /// Does work on the caller's thread that takes the processor for a moment, and neither waits
    /// nor touches the disk; takes its time. Nothing where the machine is being closed, or the work
    /// itself gives nothing. A panic in the work becomes an `Internal` error.
    pub(super) fn at_once<T>(
        &self,
        call: Call,
        work: impl FnOnce(&Engine) -> Option<Result<T, MlsError>>,
    ) -> Option<Result<T, MlsError>> {
        let began = Instant::now();
        let engine = match self.engine.try_read() {
            Ok(engine) => engine,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        let engine = engine.as_ref()?;
        // What a panic leaves behind a lock is sound (`Engine::lock`).
        let result = catch_unwind(AssertUnwindSafe(|| work(engine)))
            .unwrap_or_else(|_| Some(Err(MlsError::internal("panic", "sealing panicked"))))?;
        self.noted().note(call, began.elapsed(), result.is_err());
        Some(result)
    }

    /// Runs blocking work on the engine, off the executor's threads. The work continues if its
    /// caller is cancelled.
    pub(super) async fn run<T: Send + 'static, E: Into<MlsError>>(
        self: &Arc<Self>,
        work: impl FnOnce(&Engine) -> Result<T, E> + Send + 'static,
    ) -> Result<T, MlsError> {
        let slot = self.clone();
        blocking(move || {
            let engine = slot.engine.read().unwrap_or_else(PoisonError::into_inner);
            work(engine.as_ref().ok_or_else(MlsError::closed)?).map_err(Into::into)
        })
        .await
    }
}

/// Runs blocking work off the executor's threads. A panic in the work becomes an `Internal` error.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, MlsError> + Send + 'static,
) -> Result<T, MlsError> {
    let result = Arc::new(Mutex::new(None));
    let slot = result.clone();
    // Boxed, so that the executor's part is compiled once and not for each call
    // (docs/decisions/005).
    let work: Box<dyn FnOnce() + Send> = Box::new(move || {
        let value = work();
        *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(value);
    });
    // If the work panicked, its transaction was rolled back when the stack unwound.
    let ended = tokio::task::spawn_blocking(work).await;
    let value = result.lock().unwrap_or_else(PoisonError::into_inner).take();
    value.unwrap_or_else(|| {
        let why = ended.err().map_or_else(|| "no result".to_owned(), |error| error.to_string());
        Err(MlsError::internal("panic", why))
    })
}
