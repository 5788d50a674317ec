//! Application messages: sealed with the head's keys, opened with the export of their epoch.
//!
//! Neither loads an OpenMLS group, so neither grows with the room. Sealing must never use one
//! generation twice, so generations are reserved on disk before they are used; a crash skips those
//! that were reserved and not used. The reservation grows with use (1, 2, 4 … [`MAX_RESERVATION`]),
//! so that an app that sends one message and is killed skips none, and one that sends many seldom
//! waits for the disk.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use crate::identity::Crypto;
use ruma::{EventId, OwnedEventId, RoomId, UserId};
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use super::{EpochId, EpochRecord, Status, graph, publish::to_content, rooms};
use crate::{
    devices::{self, Trust},
    error::MlsError,
    history::{
        self, Draft, EpochKeys, Header, RatchetCache, archive,
        archive::Reader,
        replay::{Bindings, MessageName},
        restored::{self, ReadableEpoch, Source},
    },
    identity::Identity,
    protocol::{DeviceName, MessageContent, Payload, Plaintext, credential, identifiers},
    store::{Namespace, Store, Tx},
};

/// The most generations that one reservation takes.
const MAX_RESERVATION: u32 = 32;

/// The epoch that a room is sent to on, if it may be sent to.
pub(super) fn ready_head(tx: &Tx<'_>, room_id: &RoomId) -> Result<EpochRecord, MlsError> {
    let room = rooms::get(tx, room_id)?;
    let Some(head) = room.head.filter(|_| !room.gone) else {
        return Err(MlsError::not_in_group(room_id));
    };
    if room.settled != Some(head) {
        return Err(MlsError::not_ready("the group's members have to be compared with the room's"));
    }
    Ok(graph::get(tx, room_id, head)?)
}

/// What a message's ciphertext holds.
pub(super) fn plaintext(
    room_id: &RoomId,
    event_type: &str,
    content: &RawValue,
) -> Result<Zeroizing<Vec<u8>>, MlsError> {
    let plaintext = Plaintext {
        event_type: event_type.to_owned(),
        content: content.to_owned(),
        room_id: room_id.to_owned(),
    };
    let json = serde_json::to_vec(&plaintext);
    Ok(Zeroizing::new(json.map_err(|error| MlsError::internal("plaintext", error))?))
}

/// The content of a message's event.
pub(super) fn event_content(
    identity: &Identity,
    creator: &DeviceName,
    commit_event: Option<&OwnedEventId>,
    ciphertext: &[u8],
    content: &RawValue,
) -> Result<String, MlsError> {
    let content = MessageContent {
        algorithm: identifiers::room_algorithm(identity.ciphersuite()),
        ciphertext: Payload::inline(ciphertext),
        epoch_creator: creator.clone(),
        commit_event: commit_event.map(ToString::to_string).unwrap_or_default(),
        relates_to: relation(content),
    };
    Ok(to_content(&content, "the message")?.get().to_owned())
}

/// Seals messages on one epoch of one room, without looking at the store for most of them.
pub(crate) struct Sealer {
    epoch: EpochId,
    namespace: Namespace,
    keys: EpochKeys,
    ratchets: RatchetCache,
    creator: DeviceName,
    commit_event: Option<OwnedEventId>,
    next: u32,
    reserved: u32,
    reservation: u32,
}

impl Sealer {
    /// A sealer for the head of a room, if the room may be sent to; none where its messages are read once.
    pub(crate) fn load(tx: &Tx<'_>, room_id: &RoomId) -> Result<Option<Self>, MlsError> {
        let head = ready_head(tx, room_id)?;
        let Some(export) = archive::find(tx, room_id, head.id)? else { return Ok(None) };
        let next = tx.generation(head.namespace)?;
        Ok(Some(Self {
            epoch: head.id,
            namespace: head.namespace,
            ratchets: RatchetCache::default(),
            keys: export.keys,
            creator: head.creator,
            commit_event: head.commit_event,
            next,
            reserved: next,
            reservation: 1,
        }))
    }

    /// Whether the room may still be sent to on the epoch this was loaded for.
    pub(crate) fn is_current(&self, tx: &Tx<'_>, room_id: &RoomId) -> Result<bool, MlsError> {
        let room = rooms::get(tx, room_id)?;
        Ok(!room.gone && room.head == Some(self.epoch) && room.settled == room.head)
    }

    /// Seals one message.
    pub(crate) fn seal(
        &mut self,
        store: &Store,
        crypto: &Crypto,
        identity: &Identity,
        room_id: &RoomId,
        event_type: &str,
        content: &RawValue,
    ) -> Result<String, MlsError> {
        let plaintext = plaintext(room_id, event_type, content)?;
        let generation = self.take_generation(store)?;
        let draft =
            Draft { generation, authenticated_data: &[], plaintext: &plaintext, padding: 0 };
        let ciphertext =
            history::seal(&self.keys, &mut self.ratchets, crypto, identity.signer(), &draft)?;
        let (creator, event) = (&self.creator, self.commit_event.as_ref());
        event_content(identity, creator, event, &ciphertext, content)
    }

