//! The table of floors in docs/architecture.md, and the comparison of a crate's edges with it.

use crate::{
    edges::{self, Edges},
    tree::{FileId, Package},
};

const BEGIN: &str = "<!-- floors -->";
const END: &str = "<!-- /floors -->";

/// The rows of the table.
pub struct Table(Vec<Row>);

struct Row {
    floor: u32,
    /// Folders end with `/`.
    paths: Vec<String>,
}

impl Table {
    pub fn read(markdown: &str) -> Result<Self, String> {
        let lines: Vec<&str> = markdown.lines().map(str::trim).collect();
        let find = |mark| lines.iter().position(|line| *line == mark);
        let (Some(begin), Some(end)) = (find(BEGIN), find(END)) else {
            return Err(format!("there is no table between the lines {BEGIN} and {END}"));
        };
        let lines = lines.get(begin + 1..end).ok_or(format!("{END} comes before {BEGIN}"))?;
        let mut lines = lines.iter().filter(|line| !line.is_empty());
        let mut cells = || lines.next().map(|line| cells(line)).transpose();
        if cells()? != Some(["floor", "place", "what it owns"]) {
            return Err("the table's columns are not `floor | place | what it owns`".to_owned());
        }
        if !cells()?
            .is_some_and(|cells| cells.iter().all(|cell| cell.trim_matches([':', '-']).is_empty()))
        {
            return Err("the table has no line below its columns' names".to_owned());
        }
        let mut rows = Vec::new();
        while let Some([floor, place, _]) = cells()? {
            let floor = floor.parse().map_err(|_| format!("floor `{floor}` is no number"))?;
            let paths = place.split(',').map(|path| {
                let path = path.trim();
                let inner = path.strip_prefix('`').and_then(|path| path.strip_suffix('`'));
                inner
                    .filter(|path| path.ends_with('/') || path.ends_with(".rs"))
                    .map(str::to_owned)
                    .ok_or(format!("place {path} is no `folder/` and no `file.rs`"))
            });
            rows.push(Row { floor, paths: paths.collect::<Result<_, _>>()? });
        }
        Ok(Self(rows))
    }

    /// The row of a file: that of the longest path that covers it.
    fn row(&self, file: &str) -> Option<&Row> {
        let covering = self.0.iter().flat_map(|row| row.paths.iter().map(move |path| (path, row)));
        let covering = covering.filter(|(path, _)| covers(path, file));
        covering.max_by_key(|(path, _)| path.len()).map(|(_, row)| row)
    }

    /// What is wrong with the table for this package, and which edges do not go down; nothing if
    /// all is well.
    pub fn report(&self, package: &Package, edges: &Edges) -> String {
        let mut out = String::new();
        let mut paths: Vec<&String> = self.0.iter().flat_map(|row| &row.paths).collect();
        paths.sort();
        for pair in paths.windows(2).filter(|pair| pair[0] == pair[1]) {
            out += &format!("`{}` is listed twice\n", pair[0]);
        }
        for path in paths {
            if !package.files.iter().any(|file| covers(path, file)) {
                out += &format!("`{path}` is listed and does not exist\n");
            }
        }
        for file in &package.files {
            if self.row(file).is_none() {
                out += &format!("{file} is on no floor\n");
            }
        }
        for (edge, names) in edges {
            if let Some(wrong) = self.wrong(package, *edge) {
                out += &format!("{wrong}: {}\n", edges::line(package, *edge, names));
            }
        }
        out
    }

    /// How an edge fails to go down from one place to another.
    fn wrong(&self, package: &Package, (from, to): (FileId, FileId)) -> Option<String> {
        let (from, to) = (self.row(&package.files[from])?, self.row(&package.files[to])?);
        if std::ptr::eq(from, to) || from.floor > to.floor {
            return None;
        }
        let way = if from.floor == to.floor { "level" } else { "up" };
        Some(format!("{way}, {} -> {}", from.floor, to.floor))
    }
}

fn covers(path: &str, file: &str) -> bool {
    if path.ends_with('/') { file.starts_with(path) } else { file == path }
}

fn cells(line: &str) -> Result<[&str; 3], String> {
    let inner = line.strip_prefix('|').and_then(|line| line.strip_suffix('|'));
    let cells: Option<Vec<&str>> = inner.map(|line| line.split('|').map(str::trim).collect());
    let cells = cells.and_then(|cells| <[&str; 3]>::try_from(cells).ok());
    cells.ok_or(format!("`{line}` is no row of three columns"))
}
