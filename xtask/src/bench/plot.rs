//! Lines over two logarithmic axes, drawn by plotters as an SVG.
//!
//! The picture follows the reader's colour scheme: on a dark page, a style sheet in it replaces the
//! colours of the page, the text and the grid. The colours of lines must be readable on both pages.

use std::ops::RangeInclusive;

use plotters::{
    chart::ChartBuilder,
    coord::Shift,
    drawing::{DrawingArea, DrawingAreaErrorKind, IntoDrawingArea as _},
    element::{Circle, DashedPathElement, DynElement, IntoDynElement as _, PathElement, Text},
    prelude::{BindKeyPoints as _, DrawingBackend, IntoLogRange as _, SVGBackend},
    style::{
        Color as _, FontStyle, IntoFont as _, RGBColor, TextStyle,
        text_anchor::{HPos, Pos, VPos},
    },
};

use crate::failure::Failure;

/// The picture's size.
const SIZE: (u32, u32) = (920, 530);
/// The width that the legend takes of it, at the right.
const LEGEND: u32 = 270;
/// The height that the title takes of it.
const TITLE: u32 = 54;

const FONT: &str = "system-ui, sans-serif";

const PAGE: RGBColor = RGBColor(0xff, 0xff, 0xff);
const INK: RGBColor = RGBColor(0x1f, 0x23, 0x28);
const GRID: RGBColor = RGBColor(0xd1, 0xd9, 0xe0);
const FAINT_GRID: RGBColor = RGBColor(0xee, 0xf1, 0xf4);

/// What replaces these colours on a dark page.
const DARK: [(RGBColor, &str); 4] =
    [(PAGE, "#0d1117"), (INK, "#e6edf3"), (GRID, "#3d444d"), (FAINT_GRID, "#1c2128")];

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type DrawingError = DrawingAreaErrorKind<std::io::Error>;

/// How a line is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stroke {
    Solid,
    Dashed,
    Dotted,
}

/// One line.
#[derive(Debug)]
pub struct Line {
    /// What the legend calls it.
    pub name: &'static str,
    /// Its colour.
    pub color: RGBColor,
    /// How it is drawn.
    pub stroke: Stroke,
    /// Its points, from left to right. All coordinates are positive.
    pub points: Vec<(f64, f64)>,
}

/// One axis.
#[derive(Debug)]
pub struct Axis {
    /// What it shows, and in which units.
    pub name: &'static str,
    /// How a number is written on it.
    pub tick: fn(f64) -> String,
}

/// A picture.
#[derive(Debug)]
pub struct Plot {
    /// What it shows.
    pub title: &'static str,
    /// The axis at the bottom.
    pub x: Axis,
    /// The axis at the left.
    pub y: Axis,
    /// Its lines. A line without points is left out.
    pub lines: Vec<Line>,
}

impl Plot {
    /// Draws it.
    pub fn svg(mut self) -> Result<String, Failure> {
        self.lines.retain(|line| !line.points.is_empty());
        let mut svg = String::new();
        self.draw(&SVGBackend::with_string(&mut svg, SIZE).into_drawing_area())
            .map_err(|error| Failure::Message(format!("cannot draw {:?}: {error}", self.title)))?;
        // The style sheet comes right after the tag that opens the picture.
        let style = svg.find('\n').map_or(0, |end| end + 1);
        svg.insert_str(style, &style_sheet());
        Ok(svg)
    }

    fn draw(&self, page: &Area<'_>) -> Result<(), DrawingError> {
        page.fill(&PAGE)?;
        let title = (FONT, 20).into_font().style(FontStyle::Bold).color(&INK);
        page.draw(&Text::new(self.title, (20, 16), title))?;
        let (chart, legend) = page.margin(TITLE, 10, 10, 0).split_horizontally(SIZE.0 - LEGEND);
        self.draw_chart(&chart)?;
        self.draw_legend(&legend)?;
        page.present()
    }

