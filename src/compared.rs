//! What is remembered of a room that was compared with its group, so that the next comparison looks
//! at those only who have changed since.
//!
//! Before each message a room that something has unsettled is compared with the members of its head
//! (`commits::difference`). In a room of thousands nearly everybody is as before. So a comparison
//! leaves who belongs, whose leaves are where, and who has to be looked at again whatever happens.
//!
//! What is stored decides whether it still holds. What was read of device lists and of the room's
//! members has a mark (`store::Changes`), and what was read of an epoch has its content as its
//! name. So nothing has to be forgotten for the sake of being right: after a rollback, after
//! another opener has written, or in front of an older copy of the file, the marks do not count.
//!
//! It takes a bounded space, and a memory warning lets go of all of it. Small rooms are compared as
//! a whole: that costs less than noting their changes.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    sync::{Mutex, MutexGuard, PoisonError},
};

use ruma::{OwnedRoomId, OwnedUserId, RoomId, UserId};

use crate::{history::ChunkId, store::ChangeMark};

/// From so many users on a comparison is remembered.
const LEAST_USERS: usize = 32;
/// How many users and leaves all rooms may have together. Each takes some hundred bytes.
const MOST: usize = 50_000;

/// One room, compared with its group.
#[derive(Debug)]
pub(crate) struct Comparison {
    /// Since when users and devices may be others than here. Nothing where that is not noted, and
    /// nothing of this can be used again.
    pub(crate) marks: Option<Marks>,
    /// Whether those who are invited are among the users.
    pub(crate) with_invited: bool,
    /// The users whose devices belong into the group.
    pub(crate) users: BTreeSet<OwnedUserId>,
    /// The leaves of an epoch, as it names them.
    pub(crate) chunks: Vec<ChunkId>,
    /// Whose they are, by user: their places, in order.
    pub(crate) leaves: BTreeMap<OwnedUserId, Vec<u32>>,
    /// The users who have to be looked at. Of all others it is known that their devices are those
    /// in the group.
    pub(crate) open: BTreeSet<OwnedUserId>,
    /// Whether all of this belongs together. It does not where a look at an epoch has failed.
    pub(crate) is_whole: bool,
}

/// The moments of what a comparison has read.
#[derive(Debug)]
pub(crate) struct Marks {
    pub(crate) devices: ChangeMark,
    pub(crate) members: ChangeMark,
}

impl Comparison {
    /// A comparison of which only is known who belongs.
    pub(crate) fn new(
        users: BTreeSet<OwnedUserId>,
        with_invited: bool,
        marks: Option<Marks>,
    ) -> Self {
        let open = users.clone();
        let (chunks, leaves) = (Vec::new(), BTreeMap::new());
        Self { marks, with_invited, users, chunks, leaves, open, is_whole: true }
    }

    /// Has a user looked at again, if the user has to do with the room.
    pub(crate) fn reopen(&mut self, user: &UserId) {
        if self.users.contains(user) || self.leaves.contains_key(user) {
            self.open.insert(user.to_owned());
        }
    }

    /// Has everybody looked at again.
    pub(crate) fn reopen_all(&mut self) {
        self.open = self.users.iter().chain(self.leaves.keys()).cloned().collect();
    }

    fn size(&self) -> usize {
        self.users.len() + self.leaves.values().map(Vec::len).sum::<usize>()
    }
}

/// The comparisons of one engine.
pub(crate) struct Compared {
    kept: Mutex<Kept>,
    least_users: usize,
    most: usize,
}

impl Default for Compared {
    fn default() -> Self {
        Self::bounded(LEAST_USERS, MOST)
    }
}

#[derive(Default)]
struct Kept {
    /// The one that was put here last is the last.
    rooms: Vec<(OwnedRoomId, Comparison)>,
    /// How often all were let go.
    releases: u64,
}

impl Compared {
    /// Comparisons of rooms with at least so many users, of so many users and leaves together.
    pub(crate) fn bounded(least_users: usize, most: usize) -> Self {
        Self { kept: Mutex::default(), least_users, most }
    }

    /// Whether a room with so many users is remembered.
    pub(crate) fn remembers(&self, users: usize) -> bool {
        users >= self.least_users
    }

    /// Takes out what is remembered of a room.
    pub(crate) fn take(&self, room: &RoomId) -> Taken {
        let mut kept = self.kept();
        let place = kept.rooms.iter().position(|(other, _)| other == room);
        let known = place.map(|place| kept.rooms.remove(place).1);
        Taken { known, releases: kept.releases }
    }

    /// Remembers a room, unless memory ran short since it was taken out.
    pub(crate) fn keep(&self, room: &RoomId, comparison: Comparison, releases: u64) {
        let mut kept = self.kept();
        if kept.releases != releases || comparison.marks.is_none() || !comparison.is_whole {
            return;
        }
        kept.rooms.retain(|(other, _)| other != room);
        kept.rooms.push((room.to_owned(), comparison));
        let size = |rooms: &[(OwnedRoomId, Comparison)]| {
            rooms.iter().map(|(_, comparison)| comparison.size()).sum::<usize>()
        };
        while !kept.rooms.is_empty() && size(&kept.rooms) > self.most {
            kept.rooms.remove(0);
        }
    }

    /// Lets go of all, also of what is taken out at this moment.
    pub(crate) fn release(&self) {
        let mut kept = self.kept();
        kept.releases = kept.releases.wrapping_add(1);
        drop(mem::take(&mut kept.rooms));
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        // A comparison is put here whole, and only used where it fits the store.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What was taken out.
pub(crate) struct Taken {
    pub(crate) known: Option<Comparison>,
    /// For putting it back.
    pub(crate) releases: u64,
}
