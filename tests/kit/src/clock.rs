//! The clock of all machines of this process, in one test's hand.
//!
//! A process has one such clock, so the tests of a file that take it run one after the other.
//! OpenMLS looks at the system's clock, and the homeservers do too.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::UNIX_EPOCH,
};

use matrix_mls::test_hooks::set_clock_ms;
use tokio::sync::{Mutex, MutexGuard};

/// The clock: right at first, and right again when dropped. Once it was set it stands still.
pub struct Clock {
    /// What it shows, in milliseconds since 1970; 0 while it is right.
    shown_ms: AtomicU64,
    _turn: MutexGuard<'static, ()>,
}

impl Clock {
    /// Waits until no other test has it.
    pub async fn take() -> Self {
        static TURN: Mutex<()> = Mutex::const_new(());
        Self { shown_ms: AtomicU64::new(0), _turn: TURN.lock().await }
    }

    /// The time of day, whatever this clock shows.
    pub fn today_ms() -> u64 {
        UNIX_EPOCH.elapsed().map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    /// What it shows.
    pub fn now_ms(&self) -> u64 {
        match self.shown_ms.load(Ordering::Relaxed) {
            0 => Self::today_ms(),
            shown_ms => shown_ms,
        }
    }

    /// It shows this time, in milliseconds since 1970, and stands still.
    pub fn set(&self, now_ms: u64) {
        self.shown_ms.store(now_ms, Ordering::Relaxed);
        set_clock_ms(now_ms);
    }

    /// It stands still from now on.
    pub fn stop(&self) {
        self.set(self.now_ms());
    }

    /// So much time passes.
    pub fn pass(&self, ms: u64) {
        self.set(self.now_ms() + ms);
    }

    /// Somebody sets it back.
    pub fn set_back(&self, ms: u64) {
        self.set(self.now_ms() - ms);
    }

    /// It shows what the system's clock shows, and goes on as that does.
    pub fn is_right(&self) {
        self.set(0);
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        set_clock_ms(0);
    }
}
