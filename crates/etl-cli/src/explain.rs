//! `etl explain`: which modules a topic selects and why not the others, and, with a record, what each step made of it.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;

use etl_broker_adapter::line::{self, Line, LineReader};
use etl_orchestrator::{Happened, Options, Orchestrator, Outcome, Record, Step, TopicExplanation};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::arguments::ExplainOptions;
use crate::configuration;
use crate::exit::Exit;
use crate::output;

/// A record longer than this is not one to look at.
const MAX_RECORD_BYTES: usize = 16 * 1024 * 1024;

/// Runs the command.
pub fn explain(options: &ExplainOptions) -> Result<(), Exit> {
    let record = options.record.as_deref().map(read).transpose()?;
    let record = record.map(|mut record| {
        if let Some(topic) = &options.topic {
            record.topic = topic.as_str().into();
        }
        Arc::new(record)
    });
    let refuse = |report| configuration::refuse(&report, options.json);
    let loaded = configuration::load(&options.configuration).map_err(refuse)?;
    let mut engine_options = Options::default();
    engine_options.lanes = Some(1);
    let orchestrator = Orchestrator::start(loaded, engine_options).map_err(refuse)?;

    let topic = record
        .as_deref()
        .map_or(options.topic.as_deref().unwrap_or(""), |record| {
            &record.topic
        });
    let explanation = orchestrator.explain(topic);
    let traced = record.map(|record| {
        let (outcome, steps) = orchestrator.process_traced(&record);
        (record, outcome, steps)
    });
    if options.json {
        let document = serde_json::to_string_pretty(&Document::of(&explanation, traced.as_ref()))
            .map_err(|error| Exit::failed(format_args!("cannot write JSON: {error}")))?;
        return output::print(&(document + "\n"));
    }
    let mut text = topic_text(&explanation);
    if let Some((record, outcome, steps)) = &traced {
        text.push_str(&record_text(record, outcome, steps));
    }
    output::print(&text)
}

/// What pipelines make of a topic, or of a record and its topic, as `--json` prints it but in one line.
pub fn document(
    orchestrator: &Orchestrator,
    topic: &str,
    record: Option<Arc<Record>>,
) -> Result<String, serde_json::Error> {
    let mut explanation = orchestrator.explain(topic);
    // Names as they were written: what the environment put into them is nothing for those who ask from outside.
    orchestrator.read_configuration(explanation.generation, |loaded| {
        let written: HashMap<&str, _> = loaded
            .config
            .pipelines
            .iter()
            .map(|pipeline| (&*pipeline.id, pipeline))
            .collect();
        for shown in &mut explanation.pipelines {
            shown.name = written
                .get(&*shown.id)
                .map_or_else(|| shown.id.clone(), |own| loaded.name_as_written(own));
        }
    });
    let traced = record.map(|record| {
        let (outcome, steps) = orchestrator.process_traced(&record);
        (record, outcome, steps)
    });
    serde_json::to_string(&Document::of(&explanation, traced.as_ref()))
}

/// The record of the first line that is not empty.
fn read(place: &str) -> Result<Record, Exit> {
    let failed = |error: io::Error| Exit::failed(format_args!("cannot read {place}: {error}"));
    let input: Box<dyn Read> = match place {
        "-" => Box::new(io::stdin().lock()),
        path => Box::new(File::open(path).map_err(failed)?),
    };
    let mut lines = LineReader::new(input, MAX_RECORD_BYTES);
    loop {
        match lines.buffered() {
            Some(Line::Whole { bytes, .. }) if bytes.trim_ascii().is_empty() => {}
            Some(Line::Whole { number, bytes }) => {
                return line::decode(&bytes, number - 1)
                    .map_err(|error| Exit::failed(format_args!("{place}:{number}: {error}")));
            }
            Some(Line::TooLong { number, length, .. }) => {
                return Err(Exit::failed(format_args!(
                    "{place}:{number}: the line has {length} bytes, over the limit of {MAX_RECORD_BYTES}"
                )));
            }
            None if lines.is_at_end() => {
                return Err(Exit::failed(format_args!("{place} holds no record")));
            }
            None => lines.fill().map_err(failed)?,
        }
    }
}

/// The record as its line, without the line break.
fn shown(record: &Record) -> String {
    let mut line = Vec::new();
    line::encode(record, &mut line);
    String::from_utf8_lossy(&line).trim_end().to_owned()
}

fn topic_text(explanation: &TopicExplanation) -> String {
    let mut text = format!("topic {}\n", explanation.topic.escape_debug());
    for pipeline in &explanation.pipelines {
        text.push_str(&format!("\npipeline {}", pipeline.id));
        if pipeline.name != pipeline.id {
            text.push_str(&format!(" ({})", pipeline.name));
        }
        text.push_str(match (pipeline.enabled, pipeline.selected) {
            (false, _) => ": disabled\n",
            (true, false) => ": not selected\n",
            (true, true) => "\n",
        });
        for stage in &pipeline.stages {
            let parallel = if stage.parallel { ", parallel" } else { "" };
            text.push_str(&format!(
                "  stage of priority {}{parallel}\n",
                stage.priority
            ));
            for module in &stage.modules {
                let sign = if module.selected { '+' } else { '-' };
                text.push_str(&format!("    {sign} {}: {}\n", module.id, module.reason));
                if module.selected {
                    for condition in &module.conditions {
                        text.push_str(&format!("        if {condition}\n"));
                    }
                }
            }
        }
    }
    if explanation.pipelines.is_empty() {
        text.push_str("\nno pipelines\n");
    }
    text
}

