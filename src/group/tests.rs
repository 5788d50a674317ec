//! The epoch graph by itself: the head rule, lookups, and what is dropped when.

use crate::identity::Crypto;
use proptest::prelude::*;
use ruma::{RoomId, owned_event_id, owned_user_id, room_id};
use tempfile::TempDir;

use super::{EpochId, EpochRecord, Status, Turn, graph, head, policy::Doubt, rooms};
use crate::{
    identity::{Identity, Publishing},
    protocol::DeviceName,
    store::{Store, StoreError, StoreKeyMaterial, Tx},
};

fn room() -> &'static RoomId {
    room_id!("!room:example.org")
}

fn store() -> (TempDir, Store) {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path(), StoreKeyMaterial::None).unwrap();
    (directory, store)
}

fn creator() -> DeviceName {
    DeviceName(owned_user_id!("@a:b"), "D".into())
}

fn epoch(tx: &Tx<'_>, id: u8, number: u64, parent: Option<u8>) -> EpochRecord {
    EpochRecord {
        id: EpochId::from_bytes([id; 32]),
        number,
        namespace: tx.new_namespace().unwrap(),
        creator: creator(),
        parent: parent.map(|parent| EpochId::from_bytes([parent; 32])),
        commit_event: None,
        status: Status::Accepted,
        full: true,
        has_child: false,
        since_ms: 0,
        superseded_ms: None,
        external: false,
        resolves: Vec::new(),
        resolved: false,
        doubts: Vec::new(),
        shared: false,
        behind: 1,
        left_ms: None,
        members: 2,
    }
}

/// Runs work as a turn of one device, at a time.
fn turn<T>(tx: &Tx<'_>, now_ms: u64, work: impl FnOnce(&Turn<'_>) -> T) -> T {
    let crypto = Crypto::default();
    let user = owned_user_id!("@me:b");
    let publishing = Publishing::Alone;
    let identity = Identity::load_or_create(tx, &crypto, &user, &"ME".into(), publishing).unwrap();
    work(&Turn::new(tx, &identity, &crypto, now_ms))
}

/// Puts an epoch into the graph as if its commit had just been taken in.
fn keep(tx: &Tx<'_>, record: &EpochRecord) {
    graph::put(tx, room(), record).unwrap();
    let mut room = rooms::get(tx, room()).unwrap();
    room.kept.push(record.id);
    rooms::put(tx, &room).unwrap();
}

fn full(tx: &Tx<'_>) -> Vec<u64> {
    let epochs = graph::all(tx, room()).unwrap();
    epochs.iter().filter(|epoch| epoch.full).map(|epoch| epoch.number).collect()
}

