//! The figures that the console and `etl top` draw: counts since the start, by pipeline, stage and module, and what is held now.
//!
//! Everything that grows is a count since the start of the process, so that a reader makes rates of two answers and their times, and no
//! answer depends on who asked before. The shape is written down in `docs/operations.md`.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use etl_orchestrator::{
    Counts, FailureKind, Histogram, InstanceTotals, ModuleTotals, PipelineTotals, Stats,
};
use serde_json::{Map, Value, json};

use super::tagged;
use super::watching::Reachable;
use crate::answer::Answer;
use crate::call::Call;
use crate::site::Site;

pub(crate) fn get(site: &Site, call: &Call) -> Result<Answer, Answer> {
    let mut stats = site.orchestrator.stats();
    name_all(site, &mut stats);
    let reach = Reachable::new(site, call);
    let limit = site
        .orchestrator
        .read_configuration(stats.generation, |loaded| {
            loaded.config.instance_pool.max_total_memory_bytes
        });
    let (totals, process) = (&stats.counts.totals, site.host.process());
    let value = json!({
        "generation": stats.generation,
        "time_unix_ms": unix_ms(),
        "ready": site.orchestrator.is_open(),
        "state": site.orchestrator.health().state(),
        "lanes": site.orchestrator.lanes(),
        "records_in": totals.records_in,
        "records_out": totals.records_out,
        "passed_through": totals.passed_through,
        "dropped": totals.dropped,
        "emitted": totals.emitted,
        "dead_lettered": totals.dead_lettered,
        "stopped": totals.stopped,
        "skipped": totals.skipped,
        "retries": totals.retries,
        "in_flight_records": stats.queue.in_flight_records,
        "in_flight_bytes": stats.queue.in_flight_bytes,
        "waiting_by_class": stats.queue.waiting,
        "retrying": stats.queue.retrying,
        "reloads": stats.reloads,
        "reloads_refused": stats.reloads_refused,
        "instances": stats.instances,
        "instances_created": stats.instances_created,
        "instance_memory_bytes": stats.instance_memory_bytes,
        "instance_memory_limit_bytes": limit,
        "process_memory_bytes": process.resident_memory_bytes,
        "process_cpu_seconds": process.cpu_seconds,
        "pipelines": pipelines(&stats.counts, call),
        "modules": modules(&stats, &reach, call),
        "circuits": circuits(&stats, call),
    });
    Ok(tagged(stats.generation, &value))
}

/// Has every pipeline that runs, and every module of one, among the counts: lanes count what they have met, and who looks wants to see also
/// what nothing has come to yet.
fn name_all(site: &Site, stats: &mut Stats) {
    let counts = &mut stats.counts;
    site.orchestrator
        .read_configuration(stats.generation, |loaded| {
            let pipelines = loaded.config.pipelines.iter();
            for pipeline in pipelines.filter(|pipeline| pipeline.enabled) {
                if counts.pipelines.contains_key(pipeline.id.as_str()) {
                    continue;
                }
                let id: Arc<str> = pipeline.id.as_str().into();
                counts
                    .pipelines
                    .insert(id.clone(), PipelineTotals::default());
                for stage in &pipeline.stages {
                    let stage_of = (id.clone(), stage.priority);
                    counts.stages.entry(stage_of).or_default();
                    for usage in &stage.modules {
                        let module = usage.module_id.as_str().into();
                        counts.modules.entry(module).or_default();
                    }
                }
            }
        });
}

fn pipelines(counts: &Counts, call: &Call) -> BTreeMap<String, Value> {
    let reached = counts.pipelines.iter().filter(|(id, _)| call.reaches(id));
    let mut shown: BTreeMap<String, Value> = reached
        .map(|(id, totals)| (id.to_string(), pipeline(totals)))
        .collect();
    let mut stages: Vec<_> = counts.stages.iter().collect();
    stages.sort_unstable_by_key(|((_, priority), _)| *priority);
    for ((id, priority), totals) in stages {
        if let Some(Value::Array(list)) = shown.get_mut(&**id).map(|shown| &mut shown["stages"]) {
            let mut stage = latency(&totals.duration);
            stage.insert("priority".to_owned(), (*priority).into());
            list.push(stage.into());
        }
    }
    for ((id, _, kind), count) in &counts.dead_letters {
        if let Some(shown) = shown.get_mut(&**id) {
            add(&mut shown["dead_letters_by_kind"], kind.name(), *count);
        }
    }
    shown
}

