//! What a run did: for people, or as one JSON object with the same figures.

use std::time::Duration;

use etl_broker_adapter::Counts;
use etl_orchestrator::{Health, Reason};
use serde_json::{Value, json};

use crate::output::{counted, duration, grouped};

/// The figures of a run.
#[derive(Debug, Clone)]
pub struct Summary {
    pub counts: Counts,
    pub elapsed: Duration,
    /// Of the configuration in force at the end: 1, and one more for each successful reload.
    pub generation: u64,
    /// Whether all is well at the end.
    pub health: Health,
    /// Why it ended early, if it did.
    pub ended_early: Option<&'static str>,
}

impl Summary {
    fn records_per_second(&self) -> f64 {
        self.counts.records_in as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }

    /// One line of JSON.
    pub fn json(&self) -> String {
        let round = |number: f64, places: f64| (number * places).round() / places;
        json!({
            "records_in": self.counts.records_in,
            "records_out": self.counts.records_out,
            "dropped": self.counts.dropped,
            "dead_lettered": self.counts.dead_lettered,
            "stopped": self.counts.stopped,
            "skipped_modules": self.counts.skipped_modules,
            "elapsed_seconds": round(self.elapsed.as_secs_f64(), 1e6),
            "records_per_second": round(self.records_per_second(), 10.0),
            "generation": self.generation,
            "health": self.health.state(),
            "health_reasons": reasons(&self.health),
        })
        .to_string()
    }

    /// A line or two for people: what did not happen is not mentioned.
    pub fn text(&self) -> String {
        let counts = &self.counts;
        let mut text = format!(
            "{} in, {} out",
            counted(counts.records_in, "record"),
            grouped(counts.records_out)
        );
        for (count, what) in [
            (counts.dropped, "dropped"),
            (counts.dead_lettered, "dead-lettered"),
        ] {
            if count > 0 {
                text.push_str(&format!(", {} {what}", grouped(count)));
            }
        }
        text.push_str(&format!(
            ", in {} ({}/s), generation {}\n",
            duration(self.elapsed),
            grouped(self.records_per_second() as u64),
            self.generation
        ));
        let failures: Vec<String> = [
            (counts.stopped, "pipeline undone", "pipelines undone"),
            (counts.skipped_modules, "module skipped", "modules skipped"),
        ]
        .into_iter()
        .filter(|(count, ..)| *count > 0)
        .map(|(count, one, many)| {
            format!("{} {}", grouped(count), if count == 1 { one } else { many })
        })
        .collect();
        if !failures.is_empty() {
            text.push_str(&format!("modules failed: {}\n", failures.join(", ")));
        }
        for reason in &self.health.reasons {
            text.push_str(&format!("degraded: {}\n", described(reason)));
        }
        if let Some(reason) = self.ended_early {
            text.push_str(&format!("ended early: {reason}\n"));
        }
        text
    }
}

/// `pipeline orders: all 7 records failed`.
fn described(reason: &Reason) -> String {
    match (&reason.pipeline, &reason.module) {
        (Some(pipeline), _) => format!("pipeline {pipeline}: {}", reason.message),
        (None, Some(module)) => format!("module {module}: {}", reason.message),
        (None, None) => reason.message.clone(),
    }
}

/// What is not well, as JSON.
pub fn reasons(health: &Health) -> Value {
    let reason = |reason: &Reason| {
        json!({
            "alert": reason.alert,
            "pipeline": reason.pipeline.as_deref(),
            "module": reason.module.as_deref(),
            "message": reason.message,
        })
    };
    health.reasons.iter().map(reason).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary() -> Summary {
        Summary {
            counts: Counts::default(),
            elapsed: Duration::from_millis(500),
            generation: 1,
            health: Health::default(),
            ended_early: None,
        }
    }

    #[test]
    fn what_did_not_happen_is_not_mentioned() {
        assert_eq!(
            summary().text(),
            "0 records in, 0 out, in 0.50 s (0/s), generation 1\n"
        );
    }

    #[test]
    fn everything_that_happened_is() {
        let mut summary = summary();
        summary.counts.records_in = 11_000;
        summary.counts.records_out = 10_000;
        summary.counts.dropped = 900;
        summary.counts.dead_lettered = 100;
        summary.counts.stopped = 1;
        summary.counts.skipped_modules = 2;
        summary.ended_early = Some("Ctrl-C");
        assert_eq!(
            summary.text(),
            "11,000 records in, 10,000 out, 900 dropped, 100 dead-lettered, in 0.50 s (22,000/s), generation 1\n\
             modules failed: 1 pipeline undone, 2 modules skipped\n\
             ended early: Ctrl-C\n"
        );
        let json: Value = serde_json::from_str(&summary.json()).expect("JSON");
        assert_eq!(json["records_per_second"], 22_000.0);
        assert_eq!(json["skipped_modules"], 2);
        assert!(!summary.json().contains('\n'));
    }
}
