//! docs/bench/README.md and its pictures, from the results.

use std::{collections::BTreeSet, fmt::Write as _, fs, path::Path};

use super::{
    aims,
    figures::{Figure, Results},
    plot::{Line, Plot, Stroke, thousands},
};
use crate::step::Failure;

/// The lines of the pictures: who, operation, tree, what the legend says, and how they look.
const LINES: [(&str, &str, &str, &str, &str, Stroke); 7] = [
    ("matrix-mls", "create", "", "MLS: create the group", "#8957e5", Stroke::Whole),
    ("matrix-mls", "add", "blank", "MLS: add one, blank tree", "#2f81f7", Stroke::Dashed),
    ("matrix-mls", "add", "warm", "MLS: add one, warm tree", "#2f81f7", Stroke::Whole),
    ("matrix-mls", "update", "blank", "MLS: update, blank tree", "#2da44e", Stroke::Dashed),
    ("matrix-mls", "update", "warm", "MLS: update, warm tree", "#2da44e", Stroke::Whole),
    ("vodozemac", "new session", "", "new Megolm session, in memory", "#e5534b", Stroke::Dotted),
    (
        "vodozemac, stored",
        "new session",
        "",
        "new Megolm session, stored",
        "#e5534b",
        Stroke::Whole,
    ),
];

const ABOUT: &str = "\
# Figures

Written by `cargo xtask bench`, which measures everything below in one run (a quarter of an hour, after builds). `--part graph` measures one part anew,
`--sizes 10,100` and `--quick` write to target/bench instead. On a machine that does something else at the time only ratios within a row mean something.

- Ours is the library through its public API on a real file, each operation until what it changed is on disk (SQLite, WAL, `synchronous=FULL`). The homeserver is
  three tables that answer at once, so no network is in it, and what `/keys/query` takes is left out, as both sides need it.
- **blank**: a tree in which no member has committed since it was added. **warm**: every member has. Both are written down rather than grown (tests/kit/src/written_tree.rs), and pass
  every check of RFC 9420 §7.9.
- A new Megolm session is an outbound group session whose key is sealed for each device through an Olm session that has been established (vodozemac). \"Stored\": the
  sessions that moved on are written to SQLite in one transaction, not sealed, which a client has to do before it sends.
- Bytes are those of the requests, as JSON, with base64. This library publishes the ratchet tree with each commit, so that a device can join with nobody online;
  it is told apart.
- \"Load a room\" is the first message after the store was opened: nothing is held in memory before. It reserves generations on disk (docs/decisions/002). For others it is
  reading the group.
";

/// Writes all of it.
pub fn write(results: &Results, directory: &Path) -> Result<(), Failure> {
    let put = |name: &str, text: String| {
        let path = directory.join(name);
        fs::write(&path, text).map_err(Failure::io(&path))
    };
    put("graph.svg", times(results))?;
    put("bytes.svg", bytes(results))?;
    put("README.md", page(results))
}

fn points(
    results: &Results,
    line: (&str, &str, &str),
    value: impl Fn(&Figure) -> Option<f64>,
) -> Vec<(f64, f64)> {
    let (who, operation, tree) = line;
    let mut points: Vec<_> = results
        .figures
        .iter()
        .filter(|figure| figure.is("graph", who, operation, tree) && figure.text("who") == who)
        .filter_map(|figure| Some((figure.devices() as f64, value(figure)?)))
        .collect();
    points.sort_by(|one, other| one.0.total_cmp(&other.0));
    points
}

fn times(results: &Results) -> String {
    let lines = LINES.into_iter().map(|(who, operation, tree, name, color, stroke)| Line {
        name: name.to_owned(),
        color,
        stroke,
        points: points(results, (who, operation, tree), |figure| figure.number("median_us")),
    });
    let title = "Setting up and renewing a room's keys: time by the number of devices";
    let tick = |power: i32| duration(10_f64.powi(power));
    Plot { title, lines: lines.filter(|line| !line.points.is_empty()).collect(), tick }.svg()
}

