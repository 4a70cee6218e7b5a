//! Whether all is well, judged in the process itself by the thresholds of the alerts.
//!
//! What is judged is a window: from a state of the counters some time ago to the present one. States are taken when somebody asks or
//! collects metrics, not more often than every few seconds, so that asking often does not make the window short.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::alerts::{self, ENOUGH, ERROR_RATE, MEMORY_USED, SLOW_SECONDS};
use crate::breaker::CircuitState;
use crate::failure::FailureKind;
use crate::orchestrator::Stats;

/// How far back what happened counts.
const WINDOW: Duration = Duration::from_secs(60);
/// The states that the window moves over are so far apart.
const STEP: Duration = Duration::from_secs(5);

/// Whether all is well.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Health {
    /// What is not. Nothing: all is well.
    pub reasons: Vec<Reason>,
}

/// Something that is not well.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reason {
    /// The name of the [`Alert`](crate::Alert) that stands for it.
    pub alert: &'static str,
    /// The pipeline that it is about.
    pub pipeline: Option<Arc<str>>,
    /// The module that it is about.
    pub module: Option<Arc<str>>,
    /// What it is, with figures.
    pub message: String,
}

impl Health {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.reasons.is_empty()
    }

    /// `ok` or `degraded`.
    #[must_use]
    pub fn state(&self) -> &'static str {
        if self.is_ok() { "ok" } else { "degraded" }
    }
}

/// Earlier states of the counters, oldest first.
#[derive(Default)]
pub(crate) struct Watch(VecDeque<(Instant, Stats)>);

impl Watch {
    /// Takes the present state, and judges what has happened since the beginning of the window.
    pub(crate) fn judge(&mut self, now: Instant, stats: &Stats, memory_limit: u64) -> Health {
        // The oldest that is kept is the youngest that is older than the window.
        while self
            .0
            .get(1)
            .is_some_and(|(taken, _)| now.saturating_duration_since(*taken) >= WINDOW)
        {
            self.0.pop_front();
        }
        let health = match self.0.front() {
            Some((_, before)) => judge(before, stats, memory_limit),
            None => judge(&Stats::default(), stats, memory_limit),
        };
        let due = self
            .0
            .back()
            .is_none_or(|(taken, _)| now.saturating_duration_since(*taken) >= STEP);
        if due {
            // The first window begins with the process, not with the first question.
            if self.0.is_empty() {
                self.0.push_back((now, Stats::default()));
            } else {
                self.0.push_back((now, stats.clone()));
            }
        }
        health
    }
}

#[allow(
    clippy::cast_precision_loss,
    reason = "shares of counts need no more digits"
)]
fn share(part: u64, whole: u64) -> f64 {
    part as f64 / whole.max(1) as f64
}

fn judge(before: &Stats, now: &Stats, memory_limit: u64) -> Health {
    let mut reasons = Vec::new();
    pipelines(before, now, &mut reasons);
    modules(before, now, &mut reasons);
    let mut general = |alert, message| {
        reasons.push(Reason {
            alert,
            pipeline: None,
            module: None,
            message,
        });
    };
    let used = share(now.instance_memory_bytes, memory_limit);
    if used > MEMORY_USED {
        general(
            alerts::MEMORY_HIGH,
            format!(
                "instances have {:.0} % of the memory that they may have",
                used * 100.0
            ),
        );
    }
    let abandoned = |stats: &Stats| stats.counts.totals.conditions_abandoned;
    let count = abandoned(now).saturating_sub(abandoned(before));
    if count > 0 {
        general(
            alerts::CONDITION_ERRORS,
            format!("{count} conditions were given up"),
        );
    }
    let count = now.reloads_refused.saturating_sub(before.reloads_refused);
    if count > 0 {
        general(
            alerts::RELOAD_REFUSED,
            format!("{count} configurations were refused"),
        );
    }
    reasons.sort_by(|left, right| {
        let key = |reason: &Reason| {
            (
                reason.alert,
                reason.pipeline.clone(),
                reason.module.clone(),
                reason.message.clone(),
            )
        };
        key(left).cmp(&key(right))
    });
    Health { reasons }
}

