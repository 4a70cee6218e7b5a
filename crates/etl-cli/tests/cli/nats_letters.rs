//! Dead letters on NATS through the API of a run: looked at, chosen among, and sent back; and what a fleet stores of secrets.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::admin::create;
use crate::nats_server::NatsServer;
use crate::serving::Running;
use crate::support::{Desk, KEEP};
use crate::topics::desk;

const PATIENCE: Duration = Duration::from_secs(120);

/// Waits until an answer is as it should be.
#[track_caller]
fn until(running: &Running, token: &str, target: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    let end = Instant::now() + PATIENCE;
    loop {
        let (status, text) = running.ask(token, "GET", target, None);
        let value: Value = serde_json::from_str(&text).unwrap_or_default();
        if status == 200 && is_so(&value) {
            return value;
        }
        assert!(Instant::now() < end, "{target}: {status} {text}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn letters_on_nats_are_looked_at_and_sent_back() {
    let Some(mut server) = NatsServer::start("dead letters on NATS through the API") else {
        return;
    };
    let desk = desk();
    let [viewer, operator] = ["viewer", "operator"].map(|role| create(&desk, role, role));
    let (from, to) = (
        server.url("IN?subject=in,in.>"),
        server.url("OUT?prefix=out"),
    );
    let line = |value: &str| format!("{{\"topic\":\"in\",\"key\":\"k\",\"value\":{value}}}\n");
    let input = [
        line("1"),
        line("\"bad\""),
        line("2"),
        line("\"bad 12345678901234567890123\""),
    ];
    let send = ["send", "--to", &from, "--create"];
    desk.etl_with_input(&send, input.concat().as_bytes())
        .ends_with(0);
    let running = Running::spawn(desk.command(&[
        "run",
        "etl.toml",
        "--from",
        &from,
        "--to",
        &to,
        "--create",
        "--lanes",
        "1",
        "--admin",
        "127.0.0.1:0",
    ]));
    let topics = until(&running, &viewer, "/api/v1/dead-letters/topics", |topics| {
        topics["topics"][0]["records"] == 2
    });
    let topic = topics["topics"][0]["topic"].as_str().expect("a name");
    assert!(topic.ends_with("in.dlq"), "{topic}");
    let letters = format!("/api/v1/dead-letters?topic={topic}");
    let of = |token: &str, target: &str| running.json(token, "GET", target, None);

    // A page at a time, the newest first; the records in them for operators alone.
    let first = of(&operator, &format!("{letters}&limit=1"));
    let record = first["letters"][0]["record"].to_string();
    assert!(record.contains("12345678901234567890123"), "{record}");
    assert_eq!(first["letters"][0]["original_topic"], "in");
    assert_eq!(first["letters"][0]["module"], "picky");
    let next = first["next"].as_str().expect("there is one more");
    let second = of(&operator, &format!("{letters}&limit=1&before={next}"));
    assert_eq!(
        (&second["letters"][0]["record"]["value"], &second["next"]),
        (&"bad".into(), &Value::Null)
    );
    let seen = of(&viewer, &letters);
    assert_eq!(seen["letters"].as_array().map(Vec::len), Some(2));
    assert!(
        seen["letters"]
            .as_array()
            .into_iter()
            .flatten()
            .all(|one| one["record"].is_null())
    );
    let none = of(
        &viewer,
        &format!("/api/v1/dead-letters/summary?topic={topic}&module=other"),
    );
    assert_eq!((&none["selected"], &none["others"]), (&0.into(), &2.into()));

    // Tried it changes nothing; done it sends them back, and they come again.
    let redrive = format!("/api/v1/dead-letters/redrive?topic={topic}");
    assert_eq!(running.ask(&viewer, "POST", &redrive, None).0, 403);
    let tried = running.json(&operator, "POST", &format!("{redrive}&dry_run=true"), None);
    assert_eq!(
        (&tried["selected"], &tried["redriven"]),
        (&2.into(), &0.into())
    );
    assert_eq!(
        of(&viewer, &letters)["letters"].as_array().map(Vec::len),
        Some(2)
    );
    let done = running.json(&operator, "POST", &redrive, None);
    assert_eq!(
        (&done["redriven"], &done["refused"]),
        (&2.into(), &0.into()),
        "{done:#}"
    );
    let again = until(&running, &viewer, &letters, |again| {
        let letters = again["letters"].as_array();
        letters.is_some_and(|all| all.len() == 2 && all.iter().all(|one| one["redriven"] == 1))
    });
    assert_eq!(again["letters"][0]["kind"], "Module");
    // One that was sent back often enough is parked beside the letters: in the stream of its record it would be read as one.
    let done = running.json(&operator, "POST", &format!("{redrive}&attempts=1"), None);
    assert_eq!(
        (&done["redriven"], &done["parked"], &done["refused"]),
        (&0.into(), &2.into(), &0.into()),
        "{done:#}"
    );
    assert_eq!(of(&viewer, &letters)["letters"], Value::Array(Vec::new()));
    let parked = format!("/api/v1/dead-letters?topic={topic}.parked");
    let parked = of(&operator, &parked);
    assert_eq!(parked["letters"].as_array().map(Vec::len), Some(2));
    assert_eq!(parked["letters"][0]["redriven"], 1);
    let topics = of(&viewer, "/api/v1/dead-letters/topics");
    assert_eq!(
        topics["topics"][0]["topic"],
        format!("{topic}.parked"),
        "{topics:#}"
    );
    // Another record comes through, and nothing did before it.
    desk.etl_with_input(&["send", "--to", &from], line("3").as_bytes())
        .ends_with(0);
    until(&running, &viewer, "/api/v1/statistics", |statistics| {
        statistics["records_out"].as_u64() == Some(3)
    });
    assert_eq!(of(&viewer, "/api/v1/statistics")["records_in"], 7);

    // With the server away that is said, by the figures too.
    assert_eq!(
        of(&viewer, "/api/v1/health")["waiting"],
        Value::Array(Vec::new())
    );
    server.kill();
    let health = until(&running, &viewer, "/api/v1/health", |health| {
        health["waiting"]
            .as_array()
            .is_some_and(|all| !all.is_empty())
    });
    let waiting = health["waiting"][0].as_str().expect("text");
    assert!(waiting.contains("trying again in"), "{waiting}");
    let (_, metrics) = running.ask(&viewer, "GET", "/metrics", None);
    assert!(
        metrics.contains("etl_run_waiting{role=\"source\"} 1"),
        "{metrics}"
    );
    let url = format!("http://{}", running.address);
    let mut top = desk.command(&["top", "--url", &url, "--once"]);
    let said = crate::support::said(top.env("ETL_TOKEN", &viewer).output().expect("etl starts"));
    assert!(said.stdout.contains("! waiting: "), "{said:#?}");
    running.kill();
}

/// Whatever is in a folder and below it.
fn every_file(folder: &Path, each: &mut dyn FnMut(&Path, &[u8])) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        match path.is_dir() {
            true => every_file(&path, each),
            // The server may be taking one away.
            false => each(&path, &fs::read(&path).unwrap_or_default()),
        }
    }
}

