//! Rows of earlier versions, which are CBOR, and what tells rows apart.

use openmls_traits::storage::StorageProvider;

use super::{
    Outcome, fresh,
    mls_flow::{Member, Provider, join, load, receive, send, update},
    mls_rows::Item,
    open,
};
use crate::store::{MlsStorage, StoreError, openmls::rows::rewrite_in_cbor};

/// Enough devices that the tree is in pieces, packed or not.
const MEMBERS: usize = 120;

#[test]
fn an_old_group_takes_in_commits_and_makes_them() -> Outcome {
    let (dir, store) = fresh()?;
    let (namespaces, members) = store.write(|tx| {
        let namespaces = [tx.new_namespace()?, tx.new_namespace()?];
        let [alice, bob] =
            namespaces.map(|namespace| Provider::new(MlsStorage::new(tx, namespace)));
        let members = [Member::new("alice", &alice)?, Member::new("bob", &bob)?];
        let mut packages = vec![members[1].key_package(&bob)?];
        let elsewhere = Provider::new(MlsStorage::new(tx, tx.new_namespace()?));
        for number in 2..MEMBERS {
            let other = Member::new(&format!("other {number}"), &elsewhere)?;
            packages.push(other.key_package(&elsewhere)?);
        }
        members[0].create(&alice)?;
        let (_, welcome, _) = load(&alice)?.add_members(&alice, &members[0].signer, &packages)?;
        load(&alice)?.merge_pending_commit(&alice)?;
        join(&bob, &welcome)?;
        Outcome::Ok((namespaces, members))
    })?;
    let pieces = || super::chunks::count(&store, "SELECT SUM(LENGTH(value)) FROM mls_chunk");
    let packed = pieces()?;
    store.write(|tx| {
        for namespace in namespaces {
            // What is the same in both forms, such as a number, does not count.
            let rewritten = rewrite_in_cbor(tx, namespace)?;
            assert!(rewritten >= 8, "{rewritten} rows are old");
        }
        Outcome::Ok(())
    })?;
    let old = pieces()?;
    assert!(old * 10 > packed * 17, "{old} bytes in CBOR, {packed} packed");
    drop(store);

    let store = open(dir.path())?;
    store.write(|tx| {
        let [alice, bob] =
            namespaces.map(|namespace| Provider::new(MlsStorage::new(tx, namespace)));
        let [a, b] = &members;
        assert_eq!(load(&alice)?.members().count(), MEMBERS);
        // On children of the old epochs, both ways.
        let child = tx.new_namespace()?;
        let next = Provider::new(MlsStorage::child(tx, namespaces[1], child));
        let commit = update(&alice, a)?;
        assert_eq!(receive(&next, &commit)?, "a commit");
        tx.detach_namespace(child, namespaces[1])?;
        tx.delete_namespace(namespaces[1])?;
        let next = Provider::new(MlsStorage::new(tx, child));
        assert_eq!(receive(&next, &send(&alice, a, "from alice")?)?, "from alice");
        assert_eq!(receive(&alice, &update(&next, b)?)?, "a commit");
        assert_eq!(receive(&alice, &send(&next, b, "from bob")?)?, "from bob");
        let joiner = Member::new("carol", &next)?;
        let package = joiner.key_package(&bob)?;
        let (commit, welcome, _) = load(&next)?.add_members(&next, &b.signer, &[package])?;
        load(&next)?.merge_pending_commit(&next)?;
        receive(&alice, &commit)?;
        let carol = Provider::new(MlsStorage::new(tx, tx.new_namespace()?));
        join(&carol, &welcome)?;
        assert_eq!(receive(&alice, &send(&carol, &joiner, "from carol")?)?, "from carol");
        Outcome::Ok(())
    })?;
    Ok(())
}

#[test]
fn a_mark_tells_whether_rows_are_what_they_were() -> Outcome {
    let (_dir, store) = fresh()?;
    store.write(|tx| {
        let (one, other) = (tx.new_namespace()?, tx.new_namespace()?);
        let storage = MlsStorage::new(tx, one);
        let (name, value) = (Item::new("group"), Item::new("value"));
        let long = Item::of((0..60_000_u32).map(|byte| (byte * 7 / 3) as u8).collect());
        let empty = tx.rows_mark(one)?;
        assert!(empty == tx.rows_mark(other)?);
        for value in [&value, &long] {
            storage.write_tree(&name, value)?;
            storage.write_message_secrets(&name, value)?;
            let mark = tx.rows_mark(one)?;
            assert!(mark == tx.rows_mark(one)? && mark != empty);
            assert!(tx.rows_len(one)? >= 2 * value.bytes().len() as u64);
            // Written elsewhere.
            MlsStorage::new(tx, other).write_tree(&name, value)?;
            assert!(mark == tx.rows_mark(one)?);
            // Undone.
            let undone = tx.savepoint(|| {
                storage.write_tree(&name, &Item::new("other"))?;
                assert!(mark != tx.rows_mark(one)?);
                storage.delete_message_secrets(&name)?;
                Err::<(), _>(StoreError::Io("undo".to_owned()))
            });
            assert!(undone.is_err());
            assert!(mark == tx.rows_mark(one)?);
            // The same value again.
            storage.write_message_secrets(&name, value)?;
            let again = tx.rows_mark(one)?;
            assert!(mark != again);
            storage.delete_message_secrets(&name)?;
            assert!(again != tx.rows_mark(one)? && mark != tx.rows_mark(one)?);
        }
        assert!(tx.has_rows(one)?);
        tx.delete_namespace(one)?;
        assert!(!tx.has_rows(one)? && tx.rows_mark(one)? == empty);
        Outcome::Ok(())
    })?;
    Ok(())
}
