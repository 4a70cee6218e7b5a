//! `cargo xtask plot`: draws what `cargo xtask bench --json FILE` measured as one thing grows, as SVG.
//!
//! A variant whose name begins with a number is a point of ours; what it was measured beside is another line. Both axes are logarithmic, so a straight line
//! upwards is a cost that grows with what grows, and a flat one is what is hoped for.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// Options of `cargo xtask plot`.
#[derive(clap::Args)]
#[command(
    long_about = "Draw what the bench measured: cost against what grows\n\n\
                  With a folder in place of the drawing, every scenario of the record that can be drawn becomes SCENARIO.svg there.",
    after_help = "Examples:\n  cargo xtask plot docs/record/filter.json crates/etl-filter/cost.svg\n  \
                  cargo xtask bench --scenario growth --json growth.json && cargo xtask plot growth.json docs/images"
)]
pub struct Arguments {
    /// What `cargo xtask bench --json` wrote
    record: PathBuf,
    /// The drawing, or a folder for all that the record has
    svg: PathBuf,
    /// What to draw
    #[arg(long, value_name = "NAME", default_value = "filter_uncached")]
    scenario: String,
}

/// A scenario that can be drawn.
struct Drawn {
    scenario: &'static str,
    title: &'static str,
    /// What grows.
    grows: &'static str,
    /// The name of our line.
    ours: &'static str,
    /// The figure that is drawn in place of time, and the unit in which it stands.
    figure: Option<&'static str>,
}

const DRAWN: [Drawn; 8] = [
    Drawn {
        scenario: "filter_uncached",
        title: "Which rules match this topic? Time a topic, against the number of rules",
        grows: "rules",
        ours: "etl-filter",
        figure: None,
    },
    Drawn {
        scenario: "growth_value_bytes",
        title: "Time a record, against the size of its value",
        grows: "bytes of the value",
        ours: "engine",
        figure: None,
    },
    Drawn {
        scenario: "growth_stages",
        title: "Time a record, against the number of stages",
        grows: "stages of one module each",
        ours: "engine",
        figure: None,
    },
    Drawn {
        scenario: "growth_pipelines",
        title: "Time a record, against the number of pipelines, of which one applies",
        grows: "pipelines",
        ours: "engine",
        figure: None,
    },
    Drawn {
        scenario: "growth_batch",
        title: "Time a record, against the records of a batch",
        grows: "records in a batch",
        ours: "engine",
        figure: None,
    },
    Drawn {
        scenario: "growth_lanes",
        title: "Time a record, against the number of lanes",
        grows: "lanes",
        ours: "engine",
        figure: None,
    },
    Drawn {
        scenario: "growth_modules",
        title: "Resident memory, against the number of modules, one instance of each",
        grows: "modules",
        ours: "resident",
        figure: Some("MiB resident"),
    },
    Drawn {
        scenario: "growth_instances",
        title: "Resident memory, against the number of instances of one module",
        grows: "instances",
        ours: "resident",
        figure: Some("MiB resident"),
    },
];

/// Runs the chore.
pub fn run(arguments: &Arguments) -> Result<(), String> {
    let path = arguments.record.display();
    let text = std::fs::read_to_string(&arguments.record)
        .map_err(|error| format!("cannot read {path}: {error}"))?;
    let record: Value = serde_json::from_str(&text).map_err(|error| format!("{path}: {error}"))?;
    if arguments.svg.is_dir() {
        let mut count = 0;
        for drawn in &DRAWN {
            let lines = lines(&record, drawn);
            if !lines.is_empty() {
                let svg = arguments.svg.join(format!("{}.svg", drawn.scenario));
                save(&svg, drawn, &lines)?;
                println!("{}", svg.display());
                count += 1;
            }
        }
        return if count > 0 {
            Ok(())
        } else {
            Err(format!("{path} holds nothing that can be drawn"))
        };
    }
    let wanted = &arguments.scenario;
    let drawn = DRAWN
        .iter()
        .find(|drawn| drawn.scenario == wanted)
        .ok_or_else(|| {
            let known: Vec<&str> = DRAWN.iter().map(|drawn| drawn.scenario).collect();
            format!(
                "`{wanted}` cannot be drawn; these can: {}",
                known.join(", ")
            )
        })?;
    let lines = lines(&record, drawn);
    if lines.is_empty() {
        return Err(format!(
            "{path} holds nothing of `{wanted}`: `cargo xtask bench --scenario {wanted} --json {path}` writes it"
        ));
    }
    save(&arguments.svg, drawn, &lines)
}

fn save(svg: &Path, drawn: &Drawn, lines: &Lines) -> Result<(), String> {
    std::fs::write(svg, draw(drawn, lines))
        .map_err(|error| format!("cannot write {}: {error}", svg.display()))
}

/// By name, points of how much there is and what it costs.
type Lines = BTreeMap<String, Vec<(f64, f64)>>;

