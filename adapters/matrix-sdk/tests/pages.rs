//! The page for teams with a fork of matrix-sdk-ffi says what examples, tests and `sdk-ffi` do.

use std::{fs, path::Path};

type Outcome = Result<(), Box<dyn std::error::Error>>;

/// The lines of a text without indentation, each with its end.
fn lines(text: &str) -> String {
    text.lines().map(|line| line.trim().to_owned() + "\n").collect()
}

/// Adds what a directory has in a language, which its files end with.
fn sources(directory: &Path, language: &str, all: &mut String) -> Outcome {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            sources(&path, language, all)?;
        } else if path.extension().is_some_and(|ending| ending == language) {
            all.push_str(&lines(&fs::read_to_string(path)?));
        }
    }
    Ok(())
}

/// Fails unless each snippet of the page in a language is in these directories, word for word.
fn compare(name: &str, ending: &str, directories: &[&str], least: usize) -> Outcome {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("../../docs/element-x.md"))?;
    let mut code = String::new();
    for directory in directories {
        sources(&root.join(directory), ending, &mut code)?;
    }
    let fence = format!("```{name}\n");
    let snippets: Vec<&str> = page
        .split(&fence)
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap_or_default())
        .collect();
    assert!(snippets.len() >= least, "the page has snippets of {name}");
    for snippet in snippets {
        assert!(code.contains(&lines(snippet)), "this is nowhere in {directories:?}:\n{snippet}");
    }
    Ok(())
}

#[test]
fn each_snippet_of_the_page_is_compiled_code() -> Outcome {
    compare("rust", "rs", &["examples", "tests", "../sdk-ffi/src"], 8)?;
    compare("kotlin", "kt", &["../sdk-ffi/kotlin/src"], 1)?;
    compare("swift", "swift", &["../sdk-ffi/swift/Sources/SdkFfi", "../sdk-ffi/swift/Tests"], 2)
}
