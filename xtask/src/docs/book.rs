//! What mdBook makes the guide from: the pages of `docs`, in the order of the guide's first page.
//!
//! A page of `docs` stays as it is, but for its links. Those that lead to what the book does not
//! have lead to the repository.

use std::{
    fs,
    path::{Component, Path, PathBuf},
};

use crate::failure::Failure;

/// Where a link leads that leaves the pages.
const REPOSITORY: &str = "https://github.com/matrix-mls/matrix-mls/blob/main";
/// The pages after the guide's chapters, by title. All pages beside a `README.md` come after it.
const REFERENCE: [(&str, &str); 12] = [
    ("Features", "features.md"),
    ("Error codes", "errors.md"),
    ("Stability", "stability.md"),
    ("MLS in an app on matrix-rust-sdk", "element-x.md"),
    ("Protocol", "protocol.md"),
    ("Specification", "spec/README.md"),
    ("Threat model", "threat-model.md"),
    ("Architecture", "architecture.md"),
    ("Simulator", "simulator.md"),
    ("Decisions", "decisions/README.md"),
    ("Benches", "bench/README.md"),
    ("For OpenMLS", "upstream/README.md"),
];
/// The book's first page. mdBook has a copy of it in the root, so it has to be there.
const START: &str = "# matrix-mls\n\nMessaging Layer Security for Matrix rooms. \
    [The guide](guide/index.md) is for app developers; the pages after it are to look things up.\n";
/// What the book's pages are made of.
const KINDS: [&str; 4] = ["md", "svg", "json", "txt"];

/// Writes the book's source from the pages in `docs`.
pub fn write(docs: &Path, to: &Path) -> Result<(), Failure> {
    let settings = "[book]\ntitle = \"matrix-mls\"\nlanguage = \"en\"\nsrc = \"src\"\n";
    let file = to.join("book.toml");
    fs::write(&file, settings).map_err(Failure::io(&file))?;
    let pages = to.join("src");
    copy(docs, Path::new(""), &pages)?;
    let file = pages.join("README.md");
    fs::write(&file, START).map_err(Failure::io(&file))?;
    let file = pages.join("SUMMARY.md");
    fs::write(&file, summary(docs)?).map_err(Failure::io(&file))
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
            fs::write(&target, page(docs, &text, directory)).map_err(Failure::io(&target))?;
        } else if KINDS.iter().any(|known| kind == *known) {
            fs::copy(&path, into.join(name)).map_err(Failure::io(&path))?;
        }
    }
    Ok(())
}

/// The book's list of pages: the chapters of the guide's first page, then the reference.
fn summary(docs: &Path) -> Result<String, Failure> {
    let first_page = read(&docs.join("guide/README.md"))?;
    let mut list =
        "# Summary\n\n[matrix-mls](README.md)\n\n[The guide](guide/README.md)\n\n".to_owned();
    for (title, file) in chapters(&first_page) {
        list.push_str(&format!("- [{title}](guide/{file})\n"));
    }
    list.push_str("\n# Reference\n\n");
    for (title, file) in REFERENCE {
        list.push_str(&format!("- [{title}]({file})\n"));
        if let Some(directory) = file.strip_suffix("README.md") {
            for page in pages_below(docs, Path::new(directory))? {
                let text = read(&docs.join(&page))?;
                list.push_str(&format!("    - [{}]({})\n", title_of(&text), page.display()));
            }
        }
    }
    Ok(list)
}

fn read(file: &Path) -> Result<String, Failure> {
    fs::read_to_string(file).map_err(Failure::io(file))
}

/// The chapters that the guide's first page lists: title and file.
fn chapters(first_page: &str) -> impl Iterator<Item = (&str, &str)> {
    first_page.lines().filter_map(|line| {
        let (title, rest) = line.strip_prefix("| [")?.split_once("](")?;
        // The book numbers its chapters by itself.
        let title = title.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.').trim();
        Some((title, rest.split_once(')')?.0))
    })
}

