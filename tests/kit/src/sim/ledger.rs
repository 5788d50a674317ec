//! What was sealed: by whom, for whom, in which epoch; and who owes whom to be able to read it.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    app::App,
    world::{Event, Name, World, user_id},
};

/// One message.
#[derive(Debug, Clone)]
pub(super) struct Sealed {
    pub(super) text: String,
    pub(super) sender: Name,
    /// The group's members, as the sender saw them.
    pub(super) members: BTreeSet<Name>,
    /// The event of the commit that made its epoch.
    pub(super) epoch: String,
    /// Who was joined, as the sender saw it: the users' member events.
    pub(super) joins: BTreeSet<String>,
    /// Whether its sender had been welcomed by the hostile member, and was where that led.
    pub(super) is_misled: bool,
}

/// All messages of a schedule, by number.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub(super) messages: Vec<Sealed>,
}

/// How far an epoch may be behind for its messages to be owed: fewer commits and less time than the
/// library keeps epochs for.
const OWED_COMMITS: usize = 14;
const OWED_MS: u64 = 6 * 86_400_000;
/// For less than so long a commit is awaited on an epoch that all its members have left, in
/// milliseconds.
const LEFT_MS: u64 = 50 * 60 * 1000;

/// The transaction id of a message.
pub(super) fn transaction(message: usize) -> String {
    format!("message-{message}")
}

/// The message that an event carries.
pub(super) fn message_of(event: &Event) -> Option<usize> {
    event.transaction.as_deref()?.strip_prefix("message-")?.parse().ok()
}

impl Ledger {
    /// Notes a message; its number.
    pub(super) fn add(&mut self, sealed: Sealed) -> usize {
        self.messages.push(sealed);
        self.messages.len() - 1
    }

    /// The messages that some server has, with their events.
    pub(super) fn sent<'a>(
        &'a self,
        world: &'a World,
    ) -> impl Iterator<Item = (usize, &'a Sealed, &'a Arc<Event>)> {
        world.events().filter_map(|event| {
            let number = message_of(event)?;
            Some((number, self.messages.get(number)?, event))
        })
    }

    /// Whether a device must be able to read a message, now that the world is quiet. It must if it
    /// was a member when the message was sealed, unless it could not have what it takes:
    ///
    /// - it is logged out, or its user is not in the room, or has left and come back since in a way
    ///   the sender had not heard of;
    /// - it never was in the epoch: between the last point at which it came into the group (by
    ///   making it, by a Welcome it got, or by joining externally) and the message's epoch lies
    ///   none that it could follow. It cannot follow a commit of its own that it made and forgot as
    ///   an older copy of its store was restored, nor one whose Welcome for it was lost;
    /// - its server hides the message or one of those commits;
    /// - one of them came so late that epochs are no longer kept for it, or was made on an epoch
    ///   that others had gone on from so long before; much less where somebody joined by themselves
    ///   on an epoch that its members had left;
    /// - a hostile member made so many commits that the epoch was pushed out on which others
    ///   committed;
    /// - its sender was where the hostile member's Welcome had led: others were not told of that
    ///   epoch;
    /// - somebody had joined by the public group state beside a commit of the hostile member's that
    ///   no member can process;
    /// - its clock was years behind until after the message, so that by it years had passed since;
    /// - it went on elsewhere from where it had come in, and others only so long after went on from
    ///   there.
    pub(super) fn owes(&self, world: &World, app: &App, message: &Sealed, event: &Event) -> bool {
        let server = app.name.server();
        let is_here = app.alive && world.is_joined(app.name.user);
        let join = app.kept.joined.get(&user_id(app.name.user));
        let knew = join.is_some_and(|join| message.joins.contains(join));
        if !is_here || !message.members.contains(&app.name) || !knew || message.is_misled {
            return false;
        }
        if app.leapt_ms.is_some_and(|at_ms| event.at_ms < at_ms) {
            return false;
        }
        let in_time =
            |event: &Event| world.is_shown(server, event) && app.took_ms(world, event) < OWED_MS;
        if !in_time(event) {
            return false;
        }
        let commits_after =
            |tick| world.events().filter(|event| event.is_commit() && event.tick > tick).count();
        let most_ms = |step: &Event| if step.is_external_commit() { LEFT_MS } else { OWED_MS };
        // Whoever commits without end pushes old epochs out, those that others are still on as
        // well.
        let since = |step: &Event| match &step.base {
            Some(base) if world.is_hostile => world.event(base).map_or(step.tick, |base| base.tick),
            _ => step.tick,
        };
        let mut next: Option<Arc<Event>> = None;
        for step in world.lineage(&message.epoch) {
            if app.kept.entries.contains(&step.id) {
                let age_ms = |next: Arc<Event>| next.at_ms.saturating_sub(step.at_ms);
                return !world.went_on_elsewhere(&app.name, &step)
                    || next.is_none_or(|next| age_ms(next) < OWED_MS);
            }
            let own = step.committer.as_ref().is_some_and(|(user, device)| {
                Name::parse(user, device).as_ref() == Some(&app.name)
            });
            let is_forgotten = |(from, until): &(u64, u64)| (*from..*until).contains(&step.tick);
            if (own && app.forgotten.iter().any(is_forgotten))
                || world.lost.contains(&(app.name.clone(), step.id.clone()))
                || world.garbage.contains(&step.id)
                || !in_time(&step)
                || world.late_ms(server, &step, app.took_ms(world, &step)) >= most_ms(&step)
                || commits_after(since(&step)) > OWED_COMMITS
            {
                return false;
            }
            next = Some(step);
        }
        false
    }
}
