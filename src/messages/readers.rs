//! The readers of recently used epochs, so that reading on derives nothing from an epoch's root.

use std::{
    num::NonZeroUsize,
    sync::{Arc, Mutex, PoisonError},
};

use lru::LruCache;
use ruma::RoomId;

use crate::{
    history::{
        archive::EpochReader,
        replay::Bindings,
        restored::{self, ReadableEpoch, Source},
    },
    protocol::EpochId,
    store::{StoreError, Tx},
};

/// How many epochs keep their reader.
const MAX_READERS: NonZeroUsize = NonZeroUsize::MIN.saturating_add(31);

/// An epoch, and whether its export is this device's own: the same epoch from elsewhere has other
/// leaves.
type Key = (EpochId, bool);

/// Readers of epochs, and which event showed which message first. Bounded: the reader that was not
/// used for longest goes first.
pub(crate) struct Readers {
    recent: Mutex<LruCache<Key, Arc<Mutex<EpochReader>>>>,
    /// Which event showed which message first.
    pub(crate) bindings: Bindings,
}

impl Default for Readers {
    fn default() -> Self {
        Self { recent: Mutex::new(LruCache::new(MAX_READERS)), bindings: Bindings::default() }
    }
}

impl Readers {
    /// The reader of an epoch, unless its export was deleted.
    pub(super) fn of(
        &self,
        tx: &Tx<'_>,
        room: &RoomId,
        epoch: &ReadableEpoch,
    ) -> Result<Option<Arc<Mutex<EpochReader>>>, StoreError> {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (epoch.id, epoch.source == Source::Own);
        if let Some(reader) = recent.get(&key) {
            return Ok(Some(reader.clone()));
        }
        let Some(export) = restored::export_of(tx, room, epoch)? else { return Ok(None) };
        let reader = Arc::new(Mutex::new(EpochReader::new(export)));
        recent.put(key, reader.clone());
        Ok(Some(reader))
    }

    /// Forgets all readers, and with them the keys of epochs that were deleted.
    pub(crate) fn clear(&self) {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}
