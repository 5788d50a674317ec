//! Fault injection for tests: kills this process, or panics, at a chosen moment.
//!
//! SIGKILL, not a panic: no destructor runs and nothing is flushed, as when the system kills an
//! app. Armed by [`arm`] or, for a child process, by the variable `MATRIX_MLS_KILL`, read at the
//! first write: `before-commit:3` is the third time a write is about to commit. Counts run over
//! all stores of the process. Compiled only with the feature `test-hooks`.

use std::{
    cell::Cell,
    process::{self, Command},
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
};

/// The changes of a write are made; the commit has not begun.
pub const BEFORE_COMMIT: &str = "before-commit";

/// The commit is on disk; the caller does not know it yet.
pub const AFTER_COMMIT: &str = "after-commit";

/// Read once, when the first write reaches a point.
const VARIABLE: &str = "MATRIX_MLS_KILL";

/// An exported call that does not touch the store has begun.
pub const IN_CALL: &str = "in-call";

struct Trap {
    point: String,
    left: u32,
    panics: bool,
}

/// What the clock of every machine of this process shows, in milliseconds since 1970; 0 for the real one.
static CLOCK_MS: AtomicU64 = AtomicU64::new(0);

static OPENED: Mutex<Vec<(String, u32, u32)>> = Mutex::new(Vec::new());
static COMMITS: AtomicU64 = AtomicU64::new(0);

fn trap() -> &'static Mutex<Option<Trap>> {
    static TRAP: OnceLock<Mutex<Option<Trap>>> = OnceLock::new();
    TRAP.get_or_init(|| Mutex::new(std::env::var(VARIABLE).ok().and_then(|text| parse(&text))))
}

fn parse(text: &str) -> Option<Trap> {
    let (point, nth) = text.split_once(':')?;
    Some(Trap { point: point.to_owned(), left: nth.parse().ok()?, panics: false })
}

/// Kills this process at the `nth` time from now (1 is the next) a write reaches `point`,
/// [`BEFORE_COMMIT`] or [`AFTER_COMMIT`]. Replaces what was armed before.
pub fn arm(point: &str, nth: u32) {
    *trap().lock().unwrap_or_else(PoisonError::into_inner) =
        Some(Trap { point: point.to_owned(), left: nth, panics: false });
}

/// Sets the clock of every machine of this process, in milliseconds since 1970; 0 lets them have the
/// real one again.
pub fn set_clock_ms(now_ms: u64) {
    CLOCK_MS.store(now_ms, Ordering::SeqCst);
}

/// What [`set_clock_ms`] said.
pub(crate) fn clock_ms() -> Option<u64> {
    Some(CLOCK_MS.load(Ordering::SeqCst)).filter(|now_ms| *now_ms > 0)
}

/// Whether epochs of one number rank by their commit's event id.
static BY_EVENT: AtomicBool = AtomicBool::new(false);

/// Has epochs of one number rank by the hash of their commit's event id, not by their own id: a
/// simulator chooses event ids, and cannot choose keys.
pub fn rank_epochs_by_event(by_event: bool) {
    BY_EVENT.store(by_event, Ordering::SeqCst);
}

/// What [`rank_epochs_by_event`] said.
pub(crate) fn ranks_by_event() -> bool {
    BY_EVENT.load(Ordering::SeqCst)
}

thread_local! {
    /// Whether OpenMLS's rows are all written whole.
    static WHOLE: Cell<bool> = const { Cell::new(false) };
}

/// Has this thread write OpenMLS's large values whole into their rows, as it was before epochs shared
/// pieces of them: what the bench of epochs compares with, and what migrated stores hold.
pub fn keep_values_whole(whole: bool) {
    WHOLE.set(whole);
}

/// What [`keep_values_whole`] said.
pub(super) fn keeps_whole() -> bool {
    WHOLE.get()
}

/// How many devices one commit adds at the most; 0 for what the library has chosen.
static MOST_ADDS: AtomicUsize = AtomicUsize::new(0);

/// Has one commit add so many devices at the most; 0 leaves it to the library again.
pub fn set_most_adds(devices: usize) {
    MOST_ADDS.store(devices, Ordering::SeqCst);
}

/// What [`set_most_adds`] said.
pub(crate) fn most_adds() -> Option<usize> {
    Some(MOST_ADDS.load(Ordering::SeqCst)).filter(|devices| *devices > 0)
}

/// Whether copies of a store's file pass for the file.
static TRUSTS_COPIES: AtomicBool = AtomicBool::new(false);

/// Has copies of a store's file pass for the file when they are opened: a simulator makes a store once and
/// copies it for each history.
pub fn trust_copies(trust: bool) {
    TRUSTS_COPIES.store(trust, Ordering::SeqCst);
}

/// What [`trust_copies`] said.
pub(crate) fn trusts_copies() -> bool {
    TRUSTS_COPIES.load(Ordering::SeqCst)
}

/// Which messages this process has opened: the epoch's id in hex, the sender's leaf, the generation.
pub fn opened_messages() -> Vec<(String, u32, u32)> {
    OPENED.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// What [`opened_messages`] gives, which is forgotten then.
pub fn take_opened_messages() -> Vec<(String, u32, u32)> {
    std::mem::take(&mut *OPENED.lock().unwrap_or_else(PoisonError::into_inner))
}

/// A message was opened.
pub(crate) fn opened_message(epoch: String, leaf: u32, generation: u32) {
    OPENED.lock().unwrap_or_else(PoisonError::into_inner).push((epoch, leaf, generation));
}

/// How many writes this process has committed.
pub fn commits() -> u64 {
    COMMITS.load(Ordering::SeqCst)
}

/// Panics in this process the next time a write is about to commit (0) or a call that does not touch
/// the store begins (1). For the tests of the bindings, which reach it as a C symbol: so the generated
/// API is the one that ships.
#[unsafe(no_mangle)]
#[allow(
    unsafe_code,
    reason = "a symbol's name is what this is for; nothing is passed but a number"
)]
pub extern "C" fn matrix_mls_test_panic(point: i32) {
    let point = if point == 0 { BEFORE_COMMIT } else { IN_CALL };
    *trap().lock().unwrap_or_else(PoisonError::into_inner) =
        Some(Trap { point: point.to_owned(), left: 1, panics: true });
}

/// Execution is at `point`.
pub(crate) fn reached(point: &str) {
    let mut trap = trap().lock().unwrap_or_else(PoisonError::into_inner);
    let Some(armed) = trap.as_mut().filter(|armed| armed.point == point) else { return };
    armed.left = armed.left.saturating_sub(1);
    if armed.left > 0 {
        return;
    }
    let panics = armed.panics;
    *trap = None;
    drop(trap);
    if panics {
        panic!("a panic that a test asked for");
    }
    kill();
}

/// A write has committed.
pub(super) fn committed() {
    COMMITS.fetch_add(1, Ordering::SeqCst);
    reached(AFTER_COMMIT);
}

fn kill() -> ! {
    // Waiting for the child keeps this thread from returning until the signal arrives.
    let _ = Command::new("kill").args(["-9", &process::id().to_string()]).status();
    process::abort()
}
