//! The epochs of one room in a report.

use serde::Serialize;

use super::names::{short, short_device};
use crate::{
    epochs::{CommitDoubt, EpochRecord, Status, graph},
    room::Room,
    store::{StoreError, Tx},
};

/// An epoch.
#[derive(Serialize)]
pub(super) struct Epoch {
    pub(super) number: u64,
    /// The first digits of its id, which is a hash.
    pub(super) id: String,
    pub(super) parent: Option<String>,
    /// Whose device made it.
    pub(super) by: String,
    /// The event with its commit.
    event: Option<String>,
    pub(super) is_head: bool,
    pub(super) is_full: bool,
    /// The homeserver has not accepted it yet.
    is_staged: bool,
    is_external: bool,
    pub(super) devices: u32,
    /// How many members were not seen on it or later.
    behind: u32,
    pub(super) age_ms: u64,
    resolves: Vec<String>,
    doubts: Vec<&'static str>,
}

impl Epoch {
    fn of(epoch: &EpochRecord, room: &Room, now_ms: u64) -> Self {
        let name = |id: crate::protocol::EpochId| {
            let mut digits = id.to_hex();
            digits.truncate(10);
            digits
        };
        Self {
            number: epoch.number,
            id: name(epoch.id),
            parent: epoch.parent.map(name),
            by: short_device(&epoch.creator),
            event: epoch.commit_event.as_ref().map(|event| short(event.as_str())),
            is_head: room.standing.head() == Some(epoch.id),
            is_full: epoch.full,
            is_staged: epoch.status == Status::Staged,
            is_external: epoch.external,
            devices: epoch.members,
            behind: epoch.behind,
            age_ms: now_ms.saturating_sub(epoch.since_ms),
            resolves: epoch.resolves.iter().copied().map(name).collect(),
            doubts: epoch.doubts.iter().map(doubt).collect(),
        }
    }
}

/// The head of a room and the epochs that were learned of last, by number; at most `limit` beside
/// the head.
pub(super) fn of(
    tx: &Tx<'_>,
    room: &Room,
    limit: usize,
    now_ms: u64,
) -> Result<Vec<Epoch>, StoreError> {
    let mut epochs = graph::newest(tx, &room.id, limit)?;
    if let Some(head) = room.standing.head()
        && epochs.iter().all(|epoch| epoch.id != head)
    {
        epochs.extend(graph::find(tx, &room.id, head)?);
    }
    epochs.sort_by_key(|epoch| (epoch.number, epoch.since_ms));
    Ok(epochs.iter().map(|epoch| Epoch::of(epoch, room, now_ms)).collect())
}

/// How many epochs have more than one child among these.
pub(super) fn forks(epochs: &[Epoch]) -> usize {
    let has_two = |id: &String| {
        epochs.iter().filter(|epoch| epoch.parent.as_ref() == Some(id)).nth(1).is_some()
    };
    epochs.iter().filter(|epoch| has_two(&epoch.id)).count()
}

fn doubt(doubt: &CommitDoubt) -> &'static str {
    match doubt {
        CommitDoubt::StrangerAdded(_) => "stranger_added",
        CommitDoubt::ImpostorAdded(_) => "impostor_added",
        CommitDoubt::MemberRemoved(_) => "member_removed",
        CommitDoubt::JoinedExternally(_) => "joined_externally",
        CommitDoubt::InvitedByStranger(_) => "invited_by_stranger",
    }
}
