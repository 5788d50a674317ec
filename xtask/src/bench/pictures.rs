//! The two plots of docs/bench: which figures they show, and how each line looks.

use super::{
    figures::{Figure, Results, Series},
    plot::{Line, Plot, Stroke},
    units::{duration, size},
};

const PURPLE: &str = "#8957e5";
const BLUE: &str = "#2f81f7";
const GREEN: &str = "#2da44e";
const RED: &str = "#e5534b";

const UPDATE_WARM: Series<'_> = Series::new("graph", "matrix-mls", "update").in_tree("warm");
const SESSION: Series<'_> = Series::new("graph", "vodozemac", "new session");
const SESSION_STORED: Series<'_> = Series::new("graph", "vodozemac, stored", "new session");

/// A line of a plot before its points are known.
struct Template {
    series: Series<'static>,
    name: &'static str,
    color: &'static str,
    stroke: Stroke,
}

/// The lines that both plots have.
const BOTH: [Template; 5] = [
    Template {
        series: Series::new("graph", "matrix-mls", "create"),
        name: "MLS: create the group",
        color: PURPLE,
        stroke: Stroke::Whole,
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
        stroke: Stroke::Whole,
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
        stroke: Stroke::Whole,
    },
];

/// Time by the number of devices.
pub fn times(results: &Results) -> String {
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
            stroke: Stroke::Whole,
        },
    ];
    let templates = BOTH.iter().chain(&megolm);
    let mut lines: Vec<_> = templates.map(|template| line(results, template, time)).collect();
    lines.retain(|line| !line.points.is_empty());
    let title = "Setting up and renewing a room's keys: time by the number of devices";
    Plot { title, lines, tick: |power| duration(10_f64.powi(power)) }.svg()
}

/// Bytes sent by the number of devices. Where the Olm sessions are stored makes no difference here.
pub fn bytes(results: &Results) -> String {
    let sent = |figure: &Figure| figure.number("bytes");
    let with_tree = |figure: &Figure| Some(figure.number("bytes")? + figure.number("bytes_tree")?);
    let tree = Template {
        series: UPDATE_WARM,
        name: "MLS: update, warm, plus tree",
        color: GREEN,
        stroke: Stroke::Dotted,
    };
    let megolm =
        Template { series: SESSION, name: "new Megolm session", color: RED, stroke: Stroke::Whole };
    let mut lines: Vec<_> = BOTH.iter().map(|template| line(results, template, sent)).collect();
    lines.push(line(results, &tree, with_tree));
    lines.push(line(results, &megolm, sent));
    lines.retain(|line| !line.points.is_empty());
    let title = "Setting up and renewing a room's keys: bytes sent by the number of devices";
    Plot { title, lines, tick: |power| size(10_f64.powi(power)) }.svg()
}

fn line(results: &Results, template: &Template, value: impl Fn(&Figure) -> Option<f64>) -> Line {
    let figures = results.of_series(template.series).into_iter();
    Line {
        name: template.name.to_owned(),
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
        let times = times(&results);
        assert!(times.contains("new Megolm session, in memory"), "{times}");
        assert!(times.contains("new Megolm session, stored"), "{times}");
        assert!(!times.contains("MLS: "), "{times}");
        let bytes = bytes(&results);
        assert!(bytes.contains("new Megolm session<"), "{bytes}");
        assert!(!bytes.contains("stored"), "{bytes}");
    }
}
