//! `etl replay`: a dead letter runs again at the desk, with the very module that failed on it.
//!
//! A dead letter carries the record as the failing module saw it, so that module alone is called: the pipeline is cut down to it, its filters and
//! conditions, which held, are left out, and a failure is to be seen, so it goes to the dead letters.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use etl_broker_adapter::{AdapterUrl, Demand, From, Pulled};
use etl_config::{ErrorHandling, FilterTree, Loaded};
use etl_orchestrator::{Happened, Options, Orchestrator, Record};
use serde_json::json;

use crate::arguments::ConfigurationOptions;
use crate::configuration;
use crate::exit::Exit;
use crate::explain::record_text;
use crate::letters::original;
use crate::output;
use crate::topics::{block_on, connect};

const HELP: &str = "\
The module is the one whose SHA-256 stands in the dead letter: the file that the configuration
names, or any other .wasm file beside it or under --modules. With --any-version the
configuration's own is taken if that one is gone.

Exit codes:
  0 every one failed in the same way   1 one did not, or could not be run   78 wrong configuration

Examples:
  etl replay etl.toml --dead-letter file:failed.ndjson
  etl replay etl.toml --dead-letter embedded:data --topic orders.dlq --offset 17
  etl replay etl.toml --dead-letter file:failed.ndjson --any-version
      Is it mended in the version that I have now?";

/// Run a dead letter again, step by step, and say whether it fails in the same way
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub struct ReplayOptions {
    #[command(flatten)]
    pub configuration: ConfigurationOptions,

    /// Where the dead letter is
    #[arg(long, value_name = "URL")]
    pub dead_letter: AdapterUrl,

    /// Its topic, where the place has several [default: every one that ends in .dlq]
    #[arg(long, value_name = "TOPIC")]
    pub topic: Option<String>,

    /// Its offset (in a file the line, from 0) [default: the first]
    #[arg(long, value_name = "N")]
    pub offset: Option<u64>,

    /// Run so many, one after the other
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub count: usize,

    /// Take the configuration's module if the recorded one cannot be found
    #[arg(long)]
    pub any_version: bool,

    /// Print one JSON object a dead letter
    #[arg(long)]
    pub json: bool,
}

/// Runs the command.
pub fn replay(options: &ReplayOptions) -> Result<(), Exit> {
    let letters = block_on(read(options))?;
    if letters.is_empty() {
        return Err(Exit::failed(format_args!(
            "there is no such dead letter at {}",
            options.dead_letter
        )));
    }
    let mut different = 0;
    for letter in letters {
        different += u64::from(!replay_one(options, &letter)?);
    }
    match different {
        0 => Ok(()),
        _ => Err(Exit::failed("not every one failed in the same way")),
    }
}

async fn read(options: &ReplayOptions) -> Result<Vec<Arc<Record>>, Exit> {
    let broker = connect(&options.dead_letter, false).await?;
    let is_file = matches!(
        options.dead_letter,
        AdapterUrl::File(_) | AdapterUrl::Standard
    );
    let topics: Vec<String> = match (&options.topic, is_file) {
        (Some(topic), false) => vec![topic.clone()],
        (None, false) => vec!["*.dlq".to_owned()],
        (_, true) => Vec::new(),
    };
    let from = match (options.offset, is_file) {
        (Some(offset), false) => From::Offset(offset),
        _ => From::Beginning,
    };
    let mut source = broker.tail(&topics, from, false).await?;
    let paused = HashSet::new();
    let mut letters = Vec::new();
    let demand = Demand {
        records: 256,
        bytes: 64 << 20,
        paused: &paused,
    };
    while letters.len() < options.count
        && let Pulled::Batch(batch) = source.pull(demand).await?
    {
        for item in batch.items {
            let Ok(record) = item.content else { continue };
            let asked = options
                .topic
                .as_ref()
                .is_none_or(|topic| **topic == *record.topic);
            let reached = options.offset.is_none_or(|offset| record.offset >= offset);
            if asked && reached && letters.len() < options.count {
                letters.push(record);
            }
        }
    }
    Ok(letters)
}

/// Whether it failed in the same way.
fn replay_one(options: &ReplayOptions, letter: &Record) -> Result<bool, Exit> {
    let recorded = Recorded::of(letter)?;
    let refuse = |report| configuration::refuse(&report, options.json);
    let mut loaded = configuration::load(&options.configuration).map_err(refuse)?;
    let found = recorded.find(options, &mut loaded)?;
    let mut engine = Options::default();
    engine.lanes = Some(1);
    let orchestrator = Orchestrator::start(loaded, engine).map_err(refuse)?;
    let record = Arc::new(recorded.record.clone());
    let (outcome, steps) = orchestrator.process_traced(&record);
    let failure = steps.iter().rev().find_map(|step| match &step.happened {
        Happened::Failed(error) => Some((error.kind().name(), error.message().to_owned())),
        _ => None,
    });
    let same = failure.as_ref().is_some_and(|(kind, message)| {
        *kind == recorded.kind && message.starts_with(&*recorded.message)
    });
    let verdict = match &failure {
        Some(_) if same => "it fails in the same way".to_owned(),
        Some((kind, message)) => format!("it fails in another way: {kind}: {message}"),
        None => "it does not fail any more".to_owned(),
    };
    if options.json {
        let failure = failure.map(|(kind, message)| json!({ "kind": kind, "message": message }));
        let object = json!({
            "pipeline": recorded.pipeline,
            "module": recorded.module,
            "sha256": recorded.sha256,
            "recorded_version": found,
            "recorded": { "kind": recorded.kind, "message": recorded.message },
            "failure": failure,
            "same": same,
        });
        output::print(&format!("{object}\n"))?;
    } else {
        let version = match found {
            true => "the recorded version",
            false => "not the recorded version",
        };
        output::print(&format!(
            "{} of pipeline {} ({version})\nrecorded: {}: {}\n{}\n{verdict}\n",
            recorded.module,
            recorded.pipeline,
            recorded.kind,
            recorded.message,
            record_text(&record, &outcome, &steps)
        ))?;
    }
    Ok(same)
}

