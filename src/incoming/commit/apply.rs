//! Applying a commit of another device: authenticate it, find its base, check it, merge it, keep
//! the epoch.
//!
//! The commit is processed by a copy-on-write child of its base epoch, so the base is as it was
//! whatever happens. The commit is believed only when the event's sender, the commit's MLS sender
//! and the names in the event agree, and when it adds nobody whose published keys say otherwise.

use std::collections::BTreeSet;

use openmls::{
    framing::{
        MlsMessageBodyIn, ProcessedMessage, ProcessedMessageContent, ProtocolMessage, Sender,
    },
    group::{MlsGroup, StagedCommit},
    prelude::Member,
};

use super::{
    base::{self, Base},
    event::{CommitEvent, Confirmation, Processed},
    unfollowed::{not_followed, note_joinable},
};
use crate::{
    devices,
    epochs::{
        EpochRecord, Origin, Status, contested, fit, graph,
        head::{self, NewEpoch},
        joinable, missing, order, outsiders, sightings, trees,
    },
    identity::Provider,
    incoming::{
        error::{Awaited, EventError},
        media,
    },
    mls::{
        Added, Removed, check_commit, check_external_commit, devices_added, is_conflicting,
        is_of_another_epoch, keep_export, note_bindings_of_commit, parse_message, refusal,
        take_group,
    },
    protocol::{DeviceName, EpochId, GroupName, Rank, credential},
    ratchet_trees,
    rejection::Rejection,
    room::{Rejoin, RejoinReason, Room},
    store::{Namespace, StoreError, Tx},
    turn::{Consequence, Turn},
};

/// A commit that OpenMLS has processed on a child of its base.
struct Authentic {
    group: MlsGroup,
    /// The child's namespace.
    namespace: Namespace,
    device: DeviceName,
    /// The committer's leaf; nothing for an external commit.
    committer: Option<Member>,
    staged: Box<StagedCommit>,
}

impl Authentic {
    /// Whether the leaf that made it is an impostor's. Those who join by themselves are not, or are
    /// refused.
    fn is_impostors(&self, tx: &Tx<'_>) -> Result<bool, StoreError> {
        Ok(match &self.committer {
            Some(member) => is_conflicting(tx, &self.device, &member.signature_key)?,
            None => false,
        })
    }
}

/// What a commit does to the group.
struct Effect {
    added: Added,
    removed: Removed,
}

/// Applies a commit to its base, if this device has that.
pub(super) fn apply(
    turn: &Turn<'_>,
    room: &mut Room,
    commit: CommitEvent<'_>,
) -> Result<Processed, EventError> {
    let message = read(turn, room, commit)?;
    let number = message.epoch().as_u64();
    let group = GroupName::of(&room.id, message.group_id().as_slice()).unwrap_or_default();
    let elsewhere = "it was made in no epoch that this device has";
    let (bases, missing, reason) = match base::find(turn, room, commit.content, group, number)? {
        Base::Kept(bases) => (bases, None, elsewhere),
        // What was tried once does not apply later.
        Base::Missing(unknown) if missing::is_missing(turn, &room.id, commit.id.as_str())? => {
            return Ok(Processed::TooEarly(unknown.into()));
        }
        Base::Missing(unknown) => (Vec::new(), Some(unknown), elsewhere),
        Base::Unreachable(reason) => (Vec::new(), None, reason),
        Base::Unknown(unknown) => return Err(unknown.into()),
    };
    let mut tried = Vec::new();
    for base in bases {
        if let Some(processed) = apply_to(turn, room, commit, &base, message.clone())? {
            return Ok(processed);
        }
        tried.push(base.id);
    }
    for base in base::others(turn, room, (group, number), &tried)? {
        if let Some(processed) = apply_to(turn, room, commit, &base, message.clone())? {
            return Ok(processed);
        }
    }
    // Whoever was let in by a Welcome knows of no better event than the Welcome's maker has said,
    // and goes on where no event leads.
    let confirmation = confirmation_needed(turn, room, commit)?;
    if let Some(unknown) = missing {
        // What comes after a missing commit is as far away.
        if missing::mark_missing(turn, &room.id, commit.id)? {
            note_joinable(turn, room, commit, confirmation)?;
        }
        return Ok(Processed::TooEarly(unknown.into()));
    }
    not_followed(turn, room, commit, reason, confirmation)
}

