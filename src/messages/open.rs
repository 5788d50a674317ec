//! Opening messages in whichever known epoch they belong to.
//!
//! Opening writes nothing. A message opens again as often as one likes, in any order, the device's
//! own messages included; what it said first stays bound to the event that showed it first
//! (`history::replay`).

use std::sync::PoisonError;

use ruma::{EventId, OwnedEventId, RoomId, UserId};

use super::{error::MessageError, readers::Readers};
use crate::{
    devices::{self, Verdict},
    epochs::{EpochRecord, Status, graph},
    history::{
        self, Header,
        archive::{self, EpochReader},
        replay::{Bindings, MessageName},
        restored::{self, ReadableEpoch, Source},
    },
    identity::Crypto,
    protocol::{DeviceName, EpochId, GroupName, MessageContent, Plaintext, credential},
    rejection::Rejection,
    store::{StoreError, Tx},
};

/// A message that was opened and checked.
pub(crate) struct Message {
    pub(crate) event_id: Option<OwnedEventId>,
    pub(crate) sender: DeviceName,
    pub(crate) verdict: Verdict,
    pub(crate) event_type: String,
    pub(crate) content: String,
    pub(crate) epoch: u64,
    pub(crate) epoch_id: EpochId,
    /// Which of the sender's messages in that epoch it is.
    pub(crate) generation: u32,
    /// The sender's leaf.
    pub(crate) leaf: u32,
    /// This device's leaf, if the epoch is its own.
    pub(crate) own_leaf: Option<u32>,
    /// Where the epoch came from with whose keys it was opened.
    pub(crate) source: Source,
    /// When this device left its epoch, in milliseconds since 1970.
    pub(crate) ended_ms: Option<u64>,
    /// Whether it came when its epoch had long ended (`late`).
    pub(crate) is_late: bool,
}

/// Opens a message, unless another event has shown it before.
pub(crate) fn open(
    tx: &Tx<'_>,
    crypto: &Crypto,
    readers: &Readers,
    room: &RoomId,
    event: Option<&EventId>,
    sender: &UserId,
    content: &MessageContent,
) -> Result<Message, MessageError> {
    let ciphertext = content.ciphertext.bytes()?;
    let Header::Private { group_id, epoch: number, .. } = history::peek(&ciphertext)? else {
        return Err(MessageError::OtherKind("it is no PrivateMessage"));
    };
    let Some(group) = GroupName::of(room, &group_id) else {
        return Err(Rejection::OtherGroup("the message belongs to another group").into());
    };
    let (commit, creator) = (&content.commit_event, &content.epoch_creator);
    let mut own = graph::named(tx, room, commit, number, creator)?;
    own.retain(|epoch| epoch.status == Status::Accepted);
    let own: Vec<_> = own.into_iter().map(EpochRecord::readable).collect();
    let opening = Opening { tx, crypto, readers, room, sender, ciphertext: &ciphertext };
    let mut failure = None;
    for epoch in &own {
        match opening.open_in(epoch)? {
            Ok(message) => return bind(tx, &readers.bindings, room, event, message),
            Err(error) => failure = Some(error),
        }
    }
    // Epochs that came from elsewhere are tried where none of this device's own opens it.
    for epoch in restored::matching(tx, room, commit, number, creator)? {
        if archive::has(tx, room, epoch.id)? {
            continue;
        }
        match opening.open_in(&epoch)? {
            Ok(message) => return bind(tx, &readers.bindings, room, event, message),
            Err(error) => failure = Some(error),
        }
    }
    // A homeserver may have told the sender another event id than all others. What does not open so
    // is of an epoch that is still to come.
    if own.is_empty() {
        for epoch in graph::alike(tx, room, number, creator)? {
            if let Ok(message) = opening.open_in(&epoch.readable())? {
                return bind(tx, &readers.bindings, room, event, message);
            }
        }
    }
    match failure {
        Some(error) => Err(error),
        None => Err(graph::why_unknown(tx, room, group, number)?.into()),
    }
}

/// Binds a message to the event that shows it, unless another has shown it before.
pub(super) fn bind(
    tx: &Tx<'_>,
    bindings: &Bindings,
    room: &RoomId,
    event: Option<&EventId>,
    mut message: Message,
) -> Result<Message, MessageError> {
    let (epoch, leaf, generation) = (message.epoch_id, message.leaf, message.generation);
    if let Some(event) = event
        && !bindings.bind(
            tx,
            MessageName { room: room.to_owned(), epoch, leaf, generation },
            event,
        )?
    {
        return Err(MessageError::Replayed);
    }
    message.event_id = event.map(ToOwned::to_owned);
    Ok(message)
}

