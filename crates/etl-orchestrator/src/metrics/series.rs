//! From what is counted to series: which metric, which labels, which figure.

use etl_config::{CanaryMode, Loaded};

use crate::breaker::CircuitState;
use crate::failure::FailureKind;
use crate::histogram::Histogram;
use crate::orchestrator::Stats;

/// The figure of one series.
pub(crate) enum Figure<'a> {
    Count(u64),
    Level(f64),
    Durations(&'a Histogram),
}

/// Tells `series` of every series that these stats have.
pub(crate) fn visit(stats: &Stats, loaded: &Loaded, series: &mut Series<'_>) {
    pipelines(stats, series);
    modules(stats, series);
    canaries(stats, series);
    system(stats, loaded, series);
}

type Series<'a> = dyn FnMut(&'static str, &[(&'static str, &str)], Figure<'_>) + 'a;

fn pipelines(stats: &Stats, series: &mut Series<'_>) {
    let counts = &stats.counts;
    for (pipeline, totals) in &counts.pipelines {
        for (outcome, count) in totals.outcomes() {
            let labels = [("pipeline", &**pipeline), ("outcome", outcome)];
            series("etl_pipeline_records_total", &labels, Figure::Count(count));
        }
        series(
            "etl_pipeline_duration_seconds",
            &[("pipeline", pipeline)],
            Figure::Durations(&totals.duration),
        );
    }
    for ((pipeline, priority), totals) in &counts.stages {
        let labels = [
            ("pipeline", &**pipeline),
            ("priority", &*priority.to_string()),
        ];
        let figure = Figure::Durations(&totals.duration);
        series("etl_stage_duration_seconds", &labels, figure);
    }
    for ((pipeline, module, kind), count) in &counts.dead_letters {
        let labels = [
            ("pipeline", &**pipeline),
            ("module", &**module),
            ("kind", kind.name()),
        ];
        series("etl_dead_letters_total", &labels, Figure::Count(*count));
    }
}

fn modules(stats: &Stats, series: &mut Series<'_>) {
    for (module, totals) in &stats.counts.modules {
        let module = &**module;
        for (outcome, count) in [
            ("kept", totals.kept),
            ("changed", totals.changed),
            ("dropped", totals.dropped),
            ("failed", totals.failed),
        ] {
            let labels = [("module", module), ("outcome", outcome)];
            series("etl_module_calls_total", &labels, Figure::Count(count));
        }
        for kind in FailureKind::ALL {
            let labels = [("module", module), ("kind", kind.name())];
            let figure = Figure::Count(totals.errors(kind));
            series("etl_module_errors_total", &labels, figure);
        }
        series(
            "etl_module_duration_seconds",
            &[("module", module)],
            Figure::Durations(&totals.duration),
        );
    }
    for (module, totals) in &stats.modules {
        let module = &**module;
        let mut of = |name, label, value, figure| {
            series(name, &[("module", module), (label, value)], figure);
        };
        let (hits, misses) = (totals.cache_hits, totals.cache_misses);
        of(
            "etl_module_cache_total",
            "result",
            "hit",
            Figure::Count(hits),
        );
        of(
            "etl_module_cache_total",
            "result",
            "miss",
            Figure::Count(misses),
        );
        for (name, count) in &totals.counters {
            let figure = Figure::Level(*count as f64);
            of("etl_module_counter", "counter", name, figure);
        }
        of("etl_pool_instances", "state", "alive", level(totals.alive));
        of(
            "etl_pool_instances",
            "state",
            "allowed",
            level(totals.allowed),
        );
        let module = [("module", module)];
        series(
            "etl_pool_wait_seconds",
            &module,
            Figure::Durations(&totals.waits),
        );
        series(
            "etl_instance_memory_bytes",
            &module,
            level(totals.memory_bytes),
        );
    }
    let mut worst: std::collections::BTreeMap<&str, u64> = std::collections::BTreeMap::new();
    for circuit in &stats.circuits {
        let state = match circuit.state {
            CircuitState::Closed => 0,
            CircuitState::HalfOpen => 1,
            CircuitState::Open => 2,
        };
        let worst = worst.entry(&circuit.module).or_default();
        *worst = state.max(*worst);
    }
    for (module, state) in worst {
        series("etl_circuit_state", &[("module", module)], level(state));
    }
}

/// Of those that are over, operators are told by `Orchestrator::canaries`.
fn canaries(stats: &Stats, series: &mut Series<'_>) {
    for canary in stats.canaries.iter().filter(|canary| canary.running) {
        let version = match canary.mode {
            CanaryMode::Canary => "canary",
            CanaryMode::Shadow => "shadow",
        };
        let mut of = |version, outcome, count| {
            let labels = [
                ("module", &*canary.module),
                ("version", version),
                ("outcome", outcome),
            ];
            series("etl_canary_records_total", &labels, Figure::Count(count));
        };
        for (version, handled) in [("stable", canary.stable), (version, canary.canary)] {
            of(
                version,
                "ok",
                handled.records.saturating_sub(handled.failed),
            );
            of(version, "failed", handled.failed);
        }
        if canary.mode == CanaryMode::Shadow {
            of(version, "different", canary.different);
            of(version, "skipped", canary.skipped);
        }
    }
}

fn system(stats: &Stats, loaded: &Loaded, series: &mut Series<'_>) {
    let totals = &stats.counts.totals;
    let created = stats.instances_created;
    let destroyed = created.saturating_sub(stats.instances as u64);
    let limit = loaded.config.instance_pool.max_total_memory_bytes;
    series("etl_instances_created_total", &[], Figure::Count(created));
    series(
        "etl_instances_destroyed_total",
        &[],
        Figure::Count(destroyed),
    );
    series("etl_instance_memory_limit_bytes", &[], level(limit));
    series(
        "etl_filter_duration_seconds",
        &[],
        Figure::Durations(&totals.filter_duration),
    );
    for (kind, count) in [
        ("not_json", totals.conditions_not_json),
        ("ill_typed", totals.conditions_ill_typed),
        ("abandoned", totals.conditions_abandoned),
    ] {
        series(
            "etl_condition_errors_total",
            &[("kind", kind)],
            Figure::Count(count),
        );
    }
    for (class, waiting) in ["0", "1-2", "3+"].into_iter().zip(stats.queue.waiting) {
        series("etl_queue_records", &[("class", class)], level(waiting));
    }
    for (result, count) in [
        ("applied", stats.reloads),
        ("refused", stats.reloads_refused),
    ] {
        series(
            "etl_reloads_total",
            &[("result", result)],
            Figure::Count(count),
        );
    }
    series("etl_config_generation", &[], level(stats.generation));
}

#[allow(
    clippy::cast_precision_loss,
    reason = "nothing counted here is beyond 2^53"
)]
fn level(value: u64) -> Figure<'static> {
    Figure::Level(value as f64)
}
