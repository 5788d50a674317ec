//! The machine's inside: one store, one device, and the order in which work is done.
//!
//! Everything that changes state runs as a *turn*: under one lock, in one SQLite transaction
//! (`core`). After the commit its updates go to the observer; before it nothing leaves this folder,
//! so an app never sees what is not on disk. Sealing shares the lock; opening messages does not,
//! and runs beside a turn on a connection of its own. All of it blocks: the exported layer calls it
//! off the async executor's threads, and a caller that goes away does not stop a turn half-way.
//!
//! | to … | see |
//! |---|---|
//! | take in a sync | `sync`: to-device events (`to_device`), device lists and key counts (`upkeep`), rooms (`events`) |
//! | keep to-device events whose room no sync has shown | `early` |
//! | compare this device's clock with the homeserver's | `clock` |
//! | take in a room's events, one part of the turn each | `events` |
//! | take the commits of an absence, a turn's worth at a time | `catching_up` |
//! | settle what follows from an event | `consequences`, in one loop and one written order |
//! | make a room ready to be sent to | `prepare` |
//! | seal and open messages | `messages`; the path that a reader shares, `opener` |
//! | follow commits in memory, for a reader | `follow` |
//! | say who people are | `identities` |
//! | say how the store stands, for a report of a bug | `diagnostics` |
//! | do what else an app asks of a room | `rooms` |
//! | take the homeserver's answers | `answers` |
//! | look at a store that was just opened | `opening` |
//! | stop where the homeserver has other keys for this device | `own_keys` |
//! | make the user's own cross-signing identity | `own_identity` |
//! | back up, restore, export and import | `backup` |
//! | verify people and devices | `verification` |
//! | keep commits from notifying people | `push_rules` |

mod answers;
mod backup;
mod catching_up;
mod clock;
mod connections;
mod consequences;
mod core;
pub(crate) mod diagnostics;
mod early;
mod error;
mod events;
mod follow;
mod founding;
mod identities;
mod messages;
mod opener;
mod opening;
mod outcomes;
mod own_identity;
mod own_keys;
mod prepare;
mod push_rules;
mod rooms;
mod shadows;
mod sync;
mod to_device;
mod upgrades;
mod upkeep;
mod verification;

pub(crate) use self::{
    answers::Answered,
    core::Engine,
    error::EngineError,
    follow::{Follow, Step},
    opener::ReadOnlyEngine,
    outcomes::SyncOutcome,
    prepare::Readiness,
    shadows::FollowError,
    to_device::ToDeviceOutcome,
};
