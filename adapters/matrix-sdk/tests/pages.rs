//! The page for teams with a fork of matrix-sdk-ffi says what the example and the tests do.

use std::{fs, path::Path};

type Outcome = Result<(), Box<dyn std::error::Error>>;

/// The lines of a text without indentation, each with its end.
fn lines(text: &str) -> String {
    text.lines().map(|line| line.trim().to_owned() + "\n").collect()
}

fn sources(directory: &Path, all: &mut String) -> Outcome {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            sources(&path, all)?;
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            all.push_str(&lines(&fs::read_to_string(path)?));
        }
    }
    Ok(())
}

#[test]
fn each_snippet_of_the_page_is_compiled_code() -> Outcome {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("../../docs/element-x.md"))?;
    let mut code = String::new();
    for part in ["examples", "tests"] {
        sources(&root.join(part), &mut code)?;
    }
    let snippets: Vec<&str> = page
        .split("```rust\n")
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap_or_default())
        .collect();
    assert!(snippets.len() > 5, "the page has snippets");
    for snippet in snippets {
        assert!(code.contains(&lines(snippet)), "this is not in the example or a test:\n{snippet}");
    }
    Ok(())
}