fn bytes(results: &Results) -> String {
    let tree = |figure: &Figure| {
        let tree = figure.number("bytes_tree")?;
        Some(figure.number("bytes")? + tree)
    };
    let mut lines = Vec::new();
    for (who, operation, shape, name, color, stroke) in LINES {
        let path = (who, operation, shape);
        let points_without = points(results, path, |figure| figure.number("bytes"));
        // Storing sends nothing.
        let name = name.trim_end_matches(", in memory").to_owned();
        lines.push(Line { name, color, stroke, points: points_without });
        if operation == "update" && shape == "warm" {
            let name = "… and the ratchet tree".to_owned();
            lines.push(Line {
                name,
                color,
                stroke: Stroke::Dotted,
                points: points(results, path, tree),
            });
        }
    }
    lines.retain(|line| !line.points.is_empty());
    let title = "Setting up and renewing a room's keys: bytes sent by the number of devices";
    Plot { title, lines, tick: |power| size(10_f64.powi(power)) }.svg()
}

fn page(results: &Results) -> String {
    let mut out = ABOUT.to_owned();
    let machine: Vec<_> = results
        .machine
        .iter()
        .map(|(name, value)| format!("{name} {}", value.as_str().unwrap_or_default()))
        .collect();
    // Writing to a string cannot fail.
    let _ = write!(out, "\nMeasured on: {}.\n", machine.join("; "));
    out += "\n## What was aimed at\n\nWhy some were missed: [decision 010](../decisions/010-cost-of-commits.md).\n\n| aim | reached | |\n|---|---|---|\n";
    for judged in aims::judge(results) {
        let reached = match judged.reached {
            Some(true) => "yes",
            Some(false) => "**no**",
            None => "not measured",
        };
        let _ = writeln!(out, "| {} | {reached} | {} |", judged.aim, judged.why);
    }
    out += "\n## Setting up and renewing keys\n\n![Time by the number of devices](graph.svg)\n";
    out += &table(results, "graph", |figure| figure.number("median_us").map(duration));
    out += "\n![Bytes by the number of devices](bytes.svg)\n\nBytes sent, and those of ratchet trees on top:\n";
    out += &table(results, "graph", |figure| {
        let tree = figure.number("bytes_tree").map(|tree| format!(" + {}", size(tree)));
        Some(size(figure.number("bytes")?) + &tree.unwrap_or_default())
    });
    out += "\n## Operations\n\nMedian (95th percentile), by devices in the room:\n";
    out += &table(results, "operations", |figure| {
        let p95 = figure.number("p95_us").map(|time| format!(" ({})", duration(time)));
        Some(duration(figure.number("median_us")?) + &p95.unwrap_or_default())
    });
    for (part, title) in [
        ("day", "An app's day"),
        ("bindings", "Calls from Kotlin and Swift"),
        ("size", "The library's size"),
    ] {
        out += &list(results, part, title);
    }
    out
}

/// A row for each operation, tree and contender, a column for each size.
fn table(results: &Results, part: &str, cell: impl Fn(&Figure) -> Option<String>) -> String {
    let figures: Vec<_> =
        results.figures.iter().filter(|f| f.is(part, "", "", "") && cell(f).is_some()).collect();
    let sizes: BTreeSet<u64> = figures.iter().map(|figure| figure.devices()).collect();
    let mut rows: Vec<(&str, &str, &str)> = Vec::new();
    for figure in &figures {
        let row = (figure.text("operation"), figure.text("tree"), figure.text("who"));
        if !rows.contains(&row) {
            rows.push(row);
        }
    }
    rows.sort_by_key(|(operation, tree, who)| (*operation, *tree, *who != "matrix-mls", *who));
    let heads: Vec<_> = sizes.iter().map(|size| thousands(*size)).collect();
    let mut out = format!(
        "\n| operation | tree | library | {} |\n|---|---|---|{}\n",
        heads.join(" | "),
        "--:|".repeat(sizes.len())
    );
    for (operation, tree, who) in rows {
        let cells = sizes.iter().map(|size| {
            let mut of_size = figures.iter().filter(|figure| figure.devices() == *size);
            let found = of_size.find(|figure| {
                (figure.text("operation"), figure.text("tree"), figure.text("who"))
                    == (operation, tree, who)
            });
            found.and_then(|figure| cell(figure)).unwrap_or_else(|| "–".to_owned())
        });
        let cells: Vec<_> = cells.collect();
        let _ = writeln!(out, "| {operation} | {tree} | {who} | {} |", cells.join(" | "));
    }
    out
}

