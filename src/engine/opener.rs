//! Opening messages: the one path shared by the machine, which has the whole engine, and by a
//! reader beside it, which has only the store.

use std::path::Path;

use ruma::RoomId;

use super::shadows::Follows;
use crate::{
    epochs::{UnknownEpoch, missing},
    identity::Crypto,
    messages::{self, Message, MessageError, Readers, late, parse_event},
    store::{StoreError, StoreKeyMaterial, StoreReader, Tx},
};

/// What opening a message needs beside the store.
#[derive(Default)]
pub(super) struct Opener {
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
    ) -> Result<Message, MessageError> {
        let (event, content) = parse_event(event)?;
        let id = event.event_id.as_deref();
        let commit = &content.commit_event;
        match messages::open(tx, &self.crypto, &self.readers, room, id, &event.sender, &content) {
            Err(MessageError::UnknownEpoch(UnknownEpoch::NotYet(number)))
                if missing::leads_nowhere(tx, room, commit)? =>
            {
                Err(UnknownEpoch::Lost(number).into())
            }
            opened => {
                let mut message = opened?;
                let said_ms = event.origin_server_ts;
                message.is_late = late::is_late(tx, room, &message, said_ms, None)?;
                late::refuse(tx, room, &message)?;
                Ok(message)
            }
        }
    }
}

/// A store that can only be read from, beside whoever has it open.
pub(crate) struct ReadOnlyEngine {
    pub(super) store: StoreReader,
    pub(super) opener: Opener,
    pub(super) follows: Follows,
}

impl ReadOnlyEngine {
    /// Opens an existing store for reading.
    pub(crate) fn open(directory: &Path, key: StoreKeyMaterial<'_>) -> Result<Self, StoreError> {
        let store = StoreReader::open(directory, key)?;
        Ok(Self { store, opener: Opener::default(), follows: Follows::default() })
    }

    /// Closes the store's file until [`ReadOnlyEngine::resume`].
    pub(crate) fn suspend(&self) {
        self.store.suspend();
        self.follows.close();
        self.opener.readers.clear();
    }

    /// Opens the store's file again, if it is closed.
    pub(crate) fn resume(&self) -> Result<(), StoreError> {
        self.store.resume()
    }

    /// How long the log beside the database is, in bytes.
    pub(super) fn log_bytes(&self) -> u64 {
        self.store.log_bytes()
    }

    pub(super) fn read<T, E: From<StoreError>>(
        &self,
        job: impl FnOnce(&Tx<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        self.store.read(job)
    }

    /// Opens one message event.
    pub(crate) fn decrypt(&self, room: &RoomId, event: &str) -> Result<Message, MessageError> {
        self.store.read(|tx| self.opener.decrypt(tx, room, event))
    }
}
