//! How good the list of a room's members is.
//!
//! Nobody is removed from a group, and nothing is sealed for it, unless the full list of the room's
//! members has been seen and nothing has put it in doubt since. This is the record of that: when
//! the list was seen, what puts it in doubt, and what is needed to trust it again. The members
//! themselves are in `membership`; asking is `incoming::members`.

use std::collections::{BTreeMap, BTreeSet};

use ruma::{OwnedEventId, OwnedUserId, RoomId};
use serde::{Deserialize, Serialize};

use super::membership::Membership;
use crate::store::{Collection, StoreError, Tx};

/// How long a full list counts, in milliseconds. State resolution changes members without an event
/// in the timeline.
const FULL_LIST_COUNTS_MS: u64 = 24 * 60 * 60 * 1000;
/// How long what was found out counts in a room of which no sync tells everything, in milliseconds.
const UNFOLLOWED_COUNTS_MS: u64 = 60 * 1000;
/// How many changes are remembered while a question is under way.
const MOST_CHANGES: usize = 200;
/// The first wait after a refusal, in milliseconds, which doubles; and the longest.
const FIRST_RETRY_MS: u64 = 5_000;
const LONGEST_RETRY_MS: u64 = 10 * 60 * 1000;

const LISTS: Collection<MemberList> = Collection::new("member_list");

/// What puts a list in doubt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Doubt {
    /// Something may have happened since `up_to` that no sync has told.
    Gap,
    /// The list itself may be wrong.
    List,
}

/// What is needed to trust a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    Nothing,
    /// What has happened since `up_to`.
    Changes,
    /// The full list.
    FullList,
}

/// The record of one room.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MemberList {
    /// When the full list was last seen, in milliseconds since 1970.
    full_ms: Option<u64>,
    /// When it was last known to be right, in milliseconds since 1970.
    checked_ms: u64,
    /// Something may have happened since `up_to`.
    gap: bool,
    /// The list itself may be wrong.
    unsure: bool,
    /// The last event of those that count whose effect, and that of all before, is in the list.
    up_to: Option<OwnedEventId>,
    /// The last event of those that count that a sync has brought.
    newest: Option<OwnedEventId>,
    /// How many have joined, by what the homeserver last said.
    joined_count: Option<u64>,
    /// A number that the homeserver gives though its list has another: it is not asked again.
    disputed_count: Option<u64>,
    /// The question under way.
    pub(crate) question: Option<Question>,
    refusals: u32,
    retry_at_ms: u64,
}

/// A question that the homeserver has not answered yet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Question {
    /// Who has come or gone since it was asked.
    changed: BTreeSet<OwnedUserId>,
    /// Something may have happened since that the answer does not hold.
    is_stale: bool,
    /// Something has put the list itself in doubt since.
    #[serde(default)]
    is_unsure: bool,
    /// The last event of those that count when it was asked: the answer holds its effect.
    asked_at: Option<OwnedEventId>,
    /// Where the walk through what has happened stands.
    pub(crate) from: Option<String>,
    pub(crate) pages: u32,
    /// What it has found: the last that has happened to each user.
    pub(crate) found: BTreeMap<OwnedUserId, Option<Membership>>,
}

impl Question {
    /// Who has come or gone since it was asked.
    pub(crate) fn changed(&self) -> impl Iterator<Item = &OwnedUserId> {
        self.changed.iter()
    }
}

/// The record of a room; an empty one where nothing is known.
pub(crate) fn load(tx: &Tx<'_>, room: &RoomId) -> Result<MemberList, StoreError> {
    Ok(LISTS.get(tx, b"", room.as_bytes())?.unwrap_or_default())
}

/// Stores the record of a room.
pub(crate) fn save(tx: &Tx<'_>, room: &RoomId, list: &MemberList) -> Result<(), StoreError> {
    LISTS.put(tx, b"", room.as_bytes(), list)
}

/// Whether the full list of a room's members has ever been seen. Before, nobody is a stranger
/// there.
pub(crate) fn was_seen(tx: &Tx<'_>, room: &RoomId) -> Result<bool, StoreError> {
    Ok(load(tx, room)?.full_ms.is_some())
}

impl MemberList {
    /// What is needed first to trust the list. `is_followed`: a sync tells everything that happens
    /// in the room.
    pub(crate) fn need(&self, now_ms: u64, is_followed: bool) -> Need {
        // A time in the future comes from a clock that has been set back since.
        let is_recent = |at_ms: u64, counts_ms: u64| {
            at_ms <= now_ms && now_ms.saturating_sub(at_ms) < counts_ms
        };
        let is_current = is_followed || is_recent(self.checked_ms, UNFOLLOWED_COUNTS_MS);
        let gap = self.gap || !is_current;
        if gap && self.up_to.is_some() {
            // It has commits, too.
            return Need::Changes;
        }
        let is_known = self.full_ms.is_some_and(|at_ms| is_recent(at_ms, FULL_LIST_COUNTS_MS));
        if gap || self.unsure || !is_known { Need::FullList } else { Need::Nothing }
    }

