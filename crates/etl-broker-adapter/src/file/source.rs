//! Reads record lines: a thread reads and decodes, the source hands out.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;
use std::thread;

use etl_orchestrator::Record;
use tokio::sync::mpsc;

use super::FileUrl;
use super::checkpoint::{Checkpoint, Mark};
use crate::line::{self, Line, LineReader};
use crate::{
    AckToken, AdapterError, AdapterErrorKind, AdapterUrl, Batch, BoxFuture, Demand, InvalidRecord,
    Item, PartitionKey, Pulled, Source,
};

/// Read buffers decoded ahead of what is asked for.
const CHUNKS_AHEAD: usize = 4;

/// The limit of a line unless one is set: 16 MiB.
pub(crate) const DEFAULT_MAX_LINE_BYTES: usize = 16 * 1024 * 1024;

/// The only partition.
const PARTITION: PartitionKey = PartitionKey(0);

/// What was read, and where each item ends if that will be asked for.
type Chunk = Result<(Batch, Vec<Mark>), AdapterError>;

/// A file, or standard input, of record lines: one partition, so that what comes out has the order of what went in.
///
/// Empty lines are skipped. A line that is not a record comes out as an [`InvalidRecord`], with file and line. Where the URL names a checkpoint, reading
/// begins there, and it follows what is acknowledged.
pub struct FileSource {
    chunks: mpsc::Receiver<Chunk>,
    waiting: VecDeque<Item>,
    bytes_read: u64,
    total_bytes: Option<u64>,
    noting: Option<Noting>,
}

/// How far acknowledgements have come.
struct Noting {
    checkpoint: Checkpoint,
    /// Where items end, from that of the token `first` on.
    ends: VecDeque<Mark>,
    first: u64,
    /// What was acknowledged and could not be noted.
    unsaved: Option<Mark>,
    /// Whether the note could not be made the last time.
    waits: bool,
}

impl Noting {
    fn ack(&mut self, token: AckToken) -> Result<(), AdapterError> {
        while self.first <= token.0
            && let Some(end) = self.ends.pop_front()
        {
            self.first += 1;
            self.unsaved = Some(end);
        }
        self.save()
    }

    fn save(&mut self) -> Result<(), AdapterError> {
        if let Some(mark) = self.unsaved {
            self.checkpoint.save(mark)?;
            self.unsaved = None;
        }
        Ok(())
    }
}

impl FileSource {
    /// Opens what the URL names, and begins to read. `max_line_bytes` bounds a line; `None`: 16 MiB.
    ///
    /// # Errors
    ///
    /// The file is absent, unreadable or a directory; the reading thread cannot be started.
    pub fn open(url: &AdapterUrl, max_line_bytes: Option<usize>) -> Result<Self, AdapterError> {
        Self::begin(url, max_line_bytes, None)
    }

    /// The same, for lines that are no record lines: each, as it stands without its line ending, is the value of a record on this topic.
    ///
    /// # Errors
    ///
    /// As for [`open`](Self::open).
    pub fn open_raw(
        url: &AdapterUrl,
        topic: &str,
        max_line_bytes: Option<usize>,
    ) -> Result<Self, AdapterError> {
        Self::begin(url, max_line_bytes, Some(topic.into()))
    }

    fn begin(
        url: &AdapterUrl,
        max_line_bytes: Option<usize>,
        raw: Option<Arc<str>>,
    ) -> Result<Self, AdapterError> {
        let doing = || format!("cannot read {url}");
        let mut start = Mark::default();
        let mut checkpoint = None;
        let (input, place, total): (Box<dyn Read + Send>, _, _) = match url {
            AdapterUrl::Standard => (Box::new(io::stdin()), "stdin".to_owned(), None),
            AdapterUrl::File(FileUrl { append: true, .. }) => {
                return Err(AdapterError::new(
                    AdapterErrorKind::InvalidUrl,
                    format!("{}: `append` is for what is written", doing()),
                ));
            }
            AdapterUrl::File(FileUrl {
                path,
                checkpoint: note,
                ..
            }) => {
                let mut file = File::open(path).map_err(|e| AdapterError::from_io(doing(), e))?;
                let metadata = file
                    .metadata()
                    .map_err(|e| AdapterError::from_io(doing(), e))?;
                if metadata.is_dir() {
                    return Err(AdapterError::new(
                        AdapterErrorKind::IsADirectory,
                        format!("{}: it is a directory, not a file", doing()),
                    ));
                }
                if let Some(note) = note {
                    let (resumed, mark) = Checkpoint::resume(note, &mut file, &url.to_string())?;
                    (checkpoint, start) = (Some(resumed), mark);
                }
                let left = metadata.len().saturating_sub(start.bytes);
                let total = metadata.is_file().then_some(left);
                (Box::new(file), path.display().to_string(), total)
            }
            _ => return Err(super::no_file(url)),
        };
        let (sender, chunks) = mpsc::channel(CHUNKS_AHEAD);
        let mut reading = Reading {
            lines: LineReader::new(input, max_line_bytes.unwrap_or(DEFAULT_MAX_LINE_BYTES))
                .after(start.lines),
            ends: checkpoint.is_some().then(Vec::new),
            start: start.bytes,
            place,
            doing: doing(),
            raw,
            next: 0,
            told: 0,
        };
        thread::Builder::new()
            .name("etl-source".to_owned())
            .spawn(move || reading.run(&sender))
            .map_err(|error| AdapterError::from_io("cannot start the reading thread", error))?;
        Ok(Self {
            chunks,
            waiting: VecDeque::new(),
            bytes_read: 0,
            total_bytes: total,
            noting: checkpoint.map(|checkpoint| Noting {
                checkpoint,
                ends: VecDeque::new(),
                first: 0,
                unsaved: None,
                waits: false,
            }),
        })
    }

