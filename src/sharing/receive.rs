//! Taking history that a member offers.

use ruma::{RoomId, UserId};

use super::{
    bundle_key::bundle_key,
    offer::HistoryOffer,
    waiting::{self, WaitingOffer},
    wanted,
};
use crate::{
    backup,
    epochs::{EpochRecord, Status, graph},
    exported::Update,
    failure::{EndsTurn, Failure},
    history::archive,
    incoming::{Awaited, EventError, media},
    protocol::credential,
    rejection::Rejection,
    room::{self, Retention, membership},
    sessions::{BundleError, Kept, SealedError, SessionError, Sessions, open_bundle},
    turn::Turn,
};

/// Takes history that somebody offers. What is missing yet is waited for.
pub(crate) fn receive(
    turn: &Turn<'_>,
    sender: &UserId,
    offer: &HistoryOffer,
) -> Result<(), EventError> {
    match turn.atomically(|| take(turn, sender, offer)) {
        Err(error @ EventError::Awaits(_)) => {
            waiting::keep(turn, sender, offer)?;
            Err(error)
        }
        result => result,
    }
}

/// Tries the offers of a room that wait.
pub(crate) fn retry(turn: &Turn<'_>, room: &RoomId) -> Result<(), EventError> {
    for WaitingOffer { sender, offer, .. } in waiting::list(turn, room)? {
        match turn.atomically(|| take(turn, &sender, &offer)) {
            Err(error) if error.ends_turn() => return Err(error),
            Err(EventError::Awaits(_)) => continue,
            Err(error) => tracing::info!(room = %room, %error, "offered history not taken"),
            Ok(()) => {}
        }
        waiting::remove(turn, &offer)?;
    }
    Ok(())
}

fn take(turn: &Turn<'_>, sender: &UserId, offer: &HistoryOffer) -> Result<(), EventError> {
    let room = &*offer.room_id;
    let epoch = check(turn, sender, offer)?;
    let blob = media::blob(turn, room, &offer.bundle)?;
    media::used(turn, room, offer.bundle.hash())?;
    let key = bundle_key(turn, room, &epoch, &offer.bundle_id)?;
    let sessions = open_bundle(turn.crypto, &key, &offer.bundle_id, &blob, &offer.sender)
        .map_err(what_is_wrong)?;
    let epochs = keep(turn, room, sessions)?;
    wanted::came(turn, room)?;
    if epochs > 0 {
        turn.tell(Update::HistoryShared {
            room_id: room.to_string(),
            by: (&offer.sender).into(),
            epochs,
        });
    }
    Ok(())
}

/// Checks who offers, and that this device can make the bundle's key; gives the epoch that makes
/// it.
fn check(
    turn: &Turn<'_>,
    sender: &UserId,
    offer: &HistoryOffer,
) -> Result<EpochRecord, EventError> {
    let room = &*offer.room_id;
    offer.check_form(sender)?;
    // Said before anything is fetched or waited for.
    if room::load(turn.tx, room)?.settings.history == Retention::ReadOnce {
        return Err(Rejection::ReadOnce.into());
    }
    let epoch = match graph::by_event(turn.tx, room, &offer.commit_event)? {
        None => graph::by_hint(turn.tx, room, &offer.commit_event, &offer.sender)?,
        epoch => epoch,
    };
    let Some(epoch) = epoch.filter(|epoch| epoch.status == Status::Accepted) else {
        let reason = "this device is not in that epoch yet".to_owned();
        return Err(EventError::Awaits(Awaited::Group(reason)));
    };
    if !membership::is_joined(turn.tx, room, sender)? {
        return Err(EventError::Awaits(Awaited::Sender));
    }
    let name = credential::encode(&offer.sender);
    let mut is_member = false;
    for (_, leaf) in archive::leaves(turn.tx, room, epoch.id)? {
        is_member |= leaf.credential()?.serialized_content() == name;
    }
    if !is_member || !epoch.full {
        return Err(Rejection::NotAMember("the sender is not in that epoch").into());
    }
    Ok(epoch)
}

fn what_is_wrong(error: BundleError) -> EventError {
    match error {
        BundleError::Form => {
            Rejection::BadBundle("the bundle is not in the form it should have").into()
        }
        BundleError::Sealed(error @ (SealedError::Form | SealedError::Mac)) => {
            Rejection::DamagedSession(error.to_string()).into()
        }
        BundleError::Sealed(error) => Failure::defect("backup", error).into(),
    }
}

/// Keeps the sessions of this room; tells how many epochs became readable.
fn keep(turn: &Turn<'_>, room: &RoomId, sessions: Sessions) -> Result<u64, Failure> {
    let mut epochs = 0;
    for session in sessions {
        let taken = session.and_then(|(of, session)| {
            if of != room {
                return Err(SessionError::OtherRoom);
            }
            backup::keep_session(turn, room, session)
        });
        match taken {
            Ok(Kept::NewEpoch(id)) => {
                epochs += 1;
                backup::note_epoch(turn, room, id)?;
            }
            Ok(_) => {}
            Err(SessionError::Store(error)) => return Err(error.into()),
            Err(error) => tracing::warn!(%error, "a shared session was left out"),
        }
    }
    Ok(epochs)
}