/// Applies a commit to an epoch. Nothing means that it was not made there.
fn apply_to(
    turn: &Turn<'_>,
    room: &mut Room,
    commit: CommitEvent<'_>,
    base: &EpochRecord,
    message: ProtocolMessage,
) -> Result<Option<Processed>, EventError> {
    let namespace = turn.tx.new_namespace()?;
    let provider = turn.child_provider(base.namespace, namespace);
    let authentic = authenticate(turn, &provider, namespace, room, base, commit, message)?;
    let Some(authentic) = authentic else {
        turn.tx.delete_namespace(namespace)?;
        return Ok(None);
    };
    let effect = check(turn, &authentic)?;
    if authentic.staged.self_removed() {
        turn.tx.delete_namespace(namespace)?;
        return removes_this_device(turn, room, commit, base, &authentic, effect).map(Some);
    }
    merge(turn, room, commit, &provider, base, authentic, effect).map(Some)
}

/// The epochs on which a commit says that it is based, as far as this device has their states.
pub(super) fn bases(
    turn: &Turn<'_>,
    room: &Room,
    commit: CommitEvent<'_>,
) -> Result<Vec<EpochId>, EventError> {
    let message = read(turn, room, commit)?;
    let number = message.epoch().as_u64();
    let group = GroupName::of(&room.id, message.group_id().as_slice()).unwrap_or_default();
    Ok(match base::find(turn, room, commit.content, group, number)? {
        Base::Kept(bases) => bases.into_iter().map(|base| base.id).collect(),
        _ => Vec::new(),
    })
}

/// The MLS message of a commit's event.
fn read(
    turn: &Turn<'_>,
    room: &Room,
    commit: CommitEvent<'_>,
) -> Result<ProtocolMessage, EventError> {
    let bytes = media::bytes(turn, &room.id, &commit.content.ciphertext)?;
    let message = match parse_message(&bytes)? {
        MlsMessageBodyIn::PrivateMessage(message) => ProtocolMessage::from(message),
        MlsMessageBodyIn::PublicMessage(message) => ProtocolMessage::from(message),
        _ => return Err(Rejection::NotACommit.into()),
    };
    if GroupName::of(&room.id, message.group_id().as_slice()).is_none() {
        return Err(Rejection::OtherGroup("the commit belongs to another group").into());
    }
    Ok(message)
}

/// Whether the epoch of a commit whose base is out of reach counts at once. Whoever goes on with an
/// epoch that nobody else took is as alone as before.
fn confirmation_needed(
    turn: &Turn<'_>,
    room: &Room,
    commit: CommitEvent<'_>,
) -> Result<Confirmation, EventError> {
    let maker = joinable::unconfirmed_maker(turn.tx, &room.id, &commit.content.commit_event)?;
    Ok(match maker {
        Some(maker) if maker.user_id == commit.sender => Confirmation::Needed,
        _ => Confirmation::NotNeeded,
    })
}

/// Has OpenMLS verify and process a commit, and makes sure that it is from whom the event says.
/// Nothing means that the commit was not made in this epoch.
fn authenticate(
    turn: &Turn<'_>,
    provider: &Provider<'_>,
    namespace: Namespace,
    room: &Room,
    base: &EpochRecord,
    commit: CommitEvent<'_>,
    message: ProtocolMessage,
) -> Result<Option<Authentic>, EventError> {
    let mut group = take_group(turn, base.namespace, provider, &room.id, base.group)?;
    let is_public = matches!(message, ProtocolMessage::PublicMessage(_));
    let processed: ProcessedMessage = match group.process_message(provider, message) {
        Err(error) if is_of_another_epoch(&error, is_public) => return Ok(None),
        processed => processed.map_err(refusal)?,
    };
    let device = credential::parse(processed.credential().serialized_content())?;
    if device.user_id != commit.sender || device != commit.content.sender {
        let reason = "the commit was made by another device than the event says";
        return Err(Rejection::SenderMismatch(reason).into());
    }
    let not_a_member = Rejection::NotAMember("the commit was not made by a member");
    let committer = match processed.sender() {
        Sender::Member(index) => Some(group.member_at(*index).ok_or(not_a_member)?),
        Sender::NewMemberCommit => None,
        _ => return Err(not_a_member.into()),
    };
    let ProcessedMessageContent::StagedCommitMessage(staged) = processed.into_content() else {
        return Err(Rejection::NotACommit.into());
    };
    Ok(Some(Authentic { group, namespace, device, committer, staged }))
}

/// Checks what a commit must not do, and tells what it does.
fn check(turn: &Turn<'_>, commit: &Authentic) -> Result<Effect, EventError> {
    let removed = match &commit.committer {
        Some(committer) => check_commit(turn.tx, &commit.group, &commit.staged, committer)?,
        None => check_external_commit(turn.tx, &commit.group, &commit.staged, &commit.device)?,
    };
    note_bindings_of_commit(turn, &commit.staged)?;
    Ok(Effect { added: devices_added(turn.tx, &commit.staged)?, removed })
}

