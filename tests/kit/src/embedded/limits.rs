//! How often users may send, join, invite and create rooms: off, or as Synapse's defaults are.
//!
//! Limits on registering and logging in are left out, as tests do nothing but that. A limit is a
//! bucket that leaks: so many at once, and then one more each interval.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use super::{error::Refusal, state::World};

/// What is limited.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    /// Events of a user, memberships and new rooms with them.
    Message,
    /// Joins of a user.
    Join,
    /// Invitations into a room, of a user, and by a user.
    InviteIntoRoom,
    InviteOfUser,
    InviteByUser,
    /// Rooms of a creator.
    RoomCreation,
}

impl Kind {
    /// How many are allowed at once, and how many more each thousand seconds.
    fn rate(self) -> (u32, u32) {
        match self {
            Self::Message => (10, 200),
            Self::Join => (10, 100),
            Self::InviteIntoRoom | Self::InviteByUser => (10, 300),
            Self::InviteOfUser => (5, 3),
            Self::RoomCreation => (10, 16),
        }
    }
}

/// The state of all limits.
#[derive(Default)]
pub(super) struct Limits {
    /// When the next would have been allowed had there been no burst.
    due: HashMap<(Kind, String), Instant>,
}

impl Limits {
    /// How much too early this would be.
    fn early(&self, kind: Kind, key: &str) -> Option<Duration> {
        let (burst, per_kilosecond) = kind.rate();
        let interval = Duration::from_secs(1000) / per_kilosecond;
        let due = self.due.get(&(kind, key.to_owned()))?;
        let ahead = due.saturating_duration_since(Instant::now());
        ahead.checked_sub(interval * (burst - 1)).filter(|early| !early.is_zero())
    }

    fn count(&mut self, kind: Kind, key: &str) {
        let (_, per_kilosecond) = kind.rate();
        let now = Instant::now();
        let due = self.due.entry((kind, key.to_owned())).or_insert(now);
        *due = (*due).max(now) + Duration::from_secs(1000) / per_kilosecond;
    }
}

fn too_early(early: Duration) -> Refusal {
    let milliseconds = u64::try_from(early.as_millis()).unwrap_or(u64::MAX);
    Refusal::limit_exceeded(milliseconds.max(1))
}

impl World {
    /// Refuses what comes too early, and counts the others; nothing while there are no limits.
    fn limit(&mut self, what: &[(Kind, &str)]) -> Result<(), Refusal> {
        let Some(limits) = &mut self.limits else {
            return Ok(());
        };
        if let Some(early) = what.iter().filter_map(|(kind, key)| limits.early(*kind, key)).max() {
            return Err(too_early(early));
        }
        what.iter().for_each(|(kind, key)| limits.count(*kind, key));
        Ok(())
    }

    pub fn limit_event(&mut self, user_id: &str) -> Result<(), Refusal> {
        self.limit(&[(Kind::Message, user_id)])
    }

    pub fn limit_room_creation(&mut self, user_id: &str) -> Result<(), Refusal> {
        self.limit(&[(Kind::RoomCreation, user_id), (Kind::Message, user_id)])
    }

    pub fn limit_membership(
        &mut self,
        room_id: &str,
        sender: &str,
        target: &str,
        membership: &str,
    ) -> Result<(), Refusal> {
        match membership {
            "join" => self.limit(&[(Kind::Join, sender), (Kind::Message, sender)]),
            "invite" => self.limit(&[
                (Kind::InviteIntoRoom, room_id),
                (Kind::InviteOfUser, target),
                (Kind::InviteByUser, sender),
                (Kind::Message, sender),
            ]),
            _ => self.limit(&[(Kind::Message, sender)]),
        }
    }
}