fn pipeline(totals: &PipelineTotals) -> Value {
    let [
        (_, forwarded),
        (_, stopped),
        (_, dropped),
        (_, dead_lettered),
    ] = totals.outcomes();
    let mut shown = latency(&totals.duration);
    let counts = json!({
        "records_in": totals.entered,
        "records_out": totals.left,
        "forwarded": forwarded,
        "stopped": stopped,
        "dropped": dropped,
        "dead_lettered": dead_lettered,
        "dead_letter_copies": totals.copied,
        "skipped": totals.skipped,
        "conflicts": totals.conflicts,
        "dead_letters_by_kind": {},
        "stages": [],
    });
    extend(&mut shown, counts);
    shown.into()
}

fn modules(stats: &Stats, reach: &Reachable, call: &Call) -> BTreeMap<String, Value> {
    // Those of pipelines out of reach are not told of, though the module be used within it too.
    let mut letters: HashMap<&str, u64> = HashMap::new();
    let reached = stats.counts.dead_letters.iter();
    for ((_, id, _), count) in reached.filter(|((pipeline, ..), _)| call.reaches(pipeline)) {
        *letters.entry(&**id).or_default() += count;
    }
    let none = InstanceTotals::default();
    stats
        .counts
        .modules
        .iter()
        .filter(|(id, _)| reach.module(id))
        .map(|(id, totals)| {
            let instances = stats.modules.get(id).unwrap_or(&none);
            let letters = letters.get(&**id).copied().unwrap_or(0);
            (id.to_string(), module(totals, instances, letters))
        })
        .collect()
}

fn module(totals: &ModuleTotals, instances: &InstanceTotals, letters: u64) -> Value {
    let mut errors = json!({});
    for kind in FailureKind::ALL {
        add(&mut errors, kind.name(), totals.errors(kind));
    }
    let mut shown = latency(&totals.duration);
    let counts = json!({
        "records_in": totals.kept + totals.changed + totals.dropped + totals.failed,
        "records_out": totals.kept + totals.changed,
        "kept": totals.kept,
        "changed": totals.changed,
        "dropped": totals.dropped,
        "failed": totals.failed,
        "not_selected": totals.not_selected,
        "dead_lettered": letters,
        "errors_by_kind": errors,
        "instances": instances.alive,
        "instances_allowed": instances.allowed,
        "memory_bytes": instances.memory_bytes,
        "cache_hits": instances.cache_hits,
        "cache_misses": instances.cache_misses,
        "counters": instances.counters,
    });
    extend(&mut shown, counts);
    shown.into()
}

fn circuits(stats: &Stats, call: &Call) -> Vec<Value> {
    let reached = stats.circuits.iter();
    reached
        .filter(|circuit| call.reaches(&circuit.pipeline))
        .map(|circuit| {
            json!({
                "pipeline": &*circuit.pipeline,
                "module": &*circuit.module,
                "state": format!("{:?}", circuit.state),
            })
        })
        .collect()
}

/// The quantiles that are told of a duration, and how many were observed.
fn latency(durations: &Histogram) -> Map<String, Value> {
    let mut shown = Map::new();
    shown.insert("timed".to_owned(), durations.count().into());
    for (name, quantile) in [
        ("p50_seconds", 0.5),
        ("p95_seconds", 0.95),
        ("p99_seconds", 0.99),
        ("p999_seconds", 0.999),
    ] {
        let seconds = durations.quantile(quantile);
        let seconds = seconds.as_ref().map(Duration::as_secs_f64);
        shown.insert(name.to_owned(), seconds.into());
    }
    shown
}

/// Counts that are zero are left out: most kinds of failure never happen.
fn add(counts: &mut Value, name: &str, count: u64) {
    if count > 0 {
        counts[name] = (counts[name].as_u64().unwrap_or(0) + count).into();
    }
}

fn extend(shown: &mut Map<String, Value>, more: Value) {
    if let Value::Object(more) = more {
        shown.extend(more);
    }
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}
