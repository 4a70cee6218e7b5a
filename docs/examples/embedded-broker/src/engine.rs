//! The engine on the produce path: what a broker writes to have it.
//!
//! A lane stays on its thread, so the interceptor is made where it is used. Whatever has gathered goes through in one batch: modules are called once
//! for all of it. What nothing selects comes back as it was.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use etl_broker_adapter::{Disposition, Interceptor};
use etl_config::{LoadOptions, Loaded, Report};
use etl_orchestrator::{Deferred, Options, Orchestrator, Record};
use tokio::sync::mpsc;

use crate::server::{Message, ProducePath, Subscribers};

/// Messages that go through together.
const BATCH: usize = 64;

/// Loads a configuration.
///
/// # Errors
///
/// Everything that is wrong with it.
pub fn load(path: &str) -> Result<Loaded, Report> {
    etl_config::load(path, &LoadOptions::default())
}

/// The produce path with the engine in it.
///
/// # Errors
///
/// The configuration cannot be used.
pub fn intercepted(loaded: Loaded) -> Result<ProducePath, Report> {
    let mut options = Options::default();
    options.lanes = Some(1);
    let engine = Orchestrator::start(loaded, options)?;
    Ok(Box::new(move |published, subscribers| {
        let interceptor = Interceptor::new(engine.lane());
        run(interceptor, published, &subscribers);
    }))
}

fn run(
    mut interceptor: Interceptor,
    mut published: mpsc::Receiver<Message>,
    subscribers: &Subscribers,
) {
    let mut messages = Vec::with_capacity(BATCH);
    while published.blocking_recv_many(&mut messages, BATCH) > 0 {
        let records: Vec<Arc<Record>> = messages
            .drain(..)
            .map(|Message { topic, value }| Arc::new(Record::new(topic, value)))
            .collect();
        let dispositions: VecDeque<Disposition> = interceptor.on_batch(&records).collect();
        for mut disposition in dispositions {
            // A retry keeps its place, and so does what finds a module busy: what comes after it waits, here on the only thread that there
            // is, and publishers with it.
            while let Disposition::Deferred(deferred) | Disposition::Busy(deferred) = disposition {
                wait_for(&deferred);
                disposition = interceptor.resume(deferred);
            }
            deliver(disposition, subscribers);
        }
    }
}

fn wait_for(deferred: &Deferred) {
    std::thread::sleep(
        deferred
            .resume_at()
            .saturating_duration_since(Instant::now()),
    );
}

fn deliver(disposition: Disposition, subscribers: &Subscribers) {
    let Disposition::Settled {
        forward,
        dead_letters,
    } = disposition
    else {
        return;
    };
    for view in &forward {
        let (topic, value) = (view.topic().clone(), view.value().clone());
        subscribers.deliver(&Message { topic, value });
    }
    for letter in dead_letters {
        let (topic, value) = (letter.record.topic.clone(), letter.record.value.clone());
        subscribers.deliver(&Message { topic, value });
    }
}