    /// A generation that no other message of this epoch has or will have.
    fn take_generation(&mut self, store: &Store) -> Result<u32, MlsError> {
        if self.next == self.reserved {
            let reserved = self.next.saturating_add(self.reservation).min(history::MAX_GENERATION);
            if reserved == self.next {
                return Err(MlsError::not_ready(
                    "this epoch has no messages left; a new one is needed",
                ));
            }
            store.write(|tx| tx.set_generation(self.namespace, reserved))?;
            self.reserved = reserved;
            self.reservation = (self.reservation * 2).min(MAX_RESERVATION);
        }
        let generation = self.next;
        self.next += 1;
        Ok(generation)
    }
}

/// `m.relates_to` stays readable for the homeserver, which aggregates by it (Matrix spec,
/// "Validation of relationships" in encrypted events).
fn relation(content: &RawValue) -> Option<serde_json::Value> {
    let content: serde_json::Value = serde_json::from_str(content.get()).ok()?;
    content.get("m.relates_to").filter(|relation| relation.is_object()).cloned()
}

/// A message that was opened and checked.
pub(crate) struct Message {
    pub(crate) event_id: Option<OwnedEventId>,
    pub(crate) sender: DeviceName,
    pub(crate) trust: Trust,
    pub(crate) event_type: String,
    pub(crate) content: String,
    pub(crate) epoch: u64,
    pub(crate) epoch_id: EpochId,
    /// Which of the sender's messages in that epoch it is.
    pub(crate) generation: u32,
    /// The sender's leaf, and this device's.
    pub(crate) leaf: u32,
    pub(crate) own_leaf: u32,
    /// Where the epoch came from with whose keys it was opened.
    pub(crate) source: Source,
}

impl Message {
    fn name(&self, room: &RoomId) -> MessageName {
        let (epoch, leaf, generation) = (self.epoch_id, self.leaf, self.generation);
        MessageName { room: room.to_owned(), epoch, leaf, generation }
    }
}

/// Readers of recently used epochs, so that reading on costs no derivation from the epoch's root.
/// Bounded: the least recently used goes.
#[derive(Default)]
pub(crate) struct Readers {
    recent: Mutex<VecDeque<(EpochId, Arc<Mutex<Reader>>)>>,
    /// Which event showed which message first.
    pub(crate) bindings: Bindings,
}

/// How many epochs keep their reader.
const MAX_READERS: usize = 32;

impl Readers {
    fn of(
        &self,
        tx: &Tx<'_>,
        room_id: &RoomId,
        epoch: EpochId,
    ) -> Result<Option<Arc<Mutex<Reader>>>, MlsError> {
        let mut readers = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = readers.iter().position(|(id, _)| *id == epoch)
            && let Some(entry) = readers.remove(at)
        {
            readers.push_front(entry.clone());
            return Ok(Some(entry.1));
        }
        let Some(reader) = Reader::load(tx, room_id, epoch)? else { return Ok(None) };
        let reader = Arc::new(Mutex::new(reader));
        readers.push_front((epoch, reader.clone()));
        readers.truncate(MAX_READERS);
        Ok(Some(reader))
    }

