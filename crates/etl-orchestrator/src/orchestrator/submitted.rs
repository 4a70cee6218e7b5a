//! A batch on its way through the queue, as the caller of `process_batch` holds it: which partitions it has, and its outcomes to come.

use super::*;

/// The partitions of a batch, each once.
#[derive(Default)]
pub(super) struct Partitions {
    pub(super) list: SmallVec<[Partition; 1]>,
    known: rustc_hash::FxHashSet<Partition>,
}

impl Partitions {
    pub(super) fn add(&mut self, record: &Record) {
        let same =
            |partition: &Partition| partition.1 == record.partition && partition.0 == record.topic;
        if self.list.last().is_some_and(same) {
            return;
        }
        let partition = (record.topic.clone(), record.partition);
        match self.list.len() {
            0 => self.list.push(partition),
            1..8 if self.list.iter().any(same) => {}
            1..8 => self.list.push(partition),
            _ => {
                if self.known.is_empty() {
                    self.known.extend(self.list.iter().cloned());
                }
                if self.known.insert(partition.clone()) {
                    self.list.push(partition);
                }
            }
        }
    }
}

pub(super) enum Submitted {
    Done(Vec<Outcome>),
    Waiting(Ticket),
}

/// The right to the outcomes of a batch. Dropping it gives the batch up as far as it has not been let in.
pub(super) struct Ticket {
    pub(super) job: Arc<Job>,
    pub(super) receiver: oneshot::Receiver<Vec<Outcome>>,
}

impl Submitted {
    pub(super) async fn outcomes(self) -> Result<Vec<Outcome>, ProcessError> {
        match self {
            Self::Done(outcomes) => Ok(outcomes),
            Self::Waiting(mut ticket) => (&mut ticket.receiver).await.map_err(|_| {
                let kind = if ticket.job.is_broken() {
                    ProcessErrorKind::Broken
                } else {
                    ProcessErrorKind::Closed
                };
                ProcessError::new(kind)
            }),
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.job.cancel();
    }
}
