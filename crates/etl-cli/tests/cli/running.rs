//! `etl run` where nothing is wrong: what comes out, what is said of it, and what signals do.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::support::{Desk, KEEP, said};

/// A legacy module with this body.
fn legacy(body: &str) -> String {
    format!(
        r#"(module (memory (export "memory") 16) (func (export "transform") (param i32 i32) (result i32) {body}))"#
    )
}

/// A legacy module whose output is this byte, whatever comes.
fn always(byte: char) -> String {
    format!(
        r#"(module (memory (export "memory") 16) (data (i32.const 900000) "\01\00\00\00{byte}")
             (func (export "transform") (param i32 i32) (result i32) (i32.const 900000)))"#
    )
}

fn configuration(pipelines: &[(&str, &str, &str)]) -> String {
    let pipeline = |(module, prefix, strategy): &(&str, &str, &str)| {
        format!(
            r#"
[[pipelines]]
pipeline_id = "{module}"
error_handling = "{strategy}"
stages = [{{ priority = 0, modules = [{{ module_id = "{module}", topic_filters = [{{ filter_type = "Prefix", pattern = "{prefix}" }}] }}] }}]
"#
        )
    };
    pipelines.iter().map(pipeline).collect()
}

fn desk() -> Desk {
    let desk = Desk::new();
    desk.module("keep", KEEP)
        .module("one", &always('1'))
        .module("trap", &legacy("unreachable"))
        .module("refuse", &legacy("i32.const -1"))
        .put(
            "etl.toml",
            configuration(&[
                ("one", "one.", "StopPipeline"),
                ("trap", "trap.skip", "SkipModule"),
                ("refuse", "stop.", "StopPipeline"),
                ("keep", "keep.", "StopPipeline"),
            ]) + &configuration(&[("trap", "trap.dead", "SendToDeadLetter")])
                .replace("pipeline_id = \"trap\"", "pipeline_id = \"dead\""),
        );
    desk
}

const RECORDS: &str = r#"{"topic":"one.a","key":"k","headers":{"h":"v"},"timestamp":5,"value":{"a": 1.0}}
{"topic":"keep.a","value":{"a":  1.0}}
{"topic":"other","value":[1e400]}
{"topic":"stop.a","value":3}
{"topic":"trap.skip","value":4}
{"topic":"trap.dead","value":5}
"#;

#[test]
fn every_count_of_the_summary() {
    let desk = desk();
    desk.put("in", RECORDS);
    let run = ["run", "etl.toml", "--from", "file:in", "--to", "file:out"];
    let said = desk.etl(&[&run[..], &["--json"]].concat()).ends_with(0);
    let summary = said.summary();
    for (field, count) in [
        ("records_in", 6),
        ("records_out", 5),
        ("dropped", 0),
        ("dead_lettered", 1),
        ("stopped", 1),
        ("skipped_modules", 1),
        ("generation", 1),
    ] {
        assert_eq!(summary[field], count, "{field}");
    }
    let out = desk.read("out");
    let lines: Vec<&str> = out.lines().collect();
    let records: Vec<&str> = RECORDS.lines().collect();
    assert_eq!(
        lines[0],
        r#"{"topic":"one.a","key":"k","headers":{"h":"v"},"timestamp":5,"value":1}"#
    );
    assert_eq!(lines[1..5], records[1..5]);
    let letter: serde_json::Value = serde_json::from_str(lines[5]).expect("a record line");
    assert_eq!(
        (&letter["topic"], &letter["value"]),
        (&"trap.dead.dlq".into(), &5.into())
    );
    assert_eq!(letter["headers"]["etl-dlq-error"], "Trap");

    let said = desk.etl(&run).ends_with(0);
    let text: Vec<&str> = said.stderr.lines().collect();
    assert!(
        text[0].starts_with("6 records in, 5 out, 1 dead-lettered, in 0."),
        "{}",
        said.stderr
    );
    assert!(text[0].ends_with("/s), generation 1"), "{}", said.stderr);
    assert_eq!(
        text[1..],
        [
            "modules failed: 1 pipeline undone, 1 module skipped",
            "degraded: pipeline dead: all 1 records failed",
            "degraded: pipeline refuse: all 1 records failed",
        ]
    );
    assert_eq!(
        desk.etl(&[&run[..], &["--quiet"]].concat())
            .ends_with(0)
            .stderr,
        ""
    );
}

