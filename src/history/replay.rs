//! Which event showed which message first. This protects against a homeserver that shows one
//! message twice.
//!
//! A message is named by its epoch, its sender's leaf and its generation, and a sender uses no
//! generation twice. So the first event that shows a message is bound to it, and another event with
//! the same message is refused. The same event opens any number of times. A binding takes 13 bytes,
//! and 64 generations share a row.
//!
//! Reading writes nothing, so that it can run beside a turn. New bindings are remembered in memory,
//! count at once, and are written with the next turn. If the app is killed before that turn, the
//! next event that is read makes a new binding.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use ruma::{EventId, OwnedRoomId, RoomId};
use serde_bytes::ByteBuf;
use sha2::{Digest, Sha256};

use crate::{
    protocol::EpochId,
    store::{Collection, StoreError, Tx},
};

/// How many generations share a row.
const BLOCK: u32 = 64;
/// The length of the event id's hash. Nobody can find two event ids whose hashes agree in so many
/// bytes.
const HASH: usize = 12;
/// The most bindings that wait to be written. A process that never writes forgets the oldest.
const MOST_WAITING: usize = 4_096;

type EventHash = [u8; HASH];

/// Bindings by epoch: rows of (generation within the block, hash).
const BOUND: Collection<ByteBuf> = Collection::new("message_event");

/// A message: its sender's leaf and generation in an epoch of a room.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct MessageName {
    /// The room.
    pub room: OwnedRoomId,
    /// The epoch.
    pub epoch: EpochId,
    /// The sender's leaf.
    pub leaf: u32,
    /// The number of the message among the sender's messages.
    pub generation: u32,
}

impl MessageName {
    fn scope(&self) -> Vec<u8> {
        scope(&self.room, self.epoch)
    }

    fn row_key(&self) -> [u8; 8] {
        let mut key = [0; 8];
        let (leaf, block) = key.split_at_mut(4);
        leaf.copy_from_slice(&self.leaf.to_be_bytes());
        block.copy_from_slice(&(self.generation / BLOCK).to_be_bytes());
        key
    }

    /// The generation's place in the row.
    fn offset(&self) -> u8 {
        (self.generation % BLOCK) as u8
    }
}

fn scope(room: &RoomId, epoch: EpochId) -> Vec<u8> {
    [epoch.as_bytes(), room.as_bytes()].concat()
}

/// The bindings of this process that are not written yet.
#[derive(Default)]
pub struct Bindings(Mutex<BTreeMap<MessageName, EventHash>>);

impl Bindings {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<MessageName, EventHash>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Binds a message to the event that shows it. `false` means that another event has shown the
    /// message before.
    pub fn bind(
        &self,
        tx: &Tx<'_>,
        message: MessageName,
        event: &EventId,
    ) -> Result<bool, StoreError> {
        let hash = hash(event);
        let mut waiting = self.lock();
        let before = match waiting.get(&message) {
            Some(before) => Some(*before),
            None => stored_hash(tx, &message)?,
        };
        if let Some(before) = before {
            return Ok(before == hash);
        }
        if waiting.len() >= MOST_WAITING {
            waiting.pop_first();
        }
        waiting.insert(message, hash);
        Ok(true)
    }

    /// How many bindings are not written yet.
    pub fn waiting(&self) -> usize {
        self.lock().len()
    }

    /// Writes the bindings. Once the transaction is committed, pass the result to
    /// [`written`](Self::written).
    pub fn write(&self, tx: &Tx<'_>) -> Result<Vec<MessageName>, StoreError> {
        let waiting = self.lock().clone();
        let mut rows: BTreeMap<_, Vec<(u8, EventHash)>> = BTreeMap::new();
        for (message, hash) in &waiting {
            let row = rows.entry((message.scope(), message.row_key())).or_default();
            row.push((message.offset(), *hash));
        }
        for ((scope, row), new) in rows {
            let mut bytes = BOUND.get(tx, &scope, &row)?.unwrap_or_default();
            for (offset, hash) in new {
                if hash_at(&bytes, offset).is_none() {
                    bytes.push(offset);
                    bytes.extend_from_slice(&hash);
                }
            }
            BOUND.put(tx, &scope, &row, &bytes)?;
        }
        Ok(waiting.into_keys().collect())
    }

    /// The bindings of these messages are on disk.
    pub fn written(&self, messages: &[MessageName]) {
        let mut waiting = self.lock();
        for message in messages {
            waiting.remove(message);
        }
    }
}

