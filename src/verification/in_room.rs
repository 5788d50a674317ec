//! Events of verifications in a room: the request is a message, and the others refer to it.
//!
//! All devices of both users see them. So a device looks for what is said to its user, and learns
//! from its own user's other devices who has answered. In a room that uses MLS the events are
//! sealed as messages are, and their sender's device is known.

use ruma::{DeviceId, EventId, RoomId, UserId};
use serde::Deserialize;

use super::{
    content::{Kind, RelationOnly, RequestContent},
    flow::{Place, Stage, code},
    receive::{age, from_device, requested, step},
    secrets::Secrets,
    table,
};
use crate::{failure::Failure, identity::Publishing, turn::Turn};

/// An event of a room, in clear or opened.
pub(crate) struct RoomEventIn<'a> {
    pub(crate) room: &'a RoomId,
    pub(crate) event_id: &'a EventId,
    pub(crate) sender: &'a UserId,
    /// The device that has sealed it.
    pub(crate) device: Option<&'a DeviceId>,
    pub(crate) event_type: &'a str,
    pub(crate) content: &'a str,
    /// When it was sent, by a homeserver's word, in milliseconds since 1970.
    pub(crate) sent_ms: Option<u64>,
}

/// What tells a request from other messages.
#[derive(Deserialize)]
struct Addressed {
    msgtype: String,
    to: String,
}

impl RoomEventIn<'_> {
    fn kind(&self) -> Option<Kind> {
        match Kind::of(self.event_type) {
            // It is one where it goes to devices only.
            Some(Kind::Request) => None,
            Some(kind) => Some(kind),
            None => {
                let request = self.event_type == "m.room.message"
                    && serde_json::from_str::<Addressed>(self.content)
                        .is_ok_and(|content| content.msgtype == Kind::Request.event_type());
                request.then_some(Kind::Request)
            }
        }
    }
}

/// Takes in an event of a room, if it is one of a verification.
pub(crate) fn receive_in_room(
    turn: &Turn<'_>,
    secrets: &Secrets,
    homeserver_ms: u64,
    event: &RoomEventIn<'_>,
) -> Result<(), Failure> {
    if turn.identity.publishing() == Publishing::BesideOlm {
        return Ok(());
    }
    let Some(kind) = event.kind() else { return Ok(()) };
    let named = from_device(event.content);
    // Who has sealed it must be who it says it is from.
    if let (Some(device), Some(named)) = (event.device, &named)
        && device != named
    {
        return Ok(());
    }
    table::expire(turn, secrets)?;
    if event.sender == turn.identity.name().user_id {
        return of_own_user(turn, secrets, kind, event);
    }
    if kind == Kind::Request {
        let (Ok(to), Ok(request)) = (
            serde_json::from_str::<Addressed>(event.content),
            serde_json::from_str::<RequestContent>(event.content),
        ) else {
            return Ok(());
        };
        let own = turn.identity.name().user_id;
        let known = table::of_room(turn.tx, event.room, event.event_id)?;
        if to.to != own.as_str() || known.is_some() {
            return Ok(());
        }
        let (room_id, request_event) = (event.room.to_owned(), event.event_id.to_owned());
        let place = Place::Room { room_id, request: Some(request_event) };
        let Some(age_ms) = age(homeserver_ms, event.sent_ms.unwrap_or(homeserver_ms)) else {
            return Ok(());
        };
        return requested(turn, secrets, event.sender, &request, place, age_ms);
    }
    let Some(flow) = referred(turn, event)? else { return Ok(()) };
    // Others in the room have no say, and neither have the other user's other devices.
    let is_others = event.device.is_some()
        && flow.device_id.is_some()
        && flow.device_id.as_deref() != event.device;
    if flow.user_id != event.sender || is_others {
        return Ok(());
    }
    step(turn, secrets, flow, kind, event.content)
}

fn referred(
    turn: &Turn<'_>,
    event: &RoomEventIn<'_>,
) -> Result<Option<super::flow::Flow>, Failure> {
    let Ok(RelationOnly { relates_to }) = serde_json::from_str(event.content) else {
        return Ok(None);
    };
    if relates_to.rel_type != "m.reference" {
        return Ok(None);
    }
    Ok(table::of_room(turn.tx, event.room, &relates_to.event_id)?)
}

/// What this user has said: this device's own request, as it comes back, or another device's answer
/// to somebody else's.
fn of_own_user(
    turn: &Turn<'_>,
    secrets: &Secrets,
    kind: Kind,
    event: &RoomEventIn<'_>,
) -> Result<(), Failure> {
    let is_own =
        from_device(event.content).is_some_and(|from| from == turn.identity.name().device_id);
    match kind {
        Kind::Request if is_own => {
            let Ok(Addressed { to, .. }) = serde_json::from_str(event.content) else {
                return Ok(());
            };
            for mut flow in table::open(turn.tx)? {
                if let Place::Room { room_id, request: request @ None } = &mut flow.place
                    && room_id == event.room
                    && flow.user_id == to
                {
                    *request = Some(event.event_id.to_owned());
                    return table::save(turn, secrets, flow);
                }
            }
            Ok(())
        }
        Kind::Ready | Kind::Cancel if !is_own => {
            let Some(mut flow) = referred(turn, event)? else { return Ok(()) };
            if flow.is_incoming && matches!(flow.stage, Stage::Requested) {
                flow.end(code::ACCEPTED, "another device of this user has answered", false);
                table::save(turn, secrets, flow)?;
            }
            Ok(())
        }
        _ => Ok(()),
    }
}
