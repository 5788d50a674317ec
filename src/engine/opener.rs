//! Opening messages: the one path shared by the machine, which has the whole engine, and by a
//! reader beside it, which has only the store.

use std::path::Path;

use crate::identity::Crypto;
use ruma::RoomId;

use crate::{
    error::MlsError,
    group::{
        message::{self, Message, Readers},
        process, timeline,
    },
    protocol::{MessageContent, RoomEvent},
    store::{StoreKeyMaterial, StoreReader, Tx},
};

/// What opening a message needs beside the store.
#[derive(Default)]
pub(crate) struct Opener {
    pub(super) crypto: Crypto,
    pub(super) readers: Readers,
}

impl Opener {
    /// Opens one message event.
    pub(super) fn decrypt(
        &self,
        tx: &Tx<'_>,
        room: &RoomId,
        event: &str,
    ) -> Result<Message, MlsError> {
        let (event, content) = parse(event)?;
        let id = event.event_id.as_deref();
        message::read(tx, &self.crypto, &self.readers, room, id, &event.sender, &content)
    }
}

/// Parses the event of a message.
pub(super) fn parse(event: &str) -> Result<(RoomEvent, MessageContent), MlsError> {
    let event: RoomEvent = timeline::parse(event, "event")?;
    if event.event_type != "m.room.encrypted" {
        return Err(MlsError::invalid("not_encrypted", "event: its type is not m.room.encrypted"));
    }
    let content: MessageContent = timeline::parse(event.content.get(), "the event's content")?;
    if !process::is_ours(&content.algorithm) {
        return Err(MlsError::invalid("not_mls", "event: it is not encrypted with MLS"));
    }
    Ok((event, content))
}

/// A store that can only be read from, beside whoever has it open.
pub(crate) struct Reader {
    store: StoreReader,
    opener: Opener,
}

impl Reader {
    /// Opens an existing store for reading.
    pub(crate) fn open(directory: &Path, key: StoreKeyMaterial<'_>) -> Result<Self, MlsError> {
        Ok(Self { store: StoreReader::open(directory, key)?, opener: Opener::default() })
    }

    /// Opens one message event.
    pub(crate) fn decrypt(&self, room: &RoomId, event: &str) -> Result<Message, MlsError> {
        self.store.read(|tx| self.opener.decrypt(tx, room, event))
    }
}
