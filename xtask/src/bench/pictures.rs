//! The two plots of docs/bench: which figures they show, and how each line looks.

use plotters::style::RGBColor;

use super::{
    figures::{Figure, Results, Series},
    plot::{Axis, Line, Plot, Stroke},
    units::{duration, size, thousands},
};
use crate::failure::Failure;

const PURPLE: RGBColor = RGBColor(0x89, 0x57, 0xe5);
const BLUE: RGBColor = RGBColor(0x2f, 0x81, 0xf7);
const GREEN: RGBColor = RGBColor(0x2d, 0xa4, 0x4e);
const RED: RGBColor = RGBColor(0xe5, 0x53, 0x4b);

const UPDATE_WARM: Series<'_> = Series::new("graph", "matrix-mls", "update").in_tree("warm");
const SESSION: Series<'_> = Series::new("graph", "vodozemac", "new session");
const SESSION_STORED: Series<'_> = Series::new("graph", "vodozemac, stored", "new session");

/// A line of a plot before its points are known.
struct Template {
    series: Series<'static>,
    name: &'static str,
    color: RGBColor,
    stroke: Stroke,
}

/// The lines that both plots have.
const BOTH: [Template; 5] = [
    Template {
        series: Series::new("graph", "matrix-mls", "create"),
        name: "MLS: create the group",
        color: PURPLE,
        stroke: Stroke::Solid,
    },
    Template {
        series: Series::new("graph", "matrix-mls", "add").in_tree("blank"),
        name: "MLS: add one, blank tree",
        color: BLUE,
        stroke: Stroke::Dashed,
    },
    Template {
        series: Series::new("graph", "matrix-mls", "add").in_tree("warm"),
        name: "MLS: add one, warm tree",
        color: BLUE,
        stroke: Stroke::Solid,
    },
    Template {
        series: Series::new("graph", "matrix-mls", "update").in_tree("blank"),
        name: "MLS: update, blank tree",
        color: GREEN,
        stroke: Stroke::Dashed,
    },
    Template {
        series: UPDATE_WARM,
        name: "MLS: update, warm tree",
        color: GREEN,
        stroke: Stroke::Solid,
    },
];

/// Time by the number of devices.
pub fn times(results: &Results) -> Result<String, Failure> {
    let time = |figure: &Figure| figure.number("median_us");
    let megolm = [
        Template {
            series: SESSION,
            name: "new Megolm session, in memory",
            color: RED,
            stroke: Stroke::Dotted,
        },
        Template {
            series: SESSION_STORED,
            name: "new Megolm session, stored",
            color: RED,
            stroke: Stroke::Solid,
        },
    ];
    let templates = BOTH.iter().chain(&megolm);
    let plot = Plot {
        title: "Setting up and renewing a room's keys: time by the number of devices",
        x: devices(),
        y: Axis { name: "median time (µs, ms, s; log scale)", tick: duration },
        lines: templates.map(|template| line(results, template, time)).collect(),
    };
    plot.svg()
}

/// Bytes sent by the number of devices. Where the Olm sessions are stored makes no difference here.
pub fn bytes(results: &Results) -> Result<String, Failure> {
    let sent = |figure: &Figure| figure.number("bytes");
    let with_tree = |figure: &Figure| Some(figure.number("bytes")? + figure.number("bytes_tree")?);
    let tree = Template {
        series: UPDATE_WARM,
        name: "MLS: update, warm, plus tree",
        color: GREEN,
        stroke: Stroke::Dotted,
    };
    let megolm =
        Template { series: SESSION, name: "new Megolm session", color: RED, stroke: Stroke::Solid };
    let mut lines: Vec<_> = BOTH.iter().map(|template| line(results, template, sent)).collect();
    lines.push(line(results, &tree, with_tree));
    lines.push(line(results, &megolm, sent));
    let plot = Plot {
        title: "Setting up and renewing a room's keys: bytes sent by the number of devices",
        x: devices(),
        y: Axis { name: "sent in requests (B, kB, MB; log scale)", tick: size },
        lines,
    };
    plot.svg()
}

fn devices() -> Axis {
    Axis { name: "devices in the room (log scale)", tick: |devices| thousands(devices as u64) }
}

fn line(results: &Results, template: &Template, value: impl Fn(&Figure) -> Option<f64>) -> Line {
    let figures = results.of_series(template.series).into_iter();
    Line {
        name: template.name,
        color: template.color,
        stroke: template.stroke,
        points: figures
            .filter_map(|figure| Some((figure.devices() as f64, value(figure)?)))
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::bench::figures::parse;

    #[test]
    fn a_plot_shows_the_lines_that_were_measured() {
        let line = |who: &str, devices: u64| {
            json!({
                "part": "graph", "who": who, "operation": "new session", "devices": devices,
                "median_us": devices, "bytes": devices * 10,
            })
            .to_string()
        };
        let text = [line("vodozemac", 10), line("vodozemac", 1_000), line("vodozemac, stored", 10)];
        let results = Results { figures: parse(&text.join("\n")), ..Results::default() };
        let times = times(&results).unwrap();
        assert!(times.contains("new Megolm session, in memory"), "{times}");
        assert!(times.contains("new Megolm session, stored"), "{times}");
        assert!(!times.contains("MLS: "), "{times}");
        let bytes = bytes(&results).unwrap();
        assert!(bytes.contains("new Megolm session\n"), "{bytes}");
        assert!(!bytes.contains("stored"), "{bytes}");
    }
}
