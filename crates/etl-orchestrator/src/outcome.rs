//! What became of a record.

use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;

use crate::failure::{FailureKind, TransformError};
use crate::record::{Headers, Record};
use crate::stats::TotalCounters;
use crate::view::View;

/// What became of one input record.
///
/// What goes on are views, which make a record only where one is asked for ([`View::into_record`]): a record that passed with nothing
/// changed is then the very same `Arc`, and whoever only writes a changed one out reads it where it is.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Outcome {
    /// The records to send on, in order: none where it was dropped, several where modules emitted.
    pub outputs: SmallVec<[View; 1]>,
    /// What goes to dead-letter topics.
    pub dead_letters: Vec<DeadLetter>,
    /// Records that a module dropped, emitted ones included.
    pub dropped: u32,
    /// Records that modules emitted.
    pub emitted: u32,
    /// Pipelines that were undone, so that their input went on.
    pub stopped: u32,
    /// Module calls (or, in a strict parallel stage, whole stages) that failed and were skipped.
    pub skipped: u32,
    /// Times that parallel modules wrote the same thing differently and the later one won.
    pub conflicts: u32,
    /// Further attempts that were made.
    pub retries: u32,
}

impl Outcome {
    /// Of a record that nothing selected.
    #[inline]
    pub(crate) fn passed(record: Arc<Record>) -> Self {
        Self::forwarded(View::new(record))
    }

    /// Of a record to which nothing happened but changes.
    #[inline]
    pub(crate) fn forwarded(view: View) -> Self {
        Self {
            outputs: SmallVec::from_buf([view]),
            ..Self::default()
        }
    }

    pub(crate) fn count(&self, totals: &TotalCounters) {
        totals.records_out.add(self.outputs.len() as u64);
        if self.dropped | self.emitted | self.stopped | self.skipped != 0
            || !self.dead_letters.is_empty()
        {
            totals.dropped.add(u64::from(self.dropped));
            totals.emitted.add(u64::from(self.emitted));
            totals.stopped.add(u64::from(self.stopped));
            totals.skipped.add(u64::from(self.skipped));
            totals.dead_lettered.add(self.dead_letters.len() as u64);
        }
    }
}

/// A record on its way to a dead-letter topic, with why.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct DeadLetter {
    /// The record as the failing module saw it, on the dead-letter topic and with the `etl-dlq-*` headers.
    pub record: Arc<Record>,
    /// The pipeline.
    pub pipeline: Arc<str>,
    /// The module.
    pub module: Arc<str>,
    /// What went wrong.
    pub error: TransformError,
    /// Whether the record itself went on: the module was skipped and this is a copy.
    pub copy: bool,
    /// The trace by which logs know it: the record's own `traceparent`, or a new number.
    pub trace: String,
}

/// Longest message in a dead letter, in bytes.
const MAX_MESSAGE: usize = 1024;

/// What a dead letter tells about the place and the time of the failure.
pub(crate) struct Circumstances<'a> {
    pub(crate) topic: String,
    pub(crate) pipeline: &'a Arc<str>,
    pub(crate) priority: u32,
    pub(crate) module: &'a Arc<str>,
    pub(crate) sha256: Option<&'a str>,
    pub(crate) generation: u64,
    pub(crate) attempts: u32,
    pub(crate) failed_at: i64,
    pub(crate) trace: String,
    pub(crate) copy: bool,
}

/// Makes a dead letter of a record as the failing module saw it.
pub(crate) fn dead_letter(
    view: &View,
    error: &TransformError,
    at: Circumstances<'_>,
) -> DeadLetter {
    let original = view.original();
    // What an earlier failure wrote (of a record that was redriven) would be taken for this one's.
    let mut headers: Vec<(Arc<str>, Bytes)> = view
        .headers()
        .iter()
        .filter(|(name, _)| !name.starts_with("etl-dlq-"))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    let mut add = |name: &str, value: String| headers.push((name.into(), value.into()));
    add("etl-dlq-topic", original.topic.to_string());
    add("etl-dlq-partition", original.partition.to_string());
    add("etl-dlq-offset", original.offset.to_string());
    if let Some(timestamp) = original.timestamp {
        add("etl-dlq-timestamp", timestamp.to_string());
    }
    add("etl-dlq-pipeline", at.pipeline.to_string());
    add("etl-dlq-stage", at.priority.to_string());
    add("etl-dlq-module", at.module.to_string());
    if let Some(sha256) = at.sha256 {
        add("etl-dlq-module-sha256", sha256.to_owned());
    }
    add("etl-dlq-generation", at.generation.to_string());
    add("etl-dlq-error", error.kind().name().to_owned());
    add("etl-dlq-message", clipped(error.message()).to_owned());
    if let Some(code) = error.code() {
        add("etl-dlq-code", code.to_string());
    }
    add("etl-dlq-attempts", at.attempts.to_string());
    add("etl-dlq-failed-at", at.failed_at.to_string());
    add("etl-dlq-trace", at.trace.clone());
    let record = Arc::new(Record {
        topic: at.topic.into(),
        headers: Headers::from_iter(headers),
        ..(*view.to_record()).clone()
    });
    DeadLetter {
        record,
        pipeline: at.pipeline.clone(),
        module: at.module.clone(),
        error: error.clone(),
        copy: at.copy,
        trace: at.trace,
    }
}

impl DeadLetter {
    /// What went wrong, as a kind.
    #[must_use]
    pub fn kind(&self) -> FailureKind {
        self.error.kind()
    }
}

/// The beginning of a message, cut between characters.
fn clipped(message: &str) -> &str {
    &message[..message.floor_char_boundary(MAX_MESSAGE)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_cut_between_characters() {
        let long = "é".repeat(600);
        assert_eq!(clipped(&long).len(), 1024);
        let odd = format!("x{long}");
        assert_eq!(clipped(&odd).len(), 1023);
        assert_eq!(clipped("short"), "short");
    }
}
