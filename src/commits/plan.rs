//! The next step from who is in the group to who should be.
//!
//! The target is every joined user's devices that may take part. Whoever must not be there is
//! removed before anything is sealed. Whoever is missing is never waited for: a device without a
//! key package, or one whose add others have undone (`room::undone`), comes later. [`next_step`]
//! does one step towards it (ask for device lists, claim key packages, stage one commit) and says
//! what must be sent before the next; when nothing is left it marks the room as settled on its
//! head, unless this device's user has to decide first (`trusted`). It decides from the store
//! alone, so it gives the same answer after a restart.

use super::{
    difference::{begin, difference},
    key_packages::{self, LEAVE_ALONE},
    key_queries::ask_for_outdated,
    renewal, silent,
    stage::{Change, Staged, stage},
    trusted,
};
use crate::{
    compared::Comparison,
    epochs::{EpochRecord, graph},
    failure::EndsTurn,
    messages::SendError,
    requests::{self, Purpose, REQUEST_BACKOFF, REQUESTS},
    room::{Room, undone},
    store::StoreError,
    turn::Turn,
};

/// How many devices one commit adds at the most: more save little, and make one long call of it
/// (docs/decisions/007).
const MOST_ADDS: usize = 500;

/// How many devices that OpenMLS refuses are looked for, one by one, for one commit.
const MOST_REFUSED: usize = 4;

/// What has to happen before a room can be sent to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NextStep {
    /// Nothing.
    Ready,
    /// The requests with these ids have to be answered; with none, time has to pass.
    Waiting(Vec<i64>),
}

/// Does what can be done now towards the target membership of a room that has a head.
pub(crate) fn next_step(turn: &Turn<'_>, room: &mut Room) -> Result<NextStep, SendError> {
    let Some(head) = room.standing.head() else {
        return Err(room.outside().into());
    };
    let head = graph::get(turn.tx, &room.id, head)?;
    let rotate = room.renewal.wanted || renewal::is_due(turn, room, &head)?;
    let recheck = room.pace.recheck_ms.is_some_and(|due| !undone::is_ahead(due, turn.now_ms));
    if room.standing.is_settled() && !rotate && !recheck {
        return welcomes_first(turn, room);
    }
    if blocked_until(turn, room).is_some() {
        return Ok(NextStep::Waiting(Vec::new()));
    }
    let taken = turn.compared.map(|compared| compared.take(&room.id));
    let (known, releases) = taken.map_or((None, 0), |taken| (taken.known, taken.releases));
    let mut known = begin(turn, room, known)?;
    let planned = plan(turn, room, &head, rotate, &mut known);
    if let Some(compared) = turn.compared {
        compared.keep(&room.id, known, releases);
    }
    match planned? {
        Planned::Step(step) => Ok(step),
        Planned::Commit(change) => stage_possible(turn, room, &head, change),
    }
}

/// What is to be done.
enum Planned {
    Step(NextStep),
    Commit(Change),
}

/// Finds out what can be done now, by comparing who belongs with the members of the head.
fn plan(
    turn: &Turn<'_>,
    room: &mut Room,
    head: &EpochRecord,
    rotate: bool,
    known: &mut Comparison,
) -> Result<Planned, SendError> {
    let queries = ask_for_outdated(turn, &known.users)?;
    if !queries.is_empty() {
        return Ok(Planned::Step(NextStep::Waiting(queries)));
    }
    trusted::refuse_changed(turn, &known.users)?;
    let asking = silent::ask(turn, &room.id, &known.users)?;
    let mut difference = difference(turn, &room.id, head, known)?;
    let left_alone_ms = key_packages::leave_out_unreachable(turn, &room.id, &mut difference.add)?;
    let held = undone::hold_back(turn.tx, &room.id, &mut difference.add, turn.now_ms)?;
    // The rest come with the next commit.
    difference.add.truncate(most_adds());
    let mut claims = key_packages::claim_missing(turn, &room.id, &difference.add)?;
    claims.extend(asking.awaited);
    if !claims.is_empty() {
        return Ok(Planned::Step(NextStep::Waiting(claims)));
    }
    let wanted = difference.add.len();
    let add = key_packages::usable(turn, &room.id, difference.add)?;
    let unanswered_ms =
        (add.len() < wanted).then(|| turn.now_ms.saturating_add(LEAVE_ALONE.first_ms));
    room.pace.recheck_ms =
        left_alone_ms.into_iter().chain(unanswered_ms).chain(held).chain(asking.again_ms).min();
    if add.is_empty() && difference.remove.is_empty() && !rotate {
        trusted::refuse_unverified(turn, &room.id, head)?;
        room.standing.settle();
        return welcomes_first(turn, room).map(Planned::Step);
    }
    Ok(Planned::Commit(Change { add, remove: difference.remove, rotate }))
}

