//! Fault injection for tests: kills this process, or panics, at a chosen moment.
//!
//! The process is killed with SIGKILL, not by a panic: no destructor runs and nothing is flushed,
//! as when the system kills an app. Armed by [`arm`] or, for a child process, by the variable
//! `MATRIX_MLS_KILL`, read at the first write: `before-commit:3` is the third time that a write is
//! about to commit. Counts run over all stores of the process. Compiled only with the feature
//! `test-hooks`.

use std::{
    cell::Cell,
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::{self, Command},
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
};

/// The changes of a write are made; the commit has not begun.
pub const BEFORE_COMMIT: &str = "before-commit";

/// The commit is on disk; its caller does not know yet.
pub const AFTER_COMMIT: &str = "after-commit";

/// The environment variable that arms a trap; read once, when the first write reaches a point.
const VARIABLE: &str = "MATRIX_MLS_KILL";

/// An exported call that does not touch the store has begun.
pub const IN_CALL: &str = "in-call";

/// A point at which the process is to be killed, or is to panic.
struct Trap {
    point: String,
    /// How many times the point has still to be reached.
    remaining: u32,
    panics: bool,
}

/// The time of every machine of this process, in milliseconds since 1970; 0 for the real time.
static CLOCK_MS: AtomicU64 = AtomicU64::new(0);

/// The messages that this process has opened.
static OPENED: Mutex<Vec<(String, u32, u32)>> = Mutex::new(Vec::new());
/// The number of writes that this process has committed.
static COMMITS: AtomicU64 = AtomicU64::new(0);
/// How often this process has tried to take in an event of a room.
static TRIED: AtomicU64 = AtomicU64::new(0);
/// How often this process has read a group of OpenMLS for a commit.
static GROUPS_READ: AtomicU64 = AtomicU64::new(0);

fn trap() -> &'static Mutex<Option<Trap>> {
    static TRAP: OnceLock<Mutex<Option<Trap>>> = OnceLock::new();
    TRAP.get_or_init(|| Mutex::new(std::env::var(VARIABLE).ok().and_then(|text| parse(&text))))
}

fn parse(text: &str) -> Option<Trap> {
    let (point, nth) = text.split_once(':')?;
    Some(Trap { point: point.to_owned(), remaining: nth.parse().ok()?, panics: false })
}

/// Kills this process at the `nth` time from now (1 is the next) that a write reaches `point`,
/// [`BEFORE_COMMIT`] or [`AFTER_COMMIT`]. Replaces the trap that was armed before.
pub fn arm(point: &str, nth: u32) {
    *trap().lock().unwrap_or_else(PoisonError::into_inner) =
        Some(Trap { point: point.to_owned(), remaining: nth, panics: false });
}

/// Sets the clock of every machine of this process, in milliseconds since 1970; 0 returns to the
/// real clock.
pub fn set_clock_ms(now_ms: u64) {
    CLOCK_MS.store(now_ms, Ordering::SeqCst);
}

/// The time that [`set_clock_ms`] set.
pub(crate) fn clock_ms() -> Option<u64> {
    Some(CLOCK_MS.load(Ordering::SeqCst)).filter(|now_ms| *now_ms > 0)
}

/// How often this process has read a group of OpenMLS for a commit, or a message that is read once.
pub fn groups_read() -> u64 {
    GROUPS_READ.load(Ordering::SeqCst)
}

/// Notes that a group is read.
pub(crate) fn note_group_read() {
    GROUPS_READ.fetch_add(1, Ordering::SeqCst);
}

/// Whether epochs of one number rank by their commit's event id.
static BY_EVENT: AtomicBool = AtomicBool::new(false);

/// Makes epochs of one number rank by the hash of their commit's event id instead of their own id.
/// A simulator chooses event ids; it cannot choose keys.
pub fn rank_epochs_by_event(by_event: bool) {
    BY_EVENT.store(by_event, Ordering::SeqCst);
}

/// The choice made with [`rank_epochs_by_event`].
pub(crate) fn ranks_by_event() -> bool {
    BY_EVENT.load(Ordering::SeqCst)
}

/// Whether flushes are left out.
static NO_FLUSHES: AtomicBool = AtomicBool::new(false);

/// Leaves out what a commit would flush. So a test of lost power can show that it fails without.
pub fn leave_out_flushes(leave_out: bool) {
    NO_FLUSHES.store(leave_out, Ordering::SeqCst);
}

/// The choice made with [`leave_out_flushes`].
pub(super) fn keeps_from_flushing() -> bool {
    NO_FLUSHES.load(Ordering::SeqCst)
}

/// The directories of stores whose disk was filled, and whether it still is full.
static DISKS: Mutex<BTreeMap<PathBuf, bool>> = Mutex::new(BTreeMap::new());
/// Whether any was.
static FILLS_DISKS: AtomicBool = AtomicBool::new(false);

/// Leaves the store in a directory no space from its next write on, or gives it space again: its
/// file does not grow, and a write that needs that fails as on a full disk.
pub fn fill_disk(directory: &Path, is_full: bool) {
    DISKS.lock().unwrap_or_else(PoisonError::into_inner).insert(directory.to_owned(), is_full);
    FILLS_DISKS.store(true, Ordering::SeqCst);
}

/// Whether the disk of the store in a directory is full; nothing where that was never said.
pub(super) fn has_full_disk(directory: &Path) -> Option<bool> {
    if !FILLS_DISKS.load(Ordering::SeqCst) {
        return None;
    }
    DISKS.lock().unwrap_or_else(PoisonError::into_inner).get(directory).copied()
}

/// Whether every commit is flushed, and records are opened each time that they are read.
static AS_BEFORE: AtomicBool = AtomicBool::new(false);

