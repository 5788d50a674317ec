//! Events of verifications that come in.
//!
//! Anybody can send them. A request makes a record, of which there is a bounded number; an event of
//! a verification that goes on is a step of it; one of a verification that is over changes nothing;
//! and whoever sends an event of an unknown one is told so.

use ruma::{OwnedDeviceId, UserId};

use super::{
    content::{
        CancelContent, FromDevice, Kind, LONGEST_ID, METHOD, RequestContent, TransactionOnly,
    },
    flow::{Flow, Place, Stage, To, code},
    post::{ask_for_keys, cancel_unknown},
    secrets::Secrets,
    steps::{self, Side},
    table::{self, LONGEST_MS, MOST_OF_A_USER, MOST_OPEN},
    vouch,
};
use crate::{
    exported::Update,
    failure::Failure,
    identity::Publishing,
    protocol::{DeviceName, ToDeviceEvent, parse},
    turn::Turn,
};

/// How far ahead a request's time may be, in milliseconds (Matrix spec,
/// "m.key.verification.request").
const MOST_AHEAD_MS: u64 = 5 * 60 * 1000;

/// Takes in an event that was sent to this device; tells whether it is one of a verification.
/// `homeserver_ms` is the time by the homeserver's clock, as far as it is known.
pub(crate) fn receive_to_device(
    turn: &Turn<'_>,
    secrets: &Secrets,
    homeserver_ms: u64,
    json: &str,
) -> Result<bool, Failure> {
    // Beside Olm the app's other engine verifies.
    if turn.identity.publishing() == Publishing::BesideOlm {
        return Ok(false);
    }
    let Ok(event) = parse::<ToDeviceEvent>(json, "the to-device event") else { return Ok(false) };
    let Some(kind) = Kind::of(&event.event_type) else { return Ok(false) };
    table::expire(turn, secrets)?;
    let content = event.content.get();
    let Ok(TransactionOnly { transaction_id }) = serde_json::from_str(content) else {
        return Ok(true);
    };
    if transaction_id.is_empty() || transaction_id.len() > LONGEST_ID {
        return Ok(true);
    }
    let known = table::of_transaction(turn.tx, &event.sender, &transaction_id)?;
    match (known, kind) {
        (Some(flow), _) => step(turn, secrets, flow, kind, content)?,
        (None, Kind::Request) => {
            let Ok(request) = serde_json::from_str::<RequestContent>(content) else {
                return Ok(true);
            };
            let place = Place::Devices { transaction: transaction_id };
            if let Some(age_ms) = request.timestamp.and_then(|sent| age(homeserver_ms, sent)) {
                requested(turn, secrets, &event.sender, &request, place, age_ms)?;
            }
        }
        // Nobody is told of what is over.
        (None, Kind::Cancel | Kind::Done) => {}
        (None, Kind::Start) => {
            let why = (code::UNEXPECTED, "a verification begins with a request");
            let device = from_device(content);
            cancel_unknown(turn, &event.sender, device, &transaction_id, why)?;
        }
        (None, Kind::Ready | Kind::Accept | Kind::Key | Kind::Mac) => {
            let why = (code::UNKNOWN_TRANSACTION, "this device knows of no such verification");
            let device = from_device(content);
            cancel_unknown(turn, &event.sender, device, &transaction_id, why)?;
        }
    }
    Ok(true)
}

pub(super) fn from_device(content: &str) -> Option<OwnedDeviceId> {
    serde_json::from_str::<FromDevice>(content).ok().map(|content| content.from_device)
}

/// How old a request is; nothing where it is too old, or from the future.
pub(super) fn age(homeserver_ms: u64, sent_ms: u64) -> Option<u64> {
    let age_ms = homeserver_ms.saturating_sub(sent_ms);
    let ahead_ms = sent_ms.saturating_sub(homeserver_ms);
    (age_ms <= LONGEST_MS && ahead_ms <= MOST_AHEAD_MS).then_some(age_ms)
}

