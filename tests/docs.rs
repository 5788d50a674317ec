//! Checks the form of the documentation: relative links, named paths and named tests exist, lines
//! have at most 100 columns, each decision record has a number, a status, a date and a row in the
//! index, and each row of the threat model names a test.
//!
//! The content is for the reviewer: a page that passes can still be wrong.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// The longest line of a page, in characters.
const WIDTH: usize = 100;
/// The pages beside those in `docs/`.
const PAGES: [&str; 6] = [
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "android/README.md",
    "ios/README.md",
];
/// The endings by which a word with a slash counts as a file's path.
const SUFFIXES: [&str; 15] = [
    "entitlements",
    "json",
    "kt",
    "kts",
    "md",
    "plist",
    "pro",
    "rs",
    "sql",
    "svg",
    "swift",
    "toml",
    "txt",
    "xml",
    "yml",
];
/// Folders that a build makes. A fresh checkout does not have them.
const BUILT: [&str; 2] = ["target", "jniLibs"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A line of a page.
struct Line<'a> {
    number: usize,
    text: &'a str,
    /// Whether it belongs to a code block.
    is_code: bool,
}

struct Page {
    path: PathBuf,
    text: String,
}

impl Page {
    fn read(path: &Path) -> Result<Self, String> {
        let text = fs::read_to_string(root().join(path));
        let text = text.map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Self { path: path.to_owned(), text })
    }

    fn lines(&self) -> Vec<Line<'_>> {
        let mut fenced = false;
        let mut lines = Vec::new();
        // An indented code block begins after an empty line. Other indented text continues a list.
        let (mut after_blank, mut indented) = (true, false);
        for (index, text) in self.text.lines().enumerate() {
            let is_fence = text.trim_start().starts_with("```");
            indented = text.starts_with("    ") && (indented || after_blank);
            let is_code = fenced || is_fence || indented;
            fenced ^= is_fence;
            after_blank = text.trim().is_empty();
            lines.push(Line { number: index + 1, text, is_code });
        }
        lines
    }

    /// The directory that relative links start from.
    fn directory(&self) -> PathBuf {
        root().join(self.path.parent().unwrap_or(Path::new("")))
    }

    fn fault(&self, line: usize, what: &str) -> String {
        format!("{}:{line}: {what}", self.path.display())
    }

    /// The names of its headings in links, as GitHub makes them.
    fn anchors(&self) -> BTreeSet<String> {
        let lines = self.lines();
        let headings = lines.iter().filter(|line| !line.is_code && line.text.starts_with('#'));
        headings.map(|line| anchor(line.text.trim_start_matches('#').trim())).collect()
    }

    /// Its lines that are too long. A row of a table cannot be broken, and neither can a long URL.
    fn long_lines(&self) -> Vec<String> {
        let lines = self.lines();
        let long = lines.iter().filter(|line| {
            let is_one_word = line.text.split_whitespace().any(|word| word.chars().count() > 80);
            let is_table = line.text.trim_start().starts_with('|');
            line.text.chars().count() > WIDTH && !line.is_code && !is_table && !is_one_word
        });
        long.map(|line| self.fault(line.number, "the line is longer than 100 characters")).collect()
    }

    /// Its relative links whose file or heading does not exist.
    fn dead_links(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for line in self.lines().iter().filter(|line| !line.is_code) {
            for target in targets(line.text).into_iter().filter(|target| !target.contains("://")) {
                if let Err(why) = self.follow(&target) {
                    faults.push(self.fault(line.number, &format!("the link {target} {why}")));
                }
            }
        }
        faults
    }

    fn follow(&self, target: &str) -> Result<(), &'static str> {
        let (file, fragment) = target.split_once('#').unwrap_or((target, ""));
        let path =
            if file.is_empty() { root().join(&self.path) } else { self.directory().join(file) };
        if !path.exists() {
            return Err("leads to no file");
        }
        if fragment.is_empty() {
            return Ok(());
        }
        let page = Self::read(&path).map_err(|_| "leads into what is no page")?;
        if page.anchors().contains(fragment) { Ok(()) } else { Err("leads to no heading") }
    }

    /// The paths in its text, outside of links, that do not exist.
    fn dead_paths(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for line in self.lines().iter().filter(|line| !line.is_code) {
            for name in names(line.text) {
                if !self.is_there(name) {
                    faults.push(self.fault(line.number, &format!("{name} does not exist")));
                }
            }
        }
        faults
    }

    /// The tests that it names (`tests/forks.rs::name`) and that do not exist.
    fn dead_tests(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for line in self.lines() {
            for (path, name) in tests(line.text) {
                let source = fs::read_to_string(root().join(path)).unwrap_or_default();
                if !has_test(&source, name) {
                    faults.push(self.fault(line.number, &format!("no test {path}::{name}")));
                }
            }
        }
        faults
    }

    /// The rows of its tables, below their heads, that name no test.
    fn untested_rows(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut is_body = false;
        for line in self.lines() {
            let is_row = line.text.starts_with('|');
            if is_row && is_body && tests(line.text).is_empty() {
                faults.push(self.fault(line.number, "the row names no test"));
            }
            is_body = is_row && (is_body || line.text.starts_with("|---"));
        }
        faults
    }

    /// Whether a path exists from the page's folder, from the root or from `src`. The number of a
    /// decision is enough (`docs/decisions/001`).
    fn is_there(&self, name: &str) -> bool {
        let bases = [self.directory(), root().to_owned(), root().join("src")];
        bases.iter().any(|base| {
            let path = base.join(name);
            let number = path.file_name().map(|name| format!("{}-", name.to_string_lossy()));
            path.exists()
                || number.is_some_and(|number| {
                    number.starts_with(|first: char| first.is_ascii_digit())
                        && path.parent().is_some_and(|folder| has_file(folder, &number))
                })
        })
    }
}

