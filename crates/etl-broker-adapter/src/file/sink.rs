//! Writes record lines: the sink passes batches on, a thread encodes and writes.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::thread;

use tokio::sync::{mpsc, oneshot};

use super::FileUrl;
use crate::{AdapterError, AdapterErrorKind, AdapterUrl, BoxFuture, Outputs, Refused, Sink, line};

/// Batches on their way to the writing thread.
const BATCHES_AHEAD: usize = 8;

/// Encoded bytes that are gathered into one write.
const WRITE_BYTES: usize = 256 * 1024;

/// A file, or standard output, of record lines.
pub struct FileSink {
    jobs: mpsc::Sender<Job>,
    failure: Option<oneshot::Receiver<AdapterError>>,
}

enum Job {
    Write(Outputs),
    /// Answered when all that was written before has been handed to the system; `true`: and synced to the disk.
    Confirm(bool, oneshot::Sender<()>),
}

impl FileSink {
    /// Creates the file, or opens it where it exists. It is emptied with the first that is written or confirmed, so that a run
    /// that fails before it begins destroys nothing. Where the URL says `append`, what is there stays, but for a last line that a crash
    /// left half written, and what is confirmed is on the disk.
    ///
    /// # Errors
    ///
    /// The file cannot be created or written; the writing thread cannot be started.
    pub fn create(url: &AdapterUrl) -> Result<Self, AdapterError> {
        let doing = format!("cannot write {url}");
        let output = match url {
            AdapterUrl::Standard => Output::Standard(io::stdout()),
            AdapterUrl::File(FileUrl {
                checkpoint: Some(_),
                ..
            }) => {
                return Err(AdapterError::new(
                    AdapterErrorKind::InvalidUrl,
                    format!("{doing}: `checkpoint` is for what is read"),
                ));
            }
            AdapterUrl::File(FileUrl { path, append, .. }) => {
                let mut options = OpenOptions::new();
                options.write(true).create(true).truncate(false);
                options.append(*append).read(*append);
                match options.open(path) {
                    Ok(file) if *append => Output::Behind(file),
                    Ok(file) => Output::File(file),
                    Err(error) => return Err(AdapterError::from_io(doing, error)),
                }
            }
            _ => return Err(super::no_file(url)),
        };
        let (jobs, queue) = mpsc::channel(BATCHES_AHEAD);
        let (failed, failure) = oneshot::channel();
        let writing = Writing {
            output,
            buffer: Vec::with_capacity(WRITE_BYTES),
        };
        thread::Builder::new()
            .name("etl-sink".to_owned())
            .spawn(move || {
                if let Err(error) = writing.run(queue) {
                    // The receiver is gone only when nobody asks any more.
                    let error = AdapterError::from_io(doing, error);
                    // How much of a line was written is not known, so nothing can be written after it.
                    let _ = failed.send(error.permanent());
                }
            })
            .map_err(|error| AdapterError::from_io("cannot start the writing thread", error))?;
        Ok(Self {
            jobs,
            failure: Some(failure),
        })
    }

    async fn submit(&mut self, job: Job) -> Result<(), AdapterError> {
        match self.jobs.send(job).await {
            Ok(()) => Ok(()),
            Err(_) => Err(self.failure().await),
        }
    }

    async fn confirmed(&mut self, sync: bool) -> Result<(), AdapterError> {
        let (done, answer) = oneshot::channel();
        self.submit(Job::Confirm(sync, done)).await?;
        match answer.await {
            Ok(()) => Ok(()),
            Err(_) => Err(self.failure().await),
        }
    }

    /// Why the writing thread ended. It says so once.
    async fn failure(&mut self) -> AdapterError {
        let first = match self.failure.take() {
            Some(failure) => failure.await.ok(),
            None => None,
        };
        first.unwrap_or_else(|| {
            AdapterError::from_io(
                "cannot write",
                io::Error::other("an earlier write failed; this output is closed"),
            )
        })
    }
}

