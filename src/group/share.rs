//! History for those who come later: whoever adds devices sends them the exports of epochs that the room lets
//! them read.
//!
//! Which those are the room's history visibility says, at the time of the epoch: an epoch counts when it was
//! `shared` or `world_readable` from its first moment to its last, and a change begins a new epoch. The
//! exports go as one bundle to the media repository, sealed with a key that only members of the new epoch can
//! make (the MLS exporter, RFC 9420 §8.5), and a to-device event names it to the added devices. It is bounded,
//! newest epochs first.
//!
//! What comes is one member's word: who sent which message is told by leaves that the member has sent. So
//! messages of such epochs say who shared them, and one whose key is not its device's is refused.

use openmls_traits::random::OpenMlsRand;
use ruma::{
    OwnedEventId, OwnedRoomId, OwnedUserId, RoomId, UserId,
    api::client::{media::create_content, to_device::send_event_to_device},
    events::ToDeviceEventType,
    serde::Raw,
    to_device::DeviceIdOrAllDevices,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use zeroize::Zeroizing;

use super::{
    EpochId, EpochRecord, Status, Turn, graph, head, media, publish::to_content, rooms,
    turn::load_group,
};
use crate::{
    backup::{self, BackupKey, SessionError, Taken},
    error::MlsError,
    history::{archive, restored::Source},
    protocol::{DeviceName, MediaReference, credential, encode_base64, identifiers},
    requests::{self, BACKUP_SCOPE, Purpose},
    store::Collection,
    updates::Update,
};

/// The most epochs in a bundle.
const MOST_EPOCHS: usize = 200;
/// The most bytes of sessions in a bundle.
const MOST_BYTES: usize = 4_000_000;
/// How many offers of one room wait for what they need.
const MOST_PENDING: u64 = 8;
/// The exporter's label.
const LABEL: &str = "org.matrix.msc2883.v1.dmls.history";

/// The content of a to-device event that offers history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HistoryOffer {
    algorithm: String,
    pub(crate) room_id: OwnedRoomId,
    sender: DeviceName,
    /// The commit that made the epoch whose members can make the key.
    commit_event: OwnedEventId,
    bundle_id: String,
    bundle: MediaReference,
}

/// An offer under way to the media repository.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Bundle {
    pub(crate) room_id: OwnedRoomId,
    epoch: EpochId,
    devices: Vec<DeviceName>,
    bundle_id: String,
    reference: MediaReference,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Pending {
    sender: OwnedUserId,
    offer: HistoryOffer,
}

const PENDING: Collection<Pending> = Collection::new("pending_history");

/// Whether who comes later may read what was said under this visibility.
pub(crate) fn is_open(visibility: Option<&str>) -> bool {
    matches!(visibility, Some("shared" | "world_readable"))
}

/// The room's history visibility is this from now on.
pub(crate) fn visibility_changed(
    turn: &Turn<'_>,
    room_id: &RoomId,
    visibility: String,
) -> Result<(), MlsError> {
    let mut room = rooms::get(turn.tx, room_id)?;
    let before = room.visibility.replace(visibility);
    let open = is_open(room.visibility.as_deref());
    if is_open(before.as_deref()) != open {
        // What the running epochs hold is of both kinds from here on.
        for mut epoch in head::kept(turn.tx, &room)? {
            if epoch.shared {
                epoch.shared = false;
                graph::put(turn.tx, room_id, &epoch)?;
            }
        }
        room.rotate |= room.settings.share_history && room.head.is_some();
    }
    Ok(rooms::put(turn.tx, &room)?)
}

/// The bundle's key: every member of the epoch can make it, and nobody else.
fn key(
    turn: &Turn<'_>,
    room_id: &RoomId,
    epoch: &EpochRecord,
    bundle_id: &str,
) -> Result<BackupKey, MlsError> {
    let group = load_group(&turn.provider(epoch.namespace), room_id)?;
    let secret = group
        .export_secret(turn.crypto, LABEL, bundle_id.as_bytes(), 32)
        .map_err(|error| MlsError::internal("exporter", error))?;
    Ok(BackupKey::from_bytes(&Zeroizing::new(secret))?)
}

/// This device has added others: they are offered what they may read.
pub(crate) fn offer(
    turn: &Turn<'_>,
    room_id: &RoomId,
    id: EpochId,
    added: &[DeviceName],
) -> Result<(), MlsError> {
    let room = rooms::get(turn.tx, room_id)?;
    let wanted = room.settings.share_history && is_open(room.visibility.as_deref());
    if !wanted || added.is_empty() {
        return Ok(());
    }
    let mut epochs = backup::readable(turn.tx, room_id)?;
    epochs.retain(|epoch| {
        epoch.shared && epoch.id != id && !matches!(epoch.source, Source::Member(_))
    });
    epochs.drain(..epochs.len().saturating_sub(MOST_EPOCHS));
    let json = loop {
        if epochs.is_empty() {
            return Ok(());
        }
        let json = backup::bundle(turn.tx, room_id, &epochs)?;
        if json.len() <= MOST_BYTES {
            break json;
        }
        epochs.drain(..epochs.len().div_ceil(2));
    };
    let epoch = graph::get(turn.tx, room_id, id)?;
    let random: [u8; 16] =
        turn.crypto.random_array().map_err(|error| MlsError::internal("random", error))?;
    let bundle_id = encode_base64(&random);
    let body =
        backup::seal_bundle(turn, &key(turn, room_id, &epoch, &bundle_id)?, &bundle_id, &json)?;
    let bundle = Bundle {
        room_id: room_id.to_owned(),
        epoch: id,
        devices: added.to_vec(),
        bundle_id,
        reference: MediaReference::to(&body),
    };
    let request = create_content::v3::Request::new(body);
    requests::enqueue(turn.tx, BACKUP_SCOPE, turn.now_ms, Purpose::OfferHistory(bundle), request)?;
    Ok(())
}

