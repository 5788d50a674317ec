//! The epoch graph by itself: the head rule, lookups, and what is dropped when.

use std::error::Error;

use ruma::{RoomId, owned_event_id, owned_user_id, room_id};
use tempfile::TempDir;

use super::{CommitDoubt, EpochRecord, Origin, Status, UnknownEpoch, graph, head, pruning, trees};
use crate::{
    failure::Failure,
    groups::Groups,
    homeserver_time,
    identity::{Crypto, Identity, Publishing},
    protocol::{DeviceName, EpochId, GroupName},
    room::{self, Membership, Room, membership, undone},
    store::{Store, StoreError, StoreKeyMaterial, Tx},
    turn::{Consequence, Turn},
};

type Outcome = Result<(), Box<dyn Error>>;

fn room() -> &'static RoomId {
    room_id!("!room:example.org")
}

fn store() -> Result<(TempDir, Store), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let store = Store::open(directory.path(), StoreKeyMaterial::None)?;
    Ok((directory, store))
}

fn creator() -> DeviceName {
    DeviceName::new(owned_user_id!("@a:b"), "D".into())
}

fn id(byte: u8) -> EpochId {
    EpochId::from_bytes([byte; 32])
}

fn epoch(
    tx: &Tx<'_>,
    byte: u8,
    number: u64,
    parent: Option<u8>,
) -> Result<EpochRecord, StoreError> {
    let origin = Origin {
        namespace: tx.new_namespace()?,
        creator: creator(),
        parent: parent.map(id),
        group: Default::default(),
        status: Status::Accepted,
        since_ms: 0,
    };
    Ok(EpochRecord { behind: 1, ..EpochRecord::new(id(byte), number, 2, origin) })
}

/// Chooses the head at a time; gives what was reported.
fn choose(tx: &Tx<'_>, now_ms: u64) -> Result<Vec<Consequence>, Failure> {
    in_turn(tx, now_ms, |turn| {
        room::edit(tx, room(), |room| head::choose(turn, room))?;
        Ok(std::iter::from_fn(|| turn.next_consequence()).collect())
    })
}