impl Sink for FileSink {
    fn write(&mut self, outputs: Outputs) -> BoxFuture<'_, Result<(), AdapterError>> {
        Box::pin(self.submit(Job::Write(outputs)))
    }

    /// A line can carry every record.
    fn confirm(&mut self) -> BoxFuture<'_, Result<Vec<Refused>, AdapterError>> {
        Box::pin(async move {
            self.confirmed(false).await?;
            Ok(Vec::new())
        })
    }

    fn finish(&mut self) -> BoxFuture<'_, Result<(), AdapterError>> {
        Box::pin(self.confirmed(true))
    }
}

enum Output {
    Standard(io::Stdout),
    File(File),
    /// A file that keeps what it holds.
    Behind(File),
}

/// The thread's side.
struct Writing {
    output: Output,
    buffer: Vec<u8>,
}

impl Writing {
    fn run(mut self, mut queue: mpsc::Receiver<Job>) -> io::Result<()> {
        let mut emptied = false;
        while let Some(job) = queue.blocking_recv() {
            if !emptied {
                self.begin()?;
                emptied = true;
            }
            match job {
                Job::Write(outputs) => {
                    for output in outputs.iter() {
                        line::encode(&output.record, &mut self.buffer);
                        if self.buffer.len() >= WRITE_BYTES {
                            self.flush()?;
                        }
                    }
                }
                Job::Confirm(sync, done) => {
                    self.flush()?;
                    if sync || matches!(self.output, Output::Behind(_)) {
                        self.sync()?;
                    }
                    // Nobody waiting for the answer is no reason to stop.
                    let _ = done.send(());
                }
            }
        }
        self.flush()
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.output {
            Output::Standard(stdout) => {
                let mut stdout = stdout.lock();
                stdout.write_all(&self.buffer)?;
                stdout.flush()?;
            }
            Output::File(file) | Output::Behind(file) => file.write_all(&self.buffer)?,
        }
        self.buffer.clear();
        Ok(())
    }

    /// Pipes and devices hold nothing.
    fn begin(&mut self) -> io::Result<()> {
        match &mut self.output {
            Output::File(file) if file.metadata()?.is_file() => file.set_len(0),
            Output::Behind(file) if file.metadata()?.is_file() => mend(file),
            _ => Ok(()),
        }
    }

    /// Exit code 0 shall mean that the output is on the disk. Pipes and devices have nothing to sync.
    fn sync(&self) -> io::Result<()> {
        match &self.output {
            Output::File(file) | Output::Behind(file) if file.metadata()?.is_file() => {
                file.sync_data()
            }
            _ => Ok(()),
        }
    }
}

/// Bytes that are looked at in one step from the end of a file.
const STEP: u64 = 64 * 1024;

/// Sees to it that what is appended begins a line. A last line without a break is a record that somebody wrote so, and gets its break; or what a process
/// that was killed had written of one that it had not confirmed, and goes.
fn mend(file: &mut File) -> io::Result<()> {
    let length = file.metadata()?.len();
    let mut begins = length;
    let mut last = Vec::new();
    while begins > 0 {
        let from = begins.saturating_sub(STEP);
        let mut step = vec![0; (begins - from) as usize];
        file.seek(SeekFrom::Start(from))?;
        file.read_exact(&mut step)?;
        if let Some(at) = memchr::memrchr(b'\n', &step) {
            begins = from + at as u64 + 1;
            last.splice(0..0, step.drain(at + 1..));
            break;
        }
        begins = from;
        last.splice(0..0, step);
    }
    if last.is_empty() {
        return Ok(());
    }
    if line::decode(&bytes::Bytes::from(last), 0).is_ok() {
        return file.write_all(b"\n");
    }
    tracing::warn!(
        bytes = length - begins,
        "the last line of the output was never finished; it is written anew"
    );
    file.set_len(begins)
}
