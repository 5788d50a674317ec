//! `cargo xtask vectors`: has the library write the specification's test vectors, and has them
//! checked.

use crate::{failure::Failure, plan::Plan, process};

/// Asks the library's tests to write what they otherwise check.
const WRITE: &str = "MATRIX_MLS_WRITE_VECTORS";

/// Writes docs/spec/vectors, and checks what was written.
pub fn run() -> Result<(), Failure> {
    let mut plan = Plan::new(2);
    let mut write = process::cargo(["test", "--quiet", "--locked", "--lib", "vectors"]);
    write.env(WRITE, "1");
    plan.command("writing the vectors", &mut write)?;
    plan.cargo(
        "checking them without the library (the first time this installs Synapse)",
        &["test", "--quiet", "--locked", "--test", "spec", "vectors"],
    )?;
    plan.finish("vectors");
    Ok(())
}
