//! The naive interpreter: pipelines as the page on semantics tells them, one record at a time, with nothing shared, cached or batched.

use etl_config::{Config, ErrorHandling, Pipeline, Stage, Subject};
use etl_orchestrator::FailureKind;
use serde_json::{Map, Value};

use crate::merging::merge;
use crate::script::{Action, Op, Plain, decide, emitted};

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Expected {
    pub outputs: Vec<Plain>,
    pub dead_letters: Vec<Letter>,
    pub dropped: u32,
    pub emitted: u32,
    pub stopped: u32,
    pub skipped: u32,
    pub conflicts: u32,
    pub retries: u32,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Letter {
    /// As the failing module saw it, but on the dead-letter topic.
    pub record: Plain,
    pub pipeline: String,
    pub module: String,
    pub kind: FailureKind,
    pub attempts: u32,
    pub copy: bool,
}

/// A record in a pipeline.
#[derive(Clone)]
pub struct Here {
    pub record: Plain,
    /// The topic on which it arrived or was emitted.
    origin: String,
    /// Which of the records that entered the pipeline it belongs to.
    family: usize,
    /// In this stage.
    gone: bool,
    dropping: bool,
    waiting: bool,
    /// The module whose turn it is, and the attempts it has had.
    place: usize,
    attempts: u32,
    emitted: Vec<Plain>,
    pub written: Vec<(String, Vec<Op>)>,
}

/// What has become of a record that entered the pipeline.
#[derive(Clone, Copy, Default)]
pub struct Family {
    undone: bool,
    emitted: u32,
    dropped: u32,
}

pub fn interpret(config: &Config, wild: u64, arrived: &Plain) -> Expected {
    let mut expected = Expected::default();
    let mut pipelines: Vec<&Pipeline> = config
        .pipelines
        .iter()
        .filter(|pipeline| pipeline.enabled)
        .collect();
    pipelines.sort_by_key(|pipeline| (pipeline.order, &pipeline.id));
    let mut inputs = vec![(arrived.clone(), arrived.topic.clone())];
    for pipeline in pipelines {
        inputs = run_pipeline(
            config,
            pipeline,
            wild,
            &arrived.topic,
            inputs,
            &mut expected,
        );
    }
    expected.outputs = inputs.into_iter().map(|(record, _)| record).collect();
    expected
}

fn run_pipeline(
    config: &Config,
    pipeline: &Pipeline,
    wild: u64,
    topic: &str,
    inputs: Vec<(Plain, String)>,
    expected: &mut Expected,
) -> Vec<(Plain, String)> {
    // Whether it is undone, and what it has emitted and dropped, by record that entered.
    let mut families = vec![Family::default(); inputs.len()];
    let mut here: Vec<Here> = inputs
        .iter()
        .enumerate()
        .map(|(family, (record, origin))| enter(record.clone(), origin.clone(), family))
        .collect();
    let mut stages: Vec<&Stage> = pipeline.stages.iter().collect();
    stages.sort_by_key(|stage| stage.priority);
    for stage in stages {
        // In rounds: what waits for a retry is called again when the others have come to the end of the stage.
        loop {
            for (place, module) in stage.modules.iter().enumerate() {
                let selected = module
                    .filter
                    .leaves()
                    .next()
                    .is_none_or(|filter| topic.starts_with(&filter.pattern));
                for index in 0..here.len() {
                    let at = &mut here[index];
                    let out =
                        at.gone || (at.dropping && !stage.parallel) || families[at.family].undone;
                    if out || at.waiting || at.place != place {
                        continue;
                    }
                    if !selected || !holds(module, &at.record) {
                        at.place += 1;
                        continue;
                    }
                    call(
                        config,
                        pipeline,
                        stage,
                        module,
                        wild,
                        &mut here,
                        index,
                        &mut families,
                        expected,
                    );
                    let at = &mut here[index];
                    if !at.waiting {
                        at.place += 1;
                        at.attempts = 0;
                    }
                }
            }
            let waits = |at: &Here| at.waiting && !families[at.family].undone;
            if !here.iter().any(waits) {
                break;
            }
            here.iter_mut().for_each(|at| at.waiting = false);
        }
        let mut next = Vec::new();
        for mut at in here {
            if families[at.family].undone {
                continue;
            }
            if at.dropping && !at.gone {
                expected.dropped += 1;
                families[at.family].dropped += 1;
            } else if !at.gone {
                merge(pipeline, stage, &mut at, &mut families, expected);
            }
            let (family, emitted) = (at.family, std::mem::take(&mut at.emitted));
            if !at.gone && !at.dropping {
                at.written.clear();
                (at.place, at.attempts) = (0, 0);
                next.push(at);
            }
            next.extend(
                emitted
                    .into_iter()
                    .map(|record| enter(record.clone(), record.topic, family)),
            );
        }
        // A family that was undone while the stage ended loses what it had already put here.
        next.retain(|at| !families[at.family].undone);
        here = next;
    }
    let mut outputs = Vec::new();
    for (family, input) in inputs.into_iter().enumerate() {
        if families[family].undone {
            outputs.push(input);
        } else {
            let of_family = here.iter().filter(|at| at.family == family);
            outputs.extend(of_family.map(|at| (at.record.clone(), at.origin.clone())));
        }
    }
    outputs
}

fn enter(record: Plain, origin: String, family: usize) -> Here {
    Here {
        record,
        origin,
        family,
        gone: false,
        dropping: false,
        waiting: false,
        place: 0,
        attempts: 0,
        emitted: Vec::new(),
        written: Vec::new(),
    }
}

fn holds(module: &etl_config::ModuleUse, record: &Plain) -> bool {
    module
        .conditions
        .iter()
        .all(|condition| match &condition.subject {
            Subject::Header(name) => {
                let first = record.headers.iter().find(|(other, _)| other == name);
                first.is_some_and(|(_, value)| condition.value == value.as_str())
            }
            Subject::Payload(path) => {
                let value: Option<Value> = serde_json::from_str(&record.value).ok();
                value.is_some_and(|value| value.get(&path[2..]) == Some(&condition.value))
            }
            _ => unreachable!("not generated"),
        })
}

#[allow(clippy::too_many_arguments)]
fn call(
    config: &Config,
    pipeline: &Pipeline,
    stage: &Stage,
    module: &etl_config::ModuleUse,
    wild: u64,
    here: &mut [Here],
    index: usize,
    families: &mut [Family],
    expected: &mut Expected,
) {
    let script = module.instance.custom_config.shown()["script"]
        .as_u64()
        .expect("a script");
    let at = &mut here[index];
    at.attempts += 1;
    let (kind, retryable) = match decide(script, wild, &at.record, at.attempts) {
        Action::Keep => return,
        Action::Drop => {
            at.dropping = true;
            if !stage.parallel {
                at.gone = true;
                expected.dropped += 1;
                families[at.family].dropped += 1;
            }
            return;
        }
        Action::Change(ops) => {
            let emits: u32 = ops
                .iter()
                .map(|op| if let Op::Emit(count) = op { *count } else { 0 })
                .sum();
            let before = at.record.clone();
            match apply_all(&at.record, &ops) {
                Ok(after) if expected.emitted + emits <= config.engine.max_emitted_per_record => {
                    if stage.parallel {
                        at.written.push((module.module_id.clone(), ops));
                    } else {
                        at.record = after;
                    }
                    // What is emitted is written with the record as the module saw it, on the topic as the module left it.
                    for index in 0..emits {
                        let mut record = emitted(&before, script, index);
                        if index % 2 == 0 {
                            record.topic.clone_from(&at.record.topic);
                        }
                        at.emitted.push(record);
                    }
                    expected.emitted += emits;
                    families[at.family].emitted += emits;
                    return;
                }
                _ => (FailureKind::InvalidOutput, false),
            }
        }
        Action::Fail {
            kind, retryable, ..
        } => (kind, retryable),
    };
    if pipeline.error_handling == ErrorHandling::RetryWithBackoff
        && retryable
        && at.attempts <= pipeline.max_retries
    {
        expected.retries += 1;
        at.waiting = true;
        return;
    }
    let attempts = at.attempts;
    failed(
        pipeline,
        stage,
        &module.module_id,
        at,
        kind,
        attempts,
        families,
        expected,
    );
}

/// The table of failures.
#[allow(clippy::too_many_arguments)]
pub fn failed(
    pipeline: &Pipeline,
    stage: &Stage,
    module: &str,
    at: &mut Here,
    kind: FailureKind,
    attempts: u32,
    families: &mut [Family],
    expected: &mut Expected,
) {
    if pipeline.error_handling == ErrorHandling::SendToDeadLetter {
        expected.dead_letters.push(Letter {
            record: Plain {
                topic: pipeline.dead_letter_topic.render(&at.origin),
                ..at.record.clone()
            },
            pipeline: pipeline.id.clone(),
            module: module.to_owned(),
            kind,
            attempts,
            copy: stage.continue_on_error,
        });
    }
    if stage.continue_on_error || pipeline.error_handling == ErrorHandling::SkipModule {
        expected.skipped += 1;
        return;
    }
    match pipeline.error_handling {
        ErrorHandling::SendToDeadLetter => {
            at.gone = true;
            take_back(at, families, expected);
        }
        _ => {
            // What an undone pipeline emitted and dropped has not happened.
            let family = &mut families[at.family];
            expected.emitted -= std::mem::take(&mut family.emitted);
            expected.dropped -= std::mem::take(&mut family.dropped);
            family.undone = true;
            expected.stopped += 1;
        }
    }
}

/// What the stage has emitted for a record goes no further.
pub fn take_back(at: &mut Here, families: &mut [Family], expected: &mut Expected) {
    let emitted = u32::try_from(at.emitted.drain(..).len()).expect("few");
    families[at.family].emitted -= emitted;
    expected.emitted -= emitted;
}

pub fn apply_all(record: &Plain, ops: &[Op]) -> Result<Plain, ()> {
    let mut after = record.clone();
    for op in ops {
        apply(record, &mut after, op)?;
    }
    Ok(after)
}

fn apply(seen: &Plain, record: &mut Plain, op: &Op) -> Result<(), ()> {
    match op {
        Op::Value(value) => record.value.clone_from(value),
        Op::Patch(patch) => {
            let patch: Value = serde_json::from_str(patch).map_err(|_| ())?;
            let value: Value = serde_json::from_str(&record.value).map_err(|_| ())?;
            record.value = merged(&value, &patch).to_string();
        }
        Op::Key(letter) => {
            record.key = Some(format!("{}{letter}", seen.key.as_deref().unwrap_or("")));
        }
        Op::Topic(topic) => record.topic.clone_from(topic),
        Op::Add(name, value) => record.headers.push((name.clone(), value.clone())),
        Op::Set(name, value) => {
            let place = record.headers.iter().position(|(other, _)| other == name);
            record.headers.retain(|(other, _)| other != name);
            let place = place.unwrap_or(record.headers.len());
            record.headers.insert(place, (name.clone(), value.clone()));
        }
        Op::Remove(name) => record.headers.retain(|(other, _)| other != name),
        Op::Timestamp(timestamp) => record.timestamp = *timestamp,
        Op::Emit(_) => {}
    }
    Ok(())
}

/// RFC 7396, section 2.
pub fn merged(target: &Value, patch: &Value) -> Value {
    let Value::Object(patch) = patch else {
        return patch.clone();
    };
    let mut result = target.as_object().cloned().unwrap_or_else(Map::new);
    for (key, value) in patch {
        if value.is_null() {
            result.remove(key);
        } else {
            let inner = merged(result.get(key).unwrap_or(&Value::Null), value);
            result.insert(key.clone(), inner);
        }
    }
    Value::Object(result)
}