/// A commit that removes this device. It counts if its epoch would come before the head; else it
/// was made on a branch that the room goes on without.
fn removes_this_device(
    turn: &Turn<'_>,
    room: &mut Room,
    commit: CommitEvent<'_>,
    base: &EpochRecord,
    authentic: &Authentic,
    effect: Effect,
) -> Result<Processed, EventError> {
    let number = authentic.staged.epoch().as_u64();
    let rank = EpochId::of(authentic.staged.group_context())
        .map(|id| Rank::of(base.group_rank, number, id, Some(commit.id)));
    let rank = rank.map_err(crate::failure::Failure::from)?;
    if room.standing.head().is_none() {
        return removed_while_out(turn, room, base, authentic, &rank);
    }
    let again = missing::is_hopeless(turn, &room.id, commit.id.as_str())?;
    missing::mark_hopeless(turn, &room.id, commit.id.as_str())?;
    if !counts(turn, room, base, authentic, &rank)? {
        let reason = "it removes this device, on a branch that the room goes on without";
        return Ok(Processed::NotFollowed(EventError::NotFollowed(reason.to_owned())));
    }
    note_joinable(turn, room, commit, Confirmation::NotNeeded)?;
    if again && room.standing.rejoin().is_some() {
        // A device that belongs in the room keeps its epochs, so the commit applies again whenever
        // it is tried again. The rejoin is under way already.
        return Ok(Processed::Known);
    }
    head::leave(turn, room, &rank)?;
    // Whoever was let in again already goes on there.
    let head = room.standing.head();
    if graph::kept(turn.tx, room)?.iter().all(|epoch| Some(epoch.id) != head || epoch.left) {
        turn.report(Consequence::Removed);
    }
    let (added, removed) = (effect.added.devices, effect.removed.devices);
    Ok(Processed::Entered { number, added, removed })
}

/// A commit that removes this device while it is out with its user, and leads to an epoch of this
/// rank. What was set aside of that tree can lead on only if it comes before that epoch.
fn removed_while_out(
    turn: &Turn<'_>,
    room: &mut Room,
    base: &EpochRecord,
    commit: &Authentic,
    removed: &Rank,
) -> Result<Processed, EventError> {
    if commit.is_impostors(turn.tx)? || outsiders::is_one_for_sure(turn.tx, room, &commit.device)? {
        let reason = "it removes this device, and was made by one that has no place in the room";
        return Ok(Processed::NotFollowed(EventError::NotFollowed(reason.to_owned())));
    }
    let mut stay = Vec::new();
    for mut epoch in graph::kept(turn.tx, room)? {
        if epoch.root != base.root || epoch.rank() < *removed {
            stay.push(epoch.id);
        } else {
            graph::make_decrypt_only(turn.tx, &room.id, &mut epoch)?;
        }
    }
    let is_lost = stay.contains(&base.id);
    room.kept = stay;
    if is_lost {
        let reason = "it removes this device, on a branch that the room goes on without";
        return Ok(Processed::NotFollowed(EventError::NotFollowed(reason.to_owned())));
    }
    let reason = "it removes this device, whose user was out of the room".to_owned();
    Ok(Processed::TooEarly(EventError::Awaits(Awaited::Group(reason))))
}

/// Whether an epoch of this rank, which a commit on this base leads to, comes before the head.
fn counts(
    turn: &Turn<'_>,
    room: &Room,
    base: &EpochRecord,
    commit: &Authentic,
    rank: &Rank,
) -> Result<bool, EventError> {
    let Some(head) = room.standing.head() else { return Ok(true) };
    if head == base.id {
        return Ok(true);
    }
    let led = order::on_outsiders_commits(turn.tx, room, &graph::kept(turn.tx, room)?)?;
    if led.contains(&base.id)
        || commit.is_impostors(turn.tx)?
        || outsiders::is_one_for_sure(turn.tx, room, &commit.device)?
    {
        return Ok(false);
    }
    Ok(*rank < graph::get(turn.tx, &room.id, head)?.rank())
}

