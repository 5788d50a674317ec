//! Stores of earlier versions: they kept exports from elsewhere among this device's own, and an
//! import could take the place of an own one. The two are parted once, when such a store is opened.

use ruma::OwnedRoomId;

use super::graph;
use crate::{
    failure::Failure,
    history::{
        archive,
        restored::{self, ReadableEpoch},
    },
    identity::Identity,
    room::{self, Retention},
    store::{Collection, StoreError, Tx},
};

/// Whether it was done.
const PARTED: Collection<()> = Collection::new("restored_set_apart");

/// Parts what came from elsewhere from this device's own. Gives the rooms in which an import had
/// taken the place of an own export: messages may have been sealed with it, so nothing more is
/// sealed in the epochs that this device has there.
pub(crate) fn set_imports_apart(
    tx: &Tx<'_>,
    identity: &Identity,
) -> Result<Vec<OwnedRoomId>, Failure> {
    if PARTED.has(tx, b"", b"")? {
        return Ok(Vec::new());
    }
    let mut replaced = Vec::new();
    for room in archive::rooms(tx)? {
        let once = room::load(tx, &room)?.settings.history == Retention::ReadOnce;
        let mut is_replaced = false;
        for epoch in restored::all(tx, &room)? {
            let own = graph::find(tx, &room, epoch.id)?;
            let Some(own) = own else {
                restored::set_apart(tx, &room, &epoch, false)?;
                continue;
            };
            let keeps_own = !once && is_own(tx, &room, &epoch, identity)?;
            if !keeps_own {
                is_replaced |= own.full;
                restored::set_apart(tx, &room, &epoch, true)?;
            }
            if keeps_own || once {
                restored::forget(tx, &room, &epoch)?;
            }
            if once {
                archive::drop_keys(tx, &room, epoch.id, false)?;
            }
        }
        if is_replaced {
            replaced.push(room);
        }
    }
    PARTED.put(tx, b"", b"", &())?;
    Ok(replaced)
}