    fn draw_chart(&self, area: &Area<'_>) -> Result<(), DrawingError> {
        let points = || self.lines.iter().flat_map(|line| &line.points);
        let (xs, ys) =
            (decades(points().map(|point| point.0)), decades(points().map(|point| point.1)));
        let axis = |decades: &RangeInclusive<i32>| {
            let [from, to] = [*decades.start(), *decades.end()].map(|power| 10_f64.powi(power));
            (from..to)
                .log_scale()
                .with_key_points(decades.clone().map(|power| 10_f64.powi(power)).collect())
                .with_light_points(between(decades))
        };
        let mut chart = ChartBuilder::on(area)
            .x_label_area_size(46)
            .y_label_area_size(76)
            .build_cartesian_2d(axis(&xs), axis(&ys))?;
        chart
            .configure_mesh()
            .bold_line_style(GRID)
            .light_line_style(FAINT_GRID)
            .axis_style(GRID)
            .label_style(text())
            .axis_desc_style(text())
            .x_desc(self.x.name)
            .y_desc(self.y.name)
            .x_label_formatter(&|value| (self.x.tick)(*value))
            .y_label_formatter(&|value| (self.y.tick)(*value))
            .draw()?;
        for line in &self.lines {
            chart.draw_series([line.path(line.points.clone())])?;
            chart.draw_series(line.points.iter().map(|point| line.dot(*point)))?;
        }
        Ok(())
    }

    /// Names the lines, from the one that ends highest to the one that ends lowest.
    fn draw_legend(&self, area: &Area<'_>) -> Result<(), DrawingError> {
        let end = |line: &Line| line.points.last().map_or(0.0, |point| point.1);
        let mut lines: Vec<_> = self.lines.iter().collect();
        lines.sort_by(|one, other| end(other).total_cmp(&end(one)));
        for (y, line) in (12..).step_by(26).zip(lines) {
            area.draw(&line.path(vec![(14, y), (44, y)]))?;
            area.draw(&line.dot((29, y)))?;
            area.draw(&Text::new(line.name, (52, y), text()))?;
        }
        Ok(())
    }
}

impl Line {
    /// The line through these points, drawn with its colour and stroke.
    fn path<DB: DrawingBackend, Point: Clone + 'static>(
        &self,
        points: Vec<Point>,
    ) -> DynElement<'static, DB, Point> {
        let style = self.color.stroke_width(2);
        match self.stroke {
            Stroke::Solid => PathElement::new(points, style).into_dyn(),
            Stroke::Dashed => DashedPathElement::new(points, 8, 5, style).into_dyn(),
            Stroke::Dotted => DashedPathElement::new(points, 2, 4, style).into_dyn(),
        }
    }

    /// The mark of a measured point. A dashed line has rings, which stay visible around the dots of
    /// a solid line at the same place.
    fn dot<Point>(&self, at: Point) -> Circle<Point, i32> {
        match self.stroke {
            Stroke::Solid => Circle::new(at, 3, self.color.filled()),
            Stroke::Dashed => Circle::new(at, 4, self.color),
            Stroke::Dotted => Circle::new(at, 2, self.color.filled()),
        }
    }
}

/// The style of all text but the title. Text stands to the right of its position, at half its
/// height.
fn text() -> TextStyle<'static> {
    (FONT, 15).into_font().color(&INK).pos(Pos::new(HPos::Left, VPos::Center))
}

/// The style sheet that replaces the colours on a dark page.
fn style_sheet() -> String {
    let rules = DARK.map(|(RGBColor(red, green, blue), dark)| {
        let light = format!("#{red:02X}{green:02X}{blue:02X}");
        format!("[fill=\"{light}\"]{{fill:{dark}}}[stroke=\"{light}\"]{{stroke:{dark}}}")
    });
    format!("<style>@media(prefers-color-scheme:dark){{{}}}</style>\n", rules.concat())
}

/// The powers of ten around values, at least two of them.
fn decades(values: impl Iterator<Item = f64>) -> RangeInclusive<i32> {
    let powers = values.filter(|value| *value > 0.0).map(f64::log10);
    let (least, most) = powers.fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), power| {
        (power.floor().min(least), power.ceil().max(most))
    });
    if least > most {
        return 0..=1;
    }
    let least = least as i32;
    least..=(most as i32).max(least + 1)
}

