//! Bringing a commit of our own to the homeserver: what goes into its event, what has to be uploaded to
//! the media repository first, and its Welcomes.
//!
//! A room of up to [`TREE_INLINE`] devices says everything in events. In larger ones the ratchet tree
//! stands in the media repository, once a commit, named by the Welcomes and by the public group state;
//! and where the event would still be too large, so does the commit. Uploads come first: the event names
//! them, and exists only when all are there.

use std::collections::BTreeMap;

use openmls::group::MlsGroup;
use ruma::{
    OwnedEventId, RoomId,
    api::client::{
        media::create_content, message::send_message_event, to_device::send_event_to_device,
    },
    events::{AnyToDeviceEventContent, MessageLikeEventType, ToDeviceEventType},
    serde::Raw,
    to_device::DeviceIdOrAllDevices,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tls_codec::Serialize as _;

use super::{EpochId, EpochRecord, Turn, welcome};
use crate::{
    error::MlsError,
    protocol::{
        CONTENT_LIMIT, CommitContent, DeviceName, MediaReference, Payload, WelcomeContent,
        identifiers,
    },
    requests::{self, Purpose, REQUESTS},
    store::Collection,
};

/// Up to how many devices the ratchet tree stands in the event. A leaf takes some 230 bytes, in base64
/// 310: with the commit that leaves a margin in an event.
pub(crate) const TREE_INLINE: usize = 120;

/// The most that one `/sendToDevice` request carries, in bytes of Welcomes.
const WELCOME_BATCH: usize = 500_000;

/// A part of a commit that can stand in the media repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Part {
    /// The commit.
    Commit,
    /// The ratchet tree.
    Tree,
}

/// What a staged epoch needs besides its state, until the homeserver has answered.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct StagedCommit {
    /// SHA-256 of the commit as sent, to know it when it comes back; nothing for the announcement.
    pub(crate) commit_hash: Option<[u8; 32]>,
    /// The Welcome for the added devices.
    #[serde(with = "serde_bytes")]
    welcome: Vec<u8>,
    pub(crate) added: Vec<DeviceName>,
    /// The references of the added devices' key packages, in the same order.
    #[serde(default)]
    references: Vec<serde_bytes::ByteBuf>,
    pub(crate) removed: Vec<DeviceName>,
    /// The event to send, and which of its parts still have no URL.
    #[serde(default)]
    content: Option<CommitContent>,
    #[serde(default)]
    missing: Vec<Part>,
    /// It renews this device's keys because the app asked for that.
    #[serde(default)]
    pub(crate) rotates: bool,
}

pub(crate) const STAGED: Collection<StagedCommit> = Collection::new("staged_commit");

/// A commit of our own, merged into a namespace of its own.
#[derive(Default)]
pub(crate) struct Draft {
    /// Nothing for the announcement of a new group.
    pub(crate) commit: Option<Vec<u8>>,
    pub(crate) welcome: Vec<u8>,
    /// The added devices, with the references of their key packages.
    pub(crate) added: Vec<(DeviceName, Vec<u8>)>,
    pub(crate) removed: Vec<DeviceName>,
    pub(crate) resolves: Vec<EpochRecord>,
    pub(crate) rotates: bool,
}

/// What a commit is based on, as its event names it.
pub(crate) struct Base {
    pub(crate) creator: DeviceName,
    pub(crate) commit_event: String,
}

