//! Workers on NATS from end to end, as processes that are killed: with a server of the test's own, which is killed and paused too.

use std::collections::BTreeMap;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::nats_server::NatsServer;
use super::support::{Desk, KEEP};

/// Never comes back.
const SPIN: &str = r#"(module
  (memory (export "memory") 64)
  (func (export "etl_alloc_v1") (param i32) (result i32) (i32.const 1024))
  (func (export "etl_process_v1") (param i32 i32) (result i64) (loop $l (br $l)) (i64.const 0)))"#;

const PATIENCE: Duration = Duration::from_secs(120);

/// A worker; it is killed with this.
struct Worker(Child);

impl Worker {
    fn start(desk: &Desk, from: &str, to: &str, more: &[&str]) -> Self {
        let arguments = [
            "run", "etl.toml", "--from", from, "--to", to, "--create", "--quiet",
        ];
        let mut command = desk.command(&[&arguments, more].concat());
        let command = command.stdout(Stdio::null()).stderr(Stdio::null());
        Self(command.spawn().expect("etl starts"))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn desk(module: &str, text: &str, topic: &str) -> Desk {
    let desk = Desk::new();
    configure(&desk, module, text, topic);
    desk
}

fn configure(desk: &Desk, module: &str, text: &str, topic: &str) {
    let configuration = format!(
        r#"
[[pipelines]]
pipeline_id = "p"
global_timeout_ms = 600000
[[pipelines.stages]]
priority = 0
[[pipelines.stages.modules]]
module_id = "{module}"
instance_config = {{ execution_timeout_ms = 600000 }}
topic_filters = [{{ filter_type = "Prefix", pattern = "{topic}" }}]
"#
    );
    desk.module(module, text).put("etl.toml", configuration);
}

/// What is in a stream; nothing where it is not there yet.
fn contents(desk: &Desk, of: &str) -> Vec<Value> {
    let tailed = desk.etl(&["tail", of]);
    let lines = tailed.stdout.lines();
    let parsed = lines.map(|line| serde_json::from_str(line).expect("a record"));
    parsed.collect()
}

#[test]
fn workers_and_the_server_are_killed_and_every_record_comes_once() {
    const COUNT: u64 = 6_000;
    let Some(mut server) = NatsServer::start("killed workers on NATS") else {
        return;
    };
    let desk = desk("keep", KEEP, "orders");
    let from = server.url("IN?subject=orders.>&ack-wait=1s&prefetch=500");
    let to = server.url("OUT?prefix=out");
    let records: String = (0..COUNT)
        .map(|n| format!("{{\"topic\":\"orders.{}\",\"value\":{n}}}\n", n % 4))
        .collect();
    desk.etl_with_input(&["send", "--to", &from, "--create"], records.as_bytes())
        .ends_with(0);
    // Small, and the same every time.
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    for round in 0..6 {
        let worker = Worker::start(&desk, &from, &to, &["--in-flight", "200"]);
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        std::thread::sleep(Duration::from_millis(150 + (random >> 33) % 500));
        match round {
            1 => server.restart(),
            3 => {
                server.pause();
                std::thread::sleep(Duration::from_secs(2));
                server.resume();
            }
            4 => {
                drop(worker);
                server.restart();
            }
            _ => {}
        }
    }
    let _worker = Worker::start(&desk, &from, &to, &[]);
    let until = Instant::now() + PATIENCE;
    let mut seen: BTreeMap<u64, u32> = BTreeMap::new();
    while (seen.len() as u64) < COUNT {
        assert!(
            Instant::now() < until,
            "only {} of {COUNT} came",
            seen.len()
        );
        seen.clear();
        for record in contents(&desk, &to) {
            let number = record["value"].as_u64().expect("a number");
            assert_eq!(record["topic"], format!("orders.{}", number % 4));
            *seen.entry(number).or_default() += 1;
        }
    }
    assert_eq!(seen.into_iter().find(|(_, times)| *times != 1), None);
}

#[test]
fn a_record_that_kills_its_workers_is_parked_and_comes_back_when_it_is_redriven() {
    let Some(server) = NatsServer::start("a record that kills workers on NATS") else {
        return;
    };
    let desk = desk("spin", SPIN, "orders.poison");
    let from = server.url("IN?subject=orders.>&ack-wait=1s");
    let to = server.url("OUT?prefix=out");
    let records =
        "{\"topic\":\"orders.poison\",\"value\":1}\n{\"topic\":\"orders.good\",\"value\":2}\n";
    desk.etl_with_input(&["send", "--to", &from, "--create"], records.as_bytes())
        .ends_with(0);
    let until = Instant::now() + PATIENCE;
    let parked = loop {
        assert!(Instant::now() < until, "it is never parked");
        let worker = Worker::start(&desk, &from, &to, &["--max-deliveries", "2"]);
        // Whatever it is that a user sees of it: the worker hangs in this record, and somebody kills it.
        std::thread::sleep(Duration::from_millis(2_500));
        drop(worker);
        let records = contents(&desk, &to);
        if let Some(letter) = records
            .iter()
            .find(|record| record["topic"] == "orders.poison.dlq")
        {
            break letter.clone();
        }
    };
    assert_eq!(parked["value"], 1);
    assert_eq!(
        parked["headers"]["etl-dlq-topic"], "orders.poison",
        "{parked}"
    );
    let records = contents(&desk, &to);
    let good = records
        .iter()
        .filter(|record| record["topic"] == "orders.good");
    assert_eq!(good.count(), 1, "its neighbour went by: {records:?}");

    let redrive = [
        "redrive",
        "--from",
        &to,
        "--topic",
        "orders.poison.dlq",
        "--to",
        &from,
        "--json",
    ];
    let redriven = desk.etl(&redrive).ends_with(0);
    let line = redriven.stdout.lines().last().expect("a summary");
    let summary: Value = serde_json::from_str(line).expect("JSON");
    assert_eq!(summary["redriven"], 1, "{summary}");
    configure(&desk, "keep", KEEP, "orders.poison");
    let _worker = Worker::start(&desk, &from, &to, &["--max-deliveries", "2"]);
    let until = Instant::now() + PATIENCE;
    loop {
        assert!(Instant::now() < until, "it does not come back");
        let records = contents(&desk, &to);
        if let Some(back) = records
            .iter()
            .find(|record| record["topic"] == "orders.poison")
        {
            assert_eq!(back["value"], 1);
            assert_eq!(back["headers"]["etl-redrive-attempts"], "1");
            break;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

#[test]
fn a_run_that_would_read_what_it_writes_does_not_begin() {
    let Some(server) = NatsServer::start("a run that reads what it writes on NATS") else {
        return;
    };
    let desk = desk("keep", KEEP, "orders");
    let from = server.url("IN?subject=orders.>");
    desk.etl_with_input(&["send", "--to", &from, "--create"], b"")
        .ends_with(0);
    let run = |from: &str, to: &str| desk.etl(&["run", "etl.toml", "--from", from, "--to", to]);
    run(&from, &from)
        .ends_with(1)
        .complains(&["would come in again", "?prefix="]);
    // Its own letters come back where records need not.
    run(&server.url("IN?consumer=new&subject=orders.new.>"), &from)
        .ends_with(1)
        .complains(&["`orders.new.x.dlq`", "--dead-letters"]);
}
