//! Folders of topics from the command line: sent to, run between, looked at, redriven, replayed; and killed.

use std::collections::HashSet;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Desk, said};

/// Fails on every record whose value begins with `b`, in words that name the module.
const PICKY: &str = r#"(module
  (memory (export "memory") 4)
  (func (export "allocate") (param i32) (result i32) (i32.const 65536))
  (func (export "transform") (param $at i32) (param $length i32) (result i32)
    (if (i32.and (i32.gt_s (local.get $length) (i32.const 1)) (i32.eq (i32.load8_u (i32.add (local.get $at) (i32.const 1))) (i32.const 98)))
      (then (return (i32.const -1))))
    (i32.store (i32.const 1024) (local.get $length))
    (memory.copy (i32.const 1028) (local.get $at) (local.get $length))
    (i32.const 1024)))"#;

pub fn desk() -> Desk {
    let desk = Desk::new();
    desk.module("picky", PICKY).put(
        "etl.toml",
        r#"
[[pipelines]]
pipeline_id = "p"
error_handling = "SendToDeadLetter"
[[pipelines.stages]]
priority = 3
[[pipelines.stages.modules]]
module_id = "picky"
topic_filters = [{ filter_type = "Exact", pattern = "in" }]
"#,
    );
    desk
}

pub fn lines(count: usize) -> String {
    let line = |n: usize| {
        format!(
            "{{\"topic\":\"in\",\"partition\":{},\"key\":\"{n}\",\"value\":{n}}}\n",
            n % 3
        )
    };
    (0..count).map(line).collect()
}

const WITHIN: [&str; 6] = [
    "run",
    "etl.toml",
    "--from",
    "embedded:data?topics=in",
    "--to",
    "embedded:data?prefix=out.",
];

fn objects(text: &str) -> Vec<Value> {
    let object = |line| serde_json::from_str(line).expect("JSON");
    text.lines().map(object).collect()
}

#[test]
fn from_topic_to_topic() {
    let desk = desk();
    desk.etl(&["topics", "embedded:data"])
        .ends_with(1)
        .complains(&["there are no topics in data; --create makes it a place for some"]);
    desk.etl(&[
        "topics",
        "embedded:data",
        "--create",
        "in",
        "--partitions",
        "3",
        "--keep-age",
        "7d",
    ])
    .ends_with(0);
    desk.etl_with_input(&["send", "--to", "embedded:data"], lines(100).as_bytes())
        .ends_with(0)
        .complains(&["100 records sent to embedded:data"]);
    desk.etl(&WITHIN)
        .ends_with(0)
        .complains(&["100 records in, 100 out"]);
    desk.etl(&WITHIN)
        .ends_with(0)
        .complains(&["0 records in, 0 out"]);

    let topics = objects(
        &desk
            .etl(&["topics", "embedded:data", "--json"])
            .ends_with(0)
            .stdout,
    );
    let shown: Vec<_> = topics
        .iter()
        .map(|t| (&t["name"], &t["partitions"], &t["records"], &t["keeps"]))
        .collect();
    assert_eq!(
        shown,
        [
            (&json!("in"), &json!(3), &json!(100), &json!("604800 s")),
            (&json!("out.in"), &json!(3), &json!(100), &json!("")),
        ]
    );
    let text = desk.etl(&["topics", "embedded:data"]).ends_with(0).stdout;
    assert!(text.starts_with("topic   partitions  records"), "{text}");

    let last = desk
        .etl(&["tail", "embedded:data", "out.*", "--from", "-1"])
        .ends_with(0);
    let values: HashSet<u64> = objects(&last.stdout)
        .iter()
        .map(|r| r["value"].as_u64().expect("a number"))
        .collect();
    assert_eq!(values, HashSet::from([97, 98, 99]));
    // What tail prints can be sent.
    let all = desk
        .etl(&["tail", "embedded:data", "out.in", "--count", "7"])
        .ends_with(0);
    desk.etl_with_input(&["send", "--to", "file:copy"], all.stdout.as_bytes())
        .ends_with(0);
    assert_eq!(desk.read("copy").lines().count(), 7);
}

