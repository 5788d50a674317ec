//! The guide and the README show compiled code: each snippet stands in a sample, a library or a
//! test. Its index names every page, and each chapter with code has it in Kotlin and in Swift.
//!
//! Whether the words around the code are right is for the reviewer.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

type Outcome = Result<(), Box<dyn std::error::Error>>;

/// The folders whose code is compiled, here or by the tests of the other languages.
const SOURCES: [&str; 9] = [
    "android",
    "bindings/kotlin/library",
    "bindings/kotlin/sample",
    "bindings/kotlin/tests",
    "bindings/swift/Sources",
    "bindings/swift/Tests",
    "examples",
    "ios",
    "tests",
];
/// The language of a snippet, and the ending of the files that it may stand in.
const LANGUAGES: [(&str, &str); 3] = [("kotlin", "kt"), ("swift", "swift"), ("rust", "rs")];
/// Folders that a build makes.
const BUILT: [&str; 4] = [".build", "build", "generated", "target"];
/// A line of a snippet that stands for any lines of the file.
const SKIPPED: &str = "…";

/// A block of code in a page.
#[derive(Debug, PartialEq)]
struct Snippet {
    ending: &'static str,
    /// Its parts between the lines that skip, each as `flat` gives it.
    parts: Vec<String>,
}

/// The lines of a text without their indentation, each with a line end before and after it.
fn flat<'a>(lines: impl Iterator<Item = &'a str>) -> String {
    let mut all = String::from("\n");
    for line in lines {
        all.push_str(line.trim());
        all.push('\n');
    }
    all
}

fn snippets(page: &str) -> Vec<Snippet> {
    let mut found = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        let Some(language) = line.trim().strip_prefix("```") else { continue };
        let inside: Vec<&str> =
            lines.by_ref().take_while(|line| !line.trim().starts_with("```")).collect();
        if let Some((_, ending)) = LANGUAGES.iter().find(|(name, _)| *name == language) {
            let parts = inside.split(|line| line.trim() == SKIPPED);
            let parts = parts.map(|part| flat(part.iter().copied())).collect();
            found.push(Snippet { ending, parts });
        }
    }
    found
}

/// Whether the parts stand in a file, one after the other.
fn stands_in(parts: &[String], code: &str) -> bool {
    let mut rest = code;
    parts.iter().all(|part| {
        let after = rest.find(part).and_then(|start| rest.get(start + part.len() - 1..));
        rest = after.unwrap_or_default();
        after.is_some()
    })
}

/// The code of a folder: the ending of each file's name, and the file as `flat` gives it.
fn sources(folder: &Path, all: &mut Vec<(String, String)>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        if path.is_dir() {
            if !BUILT.contains(&name.as_str()) {
                sources(&path, all)?;
            }
        } else if let Some((_, ending)) = name.rsplit_once('.')
            && LANGUAGES.iter().any(|(_, known)| *known == ending)
        {
            all.push((ending.to_owned(), flat(fs::read_to_string(&path)?.lines())));
        }
    }
    Ok(())
}

fn guide() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/guide")
}

/// The chapters: the name of each page but the index, and its text.
fn chapters() -> io::Result<Vec<(String, String)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(guide())? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.rsplit_once('.').is_some_and(|(_, ending)| ending == "md") && name != "README.md" {
            found.push((name, fs::read_to_string(entry.path())?));
        }
    }
    found.sort();
    Ok(found)
}

#[test]
fn each_snippet_is_compiled_code() -> Outcome {
    let mut code = Vec::new();
    for folder in SOURCES {
        sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), &mut code)?;
    }
    let mut count = 0;
    let mut strange = Vec::new();
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let mut pages = chapters()?;
    pages.push(("the README".to_owned(), fs::read_to_string(readme)?));
    for (name, text) in pages {
        for snippet in snippets(&text) {
            count += 1;
            let is_there = code
                .iter()
                .any(|(ending, file)| ending == snippet.ending && stands_in(&snippet.parts, file));
            if !is_there {
                strange.push(format!("{name}: {}", snippet.parts.concat()));
            }
        }
    }
    assert!(count > 30, "only {count} snippets are left");
    assert!(strange.is_empty(), "these stand in no file that is compiled:\n{}", strange.join("\n"));
    Ok(())
}

#[test]
fn the_index_names_every_page() -> Outcome {
    let index = fs::read_to_string(guide().join("README.md"))?;
    let chapters = chapters()?;
    assert!(chapters.len() >= 12, "only {} chapters are left", chapters.len());
    for (name, _) in chapters {
        assert!(index.contains(&format!("]({name})")), "the index does not name {name}");
    }
    Ok(())
}

#[test]
fn a_chapter_with_code_has_it_in_both_languages() -> Outcome {
    for (name, text) in chapters()? {
        let found = snippets(&text);
        for ending in ["kt", "swift"] {
            let has = found.iter().any(|snippet| snippet.ending == ending);
            assert!(found.is_empty() || has, "{name} has code, and none in a .{ending} file");
        }
    }
    Ok(())
}

/// The checks find what is wrong, and leave alone what only looks so.
#[test]
fn faults_are_found() {
    let page = "a\n```kotlin\n  one()\n…\ntwo()\n```\n```text\nnone\n```\n```\nnone\n```\n";
    let found = snippets(page);
    let parts = vec!["\none()\n".to_owned(), "\ntwo()\n".to_owned()];
    assert_eq!(found, [Snippet { ending: "kt", parts: parts.clone() }]);
    let file = |text: &str| flat(text.lines());
    assert!(stands_in(&parts, &file("one()\ntwo()\n")));
    assert!(stands_in(&parts, &file("{\n    one()\n    three()\n    two()\n}\n")));
    for other in ["two()\none()\n", "one()\n", "one() + two()\n", "one()\ntwo() + 1\n", ""] {
        assert!(!stands_in(&parts, &file(other)), "{other}");
    }
}
