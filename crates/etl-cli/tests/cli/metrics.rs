//! `etl run --metrics`: every metric that is promised, over HTTP, while records flow; health and readiness.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, Read, Write};
use std::net::TcpStream;

use etl_orchestrator::{METRICS, MetricKind};

use crate::serving::Running;
use crate::support::{Desk, KEEP, said};

const TRAP: &str = r#"(module (memory (export "memory") 16)
    (func (export "transform") (param i32 i32) (result i32) unreachable))"#;

const CONFIGURATION: &str = r#"
[[modules]]
id = "keep"
canary = { path = "modules/next.wasm", mode = "shadow", percent = 1 }

[[pipelines]]
pipeline_id = "keeps"
[[pipelines.stages]]
priority = 0
[[pipelines.stages.modules]]
module_id = "keep"
topic_filters = [{ filter_type = "Prefix", pattern = "a." }]
conditional_rules = [{ condition_type = "PayloadField", field_path = "$.n", operator = "GreaterThan", value = 0 }]
instance_config = { enable_caching = true }
circuit_breaker = {}

[[pipelines]]
pipeline_id = "dead"
error_handling = "SendToDeadLetter"
stages = [{ priority = 7, modules = [{ module_id = "trap", topic_filters = [{ filter_type = "Exact", pattern = "a.bad" }] }] }]
"#;

fn start(desk: &Desk) -> Running {
    let mut run = vec![
        "run", "etl.toml", "--from", "-", "--to", "-", "--lanes", "1",
    ];
    run.extend(["--metrics", "127.0.0.1:0"]);
    Running::with_metrics(desk.command(&run))
}

fn get(running: &Running, path: &str) -> (u16, String) {
    running.ask("", "GET", path, None)
}

/// Every series of a scrape: name and labels, and its value.
fn series(text: &str) -> BTreeMap<String, f64> {
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let (series, value) = line.rsplit_once(' ').expect("a value");
            (series.to_owned(), value.parse().expect("a number"))
        })
        .collect()
}

fn labels(series: &str) -> BTreeSet<&str> {
    let inside = series.split_once('{').map_or("", |(_, rest)| rest);
    inside
        .trim_end_matches('}')
        .split(',')
        .filter_map(|label| label.split_once('=').map(|(name, _)| name))
        .filter(|name| *name != "le")
        .collect()
}

