//! Deciding what a commit's event is.

use ruma::{EventId, UserId};

use super::{
    apply,
    event::{CommitEvent, Confirmation, Processed},
    own,
    unfollowed::{not_followed, note_joinable},
};
use crate::{
    epochs::{JoinableEpoch, graph, missing, restarts, set_aside},
    failure::EndsTurn,
    history::{self, Header},
    incoming::{
        error::{Awaited, EventError},
        restart,
    },
    protocol::{CommitContent, GroupName},
    rejection::Rejection,
    room::{Room, Standing, membership},
    turn::Turn,
};

/// Takes in one commit event.
pub(crate) fn receive(
    turn: &Turn<'_>,
    room: &mut Room,
    event: &EventId,
    sender: &UserId,
    content: &CommitContent,
    said_ms: Option<u64>,
) -> Result<Processed, EventError> {
    let commit = CommitEvent { id: event, sender, content, said_ms };
    if content.sender.user_id != sender {
        let reason = "the event names another user as sender";
        return Err(Rejection::SenderMismatch(reason).into());
    }
    if graph::by_event(turn.tx, &room.id, event)?.is_some() {
        // A device that left the group and comes back can join where it once was.
        if room.standing.head().is_none() {
            note_joinable(turn, room, commit, Confirmation::NotNeeded)?;
        }
        return Ok(Processed::Known);
    }
    if shows_a_hint(turn, room, commit)? {
        return Ok(Processed::Known);
    }
    let group = group_of(room, content);
    if content.is_announcement() && group != GroupName::First {
        return started_anew(turn, room, commit);
    }
    if restarts::is_unnamed(turn.tx, room, group)? {
        restart::vouched_for(turn, room, commit.id, content)?;
        restart::want(turn, &room.id, group)?;
        return Ok(Processed::TooEarly(EventError::Awaits(Awaited::Restart(group))));
    }
    if content.sender == turn.identity.name() {
        return own::receive(turn, room, commit);
    }
    if content.is_announcement() {
        return announced(turn, room, commit);
    }
    match &room.standing {
        Standing::Member(_) => follow(turn, room, commit),
        // Its user may be let in again behind it in the same sync.
        Standing::Gone if !room.set_aside.epochs.is_empty() => {
            let reason = room.outside().to_string();
            Ok(Processed::TooEarly(EventError::Awaits(Awaited::Group(reason))))
        }
        Standing::Gone => Err(room.outside().into()),
        Standing::NoGroup | Standing::Founding { .. } | Standing::Joining { .. } => {
            if let Some(processed) = follow_again(turn, room, commit)? {
                return Ok(processed);
            }
            note_joinable(turn, room, commit, Confirmation::NotNeeded)?;
            let reason = "this device is not in the room's group yet".to_owned();
            Ok(Processed::TooEarly(EventError::Awaits(Awaited::Group(reason))))
        }
    }
}

/// The group that a commit's event leads on in, as far as it says.
fn group_of(room: &Room, content: &CommitContent) -> GroupName {
    let state = content.public_group_state.bytes().unwrap_or_default();
    match history::peek(&state) {
        Ok(Header::GroupInfo { group_id, .. }) => {
            GroupName::of(&room.id, &group_id).unwrap_or_default()
        }
        _ => GroupName::First,
    }
}

/// The announcement of a group with which the room is started anew, if its state says so.
fn started_anew(
    turn: &Turn<'_>,
    room: &mut Room,
    commit: CommitEvent<'_>,
) -> Result<Processed, EventError> {
    let shown = JoinableEpoch::read(turn, &room.id, commit.id, commit.content)?;
    if own::restart_announced(turn, room, &shown)? {
        return Ok(Processed::Known);
    }
    restart::announced(turn, room, &shown)?;
    Ok(Processed::Announced)
}

/// Whether a commit is the one that a Welcome let this device in by. The Welcome's word for it is
/// not enough: its maker can name any event, and the commit in that event would never be followed.
fn shows_a_hint(turn: &Turn<'_>, room: &Room, commit: CommitEvent<'_>) -> Result<bool, EventError> {
    let hinted = graph::by_hint(turn.tx, &room.id, commit.id, &commit.content.sender)?;
    let Some(epoch) = hinted else { return Ok(false) };
    match JoinableEpoch::read(turn, &room.id, commit.id, commit.content) {
        Ok(shown) if shown.id == epoch.id => {
            graph::hint_was_right(turn.tx, &room.id, epoch)?;
            Ok(true)
        }
        Err(error) if error.ends_turn() => Err(error.into()),
        Ok(_) | Err(_) => Ok(false),
    }
}

