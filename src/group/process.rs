//! Commits that arrive in the timeline: other devices', and our own coming back.
//!
//! A commit is processed by a copy-on-write child of its base epoch, so the base is as it was
//! whatever happens. It is believed only when the event's sender, the commit's MLS sender and the
//! names in the event agree, and when it adds nobody whose published keys say otherwise.

use std::collections::BTreeSet;

use openmls::framing::{MlsMessageBodyIn, ProcessedMessageContent, ProtocolMessage, Sender};
use ruma::{EventId, OwnedEventId, RoomId, UserId};
use sha2::{Digest, Sha256};

use super::{
    EpochId, EpochRecord, Status, Turn,
    checks::{check, check_external, refuse_conflicting_adds},
    create, fetch,
    foreign::{self, ForeignEpoch},
    graph, head, heal,
    leave::evicted,
    media, message, outcome, policy,
    publish::{self, STAGED},
    rooms,
    rooms::RoomRecord,
    turn::{load_group, parse_mls},
};
use crate::{
    devices,
    error::MlsError,
    protocol::{CommitContent, DeviceName, Payload, credential, identifiers},
    requests,
};

/// The code of the error for a commit that OpenMLS refuses.
pub(super) const BAD_COMMIT: &str = "bad_commit";

/// What a commit's event turned out to be.
pub(crate) enum Processed {
    /// The group moved on.
    Entered { number: u64, added: Vec<DeviceName>, removed: Vec<DeviceName> },
    /// Seen before, or our own coming back.
    Known,
    /// Somebody made a group for the room; this device is not in it.
    Announced,
    /// The group moved on where this device cannot follow.
    NotFollowed(MlsError),
    /// This device has no group yet, and may get to the epoch by a Welcome.
    TooEarly(MlsError),
}

/// Processes one commit event.
pub(crate) fn process(
    turn: &Turn<'_>,
    room_id: &RoomId,
    event: &EventId,
    sender: &UserId,
    content: &CommitContent,
) -> Result<Processed, MlsError> {
    if content.sender.0 != sender {
        return Err(MlsError::rejected(
            "sender_mismatch",
            "the event names another user as sender",
        ));
    }
    if graph::by_event(turn.tx, room_id, event)?.is_some() {
        return Ok(Processed::Known);
    }
    let mut room = rooms::get(turn.tx, room_id)?;
    if room.algorithm.is_none() {
        room.algorithm = Some(content.algorithm.clone());
        rooms::put(turn.tx, &room)?;
        rooms::track_members(turn.tx, &room)?;
    }
    if content.sender == turn.identity.name() {
        return own(turn, &room, event, content);
    }
    if create::is_announcement(content) {
        return announced(turn, room, event, content);
    }
    if room.head.is_none() || room.gone {
        if room.gone {
            return Err(MlsError::not_in_group(room_id));
        }
        ahead(turn, &room, event, content, Trust::Whole)?;
        return Ok(Processed::TooEarly(MlsError::awaited(
            "no_group_yet",
            "this device is not in the room's group yet",
        )));
    }
    match turn.part(|| others(turn, &room, event, sender, content)) {
        Err(error) if [BAD_COMMIT, media::BAD_MEDIA].contains(&error.code()) => {
            // Most likely it applies nowhere. If others go on with it, its committer or a server has
            // wronged this device alone. Where there are no others, that cannot be told.
            let alone = rooms::users(turn.tx, &room)?.len() <= 2;
            let trust = if alone { Trust::Whole } else { Trust::UntilConfirmed };
            not_followed(turn, &room, event, content, error.reason(), trust)
        }
        Err(error) if error.code() == message::BEFORE_JOINING => {
            // In the past that is no news; on a branch that began before and won, it is. This device joins
            // that branch, and a Welcome may yet let it in further back.
            if !ahead(turn, &room, event, content, Trust::Whole)? {
                return Err(error);
            }
            fetch::miss(turn, room_id, event)?;
            Ok(Processed::TooEarly(MlsError::awaited("no_group_yet", error.reason())))
        }
        result => result,
    }
}

/// How far the public group state of a commit that is not followed is believed to be where others are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Trust {
    Whole,
    UntilConfirmed,
}

