//! Lines over time as SVG.

use std::fmt::Write;

use crate::peers::OURS;
use crate::report::figure;
use crate::report::svg::{WIDTH, escaped, opening};

const HEIGHT: f64 = 400.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 110.0;
const TOP: f64 = 60.0;
const BOTTOM: f64 = 40.0;
/// Points of a line: more than that are put together.
const POINTS: usize = 300;
const OURS_COLOUR: &str = "#0b6e4f";
const COLOURS: [&str; 6] = ["#d1495b", "#2e6fb7", "#e09f3e", "#7d5ba6", "#7d8fa3", "#1b1f24"];

pub struct Chart {
    pub title: String,
    pub unit: &'static str,
    /// The vertical axis shows powers of ten.
    pub is_logarithmic: bool,
    /// What stands for points that are put together.
    pub together: Together,
    /// A horizontal line.
    pub limit: Option<f64>,
    pub lines: Vec<Line>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Together {
    Mean,
    Most,
}

pub struct Line {
    pub name: String,
    /// Seconds and values.
    pub points: Vec<(f64, f64)>,
    /// Seconds at which a phase begins.
    pub marks: Vec<f64>,
}

struct Scale {
    most_seconds: f64,
    /// The least and the most value, or their logarithms.
    low: f64,
    high: f64,
    is_logarithmic: bool,
}

impl Scale {
    fn of(chart: &Chart) -> Scale {
        let points = || chart.lines.iter().flat_map(|line| &line.points);
        let most_seconds = points().map(|point| point.0).fold(1.0, f64::max);
        let most = points().map(|point| point.1).chain(chart.limit).fold(f64::MIN_POSITIVE, f64::max);
        let (low, high) = if chart.is_logarithmic {
            let least = points().map(|point| point.1).filter(|value| *value > 0.0).fold(most, f64::min);
            (least.log10().floor(), most.log10().ceil().max(least.log10().floor() + 1.0))
        } else {
            (0.0, most * 1.05)
        };
        Scale { most_seconds, low, high, is_logarithmic: chart.is_logarithmic }
    }

    fn x(&self, seconds: f64) -> f64 {
        LEFT + seconds / self.most_seconds * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, value: f64) -> f64 {
        let value = if self.is_logarithmic { value.max(f64::MIN_POSITIVE).log10() } else { value };
        let share = (value.clamp(self.low, self.high) - self.low) / (self.high - self.low);
        HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)
    }

    fn values(&self) -> Vec<f64> {
        if self.is_logarithmic {
            return (self.low as i32..=self.high as i32).map(|power| 10_f64.powi(power)).collect();
        }
        steps(self.high)
    }
}

/// Round numbers from 0 to `most`, about five.
fn steps(most: f64) -> Vec<f64> {
    let power = 10_f64.powf((most / 5.0).log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|times| times * power).into_iter().find(|step| most / step <= 6.0);
    let step = step.unwrap_or(most);
    (0..=(most / step) as u32).map(|number| f64::from(number) * step).collect()
}

pub fn render(chart: &Chart) -> String {
    let scale = Scale::of(chart);
    let kind = if chart.is_logarithmic { ", powers of ten" } else { "" };
    let mut text = opening(HEIGHT, &chart.title, &format!("{}{kind}, over seconds", chart.unit));
    axes(&mut text, &scale);
    if let Some(limit) = chart.limit {
        let y = scale.y(limit);
        let _ = writeln!(
            text,
            "<path d=\"M{LEFT} {y:.1}H{:.1}\" stroke=\"#1b1f24\" stroke-dasharray=\"5 4\"/>",
            WIDTH - RIGHT
        );
    }
    let mut others = COLOURS.iter().cycle();
    for (number, line) in chart.lines.iter().enumerate() {
        let colour = if line.name == OURS { OURS_COLOUR } else { others.next().unwrap_or(&OURS_COLOUR) };
        draw(&mut text, &scale, chart.together, line, colour);
        let y = TOP + 10.0 + 20.0 * number as f64;
        let x = WIDTH - RIGHT + 12.0;
        let _ = writeln!(
            text,
            "<path d=\"M{x:.1} {y:.1}h16\" stroke=\"{colour}\" stroke-width=\"3\"/>\n\
             <text x=\"{:.1}\" y=\"{:.1}\" fill=\"#1b1f24\">{}</text>",
            x + 22.0,
            y + 4.5,
            escaped(&line.name)
        );
    }
    text + "</svg>\n"
}

/// Writing to a string never fails.
fn axes(text: &mut String, scale: &Scale) {
    for value in scale.values() {
        let y = scale.y(value);
        let _ = writeln!(
            text,
            "<path d=\"M{LEFT} {y:.1}H{:.1}\" stroke=\"#e3e7eb\"/>\n\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"#57606a\">{}</text>",
            WIDTH - RIGHT,
            LEFT - 8.0,
            y + 4.5,
            figure(value)
        );
    }
    for seconds in steps(scale.most_seconds) {
        let x = scale.x(seconds);
        let _ = writeln!(
            text,
            "<text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"#57606a\">{}</text>",
            HEIGHT - BOTTOM + 18.0,
            figure(seconds)
        );
    }
}

fn draw(text: &mut String, scale: &Scale, together: Together, line: &Line, colour: &str) {
    let mut path = String::new();
    for (number, (seconds, value)) in thinned(&line.points, together).into_iter().enumerate() {
        let command = if number == 0 { 'M' } else { 'L' };
        let _ = write!(path, "{command}{:.1} {:.1}", scale.x(seconds), scale.y(value));
    }
    let _ = writeln!(text, "<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"/>");
    // A line of one point would not be seen.
    let alone = line.points.first().filter(|_| line.points.len() == 1).map(|point| point.0);
    for mark in line.marks.iter().copied().chain(alone) {
        let nearest = line.points.iter().min_by(|one, other| (one.0 - mark).abs().total_cmp(&(other.0 - mark).abs()));
        if let Some((seconds, value)) = nearest {
            let _ = writeln!(
                text,
                "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\" fill=\"{colour}\"/>",
                scale.x(*seconds),
                scale.y(*value)
            );
        }
    }
}

/// As many points as can be seen: neighbours are put together.
pub fn thinned(points: &[(f64, f64)], together: Together) -> Vec<(f64, f64)> {
    let size = points.len().div_ceil(POINTS).max(1);
    let point = |points: &[(f64, f64)]| {
        let values = points.iter().map(|point| point.1);
        let value = match together {
            Together::Mean => values.sum::<f64>() / points.len() as f64,
            Together::Most => values.fold(f64::MIN, f64::max),
        };
        (points[points.len() / 2].0, value)
    };
    points.chunks(size).map(point).collect()
}
