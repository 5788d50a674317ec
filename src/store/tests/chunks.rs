//! Large values: epochs share their pieces, each is kept as long as it is used, and what was
//! tampered with is damage.

use std::{collections::BTreeMap, fs};

use openmls_traits::storage::StorageProvider;
use proptest::prelude::*;

use super::{Outcome, fresh, is_damaged, mls_rows::Item, open, opened, raw};
use crate::store::{MlsStorage, Namespace, Store, StoreError, Tx, handle::DATABASE};

/// A value of this many bytes, the same for the same seed; [`Item::with`] gives it a spot that
/// differs.
fn large(seed: u64, len: usize) -> Item {
    let mut state = seed;
    let bytes = (0..len).map(|_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    });
    Item::of(bytes.collect())
}

fn changed(item: &Item, at: usize, new: &[u8]) -> Item {
    let mut bytes = item.bytes().to_vec();
    let at = at.min(bytes.len());
    let end = (at + new.len()).min(bytes.len());
    bytes.splice(at..end, new.iter().copied());
    Item::of(bytes)
}

fn group(name: &str) -> Item {
    Item::new(name)
}

pub(super) fn count(store: &Store, sql: &str) -> Result<i64, StoreError> {
    Ok(opened(&store.writer).query_row(sql, [], |row| row.get(0))?)
}

/// How many chunks and how many list entries there are.
fn kept(store: &Store) -> Result<[i64; 2], StoreError> {
    let of = |table: &str| count(store, &format!("SELECT COUNT(*) FROM {table}"));
    Ok([of("mls_chunk")?, of("mls_piece")?])
}

/// The same, in the transaction.
fn kept_in(tx: &Tx<'_>) -> Result<[i64; 2], StoreError> {
    let of = |table: &str| -> Result<i64, StoreError> {
        let mut statement = tx.statement(&format!("SELECT COUNT(*) FROM {table}"))?;
        Ok(statement.query_row([], |row| row.get(0))?)
    };
    Ok([of("mls_chunk")?, of("mls_piece")?])
}

