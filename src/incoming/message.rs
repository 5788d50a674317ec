//! Messages in the timeline: opened, and what they say beside their text.

use ruma::RoomId;

use super::error::EventError;
use crate::{
    epochs::{graph, sightings, trees},
    history::restored::Source,
    messages::{self, Message, MessageError, Readers, late, read_once},
    protocol::{MessageContent, RoomEvent, parse},
    room::{self, RejoinReason},
    store::StoreError,
    turn::{Consequence, Turn},
};

/// Opens a message of the timeline. `is_news`: a sync shows it, and no page of history.
pub(crate) fn receive(
    turn: &Turn<'_>,
    readers: &Readers,
    room: &RoomId,
    event: &RoomEvent,
    is_news: bool,
) -> Result<Message, EventError> {
    let content: MessageContent = parse(event.content.get(), "the message")?;
    let id = event.event_id.as_deref();
    let opened = messages::open(turn.tx, turn.crypto, readers, room, id, &event.sender, &content);
    let mut message = match opened {
        Err(MessageError::ReadOnce(_)) => {
            read_once::open(turn, &readers.bindings, room, event, &content)?
        }
        message => message?,
    };
    let said_ms = trees::said_ms(turn, event.origin_server_ts, is_news)?;
    note_sender(turn, room, &message, said_ms)?;
    let came_ms = is_news.then_some(turn.now_ms);
    message.is_late = late::is_late(turn.tx, room, &message, event.origin_server_ts, came_ms)?;
    if let (true, true, Some(id)) = (message.is_late, is_news, id) {
        late::remember(turn.tx, room, id)?;
    }
    Ok(message)
}

/// Takes in where a message's sender is. A message of this device of which the store knows nothing
/// says that the store is an older copy of itself.
fn note_sender(
    turn: &Turn<'_>,
    room_id: &RoomId,
    message: &Message,
    said_ms: Option<u64>,
) -> Result<(), EventError> {
    // A message that was opened with what came from elsewhere says nothing of where anybody is.
    if message.source != Source::Own {
        return Ok(());
    }
    let Some(epoch) = graph::find(turn.tx, room_id, message.epoch_id)? else { return Ok(()) };
    if let Some(said_ms) = said_ms {
        trees::heard(turn, room_id, &epoch, &message.sender, said_ms)?;
    }
    if let Some(progress) = sightings::note(turn, room_id, &message.sender, epoch.rank())? {
        let room = room::load(turn.tx, room_id)?;
        sightings::count(turn, &room, &message.sender, message.leaf, &progress)?;
    }
    if message.sender == turn.identity.name()
        && epoch.full
        && Some(message.leaf) == message.own_leaf
    {
        match turn.tx.generation(epoch.namespace) {
            Ok(next) if message.generation < next => {}
            Ok(_) => turn.report(Consequence::OwnMessageForgotten { epoch: epoch.rank() }),
            Err(StoreError::Changed(_)) => {
                turn.report(Consequence::MustRejoin(RejoinReason::OldCopy));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
