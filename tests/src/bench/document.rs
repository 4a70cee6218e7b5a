//! Results as JSON: one object with where and when, and one row a variant. Written for `--json`, read back for `--compare`.

use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::Row;
use super::statistics::Summary;

/// Where and when the figures were taken.
#[derive(Clone, Debug)]
pub struct Circumstances {
    /// The processor's name and how many this program may use.
    pub machine: String,
    /// The commit, with `+changes` where the working tree differs from it.
    pub commit: String,
    /// Seconds since 1970.
    pub unix_seconds: u64,
    /// Running programs over the last minute, as the system counts them before the start; None where it does not tell.
    pub load: Option<f64>,
}

impl Circumstances {
    /// Of this machine, now.
    pub fn now() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let information = read("/proc/cpuinfo");
        let name = information.lines().find_map(|line| {
            line.strip_prefix("model name")?
                .split_once(": ")
                .map(|(_, name)| name)
        });
        let name = name.unwrap_or(std::env::consts::ARCH);
        Self {
            machine: format!("{name}, {processors} processors, {}", std::env::consts::OS),
            commit: commit().unwrap_or_else(|| "unknown".to_owned()),
            unix_seconds: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |time| time.as_secs()),
            load: read("/proc/loadavg")
                .split(' ')
                .next()
                .and_then(|load| load.parse().ok()),
        }
    }
}

fn commit() -> Option<String> {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).output().ok()?;
        output
            .status
            .success()
            .then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let head = git(&["rev-parse", "--short=12", "HEAD"])?;
    let is_changed = !git(&["status", "--porcelain", "--untracked-files=no"])?.is_empty();
    Some(if is_changed {
        format!("{head}+changes")
    } else {
        head
    })
}

/// The whole document.
pub fn write(circumstances: &Circumstances, rows: &[Row]) -> Value {
    json!({
        "machine": circumstances.machine,
        "commit": circumstances.commit,
        "unix_seconds": circumstances.unix_seconds,
        "load": circumstances.load,
        "results": rows.iter().map(write_row).collect::<Vec<_>>(),
        "details": rows.iter().map(write_details).collect::<Vec<_>>(),
    })
}

/// What a reader of results asks for; `target` holds what the variant should reach, by name.
fn write_row(row: &Row) -> Value {
    let [p50, p99, p999] = row.call_ns;
    json!({
        "scenario": row.scenario,
        "variant": row.variant,
        "records_per_second": row.records_per_second().round(),
        "ns_per_record": rounded(row.subject.median),
        "p50_ns": p50.round(),
        "p99_ns": p99.round(),
        "p999_ns": p999.round(),
        "floor_ns": row.floor.as_ref().map(|floor| rounded(floor.median)),
        "ratio": row.ratio.as_ref().map(|ratio| rounded(ratio.median)),
        "target": write_target(row),
        "met": row.is_met(),
    })
}

fn write_target(row: &Row) -> Value {
    let target = row.target;
    let bounds = [
        ("ratio", target.ratio),
        ("records_per_second", target.records_per_second),
        ("ns_per_record", target.ns_per_record),
    ];
    let figures = row
        .figures
        .iter()
        .map(|figure| (figure.name.as_str(), figure.most));
    let wanted: serde_json::Map<String, Value> = bounds
        .into_iter()
        .chain(figures)
        .filter_map(|(name, bound)| Some((name.to_owned(), bound?.into())))
        .collect();
    if wanted.is_empty() {
        Value::Null
    } else {
        wanted.into()
    }
}

/// What a later comparison needs, and what a doubter asks.
fn write_details(row: &Row) -> Value {
    let ratio = row.ratio.as_ref();
    json!({
        "scenario": row.scenario,
        "variant": row.variant,
        "ns_low": rounded(row.subject.low),
        "ns_high": rounded(row.subject.high),
        "beside": row.floor.as_ref().map(|_| &row.beside),
        "ratio_low": ratio.map(|ratio| rounded(ratio.low)),
        "ratio_high": ratio.map(|ratio| rounded(ratio.high)),
        "call_ratio": row.call_ratio.map(rounded),
        "figures": row.figures.iter().map(|figure| json!({
            "name": figure.name,
            "value": rounded(figure.value),
            "most": figure.most,
            "met": figure.is_met(),
        })).collect::<Vec<_>>(),
        "doubt": row.doubt(),
    })
}

fn rounded(figure: f64) -> f64 {
    (figure * 1e3).round() / 1e3
}

/// A median with the middle half of the rounds around it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Middle {
    /// A quarter of the rounds lies below.
    pub low: f64,
    /// Half of them.
    pub median: f64,
    /// A quarter lies above.
    pub high: f64,
}

impl From<&Summary> for Middle {
    fn from(summary: &Summary) -> Self {
        Self {
            low: summary.low,
            median: summary.median,
            high: summary.high,
        }
    }
}

