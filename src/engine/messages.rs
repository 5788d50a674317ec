//! Sealing and opening messages for an app.

use ruma::RoomId;
use serde_json::value::RawValue;

use super::{core::Engine, error::EngineError, own_keys};
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
        let turns = work.turns;
        let current = match work.sealers.get(room) {
            Some((checked, _)) if *checked == turns => true,
            Some((_, sealer)) => self.read(|tx| {
                own_keys::refuse_others(tx)?;
                Ok::<_, SendError>(sealer.is_current(&room::load(tx, room)?))
            })?,
            None => false,
        };
        if !current {
            self.read(own_keys::refuse_others)?;
            work.sealers.pop(room);
            let Some(sealer) = self.read(|tx| Sealer::load(tx, room, &self.identity))? else {
                drop(work);
                let (sealed, untold) = self.turn(|turn| {
                    let sealed = read_once::seal(turn, room, event_type, content)?;
                    Ok((sealed, self.rollback.count_up(turn.tx)?))
                })?;
                self.rollback.tell(untold);
                return Ok(sealed);
            };
            work.sealers.put(room.to_owned(), (turns, sealer));
        }
        let Some((checked, sealer)) = work.sealers.get_mut(room) else {
            return Err(Failure::defect("sealer", "a sealer was just put there").into());
        };
        *checked = turns;
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

    /// Opens one message event. Where messages are read once, that is a turn.
    pub(crate) fn decrypt(&self, room: &RoomId, event: &str) -> Result<Message, EngineError> {
        let message = match self.read(|tx| self.opener.decrypt(tx, room, event)) {
            Err(MessageError::ReadOnce(_)) => {
                return self.turn(|turn| {
                    let (event, content) = parse_event(event)?;
                    let bindings = &self.opener.readers.bindings;
                    let mut message = read_once::open(turn, bindings, room, &event, &content)?;
                    let said_ms = event.origin_server_ts;
                    message.is_late = late::is_late(turn.tx, room, &message, said_ms)?;
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