/// The bundle is in the media repository: the added devices are told.
pub(crate) fn uploaded(turn: &Turn<'_>, bundle: &Bundle, url: &str) -> Result<(), MlsError> {
    let room_id = &*bundle.room_id;
    let epoch = graph::find(turn.tx, room_id, bundle.epoch)?;
    let Some(commit_event) = epoch.and_then(|epoch| epoch.commit_event) else { return Ok(()) };
    let offer = HistoryOffer {
        algorithm: identifiers::history_algorithm(turn.identity.ciphersuite()),
        room_id: room_id.to_owned(),
        sender: turn.identity.name(),
        commit_event,
        bundle_id: bundle.bundle_id.clone(),
        bundle: MediaReference { url: url.to_owned(), ..bundle.reference.clone() },
    };
    let mut messages: BTreeMap<OwnedUserId, BTreeMap<_, _>> = BTreeMap::new();
    for DeviceName(user, device) in &bundle.devices {
        let content = Raw::from_json(to_content(&offer, "the offer of history")?);
        let device = DeviceIdOrAllDevices::DeviceId(device.clone());
        messages.entry(user.clone()).or_default().insert(device, content);
    }
    let request = send_event_to_device::v3::Request::new_raw(
        ToDeviceEventType::RoomEncrypted,
        requests::transaction_id(),
        messages,
    );
    let purpose = Purpose::TellHistory { room_id: room_id.to_owned() };
    requests::enqueue(turn.tx, BACKUP_SCOPE, turn.now_ms, purpose, request)?;
    Ok(())
}

/// Somebody offers history. What is missing yet is waited for.
pub(crate) fn receive(
    turn: &Turn<'_>,
    sender: &UserId,
    offer: &HistoryOffer,
) -> Result<(), MlsError> {
    match turn.part(|| take(turn, sender, offer)) {
        Err(error @ MlsError::UnknownEpoch { .. }) => {
            let room = offer.room_id.as_bytes();
            if PENDING.count(turn.tx, room)? >= MOST_PENDING {
                PENDING.delete_scope(turn.tx, room)?;
            }
            let pending = Pending { sender: sender.to_owned(), offer: offer.clone() };
            PENDING.put(turn.tx, room, offer.bundle_id.as_bytes(), &pending)?;
            Err(error)
        }
        result => result,
    }
}

/// Tries the offers of a room that wait.
pub(crate) fn retry(turn: &Turn<'_>, room_id: &RoomId) -> Result<(), MlsError> {
    for Pending { sender, offer } in PENDING.list(turn.tx, room_id.as_bytes())? {
        match turn.part(|| take(turn, &sender, &offer)) {
            Err(error) if error.stops_everything() => return Err(error),
            Err(MlsError::UnknownEpoch { .. }) => continue,
            Err(error) => {
                tracing::info!(room = %room_id, code = error.code(), "offered history not taken");
            }
            Ok(()) => {}
        }
        PENDING.delete(turn.tx, room_id.as_bytes(), offer.bundle_id.as_bytes())?;
    }
    Ok(())
}

fn take(turn: &Turn<'_>, sender: &UserId, offer: &HistoryOffer) -> Result<(), MlsError> {
    let room_id = &*offer.room_id;
    if offer.sender.0 != sender {
        return Err(MlsError::rejected(
            "sender_mismatch",
            "the event names another user as sender",
        ));
    }
    let epoch = graph::by_event(turn.tx, room_id, &offer.commit_event)?;
    let Some(epoch) = epoch.filter(|epoch| epoch.status == Status::Accepted) else {
        return Err(MlsError::awaited("no_group_yet", "this device is not in that epoch yet"));
    };
    if !rooms::is_joined(turn.tx, room_id, sender)? {
        return Err(MlsError::awaited("stranger", "the sender is not known to be in the room"));
    }
    let name = credential::encode(&offer.sender);
    let mut member = false;
    for (_, leaf) in archive::leaves(turn.tx, room_id, epoch.id)? {
        member |= leaf.credential()?.serialized_content() == name;
    }
    if !member || !epoch.full {
        return Err(MlsError::rejected("not_a_member", "the sender is not in that epoch"));
    }
    // Base64 and a frame around what a bundle may hold.
    if offer.bundle.size > 2 * MOST_BYTES as u64 {
        return Err(MlsError::rejected("bad_bundle", "the bundle is larger than any may be"));
    }
    let blob = media::blob(turn, room_id, &offer.bundle)?;
    media::used(turn, room_id, offer.bundle.hash())?;
    let key = key(turn, room_id, &epoch, &offer.bundle_id)?;
    let sessions = backup::open_bundle(turn, &key, &offer.bundle_id, &blob, &offer.sender)?;
    let mut epochs = 0;
    for session in sessions {
        let taken = session.and_then(|(room, session)| {
            if room != room_id {
                return Err(SessionError::OtherRoom);
            }
            session.take(turn.tx, room_id)
        });
        match taken {
            Ok(Taken::NewEpoch(id)) => {
                epochs += 1;
                backup::note_epoch(turn, room_id, id)?;
            }
            Ok(_) => {}
            Err(SessionError::Store(error)) => return Err(error.into()),
            Err(error) => tracing::warn!(code = error.code(), "a shared session was left out"),
        }
    }
    if epochs > 0 {
        turn.tell(Update::HistoryShared {
            room_id: room_id.to_string(),
            by: offer.sender.to_string(),
            epochs,
        });
        super::timeline::stir(turn, room_id)?;
    }
    Ok(())
}