/// Keeps what belongs to a staged epoch and queues what has to be sent for it.
pub(crate) fn publish(
    turn: &Turn<'_>,
    room_id: &RoomId,
    epoch: &EpochRecord,
    group: &MlsGroup,
    base: Base,
    draft: Draft,
) -> Result<(), MlsError> {
    let tree_outside = epoch.members as usize > TREE_INLINE;
    let info = group.export_group_info(turn.crypto, turn.identity.signer(), !tree_outside)?;
    let commit = draft.commit.unwrap_or_default();
    let mut uploads = Vec::new();
    let mut ratchet_tree = None;
    if tree_outside {
        let tree = group
            .export_ratchet_tree()
            .tls_serialize_detached()
            .map_err(|error| MlsError::internal("ratchet_tree", error))?;
        ratchet_tree = Some(MediaReference::to(&tree));
        uploads.push((Part::Tree, tree));
    }
    let mut content = CommitContent {
        algorithm: identifiers::room_algorithm(turn.identity.ciphersuite()),
        ciphertext: Payload::inline(&commit),
        epoch_creator: base.creator,
        sender: turn.identity.name(),
        resolves: draft
            .resolves
            .iter()
            .map(|tip| (tip.number.to_string(), tip.creator.clone()))
            .collect(),
        commit_event: base.commit_event,
        public_group_state: Payload::inline(&info.to_bytes()?),
        ratchet_tree,
    };
    if size_of(&content)? > CONTENT_LIMIT && !commit.is_empty() {
        content.ciphertext = Payload::Media(MediaReference::to(&commit));
        uploads.push((Part::Commit, commit.clone()));
    }
    // With placeholders for URLs that are still to come.
    let size = size_of(&content)? + uploads.len() * LONGEST_URL;
    if size > CONTENT_LIMIT {
        let what = "the room's commit and public group state";
        return Err(MlsError::too_large(what, size, CONTENT_LIMIT));
    }
    let (added, references) = draft
        .added
        .into_iter()
        .map(|(device, reference)| (device, serde_bytes::ByteBuf::from(reference)))
        .unzip();
    let staged = StagedCommit {
        commit_hash: (!commit.is_empty()).then(|| Sha256::digest(&commit).into()),
        welcome: draft.welcome,
        added,
        references,
        removed: draft.removed,
        missing: uploads.iter().map(|(part, _)| *part).collect(),
        content: Some(content),
        rotates: draft.rotates,
    };
    for (part, bytes) in uploads {
        let mut request = create_content::v3::Request::new(bytes);
        request.content_type = Some("application/octet-stream".to_owned());
        let purpose = Purpose::Upload { room_id: room_id.to_owned(), epoch: epoch.id, part };
        requests::enqueue(turn.tx, room_id.as_bytes(), turn.now_ms, purpose, request)?;
    }
    next(turn, room_id, epoch.id, staged)
}

/// How long a media repository's URL may be, in bytes (a server name of 255, and an id).
const LONGEST_URL: usize = 600;

/// Keeps a staged commit, and queues its event when nothing is missing any more.
fn next(
    turn: &Turn<'_>,
    room_id: &RoomId,
    epoch: EpochId,
    mut staged: StagedCommit,
) -> Result<(), MlsError> {
    if staged.missing.is_empty()
        && let Some(content) = staged.content.take()
    {
        let body = to_content(&content, "the room's commit and public group state")?;
        // The Welcomes name the tree as well.
        staged.content = Some(CommitContent {
            ciphertext: Payload::Inline(String::new()),
            public_group_state: Payload::Inline(String::new()),
            ..content
        });
        let request = send_message_event::v3::Request::new_raw(
            room_id.to_owned(),
            requests::transaction_id(),
            MessageLikeEventType::RoomEncrypted,
            Raw::from_json(body),
        );
        let purpose = Purpose::Commit { room_id: room_id.to_owned(), epoch };
        requests::enqueue(turn.tx, room_id.as_bytes(), turn.now_ms, purpose, request)?;
    }
    Ok(STAGED.put(turn.tx, room_id.as_bytes(), epoch.as_bytes(), &staged)?)
}

/// A part of a staged commit is in the media repository.
pub(crate) fn uploaded(
    turn: &Turn<'_>,
    room_id: &RoomId,
    epoch: EpochId,
    part: Part,
    url: &str,
) -> Result<(), MlsError> {
    // Dropped meanwhile: nobody will ever hear of the upload.
    let Some(mut staged) = STAGED.get(turn.tx, room_id.as_bytes(), epoch.as_bytes())? else {
        return Ok(());
    };
    if !url.starts_with("mxc://") || url.len() > LONGEST_URL {
        return Err(MlsError::rejected("malformed_answer", "the answer names no mxc:// URL"));
    }
    let Some(content) = &mut staged.content else { return Ok(()) };
    let reference = match part {
        Part::Tree => content.ratchet_tree.as_mut(),
        Part::Commit => match &mut content.ciphertext {
            Payload::Media(reference) => Some(reference),
            Payload::Inline(_) => None,
        },
    };
    if let Some(reference) = reference {
        reference.url = url.to_owned();
    }
    staged.missing.retain(|missing| *missing != part);
    next(turn, room_id, epoch, staged)
}

