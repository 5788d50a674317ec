//! This library's logs, forwarded to the app.
//!
//! Logs are `tracing` events. A Rust app with a `tracing` subscriber of its own gets them there.
//! Other apps set a sink. Logs hold ids, counts, durations and error codes, never keys, plaintext
//! or ciphertext.

use std::{
    fmt::Write as _,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, OnceLock, PoisonError, RwLock},
};

use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    Layer,
    layer::{Context, SubscriberExt},
    registry::Registry,
};

use super::error::MlsError;
use crate::engine::EngineError;

/// The importance of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, uniffi::Enum)]
pub enum LogLevel {
    /// Something failed that should not fail.
    Error,
    /// Something is unusual; the library copes with it.
    Warn,
    /// What happened: a few lines for each sync.
    Info,
    /// How it happened.
    Debug,
}

impl LogLevel {
    fn of(level: Level) -> Option<Self> {
        match level {
            Level::ERROR => Some(Self::Error),
            Level::WARN => Some(Self::Warn),
            Level::INFO => Some(Self::Info),
            Level::DEBUG => Some(Self::Debug),
            _ => None,
        }
    }
}

/// Receives log lines. It is called on whichever thread logs, so it must not call this library.
#[uniffi::export(with_foreign)]
pub trait LogSink: Send + Sync {
    /// Receives one line. `target` names the part of the library that logs.
    fn on_log(&self, level: LogLevel, target: String, message: String);
}

/// The sink of the process, and the least important level that it gets.
type CurrentSink = RwLock<Option<(LogLevel, Arc<dyn LogSink>)>>;

/// Nothing inside where the process has another subscriber, which is never replaced.
static CURRENT: OnceLock<Option<CurrentSink>> = OnceLock::new();

/// Sends this library's logs, up to `level`, to a sink. Without a sink they go nowhere.
///
/// The last call counts. Fails with `InvalidInput` (`"subscriber_set"`) if the process has a
/// `tracing` subscriber that this library did not set: then the logs go there.
#[uniffi::export]
pub fn set_log_sink(level: LogLevel, sink: Option<Arc<dyn LogSink>>) -> Result<(), MlsError> {
    let current = CURRENT.get_or_init(|| {
        let subscriber = Registry::default().with(Forward);
        tracing::subscriber::set_global_default(subscriber).ok().map(|()| RwLock::default())
    });
    let Some(current) = current else {
        let reason = "sink: the process has a tracing subscriber of its own: read the logs there";
        return Err(MlsError::invalid("subscriber_set", reason));
    };
    *current.write().unwrap_or_else(PoisonError::into_inner) = sink.map(|sink| (level, sink));
    Ok(())
}

/// Logs why an answer cannot be read, with the code that it has. Its request is sent again.
pub(super) fn log_unread(error: Option<EngineError>) {
    let Some(error) = error.map(MlsError::from) else { return };
    tracing::warn!(code = error.code(), %error, "the answer cannot be read");
}

/// The `tracing` layer that forwards to the current sink.
struct Forward;

impl<S: Subscriber> Layer<S> for Forward {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        metadata.target().starts_with("matrix_mls")
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let Some(level) = LogLevel::of(*event.metadata().level()) else { return };
        let Some(Some(current)) = CURRENT.get() else { return };
        let sink = match &*current.read().unwrap_or_else(PoisonError::into_inner) {
            Some((most, sink)) if level <= *most => sink.clone(),
            _ => return,
        };
        let mut line = Line::default();
        event.record(&mut line);
        let target = event.metadata().target().to_owned();
        // An exception in the app's sink arrives as a panic. The work that logged continues.
        let _ = catch_unwind(AssertUnwindSafe(|| sink.on_log(level, target, line.0)));
    }
}

/// A log line: an event's message, then its fields as `name=value`.
#[derive(Default)]
struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        // Writing to a String does not fail.
        let _ = if field.name() == "message" {
            write!(self.0, "{value:?}")
        } else {
            let space = if self.0.is_empty() { "" } else { " " };
            write!(self.0, "{space}{}={value:?}", field.name())
        };
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, MutexGuard, PoisonError};

    use super::*;

    #[derive(Default)]
    struct Lines(Mutex<Vec<(LogLevel, String)>>);

    impl Lines {
        fn lines(&self) -> MutexGuard<'_, Vec<(LogLevel, String)>> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner)
        }
    }

    impl LogSink for Lines {
        fn on_log(&self, level: LogLevel, _: String, message: String) {
            self.lines().push((level, message));
        }
    }

    #[test]
    fn lines_reach_the_sink_up_to_its_level() -> Result<(), MlsError> {
        let lines = Arc::new(Lines::default());
        set_log_sink(LogLevel::Info, Some(lines.clone()))?;
        tracing::info!(target: "matrix_mls::logging_test", count = 3, "hello");
        tracing::debug!(target: "matrix_mls::logging_test", "too fine");
        tracing::info!(target: "somebody_else", "not ours");
        set_log_sink(LogLevel::Info, None)?;
        tracing::info!(target: "matrix_mls::logging_test", "nobody listens");
        let lines = lines.lines();
        let ours: Vec<_> = lines.iter().filter(|(_, line)| line.contains("count=3")).collect();
        assert_eq!(ours.len(), 1);
        assert!(ours[0].1.starts_with("hello"), "{}", ours[0].1);
        assert!(!lines.iter().any(|(_, line)| line.contains("too fine")));
        assert!(!lines.iter().any(|(_, line)| line.contains("not ours")));
        assert!(!lines.iter().any(|(_, line)| line.contains("nobody listens")));
        Ok(())
    }
}