/// Stages a commit. A device may publish a key package that is good as far as can be seen, and that
/// cannot be added to this very group (its keys are another member's, say). That must not hold up
/// the room: such a package is given up as any bad one, and the plan made again. Where OpenMLS
/// refuses the commit all the same, whoever it refuses is found by trying, and left alone.
fn stage_possible(
    turn: &Turn<'_>,
    room: &mut Room,
    head: &EpochRecord,
    mut change: Change,
) -> Result<NextStep, SendError> {
    let mut refused = 0;
    loop {
        let mut changed = room.clone();
        let error = match turn.atomically(|| stage(turn, &mut changed, head, change.clone())) {
            Ok(Staged::Done) => {
                *room = changed;
                for (name, _) in &change.add {
                    key_packages::used(turn, &room.id, name)?;
                }
                return Ok(NextStep::Waiting(requests::ids_of_room(turn.tx, &room.id)?));
            }
            Ok(Staged::Unfit(unfit)) => {
                for (name, why) in unfit {
                    tracing::warn!(room = %room.id, device = %name, ?why, "cannot be added");
                    key_packages::unfit(turn, &room.id, &name, why)?;
                }
                return next_step(turn, room);
            }
            Err(error) if error.ends_turn() || change.add.is_empty() => return Err(error),
            Err(error) => error,
        };
        tracing::warn!(room = %room.id, %error, "a commit cannot be made");
        let Some(place) = first_refused(turn, room, head, &change)? else { return Err(error) };
        let (name, _) = change.add.remove(place);
        key_packages::give_up(turn, &room.id, &name)?;
        refused += 1;
        if refused >= MOST_REFUSED {
            // Those before this one can be added. The rest come with the next commit.
            change.add.truncate(place);
        }
    }
}

/// The place of the first device without which a commit could be made that adds those before it;
/// nothing where the commit cannot be made without any of them either.
fn first_refused(
    turn: &Turn<'_>,
    room: &Room,
    head: &EpochRecord,
    change: &Change,
) -> Result<Option<usize>, SendError> {
    let works = |number: usize| -> Result<bool, SendError> {
        let mut change = change.clone();
        change.add.truncate(number);
        let tried = turn.atomically(|| match stage(turn, &mut room.clone(), head, change) {
            Ok(_) => Err::<(), _>(Trial::Worked),
            Err(error) => Err(Trial::Failed(error)),
        });
        match tried {
            Err(Trial::Failed(error)) if error.ends_turn() => Err(error),
            Err(Trial::Failed(_)) => Ok(false),
            Ok(()) | Err(Trial::Worked) => Ok(true),
        }
    };
    if !works(0)? {
        return Ok(None);
    }
    let (mut good, mut bad) = (0, change.add.len());
    while bad - good > 1 {
        let middle = good + (bad - good) / 2;
        if works(middle)? { good = middle } else { bad = middle }
    }
    Ok(Some(good))
}

/// How a commit went that is undone either way.
enum Trial {
    Worked,
    Failed(SendError),
}

impl From<StoreError> for Trial {
    fn from(error: StoreError) -> Self {
        Self::Failed(error.into())
    }
}

fn most_adds() -> usize {
    #[cfg(feature = "test-hooks")]
    if let Some(most) = crate::store::hooks::most_adds() {
        return most;
    }
    MOST_ADDS
}

/// Ready, unless Welcomes are still to be sent: whoever was just added should be able to read what
/// comes next. The app is asked for them once; a Welcome that fails does not hold up the room.
fn welcomes_first(turn: &Turn<'_>, room: &Room) -> Result<NextStep, SendError> {
    let waiting: Vec<_> = REQUESTS
        .in_scope(turn.tx, room.id.as_bytes())?
        .into_iter()
        .filter(|(_, queued)| {
            matches!(queued.purpose, Purpose::Welcome { .. }) && !queued.handed_out
        })
        .map(|(id, _)| id)
        .collect();
    Ok(if waiting.is_empty() { NextStep::Ready } else { NextStep::Waiting(waiting) })
}

/// Until when no commit may be made, in milliseconds since 1970.
pub(crate) fn blocked_until(turn: &Turn<'_>, room: &Room) -> Option<u64> {
    room.pace.blocked_until_ms.filter(|until| turn.is_ahead(*until, REQUEST_BACKOFF.most_ms))
}

/// The homeserver has refused a commit: the next one has to wait, longer with each refusal.
pub(crate) fn block_commits(turn: &Turn<'_>, room: &mut Room) {
    let delay = REQUEST_BACKOFF.delay_ms(room.pace.refusals);
    room.pace.refusals = room.pace.refusals.saturating_add(1);
    room.pace.blocked_until_ms = Some(turn.now_ms.saturating_add(delay));
}
