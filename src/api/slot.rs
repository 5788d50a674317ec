//! The engine behind the exported handles, and running its blocking work off the async executor.

use std::sync::{Arc, Mutex, PoisonError, RwLock};

use super::error::MlsError;
use crate::engine::Engine;

/// Holds the engine until the machine is closed. Every handle shares it.
pub(super) struct EngineSlot(RwLock<Option<Engine>>);

impl EngineSlot {
    /// A slot with an open engine.
    pub(super) fn new(engine: Engine) -> Arc<Self> {
        Arc::new(Self(RwLock::new(Some(engine))))
    }

    /// Waits for running work, then takes the engine out. The slot is closed from now on.
    pub(super) fn close(&self) -> Option<Engine> {
        self.0.write().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Runs blocking work on the engine, off the executor's threads. The work continues if its
    /// caller is cancelled.
    pub(super) async fn run<T: Send + 'static, E: Into<MlsError>>(
        self: &Arc<Self>,
        work: impl FnOnce(&Engine) -> Result<T, E> + Send + 'static,
    ) -> Result<T, MlsError> {
        let slot = self.clone();
        blocking(move || {
            let engine = slot.0.read().unwrap_or_else(PoisonError::into_inner);
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
