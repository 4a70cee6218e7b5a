//! `etl run --admin` and `etl admin`: an API that answers those who were let in, on a run that goes on.

use std::fs;
use std::io::{BufRead, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::serving::{CANARY, Running, ask};
use crate::support::{Desk, KEEP, said};

const CONFIGURATION: &str = r#"
[[pipelines]]
pipeline_id = "keeps"
name = "${NAME}"
stages = [{ priority = 0, modules = [{ module_id = "keep" }] }]
"#;

fn desk() -> Desk {
    let desk = Desk::new();
    desk.put("etl.toml", CONFIGURATION).module("keep", KEEP);
    desk
}

pub fn create(desk: &Desk, role: &str, name: &str) -> String {
    let arguments = ["admin", "token", "create", "--role", role, "--name", name];
    let said = desk.etl(&arguments).ends_with(0);
    assert_eq!(said.stderr, "");
    said.stdout.trim().to_owned()
}

#[test]
fn a_run_is_watched_and_changed_while_records_flow() {
    let desk = desk();
    let mut running = Running::start(&desk, &[]);
    let token = create(&desk, "admin", "anna");
    let ask = |method, target, body| running.json(&token, method, target, body);
    let shown = ask("GET", "/api/v1/pipelines/keeps", None);
    assert_eq!(shown["pipeline"]["name"], "${NAME}");
    let explained = ask(
        "POST",
        "/api/v1/explain",
        Some(r#"{"topic":"t","value":12345678901234567890123}"#),
    );
    assert_eq!(explained["steps"][0]["happened"], "kept");
    let (_, text) = running.ask(
        &token,
        "POST",
        "/api/v1/explain",
        Some(r#"{"topic":"t","value":12345678901234567890123}"#),
    );
    assert!(text.contains("12345678901234567890123"), "{text}");
    assert!(!text.contains(CANARY) && text.contains("${NAME}"), "{text}");
    // Nothing of it went out, and so nothing of it is counted.
    let stats = ask("GET", "/api/v1/statistics", None);
    assert_eq!(
        (
            &stats["records_in"],
            &stats["records_out"],
            &stats["modules"]["keep"]["kept"]
        ),
        (&json!(0), &json!(0), &json!(0)),
        "{stats:#}"
    );
    assert_eq!(
        ask("GET", "/api/v1/explain?topic=t", None)["pipelines"][0]["selected"],
        true
    );
    assert_eq!(
        ask("POST", "/api/v1/pipelines/keeps/disable", None)["generation"],
        2
    );
    let (status, text) = running.ask(&token, "GET", "/metrics", None);
    assert!(
        status == 200 && text.contains("\netl_config_generation 2\n"),
        "{text}"
    );
    assert_eq!(ask("POST", "/api/v1/reload", None)["generation"], 3);
    writeln!(running.stdin, r#"{{"topic":"t","value":1}}"#).expect("writes");
    let mut line = String::new();
    running.stdout.read_line(&mut line).expect("a line");
    let (_, text) = running.ask(&token, "GET", "/metrics", None);
    assert!(
        text.contains("\netl_run_records_total{outcome=\"in\"} 1\n"),
        "{text}"
    );
    let stats = running.json(&token, "GET", "/api/v1/statistics", None);
    assert_eq!(stats["pipelines"]["keeps"]["records_in"], 1, "{stats:#}");
    assert_eq!(stats["modules"]["keep"]["kept"], 1, "{stats:#}");
    assert_eq!(
        stats["pipelines"]["keeps"]["stages"][0]["timed"], 1,
        "{stats:#}"
    );
    assert!(
        stats["process_memory_bytes"].as_u64() > Some(1 << 20),
        "{stats:#}"
    );
    let wrong = token.replace(&token[30..34], "zzzz");
    assert_eq!(
        running.ask(&wrong, "GET", "/api/v1/statistics", None).0,
        401
    );
    let (_, stderr) = running.end();
    let secret = token.rsplit('_').next().expect("a secret");
    for hidden in [secret, &wrong, "Bearer", CANARY] {
        assert!(!stderr.contains(hidden), "{hidden} in {stderr}");
    }
}

#[test]
fn tokens_are_made_listed_and_revoked() {
    let desk = desk();
    let token = create(&desk, "viewer", "vera");
    assert!(token.starts_with("etl_") && token.len() == 81, "{token}");
    let arguments = [
        "admin",
        "token",
        "create",
        "--role",
        "operator",
        "--name",
        "otto",
        "--expires",
        "12h",
        "--pipelines",
        "orders-*",
    ];
    desk.etl(&arguments).ends_with(0);
    // A name stands for one.
    desk.etl(&arguments)
        .ends_with(1)
        .complains(&["\"otto\" is the name of token"]);
    let said = desk.etl(&["admin", "token", "list"]).ends_with(0);
    assert!(
        said.stdout.contains("orders-*; until 2")
            && said.stdout.contains("all pipelines; for ever"),
        "{}",
        said.stdout
    );
    let said = desk.etl(&["admin", "token", "revoke", "vera"]).ends_with(0);
    assert!(said.stderr.contains("is revoked"), "{}", said.stderr);
    desk.etl(&["admin", "token", "revoke", "nobody"])
        .ends_with(1)
        .complains(&["\"nobody\""]);
    let said = desk.etl(&["admin", "token", "list", "--json"]).ends_with(0);
    let list: Value = serde_json::from_str(&said.stdout).expect("JSON");
    assert_eq!(list[0]["state"], "revoked");
    assert_eq!(
        (&list[1]["role"], &list[1]["pipelines"]),
        (&json!("operator"), &json!(["orders-*"]))
    );
    assert!(!said.stdout.contains("argon2"), "{}", said.stdout);
    for (arguments, message) in [
        (
            &["--role", "root", "--name", "x"][..],
            "\"root\" is no role",
        ),
        (&["--role", "admin"], "--name"),
    ] {
        let arguments = [&["admin", "token", "create"], arguments].concat();
        desk.etl(&arguments).ends_with(2).complains(&[message]);
    }
    for (expires, message) in [
        ("soon", "as in 90d or 12h"),
        ("2020-01-31T00:00:00Z", "over already"),
        ("0s", "over already"),
    ] {
        let mut wrong = vec!["admin", "token", "create", "--role", "admin"];
        wrong.extend(["--name", "x", "--expires", expires]);
        desk.etl(&wrong).ends_with(1).complains(&[message]);
    }
    let said = desk.etl(&["admin", "token", "list"]).ends_with(0);
    assert_eq!(said.stdout.lines().count(), 2, "{}", said.stdout);
}

#[test]
fn it_says_that_nobody_can_use_it_and_what_is_not_safe() {
    let desk = desk();
    let running = Running::start(&desk, &[]);
    let (_, stderr) = running.end();
    assert!(stderr.contains("nobody can use it yet"), "{stderr}");
    let mut run = vec![
        "run",
        "etl.toml",
        "--from",
        "-",
        "--to",
        "-",
        "--admin",
        "0.0.0.0:0",
    ];
    let mut command = desk.command(&run);
    let refused = said(command.env("NAME", "n").output().expect("etl starts"));
    refused
        .ends_with(1)
        .complains(&["without TLS", "--admin-tls-cert"]);
    run.push("--admin-without-tls");
    let mut command = desk.command(&run);
    said(command.env("NAME", "n").output().expect("etl starts")).ends_with(0);
    run.truncate(6);
    run.push("--admin-without-tls");
    desk.etl(&run).ends_with(2).complains(&["--admin <ADDR>"]);
}

fn log(desk: &Desk) -> Vec<Value> {
    let text = desk.read("etl-admin/audit/audit.jsonl");
    text.lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect()
}

#[test]
fn killed_at_any_moment_the_log_says_what_was_answered() {
    let desk = desk();
    let token = create(&desk, "admin", "anna");
    let mut answered = 0;
    for round in 0..12_u64 {
        let running = Running::start(&desk, &[]);
        let address = running.address.clone();
        let (sender, receiver) = std::sync::mpsc::channel();
        let token = token.clone();
        let client = std::thread::spawn(move || {
            let mut made = 0_u64;
            for turn in 0.. {
                let to = ["disable", "enable"][turn % 2];
                let request = format!(
                    "POST /api/v1/pipelines/keeps/{to} HTTP/1.1\r\nhost: etl\r\nauthorization: Bearer {token}\r\nconnection: close\r\n\r\n"
                );
                let mut answer = String::new();
                let asked = TcpStream::connect(&address).and_then(|mut stream| {
                    stream.write_all(request.as_bytes())?;
                    stream.read_to_string(&mut answer)
                });
                if asked.is_err() || !answer.starts_with("HTTP/1.1 200") {
                    break;
                }
                made += 1;
                let _ = sender.send(());
            }
            made
        });
        // Some changes through, and then in the middle of another one: where, is another place each time.
        for _ in 0..3 {
            receiver.recv().expect("changes are made");
        }
        std::thread::sleep(Duration::from_micros(round * 2_300));
        running.kill();
        answered += client.join().expect("the client ends");
    }
    // The next start closes what was left open.
    let (_, stderr) = Running::start(&desk, &[]).end();
    assert!(!stderr.contains("broken"), "{stderr}");
    let said = desk.etl(&["audit", "verify"]).ends_with(0);
    assert!(said.stdout.contains("whole"), "{}", said.stdout);
    let lines = log(&desk);
    let count = |event: &str| lines.iter().filter(|line| line["event"] == event).count() as u64;
    assert_eq!(count("started"), 13);
    assert_eq!(count("begun"), count("done") + count("interrupted"));
    // What was answered was done; at most one in each round was done and not answered any more.
    assert!(
        (answered..=answered + 12).contains(&count("done")),
        "{answered} {}",
        count("done")
    );
    // And it was done in the order in which it is written.
    let mut generation = 0;
    for line in &lines {
        match line["event"].as_str() {
            Some("started") => generation = line["generation"].as_u64().expect("a number"),
            Some("done") => {
                assert_eq!(line["generation_before"], generation, "{line:#}");
                generation += 1;
                assert_eq!(line["generation_after"], generation);
            }
            _ => {}
        }
    }
}

#[test]
fn a_full_disk_refuses_changes_and_nothing_else() {
    let desk = desk();
    let token = create(&desk, "admin", "anna");
    // No file may grow beyond 4 KiB (8 blocks of 512 bytes), as if the disk ended there.
    let script = format!(
        "trap '' XFSZ; ulimit -f 8; exec {} run etl.toml --from - --to - --lanes 1 --admin 127.0.0.1:0",
        env!("CARGO_BIN_EXE_etl")
    );
    let mut command = desk.command(&[]);
    let folder = command.get_current_dir().expect("a folder").to_owned();
    command = Command::new("/bin/sh");
    command
        .args(["-c", &script])
        .current_dir(folder)
        .env_clear()
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let running = Running::spawn(command);
    // A module that has no room leaves nothing behind, half of it neither.
    let module = [b"\0asm".as_slice(), &[0; 8192]].concat();
    let put = "PUT /api/v1/modules/keep";
    let answer = ask(
        &running.address,
        &token,
        put,
        Some(("application/wasm", &module)),
    );
    assert!(answer.starts_with("HTTP/1.1 507"), "{answer}");
    let modules = fs::read_dir(desk.path("modules")).expect("a folder");
    assert_eq!(modules.count(), 1);
    let mut made = 0;
    let refused = loop {
        let to = ["disable", "enable"][made % 2];
        let (status, text) = running.ask(
            &token,
            "POST",
            &format!("/api/v1/pipelines/keeps/{to}"),
            None,
        );
        if status != 200 {
            break (status, text);
        }
        made += 1;
        assert!(made < 100, "the disk is never full");
    };
    assert_eq!(refused.0, 507, "{}", refused.1);
    let pipelines = running.json(&token, "GET", "/api/v1/pipelines", None);
    assert_eq!(pipelines["generation"], made as u64 + 1);
    assert!(made > 0);
    running.end();
    desk.etl(&["audit", "verify"]).ends_with(0);
    let lines = log(&desk);
    let done = lines.iter().filter(|line| line["event"] == "done").count();
    // The line after the last change may be the one that found no room.
    assert!(done == made || done + 1 == made, "{done} of {made}");
    // With room again it goes on, and says of the last one what it knows.
    Running::start(&desk, &[]).end();
    let said = desk.etl(&["audit", "verify", "--json"]).ends_with(0);
    let verified: Value = serde_json::from_str(&said.stdout).expect("JSON");
    let head = verified["head"].as_str().expect("a hash");
    desk.etl(&["audit", "verify", "--noted", head]).ends_with(0);
    let lines = log(&desk);
    let count = |event: &str| lines.iter().filter(|line| line["event"] == event).count();
    assert_eq!(
        count("begun"),
        count("done") + count("interrupted") + count("refused")
    );
    assert_eq!(count("refused"), 1);
    // Touched, it is found.
    let text = desk
        .read("etl-admin/audit/audit.jsonl")
        .replacen("anna", "otto", 1);
    desk.put("etl-admin/audit/audit.jsonl", text);
    desk.etl(&["audit", "verify"])
        .ends_with(1)
        .complains(&["audit.jsonl:2", "not what its hash says"]);
    desk.etl(&["audit", "verify", "--admin-dir", "nowhere"])
        .ends_with(1);
}
