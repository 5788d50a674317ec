//! The steps of a verification: what each event of the other side does, and each act of the user.
//!
//! Plain functions of the record, the event and the keys in memory. An event that does not fit
//! where the verification stands ends it, as the specification asks. The very same event again
//! changes nothing, whenever it comes.

use ruma::UserId;
use serde::de::DeserializeOwned;

use super::{
    content::{
        AcceptContent, CancelContent, KeyContent, Kind, METHOD, MacContent, ReadyContent,
        StartContent,
    },
    flow::{Flow, Place, Stage, To, canonical, code, commitment},
    secrets::{Parties, Secrets},
};
use crate::{failure::Failure, protocol::DeviceName};

/// What the steps of a verification have at hand.
pub(super) struct Side<'a> {
    pub(super) own: &'a DeviceName,
    pub(super) secrets: &'a Secrets,
}

/// Takes in an event of the other side. The content is known to belong to this verification.
pub(super) fn receive(
    side: &Side<'_>,
    flow: &mut Flow,
    kind: Kind,
    content: &str,
) -> Result<(), Failure> {
    if !flow.is_open() || flow.is_repeated(kind, content) {
        return Ok(());
    }
    match kind {
        // The same transaction is asked for once.
        Kind::Request => Ok(()),
        Kind::Ready => match parse(content) {
            Some(content) => ready(flow, &content),
            None => invalid(flow),
        },
        Kind::Start => match (parse(content), canonical(content)) {
            (Some(content), Some(text)) => start_came(side, flow, &content, &text),
            _ => invalid(flow),
        },
        Kind::Accept => match parse(content) {
            Some(content) => accept_came(side, flow, content),
            None => invalid(flow),
        },
        Kind::Key => match parse(content) {
            Some(content) => key_came(side, flow, &content),
            None => invalid(flow),
        },
        Kind::Mac => match parse(content) {
            Some(content) => mac_came(flow, content),
            None => invalid(flow),
        },
        // What this side has checked itself counts; the other side's word adds nothing.
        Kind::Done => Ok(()),
        Kind::Cancel => cancel_came(flow, parse(content)),
    }
}

fn parse<T: DeserializeOwned>(content: &str) -> Option<T> {
    serde_json::from_str(content).ok()
}

fn invalid(flow: &mut Flow) -> Result<(), Failure> {
    flow.cancel(code::INVALID, "the event cannot be read")
}

fn unexpected(flow: &mut Flow) -> Result<(), Failure> {
    flow.cancel(code::UNEXPECTED, "the event does not fit where the verification stands")
}

/// The user wants it too: answers the request.
pub(super) fn accept(side: &Side<'_>, flow: &mut Flow) -> Result<(), Failure> {
    let from_device = side.own.device_id.clone();
    flow.post(Kind::Ready, &ReadyContent { from_device, methods: vec![METHOD.to_owned()] })?;
    flow.stage = Stage::Ready;
    Ok(())
}

fn ready(flow: &mut Flow, content: &ReadyContent) -> Result<(), Failure> {
    if flow.is_incoming || !matches!(flow.stage, Stage::Requested) {
        // A second device of the other user may answer before it hears that the first has.
        let is_other = flow.device_id.as_ref() != Some(&content.from_device);
        return if !flow.is_incoming && is_other { Ok(()) } else { unexpected(flow) };
    }
    let is_asked = match flow.place {
        Place::Devices { .. } => flow.asked.contains(&content.from_device),
        Place::Room { .. } => {
            flow.keys.iter().flatten().any(|(device, _)| *device == content.from_device)
        }
    };
    if !is_asked {
        // Nobody has asked this device, whatever the homeserver says.
        return Ok(());
    }
    let others: Vec<_> =
        flow.asked.iter().filter(|device| **device != content.from_device).cloned().collect();
    if !others.is_empty() {
        let reason = "another device of the user has accepted".to_owned();
        let content = CancelContent { code: code::ACCEPTED.to_owned(), reason };
        flow.post_to(Kind::Cancel, &content, To::Devices(others))?;
    }
    flow.device_id = Some(content.from_device.clone());
    if !content.methods.iter().any(|method| method == METHOD) {
        return flow.cancel(code::UNKNOWN_METHOD, "the devices have no method in common");
    }
    flow.stage = Stage::Ready;
    Ok(())
}

