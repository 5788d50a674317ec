//! Commits of our own: made, stored and queued in one transaction, in force only when the
//! homeserver has accepted the event.
//!
//! OpenMLS cannot replay a commit of one's own from a saved parent, so the child epoch is made
//! together with the commit, in a namespace of its own. The parent stays as it was. Acceptance
//! makes the child the room's epoch, a refusal drops its namespace; both are in `outcome`.

use openmls::prelude::{KeyPackage, LeafNodeIndex};
use openmls_traits::OpenMlsProvider;
use ruma::{
    OwnedEventId, RoomId, api::client::message::send_message_event, events::MessageLikeEventType,
    serde::Raw,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{
    EpochId, EpochRecord, Status, Turn, graph,
    rooms::{self, RoomRecord},
    turn::load_group,
};
use crate::{
    error::MlsError,
    protocol::{CONTENT_LIMIT, CommitContent, DeviceName, Payload, WelcomeContent, identifiers},
    requests::{self, Purpose},
    store::Collection,
};

/// What a staged epoch needs besides its state, until the homeserver has answered.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct StagedCommit {
    /// SHA-256 of the commit as sent, to know it when it comes back; nothing for the announcement.
    pub(crate) commit_hash: Option<[u8; 32]>,
    /// The Welcome for the added devices.
    #[serde(with = "serde_bytes")]
    pub(crate) welcome: Vec<u8>,
    pub(crate) added: Vec<DeviceName>,
    pub(crate) removed: Vec<DeviceName>,
}

impl StagedCommit {
    /// For epoch 0, which no commit leads to.
    pub(crate) fn announcement() -> Self {
        Self { commit_hash: None, welcome: Vec::new(), added: Vec::new(), removed: Vec::new() }
    }
}

pub(crate) const STAGED: Collection<StagedCommit> = Collection::new("staged_commit");

/// What a commit is to change.
#[derive(Default)]
pub(crate) struct Change {
    pub(crate) add: Vec<(DeviceName, KeyPackage)>,
    pub(crate) remove: Vec<(DeviceName, u32)>,
    /// Renew this device's keys on the way to the root.
    pub(crate) rotate: bool,
}

/// Stages a commit on the head of a room and queues its event.
pub(crate) fn stage(
    turn: &Turn<'_>,
    room: &mut RoomRecord,
    head: &EpochRecord,
    change: Change,
) -> Result<(), MlsError> {
    let room_id = room.room_id.clone();
    let namespace = turn.tx.new_namespace()?;
    let provider = turn.child_provider(head.namespace, namespace);
    let mut group = load_group(&provider, &room_id)?;

    // A commit that only adds goes without a path: it renews no keys and needs none, and the path
    // is what makes a commit expensive (RFC 9420, section 12.4). One that removes must have it.
    let path = change.rotate || !change.remove.is_empty();
    let (added, key_packages): (Vec<_>, Vec<_>) = change.add.into_iter().unzip();
    let (removed, leaves): (Vec<_>, Vec<_>) = change.remove.into_iter().unzip();
    let bundle = group
        .commit_builder()
        .consume_proposal_store(false)
        .propose_removals(leaves.into_iter().map(LeafNodeIndex::new))
        .propose_adds(key_packages)
        .force_self_update(path)
        .load_psks(provider.storage())?
        .use_ratchet_tree_extension(true)
        .build(turn.crypto, turn.crypto, turn.identity.signer(), |_| true)?
        .stage_commit(&provider)?;
    let commit = bundle.commit().to_bytes()?;
    let welcome = bundle.to_welcome_msg().map(|welcome| welcome.to_bytes()).transpose()?;
    group.merge_pending_commit(&provider)?;

    let own = turn.identity.name();
    let epoch = EpochRecord::of(
        &group,
        namespace,
        own.clone(),
        Some(head.id),
        Status::Staged,
        turn.now_ms,
    )?;
    turn.keep_export(&room_id, &epoch, &group, &provider)?;
    turn.tx.detach_namespace(namespace, head.namespace)?;
    graph::put(turn.tx, &room_id, &epoch)?;

    let info = group.export_group_info(turn.crypto, turn.identity.signer(), true)?;
    let content = CommitContent {
        algorithm: identifiers::room_algorithm(turn.identity.ciphersuite()),
        ciphertext: Payload::inline(&commit),
        epoch_creator: head.creator.clone(),
        sender: own,
        resolves: Vec::new(),
        commit_event: head.commit_event.as_ref().map(ToString::to_string).unwrap_or_default(),
        public_group_state: Payload::inline(&info.to_bytes()?),
    };
    let staged = StagedCommit {
        commit_hash: Some(Sha256::digest(&commit).into()),
        welcome: welcome.unwrap_or_default(),
        added,
        removed,
    };
    check_welcome_size(turn, &room_id, &staged)?;
    STAGED.put(turn.tx, room_id.as_bytes(), epoch.id.as_bytes(), &staged)?;
    queue_commit(turn, &room_id, epoch.id, &content)?;

    room.staged = Some(epoch.id);
    rooms::put(turn.tx, room)?;
    tracing::debug!(
        room = %room_id, epoch = epoch.number, added = staged.added.len(),
        removed = staged.removed.len(), path, "commit staged"
    );
    Ok(())
}

/// Queues the event of a commit or an announcement, or refuses if it would be too large.
pub(crate) fn queue_commit(
    turn: &Turn<'_>,
    room_id: &RoomId,
    epoch: EpochId,
    content: &CommitContent,
) -> Result<(), MlsError> {
    let body = to_content(content, "the room's commit and public group state")?;
    let request = send_message_event::v3::Request::new_raw(
        room_id.to_owned(),
        requests::transaction_id(),
        MessageLikeEventType::RoomEncrypted,
        Raw::from_json(body),
    );
    let purpose = Purpose::Commit { room_id: room_id.to_owned(), epoch };
    requests::enqueue(turn.tx, room_id.as_bytes(), turn.now_ms, purpose, request)?;
    Ok(())
}

/// The Welcome that leads to this commit, once its event has an id.
pub(crate) fn welcome_content(
    turn: &Turn<'_>,
    room_id: &RoomId,
    commit_event: OwnedEventId,
    staged: &StagedCommit,
) -> WelcomeContent {
    WelcomeContent {
        algorithm: identifiers::welcome_algorithm(turn.identity.ciphersuite()),
        ciphertext: Payload::inline(&staged.welcome),
        room_id: room_id.to_owned(),
        sender: turn.identity.name(),
        resolves: Vec::new(),
        commit_event,
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

/// The Welcome is only sent after the commit, so its size has to be known to fit before.
fn check_welcome_size(
    turn: &Turn<'_>,
    room_id: &RoomId,
    staged: &StagedCommit,
) -> Result<(), MlsError> {
    // Event ids have at most 255 bytes (Matrix spec, "Common identifier format").
    let longest = OwnedEventId::try_from(format!("${}", "x".repeat(254)))
        .map_err(|error| MlsError::internal("event_id", error))?;
    to_content(&welcome_content(turn, room_id, longest, staged), "the Welcome").map(drop)
}
