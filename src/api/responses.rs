//! From the body of a sync response to `SyncChanges`.

use std::collections::{BTreeMap, HashMap};

use serde_json::value::RawValue;

use super::error::MlsError;
use crate::{
    exported::{DeviceListChanges, FollowedRooms, RoomChanges, SyncChanges, SyncStart},
    protocol::{
        DeviceLists, Ranges, RequestedList, SlidingSyncRequest, SlidingSyncResponse, SyncResponse,
        parse,
    },
};

/// Takes what this library needs out of the body of a `/v3/sync` response, with `state` or with
/// `state_after` (MSC4222).
///
/// `since` is that of the request, absent if the request had none. The request's filter must let
/// `m.room.member`, `m.room.encrypted`, `m.room.encryption`, `m.room.create`,
/// `m.room.history_visibility`, `m.room.tombstone` and `org.matrix.msc2883.v1.dmls.restart` pass,
/// and must not leave out rooms. Lazily loaded members are fine. With `m.room.power_levels`, too,
/// `MlsRoom::enable` knows beforehand whether the user may do that.
///
/// Fails with `InvalidInput` (`"bad_sync_response"`) if the body is not such a response: an error
/// of the homeserver, for one, or any object without `next_batch`.
#[uniffi::export]
pub fn sync_changes_from_response(
    response: String,
    since: Option<String>,
) -> Result<SyncChanges, MlsError> {
    let response: SyncResponse = parse(&response, "the sync response").map_err(bad_response)?;
    let rooms = response.rooms.join.into_iter().chain(response.rooms.leave);
    Ok(SyncChanges {
        connection: String::new(),
        start: start(since),
        next_batch: response.next_batch,
        to_device: texts(&response.to_device.events),
        device_lists: Some(DeviceListChanges {
            changed: response.device_lists.changed,
            left: response.device_lists.left,
        }),
        one_time_key_counts: response.device_one_time_keys_count.map(HashMap::from_iter),
        unused_fallback_key_types: response.device_unused_fallback_key_types,
        followed_rooms: FollowedRooms::All,
        rooms: rooms
            .map(|(room_id, room)| RoomChanges {
                room_id,
                state: texts(&room.state.events),
                timeline: texts(&room.timeline.events),
                state_after: texts(&room.state_after.events),
                limited: room.timeline.limited,
                joined_count: room.summary.joined_member_count,
            })
            .collect(),
    })
}

/// Takes what this library needs out of the body of a simplified sliding sync response (MSC4186):
/// rooms, to-device events, device lists and key counts, as far as the connection has them.
///
/// `request` is the body of the request, from which the connection's name is taken, and of which
/// rooms it tells everything. `pos` is that of the request, absent if the request had none. An app
/// with several connections feeds the responses of all of them. The `required_state` of each room
/// must have `m.room.encryption`, `m.room.create`, `m.room.history_visibility`, `m.room.tombstone`
/// and `org.matrix.msc2883.v1.dmls.restart`; members may be lazy (`$LAZY`) or left out.
///
/// Fails with `InvalidInput` if the response is none (`"bad_sync_response"`): an error of the
/// homeserver, for one, or any object without `pos`. Fails with `InvalidInput`
/// (`"bad_sync_request"`) if the request is none.
#[uniffi::export]
pub fn sync_changes_from_sliding_sync(
    request: String,
    pos: Option<String>,
    response: String,
) -> Result<SyncChanges, MlsError> {
    if !request.trim_start().starts_with('{') {
        // An array would be read as an object without members.
        return Err(MlsError::invalid("bad_sync_request", "the request is no JSON object"));
    }
    let request: SlidingSyncRequest = parse(&request, "the sliding sync request")
        .map_err(|error| MlsError::invalid("bad_sync_request", error))?;
    let response: SlidingSyncResponse =
        parse(&response, "the sliding sync response").map_err(bad_response)?;
    let has_all_rooms = request.lists.iter().any(|(name, list)| {
        response.lists.get(name).is_some_and(|answer| has_all(list, answer.count))
    });
    let followed_rooms = match has_all_rooms {
        true => FollowedRooms::All,
        false => {
            let told =
                request.room_subscriptions.into_iter().filter(|(_, room)| room.timeline_limit > 0);
            FollowedRooms::Only { room_ids: told.map(|(room_id, _)| room_id).collect() }
        }
    };
    let (device_lists, counts, unused) = match response.extensions.e2ee {
        None => (None, None, None),
        Some(told) => {
            let DeviceLists { changed, left } = told.device_lists;
            (
                Some(DeviceListChanges { changed, left }),
                told.device_one_time_keys_count,
                told.device_unused_fallback_key_types,
            )
        }
    };
    Ok(SyncChanges {
        connection: request.conn_id.unwrap_or_default(),
        start: start(pos),
        next_batch: response.pos,
        to_device: texts(&response.extensions.to_device.events),
        device_lists,
        one_time_key_counts: counts.map(HashMap::from_iter),
        unused_fallback_key_types: unused,
        followed_rooms,
        rooms: response
            .rooms
            .into_iter()
            .map(|(room_id, room)| RoomChanges {
                room_id,
                state: Vec::new(),
                // Without a timeline nothing is said of what happened. With one that does not say
                // whether it is limited, it may be.
                limited: room.limited.unwrap_or(!room.timeline.is_empty()),
                timeline: texts(&room.timeline),
                state_after: texts(&room.required_state),
                joined_count: room.joined_count,
            })
            .collect(),
    })
}

/// Whether a list of so many rooms has them all in its ranges, and leaves out none but spaces.
fn has_all(list: &RequestedList, count: u64) -> bool {
    let filters = list.filters.iter().flat_map(BTreeMap::keys);
    let is_whole = |from: u64, to: u64| from == 0 && to.saturating_add(1) >= count;
    // Without a timeline it is not told whether something was left out.
    list.timeline_limit > 0
        && filters.into_iter().all(|filter| filter == "not_room_types")
        && match &list.ranges {
            Ranges::One(from, to) => is_whole(*from, *to),
            Ranges::Several(ranges) => ranges.iter().any(|(from, to)| is_whole(*from, *to)),
        }
}

fn start(since: Option<String>) -> SyncStart {
    since.map_or(SyncStart::Anew, |since| SyncStart::After { since })
}

fn texts(events: &[Box<RawValue>]) -> Vec<String> {
    events.iter().map(|event| event.get().to_owned()).collect()
}

fn bad_response(error: impl std::fmt::Display) -> MlsError {
    let form =
        "pass in the body of a sync that the homeserver has answered with status 200, unchanged";
    MlsError::invalid("bad_sync_response", format!("{error}; {form}"))
}
