//! `cargo xtask bench`: what everything costs by the size of the room, with all contenders measured
//! side by side in one run.
//!
//! Each contender is a program that prints one JSON line a figure (`programs`, `figures`). `run`
//! measures and keeps the figures. `report` writes docs/bench from them: `pictures` chooses what
//! `plot` draws, `aims` judges the figures against what was aimed at. `guard` is the short version
//! for the tests.

mod aims;
mod calls;
mod figures;
pub mod guard;
mod machine;
pub mod options;
mod pictures;
mod plot;
mod programs;
mod report;
pub mod run;
mod units;
