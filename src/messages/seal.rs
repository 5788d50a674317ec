//! Sealing messages on the head of a room.
//!
//! One generation must never seal two messages, so generations are reserved on disk before they are
//! used; a crash skips those that were reserved and not used (docs/decisions/002). The reservation
//! grows with use (1, 2, 4 … [`MAX_RESERVATION`]): an app that sends one message and is killed
//! skips none, and an app that sends many seldom waits for the disk.

use ruma::{OwnedEventId, RoomId};
use serde_json::value::RawValue;

use super::{
    error::SendError,
    event::{EpochName, event_content, plaintext},
};
use crate::{
    epochs::{EpochRecord, graph},
    failure::Failure,
    history::{self, EpochKeys, MessageDraft, RatchetCache, archive},
    identity::{Crypto, Identity},
    protocol::{DeviceName, EpochId, credential},
    rollback::Rollback,
    room::{self, Room, member_list},
    store::{Namespace, Store, Tx},
};

/// What to do about a room that is not ready for a message.
pub(super) const UNPREPARED: &str = "the room is not ready for a message: call prepareToSend \
    (prepare_to_send in Rust) and send its requests until it is ready, then encrypt again; the \
    encrypt that takes a transport does all of that";

/// The most generations that one reservation takes.
const MAX_RESERVATION: u32 = 32;

/// The epoch that a room is sent to on, if it may be sent to.
pub(crate) fn ready_head(tx: &Tx<'_>, room_id: &RoomId) -> Result<EpochRecord, SendError> {
    let room = room::load(tx, room_id)?;
    refuse_replaced(&room)?;
    let Some(head) = room.standing.head() else {
        return Err(room.outside().into());
    };
    // A store of an earlier version can be settled without ever having seen the list.
    if !room.standing.is_settled() || !member_list::load(tx, room_id)?.is_good() {
        return Err(SendError::NotReady(UNPREPARED));
    }
    Ok(graph::get(tx, room_id, head)?)
}

/// Fails where another room replaces this one: nobody would see what is said here.
pub(crate) fn refuse_replaced(room: &Room) -> Result<(), SendError> {
    match &room.upgrade.replacement {
        Some(by) => Err(SendError::Replaced { room: room.id.clone(), by: by.clone() }),
        None => Ok(()),
    }
}

/// Whether the leaf that an export seals for is this device's: it has this device's signature key
/// and name. Anything else would draw from the ratchet of another member.
fn is_own_leaf(
    tx: &Tx<'_>,
    room: &RoomId,
    epoch: &EpochRecord,
    keys: &EpochKeys,
    identity: &Identity,
) -> Result<bool, SendError> {
    let Some(own_leaf) = keys.own_leaf() else { return Ok(false) };
    let Some(leaf) = archive::leaf(tx, room, epoch.id, own_leaf)? else { return Ok(false) };
    let credential = leaf.credential().map_err(Failure::from)?;
    Ok(leaf.signature_key() == identity.public_key()
        && credential.serialized_content() == credential::encode(&identity.name()))
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

/// What sealing needs beside the message.
pub(crate) struct SealContext<'a> {
    pub(crate) store: &'a Store,
    pub(crate) crypto: &'a Crypto,
    pub(crate) identity: &'a Identity,
    pub(crate) rollback: &'a Rollback,
}

impl Sealer {
    /// A sealer for the head of a room, if the room may be sent to; none where its messages are
    /// read once.
    pub(crate) fn load(
        tx: &Tx<'_>,
        room_id: &RoomId,
        identity: &Identity,
    ) -> Result<Option<Self>, SendError> {
        let head = ready_head(tx, room_id)?;
        let Some(export) = archive::find(tx, room_id, head.id)? else { return Ok(None) };
        if !is_own_leaf(tx, room_id, &head, &export.keys, identity)? {
            return Err(SendError::NotOwnLeaf);
        }
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

    /// Whether the room may still be sent to on the epoch that this was loaded for.
    pub(crate) fn is_current(&self, room: &Room) -> bool {
        room.standing.is_settled()
            && room.standing.head() == Some(self.epoch)
            && room.upgrade.replacement.is_none()
    }

    /// Seals one message; gives the content of its event.
    pub(crate) fn seal(
        &mut self,
        with: &SealContext<'_>,
        room_id: &RoomId,
        event_type: &str,
        content: &RawValue,
    ) -> Result<String, SendError> {
        self.reserve(with)?;
        let sealed = self.seal_reserved(with.crypto, with.identity, room_id, event_type, content);
        sealed.unwrap_or(Err(SendError::NotReady(UNPREPARED)))
    }

    /// Seals one message without the store; nothing where no generation is reserved for it.
    pub(crate) fn seal_reserved(
        &mut self,
        crypto: &Crypto,
        identity: &Identity,
        room_id: &RoomId,
        event_type: &str,
        content: &RawValue,
    ) -> Option<Result<String, SendError>> {
        let generation = self.take_generation()?;
        let mut seal = || {
            let plaintext = plaintext(room_id, event_type, content, generation)?;
            let draft = MessageDraft {
                generation,
                authenticated_data: &[],
                plaintext: &plaintext,
                padding: 0,
            };
            let ciphertext =
                history::seal(&self.keys, &mut self.ratchets, crypto, identity.signer(), &draft)?;
            let epoch =
                EpochName { creator: &self.creator, commit_event: self.commit_event.as_ref() };
            event_content(identity, &epoch, &ciphertext, content)
        };
        Some(seal())
    }

    /// A generation that no other message of this epoch has or will have; nothing where none is
    /// reserved.
    fn take_generation(&mut self) -> Option<u32> {
        let generation = (self.next < self.reserved).then_some(self.next)?;
        self.next += 1;
        Some(generation)
    }

    /// Reserves generations, where none are.
    fn reserve(&mut self, with: &SealContext<'_>) -> Result<(), SendError> {
        if self.next < self.reserved {
            return Ok(());
        }
        let reserved = self.next.saturating_add(self.reservation).min(history::MAX_GENERATION);
        if reserved == self.next {
            return Err(SendError::NotReady(UNPREPARED));
        }
        let untold = with.store.write(|tx| {
            tx.take_generations(self.namespace, self.reserved, reserved)?;
            with.rollback.count_up(tx)
        })?;
        with.rollback.tell(untold);
        self.reserved = reserved;
        self.reservation = (self.reservation * 2).min(MAX_RESERVATION);
        Ok(())
    }
}