#[test]
fn a_fleet_stores_the_names_of_secrets_and_not_their_values() {
    const CANARY: &str = "canary-4b7e10d2";
    let Some(server) = NatsServer::start("what a fleet stores of secrets") else {
        return;
    };
    let desk = Desk::new();
    let takes = KEEP.replace(
        "(func (export \"etl_process_v1\")",
        "(func (export \"etl_init_v1\") (param i32 i32) (result i64) (i64.const 0)) (func (export \"etl_process_v1\")",
    );
    desk.module("keep", &takes).put(
        "etl.toml",
        "[[pipelines]]\npipeline_id = \"names\"\nstages = [{ priority = 0, modules = [{ module_id = \"keep\", instance_config = { custom_config = { password = \"${secret:DB}\", url = \"db://${USER_OF_DB}\" } } }] }]\n",
    );
    desk.etl(&["secret", "key", "generate", "secret.key"])
        .ends_with(0);
    let key = ["--secret-key", "file:secret.key"];
    let set = [&["secret", "set", "DB"], &key[..]].concat();
    desk.etl_with_input(&set, CANARY.as_bytes()).ends_with(0);
    let of = server.url("crew");
    let push = [&["push", "etl.toml", "--to", &of, "--create"], &key[..]].concat();
    let mut command = desk.command(&push);
    command.env("USER_OF_DB", CANARY);
    let pushed = crate::support::said(command.output().expect("etl starts")).ends_with(0);
    assert!(pushed.stdout.starts_with("revision 1"), "{pushed:#?}");
    let (mut names, mut stored) = (0, 0);
    every_file(server.folder(), &mut |path, bytes| {
        let holds = |text: &str| {
            bytes
                .windows(text.len())
                .any(|part| part == text.as_bytes())
        };
        assert!(!holds(CANARY), "in {}", path.display());
        names += usize::from(holds("${secret:DB}"));
        stored += usize::from(holds("etl_process_v1"));
    });
    // It was looked for where it would be: what was pushed is there, with what stands for it.
    assert!(names > 0 && stored > 0, "{names} {stored}");
}