fn write<T>(store: &Store, work: impl FnOnce(&Tx<'_>) -> T) -> T {
    store.write(|tx| Ok::<_, StoreError>(work(tx))).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_head_does_not_depend_on_the_order_of_arrival(
        epochs in prop::collection::btree_set((0_u64..5, any::<u8>()), 1..12),
        order in any::<prop::sample::Index>(),
    ) {
        let (_directory, store) = store();
        let records: Vec<_> = write(&store, |tx| {
            epochs.iter().map(|(number, id)| epoch(tx, *id, *number, None)).collect()
        });
        let head = |records: &[EpochRecord]| {
            let mut head: Option<EpochRecord> = None;
            for record in records {
                if head.as_ref().is_none_or(|head| record.rank() < head.rank()) {
                    head = Some(record.clone());
                }
            }
            head.map(|head| (head.number, head.id))
        };
        let mut other = records.clone();
        other.rotate_left(order.index(records.len()));
        other.reverse();
        prop_assert_eq!(head(&records), head(&other));
        let highest = records.iter().map(|record| record.number).max();
        prop_assert_eq!(head(&records).map(|(number, _)| number), highest);
    }
}

#[test]
fn two_epochs_of_one_number_and_creator_are_told_apart_by_their_events() {
    let (_directory, store) = store();
    write(&store, |tx| {
        let mut first = epoch(tx, 1, 7, None);
        first.commit_event = Some(owned_event_id!("$first"));
        let mut second = epoch(tx, 2, 7, None);
        second.commit_event = Some(owned_event_id!("$second"));
        for epoch in [&first, &second] {
            graph::put(tx, room(), epoch).unwrap();
        }
        let ids = |event: &str, number| {
            let epochs = graph::named(tx, room(), event, number, &creator()).unwrap();
            epochs.iter().map(|epoch| epoch.id).collect::<Vec<_>>()
        };
        assert_eq!(ids("$first", 7), [first.id]);
        assert_eq!(ids("$second", 7), [second.id]);
        assert_eq!(ids("$first", 8), [], "the event is of another number");
        assert_eq!(ids("$unknown", 7), [first.id, second.id]);
        assert_eq!(ids("", 7), [first.id, second.id]);
        assert_eq!(ids("", 6), []);
        graph::remove(tx, room(), &first).unwrap();
        assert_eq!(ids("$first", 7), [second.id]);
        assert!(graph::find(tx, room(), first.id).unwrap().is_none());
    });
}

#[test]
fn names_that_share_letters_are_not_one_name() {
    let (_directory, store) = store();
    write(&store, |tx| {
        let mut record = epoch(tx, 1, 1, None);
        record.creator = DeviceName(owned_user_id!("@a:bc"), "D".into());
        graph::put(tx, room(), &record).unwrap();
        let other = DeviceName(owned_user_id!("@a:b"), "cD".into());
        assert_eq!(graph::named(tx, room(), "", 1, &other).unwrap().len(), 0);
        assert_eq!(graph::named(tx, room(), "", 1, &record.creator).unwrap().len(), 1);
    });
}

#[test]
fn what_is_kept_is_bounded_by_number_by_age_and_by_who_is_still_there() {
    let (_directory, store) = store();
    write(&store, |tx| {
        let mut record = rooms::get(tx, room()).unwrap();
        record.settings.kept_epochs = 3;
        record.settings.kept_for_ms = 1_000;
        rooms::put(tx, &record).unwrap();
        for id in 0..10_u8 {
            keep(tx, &epoch(tx, id, u64::from(id), id.checked_sub(1)));
            turn(tx, 10, |turn| head::reselect(turn, room(), None)).unwrap();
        }
        assert_eq!(full(tx), [6, 7, 8, 9], "the head and the best three beside it");
        assert_eq!(graph::all(tx, room()).unwrap().len(), 10, "all of them still decrypt");
        assert_eq!(graph::first_number(tx, room()).unwrap(), Some(0));

        // Everybody has been seen beyond one of them.
        let mut left = graph::get(tx, room(), EpochId::from_bytes([7; 32])).unwrap();
        (left.behind, left.left_ms) = (0, Some(15));
        graph::put(tx, room(), &left).unwrap();
        let mut record = rooms::get(tx, room()).unwrap();
        record.settings.kept_for_ms = 86_400_000;
        rooms::put(tx, &record).unwrap();
        turn(tx, 20, |turn| head::reselect(turn, room(), None)).unwrap();
        assert_eq!(full(tx), [6, 7, 8, 9], "what was sent on it may be late");
        turn(tx, 3_600_015, |turn| head::reselect(turn, room(), None)).unwrap();
        assert_eq!(full(tx), [6, 8, 9]);

        turn(tx, 86_400_020, |turn| head::reselect(turn, room(), None)).unwrap();
        assert_eq!(full(tx), [9], "the head stays however old it is");
    });
}

#[test]
fn the_head_passes_over_unfit_commits_and_what_follows_them_where_the_room_says_so() {
    let (_directory, store) = store();
    write(&store, |tx| {
        let stranger = DeviceName(owned_user_id!("@stranger:b"), "D".into());
        keep(tx, &epoch(tx, 1, 1, None));
        let mut unfit = epoch(tx, 2, 2, Some(1));
        unfit.doubts = vec![Doubt::StrangerAdded(stranger.clone())];
        keep(tx, &unfit);
        keep(tx, &epoch(tx, 3, 3, Some(2)));
        let head = |now_ms| {
            turn(tx, now_ms, |turn| head::reselect(turn, room(), None)).unwrap();
            rooms::get(tx, room()).unwrap().head.map(|head| head.as_bytes()[0])
        };
        assert_eq!(head(1), Some(3), "it is only told");
        let mut record = rooms::get(tx, room()).unwrap();
        record.settings.refuse_unfit_commits = true;
        rooms::put(tx, &record).unwrap();
        assert_eq!(head(2), Some(1));
        // The news that explains it comes later.
        let joined = Some(rooms::Membership::Joined);
        rooms::set_membership(tx, room(), &stranger.0, joined).unwrap();
        assert_eq!(head(3), Some(3));
    });
}

#[test]
fn keys_are_renewed_again_only_where_their_branch_has_lost() {
    let (_directory, store) = store();
    write(&store, |tx| {
        let rotated = epoch(tx, 2, 2, None);
        let mut between = epoch(tx, 3, 3, Some(2));
        between.full = false;
        graph::put(tx, room(), &between).unwrap();
        let mut beside = epoch(tx, 7, 2, None);
        beside.full = false;
        graph::put(tx, room(), &beside).unwrap();
        keep(tx, &rotated);
        let mut record = rooms::get(tx, room()).unwrap();
        (record.head, record.rotated) = (Some(rotated.id), Some(rotated.id));
        rooms::put(tx, &record).unwrap();
        // On the way to the next head an epoch was let go: that is no other branch.
        keep(tx, &epoch(tx, 4, 4, Some(3)));
        turn(tx, 1, |turn| head::reselect(turn, room(), None).unwrap());
        assert!(!rooms::get(tx, room()).unwrap().rotate);
        keep(tx, &epoch(tx, 5, 5, Some(7)));
        turn(tx, 1, |turn| head::reselect(turn, room(), None).unwrap());
        assert!(rooms::get(tx, room()).unwrap().rotate);
    });
}
