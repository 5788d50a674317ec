//! What has to be done whether or not an app asks for it: this device's published keys, others'
//! device lists, old keys, the backup, rejoins.

use std::{collections::BTreeSet, sync::atomic::Ordering, thread, time::Duration};

use ruma::{OwnedUserId, UserId};

use super::{
    catching_up,
    consequences::in_room,
    core::{Engine, now_ms},
    early,
    error::EngineError,
    founding::found_rooms,
    own_keys,
    prepare::rejoin_rooms,
    push_rules,
};
use crate::{
    backup, commits,
    devices::{self, DevicesError},
    epochs::{restarts, retention, set_aside},
    exported::{OutgoingRequest, PendingRequests, Update},
    identity::{self, OwnKeys},
    incoming::{lost_tree, members, restart},
    protocol::identifiers::KeyPackageName,
    rejoin::Occasion,
    requests::{self, DEVICE_SCOPE, PausedWork, Purpose, REQUESTS, Release},
    room::{self, membership},
    secrets, sharing, signing,
    store::StoreError,
    turn::Turn,
    verification::{self, handover},
};

/// For how long after a message was prepared the next may be expected.
const BUSY_MS: u64 = 10_000;
/// How long the lock is left free between two turns of one call.
pub(super) const BETWEEN_TURNS: Duration = Duration::from_millis(1);

impl Engine {
    /// Has all device lists asked for again.
    pub(crate) fn doubt_device_lists(&self) -> Result<(), EngineError> {
        self.turn(|turn| Ok(membership::doubt_device_lists(turn.tx)?))
    }

    /// The requests to send now.
    pub(crate) fn outgoing_requests(&self) -> Result<Vec<OutgoingRequest>, EngineError> {
        self.go_on_restoring()?;
        self.seal_verifications()?;
        loop {
            let (requests, is_more, ready) = self.repeatable_turn(|turn| {
                let mut ready = Vec::new();
                let is_more = catching_up::go_on(turn, &self.opener.readers)?;
                plan_key_requests(turn)?;
                delete_old_keys(turn)?;
                verification::expire(turn, &self.secrets)?;
                handover::expire(turn)?;
                secrets::take_early(turn)?;
                backup::plan_upload(turn)?;
                if identity::own_keys(turn.tx)? == OwnKeys::Ours {
                    members::ask_for_wanted(turn)?;
                    sharing::ask(turn)?;
                    sharing::answer(turn)?;
                    lost_tree::ask(turn)?;
                    lost_tree::answer(turn)?;
                    push_rules::plan(turn)?;
                    if identity::can_be_recognised(turn.tx, turn.identity)? {
                        rejoin_rooms(turn, self.occasion(turn))?;
                        ready = found_rooms(turn)?;
                    }
                }
                let due = own_keys::due(turn.tx, turn.now_ms)?;
                Ok((requests::hand_out(turn.tx, due)?, is_more, ready))
            })?;
            let is_more = is_more || !ready.is_empty();
            for (room, founders) in ready {
                self.found(&room, founders)?;
            }
            // An app that has nothing to send would not come back for the rest.
            if !is_more || !requests.is_empty() {
                self.unmarked.handed_out(&requests);
                return Ok(requests);
            }
            // Whoever waits for the lock gets it now.
            thread::sleep(BETWEEN_TURNS);
        }
    }
}

impl Engine {
    /// Whether the user is saying something.
    fn occasion(&self, turn: &Turn<'_>) -> Occasion {
        let since_ms = turn.now_ms.abs_diff(self.prepared_ms.load(Ordering::Relaxed));
        if since_ms < BUSY_MS { Occasion::Busy } else { Occasion::Idle }
    }

    /// What is in the queue.
    pub(crate) fn pending_requests(&self) -> Result<PendingRequests, EngineError> {
        let now_ms = now_ms();
        self.read(|tx| {
            let mut pending = requests::pending(tx, now_ms)?;
            if identity::own_keys(tx)? != OwnKeys::Ours {
                pending.due = own_keys::due(tx, now_ms)?.len() as u64;
            }
            Ok(pending)
        })
    }