/// All that a part's figures say.
fn list(results: &Results, part: &str, title: &str) -> String {
    let figures: Vec<_> =
        results.figures.iter().filter(|figure| figure.is(part, "", "", "")).collect();
    if figures.is_empty() {
        return String::new();
    }
    let mut out = format!("\n## {title}\n\n| | library | |\n|---|---|---|\n");
    for figure in figures {
        let known = ["part", "who", "operation"];
        let fields = figure.fields().filter(|(name, _)| !known.contains(&name.as_str()));
        let said: Vec<_> = fields.map(|(name, value)| said(name, value)).collect();
        let (operation, who) = (figure.text("operation"), figure.text("who"));
        let _ = writeln!(out, "| {operation} | {who} | {} |", said.join(", "));
    }
    out
}

fn said(name: &str, value: &serde_json::Value) -> String {
    match (name.strip_suffix("_us"), value.as_f64()) {
        (Some(name), Some(time)) => format!("{name} {}", duration(time)),
        (None, Some(bytes)) if name.contains("bytes") => {
            format!("{} {}", name.replace('_', " "), size(bytes))
        }
        _ => format!(
            "{} {}",
            name.replace('_', " "),
            value.as_str().map_or(value.to_string(), str::to_owned)
        ),
    }
}

/// Microseconds as people write them.
pub fn duration(microseconds: f64) -> String {
    match microseconds {
        us if us < 1_000.0 => format!("{} µs", digits(us)),
        us if us < 1_000_000.0 => format!("{} ms", digits(us / 1e3)),
        us => format!("{} s", digits(us / 1e6)),
    }
}

/// Bytes as people write them.
fn size(bytes: f64) -> String {
    match bytes {
        bytes if bytes < 1_000.0 => format!("{bytes:.0} B"),
        bytes if bytes < 1e6 => format!("{} kB", digits(bytes / 1e3)),
        bytes => format!("{} MB", digits(bytes / 1e6)),
    }
}

/// How many times.
pub fn ratio(times: f64) -> String {
    format!("{} ×", digits(times))
}

/// Three digits are enough, and none after the point where it is a whole number.
fn digits(number: f64) -> String {
    let text = match number {
        number if number < 10.0 => format!("{number:.2}"),
        number if number < 100.0 => format!("{number:.1}"),
        number => format!("{number:.0}"),
    };
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, json};

    use super::{super::figures::parse, *};

    #[test]
    fn numbers_as_people_write_them() {
        assert_eq!([0.5, 62.04, 1_500.0, 2e6].map(duration), ["0.5 µs", "62 µs", "1.5 ms", "2 s"]);
        assert_eq!([100.0, 2_048.0, 1e7].map(size), ["100 B", "2.05 kB", "10 MB"]);
        assert_eq!(digits(100.0), "100");
    }

    #[test]
    fn a_page_has_the_rows_and_the_sizes() {
        let line = |devices: u64, who: &str| {
            json!({
                "part": "graph", "who": who, "operation": "new session", "devices": devices,
                "median_us": devices, "bytes": devices * 10,
            })
            .to_string()
        };
        let text = [line(10, "vodozemac"), line(1_000, "vodozemac"), line(10, "vodozemac, stored")];
        let results = Results { figures: parse(&text.join("\n")), machine: Map::new() };
        let page = page(&results);
        assert!(page.contains("| new session |  | vodozemac | 10 µs | 1 ms |"), "{page}");
        assert!(page.contains("| new session |  | vodozemac, stored | 10 µs | – |"), "{page}");
        assert!(page.contains("not measured"));
        assert_eq!(times(&results).matches("<polyline").count(), 2);
    }
}