/// One message that is tried in one epoch after the other.
struct Opening<'a> {
    tx: &'a Tx<'a>,
    crypto: &'a Crypto,
    readers: &'a Readers,
    room: &'a RoomId,
    sender: &'a UserId,
    ciphertext: &'a [u8],
}

impl Opening<'_> {
    /// Opens it in this epoch; the inner error lets others be tried.
    fn open_in(&self, epoch: &ReadableEpoch) -> Result<Result<Message, MessageError>, StoreError> {
        let Some(reader) = self.readers.of(self.tx, self.room, epoch)? else {
            return Ok(Err(self.why_no_keys(epoch.id)?));
        };
        let mut reader = reader.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(self.open_with(&mut reader, epoch))
    }

    /// Why an epoch that is known has no keys.
    fn why_no_keys(&self, epoch: EpochId) -> Result<MessageError, StoreError> {
        let full = graph::find(self.tx, self.room, epoch)?.is_some_and(|epoch| epoch.full);
        Ok(if full {
            let reason = "messages of this epoch can be read once, by a machine";
            MessageError::ReadOnce(reason.to_owned())
        } else {
            MessageError::HistoryDeleted
        })
    }

    fn open_with(
        &self,
        reader: &mut EpochReader,
        epoch: &ReadableEpoch,
    ) -> Result<Message, MessageError> {
        let opened = reader.open(self.tx, self.room, self.crypto, self.ciphertext)?;
        #[cfg(feature = "test-hooks")]
        crate::store::hooks::opened_message(epoch.id.to_hex(), opened.leaf, opened.generation);
        let credential = opened.leaf_data.credential()?;
        let signer = Signer {
            credential: credential.serialized_content(),
            key: opened.leaf_data.signature_key(),
        };
        let checked = check(self.tx, self.room, self.sender, &signer, &opened.plaintext);
        let checked = match (checked, &epoch.source) {
            (
                Err(MessageError::Rejected(Rejection::ConflictingCredential(_))),
                Source::Member(_),
            ) => {
                return Err(MessageError::ForgedHistory);
            }
            (checked, _) => checked?,
        };
        if checked.generation().is_some_and(|claimed| claimed != opened.generation) {
            return Err(MessageError::SealedAgain);
        }
        Ok(checked.message(epoch, opened.leaf, opened.generation, reader.own_leaf()))
    }
}

/// Whose signature a message has.
pub(super) struct Signer<'a> {
    pub(super) credential: &'a [u8],
    pub(super) key: &'a [u8],
}

/// A message of which it is known who sent it, and that it was meant for its room.
pub(super) struct Checked {
    sender: DeviceName,
    verdict: Verdict,
    plaintext: Plaintext,
}

/// Checks who sent a message and where. What an impostor's key has signed is nobody's word: it is
/// refused, and not shown with a warning that a reader may overlook.
pub(super) fn check(
    tx: &Tx<'_>,
    room: &RoomId,
    sender: &UserId,
    signer: &Signer<'_>,
    plaintext: &[u8],
) -> Result<Checked, MessageError> {
    let device = credential::parse(signer.credential)?;
    if device.user_id != sender {
        let reason = "the message was sealed by another user than the event's sender";
        return Err(Rejection::SenderMismatch(reason).into());
    }
    let plaintext: Plaintext =
        serde_json::from_slice(plaintext).map_err(|_| MessageError::BadPlaintext)?;
    if plaintext.room_id != room {
        return Err(MessageError::OtherRoom);
    }
    let verdict = devices::verdict(tx, &device, signer.key)?;
    if verdict == Verdict::Conflicting {
        return Err(Rejection::ConflictingCredential(device).into());
    }
    Ok(Checked { sender: device, verdict, plaintext })
}

impl Checked {
    /// The generation under which its sender sealed it, if the sender says.
    pub(super) fn generation(&self) -> Option<u32> {
        self.plaintext.generation
    }

    /// The message, once it is known which of its epoch it is.
    pub(super) fn message(
        self,
        epoch: &ReadableEpoch,
        leaf: u32,
        generation: u32,
        own_leaf: Option<u32>,
    ) -> Message {
        // What this very device has sealed needs nobody's word.
        let is_own = own_leaf == Some(leaf) && epoch.source == Source::Own;
        Message {
            event_id: None,
            sender: self.sender,
            verdict: if is_own { Verdict::Verified } else { self.verdict },
            event_type: self.plaintext.event_type,
            content: self.plaintext.content.get().to_owned(),
            epoch: epoch.number,
            epoch_id: epoch.id,
            generation,
            leaf,
            own_leaf,
            source: epoch.source.clone(),
            ended_ms: epoch.ended_ms,
            is_late: false,
        }
    }
}
