//! Inputs and outputs that are not what a run hopes for: message, exit code, and what became of the other records.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;

use crate::support::{Desk, KEEP, said};

const CONFIGURATION: &str = r#"
[[pipelines]]
pipeline_id = "all"
stages = [{ priority = 0, modules = [{ module_id = "keep" }] }]
"#;

fn desk() -> Desk {
    let desk = Desk::new();
    desk.put("etl.toml", CONFIGURATION).module("keep", KEEP);
    desk
}

const RUN: [&str; 6] = ["run", "etl.toml", "--from", "file:in", "--to", "file:out"];

fn line(text: &str) -> serde_json::Value {
    serde_json::from_str(text).expect("a record line")
}

#[test]
fn an_empty_input_is_a_run_of_nothing() {
    let desk = desk();
    desk.put("in", "");
    let said = desk.etl(&[&RUN[..], &["--json"]].concat()).ends_with(0);
    let summary = said.summary();
    for field in [
        "records_in",
        "records_out",
        "dropped",
        "dead_lettered",
        "stopped",
        "skipped_modules",
    ] {
        assert_eq!(summary[field], 0, "{field}");
    }
    assert_eq!(summary["generation"], 1);
    assert!(summary["elapsed_seconds"].is_f64() && summary["records_per_second"].is_f64());
    assert_eq!(summary.as_object().expect("an object").len(), 11);
    assert_eq!(desk.read("out"), "");
}

