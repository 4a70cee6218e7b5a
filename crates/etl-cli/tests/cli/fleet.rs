//! A fleet from end to end: three workers, a server of the test's own, and pushes good and bad.

use std::process::Child;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::admin::create;
use super::nats_server::NatsServer;
use super::serving::Running;
use super::support::{Desk, KEEP};

/// Another module that does the same: other bytes.
const KEEP_TOO: &str = r#"(module
  (memory (export "memory") 65)
  (func (export "etl_alloc_v1") (param i32) (result i32) (i32.const 2048))
  (func (export "etl_process_v1") (param i32 i32) (result i64) (i64.const 0)))"#;

/// A worker; it is killed with this.
struct Worker(Child);

impl Worker {
    fn start(desk: &Desk, server: &NatsServer, team: Option<&str>) -> Self {
        let (fleet, from, to) = urls(server);
        let mut command = desk.command(&[
            "run", &fleet, "--from", &from, "--to", &to, "--create", "--quiet",
        ]);
        command.envs(team.map(|team| ("TEAM", team)));
        Self(command.spawn().expect("etl starts"))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn urls(server: &NatsServer) -> (String, String, String) {
    (
        server.url("crew"),
        server.url("IN?subject=orders.>"),
        server.url("OUT?prefix=out"),
    )
}

fn configuration(pipeline: &str) -> String {
    format!(
        "[[pipelines]]\npipeline_id = \"{pipeline}\"\n[[pipelines.stages]]\npriority = 0\nmodules = [{{ module_id = \"keep\" }}]\n"
    )
}

/// What `etl fleet --wait` says, and its exit code.
fn fleet(desk: &Desk, server: &NatsServer) -> (Option<i32>, Value) {
    let said = desk.etl(&["fleet", "--of", &urls(server).0, "--wait", "--json"]);
    let value =
        serde_json::from_str(&said.stdout).unwrap_or_else(|error| panic!("{error}: {said:#?}"));
    (said.code, value)
}

/// Waits until so many workers are there and all have the last revision.
fn complete(desk: &Desk, server: &NatsServer, count: usize) -> Value {
    let until = Instant::now() + Duration::from_secs(120);
    loop {
        let (code, value) = fleet(desk, server);
        let workers = value["workers"].as_array().map_or(0, Vec::len);
        if code == Some(0) && workers == count {
            return value;
        }
        assert!(Instant::now() < until, "{value:#}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn a_worker_can_be_changed_through_its_api_until_the_next_revision() {
    let Some(server) = NatsServer::start("the API of a fleet's worker") else {
        return;
    };
    let desk = Desk::new();
    let (of, ..) = urls(&server);
    // On the worker's disk, where the configuration says, is another module of this name: it is not the fleet's.
    let elsewhere = desk.path("elsewhere");
    let pushed = format!("modules_dir = {elsewhere:?}\n{}", configuration("first"));
    let wasm = wat::parse_str(KEEP).expect("a module");
    desk.put("etl.toml", pushed)
        .module("keep", KEEP)
        .put("elsewhere/keep.wasm", wasm);
    desk.etl(&["push", "etl.toml", "--to", &of, "--create"])
        .ends_with(0);
    desk.put("elsewhere/keep.wasm", "no module");
    let token = create(&desk, "admin", "anna");
    let arguments = ["run", &of, "--from", "-", "--to", "-"];
    let arguments = [&arguments[..], &["--admin", "127.0.0.1:0"]].concat();
    let running = Running::spawn(desk.command(&arguments));
    let sha256 = |module: &str| {
        let module = running.json(&token, "GET", &format!("/api/v1/modules/{module}"), None);
        module["module"]["sha256"].clone()
    };
    let before = sha256("keep");
    for to in ["disable", "enable"] {
        let target = format!("/api/v1/pipelines/first/{to}");
        running.json(&token, "POST", &target, None);
    }
    assert_eq!(sha256("keep"), before);
    let (status, text) = running.ask(&token, "POST", "/api/v1/reload", None);
    assert_eq!(status, 422, "{text}");
    assert!(
        text.contains("comes from the fleet") && text.contains("etl push"),
        "{text}"
    );
    desk.put("etl.toml", configuration("second"));
    desk.etl(&["push", "etl.toml", "--to", &of]).ends_with(0);
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let pipelines = running.json(&token, "GET", "/api/v1/pipelines", None);
        if pipelines["pipelines"][0]["id"] == "second" {
            break;
        }
        assert!(Instant::now() < until, "{pipelines:#}");
        std::thread::sleep(Duration::from_millis(50));
    }
    running.end();
}

#[test]
fn a_push_reaches_every_worker_or_says_who_refused_it() {
    let Some(server) = NatsServer::start("fleets from end to end") else {
        return;
    };
    let desk = Desk::new();
    let (of, from, to) = urls(&server);
    desk.put("etl.toml", configuration("first"))
        .module("keep", KEEP);

    // No fleet yet, and then one.
    desk.etl(&["push", "etl.toml", "--to", &of])
        .ends_with(1)
        .complains(&["there is no fleet `crew`", "--create"]);
    let pushed = desk
        .etl(&["push", "etl.toml", "--to", &of, "--create"])
        .ends_with(0);
    assert_eq!(pushed.stdout, "revision 1: 1 module, 1 uploaded\n");
    let again = desk.etl(&["push", "etl.toml", "--to", &of]).ends_with(0);
    assert_eq!(
        again.stdout,
        "revision 1: it is there already, nothing has changed\n"
    );
    desk.etl(&["fleet", "--of", &of])
        .ends_with(1)
        .complains(&["no worker has said anything lately"]);

    let workers =
        [None, Some("reds"), Some("no/team")].map(|team| Worker::start(&desk, &server, team));
    let value = complete(&desk, &server, 3);
    assert_eq!(value["revision"], 1);
    for worker in value["workers"].as_array().expect("a list") {
        assert_eq!(
            (&worker["generation"], &worker["health"]),
            (&1.into(), &"ok".into())
        );
    }

    // Records flow.
    let records: String = (0..20)
        .map(|n| format!("{{\"topic\":\"orders.new\",\"value\":{n}}}\n"))
        .collect();
    desk.etl_with_input(&["send", "--to", &from], records.as_bytes())
        .ends_with(0);
    let tailed = desk
        .etl(&["tail", &to, "--follow", "--count", "20"])
        .ends_with(0);
    assert_eq!(tailed.stdout.lines().count(), 20);
    assert!(
        tailed
            .stdout
            .lines()
            .all(|line| line.contains("\"topic\":\"orders.new\"")),
        "{}",
        tailed.stdout
    );
    let topics = desk.etl(&["topics", &to]).ends_with(0);
    assert!(topics.stdout.contains("orders.new"), "{}", topics.stdout);

    // A good one.
    desk.put("etl.toml", configuration("second"));
    desk.etl(&["push", "etl.toml", "--to", &of]).ends_with(0);
    let value = complete(&desk, &server, 3);
    assert_eq!(
        (&value["revision"], &value["workers"][0]["generation"]),
        (&2.into(), &2.into())
    );

    // One that cannot be used anywhere is not pushed.
    desk.put(
        "etl.toml",
        configuration("second").replace("keep", "absent"),
    );
    desk.etl(&["push", "etl.toml", "--to", &of])
        .ends_with(78)
        .complains(&["absent"]);
    assert_eq!(complete(&desk, &server, 3)["revision"], 2);

    // A module alone.
    desk.put("etl.toml", configuration("second"))
        .module("keep", KEEP_TOO);
    let pushed = desk.etl(&["push", "etl.toml", "--to", &of]).ends_with(0);
    assert_eq!(pushed.stdout, "revision 3: 1 module, 1 uploaded\n");
    assert_eq!(complete(&desk, &server, 3)["workers"][2]["generation"], 3);

    // One that a single worker cannot use: it says so, and goes on with what it has.
    desk.put("etl.toml", configuration("${TEAM:everyone}"));
    desk.etl(&["push", "etl.toml", "--to", &of]).ends_with(0);
    let (code, value) = fleet(&desk, &server);
    assert_eq!(
        (code, &value["state"]),
        (Some(1), &"refused".into()),
        "{value:#}"
    );
    let list = value["workers"].as_array().expect("a list");
    let refusing: Vec<&Value> = list
        .iter()
        .filter(|worker| !worker["refused"].is_null())
        .collect();
    assert_eq!(refusing.len(), 1, "{value:#}");
    assert_eq!(refusing[0]["pid"], workers[2].0.id());
    assert_eq!(
        (
            &refusing[0]["revision"],
            &refusing[0]["refused"]["revision"]
        ),
        (&3.into(), &4.into())
    );
    let reason = refusing[0]["refused"]["reason"].as_str().expect("a reason");
    assert!(reason.contains("an id cannot contain '/'"), "{reason}");
    desk.etl(&["fleet", "--of", &of])
        .ends_with(1)
        .complains(&["refused revision 4 and goes on with revision 3"]);

    // The next one that all can use heals it.
    desk.put("etl.toml", configuration("fourth"));
    desk.etl(&["push", "etl.toml", "--to", &of]).ends_with(0);
    assert_eq!(complete(&desk, &server, 3)["revision"], 5);
}
