//! The implementation that one would write from a description: one asynchronous task, a lock and a queue of instances for each module, an allocation
//! for each step, filters asked one after the other, and the whole payload parsed for each condition.
//!
//! It is here to be compared with, so it is written as such things are: every part is sound and idiomatic, and nothing is slow on purpose. Stages come out
//! of a heap, lower numbers first; a semaphore bounds the calls of a module; a call has a timeout; metrics are a map behind a lock. The guest is called as
//! the floor calls it. Topic filters are of the one kind that the scenarios use.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use etl_abi::{Verdict, request, response::ResponseReader};
use etl_orchestrator::Record;
use tokio::sync::{Mutex, RwLock, Semaphore};

use crate::floor::Floor;
use crate::workload::{MODULE, TOPIC};

/// Calls that one module may have under way, and instances that wait for them.
const CONCURRENT: usize = 10;
const WARM: usize = 2;
const TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Clone)]
struct TopicFilter {
    pattern: String,
    case_sensitive: bool,
    negate: bool,
}

impl TopicFilter {
    fn matches(&self, topic: &str) -> bool {
        let found = if self.case_sensitive {
            self.pattern == topic
        } else {
            self.pattern.to_lowercase() == topic.to_lowercase()
        };
        found != self.negate
    }
}

/// A field of the payload is greater than a number.
#[derive(Clone)]
struct Rule {
    field_path: String,
    value: f64,
}

impl Rule {
    fn holds(&self, record: &Record) -> bool {
        let Ok(payload) = serde_json::from_slice::<serde_json::Value>(&record.value) else {
            return false;
        };
        let mut found = &payload;
        for name in self.field_path.trim_start_matches("$.").split('.') {
            let Some(field) = found.get(name) else {
                return false;
            };
            found = field;
        }
        found.as_f64().is_some_and(|number| number > self.value)
    }
}

#[derive(Clone)]
struct Module {
    module_id: String,
    topic_filters: Vec<TopicFilter>,
    conditional_rules: Vec<Rule>,
}

#[derive(Clone)]
struct Stage {
    priority: u32,
    modules: Vec<Module>,
}

struct Pipeline {
    pipeline_id: String,
    stages: Vec<Stage>,
}

struct Instances {
    free: Mutex<VecDeque<Floor>>,
    permits: Semaphore,
}

#[derive(Default)]
struct Metrics {
    records: u64,
    time: Duration,
}

/// Pipelines, and what runs them.
pub struct Naive {
    pipelines: RwLock<Vec<Arc<Pipeline>>>,
    instances: Mutex<HashMap<String, Arc<Instances>>>,
    metrics: Mutex<HashMap<String, Metrics>>,
}