    fn save(&mut self) -> Result<(), AdapterError> {
        self.noting.as_mut().map_or(Ok(()), Noting::save)
    }

    fn take(&mut self, chunk: Chunk) -> Result<(), AdapterError> {
        let (chunk, ends) = chunk?;
        if let Some(noting) = &mut self.noting {
            noting.ends.extend(ends);
        }
        self.waiting.extend(chunk.items);
        self.bytes_read += chunk.bytes_read;
        Ok(())
    }
}

impl Source for FileSource {
    fn pull<'a>(&'a mut self, demand: Demand<'a>) -> BoxFuture<'a, Result<Pulled, AdapterError>> {
        Box::pin(async move {
            // No more is read than would come again, as long as it cannot be noted what has been done.
            if let Some(noting) = &mut self.noting {
                let saved = noting.save();
                noting.waits = saved.is_err();
                saved?;
            }
            if demand.paused.contains(&PARTITION) {
                return std::future::pending().await;
            }
            while self.waiting.is_empty() {
                match self.chunks.recv().await {
                    Some(chunk) => self.take(chunk)?,
                    None => return Ok(Pulled::End),
                }
            }
            // What has been read already fills the batch up; what has not is not waited for.
            while self.waiting.len() < demand.records {
                match self.chunks.try_recv() {
                    Ok(chunk) => self.take(chunk)?,
                    Err(_) => break,
                }
            }
            let mut bytes = 0;
            let fits = |item: &&Item| {
                let room = bytes < demand.bytes;
                bytes += match &item.content {
                    Ok(record) => record.weight(),
                    Err(invalid) => invalid.bytes.len(),
                };
                room
            };
            let fitting = self.waiting.iter().take(demand.records).take_while(fits);
            let count = fitting.count().max(1);
            Ok(Pulled::Batch(Batch {
                items: self.waiting.drain(..count).collect(),
                bytes_read: std::mem::take(&mut self.bytes_read),
            }))
        })
    }

    /// Nothing to do without a checkpoint: the file is read from the beginning every time.
    fn ack<'a>(&'a mut self, tokens: &'a [AckToken]) -> BoxFuture<'a, Result<(), AdapterError>> {
        Box::pin(async move {
            match (&mut self.noting, tokens.last()) {
                (Some(noting), Some(last)) => noting.ack(*last),
                _ => Ok(()),
            }
        })
    }

    fn recover(&mut self) -> BoxFuture<'_, Result<bool, AdapterError>> {
        Box::pin(async move {
            self.save()?;
            // What cannot be read, cannot be read later either.
            let waits = self.noting.as_ref().is_some_and(|noting| noting.waits);
            Ok(waits)
        })
    }

    fn close(&mut self) -> BoxFuture<'_, Result<(), AdapterError>> {
        Box::pin(async move {
            self.save()?;
            match &self.noting {
                Some(noting) => noting.checkpoint.sync(),
                None => Ok(()),
            }
        })
    }

    fn total_bytes(&self) -> Option<u64> {
        self.total_bytes
    }
}

/// The thread's side.
struct Reading {
    lines: LineReader<Box<dyn Read + Send>>,
    place: String,
    doing: String,
    /// Where the items of this chunk end, if that will be asked for.
    ends: Option<Vec<Mark>>,
    /// Where in the file reading began.
    start: u64,
    /// Lines are values on this topic.
    raw: Option<Arc<str>>,
    next: u64,
    /// Bytes that were read for what was handed out already.
    told: u64,
}

