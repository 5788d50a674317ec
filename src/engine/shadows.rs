//! The shadows in which a reader follows commits, how far it has come in each, and why it comes no
//! further. A reader that is suspended closes all of them.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use crate::{groups::Groups, identity::Identity, store::Shadow};

/// Why the way to a message's epoch was not followed to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FollowError {
    /// A bound was reached.
    #[error("the message is too far ahead to be read beside the machine: {0}")]
    TooFar(&'static str),
    /// The room takes more memory than there is for this.
    #[error("the room is too large for its commits to be followed beside the machine")]
    TooLarge,
    /// The homeserver does not answer.
    #[error("the homeserver does not give what leads to the message's epoch")]
    NoAnswer,
}

/// How far it has come.
#[derive(Default)]
pub(super) struct Path {
    /// Nothing before the first step, after the last, and where the reader was suspended.
    pub(super) at: Option<Place>,
    pub(super) beginnings: u32,
    pub(super) answers: u32,
    pub(super) answered_bytes: usize,
    pub(super) failures: BTreeMap<i64, u32>,
}

/// What is known of the room, beyond the store.
pub(super) struct Place {
    pub(super) shadow: Shadow,
    pub(super) identity: Identity,
    pub(super) groups: Groups,
    /// How many epochs the store has of the room.
    pub(super) epochs: u64,
}

/// The shadows of one reader, which are closed when it is suspended.
#[derive(Default)]
pub(super) struct Follows(Mutex<Vec<Weak<Mutex<Path>>>>);

impl Follows {
    pub(super) fn add(&self, path: &Arc<Mutex<Path>>) {
        let mut follows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        follows.retain(|follow| follow.strong_count() > 0);
        follows.push(Arc::downgrade(path));
    }

    /// Closes the shadows; each waits for the step under way.
    pub(super) fn close(&self) {
        let follows = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        for path in follows.iter().filter_map(Weak::upgrade) {
            lock(&path).at = None;
            self.add(&path);
        }
    }
}

/// The path for a step.
pub(super) fn lock(path: &Mutex<Path>) -> MutexGuard<'_, Path> {
    // A place is put there whole.
    path.lock().unwrap_or_else(PoisonError::into_inner)
}
