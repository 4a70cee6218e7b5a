//! The log on a disk that is full: who writes is told so and why, what was committed is there, and once there is room it goes on.

use std::collections::BTreeSet;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use etl_broker_adapter::embedded::{
    Append, EmbeddedSink, EmbeddedSource, EmbeddedTail, Log, Start, TopicPatterns,
};
use etl_broker_adapter::testing::pull_rest_now;
use etl_broker_adapter::{
    AdapterError, AdapterErrorKind, Ended, From, Item, Runner, RunnerOptions,
};
use etl_config::{LoadOptions, load_text};
use etl_orchestrator::{Options, Orchestrator, Record};
use redb::StorageBackend;

/// What a disk gives room for at a time.
const BLOCK: u64 = 4_096;

/// A disk with a file on it that is as sparse as it was written, as file systems have it: room is taken when a block is first written to.
#[derive(Debug, Clone, Default)]
struct Disk {
    held: Arc<Mutex<Held>>,
    /// Blocks that there are.
    blocks: Arc<AtomicU64>,
}

#[derive(Debug, Default)]
struct Held {
    bytes: Vec<u8>,
    blocks: BTreeSet<u64>,
}

impl Disk {
    fn of(blocks: u64) -> Self {
        let disk = Self::default();
        disk.blocks.store(blocks, Ordering::Relaxed);
        disk
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().expect("not poisoned")
    }

    fn make_room(&self, blocks: u64) {
        self.blocks.fetch_add(blocks, Ordering::Relaxed);
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.held().bytes.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let from = offset as usize;
        out.copy_from_slice(&self.held().bytes[from..from + out.len()]);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut held = self.held();
        held.bytes.resize(len as usize, 0);
        held.blocks = held
            .blocks
            .iter()
            .copied()
            .filter(|block| block * BLOCK < len)
            .collect();
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    /// Block by block, so that one that does not fit leaves those before it written.
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let most = self.blocks.load(Ordering::Relaxed);
        let mut held = self.held();
        let mut at = offset;
        let end = offset + data.len() as u64;
        while at < end {
            let block = at / BLOCK;
            if !held.blocks.contains(&block) {
                if held.blocks.len() as u64 >= most {
                    return Err(io::ErrorKind::StorageFull.into());
                }
                held.blocks.insert(block);
            }
            let until = end.min((block + 1) * BLOCK);
            let part = &data[(at - offset) as usize..(until - offset) as usize];
            held.bytes[at as usize..until as usize].copy_from_slice(part);
            at = until;
        }
        Ok(())
    }
}

fn record(number: u64) -> Record {
    let mut value = number.to_string();
    // Of all sizes, so that the end of the disk is met everywhere.
    value.push_str(&" ".repeat((number * 7_919 % 5_000) as usize));
    Record::new("in", value)
}

fn append(log: &Log, numbers: std::ops::Range<u64>) -> Result<(), AdapterError> {
    let records: Vec<Record> = numbers.map(record).collect();
    log.commit(&Append {
        records: records.iter().collect(),
        ..Append::default()
    })
}

fn number(item: &Item) -> u64 {
    let record = item.content.as_ref().expect("a record");
    let text = std::str::from_utf8(&record.value).expect("text");
    text.trim().parse().expect("a number")
}

async fn all(log: &Arc<Log>, topic: &str) -> Vec<u64> {
    let topics = TopicPatterns::new([topic]);
    let mut tail = EmbeddedTail::new(log.clone(), topics, From::Beginning, false);
    pull_rest_now(&mut tail).await.iter().map(number).collect()
}

#[track_caller]
fn says_so(error: &AdapterError) {
    assert_eq!(error.kind(), AdapterErrorKind::StorageFull, "{error}");
    assert!(
        !error.is_retryable(),
        "it is closed until it is opened anew"
    );
    let said = error.to_string();
    assert!(said.contains("make room and start again"), "{said}");
}

#[tokio::test]
async fn what_was_committed_is_there_and_once_there_is_room_it_goes_on() {
    let (mut refused_to_open, mut full) = (0, 0);
    for blocks in (100..700).step_by(5) {
        let disk = Disk::of(blocks);
        let log = match Log::with_backend(disk.clone()) {
            Ok(log) => log,
            // Not even an empty log fits.
            Err(error) => {
                says_so(&error);
                refused_to_open += 1;
                continue;
            }
        };
        let mut committed = 0;
        let error = loop {
            match append(&log, committed..committed + 20) {
                Ok(()) => committed += 20,
                Err(error) => break error,
            }
        };
        says_so(&error);
        full += 1;
        // Whoever comes later is told the reason too.
        says_so(&append(&log, 0..1).expect_err("closed"));
        drop(log);

        // It can be read where there is no room at all.
        let before: Vec<u64> = (0..committed).collect();
        let log = Log::with_backend(disk.clone()).expect("is opened as it is");
        assert_eq!(all(&log, "in").await, before, "{blocks} blocks");
        drop(log);

        disk.make_room(200);
        let log = Log::with_backend(disk.clone()).expect("opens");
        append(&log, committed..committed + 20).expect("there is room");
        let after: Vec<u64> = (0..committed + 20).collect();
        assert_eq!(all(&log, "in").await, after, "{blocks} blocks");
    }
    assert!(
        full > 80,
        "{full}, and {refused_to_open} that were too small"
    );
}

async fn run(log: &Arc<Log>) -> Result<Ended, AdapterError> {
    let topics = TopicPatterns::new(["in"]);
    let source = EmbeddedSource::open(log.clone(), "c", topics.clone(), Start::Earliest, false)?;
    let sink = EmbeddedSink::new(log.clone(), "out.", true).reading(topics);
    let loaded = load_text("etl.toml", "", &LoadOptions::isolated()).expect("loads");
    let engine = Orchestrator::start(loaded, Options::default()).expect("starts");
    let mut options = RunnerOptions::default();
    options.batch = 16;
    options.atomic = true;
    let runner = Runner::new(engine, Box::new(source), Box::new(sink), None, options);
    let ended = tokio::time::timeout(std::time::Duration::from_secs(60), runner.run()).await;
    ended.expect("it ends")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_ends_with_the_reason_and_the_next_one_goes_on_exactly_there() {
    let mut stopped_midway = 0;
    for blocks in (550..900).step_by(25) {
        let disk = Disk::of(u64::MAX >> 1);
        let log = Log::with_backend(disk.clone()).expect("opens");
        append(&log, 0..400).expect("there is room");
        drop(log);
        disk.blocks.store(blocks, Ordering::Relaxed);
        let log = Log::with_backend(disk.clone()).expect("opens");
        if let Err(error) = run(&log).await {
            says_so(&error);
            stopped_midway += 1;
        }
        drop(log);
        let log = Log::with_backend(disk.clone()).expect("opens");
        let out = all(&log, "out.in").await;
        assert!(out.iter().copied().eq(0..out.len() as u64), "{out:?}");
        drop(log);

        disk.make_room(2_000);
        let log = Log::with_backend(disk).expect("opens");
        assert_eq!(run(&log).await.expect("there is room"), Ended::AtTheEnd);
        let out = all(&log, "out.in").await;
        assert!(out.iter().copied().eq(0..400), "{blocks} blocks: {out:?}");
    }
    assert!(stopped_midway > 3, "{stopped_midway}");
}
