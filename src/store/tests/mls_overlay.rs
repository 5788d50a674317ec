//! Branches: two commits on one epoch, each merged into a child of it.

use openmls::prelude::MlsMessageOut;
use openmls_traits::OpenMlsProvider;

use super::{
    Outcome, fresh,
    mls_flow::{Member, Provider, group_id, join, load, receive, send, update, wire},
    mls_rows::Item,
    open,
};
use crate::store::{MlsStorage, Namespace, StoreError, Tx, packed};

type Over<'a> = Provider<MlsStorage<'a>>;

fn alone<'a>(tx: &'a Tx<'a>, namespace: Namespace) -> Over<'a> {
    Provider::new(MlsStorage::new(tx, namespace))
}

fn over<'a>(tx: &'a Tx<'a>, parent: Namespace, child: Namespace) -> Over<'a> {
    Provider::new(MlsStorage::child(tx, parent, child))
}

/// A row's key and value.
type Row = (Vec<u8>, Option<Vec<u8>>);

/// All rows of a namespace, as they are in the file.
fn rows(tx: &Tx<'_>, namespace: Namespace) -> Result<Vec<Row>, StoreError> {
    let rows = tx
        .statement("SELECT key, value FROM mls_row WHERE namespace = ?1 ORDER BY key")?
        .query_map([namespace.id()], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    Ok(rows)
}

fn epoch_id(provider: &Over<'_>) -> Outcome<Vec<u8>> {
    Ok(load(provider)?.epoch_authenticator().as_slice().to_vec())
}

/// The ids of three epochs, each complete in its namespace.
fn epoch_ids(tx: &Tx<'_>, namespaces: [Namespace; 3]) -> Outcome<[Vec<u8>; 3]> {
    let [first, second, third] = namespaces.map(|namespace| alone(tx, namespace));
    Ok([epoch_id(&first)?, epoch_id(&second)?, epoch_id(&third)?])
}

/// Three members in one group, each in a namespace of one store.
fn trio<'a>(tx: &'a Tx<'a>) -> Outcome<([Namespace; 3], [Member; 3])> {
    let namespaces = [tx.new_namespace()?, tx.new_namespace()?, tx.new_namespace()?];
    let providers = namespaces.map(|namespace| alone(tx, namespace));
    let [a, b, c] = &providers;
    let members = [Member::new("alice", a)?, Member::new("bob", b)?, Member::new("carol", c)?];
    let packages = [members[1].key_package(b)?, members[2].key_package(c)?];
    members[0].create(a)?;
    let (_, welcome, _) = load(a)?.add_members(a, &members[0].signer, &packages)?;
    load(a)?.merge_pending_commit(a)?;
    join(b, &welcome)?;
    join(c, &welcome)?;
    Ok((namespaces, members))
}

#[test]
fn both_branches_of_a_fork_live_and_the_parent_is_unchanged() -> Outcome {
    let (dir, store) = fresh()?;
    let (kept, ids) = store.write(|tx| {
        let ([parent, bob, carol], [a, b, c]) = trio(tx)?;
        let before = rows(tx, parent)?;
        let parent_id = epoch_id(&alone(tx, parent))?;
        // Both commit on the same epoch, and Alice too.
        let fork = [update(&alone(tx, bob), &b)?, update(&alone(tx, carol), &c)?];
        let children = [tx.new_namespace()?, tx.new_namespace()?, tx.new_namespace()?];
        let branches = children.map(|child| over(tx, parent, child));
        for (branch, commit) in branches.iter().zip(&fork) {
            assert_eq!(receive(branch, commit)?, "a commit");
        }
        update(&branches[2], &a)?;
        assert!(rows(tx, parent)? == before, "the parent changed");
        let [first, second, third] = &branches;
        let ids = [epoch_id(first)?, epoch_id(second)?, epoch_id(third)?];
        assert_eq!(ids[0], epoch_id(&alone(tx, bob))?);
        assert_eq!(ids[1], epoch_id(&alone(tx, carol))?);
        assert!(ids[0] != ids[1] && ids[1] != ids[2] && !ids.contains(&parent_id));

        // Both go on: messages both ways.
        let said: [(&MlsMessageOut, usize); 2] = [
            (&send(&alone(tx, bob), &b, "on the first")?, 0),
            (&send(&alone(tx, carol), &c, "on the second")?, 1),
        ];
        for (message, branch) in said {
            assert!(receive(&branches[branch], message)?.starts_with("on the"));
        }
        let message = send(&branches[1], &a, "to carol")?;
        assert_eq!(receive(&alone(tx, carol), &message)?, "to carol");
        // A message of the other branch does not open and does no harm.
        let stray = send(&alone(tx, bob), &b, "stray")?;
        let stray = wire(&stray)?.try_into_protocol_message()?;
        assert!(load(&branches[1])?.process_message(&branches[1], stray).is_err());
        assert!(rows(tx, parent)? == before, "the parent changed");
        assert_eq!(epoch_id(&alone(tx, parent))?, parent_id);

        for child in children {
            tx.detach_namespace(child, parent)?;
        }
        tx.delete_namespace(parent)?;
        assert!(rows(tx, parent)?.is_empty());
        assert_eq!(epoch_ids(tx, children)?, ids);

        // A grandchild on the first branch, made by Bob's next commit.
        let commit = update(&alone(tx, bob), &b)?;
        let grandchild = tx.new_namespace()?;
        assert_eq!(receive(&over(tx, children[0], grandchild), &commit)?, "a commit");
        tx.detach_namespace(grandchild, children[0])?;
        tx.delete_namespace(children[0])?;
        let alice = alone(tx, grandchild);
        let message = send(&alone(tx, bob), &b, "the next epoch")?;
        assert_eq!(receive(&alice, &message)?, "the next epoch");
        assert_eq!(receive(&alone(tx, bob), &send(&alice, &a, "yes")?)?, "yes");
        let kept = [grandchild, children[1], children[2]];
        Outcome::Ok((kept, epoch_ids(tx, kept)?))
    })?;
    drop(store);
    let store = open(dir.path())?;
    let read = store.read(|tx| epoch_ids(tx, kept))?;
    assert_eq!(read, ids);
    Ok(())
}