/// Merges a commit into the child, and makes the child an epoch of the room.
fn merge(
    turn: &Turn<'_>,
    room: &mut Room,
    commit: CommitEvent<'_>,
    provider: &Provider<'_>,
    base: &EpochRecord,
    authentic: Authentic,
    effect: Effect,
) -> Result<Processed, EventError> {
    let is_impostor = authentic.is_impostors(turn.tx)?;
    let Authentic { mut group, namespace, device, committer, staged } = authentic;
    let Effect { added: Added { devices: mut added, impostors }, mut removed } = effect;
    let external = committer.is_none();
    let change = fit::Change {
        committer: &device,
        external,
        added: &added,
        impostors: &impostors,
        removed: &removed.devices,
    };
    let doubts = fit::doubts(turn.tx, room, &change)?;
    // What such a device makes after its join is no more than the join is.
    let by_outsider = (external && outsiders::is_one_for_sure(turn.tx, room, &device)?)
        || (base.by_outsider && (is_impostor || outsiders::is_one(turn.tx, room, &device)?));
    // The commit is followed, but it does not say where the device is whose name its leaf bears.
    let committer = committer.filter(|_| !is_impostor);
    if let (Some(_), Some(said_ms)) = (&committer, commit.said_ms) {
        trees::heard(turn, &room.id, base, &device, said_ms)?;
    }
    let number = staged.epoch().as_u64();
    group.merge_staged_commit(provider, *staged).map_err(crate::failure::Failure::from)?;
    let origin = Origin {
        namespace,
        creator: device.clone(),
        parent: Some(base.id),
        group: (base.group, base.group_rank),
        status: Status::Accepted,
        since_ms: turn.now_ms,
    };
    let mut epoch = EpochRecord::of(&group, origin)?;
    if graph::find(turn.tx, &room.id, epoch.id)?.is_some() {
        // The same commit in another event.
        graph::note_copy(turn.tx, &room.id, commit.id, epoch.id)?;
        turn.tx.delete_namespace(namespace)?;
        return Ok(Processed::Known);
    }
    epoch.commit_event = Some(commit.id.to_owned());
    epoch.external = external;
    epoch.root = base.root;
    // Once this device has joined anew, what the others make is new to it as well.
    let is_old_copy = |rejoin: &Rejoin| rejoin.reason == RejoinReason::OldCopy;
    epoch.distrusted = base.distrusted && room.standing.rejoin().is_some_and(is_old_copy);
    epoch.by_outsider = by_outsider;
    epoch.by_impostor = is_impostor;
    epoch.resolves = resolved(turn, room, base, commit)?;
    epoch.doubts = doubts;
    keep_export(turn.tx, &room.id, epoch.id, &group, provider, room.settings.history)?;
    turn.tx.detach_namespace(namespace, base.namespace)?;
    media::used_payload(turn, &room.id, &commit.content.ciphertext)?;
    ratchet_trees::published(turn, &room.id, base.group, &group, commit.content)?;
    follow_devices(turn, &added, &removed.devices)?;
    fit::tell(turn, &room.id, &device, &epoch.doubts)?;
    if external && !removed.devices.contains(&device) {
        added.push(device.clone());
    } else if external {
        // It takes its own place again: nobody has come or gone.
        removed.devices.retain(|other| *other != device);
    }
    epoch.contested = contested::of_commit(turn.tx, room, &removed.devices, &group)?;
    turn.groups.keep(turn.tx, namespace, group)?;
    let rank = epoch.rank();
    head::enter(turn, room, NewEpoch { epoch, added: &added, removed: &removed })?;
    if let Some(committer) = committer {
        let leaf = committer.index.u32();
        if let Some(progress) = sightings::note(turn, &room.id, &device, rank)? {
            sightings::count(turn, room, &device, leaf, &progress)?;
        }
    }
    Ok(Processed::Entered { number, added, removed: removed.devices })
}

/// Follows the device lists of those added. A committer that knows more than this device, or less,
/// is a reason to ask the homeserver rather than to undo the commit.
fn follow_devices(
    turn: &Turn<'_>,
    added: &[DeviceName],
    removed: &[DeviceName],
) -> Result<(), EventError> {
    let users: BTreeSet<_> = added.iter().map(|device| &*device.user_id).collect();
    devices::track(turn.tx, users)?;
    for (device, comes) in added
        .iter()
        .map(|device| (device, true))
        .chain(removed.iter().map(|device| (device, false)))
    {
        if devices::device(turn.tx, device)?.is_some() != comes {
            devices::mark_outdated(turn.tx, [&*device.user_id])?;
        }
    }
    Ok(())
}

/// The tips that a commit says it supersedes, as far as they are known.
fn resolved(
    turn: &Turn<'_>,
    room: &Room,
    base: &EpochRecord,
    commit: CommitEvent<'_>,
) -> Result<Vec<EpochId>, EventError> {
    Ok(graph::kept(turn.tx, room)?
        .into_iter()
        .filter(|epoch| epoch.group == base.group)
        .filter(|epoch| {
            commit.content.resolves.iter().any(|(number, creator)| {
                *creator == epoch.creator && *number == epoch.number.to_string()
            })
        })
        .map(|epoch| epoch.id)
        .collect())
}