#[test]
fn the_output_is_the_same_for_every_batch_and_every_number_of_lanes() {
    let desk = desk();
    let line = |n: usize| {
        RECORDS
            .lines()
            .nth(n % 5)
            .map(|line| format!("{line}\n"))
            .unwrap_or_default()
    };
    desk.put("in", (0..3_000).map(line).collect::<String>());
    let mut first = None;
    for (batch, lanes) in [("256", "1"), ("1", "2"), ("7", "3"), ("65536", "2")] {
        let run = [
            "run", "etl.toml", "--from", "file:in", "--to", "-", "--quiet", "--batch", batch,
            "--lanes", lanes,
        ];
        let said = desk.etl(&run).ends_with(0);
        assert_eq!(said.stdout.lines().count(), 3_000);
        assert!(
            *first.get_or_insert_with(|| said.stdout.clone()) == said.stdout,
            "{batch} {lanes}"
        );
    }
}

/// A run that reads from a pipe, so that it is in the middle of its input as long as a test wants.
struct Running {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Running {
    fn start(desk: &Desk) -> Self {
        Self::with(desk, &[])
    }

    fn with(desk: &Desk, more: &[&str]) -> Self {
        Self::of("etl.toml", desk, more)
    }

    fn of(configuration: &str, desk: &Desk, more: &[&str]) -> Self {
        let mut child = desk
            .command(&[&["run", configuration, "--from", "-", "--to", "-"], more].concat())
            .stdin(Stdio::piped())
            .spawn()
            .expect("etl starts");
        let stdin = child.stdin.take().expect("a pipe");
        let stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        Self {
            child,
            stdin,
            stdout,
        }
    }

    /// Sends a record and waits for what comes of it.
    fn send(&mut self, record: &str) -> String {
        writeln!(self.stdin, "{record}").expect("writes");
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("a line");
        line.trim_end().to_owned()
    }