/// Somebody's announcement of a group. In the room's own past it is no news: whoever joined later finds
/// it in the timeline. Beside a group of our own making it is a second group, which ranks like any branch.
fn announced(
    turn: &Turn<'_>,
    mut room: RoomRecord,
    event: &EventId,
    content: &CommitContent,
) -> Result<Processed, MlsError> {
    if room.head.is_none() && !room.others_group {
        room.others_group = true;
        rooms::put(turn.tx, &room)?;
    }
    ahead(turn, &room, event, content, Trust::Whole)?;
    Ok(Processed::Announced)
}

/// Notes the epoch of a commit that is not followed. If it comes before the head, everybody who could
/// follow goes on there, and this device has to join it.
fn ahead(
    turn: &Turn<'_>,
    room: &RoomRecord,
    event: &EventId,
    content: &CommitContent,
    trust: Trust,
) -> Result<bool, MlsError> {
    let epoch = match ForeignEpoch::read(turn, &room.room_id, event, content) {
        Ok(epoch) if trust == Trust::UntilConfirmed => epoch.unconfirmed(),
        Ok(epoch) => epoch,
        Err(error) => {
            tracing::info!(room = %room.room_id, %error, "no public group state to join by");
            return Ok(false);
        }
    };
    let head = heal::head_rank(turn, room)?;
    let ahead = foreign::note(turn, &room.room_id, epoch, head.as_ref())?;
    if trust == Trust::UntilConfirmed {
        return Ok(ahead);
    }
    if ahead && room.head.is_some() {
        heal::need(turn, &room.room_id, heal::Reason::Outrun)?;
    }
    if ahead {
        heal::news(turn, &room.room_id)?;
    }
    Ok(ahead)
}

/// A commit that cannot be followed, and what that means.
fn not_followed(
    turn: &Turn<'_>,
    room: &RoomRecord,
    event: &EventId,
    content: &CommitContent,
    reason: &str,
    trust: Trust,
) -> Result<Processed, MlsError> {
    fetch::give_up(turn, &room.room_id, event.as_str())?;
    let what = match (ahead(turn, room, event, content, trust)?, trust) {
        (true, Trust::Whole) => "it comes before the room's head: this device joins it",
        (true, Trust::UntilConfirmed) => "if others go on with it, this device joins it",
        (false, _) => "the room goes on without it",
    };
    Ok(Processed::NotFollowed(MlsError::forked(format!("{reason}; {what}"))))
}

/// One of our own, back from the homeserver: as good as the answer to its request.
fn own(
    turn: &Turn<'_>,
    room: &RoomRecord,
    event: &EventId,
    content: &CommitContent,
) -> Result<Processed, MlsError> {
    let room_id = &*room.room_id;
    if let Some(id) = room.staged {
        let staged = STAGED.get(turn.tx, room_id.as_bytes(), id.as_bytes())?.ok_or_else(|| {
            MlsError::damaged("a staged epoch has lost what belongs to its commit")
        })?;
        let hash = match &content.ciphertext {
            _ if create::is_announcement(content) => None,
            Payload::Media(reference) => reference.hash(),
            Payload::Inline(_) => Some(Sha256::digest(content.ciphertext.bytes()?).into()),
        };
        if staged.commit_hash == hash {
            for request in publish::staged_requests(turn, room_id, id)?.0 {
                requests::remove(turn.tx, request)?;
            }
            outcome::accepted(turn, room_id, id, event.to_owned())?;
            return Ok(Processed::Known);
        }
    }
    // Signed by this device, so it did make it; and if it is in no epoch, then this device has forgotten
    // that, and what else it sent since.
    let epoch = ForeignEpoch::read(turn, room_id, event, content)?;
    if graph::find(turn.tx, room_id, epoch.id)?.is_some() {
        return Ok(Processed::Known);
    }
    fetch::give_up(turn, room_id, event.as_str())?;
    let ahead = foreign::note(turn, room_id, epoch, heal::head_rank(turn, room)?.as_ref())?;
    if ahead && room.head.is_some() {
        heal::need(turn, room_id, heal::Reason::OldCopy)?;
    }
    Ok(Processed::NotFollowed(MlsError::rejected(
        "unknown_own_commit",
        "it is a commit of this device, which has no memory of it",
    )))
}

