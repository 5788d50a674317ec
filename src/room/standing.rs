//! How this device stands to a room's group.
//!
//! Each state holds what belongs to it and nothing else, so a contradiction cannot be written down:
//! there is no head without membership, and whoever is gone neither joins nor commits.

use super::rejoin::Rejoin;
use crate::protocol::EpochId;

/// How this device stands to the group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It has no group, and none is under way.
    NoGroup,
    /// It makes the group. Nothing is staged while it gathers the key packages of those who are to
    /// be in it; then the announcement waits for the homeserver.
    Founding { staged: Option<EpochId> },
    /// It has no group and joins one by itself.
    Joining {
        rejoin: Rejoin,
        /// Its external commit, or its own new group, until the homeserver has accepted it.
        staged: Option<EpochId>,
    },
    /// It is in the group.
    Member(Member),
    /// It left the group, or was removed together with its user.
    Gone,
}

/// A device that is in the group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    /// The epoch to send on.
    pub(crate) head: EpochId,
    /// The head's members were compared with the room's and found right; nothing has happened
    /// since that could change that.
    pub(crate) settled: bool,
    /// A commit of its own that the homeserver has not accepted yet.
    pub(crate) staged: Option<EpochId>,
    /// It has a group and joins anew all the same: it is outrun, or its store is not to be trusted.
    pub(crate) rejoin: Option<Rejoin>,
}

impl Standing {
    /// The epoch to send on.
    pub(crate) fn head(&self) -> Option<EpochId> {
        match self {
            Self::Member(member) => Some(member.head),
            _ => None,
        }
    }

    /// The epoch of its own that waits for the homeserver.
    pub(crate) fn staged(&self) -> Option<EpochId> {
        match self {
            Self::Founding { staged } | Self::Joining { staged, .. } => *staged,
            Self::Member(member) => member.staged,
            Self::NoGroup | Self::Gone => None,
        }
    }

    /// The rejoin under way.
    pub(crate) fn rejoin(&self) -> Option<&Rejoin> {
        match self {
            Self::Joining { rejoin, .. } => Some(rejoin),
            Self::Member(member) => member.rejoin.as_ref(),
            Self::NoGroup | Self::Founding { .. } | Self::Gone => None,
        }
    }

    /// The rejoin under way, to change it.
    pub(crate) fn rejoin_mut(&mut self) -> Option<&mut Rejoin> {
        match self {
            Self::Joining { rejoin, .. } => Some(rejoin),
            Self::Member(member) => member.rejoin.as_mut(),
            Self::NoGroup | Self::Founding { .. } | Self::Gone => None,
        }
    }

    /// It makes the group once it has the key packages of those who are to be in it.
    pub(crate) fn gather(&mut self) {
        *self = Self::Founding { staged: None };
    }

    /// Whether it gathers key packages for the group that it makes.
    pub(crate) fn is_gathering(&self) -> bool {
        *self == Self::Founding { staged: None }
    }

    /// It makes no group after all, unless that is made already.
    pub(crate) fn end_gathering(&mut self) {
        if self.is_gathering() {
            *self = Self::NoGroup;
        }
    }

    /// Whether it left or was removed with its user.
    pub(crate) fn is_gone(&self) -> bool {
        *self == Self::Gone
    }

    /// Whether the head's members are known to be the room's.
    pub(crate) fn is_settled(&self) -> bool {
        matches!(self, Self::Member(member) if member.settled)
    }

    /// The head's members were compared with the room's and found right.
    pub(crate) fn settle(&mut self) {
        if let Self::Member(member) = self {
            member.settled = true;
        }
    }

    /// The head's members have to be compared with the room's again before the next message.
    pub(crate) fn unsettle(&mut self) {
        if let Self::Member(member) = self {
            member.settled = false;
        }
    }

    /// This epoch is the one to send on from now; gives the one before it.
    pub(crate) fn lead(&mut self, head: EpochId) -> Option<EpochId> {
        let (staged, rejoin) = (self.staged(), self.rejoin().cloned());
        let before = self.head();
        *self = Self::Member(Member { head, settled: false, staged, rejoin });
        before
    }

    /// An epoch of its own waits for the homeserver.
    pub(crate) fn stage(&mut self, epoch: EpochId) {
        match self {
            Self::Joining { staged, .. } => *staged = Some(epoch),
            Self::Member(member) => member.staged = Some(epoch),
            Self::NoGroup | Self::Founding { .. } | Self::Gone => {
                *self = Self::Founding { staged: Some(epoch) };
            }
        }
    }