/// Whether the export that the archive has of an epoch seals for this device's leaf, or is gone.
fn is_own(
    tx: &Tx<'_>,
    room: &OwnedRoomId,
    epoch: &ReadableEpoch,
    identity: &Identity,
) -> Result<bool, StoreError> {
    let Some(export) = archive::find(tx, room, epoch.id)? else { return Ok(true) };
    let Some(own_leaf) = export.keys.own_leaf() else { return Ok(false) };
    let leaf = archive::leaf(tx, room, epoch.id, own_leaf)?;
    Ok(leaf.is_some_and(|leaf| leaf.signature_key() == identity.public_key()))
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use openmls::prelude::{BasicCredential, LeafNodeIndex, Member};
    use ruma::{RoomId, owned_user_id, room_id};
    use serde::{Deserialize, Serialize};
    use tls_codec::{Serialize as _, TlsSerialize, TlsSize, VLBytes};

    use super::*;
    use crate::{
        epochs::{EpochRecord, Origin, Status},
        history::{ChunkId, EpochKeys, archive::Holding, restored::Source},
        identity::{Crypto, Publishing},
        protocol::{DeviceName, EpochId, credential},
        store::{Store, StoreKeyMaterial},
    };

    type Outcome<T = ()> = Result<T, Box<dyn Error>>;

    /// The row of an export as earlier versions wrote it.
    #[derive(Serialize, Deserialize)]
    struct EarlierRow {
        keys: Option<EpochKeys>,
        chunks: Vec<ChunkId>,
    }

    const EARLIER: Collection<EarlierRow> = Collection::new("epoch_export");
    const EARLIER_RESTORED: Collection<ReadableEpoch> = Collection::new("restored_epoch");

    fn room() -> &'static RoomId {
        room_id!("!room:example.org")
    }

    fn other() -> DeviceName {
        DeviceName::new(owned_user_id!("@b:b"), "B".into())
    }

    fn keys(number: u64, own_leaf: u32) -> Outcome<EpochKeys> {
        #[derive(TlsSerialize, TlsSize)]
        struct Context {
            version: u16,
            suite: u16,
            group_id: VLBytes,
            epoch: u64,
            tree_hash: VLBytes,
            transcript: VLBytes,
            extensions: VLBytes,
        }
        let context = Context {
            version: 1,
            suite: 1,
            group_id: room().as_bytes().to_vec().into(),
            epoch: number,
            tree_hash: vec![1; 32].into(),
            transcript: vec![2; 32].into(),
            extensions: Vec::new().into(),
        };
        let context = context.tls_serialize_detached()?;
        Ok(EpochKeys::new(context, vec![3; 32].into(), vec![4; 32].into(), 2, Some(own_leaf))?)
    }

    /// Two members, of whom this device is the second.
    fn members(identity: &Identity) -> [Member; 2] {
        let member = |index, name: &DeviceName, key: Vec<u8>| {
            let credential = BasicCredential::new(credential::encode(name));
            Member::new(LeafNodeIndex::new(index), vec![0; 32], key, credential.into())
        };
        let own = identity.public_key().to_vec();
        [member(0, &other(), vec![9; 32]), member(1, &identity.name(), own)]
    }

    /// An epoch of an earlier version: what it has of it, and whether it came from elsewhere too.
    fn put(
        tx: &Tx<'_>,
        identity: &Identity,
        number: u64,
        own_leaf: Option<u32>,
        own: bool,
    ) -> Outcome<EpochId> {
        let exported = keys(number, own_leaf.unwrap_or(0))?;
        let id = EpochId::of_tls(exported.group_context());
        // The chunk, which both kinds share.
        archive::keep(tx, room(), id, Some(exported.clone()), members(identity))?;
        let chunks = archive::find(tx, room(), id)?.ok_or("nothing was kept")?.chunks;
        let row = EarlierRow { keys: own_leaf.map(|_| exported), chunks };
        EARLIER.put(tx, room().as_bytes(), id.as_bytes(), &row)?;
        let about = ReadableEpoch {
            id,
            number,
            creator: other(),
            commit_event: None,
            began_ms: 0,
            shared: false,
            source: Source::Backup,
            ended_ms: None,
        };
        EARLIER_RESTORED.put(tx, room().as_bytes(), id.as_bytes(), &about)?;
        if own {
            let origin = Origin {
                namespace: tx.new_namespace()?,
                creator: other(),
                parent: None,
                group: Default::default(),
                status: Status::Accepted,
                since_ms: 0,
            };
            let record = EpochRecord::new(id, number, 2, origin);
            graph::put(tx, room(), &record)?;
        }
        Ok(id)
    }

    fn with_a_store(work: impl FnOnce(&Tx<'_>, &Identity) -> Outcome) -> Outcome {
        let directory = tempfile::tempdir()?;
        let store = Store::open(directory.path(), StoreKeyMaterial::None)?;
        store.write(|tx| {
            let user = owned_user_id!("@me:b");
            let crypto = Crypto::default();
            let identity =
                Identity::load_or_create(tx, &crypto, &user, &"ME".into(), Publishing::Alone)
                    .map_err(|error| Failure::defect("identity", error))?;
            work(tx, &identity).map_err(|error| Failure::defect("test", error))
        })?;
        Ok(())
    }

    #[test]
    fn what_came_from_elsewhere_moves_and_what_is_own_stays() -> Outcome {
        with_a_store(|tx, identity| {
            let imported = put(tx, identity, 1, Some(0), false)?;
            let own = put(tx, identity, 2, Some(1), true)?;
            assert!(set_imports_apart(tx, identity)?.is_empty());
            assert_eq!(archive::holding(tx, room(), imported)?, Holding::Nothing);
            let export = restored::export(tx, room(), imported)?.ok_or("the import is gone")?;
            assert_eq!(export.keys.own_leaf(), None);
            let export = archive::find(tx, room(), own)?.ok_or("the own export is gone")?;
            assert_eq!(export.keys.own_leaf(), Some(1));
            assert!(restored::find(tx, room(), own)?.is_none());
            Ok(())
        })
    }

    #[test]
    fn an_import_in_the_place_of_an_own_export_is_noticed_once() -> Outcome {
        with_a_store(|tx, identity| {
            // The import's leaf is the other member's.
            let replaced = put(tx, identity, 1, Some(0), true)?;
            assert_eq!(set_imports_apart(tx, identity)?, [room()]);
            let holding = archive::holding(tx, room(), replaced)?;
            assert_eq!(holding, Holding::Leaves { may_return: true });
            assert!(restored::export(tx, room(), replaced)?.is_some());
            assert!(set_imports_apart(tx, identity)?.is_empty());
            Ok(())
        })
    }

    #[test]
    fn in_a_read_once_room_nothing_of_an_import_stays() -> Outcome {
        with_a_store(|tx, identity| {
            room::edit(tx, room(), |room| {
                room.settings.history = Retention::ReadOnce;
                Ok::<_, StoreError>(())
            })?;
            let replaced = put(tx, identity, 1, Some(1), true)?;
            assert_eq!(set_imports_apart(tx, identity)?, [room()]);
            let holding = archive::holding(tx, room(), replaced)?;
            assert_eq!(holding, Holding::Leaves { may_return: false });
            assert!(restored::export(tx, room(), replaced)?.is_none());
            assert!(restored::find(tx, room(), replaced)?.is_none());
            Ok(())
        })
    }
}
