//! The epoch graph by itself: the head rule, lookups, and what is dropped when.

use proptest::prelude::*;
use ruma::{RoomId, owned_event_id, owned_user_id, room_id};
use tempfile::TempDir;

use super::{
    EpochId, EpochRecord, Status,
    graph::{self, KEPT_ANCESTORS},
};
use crate::{
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
    }
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
                if head.as_ref().is_none_or(|head| record.precedes(head)) {
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
        for record in &records {
            prop_assert!(!record.precedes(record));
        }
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
fn full_states_far_behind_the_head_are_dropped_and_stay_dropped() {
    let (_directory, store) = store();
    write(&store, |tx| {
        let full = |tx| graph::all(tx, room()).unwrap().iter().filter(|epoch| epoch.full).count();
        for id in 0..10_u8 {
            let record = epoch(tx, id, u64::from(id), id.checked_sub(1));
            graph::put(tx, room(), &record).unwrap();
            graph::prune(tx, room(), record.id).unwrap();
            assert_eq!(full(tx), usize::from(id).min(KEPT_ANCESTORS) + 1);
        }
        assert_eq!(graph::all(tx, room()).unwrap().len(), 10, "all of them still decrypt");
        assert_eq!(graph::first_number(tx, room()).unwrap(), Some(0));
    });
}