fn has_file(folder: &Path, prefix: &str) -> bool {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.into_iter().any(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
}

/// The name of a heading: `Key backup, and what it costs` is `key-backup-and-what-it-costs`.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect::<String>().to_lowercase()
}

/// The targets of a line's links (`[text](target)`), without those in code.
fn targets(line: &str) -> Vec<String> {
    let prose: String = line.split('`').step_by(2).collect();
    let parts = prose.split("](").skip(1);
    parts.filter_map(|part| part.split_once(')').map(|(target, _)| target.to_owned())).collect()
}

/// The words of a line that are paths: they have a slash, and begin with a folder of the root or
/// end as the name of a file.
fn names(line: &str) -> Vec<&str> {
    // `dead_links` checks the targets of links.
    let prose = line.split("](").enumerate().map(|(index, part)| match index {
        0 => part,
        _ => part.split_once(')').map_or("", |(_, prose)| prose),
    });
    let is_inside = |c: char| c.is_alphanumeric() || "/._-+".contains(c);
    let words = prose.flat_map(move |part| {
        // A word with any other character is a URL, a route, a pattern or a placeholder.
        part.split(|c: char| c.is_whitespace() || "`()[],;\"“”".contains(c))
            .map(|word| word.trim_end_matches(['.', ':', '?', '!']).trim_end_matches("'s"))
            .filter(move |word| word.chars().all(is_inside))
    });
    let is_path = |word: &&str| {
        let Some((first, _)) = word.split_once('/') else { return false };
        if first.is_empty() || word.split('/').any(|part| BUILT.contains(&part)) {
            return false;
        }
        let is_file = word.rsplit_once('.').is_some_and(|(_, end)| SUFFIXES.contains(&end));
        is_file || root().join(first).is_dir()
    };
    words.filter(is_path).collect()
}

/// The tests that a line names: the file and the function of each.
fn tests(line: &str) -> Vec<(&str, &str)> {
    let words = line.split(|c: char| c.is_whitespace() || "`(),;".contains(c));
    let parts = words.filter_map(|word| word.split_once("::"));
    parts.filter(|(path, _)| path.starts_with("tests/") && path.ends_with(".rs")).collect()
}

