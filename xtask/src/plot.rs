//! `cargo xtask plot`: draws what `cargo xtask bench --scenario filter --json FILE` measured, cost against number of rules, as SVG.
//!
//! A variant `N rules` is a point of ours; `N rules, beside …` one of what it was measured beside. Both axes are logarithmic, so a straight line upwards
//! is a cost that grows with the rules and a flat one is what the engine is for.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;

use serde_json::Value;

/// Options of `cargo xtask plot`.
#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  cargo xtask plot docs/record/filter.json crates/etl-filter/cost.svg"
)]
pub struct Arguments {
    /// What `cargo xtask bench --json` wrote
    record: PathBuf,
    /// The drawing
    svg: PathBuf,
}

/// Runs the chore.
pub fn run(arguments: &Arguments) -> Result<(), String> {
    let path = arguments.record.display();
    let text = std::fs::read_to_string(&arguments.record)
        .map_err(|error| format!("cannot read {path}: {error}"))?;
    let record = serde_json::from_str(&text).map_err(|error| format!("{path}: {error}"))?;
    let lines = lines(&record);
    if lines.is_empty() {
        return Err(format!(
            "{path} holds nothing of `filter_uncached`: `cargo xtask bench --scenario filter --json {path}` writes it"
        ));
    }
    std::fs::write(&arguments.svg, draw(&lines))
        .map_err(|error| format!("cannot write {}: {error}", arguments.svg.display()))
}

/// By name, points of number of rules and nanoseconds.
type Lines = BTreeMap<String, Vec<(f64, f64)>>;

fn lines(record: &Value) -> Lines {
    let mut lines = Lines::new();
    for row in record["results"].as_array().into_iter().flatten() {
        if row["scenario"] != "filter_uncached" {
            continue;
        }
        let variant = row["variant"].as_str().unwrap_or_default();
        let (count, rest) = variant.split_once(" rules").unwrap_or((variant, ""));
        let Ok(rules) = count.parse::<f64>() else {
            continue;
        };
        let (name, figure) = match rest.strip_prefix(", beside ") {
            Some(other) => (other.trim_start_matches("a "), &row["floor_ns"]),
            None => ("etl-filter", &row["ns_per_record"]),
        };
        if let Some(nanoseconds) = figure.as_f64() {
            let points = lines.entry(name.to_owned()).or_default();
            points.push((rules, nanoseconds));
        }
    }
    lines
}

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 420.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 200.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 50.0;
/// Told apart by people who see fewer colours too; the dashes are for print.
const STYLES: [(&str, &str); 5] = [
    ("#0072b2", ""),
    ("#d55e00", "6 3"),
    ("#009e73", "2 3"),
    ("#cc79a7", "8 3 2 3"),
    ("#555555", "1 2"),
];

/// A logarithmic axis over whole decades.
struct Axis {
    first: i32,
    last: i32,
    from: f64,
    to: f64,
}

impl Axis {
    fn over(values: impl Iterator<Item = f64> + Clone, from: f64, to: f64) -> Self {
        let least = values.clone().fold(f64::INFINITY, f64::min).log10();
        let most = values.fold(1.0, f64::max).log10();
        let first = least.floor() as i32;
        Self {
            first,
            last: (most.ceil() as i32).max(first + 1),
            from,
            to,
        }
    }

    fn at(&self, value: f64) -> f64 {
        let share = (value.log10() - f64::from(self.first)) / f64::from(self.last - self.first);
        self.from + share * (self.to - self.from)
    }

    /// Its decades.
    fn ticks(&self) -> impl Iterator<Item = f64> + use<> {
        (self.first..=self.last).map(|decade| 10_f64.powi(decade))
    }
}

