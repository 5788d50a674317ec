//! The next step towards joining anew.

use super::{
    external,
    need::end,
    pace::{LONGEST_WAIT_MS, Occasion, committed_unasked, is_spent, may_commit, waits_until},
    search::{self, SEARCH_AGAIN_MS},
};
use crate::{
    commits::{NextStep, ask_for_outdated},
    devices,
    epochs::{
        JoinableEpoch, head,
        joinable::{self, Dispute},
        numbers::Reach,
    },
    exported::Update,
    failure::{EndsTurn, Failure},
    incoming::{
        Awaited, EventError, history_pages::MOST_PAGES, lost_tree, media, members,
        ratchet_tree::Named, restart,
    },
    messages::SendError,
    requests,
    room::{Rejoin, RejoinReason, Room, Search, Strangers, member_list, membership, undone},
    store::StoreError,
    turn::Turn,
};

/// How long is waited for a ratchet tree that cannot be had, in milliseconds, doubling with each
/// time; and how often.
const FIRST_MEDIA_WAIT_MS: u64 = 30_000;
const MOST_MEDIA_TRIES: u32 = 5;
/// So long a message waits for a join that is about to come.
const SHORT_WAIT_MS: u64 = 5_000;
/// How often the rest after a failure doubles: up to most of a day.
const MOST_REST_DOUBLINGS: u32 = 7;

/// Whether the next step is made though nothing is to be sent.
pub(crate) fn may_step_unasked(turn: &Turn<'_>, room: &Room) -> Result<bool, StoreError> {
    let Some(rejoin) = room.standing.rejoin() else { return Ok(false) };
    let own = turn.identity.name().user_id;
    // Nothing is wanted of whoever is not in the room; where that is not known, only on demand.
    let is_out = !membership::is_joined(turn.tx, &room.id, &own)?
        && (rejoin.reason == RejoinReason::NoGroup || member_list::was_seen(turn.tx, &room.id)?);
    Ok(!is_out
        && room.upgrade.replacement.is_none()
        && rejoin.reason != RejoinReason::Removed
        && !turn.is_ahead(rejoin.resting_until_ms, SEARCH_AGAIN_MS)
        && !turn.is_ahead(rejoin.unasked_from_ms, LONGEST_WAIT_MS)
        && room.standing.staged().is_none())
}

/// Rests after a failure, until something is to be sent or some time has passed; tells the app why.
pub(crate) fn rest(turn: &Turn<'_>, room: &mut Room, error: &SendError) {
    if let Some(rejoin) = room.standing.rejoin_mut() {
        let rest = SEARCH_AGAIN_MS << rejoin.rests.min(MOST_REST_DOUBLINGS);
        rejoin.rests = rejoin.rests.saturating_add(1);
        rejoin.resting_until_ms = turn.now_ms.saturating_add(rest);
    }
    let reason = error.to_string();
    turn.tell(Update::HealingFailed { room_id: room.id.to_string(), reason });
}

/// Does the next step towards joining anew.
pub(crate) fn step(
    turn: &Turn<'_>,
    room: &mut Room,
    occasion: Occasion,
) -> Result<NextStep, SendError> {
    let Some(rejoin) = room.standing.rejoin() else {
        return Err(room.outside().into());
    };
    if rejoin.after_sync || waits_until(turn, room).is_some() {
        return Ok(NextStep::Waiting(Vec::new()));
    }
    let reason = rejoin.reason;
    let own = turn.identity.name();
    if reason == RejoinReason::Removed
        && undone::held_until(turn.tx, &room.id, &own, turn.now_ms)?.is_some()
    {
        return Err(SendError::CannotRejoin(
            "other members have removed this device again after it had come back: it waits to be \
             added, and joins by itself later",
        ));
    }
    // A room that was upgraded may have no group yet, and then this device can make it.
    let may_join = room.settings.allow_external_joins
        || (room.awaits_group() && joinable::best(turn.tx, &room.id, None)?.is_none());
    if !may_join {
        return Err(SendError::CannotRejoin(
            "this device cannot go on, and the room's settings forbid joining by itself: it waits \
             to be added again",
        ));
    }
    // Whose epochs may be joined depends on who is in the room.
    let unknown = members::ask(turn, &room.id)?;
    if !unknown.is_empty() {
        return Ok(NextStep::Waiting(unknown));
    }
    // A device that is listed in no answer could not be checked by those who are to take it in.
    let users = membership::users_of_group(turn.tx, room)?;
    devices::track(turn.tx, users.iter().map(|user| &**user))?;
    let queries = ask_for_outdated(turn, &users)?;
    if !queries.is_empty() {
        return Ok(NextStep::Waiting(queries));
    }
    let undecided = restart::look(turn, room)?;
    if !undecided.is_empty() {
        return Ok(NextStep::Waiting(undecided));
    }
    if is_spent(turn, room, occasion) {
        return Err(SendError::CannotRejoin(
            "this device has joined by itself too often of late; it tries again within the hour",
        ));
    }
    if has_to_look_further(turn, room, reason)? {
        return search::search(turn, room);
    }
    if let Some(step) = join_best(turn, room, reason, occasion)? {
        return Ok(step);
    }
    if reason == RejoinReason::Outrun {
        // What was ahead turned out to be nothing that could be joined.
        end(turn, room)?;
        return Ok(NextStep::Waiting(Vec::new()));
    }
    search::search(turn, room)
}

