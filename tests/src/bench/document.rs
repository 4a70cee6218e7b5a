//! Results as JSON: one object with where and when, and one row a variant. Written for `--json`, read back for `--compare`.

use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::Row;

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
        let output = Command::new("git")
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .args(arguments)
            .output()
            .ok()?;
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
    })
}

fn write_row(row: &Row) -> Value {
    let [p50, p99, p999] = row.call_ns;
    let target = row.target;
    json!({
        "scenario": row.scenario,
        "variant": row.variant,
        "records_per_second": row.records_per_second().round(),
        "ns_per_record": rounded(row.subject.median),
        "spread": rounded(row.subject.spread()),
        "p50_ns": p50.round(),
        "p99_ns": p99.round(),
        "p999_ns": p999.round(),
        "beside": row.floor.as_ref().map(|_| &row.beside),
        "floor_ns": row.floor.as_ref().map(|floor| rounded(floor.median)),
        "ratio": row.ratio.as_ref().map(|ratio| rounded(ratio.median)),
        "ratio_low": row.ratio.as_ref().map(|ratio| rounded(ratio.low)),
        "ratio_high": row.ratio.as_ref().map(|ratio| rounded(ratio.high)),
        "target": {
            "ratio": target.ratio,
            "records_per_second": target.records_per_second,
            "ns_per_record": target.ns_per_record,
        },
        "figures": row.figures.iter().map(|figure| json!({
            "name": figure.name,
            "value": rounded(figure.value),
            "most": figure.most,
        })).collect::<Vec<_>>(),
        "met": row.is_met(),
        "doubt": row.doubt(),
    })
}

fn rounded(figure: f64) -> f64 {
    (figure * 1e3).round() / 1e3
}

/// What an earlier run measured of one variant.
#[derive(Clone, Debug, PartialEq)]
pub struct Earlier {
    /// The scenario's name.
    pub scenario: String,
    /// The variant's name.
    pub variant: String,
    /// Nanoseconds a record.
    pub ns_per_record: f64,
    /// Times the floor, where there is one.
    pub ratio: Option<f64>,
}

/// Reads the rows of a document that [`write()`] wrote.
pub fn read(text: &str) -> Result<Vec<Earlier>, String> {
    let document: Value =
        serde_json::from_str(text).map_err(|error| format!("not JSON: {error}"))?;
    let rows = document["results"]
        .as_array()
        .ok_or("has no \"results\": it was not written by --json")?;
    let read_row = |row: &Value| {
        Some(Earlier {
            scenario: row["scenario"].as_str()?.to_owned(),
            variant: row["variant"].as_str()?.to_owned(),
            ns_per_record: row["ns_per_record"].as_f64()?,
            ratio: row["ratio"].as_f64(),
        })
    };
    rows.iter()
        .map(|row| read_row(row).ok_or_else(|| format!("a result lacks its name or figure: {row}")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{Target, statistics::Summary};

    #[test]
    fn what_is_written_can_be_read() {
        let row = Row {
            scenario: "single_module".to_owned(),
            variant: "batch of 64".to_owned(),
            subject: Summary::of(&[50.0; 3]),
            floor: Some(Summary::of(&[40.0; 3])),
            beside: "floor".to_owned(),
            ratio: Some(Summary::of(&[1.25; 3])),
            call_ns: [3200.4, 4000.0, 9000.0],
            waited: 0.0,
            target: Target {
                ratio: Some(2.0),
                records_per_second: Some(10e6),
                ns_per_record: None,
            },
            figures: Vec::new(),
        };
        let document = write(&Circumstances::now(), &[row]);
        assert_eq!(document["results"][0]["met"], true);
        assert_eq!(document["results"][0]["records_per_second"], 20e6);
        assert_eq!(document["results"][0]["p50_ns"], 3200.0);
        let expected = Earlier {
            scenario: "single_module".to_owned(),
            variant: "batch of 64".to_owned(),
            ns_per_record: 50.0,
            ratio: Some(1.25),
        };
        assert_eq!(read(&document.to_string()), Ok(vec![expected]));
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
