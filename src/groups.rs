//! Groups of OpenMLS that stay in memory, so that the next commit on them need not read them.
//!
//! A group cannot be copied. It is taken out for a commit and goes on as the group of the new
//! epoch; whatever fails, the group is gone, and the next commit reads the one that is stored. A
//! turn keeps its groups itself ([`TurnGroups`]) and hands them over once it is on disk.
//!
//! What is stored decides. Each group is kept with the mark of the rows that it was when it was put
//! here ([`RowsMark`]), and is given out only to a transaction that finds the same rows. So nothing
//! has to be forgotten for the sake of being right: after a rollback, after another opener has
//! written, or in front of an older copy of the file, the rows have other marks.
//!
//! The groups take a bounded space, and a memory warning lets go of all of them. What an epoch's
//! rows leave behind when they are deleted goes as well.

use std::{
    cell::RefCell,
    sync::{Mutex, MutexGuard, PoisonError},
};

use openmls::group::MlsGroup;

use crate::store::{Namespace, RowsMark, StoreError, Tx};

/// How much space all groups take at the most, in bytes: one of some 15,000 devices, or all of
/// small rooms.
const MOST_BYTES: u64 = 24 * 1024 * 1024;
/// How many groups there are at the most.
const MOST_GROUPS: usize = 64;
/// How many bytes a group takes in memory for one that it takes in the file.
const GROWTH: u64 = 4;

/// A group that waits for its next commit.
pub(crate) struct KeptGroup {
    namespace: Namespace,
    rows: RowsMark,
    bytes: u64,
    group: MlsGroup,
}

/// The groups of one engine.
pub(crate) struct Groups {
    kept: Mutex<Kept>,
    most_bytes: u64,
}

impl Default for Groups {
    fn default() -> Self {
        Self::bounded(MOST_BYTES)
    }
}

#[derive(Default)]
struct Kept {
    /// The one that was put here last is the last.
    groups: Vec<KeptGroup>,
    /// How often all were let go.
    releases: u64,
}

impl Groups {
    /// Groups that take so much space together at the most, in bytes.
    pub(crate) fn bounded(most_bytes: u64) -> Self {
        Self { kept: Mutex::default(), most_bytes }
    }

    /// The groups for one turn.
    pub(crate) fn for_turn(&self) -> TurnGroups<'_> {
        TurnGroups { shared: self, new: RefCell::default(), releases: self.kept().releases }
    }

    /// Keeps what a turn has left, now that it is on disk.
    pub(crate) fn keep(&self, left: LeftGroups) {
        let mut kept = self.kept();
        kept.groups.retain(|group| !left.gone.contains(&group.namespace));
        // Memory ran short during the turn.
        if kept.releases == left.releases {
            for group in left.groups {
                put(&mut kept.groups, group, self.most_bytes);
            }
        }
    }

    /// Lets go of all groups, also of those of a turn that has not ended.
    pub(crate) fn release(&self) {
        let mut kept = self.kept();
        kept.releases = kept.releases.wrapping_add(1);
        kept.groups = Vec::new();
    }

    fn take(&self, namespace: Namespace) -> Option<KeptGroup> {
        take(&mut self.kept().groups, namespace)
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        // A group is put here whole, and only looked at where it fits the store.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The groups that one turn has at hand.
pub(crate) struct TurnGroups<'a> {
    shared: &'a Groups,
    new: RefCell<Vec<KeptGroup>>,
    releases: u64,
}

/// What a turn leaves.
pub(crate) struct LeftGroups {
    groups: Vec<KeptGroup>,
    /// The namespaces that have no rows any more.
    gone: Vec<Namespace>,
    releases: u64,
}

impl TurnGroups<'_> {
    /// Takes out the group whose state is what a namespace holds.
    pub(crate) fn take(
        &self,
        tx: &Tx<'_>,
        namespace: Namespace,
    ) -> Result<Option<MlsGroup>, StoreError> {
        let new = take(&mut self.new.borrow_mut(), namespace);
        let Some(kept) = new.or_else(|| self.shared.take(namespace)) else { return Ok(None) };
        Ok((kept.rows == tx.rows_mark(namespace)?).then_some(kept.group))
    }

    /// Keeps a group whose state is what a namespace holds now.
    pub(crate) fn keep(
        &self,
        tx: &Tx<'_>,
        namespace: Namespace,
        group: MlsGroup,
    ) -> Result<(), StoreError> {
        let bytes = tx.rows_len(namespace)?.saturating_mul(GROWTH);
        let rows = tx.rows_mark(namespace)?;
        let group = KeptGroup { namespace, rows, bytes, group };
        put(&mut self.new.borrow_mut(), group, self.shared.most_bytes);
        Ok(())
    }

    /// Lets go of what the turn has kept so far: part of it was undone.
    pub(crate) fn forget(&self) {
        self.new.borrow_mut().clear();
    }

    /// Ends the turn, before its commit.
    pub(crate) fn end(self, tx: &Tx<'_>) -> Result<LeftGroups, StoreError> {
        let mut gone = Vec::new();
        if tx.has_deleted_secrets() {
            for group in &self.shared.kept().groups {
                if !tx.has_rows(group.namespace)? {
                    gone.push(group.namespace);
                }
            }
        }
        Ok(LeftGroups { groups: self.new.into_inner(), gone, releases: self.releases })
    }
}

