//! The task of one sink: takes what is to be written, writes it, confirms, and says so.
//!
//! Whatever has gathered in the queue while the last confirmation was waited for is written together and confirmed together, so that a
//! sink whose confirmations are dear (a commit with a sync, a round trip) sees few of them, and one that is not busy confirms at once.
//!
//! A failure that passes is waited out here: nothing but this sink's queue grows meanwhile, and the runner bounds that.

use std::sync::Arc;

use etl_config::TopicTemplate;
use tokio::sync::{mpsc, oneshot, watch};

use super::Backoff;
use super::flow::LotId;
use crate::letters::{self, Cause};
use crate::status::{Role, Status, Waiting};
use crate::{AdapterError, AdapterErrorKind, Output, Outputs, Positions, Refused, Sink};

/// Lots that are written before a confirmation is asked for, at most.
const LOTS_A_CONFIRMATION: usize = 64;

/// Something to write.
pub(super) struct Job {
    /// What it belongs to; `None`: the one who sent it waits for `done`.
    pub(super) lot: Option<LotId>,
    pub(super) outputs: Outputs,
    /// Of the source, to be committed with the outputs.
    pub(super) positions: Option<Positions>,
    pub(super) done: Option<oneshot::Sender<()>>,
}

/// What a sink's task tells the runner.
pub(super) enum Delivered {
    /// All of these are safe, but for the letters that came back.
    Confirmed(Role, Vec<Done>),
    /// Nothing more can be made safe here.
    Failed(AdapterError),
}

/// A job that is done.
pub(super) struct Done {
    pub(super) lot: LotId,
    /// Records that the sink refused, all told.
    pub(super) refused: u64,
    /// Dead letters of those that are not written yet.
    pub(super) letters: Vec<Output>,
}

pub(super) struct Delivery {
    pub(super) role: Role,
    pub(super) sink: Box<dyn Sink>,
    pub(super) jobs: mpsc::UnboundedReceiver<Job>,
    /// The task for dead letters, where they go elsewhere.
    pub(super) letters: Option<mpsc::UnboundedSender<Job>>,
    pub(super) delivered: mpsc::UnboundedSender<Delivered>,
    pub(super) backoff: Backoff,
    pub(super) status: Arc<Status>,
    pub(super) topic: TopicTemplate,
    /// What is not confirmed is given up.
    pub(super) give_up: watch::Receiver<bool>,
}

impl Drop for Delivery {
    /// A runner that heard nothing of a sink that panicked would wait for it.
    fn drop(&mut self) {
        if std::thread::panicking() {
            let error = AdapterError::new(AdapterErrorKind::Io, "the task of a sink panicked");
            let _ = self.delivered.send(Delivered::Failed(error));
        }
    }
}

impl Delivery {
    /// Works until there are no more jobs to come, or are to be given up, then finishes the sink: what it has confirmed may wait for that.
    pub(super) async fn run(mut self) -> Result<(), AdapterError> {
        let mut give_up = self.give_up.clone();
        let works = tokio::select! {
            biased;
            // An error means that nobody can ask any more.
            Ok(_) = give_up.wait_for(|give_up| *give_up) => true,
            works = self.work() => works,
        };
        match self.sink.finish().await {
            // What was wrong with it was said.
            Err(error) if !works => {
                tracing::debug!(%error, "a sink that failed was not finished");
                Ok(())
            }
            finished => finished,
        }
    }

    /// Until there are no more jobs to come. `false`: the sink failed.
    async fn work(&mut self) -> bool {
        let mut jobs = Vec::new();
        while self.jobs.recv_many(&mut jobs, LOTS_A_CONFIRMATION).await > 0 {
            let delivered = match self.deliver(&mut jobs).await {
                Ok(done) => Delivered::Confirmed(self.role, done),
                Err(error) => Delivered::Failed(error),
            };
            let failed = matches!(delivered, Delivered::Failed(_));
            // A runner that has gone needs no answer.
            if self.delivered.send(delivered).is_err() || failed {
                return !failed;
            }
        }
        true
    }

    async fn deliver(&mut self, jobs: &mut Vec<Job>) -> Result<Vec<Done>, AdapterError> {
        let positions: Vec<Positions> =
            jobs.iter_mut().filter_map(|j| j.positions.take()).collect();
        let mut writing: Vec<(usize, Outputs)> = jobs
            .iter()
            .map(|job| job.outputs.clone())
            .enumerate()
            .collect();
        let mut refused = vec![0; jobs.len()];
        let mut elsewhere: Vec<Vec<Output>> = vec![Vec::new(); jobs.len()];
        loop {
            let outputs: Vec<&Outputs> = writing.iter().map(|(_, outputs)| outputs).collect();
            let refusals = persist(
                &mut *self.sink,
                &outputs,
                &positions,
                Circumstances {
                    role: self.role,
                    backoff: self.backoff,
                    status: &self.status,
                },
            )
            .await?;
            if refusals.is_empty() {
                break;
            }
            // With positions nothing was committed, and everything else is written again; without, only the letters are.
            let again = !positions.is_empty();
            let mut next = Vec::new();
            for (job, outputs, refusals) in by_job(&writing, refusals)? {
                let mut kept: Vec<Output> = Vec::new();
                let mut refusals = refusals.into_iter().peekable();
                for (index, output) in outputs.iter().enumerate() {
                    match refusals.next_if(|(refused, _)| *refused == index) {
                        None if again => kept.push(output.clone()),
                        None => {}
                        Some((_, reason)) => {
                            let letter = self.letter(output, &reason)?;
                            if !output.origin.is_dead_letter() {
                                refused[job] += 1;
                            }
                            match &self.letters {
                                Some(_) if !output.origin.is_dead_letter() => {
                                    elsewhere[job].push(letter);
                                }
                                _ => kept.push(letter),
                            }
                        }
                    }
                }
                if again || !kept.is_empty() {
                    next.push((job, kept.into()));
                }
            }
            if again {
                send_letters(self.letters.as_ref(), &mut elsewhere).await;
            }
            if next.is_empty() {
                break;
            }
            writing = next;
        }
        let mut done = Vec::with_capacity(jobs.len());
        for ((job, refused), letters) in jobs.drain(..).zip(refused).zip(elsewhere) {
            if let Some(answer) = job.done {
                // Whoever waited may have been given up.
                let _ = answer.send(());
            }
            done.extend(job.lot.map(|lot| Done {
                lot,
                refused,
                letters,
            }));
        }
        Ok(done)
    }

