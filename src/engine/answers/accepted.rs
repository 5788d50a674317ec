//! What an answer with success means, by what its request was for.

use ruma::OwnedEventId;
use serde::{Deserialize, de::DeserializeOwned};

use crate::{
    backup,
    commits::{self, outcome},
    engine::{consequences::in_room, error::EngineError, own_keys, push_rules, upkeep},
    identity,
    incoming::{catch_up, fetch, lost_tree, media, members, restart, unshown, walk},
    rejection::Rejection,
    rejoin,
    requests::{self, PausedWork, Purpose},
    secrets, sharing, signing,
    turn::Turn,
    verification::{self, Secrets},
};

#[derive(Deserialize)]
struct SentEvent {
    event_id: OwnedEventId,
}

#[derive(Deserialize)]
struct Uploaded {
    content_uri: String,
}

/// Takes in an answer with success.
pub(super) fn accepted(
    turn: &Turn<'_>,
    secrets: &Secrets,
    purpose: &Purpose,
    body: &[u8],
) -> Result<(), EngineError> {
    match purpose {
        Purpose::CheckKeys => {
            own_keys::note(turn, body, true)?;
            requests::end_pause(turn.tx, PausedWork::CheckKeys)?;
        }
        Purpose::UploadKeys(plan) => {
            own_keys::note_upload(turn, plan, body)?;
            identity::mark_uploaded(turn.tx, plan, body, turn.now_ms)?;
            requests::end_pause(turn.tx, PausedWork::UploadKeys)?;
        }
        Purpose::TakeBackKey => upkeep::took_back(turn, body)?,
        Purpose::QueryKeys(query) => upkeep::queried(turn, query, body)?,
        Purpose::ClaimKeys { room_id, devices } => {
            commits::claimed(turn, room_id, devices, body)?;
        }
        Purpose::AskSilent { room_id, devices, .. } => {
            commits::silent_answered(turn, room_id, devices, body)?;
        }
        Purpose::Commit { room_id, epoch } => {
            let SentEvent { event_id } = read(body, "the answer names no event")?;
            in_room(turn, room_id, |room| outcome::accepted(turn, room, *epoch, event_id))?;
        }
        Purpose::Restart { room_id, epoch } => {
            in_room(turn, room_id, |room| commits::restart::stated(turn, room, *epoch))?;
        }
        Purpose::FetchRestart { room_id } => {
            in_room(turn, room_id, |room| restart::answered(turn, room, body))?;
        }
        Purpose::Upload { room_id, epoch, part } => {
            commits::part_uploaded(turn, room_id, *epoch, *part, &media_url(body)?)?;
        }
        Purpose::Download { room_id, reference } => {
            media::downloaded(turn, room_id, reference, body)?;
            catch_up::go_on(turn, room_id)?;
        }
        Purpose::FetchEvent { room_id, event_id } => fetch::fetched(turn, room_id, event_id, body)?,
        Purpose::FetchEncryption { room_id, place } => {
            in_room(turn, room_id, |room| unshown::answered(turn, room, *place, body))?;
        }
        Purpose::FindGroup { room_id } => {
            in_room(turn, room_id, |room| rejoin::searched(turn, room, body))?;
        }
        Purpose::FindCommits { room_id } => walk::paged(turn, room_id, body)?,
        Purpose::FindPlace { room_id } => catch_up::placed(turn, room_id, body)?,
        Purpose::CatchUp { room_id } => catch_up::paged(turn, room_id, body)?,
        Purpose::FetchMembers { room_id } => {
            in_room(turn, room_id, |room| members::answered(turn, room, body))?;
        }
        Purpose::FollowMembers { room_id } => {
            in_room(turn, room_id, |room| members::page_came(turn, room, body))?;
        }
        Purpose::SetPushRule => push_rules::set(turn)?,
        Purpose::BackupVersion => backup::version_found(turn, body)?,
        Purpose::CreateBackup => backup::version_created(turn, body)?,
        Purpose::DeleteBackup => backup::version_deleted(turn)?,
        Purpose::BackUp(batch) => backup::uploaded(turn, batch, body)?,
        Purpose::RestoreKeys { restore } => backup::sessions_fetched(turn, *restore, body)?,
        Purpose::OfferHistory(bundle) => sharing::uploaded(turn, bundle, &media_url(body)?)?,
        Purpose::GiveTree(given) => lost_tree::uploaded(turn, given, &media_url(body)?)?,
        Purpose::ReadSecret { kind } => secrets::answered(turn, kind, Some(body))?,
        Purpose::WriteSecret { kind } => secrets::written(turn, kind)?,
        Purpose::UploadIdentity => signing::identity_uploaded(turn)?,
        Purpose::UploadSignature(signature) => signing::uploaded(turn, signature, body)?,
        Purpose::Verification { verification: id } => verification::sent(turn, secrets, id, body)?,
        Purpose::VerificationKeys { verification: id, query } => {
            verification::keys_came(turn, secrets, id, query, body)?;
        }
        Purpose::EnableEncryption { .. }
        | Purpose::HandOver { .. }
        | Purpose::Welcome { .. }
        | Purpose::DeleteFromBackup { .. }
        | Purpose::TellHistory { .. }
        | Purpose::TellTree { .. } => {}
    }
    Ok(())
}

fn read<T: DeserializeOwned>(body: &[u8], otherwise: &'static str) -> Result<T, Rejection> {
    serde_json::from_slice(body).map_err(|_| Rejection::MalformedAnswer(otherwise))
}

/// The URL that the media repository's answer to an upload names.
fn media_url(body: &[u8]) -> Result<String, Rejection> {
    let Uploaded { content_uri } = read(body, "the answer names no URL")?;
    if !commits::is_media_url(&content_uri) {
        return Err(Rejection::MalformedAnswer("the answer names no mxc:// URL"));
    }
    Ok(content_uri)
}
