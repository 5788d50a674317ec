//! The write-ahead log, and cutting it once secrets were deleted.
//!
//! A deleted row is overwritten in the file (`secure_delete`), but the log keeps what was written
//! into it before. Cutting writes the log back into the file and truncates it. That flushes the
//! disk, so it is not done for each secret: a thread does it [`DELAY`] after the first secret that
//! was deleted since the last cut, and ends. Where a reader of an older state is in the way, here
//! or in another process, it is tried again, at growing intervals, until it is done.

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use rusqlite::Connection;

use super::connection::BUSY_TIMEOUT;

/// How long secrets that were deleted stay in the log while nothing is in the way.
const DELAY: Duration = Duration::from_secs(3);
/// The longest time between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// How long a cut waits for readers. Writers wait for it.
const PATIENCE: Duration = Duration::from_millis(50);

/// A connection that is closed while the store is suspended.
pub(super) type Writer = Mutex<Option<Connection>>;

/// Cuts the log of one store.
pub(super) struct Log(Arc<Shared>);

struct Shared {
    writer: Arc<Writer>,
    plan: Mutex<Plan>,
    changed: Condvar,
}

#[derive(Default)]
struct Plan {
    /// When to cut next.
    due: Option<Instant>,
    /// How often it was tried in vain.
    failures: u32,
    /// Whether a thread waits for that moment.
    is_awaited: bool,
    is_over: bool,
}

impl Log {
    pub(super) fn of(writer: Arc<Writer>) -> Self {
        Self(Arc::new(Shared { writer, plan: Mutex::default(), changed: Condvar::new() }))
    }

    /// A transaction that deleted secrets is on disk: the log is cut soon.
    pub(super) fn secrets_deleted(&self) {
        let mut plan = self.0.plan();
        if plan.due.is_none() {
            plan.due = Some(Instant::now() + DELAY);
            self.0.changed.notify_all();
        }
        self.await_due(plan);
    }

    /// Cuts the log now; later as well, where a reader is in the way.
    pub(super) fn cut(&self) {
        let outcome = cut(&self.0.writer);
        let mut plan = self.0.plan();
        plan.note(outcome);
        self.await_due(plan);
    }

    /// Has a thread cut at the time that is planned.
    fn await_due(&self, mut plan: MutexGuard<'_, Plan>) {
        if plan.due.is_none() || plan.is_awaited {
            return;
        }
        let shared = self.0.clone();
        let builder = thread::Builder::new().name("matrix-mls-log".to_owned());
        match builder.spawn(move || wait_and_cut(&shared)) {
            Ok(_) => plan.is_awaited = true,
            Err(error) => {
                tracing::warn!(%error, "no thread: the log is cut at once");
                drop(plan);
                let outcome = cut(&self.0.writer);
                self.0.plan().note(outcome);
            }
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.0.plan().is_over = true;
        self.0.changed.notify_all();
    }
}

impl Shared {
    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Plan {
    /// Plans the next try, if one is needed.
    fn note(&mut self, outcome: Cut) {
        match outcome {
            // Closing the file has cut the log.
            Cut::Done | Cut::Closed => {
                *self = Self { is_awaited: self.is_awaited, ..Self::default() }
            }
            Cut::InTheWay => {
                let pause = DELAY.saturating_mul(1 << self.failures.min(6)).min(LONGEST_PAUSE);
                self.failures = self.failures.saturating_add(1);
                self.due = Some(Instant::now() + pause);
            }
        }
    }
}

/// Cuts at each time that is planned, until none is or the store is gone.
fn wait_and_cut(shared: &Shared) {
    loop {
        let mut plan = shared.plan();
        let Some(due) = plan.due.filter(|_| !plan.is_over) else {
            plan.is_awaited = false;
            return;
        };
        let left = due.saturating_duration_since(Instant::now());
        if left.is_zero() {
            plan.due = None;
            drop(plan);
            let outcome = cut(&shared.writer);
            let mut plan = shared.plan();
            // Secrets that were deleted meanwhile have a time of their own.
            if plan.due.is_none() || outcome == Cut::InTheWay {
                plan.note(outcome);
            }
            continue;
        }
        let waited = shared.changed.wait_timeout(plan, left);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cut {
    Done,
    InTheWay,
    Closed,
}

fn cut(writer: &Writer) -> Cut {
    let writer = writer.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(connection) = &*writer else { return Cut::Closed };
    match checkpoint(connection) {
        Ok(true) => Cut::Done,
        Ok(false) => Cut::InTheWay,
        Err(error) => {
            tracing::warn!(%error, "the log could not be cut");
            Cut::InTheWay
        }
    }
}

/// Whether the log was cut as a whole.
pub(super) fn checkpoint(connection: &Connection) -> rusqlite::Result<bool> {
    connection.busy_timeout(PATIENCE)?;
    let sql = "PRAGMA wal_checkpoint(TRUNCATE)";
    let is_busy = connection.query_row(sql, [], |row| row.get::<_, i64>(0));
    connection.busy_timeout(BUSY_TIMEOUT)?;
    Ok(is_busy? == 0)
}