/// What an earlier run measured of one variant.
#[derive(Clone, Debug, PartialEq)]
pub struct Earlier {
    /// The scenario's name.
    pub scenario: String,
    /// The variant's name.
    pub variant: String,
    /// Nanoseconds a record.
    pub ns: Middle,
    /// Times the floor, where there is one.
    pub ratio: Option<Middle>,
}

/// Reads the rows of a document that [`write()`] wrote. Documents from before `details` hold the spread in the results.
pub fn read(text: &str) -> Result<Vec<Earlier>, String> {
    let document: Value =
        serde_json::from_str(text).map_err(|error| format!("not JSON: {error}"))?;
    let rows = document["results"]
        .as_array()
        .ok_or("has no \"results\": it was not written by --json")?;
    rows.iter()
        .enumerate()
        .map(|(index, row)| {
            let details = document["details"].get(index).unwrap_or(row);
            read_row(row, details)
                .ok_or_else(|| format!("a result lacks its name or figure: {row}"))
        })
        .collect()
}

fn read_row(row: &Value, details: &Value) -> Option<Earlier> {
    let middle = |median: f64, low: &str, high: &str| {
        let half = details["spread"].as_f64().unwrap_or(0.0) / 2.0 * median;
        Middle {
            low: details[low].as_f64().unwrap_or(median - half),
            median,
            high: details[high].as_f64().unwrap_or(median + half),
        }
    };
    Some(Earlier {
        scenario: row["scenario"].as_str()?.to_owned(),
        variant: row["variant"].as_str()?.to_owned(),
        ns: middle(row["ns_per_record"].as_f64()?, "ns_low", "ns_high"),
        ratio: row["ratio"]
            .as_f64()
            .map(|ratio| middle(ratio, "ratio_low", "ratio_high")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{Figure, Target};

    #[test]
    fn what_is_written_can_be_read() {
        let row = Row {
            scenario: "single_module".to_owned(),
            variant: "batch of 64".to_owned(),
            subject: Summary::of(&[50.0; 3]),
            floor: Some(Summary::of(&[40.0; 3])),
            beside: "floor".to_owned(),
            ratio: Some(Summary::of(&[1.25; 3])),
            call_ratio: Some(1.25),
            call_ns: [3200.4, 4000.0, 9000.0],
            waited: 0.0,
            target: Target {
                ratio: Some(2.0),
                records_per_second: Some(10e6),
                ns_per_record: None,
            },
            figures: vec![Figure {
                name: "bytes a rule".to_owned(),
                value: 43.0,
                most: Some(64.0),
            }],
            distrust: None,
        };
        let document = write(&Circumstances::now(), &[row]);
        let written = &document["results"][0];
        let mut fields: Vec<&String> = written.as_object().expect("an object").keys().collect();
        fields.sort();
        assert_eq!(
            fields,
            [
                "floor_ns",
                "met",
                "ns_per_record",
                "p50_ns",
                "p999_ns",
                "p99_ns",
                "ratio",
                "records_per_second",
                "scenario",
                "target",
                "variant"
            ]
        );
        assert_eq!(written["met"], true);
        assert_eq!(written["records_per_second"], 20e6);
        assert_eq!(written["p50_ns"], 3200.0);
        let target = json!({ "ratio": 2.0, "records_per_second": 10e6, "bytes a rule": 64.0 });
        assert_eq!(written["target"], target);
        let alike = |figure: f64| Middle {
            low: figure,
            median: figure,
            high: figure,
        };
        let expected = Earlier {
            scenario: "single_module".to_owned(),
            variant: "batch of 64".to_owned(),
            ns: alike(50.0),
            ratio: Some(alike(1.25)),
        };
        assert_eq!(read(&document.to_string()), Ok(vec![expected]));
    }

    #[test]
    fn a_document_from_before_details_can_be_read() {
        let text = r#"{"results":[{"scenario":"s","variant":"v","ns_per_record":100.0,"spread":0.1,
                       "ratio":2.0,"ratio_low":1.9,"ratio_high":2.2}]}"#;
        let earlier = read(text).expect("reads");
        assert_eq!((earlier[0].ns.low, earlier[0].ns.high), (95.0, 105.0));
        let ratio = earlier[0].ratio.expect("has one");
        assert_eq!((ratio.low, ratio.high), (1.9, 2.2));
    }

    #[test]
    fn another_file_is_refused_with_the_reason() {
        assert!(read("x").is_err_and(|error| error.starts_with("not JSON")));
        assert!(read("{}").is_err_and(|error| error.contains("--json")));
        assert!(
            read(r#"{"results":[{"scenario":"a"}]}"#).is_err_and(|error| error.contains("lacks"))
        );
    }
}