/// The pages in a directory of `docs` and below, but for its own `README.md`, by name.
fn pages_below(docs: &Path, directory: &Path) -> Result<Vec<PathBuf>, Failure> {
    let place = docs.join(directory);
    let mut pages = Vec::new();
    for entry in fs::read_dir(&place).map_err(Failure::io(&place))? {
        let path = entry.map_err(Failure::io(&place))?.path();
        let Some(name) = path.file_name() else { continue };
        let name = directory.join(name);
        if path.is_dir() {
            if path.join("README.md").is_file() {
                pages.push(name.join("README.md"));
            }
            pages.extend(pages_below(docs, &name)?);
        } else if path.extension().is_some_and(|kind| kind == "md") && !path.ends_with("README.md")
        {
            pages.push(name);
        }
    }
    pages.sort();
    Ok(pages)
}

/// A page's heading.
fn title_of(page: &str) -> &str {
    page.lines().find_map(|line| line.strip_prefix("# ")).unwrap_or("Untitled")
}

/// A page of this directory of `docs` with links that lead somewhere in the book.
fn page(docs: &Path, text: &str, directory: &Path) -> String {
    let mut parts = text.split("](");
    let mut page = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        page.push_str("](");
        match part.split_once(')') {
            Some((link, rest)) => {
                page.push_str(&mended(docs, link, directory));
                page.push(')');
                page.push_str(rest);
            }
            None => page.push_str(part),
        }
    }
    page
}

/// A link of a page in this directory of `docs`, as it is right in the book.
fn mended(docs: &Path, link: &str, directory: &Path) -> String {
    if link.contains("://") || link.starts_with('#') {
        return link.to_owned();
    }
    let (file, heading) = link.split_once('#').map_or((link, None), |(file, at)| (file, Some(at)));
    let mut place = PathBuf::from("docs").join(directory);
    for part in Path::new(file).components() {
        match part {
            Component::ParentDir => drop(place.pop()),
            Component::Normal(name) => place.push(name),
            _ => {}
        }
    }
    let in_book = place.strip_prefix("docs").is_ok_and(|place| {
        let kind = place.extension().unwrap_or_default();
        KINDS.iter().any(|known| kind == *known) && docs.join(place).is_file()
    });
    let file = match (in_book, file.strip_suffix("README.md")) {
        (false, _) => format!("{REPOSITORY}/{}", place.display()),
        // The book has the first page of a directory under this name.
        (true, Some(directory)) => format!("{directory}index.md"),
        (true, None) => file.to_owned(),
    };
    heading.map_or(file.clone(), |heading| format!("{file}#{heading}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn docs() -> PathBuf {
        crate::paths::workspace().join("docs")
    }

    #[test]
    fn only_links_to_what_the_book_does_not_have_are_changed() {
        let text = "[a](01-what-mls-is.md#b) [c](../errors.md) [e](https://e.org) [f](#f) (g)";
        assert_eq!(page(&docs(), text, Path::new("guide")), text);
        for (link, directory, expected) in [
            ("../../ios", "guide", format!("{REPOSITORY}/ios")),
            ("../README.md", "", format!("{REPOSITORY}/README.md")),
            ("schemas", "spec", format!("{REPOSITORY}/docs/spec/schemas")),
            ("check.py", "spec/vectors", format!("{REPOSITORY}/docs/spec/vectors/check.py")),
            ("vectors/README.md#treesjson", "spec", "vectors/index.md#treesjson".to_owned()),
            ("schemas/commit.json", "spec", "schemas/commit.json".to_owned()),
        ] {
            assert_eq!(mended(&docs(), link, Path::new(directory)), expected);
        }
    }

    #[test]
    fn the_guides_chapters_come_in_their_order() {
        let page =
            "| chapter | what |\n|---|---|\n| [First](00-a.md) | x |\n| [1. Two](01-b.md) | y |";
        let found: Vec<_> = chapters(page).collect();
        assert_eq!(found, [("First", "00-a.md"), ("Two", "01-b.md")]);
    }

    #[test]
    fn the_list_names_every_page_of_docs_once() {
        let to = tempfile::tempdir().unwrap();
        write(&docs(), to.path()).unwrap();
        let list = fs::read_to_string(to.path().join("src/SUMMARY.md")).unwrap();
        let files = list.split("](").skip(1).filter_map(|part| part.split(')').next());
        let mut named: Vec<PathBuf> = files.map(PathBuf::from).collect();
        named.sort();
        for file in &named {
            assert!(to.path().join("src").join(file).is_file(), "{}", file.display());
        }
        let mut all = pages_below(&docs(), Path::new("")).unwrap();
        all.push("README.md".into());
        all.sort();
        assert_eq!(named, all);
    }
}
