//! The programs that measure. Each prints its figures on standard output, a JSON line each.

use std::process::Command;

use super::figures::{self, Figure};
use crate::{failure::Failure, process};

/// Runs cargo with these arguments, and reads the figures that the program prints.
///
/// `arguments` are cargo's own. `sizes` are handed to the program after its own arguments.
pub fn measure(what: &str, arguments: &[&str], sizes: &[u64]) -> Result<Vec<Figure>, Failure> {
    let mut command = process::cargo(arguments);
    command.args(sizes.iter().map(u64::to_string));
    figures_of(what, &mut command)
}

/// Runs a command, and reads the figures that it prints.
pub fn figures_of(what: &str, command: &mut Command) -> Result<Vec<Figure>, Failure> {
    Ok(figures::parse(&process::output(what, command)?))
}