#[test]
fn a_detached_child_has_each_row_once_and_no_tombstones() -> Outcome {
    use openmls_traits::storage::StorageProvider;
    let (_dir, store) = fresh()?;
    store.write(|tx| {
        let (parent, child) = (tx.new_namespace()?, tx.new_namespace()?);
        let (group, other) = (Item::new("group"), Item::new("other"));
        let in_parent = MlsStorage::new(tx, parent);
        in_parent.write_tree(&group, &Item::new("parent's tree"))?;
        in_parent.write_context(&group, &Item::new("parent's context"))?;
        in_parent.write_group_state(&group, &Item::new("parent's state"))?;
        let overlay = MlsStorage::child(tx, parent, child);
        overlay.write_tree(&group, &Item::new("child's tree"))?;
        overlay.delete_context(&group)?;
        overlay.delete_context(&other)?;
        let seen = |storage: &MlsStorage<'_>| -> Result<[Option<Item>; 4], StoreError> {
            Ok([
                storage.tree(&group)?,
                storage.group_context(&group)?,
                storage.group_state(&group)?,
                storage.group_context(&other)?,
            ])
        };
        let expected =
            [Some(Item::new("child's tree")), None, Some(Item::new("parent's state")), None];
        assert_eq!(seen(&overlay)?, expected);
        let before = rows(tx, parent)?;
        tx.detach_namespace(child, parent)?;
        tx.detach_namespace(child, child)?;
        assert!(rows(tx, parent)? == before);
        tx.delete_namespace(parent)?;
        assert_eq!(seen(&MlsStorage::new(tx, child))?, expected);
        let left = rows(tx, child)?;
        assert!(left.len() == 2 && left.iter().all(|(_, value)| value.is_some()));
        Ok::<_, StoreError>(())
    })?;
    Ok(())
}

#[test]
fn rows_of_no_group_are_shared_by_all_namespaces() -> Outcome {
    use openmls_traits::storage::StorageProvider;
    let (_dir, store) = fresh()?;
    store.write(|tx| {
        let (parent, child) = (tx.new_namespace()?, tx.new_namespace()?);
        let (key, value) = (Item::new("key"), Item::new("value"));
        let overlay = MlsStorage::child(tx, parent, child);
        overlay.write_key_package(&key, &value)?;
        overlay.write_signature_key_pair(&key, &value)?;
        overlay.write_encryption_key_pair(&key, &value)?;
        overlay.write_psk(&key, &value)?;
        tx.delete_namespace(child)?;
        let global = MlsStorage::new(tx, Namespace::GLOBAL);
        assert_eq!(global.key_package(&key)?, Some(value.clone()));
        assert_eq!(global.signature_key_pair(&key)?, Some(value.clone()));
        assert_eq!(global.encryption_key_pair(&key)?, Some(value.clone()));
        assert_eq!(global.psk(&key)?, Some(value.clone()));
        MlsStorage::new(tx, parent).delete_psk(&key)?;
        assert_eq!(global.psk::<Item, _>(&key)?, None);
        Ok::<_, StoreError>(())
    })?;
    Ok(())
}

#[test]
fn message_secrets_are_what_openmls_wrote_last() -> Outcome {
    let (_dir, store) = fresh()?;
    store.write(|tx| {
        let ([parent, bob, _], [_, b, _]) = trio(tx)?;
        let secrets = |storage: &MlsStorage<'_>| storage.message_secrets_bytes(&group_id());
        let first = secrets(&MlsStorage::new(tx, parent))?.ok_or("no secrets are stored")?;
        let value: ciborium::Value = packed::read(&first)?;
        let fields = value.as_map().ok_or("the secrets are no map")?;
        let names: Vec<_> = fields.iter().filter_map(|(name, _)| name.as_text()).collect();
        assert!(names.contains(&"message_secrets"), "{names:?}");
        let child = tx.new_namespace()?;
        let branch = over(tx, parent, child);
        assert!(secrets(branch.storage())? == Some(first.clone()), "not inherited");
        receive(&branch, &update(&alone(tx, bob), &b)?)?;
        assert!(secrets(branch.storage())?.is_some_and(|second| second != first));
        assert!(secrets(&MlsStorage::new(tx, parent))? == Some(first), "the parent's changed");
        let none = MlsStorage::new(tx, parent).message_secrets_bytes(&Item::new("other"))?;
        assert!(none.is_none());
        Outcome::Ok(())
    })?;
    Ok(())
}