fn write<T>(
    store: &Store,
    f: impl FnOnce(&Tx<'_>) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    store.write(f)
}

fn tree(store: &Store, namespace: Namespace, group: &Item) -> Result<Option<Item>, StoreError> {
    store.read(|tx| MlsStorage::new(tx, namespace).tree(group))
}

/// An epoch with this tree, made as a child of another.
fn child(tx: &Tx<'_>, parent: Namespace, tree: &Item) -> Result<Namespace, StoreError> {
    let child = tx.new_namespace()?;
    MlsStorage::child(tx, parent, child).write_tree(&group("group"), tree)?;
    tx.detach_namespace(child, parent)?;
    Ok(child)
}

#[test]
fn an_epoch_shares_what_its_parent_has() -> Outcome {
    let (_dir, store) = fresh()?;
    let first = large(1, 300_000);
    let second = changed(&first, 150_000, b"a little else");
    let parent = write(&store, |tx| {
        let parent = tx.new_namespace()?;
        MlsStorage::new(tx, parent).write_tree(&group("group"), &first)?;
        Ok(parent)
    })?;
    let [chunks, pieces] = kept(&store)?;
    assert!(chunks > 30 && pieces == chunks, "{chunks} chunks, {pieces} pieces");
    let child = write(&store, |tx| child(tx, parent, &second))?;
    let [chunks_after, pieces_after] = kept(&store)?;
    assert!((1..=3).contains(&(chunks_after - chunks)), "{} new chunks", chunks_after - chunks);
    assert!(pieces_after >= 2 * pieces - 3);
    assert_eq!(tree(&store, parent, &group("group"))?, Some(first));
    assert_eq!(tree(&store, child, &group("group"))?, Some(second));
    // One that changes nothing has its parent's list.
    write(&store, |tx| {
        let third = tx.new_namespace()?;
        tx.detach_namespace(third, child)
    })?;
    assert_eq!(kept(&store)?, [chunks_after, pieces_after]);
    Ok(())
}

#[test]
fn chunks_go_with_the_last_that_uses_them() -> Outcome {
    let (dir, store) = fresh()?;
    let first = large(1, 100_000);
    let second = changed(&first, 50_000, &[9; 100]);
    let name = group("group");
    let parent = write(&store, |tx| {
        let parent = tx.new_namespace()?;
        MlsStorage::new(tx, parent).write_tree(&name, &first)?;
        Ok(parent)
    })?;
    let alone = kept(&store)?;
    let kid = write(&store, |tx| child(tx, parent, &second))?;
    let both = kept(&store)?;
    // Undone: nothing is left of it.
    let undone = store.write(|tx| {
        child(tx, kid, &large(2, 100_000))?;
        tx.delete_namespace(parent)?;
        Err::<(), _>(StoreError::Io("undo".to_owned()))
    });
    assert!(undone.is_err());
    assert_eq!(kept(&store)?, both);
    // The same list for two rows, then for one.
    let twin = write(&store, |tx| {
        let twin = tx.new_namespace()?;
        tx.detach_namespace(twin, kid)?;
        Ok(twin)
    })?;
    write(&store, |tx| tx.delete_namespace(kid))?;
    assert_eq!(kept(&store)?, both);
    assert_eq!(tree(&store, twin, &name)?, Some(second.clone()));
    write(&store, |tx| tx.delete_namespace(twin))?;
    assert_eq!(kept(&store)?, alone);
    // A parent goes, its child stays whole.
    let kid = write(&store, |tx| child(tx, parent, &second))?;
    write(&store, |tx| tx.delete_namespace(parent))?;
    assert_eq!(tree(&store, kid, &name)?, Some(second));
    // What the file still holds of the old chunks, after the log is written back: nothing.
    let sealed: Vec<u8> = opened(&store.writer).query_row(
        "SELECT value FROM mls_chunk ORDER BY id LIMIT 1",
        [],
        |row| row.get(0),
    )?;
    let file = dir.path().join(DATABASE);
    let holds = || -> Outcome<bool> {
        opened(&store.writer).query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        Ok(fs::read(&file)?.windows(64).any(|bytes| bytes == &sealed[100..164]))
    };
    assert!(holds()?);
    // Overwritten by what is short and stays in its row; by another long one; deleted alone.
    write(&store, |tx| MlsStorage::new(tx, kid).write_tree(&name, &Item::new("short")))?;
    assert_eq!(kept(&store)?, [0, 0]);
    assert!(!holds()?, "an old chunk lingers in the file");
    write(&store, |tx| MlsStorage::new(tx, kid).write_tree(&name, &first))?;
    assert_eq!(kept(&store)?, alone);
    write(&store, |tx| MlsStorage::new(tx, kid).delete_tree(&name))?;
    assert_eq!(kept(&store)?, [0, 0]);
    Ok(())
}

#[test]
fn a_deletion_that_is_remembered_hides_a_parents_pieces() -> Outcome {
    let (_dir, store) = fresh()?;
    let name = group("group");
    write(&store, |tx| {
        let (parent, child) = (tx.new_namespace()?, tx.new_namespace()?);
        let first = large(3, 40_000);
        MlsStorage::new(tx, parent).write_message_secrets(&name, &first)?;
        let before = kept_in(tx)?;
        let overlay = MlsStorage::child(tx, parent, child);
        assert_eq!(overlay.message_secrets(&name)?, Some(first.clone()));
        overlay.write_message_secrets(&name, &large(4, 40_000))?;
        overlay.delete_message_secrets(&name)?;
        assert_eq!(overlay.message_secrets::<_, Item>(&name)?, None);
        assert_eq!(kept_in(tx)?, before);
        // Handed up, as for a second commit on one epoch.
        let moved_on = changed(&first, 20_000, b"a step on");
        overlay.write_message_secrets(&name, &moved_on)?;
        overlay.hand_up_message_secrets(&name)?;
        let in_parent = MlsStorage::new(tx, parent);
        assert_eq!(in_parent.message_secrets(&name)?, Some(moved_on));
        tx.delete_namespace(child)?;
        tx.delete_namespace(parent)?;
        assert_eq!(kept_in(tx)?, [0, 0]);
        Ok(())
    })?;
    Ok(())
}

#[test]
fn equal_values_of_two_groups_have_nothing_in_common_in_the_file() -> Outcome {
    let (dir, store) = fresh()?;
    let value = Item::of([large(5, 30_000).bytes(), &[0x16; 30_000][..]].concat());
    write(&store, |tx| {
        let namespace = tx.new_namespace()?;
        let storage = MlsStorage::new(tx, namespace);
        storage.write_tree(&group("one"), &value)?;
        storage.write_tree(&group("other"), &value)?;
        storage.write_message_secrets(&group("one"), &value)
    })?;
    let all = count(&store, "SELECT COUNT(*) FROM mls_chunk")?;
    let names = count(&store, "SELECT COUNT(DISTINCT name) FROM mls_chunk")?;
    let sealed = count(&store, "SELECT COUNT(DISTINCT value) FROM mls_chunk")?;
    assert!(all >= 20 && names == all && sealed == all, "{all} {names} {sealed}");
    // Nor are they cut in the same places.
    let shared = count(
        &store,
        "WITH ends AS (SELECT list, SUM(LENGTH(mls_chunk.value) - 59) OVER
             (PARTITION BY list ORDER BY position) AS ending
             FROM mls_piece JOIN mls_chunk ON mls_chunk.id = chunk WHERE position < 5)
         SELECT COUNT(*) - COUNT(DISTINCT ending) FROM ends",
    )?;
    assert!(shared <= 2, "{shared} cuts in the same place");
    drop(store);
    let file = fs::read(dir.path().join(DATABASE))?;
    assert!(!file.windows(16).any(|bytes| bytes == [0x16; 16]), "plaintext in the file");
    Ok(())
}