/// Twice to nine times every power of ten: where a logarithmic grid has its faint lines.
fn between(decades: &RangeInclusive<i32>) -> Vec<f64> {
    let powers = *decades.start()..*decades.end();
    powers
        .flat_map(|power| (2..10).map(move |times| f64::from(times) * 10_f64.powi(power)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot(lines: Vec<Line>) -> Plot {
        let tick = |value: f64| format!("{value} units");
        Plot {
            title: "a title",
            x: Axis { name: "from left to right", tick },
            y: Axis { name: "from bottom to top", tick },
            lines,
        }
    }

    fn line(name: &'static str, stroke: Stroke, end: f64) -> Line {
        let points = vec![(1.0, 10.0), (10.0, 100.0), (100.0, end)];
        Line { name, color: RGBColor(0x12, 0x34, 0x56), stroke, points }
    }

    #[test]
    fn everything_is_named() {
        let svg = plot(vec![line("the line", Stroke::Solid, 1_000.0)]).svg().unwrap();
        for text in ["a title", "from left to right", "from bottom to top", "the line"] {
            assert!(svg.contains(&format!(">\n{text}\n</text>")), "{text}: {svg}");
        }
        for tick in ["1 units", "10 units", "100 units", "1000 units"] {
            assert!(svg.contains(&format!(">\n{tick}\n</text>")), "{tick}: {svg}");
        }
        assert!(svg.ends_with("</svg>\n"), "{svg}");
    }

    /// The line and its sample in the legend are one path each; dashes are one path each.
    #[test]
    fn a_line_is_drawn_with_its_stroke() {
        let paths = |stroke| {
            let svg = plot(vec![line("the line", stroke, 1_000.0)]).svg().unwrap();
            assert_eq!(svg.matches("<circle").count(), 4, "three points and the legend: {svg}");
            svg.matches("stroke=\"#123456\" stroke-width=\"2\"").count()
        };
        let [solid, dashed, dotted] = [Stroke::Solid, Stroke::Dashed, Stroke::Dotted].map(paths);
        assert_eq!(solid, 2);
        assert!(solid < dashed && dashed < dotted, "{solid}, {dashed}, {dotted}");
    }

    #[test]
    fn the_legend_has_the_order_of_the_lines_ends() {
        let lines = vec![
            line("low", Stroke::Solid, 20.0),
            line("high", Stroke::Solid, 900.0),
            Line { points: Vec::new(), ..line("nothing", Stroke::Solid, 0.0) },
        ];
        let svg = plot(lines).svg().unwrap();
        assert!(svg.find("high") < svg.find("low"), "{svg}");
        assert!(!svg.contains("nothing"));
    }

    #[test]
    fn a_plot_without_lines_has_its_axes() {
        let svg = plot(Vec::new()).svg().unwrap();
        assert!(svg.contains("from left to right") && svg.contains("10 units"), "{svg}");
    }

    #[test]
    fn every_colour_that_a_dark_page_replaces_is_in_the_picture() {
        let svg = plot(vec![line("the line", Stroke::Solid, 1_000.0)]).svg().unwrap();
        let (sheet, picture) = svg.split_once("</style>").unwrap();
        for (RGBColor(red, green, blue), dark) in DARK {
            let light = format!("=\"#{red:02X}{green:02X}{blue:02X}\"");
            assert!(sheet.contains(dark) && picture.contains(&light), "{light}: {svg}");
        }
    }

    #[test]
    fn an_axis_runs_over_whole_decades() {
        assert_eq!(decades([5.0, 2_300.0].into_iter()), 0..=4);
        assert_eq!(decades([100.0].into_iter()), 2..=3);
        assert_eq!(decades([0.02, 0.0].into_iter()), -2..=-1);
        assert_eq!(decades(std::iter::empty()), 0..=1);
        assert_eq!(between(&(0..=2))[..2], [2.0, 3.0]);
        assert_eq!(between(&(0..=2)).len(), 16);
    }
}