fn draw(lines: &Lines) -> String {
    let points = || lines.values().flatten();
    let x = Axis::over(points().map(|point| point.0), LEFT, WIDTH - RIGHT);
    let y = Axis::over(points().map(|point| point.1), HEIGHT - BOTTOM, TOP);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n\
         <text x=\"{LEFT}\" y=\"22\" font-size=\"15\">Which rules match this topic? Time a topic, against the number of rules</text>\n"
    );
    // Writing to a string cannot fail.
    for tick in x.ticks() {
        let (at, bottom) = (x.at(tick), HEIGHT - BOTTOM);
        let _ = writeln!(
            svg,
            "<path d=\"M{at:.1} {TOP}V{bottom}\" stroke=\"#ddd\"/><text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
            bottom + 18.0,
            grouped(tick)
        );
    }
    for tick in y.ticks() {
        let (at, right) = (y.at(tick), WIDTH - RIGHT);
        let _ = writeln!(
            svg,
            "<path d=\"M{LEFT} {at:.1}H{right}\" stroke=\"#ddd\"/><text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            LEFT - 6.0,
            at + 4.0,
            time(tick).replace(".0 ", " ")
        );
    }
    let _ = writeln!(
        svg,
        "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">rules</text>",
        (LEFT + WIDTH - RIGHT) / 2.0,
        HEIGHT - 12.0
    );
    // Ours first, so that it has the first style whatever the others are called.
    let mut names: Vec<&String> = lines.keys().collect();
    names.sort_by_key(|name| *name != "etl-filter");
    // Names come last, with a rim that keeps the lines behind them from making them unreadable.
    let mut labels = String::new();
    for (name, (colour, dashes)) in names.into_iter().zip(STYLES.iter().cycle()) {
        let mut points = lines[name].clone();
        points.sort_by(|left, right| left.0.total_cmp(&right.0));
        let path: Vec<String> = points
            .iter()
            .map(|point| format!("{:.1} {:.1}", x.at(point.0), y.at(point.1)))
            .collect();
        let _ = writeln!(
            svg,
            "<path d=\"M{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" stroke-dasharray=\"{dashes}\"/>",
            path.join("L")
        );
        for point in &points {
            let (x, y) = (x.at(point.0), y.at(point.1));
            let _ = writeln!(
                svg,
                "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"/>"
            );
        }
        if let Some(last) = points.last() {
            let _ = writeln!(
                labels,
                "<text x=\"{:.1}\" y=\"{:.1}\" fill=\"{colour}\" stroke=\"white\" stroke-width=\"4\" paint-order=\"stroke\">{name}, {}</text>",
                x.at(last.0) + 8.0,
                y.at(last.1) + 4.0,
                time(last.1)
            );
        }
    }
    svg.push_str(&labels);
    svg.push_str("</svg>\n");
    svg
}

fn grouped(number: f64) -> String {
    let digits = format!("{number:.0}");
    let groups: Vec<&str> = digits
        .as_bytes()
        .rchunks(3)
        .rev()
        .filter_map(|group| std::str::from_utf8(group).ok())
        .collect();
    groups.join(",")
}

fn time(nanoseconds: f64) -> String {
    match nanoseconds {
        ..1e3 => format!("{nanoseconds:.0} ns"),
        1e3..1e4 => format!("{:.1} µs", nanoseconds / 1e3),
        1e4..1e6 => format!("{:.0} µs", nanoseconds / 1e3),
        _ => format!("{:.0} ms", nanoseconds / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_and_others_are_lines_of_their_own() {
        let record = serde_json::json!({ "results": [
            { "scenario": "filter_uncached", "variant": "100 rules", "ns_per_record": 200.0, "floor_ns": null },
            { "scenario": "filter_uncached", "variant": "100 rules, beside a linear scan", "ns_per_record": 201.0, "floor_ns": 9_000.0 },
            { "scenario": "filter_uncached", "variant": "1000000 rules", "ns_per_record": 2_000.0 },
            { "scenario": "pass_through", "variant": "100 rules", "ns_per_record": 1.0 },
        ] });
        let lines = lines(&record);
        assert_eq!(lines["etl-filter"], [(100.0, 200.0), (1e6, 2_000.0)]);
        assert_eq!(lines["linear scan"], [(100.0, 9_000.0)]);
        let svg = draw(&lines);
        assert!(svg.contains("1,000,000") && svg.contains("linear scan, 9.0 µs"));
        assert_eq!(svg.matches("<circle").count(), 3);
    }

    #[test]
    fn axes_are_whole_decades() {
        let axis = Axis::over([150.0, 2_000.0].into_iter(), 0.0, 200.0);
        assert_eq!(axis.ticks().collect::<Vec<_>>(), [100.0, 1_000.0, 10_000.0]);
        assert_eq!((axis.at(100.0), axis.at(1_000.0)), (0.0, 100.0));
    }
}