/// An announcement of somebody else. In the room's own past it changes nothing: whoever joined
/// later finds it in the timeline. Beside a group of this device's own making it is a second group,
/// which ranks like any branch. Commits on it are no reason to ask for it: it is here, and a
/// Welcome or a join may lead to it, and nothing else.
fn announced(
    turn: &Turn<'_>,
    room: &mut Room,
    commit: CommitEvent<'_>,
) -> Result<Processed, EventError> {
    room.others_group |= room.standing.head().is_none();
    note_joinable(turn, room, commit, Confirmation::NotNeeded)?;
    missing::mark_announced(turn, &room.id, commit.id.as_str())?;
    Ok(Processed::Announced)
}

/// Applies a commit to an epoch that was set aside when this device's user left the Matrix room.
/// Whoever made it has this device in the group still, as long as it does not remove the device.
/// Nothing means that it says nothing of what was set aside.
fn follow_again(
    turn: &Turn<'_>,
    room: &mut Room,
    commit: CommitEvent<'_>,
) -> Result<Option<Processed>, EventError> {
    if room.set_aside.epochs.is_empty() {
        return Ok(None);
    }
    let bases = match apply::bases(turn, room, commit) {
        Ok(bases) if bases.is_empty() => return Ok(None),
        Ok(bases) => bases,
        Err(EventError::Rejected(_) | EventError::BadMedia(_)) => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut changed = room.clone();
    set_aside::take_up(turn, &mut changed, bases)?;
    let before = changed.kept.clone();
    let followed = turn.atomically(|| {
        let processed = follow(turn, &mut changed, commit)?;
        // An epoch that the others may have left does not lead because of a commit that does not.
        match changed.standing.head() {
            Some(head) if before.contains(&head) => {
                let reason = "this device, whose user was out of the room, does not go on with it";
                Err(EventError::NotFollowed(reason.to_owned()))
            }
            _ => Ok(processed),
        }
    });
    match followed {
        Ok(processed) if changed.standing.head().is_some() => {
            // Others may have known its keys for as long as it was out.
            changed.renewal.wanted = true;
            *room = changed;
            Ok(Some(processed))
        }
        Ok(processed) => {
            set_aside::put_back(&mut changed);
            *room = changed;
            // What is refused is tried once.
            Ok(Some(processed).filter(|it| !matches!(it, Processed::TooEarly(_))))
        }
        Err(error) if error.ends_turn() => Err(error),
        Err(error @ EventError::NotFollowed(_)) => Ok(Some(Processed::NotFollowed(error))),
        Err(_) => Ok(None),
    }
}

/// Applies a commit of another device; where that cannot be done, says what it means.
fn follow(
    turn: &Turn<'_>,
    room: &mut Room,
    commit: CommitEvent<'_>,
) -> Result<Processed, EventError> {
    // The part works on a copy: what it has changed is forgotten with its rows if it fails.
    let mut changed = room.clone();
    match turn.atomically(|| apply::apply(turn, &mut changed, commit)) {
        Ok(processed) => {
            *room = changed;
            Ok(processed)
        }
        Err(error) if error.ends_turn() => Err(error),
        Err(
            error @ (EventError::Rejected(Rejection::BadCommit(_) | Rejection::OutOfTime(_))
            | EventError::BadMedia(_)),
        ) => {
            let code = error.code_of_rejection();
            tracing::info!(room = %room.id, event = %commit.id, code, %error, "a commit is refused");
            // Most likely it applies nowhere. If others go on with it, its committer or a server
            // has wronged this device alone. Where there are no others, that cannot be told.
            let alone = membership::users_of_group(turn.tx, room)?.len() <= 2;
            let confirmation = if alone { Confirmation::NotNeeded } else { Confirmation::Needed };
            let processed = not_followed(turn, room, commit, &error.to_string(), confirmation)?;
            Ok(match (processed, error) {
                (
                    Processed::NotFollowed(EventError::NotFollowed(reason)),
                    EventError::Rejected(Rejection::OutOfTime(_)),
                ) => Processed::NotFollowed(EventError::OutOfTime(reason)),
                (processed, _) => processed,
            })
        }
        Err(error) if error.is_before_joining() => {
            // A commit of the past changes nothing. On a branch that began before and won, it does:
            // this device joins that branch, and a Welcome may yet let it in further back.
            if !note_joinable(turn, room, commit, Confirmation::NotNeeded)? {
                return Err(error);
            }
            missing::mark_missing(turn, &room.id, commit.id)?;
            Ok(Processed::TooEarly(EventError::Awaits(Awaited::Group(error.to_string()))))
        }
        Err(error) => Err(error),
    }
}
