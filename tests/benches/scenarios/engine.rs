//! The subject of most scenarios: a lane of the engine on this thread, with a configuration from text.

use std::hint::black_box;
use std::sync::Arc;

use etl_config::{LoadOptions, load_text};
use etl_orchestrator::{Lane, Options, Orchestrator, Outcome, Progress, Record, TransformFor};

use crate::{floor, workload};

/// An engine and one lane of it.
pub struct Engine {
    lane: Lane,
    _orchestrator: Arc<Orchestrator>,
}

impl Engine {
    /// Starts it, with the modules that `cargo xtask guests` built.
    pub fn start(configuration: &str) -> Result<Self, String> {
        Self::with_options(configuration, Options::default())
    }

    /// Starts it with functions of this program in the place of modules.
    pub fn native(configuration: &str, transforms: TransformFor) -> Result<Self, String> {
        let mut options = Options::default();
        options.transforms = Some(transforms);
        Self::with_options(configuration, options)
    }

    fn with_options(configuration: &str, options: Options) -> Result<Self, String> {
        let load_options = LoadOptions::isolated().modules_dir(floor::modules_dir());
        let loaded = load_text("scenario.toml", configuration, &load_options)
            .map_err(|report| report.to_string())?;
        let orchestrator =
            Orchestrator::start(loaded, options).map_err(|report| report.to_string())?;
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

    /// The same, and what became of them.
    pub fn outcomes(&mut self, records: &[Arc<Record>]) -> Result<Vec<Outcome>, String> {
        let progress = self.lane.process_batch(records);
        let outcomes = progress.into_iter().map(Progress::done);
        outcomes
            .collect::<Option<_>>()
            .ok_or_else(|| "a record waits for a retry".to_owned())
    }

    /// Whether the work is done at all: each record must come out once, without one byte for each stage.
    pub fn copies(&mut self, stages: usize) -> Result<(), String> {
        self.copies_all(&workload::records(workload::BATCH), stages)
    }

    /// The same of these records.
    pub fn copies_all(&mut self, records: &[Arc<Record>], stages: usize) -> Result<(), String> {
        for (record, outcome) in records.iter().zip(self.outcomes(records)?) {
            match &outcome.outputs[..] {
                [output] if *output.value() == record.value[..record.value.len() - stages] => {}
                _ => return Err(format!("not every stage copied the record: {outcome:?}")),
            }
        }
        Ok(())
    }
}
