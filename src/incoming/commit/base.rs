//! The epoch that a commit is based on.

use ruma::EventId;

use crate::{
    epochs::{EpochRecord, Status, UnknownEpoch, graph, missing},
    protocol::{CommitContent, EpochId, GroupName},
    room::Room,
    store::StoreError,
    turn::Turn,
};

/// Where a commit comes from.
pub(super) enum Base {
    /// Epochs that this device keeps in full. What a Welcome names as its commit may be another's,
    /// so there can be several.
    Kept(Vec<EpochRecord>),
    /// Not known yet: what leads to it is asked for, or it is from before this device joined.
    Unknown(UnknownEpoch),
    /// The homeserver does not have what leads to it, or the event that it names has led to another
    /// epoch. It may be one that this device keeps all the same (`others`), or come late, or by a
    /// Welcome; the room does not wait.
    Missing(UnknownEpoch),
    /// What it names can take no commit, for this reason. It may be based on one that this device
    /// keeps all the same (`others`).
    Unreachable(&'static str),
}

/// The epoch that a commit for this epoch number is based on.
pub(super) fn find(
    turn: &Turn<'_>,
    room: &Room,
    content: &CommitContent,
    group: GroupName,
    number: u64,
) -> Result<Base, StoreError> {
    let mut named =
        graph::named(turn.tx, &room.id, &content.commit_event, number, &content.epoch_creator)?;
    if let Ok(event) = <&EventId>::try_from(content.commit_event.as_str())
        && let Some(epoch) = graph::by_hint(turn.tx, &room.id, event, &content.epoch_creator)?
        && epoch.number == number
        && named.iter().all(|known| known.id != epoch.id)
    {
        named.push(epoch);
    }
    let is_known = !named.is_empty();
    named.retain(|epoch| epoch.full && epoch.status == Status::Accepted);
    if !named.is_empty() {
        return Ok(Base::Kept(named));
    }
    if is_known {
        return Ok(Base::Unreachable("the epoch it is based on is no longer kept in full"));
    }
    let unknown = graph::why_unknown(turn.tx, &room.id, group, number)?;
    if let UnknownEpoch::NotYet(_) = unknown {
        if missing::is_hopeless(turn, &room.id, &content.commit_event)? {
            return Ok(Base::Unreachable("the epoch it is based on cannot be reached"));
        }
        if missing::is_missing(turn, &room.id, &content.commit_event)?
            || leads_elsewhere(turn, room, content)?
        {
            return Ok(Base::Missing(unknown));
        }
    }
    Ok(Base::Unknown(unknown))
}

/// Whether the event that a commit names as its base has led this device to another epoch. Whoever
/// was let in by a Welcome knows of no better event than the Welcome's maker has said, and goes on
/// with an epoch to which no event leads.
fn leads_elsewhere(
    turn: &Turn<'_>,
    room: &Room,
    content: &CommitContent,
) -> Result<bool, StoreError> {
    let Ok(event) = <&EventId>::try_from(content.commit_event.as_str()) else { return Ok(false) };
    Ok(graph::by_event(turn.tx, &room.id, event)?.is_some())
}

/// The other epochs of this group and number that this device keeps: what a commit names as its
/// base is a hint, and the keys decide.
pub(super) fn others(
    turn: &Turn<'_>,
    room: &Room,
    (group, number): (GroupName, u64),
    tried: &[EpochId],
) -> Result<Vec<EpochRecord>, StoreError> {
    let mut epochs = graph::kept(turn.tx, room)?;
    epochs.retain(|epoch| {
        epoch.group == group && epoch.number == number && !tried.contains(&epoch.id)
    });
    Ok(epochs)
}
