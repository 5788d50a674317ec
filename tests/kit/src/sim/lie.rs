//! What a hostile member and a hostile server do: the steps of a schedule, and how they are drawn.

use proptest::{prelude::*, strategy::Union};
use serde::{Deserialize, Serialize};

/// What a hostile member does. The step's salt decides the small things: on which of the epochs
/// that it has been in, with which number, by whose name.
#[allow(missing_docs, reason = "the fields are numbers of what the variants speak of")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Lie {
    /// It announces the group's state, signed with a number that the epoch does not have.
    Renumber,
    /// A real commit on a base that no server has; or several of them.
    Nowhere { commits: u8 },
    /// It welcomes a device to a group of its own, as if by another's commit.
    FalseWelcome { device: u8 },
    /// Two commits on one epoch, each to other servers.
    Equivocate,
    /// Commits one after the other, on an epoch of its choice: an old one, or where it was removed.
    Branch { commits: u8 },
    /// It removes an honest device, or all of them.
    Oust { device: u8, all: bool },
    /// It adds a device that its user does not have.
    Ghost { user: u8 },
    /// What another has sent, as its own event.
    Replay,
    /// A commit that is none, or none any more.
    Garbage,
    /// A good commit with claims beside it that are not true.
    FalseClaims,
    /// It offers a device history that opens nothing.
    Offer { device: u8 },
    /// A message of its own, sealed again under another generation.
    SealAgain,
    /// It says something, in an epoch of its choice.
    Say,
    /// It makes a group under the room's id, announces it, commits and speaks there.
    OwnGroup { commits: u8 },
    /// It joins by itself, member or not.
    JoinAgain,
}

/// The first word of a value's `Debug`: the name of its variant.
fn variant(value: &impl std::fmt::Debug) -> String {
    let shown = format!("{value:?}");
    shown.split([' ', '{']).next().unwrap_or_default().to_owned()
}

impl Lie {
    /// What it is called in a report.
    pub(super) fn name(&self) -> String {
        variant(self)
    }

    /// Draws one.
    pub(super) fn any() -> impl Strategy<Value = Self> {
        let device = || 0..8_u8;
        let lies: Vec<(u32, BoxedStrategy<Self>)> = vec![
            (3, Just(Self::Renumber).boxed()),
            (2, (1..4_u8).prop_map(|commits| Self::Nowhere { commits }).boxed()),
            (3, device().prop_map(|device| Self::FalseWelcome { device }).boxed()),
            (3, Just(Self::Equivocate).boxed()),
            (4, (1..9_u8).prop_map(|commits| Self::Branch { commits }).boxed()),
            (
                3,
                (device(), proptest::bool::weighted(0.2))
                    .prop_map(|(device, all)| Self::Oust { device, all })
                    .boxed(),
            ),
            (3, (0..5_u8).prop_map(|user| Self::Ghost { user }).boxed()),
            (2, Just(Self::Replay).boxed()),
            (2, Just(Self::Garbage).boxed()),
            (2, Just(Self::FalseClaims).boxed()),
            (1, device().prop_map(|device| Self::Offer { device }).boxed()),
            (1, Just(Self::SealAgain).boxed()),
            (2, Just(Self::Say).boxed()),
            (2, (0..6_u8).prop_map(|commits| Self::OwnGroup { commits }).boxed()),
            (2, Just(Self::JoinAgain).boxed()),
        ];
        Union::new_weighted(lies)
    }
}

/// How a homeserver lies to its devices, until the world heals.
#[allow(missing_docs, reason = "the fields are numbers of what the variants speak of")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Bend {
    /// It keeps the next events of the group from a device.
    Hide { device: u8, events: u8 },
    /// It brings a device the events of the group newest first.
    Backwards { device: u8 },
    /// It brings a device the events of the group in another order.
    Shuffled { device: u8 },
    /// It brings a device each event of the group twice, and earlier ones again.
    Twice { device: u8 },
    /// It lists a device of its own for a user.
    AddDevice { server: u8, user: u8 },
    /// It lists another key for a device, to all to whom it has told the right one.
    SwapKey { server: u8, device: u8 },
    /// It lists devices that were logged out.
    ListGone { server: u8 },
    /// It answers what was asked before as it did then.
    OldAnswers { server: u8 },
}

impl Bend {
    /// What it is called in a report.
    pub(super) fn name(&self) -> String {
        variant(self)
    }

    /// Draws one.
    pub(super) fn any() -> impl Strategy<Value = Self> {
        let device = || 0..8_u8;
        let server = || 0..3_u8;
        let bends: Vec<(u32, BoxedStrategy<Self>)> = vec![
            (
                3,
                (device(), 1..6_u8)
                    .prop_map(|(device, events)| Self::Hide { device, events })
                    .boxed(),
            ),
            (2, device().prop_map(|device| Self::Backwards { device }).boxed()),
            (2, device().prop_map(|device| Self::Shuffled { device }).boxed()),
            (2, device().prop_map(|device| Self::Twice { device }).boxed()),
            (
                2,
                (server(), 0..4_u8)
                    .prop_map(|(server, user)| Self::AddDevice { server, user })
                    .boxed(),
            ),
            (
                2,
                (server(), device())
                    .prop_map(|(server, device)| Self::SwapKey { server, device })
                    .boxed(),
            ),
            (1, server().prop_map(|server| Self::ListGone { server }).boxed()),
            (1, server().prop_map(|server| Self::OldAnswers { server }).boxed()),
        ];
        Union::new_weighted(bends)
    }
}
