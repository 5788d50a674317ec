//! What it costs to find out that a room is ready for a message, by the size of the room, after one
//! member has come who has no device: the room is compared with its group, and nothing is to be
//! done. So the time is that of planning alone. It is the processor's where the system tells that
//! (Linux), so that a busy machine does not show.
//!
//! `cargo bench --bench plan -- 1000 10000` measures rooms of those sizes (the default), with a
//! hundred users and with a user for each device. Prints a JSON line a figure
//! (docs/decisions/041).

mod support;

use std::time::Instant;

use matrix_mls::SendPlan;
use matrix_mls_kit::{
    OrMissing as _, Result,
    giant::Giant,
    tables::join,
    written_tree::{Shape, USERS},
};
use support::{Figure, OURS, processor, sizes};

/// How often it is measured. The first time nothing is remembered.
const ROUNDS: usize = 21;

#[tokio::main]
async fn main() -> Result {
    for devices in sizes(&[1_000, 10_000]) {
        for users in [USERS, devices] {
            measure(devices, users).await?;
        }
    }
    Ok(())
}

async fn measure(devices: usize, users: usize) -> Result {
    let store = tempfile::tempdir()?;
    let mut giant = Giant::among(devices, users, Shape::Blank, store.path()).await?;
    // What a process that was just started knows.
    giant.device.machine.release_memory().await?;
    let mut times = Vec::with_capacity(ROUNDS);
    for number in 0..ROUNDS {
        let joined = join(&format!("@lurker{number}:example.org")).to_string();
        giant.device.sync(Vec::new(), Vec::new(), vec![joined]).await?;
        giant.tables.settle(&giant.device.machine).await?;
        let (start, before) = (Instant::now(), processor());
        let plan = giant.device.room.prepare_to_send().await?;
        times.push(match (before, processor()) {
            (Some(before), Some(after)) => after.saturating_sub(before),
            _ => start.elapsed(),
        });
        assert!(matches!(plan, SendPlan::Ready), "something is to be done: {plan:?}");
    }
    let first = times.drain(..1).next().or_missing("first time")?;
    let figure = |operation: &str| {
        Figure::new("plan", OURS, &format!("{operation}, {users} users"), devices)
    };
    figure("plan at first").times(vec![first]).print();
    figure("plan after a change").times(times).print();
    Ok(())
}