fn pipelines(before: &Stats, now: &Stats, reasons: &mut Vec<Reason>) {
    for (pipeline, totals) in &now.counts.pipelines {
        let earlier = before
            .counts
            .pipelines
            .get(pipeline)
            .cloned()
            .unwrap_or_default();
        let mut reason = |alert, message| {
            reasons.push(Reason {
                alert,
                pipeline: Some(pipeline.clone()),
                module: None,
                message,
            });
        };
        let durations = totals.duration.since(&earlier.duration);
        // Of the bucket in which the threshold lies nobody knows on which side of it.
        let slow = durations
            .quantile(0.95)
            .filter(|p95| p95.as_secs_f64() / 2.0 >= SLOW_SECONDS)
            .filter(|_| durations.count() >= ENOUGH);
        if let Some(p95) = slow {
            let bound = p95.min(Duration::from_secs(3600)) / 2;
            reason(
                alerts::PIPELINE_SLOW,
                format!("one record in twenty takes longer than {bound:?}"),
            );
        }
        let [forwarded, stopped, dropped, dead] = {
            let (now, before) = (totals.outcomes(), earlier.outcomes());
            std::array::from_fn(|index| now[index].1.saturating_sub(before[index].1))
        };
        if forwarded + dropped == 0 && stopped + dead > 0 {
            reason(
                alerts::PIPELINE_FAILING,
                format!("all {} records failed", stopped + dead),
            );
        }
    }
}