/// The user wants to compare: begins the exchange.
pub(super) fn start(side: &Side<'_>, flow: &mut Flow) -> Result<(), Failure> {
    let content = StartContent::new(side.own.device_id.clone());
    let text = canonical(&flow.addressed(&content)?.to_string())
        .ok_or_else(|| Failure::defect("verification", "a start has no canonical form"))?;
    flow.post(Kind::Start, &content)?;
    flow.stage = Stage::Started { start: text };
    Ok(())
}

fn start_came(
    side: &Side<'_>,
    flow: &mut Flow,
    content: &StartContent,
    text: &str,
) -> Result<(), Failure> {
    if flow.device_id.as_ref() != Some(&content.from_device) {
        return unexpected(flow);
    }
    match flow.stage {
        Stage::Ready => {}
        // Both have begun. That of the smaller user or device counts.
        Stage::Started { .. } => {
            if content.method != METHOD {
                return unexpected(flow);
            }
            if is_smaller(side.own, &flow.user_id, content) {
                return Ok(());
            }
        }
        _ => return unexpected(flow),
    }
    if !content.is_supported() {
        return flow.cancel(code::UNKNOWN_METHOD, "the devices have no method in common");
    }
    let emojis = content.has_emojis();
    let commitment = commitment(&side.secrets.public_key(&flow.id), text);
    flow.post(Kind::Accept, &AcceptContent::new(commitment, emojis))?;
    flow.stage = Stage::Accepted { emojis };
    Ok(())
}

fn is_smaller(own: &DeviceName, their_user: &UserId, content: &StartContent) -> bool {
    (&*own.user_id, &*own.device_id) < (their_user, &*content.from_device)
}

fn accept_came(side: &Side<'_>, flow: &mut Flow, content: AcceptContent) -> Result<(), Failure> {
    let Stage::Started { start } = &flow.stage else { return unexpected(flow) };
    if !content.is_supported() {
        return flow.cancel(code::UNKNOWN_METHOD, "the devices have no method in common");
    }
    let start = start.clone();
    flow.post(Kind::Key, &KeyContent { key: side.secrets.public_key(&flow.id) })?;
    let emojis = content.has_emojis();
    flow.stage = Stage::KeySent { start, commitment: content.commitment, emojis };
    Ok(())
}

fn key_came(side: &Side<'_>, flow: &mut Flow, content: &KeyContent) -> Result<(), Failure> {
    let (we_started, emojis) = match &flow.stage {
        Stage::Accepted { emojis } => (false, *emojis),
        Stage::KeySent { start, commitment: promised, emojis } => {
            if commitment(&content.key, start) != *promised {
                let reason = "the key is not the one that was committed to";
                return flow.cancel(code::COMMITMENT, reason);
            }
            (true, *emojis)
        }
        _ => return unexpected(flow),
    };
    if !side.secrets.agree(&flow.id, &content.key) {
        return flow.cancel(code::INVALID, "the key is no key");
    }
    if !we_started {
        flow.post(Kind::Key, &KeyContent { key: side.secrets.public_key(&flow.id) })?;
    }
    let Some(their_device) = &flow.device_id else { return unexpected(flow) };
    let own = (side.own.user_id.as_str(), side.own.device_id.as_str());
    let theirs = (flow.user_id.as_str(), their_device.as_str());
    let (starter, other) = if we_started { (own, theirs) } else { (theirs, own) };
    let parties = Parties { starter, other, transaction: flow.transaction(), we_started };
    let Some((numbers, decimals)) = side.secrets.strings(&flow.id, &parties) else {
        return Err(Failure::defect("verification", "the keys of a verification are gone"));
    };
    let numbers = emojis.then_some(numbers);
    flow.stage = Stage::Comparing { numbers, decimals, their_mac: None };
    Ok(())
}

fn mac_came(flow: &mut Flow, content: MacContent) -> Result<(), Failure> {
    match &mut flow.stage {
        Stage::Comparing { their_mac, .. } | Stage::Confirmed { their_mac }
            if their_mac.is_none() =>
        {
            *their_mac = Some(content);
            Ok(())
        }
        _ => unexpected(flow),
    }
}

fn cancel_came(flow: &mut Flow, content: Option<CancelContent>) -> Result<(), Failure> {
    let content = content.unwrap_or(CancelContent {
        code: code::INVALID.to_owned(),
        reason: "a cancellation that cannot be read".to_owned(),
    });
    // One of several devices has declined for its user: the others need not ask any more.
    if !flow.is_incoming && flow.device_id.is_none() && flow.asked.len() > 1 {
        flow.post(Kind::Cancel, &content)?;
    }
    flow.end(&content.code, &content.reason, false);
    Ok(())
}
