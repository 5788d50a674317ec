//! The figures that the programs print, and the file that keeps them.

use std::{fs, path::Path};

use serde_json::{Map, Value, json};

use crate::step::Failure;

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

    /// A field that is text; empty where there is none.
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

    /// Whether it is of this part, contender, operation and tree; "" stands for any.
    pub fn is(&self, part: &str, who: &str, operation: &str, tree: &str) -> bool {
        let wanted = [("part", part), ("who", who), ("operation", operation), ("tree", tree)];
        wanted.iter().all(|(field, value)| value.is_empty() || self.text(field) == *value)
    }
}

/// Reads the lines that are figures.
pub fn parse(text: &str) -> Vec<Figure> {
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["part"].is_string()).map(Figure).collect()
}

/// All figures, and what they were measured on.
pub struct Results {
    /// The figures.
    pub figures: Vec<Figure>,
    /// What is known of the machine, the date and the versions, by name.
    pub machine: Map<String, Value>,
}

impl Results {
    /// Reads a file of results; none are in one that is not there.
    pub fn read(file: &Path) -> Result<Self, Failure> {
        let mut results = Self { figures: Vec::new(), machine: Map::new() };
        if file.exists() {
            let text = fs::read_to_string(file).map_err(Failure::io(file))?;
            let value: Value = serde_json::from_str(&text)
                .map_err(|error| Failure::Missing(format!("{}: {error}", file.display())))?;
            let figures = value["figures"].as_array().cloned().unwrap_or_default();
            results.figures = figures.into_iter().map(Figure).collect();
            results.machine = value["machine"].as_object().cloned().unwrap_or_default();
        }
        Ok(results)
    }

    /// Puts new figures in the place of those of the same parts.
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

    /// The figure of an operation at a size.
    pub fn find(&self, path: (&str, &str, &str, &str), devices: u64) -> Option<&Figure> {
        let (part, who, operation, tree) = path;
        let mut all = self.figures.iter().filter(|figure| figure.devices() == devices);
        all.find(|figure| figure.is(part, who, operation, tree))
    }

    /// A median in microseconds.
    pub fn median(&self, path: (&str, &str, &str, &str), devices: u64) -> Option<f64> {
        self.find(path, devices)?.number("median_us")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_figure_is_passed_over_and_parts_are_replaced() {
        let line = |part: &str, us: u64| json!({ "part": part, "who": "a", "operation": "b", "devices": 2, "median_us": us });
        let text = format!("noise\n{}\n3\n{}\n", line("graph", 1), line("day", 2));
        let figures = parse(&text);
        assert_eq!(figures.len(), 2);
        let mut results = Results { figures, machine: Map::new() };
        results.replace(parse(&line("graph", 5).to_string()), Map::new());
        assert_eq!(results.figures.len(), 2);
        assert_eq!(results.median(("graph", "a", "b", ""), 2), Some(5.0));
        assert_eq!(results.median(("graph", "a", "c", ""), 2), None);
    }
}
