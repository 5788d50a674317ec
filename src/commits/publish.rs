//! Bringing a commit of this device's own to the homeserver: what goes into its event, and what has
//! to be uploaded to the media repository first.
//!
//! Bytes decide. A room whose ratchet tree has up to [`MOST_INLINE_TREE`] bytes says everything in
//! events. In larger rooms, or with longer ids, the event has what differs from a tree in the media
//! repository, or the tree is uploaded (`ratchet_trees`), and the Welcomes name the same. Where the
//! event would still be too large, the commit is uploaded as well. Uploads come first: the event
//! names them, and exists only when all are there.

use openmls::group::MlsGroup;
use ruma::{
    RoomId,
    api::client::{media::create_content, message::send_message_event},
    events::MessageLikeEventType,
    serde::Raw,
};
use sha2::{Digest, Sha256};
use tls_codec::Serialize as _;

use super::staged::{self, StagedCommit};
use crate::{
    epochs::EpochRecord,
    failure::Failure,
    messages::SendError,
    mls::Removed,
    protocol::{
        CONTENT_LIMIT, CommitContent, ContentError, DeviceName, EpochId, MediaReference, Payload,
        TreeDifference, encode_base64, identifiers, write_content,
    },
    ratchet_trees::{self, Form},
    requests::{self, CommitPart, Purpose},
    turn::Turn,
};

/// The largest ratchet tree that stands in an event, in bytes: that of some 120 devices with ids of
/// usual length. In base64 it takes 48,000 of the bytes that an event can hold.
pub(super) const MOST_INLINE_TREE: usize = 36_000;

/// How long a media repository's URL may be, in bytes (a server name of 255, and an id).
const LONGEST_URL: usize = 600;

/// What an event of a commit is called in errors.
const EVENT: &str = "the room's commit and public group state";

/// A commit of this device's own, merged into a namespace of its own.
#[derive(Default)]
pub(crate) struct CommitDraft {
    /// Nothing for the announcement of a new group.
    pub(crate) commit: Option<Vec<u8>>,
    pub(crate) welcome: Vec<u8>,
    /// The added devices, with the references of their key packages.
    pub(crate) added: Vec<(DeviceName, Vec<u8>)>,
    pub(crate) removed: Removed,
    pub(crate) resolves: Vec<EpochRecord>,
    /// It renews this device's keys because the app asked for that.
    pub(crate) rotates: bool,
    /// It renews this device's keys, for whatever reason.
    pub(crate) renews: bool,
    /// Where the Welcome has the ratchet tree; nothing without a Welcome.
    pub(crate) welcome_tree: Option<TreePlace>,
}

/// Where a commit's ratchet tree stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TreePlace {
    /// In the GroupInfo, and so in the event and in the Welcome.
    Inline,
    /// In the media repository, or in the event as what differs from one there.
    Outside,
}

impl TreePlace {
    /// The place of a ratchet tree of so many bytes.
    pub(super) fn of(bytes: usize) -> Self {
        if bytes <= MOST_INLINE_TREE { Self::Inline } else { Self::Outside }
    }
}

/// The epoch that a commit is based on, as its event names it.
pub(crate) struct BaseName {
    pub(crate) creator: DeviceName,
    pub(crate) commit_event: String,
}

/// Keeps what belongs to a staged epoch and queues what has to be sent for it.
pub(crate) fn publish(
    turn: &Turn<'_>,
    room: &RoomId,
    epoch: &EpochRecord,
    group: &MlsGroup,
    base: BaseName,
    draft: CommitDraft,
) -> Result<(), SendError> {
    let mut content = content_of(turn, base, &draft.resolves);
    let (mut uploads, tree) = put_tree(turn, room, epoch, group, &draft, &mut content)?;
    let commit = draft.commit.unwrap_or_default();
    content.ciphertext = Payload::inline(&commit);
    if size_of(&content)? > CONTENT_LIMIT && !commit.is_empty() {
        content.ciphertext = Payload::Media(MediaReference::to(&commit));
        uploads.push((CommitPart::Commit, commit.clone()));
    }
    // URLs that are still to come take space as well.
    let size = size_of(&content)? + uploads.len() * LONGEST_URL;
    if size > CONTENT_LIMIT {
        return Err(ContentError::TooLarge { what: EVENT, size }.into());
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
        removed: draft.removed.devices,
        removed_impostors: draft.removed.impostors,
        missing: uploads.iter().map(|(part, _)| *part).collect(),
        content: Some(content),
        tree,
        rotates: draft.rotates,
        renews: draft.renews,
    };
    for (part, bytes) in uploads {
        let mut request = create_content::v3::Request::new(bytes);
        request.content_type = Some("application/octet-stream".to_owned());
        let purpose = Purpose::Upload { room_id: room.to_owned(), epoch: epoch.id, part };
        requests::enqueue(turn.tx, room.as_bytes(), turn.now_ms, purpose, request)?;
    }
    keep_or_send(turn, room, epoch.id, staged)
}

/// Parts of a commit that are to be uploaded.
type Uploads = Vec<(CommitPart, Vec<u8>)>;