fn lines(record: &Value, drawn: &Drawn) -> Lines {
    let mut lines = Lines::new();
    let rows = record["results"].as_array().into_iter().flatten();
    for (index, row) in rows.enumerate() {
        if row["scenario"] != drawn.scenario {
            continue;
        }
        let variant = row["variant"].as_str().unwrap_or_default();
        let (count, rest) = variant.split_once(' ').unwrap_or((variant, ""));
        let Ok(count) = count.parse::<f64>() else {
            continue;
        };
        let details = record["details"].get(index).unwrap_or(row);
        let mut add = |name: &str, figure: Option<f64>| {
            // A logarithmic axis has no place for nothing.
            if let Some(figure) = figure.filter(|figure| *figure > 0.0) {
                let points = lines.entry(name.to_owned()).or_default();
                points.push((count, figure));
            }
        };
        if let Some(wanted) = drawn.figure {
            let figures = details["figures"].as_array().into_iter().flatten();
            let found = figures.filter(|figure| figure["name"] == wanted);
            found.for_each(|figure| add(drawn.ours, figure["value"].as_f64()));
        } else if let Some((_, other)) = rest.split_once(", beside ") {
            // Ours has a variant of its own here.
            add(other.trim_start_matches("a "), row["floor_ns"].as_f64());
        } else {
            add(drawn.ours, row["ns_per_record"].as_f64());
            let beside = details["beside"].as_str().unwrap_or("floor");
            add(beside, row["floor_ns"].as_f64());
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

fn draw(drawn: &Drawn, lines: &Lines) -> String {
    let label = |cost: f64| match drawn.figure {
        None => time(cost),
        Some(_) => mebibytes(cost),
    };
    let points = || lines.values().flatten();
    let x = Axis::over(points().map(|point| point.0), LEFT, WIDTH - RIGHT);
    let y = Axis::over(points().map(|point| point.1), HEIGHT - BOTTOM, TOP);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n\
         <text x=\"{LEFT}\" y=\"22\" font-size=\"15\">{}</text>\n",
        drawn.title
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
            label(tick).replace(".0 ", " ")
        );
    }
    let _ = writeln!(
        svg,
        "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
        (LEFT + WIDTH - RIGHT) / 2.0,
        HEIGHT - 12.0,
        drawn.grows
    );
    // Ours first, so that it has the first style whatever the others are called.
    let mut names: Vec<&String> = lines.keys().collect();
    names.sort_by_key(|name| *name != drawn.ours);
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
                label(last.1)
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

fn mebibytes(mebibytes: f64) -> String {
    match mebibytes {
        ..1.0 => format!("{:.0} KiB", mebibytes * 1024.0),
        1.0..10.0 => format!("{mebibytes:.1} MiB"),
        10.0..1e4 => format!("{mebibytes:.0} MiB"),
        _ => format!("{:.0} GiB", mebibytes / 1024.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(scenario: &str) -> &'static Drawn {
        DRAWN
            .iter()
            .find(|drawn| drawn.scenario == scenario)
            .expect("it can be drawn")
    }

    #[test]
    fn a_floor_is_a_line_and_a_figure_can_take_the_place_of_time() {
        let record = serde_json::json!({
            "results": [
                { "scenario": "growth_stages", "variant": "2 stages", "ns_per_record": 200.0, "floor_ns": 100.0 },
                { "scenario": "growth_modules", "variant": "16 modules", "ns_per_record": 1.0, "floor_ns": null },
            ],
            "details": [
                { "beside": "floor", "figures": [] },
                { "beside": null, "figures": [{ "name": "MiB resident", "value": 0.5 }, { "name": "other", "value": 7.0 }] },
            ],
        });
        let stages = lines(&record, drawn("growth_stages"));
        assert_eq!(stages["engine"], [(2.0, 200.0)]);
        assert_eq!(stages["floor"], [(2.0, 100.0)]);
        let memory = lines(&record, drawn("growth_modules"));
        assert_eq!(memory["resident"], [(16.0, 0.5)]);
        assert!(draw(drawn("growth_modules"), &memory).contains("resident, 512 KiB"));
    }

    #[test]
    fn ours_and_others_are_lines_of_their_own() {
        let record = serde_json::json!({ "results": [
            { "scenario": "filter_uncached", "variant": "100 rules", "ns_per_record": 200.0, "floor_ns": null },
            { "scenario": "filter_uncached", "variant": "100 rules, beside a linear scan", "ns_per_record": 201.0, "floor_ns": 9_000.0 },
            { "scenario": "filter_uncached", "variant": "1000000 rules", "ns_per_record": 2_000.0 },
            { "scenario": "pass_through", "variant": "100 rules", "ns_per_record": 1.0 },
        ] });
        let drawn = drawn("filter_uncached");
        let lines = lines(&record, drawn);
        assert_eq!(lines["etl-filter"], [(100.0, 200.0), (1e6, 2_000.0)]);
        assert_eq!(lines["linear scan"], [(100.0, 9_000.0)]);
        let svg = draw(drawn, &lines);
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