    /// Whether the full list has ever been seen.
    pub(crate) fn was_seen(&self) -> bool {
        self.full_ms.is_some()
    }

    /// Whether the full list has been seen and nothing has put it in doubt.
    pub(crate) fn is_good(&self) -> bool {
        self.full_ms.is_some() && !self.gap && !self.unsure
    }

    /// The event that a walk through what has happened ends at.
    pub(crate) fn up_to(&self) -> Option<&OwnedEventId> {
        self.up_to.as_ref()
    }

    /// The homeserver is asked now.
    pub(crate) fn begin_question(&mut self) {
        self.question = Some(Question { asked_at: self.newest.clone(), ..Question::default() });
    }

    /// Something puts the list in doubt.
    pub(crate) fn doubt(&mut self, doubt: Doubt) {
        match doubt {
            Doubt::Gap => self.gap = true,
            Doubt::List => self.unsure = true,
        }
        if let Some(question) = &mut self.question {
            question.is_stale = true;
            question.is_unsure |= doubt == Doubt::List;
        }
    }

    /// A sync has told that a user came or went.
    pub(crate) fn note_change(&mut self, user: &OwnedUserId) {
        let Some(question) = &mut self.question else { return };
        if question.changed.len() < MOST_CHANGES {
            question.changed.insert(user.clone());
        } else {
            question.is_stale = true;
        }
    }

    /// A sync has brought these events, of those that count, without a gap before them unless there
    /// is a doubt.
    pub(crate) fn note_events(&mut self, last: Option<&OwnedEventId>, now_ms: u64) {
        if let Some(last) = last {
            self.newest = Some(last.clone());
        }
        if self.is_good() {
            self.up_to.clone_from(&self.newest);
            // A new time each sync would be a write each sync.
            if now_ms.saturating_sub(self.checked_ms) >= UNFOLLOWED_COUNTS_MS / 2 {
                self.checked_ms = now_ms;
            }
        }
    }

    /// The homeserver says how many have joined, and this is how many are known to have.
    pub(crate) fn note_count(&mut self, count: u64, known: u64) {
        self.joined_count = Some(count);
        if self.is_good() && count != known && self.disputed_count != Some(count) {
            self.doubt(Doubt::List);
        }
    }

    /// Whether the homeserver has said last that so many have joined.
    pub(crate) fn agrees_with(&self, joined: u64) -> bool {
        self.joined_count == Some(joined)
    }

    /// The number of joined members that the homeserver said last.
    pub(crate) fn joined_count(&self) -> Option<u64> {
        self.joined_count
    }

    /// All that has ever happened in the room has been seen, with so many joined members now.
    pub(crate) fn seen_from_the_beginning(&mut self, joined: u64, now_ms: u64) {
        self.seen(
            &Question { asked_at: self.newest.clone(), ..Question::default() },
            joined,
            now_ms,
        );
    }

    /// The full list has been seen: the answer to this question, with so many joined members.
    pub(crate) fn seen(&mut self, question: &Question, joined: u64, now_ms: u64) {
        self.full_ms = Some(now_ms);
        self.unsure = question.is_unsure;
        self.disputed_count = self.joined_count.filter(|count| *count != joined);
        self.trust(question, now_ms);
    }

    /// All that has happened since `up_to` has been taken in: the answer to this question, with so
    /// many joined members now.
    pub(crate) fn caught_up(&mut self, question: &Question, joined: u64, now_ms: u64) {
        self.trust(question, now_ms);
        if let Some(count) = self.joined_count {
            self.note_count(count, joined);
        }
    }

    /// What has happened since `up_to` cannot be followed.
    pub(crate) fn cannot_catch_up(&mut self) {
        self.question = None;
        self.up_to = None;
        self.unsure = true;
    }

    /// An answer counts, but for a gap that a sync has told of since it was asked.
    fn trust(&mut self, question: &Question, now_ms: u64) {
        self.question = None;
        self.checked_ms = now_ms;
        (self.refusals, self.retry_at_ms) = (0, 0);
        self.gap = question.is_stale;
        let up_to = if question.is_stale { &question.asked_at } else { &self.newest };
        if up_to.is_some() {
            self.up_to.clone_from(up_to);
        }
    }

    /// The homeserver does not say who is in the room, or says something that cannot be.
    pub(crate) fn refused(&mut self, now_ms: u64) {
        self.question = None;
        let wait = FIRST_RETRY_MS << self.refusals.min(16);
        self.refusals = self.refusals.saturating_add(1);
        self.retry_at_ms = now_ms.saturating_add(wait.min(LONGEST_RETRY_MS));
    }

    /// What was refused may be answered now.
    pub(crate) fn forget_refusals(&mut self) {
        (self.refusals, self.retry_at_ms) = (0, 0);
    }