/// The event's content without the commit and the public group state.
fn content_of(turn: &Turn<'_>, base: BaseName, resolves: &[EpochRecord]) -> CommitContent {
    CommitContent {
        algorithm: identifiers::room_algorithm(turn.identity.ciphersuite()),
        ciphertext: Payload::inline(b""),
        epoch_creator: base.creator,
        sender: turn.identity.name(),
        resolves: resolves
            .iter()
            .map(|tip| (tip.number.to_string(), tip.creator.clone()))
            .collect(),
        commit_event: base.commit_event,
        public_group_state: Payload::inline(b""),
        ratchet_tree: None,
        tree_difference: None,
    }
}

/// Puts the public group state and the ratchet tree into an event's content. Gives what is to be
/// uploaded for them, and what later commits can name.
fn put_tree(
    turn: &Turn<'_>,
    room: &RoomId,
    epoch: &EpochRecord,
    group: &MlsGroup,
    draft: &CommitDraft,
    content: &mut CommitContent,
) -> Result<(Uploads, Option<ratchet_trees::Base>), Failure> {
    let tree = group
        .export_ratchet_tree()
        .tls_serialize_detached()
        .map_err(|error| Failure::defect("ratchet_tree", error))?;
    // The Welcome names the tree that the event names.
    let place = draft.welcome_tree.unwrap_or_else(|| TreePlace::of(tree.len()));
    let is_inline = place == TreePlace::Inline;
    let info = group.export_group_info(turn.crypto, turn.identity.signer(), is_inline)?;
    content.public_group_state = Payload::inline(&info.to_bytes()?);
    if is_inline {
        return Ok((Vec::new(), None));
    }
    let welcomes = draft.added.len();
    let publication = ratchet_trees::publication(turn, room, epoch.group, &tree, welcomes)?;
    let mut uploads = Vec::new();
    match publication.form {
        Form::Whole => {
            content.ratchet_tree = Some(MediaReference::to(&tree));
            uploads.push((CommitPart::Tree, tree));
        }
        Form::Middle { whole, difference } => {
            let middle = Some(MediaReference::to(&difference));
            content.tree_difference = Some(TreeDifference { whole, middle, nodes: None });
            uploads.push((CommitPart::TreeDifference, difference));
        }
        Form::Inline { whole, middle, nodes } => {
            let nodes = Some(encode_base64(&nodes));
            content.tree_difference = Some(TreeDifference { whole, middle, nodes });
        }
    }
    Ok((uploads, publication.base))
}

/// Keeps a staged commit, and queues its event when nothing is missing any more.
fn keep_or_send(
    turn: &Turn<'_>,
    room: &RoomId,
    epoch: EpochId,
    mut staged: StagedCommit,
) -> Result<(), SendError> {
    if staged.missing.is_empty()
        && let Some(content) = staged.content.take()
    {
        let body = write_content(&content, EVENT)?;
        // The Welcomes name the tree as well.
        staged.content = Some(CommitContent {
            ciphertext: Payload::Inline(String::new()),
            public_group_state: Payload::Inline(String::new()),
            ..content
        });
        let request = send_message_event::v3::Request::new_raw(
            room.to_owned(),
            requests::transaction_id(),
            MessageLikeEventType::RoomEncrypted,
            Raw::from_json(body),
        );
        let purpose = Purpose::Commit { room_id: room.to_owned(), epoch };
        requests::enqueue(turn.tx, room.as_bytes(), turn.now_ms, purpose, request)?;
    }
    Ok(staged::put(turn.tx, room, epoch, &staged)?)
}

/// Whether this is a URL of the media repository that an event can hold.
pub(crate) fn is_media_url(url: &str) -> bool {
    url.starts_with("mxc://") && url.len() <= LONGEST_URL
}

/// A part of a staged commit is in the media repository.
pub(crate) fn part_uploaded(
    turn: &Turn<'_>,
    room: &RoomId,
    epoch: EpochId,
    part: CommitPart,
    url: &str,
) -> Result<(), SendError> {
    // Dropped meanwhile: nobody will ever hear of the upload.
    let Some(mut staged) = staged::find(turn.tx, room, epoch)? else { return Ok(()) };
    let Some(content) = &mut staged.content else { return Ok(()) };
    let reference = match part {
        CommitPart::Tree => content.ratchet_tree.as_mut(),
        CommitPart::TreeDifference => {
            content.tree_difference.as_mut().and_then(|difference| difference.middle.as_mut())
        }
        CommitPart::Commit => match &mut content.ciphertext {
            Payload::Media(reference) => Some(reference),
            Payload::Inline(_) => None,
        },
    };
    if let Some(reference) = reference {
        reference.url = url.to_owned();
    }
    staged.missing.retain(|missing| *missing != part);
    keep_or_send(turn, room, epoch, staged)
}

fn size_of(content: &CommitContent) -> Result<usize, ContentError> {
    serde_json::to_string(content)
        .map(|text| text.len())
        .map_err(|error| ContentError::Unwritable { what: EVENT, reason: error.to_string() })
}