    /// The homeserver has answered; what it means for the epoch is told otherwise.
    pub(crate) fn unstage(&mut self) {
        match self {
            Self::Joining { staged, .. } => *staged = None,
            Self::Member(member) => member.staged = None,
            Self::Founding { .. } => *self = Self::NoGroup,
            Self::NoGroup | Self::Gone => {}
        }
    }

    /// It has to join anew. Whoever is gone comes back first.
    pub(crate) fn begin_rejoin(&mut self, rejoin: Rejoin) {
        match self {
            Self::Member(member) => member.rejoin = Some(rejoin),
            Self::NoGroup | Self::Founding { .. } | Self::Joining { .. } => {
                *self = Self::Joining { rejoin, staged: self.staged() };
            }
            Self::Gone => {}
        }
    }

    /// It need not join anew any more; gives the rejoin that was under way.
    pub(crate) fn end_rejoin(&mut self) -> Option<Rejoin> {
        match self {
            Self::Member(member) => member.rejoin.take(),
            Self::Joining { .. } => {
                let staged = self.staged();
                let ended = match staged {
                    Some(_) => Self::Founding { staged },
                    None => Self::NoGroup,
                };
                match std::mem::replace(self, ended) {
                    Self::Joining { rejoin, .. } => Some(rejoin),
                    _ => None,
                }
            }
            Self::NoGroup | Self::Founding { .. } | Self::Gone => None,
        }
    }

    /// It is in the group no longer, and does not join it.
    pub(crate) fn give_up(&mut self) {
        *self = Self::Gone;
    }

    /// Its user is in the room again, or somebody has let it in.
    pub(crate) fn come_back(&mut self) {
        if self.is_gone() {
            *self = Self::NoGroup;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::room::RejoinReason;

    fn epoch(byte: u8) -> EpochId {
        EpochId::from_bytes([byte; 32])
    }

    fn rejoin() -> Rejoin {
        Rejoin::new(RejoinReason::NoGroup, 0)
    }

    #[test]
    fn a_founder_becomes_a_member_when_the_homeserver_accepts() {
        let mut standing = Standing::NoGroup;
        standing.stage(epoch(1));
        assert_eq!(standing, Standing::Founding { staged: Some(epoch(1)) });
        standing.unstage();
        assert_eq!(standing.lead(epoch(1)), None);
        assert_eq!((standing.head(), standing.staged()), (Some(epoch(1)), None));
        assert!(!standing.is_settled());
        standing.settle();
        assert_eq!(standing.lead(epoch(2)), Some(epoch(1)));
        assert!(!standing.is_settled(), "another head has other members");
    }

    #[test]
    fn a_founder_gathers_until_the_group_is_made_or_another_is_found() {
        let mut standing = Standing::NoGroup;
        standing.gather();
        assert!(standing.is_gathering());
        assert_eq!((standing.head(), standing.staged()), (None, None));
        standing.stage(epoch(1));
        standing.end_gathering();
        assert_eq!(standing.staged(), Some(epoch(1)), "it is made already");
        standing.gather();
        standing.end_gathering();
        assert_eq!(standing, Standing::NoGroup);
        standing.gather();
        assert_eq!(standing.lead(epoch(2)), None);
        assert!(!standing.is_gathering(), "somebody has let it into theirs");
    }

    #[test]
    fn what_is_under_way_survives_a_new_head_and_a_refusal() {
        let mut standing = Standing::NoGroup;
        standing.begin_rejoin(rejoin());
        standing.stage(epoch(1));
        standing.unstage();
        assert_eq!(standing.rejoin(), Some(&rejoin()), "the next try comes");
        standing.stage(epoch(2));
        standing.lead(epoch(3));
        assert_eq!(standing.staged(), Some(epoch(2)));
        assert_eq!(standing.end_rejoin(), Some(rejoin()));
        assert_eq!(standing.end_rejoin(), None);
    }

    #[test]
    fn whoever_is_gone_has_nothing_under_way() {
        let mut standing = Standing::NoGroup;
        standing.begin_rejoin(rejoin());
        standing.lead(epoch(1));
        standing.stage(epoch(2));
        standing.give_up();
        assert_eq!((standing.head(), standing.staged()), (None, None));
        assert_eq!(standing.rejoin(), None);
        standing.settle();
        standing.unstage();
        standing.begin_rejoin(rejoin());
        assert_eq!(standing, Standing::Gone);
        standing.come_back();
        assert_eq!(standing, Standing::NoGroup);
    }
}