fn take(groups: &mut Vec<KeptGroup>, namespace: Namespace) -> Option<KeptGroup> {
    let at = groups.iter().position(|group| group.namespace == namespace)?;
    Some(groups.remove(at))
}

/// Puts a group behind the others; those that were put there first go where space runs out.
fn put(groups: &mut Vec<KeptGroup>, group: KeptGroup, most_bytes: u64) {
    groups.retain(|other| other.namespace != group.namespace);
    groups.push(group);
    let bytes = |groups: &[KeptGroup]| groups.iter().map(|group| group.bytes).sum::<u64>();
    while groups.len() > MOST_GROUPS || (!groups.is_empty() && bytes(groups) > most_bytes) {
        groups.remove(0);
    }
}

#[cfg(test)]
mod tests {
    use std::{error::Error, fs};

    use openmls::group::{GroupId, MlsGroupCreateConfig};
    use openmls_traits::OpenMlsProvider;
    use ruma::owned_user_id;
    use tempfile::TempDir;

    use super::*;
    use crate::{
        identity::{Crypto, Identity, Provider, Publishing},
        store::{MlsStorage, Store, StoreKeyMaterial},
    };

    type Outcome<T = ()> = Result<T, Box<dyn Error>>;

    struct Device {
        directory: TempDir,
        store: Store,
        identity: Identity,
        crypto: Crypto,
        groups: Groups,
    }

    impl Device {
        fn new() -> Outcome<Self> {
            let directory = TempDir::new()?;
            let store = open(&directory)?;
            let crypto = Crypto::default();
            let user = owned_user_id!("@me:b");
            let identity = store.write(|tx| {
                Identity::load_or_create(tx, &crypto, &user, &"ME".into(), Publishing::Alone)
                    .map_err(Box::<dyn Error>::from)
            })?;
            Ok(Self { directory, store, identity, crypto, groups: Groups::default() })
        }