#[test]
fn lines_that_are_none_are_named_and_the_others_sent() {
    let desk = desk();
    let said = desk
        .etl_with_input(
            &["send", "--to", "embedded:data", "--create"],
            b"{\"topic\":\"t\"}\nnonsense\n{\"topic\":\"\"}\n",
        )
        .ends_with(1)
        .complains(&["stdin:2: not JSON", "1 record sent", "2 lines not sent"]);
    assert_eq!(said.stdout, "");
    desk.etl_with_input(
        &["send", "--to", "embedded:data", "--topic", "logs", "--raw"],
        b"any text\n{\"a\":1}\n\n{\"topic\": \"a record\",  \"value\":1}\n",
    )
    .ends_with(0);
    let logs = objects(
        &desk
            .etl(&["tail", "embedded:data", "logs"])
            .ends_with(0)
            .stdout,
    );
    assert_eq!(logs[0]["value_base64"], "YW55IHRleHQ=");
    assert_eq!(logs[1]["value"], json!({"a": 1}));
    // A line that happens to be a record is a value too, as it stands there.
    let whole = logs[2]["value"].to_string();
    assert_eq!(
        (logs.len(), &*whole),
        (3, r#"{"topic":"a record","value":1}"#)
    );
    let printed = desk.etl(&["tail", "embedded:data", "logs", "--from", "-1"]);
    let as_it_is = r#""value":{"topic": "a record",  "value":1}"#;
    assert!(printed.stdout.contains(as_it_is), "{}", printed.stdout);
}

/// A second process is told who has the folder, and the first goes on.
#[test]
fn a_folder_belongs_to_one_process() {
    let desk = desk();
    desk.etl_with_input(
        &["send", "--to", "embedded:data", "--create"],
        lines(3).as_bytes(),
    )
    .ends_with(0);
    let first = desk
        .command(&[
            "run",
            "etl.toml",
            "--from",
            "embedded:data?topics=in&follow",
            "--to",
            "-",
        ])
        .spawn()
        .expect("etl starts");
    let mut first = Killed(first);
    // What it writes says that it has the folder.
    let mut line = String::new();
    let stdout = first.0.stdout.take().expect("a pipe");
    // The pipe stays open: a reader that goes away would end the run.
    let mut stdout = BufReader::new(stdout);
    stdout.read_line(&mut line).expect("a line");
    assert!(line.starts_with("{\"topic\":\"in\""), "{line}");
    desk.etl(&["topics", "embedded:data"])
        .ends_with(1)
        .complains(&[
            "cannot open embedded:data: another process has it open (process",
            "belongs to one process at a time",
        ]);
    first.kill();
    desk.etl(&["topics", "embedded:data"]).ends_with(0);
}

#[test]
fn dead_letters_go_back_and_are_parked_in_the_end() {
    let desk = desk();
    let bad = "{\"topic\":\"in\",\"key\":\"k\",\"headers\":{\"h\":[\"1\",\"2\"]},\"timestamp\":17,\"value\":\"bad\"}\n";
    desk.etl_with_input(
        &["send", "--to", "embedded:data", "--create"],
        (lines(5) + bad).as_bytes(),
    )
    .ends_with(0);
    desk.etl(&WITHIN)
        .ends_with(0)
        .complains(&["1 dead-lettered"]);
    let redrive = |more: &[&str]| {
        let arguments = [
            &[
                "redrive",
                "--from",
                "embedded:data",
                "--topic",
                "out.in.dlq",
                "--attempts",
                "2",
                "--json",
            ],
            more,
        ]
        .concat();
        objects(&desk.etl(&arguments).ends_with(0).stdout).remove(0)
    };
    let looked = redrive(&["--dry-run"]);
    assert_eq!(
        (&looked["selected"], &looked["redriven"]),
        (&json!(1), &json!(0))
    );
    assert_eq!(looked["reasons"][0]["module"], "picky");
    assert_eq!(looked["reasons"][0]["count"], 1);
    assert_eq!(redrive(&["--module", "other"])["others"], 1);
    assert_eq!(redrive(&["--kind", "Timeout"])["selected"], 0);
    assert_eq!(
        redrive(&["--kind", "module", "--dry-run"])["selected"],
        1,
        "however it is written"
    );
    let wrong = [
        "redrive",
        "--from",
        "embedded:data",
        "--topic",
        "t.dlq",
        "--kind",
        "Foo",
    ];
    desk.etl(&wrong)
        .ends_with(2)
        .complains(&["there is no such kind"]);
    for round in 1..=2 {
        let done = redrive(&["--module", "picky", "--since", "1h"]);
        assert_eq!(
            (&done["redriven"], &done["parked"]),
            (&json!(1), &json!(0)),
            "{done}"
        );
        let back = objects(
            &desk
                .etl(&["tail", "embedded:data", "in", "--from", "-1"])
                .stdout,
        );
        let back = back
            .iter()
            .find(|record| record["value"] == "bad")
            .expect("it is back");
        assert_eq!(
            back["headers"],
            json!({"h": ["1", "2"], "etl-redrive-attempts": round.to_string()})
        );
        assert_eq!(
            (&back["key"], &back["timestamp"]),
            (&json!("k"), &json!(17))
        );
        desk.etl(&WITHIN)
            .ends_with(0)
            .complains(&["1 dead-lettered"]);
    }
    // Of whichever topic it is asked for, a letter is parked beside those of its own.
    let every = ["redrive", "--from", "embedded:data", "--topic", "out.*.dlq"];
    let done = desk.etl(&[&every[..], &["--attempts", "2", "--json"]].concat());
    assert_eq!(objects(&done.ends_with(0).stdout)[0]["parked"], 1);
    assert_eq!(redrive(&[])["selected"], 0);
    let nothing = desk.etl(&["redrive", "--from", "embedded:data", "--topic", "slip"]);
    let said = nothing.ends_with(0).stdout;
    assert!(
        said.contains("`etl topics 'embedded:data'` says which"),
        "{said}"
    );
    let parked = objects(
        &desk
            .etl(&["tail", "embedded:data", "out.in.dlq.parked"])
            .ends_with(0)
            .stdout,
    );
    assert_eq!(parked[0]["headers"]["etl-dlq-module"], "picky");
    // All topics are asked for, and neither what is parked nor what went wrong nowhere goes back.
    let all = desk.etl(&[
        "redrive",
        "--from",
        "embedded:data",
        "--topic",
        "*",
        "--json",
    ]);
    let done = objects(&all.ends_with(0).stdout).remove(0);
    assert_eq!(
        (&done["selected"], &done["nowhere_to_go"]),
        (&json!(0), &json!(0)),
        "{done}"
    );
    // From there they go back too, when somebody asks for it.
    let redrive = ["redrive", "--from", "embedded:data", "--json", "--topic"];
    let redrive = [&redrive[..], &["out.in.dlq.parked", "--attempts", "2"]].concat();
    let done = objects(&desk.etl(&redrive).ends_with(0).stdout).remove(0);
    assert_eq!(
        (&done["redriven"], &done["parked"]),
        (&json!(1), &json!(0)),
        "{done}"
    );
}

#[test]
fn a_dead_letter_fails_again_with_the_module_that_it_names() {
    let desk = desk();
    desk.put("in.ndjson", "{\"topic\":\"in\",\"value\":\"bad\"}\n");
    let run = [
        "run",
        "etl.toml",
        "--from",
        "file:in.ndjson",
        "--to",
        "file:out",
        "--dead-letters",
        "file:failed",
    ];
    desk.etl(&run).ends_with(0);
    let replay = ["replay", "etl.toml", "--dead-letter", "file:failed"];
    let said = desk.etl(&replay).ends_with(0);
    for part in [
        "picky of pipeline p (the recorded version)",
        "step 1: p, priority 3, picky: failed",
        "it fails in the same way",
    ] {
        assert!(said.stdout.contains(part), "{}", said.stdout);
    }
    // A version that is mended is another one: it is not taken for the recorded one.
    let picky = std::fs::read(desk.path("modules/picky.wasm")).expect("reads");
    desk.module("picky", &PICKY.replace("(i32.const 98)", "(i32.const 0)"));
    desk.etl(&replay)
        .ends_with(1)
        .complains(&["no file has the SHA-256"]);
    let said = desk
        .etl(&[&replay[..], &["--any-version"]].concat())
        .ends_with(1);
    assert!(
        said.stdout.contains("it does not fail any more"),
        "{}",
        said.stdout
    );
    desk.put("modules/picky-old.wasm", picky);
    desk.etl(&replay).ends_with(0);
}

/// The short form of `cargo xtask chaos`: workers are killed, and within one folder every record still comes out once.
#[test]
fn kill_9_loses_nothing_and_repeats_nothing() {
    let desk = desk();
    desk.etl_with_input(
        &["send", "--to", "embedded:data", "--create"],
        lines(20_000).as_bytes(),
    )
    .ends_with(0);
    let mut kills = 0;
    for life in 1_u64.. {
        let arguments = [
            &WITHIN[..],
            &["--in-flight", "500", "--batch", "50", "--quiet"],
        ]
        .concat();
        let mut worker = Killed(desk.command(&arguments).spawn().expect("etl starts"));
        if life > 6 {
            assert!(worker.0.wait().expect("ends").success());
            break;
        }
        // Somewhere between its first steps and the middle of its work.
        std::thread::sleep(Duration::from_millis(60 + life * 37 % 160));
        if let Some(ended) = worker.0.try_wait().expect("can be asked") {
            assert!(ended.success());
            break;
        }
        worker.kill();
        kills += 1;
    }
    assert!(kills > 0, "it was over before anything was killed");
    let out = objects(
        &desk
            .etl(&["tail", "embedded:data", "out.in"])
            .ends_with(0)
            .stdout,
    );
    let numbers: Vec<u64> = out
        .iter()
        .map(|record| record["value"].as_u64().expect("a number"))
        .collect();
    assert_eq!(numbers.len(), 20_000);
    for partition in 0..3 {
        let own: Vec<u64> = numbers
            .iter()
            .copied()
            .filter(|n| n % 3 == partition)
            .collect();
        let expected: Vec<u64> = (0..20_000).filter(|n| n % 3 == partition).collect();
        assert!(
            own == expected,
            "partition {partition} is in order, each record once"
        );
    }
}

/// Ends its process however the test ends.
struct Killed(Child);

impl Killed {
    fn kill(&mut self) {
        // It may have ended meanwhile.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Killed {
    fn drop(&mut self) {
        self.kill();
    }
}

#[test]
fn tail_follows_a_folder_that_others_write_to() {
    let desk = desk();
    desk.etl_with_input(
        &["send", "--to", "embedded:data", "--create"],
        lines(2).as_bytes(),
    )
    .ends_with(0);
    let mut follower = desk
        .command(&["tail", "embedded:data", "in", "--follow", "--count", "5"])
        .spawn()
        .expect("etl starts");
    let mut printed = BufReader::new(follower.stdout.take().expect("a pipe"));
    let mut line = || {
        let mut line = String::new();
        printed.read_line(&mut line).expect("a line");
        line
    };
    for _ in 0..2 {
        assert!(line().starts_with("{\"topic\":\"in\""));
    }
    // Whenever it looks, who writes is not refused for it.
    for _ in 0..3 {
        desk.etl_with_input(&["send", "--to", "embedded:data"], lines(1).as_bytes())
            .ends_with(0);
        assert!(line().starts_with("{\"topic\":\"in\""));
    }
    assert!(follower.wait().expect("ends").success());
}

/// What follows has the folder only while it reads it, and not while it waits for its own reader.
#[test]
fn tail_that_cannot_go_on_keeps_nobody_out() {
    let desk = desk();
    let send = ["send", "--to", "embedded:data", "--create"];
    desk.etl_with_input(&send, lines(20_000).as_bytes())
        .ends_with(0);
    let mut follower = desk
        .command(&["tail", "embedded:data", "in", "--follow"])
        .spawn()
        .map(Killed)
        .expect("etl starts");
    // It has begun, and the pipe takes no more than a part of it.
    let mut first = [0];
    let stdout = follower.0.stdout.as_mut().expect("a pipe");
    std::io::Read::read_exact(stdout, &mut first).expect("it prints");
    desk.etl_with_input(&send, lines(1).as_bytes()).ends_with(0);
    desk.etl(&["topics", "embedded:data"]).ends_with(0);
    assert!(follower.0.try_wait().expect("is known").is_none());
}

/// No file may grow beyond a megabyte, as if the disk ended there: who writes says so and ends, and what was confirmed is there.
#[test]
fn a_folder_that_cannot_grow() {
    let desk = desk();
    let limited = |arguments: &str, input: &str| {
        desk.put("input", input);
        let etl = env!("CARGO_BIN_EXE_etl");
        let script = format!("trap '' XFSZ; ulimit -f 2048; exec {etl} {arguments} < input");
        let mut command = Command::new("/bin/sh");
        command.args(["-c", &script]).current_dir(desk.path(""));
        command.env_clear().stdin(Stdio::null());
        said(command.output().expect("sh starts"))
    };
    let sent = limited("send --to embedded:data --create", &lines(40_000))
        .ends_with(1)
        .complains(&[
            "etl: cannot write embedded:data: File too large",
            "What was confirmed is safe (with durability=none, what had been synced): make room and start again",
        ]);
    let said_lines = sent
        .stderr
        .split("up to line ")
        .nth(1)
        .expect("says how far");
    let digits: String = said_lines.chars().take_while(|c| *c != ';').collect();
    let lines_sent: usize = digits.replace(',', "").parse().expect("a number");
    assert!((1..40_000).contains(&lines_sent), "{lines_sent}");
    // It can be looked into as it is.
    let numbers = |text: &str| {
        let number = |record: Value| record["value"].as_u64().expect("a number");
        let mut numbers: Vec<u64> = objects(text).into_iter().map(number).collect();
        numbers.sort_unstable();
        numbers
    };
    let held = limited("tail embedded:data in", "").ends_with(0).stdout;
    let held = numbers(&held);
    assert!(held.len() >= lines_sent, "{lines_sent}");
    assert!(held.iter().copied().eq(0..held.len() as u64));
    // A run that goes from topic to topic there ends in the same way, and once there is room goes on where it was.
    let run = WITHIN.join(" ") + " --json";
    limited(&run, "")
        .ends_with(1)
        .complains(&["File too large"]);
    desk.etl(&WITHIN).ends_with(0);
    let out = desk.etl(&["tail", "embedded:data", "out.in"]).ends_with(0);
    assert_eq!(numbers(&out.stdout), held);
}