/// Everything that can be done to the tables breaks one room's epoch, and no other's.
#[test]
fn altered_pieces_are_damage_for_their_group_alone() -> Outcome {
    let (_dir, store) = fresh()?;
    let (broken, sound) = (group("broken"), group("sound"));
    let (value, other) = (large(6, 60_000), large(9, 60_000));
    let (epoch, next) = write(&store, |tx| {
        let (epoch, next) = (tx.new_namespace()?, tx.new_namespace()?);
        // The first list is that of the sound one.
        MlsStorage::new(tx, epoch).write_tree(&sound, &other)?;
        MlsStorage::new(tx, epoch).write_tree(&broken, &value)?;
        MlsStorage::new(tx, next).write_tree(&broken, &changed(&value, 30_000, b"else"))?;
        Ok((epoch, next))
    })?;
    let lists = count(&store, "SELECT COUNT(DISTINCT list) FROM mls_piece")?;
    assert_eq!(lists, 3);
    for sql in [
        // Chunks: altered, cut short, emptied, of another type, renamed, swapped.
        "UPDATE mls_chunk SET value = zeroblob(4000) WHERE id = ?",
        "UPDATE mls_chunk SET value = substr(value, 1, 100) WHERE id = ?",
        "UPDATE mls_chunk SET value = x'' WHERE id = ?",
        "UPDATE mls_chunk SET value = 5 WHERE id = ?",
        "UPDATE mls_chunk SET value = 'text' WHERE id = ?",
        "UPDATE mls_chunk SET name = zeroblob(16) WHERE id = ?",
        "UPDATE mls_chunk SET name = x'00' WHERE id = ?",
        "UPDATE mls_chunk SET name = 7 WHERE id = ?",
        "UPDATE mls_chunk SET value = (SELECT value FROM mls_chunk WHERE id = 2) WHERE id = ?",
        "UPDATE mls_chunk SET (name, value) =
             (SELECT name, value FROM mls_chunk WHERE id = 2) WHERE id = ?",
        // Lists: an entry gone, doubled, another's, in another order; another row's list, or none.
        "DELETE FROM mls_piece WHERE list = 2 AND chunk = ?",
        "UPDATE mls_piece SET chunk = 2 WHERE list = 2 AND chunk = ?",
        "UPDATE mls_piece SET position = 900 WHERE list = 2 AND chunk = ?",
        "UPDATE mls_piece SET list = 90 WHERE list = 2 AND chunk = ?",
        "INSERT INTO mls_piece VALUES (2, 901, ?)",
        "INSERT INTO mls_piece VALUES (2, -1, ?)",
        "UPDATE mls_row SET list = 1 + 0 * ? WHERE list = 2",
        "UPDATE mls_row SET list = 3 + 0 * ? WHERE list = 2",
        "UPDATE mls_row SET list = 77 + 0 * ? WHERE list = 2",
        "UPDATE mls_row SET list = NULL WHERE list = 2 + 0 * ?",
        "UPDATE mls_row SET list = 'text' WHERE list = 2 + 0 * ?",
        "UPDATE mls_row SET value = zeroblob(83 + 0 * ?) WHERE list = 2",
        "UPDATE mls_row SET value = (SELECT value FROM mls_row WHERE list = 3)
             WHERE list = 2 + 0 * ?",
    ] {
        let chunk = count(&store, "SELECT chunk FROM mls_piece WHERE list = 2 AND position = 3")?;
        opened(&store.writer).execute_batch("PRAGMA foreign_keys = OFF; SAVEPOINT damage")?;
        assert!(raw(&store, sql, [chunk])? > 0, "{sql}");
        // On the writer's connection, which sees it.
        let tx = |f: &dyn Fn(&Tx<'_>) -> Result<Option<Item>, StoreError>| {
            let connection = opened(&store.writer);
            f(&Tx::new(&connection, &store.reader.cipher, None))
        };
        let read = tx(&|tx| MlsStorage::new(tx, epoch).tree(&broken));
        assert!(is_damaged(read), "{sql}");
        let child = tx(&|tx| MlsStorage::child(tx, epoch, next).tree(&sound));
        assert_eq!(child?, Some(other.clone()), "{sql}");
        opened(&store.writer).execute_batch("ROLLBACK TO damage; RELEASE damage")?;
        assert_eq!(tree(&store, epoch, &broken)?, Some(value.clone()), "{sql}");
    }
    Ok(())
}

