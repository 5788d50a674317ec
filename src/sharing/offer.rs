//! Offering history to devices that this device has added.
//!
//! All members of the epoch can open the bundle, whomever it is offered to. So none is offered
//! while one of them is somebody to whom this device's user sends no messages.

use std::collections::BTreeMap;

use openmls_traits::random::OpenMlsRand;
use ruma::{
    OwnedEventId, OwnedRoomId, OwnedUserId, UserId,
    api::client::{media::create_content, to_device::send_event_to_device},
    events::ToDeviceEventType,
    serde::Raw,
    to_device::DeviceIdOrAllDevices,
};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::bundle_key::bundle_key;
use crate::{
    commits,
    epochs::graph,
    failure::Failure,
    history::restored::Source,
    messages::SendError,
    protocol::{DeviceName, EpochId, MediaReference, encode_base64, identifiers, write_content},
    rejection::Rejection,
    requests::{self, BACKUP_SCOPE, HistoryBundle, Purpose},
    room::Room,
    sessions::{SessionArray, SessionError, seal_bundle},
    turn::Turn,
};

/// The most epochs in a bundle.
const MOST_EPOCHS: usize = 200;
/// The most bytes of sessions in a bundle.
const MOST_BYTES: usize = 4_000_000;

/// How long names in an offer may be, in bytes, as all identifiers of Matrix.
pub(super) const LONGEST_NAME: usize = 255;
/// How long a media repository's URL may be, in bytes.
const LONGEST_URL: usize = 600;

/// The content of a to-device event that offers history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HistoryOffer {
    pub(super) algorithm: String,
    pub(crate) room_id: OwnedRoomId,
    pub(super) sender: DeviceName,
    /// The commit that made the epoch whose members can make the key.
    pub(super) commit_event: OwnedEventId,
    pub(super) bundle_id: String,
    pub(super) bundle: MediaReference,
}

impl HistoryOffer {
    /// Checks what can be checked of an offer by itself: who says to have sent it, and that no
    /// field is larger than it can be.
    pub(crate) fn check_form(&self, sender: &UserId) -> Result<(), Rejection> {
        if self.sender.user_id != sender {
            let reason = "the event names another user as sender";
            return Err(Rejection::SenderMismatch(reason));
        }
        let bad = |reason| Err(Rejection::BadBundle(reason));
        if self.bundle_id.len() > LONGEST_NAME
            || self.sender.device_id.as_str().len() > LONGEST_NAME
            || self.bundle.url.len() > LONGEST_URL
            || self.bundle.hash().is_none()
        {
            return bad("a field of the offer is longer than it may be, or is no hash");
        }
        // Base64 and a frame around what a bundle may hold.
        if self.bundle.size > 2 * MOST_BYTES as u64 {
            return bad("the bundle is larger than any may be");
        }
        Ok(())
    }
}

/// Offers the devices that this device has added what they may read.
pub(crate) fn offer(
    turn: &Turn<'_>,
    room: &Room,
    id: EpochId,
    added: &[DeviceName],
) -> Result<(), Failure> {
    if !room.settings.share_history || !room.history_is_open() || added.is_empty() {
        return Ok(());
    }
    if !commits::may_be_given(turn, &room.id, id)? {
        tracing::info!(room = %room.id, "no history is offered to people who are not trusted");
        return Ok(());
    }
    let Some(sessions) = sessions_to_share(turn, room, id)? else { return Ok(()) };
    let epoch = graph::get(turn.tx, &room.id, id)?;
    let random: [u8; 16] =
        turn.crypto.random_array().map_err(|error| Failure::defect("random", error))?;
    let bundle_id = encode_base64(&random);
    let key = bundle_key(turn, &room.id, &epoch, &bundle_id)?;
    let body = seal_bundle(turn.crypto, &key, &bundle_id, &sessions)
        .map_err(|error| Failure::defect("bundle", error))?;
    let bundle = HistoryBundle {
        room_id: room.id.clone(),
        epoch: id,
        devices: added.to_vec(),
        bundle_id,
        reference: MediaReference::to(&body),
    };
    let request = create_content::v3::Request::new(body);
    requests::enqueue(turn.tx, BACKUP_SCOPE, turn.now_ms, Purpose::OfferHistory(bundle), request)?;
    Ok(())
}

/// The sessions of the epochs that those added to this epoch may read, as many of the newest as
/// fit.
fn sessions_to_share(
    turn: &Turn<'_>,
    room: &Room,
    id: EpochId,
) -> Result<Option<Zeroizing<Vec<u8>>>, Failure> {
    let mut epochs = graph::readable(turn.tx, &room.id)?;
    epochs.retain(|epoch| {
        epoch.shared && epoch.id != id && !matches!(epoch.source, Source::Member(_))
    });
    epochs.drain(..epochs.len().saturating_sub(MOST_EPOCHS));
    while !epochs.is_empty() {
        let mut array = SessionArray::default();
        array.add(turn.tx, &room.id, &epochs).map_err(own_session)?;
        let json = array.to_json();
        if json.len() <= MOST_BYTES {
            return Ok(Some(json));
        }
        epochs.drain(..epochs.len().div_ceil(2));
    }
    Ok(None)
}

/// A session of this device's own epochs could not be written.
fn own_session(error: SessionError) -> Failure {
    match error {
        SessionError::Store(error) => error.into(),
        error => Failure::defect("session", error),
    }
}

/// The bundle is in the media repository: the added devices are told.
pub(crate) fn uploaded(
    turn: &Turn<'_>,
    bundle: &HistoryBundle,
    url: &str,
) -> Result<(), SendError> {
    let epoch = graph::find(turn.tx, &bundle.room_id, bundle.epoch)?;
    let Some(commit_event) = epoch.and_then(|epoch| epoch.commit_event) else { return Ok(()) };
    // Without the bundle's id nobody opens it.
    if !commits::may_be_given(turn, &bundle.room_id, bundle.epoch)? {
        return Ok(());
    }
    let offer = HistoryOffer {
        algorithm: identifiers::history_algorithm(turn.identity.ciphersuite()),
        room_id: bundle.room_id.clone(),
        sender: turn.identity.name(),
        commit_event,
        bundle_id: bundle.bundle_id.clone(),
        bundle: MediaReference { url: url.to_owned(), ..bundle.reference.clone() },
    };
    let mut messages: BTreeMap<OwnedUserId, BTreeMap<_, _>> = BTreeMap::new();
    for DeviceName { user_id, device_id } in &bundle.devices {
        let content = Raw::from_json(write_content(&offer, "the offer of history")?);
        let device = DeviceIdOrAllDevices::DeviceId(device_id.clone());
        messages.entry(user_id.clone()).or_default().insert(device, content);
    }
    let request = send_event_to_device::v3::Request::new_raw(
        ToDeviceEventType::RoomEncrypted,
        requests::transaction_id(),
        messages,
    );
    let purpose = Purpose::TellHistory { room_id: bundle.room_id.clone() };
    requests::enqueue(turn.tx, BACKUP_SCOPE, turn.now_ms, purpose, request)?;
    Ok(())
}