    fn letter(&self, output: &Output, reason: &str) -> Result<Output, AdapterError> {
        let letter = if output.origin.is_dead_letter() {
            letters::reduced(&output.record, reason).ok_or_else(|| {
                AdapterError::new(
                    AdapterErrorKind::Unsupported,
                    format!(
                        "a dead letter for topic {} was refused twice, the second time without its value: {reason}. Put dead letters elsewhere (--dead-letters), or on a topic that is taken there (`topic` under `dead_letter`)",
                        output.record.topic
                    ),
                )
            })?
        } else {
            let topic = self.topic.render(&output.record.topic).into();
            letters::of_record(&output.record, Cause::Refused, reason, topic)
        };
        Ok(Output {
            record: letter,
            origin: output.origin.of_letter(),
        })
    }
}

/// Before positions are committed past a refused record its letter must be safe, wherever that goes.
async fn send_letters(to: Option<&mpsc::UnboundedSender<Job>>, letters: &mut [Vec<Output>]) {
    let Some(to) = to else { return };
    for letters in letters.iter_mut().filter(|letters| !letters.is_empty()) {
        let (done, answer) = oneshot::channel();
        let job = Job {
            lot: None,
            outputs: std::mem::take(letters).into(),
            positions: None,
            done: Some(done),
        };
        // Where the other task failed the runner ends, and this one with it: waiting for that is right.
        if to.send(job).is_err() || answer.await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Refusals by the job whose output they are about, with the number within it. Every job is named, also one without.
#[allow(clippy::type_complexity, reason = "used once, right above")]
fn by_job(
    writing: &[(usize, Outputs)],
    mut refusals: Vec<Refused>,
) -> Result<Vec<(usize, Outputs, Vec<(usize, String)>)>, AdapterError> {
    refusals.sort_by_key(|refused| refused.index);
    refusals.dedup_by_key(|refused| refused.index);
    let mut refusals = refusals.into_iter().peekable();
    let mut first = 0;
    let mut jobs = Vec::with_capacity(writing.len());
    for (job, outputs) in writing {
        let end = first + outputs.len();
        let mut own = Vec::new();
        while let Some(refused) = refusals.next_if(|refused| refused.index < end) {
            own.push((refused.index - first, refused.reason));
        }
        jobs.push((*job, outputs.clone(), own));
        first = end;
    }
    match refusals.next() {
        None => Ok(jobs),
        Some(refused) => Err(AdapterError::new(
            AdapterErrorKind::Io,
            format!(
                "the sink refused record {} of {first} ({}): there is a mistake in its adapter",
                refused.index, refused.reason
            ),
        )),
    }
}

struct Circumstances<'a> {
    role: Role,
    backoff: Backoff,
    status: &'a Status,
}

/// Writes and confirms, again and again where the failure passes.
async fn persist(
    sink: &mut dyn Sink,
    writing: &[&Outputs],
    positions: &[Positions],
    at: Circumstances<'_>,
) -> Result<Vec<Refused>, AdapterError> {
    let mut attempts = 0;
    loop {
        let error = match write(sink, writing, positions).await {
            Ok(refused) => {
                at.status.works(at.role);
                return Ok(refused);
            }
            Err(error) => error,
        };
        recover(sink, error, &mut attempts, &at).await?;
    }
}

/// Waits and makes the sink ready, until that works; or fails with the error if it cannot.
async fn recover(
    sink: &mut dyn Sink,
    mut error: AdapterError,
    attempts: &mut u32,
    at: &Circumstances<'_>,
) -> Result<(), AdapterError> {
    loop {
        if !error.is_retryable() {
            return Err(error);
        }
        *attempts += 1;
        let next = at.backoff.after(*attempts);
        at.status.wait(Waiting {
            role: at.role,
            error: error.to_string(),
            attempts: *attempts,
            next,
        });
        tokio::time::sleep(next).await;
        match sink.recover().await {
            Ok(true) => return Ok(()),
            Ok(false) => return Err(error),
            Err(again) => error = again,
        }
    }
}

async fn write(
    sink: &mut dyn Sink,
    writing: &[&Outputs],
    positions: &[Positions],
) -> Result<Vec<Refused>, AdapterError> {
    for outputs in writing {
        // Positions are told apart by what was written with them.
        if !outputs.is_empty() || !positions.is_empty() {
            sink.write(Outputs::clone(outputs)).await?;
        }
    }
    match positions {
        [] => sink.confirm().await,
        positions => sink.confirm_with(positions.to_vec()).await,
    }
}