    fn signal(&self, name: &str) {
        let kill = Command::new("kill")
            .args(["-s", name, &self.child.id().to_string()])
            .status();
        assert!(kill.expect("kill is there").success());
    }
}

#[test]
fn ctrl_c_and_sigterm_finish_what_is_in_flight() {
    let desk = desk();
    for (signal, code, reason) in [
        ("INT", 130, "ended early: Ctrl-C"),
        ("TERM", 0, "ended early: SIGTERM"),
    ] {
        let mut running = Running::start(&desk);
        assert_eq!(
            running.send(r#"{"topic":"one.a"}"#),
            r#"{"topic":"one.a","value":1}"#
        );
        running.signal(signal);
        // Its standard input is still open: it ends because it was asked to.
        let Running {
            child,
            stdin,
            stdout,
        } = running;
        let said = said(child.wait_with_output().expect("etl ends"))
            .ends_with(code)
            .complains(&["1 record in, 1 out", "generation 1", reason]);
        assert!(!said.stderr.contains("etl:"), "{}", said.stderr);
        drop((stdin, stdout));
    }
}

#[test]
fn sighup_loads_the_configuration_again() {
    let desk = desk();
    let mut running = Running::start(&desk);
    let record = r#"{"topic":"one.a","value":0}"#;
    assert_eq!(running.send(record), r#"{"topic":"one.a","value":1}"#);

    let good = desk.read("etl.toml");
    desk.module("two", &always('2')).put(
        "etl.toml",
        good.replace("module_id = \"one\"", "module_id = \"two\""),
    );
    running.signal("HUP");
    wait_until(|| running.send(record) == r#"{"topic":"one.a","value":2}"#);

    desk.put("etl.toml", "pipeline_id = 3\n");
    running.signal("HUP");
    // Whether it was looked at shows in what is said at the end; until then nothing has changed.
    for _ in 0..50 {
        assert_eq!(running.send(record), r#"{"topic":"one.a","value":2}"#);
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    drop(running.stdin);
    said(running.child.wait_with_output().expect("etl ends"))
        .ends_with(0)
        .complains(&[
            "etl: the configuration was loaded again: generation 2",
            "etl.toml:1:15",
            "etl: the configuration was not loaded again: generation 2 goes on",
            ", generation 2\n",
        ]);
}

#[test]
fn watch_follows_the_configuration_and_its_modules() {
    let desk = desk();
    let mut running = Running::with(&desk, &["--watch"]);
    let record = r#"{"topic":"one.a","value":0}"#;
    let answers = |running: &mut Running, digit: char| {
        running.send(record) == format!(r#"{{"topic":"one.a","value":{digit}}}"#)
    };
    assert!(answers(&mut running, '1'));

    // The bytes of a module alone.
    desk.module("one", &always('2'));
    wait_until(|| answers(&mut running, '2'));

    // As editors and deployments do it: another file, renamed into place; and a module in a folder that was not there before.
    let good = desk.read("etl.toml");
    desk.put("new/two.wasm", wat::parse_str(always('3')).expect("WAT"));
    desk.put(
        "etl.toml~",
        format!("[[modules]]\nid = \"one\"\npath = \"new/two.wasm\"\n{good}"),
    );
    std::fs::rename(desk.path("etl.toml~"), desk.path("etl.toml")).expect("renamed");
    wait_until(|| answers(&mut running, '3'));
    desk.put("new/two.wasm", wat::parse_str(always('4')).expect("WAT"));
    wait_until(|| answers(&mut running, '4'));

    // What cannot be used changes nothing, and is said once; what is no part of it is not looked at.
    desk.put("etl.toml", "pipeline_id = 3\n");
    desk.put("notes.txt", "not a configuration");
    desk.put("modules/unused.wasm", "not a module");
    for _ in 0..70 {
        assert!(answers(&mut running, '4'));
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    desk.put("etl.toml", good);
    wait_until(|| answers(&mut running, '2'));
    drop(running.stdin);
    let said = said(running.child.wait_with_output().expect("etl ends"))
        .ends_with(0)
        .complains(&[
            "loaded again: generation 2",
            "loaded again: generation 4",
            "etl: the configuration was not loaded again: generation 4 goes on",
            "loaded again: generation 5",
            ", generation 5\n",
        ]);
    assert_eq!(
        said.stderr.matches("was not loaded again").count(),
        1,
        "{}",
        said.stderr
    );
}

#[test]
fn a_file_that_goes_is_one_change() {
    let desk = desk();
    let extra = "pipeline_id = \"extra\"\nstages = [{ priority = 0, modules = [{ module_id = \"one\", topic_filters = [{ filter_type = \"Prefix\", pattern = \"extra.\" }] }] }]\n";
    desk.put("pipelines/extra.toml", extra);
    let mut running = Running::of(".", &desk, &["--watch"]);
    let record = r#"{"topic":"extra.a","value":0}"#;
    let answers = |running: &mut Running, digit: char| {
        running.send(record) == format!(r#"{{"topic":"extra.a","value":{digit}}}"#)
    };
    assert!(answers(&mut running, '1'));
    std::fs::remove_file(desk.path("pipelines/extra.toml")).expect("removed");
    wait_until(|| answers(&mut running, '0'));
    // Time enough for a second look.
    for _ in 0..70 {
        assert!(answers(&mut running, '0'));
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    drop(running.stdin);
    said(running.child.wait_with_output().expect("etl ends"))
        .ends_with(0)
        .complains(&["loaded again: generation 2", ", generation 2\n"]);
}

fn wait_until(mut holds: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while !holds() {
        assert!(
            std::time::Instant::now() < deadline,
            "it did not come to pass in 30 s"
        );
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}
