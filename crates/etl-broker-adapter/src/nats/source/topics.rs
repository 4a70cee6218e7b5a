//! Topic and partition of each subject, made once for a subject that comes again.

use std::collections::HashMap;
use std::sync::Arc;

use super::partition;
use crate::PartitionKey;

/// Subjects that are remembered. Where there are more, all are forgotten and remembered anew.
const REMEMBERED: usize = 4_096;

/// What the subjects of one stream mean.
pub(super) struct Topics {
    stream: String,
    created: i128,
    prefix: Option<String>,
    known: HashMap<Box<str>, (Arc<str>, PartitionKey)>,
}

impl Topics {
    /// Of a stream that was made then; `prefix` stands before every topic.
    pub(super) fn new(stream: &str, created: i128, prefix: Option<&str>) -> Self {
        Self {
            stream: stream.to_owned(),
            created,
            prefix: prefix.map(str::to_owned),
            known: HashMap::new(),
        }
    }

    pub(super) fn of(&mut self, subject: &str) -> (Arc<str>, PartitionKey) {
        if let Some((topic, partition)) = self.known.get(subject) {
            return (topic.clone(), *partition);
        }
        if self.known.len() >= REMEMBERED {
            self.known.clear();
        }
        let topic = super::super::mapping::topic(subject, self.prefix.as_deref());
        let own = (
            Arc::from(topic),
            partition(&self.stream, self.created, subject),
        );
        self.known.insert(subject.into(), own.clone());
        own
    }
}
