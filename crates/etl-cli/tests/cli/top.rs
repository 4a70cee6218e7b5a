//! `etl top` against a run that goes on: as a table, as JSON, over TLS, and what it says when it may not or cannot.

use std::io::Write;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::serving::{Run, ask};
use crate::support::{Desk, KEEP, Said, said};

const CONFIGURATION: &str = r#"
[[pipelines]]
pipeline_id = "orders"
stages = [{ priority = 0, modules = [{ module_id = "keep" }] }]
"#;

pub fn desk() -> (Desk, String) {
    let desk = Desk::new();
    desk.put("etl.toml", CONFIGURATION).module("keep", KEEP);
    let create = [
        "admin", "token", "create", "--role", "viewer", "--name", "top",
    ];
    let token = desk.etl(&create).ends_with(0).stdout;
    desk.put("top.token", &token);
    (desk, token.trim().to_owned())
}

/// Sends records through, and waits until they are counted.
pub fn feed(run: &mut Run, token: &str, count: usize) {
    feed_more(run, token, 0, count);
}

/// The same, after so many.
pub fn feed_more(run: &mut Run, token: &str, before: usize, count: usize) {
    let stdin = run.child.stdin.as_mut().expect("a pipe");
    for value in 0..count {
        writeln!(stdin, r#"{{"topic":"t","value":{value}}}"#).expect("writes");
    }
    let deadline = Instant::now() + Duration::from_secs(60);
    let counted = format!("\"records_out\":{}", before + count);
    let line = "GET /api/v1/statistics";
    while !ask(&run.api, token, line, None)
        .replace(' ', "")
        .contains(&counted)
    {
        assert!(Instant::now() < deadline, "they are not counted");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn top(desk: &Desk, url: &str, more: &[&str]) -> Said {
    let arguments = [&["top", "--url", url, "--interval", "200ms"][..], more].concat();
    desk.etl(&arguments)
}

#[test]
fn a_table_and_json_for_scripts() {
    let (desk, token) = desk();
    let mut run = Run::start(&desk, &["--to", "file:out.ndjson"]);
    feed(&mut run, &token, 40);
    let url = format!("http://{}", run.api);
    let given = ["--token-file", "top.token"];
    let said = top(&desk, &url, &[&given[..], &["--once"]].concat()).ends_with(0);
    assert_eq!(said.stderr, "");
    let lines: Vec<Vec<&str>> = said
        .stdout
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    let line = |name: &str| {
        let found = lines.iter().find(|line| line.first() == Some(&name));
        found
            .unwrap_or_else(|| panic!("no {name} in\n{}", said.stdout))
            .clone()
    };
    assert_eq!(&line("ok")[..3], ["ok", "generation", "1"]);
    assert_eq!(
        line("pipeline"),
        [
            "pipeline", "in/s", "out/s", "err/s", "in", "errors", "p50", "p99", "inst", "state"
        ]
    );
    // Nothing flows any more: no rates, all that was counted.
    for name in ["orders", "keep"] {
        let line = line(name);
        assert_eq!(&line[1..6], ["0", "0", "0", "40", "0"], "{}", said.stdout);
        assert_eq!(line.last(), Some(&"ok"));
    }
    let said = top(&desk, &url, &[&given[..], &["--once", "--json"]].concat()).ends_with(0);
    let json: Value = serde_json::from_str(&said.stdout).expect("JSON");
    assert_eq!(json["pipelines"]["orders"]["records_in"], 40);
    assert_eq!(json["modules"]["keep"]["in_per_second"], 0.0);
    assert_eq!(
        (&json["state"], &json["generation"]),
        (&"ok".into(), &1.into())
    );
    let said = top(
        &desk,
        &url,
        &[&given[..], &["--once", "--filter", "nothing"]].concat(),
    );
    assert!(!said.ends_with(0).stdout.contains("orders"));
    // The token may be in a variable, and is nowhere else.
    let arguments = [
        "top",
        "--url",
        &url,
        "--once",
        "--interval",
        "100ms",
        "--log",
        "trace",
    ];
    let mut command = desk.command(&arguments);
    let it = said_of(command.env("ETL_TOKEN", &token)).ends_with(0);
    assert!(!it.stdout.contains(&token) && !it.stderr.contains(&token));
}

fn said_of(command: &mut std::process::Command) -> Said {
    said(command.output().expect("etl starts"))
}

#[test]
fn says_why_there_are_no_figures() {
    let (desk, token) = desk();
    let run = Run::start(&desk, &["--to", "file:out.ndjson"]);
    let url = format!("http://{}", run.api);
    top(&desk, &url, &["--once"]).ends_with(1).complains(&[
        "no token is given",
        "--token-file",
        "ETL_TOKEN",
        "etl admin token create",
    ]);
    let wrong = token.replace(&token[30..40], "0123456789");
    desk.put("wrong.token", &wrong);
    let refused = top(&desk, &url, &["--once", "--token-file", "wrong.token"]).ends_with(1);
    assert!(!refused.stderr.contains(&wrong), "{}", refused.stderr);
    refused.complains(&["not known here"]);
    let given = ["--token-file", "top.token"];
    top(&desk, &url, &given)
        .ends_with(1)
        .complains(&["this is no terminal", "--once", "--json"]);
    let https = url.replace("http:", "https:");
    top(&desk, &https, &[&given[..], &["--once"]].concat())
        .ends_with(1)
        .complains(&["--ca FILE"]);
    drop(run);
    top(&desk, &url, &[&given[..], &["--once"]].concat())
        .ends_with(1)
        .complains(&[&url, "refused"]);
    for (arguments, message) in [
        (&["top", "--url", "engine:9400"][..], "http://HOST:PORT"),
        (&["top", "--interval", "1ms"], "from 100ms to 1h"),
        (&["top", "--sort", "colour"], "latency"),
    ] {
        desk.etl(arguments).ends_with(2).complains(&[message]);
    }
}

#[test]
fn tls_is_checked_against_the_authority_that_is_given() {
    let (desk, token) = desk();
    let made = |name: &str| {
        let made =
            rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        desk.put(&format!("{name}.pem"), made.cert.pem());
        desk.put(&format!("{name}.key"), made.signing_key.serialize_pem());
    };
    made("api");
    made("other");
    let run = Run::start(
        &desk,
        &[
            "--to",
            "file:out.ndjson",
            "--admin-tls-cert",
            "api.pem",
            "--admin-tls-key",
            "api.key",
        ],
    );
    let port = run.api.rsplit(':').next().expect("a port");
    let url = format!("https://localhost:{port}");
    let given = ["--token-file", "top.token", "--once"];
    let said = top(&desk, &url, &[&given[..], &["--ca", "api.pem"]].concat()).ends_with(0);
    assert!(said.stdout.contains("generation 1"), "{}", said.stdout);
    top(&desk, &url, &[&given[..], &["--ca", "other.pem"]].concat())
        .ends_with(1)
        .complains(&[&url, "certificate"]);
    let logged = desk.read("stderr.log");
    assert!(!logged.contains(&token), "{logged}");
}