/// A store of the schema before pieces: its large values are whole in their rows.
#[cfg(feature = "test-hooks")]
#[test]
fn whole_values_of_an_older_store_open_and_go_as_they_are_replaced() -> Outcome {
    use crate::store::hooks::keep_values_whole;

    let (dir, store) = fresh()?;
    let first = large(7, 200_000);
    keep_values_whole(true);
    let (parent, overlay) = write(&store, |tx| {
        let (parent, overlay) = (tx.new_namespace()?, tx.new_namespace()?);
        MlsStorage::new(tx, parent).write_tree(&group("group"), &first)?;
        MlsStorage::new(tx, parent).write_message_secrets(&group("group"), &first)?;
        MlsStorage::child(tx, parent, overlay).delete_tree(&group("group"))?;
        Ok((parent, overlay))
    })?;
    keep_values_whole(false);
    assert_eq!(kept(&store)?, [0, 0]);
    opened(&store.writer).execute_batch(
        "DROP TRIGGER mls_row_deleted; DROP TRIGGER mls_row_overwritten;
             DROP INDEX mls_row_list; DROP INDEX mls_row_key;
             DROP TABLE mls_piece; DROP TABLE mls_chunk;
             ALTER TABLE mls_row DROP COLUMN list;
             ALTER TABLE namespace DROP COLUMN counter; PRAGMA user_version = 1",
    )?;
    drop(store);

    let store = open(dir.path())?;
    assert_eq!(count(&store, "PRAGMA user_version")?, 3);
    assert_eq!(tree(&store, parent, &group("group"))?, Some(first.clone()));
    let kid = write(&store, |tx| {
        tx.detach_namespace(overlay, parent)?;
        child(tx, parent, &changed(&first, 9_000, b"else"))
    })?;
    assert!(kept(&store)?[0] > 20);
    write(&store, |tx| tx.delete_namespace(parent))?;
    let (tree_left, secrets) = store.read(|tx| {
        let overlay = MlsStorage::new(tx, overlay);
        Ok::<_, StoreError>((
            overlay.tree::<_, Item>(&group("group"))?,
            overlay.message_secrets::<_, Item>(&group("group"))?,
        ))
    })?;
    assert_eq!((tree_left, secrets), (None, Some(first.clone())));
    let second = changed(&first, 9_000, b"else");
    assert_eq!(tree(&store, kid, &group("group"))?, Some(second));
    Ok(())
}

