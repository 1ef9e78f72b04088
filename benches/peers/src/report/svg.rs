//! A line of the comparison as a bar plot.

use std::fmt::Write;

use super::{Entry, Line, figure};
use crate::common::stats::Spread;
use crate::peer::Kind;
use crate::peers::OURS;

pub const WIDTH: f64 = 820.0;
/// Room for the names on the left and the figures on the right.
const LEFT: f64 = 150.0;
const RIGHT: f64 = 190.0;
const TOP: f64 = 56.0;
const BAR: f64 = 24.0;

/// Bars of the medians with whiskers at the quartiles, the best on top.
pub fn render(line: &Line) -> String {
    let mut bars: Vec<(&Entry, Spread)> =
        line.entries.iter().filter_map(|entry| Some((entry, entry.spread()?))).collect();
    bars.sort_by(|(_, one), (_, other)| other.median.total_cmp(&one.median));
    if line.less_is_better {
        bars.reverse();
    }
    let most = bars.iter().map(|(_, spread)| spread.high).fold(f64::MIN_POSITIVE, f64::max);
    let height = TOP + BAR * bars.len() as f64 + 16.0;
    let mut text = opening(height, &line.title, &format!("{}; bars are medians, whiskers quartiles", scale(line)));
    for (number, (entry, spread)) in bars.iter().enumerate() {
        bar(&mut text, entry, *spread, TOP + BAR * number as f64, |value| LEFT + value / most * (WIDTH - LEFT - RIGHT));
    }
    text + "</svg>\n"
}

/// A white plot of this height, with its title and what it shows.
pub fn opening(height: f64, title: &str, shows: &str) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" \
         font-size=\"13\">\n<rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#ffffff\"/>\n\
         <text x=\"16\" y=\"24\" font-size=\"16\" fill=\"#1b1f24\">{}</text>\n\
         <text x=\"16\" y=\"43\" fill=\"#57606a\">{}</text>\n",
        escaped(title),
        escaped(shows)
    )
}

fn scale(line: &Line) -> String {
    let unit = match line.unit {
        "/s" => "operations a second",
        "s" => "seconds",
        "us" => "microseconds",
        _ => "number",
    };
    format!("{unit}, {} is better", if line.less_is_better { "less" } else { "more" })
}

fn bar(text: &mut String, entry: &Entry, spread: Spread, top: f64, at: impl Fn(f64) -> f64) {
    let colour = match entry.kind {
        _ if entry.excluded.is_some() => "#e8b4b0",
        _ if entry.peer == OURS => "#0b6e4f",
        Kind::Raw => "#1b1f24",
        Kind::Engine => "#7d8fa3",
        Kind::Log | Kind::Outside => "#c3ccd6",
    };
    let middle = top + BAR / 2.0;
    let words = match (entry.excluded, entry.kind) {
        (Some(why), _) => format!("{} ({why})", figure(spread.median)),
        (None, Kind::Log) => format!("{} (log only)", figure(spread.median)),
        (None, _) => figure(spread.median),
    };
    // Writing to a string never fails.
    let _ = writeln!(
        text,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"#1b1f24\">{}</text>\n\
         <rect x=\"{LEFT}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{colour}\"/>\n\
         <path d=\"M{:.1} {middle:.1}H{:.1}\" stroke=\"#d1495b\" stroke-width=\"2\"/>\n\
         <text x=\"{:.1}\" y=\"{:.1}\" fill=\"#57606a\">{}</text>",
        LEFT - 8.0,
        middle + 4.5,
        escaped(&entry.peer),
        top + 3.0,
        at(spread.median) - LEFT,
        BAR - 6.0,
        at(spread.low),
        at(spread.high),
        at(spread.high) + 6.0,
        middle + 4.5,
        escaped(&words)
    );
}

pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
