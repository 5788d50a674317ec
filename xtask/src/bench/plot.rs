//! Lines over the size of the room, both axes logarithmic, as an SVG that can be read on a dark page and on a
//! light one.

use std::fmt::Write as _;

use super::units::thousands;

const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 520.0;
const LEFT: f64 = 78.0;
const RIGHT: f64 = 250.0;
const TOP: f64 = 52.0;
const BOTTOM: f64 = 56.0;

/// Text and grid go with the page, light where nothing is said; what tells the lines apart is seen on both.
const STYLE: &str = "\
text{fill:#1f2328}.grid{stroke:#d1d9e0;stroke-width:1}.page{fill:#fff}\
.line{fill:none;stroke-width:2.5;stroke-linejoin:round}\
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.grid{stroke:#3d444d}.page{fill:#0d1117}}";

/// How a line is drawn.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Stroke {
    Whole,
    Dashed,
    Dotted,
}

/// One line.
pub struct Line {
    /// What the legend calls it.
    pub name: String,
    /// Its colour.
    pub color: &'static str,
    /// How it is drawn.
    pub stroke: Stroke,
    /// Devices and value, by devices.
    pub points: Vec<(f64, f64)>,
}

/// A picture.
pub struct Plot<'a> {
    /// What it shows.
    pub title: &'a str,
    /// Its lines.
    pub lines: Vec<Line>,
    /// How a power of ten is written on the axis of values.
    pub tick: fn(i32) -> String,
}

impl Plot<'_> {
    /// Draws it; an empty picture when no line has a point.
    pub fn svg(&self) -> String {
        let points = || self.lines.iter().flat_map(|line| &line.points);
        let xs = decades(points().map(|point| point.0));
        let ys = decades(points().map(|point| point.1));
        let x = |value: f64| scale(value, xs, LEFT, WIDTH - RIGHT);
        let y = |value: f64| scale(value, ys, HEIGHT - BOTTOM, TOP);
        let mut out = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
             font-family=\"system-ui, sans-serif\" font-size=\"12\">\n<style>{STYLE}</style>\n\
             <rect class=\"page\" width=\"100%\" height=\"100%\"/>\n\
             <text x=\"20\" y=\"28\" font-size=\"16\" font-weight=\"600\">{}</text>\n",
            self.title
        );
        // Writing to a string cannot fail.
        for power in xs.0..=xs.1 {
            let at = x(10_f64.powi(power));
            let _ = writeln!(
                out,
                "<line class=\"grid\" x1=\"{at:.1}\" y1=\"{TOP}\" x2=\"{at:.1}\" y2=\"{:.1}\"/>\
                 <text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                HEIGHT - BOTTOM,
                HEIGHT - BOTTOM + 20.0,
                thousands(10_u64.pow(power.unsigned_abs())),
            );
        }
        for power in ys.0..=ys.1 {
            let at = y(10_f64.powi(power));
            let _ = writeln!(
                out,
                "<line class=\"grid\" x1=\"{LEFT}\" y1=\"{at:.1}\" x2=\"{:.1}\" y2=\"{at:.1}\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                WIDTH - RIGHT,
                LEFT - 8.0,
                at + 4.0,
                (self.tick)(power),
            );
        }
        let middle = f64::midpoint(LEFT, WIDTH - RIGHT);
        let _ = writeln!(
            out,
            "<text x=\"{middle:.1}\" y=\"{:.1}\" text-anchor=\"middle\">devices in the room</text>",
            HEIGHT - 14.0
        );
        for (number, line) in self.lines.iter().enumerate() {
            let path: Vec<_> = line
                .points
                .iter()
                .map(|(devices, value)| format!("{:.1},{:.1}", x(*devices), y(*value)))
                .collect();
            let style = style(line);
            let _ =
                writeln!(out, "<polyline class=\"line\" {style} points=\"{}\"/>", path.join(" "));
            let at = TOP + 14.0 + 24.0 * number as f64;
            let from = WIDTH - RIGHT + 18.0;
            let _ = writeln!(
                out,
                "<line class=\"line\" {style} x1=\"{from:.1}\" y1=\"{at:.1}\" x2=\"{:.1}\" \
                 y2=\"{at:.1}\"/><text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
                from + 26.0,
                from + 34.0,
                at + 4.0,
                line.name
            );
        }
        out + "</svg>\n"
    }
}

fn style(line: &Line) -> String {
    let dashes = match line.stroke {
        Stroke::Whole => "",
        Stroke::Dashed => " stroke-dasharray=\"8 5\"",
        Stroke::Dotted => " stroke-dasharray=\"2 4\"",
    };
    format!("stroke=\"{}\"{dashes}", line.color)
}

/// The powers of ten around values.
fn decades(values: impl Iterator<Item = f64>) -> (i32, i32) {
    let (mut least, mut most) = (f64::INFINITY, f64::NEG_INFINITY);
    for value in values.filter(|value| *value > 0.0) {
        least = least.min(value.log10().floor());
        most = most.max(value.log10().ceil());
    }
    if least > most {
        return (0, 1);
    }
    let least = least.clamp(0.0, 18.0) as i32;
    (least, (most.clamp(0.0, 18.0) as i32).max(least + 1))
}

fn scale(value: f64, (least, most): (i32, i32), from: f64, to: f64) -> f64 {
    let part = (value.max(1e-9).log10() - f64::from(least)) / f64::from(most - least);
    from + part.clamp(0.0, 1.0) * (to - from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_runs_from_corner_to_corner() {
        let line = Line {
            name: "all of it".to_owned(),
            color: "#123456",
            stroke: Stroke::Dashed,
            points: vec![(1.0, 10.0), (10.0, 100.0), (100.0, 1_000.0)],
        };
        let plot = Plot { title: "a title", lines: vec![line], tick: |power| format!("1e{power}") };
        let svg = plot.svg();
        let (left, bottom) = (LEFT, HEIGHT - BOTTOM);
        assert!(svg.contains(&format!("points=\"{left:.1},{bottom:.1} ")), "{svg}");
        assert!(svg.contains(&format!(" {:.1},{TOP:.1}\"", WIDTH - RIGHT)), "{svg}");
        assert!(svg.contains("1e3") && svg.contains("all of it") && svg.contains("8 5"));
        let nothing = Plot { lines: Vec::new(), ..plot };
        assert!(nothing.svg().ends_with("</svg>\n"));
    }

    #[test]
    fn an_axis_runs_over_whole_decades() {
        assert_eq!(decades([5.0, 2_300.0].into_iter()), (0, 4));
        assert_eq!(decades([100.0].into_iter()), (2, 3));
    }
}