/// The queued requests of a staged epoch, uploads included, and whether the app has seen its event: then
/// it may have reached the homeserver.
pub(crate) fn staged_requests(
    turn: &Turn<'_>,
    room_id: &RoomId,
    id: EpochId,
) -> Result<(Vec<i64>, bool), MlsError> {
    let mut requests = Vec::new();
    let mut out = false;
    for (request, queued) in REQUESTS.in_scope(turn.tx, room_id.as_bytes())? {
        match &queued.purpose {
            Purpose::Commit { epoch, .. } if *epoch == id => {
                requests.push(request);
                out |= queued.handed_out;
            }
            Purpose::Upload { epoch, .. } if *epoch == id => requests.push(request),
            _ => {}
        }
    }
    Ok((requests, out))
}

/// Queues the Welcomes of a commit, once its event has an id. Each device gets its own secrets alone, so
/// a Welcome's size does not grow with how many are added.
pub(crate) fn queue_welcomes(
    turn: &Turn<'_>,
    room_id: &RoomId,
    commit_event: &OwnedEventId,
    staged: &StagedCommit,
) -> Result<(), MlsError> {
    if staged.added.is_empty() {
        return Ok(());
    }
    let content = staged.content.as_ref();
    let mut batch = Batch::default();
    let welcomes = welcome::split(&staged.welcome, &staged.references)?;
    for (DeviceName(user, device), ciphertext) in staged.added.iter().zip(welcomes) {
        let content = WelcomeContent {
            algorithm: identifiers::welcome_algorithm(turn.identity.ciphersuite()),
            ciphertext: Payload::inline(&ciphertext),
            room_id: room_id.to_owned(),
            sender: turn.identity.name(),
            resolves: content.map(|content| content.resolves.clone()).unwrap_or_default(),
            commit_event: commit_event.clone(),
            ratchet_tree: content.and_then(|content| content.ratchet_tree.clone()),
        };
        let content = to_content(&content, "the Welcome")?;
        if batch.bytes + content.get().len() > WELCOME_BATCH {
            std::mem::take(&mut batch).queue(turn, room_id)?;
        }
        batch.bytes += content.get().len();
        batch
            .messages
            .entry(user.clone())
            .or_default()
            .insert(DeviceIdOrAllDevices::DeviceId(device.clone()), Raw::from_json(content));
    }
    batch.queue(turn, room_id)
}

/// Welcomes that go out together.
#[derive(Default)]
struct Batch {
    bytes: usize,
    messages:
        BTreeMap<ruma::OwnedUserId, BTreeMap<DeviceIdOrAllDevices, Raw<AnyToDeviceEventContent>>>,
}

impl Batch {
    fn queue(self, turn: &Turn<'_>, room_id: &RoomId) -> Result<(), MlsError> {
        if self.messages.is_empty() {
            return Ok(());
        }
        let request = send_event_to_device::v3::Request::new_raw(
            ToDeviceEventType::RoomEncrypted,
            requests::transaction_id(),
            self.messages,
        );
        let purpose = Purpose::Welcome { room_id: room_id.to_owned() };
        requests::enqueue(turn.tx, room_id.as_bytes(), turn.now_ms, purpose, request)?;
        Ok(())
    }
}

/// Serialises an event's content, or refuses if the homeserver would.
pub(crate) fn to_content(
    content: &impl Serialize,
    what: &str,
) -> Result<Box<serde_json::value::RawValue>, MlsError> {
    let body = serde_json::value::to_raw_value(content)
        .map_err(|error| MlsError::internal("event_content", error))?;
    if body.get().len() > CONTENT_LIMIT {
        return Err(MlsError::too_large(what, body.get().len(), CONTENT_LIMIT));
    }
    Ok(body)
}

fn size_of(content: &CommitContent) -> Result<usize, MlsError> {
    serde_json::to_string(content)
        .map(|text| text.len())
        .map_err(|error| MlsError::internal("event_content", error))
}