pub(super) fn step(
    turn: &Turn<'_>,
    secrets: &Secrets,
    mut flow: Flow,
    kind: Kind,
    content: &str,
) -> Result<(), Failure> {
    if !flow.is_open() {
        return Ok(());
    }
    let own = turn.identity.name();
    let side = Side { own: &own, secrets };
    steps::receive(&side, &mut flow, kind, content)?;
    vouch::finish(turn, &side, &mut flow)?;
    table::save(turn, secrets, flow)
}

/// Takes in a request of somebody's.
pub(super) fn requested(
    turn: &Turn<'_>,
    secrets: &Secrets,
    user: &UserId,
    request: &RequestContent,
    place: Place,
    age_ms: u64,
) -> Result<(), Failure> {
    let device = &request.from_device;
    let own = turn.identity.name();
    let is_own_echo = *user == own.user_id && *device == own.device_id;
    if device.as_str().is_empty() || device.as_str().len() > LONGEST_ID || is_own_echo {
        return Ok(());
    }
    // With other methods another device of this user may answer.
    if !request.methods.iter().any(|method| method == METHOD) {
        return Ok(());
    }
    let open = table::open(turn.tx)?;
    if let Some(ours) = open.iter().find(|flow| is_asked_by_us(flow, user, device)) {
        return both_asked(turn, secrets, ours.clone(), request, place);
    }
    let with_device = table::with_device(turn.tx, user, device)?;
    let incoming = || open.iter().filter(|flow| flow.is_incoming);
    let of_user = incoming().filter(|flow| flow.user_id == user).count();
    if with_device.is_empty() && (incoming().count() >= MOST_OPEN || of_user >= MOST_OF_A_USER) {
        tracing::info!("a request for a verification is left out: there are too many");
        return Ok(());
    }
    let mut flow = Flow::new(table::new_id(), user.to_owned(), place, true, turn.now_ms);
    flow.began_ms = turn.now_ms.saturating_sub(age_ms);
    flow.device_id = Some(device.clone());
    if !with_device.is_empty() {
        // A device that asks twice has lost the first, or somebody plays with it.
        let reason = "the device has asked for several verifications at once";
        for mut earlier in with_device {
            earlier.cancel(code::UNEXPECTED, reason)?;
            table::save(turn, secrets, earlier)?;
        }
        flow.cancel(code::UNEXPECTED, reason)?;
        return table::save(turn, secrets, flow);
    }
    turn.tell(Update::VerificationRequested {
        verification_id: flow.id.clone(),
        user_id: user.to_string(),
        device_id: device.to_string(),
    });
    table::save(turn, secrets, flow)
}

/// Whether this device waits for that device's answer to a request of its own.
fn is_asked_by_us(flow: &Flow, user: &UserId, device: &OwnedDeviceId) -> bool {
    !flow.is_incoming
        && flow.user_id == user
        && match flow.stage {
            Stage::Requested if matches!(flow.place, Place::Room { .. }) => true,
            Stage::Requested => flow.asked.contains(device),
            Stage::Asking => flow.wanted.as_ref().is_none_or(|wanted| wanted == device),
            _ => false,
        }
}

/// Both sides have asked. The request of the smaller user or device counts, and the other side
/// takes it for the answer to its own: its user wants to verify, and has said so.
fn both_asked(
    turn: &Turn<'_>,
    secrets: &Secrets,
    mut ours: Flow,
    request: &RequestContent,
    place: Place,
) -> Result<(), Failure> {
    let own: DeviceName = turn.identity.name();
    let theirs = DeviceName::new(ours.user_id.clone(), request.from_device.clone());
    if matches!(ours.stage, Stage::Requested)
        && (&own.user_id, &own.device_id) < (&theirs.user_id, &theirs.device_id)
    {
        return Ok(());
    }
    let others: Vec<_> =
        ours.asked.iter().filter(|device| **device != request.from_device).cloned().collect();
    if !others.is_empty() {
        let reason = "another device of the user has asked as well".to_owned();
        let content = CancelContent { code: code::ACCEPTED.to_owned(), reason };
        ours.post_to(Kind::Cancel, &content, To::Devices(others))?;
    }
    ours.place = place;
    ours.is_incoming = true;
    ours.device_id = Some(request.from_device.clone());
    steps::accept(&Side { own: &own, secrets }, &mut ours)?;
    ask_for_keys(turn, &ours)?;
    table::save(turn, secrets, ours)
}
