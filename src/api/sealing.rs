//! Sealing a message: at once where all that it takes is in memory, else off the caller's thread.
//!
//! A message that is sealed at once costs the caller's thread what sealing costs, some tens of
//! microseconds, and no change of threads. That must hold on an app's main thread. So nothing is
//! done at once that waits for a lock or touches the disk, and no content that takes long to seal
//! (docs/decisions/041).

use std::sync::Arc;

use ruma::RoomId;
use serde_json::value::RawValue;

use super::{error::MlsError, slot::EngineSlot};
use crate::{
    engine::{Engine, diagnostics::Call},
    protocol::parse,
};

/// The longest content that is sealed at once, in bytes.
const LONGEST_AT_ONCE: usize = 16 * 1024;

/// Seals a message for a room.
pub(super) async fn encrypt(
    engine: &Arc<EngineSlot>,
    room: &RoomId,
    event_type: String,
    content: String,
) -> Result<String, MlsError> {
    if content.len() <= LONGEST_AT_ONCE {
        let seal = |engine: &Engine| match object(&content) {
            Ok(content) => {
                let sealed = engine.encrypt_at_once(room, &event_type, &content)?;
                Some(sealed.map_err(MlsError::from))
            }
            Err(error) => Some(Err(error)),
        };
        if let Some(sealed) = engine.at_once(Call::Encrypt, seal) {
            return sealed;
        }
    }
    let room = room.to_owned();
    engine
        .run_timed(Call::Encrypt, move |engine| {
            Ok::<_, MlsError>(engine.encrypt(&room, &event_type, &object(&content)?)?)
        })
        .await
}

/// The content as a JSON object.
fn object(content: &str) -> Result<Box<RawValue>, MlsError> {
    let content: Box<RawValue> =
        parse(content, "content").map_err(|error| MlsError::invalid("bad_content", error))?;
    if !content.get().starts_with('{') {
        return Err(MlsError::invalid("bad_content", "content: it is no JSON object"));
    }
    Ok(content)
}
