//! Writes to the log: what is written waits in memory, and confirming is one transaction.

use std::sync::Arc;

use super::chunk::MAX_RECORD;
use super::log::Log;
use super::model::{Append, Position};
use super::source::Handed;
use super::url::TopicPatterns;
use crate::{AdapterError, AdapterErrorKind, BoxFuture, Outputs, Positions, Refused, Sink};

/// The longest name of a topic, in bytes.
const MAX_TOPIC: usize = 4096;

/// Topics of a folder, to be written to. A topic that does not exist is made with its first record.
pub struct EmbeddedSink {
    log: Arc<Log>,
    prefix: Arc<str>,
    durable: bool,
    /// Topics that the source of this run reads from the same folder.
    read: Option<TopicPatterns>,
    written: Vec<Outputs>,
}

impl EmbeddedSink {
    /// Over an open log. Before each topic `prefix` is put; where not `durable`, commits are not synced one by one.
    pub fn new(log: Arc<Log>, prefix: &str, durable: bool) -> Self {
        Self {
            log,
            prefix: prefix.into(),
            durable,
            read: None,
            written: Vec::new(),
        }
    }

    /// The sink of a run that reads these topics of the same folder: a record on one of them would be read again, for ever, and is refused.
    #[must_use]
    pub fn reading(mut self, topics: TopicPatterns) -> Self {
        self.read = Some(topics);
        self
    }

    fn refusals(&self, written: &[Outputs]) -> Vec<Refused> {
        let outputs = written.iter().flat_map(|outputs| outputs.iter());
        let refused = |(index, output): (usize, &crate::Output)| {
            let reason = self.reason(output)?;
            Some(Refused { index, reason })
        };
        outputs.enumerate().filter_map(refused).collect()
    }

    fn reason(&self, output: &crate::Output) -> Option<String> {
        let record = &output.record;
        let length = self.prefix.len() + record.topic.len();
        if length == 0 {
            return Some("its topic has no name".to_owned());
        }
        if length > MAX_TOPIC {
            return Some(format!(
                "its topic's name has {length} bytes, over the limit of {MAX_TOPIC}"
            ));
        }
        let weight = record.weight();
        if weight > MAX_RECORD {
            return Some(format!(
                "it has {weight} bytes, over the log's limit of {MAX_RECORD}"
            ));
        }
        let read = self.read.as_ref()?;
        let again = match &*self.prefix {
            "" => read.matches(&record.topic),
            prefix => read.matches(&format!("{prefix}{}", record.topic)),
        };
        (again && !output.origin.is_dead_letter()).then(|| {
            format!(
                "it would come in again: this run reads topic {}{} of {}",
                self.prefix,
                record.topic,
                self.log.name()
            )
        })
    }

    async fn commit(&mut self, positions: Vec<Positions>) -> Result<Vec<Refused>, AdapterError> {
        let written = std::mem::take(&mut self.written);
        let refused = self.refusals(&written);
        if !refused.is_empty() && !positions.is_empty() {
            return Ok(refused);
        }
        let positions = self.own(positions)?;
        let (log, prefix, durable) = (self.log.clone(), self.prefix.clone(), self.durable);
        let left_out: Vec<usize> = refused.iter().map(|refused| refused.index).collect();
        blocking(move || {
            let records = written.iter().flat_map(|outputs| outputs.iter());
            let records = records.enumerate();
            let records = records.filter(|(index, _)| left_out.binary_search(index).is_err());
            let append = Append {
                records: records.map(|(_, output)| &*output.record).collect(),
                prefix: &prefix,
                positions,
                not_durable: !durable,
                ..Append::default()
            };
            if append.records.is_empty() && append.positions.is_empty() {
                return Ok(());
            }
            log.commit(&append)
        })
        .await?;
        Ok(refused)
    }

    /// The newest position of each partition.
    fn own(&self, positions: Vec<Positions>) -> Result<Vec<(Arc<str>, Position)>, AdapterError> {
        let mut own: Vec<(Arc<str>, Position)> = Vec::new();
        for positions in &positions {
            let handed = positions
                .get::<Handed>()
                .filter(|handed| Arc::ptr_eq(&handed.log, &self.log));
            let Some(handed) = handed else {
                return Err(AdapterError::new(
                    AdapterErrorKind::Unsupported,
                    format!("these are not positions of {}", self.log.name()),
                ));
            };
            for at in &handed.positions {
                let same = |(_, other): &&mut (Arc<str>, Position)| {
                    (other.topic, other.partition) == (at.topic, at.partition)
                };
                match own.iter_mut().find(same) {
                    Some((_, other)) => *other = at.clone(),
                    None => own.push((handed.consumer.clone(), at.clone())),
                }
            }
        }
        Ok(own)
    }
}

impl Sink for EmbeddedSink {
    fn write(&mut self, outputs: Outputs) -> BoxFuture<'_, Result<(), AdapterError>> {
        self.written.push(outputs);
        Box::pin(async { Ok(()) })
    }

    fn confirm(&mut self) -> BoxFuture<'_, Result<Vec<Refused>, AdapterError>> {
        Box::pin(self.commit(Vec::new()))
    }

    fn confirm_with(
        &mut self,
        positions: Vec<Positions>,
    ) -> BoxFuture<'_, Result<Vec<Refused>, AdapterError>> {
        Box::pin(self.commit(positions))
    }

    /// Commits that were not synced are, with this empty one.
    fn finish(&mut self) -> BoxFuture<'_, Result<(), AdapterError>> {
        let log = self.log.clone();
        Box::pin(blocking(move || log.commit(&Append::default())))
    }
}

/// Runs what blocks where that is allowed.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, AdapterError> + Send + 'static,
) -> Result<T, AdapterError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(AdapterError::new(
            AdapterErrorKind::Io,
            format!("work on the log ended by itself: {error}"),
        )),
    }
}
