//! What has to be done whether or not an app asks for it: this device's published keys, others'
//! device lists, old keys, the backup, rejoins.

use std::collections::BTreeSet;

use ruma::{OwnedUserId, UserId};

use super::{consequences::in_room, core::Engine, error::EngineError, prepare::rejoin_rooms};
use crate::{
    backup, commits,
    devices::{self, DevicesError},
    epochs::retention,
    exported::{OutgoingRequest, Update},
    identity,
    requests::{self, DEVICE_SCOPE, Purpose, REQUESTS},
    room::{self, membership},
    store::StoreError,
    turn::Turn,
};

/// How many requests are handed out at once.
const MAX_HANDED_OUT: usize = 50;

impl Engine {
    /// The requests to send now.
    pub(crate) fn outgoing_requests(&self) -> Result<Vec<OutgoingRequest>, EngineError> {
        self.go_on_restoring()?;
        self.turn(|turn| {
            plan_key_requests(turn)?;
            delete_old_keys(turn)?;
            backup::plan_upload(turn)?;
            rejoin_rooms(turn)?;
            let due = REQUESTS.due(turn.tx, turn.now_ms, MAX_HANDED_OUT)?;
            Ok(requests::hand_out(turn.tx, due)?)
        })
    }
}

/// Queues what is due: key uploads, and queries for device lists that are out of date.
fn plan_key_requests(turn: &Turn<'_>) -> Result<(), EngineError> {
    let uploading = REQUESTS
        .in_scope(turn.tx, DEVICE_SCOPE)?
        .iter()
        .any(|(_, queued)| matches!(queued.purpose, Purpose::UploadKeys(_)));
    if !uploading
        && let Some((plan, request)) =
            identity::plan_upload(turn.tx, turn.crypto, turn.identity, turn.now_ms)?
    {
        let purpose = Purpose::UploadKeys(plan);
        requests::enqueue(turn.tx, DEVICE_SCOPE, turn.now_ms, purpose, request)?;
    }
    let outdated: BTreeSet<_> = devices::outdated(turn.tx, turn.now_ms)?.into_iter().collect();
    if !outdated.is_empty() {
        commits::queue_key_queries(turn, outdated)?;
    }
    Ok(())
}

/// Deletes the keys of epochs that are kept no longer, in all rooms, every so often.
fn delete_old_keys(turn: &Turn<'_>) -> Result<(), EngineError> {
    if !retention::is_due(turn)? {
        return Ok(());
    }
    for room in room::all(turn.tx)? {
        in_room(turn, &room.id, |room| retention::delete_old(turn, room))?;
    }
    Ok(())
}

/// Takes in `device_lists`.
pub(super) fn note_device_lists(
    turn: &Turn<'_>,
    changed: &[String],
    left: &[String],
) -> Result<(), StoreError> {
    // A user id that is none names nobody who could be tracked.
    let parse = |users: &[String]| -> Vec<OwnedUserId> {
        users.iter().filter_map(|user| UserId::parse(user).ok()).collect()
    };
    let (changed, left) = (parse(changed), parse(left));
    devices::note_device_lists(turn.tx, &changed, &left)?;
    let users = changed.iter().chain(&left).map(|user| &**user);
    membership::unsettle_rooms_of(turn.tx, users)
}

/// Takes in an answer of `/keys/query`.
pub(super) fn queried(
    turn: &Turn<'_>,
    query: &devices::KeyQuery,
    body: &[u8],
) -> Result<(), DevicesError> {
    let report = devices::handle_query_response(turn.tx, query, body, turn.now_ms)?;
    membership::unsettle_rooms_of(turn.tx, report.changed_users.iter().map(|user| &**user))?;
    membership::devices_changed(turn.tx, report.altered_users.iter().map(|user| &**user))?;
    for rejected in report.rejected {
        turn.tell(Update::DeviceRejected {
            user_id: rejected.name.user_id.to_string(),
            device_id: rejected.name.device_id.to_string(),
            reason: rejected.reason.to_string(),
        });
    }
    Ok(())
}
