//! What was aimed at, and what was reached. Each aim is judged by the figures of one run.

use super::{
    figures::{Results, Series},
    units::{duration, ratio, thousands},
};

const OURS: &str = "matrix-mls";
const MLS_RS: &str = "mls-rs, SQLite";
/// The largest room.
const LARGE: u64 = 10_000;
/// The operations that process another member's commit.
const PROCESS: [&str; 3] = ["process update", "process add", "process remove"];

/// An aim, and whether it was reached.
pub struct Judged {
    /// The aim.
    pub aim: &'static str,
    /// Whether it was reached, or nothing if it was not measured.
    pub reached: Option<bool>,
    /// The figures that decided. Empty if there are none.
    pub why: String,
}

/// What the figures say about an aim: whether it was reached, and why. Nothing if they are missing.
type Verdict = Option<(bool, String)>;

/// Judges all aims.
pub fn judge(results: &Results) -> Vec<Judged> {
    let aims: [(&'static str, Verdict); 10] = [
        (
            "encrypt and stored: at most 100 µs with 10,000 devices",
            at_most(results, "encrypt", 100.0),
        ),
        ("encrypt: flat to 10,000 devices (within 1.5 × of 10)", flat(results)),
        ("decrypt: at most 70 µs with 10,000 devices", at_most(results, "decrypt", 70.0)),
        ("decrypt: no write", no_write(results)),
        ("create with 10,000 devices: ahead of mls-rs", create(results)),
        ("process a commit: within 1.5 × of mls-rs, each with its store", process(results)),
        (
            "a warm tree: an update ahead of a new Megolm session from 50 devices up",
            ahead(results, "update"),
        ),
        (
            "a warm tree: an add ahead of a new Megolm session from 50 devices up",
            ahead(results, "add"),
        ),
        ("500 rooms opened in less than 50 ms", open_rooms(results)),
        ("a day's sync writes less than three times its own size", sync_writes(results)),
    ];
    aims.map(|(aim, verdict)| {
        let (reached, why) = verdict.unzip();
        Judged { aim, reached, why: why.unwrap_or_default() }
    })
    .into()
}

/// Opens the rooms of an app's day from disk, with nothing of them in memory.
fn open_rooms(results: &Results) -> Verdict {
    let time = results.median(Series::new("day", OURS, "open 500 rooms, cold"), 0)?;
    Some((time < 50_000.0, duration(time)))
}

fn sync_writes(results: &Results) -> Verdict {
    let figure = results.find(Series::new("day", OURS, "sync, cold"), 0)?;
    let (written, input) = figure.number("file_bytes").zip(figure.number("input_bytes"))?;
    Some((written < 3.0 * input, ratio(written / input)))
}

/// An operation takes at most so many microseconds in the largest room.
fn at_most(results: &Results, operation: &str, most: f64) -> Verdict {
    let time = results.median(Series::new("operations", OURS, operation), LARGE)?;
    Some((time <= most, duration(time)))
}

fn flat(results: &Results) -> Verdict {
    let encrypt = Series::new("operations", OURS, "encrypt");
    let (small, large) = results.median(encrypt, 10).zip(results.median(encrypt, LARGE))?;
    let why = format!("{} with 10, {} with 10,000", duration(small), duration(large));
    Some((large <= 1.5 * small, why))
}

fn no_write(results: &Results) -> Verdict {
    let figure = results.find(Series::new("operations", OURS, "decrypt"), LARGE)?;
    let bytes = figure.number("written_bytes")?;
    Some((bytes == 0.0, format!("{bytes} bytes")))
}

/// Both parts measure creating. The one for the plots has more sizes.
fn create(results: &Results) -> Verdict {
    let of = |who| {
        let median = |part| results.median(Series::new(part, who, "create"), LARGE);
        median("graph").or_else(|| median("operations"))
    };
    let (ours, theirs) = of(OURS).zip(of(MLS_RS))?;
    Some((ours <= theirs, format!("{} against {}", duration(ours), duration(theirs))))
}

/// Compares all commits, trees and sizes that both libraries have. The worst one decides.
fn process(results: &Results) -> Verdict {
    let mut worst: Option<(f64, String)> = None;
    for operation in PROCESS {
        for tree in ["blank", "warm"] {
            for size in [10, 100, 1_000, LARGE] {
                let of = |who| {
                    let series = Series::new("operations", who, operation).in_tree(tree);
                    results.median(series, size)
                };
                let Some((ours, theirs)) = of(OURS).zip(of(MLS_RS)) else { continue };
                let times = ours / theirs;
                if worst.as_ref().is_none_or(|(most, _)| times > *most) {
                    let why = format!(
                        "at the worst {} ({operation}, {tree}, {} devices: {} against {})",
                        ratio(times),
                        thousands(size),
                        duration(ours),
                        duration(theirs)
                    );
                    worst = Some((times, why));
                }
            }
        }
    }
    worst.map(|(times, why)| (times <= 1.5, why))
}

/// From which size on an operation in a warm tree is faster than a new Megolm session whose Olm
/// sessions are stored. The size for sessions in memory is told as well.
fn ahead(results: &Results, operation: &str) -> Verdict {
    let ours = Series::new("graph", OURS, operation).in_tree("warm");
    let sizes: Vec<_> = results.of_series(ours).iter().map(|figure| figure.devices()).collect();
    if sizes.is_empty() {
        return None;
    }
    let from = |who: &str| {
        let session = Series::new("graph", who, "new session");
        let is_behind = |size: u64| {
            let both = results.median(ours, size).zip(results.median(session, size));
            both.is_none_or(|(ours, theirs)| ours > theirs)
        };
        let last_behind = sizes.iter().rev().find(|size| is_behind(**size));
        sizes.iter().find(|size| last_behind.is_none_or(|behind| *size > behind)).copied()
    };
    let (stored, memory) = (from("vodozemac, stored"), from("vodozemac"));
    let name = |size: Option<u64>| match size {
        Some(size) => format!("from {} devices", thousands(size)),
        None => "at no size measured".to_owned(),
    };
    let why = format!(
        "{} if the Olm sessions are stored too, {} if they are only in memory",
        name(stored),
        name(memory)
    );
    Some((stored.is_some_and(|size| size <= 50), why))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::bench::figures::parse;

    fn results(lines: &[serde_json::Value]) -> Results {
        let text: Vec<_> = lines.iter().map(ToString::to_string).collect();
        Results { figures: parse(&text.join("\n")), ..Results::default() }
    }

    #[test]
    fn an_aim_without_figures_is_not_judged() {
        assert!(judge(&results(&[])).iter().all(|judged| judged.reached.is_none()));
    }

    #[test]
    fn an_operation_is_ahead_from_the_size_where_the_lines_cross() {
        let mut lines = Vec::new();
        for (size, update, session) in [(10, 9.0, 1.0), (50, 9.0, 10.0), (100, 9.0, 20.0)] {
            lines.push(json!({
                "part": "graph", "who": OURS, "operation": "update", "tree": "warm",
                "devices": size, "median_us": update,
            }));
            lines.push(json!({
                "part": "graph", "who": "vodozemac, stored", "operation": "new session",
                "devices": size, "median_us": session,
            }));
        }
        let all = judge(&results(&lines));
        let update = all.iter().find(|judged| judged.aim.contains("an update ahead")).unwrap();
        assert_eq!(update.reached, Some(true));
        assert!(update.why.starts_with("from 50 devices"), "{}", update.why);
    }

    #[test]
    fn the_worst_commit_decides() {
        let line = |who: &str, tree: &str, time: f64| {
            json!({
                "part": "operations", "who": who, "operation": "process add", "tree": tree,
                "devices": 100, "median_us": time,
            })
        };
        let mut lines = vec![line(OURS, "blank", 10.0), line(MLS_RS, "blank", 10.0)];
        let process = |lines: &[_]| judge(&results(lines)).swap_remove(5);
        assert_eq!(process(&lines).reached, Some(true));
        lines.extend([line(OURS, "warm", 20.0), line(MLS_RS, "warm", 10.0)]);
        assert_eq!(process(&lines).reached, Some(false));
    }
}
