//! The subject of most scenarios: a lane of the engine on this thread, with a configuration from text.

use std::hint::black_box;
use std::sync::Arc;

use etl_config::{LoadOptions, load_text};
use etl_orchestrator::{Lane, Options, Orchestrator, Record};

use crate::{floor, workload};

/// An engine and one lane of it.
pub struct Engine {
    lane: Lane,
    _orchestrator: Arc<Orchestrator>,
}

impl Engine {
    /// Starts it, with the modules that `cargo xtask guests` built.
    pub fn start(configuration: &str) -> Result<Self, String> {
        let options = LoadOptions::isolated().modules_dir(floor::modules_dir());
        let loaded = load_text("scenario.toml", configuration, &options)
            .map_err(|report| report.to_string())?;
        let orchestrator =
            Orchestrator::start(loaded, Options::default()).map_err(|report| report.to_string())?;
        Ok(Self {
            lane: orchestrator.lane(),
            _orchestrator: orchestrator,
        })
    }

    /// One record, from arrival to outcome.
    pub fn process(&mut self, record: &Arc<Record>) {
        black_box(self.lane.process(black_box(record)));
    }

    /// A batch, from arrival to outcomes.
    pub fn process_batch(&mut self, records: &[Arc<Record>]) {
        black_box(self.lane.process_batch(black_box(records)));
    }

    /// Whether the work is done at all: each record must come out once, without one byte for each stage.
    pub fn copies(&mut self, stages: usize) -> Result<(), String> {
        let records = workload::records(workload::BATCH);
        for (record, progress) in records.iter().zip(self.lane.process_batch(&records)) {
            let outcome = progress.done().ok_or("a record waits for a retry")?;
            match &outcome.outputs[..] {
                [output] if *output.value() == record.value[..record.value.len() - stages] => {}
                _ => return Err(format!("not every stage copied the record: {outcome:?}")),
            }
        }
        Ok(())
    }
}