/// What a dead letter says.
struct Recorded {
    record: Record,
    pipeline: String,
    module: String,
    stage: u32,
    kind: String,
    message: String,
    sha256: Option<String>,
}

impl Recorded {
    fn of(letter: &Record) -> Result<Self, Exit> {
        let text = |name: &str| {
            let value = letter.headers.first(name);
            value.map(|value| String::from_utf8_lossy(value).into_owned())
        };
        let needed = |name: &str| {
            text(name).ok_or_else(|| {
                Exit::failed(format_args!(
                    "the record at offset {} is no dead letter of a module: it has no header {name}",
                    letter.offset
                ))
            })
        };
        let (pipeline, module) = (needed("etl-dlq-pipeline")?, needed("etl-dlq-module")?);
        let record = original(letter, 0)
            .ok_or_else(|| Exit::failed("the dead letter does not say its record's topic"))?;
        Ok(Self {
            record,
            pipeline,
            module,
            stage: needed("etl-dlq-stage")?.parse().unwrap_or(0),
            kind: needed("etl-dlq-error")?,
            message: text("etl-dlq-message").unwrap_or_default(),
            sha256: text("etl-dlq-module-sha256"),
        })
    }

    /// Cuts the configuration down to the module, of the recorded version. `false`: it is of another one.
    fn find(&self, options: &ReplayOptions, loaded: &mut Loaded) -> Result<bool, Exit> {
        let config = &mut loaded.config;
        config
            .pipelines
            .retain(|pipeline| pipeline.id == self.pipeline);
        for pipeline in &mut config.pipelines {
            pipeline.enabled = true;
            pipeline.error_handling = ErrorHandling::SendToDeadLetter;
            pipeline.stages.retain(|stage| stage.priority == self.stage);
            for stage in &mut pipeline.stages {
                stage.continue_on_error = false;
                stage.modules.retain(|usage| usage.module_id == self.module);
                stage.modules.truncate(1);
                for usage in &mut stage.modules {
                    usage.filter = FilterTree::Every;
                    usage.conditions.clear();
                    usage.circuit_breaker = None;
                }
            }
            pipeline.stages.retain(|stage| !stage.modules.is_empty());
            pipeline.stages.truncate(1);
        }
        config
            .pipelines
            .retain(|pipeline| !pipeline.stages.is_empty());
        if config.pipelines.is_empty() {
            return Err(Exit::failed(format_args!(
                "the configuration has no module {} in a stage of priority {} of pipeline {}",
                self.module, self.stage, self.pipeline
            )));
        }
        config.modules.retain(|module| module.id == self.module);
        let folder = config.modules_dir.clone();
        let Some(module) = config.modules.first_mut() else {
            return Err(Exit::failed(format_args!(
                "module {} is not declared",
                self.module
            )));
        };
        module.canary = None;
        let Some(wanted) = &self.sha256 else {
            return Ok(false);
        };
        let mut candidates = vec![module.file.clone()];
        for folder in [
            module.file.parent(),
            Some(&*folder),
            options.configuration.modules.as_deref(),
        ] {
            candidates.extend(folder.map(wasm_files).unwrap_or_default());
        }
        let present = module.file.clone();
        let found = candidates
            .into_iter()
            .find(|file| sha256(loaded, file).as_ref() == Some(wanted));
        match found {
            Some(file) => {
                if let Some(module) = loaded.config.modules.first_mut() {
                    module.file = file;
                    module.sha256 = None;
                }
                Ok(true)
            }
            None if options.any_version => Ok(false),
            None => Err(Exit::failed(format_args!(
                "no file has the SHA-256 {wanted} that the dead letter names: put that version of {} beside {}, or take the present one with --any-version",
                self.module,
                present.display()
            ))),
        }
    }
}

fn wasm_files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let files = entries.map(|entry| entry.path());
    files
        .filter(|path| path.extension().is_some_and(|end| end == "wasm"))
        .collect()
}

fn sha256(loaded: &Loaded, file: &Path) -> Option<String> {
    use sha2::Digest as _;
    let digest = sha2::Sha256::digest(loaded.read_module(file).ok()?);
    Some(digest.iter().map(|byte| format!("{byte:02x}")).collect())
}