/// Whether a source has a test function of this name.
fn has_test(source: &str, name: &str) -> bool {
    let lines: Vec<_> = source.lines().map(str::trim).collect();
    lines.iter().enumerate().any(|(at, line)| {
        let function = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ");
        let is_it = function
            .and_then(|function| function.strip_prefix(name))
            .is_some_and(|rest| rest.starts_with('('));
        let attributes = lines[..at].iter().rev().take_while(|line| line.starts_with("#["));
        is_it && attributes.into_iter().any(|line| line.contains("test"))
    })
}

/// All pages below a folder of the root, in the order of their paths.
fn below(folder: &Path) -> Vec<PathBuf> {
    let mut pages = Vec::new();
    for entry in fs::read_dir(root().join(folder)).into_iter().flatten().flatten() {
        let path = folder.join(entry.file_name());
        if entry.path().is_dir() {
            pages.extend(below(&path));
        } else if path.extension().is_some_and(|extension| extension == "md") {
            pages.push(path);
        }
    }
    pages.sort();
    pages
}

fn pages() -> Result<Vec<Page>, String> {
    let inside = below(Path::new("docs"));
    assert!(inside.len() > 10, "only {} pages are left in docs", inside.len());
    PAGES.iter().map(PathBuf::from).chain(inside).map(|path| Page::read(&path)).collect()
}

/// All decision records, in the order of their numbers.
fn decisions() -> Result<Vec<Page>, String> {
    let mut paths = below(Path::new("docs/decisions"));
    paths.retain(|path| !path.ends_with("README.md"));
    assert!(!paths.is_empty(), "there is no decision");
    paths.iter().map(|path| Page::read(path)).collect()
}

/// The faults in the head of a decision record, which should have this number.
fn head_faults(page: &Page, number: usize) -> Vec<String> {
    let field = |name: &str| {
        let mut lines = page.text.lines().take_while(|line| !line.starts_with("## "));
        lines.find_map(|line| line.strip_prefix(&format!("- {name}: "))).unwrap_or_default()
    };
    let mut faults = Vec::new();
    let title = format!("# {number:03}: ");
    let file = page.path.file_name().unwrap_or_default().to_string_lossy();
    if !page.text.starts_with(&title) || !file.starts_with(&format!("{number:03}-")) {
        faults.push(page.fault(1, &format!("the file or its title lacks the number {number:03}")));
    }
    let status = field("Status");
    let superseded = status.strip_prefix("superseded by [").is_some_and(|by| by.contains("]("));
    if !matches!(status, "accepted" | "proposed") && !superseded {
        faults.push(
            page.fault(1, "the status is missing: proposed, accepted or superseded by [NNN](…)"),
        );
    }
    let parts = field("Date").split('-').map(|part| (part.len(), part.parse::<u32>()));
    let is_date = matches!(
        parts.collect::<Vec<_>>().as_slice(),
        [(4, Ok(2024..)), (2, Ok(1..=12)), (2, Ok(1..=31))]
    );
    if !is_date {
        faults.push(page.fault(1, "the date is missing: YYYY-MM-DD"));
    }
    faults
}

/// The faults in the index of decisions.
fn index_faults(index: &Page, decisions: &[Page]) -> Vec<String> {
    let rows: Vec<_> = index.text.lines().filter(|line| line.starts_with("| [")).collect();
    let mut faults = Vec::new();
    if rows.len() != decisions.len() {
        let what = format!("the index lists {} decisions of {}", rows.len(), decisions.len());
        faults.push(index.fault(1, &what));
    }
    for page in decisions {
        let field = |name: &str| {
            let line = page.text.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap_or_default().trim()
        };
        let file = page.path.file_name().unwrap_or_default().to_string_lossy();
        let (title, status, date) = (field("# "), field("- Status:"), field("- Date:"));
        let row = format!("| [{title}]({file}) | {status} | {date} |");
        if !rows.contains(&row.as_str()) {
            faults.push(index.fault(1, &format!("this row is missing: {row}")));
        }
    }
    faults
}

