//! The simulator: whole histories of a room, from one seed each, with everything going wrong that
//! can.
//!
//! A [`Schedule`] is a list of steps (send, kick, cut a link, crash, restore an old copy …) on a
//! world of three homeservers without sockets, whose devices are real machines on real stores.
//! After the steps the world is brought to quiet and the invariants of [`Invariant`] are checked.
//! All decisions come from the seed: the same seed gives the same history, and a failing one is
//! shrunk to a few steps. The clock of the machines is one for the process, so one schedule runs at
//! a time in it; [`farm`] uses a process for each core.

mod acts;
mod app;
mod check;
mod copies;
mod dice;
pub mod farm;
mod hostile;
mod images;
mod ledger;
mod liar;
mod lie;
pub mod loud;
mod reading;
mod report;
mod run;
mod schedule;
mod search;
mod sending;
mod settle;
mod sliding;
mod transport;
mod violation;
mod world;

pub use lie::{Bend, Lie};
pub use report::Report;
pub use run::Outcome;
pub use schedule::{Action, Fault, Off, Profile, Scene, Schedule, Step, Trouble, Weather};
pub use search::{Finding, Search};
pub use violation::{Invariant, Violation};
