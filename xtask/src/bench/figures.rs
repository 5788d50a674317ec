//! The figures that the programs print, and the file that keeps them.

use std::{fs, path::Path};

use serde_json::{Map, Value, json};

use crate::failure::Failure;

/// What a figure is about. The same operation in rooms of several sizes is one series.
#[derive(Clone, Copy, Debug)]
pub struct Series<'a> {
    part: &'a str,
    who: &'a str,
    operation: &'a str,
    tree: Option<&'a str>,
}

impl<'a> Series<'a> {
    /// An operation of one contender, whatever the tree.
    pub const fn new(part: &'a str, who: &'a str, operation: &'a str) -> Self {
        Self { part, who, operation, tree: None }
    }

    /// The same in a tree of this shape only: `blank` or `warm`.
    pub const fn in_tree(self, tree: &'a str) -> Self {
        Self { tree: Some(tree), ..self }
    }
}

/// One figure: a JSON object with `part`, `who`, `operation` and what was measured.
#[derive(Clone, Debug)]
pub struct Figure(Value);

impl Figure {
    /// The library's size.
    pub fn size(bytes: u64) -> Self {
        Self(json!({
            "part": "size", "who": "matrix-mls", "operation": "the library for a phone, stripped",
            "bytes": bytes,
        }))
    }

    /// A field that is text, or an empty text if the field is missing.
    pub fn text(&self, field: &str) -> &str {
        self.0[field].as_str().unwrap_or_default()
    }

    /// A field that is a number.
    pub fn number(&self, field: &str) -> Option<f64> {
        self.0[field].as_f64()
    }

    /// The size of the room, in devices.
    pub fn devices(&self) -> u64 {
        self.0["devices"].as_u64().unwrap_or_default()
    }

    /// All fields.
    pub fn fields(&self) -> impl Iterator<Item = (&String, &Value)> {
        self.0.as_object().into_iter().flatten()
    }

    /// Whether it belongs to a series.
    pub fn is_of(&self, series: Series<'_>) -> bool {
        self.text("part") == series.part
            && self.text("who") == series.who
            && self.text("operation") == series.operation
            && series.tree.is_none_or(|tree| self.text("tree") == tree)
    }
}

/// Reads the lines that are figures, and passes over all others.
pub fn parse(text: &str) -> Vec<Figure> {
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["part"].is_string()).map(Figure).collect()
}

/// All figures, and what they were measured on.
#[derive(Debug, Default)]
pub struct Results {
    /// The figures.
    pub figures: Vec<Figure>,
    /// What is known of the machine, the date and the versions, by name.
    pub machine: Map<String, Value>,
}

impl Results {
    /// Reads a file of results. A file that does not exist holds none.
    pub fn read(file: &Path) -> Result<Self, Failure> {
        if !file.exists() {
            return Ok(Self::default());
        }
        let text = fs::read_to_string(file).map_err(Failure::io(file))?;
        let value: Value = serde_json::from_str(&text)
            .map_err(|error| Failure::Message(format!("{}: {error}", file.display())))?;
        let figures = value["figures"].as_array().cloned().unwrap_or_default();
        Ok(Self {
            figures: figures.into_iter().map(Figure).collect(),
            machine: value["machine"].as_object().cloned().unwrap_or_default(),
        })
    }

    /// Replaces the figures of the parts that the new figures belong to.
    pub fn replace(&mut self, figures: Vec<Figure>, machine: Map<String, Value>) {
        self.figures.retain(|old| figures.iter().all(|new| new.text("part") != old.text("part")));
        self.figures.extend(figures);
        self.machine = machine;
    }

    /// Writes the file, a figure a line.
    pub fn write(&self, file: &Path) -> Result<(), Failure> {
        let figures: Vec<_> = self.figures.iter().map(|figure| figure.0.to_string()).collect();
        let machine = Value::Object(self.machine.clone());
        let text =
            format!("{{\"machine\":{machine},\n\"figures\":[\n{}\n]}}\n", figures.join(",\n"));
        fs::write(file, text).map_err(Failure::io(file))
    }

    /// All figures of a part.
    pub fn of_part(&self, part: &str) -> impl Iterator<Item = &Figure> {
        self.figures.iter().filter(move |figure| figure.text("part") == part)
    }

    /// All figures of a series, by the size of the room.
    pub fn of_series(&self, series: Series<'_>) -> Vec<&Figure> {
        let mut figures: Vec<_> =
            self.figures.iter().filter(|figure| figure.is_of(series)).collect();
        figures.sort_by_key(|figure| figure.devices());
        figures
    }

    /// The figure of a series in a room of this size.
    pub fn find(&self, series: Series<'_>, devices: u64) -> Option<&Figure> {
        find(&self.figures, series, devices)
    }

    /// The median time of a series in a room of this size, in microseconds.
    pub fn median(&self, series: Series<'_>, devices: u64) -> Option<f64> {
        self.find(series, devices)?.number("median_us")
    }
}

/// The figure of a series in a room of this size.
pub fn find<'a>(figures: &'a [Figure], series: Series<'_>, devices: u64) -> Option<&'a Figure> {
    figures.iter().find(|figure| figure.devices() == devices && figure.is_of(series))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(part: &str, tree: &str, us: u64) -> String {
        let fields = json!({
            "part": part, "who": "a", "operation": "b", "tree": tree, "devices": 2, "median_us": us,
        });
        fields.to_string()
    }

    #[test]
    fn other_lines_are_passed_over() {
        let text = format!("noise\n{}\n3\n{{}}\n", line("graph", "warm", 1));
        assert_eq!(parse(&text).len(), 1);
    }

    #[test]
    fn new_figures_replace_those_of_the_same_part() {
        let text = [line("graph", "warm", 1), line("day", "warm", 2)].join("\n");
        let mut results = Results { figures: parse(&text), ..Results::default() };
        results.replace(parse(&line("graph", "warm", 5)), Map::new());
        assert_eq!(results.figures.len(), 2);
        assert_eq!(results.median(Series::new("graph", "a", "b"), 2), Some(5.0));
        assert_eq!(results.median(Series::new("day", "a", "b"), 2), Some(2.0));
        assert_eq!(results.median(Series::new("graph", "a", "c"), 2), None);
    }

    #[test]
    fn a_series_may_be_of_one_tree() {
        let text = [line("graph", "blank", 1), line("graph", "warm", 2)].join("\n");
        let results = Results { figures: parse(&text), ..Results::default() };
        let series = Series::new("graph", "a", "b");
        assert_eq!(results.median(series.in_tree("warm"), 2), Some(2.0));
        assert_eq!(results.of_series(series).len(), 2);
    }

    #[test]
    fn results_are_read_as_they_were_written() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("results.json");
        assert!(Results::read(&file).unwrap().figures.is_empty());
        let mut machine = Map::new();
        machine.insert("cores".to_owned(), json!("2"));
        let results = Results { figures: parse(&line("graph", "warm", 1)), machine };
        results.write(&file).unwrap();
        let read = Results::read(&file).unwrap();
        assert_eq!(read.median(Series::new("graph", "a", "b"), 2), Some(1.0));
        assert_eq!(read.machine, results.machine);
    }
}