fn assert_none(faults: &[String]) {
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn links_lead_to_files_and_headings() -> Result<(), String> {
    assert_none(&pages()?.iter().flat_map(Page::dead_links).collect::<Vec<_>>());
    Ok(())
}

#[test]
fn paths_in_prose_exist() -> Result<(), String> {
    assert_none(&pages()?.iter().flat_map(Page::dead_paths).collect::<Vec<_>>());
    Ok(())
}

#[test]
fn named_tests_exist() -> Result<(), String> {
    assert_none(&pages()?.iter().flat_map(Page::dead_tests).collect::<Vec<_>>());
    Ok(())
}

#[test]
fn each_row_of_the_threat_model_names_a_test() -> Result<(), String> {
    let page = Page::read(Path::new("docs/threat-model.md"))?;
    let named: usize = page.lines().iter().map(|line| tests(line.text).len()).sum();
    assert!(named > 50, "it names {named} tests");
    assert_none(&page.untested_rows());
    Ok(())
}

#[test]
fn lines_fit() -> Result<(), String> {
    assert_none(&pages()?.iter().flat_map(Page::long_lines).collect::<Vec<_>>());
    Ok(())
}

#[test]
fn decisions_have_a_number_a_status_a_date_and_a_row_in_the_index() -> Result<(), String> {
    let decisions = decisions()?;
    let heads = decisions.iter().enumerate().flat_map(|(index, page)| head_faults(page, index + 1));
    let mut faults: Vec<_> = heads.collect();
    let index = Page::read(Path::new("docs/decisions/README.md"))?;
    faults.extend(index_faults(&index, &decisions));
    assert_none(&faults);
    Ok(())
}

/// Each check finds its fault, and leaves alone what only looks like one.
#[test]
fn faults_are_found() {
    let page = |text: &str| Page { path: "docs/page.md".into(), text: text.to_owned() };
    let links = page(
        "[a](protocol.md#key-backup) [b](none.md) [c](protocol.md#none) [d](https://x.y) \
         `[e](e.md)`",
    );
    assert_eq!(links.dead_links().len(), 2, "{:?}", links.dead_links());
    let paths = page(
        "See `src/lib.rs`, src/none.rs, none/at_all.rs, docs/decisions/001, docs/decisions/999, \
         target/none.rs, GET /rooms/{room}, and/or.\n\n    tests/none.rs",
    );
    assert_eq!(paths.dead_paths().len(), 3, "{:?}", paths.dead_paths());
    let tests = page(
        "`tests/docs.rs::lines_fit`, `tests/docs.rs::root`, tests/docs.rs::lines\n\n\
         | a | b |\n|---|---|\n| x | `tests/none.rs::x` |\n| y | none |\n",
    );
    assert_eq!(tests.dead_tests().len(), 3, "{:?}", tests.dead_tests());
    assert_eq!(tests.untested_rows().len(), 1, "{:?}", tests.untested_rows());
    let long =
        format!("{}\n| {} |\n\n    {}\n", "word ".repeat(21), "word ".repeat(21), "a ".repeat(60));
    assert_eq!(page(&long).long_lines().len(), 1);
    let good = "# 001: T\n\n- Status: accepted\n- Date: 2026-11-24\n\n## Context\n";
    let decision =
        |text: &str| Page { path: "docs/decisions/001-t.md".into(), text: text.to_owned() };
    assert!(head_faults(&decision(good), 1).is_empty());
    for (old, new) in [("001:", "002:"), ("accepted", "done"), ("-24", "-32"), ("- Date", "Date")] {
        assert_eq!(head_faults(&decision(&good.replace(old, new)), 1).len(), 1, "{old}");
    }
    assert_eq!(index_faults(&page("no table"), &[decision(good)]).len(), 2);
}