        fn provider<'a>(&'a self, tx: &'a Tx<'a>, namespace: Namespace) -> Provider<'a> {
            Provider::new(&self.crypto, MlsStorage::new(tx, namespace))
        }

        /// Makes a group in a namespace of its own.
        fn make(&self, tx: &Tx<'_>) -> Outcome<(Namespace, MlsGroup)> {
            let namespace = tx.new_namespace()?;
            let config =
                MlsGroupCreateConfig::builder().ciphersuite(self.identity.ciphersuite()).build();
            let group = MlsGroup::new_with_group_id(
                &self.provider(tx, namespace),
                self.identity.signer(),
                &config,
                GroupId::from_slice(b"group"),
                self.identity.credential_with_key(),
            )?;
            Ok((namespace, group))
        }

        /// A turn that makes a group and keeps it.
        fn kept(&self) -> Outcome<Namespace> {
            let (namespace, left) = self.store.write(|tx| {
                let (namespace, group) = self.make(tx)?;
                let turn = self.groups.for_turn();
                turn.keep(tx, namespace, group)?;
                Outcome::Ok((namespace, turn.end(tx)?))
            })?;
            self.groups.keep(left);
            Ok(namespace)
        }

        fn is_given(&self, namespace: Namespace) -> Outcome<bool> {
            self.store.write(|tx| Ok(self.groups.for_turn().take(tx, namespace)?.is_some()))
        }
    }

    fn open(directory: &TempDir) -> Outcome<Store> {
        Ok(Store::open(directory.path(), StoreKeyMaterial::Raw(&[7; 32]))?)
    }

    #[test]
    fn a_group_is_given_once() -> Outcome {
        let device = Device::new()?;
        let namespace = device.kept()?;
        assert!(device.is_given(namespace)?);
        assert!(!device.is_given(namespace)?);
        Ok(())
    }

    #[test]
    fn a_group_is_not_given_where_its_rows_have_changed() -> Outcome {
        let device = Device::new()?;
        let namespace = device.kept()?;
        device.store.write(|tx| {
            let provider = device.provider(tx, namespace);
            let mut group = MlsGroup::load(provider.storage(), &GroupId::from_slice(b"group"))?
                .ok_or("no group is stored")?;
            group.create_message(&provider, device.identity.signer(), b"sealed elsewhere")?;
            Outcome::Ok(())
        })?;
        assert!(!device.is_given(namespace)?);
        Ok(())
    }

    #[test]
    fn an_older_copy_of_the_file_is_not_given_what_came_later() -> Outcome {
        let device = Device::new()?;
        let namespace = device.kept()?;
        let copied = TempDir::new()?;
        device.store.cut_log();
        for entry in fs::read_dir(device.directory.path())? {
            let entry = entry?;
            fs::copy(entry.path(), copied.path().join(entry.file_name()))?;
        }
        // The group goes on in the same namespace.
        let left = device.store.write(|tx| {
            let turn = device.groups.for_turn();
            let mut group = turn.take(tx, namespace)?.ok_or("nothing was kept")?;
            let provider = device.provider(tx, namespace);
            group.create_message(&provider, device.identity.signer(), b"later")?;
            turn.keep(tx, namespace, group)?;
            Outcome::Ok(turn.end(tx)?)
        })?;
        device.groups.keep(left);
        let older = open(&copied)?;
        let given = older.write(|tx| device.groups.for_turn().take(tx, namespace))?;
        assert!(given.is_none());
        Ok(())
    }

    #[test]
    fn what_is_undone_is_not_kept() -> Outcome {
        let device = Device::new()?;
        let namespace = device.kept()?;
        // Changed within a turn that fails.
        let failed: Outcome = device.store.write(|tx| {
            let turn = device.groups.for_turn();
            let mut group = turn.take(tx, namespace)?.ok_or("nothing was kept")?;
            let provider = device.provider(tx, namespace);
            group.create_message(&provider, device.identity.signer(), b"undone")?;
            turn.keep(tx, namespace, group)?;
            Err("the turn fails".into())
        });
        assert!(failed.is_err());
        assert!(!device.is_given(namespace)?);
        // A part of a turn is undone, and another group takes its namespace.
        let left = device.store.write(|tx| {
            let turn = device.groups.for_turn();
            let mut first = None;
            let undone: Outcome = tx.savepoint(|| {
                let (namespace, group) = device.make(tx)?;
                first = Some(namespace);
                turn.keep(tx, namespace, group)?;
                Err(StoreError::Io("undone".to_owned()).into())
            });
            assert!(undone.is_err());
            let (namespace, _) = device.make(tx)?;
            assert_eq!(first, Some(namespace));
            assert!(turn.take(tx, namespace)?.is_none());
            turn.forget();
            Outcome::Ok(turn.end(tx)?)
        })?;
        assert!(left.groups.is_empty());
        Ok(())
    }

    #[test]
    fn a_memory_warning_lets_go_of_all_groups() -> Outcome {
        let device = Device::new()?;
        let namespace = device.kept()?;
        device.groups.release();
        assert!(!device.is_given(namespace)?);
        // During a turn.
        let left = device.store.write(|tx| {
            let (namespace, group) = device.make(tx)?;
            let turn = device.groups.for_turn();
            turn.keep(tx, namespace, group)?;
            device.groups.release();
            Outcome::Ok(turn.end(tx)?)
        })?;
        device.groups.keep(left);
        assert!(device.groups.kept().groups.is_empty());
        Ok(())
    }

    #[test]
    fn a_group_goes_with_its_rows() -> Outcome {
        let device = Device::new()?;
        let (gone, stays) = (device.kept()?, device.kept()?);
        let left = device.store.write(|tx| {
            tx.delete_namespace(gone)?;
            Outcome::Ok(device.groups.for_turn().end(tx)?)
        })?;
        device.groups.keep(left);
        assert_eq!(device.groups.kept().groups.len(), 1);
        assert!(device.is_given(stays)?);
        Ok(())
    }

    #[test]
    fn the_groups_take_a_bounded_space() -> Outcome {
        let device = Device::new()?;
        let first = device.kept()?;
        for _ in 0..MOST_GROUPS {
            device.kept()?;
        }
        assert_eq!(device.groups.kept().groups.len(), MOST_GROUPS);
        assert!(!device.is_given(first)?);
        // One that is too large stays for nobody, and the others stay.
        let mut kept = device.groups.kept();
        let last = kept.groups.last_mut().ok_or("nothing was kept")?;
        last.bytes = MOST_BYTES - 1;
        let group = kept.groups.remove(0);
        put(&mut kept.groups, group, MOST_BYTES);
        assert_eq!(kept.groups.len(), 1);
        Ok(())
    }
}