/// Whether the room can be sent to although the rejoin has not come about: the device has a head
/// that works, and is only told of a branch that is ahead. Whoever tells may be making it up.
pub(crate) fn can_go_on_without(
    turn: &Turn<'_>,
    room: &Room,
    step: &Result<NextStep, SendError>,
) -> bool {
    let is_outrun = |rejoin: &Rejoin| rejoin.reason == RejoinReason::Outrun;
    if !room.standing.rejoin().is_some_and(is_outrun)
        || room.standing.head().is_none()
        || room.standing.staged().is_some()
    {
        return false;
    }
    match step {
        // What is asked for is needed to send as well, or comes soon.
        Ok(NextStep::Waiting(requests)) => {
            requests.is_empty()
                && waits_until(turn, room)
                    .is_none_or(|at| at.saturating_sub(turn.now_ms) > SHORT_WAIT_MS)
        }
        Ok(NextStep::Ready) => true,
        Err(error) => !error.ends_turn(),
    }
}

/// Tries the joinable epochs, best first; nothing when there is none left to try.
fn join_best(
    turn: &Turn<'_>,
    room: &mut Room,
    reason: RejoinReason,
    occasion: Occasion,
) -> Result<Option<NextStep>, SendError> {
    // A store that is not to be trusted has a head that is as foreign as any.
    while let Some(onto) = next_to_join(turn, room, reason)? {
        let tree = match tree_of(turn, room, &onto)? {
            Tree::Here(tree) => tree,
            Tree::Awaited(step) => return Ok(Some(step)),
            Tree::Lost => {
                joinable::forget(turn.tx, &room.id, onto.id)?;
                continue;
            }
        };
        if is_strangers(turn, room, &onto)? {
            joinable::forget(turn.tx, &room.id, onto.id)?;
            continue;
        }
        if !may_commit(turn, room, occasion)? {
            return Ok(Some(NextStep::Waiting(Vec::new())));
        }
        room.joins.times_ms.push(turn.now_ms);
        match turn.atomically(|| external::stage(turn, room, &onto, tree)) {
            Ok(staged) => {
                room.standing.stage(staged);
                if occasion != Occasion::Asked {
                    committed_unasked(turn, room)?;
                }
                return Ok(Some(NextStep::Waiting(requests::ids_of_room(turn.tx, &room.id)?)));
            }
            Err(EventError::Failure(failure)) if failure.ends_turn() => return Err(failure.into()),
            Err(EventError::Send(error)) if error.ends_turn() => return Err(error),
            Err(error) => {
                let code = error.code_of_rejection();
                tracing::warn!(room = %room.id, code, %error, "a group state cannot be joined by");
                room.joins.times_ms.pop();
                if lost_tree::refuse(turn, &room.id, &onto.commit_event)? {
                    continue;
                }
                joinable::forget(turn.tx, &room.id, onto.id)?;
            }
        }
    }
    Ok(None)
}

/// The epoch to join next.
fn next_to_join(
    turn: &Turn<'_>,
    room: &Room,
    reason: RejoinReason,
) -> Result<Option<JoinableEpoch>, StoreError> {
    let ahead_of = match reason {
        // Nothing that this device has tells whom to believe.
        RejoinReason::NoGroup | RejoinReason::Doubtful | RejoinReason::Restarted => {
            return Ok(joinable::by_lineage(turn.tx, room)?.into_iter().next());
        }
        // A store that is not to be trusted has a head that is as foreign as any.
        RejoinReason::OldCopy => None,
        RejoinReason::Removed => head::rank(turn.tx, room)?.map(Reach::at),
        RejoinReason::Outrun => head::reach(turn, room)?,
    };
    joinable::best(turn.tx, &room.id, ahead_of.as_ref())
}

