//! What an app asks of a verification.

use ruma::{OwnedDeviceId, OwnedRoomId, UserId};

use super::{
    error::VerificationError,
    flow::{Flow, Place, Stage, code},
    post::ask_for_keys,
    secrets::Secrets,
    steps::{self, Side},
    table::{self, MOST_OPEN},
    vouch,
};
use crate::{identity::Publishing, requests, turn::Turn};

/// What the user does about a verification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    Accept,
    Start,
    Confirm,
    Mismatch,
    Cancel,
}

/// Asks a user's devices, or one of them, or the user in a room, for a verification; its id.
pub(crate) fn request(
    turn: &Turn<'_>,
    secrets: &Secrets,
    user: &UserId,
    device: Option<OwnedDeviceId>,
    room: Option<OwnedRoomId>,
) -> Result<String, VerificationError> {
    if turn.identity.publishing() == Publishing::BesideOlm {
        return Err(VerificationError::BesideOlm);
    }
    let own = turn.identity.name();
    if own.user_id == user && device.as_ref() == Some(&own.device_id) {
        return Err(VerificationError::OwnDevice);
    }
    if own.user_id == user && room.is_some() {
        return Err(VerificationError::OwnUser);
    }
    table::expire(turn, secrets)?;
    // What others have asked for keeps nobody from asking.
    let own_count = table::open(turn.tx)?.iter().filter(|flow| !flow.is_incoming).count();
    if own_count >= MOST_OPEN {
        return Err(VerificationError::TooMany);
    }
    let place = match room {
        Some(room_id) => Place::Room { room_id, request: None },
        None => Place::Devices { transaction: requests::transaction_id().to_string() },
    };
    let mut flow = Flow::new(table::new_id(), user.to_owned(), place, false, turn.now_ms);
    flow.wanted = device;
    let id = flow.id.clone();
    ask_for_keys(turn, &flow)?;
    table::save(turn, secrets, flow)?;
    Ok(id)
}

/// Does what the user has decided.
pub(crate) fn act(
    turn: &Turn<'_>,
    secrets: &Secrets,
    id: &str,
    act: Act,
) -> Result<(), VerificationError> {
    table::expire(turn, secrets)?;
    let mut flow = table::find(turn.tx, id)?.ok_or(VerificationError::Unknown)?;
    let own = turn.identity.name();
    let side = Side { own: &own, secrets };
    match act {
        Act::Accept => {
            if !(flow.is_incoming && matches!(flow.stage, Stage::Requested)) {
                return Err(VerificationError::NotNow("a request of the other side's"));
            }
            steps::accept(&side, &mut flow)?;
            ask_for_keys(turn, &flow)?;
        }
        Act::Start => {
            if !matches!(flow.stage, Stage::Ready) {
                return Err(VerificationError::NotNow("ready to begin"));
            }
            steps::start(&side, &mut flow)?;
        }
        Act::Confirm | Act::Mismatch if !matches!(flow.stage, Stage::Comparing { .. }) => {
            return Err(VerificationError::NotNow("at the comparison"));
        }
        Act::Confirm => {
            vouch::confirm(turn, &side, &mut flow)?;
            vouch::finish(turn, &side, &mut flow)?;
        }
        Act::Mismatch => {
            flow.cancel(code::SAS, "the two devices show different things")?;
        }
        Act::Cancel => flow.cancel(code::USER, "the user has cancelled the verification")?,
    }
    Ok(table::save(turn, secrets, flow)?)
}