impl Naive {
    /// One pipeline with so many stages that applies, perhaps with a condition on each stage, before `others` that do not.
    #[expect(
        clippy::arc_with_non_send_sync,
        reason = "everything is shared as in the description, although guests stay on one thread here"
    )]
    pub fn new(stages: usize, conditional: bool, others: usize) -> Result<Self, String> {
        let module = |topic: String| Module {
            module_id: MODULE.to_owned(),
            topic_filters: vec![TopicFilter {
                pattern: topic,
                case_sensitive: true,
                negate: false,
            }],
            conditional_rules: if conditional {
                vec![Rule {
                    field_path: "$.reading.celsius".to_owned(),
                    value: 10.0,
                }]
            } else {
                Vec::new()
            },
        };
        let pipeline = |pipeline_id: String, topic: &str| {
            let stage = |priority| Stage {
                priority,
                modules: vec![module(topic.to_owned())],
            };
            Arc::new(Pipeline {
                pipeline_id,
                stages: (0..stages as u32).map(stage).collect(),
            })
        };
        let mut pipelines = vec![pipeline("applies".to_owned(), TOPIC)];
        pipelines.extend((1..=others).map(|number| {
            pipeline(
                format!("other-{number}"),
                &format!("plant.{number}.temperature"),
            )
        }));
        let free = (0..WARM)
            .map(|_| Floor::new(MODULE))
            .collect::<Result<VecDeque<_>, _>>()?;
        let instances = Instances {
            free: Mutex::new(free),
            permits: Semaphore::new(CONCURRENT),
        };
        Ok(Self {
            pipelines: RwLock::new(pipelines),
            instances: Mutex::new(HashMap::from([(MODULE.to_owned(), Arc::new(instances))])),
            metrics: Mutex::new(HashMap::new()),
        })
    }

    /// One record through every pipeline that has a filter for its topic.
    pub async fn process(&self, record: Arc<Record>) -> Result<Arc<Record>, String> {
        let selected: Vec<Arc<Pipeline>> = {
            let pipelines = self.pipelines.read().await;
            let applies = |pipeline: &&Arc<Pipeline>| {
                let mut modules = pipeline.stages.iter().flat_map(|stage| &stage.modules);
                modules.any(|module| selects(module, &record.topic))
            };
            pipelines.iter().filter(applies).cloned().collect()
        };
        let mut current = record;
        for pipeline in selected {
            let start = Instant::now();
            let mut queue: BinaryHeap<Reverse<(u32, usize)>> = pipeline
                .stages
                .iter()
                .enumerate()
                .map(|(index, stage)| Reverse((stage.priority, index)))
                .collect();
            while let Some(Reverse((_, index))) = queue.pop() {
                for module in &pipeline.stages[index].modules {
                    if selects(module, &current.topic)
                        && module
                            .conditional_rules
                            .iter()
                            .all(|rule| rule.holds(&current))
                    {
                        current = self.call(module, &current).await?;
                    }
                }
            }
            let mut metrics = self.metrics.lock().await;
            let of_pipeline = metrics.entry(pipeline.pipeline_id.clone()).or_default();
            of_pipeline.records += 1;
            of_pipeline.time += start.elapsed();
        }
        Ok(current)
    }

    async fn call(&self, module: &Module, record: &Arc<Record>) -> Result<Arc<Record>, String> {
        let instances = {
            let all = self.instances.lock().await;
            all.get(&module.module_id)
                .cloned()
                .ok_or("no such module")?
        };
        let _permit = instances
            .permits
            .acquire()
            .await
            .map_err(|error| error.to_string())?;
        let free = instances.free.lock().await.pop_front();
        let mut guest = match free {
            Some(guest) => guest,
            None => Floor::new(&module.module_id)?,
        };
        let start = Instant::now();
        let answer = tokio::time::timeout(TIMEOUT, async { transform(&mut guest, record) })
            .await
            .map_err(|error| error.to_string())?;
        instances.free.lock().await.push_back(guest);
        let mut metrics = self.metrics.lock().await;
        let of_module = metrics.entry(module.module_id.clone()).or_default();
        of_module.records += 1;
        of_module.time += start.elapsed();
        answer
    }
}

/// Whether a filter of the module takes the topic; a module without filters takes all.
fn selects(module: &Module, topic: &str) -> bool {
    module.topic_filters.is_empty()
        || module
            .topic_filters
            .iter()
            .any(|filter| filter.matches(topic))
}

/// The record there and back.
fn transform(guest: &mut Floor, record: &Arc<Record>) -> Result<Arc<Record>, String> {
    let records = std::slice::from_ref(&**record);
    let length = request::encoded_len(records).map_err(|error| error.to_string())?;
    let mut frame = vec![0; length];
    request::encode(records, &mut frame).map_err(|error| error.to_string())?;
    guest.call(&frame);
    let answer = guest.answer();
    if answer.is_empty() {
        return Ok(Arc::clone(record));
    }
    let verdicts = ResponseReader::parse(answer, 1).map_err(|error| error.to_string())?;
    match verdicts.verdict(0) {
        Verdict::Keep => Ok(Arc::clone(record)),
        Verdict::SetValue(value) => Ok(Arc::new(Record {
            value: value.to_vec().into(),
            ..Record::clone(record)
        })),
        other => Err(format!("the module does not copy: {other:?}")),
    }
}
