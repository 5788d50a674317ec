//! What was aimed at, and what was reached: each aim is judged from the figures of one run.

use super::{
    figures::Results,
    report::{duration, ratio},
};

const OURS: &str = "matrix-mls";
const MLS_RS: &str = "mls-rs, SQLite";
/// What commits are compared by: how others name processing one.
const PROCESS: [&str; 3] = ["process update", "process add", "process remove"];

/// One aim: what it is, and what came of it.
pub struct Judged {
    /// The aim.
    pub aim: &'static str,
    /// Whether it was reached; nothing when it was not measured.
    pub reached: Option<bool>,
    /// The figures it was judged by.
    pub why: String,
}

/// Judges all of them.
pub fn judge(results: &Results) -> Vec<Judged> {
    vec![
        most_us(
            results,
            "encrypt and stored: at most 100 µs with 10,000 devices",
            "encrypt",
            100.0,
        ),
        flat(results),
        most_us(results, "decrypt: at most 70 µs with 10,000 devices", "decrypt", 70.0),
        no_write(results),
        create(results),
        process(results),
        ahead(
            results,
            "update",
            "a warm tree: an update ahead of a new Megolm session from 50 devices up",
        ),
        ahead(
            results,
            "add",
            "a warm tree: an add ahead of a new Megolm session from 50 devices up",
        ),
        open_rooms(results),
        sync_writes(results),
    ]
}

/// The rooms of the app's day are on disk, and nothing of them is in memory.
fn open_rooms(results: &Results) -> Judged {
    let aim = "500 rooms opened in less than 50 ms";
    match results.median(("day", OURS, "open 500 rooms, cold", ""), 0) {
        Some(time) => judged(aim, Some(time < 50_000.0), duration(time)),
        None => judged(aim, None, String::new()),
    }
}

fn sync_writes(results: &Results) -> Judged {
    let aim = "a day's sync writes less than three times its own size";
    let figure = results.find(("day", OURS, "sync, cold", ""), 0);
    let of = |field| figure.and_then(|figure| figure.number(field));
    match of("file_bytes").zip(of("input_bytes")) {
        Some((written, input)) => judged(aim, Some(written < 3.0 * input), ratio(written / input)),
        None => judged(aim, None, String::new()),
    }
}

fn judged(aim: &'static str, reached: Option<bool>, why: String) -> Judged {
    Judged { aim, reached, why }
}

fn most_us(results: &Results, aim: &'static str, operation: &str, most: f64) -> Judged {
    match results.median(("operations", OURS, operation, ""), 10_000) {
        Some(time) => judged(aim, Some(time <= most), duration(time)),
        None => judged(aim, None, String::new()),
    }
}

fn flat(results: &Results) -> Judged {
    let aim = "encrypt: flat to 10,000 devices (within 1.5 × of 10)";
    let [small, large] =
        [10, 10_000].map(|size| results.median(("operations", OURS, "encrypt", ""), size));
    match small.zip(large) {
        Some((small, large)) => {
            let why = format!("{} with 10, {} with 10,000", duration(small), duration(large));
            judged(aim, Some(large <= 1.5 * small), why)
        }
        None => judged(aim, None, String::new()),
    }
}

fn no_write(results: &Results) -> Judged {
    let aim = "decrypt: no write";
    let figure = results.find(("operations", OURS, "decrypt", ""), 10_000);
    match figure.and_then(|figure| figure.number("written_bytes")) {
        Some(bytes) => judged(aim, Some(bytes == 0.0), format!("{bytes} bytes")),
        None => judged(aim, None, String::new()),
    }
}

fn create(results: &Results) -> Judged {
    let aim = "create with 10,000 devices: ahead of mls-rs";
    let of = |part, who| results.median((part, who, "create", ""), 10_000);
    let ours = of("graph", OURS).or_else(|| of("operations", OURS));
    let theirs = of("graph", MLS_RS).or_else(|| of("operations", MLS_RS));
    compared(aim, ours, theirs, 1.0)
}

/// The worst of the commits, trees and sizes that both have.
fn process(results: &Results) -> Judged {
    let aim = "process a commit: within 1.5 × of mls-rs, each with its store";
    let mut worst: Option<(f64, String)> = None;
    for operation in PROCESS {
        for tree in ["blank", "warm"] {
            for size in [10, 100, 1_000, 10_000] {
                let of = |who| results.median(("operations", who, operation, tree), size);
                let Some((ours, theirs)) = of(OURS).zip(of(MLS_RS)) else { continue };
                let times = ours / theirs;
                if worst.as_ref().is_none_or(|(most, _)| times > *most) {
                    let why = format!(
                        "at the worst {} ({operation}, {tree}, {size} devices: {} against {})",
                        ratio(times),
                        duration(ours),
                        duration(theirs)
                    );
                    worst = Some((times, why));
                }
            }
        }
    }
    match worst {
        Some((times, why)) => judged(aim, Some(times <= 1.5), why),
        None => judged(aim, None, String::new()),
    }
}

fn compared(aim: &'static str, ours: Option<f64>, theirs: Option<f64>, most: f64) -> Judged {
    match ours.zip(theirs) {
        Some((ours, theirs)) => {
            let why = format!("{} against {}", duration(ours), duration(theirs));
            judged(aim, Some(ours <= most * theirs), why)
        }
        None => judged(aim, None, String::new()),
    }
}

/// From which size on an operation is ahead, against sessions in memory and stored ones.
fn ahead(results: &Results, operation: &str, aim: &'static str) -> Judged {
    let mut sizes: Vec<u64> = results
        .figures
        .iter()
        .filter(|figure| figure.is("graph", OURS, operation, "warm"))
        .map(super::figures::Figure::devices)
        .collect();
    sizes.sort_unstable();
    let from = |who: &str| {
        let behind = sizes.iter().rev().find(|size| {
            let ours = results.median(("graph", OURS, operation, "warm"), **size);
            let theirs = results.median(("graph", who, "new session", ""), **size);
            ours.zip(theirs).is_none_or(|(ours, theirs)| ours > theirs)
        });
        sizes.iter().find(|size| behind.is_none_or(|behind| *size > behind)).copied()
    };
    if sizes.is_empty() {
        return judged(aim, None, String::new());
    }
    let (stored, memory) = (from("vodozemac, stored"), from("vodozemac"));
    let name = |size: Option<u64>| {
        size.map_or("at no size measured".to_owned(), |size| format!("from {size} devices"))
    };
    let why = format!(
        "{} where the Olm sessions are stored too, {} where they are in memory only",
        name(stored),
        name(memory)
    );
    judged(aim, Some(stored.is_some_and(|size| size <= 50)), why)
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, json};

    use super::{super::figures::parse, *};

    fn results(lines: &[serde_json::Value]) -> Results {
        let text: Vec<_> = lines.iter().map(ToString::to_string).collect();
        Results { figures: parse(&text.join("\n")), machine: Map::new() }
    }

    #[test]
    fn an_aim_without_figures_is_not_judged() {
        assert!(judge(&results(&[])).iter().all(|judged| judged.reached.is_none()));
    }

    #[test]
    fn where_one_line_crosses_another() {
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