/// Whether more of the room's history is looked at before one of the known epochs is joined: what
/// is known rests on one user's word, or contradicts itself.
fn has_to_look_further(
    turn: &Turn<'_>,
    room: &Room,
    reason: RejoinReason,
) -> Result<bool, StoreError> {
    if !matches!(reason, RejoinReason::NoGroup | RejoinReason::Doubtful) {
        return Ok(false);
    }
    let dispute = joinable::dispute(turn.tx, room)?;
    let search = room.standing.rejoin().map(|rejoin| &rejoin.search);
    Ok(match (dispute, search) {
        (Dispute::None, _) | (_, Some(Search::FoundNothing { .. }) | None) => false,
        (Dispute::OneWord, search) => matches!(search, Some(Search::NotYet)),
        (Dispute::Contradiction, Some(Search::NotYet)) => true,
        (Dispute::Contradiction, Some(Search::At { pages, .. })) => *pages < MOST_PAGES,
    })
}

/// The ratchet tree of an epoch that is to be joined.
enum Tree {
    /// It is here; nothing where it stands in the GroupInfo.
    Here(Option<Vec<u8>>),
    /// It is still to come.
    Awaited(NextStep),
    /// It cannot be had.
    Lost,
}

fn tree_of(turn: &Turn<'_>, room: &mut Room, onto: &JoinableEpoch) -> Result<Tree, SendError> {
    let offered = lost_tree::offered(turn, &room.id, &onto.commit_event)?;
    let named = match &offered {
        Some(_) => Named { whole: offered.as_ref(), difference: None },
        None => Named { whole: onto.tree.as_ref(), difference: onto.tree_difference.as_ref() },
    };
    let error = match named.fetch(turn, &room.id) {
        Ok(None) => return Ok(Tree::Here(None)),
        // Nobody else knows of a tree that was given to this device: it publishes its own.
        Ok(Some(fetched)) if offered.is_some() => return Ok(Tree::Here(Some(fetched.tree))),
        Ok(Some(fetched)) => {
            // What this device commits names what it has fetched.
            fetched.keep(turn, &room.id, onto.group)?;
            return Ok(Tree::Here(Some(fetched.tree)));
        }
        Err(EventError::Awaits(Awaited::Media)) => {
            media::queue_wanted(turn)?;
            let waiting = requests::ids_of_room(turn.tx, &room.id)?;
            return Ok(Tree::Awaited(NextStep::Waiting(waiting)));
        }
        Err(EventError::Failure(failure)) if failure.ends_turn() => return Err(failure.into()),
        Err(error @ EventError::Rejected(_)) => {
            tracing::warn!(room = %room.id, %error, "a ratchet tree cannot be put together");
            return Ok(Tree::Lost);
        }
        Err(error) => error,
    };
    // An older epoch would be a branch that nobody follows: better to wait for this one.
    match room.standing.rejoin_mut() {
        Some(rejoin) if rejoin.media_tries < MOST_MEDIA_TRIES => {
            tracing::warn!(room = %room.id, %error, "a ratchet tree cannot be had for now");
            lost_tree::want(turn, &room.id, (&onto.commit_event, &onto.creator))?;
            for value in named.values() {
                media::try_again(turn, &room.id, value)?;
            }
            let wait = FIRST_MEDIA_WAIT_MS << rejoin.media_tries;
            rejoin.media_tries += 1;
            rejoin.not_before_ms = turn.now_ms.saturating_add(wait);
            Ok(Tree::Awaited(NextStep::Waiting(Vec::new())))
        }
        _ => Ok(Tree::Lost),
    }
}

/// A tree that could not be had is there: there is nothing to wait for.
pub(crate) fn tree_came(room: &mut Room) {
    if let Some(rejoin) = room.standing.rejoin_mut() {
        rejoin.not_before_ms = 0;
    }
}

/// Whether an epoch is passed over because its maker's user is not in the room.
fn is_strangers(turn: &Turn<'_>, room: &mut Room, onto: &JoinableEpoch) -> Result<bool, Failure> {
    if membership::is_joined(turn.tx, &room.id, &onto.creator.user_id)? {
        return Ok(false);
    }
    Ok(match room.standing.rejoin_mut() {
        Some(rejoin) if rejoin.strangers != Strangers::Accepted => {
            rejoin.strangers = Strangers::Seen;
            true
        }
        _ => false,
    })
}
