//! The homeserver's answer about the keys of somebody who is verified.

use ruma::{OwnedDeviceId, UserId};
use serde_bytes::ByteBuf;
use serde_json::json;

use super::{
    content::{Kind, METHOD, RequestContent},
    error::VerificationError,
    flow::{Flow, Parcel, Place, Stage, To, code},
    post::ROOM_MESSAGE,
    secrets::Secrets,
    steps::Side,
    table, vouch,
};
use crate::{
    devices::{self, KeyQuery},
    exported::Update,
    failure::Failure,
    signing,
    turn::Turn,
};

/// How many devices are asked at once. Whoever has more names the one to verify.
const MOST_ASKED: usize = 500;

/// Takes in the answer: asks the other user's devices, or ends what has waited for their keys.
pub(crate) fn answered(
    turn: &Turn<'_>,
    secrets: &Secrets,
    id: &str,
    query: &KeyQuery,
    body: &[u8],
) -> Result<(), VerificationError> {
    let own = turn.identity.name();
    let Some(mut flow) = table::find(turn.tx, id)? else { return Ok(()) };
    if flow.user_id != own.user_id {
        take_in(turn, query, &own.user_id, body)?;
    }
    let published = take_in(turn, query, &flow.user_id, body)?;
    if !flow.is_open() {
        return Ok(());
    }
    let Some(devices) = published else {
        let (code, reason) = match flow.stage {
            Stage::Asking => ("no_device", "the other user's homeserver does not answer"),
            _ => (code::KEY_MISMATCH, "the homeserver does not hand the other side's keys out"),
        };
        flow.cancel(code, reason)?;
        return Ok(table::save(turn, secrets, flow)?);
    };
    flow.keys = Some(devices);
    match flow.stage {
        Stage::Asking => match flow.place {
            Place::Devices { .. } => ask_devices(turn, &mut flow)?,
            Place::Room { .. } => ask_in_room(turn, &mut flow),
        },
        _ if flow.device_id.is_some() && flow.their_key().is_none() => {
            flow.cancel(code::KEY_MISMATCH, "the homeserver lists no such device with good keys")?;
        }
        _ => vouch::finish(turn, &Side { own: &own, secrets }, &mut flow)?,
    }
    Ok(table::save(turn, secrets, flow)?)
}

/// The homeserver has refused to say.
pub(crate) fn refused(turn: &Turn<'_>, secrets: &Secrets, id: &str) -> Result<(), Failure> {
    let Some(mut flow) = table::find(turn.tx, id)? else { return Ok(()) };
    flow.cancel("refused", "the homeserver does not hand the other side's keys out")?;
    table::save(turn, secrets, flow)
}

type Keys = Vec<(OwnedDeviceId, ByteBuf)>;

fn take_in(
    turn: &Turn<'_>,
    query: &KeyQuery,
    user: &UserId,
    body: &[u8],
) -> Result<Option<Keys>, VerificationError> {
    let published = devices::take_in_published(turn.tx, query, user, body, turn.now_ms)?;
    let Some(published) = published else { return Ok(None) };
    if published.trust_changed {
        signing::tell_trust_changed(turn, [user.to_owned()])?;
    }
    if published.identity_is_news {
        turn.tell(Update::IdentityChanged { user_id: user.to_string() });
    }
    Ok(Some(published.devices.into_iter().collect()))
}

/// Asks the other user in a room.
fn ask_in_room(turn: &Turn<'_>, flow: &mut Flow) {
    let content = json!({
        "msgtype": Kind::Request.event_type(),
        "body": "This is a request to verify your keys, which your app cannot answer.",
        "from_device": turn.identity.name().device_id,
        "methods": [METHOD],
        "to": flow.user_id,
    });
    let event_type = ROOM_MESSAGE.to_owned();
    flow.outbox.push(Parcel { event_type, content: content.to_string(), to: To::All });
    flow.stage = Stage::Requested;
}

/// Asks the other user's devices, or the one that this user has named.
fn ask_devices(turn: &Turn<'_>, flow: &mut Flow) -> Result<(), Failure> {
    let own = turn.identity.name();
    let is_meant = |device: &OwnedDeviceId| {
        let is_this_one = flow.user_id == own.user_id && *device == own.device_id;
        !is_this_one && flow.wanted.as_ref().is_none_or(|wanted| wanted == device)
    };
    let known = flow.keys.iter().flatten().map(|(device, _)| device);
    let asked: Vec<_> = known.filter(|device| is_meant(device)).cloned().collect();
    if asked.is_empty() || asked.len() > MOST_ASKED {
        let reason = if asked.is_empty() {
            "the homeserver lists no other device of the user"
        } else {
            "the user has too many devices to ask them all"
        };
        return flow.cancel("no_device", reason);
    }
    flow.asked = asked;
    let content = RequestContent {
        from_device: own.device_id,
        methods: vec![METHOD.to_owned()],
        timestamp: Some(turn.now_ms),
    };
    flow.post(Kind::Request, &content)?;
    flow.stage = Stage::Requested;
    Ok(())
}
