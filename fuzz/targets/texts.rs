//! Inputs that are texts as they stand: bodies of syncs, recovery keys, events.
//!
//! `{room}`, `{alice}` and `{bob}` in a text are names of the living room, so that a committed body
//! is about it.

use matrix_mls::{
    MlsError, RecoveryKey, SyncChanges, is_commit_event, key_of_secret, sync_changes_from_response,
    sync_changes_from_sliding_sync,
};
use matrix_mls_kit::Result;

use super::world::{Check, World, answered, answered_sync};

/// How long a text may be: the longest that the corpus has, and more.
const LONGEST: usize = 64 << 10;

/// A body of `/v3/sync`, for a device that has no group yet.
pub fn sync(input: &[u8]) {
    body(input, |text| sync_changes_from_response(text, Some("fed".to_owned())));
}

/// A `pos`, a request and a response of a sliding sync, each on a line.
pub fn sliding(input: &[u8]) {
    body(input, |text| {
        let mut lines = text.splitn(3, '\n').map(str::to_owned);
        let pos = lines.next().filter(|pos| !pos.is_empty());
        let request = lines.next().unwrap_or_default();
        sync_changes_from_sliding_sync(request, pos, lines.next().unwrap_or_default())
    });
}

fn body(input: &[u8], read: impl Fn(String) -> Result<SyncChanges, MlsError>) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if text.len() > LONGEST {
        return;
    }
    // Most bodies are none, and need no room to find that out.
    if !is_read(read(text.to_owned())) {
        return;
    }
    World::take(input, Check::TheyAnswer, async |world| {
        let text = named(text, world);
        for client in [&world.laptop, &world.alice] {
            if let Ok(changes) = read(text.clone()) {
                answered_sync(client.machine()?.receive_sync(changes).await);
            }
        }
        Ok(())
    });
}

fn is_read(result: Result<SyncChanges, MlsError>) -> bool {
    match result {
        Ok(_) => true,
        Err(MlsError::InvalidInput { .. }) => false,
        Err(error) => panic!("{error:?}"),
    }
}

/// The text with the names of this room.
fn named(text: &str, world: &World) -> String {
    text.replace("{room}", &world.room)
        .replace("{alice}", world.alice.user_id())
        .replace("{bob}", world.bob.user_id())
}

/// The text with placeholders for the names of this room.
pub fn unnamed(text: &str, world: &World) -> String {
    text.replace(&world.room, "{room}")
        .replace(world.alice.user_id(), "{alice}")
        .replace(world.bob.user_id(), "{bob}")
}

/// Bytes and texts that could be a recovery key, and events.
pub fn keys(input: &[u8]) {
    for made in [RecoveryKey::from_bytes(input.to_vec()), key_of_secret(input.to_vec())] {
        is_right(made.map(|key| key.text()));
    }
    let Ok(text) = std::str::from_utf8(input) else { return };
    let _ = is_commit_event(text.to_owned());
    is_right(RecoveryKey::parse(text.to_owned()).map(|key| key.text()));
}

/// A key's text gives the same key.
fn is_right(text: Result<String, MlsError>) {
    let Some(text) = answered(text) else { return };
    let again = RecoveryKey::parse(text.clone()).map(|key| key.text());
    assert_eq!(answered(again), Some(text));
}
