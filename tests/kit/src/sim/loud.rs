//! For looking at one schedule: its trace as it comes, between what the machines log.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use matrix_mls::{LogLevel, LogSink, set_log_sink};

static LOUD: AtomicBool = AtomicBool::new(false);

struct Stderr;

impl LogSink for Stderr {
    fn on_log(&self, _: LogLevel, _: String, message: String) {
        eprintln!("              | {message}");
    }
}

/// From now on everything is written to stderr.
pub fn be_loud() {
    LOUD.store(true, Ordering::Relaxed);
    let _ = set_log_sink(LogLevel::Debug, Some(Arc::new(Stderr)));
}

pub(super) fn say(line: &str) {
    if LOUD.load(Ordering::Relaxed) {
        eprintln!("{line}");
    }
}
