//! Every method of OpenMLS's storage trait does what OpenMLS's in-memory storage does.

use std::fmt::Debug;

use openmls_memory_storage::{MemoryStorage, MemoryStorageError};
use openmls_traits::storage::{Entity, Key, StorageProvider, traits};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};

use super::{Outcome, fresh};
use crate::store::{MlsStorage, Namespace, StoreError};

/// Stands for any key or value of OpenMLS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Item {
    name: String,
    bytes: Vec<u8>,
}

impl Item {
    pub(super) fn new(name: &str) -> Self {
        Self { name: name.to_owned(), bytes: vec![255; name.len()] }
    }

    /// With these bytes.
    pub(super) fn of(bytes: Vec<u8>) -> Self {
        Self { name: String::new(), bytes }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

macro_rules! stands_for {
    ($($role:ident)*) => { $(impl traits::$role<1> for Item {})* };
}

impl Key<1> for Item {}
impl Entity<1> for Item {}
stands_for! {
    GroupId SignaturePublicKey HashReference PskId EncryptionKey EpochKey QueuedProposal TreeSync
    GroupContext InterimTranscriptHash ConfirmationTag SignatureKeyPair PskBundle HpkeKeyPair
    GroupState GroupEpochSecrets LeafNodeIndex MessageSecrets ResumptionPskStore KeyPackage
    MlsGroupJoinConfig LeafNode ProposalRef
}

/// What a storage answered, in text, to compare.
#[derive(Default)]
struct Answers(Vec<String>);

impl Answers {
    fn note<T: Debug, E>(&mut self, what: &str, answer: Result<T, E>) -> Result<(), E> {
        self.0.push(format!("{what}: {:?}", answer?));
        Ok(())
    }
}

/// Calls every method: reads before anything is written, after each of two writes, with another
/// key, and after deleting.
fn exercise<S: StorageProvider<1>>(s: &S) -> Result<Vec<String>, S::Error> {
    let mut answers = Answers::default();
    let a = &mut answers;
    let keys = [Item::new("group a"), Item::new("group b")];
    let values = [Item::new("value one"), Item::new("two")];
    macro_rules! single {
        ($write:ident, $read:ident, $delete:ident) => {
            for key in &keys {
                a.note(stringify!($read), s.$read::<Item, Item>(key))?;
            }
            for value in &values {
                a.note(stringify!($write), s.$write(&keys[0], value))?;
                for key in &keys {
                    a.note(stringify!($read), s.$read::<Item, Item>(key))?;
                }
            }
            a.note(stringify!($write), s.$write(&keys[1], &values[0]))?;
            a.note(stringify!($delete), s.$delete(&keys[0]))?;
            a.note(stringify!($delete), s.$delete(&keys[0]))?;
            for key in &keys {
                a.note(stringify!($read), s.$read::<Item, Item>(key))?;
            }
        };
    }
    single!(write_mls_join_config, mls_group_join_config, delete_group_config);
    single!(write_tree, tree, delete_tree);
    single!(write_interim_transcript_hash, interim_transcript_hash, delete_interim_transcript_hash);
    single!(write_context, group_context, delete_context);
    single!(write_confirmation_tag, confirmation_tag, delete_confirmation_tag);
    single!(write_group_state, group_state, delete_group_state);
    single!(write_message_secrets, message_secrets, delete_message_secrets);
    single!(write_resumption_psk_store, resumption_psk_store, delete_all_resumption_psk_secrets);
    single!(write_own_leaf_index, own_leaf_index, delete_own_leaf_index);
    single!(write_group_epoch_secrets, group_epoch_secrets, delete_group_epoch_secrets);
    single!(write_signature_key_pair, signature_key_pair, delete_signature_key_pair);
    single!(write_encryption_key_pair, encryption_key_pair, delete_encryption_key_pair);
    single!(write_key_package, key_package, delete_key_package);
    single!(write_psk, psk, delete_psk);

    for key in &keys {
        for value in &values {
            a.note("append_own_leaf_node", s.append_own_leaf_node(key, value))?;
            a.note("own_leaf_nodes", s.own_leaf_nodes::<Item, Item>(key))?;
        }
    }
    a.note("delete_own_leaf_nodes", s.delete_own_leaf_nodes(&keys[0]))?;
    for key in &keys {
        a.note("own_leaf_nodes", s.own_leaf_nodes::<Item, Item>(key))?;
    }

    let epochs = [Item::new("epoch 1"), Item::new("epoch 2")];
    let read = |a: &mut Answers| -> Result<(), S::Error> {
        for key in &keys {
            for epoch in &epochs {
                for leaf in 0..3 {
                    let pairs = s.encryption_epoch_key_pairs::<Item, Item, Item>(key, epoch, leaf);
                    a.note("encryption_epoch_key_pairs", pairs)?;
                }
            }
        }
        Ok(())
    };
    read(a)?;
    for (leaf, pairs) in [(0, &values[..]), (1, &values[..1]), (2, &[])] {
        let written = s.write_encryption_epoch_key_pairs(&keys[0], &epochs[0], leaf, pairs);
        a.note("write_encryption_epoch_key_pairs", written)?;
    }
    let written = s.write_encryption_epoch_key_pairs(&keys[1], &epochs[1], 0, &values);
    a.note("write_encryption_epoch_key_pairs", written)?;
    read(a)?;
    let deleted = s.delete_encryption_epoch_key_pairs(&keys[0], &epochs[0], 0);
    a.note("delete_encryption_epoch_key_pairs", deleted)?;
    read(a)?;
    Ok(answers.0)
}

#[test]
fn every_method_answers_as_in_memory() -> Outcome {
    let expected = exercise(&MemoryStorage::default())?;
    assert!(expected.len() > 200 && expected.iter().any(|line| line.contains("two")));
    let (_dir, store) = fresh()?;
    store.write(|tx| {
        let (parent, child) = (tx.new_namespace()?, tx.new_namespace()?);
        assert_eq!(exercise(&MlsStorage::new(tx, parent))?, expected);
        // What the first run left in the parent is deleted in the overlay by the second run's
        // own deletions only: start from an empty parent.
        let empty = tx.new_namespace()?;
        for key in ["group a", "group b"].map(Item::new) {
            let global = MlsStorage::new(tx, Namespace::GLOBAL);
            global.delete_signature_key_pair(&key)?;
            global.delete_encryption_key_pair(&key)?;
            global.delete_key_package(&key)?;
            global.delete_psk(&key)?;
        }
        assert_eq!(exercise(&MlsStorage::child(tx, empty, child))?, expected);
        Ok::<_, StoreError>(())
    })?;
    Ok(())
}

#[derive(Debug, Clone)]
enum Step {
    Queue(u8, u8),
    Remove(u8, u8),
    Clear(u8),
    Append(u8, u8),
    DeleteLeaves(u8),
}

fn apply<S: StorageProvider<1>>(s: &S, step: &Step) -> Result<(), S::Error> {
    let item = |n: &u8| Item::new(&"x".repeat(usize::from(*n)));
    match step {
        Step::Queue(group, reference) => {
            let proposal = Item::new(&format!("proposal {reference}"));
            s.queue_proposal(&item(group), &item(reference), &proposal)
        }
        Step::Remove(group, reference) => s.remove_proposal(&item(group), &item(reference)),
        Step::Clear(group) => s.clear_proposal_queue::<Item, Item>(&item(group)),
        Step::Append(group, leaf) => s.append_own_leaf_node(&item(group), &item(leaf)),
        Step::DeleteLeaves(group) => s.delete_own_leaf_nodes(&item(group)),
    }
}

/// Whether a step queues a proposal that is queued already. Ours lists it once; the in-memory
/// storage lists it twice, and panics when one of the two is removed.
fn is_queued(memory: &MemoryStorage, step: &Step) -> Result<bool, MemoryStorageError> {
    let Step::Queue(group, reference) = step else {
        return Ok(false);
    };
    let item = |n: &u8| Item::new(&"x".repeat(usize::from(*n)));
    let refs: Vec<Item> = memory.queued_proposal_refs(&item(group))?;
    Ok(refs.contains(&item(reference)))
}

type Lists = (Vec<Item>, Vec<(Item, Item)>, Vec<Item>);

fn lists<S: StorageProvider<1>>(s: &S, group: u8) -> Result<Lists, S::Error> {
    let group = Item::new(&"x".repeat(usize::from(group)));
    Ok((s.queued_proposal_refs(&group)?, s.queued_proposals(&group)?, s.own_leaf_nodes(&group)?))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..Default::default() })]

    /// In a namespace of its own, and in an overlay made in the middle, then detached.
    #[test]
    fn lists_answer_as_in_memory(
        steps in prop::collection::vec(
            prop_oneof![
                3 => (0..2u8, 0..4u8).prop_map(|(g, r)| Step::Queue(g, r)),
                2 => (0..2u8, 0..4u8).prop_map(|(g, r)| Step::Remove(g, r)),
                1 => (0..2u8).prop_map(Step::Clear),
                2 => (0..2u8, 0..4u8).prop_map(|(g, l)| Step::Append(g, l)),
                1 => (0..2u8).prop_map(Step::DeleteLeaves),
            ],
            0..30,
        ),
        branch in 0..30usize,
    ) {
        let memory = MemoryStorage::default();
        let (_dir, store) = fresh()?;
        store.write(|tx| {
            let (parent, child) = (tx.new_namespace()?, tx.new_namespace()?);
            let mut at_branch = None;
            for (rank, step) in steps.iter().enumerate() {
                if !is_queued(&memory, step)? {
                    apply(&memory, step)?;
                }
                if rank < branch {
                    apply(&MlsStorage::new(tx, parent), step)?;
                } else {
                    if at_branch.is_none() {
                        let before = MlsStorage::new(tx, parent);
                        at_branch = Some((lists(&before, 0)?, lists(&before, 1)?));
                    }
                    apply(&MlsStorage::child(tx, parent, child), step)?;
                }
            }
            let (overlay, own) = (MlsStorage::child(tx, parent, child), MlsStorage::new(tx, child));
            for group in 0..2 {
                let expected = lists(&memory, group)?;
                assert_eq!(lists(&overlay, group)?, expected);
            }
            let unchanged = MlsStorage::new(tx, parent);
            if let Some(before) = at_branch {
                assert_eq!((lists(&unchanged, 0)?, lists(&unchanged, 1)?), before);
            }
            tx.detach_namespace(child, parent)?;
            tx.delete_namespace(parent)?;
            for group in 0..2 {
                assert_eq!(lists(&own, group)?, lists(&memory, group)?);
            }
            Ok::<_, TestCaseError>(())
        })?;
    }
}