    /// Forgets all readers, and with them the keys of epochs that were deleted.
    pub(crate) fn clear(&self) {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// Opens a message in whichever known epoch it belongs to, unless another event has shown it before.
/// Writes nothing.
pub(crate) fn read(
    tx: &Tx<'_>,
    crypto: &Crypto,
    readers: &Readers,
    room_id: &RoomId,
    event: Option<&EventId>,
    sender: &UserId,
    content: &MessageContent,
) -> Result<Message, MlsError> {
    let ciphertext = content.ciphertext.bytes()?;
    let Header::Private { group_id, epoch: number, .. } = history::peek(&ciphertext)? else {
        return Err(MlsError::rejected("bad_message", "it is no PrivateMessage"));
    };
    if group_id != room_id.as_bytes() {
        return Err(MlsError::rejected("other_group", "the message belongs to another group"));
    }
    let (commit, creator) = (&content.commit_event, &content.epoch_creator);
    let mut own = graph::named(tx, room_id, commit, number, creator)?;
    own.retain(|epoch| epoch.status == Status::Accepted);
    let own: Vec<_> = own.into_iter().map(EpochRecord::readable).collect();
    let mut failure = None;
    let mut attempt = |epoch: &ReadableEpoch| {
        let opened = match readers.of(tx, room_id, epoch.id)? {
            None => Err(not_kept(tx, room_id, epoch.id)?),
            Some(reader) => {
                let mut reader = reader.lock().unwrap_or_else(PoisonError::into_inner);
                open(tx, crypto, &mut reader, room_id, sender, epoch, &ciphertext)
            }
        };
        Ok::<_, MlsError>(opened.map_err(|error| failure = Some(error)).ok())
    };
    for epoch in &own {
        if let Some(message) = attempt(epoch)? {
            return bound(tx, readers, room_id, event, message);
        }
    }
    // What came from elsewhere is looked for where nothing of this device's own opens it.
    for epoch in restored::named(tx, room_id, commit, number, creator)? {
        if own.iter().all(|own| own.id != epoch.id)
            && let Some(message) = attempt(&epoch)?
        {
            return bound(tx, readers, room_id, event, message);
        }
    }
    match failure {
        Some(error) => Err(error),
        None => Err(unknown_epoch(tx, room_id, number)?),
    }
}

/// The error for an epoch that is known and whose keys are not kept.
fn not_kept(tx: &Tx<'_>, room_id: &RoomId, epoch: EpochId) -> Result<MlsError, MlsError> {
    Ok(if graph::find(tx, room_id, epoch)?.is_some_and(|epoch| epoch.full) {
        MlsError::rejected(READ_ONCE, "messages of this epoch can be read once, by a machine")
    } else {
        let reason = "the keys of the message's epoch are kept no longer";
        MlsError::rejected("history_deleted", reason)
    })
}

/// Binds a message to the event that shows it, unless another has shown it before.
fn bound(
    tx: &Tx<'_>,
    readers: &Readers,
    room_id: &RoomId,
    event: Option<&EventId>,
    mut message: Message,
) -> Result<Message, MlsError> {
    if let Some(event) = event
        && !readers.bindings.bind(tx, message.name(room_id), event)?
    {
        return Err(MlsError::rejected("replayed", "another event has shown this message before"));
    }
    message.event_id = event.map(ToOwned::to_owned);
    Ok(message)
}

/// Opens a message of this epoch and checks who sent it and where.
fn open(
    tx: &Tx<'_>,
    crypto: &Crypto,
    reader: &mut Reader,
    room_id: &RoomId,
    sender: &UserId,
    epoch: &ReadableEpoch,
    ciphertext: &[u8],
) -> Result<Message, MlsError> {
    let opened = reader.open(tx, room_id, crypto, ciphertext)?;
    #[cfg(feature = "test-hooks")]
    crate::store::hooks::opened_message(epoch.id.to_hex(), opened.leaf, opened.generation);
    let (leaf, generation) = (opened.leaf, opened.generation);
    let credential = opened.leaf_data.credential()?;
    let from = Signer {
        credential: credential.serialized_content(),
        key: opened.leaf_data.signature_key(),
    };
    let checked = check(tx, room_id, sender, &from, &opened.plaintext)?;
    if matches!(epoch.source, Source::Member(_)) && checked.trust == Trust::Conflicting {
        return Err(MlsError::rejected(
            "forged_history",
            "the member who shared this epoch gave another key for the sender than the sender publishes",
        ));
    }
    Ok(checked.message(epoch, leaf, generation, reader.own_leaf()))
}

/// Whose signature a message has.
pub(super) struct Signer<'a> {
    pub(super) credential: &'a [u8],
    pub(super) key: &'a [u8],
}

/// A message of which it is known who sent it, and that it was meant for its room.
pub(super) struct Checked {
    sender: DeviceName,
    trust: Trust,
    plaintext: Plaintext,
}

/// Checks who sent a message and where.
pub(super) fn check(
    tx: &Tx<'_>,
    room_id: &RoomId,
    sender: &UserId,
    from: &Signer<'_>,
    plaintext: &[u8],
) -> Result<Checked, MlsError> {
    let device = credential::parse(from.credential)?;
    if device.0 != sender {
        return Err(MlsError::rejected(
            "sender_mismatch",
            "the message was sealed by another user than the event's sender",
        ));
    }
    let plaintext: Plaintext = serde_json::from_slice(plaintext)
        .map_err(|_| MlsError::rejected("bad_plaintext", "the plaintext is not an event"))?;
    if plaintext.room_id != room_id {
        return Err(MlsError::rejected("other_room", "the message was written in another room"));
    }
    let trust = devices::trust(tx, &device.0, &device.1, from.key)?;
    Ok(Checked { sender: device, trust, plaintext })
}

impl Checked {
    /// The message, once it is known which of its epoch it is.
    pub(super) fn message(
        self,
        epoch: &ReadableEpoch,
        leaf: u32,
        generation: u32,
        own_leaf: u32,
    ) -> Message {
        Message {
            event_id: None,
            sender: self.sender,
            trust: self.trust,
            event_type: self.plaintext.event_type,
            content: self.plaintext.content.get().to_owned(),
            epoch: epoch.number,
            epoch_id: epoch.id,
            generation,
            leaf,
            own_leaf,
            source: epoch.source.clone(),
        }
    }
}

/// The code of the error for a message that can be read once.
pub(crate) const READ_ONCE: &str = "read_once";

/// The code of the error for an epoch from before this device was in the group.
pub(super) const BEFORE_JOINING: &str = "before_joining";

/// The error for a message whose epoch is not known.
pub(crate) fn unknown_epoch(
    tx: &Tx<'_>,
    room_id: &RoomId,
    number: u64,
) -> Result<MlsError, MlsError> {
    let first = graph::first_number(tx, room_id)?;
    Ok(match first {
        Some(first) if number < first => MlsError::rejected(
            BEFORE_JOINING,
            format!("epoch {number} is from before this device was in the group"),
        ),
        _ => MlsError::unknown_epoch(number),
    })
}
