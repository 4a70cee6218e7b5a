//! Eleven thousand real records through three stages with conditions: the same bytes whatever the batch, the lanes and the
//! run, and the stages in the order of their priorities.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::support::{engine, golden, here, run, shared_data};

const FILES: [&str; 2] = ["usgs-earthquakes.ndjson", "flights.ndjson"];

#[test]
fn three_stages_give_the_same_bytes_however_they_are_run() {
    let Some(data) = shared_data("three_stages_give_the_same_bytes_however_they_are_run") else {
        return;
    };
    let mut first: Option<String> = None;
    for (lanes, batches) in [
        (1, &[256, 1, 7][..]),
        (2, &[256, 256, 64]),
        (4, &[4_096, 100]),
    ] {
        let engine = engine(&here("three-stages.toml"), lanes);
        for &batch in batches {
            let found: String = FILES
                .iter()
                .map(|file| figures(file, &run(&engine, &data.join(file), batch)))
                .collect();
            match &first {
                None => {
                    golden("three-stages.txt", &found);
                    first = Some(found);
                }
                Some(first) => assert_eq!(*first, found, "{lanes} lanes, batches of {batch}"),
            }
        }
    }
}

/// Counts, paths, and digests of outputs and dead letters.
fn figures(
    file: &str,
    (counts, out, failed): &(etl_broker_adapter::Counts, String, String),
) -> String {
    let mut paths: BTreeMap<String, usize> = BTreeMap::new();
    for line in out.lines() {
        *paths.entry(path(&record(line)).join(" > ")).or_default() += 1;
    }
    let mut letters = Sha256::new();
    for line in failed.lines() {
        let mut letter = record(line);
        let headers = letter["headers"].as_object_mut().expect("headers");
        // Times and traces differ from run to run, and the bytes of a module from machine to machine.
        for header in [
            "etl-dlq-failed-at",
            "etl-dlq-trace",
            "etl-dlq-module-sha256",
        ] {
            assert!(headers.remove(header).is_some(), "no {header}");
        }
        letters.update(letter.to_string());
    }
    let mut text = format!(
        "{file}: {} in, {} out, {} dead-lettered, {} dropped, {} skipped\n",
        counts.records_in,
        counts.records_out,
        counts.dead_lettered,
        counts.dropped,
        counts.skipped_modules
    );
    for (path, count) in paths {
        let _ = writeln!(text, "  {count:>6}  {path}");
    }
    let _ = writeln!(
        text,
        "  out           {}",
        hexadecimal(&Sha256::digest(out))
    );
    let _ = writeln!(text, "  dead letters  {}", hexadecimal(&letters.finalize()));
    text
}

#[test]
fn priorities_order_the_stages_and_not_the_file() {
    let Some(data) = shared_data("priorities_order_the_stages_and_not_the_file") else {
        return;
    };
    let engine = engine(&here("three-stages.toml"), 2);
    let (_, out, _) = run(&engine, &data.join(FILES[0]), 256);
    let longest = out
        .lines()
        .map(|line| path(&record(line)))
        .max_by_key(Vec::len)
        .expect("records");
    assert_eq!(
        longest,
        ["message-validator", "content-analyzer", "message-formatter"]
    );
    let order = |module: &str| longest.iter().position(|other| other == module);
    for line in out.lines() {
        let path = path(&record(line));
        assert!(path.is_sorted_by_key(|module| order(module)), "{path:?}");
        assert_eq!(path.last().map(String::as_str), Some("message-formatter"));
    }
}

#[test]
fn outputs_keep_the_order_of_the_input() {
    let Some(data) = shared_data("outputs_keep_the_order_of_the_input") else {
        return;
    };
    let engine = engine(&here("three-stages.toml"), 4);
    let flights = data.join(FILES[1]);
    let (_, out, failed) = run(&engine, &flights, 32);
    let keys = |text: &str| {
        text.lines()
            .map(|line| record(line)["key"].to_string())
            .collect::<Vec<_>>()
    };
    let all = keys(&std::fs::read_to_string(Path::new(&flights)).expect("text"));
    for some in [keys(&out), keys(&failed)] {
        let mut rest = all.iter();
        assert!(
            some.iter().all(|key| rest.any(|other| other == key)),
            "out of order"
        );
    }
    assert_eq!(keys(&out).len() + keys(&failed).len(), all.len());
}

fn hexadecimal(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn record(line: &str) -> Value {
    serde_json::from_str(line).expect("a record line")
}

/// What the modules wrote into `etl-path`, in order.
fn path(record: &Value) -> Vec<String> {
    match &record["headers"]["etl-path"] {
        Value::Null => Vec::new(),
        Value::String(one) => vec![one.clone()],
        Value::Array(many) => many
            .iter()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect(),
        other => panic!("etl-path: {other}"),
    }
}
