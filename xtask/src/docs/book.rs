//! What mdBook makes the guide from: the pages of `docs`, in the order of the guide's first page.
//!
//! A page of `docs` stays as it is, but for its links that lead out of `docs`: those lead to the
//! repository.

use std::{
    fs,
    path::{Component, Path, PathBuf},
};

use crate::failure::Failure;

/// Where a link leads that leaves the pages.
const REPOSITORY: &str = "https://github.com/matrix-mls/matrix-mls/blob/main";
/// The pages after the guide's chapters, by title.
const REFERENCE: [(&str, &str); 8] = [
    ("Features", "features.md"),
    ("Error codes", "errors.md"),
    ("Stability", "stability.md"),
    ("MLS in an app on matrix-rust-sdk", "element-x.md"),
    ("Protocol", "protocol.md"),
    ("Specification", "spec/README.md"),
    ("Threat model", "threat-model.md"),
    ("Architecture", "architecture.md"),
];
/// What the book's pages are made of.
const KINDS: [&str; 4] = ["md", "svg", "json", "txt"];

/// Writes the book's source from the pages in `docs`.
pub fn write(docs: &Path, to: &Path) -> Result<(), Failure> {
    let settings = "[book]\ntitle = \"matrix-mls\"\nlanguage = \"en\"\nsrc = \"src\"\n";
    let file = to.join("book.toml");
    fs::write(&file, settings).map_err(Failure::io(&file))?;
    let pages = to.join("src");
    copy(docs, Path::new(""), &pages)?;
    let first = docs.join("guide/README.md");
    let text = fs::read_to_string(&first).map_err(Failure::io(&first))?;
    let file = pages.join("SUMMARY.md");
    fs::write(&file, summary(&text)).map_err(Failure::io(&file))
}

/// Copies a directory below `docs`.
fn copy(docs: &Path, directory: &Path, to: &Path) -> Result<(), Failure> {
    let (from, into) = (docs.join(directory), to.join(directory));
    fs::create_dir_all(&into).map_err(Failure::io(&into))?;
    for entry in fs::read_dir(&from).map_err(Failure::io(&from))? {
        let path = entry.map_err(Failure::io(&from))?.path();
        let Some(name) = path.file_name() else { continue };
        let kind = path.extension().unwrap_or_default();
        if path.is_dir() {
            copy(docs, &directory.join(name), to)?;
        } else if kind == "md" {
            let text = fs::read_to_string(&path).map_err(Failure::io(&path))?;
            let target = into.join(name);
            fs::write(&target, page(&text, directory)).map_err(Failure::io(&target))?;
        } else if KINDS.iter().any(|known| kind == *known) {
            fs::copy(&path, into.join(name)).map_err(Failure::io(&path))?;
        }
    }
    Ok(())
}

/// The book's list of pages: the chapters of the guide's first page, then the reference.
fn summary(first_page: &str) -> String {
    let mut list = "# Summary\n\n[The guide](guide/README.md)\n\n".to_owned();
    for row in first_page.lines().filter_map(|line| line.strip_prefix("| [")) {
        let link = row.split_once("](").and_then(|(title, rest)| {
            let (file, _) = rest.split_once(')')?;
            Some((title, file))
        });
        if let Some((title, file)) = link {
            // The book numbers its chapters by itself.
            let title = title.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.').trim();
            list.push_str(&format!("- [{title}](guide/{file})\n"));
        }
    }
    list.push_str("\n# Reference\n\n");
    for (title, file) in REFERENCE {
        list.push_str(&format!("- [{title}]({file})\n"));
    }
    list
}

/// A page whose links that leave `docs` lead to the repository.
fn page(text: &str, directory: &Path) -> String {
    let mut parts = text.split("](");
    let mut page = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        page.push_str("](");
        match part.split_once(')') {
            Some((link, rest)) => {
                match outside(link, directory) {
                    Some(path) => page.push_str(&format!("{REPOSITORY}/{path}")),
                    None => page.push_str(link),
                }
                page.push(')');
                page.push_str(rest);
            }
            None => page.push_str(part),
        }
    }
    page
}

/// The path in the repository to which a link of a page in this directory of `docs` leads, if that
/// is outside `docs`.
fn outside(link: &str, directory: &Path) -> Option<String> {
    if link.contains("://") || link.starts_with('#') {
        return None;
    }
    let mut place = PathBuf::from("docs").join(directory);
    for part in Path::new(link).components() {
        match part {
            Component::ParentDir => drop(place.pop()),
            Component::Normal(name) => place.push(name),
            _ => {}
        }
    }
    (!place.starts_with("docs")).then(|| place.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_links_that_leave_the_pages_are_changed() {
        let text = "[a](01-a.md#b) [c](../errors.md) [d](../../ios) [e](https://e.org) [f](#f) (g)";
        let made = page(text, Path::new("guide"));
        let ios = format!("[d]({REPOSITORY}/ios)");
        assert_eq!(made, text.replace("[d](../../ios)", &ios));
        assert_eq!(
            page("[a](../README.md)", Path::new("")),
            format!("[a]({REPOSITORY}/README.md)")
        );
    }

    #[test]
    fn the_list_has_the_chapters_in_their_order() {
        let list = summary(
            "| chapter | what |\n|---|---|\n| [First](00-a.md) | x |\n| [1. Two](01-b.md) | y |\n",
        );
        let chapters = "- [First](guide/00-a.md)\n- [Two](guide/01-b.md)\n";
        assert!(list.contains(chapters), "{list}");
        assert!(list.contains("- [Error codes](errors.md)\n"), "{list}");
    }

    #[test]
    fn the_books_source_has_every_page_that_its_list_names() {
        let to = tempfile::tempdir().unwrap();
        write(&crate::paths::workspace().join("docs"), to.path()).unwrap();
        let list = fs::read_to_string(to.path().join("src/SUMMARY.md")).unwrap();
        let files = list.split("](").skip(1).filter_map(|part| part.split(')').next());
        let files: Vec<_> = files.collect();
        assert!(files.len() > 20, "{list}");
        for file in files {
            assert!(to.path().join("src").join(file).is_file(), "{file}");
        }
    }
}
