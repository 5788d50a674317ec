//! The page of error codes (`docs/errors.md`) is the list of codes: it has each code that the
//! source can give, and none that it cannot, with the variant and the answer to "again?" that the
//! source has. Each code that the documentation names is on the page. A test provokes each, or it
//! is said here why none does.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use matrix_mls_kit::{OrMissing as _, Result};

/// Codes that no test provokes, and why. `tests/codes` provokes what no other test has a reason to,
/// and `tests/logged_codes.rs` what is in the log alone.
const UNPROVOKED: &[(&str, &str)] = &[
    ("diagnostics", "a defect"),
    ("event_content", "a defect"),
    ("random", "the system's random source does not fail"),
];

/// Words in quotes and backticks that are no codes: names and values of the Matrix API.
const NO_CODES: &[&str] = &[
    "auth",
    "code",
    "creation_content",
    "device_one_time_keys_count",
    "device_unused_fallback_key_types",
    "initial_state",
    "invite",
    "preset",
    "completed",
    "errcode",
    "ephemeral",
    "expired",
    "master",
    "params",
    "room_id",
    "self_signing",
    "session",
    "sessions",
    "signatures",
    "soft_logout",
    "store",
    "user_signing",
    "world_readable",
    "state_after",
    "required_state",
    "conn_id",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A row of one of the page's tables.
struct Row {
    section: String,
    code: String,
    cells: Vec<String>,
}

fn page() -> Result<Vec<Row>> {
    let text = fs::read_to_string(root().join("docs/errors.md"))?;
    let (mut section, mut rows) = (String::new(), Vec::new());
    let mut before_table = String::new();
    for line in text.lines() {
        if let Some(title) = line.strip_prefix("## ") {
            section = title.to_owned();
            before_table.clear();
        }
        if let Some(row) = line.strip_prefix("| `") {
            let (code, rest) = row.split_once("` |").or_missing("a code")?;
            let cells = rest.trim_end_matches('|').split(" | ").map(|cell| cell.trim().to_owned());
            let section = format!("{section}\n{before_table}");
            rows.push(Row { section, code: code.to_owned(), cells: cells.collect() });
        } else {
            before_table.push_str(line);
            before_table.push('\n');
        }
    }
    Ok(rows)
}

fn is_code(word: &str) -> bool {
    word.starts_with(|first: char| first.is_ascii_lowercase())
        && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

/// The files below a folder with this ending, without what a build makes.
fn files(folder: &str, ending: &str) -> Result<Vec<PathBuf>> {
    let mut folders = vec![root().join(folder)];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() {
                if !["target", ".build", "generated", "Generated"].contains(&name.as_str()) {
                    folders.push(path);
                }
            } else if name.ends_with(ending) {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// A source file without its tests and comments.
fn source(path: &Path) -> Result<String> {
    let text = fs::read_to_string(path)?;
    let text = text.split("#[cfg(test)]").next().unwrap_or_default();
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    Ok(code.collect::<Vec<_>>().join("\n"))
}

/// All string literals in a text that have the form of a code.
fn literals(text: &str) -> BTreeSet<String> {
    text.split('"').skip(1).step_by(2).filter(|word| is_code(word)).map(str::to_owned).collect()
}

/// The literals that are the first ones after each of these words.
fn after(text: &str, word: &str) -> BTreeSet<String> {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ").replace("( ", "(");
    let parts = text.split(word).skip(1);
    let first = parts.filter_map(|part| {
        // A variable in that place is somebody else's code.
        let call = part.split([')', ';']).next()?;
        let literal = call.split('"').nth(1)?;
        is_code(literal).then(|| literal.to_owned())
    });
    first.collect()
}

/// The bodies of functions with this name.
fn bodies<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
    let start = format!("fn {name}(");
    let parts = text.split(start.as_str()).skip(1);
    parts
        .map(|part| part.split("\n    fn ").next().unwrap_or(part))
        .map(|part| {
            let end = part.find("\n    }\n").or(part.find("\n}\n")).unwrap_or(part.len());
            &part[..end]
        })
        .collect()
}

/// The codes that the source can give.
fn given() -> Result<BTreeSet<String>> {
    let mut codes = BTreeSet::new();
    for path in files("src/api", ".rs")? {
        let text = source(&path)?;
        if path.ends_with("error_codes.rs") {
            codes.extend(literals(&text));
        }
        for word in ["MlsError::invalid(", "MlsError::internal(", "ErrorDetails::permanent("] {
            codes.extend(after(&text, word));
        }
        for word in ["transient!(", "permanent!("] {
            codes.extend(after(&text, word));
        }
    }
    for path in files("src", ".rs")? {
        let text = source(&path)?;
        for word in ["give_up(turn, ", "fail(turn, ", "flow.end(", "flow.cancel("] {
            codes.extend(after(&text, word));
        }
        if path.ends_with("secrets/reading.rs") || path.ends_with("secrets/recover.rs") {
            codes.extend(
                ["missing", "damaged"]
                    .iter()
                    .filter(|code| text.contains(&format!("\"{code}\"")))
                    .map(|code| (*code).to_owned()),
            );
        }
        if path.ends_with("signing/guard.rs") {
            codes.extend(literals(bodies(&text, "tell").first().or_missing("tell")?));
        }
        for file in [
            "backup/proof.rs",
            "backup/restore.rs",
            "devices/verify.rs",
            "identity/validate.rs",
            "rejection.rs",
            "sessions/session.rs",
        ] {
            if path.ends_with(file) {
                codes.extend(bodies(&text, "code").into_iter().flat_map(literals));
            }
        }
    }
    // What the layers of Kotlin and Swift make by themselves.
    for folder in ["bindings/kotlin/library/src", "bindings/swift/Sources/MatrixMls"] {
        for path in files(folder, "")? {
            let text = source(&path)?;
            codes.extend(after(&text, "ErrorDetails("));
        }
    }
    Ok(codes)
}

#[test]
fn the_page_has_every_code_and_no_other() -> Result {
    let rows = page()?;
    let listed: BTreeSet<_> = rows.iter().map(|row| row.code.clone()).collect();
    let given = given()?;
    assert!(given.len() > 120, "only {given:?}");
    let missing: Vec<_> = given.difference(&listed).collect();
    assert!(missing.is_empty(), "codes that docs/errors.md does not list: {missing:?}");
    let stale: Vec<_> = listed.difference(&given).collect();
    assert!(stale.is_empty(), "codes of docs/errors.md that nothing gives: {stale:?}");
    for row in &rows {
        let full = row.cells.iter().all(|cell| !cell.is_empty());
        assert!(full && row.cells.len() == 4, "{}: {:?}", row.code, row.cells);
    }
    Ok(())
}

#[test]
fn the_page_has_each_codes_variant_and_whether_to_try_again() -> Result {
    let text = source(&root().join("src/api/error_codes.rs"))?;
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let rows = page()?;
    let mut checked = BTreeMap::new();
    for (word, again) in [("permanent!(", "no"), ("transient!(", "yes")] {
        for part in text.split(word).skip(1) {
            let (variant, rest) = part.split_once(',').or_missing("a variant")?;
            let variant = variant.trim();
            let Some(code) =
                rest.trim_start().strip_prefix('"').and_then(|rest| rest.split('"').next())
            else {
                continue;
            };
            let row = rows.iter().find(|row| {
                row.code == code
                    && row.section.contains(variant)
                    && row.cells.last().is_some_and(|cell| cell.contains(again))
            });
            assert!(row.is_some(), "{code}: no row with {variant} and {again:?}");
            checked.insert(code.to_owned(), variant.to_owned());
        }
    }
    assert!(checked.len() > 60, "{checked:?}");
    // What is rejected has one of two variants, and never passes.
    let rejections = source(&root().join("src/rejection.rs"))?;
    let rejections = literals(bodies(&rejections, "code").first().or_missing("codes")?);
    assert!(rejections.len() > 30, "{rejections:?}");
    for code in rejections {
        let row = rows.iter().find(|row| {
            row.code == code
                && ["Rejected", "Unsupported"].iter().any(|variant| row.section.contains(variant))
                && row.cells.last().is_some_and(|cell| cell.contains("no"))
        });
        assert!(row.is_some(), "{code}: no row with a variant of what is rejected");
    }
    Ok(())
}

/// The words that documentation has in quotes and backticks: codes, as they are at run time.
fn named(text: &str) -> BTreeSet<String> {
    let parts = text.split("`\"").skip(1);
    let words = parts.filter_map(|part| part.split("\"`").next());
    words.filter(|word| is_code(word)).map(str::to_owned).collect()
}

#[test]
fn every_code_that_is_named_anywhere_is_on_the_page() -> Result {
    let listed: BTreeSet<_> = page()?.into_iter().map(|row| row.code).collect();
    let mut paths = files("src/api", ".rs")?;
    paths.extend(files("src/exported", ".rs")?);
    paths.extend(files("docs", ".md")?);
    paths.extend(files("bindings/kotlin/library/src", ".kt")?);
    paths.extend(files("bindings/swift/Sources/MatrixMls", ".swift")?);
    paths.push(root().join("README.md"));
    let (mut count, mut unknown) = (0, Vec::new());
    for path in paths {
        for word in named(&fs::read_to_string(&path)?) {
            count += 1;
            if !listed.contains(&word) && !NO_CODES.contains(&word.as_str()) {
                unknown.push(format!("{}: {word}", path.display()));
            }
        }
    }
    assert!(unknown.is_empty(), "not in docs/errors.md: {unknown:#?}");
    assert!(count > 60, "{count}");
    Ok(())
}

#[test]
fn every_code_is_provoked_by_a_test_or_it_is_said_why_not() -> Result {
    let mut texts = Vec::new();
    for (folder, ending) in
        [("tests", ".rs"), ("bindings/kotlin/tests/src", ".kt"), ("bindings/swift/Tests", ".swift")]
    {
        for path in files(folder, ending)? {
            if !path.ends_with("error_codes.rs") {
                texts.push(fs::read_to_string(path)?);
            }
        }
    }
    for path in files("src", ".rs")? {
        let text = fs::read_to_string(&path)?;
        if path.components().any(|part| part.as_os_str() == "tests") || path.ends_with("tests.rs") {
            texts.push(text);
        } else if let Some((_, tests)) = text.split_once("#[cfg(test)]") {
            texts.push(tests.to_owned());
        }
    }
    let provoked: BTreeSet<_> = texts
        .iter()
        .flat_map(|text| {
            text.split('"').filter(|word| is_code(word)).map(str::to_owned).collect::<Vec<_>>()
        })
        .collect();
    let excused: BTreeMap<_, _> = UNPROVOKED.iter().copied().collect();
    let listed: BTreeSet<_> = page()?.into_iter().map(|row| row.code).collect();
    let is_fine = |code: &&String| provoked.contains(*code) || excused.contains_key(code.as_str());
    let alone: Vec<_> = listed.iter().filter(|code| !is_fine(code)).collect();
    assert!(alone.is_empty(), "no test provokes {alone:?}");
    for (code, why) in excused {
        assert!(listed.contains(code) && !why.is_empty(), "{code}: it is no code");
        assert!(!provoked.contains(code), "{code}: a test provokes it");
    }
    Ok(())
}