#[test]
fn lines_that_are_no_records_become_dead_letters_in_their_place() {
    let desk = desk();
    desk.put(
        "in",
        b"{\"topic\":\"a\",\"value\":1.0}\n\n{\"topic\"\n\xff\xfe\n{\"topic\":\"b\"}\n",
    );
    let said = desk.etl(&[&RUN[..], &["--json"]].concat()).ends_with(0);
    let summary = said.summary();
    assert_eq!(summary["records_in"], 4);
    assert_eq!(summary["records_out"], 2);
    assert_eq!(summary["dead_lettered"], 2);

    let out = desk.read("out");
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines[0], r#"{"topic":"a","value":1.0}"#);
    assert_eq!(lines[3], r#"{"topic":"b"}"#);
    let cut_short = line(lines[1]);
    assert_eq!(cut_short["topic"], "invalid.dlq");
    assert_eq!(cut_short["value_base64"], "eyJ0b3BpYyI=");
    let headers = &cut_short["headers"];
    assert_eq!(headers["etl-dlq-error"], "InvalidRecord");
    assert_eq!(headers["etl-dlq-source"], "in:3");
    assert_eq!(headers["etl-dlq-offset"], "2");
    assert_eq!(
        headers["etl-dlq-message"],
        "not JSON: EOF while parsing an object (column 8)"
    );
    assert!(headers["etl-dlq-failed-at"].is_string());
    let not_text = line(lines[2]);
    assert_eq!(not_text["value_base64"], "//4=");
    assert_eq!(not_text["headers"]["etl-dlq-source"], "in:4");
}

#[test]
fn dead_letters_can_go_elsewhere() {
    let desk = desk();
    desk.put("in", "nonsense\n{\"topic\":\"b\"}\n");
    desk.etl(&[&RUN[..], &["--dead-letters", "file:failed"]].concat())
        .ends_with(0);
    assert_eq!(desk.read("out"), "{\"topic\":\"b\"}\n");
    assert_eq!(
        line(&desk.read("failed"))["headers"]["etl-dlq-source"],
        "in:1"
    );

    // The same place by another name is one place.
    desk.etl(&[&RUN[..], &["--dead-letters", "file:./out"]].concat())
        .ends_with(0);
    assert_eq!(desk.read("out").lines().count(), 2);
}

#[test]
fn a_line_of_100_mb_is_one_dead_letter() {
    let desk = desk();
    let mut input = b"{\"topic\":\"long\",\"value\":\"".to_vec();
    input.resize(100_000_000, b'x');
    input.extend_from_slice(b"\"}\n{\"topic\":\"b\"}\n");
    desk.put("in", input);
    let said = desk.etl(&[&RUN[..], &["--json"]].concat()).ends_with(0);
    assert_eq!(said.summary()["dead_lettered"], 1);
    let out = desk.read("out");
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines[1], r#"{"topic":"b"}"#);
    let headers = &line(lines[0])["headers"];
    assert_eq!(
        headers["etl-dlq-message"],
        "the line has 100000002 bytes, over the limit of 16777216"
    );
    assert_eq!(headers["etl-dlq-length"], "100000002");

    let limit = ["--max-line-bytes", "200000000", "--json"];
    let said = desk.etl(&[&RUN[..], &limit].concat()).ends_with(0);
    assert_eq!(said.summary()["dead_lettered"], 0);
    assert!(desk.read("out") == desk.read("in"));
}

#[test]
fn an_input_that_is_missing_or_a_folder() {
    let desk = desk();
    desk.put("out", "precious");
    desk.etl(&RUN)
        .ends_with(1)
        .complains(&["etl: cannot read file:in: No such file or directory"]);
    fs::create_dir(desk.path("in")).expect("a folder");
    desk.etl(&RUN)
        .ends_with(1)
        .complains(&["etl: cannot read file:in: it is a directory, not a file"]);
    assert_eq!(desk.read("out"), "precious");
}

#[test]
fn an_output_that_cannot_be_written() {
    let desk = desk();
    desk.put("in", "{\"topic\":\"b\"}\n");
    for (to, message) in [
        ("file:no/such/folder/out", "No such file or directory"),
        ("file:modules", "Is a directory"),
    ] {
        desk.etl(&["run", "etl.toml", "--from", "file:in", "--to", to])
            .ends_with(1)
            .complains(&[&format!("etl: cannot write {to}: {message}")]);
    }

    // One that can be opened stays as it was where the other cannot.
    desk.put("out", "precious");
    desk.etl(&[&RUN[..], &["--dead-letters", "file:modules"]].concat())
        .ends_with(1)
        .complains(&["etl: cannot write file:modules: Is a directory"]);
    assert_eq!(desk.read("out"), "precious");
}

#[test]
fn an_output_that_is_the_input() {
    let desk = desk();
    desk.put("in", "{\"topic\":\"b\"}\n");
    let same = ["run", "etl.toml", "--from", "file:in", "--to", "file:./in"];
    desk.etl(&same)
        .ends_with(1)
        .complains(&["file:in and file:./in are one file: it would be emptied before it is read"]);
    desk.etl(&[&RUN[..], &["--dead-letters", "file:in"]].concat())
        .ends_with(1)
        .complains(&["file:in and file:in are one file"]);
    assert_eq!(desk.read("in"), "{\"topic\":\"b\"}\n");
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk() {
    let desk = desk();
    desk.put("in", "{\"topic\":\"b\"}\n".repeat(100_000));
    let said = desk
        .etl(&[
            "run",
            "etl.toml",
            "--from",
            "file:in",
            "--to",
            "file:/dev/full",
            "--json",
        ])
        .ends_with(1)
        .complains(&["etl: cannot write file:/dev/full: No space left on device"]);
    let summary = said
        .stderr
        .lines()
        .find(|line| line.starts_with('{'))
        .expect("a summary");
    assert_eq!(line(summary)["records_out"], 0, "nothing was confirmed");
}

/// As in `etl run … --to - | head -1`.
#[test]
fn a_closed_pipe_ends_the_run_quietly() {
    let desk = desk();
    desk.put("in", "{\"topic\":\"b\",\"value\":17}\n".repeat(200_000));
    let mut child = desk
        .command(&[
            "run", "etl.toml", "--from", "file:in", "--to", "-", "--quiet",
        ])
        .spawn()
        .expect("etl starts");
    let mut first = String::new();
    let mut stdout = BufReader::new(child.stdout.take().expect("a pipe"));
    stdout.read_line(&mut first).expect("a line");
    assert_eq!(first, "{\"topic\":\"b\",\"value\":17}\n");
    drop(stdout);
    let said = said(child.wait_with_output().expect("etl ends")).ends_with(141);
    assert_eq!(said.stderr, "");
}

#[test]
fn a_slow_pipe_is_answered_line_by_line() {
    let desk = desk();
    let mut child = desk
        .command(&["run", "etl.toml", "--from", "-", "--to", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("etl starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    let mut stdout = BufReader::new(child.stdout.take().expect("a pipe"));
    for value in 0..3 {
        let sent = format!("{{\"topic\":\"b\",\"value\":{value}}}\n");
        std::io::Write::write_all(&mut stdin, sent.as_bytes()).expect("writes");
        let mut received = String::new();
        stdout.read_line(&mut received).expect("a line");
        assert_eq!(received, sent);
    }
    drop(stdin);
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).expect("reads");
    assert_eq!(rest, "");
    said(child.wait_with_output().expect("etl ends"))
        .ends_with(0)
        .complains(&["3 records in, 3 out"]);
}
