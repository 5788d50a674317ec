//! `cargo xtask bench`: what a message costs by the size of the room, beside others in the same run.
//!
//! Two programs, as openmls_sqlite_storage links another SQLite than this library. Each prints a JSON
//! line a figure; this puts them into one table.

use std::{
    collections::BTreeSet,
    process::{Command, Stdio},
};

use serde_json::Value;

use crate::step::{Failure, cargo, workspace};

/// Sizes of rooms, in devices, when none are asked for.
const SIZES: [&str; 4] = ["10", "100", "1000", "10000"];

/// Runs both programs for these sizes and prints the table.
pub fn run(sizes: &[&str]) -> Result<(), Failure> {
    let sizes = if sizes.is_empty() { &SIZES[..] } else { sizes };
    let ours = ["bench", "--locked", "-p", "matrix-mls", "--bench", "messages", "--"];
    let peers =
        ["run", "--release", "--locked", "--manifest-path", "benches/peers/Cargo.toml", "--"];
    let mut figures = measure("matrix-mls, and OpenMLS in memory", &ours, sizes)?;
    figures.extend(measure("openmls_sqlite_storage", &peers, sizes)?);
    print(&figures);
    Ok(())
}

fn measure(what: &str, arguments: &[&str], sizes: &[&str]) -> Result<Vec<Value>, Failure> {
    eprintln!("[xtask] measuring {what} (the first time this builds for some minutes)");
    let output = Command::new(cargo())
        .args(arguments)
        .args(sizes)
        .current_dir(workspace())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|source| Failure::Start { program: "cargo".to_owned(), source })?;
    if !output.status.success() {
        return Err(Failure::Step { what: what.to_owned(), status: output.status });
    }
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
}

fn print(figures: &[Value]) {
    let text = |figure: &Value, field: &str| figure[field].as_str().unwrap_or("?").to_owned();
    let sizes: BTreeSet<u64> =
        figures.iter().filter_map(|figure| figure["devices"].as_u64()).collect();
    let mut rows: Vec<(String, String)> = Vec::new();
    for figure in figures {
        let row = (text(figure, "operation"), text(figure, "who"));
        if !rows.contains(&row) {
            rows.push(row);
        }
    }
    rows.sort();
    println!("\nMicroseconds, median (95th percentile), by devices in the room:\n");
    let head: Vec<String> = sizes.iter().map(ToString::to_string).collect();
    println!("| operation | library | {} |", head.join(" | "));
    println!("|---|---|{}", "--:|".repeat(sizes.len()));
    for (operation, who) in rows {
        let cells: Vec<String> = sizes
            .iter()
            .map(|size| {
                let figure = figures.iter().find(|figure| {
                    figure["devices"] == *size
                        && text(figure, "operation") == operation
                        && text(figure, "who") == who
                });
                figure.map_or_else(
                    || "–".to_owned(),
                    |figure| format!("{} ({})", figure["median_us"], figure["p95_us"]),
                )
            })
            .collect();
        println!("| {operation} | {who} | {} |", cells.join(" | "));
    }
}