fn others(
    turn: &Turn<'_>,
    room: &RoomRecord,
    event: &EventId,
    sender: &UserId,
    content: &CommitContent,
) -> Result<Processed, MlsError> {
    let room_id = &*room.room_id;
    let message = match parse_mls(&media::bytes(turn, room_id, &content.ciphertext)?)? {
        MlsMessageBodyIn::PrivateMessage(message) => ProtocolMessage::from(message),
        MlsMessageBodyIn::PublicMessage(message) => ProtocolMessage::from(message),
        _ => {
            return Err(MlsError::rejected(
                "not_a_commit",
                "the commit is another kind of message",
            ));
        }
    };
    if message.group_id().as_slice() != room_id.as_bytes() {
        return Err(MlsError::rejected("other_group", "the commit belongs to another group"));
    }
    let base = match base_of(turn, room, content, message.epoch().as_u64())? {
        Base::Kept(base) => *base,
        unreached => {
            // Whoever goes on with what nobody else took is as alone as before.
            let maker = foreign::unconfirmed_maker(turn, room_id, &content.commit_event)?;
            let same = maker.is_some_and(|maker| maker.0 == sender);
            let trust = if same { Trust::UntilConfirmed } else { Trust::Whole };
            if let Base::Unreachable(reason) = unreached {
                return not_followed(turn, room, event, content, reason, trust);
            }
            // What comes after it is as far away.
            if fetch::miss(turn, room_id, event)? {
                ahead(turn, room, event, content, trust)?;
            }
            let error = message::unknown_epoch(turn.tx, room_id, message.epoch().as_u64())?;
            return Ok(Processed::TooEarly(error));
        }
    };

    let namespace = turn.tx.new_namespace()?;
    let provider = turn.child_provider(base.namespace, namespace);
    let mut group = load_group(&provider, room_id)?;
    let processed = group.process_message(&provider, message)?;
    let device = credential::parse(processed.credential().serialized_content())?;
    if device.0 != sender || device != content.sender {
        return Err(MlsError::rejected(
            "sender_mismatch",
            "the commit was made by another device than the event says",
        ));
    }
    let committer = match processed.sender() {
        Sender::Member(index) => Some(group.member_at(*index).ok_or_else(|| {
            MlsError::rejected("not_a_member", "the commit was not made by a member")
        })?),
        Sender::NewMemberCommit => None,
        _ => {
            return Err(MlsError::rejected("not_a_member", "the commit was not made by a member"));
        }
    };
    let ProcessedMessageContent::StagedCommitMessage(staged) = processed.into_content() else {
        return Err(MlsError::rejected("not_a_commit", "the commit is another kind of message"));
    };
    let mut removed = match &committer {
        Some(committer) => check(&group, &staged, committer)?,
        None => check_external(turn, &group, &staged, &device)?,
    };
    let mut added = refuse_conflicting_adds(turn, &staged)?;
    let external = committer.is_none();
    let doubts = policy::doubts(turn.tx, room, &device, external, &added, &removed)?;
    let number = staged.epoch().as_u64();

    if staged.self_removed() {
        turn.tx.delete_namespace(namespace)?;
        let again = fetch::is_hopeless(turn, room_id, event.as_str())?;
        fetch::give_up(turn, room_id, event.as_str())?;
        if !ahead(turn, room, event, content, Trust::Whole)? {
            let reason = "it removes this device, on a branch that the room goes on without";
            return Ok(Processed::NotFollowed(MlsError::forked(reason)));
        }
        if again && room.healing.is_some() {
            // A device that belongs in the room keeps its epochs, so the commit applies again whenever it is
            // tried again; it is seen to already.
            return Ok(Processed::Known);
        }
        evicted(turn, room_id)?;
        return Ok(Processed::Entered { number, added, removed });
    }
    group.merge_staged_commit(&provider, *staged)?;
    let creator = device.clone();
    let mut epoch =
        EpochRecord::of(&group, namespace, creator, Some(base.id), Status::Accepted, turn.now_ms)?;
    if graph::find(turn.tx, room_id, epoch.id)?.is_some() {
        // The same commit in another event.
        turn.tx.delete_namespace(namespace)?;
        return Ok(Processed::Known);
    }
    epoch.commit_event = Some(event.to_owned());
    epoch.external = external;
    epoch.resolves = resolved(turn, room, content)?;
    epoch.doubts = doubts;
    turn.keep_export(room_id, &epoch, &group, &provider, room.settings.history)?;
    turn.tx.detach_namespace(namespace, base.namespace)?;
    media::used_payload(turn, room_id, &content.ciphertext)?;
    let users: BTreeSet<_> = added.iter().map(|device| &*device.0).collect();
    devices::track(turn.tx, users)?;
    // Its committer knows more than this device, or less: better to ask than to undo it.
    for (device, comes) in added
        .iter()
        .map(|device| (device, true))
        .chain(removed.iter().map(|device| (device, false)))
    {
        if devices::device(turn.tx, &device.0, &device.1)?.is_some() != comes {
            devices::doubt(turn.tx, [&*device.0])?;
        }
    }
    policy::tell(turn, room_id, &device, &epoch.doubts);
    if external && !removed.contains(&device) {
        added.push(device.clone());
    } else if external {
        // It takes its own place again: nobody has come or gone.
        removed.retain(|other| *other != device);
    }
    let (id, leaf) = (epoch.id, committer.map(|committer| committer.index.u32()));
    head::enter(turn, room_id, epoch, &added, &removed)?;
    if let Some(leaf) = leaf {
        head::seen(turn, room_id, &device, leaf, id)?;
    }
    Ok(Processed::Entered { number, added, removed })
}

