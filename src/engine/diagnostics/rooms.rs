//! The rooms in a report.

use serde::Serialize;

use super::{
    epochs::{self, Epoch},
    names::short,
};
use crate::{
    epochs::{graph, joinable, missing},
    incoming::{catch_up, waiting},
    room::{self, RejoinReason, Retention, Room, Settings, Standing, member_list},
    store::{StoreError, Tx},
};

/// How many rooms are looked at. The rest is counted.
const MOST_ROOMS: usize = 500;
/// How many epochs are looked at in one room, beside the head.
const MOST_EPOCHS: usize = 32;
/// How many of them are looked at altogether. With a head in each room that makes 2,000.
const MOST_EPOCHS_IN_ALL: usize = 1_500;

/// The rooms of a store.
#[derive(Serialize)]
pub(super) struct Rooms {
    /// How many rooms were ever heard of.
    pub(super) known: u64,
    /// How many of those that were looked at do not use MLS.
    pub(super) without_mls: usize,
    /// How many were not looked at.
    pub(super) left_out: u64,
    pub(super) list: Vec<RoomReport>,
}

/// A room.
#[derive(Serialize)]
pub(super) struct RoomReport {
    pub(super) room: String,
    /// How this device stands to the group.
    pub(super) standing: &'static str,
    /// The group's members were compared with the room's.
    pub(super) is_settled: bool,
    /// A commit of this device's waits for the homeserver.
    pub(super) is_staged: bool,
    pub(super) rejoins_because: Option<&'static str>,
    /// How often the room was started anew.
    restarted: bool,
    /// Somebody else has announced a group.
    others_group: bool,
    own_user_left: bool,
    /// Whether it is known who is in the Matrix room, and how many the homeserver says have joined.
    pub(super) knows_members: bool,
    joined_users: Option<u64>,
    pub(super) epochs_known: u64,
    epochs_full: usize,
    /// How many of the listed epochs have more than one child.
    pub(super) forks: usize,
    pub(super) waiting_events: u64,
    pub(super) waiting_for_ms: Option<u64>,
    pub(super) missing_commits: u64,
    pub(super) joinable_epochs: u64,
    pub(super) is_catching_up: bool,
    /// How many commits in a row the homeserver has refused, and until when none is made.
    commits_refused: u32,
    blocked_for_ms: Option<u64>,
    external_joins: usize,
    settings: SettingsReport,
    pub(super) epochs: Vec<Epoch>,
}

/// A room's settings.
#[derive(Serialize)]
struct SettingsReport {
    rotate_after_messages: u32,
    rotate_after_ms: u64,
    include_invited: bool,
    kept_epochs: u32,
    kept_for_ms: u64,
    allow_external_joins: bool,
    refuse_unfit_commits: bool,
    keep_history_ms: Option<u64>,
    read_once: bool,
    share_history: bool,
    catch_up_events: u32,
    refuse_late_messages: bool,
}

impl Rooms {
    pub(super) fn of(tx: &Tx<'_>, now_ms: u64) -> Result<Self, StoreError> {
        let (known, looked_at) = (room::count(tx)?, room::newest(tx, MOST_ROOMS)?);
        let left_out = known.saturating_sub(looked_at.len() as u64);
        let mut without_mls = 0;
        let (mut epochs_left, mut list) = (MOST_EPOCHS_IN_ALL, Vec::new());
        for room in &looked_at {
            if room.uses_mls() || room.standing != Standing::NoGroup {
                let report = RoomReport::of(tx, room, epochs_left.min(MOST_EPOCHS), now_ms)?;
                epochs_left = epochs_left.saturating_sub(report.epochs.len());
                list.push(report);
            } else {
                without_mls += 1;
            }
        }
        Ok(Self { known, without_mls, left_out, list })
    }
}

impl RoomReport {
    fn of(tx: &Tx<'_>, room: &Room, most_epochs: usize, now_ms: u64) -> Result<Self, StoreError> {
        let members = member_list::load(tx, &room.id)?;
        let (waiting_events, waiting_since_ms) = waiting::state(tx, &room.id)?;
        let epochs = epochs::of(tx, room, most_epochs, now_ms)?;
        let is_ahead = |until: &u64| *until > now_ms;
        Ok(Self {
            room: short(room.id.as_str()),
            standing: match &room.standing {
                Standing::NoGroup => "no_group",
                Standing::Founding { .. } => "founding",
                Standing::Joining { .. } => "joining",
                Standing::Member(_) => "member",
                Standing::Gone => "gone",
            },
            is_settled: room.standing.is_settled(),
            is_staged: room.standing.staged().is_some(),
            rejoins_because: room.standing.rejoin().map(|rejoin| reason(rejoin.reason)),
            restarted: room.restarts.last.is_some(),
            others_group: room.others_group,
            own_user_left: room.state.own_user_left,
            knows_members: members.is_good(),
            joined_users: members.joined_count(),
            epochs_known: graph::count(tx, &room.id)?,
            epochs_full: room.kept.len(),
            forks: epochs::forks(&epochs),
            waiting_events,
            waiting_for_ms: waiting_since_ms.map(|since| now_ms.saturating_sub(since)),
            missing_commits: missing::count(tx, &room.id)?,
            joinable_epochs: joinable::count(tx, &room.id)?,
            is_catching_up: catch_up::is_under_way(tx, &room.id)?,
            commits_refused: room.pace.refusals,
            blocked_for_ms: room.pace.blocked_until_ms.filter(is_ahead).map(|until| until - now_ms),
            external_joins: room.joins.times_ms.len(),
            settings: SettingsReport::of(&room.settings),
            epochs,
        })
    }
}

impl SettingsReport {
    fn of(settings: &Settings) -> Self {
        Self {
            rotate_after_messages: settings.rotate_after_messages,
            rotate_after_ms: settings.rotate_after_ms,
            include_invited: settings.include_invited,
            kept_epochs: settings.kept_epochs,
            kept_for_ms: settings.kept_for_ms,
            allow_external_joins: settings.allow_external_joins,
            refuse_unfit_commits: settings.refuse_unfit_commits,
            keep_history_ms: match settings.history {
                Retention::KeepFor(ms) => Some(ms),
                Retention::Keep | Retention::ReadOnce => None,
            },
            read_once: settings.history == Retention::ReadOnce,
            share_history: settings.share_history,
            catch_up_events: settings.catch_up_events,
            refuse_late_messages: settings.refuse_late_messages,
        }
    }
}

fn reason(reason: RejoinReason) -> &'static str {
    match reason {
        RejoinReason::NoGroup => "no_group",
        RejoinReason::Removed => "removed",
        RejoinReason::Doubtful => "doubtful",
        RejoinReason::Restarted => "restarted",
        RejoinReason::Outrun => "outrun",
        RejoinReason::OldCopy => "old_copy",
    }
}
