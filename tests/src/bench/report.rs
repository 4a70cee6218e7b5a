//! Results for a person: a table, a bar for subject and floor on one scale, and a plain word on whether the target is met.

use std::fmt::Write;

use super::Row;
use super::compare::{self, Change, Finding};
use super::document::{Circumstances, Earlier};

const BAR: usize = 40;
/// A bar of the table at the end, and the ratio at which it is full.
const TABLE_BAR: usize = 16;
const TABLE_FULL: f64 = 4.0;

/// How to print.
#[derive(Clone, Copy, Debug, Default)]
pub struct Style {
    /// With colours, as on a terminal.
    pub colour: bool,
}

impl Style {
    fn paint(self, code: &str, text: &str) -> String {
        if self.colour {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

/// The first lines: where, when, whether measuring stays on one processor, and whether anything else was running.
pub fn heading(
    circumstances: &Circumstances,
    pinned: &Result<String, String>,
    style: Style,
) -> String {
    let mut text = format!(
        "{}, commit {}\n",
        circumstances.machine, circumstances.commit
    );
    let _ = match pinned {
        Ok(processor) => writeln!(
            text,
            "measured on processor {processor}, where one thread does the work"
        ),
        Err(reason) => writeln!(text, "not pinned to a processor: {reason}"),
    };
    let processors =
        std::thread::available_parallelism().map_or(1.0, |number| usize::from(number) as f64);
    match circumstances.load {
        Some(load) if load > processors / 2.0 => {
            let warning = format!(
                "load {load:.1} before the start: other programs are running; trust the ratios more than the figures"
            );
            text.push_str(&style.paint("33", &warning));
            text.push('\n');
        }
        _ => {}
    }
    text
}

/// The lines of one variant.
pub fn row(row: &Row, earlier: &[Earlier], style: Style) -> String {
    let mut text = String::new();
    let [p50, p99, p999] = row.call_ns.map(time);
    let title = format!("{} / {}", row.scenario, row.variant);
    let _ = writeln!(
        text,
        "\n{}  {} records/s, {} a record (± {:.0} %)\n  one call: p50 {p50}, p99 {p99}, p99.9 {p999}",
        style.paint("1", &title),
        count(row.records_per_second()),
        time(row.subject.median),
        row.subject.spread() * 50.0,
    );
    if let Some(floor) = &row.floor {
        let longest = row.subject.median.max(floor.median);
        let width = row.beside.chars().count().max("subject".len()) + 1;
        for (name, figure, code) in [
            ("subject", row.subject.median, "36"),
            (&*row.beside, floor.median, "2"),
        ] {
            let _ = writeln!(
                text,
                "  {name:<width$}{} {}",
                style.paint(code, &bar(figure / longest)),
                time(figure)
            );
        }
    }
    if let Some(ratio) = &row.ratio {
        let _ = write!(
            text,
            "  {:.2} × {} (middle half of the rounds: {:.2} to {:.2})",
            ratio.median, row.beside, ratio.low, ratio.high
        );
    }
    let _ = writeln!(text, "{}", verdict(row, style));
    for figure in &row.figures {
        let _ = write!(text, "  {}: {:.2}", figure.name, figure.value);
        if let (Some(most), Some(met)) = (figure.most, figure.is_met()) {
            let met = match (met, &row.distrust) {
                (true, _) => style.paint("32", "met"),
                (false, None) => style.paint("31", "missed"),
                (false, Some(why)) => style.paint("33", &format!("not judged, {why}")),
            };
            let _ = write!(text, "  target ≤ {most}: {met}");
        }
        text.push('\n');
    }
    if let Some(before) = compare::find(row, earlier) {
        let _ = writeln!(text, "  {}", comparison(row, before, style));
    }
    text
}

fn verdict(row: &Row, style: Style) -> String {
    let target = wanted(row);
    if target.is_empty() {
        return String::new();
    }
    match row.is_met_in_time() {
        Some(true) => format!("  target {target}: {}", style.paint("32", "met")),
        Some(false) => format!("  target {target}: {}", style.paint("31", "missed")),
        None => {
            let doubt = row.doubt().unwrap_or_default();
            format!(
                "  target {target}: {}",
                style.paint(
                    "33",
                    &format!("not judged, {doubt}: close other programs and run again")
                )
            )
        }
    }
}

fn wanted(row: &Row) -> String {
    let target = row.target;
    let parts = [
        target
            .ratio
            .map(|most| format!("≤ {most:.2} × {}", row.beside)),
        target
            .records_per_second
            .map(|least| format!("≥ {} records/s", count(least))),
        target
            .ns_per_record
            .map(|most| format!("≤ {} a record", time(most))),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn comparison(row: &Row, before: &Earlier, style: Style) -> String {
    let change = Change::of(row, before);
    let what = match before.ratio {
        Some(ratio) if change.by_ratio => format!("{:.2} × {}", ratio.median, row.beside),
        _ => format!("{} a record", time(before.ns.median)),
    };
    let finding = match change.finding() {
        Finding::Worse => style.paint("31", "worse than noise"),
        Finding::Better => style.paint("32", "better than noise"),
        Finding::Noise => "within noise".to_owned(),
    };
    format!(
        "before: {what}, now {:.3} times that ({:.3} to {:.3}): {finding}",
        change.times, change.low, change.high
    )
}

/// All variants, one line each.
pub fn table(rows: &[Row], style: Style) -> String {
    let name = |row: &Row| format!("{} / {}", row.scenario, row.variant);
    let width = rows
        .iter()
        .map(|row| name(row).chars().count())
        .max()
        .unwrap_or(0);
    let mut text = format!(
        "\n{:<width$}  {:>11}  {:>9}  times what it is beside\n",
        "", "records/s", "a record"
    );
    for row in rows {
        let ratio = row.ratio.as_ref().map_or(String::new(), |ratio| {
            let share = ratio.median / TABLE_FULL;
            let bar = format!("{:<TABLE_BAR$}", bar_of(share, TABLE_BAR));
            format!(
                "{} {:.2} × {}",
                style.paint("36", &bar),
                ratio.median,
                row.beside
            )
        });
        let judged = match row.is_met() {
            Some(true) => style.paint("32", "met"),
            Some(false) => style.paint("31", "missed"),
            None if row.has_target() => style.paint("33", "not judged"),
            None => String::new(),
        };
        let line = format!(
            "{:<width$}  {:>11}  {:>9}  {ratio}  {judged}",
            name(row),
            count(row.records_per_second()),
            time(row.subject.median),
        );
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

/// A bar of eighths of a column.
fn bar(share: f64) -> String {
    bar_of(share, BAR)
}

fn bar_of(share: f64, width: usize) -> String {
    const PARTS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
    let eighths = (share.clamp(0.0, 1.0) * (width * 8) as f64).round() as usize;
    format!("{}{}", "█".repeat(eighths / 8), PARTS[eighths % 8])
}

/// Nanoseconds in the unit in which they are easily read.
fn time(ns: f64) -> String {
    match ns {
        _ if ns < 99.95 => format!("{ns:.1} ns"),
        _ if ns < 9_999.5 => format!("{ns:.0} ns"),
        _ if ns < 9_999_500.0 => format!("{:.1} µs", ns / 1e3),
        _ => format!("{:.1} ms", ns / 1e6),
    }
}

/// A count in three figures.
fn count(number: f64) -> String {
    match number {
        _ if number >= 1e6 => format!("{:.2} M", number / 1e6),
        _ if number >= 1e3 => format!("{:.0} k", number / 1e3),
        _ => format!("{number:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::document::Middle;
    use crate::bench::statistics::Summary;
    use crate::bench::{Figure, Target};

    fn alike(figure: f64) -> Middle {
        Middle {
            low: figure,
            median: figure,
            high: figure,
        }
    }

    #[test]
    fn a_variant_reads_as_a_sentence_a_picture_and_a_verdict() {
        let measured = Row {
            scenario: "single_module".to_owned(),
            variant: "per record".to_owned(),
            subject: Summary::of(&[150.0; 4]),
            floor: Some(Summary::of(&[100.0; 4])),
            beside: "floor".to_owned(),
            ratio: Some(Summary::of(&[1.5; 4])),
            call_ratio: Some(1.5),
            call_ns: [148.0, 210.0, 12_345.0],
            waited: 0.0,
            target: Target {
                ratio: Some(2.0),
                records_per_second: Some(3.5e6),
                ns_per_record: None,
            },
            figures: vec![Figure {
                name: "bytes a rule".to_owned(),
                value: 60.54,
                most: Some(64.0),
            }],
            distrust: None,
        };
        let before = Earlier {
            scenario: "single_module".to_owned(),
            variant: "per record".to_owned(),
            ns: alike(120.0),
            ratio: Some(alike(1.2)),
        };
        let printed = row(&measured, &[before], Style::default());
        let expected = "
single_module / per record  6.67 M records/s, 150 ns a record (± 0 %)
  one call: p50 148 ns, p99 210 ns, p99.9 12.3 µs
  subject ████████████████████████████████████████ 150 ns
  floor   ██████████████████████████▋ 100 ns
  1.50 × floor (middle half of the rounds: 1.50 to 1.50)  target ≤ 2.00 × floor, ≥ 3.50 M records/s: met
  bytes a rule: 60.54  target ≤ 64: met
  before: 1.20 × floor, now 1.250 times that (1.250 to 1.250): worse than noise
";
        assert_eq!(printed, expected);
        let expected = "
                              records/s   a record  times what it is beside
single_module / per record       6.67 M     150 ns  ██████           1.50 × floor  met
";
        assert_eq!(table(&[measured], Style::default()), expected);
    }

    #[test]
    fn a_figure_that_the_machine_cannot_have_is_not_judged() {
        let measured = Row {
            scenario: "latency".to_owned(),
            variant: "half load".to_owned(),
            subject: Summary::of(&[100.0]),
            floor: None,
            beside: "floor".to_owned(),
            ratio: None,
            call_ratio: None,
            call_ns: [1.0; 3],
            waited: 0.0,
            target: Target::default(),
            figures: vec![Figure {
                name: "p99 µs".to_owned(),
                value: 90.0,
                most: Some(50.0),
            }],
            distrust: Some("two bare threads see 80 µs here".to_owned()),
        };
        let shown = row(&measured, &[], Style::default());
        assert!(
            shown.contains(
                "p99 µs: 90.00  target ≤ 50: not judged, two bare threads see 80 µs here"
            ),
            "{shown}"
        );
        assert_eq!(measured.is_met(), None);
    }

    #[test]
    fn a_noisy_variant_says_so() {
        let measured = Row {
            scenario: "s".to_owned(),
            variant: "v".to_owned(),
            subject: Summary::of(&[10.0, 20.0, 30.0, 40.0]),
            floor: None,
            beside: "floor".to_owned(),
            ratio: None,
            call_ratio: None,
            call_ns: [1.0; 3],
            waited: 0.0,
            target: Target {
                ns_per_record: Some(50.0),
                ..Target::default()
            },
            figures: Vec::new(),
            distrust: None,
        };
        assert!(
            row(&measured, &[], Style::default()).contains("target ≤ 50.0 ns a record: not judged")
        );
    }
}