#[derive(Debug, Clone)]
enum Step {
    /// Makes a child of the nth epoch with a tree that differs in one spot, or by everything.
    Commit {
        parent: usize,
        at: usize,
        grow: usize,
        anew: bool,
    },
    Overwrite {
        epoch: usize,
        at: usize,
    },
    Drop {
        epoch: usize,
    },
    /// The same as a commit, and undone.
    Undone {
        parent: usize,
    },
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (any::<usize>(), 0..60_000usize, 0..6_000usize, any::<bool>())
            .prop_map(|(parent, at, grow, anew)| Step::Commit { parent, at, grow, anew }),
        2 => (any::<usize>(), 0..60_000usize).prop_map(|(epoch, at)| Step::Overwrite { epoch, at }),
        3 => any::<usize>().prop_map(|epoch| Step::Drop { epoch }),
        1 => any::<usize>().prop_map(|parent| Step::Undone { parent }),
        1 => Just(Step::Reopen),
    ];
    prop::collection::vec(step, 1..25)
}

/// What no list uses, and what lists use that is not there.
fn loose_ends(store: &Store) -> Result<i64, StoreError> {
    count(
        store,
        "SELECT (SELECT COUNT(*) FROM mls_chunk WHERE id NOT IN (SELECT chunk FROM mls_piece))
              + (SELECT COUNT(*) FROM mls_piece WHERE chunk NOT IN (SELECT id FROM mls_chunk))
              + (SELECT COUNT(*) FROM mls_piece WHERE list NOT IN
                    (SELECT list FROM mls_row WHERE list IS NOT NULL))
              + (SELECT COUNT(*) - COUNT(DISTINCT name) FROM mls_chunk)",
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..Default::default() })]

    #[test]
    fn epochs_hold_their_own_through_any_steps(steps in steps()) {
        let (dir, mut store) = fresh()?;
        let name = group("group");
        let mut model: BTreeMap<Namespace, Item> = BTreeMap::new();
        let root = write(&store, |tx| {
            let root = tx.new_namespace()?;
            MlsStorage::new(tx, root).write_tree(&name, &large(8, 50_000))?;
            Ok(root)
        })?;
        model.insert(root, large(8, 50_000));
        for step in steps {
            let nth = |n: usize| model.iter().nth(n % model.len()).map(|(at, tree)| (*at, tree.clone()));
            match step {
                Step::Commit { parent, at, grow, anew } => {
                    let Some((parent, tree)) = (!model.is_empty()).then(|| nth(parent)).flatten() else { break };
                    let tree = if anew { large(at as u64, 9_000 + grow) } else { changed(&tree, at, &vec![3; grow]) };
                    let made = write(&store, |tx| child(tx, parent, &tree))?;
                    model.insert(made, tree);
                }
                Step::Overwrite { epoch, at } => {
                    let Some((epoch, tree)) = (!model.is_empty()).then(|| nth(epoch)).flatten() else { break };
                    let tree = changed(&tree, at, b"overwritten");
                    write(&store, |tx| MlsStorage::new(tx, epoch).write_tree(&name, &tree))?;
                    model.insert(epoch, tree);
                }
                Step::Drop { epoch } => {
                    let Some((epoch, _)) = (!model.is_empty()).then(|| nth(epoch)).flatten() else { break };
                    write(&store, |tx| tx.delete_namespace(epoch))?;
                    model.remove(&epoch);
                }
                Step::Undone { parent } => {
                    let Some((parent, tree)) = (!model.is_empty()).then(|| nth(parent)).flatten() else { break };
                    let tree = changed(&tree, 100, &[5; 20_000]);
                    write(&store, |tx| {
                        let undone = tx.savepoint(|| {
                            child(tx, parent, &tree)?;
                            tx.delete_namespace(parent)?;
                            Err::<(), _>(StoreError::Io("undo".to_owned()))
                        });
                        assert!(undone.is_err());
                        Ok(())
                    })?;
                }
                Step::Reopen => {
                    drop(store);
                    store = open(dir.path())?;
                }
            }
            prop_assert_eq!(loose_ends(&store)?, 0);
            for (epoch, expected) in &model {
                let found = tree(&store, *epoch, &name)?;
                prop_assert_eq!(found.as_ref(), Some(expected));
            }
        }
    }
}