#[test]
fn every_metric_of_the_list_is_there_with_its_labels() {
    let desk = Desk::new();
    // It counts its calls, under a name that wants to be more than one.
    let counting = KEEP
        .replace(
            "(module",
            r#"(module (import "etl" "counter" (func $count (param i32 i32 i64))) (data (i32.const 0) "a\22} 1\n")"#,
        )
        .replace(
            "(i64.const 0)",
            "(call $count (i32.const 0) (i32.const 6) (i64.const 2)) (i64.const 0)",
        );
    desk.module("keep", &counting)
        .module("trap", TRAP)
        .module("next", &KEEP.replace("1024", "2048"))
        .put("etl.toml", CONFIGURATION);
    let mut running = start(&desk);
    for _ in 0..3 {
        running.send(r#"{"topic":"a.good","value":{"n":1}}"#);
    }
    running.send(r#"{"topic":"a.good","value":{"n":"text"}}"#);
    running.send(r#"{"topic":"a.bad","value":{"n":1}}"#);
    let (status, text) = get(&running, "/metrics");
    assert_eq!(status, 200);
    let found = series(&text);
    for metric in METRICS {
        let first = match metric.kind {
            MetricKind::Histogram => format!("{}_bucket{{", metric.name),
            _ if metric.labels.is_empty() => metric.name.to_owned(),
            _ => format!("{}{{", metric.name),
        };
        let of_this: Vec<&String> = found
            .keys()
            .filter(|series| series.starts_with(&first))
            .collect();
        assert!(!of_this.is_empty(), "no {} in\n{text}", metric.name);
        for series in of_this {
            assert_eq!(
                labels(series),
                metric.labels.iter().copied().collect(),
                "{series}"
            );
        }
        assert!(text.contains(&format!("# HELP {} {}\n", metric.name, metric.help)));
    }
    for series in found.keys() {
        let name = series.split('{').next().expect("a name");
        let known = METRICS.iter().any(|metric| {
            name == metric.name
                || (metric.kind == MetricKind::Histogram
                    && name
                        .strip_prefix(metric.name)
                        .is_some_and(|ending| matches!(ending, "_bucket" | "_sum" | "_count")))
        });
        assert!(known, "{name} is not in the list");
    }
    for (series, value) in [
        (
            r#"etl_pipeline_records_total{pipeline="keeps",outcome="forwarded"}"#,
            4.0,
        ),
        (
            r#"etl_pipeline_records_total{pipeline="dead",outcome="dead_lettered"}"#,
            1.0,
        ),
        (
            r#"etl_pipeline_duration_seconds_count{pipeline="keeps"}"#,
            4.0,
        ),
        (
            r#"etl_stage_duration_seconds_count{pipeline="keeps",priority="0"}"#,
            4.0,
        ),
        (
            r#"etl_dead_letters_total{pipeline="dead",module="trap",kind="Trap"}"#,
            1.0,
        ),
        (
            r#"etl_module_calls_total{module="keep",outcome="kept"}"#,
            3.0,
        ),
        (r#"etl_module_errors_total{module="trap",kind="Trap"}"#, 1.0),
        (
            r#"etl_canary_records_total{module="keep",version="stable",outcome="ok"}"#,
            3.0,
        ),
        // The same record again is answered from the cache, and not counted.
        (
            r#"etl_module_counter{module="keep",counter="a\"} 1\n"}"#,
            2.0,
        ),
        (r#"etl_circuit_state{module="keep"}"#, 0.0),
        ("etl_config_generation", 1.0),
        (r#"etl_reloads_total{result="applied"}"#, 0.0),
    ] {
        assert_eq!(found.get(series), Some(&value), "{series} in\n{text}");
    }
    assert!(found[r#"etl_module_cache_total{module="keep",result="hit"}"#] >= 2.0);
    assert!(found[r#"etl_pool_instances{module="keep",state="alive"}"#] >= 1.0);
    assert!(found[r#"etl_instance_memory_bytes{module="keep"}"#] >= 4_194_304.0);
    assert!(found["etl_instances_created_total"] >= 2.0);
    assert!(found["process_resident_memory_bytes"] > 1e6);

    // A scrape changes nothing but what has happened since.
    running.send(r#"{"topic":"a.good","value":{"n":1}}"#);
    let again = series(&get(&running, "/metrics").1);
    let count = r#"etl_pipeline_duration_seconds_count{pipeline="keeps"}"#;
    assert_eq!(again[count], 5.0);

    assert_eq!(get(&running, "/healthz"), (200, "ok\n".to_owned()));
    let (status, body) = get(&running, "/readyz");
    let ready: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!((status, &ready["ready"]), (200, &true.into()));
    assert_eq!(ready["state"], "degraded");
    assert_eq!(ready["reasons"][0]["alert"], "EtlPipelineFailing");
    assert_eq!(ready["reasons"][0]["pipeline"], "dead");
    assert_eq!(get(&running, "/else").0, 404);
    assert_eq!(running.ask("", "POST", "/metrics", None).0, 405);
    // A query does not change the path.
    assert_eq!(get(&running, "/healthz?verbose=1").0, 200);

    drop(running.stdin);
    let mut rest = String::new();
    running.stderr.read_to_string(&mut rest).expect("text");
    assert!(
        rest.contains("degraded: pipeline dead: all 1 records failed\n"),
        "{rest}"
    );
    assert!(running.child.wait().expect("ends").success());
}

#[test]
fn a_pipeline_that_is_gone_has_no_metrics_any_more() {
    let desk = Desk::new();
    desk.module("keep", KEEP)
        .module("trap", TRAP)
        .module("next", &KEEP.replace("1024", "2048"))
        .put("etl.toml", CONFIGURATION);
    let mut running = start(&desk);
    running.send(r#"{"topic":"a.bad","value":1}"#);
    assert!(get(&running, "/metrics").1.contains("pipeline=\"dead\""));
    let (kept, _) = CONFIGURATION
        .split_once("[[pipelines]]\npipeline_id = \"dead\"")
        .expect("two pipelines");
    desk.put("etl.toml", kept);
    let hang_up = std::process::Command::new("kill")
        .args(["-s", "HUP", &running.child.id().to_string()])
        .status();
    assert!(hang_up.expect("kill is there").success());
    let mut line = String::new();
    running.stderr.read_line(&mut line).expect("a line");
    assert!(line.contains("generation 2"), "{line}");
    let text = get(&running, "/metrics").1;
    assert!(
        !text.contains("dead\"") && !text.contains("module=\"trap\""),
        "{text}"
    );
    assert!(text.contains("etl_reloads_total{result=\"applied\"} 1\n"));
    drop(running.stdin);
    assert!(running.child.wait().expect("ends").success());
}

#[test]
fn whoever_holds_connections_keeps_nobody_out() {
    let desk = Desk::new();
    desk.module("keep", KEEP)
        .module("trap", TRAP)
        .module("next", &KEEP.replace("1024", "2048"))
        .put("etl.toml", CONFIGURATION);
    let mut running = start(&desk);
    // As many as there may be and some more; none of them asks for anything.
    let held: Vec<TcpStream> = (0..80)
        .map(|_| TcpStream::connect(&running.address).expect("connects"))
        .collect();
    let mut stream = TcpStream::connect(&running.address).expect("connects");
    // Half of the time after which a connection that says nothing is cut off anyway.
    stream
        .set_read_timeout(Some(std::time::Duration::from_secs(5)))
        .expect("a timeout");
    write!(stream, "GET /healthz HTTP/1.1\r\n\r\n").expect("writes");
    let mut answer = String::new();
    stream
        .read_to_string(&mut answer)
        .expect("an answer in time");
    assert!(answer.ends_with("\r\n\r\nok\n"), "{answer}");
    drop(held);
    drop(running.stdin);
    assert!(running.child.wait().expect("ends").success());
}

#[test]
fn an_address_in_use_is_said() {
    let desk = Desk::new();
    desk.module("keep", KEEP)
        .module("trap", TRAP)
        .module("next", &KEEP.replace("1024", "2048"))
        .put("etl.toml", CONFIGURATION)
        .put("in", "");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("free");
    let address = taken.local_addr().expect("an address").to_string();
    let run = [
        "run",
        "etl.toml",
        "--from",
        "file:in",
        "--to",
        "file:out",
        "--metrics",
        &address,
    ];
    let said = said(desk.command(&run).output().expect("etl starts"));
    said.ends_with(1).complains(&[
        &format!("etl: cannot serve metrics at {address}: "),
        "in use",
    ]);
    assert!(!desk.path("out").exists(), "an output was emptied");
    desk.etl(&[
        "run",
        "etl.toml",
        "--from",
        "-",
        "--to",
        "-",
        "--metrics",
        "9464",
    ])
    .ends_with(2);
}