/// Forgets the bindings of an epoch whose keys are gone.
pub fn forget(tx: &Tx<'_>, room: &RoomId, epoch: EpochId) -> Result<(), StoreError> {
    BOUND.delete_scope(tx, &scope(room, epoch)).map(drop)
}

fn stored_hash(tx: &Tx<'_>, message: &MessageName) -> Result<Option<EventHash>, StoreError> {
    let row = BOUND.get(tx, &message.scope(), &message.row_key())?;
    Ok(row.and_then(|row| hash_at(&row, message.offset())))
}

fn hash_at(row: &[u8], offset: u8) -> Option<EventHash> {
    let (bindings, _) = row.as_chunks::<{ HASH + 1 }>();
    let bound = bindings.iter().find(|bound| bound.first() == Some(&offset))?;
    bound.get(1..)?.try_into().ok()
}

fn hash(event: &EventId) -> EventHash {
    let mut hash = [0; HASH];
    hash.iter_mut().zip(Sha256::digest(event.as_bytes())).for_each(|(to, from)| *to = from);
    hash
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use proptest::prelude::*;
    use ruma::{IdParseError, OwnedEventId, owned_room_id};

    use super::*;
    use crate::store::{Store, StoreKeyMaterial};

    type Outcome<T = ()> = Result<T, Box<dyn Error>>;

    fn message(leaf: u32, generation: u32) -> MessageName {
        let room = owned_room_id!("!room:example.org");
        MessageName { room, epoch: EpochId::from_bytes([1; 32]), leaf, generation }
    }

    fn flush(store: &Store, bindings: &Bindings) -> Result<(), StoreError> {
        let written = store.write(|tx| bindings.write(tx))?;
        bindings.written(&written);
        assert_eq!(bindings.waiting(), 0);
        Ok(())
    }

    fn event(number: u32) -> Result<OwnedEventId, IdParseError> {
        EventId::parse(format!("$event{number}"))
    }

    #[test]
    fn the_first_event_counts_before_and_after_it_is_written() -> Outcome {
        let directory = tempfile::tempdir()?;
        let store = Store::open(directory.path(), StoreKeyMaterial::None)?;
        let bindings = Bindings::default();
        let bind = |bindings: &Bindings, generation, number| -> Outcome<bool> {
            let event = event(number)?;
            Ok(store.read(|tx| bindings.bind(tx, message(3, generation), &event))?)
        };
        for _ in 0..2 {
            assert!(bind(&bindings, 0, 1)?);
            assert!(bind(&bindings, 63, 2)?);
            assert!(bind(&bindings, 64, 3)?);
            assert!(!bind(&bindings, 64, 1)?);
            flush(&store, &bindings)?;
        }
        // Another process, or this one after a restart.
        let bindings = Bindings::default();
        assert!(!bind(&bindings, 0, 9)?);
        assert!(bind(&bindings, 0, 1)?);
        assert_eq!(bindings.waiting(), 0);
        let room = message(3, 0).room;
        store.write(|tx| forget(tx, &room, message(3, 0).epoch))?;
        assert!(bind(&bindings, 0, 9)?);
        Ok(())
    }

    #[test]
    fn what_is_never_written_is_bounded() -> Outcome {
        let directory = tempfile::tempdir()?;
        let store = Store::open(directory.path(), StoreKeyMaterial::None)?;
        let bindings = Bindings::default();
        store.read(|tx| {
            for generation in 0..2 * MOST_WAITING as u32 {
                bindings.bind(tx, message(0, generation), &event(generation)?)?;
            }
            Outcome::Ok(())
        })?;
        assert_eq!(bindings.waiting(), MOST_WAITING);
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        /// Against a plain map, with writes at any time.
        #[test]
        fn bindings_are_a_map(steps in proptest::collection::vec((0..3_u32, 0..200_u32, 0..4_u32, any::<bool>()), 1..80)) {
            let directory = tempfile::tempdir()?;
            let store = Store::open(directory.path(), StoreKeyMaterial::None)?;
            let bindings = Bindings::default();
            let mut model = BTreeMap::new();
            for (leaf, generation, number, write) in steps {
                let first = *model.entry((leaf, generation)).or_insert(number);
                let event = event(number)?;
                let may = store.read(|tx| bindings.bind(tx, message(leaf, generation), &event))?;
                prop_assert_eq!(may, first == number);
                if write {
                    flush(&store, &bindings)?;
                }
            }
        }
    }
}
