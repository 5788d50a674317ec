//! Sealing and opening messages for an app.

use std::sync::TryLockError;

use ruma::RoomId;
use serde_json::value::RawValue;

use super::{
    core::{Engine, Work},
    error::EngineError,
    own_keys,
};
use crate::{
    failure::Failure,
    messages::{
        Message, MessageError, SealContext, Sealer, SendError, late, parse_event, read_once,
    },
    room,
};

/// How many bindings of messages to events wait for a turn before one is made for them.
const MOST_UNWRITTEN: usize = 64;

impl Engine {
    /// Seals a message for a room that is ready. Where the store's keys turn out to be no longer,
    /// or never to have been, this device's alone, the device joins anew.
    pub(crate) fn encrypt(
        &self,
        room: &RoomId,
        event_type: &str,
        content: &RawValue,
    ) -> Result<String, EngineError> {
        let sealed = self.seal(room, event_type, content);
        self.distrust_if_changed(room, &sealed)?;
        sealed
    }

    fn seal(
        &self,
        room: &RoomId,
        event_type: &str,
        content: &RawValue,
    ) -> Result<String, EngineError> {
        let mut work = self.lock();
        if !self.find_sealer(&mut work, room)? {
            drop(work);
            let (sealed, untold) = self.turn(|turn| {
                let sealed = read_once::seal(turn, room, event_type, content)?;
                Ok((sealed, self.rollback.count_up(turn.tx)?))
            })?;
            self.rollback.tell(untold);
            return Ok(sealed);
        }
        let Some((_, sealer)) = work.sealers.get_mut(room) else {
            return Err(Failure::defect("sealer", "a sealer was just put there").into());
        };
        let with = SealContext {
            store: &self.store,
            crypto: &self.opener.crypto,
            identity: &self.identity,
            rollback: &self.rollback,
        };
        let sealed = sealer.seal(&with, room, event_type, content);
        if sealed.is_err() {
            // Generations may have been taken all the same.
            work.sealers.pop(room);
        }
        Ok(sealed?)
    }

    /// Has a sealer at hand that is current; tells whether the room has one. It has none where its
    /// messages are read once.
    fn find_sealer(&self, work: &mut Work, room: &RoomId) -> Result<bool, EngineError> {
        let turns = work.turns;
        let is_current = match work.sealers.get(room) {
            Some((checked, _)) if *checked == turns => return Ok(true),
            Some((_, sealer)) => self.read(|tx| {
                own_keys::refuse_others(tx)?;
                Ok::<_, SendError>(sealer.is_current(&room::load(tx, room)?))
            })?,
            None => false,
        };
        if !is_current {
            self.read(own_keys::refuse_others)?;
            work.sealers.pop(room);
            let Some(sealer) = self.read(|tx| Sealer::load(tx, room, &self.identity))? else {
                return Ok(false);
            };
            work.sealers.put(room.to_owned(), (turns, sealer));
        } else if let Some((checked, _)) = work.sealers.get_mut(room) {
            *checked = turns;
        }
        Ok(true)
    }

    /// Has at hand what seals the next message of a room that is ready.
    pub(super) fn expect_message(&self, room: &RoomId) {
        // Whatever is wrong, sealing the message meets it again.
        if let Err(error) = self.find_sealer(&mut self.lock(), room) {
            tracing::debug!(%room, %error, "what seals the next message is not at hand");
        }
    }

    /// Seals a message with what is at hand: no lock is waited for, and nothing is read or written.
    /// Nothing where that does not do, and then nothing has happened.
    pub(crate) fn encrypt_at_once(
        &self,
        room: &RoomId,
        event_type: &str,
        content: &RawValue,
    ) -> Option<Result<String, EngineError>> {
        let mut work = match self.work.try_lock() {
            Ok(work) => work,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        let turns = work.turns;
        let (_, sealer) = work.sealers.get_mut(room).filter(|(checked, _)| *checked == turns)?;
        let (crypto, identity) = (&self.opener.crypto, &self.identity);
        let sealed = sealer.seal_reserved(crypto, identity, room, event_type, content)?;
        if sealed.is_err() {
            work.sealers.pop(room);
        }
        Some(sealed.map_err(Into::into))
    }

    /// Opens one message event. Where messages are read once, that is a turn.
    pub(crate) fn decrypt(&self, room: &RoomId, event: &str) -> Result<Message, EngineError> {
        let message = match self.read(|tx| self.opener.decrypt(tx, room, event)) {
            Err(MessageError::ReadOnce(_)) => {
                return self.turn(|turn| {
                    let (event, content) = parse_event(event)?;
                    let bindings = &self.opener.readers.bindings;
                    let mut message = read_once::open(turn, bindings, room, &event, &content)?;
                    let said_ms = event.origin_server_ts;
                    message.is_late = late::is_late(turn.tx, room, &message, said_ms, None)?;
                    late::refuse(turn.tx, room, &message)?;
                    Ok(message)
                });
            }
            message => message?,
        };
        let unwritten = self.opener.readers.bindings.waiting();
        // A turn that is under way writes them, too.
        if unwritten >= MOST_UNWRITTEN && self.work.try_lock().is_ok() {
            self.repeatable_turn(|_| Ok(()))?;
        }
        Ok(message)
    }

    /// Writes what was only remembered, before the engine goes.
    pub(crate) fn write_bindings(&self) -> Result<(), EngineError> {
        if self.opener.readers.bindings.waiting() > 0 {
            self.turn(|_| Ok(()))?;
        }
        Ok(())
    }
}