impl Reading {
    /// Ends with the input, with a failure, or when nobody listens any more.
    fn run(&mut self, chunks: &mpsc::Sender<Chunk>) {
        loop {
            // Everything in memory goes out before a read that may block: a slow pipe is not held up.
            let mut items = Vec::new();
            while let Some(line) = self.lines.buffered() {
                items.extend(self.item(line));
            }
            if !items.is_empty() {
                let bytes_read = self.lines.bytes_read() - self.told;
                self.told += bytes_read;
                let ends = self.ends.as_mut().map(std::mem::take).unwrap_or_default();
                let chunk = (Batch { items, bytes_read }, ends);
                if chunks.blocking_send(Ok(chunk)).is_err() {
                    return;
                }
            }
            if self.lines.is_at_end() {
                return;
            }
            if let Err(error) = self.lines.fill() {
                let error = AdapterError::from_io(&self.doing, error);
                // Nobody listening means that nobody is left to tell.
                let _ = chunks.blocking_send(Err(error));
                return;
            }
        }
    }

    fn item(&mut self, line: Line) -> Option<Item> {
        let (number, invalid) = match line {
            Line::Whole { bytes, .. } if bytes.is_empty() => return None,
            Line::Whole { bytes, .. } if self.raw.is_none() && bytes.trim_ascii().is_empty() => {
                return None;
            }
            Line::Whole { number, bytes } if self.raw.is_some() => {
                let topic = self.raw.clone()?;
                let record = Record {
                    offset: number - 1,
                    ..Record::new(topic, bytes)
                };
                return Some(self.give(number, Ok(Arc::new(record))));
            }
            Line::Whole { number, bytes } => match line::decode(&bytes, number - 1) {
                Ok(record) => return Some(self.give(number, Ok(Arc::new(record)))),
                Err(error) => {
                    let length = bytes.len() as u64;
                    (number, (error.to_string(), bytes, length))
                }
            },
            Line::TooLong {
                number,
                beginning,
                length,
            } => {
                let message = format!(
                    "the line has {length} bytes, over the limit of {}",
                    self.lines.max_line_bytes()
                );
                (number, (message, beginning, length))
            }
        };
        let (message, bytes, length) = invalid;
        let invalid = InvalidRecord {
            place: format!("{}:{number}", self.place),
            message,
            bytes,
            length,
            offset: number - 1,
        };
        Some(self.give(number, Err(invalid)))
    }

    fn give(&mut self, number: u64, content: Result<Arc<Record>, InvalidRecord>) -> Item {
        self.next += 1;
        if let Some(ends) = &mut self.ends {
            ends.push(Mark {
                bytes: self.start + self.lines.bytes_taken(),
                lines: number,
            });
        }
        Item {
            token: AckToken(self.next - 1),
            partition: PARTITION,
            position: number - 1,
            redelivered: 0,
            content,
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn demand(paused: &HashSet<PartitionKey>) -> Demand<'_> {
        Demand {
            records: 2,
            bytes: usize::MAX,
            paused,
        }
    }

    async fn two(source: &mut FileSource) -> Vec<AckToken> {
        let paused = HashSet::new();
        match source.pull(demand(&paused)).await {
            Ok(Pulled::Batch(batch)) => batch.items.iter().map(|item| item.token).collect(),
            other => panic!("{other:?}"),
        }
    }

    /// Else all of it would be done again by the next run, and nobody would know.
    #[tokio::test]
    async fn where_a_checkpoint_has_no_room_no_more_is_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let (file, note) = (folder.path().join("in"), folder.path().join("note"));
        std::fs::write(&file, "{\"topic\":\"t\"}\n".repeat(6)).expect("is written");
        let url = AdapterUrl::File(FileUrl {
            checkpoint: Some(note.clone()),
            ..FileUrl::new(&file)
        });
        let paused = HashSet::new();
        let mut source = FileSource::open(&url, None).expect("opens");
        let (first, second) = (two(&mut source).await, two(&mut source).await);
        let full = File::options().write(true).open("/dev/full");
        let noting = source.noting.as_mut().expect("it has a checkpoint");
        let room = noting.checkpoint.write_to(full.expect("is there"));
        let error = source.ack(&first).await.expect_err("there is no room");
        assert!(error.is_retryable(), "{error}");
        let error = source
            .pull(demand(&paused))
            .await
            .expect_err("nor is there");
        assert!(error.to_string().contains("No space left"), "{error}");
        source.recover().await.expect_err("nor later");
        source.close().await.expect_err("nor at the end");
        let noting = source.noting.as_mut().expect("it has a checkpoint");
        noting.checkpoint.write_to(room);
        assert!(source.recover().await.expect("there is room"));
        two(&mut source).await;
        source.ack(&second).await.expect("is noted");
        source.close().await.expect("is noted");
        let mut source = FileSource::open(&url, None).expect("opens");
        assert_eq!(two(&mut source).await.len(), 2);
        assert!(matches!(
            source.pull(demand(&paused)).await,
            Ok(Pulled::End)
        ));
    }
}