fn modules(before: &Stats, now: &Stats, reasons: &mut Vec<Reason>) {
    for (module, totals) in &now.counts.modules {
        let earlier = before
            .counts
            .modules
            .get(module)
            .cloned()
            .unwrap_or_default();
        let mut reason = |alert, message| {
            reasons.push(Reason {
                alert,
                pipeline: None,
                module: Some(module.clone()),
                message,
            });
        };
        let done =
            |totals: &crate::stats::ModuleTotals| totals.kept + totals.changed + totals.dropped;
        let well = done(totals).saturating_sub(done(&earlier));
        let failed = totals.failed.saturating_sub(earlier.failed);
        let errors = |kind| totals.errors(kind).saturating_sub(earlier.errors(kind));
        let rate = share(failed, well + failed);
        if rate > ERROR_RATE && well + failed >= ENOUGH {
            reason(
                alerts::MODULE_ERRORS,
                format!("{:.0} % of its calls fail", rate * 100.0),
            );
        }
        let exhausted = errors(FailureKind::PoolExhausted);
        if exhausted > 0 {
            reason(
                alerts::POOL_EXHAUSTED,
                format!("{exhausted} calls found no instance in time"),
            );
        }
        let open = now
            .circuits
            .iter()
            .any(|circuit| circuit.module == *module && circuit.state == CircuitState::Open);
        let timeouts = errors(FailureKind::Timeout);
        if open {
            reason(
                alerts::MODULE_NOT_RESPONDING,
                "its circuit is open".to_owned(),
            );
        } else if well == 0 && timeouts > 0 {
            reason(
                alerts::MODULE_NOT_RESPONDING,
                format!("all {timeouts} calls ran out of time"),
            );
        }
        for kind in [FailureKind::MemoryLimit, FailureKind::Timeout] {
            let count = errors(kind);
            if count > 0 {
                reason(
                    alerts::LIMIT_BREACHED,
                    format!("{count} calls ended with {kind}"),
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::orchestrator::Circuit;
    use crate::stats::{ModuleTotals, PipelineTotals};

    fn names(health: &Health) -> Vec<&'static str> {
        health.reasons.iter().map(|reason| reason.alert).collect()
    }

    fn with(
        module: impl FnOnce(&mut ModuleTotals),
        pipeline: impl FnOnce(&mut PipelineTotals),
    ) -> Stats {
        let mut stats = Stats::default();
        module(stats.counts.modules.entry("m".into()).or_default());
        pipeline(stats.counts.pipelines.entry("p".into()).or_default());
        stats
    }

    fn slow(pipeline: &mut PipelineTotals) {
        pipeline.left = 100;
        pipeline.duration.buckets.resize(25, 0);
        pipeline.duration.buckets[5] = 94;
        // 16 to 32 ms.
        pipeline.duration.buckets[15] = 6;
    }

    #[test]
    fn every_alert_has_its_reason() {
        let none = |_: &mut _| {};
        let nothing = |_: &mut _| {};
        let mut open = Stats::default();
        open.counts.modules.entry("m".into()).or_default();
        open.circuits.push(Circuit {
            pipeline: "p".into(),
            module: "m".into(),
            state: CircuitState::Open,
        });
        let memory = Stats {
            instance_memory_bytes: 81,
            ..Stats::default()
        };
        let mut conditions = Stats::default();
        conditions.counts.totals.conditions_abandoned = 1;
        let refused = Stats {
            reloads_refused: 1,
            ..Stats::default()
        };
        let cases: Vec<(Stats, Vec<&str>)> = vec![
            (with(none, nothing), vec![]),
            (with(none, slow), vec![alerts::PIPELINE_SLOW]),
            (
                with(
                    |module| (module.kept, module.failed, module.trap) = (94, 6, 6),
                    nothing,
                ),
                vec![alerts::MODULE_ERRORS],
            ),
            (
                with(|module| (module.kept, module.failed) = (95, 5), nothing),
                vec![],
            ),
            (
                with(
                    |module| (module.kept, module.failed, module.pool_exhausted) = (99, 1, 1),
                    nothing,
                ),
                vec![alerts::POOL_EXHAUSTED],
            ),
            (memory, vec![alerts::MEMORY_HIGH]),
            (
                with(none, |pipeline| (pipeline.left, pipeline.stopped) = (3, 3)),
                vec![alerts::PIPELINE_FAILING],
            ),
            (
                with(none, |pipeline| (pipeline.left, pipeline.stopped) = (4, 3)),
                vec![],
            ),
            (open, vec![alerts::MODULE_NOT_RESPONDING]),
            (
                with(|module| (module.failed, module.timeout) = (3, 3), nothing),
                vec![alerts::MODULE_NOT_RESPONDING, alerts::LIMIT_BREACHED],
            ),
            (conditions, vec![alerts::CONDITION_ERRORS]),
            (
                with(
                    |module| (module.kept, module.failed, module.memory_limit) = (99, 1, 1),
                    nothing,
                ),
                vec![alerts::LIMIT_BREACHED],
            ),
            (refused, vec![alerts::RELOAD_REFUSED]),
        ];
        let mut seen = Vec::new();
        for (stats, expected) in cases {
            let found = names(&judge(&Stats::default(), &stats, 100));
            assert_eq!(found, expected);
            seen.extend(found);
            // What was so before is no news.
            if stats.circuits.is_empty() && stats.instance_memory_bytes == 0 {
                assert_eq!(judge(&stats, &stats, 100), Health::default());
            }
        }
        for alert in alerts::alerts() {
            assert!(seen.contains(&alert.name), "no case for {}", alert.name);
        }
    }

    #[test]
    fn the_window_moves() {
        let mut watch = Watch::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let failing = |count| {
            with(
                |_| {},
                |pipeline| (pipeline.left, pipeline.stopped) = (count, count),
            )
        };
        assert!(watch.judge(start, &Stats::default(), 100).is_ok());
        assert_eq!(watch.judge(at(10), &failing(3), 100).state(), "degraded");
        assert_eq!(watch.judge(at(60), &failing(3), 100).state(), "degraded");
        assert_eq!(watch.judge(at(69), &failing(3), 100).state(), "degraded");
        assert_eq!(watch.judge(at(71), &failing(3), 100).state(), "ok");
        assert_eq!(watch.judge(at(72), &failing(4), 100).state(), "degraded");
    }
}
