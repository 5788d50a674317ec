//! docs/bench/README.md and the two plots beside it, written from the results.

use std::{collections::BTreeSet, fmt::Write as _, fs, path::Path};

use super::{
    aims,
    figures::{Figure, Results},
    pictures,
    units::{duration, size, thousands},
};
use crate::failure::Failure;

/// What the figures mean. The page begins with it.
const ABOUT: &str = include_str!("about.md");

/// Writes the page and the plots into a directory.
pub fn write(results: &Results, directory: &Path) -> Result<(), Failure> {
    let put = |name: &str, text: String| {
        let path = directory.join(name);
        fs::write(&path, text).map_err(Failure::io(&path))
    };
    put("graph.svg", pictures::times(results)?)?;
    put("bytes.svg", pictures::bytes(results)?)?;
    put("README.md", page(results))
}

fn page(results: &Results) -> String {
    [
        ABOUT.to_owned(),
        machine(results),
        aimed_at(results),
        "\n## Setting up and renewing keys\n\n![Time by the number of devices](graph.svg)\n".into(),
        table(results, "graph", |figure| figure.number("median_us").map(duration)),
        "\n![Bytes by the number of devices](bytes.svg)\n".into(),
        "\nBytes sent, plus those of the ratchet tree:\n".into(),
        table(results, "graph", |figure| {
            let tree = figure.number("bytes_tree").map(|tree| format!(" + {}", size(tree)));
            Some(size(figure.number("bytes")?) + &tree.unwrap_or_default())
        }),
        "\n## Operations\n\nMedian (95th percentile), by devices in the room:\n".into(),
        table(results, "operations", |figure| {
            let p95 = figure.number("p95_us").map(|time| format!(" ({})", duration(time)));
            Some(duration(figure.number("median_us")?) + &p95.unwrap_or_default())
        }),
        list(results, "day", "An app's day"),
        list(results, "bindings", "Calls from Kotlin and Swift"),
        list(results, "size", "The library's size"),
    ]
    .concat()
}

fn machine(results: &Results) -> String {
    let mut text = "\nMeasured on:\n\n".to_owned();
    for (name, value) in &results.machine {
        // Writing to a string cannot fail, here and below.
        let _ = writeln!(text, "- {name}: {}", value.as_str().unwrap_or_default());
    }
    text
}

fn aimed_at(results: &Results) -> String {
    let mut text = "\n## What was aimed at\n\n\
        [Decision 010](../decisions/010-cost-of-commits.md) says why some aims were missed.\n\n\
        | aim | reached | |\n|---|---|---|\n"
        .to_owned();
    for judged in aims::judge(results) {
        let reached = match judged.reached {
            Some(true) => "yes",
            Some(false) => "**no**",
            None => "not measured",
        };
        let _ = writeln!(text, "| {} | {reached} | {} |", judged.aim, judged.why);
    }
    text
}

/// What a table has a row for.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Row<'a> {
    operation: &'a str,
    tree: &'a str,
    who: &'a str,
}

impl<'a> Row<'a> {
    fn of(figure: &'a Figure) -> Self {
        Self {
            operation: figure.text("operation"),
            tree: figure.text("tree"),
            who: figure.text("who"),
        }
    }
}

/// A row for each operation, tree and contender, and a column for each size.
fn table(results: &Results, part: &str, cell: impl Fn(&Figure) -> Option<String>) -> String {
    let figures: Vec<_> = results.of_part(part).filter(|figure| cell(figure).is_some()).collect();
    let sizes: BTreeSet<u64> = figures.iter().map(|figure| figure.devices()).collect();
    let mut rows: Vec<Row<'_>> = figures.iter().map(|figure| Row::of(figure)).collect();
    // Ours comes first, and the others by their names.
    rows.sort_by_key(|row| (row.operation, row.tree, row.who != "matrix-mls", row.who));
    rows.dedup();
    let heads: Vec<_> = sizes.iter().map(|size| thousands(*size)).collect();
    let mut text = format!(
        "\n| operation | tree | library | {} |\n|---|---|---|{}\n",
        heads.join(" | "),
        "--:|".repeat(sizes.len())
    );
    for row in rows {
        let cells = sizes.iter().map(|size| {
            let mut of_row = figures.iter().filter(|figure| Row::of(figure) == row);
            let found = of_row.find(|figure| figure.devices() == *size);
            found.and_then(|figure| cell(figure)).unwrap_or_else(|| "–".to_owned())
        });
        let cells: Vec<_> = cells.collect();
        let Row { operation, tree, who } = row;
        let _ = writeln!(text, "| {operation} | {tree} | {who} | {} |", cells.join(" | "));
    }
    text
}

/// All fields of a part's figures, a row a figure. Empty if the part was not measured.
fn list(results: &Results, part: &str, title: &str) -> String {
    let mut figures = results.of_part(part).peekable();
    if figures.peek().is_none() {
        return String::new();
    }
    let mut text = format!("\n## {title}\n\n| | library | |\n|---|---|---|\n");
    for figure in figures {
        let in_row = ["part", "who", "operation"];
        let fields = figure.fields().filter(|(name, _)| !in_row.contains(&name.as_str()));
        let fields: Vec<_> = fields.map(|(name, value)| field(name, value)).collect();
        let (operation, who) = (figure.text("operation"), figure.text("who"));
        let _ = writeln!(text, "| {operation} | {who} | {} |", fields.join(", "));
    }
    text
}

/// A field and its value. The field's name says what the unit is.
fn field(name: &str, value: &serde_json::Value) -> String {
    let words = |name: &str| name.replace('_', " ");
    match (name.strip_suffix("_us"), value.as_f64()) {
        (Some(name), Some(time)) => format!("{} {}", words(name), duration(time)),
        (None, Some(bytes)) if name.contains("bytes") => {
            format!("{} {}", words(name), size(bytes))
        }
        _ => {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            format!("{} {value}", words(name))
        }
    }
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
    fn a_table_has_a_row_a_contender_and_a_column_a_size() {
        let line = |devices: u64, who: &str| {
            json!({
                "part": "graph", "who": who, "operation": "new session", "devices": devices,
                "median_us": devices,
            })
        };
        let page = page(&results(&[
            line(10, "vodozemac"),
            line(1_000, "vodozemac"),
            line(10, "vodozemac, stored"),
        ]));
        assert!(page.contains("| new session |  | vodozemac | 10 µs | 1 ms |"), "{page}");
        assert!(page.contains("| new session |  | vodozemac, stored | 10 µs | – |"), "{page}");
        assert!(page.contains("not measured"), "{page}");
    }

    #[test]
    fn a_list_writes_each_field_in_its_unit() {
        let page = page(&results(&[json!({
            "part": "day", "who": "matrix-mls", "operation": "sync", "median_us": 1_500,
            "file_bytes": 2_000, "rooms": 500, "system": "Linux",
        })]));
        let row = "| sync | matrix-mls | file bytes 2 kB, median 1.5 ms, rooms 500, system Linux |";
        assert!(page.contains(row), "{page}");
        assert!(!page.contains("The library's size"), "{page}");
    }

    #[test]
    fn everything_is_written() {
        let directory = tempfile::tempdir().unwrap();
        write(&Results::default(), directory.path()).unwrap();
        for name in ["README.md", "graph.svg", "bytes.svg"] {
            assert!(directory.path().join(name).is_file(), "{name}");
        }
    }
}
