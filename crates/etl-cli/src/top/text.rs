//! Figures as people read them, and the table of `--once`.

use super::arguments::Sort;
use super::figures::{Figures, Row, chosen};

/// What is not known.
const NOTHING: &str = "-";

/// A rate with as many digits as matter.
pub fn rate(rate: Option<f64>) -> String {
    match rate {
        None => NOTHING.to_owned(),
        Some(rate) if rate >= 9_999_500.0 => format!("{:.1}M", rate / 1e6),
        Some(rate) if rate >= 9_999.5 => format!("{:.1}k", rate / 1e3),
        Some(rate) if rate >= 99.95 || rate == 0.0 => format!("{rate:.0}"),
        Some(rate) => format!("{rate:.1}"),
    }
}

/// A number of records.
pub fn count(count: u64) -> String {
    match count {
        0..=99_999 => count.to_string(),
        100_000..=99_999_999 => format!("{}k", count / 1_000),
        100_000_000..=99_999_999_999 => format!("{}M", count / 1_000_000),
        _ => format!("{}G", count / 1_000_000_000),
    }
}

/// A latency.
pub fn latency(seconds: Option<f64>) -> String {
    match seconds {
        None => NOTHING.to_owned(),
        Some(seconds) if seconds < 1e-3 => format!("{:.0} µs", seconds * 1e6),
        Some(seconds) if seconds < 1.0 => format!("{:.1} ms", seconds * 1e3),
        Some(seconds) => format!("{seconds:.2} s"),
    }
}

/// Bytes.
pub fn bytes(bytes: u64) -> String {
    let mib = bytes as f64 / f64::from(1 << 20);
    if mib < 1_024.0 {
        format!("{mib:.0} MiB")
    } else {
        format!("{:.1} GiB", mib / 1_024.0)
    }
}

/// What a module's or a pipeline's name or state may do to a terminal: nothing.
pub fn harmless(text: &str) -> String {
    let clean = |character: char| match character.is_control() {
        true => '\u{fffd}',
        false => character,
    };
    text.chars().map(clean).collect()
}

/// The heads of the columns; the last but one is of modules alone.
pub const HEADS: [&str; 9] = [
    "in/s", "out/s", "err/s", "in", "errors", "p50", "p99", "inst", "state",
];

/// One row, without its name.
pub fn cells(row: &Row) -> [String; 9] {
    let counts = &row.counts;
    [
        rate(row.in_rate),
        rate(row.out_rate),
        rate(row.error_rate),
        count(counts.records_in),
        count(counts.errors),
        latency(counts.p50),
        latency(counts.p99),
        counts
            .instances
            .map_or_else(|| NOTHING.to_owned(), |instances| instances.to_string()),
        harmless(&row.state),
    ]
}

/// The lines above the tables.
pub fn heading(figures: &Figures) -> Vec<String> {
    let answer = &figures.answer;
    let ready = if answer.is_ready {
        ""
    } else {
        ", takes no records"
    };
    let cpu = figures.cpu.map(|cpu| format!("  {cpu:.2} CPUs"));
    let memory = answer
        .process_bytes
        .map(|all| format!("  {} RAM", bytes(all)));
    vec![
        format!(
            "{}{ready}  generation {}  in {}/s  out {}/s  dead letters {}/s ({} in all)",
            harmless(&answer.state),
            answer.generation,
            rate(figures.in_rate),
            rate(figures.out_rate),
            rate(figures.dead_rate),
            count(answer.dead_lettered),
        ),
        format!(
            "{} in flight  {} instances, {}  {} lanes{}{}",
            count(answer.in_flight),
            answer.instances,
            bytes(answer.memory_bytes),
            answer.lanes,
            cpu.unwrap_or_default(),
            memory.unwrap_or_default(),
        ),
    ]
}

/// Everything as plain text.
pub fn table(figures: &Figures, filter: &str, sort: Sort) -> String {
    let mut text = String::new();
    for line in heading(figures) {
        text.push_str(&line);
        text.push('\n');
    }
    for reason in &figures.answer.reasons {
        text.push_str(&format!("! {}\n", harmless(&reason.message)));
    }
    for (title, rows) in [
        ("pipeline", &figures.pipelines),
        ("module", &figures.modules),
    ] {
        let rows = chosen(rows, filter, sort, false);
        text.push('\n');
        let mut lines = vec![[&[title.to_owned()][..], &HEADS.map(str::to_owned)].concat()];
        lines.extend(
            rows.into_iter()
                .map(|row| [&[harmless(&row.name)][..], &cells(row)].concat()),
        );
        let width = |column: usize| {
            let widths = lines.iter().map(|line| line[column].chars().count());
            widths.max().unwrap_or_default()
        };
        let widths: Vec<usize> = (0..=HEADS.len()).map(width).collect();
        for line in lines {
            let last = line.len() - 1;
            let cells = line.iter().enumerate().map(|(column, cell)| {
                let width = widths[column];
                match column {
                    0 => format!("{cell:<width$}"),
                    _ if column == last => cell.clone(),
                    _ => format!("{cell:>width$}"),
                }
            });
            text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::figures::tests::answers;
    use super::*;

    #[test]
    fn numbers_are_short() {
        for (number, text) in [
            (0.0, "0"),
            (0.26, "0.3"),
            (99.94, "99.9"),
            (100.0, "100"),
            (9_999.0, "9999"),
            (12_345.0, "12.3k"),
            (12_345_678.0, "12.3M"),
        ] {
            assert_eq!(rate(Some(number)), text);
        }
        assert_eq!([count(99_999), count(1_234_567)], ["99999", "1234k"]);
        assert_eq!(
            [
                latency(Some(0.000_012)),
                latency(Some(0.0123)),
                latency(Some(2.0)),
                latency(None)
            ],
            ["12 µs", "12.3 ms", "2.00 s", "-"]
        );
        assert_eq!([bytes(87 << 20), bytes(3 << 30)], ["87 MiB", "3.0 GiB"]);
        assert_eq!(harmless("a\x1b[2Jb"), "a\u{fffd}[2Jb");
    }

    #[test]
    fn the_table_is_plain_text() {
        let (before, after) = answers();
        let figures = Figures::of(after, Some(&before));
        let expected = "\
degraded  generation 7  in 12.3k/s  out 12.3k/s  dead letters 3.0/s (13 in all)
12 in flight  3 instances, 3 MiB  2 lanes  1.23 CPUs  87 MiB RAM
! Every record of pipeline audit fails.

pipeline   in/s  out/s  err/s     in  errors     p50     p99  inst  state
orders    12.3k  12.3k      0  62345       0   12 µs  400 µs     -  ok
audit       3.0      0    3.0     13      13  500.0 ms  1.25 s     -  Every record of pipeline audit fails.

module   in/s  out/s  err/s     in  errors    p50     p99  inst  state
enrich  12.3k  12.3k      0  62345       0  10 µs  300 µs     2  ok
check     3.0      0    3.0     13      13      -       -     1  circuit open
";
        let normal = |text: &str| -> Vec<Vec<String>> {
            text.lines()
                .map(|line| line.split_whitespace().map(str::to_owned).collect())
                .collect()
        };
        let table = table(&figures, "", Sort::In);
        assert_eq!(normal(&table), normal(expected));
        // Columns stand below each other.
        let columns: Vec<Option<usize>> = table
            .lines()
            .skip(4)
            .take(3)
            .map(|line| {
                line.find("  ok")
                    .or(line.find("  state"))
                    .or(line.find("  Every"))
            })
            .collect();
        assert!(columns.iter().all(Option::is_some), "{table}");
    }
}