/// Does something in a turn of one device, at a time.
fn in_turn<T>(
    tx: &Tx<'_>,
    now_ms: u64,
    work: impl FnOnce(&Turn<'_>) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let crypto = Crypto::default();
    let user = owned_user_id!("@me:b");
    let identity = Identity::load_or_create(tx, &crypto, &user, &"ME".into(), Publishing::Alone)
        .map_err(|error| Failure::defect("identity", error))?;
    work(&Turn::new(tx, &identity, &crypto, &Groups::default(), now_ms))
}

/// Puts an epoch into the graph as if its commit had just been taken in.
fn keep(tx: &Tx<'_>, record: &EpochRecord) -> Result<(), StoreError> {
    graph::put(tx, room(), record)?;
    change(tx, |room| room.kept.push(record.id))
}

fn change(tx: &Tx<'_>, work: impl FnOnce(&mut Room)) -> Result<(), StoreError> {
    room::edit(tx, room(), |room| {
        work(room);
        Ok(())
    })
}

fn full(tx: &Tx<'_>) -> Result<Vec<u64>, StoreError> {
    let epochs = graph::all(tx, room())?;
    Ok(epochs.iter().filter(|epoch| epoch.full).map(|epoch| epoch.number).collect())
}

#[test]
fn two_epochs_of_one_number_and_creator_are_told_apart_by_their_events() -> Outcome {
    let (_directory, store) = store()?;
    store.write(|tx| {
        let mut first = epoch(tx, 1, 7, None)?;
        first.commit_event = Some(owned_event_id!("$first"));
        let mut second = epoch(tx, 2, 7, None)?;
        second.commit_event = Some(owned_event_id!("$second"));
        for epoch in [&first, &second] {
            graph::put(tx, room(), epoch)?;
        }
        let ids = |event: &str, number| {
            let epochs = graph::named(tx, room(), event, number, &creator())?;
            Ok::<_, StoreError>(epochs.iter().map(|epoch| epoch.id).collect::<Vec<_>>())
        };
        assert_eq!(ids("$first", 7)?, [first.id]);
        assert_eq!(ids("$second", 7)?, [second.id]);
        assert_eq!(ids("$first", 8)?, [], "the event is of another number");
        assert_eq!(ids("$unknown", 7)?, [], "it is neither of the two");
        let mut hinted = epoch(tx, 3, 7, None)?;
        hinted.commit_event = Some(owned_event_id!("$hint"));
        hinted.event_is_hint = true;
        graph::put(tx, room(), &hinted)?;
        assert_eq!(ids("$unknown", 7)?, [hinted.id], "what was said of it may be wrong");
        graph::remove(tx, room(), &hinted)?;
        assert_eq!(ids("", 7)?, [first.id, second.id]);
        assert_eq!(ids("", 6)?, []);
        graph::remove(tx, room(), &first)?;
        assert_eq!(ids("$first", 7)?, [], "it is forgotten");
        assert!(graph::find(tx, room(), first.id)?.is_none());
        Ok::<_, StoreError>(())
    })?;
    Ok(())
}

#[test]
fn names_that_share_letters_are_not_one_name() -> Outcome {
    let (_directory, store) = store()?;
    store.write(|tx| {
        let mut record = epoch(tx, 1, 1, None)?;
        record.creator = DeviceName::new(owned_user_id!("@a:bc"), "D".into());
        graph::put(tx, room(), &record)?;
        let other = DeviceName::new(owned_user_id!("@a:b"), "cD".into());
        assert_eq!(graph::named(tx, room(), "", 1, &other)?.len(), 0);
        assert_eq!(graph::named(tx, room(), "", 1, &record.creator)?.len(), 1);
        Ok::<_, StoreError>(())
    })?;
    Ok(())
}

#[test]
fn what_is_kept_is_bounded_by_number_by_age_and_by_who_is_still_there() -> Outcome {
    let (_directory, store) = store()?;
    store.write(|tx| {
        change(tx, |room| {
            room.settings.kept_epochs = 3;
            room.settings.kept_for_ms = 1_000;
        })?;
        for byte in 0..10_u8 {
            keep(tx, &epoch(tx, byte, u64::from(byte), byte.checked_sub(1))?)?;
            choose(tx, 10)?;
        }
        assert_eq!(full(tx)?, [6, 7, 8, 9], "the head and the best three beside it");
        assert_eq!(graph::all(tx, room())?.len(), 10, "all of them still decrypt");
        assert_eq!(graph::why_unknown(tx, room(), GroupName::First, 10)?, UnknownEpoch::NotYet(10));

        // Everybody has been seen beyond one of them.
        let mut left = graph::get(tx, room(), id(7))?;
        (left.behind, left.left_ms) = (0, Some(15));
        graph::put(tx, room(), &left)?;
        change(tx, |room| room.settings.kept_for_ms = 86_400_000)?;
        choose(tx, 20)?;
        assert_eq!(full(tx)?, [6, 7, 8, 9], "what was sent on it may be late");
        choose(tx, 3_600_015)?;
        assert_eq!(full(tx)?, [6, 8, 9]);

        choose(tx, 86_400_020)?;
        assert_eq!(full(tx)?, [9], "the head stays however old it is");
        Ok::<_, Failure>(())
    })?;
    Ok(())
}

#[test]
fn who_has_been_away_lets_nothing_go_for_its_age_before_it_has_caught_up() -> Outcome {
    const DAY_MS: u64 = 86_400_000;
    const HOUR_MS: u64 = 3_600_000;
    let (_directory, store) = store()?;
    let sync = |tx: &Tx<'_>, now_ms| in_turn(tx, now_ms, |turn| Ok(pruning::note_sync(turn)?));
    store.write(|tx| {
        keep(tx, &epoch(tx, 1, 1, None)?)?;
        sync(tx, 10)?;
        choose(tx, 10)?;
        for byte in [2, 3] {
            keep(tx, &epoch(tx, byte, u64::from(byte), Some(byte - 1))?)?;
            choose(tx, 20)?;
        }
        // Its app starts before it syncs.
        choose(tx, 8 * DAY_MS)?;
        assert_eq!(full(tx)?, [1, 2, 3], "what was missed may stand on any of them");
        sync(tx, 8 * DAY_MS)?;
        choose(tx, 8 * DAY_MS + 10)?;
        assert_eq!(full(tx)?, [1, 2, 3]);
        // More syncs make it no newer.
        sync(tx, 8 * DAY_MS + HOUR_MS / 2)?;
        choose(tx, 8 * DAY_MS + HOUR_MS)?;
        assert_eq!(full(tx)?, [3], "it has caught up");
        Ok::<_, Failure>(())
    })?;
    Ok(())
}

/// An app shows its machine pages of history beside what its syncs bring, in whatever order.
#[test]
fn what_was_said_last_says_where_somebody_is() -> Outcome {
    const HOUR_MS: u64 = 3_600_000;
    const NOW_MS: u64 = 1_000 * HOUR_MS;
    let (_directory, store) = store()?;
    store.write(|tx| {
        let in_tree = |byte: u8| {
            let mut record = epoch(tx, byte, 1, None)?;
            record.root = Some(id(byte));
            Ok::<_, StoreError>(record)
        };
        let (one, other) = (in_tree(1)?, in_tree(2)?);
        let changes = |epoch: &EpochRecord, server_ms, is_news| {
            in_turn(tx, NOW_MS, |turn| {
                if let Some(said_ms) = trees::said_ms(turn, Some(server_ms), is_news)? {
                    trees::heard(turn, room(), epoch, &creator(), said_ms)?;
                }
                Ok(turn.next_consequence().is_some())
            })
        };
        assert!(!changes(&one, NOW_MS - 24 * HOUR_MS, false)?, "a day ago is too long ago");
        assert!(!changes(&one, NOW_MS + 24 * HOUR_MS, false)?, "nobody can know that");
        assert!(changes(&one, NOW_MS - 3 * HOUR_MS, true)?);
        // Another message of the same sync had to wait for something.
        assert!(changes(&other, NOW_MS - 2 * HOUR_MS, false)?);
        assert!(!changes(&one, NOW_MS - 3 * HOUR_MS, true)?, "that was before");
        assert!(!changes(&other, NOW_MS - 2 * HOUR_MS, true)?, "that is known");
        assert!(changes(&one, NOW_MS + 24 * HOUR_MS, true)?, "a clock is off, and it came now");
        // This device's clock is two days behind, and was compared with the homeserver's.
        homeserver_time::note_ahead(tx, -48 * HOUR_MS.cast_signed())?;
        assert!(changes(&other, NOW_MS + 48 * HOUR_MS, false)?, "that was said just now");
        assert!(!changes(&one, NOW_MS + 24 * HOUR_MS, false)?, "that was said a day ago");
        Ok::<_, Failure>(())
    })?;
    Ok(())
}

#[test]
fn what_came_before_the_first_epoch_is_from_before_joining() -> Outcome {
    let (_directory, store) = store()?;
    store.write(|tx| {
        assert_eq!(graph::why_unknown(tx, room(), GroupName::First, 3)?, UnknownEpoch::NotYet(3));
        keep(tx, &epoch(tx, 1, 4, None)?)?;
        assert_eq!(
            graph::why_unknown(tx, room(), GroupName::First, 3)?,
            UnknownEpoch::BeforeJoining(3)
        );
        assert_eq!(graph::why_unknown(tx, room(), GroupName::First, 4)?, UnknownEpoch::NotYet(4));
        Ok::<_, StoreError>(())
    })?;
    Ok(())
}

#[test]
fn unfit_commits_and_what_follows_are_passed_over_where_the_room_says_so() -> Outcome {
    let (_directory, store) = store()?;
    store.write(|tx| {
        let stranger = DeviceName::new(owned_user_id!("@stranger:b"), "D".into());
        keep(tx, &epoch(tx, 1, 1, None)?)?;
        let mut unfit = epoch(tx, 2, 2, Some(1))?;
        unfit.doubts = vec![CommitDoubt::StrangerAdded(stranger.clone())];
        keep(tx, &unfit)?;
        keep(tx, &epoch(tx, 3, 3, Some(2))?)?;
        let head = |now_ms| {
            choose(tx, now_ms)?;
            Ok::<_, Failure>(room::load(tx, room())?.standing.head())
        };
        assert_eq!(head(1)?, Some(id(3)), "it is only told");
        change(tx, |room| room.settings.refuse_unfit_commits = true)?;
        assert_eq!(head(2)?, Some(id(1)));
        // The event that explains it comes later.
        room::edit(tx, room(), |room| {
            membership::set(tx, room, &stranger.user_id, Some(Membership::Joined))
        })?;
        assert_eq!(head(3)?, Some(id(3)));
        Ok::<_, Failure>(())
    })?;
    Ok(())
}

#[test]
fn what_a_choice_means_for_others_is_reported_and_not_done() -> Outcome {
    let (_directory, store) = store()?;
    store.write(|tx| {
        assert_eq!(choose(tx, 1)?, [], "there is nothing to choose from");
        keep(tx, &epoch(tx, 1, 1, None)?)?;
        assert_eq!(choose(tx, 1)?, [Consequence::HeadChanged { is_first: true }]);
        assert_eq!(choose(tx, 1)?, [Consequence::HeadConfirmed]);
        keep(tx, &epoch(tx, 2, 2, Some(1))?)?;
        assert_eq!(choose(tx, 1)?, [Consequence::HeadChanged { is_first: false }]);
        change(tx, |room| room.settings.refuse_unfit_commits = true)?;
        let stranger = DeviceName::new(owned_user_id!("@stranger:b"), "D".into());
        for byte in [1, 2] {
            let mut unfit = graph::get(tx, room(), id(byte))?;
            unfit.doubts = vec![CommitDoubt::StrangerAdded(stranger.clone())];
            graph::put(tx, room(), &unfit)?;
        }
        assert_eq!(choose(tx, 1)?, [Consequence::NoFitEpoch]);
        assert_eq!(room::load(tx, room())?.standing.head(), Some(id(2)), "it stays until then");
        Ok::<_, Failure>(())
    })?;
    Ok(())
}

#[test]
fn keys_are_renewed_again_only_where_their_branch_has_lost() -> Outcome {
    let (_directory, store) = store()?;
    store.write(|tx| {
        let renewed = epoch(tx, 2, 2, None)?;
        let mut between = epoch(tx, 3, 3, Some(2))?;
        between.full = false;
        graph::put(tx, room(), &between)?;
        let mut beside = epoch(tx, 7, 2, None)?;
        beside.full = false;
        graph::put(tx, room(), &beside)?;
        keep(tx, &renewed)?;
        change(tx, |room| {
            room.standing.lead(renewed.id);
            room.renewal.done_in = Some(renewed.id);
        })?;
        // On the way to the next head an epoch was let go: that is no other branch.
        keep(tx, &epoch(tx, 4, 4, Some(3))?)?;
        choose(tx, 1)?;
        assert!(!room::load(tx, room())?.renewal.wanted);
        keep(tx, &epoch(tx, 5, 5, Some(7))?)?;
        choose(tx, 1)?;
        assert!(room::load(tx, room())?.renewal.wanted);
        Ok::<_, Failure>(())
    })?;
    Ok(())
}

#[test]
fn a_removal_counts_once_and_only_where_it_leads_to_the_head() -> Outcome {
    let (_directory, store) = store()?;
    store.write(|tx| {
        let device = DeviceName::new(owned_user_id!("@x:b"), "X".into());
        // So that each removal counts as one more.
        undone::note(tx, room(), &device, 0, undone::Weight::Undoes)?;
        let held = |now_ms| undone::held_until(tx, room(), &device, now_ms);
        assert_eq!(held(1)?, Some(600_000));
        let mut beside = epoch(tx, 7, 2, None)?;
        beside.full = false;
        graph::put(tx, room(), &beside)?;
        keep(tx, &epoch(tx, 1, 3, Some(7))?)?;
        let mut removal = epoch(tx, 2, 2, None)?;
        removal.contested = vec![device.clone()];
        keep(tx, &removal)?;
        choose(tx, 2)?;
        assert_eq!(held(3)?, Some(600_000), "its branch has lost");
        // The branch comes back: from now on it counts, and it does so once.
        keep(tx, &epoch(tx, 3, 4, Some(2))?)?;
        choose(tx, 10)?;
        assert_eq!(held(11)?, Some(10 + 4 * 600_000));
        choose(tx, 20)?;
        choose(tx, 30)?;
        assert_eq!(held(31)?, Some(10 + 4 * 600_000));
        Ok::<_, Failure>(())
    })?;
    Ok(())
}