    /// Whether the homeserver has to be left alone for now.
    pub(crate) fn is_put_off(&self, now_ms: u64) -> bool {
        // A time further ahead than any wait comes from a clock that has been set back since.
        self.retry_at_ms > now_ms && self.retry_at_ms <= now_ms.saturating_add(LONGEST_RETRY_MS)
    }
}

#[cfg(test)]
mod tests {
    use ruma::{owned_event_id, owned_user_id};

    use super::*;

    const DAY_MS: u64 = 24 * 60 * 60 * 1000;

    fn seen(now_ms: u64) -> MemberList {
        let mut list = MemberList::default();
        list.seen(&Question::default(), 2, now_ms);
        list
    }

    #[test]
    fn nothing_counts_before_the_full_list_was_seen() {
        let mut list = MemberList::default();
        list.note_events(Some(&owned_event_id!("$event")), 1);
        list.note_count(2, 2);
        assert_eq!(list.need(1, true), Need::FullList);
        assert!(!list.is_good());
    }

    #[test]
    fn a_list_counts_for_a_day_and_not_before_its_time() {
        let list = seen(DAY_MS);
        assert_eq!(list.need(DAY_MS, true), Need::Nothing);
        assert_eq!(list.need(2 * DAY_MS - 1, true), Need::Nothing);
        assert_eq!(list.need(2 * DAY_MS, true), Need::FullList);
        assert_eq!(list.need(DAY_MS - 1, true), Need::FullList, "the clock was set back");
    }

    #[test]
    fn what_no_sync_tells_of_counts_for_a_minute() {
        let list = seen(DAY_MS);
        assert_eq!(list.need(DAY_MS + 59_999, false), Need::Nothing);
        assert_eq!(list.need(DAY_MS + 60_000, false), Need::FullList);
        assert_eq!(list.need(DAY_MS + 60_000, true), Need::Nothing);
    }

    #[test]
    fn a_gap_is_closed_by_what_has_happened_since_where_that_is_known() {
        let mut list = seen(1);
        list.doubt(Doubt::Gap);
        assert_eq!(list.need(1, true), Need::FullList, "there is no event to go back to");
        let mut list = seen(1);
        list.note_events(Some(&owned_event_id!("$known")), 1);
        list.doubt(Doubt::Gap);
        assert_eq!(list.need(1, true), Need::Changes);
        // Events behind the gap do not move its beginning.
        list.note_events(Some(&owned_event_id!("$later")), 1);
        assert_eq!(list.up_to(), Some(&owned_event_id!("$known")));
        list.caught_up(&Question::default(), 2, 1);
        assert_eq!(list.up_to(), Some(&owned_event_id!("$later")));
        assert_eq!(list.need(1, true), Need::Nothing);
        list.doubt(Doubt::List);
        list.doubt(Doubt::Gap);
        list.caught_up(&Question::default(), 2, 1);
        assert_eq!(list.need(1, true), Need::FullList, "a list in doubt stays so");
        list.doubt(Doubt::Gap);
        list.cannot_catch_up();
        assert_eq!(list.need(1, true), Need::FullList);
        list.seen(&Question::default(), 2, 1);
        assert_eq!(list.need(1, true), Need::Nothing);
    }

    #[test]
    fn a_number_that_the_homeserver_stands_by_is_asked_about_once() {
        let mut list = seen(1);
        list.note_count(3, 2);
        assert_eq!(list.need(1, true), Need::FullList);
        list.seen(&Question::default(), 2, 2);
        list.note_count(3, 2);
        assert_eq!(list.need(2, true), Need::Nothing);
        list.note_count(4, 2);
        assert_eq!(list.need(2, true), Need::FullList, "another number is news");
    }

    #[test]
    fn a_gap_that_follows_the_question_is_closed_by_another() {
        let mut list = seen(1);
        list.note_events(Some(&owned_event_id!("$known")), 1);
        list.doubt(Doubt::Gap);
        list.begin_question();
        list.note_change(&owned_user_id!("@a:example.org"));
        list.doubt(Doubt::Gap);
        list.note_events(Some(&owned_event_id!("$later")), 1);
        let question = list.question.take().unwrap_or_default();
        assert_eq!(question.changed().count(), 1);
        list.seen(&question, 2, 2);
        assert_eq!(list.need(2, true), Need::Changes);
        assert_eq!(list.up_to(), Some(&owned_event_id!("$known")));
    }

    #[test]
    fn refusals_are_answered_by_longer_and_longer_waits() {
        let mut list = MemberList::default();
        list.refused(1_000_000);
        assert!(list.is_put_off(1_004_999) && !list.is_put_off(1_005_000));
        for _ in 0..100 {
            list.refused(1_000_000);
        }
        assert!(list.is_put_off(1_599_999) && !list.is_put_off(1_600_000));
        assert!(!list.is_put_off(1), "the clock was set back");
        list.seen(&Question::default(), 1, 1);
        assert!(!list.is_put_off(1));
    }
}