/// Flushes every commit, and opens records each time that they are read, as it was before decision
/// 029. The bench of operations compares with that.
pub fn flush_and_open_all(all: bool) {
    AS_BEFORE.store(all, Ordering::SeqCst);
}

/// The choice made with [`flush_and_open_all`].
pub(super) fn flushes_and_opens_all() -> bool {
    AS_BEFORE.load(Ordering::SeqCst)
}

/// Whether no signature is remembered.
static VERIFIES_EACH_TIME: AtomicBool = AtomicBool::new(false);

/// Verifies the signatures of leaves and key packages each time that they are met, as it was before
/// decision 038. The bench of operations compares with that.
pub fn verify_each_time(each_time: bool) {
    VERIFIES_EACH_TIME.store(each_time, Ordering::SeqCst);
}

/// The choice made with [`verify_each_time`].
pub(crate) fn verifies_each_time() -> bool {
    VERIFIES_EACH_TIME.load(Ordering::SeqCst)
}

thread_local! {
    /// Whether OpenMLS's rows are all written whole.
    static WHOLE: Cell<bool> = const { Cell::new(false) };
}

/// Makes this thread write OpenMLS's large values whole into their rows, as they were before epochs
/// shared pieces. The bench of epochs compares with that, and migrated stores hold such rows.
pub fn keep_values_whole(whole: bool) {
    WHOLE.set(whole);
}

/// The choice made with [`keep_values_whole`].
pub(super) fn keeps_whole() -> bool {
    WHOLE.get()
}

/// The most devices that one commit adds; 0 for the library's own limit.
static MOST_ADDS: AtomicUsize = AtomicUsize::new(0);

/// Sets the most devices that one commit adds; 0 returns to the library's own limit.
pub fn set_most_adds(devices: usize) {
    MOST_ADDS.store(devices, Ordering::SeqCst);
}

/// The limit that [`set_most_adds`] set.
pub(crate) fn most_adds() -> Option<usize> {
    Some(MOST_ADDS.load(Ordering::SeqCst)).filter(|devices| *devices > 0)
}

/// Whether key packages are taken to fit into any group.
static ALL_FIT: AtomicBool = AtomicBool::new(false);

/// Has key packages taken to fit into any group, so that OpenMLS is the first to see that one does
/// not.
pub fn set_all_fit(all_fit: bool) {
    ALL_FIT.store(all_fit, Ordering::SeqCst);
}

/// What [`set_all_fit`] set.
pub(crate) fn all_fit() -> bool {
    ALL_FIT.load(Ordering::SeqCst)
}

/// How long a turn takes before what is left is for the next one, in milliseconds; 0 for the
/// library's own limit.
static TURN_MS: AtomicUsize = AtomicUsize::new(0);

/// Sets how long a turn takes before what is left is for the next one, in milliseconds; 0 returns
/// to the library's own limit.
pub fn set_turn_ms(ms: usize) {
    TURN_MS.store(ms, Ordering::SeqCst);
}

/// The limit that [`set_turn_ms`] set.
pub(crate) fn turn_ms() -> Option<u64> {
    Some(TURN_MS.load(Ordering::SeqCst) as u64).filter(|ms| *ms > 0)
}

/// Whether copies of a store's file pass for the original.
static TRUSTS_COPIES: AtomicBool = AtomicBool::new(false);

/// Makes copies of a store's file pass for the original when they are opened. A simulator makes a
/// store once and copies it for each history.
pub fn trust_copies(trust: bool) {
    TRUSTS_COPIES.store(trust, Ordering::SeqCst);
}

/// The choice made with [`trust_copies`].
pub(crate) fn trusts_copies() -> bool {
    TRUSTS_COPIES.load(Ordering::SeqCst)
}

/// The messages that this process has opened: the epoch's id in hex, the sender's leaf, the
/// generation.
pub fn opened_messages() -> Vec<(String, u32, u32)> {
    OPENED.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// The messages that [`opened_messages`] gives; the list is empty afterwards.
pub fn take_opened_messages() -> Vec<(String, u32, u32)> {
    std::mem::take(&mut *OPENED.lock().unwrap_or_else(PoisonError::into_inner))
}

/// A message was opened.
pub(crate) fn opened_message(epoch: String, leaf: u32, generation: u32) {
    OPENED.lock().unwrap_or_else(PoisonError::into_inner).push((epoch, leaf, generation));
}

/// How often this process has tried to take in an event of a room.
pub fn tried_events() -> u64 {
    TRIED.load(Ordering::SeqCst)
}

/// An event of a room is tried.
pub(crate) fn try_event() {
    TRIED.fetch_add(1, Ordering::SeqCst);
}

/// How many writes this process has committed.
pub fn commits() -> u64 {
    COMMITS.load(Ordering::SeqCst)
}

/// Panics in this process the next time that a write is about to commit (0), or that a call which
/// does not touch the store begins (1). The tests of the bindings reach it as a C symbol, so that
/// the generated API is the one that ships.
#[unsafe(no_mangle)]
#[allow(
    unsafe_code,
    reason = "tests look this symbol up by its name; the only argument is a number"
)]
pub extern "C" fn matrix_mls_test_panic(point: i32) {
    let point = if point == 0 { BEFORE_COMMIT } else { IN_CALL };
    *trap().lock().unwrap_or_else(PoisonError::into_inner) =
        Some(Trap { point: point.to_owned(), remaining: 1, panics: true });
}

/// Execution is at `point`.
pub(crate) fn reached(point: &str) {
    let mut trap = trap().lock().unwrap_or_else(PoisonError::into_inner);
    let Some(armed) = trap.as_mut().filter(|armed| armed.point == point) else { return };
    armed.remaining = armed.remaining.saturating_sub(1);
    if armed.remaining > 0 {
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
