//! The upkeep of this device's published keys and of others' device lists: what has to be asked of
//! the homeserver whether or not a room wants it.

use std::collections::BTreeSet;

use crate::{
    devices,
    error::MlsError,
    group::{Turn, plan, rooms},
    identity,
    requests::{self, DEVICE_SCOPE, Purpose, REQUESTS},
    updates::Update,
};

/// Queues what is due: key uploads, and queries for device lists that are out of date.
pub(crate) fn plan(turn: &Turn<'_>) -> Result<(), MlsError> {
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
        plan::queue_key_queries(turn, outdated)?;
    }
    Ok(())
}

/// Takes in `device_lists`.
pub(crate) fn note_device_lists(
    turn: &Turn<'_>,
    changed: &[String],
    left: &[String],
) -> Result<(), MlsError> {
    // A user id that is none names nobody we could track.
    let parse = |users: &[String]| -> Vec<_> {
        users.iter().filter_map(|user| ruma::UserId::parse(user).ok()).collect()
    };
    let (changed, left) = (parse(changed), parse(left));
    devices::note_device_lists(turn.tx, &changed, &left)?;
    Ok(rooms::unsettle_rooms_of(turn.tx, changed.iter().chain(&left).map(|user| &**user))?)
}

/// Takes in an answer of `/keys/query`.
pub(crate) fn queried(
    turn: &Turn<'_>,
    query: &devices::KeyQuery,
    body: &[u8],
) -> Result<(), MlsError> {
    let report = devices::handle_query_response(turn.tx, query, body, turn.now_ms)?;
    rooms::unsettle_rooms_of(turn.tx, report.changed_users.iter().map(|user| &**user))?;
    for rejected in report.rejected {
        turn.tell(Update::DeviceRejected {
            user_id: rejected.user_id.to_string(),
            device_id: rejected.device_id.to_string(),
            reason: rejected.reason.to_string(),
        });
    }
    Ok(())
}
