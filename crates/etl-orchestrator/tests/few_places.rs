//! Fewer places in the pool than lanes would like: an idle instance on a lane that sleeps is in nobody's way.

use std::path::Path;
use std::sync::Arc;

use etl_config::{LoadOptions, Loaded, load};
use etl_orchestrator::{Options, Orchestrator, Outcome, Record};

/// A legacy module that answers with this byte.
fn always(byte: char) -> Vec<u8> {
    let text = format!(
        r#"(module (memory (export "memory") 1) (data (i32.const 60000) "\01\00\00\00{byte}")
             (func (export "transform") (param i32 i32) (result i32) (i32.const 60000)))"#
    );
    wat::parse_str(text).expect("WAT")
}

fn put(folder: &Path, text: &str, byte: char) -> Loaded {
    let modules = folder.join("modules");
    std::fs::create_dir_all(&modules).expect("a folder");
    std::fs::write(modules.join("m.wasm"), always(byte)).expect("written");
    let file = folder.join("etl.toml");
    std::fs::write(&file, text).expect("written");
    load(&file, &LoadOptions::isolated())
        .unwrap_or_else(|report| panic!("{}", report.render(false)))
}

fn start(loaded: Loaded) -> Arc<Orchestrator> {
    let mut options = Options::default();
    options.lanes = Some(2);
    Orchestrator::start(loaded, options).unwrap_or_else(|report| panic!("{}", report.render(false)))
}

fn record(partition: u32) -> Arc<Record> {
    Arc::new(Record {
        partition,
        ..Record::new("t", "x")
    })
}

fn value(outcome: &Outcome) -> String {
    assert_eq!(
        (outcome.stopped, outcome.outputs.len()),
        (0, 1),
        "{outcome:?}"
    );
    String::from_utf8_lossy(outcome.outputs[0].value()).into_owned()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
}

/// One place, by the limit of the module and by that of the pool. The time of a call is long, so that only a place that never comes
/// fails it.
const LIMITS: [&str; 2] = [
    "[[pipelines]]\npipeline_id = \"p\"\nstages = [{ priority = 0, modules = [{ module_id = \"m\", instance_config = { execution_timeout_ms = 20000, max_concurrent_instances = 1 } }] }]\n",
    "[instance_pool]\nmax_pool_size = 1\n[[pipelines]]\npipeline_id = \"p\"\nstages = [{ priority = 0, modules = [{ module_id = \"m\", instance_config = { execution_timeout_ms = 20000 } }] }]\n",
];

#[test]
fn a_lane_that_sleeps_gives_up_the_instance_that_another_one_waits_for() {
    for text in LIMITS {
        let folder = tempfile::tempdir().expect("a folder");
        let orchestrator = start(put(folder.path(), text, '1'));
        let runtime = runtime();
        let mut lane = orchestrator.lane();
        for round in 0..20 {
            // One of the orchestrator's own lanes takes the only place, and then sleeps with it.
            let outcome = runtime.block_on(orchestrator.process(record(round)));
            assert_eq!(value(&outcome.expect("running")), "1");
            // Which a lane of another thread gets all the same.
            assert_eq!(value(&lane.process(&record(0)).done().expect("done")), "1");
            assert_eq!(orchestrator.stats().instances, 1);
            // A thread that may sleep says so.
            let other = {
                let orchestrator = orchestrator.clone();
                std::thread::spawn(move || {
                    let runtime = self::runtime();
                    runtime.block_on(orchestrator.process(record(1)))
                })
            };
            while !other.is_finished() {
                lane.tend();
                std::thread::yield_now();
            }
            let outcome = other.join().expect("no panic").expect("running");
            assert_eq!(value(&outcome), "1");
        }
        assert_eq!(orchestrator.stats().counts.modules["m"].failed, 0);
    }
}

#[test]
fn a_reload_finds_a_place_to_try_what_it_loads() {
    for text in LIMITS {
        let folder = tempfile::tempdir().expect("a folder");
        let orchestrator = start(put(folder.path(), text, '1'));
        let runtime = runtime();
        let process = || {
            let outcome = runtime.block_on(orchestrator.process(record(0)));
            value(&outcome.expect("running"))
        };
        assert_eq!(process(), "1");
        let generation = orchestrator.reload(put(folder.path(), text, '1'));
        assert_eq!(generation.map_err(|report| report.to_string()), Ok(2));
        assert_eq!(process(), "1");
        let generation = orchestrator.reload(put(folder.path(), text, '2'));
        assert_eq!(generation.map_err(|report| report.to_string()), Ok(3));
        assert_eq!(process(), "2");
    }
}
