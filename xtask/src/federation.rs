//! `cargo xtask federation`: a room on two Synapses whose link is cut and healed.

use crate::{failure::Failure, plan::Plan};

/// Runs the test of the test kit that shows it, and prints what each cut came to.
pub fn run() -> Result<(), Failure> {
    let mut plan = Plan::new(2);
    let test = ["test", "--locked", "-p", "matrix-mls-kit", "--test", "federation"];
    plan.cargo(
        "building the test (the first time: several minutes)",
        &[&test[..], &["--no-run"]].concat(),
    )?;
    plan.cargo(
        "cutting and healing (the first time this installs Synapse: about a minute)",
        &[&test[..], &["an_mls_room_gets_over_cuts", "--", "--nocapture"]].concat(),
    )?;
    plan.finish("federation");
    Ok(())
}