/// Where a commit comes from.
enum Base {
    Kept(Box<EpochRecord>),
    /// The homeserver does not have what leads to it; it may come late. The room does not wait for it.
    Missing,
    /// It will never be processed, for this reason.
    Unreachable(&'static str),
}

/// The epoch a commit is based on.
fn base_of(
    turn: &Turn<'_>,
    room: &RoomRecord,
    content: &CommitContent,
    number: u64,
) -> Result<Base, MlsError> {
    let room_id = &*room.room_id;
    let candidates =
        graph::named(turn.tx, room_id, &content.commit_event, number, &content.epoch_creator)?;
    let known = !candidates.is_empty();
    let accepted = candidates.into_iter().find(|e| e.full && e.status == Status::Accepted);
    if let Some(base) = accepted {
        return Ok(Base::Kept(Box::new(base)));
    }
    if known {
        return Ok(Base::Unreachable("the epoch it is based on is no longer kept in full"));
    }
    let unknown = message::unknown_epoch(turn.tx, room_id, number)?;
    let is_late = matches!(unknown, MlsError::UnknownEpoch { .. });
    if is_late && fetch::is_hopeless(turn, room_id, &content.commit_event)? {
        return Ok(Base::Unreachable("the epoch it is based on cannot be reached"));
    }
    if is_late && fetch::is_missing(turn, room_id, &content.commit_event)? {
        return Ok(Base::Missing);
    }
    Err(unknown)
}

/// The tips that a commit says it supersedes, as far as they are known.
fn resolved(
    turn: &Turn<'_>,
    room: &RoomRecord,
    content: &CommitContent,
) -> Result<Vec<EpochId>, MlsError> {
    Ok(head::kept(turn.tx, room)?
        .into_iter()
        .filter(|epoch| {
            content.resolves.iter().any(|(number, creator)| {
                *creator == epoch.creator && *number == epoch.number.to_string()
            })
        })
        .map(|epoch| epoch.id)
        .collect())
}

/// Whether an algorithm is one of ours.
pub(crate) fn is_ours(algorithm: &str) -> bool {
    identifiers::suite_of_room_algorithm(algorithm).is_some()
}

/// The event id of an event that must have one.
pub(crate) fn required_event_id(id: Option<&OwnedEventId>) -> Result<&EventId, MlsError> {
    id.map(|id| &**id)
        .ok_or_else(|| MlsError::rejected("no_event_id", "the event does not say its event_id"))
}
