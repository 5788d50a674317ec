//! Ids of users and rooms as an app passes them in. What is none is refused with the form of one.

use ruma::{OwnedRoomId, OwnedUserId, RoomId, UserId};

use super::error::MlsError;

/// A user's id. `argument` is the name of the argument that holds it.
pub(super) fn user_id(argument: &str, text: &str) -> Result<OwnedUserId, MlsError> {
    UserId::parse(text).map_err(|error| {
        let form = "give the whole Matrix id, such as @alice:example.org";
        MlsError::invalid("bad_user_id", format!("{argument}: {error}; {form}"))
    })
}

/// A room's id. `argument` is the name of the argument that holds it.
pub(super) fn room_id(argument: &str, text: &str) -> Result<OwnedRoomId, MlsError> {
    RoomId::parse(text).map_err(|error| {
        let form = "give the room's id, such as !abc:example.org, and not an alias";
        MlsError::invalid("bad_room_id", format!("{argument}: {error}; {form}"))
    })
}