    /// The app says that the network is back.
    pub(crate) fn network_available(&self) -> Result<(), EngineError> {
        self.turn(|turn| Ok(requests::release(turn.tx, turn.now_ms, Release::Network)?))
    }

    /// The app has another access token.
    pub(crate) fn access_token_renewed(&self) -> Result<(), EngineError> {
        // Nearly always there is nothing to be done.
        if !self.pending_requests()?.unauthorized {
            return Ok(());
        }
        self.turn(|turn| {
            requests::note_token_works(turn.tx)?;
            Ok(requests::release(turn.tx, turn.now_ms, Release::Token)?)
        })
    }
}

/// Queues what is due: key uploads, and queries for device lists that are out of date.
fn plan_key_requests(turn: &Turn<'_>) -> Result<(), EngineError> {
    own_keys::check(turn)?;
    let busy = REQUESTS
        .in_scope(turn.tx, DEVICE_SCOPE)?
        .iter()
        .any(|(_, queued)| matches!(queued.purpose, Purpose::UploadKeys(_) | Purpose::TakeBackKey));
    if !busy
        && identity::own_keys(turn.tx)? == OwnKeys::Ours
        && !requests::is_paused(turn.tx, PausedWork::UploadKeys, turn.now_ms)?
    {
        if let Some((plan, request)) =
            identity::plan_upload(turn.tx, turn.crypto, turn.identity, turn.now_ms)?
        {
            let purpose = Purpose::UploadKeys(plan);
            requests::enqueue(turn.tx, DEVICE_SCOPE, turn.now_ms, purpose, request)?;
        } else if identity::has_old_packages(turn.tx, turn.now_ms)? {
            let suite = turn.identity.ciphersuite();
            let own = [turn.identity.name()];
            let request = devices::claim_request(&own, suite, KeyPackageName::Unstable);
            let purpose = Purpose::TakeBackKey;
            requests::enqueue(turn.tx, DEVICE_SCOPE, turn.now_ms, purpose, request)?;
        }
    }
    if identity::has_published_keys(turn.tx)? {
        signing::plan(turn)?;
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
    early::forget_old(turn)?;
    for room in room::all(turn.tx)? {
        in_room(turn, &room.id, |room| {
            set_aside::forget_old(turn, room)?;
            retention::delete_old(turn, room)
        })?;
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

/// Takes in the answer to a claim of this device's own key package.
pub(super) fn took_back(turn: &Turn<'_>, body: &[u8]) -> Result<(), DevicesError> {
    let answer = devices::parse_claim_response(body, turn.identity.ciphersuite())?;
    let key_id = answer.packages.get(&turn.identity.name()).map(|package| &*package.key_id);
    Ok(identity::take_back(turn.tx, turn.crypto, key_id, turn.now_ms)?)
}

/// Takes in an answer of `/keys/query`.
pub(super) fn queried(
    turn: &Turn<'_>,
    query: &devices::KeyQuery,
    body: &[u8],
) -> Result<(), EngineError> {
    own_keys::note(turn, body, false)?;
    let report = devices::handle_query_response(turn.tx, query, body, turn.now_ms)?;
    membership::unsettle_rooms_of(turn.tx, report.changed_users.iter().map(|user| &**user))?;
    membership::devices_changed(turn.tx, report.altered_users.iter().map(|user| &**user))?;
    if report.answers_own_user {
        signing::look_at_own_devices(turn, report.unsigned_own)?;
        signing::go_on(turn)?;
        secrets::go_on(turn)?;
        signing::tell_state(turn)?;
    }
    for user in report.identities_changed {
        turn.tell(Update::IdentityChanged { user_id: user.to_string() });
    }
    signing::tell_trust_changed(turn, report.trust_changed)?;
    // A device may have become known that has started a room anew.
    for room in restarts::rooms(turn.tx)? {
        in_room(turn, &room, |room| restart::look(turn, room))?;
    }
    for rejected in report.rejected {
        turn.tell(Update::DeviceRejected {
            user_id: rejected.name.user_id.to_string(),
            device_id: rejected.name.device_id.to_string(),
            code: rejected.reason.code().to_owned(),
            reason: rejected.reason.to_string(),
        });
    }
    Ok(())
}