/// The way of a record, step by step, and what came out.
pub fn record_text(record: &Record, outcome: &Outcome, steps: &[Step]) -> String {
    let mut text = format!("\nrecord\n  {}\n", shown(record));
    if steps.is_empty() {
        text.push_str("\nno module sees it\n");
    }
    for (number, step) in steps.iter().enumerate() {
        let (_, what, why) = happened(&step.happened);
        text.push_str(&format!(
            "\nstep {}: {}, priority {}, {}: {what}\n",
            number + 1,
            step.pipeline,
            step.priority,
            step.module
        ));
        if let Some(why) = why {
            text.push_str(&format!("  {why}\n"));
        }
        if !Arc::ptr_eq(&step.before, &step.after) && step.before != step.after {
            text.push_str(&format!(
                "  - {}\n  + {}\n",
                shown(&step.before),
                shown(&step.after)
            ));
        }
    }
    text.push_str("\nout\n");
    if outcome.outputs.is_empty() {
        text.push_str("  nothing\n");
    }
    for output in &outcome.outputs {
        text.push_str(&format!("  {}\n", shown(&output.to_record())));
    }
    if !outcome.dead_letters.is_empty() {
        text.push_str("\ndead letters\n");
        for letter in &outcome.dead_letters {
            text.push_str(&format!("  {}\n", shown(&letter.record)));
        }
    }
    text
}

/// What a step did, as a name for programs, in words, and why.
fn happened(happened: &Happened) -> (&'static str, String, Option<String>) {
    let (name, words, why) = match happened {
        Happened::NotSelected(because) => (
            "not_selected",
            "not called",
            Some(format!("does not hold: {because}")),
        ),
        Happened::Kept => ("kept", "kept", None),
        Happened::Changed => ("changed", "changed", None),
        Happened::Dropped => ("dropped", "dropped", None),
        Happened::Retried { error, wait } => {
            let words = format!("failed, called again after {} ms", wait.as_millis());
            return ("retried", words, Some(error.to_string()));
        }
        Happened::Failed(error) => ("failed", "failed", Some(error.to_string())),
        Happened::Merged => ("merged", "the stage's changes merged", None),
        _ => ("other", "went on", None),
    };
    (name, words.to_owned(), why)
}

/// The whole as JSON. Records are their lines, so that numbers keep their digits here too.
#[derive(Serialize)]
struct Document<'a> {
    topic: &'a str,
    generation: u64,
    pipelines: Vec<Pipeline<'a>>,
    #[serde(skip_serializing_if = "Option::is_none", flatten)]
    traced: Option<Traced<'a>>,
}

#[derive(Serialize)]
struct Pipeline<'a> {
    id: &'a str,
    name: &'a str,
    order: i32,
    enabled: bool,
    selected: bool,
    stages: Vec<Stage<'a>>,
}

#[derive(Serialize)]
struct Stage<'a> {
    priority: u32,
    parallel: bool,
    modules: Vec<Module<'a>>,
}

#[derive(Serialize)]
struct Module<'a> {
    id: &'a str,
    selected: bool,
    reason: &'a str,
    conditions: &'a [String],
}

#[derive(Serialize)]
struct Traced<'a> {
    record: Box<RawValue>,
    steps: Vec<TracedStep<'a>>,
    outputs: Vec<Box<RawValue>>,
    dead_letters: Vec<Box<RawValue>>,
}

#[derive(Serialize)]
struct TracedStep<'a> {
    pipeline: &'a str,
    priority: u32,
    module: &'a str,
    happened: &'static str,
    reason: Option<String>,
    before: Box<RawValue>,
    after: Box<RawValue>,
}

impl<'a> Document<'a> {
    fn of(
        explanation: &'a TopicExplanation,
        traced: Option<&'a (Arc<Record>, Outcome, Vec<Step>)>,
    ) -> Self {
        let pipelines = explanation.pipelines.iter().map(|pipeline| Pipeline {
            id: &pipeline.id,
            name: &pipeline.name,
            order: pipeline.order,
            enabled: pipeline.enabled,
            selected: pipeline.selected,
            stages: pipeline
                .stages
                .iter()
                .map(|stage| Stage {
                    priority: stage.priority,
                    parallel: stage.parallel,
                    modules: stage
                        .modules
                        .iter()
                        .map(|module| Module {
                            id: &module.id,
                            selected: module.selected,
                            reason: &module.reason,
                            conditions: &module.conditions,
                        })
                        .collect(),
                })
                .collect(),
        });
        Self {
            topic: &explanation.topic,
            generation: explanation.generation,
            pipelines: pipelines.collect(),
            traced: traced.map(|(record, outcome, steps)| Traced {
                record: raw(record),
                steps: steps.iter().map(TracedStep::of).collect(),
                outputs: outcome
                    .outputs
                    .iter()
                    .map(|output| raw(&output.to_record()))
                    .collect(),
                dead_letters: outcome
                    .dead_letters
                    .iter()
                    .map(|letter| raw(&letter.record))
                    .collect(),
            }),
        }
    }
}

impl<'a> TracedStep<'a> {
    fn of(step: &'a Step) -> Self {
        let (name, _, why) = happened(&step.happened);
        Self {
            pipeline: &step.pipeline,
            priority: step.priority,
            module: &step.module,
            happened: name,
            reason: why,
            before: raw(&step.before),
            after: raw(&step.after),
        }
    }
}

fn raw(record: &Record) -> Box<RawValue> {
    RawValue::from_string(shown(record)).expect("a record line is JSON")
}
