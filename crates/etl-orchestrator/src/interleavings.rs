//! The queue, its lanes and the swap in many orders of their steps, by `shuttle`.
//!
//! Waits have no end here: a lane that nobody wakes sleeps for ever, and the test says that it has come to a standstill, where a real lane would
//! only be late. What comes out is held to the same promises as ever: each batch once, in order, on the configuration that it was given to.
//! `cargo xtask fuzz --only interleavings` runs this.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use etl_config::{LoadOptions, Loaded, load_text};
use shuttle::future::block_on;
use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::{Config as Shuttle, Runner, thread};

use crate::{Clock, Options, Orchestrator, Outcome, Record, Reply, TransformFor, View};

/// Two stages of different urgency; each module appends the version of its configuration.
fn configuration(version: u64, engine: &str) -> Loaded {
    let usage = format!(
        "{{ module_id = \"m\", instance_config = {{ custom_config = {{ version = {version} }} }} }}"
    );
    let text = format!(
        "[engine]\n{engine}\n[[pipelines]]\npipeline_id = \"p\"\n\
         stages = [{{ priority = 0, modules = [{usage}] }}, {{ priority = 5, modules = [{usage}] }}]\n"
    );
    load_text("etl.toml", &text, &LoadOptions::isolated()).expect("it loads")
}

fn start(engine: &str) -> Arc<Orchestrator> {
    let transforms = TransformFor::new(|usage| {
        let version = usage.instance.custom_config.shown()["version"].to_string();
        Arc::new(move |view: &View| {
            thread::yield_now();
            let mut value = view.value().to_vec();
            value.extend_from_slice(version.as_bytes());
            Reply::Value(Bytes::from(value))
        })
    });
    let options = Options {
        clock: Clock::manual(),
        seed: Some(1),
        transforms: Some(transforms),
        ..Options::default()
    };
    Orchestrator::start(configuration(1, engine), options).expect("good")
}

fn batch(partition: u32, first: u64) -> Vec<Arc<Record>> {
    (first..first + 2)
        .map(|offset| {
            Arc::new(Record {
                partition,
                offset,
                ..Record::new("t", "")
            })
        })
        .collect()
}

/// The version that handled a batch, which is one.
fn version(outcomes: &[Outcome], first: u64) -> u8 {
    let mut versions: Vec<u8> = Vec::new();
    for (place, outcome) in outcomes.iter().enumerate() {
        let output = &outcome.outputs[0];
        assert_eq!(output.original().offset, first + place as u64);
        let &[one, other] = &output.value()[..] else {
            panic!("handled by other than two modules: {:?}", output.value());
        };
        versions.extend([one, other]);
    }
    assert_eq!(outcomes.len(), 2);
    assert!(
        versions.windows(2).all(|pair| pair[0] == pair[1]),
        "two versions: {versions:?}"
    );
    versions[0]
}

/// Gives three batches of a partition, and takes their outcomes the other way round.
fn stream(orchestrator: &Arc<Orchestrator>, partition: u32) {
    let given: Vec<_> = (0..3)
        .map(|number| orchestrator.submit_batch(&batch(partition, number * 2)))
        .collect();
    let mut last = u8::MAX;
    for (number, outcomes) in given.into_iter().enumerate().rev() {
        let outcomes = block_on(outcomes.expect("open")).expect("running");
        let version = version(&outcomes, number as u64 * 2);
        assert!(
            version <= last,
            "an earlier batch met a later configuration"
        );
        last = version;
    }
}

fn check(scenario: impl Fn() + Send + Sync + 'static) {
    let times = std::env::var("ETL_INTERLEAVINGS").ok();
    let times = times.map_or(60, |times| times.parse().expect("a number"));
    let scenario = Arc::new(scenario);
    let again = scenario.clone();
    // Its own 60 KiB for a thread are too little for what a reload does, depending on how that is compiled.
    let config = || {
        let mut config = Shuttle::new();
        config.stack_size = 1 << 20;
        config
    };
    Runner::new(RandomScheduler::new(times), config()).run(move || scenario());
    // With few switches at the worst moments.
    Runner::new(PctScheduler::new(3, times), config()).run(move || again());
}

#[test]
fn batches_and_reloads_meet_in_any_order() {
    check(|| {
        let orchestrator = start("lanes = 2");
        let streams: Vec<_> = (0..2)
            .map(|partition| {
                let orchestrator = orchestrator.clone();
                thread::spawn(move || stream(&orchestrator, partition))
            })
            .collect();
        assert_eq!(
            orchestrator.reload(configuration(2, "lanes = 2")).ok(),
            Some(2)
        );
        for stream in streams {
            stream.join().expect("what was promised");
        }
        block_on(orchestrator.shutdown());
        assert_eq!(orchestrator.stats().queue, crate::QueueStats::default());
    });
}

#[test]
fn lanes_come_and_go_while_batches_flow() {
    check(|| {
        let orchestrator = start("lanes = 1");
        let streaming = {
            let orchestrator = orchestrator.clone();
            thread::spawn(move || stream(&orchestrator, 0))
        };
        assert_eq!(
            orchestrator.reload(configuration(2, "lanes = 3")).ok(),
            Some(2)
        );
        assert_eq!(
            orchestrator.reload(configuration(3, "lanes = 1")).ok(),
            Some(3)
        );
        streaming.join().expect("what was promised");
        block_on(orchestrator.shutdown());
    });
}

#[test]
fn what_waits_for_room_comes_in_and_what_was_given_up_does_not_stand_in_its_way() {
    check(|| {
        let orchestrator = start("lanes = 2\nmax_in_flight_records = 2");
        let streaming = {
            let orchestrator = orchestrator.clone();
            thread::spawn(move || stream(&orchestrator, 0))
        };
        for number in 0..3 {
            let mut given = pin!(orchestrator.process_batch(batch(1, number * 2)));
            let mut context = Context::from_waker(Waker::noop());
            if let Poll::Ready(outcomes) = given.as_mut().poll(&mut context) {
                version(&outcomes.expect("running"), number * 2);
            }
        }
        streaming.join().expect("what was promised");
        block_on(orchestrator.shutdown());
        assert_eq!(orchestrator.stats().queue, crate::QueueStats::default());
    });
}
