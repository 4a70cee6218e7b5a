//! The power goes: whatever was not synced is cut off, torn, or partly there in any order, at every boundary. What was committed is there, the rest whole
//! or absent.
//!
//! A workload is run once over a storage that notes every write and sync. Then, for each moment of it, disks are made as they could look if the power
//! had gone there, and opened.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use etl_broker_adapter::From;
use etl_broker_adapter::embedded::{Append, EmbeddedTail, Log, Position, TopicPatterns};
use etl_broker_adapter::testing::pull_rest_now;
use etl_orchestrator::Record;
use redb::StorageBackend;

/// A disk block: it is written whole or not at all.
const SECTOR: usize = 512;

#[derive(Debug, Clone)]
enum Op {
    Write(usize, Vec<u8>),
    Length(usize),
    Sync,
}

/// A disk in memory, with all that was done to it.
#[derive(Debug, Clone, Default)]
struct Disk(Arc<Mutex<(Vec<u8>, Vec<Op>)>>);

impl Disk {
    fn get(&self) -> MutexGuard<'_, (Vec<u8>, Vec<Op>)> {
        self.0.lock().expect("not poisoned")
    }

    fn of(bytes: Vec<u8>) -> Self {
        Self(Arc::new(Mutex::new((bytes, Vec::new()))))
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> Result<u64, std::io::Error> {
        Ok(self.get().0.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), std::io::Error> {
        let offset = offset as usize;
        out.copy_from_slice(&self.get().0[offset..offset + out.len()]);
        Ok(())
    }

    fn set_len(&self, len: u64) -> Result<(), std::io::Error> {
        let mut disk = self.get();
        disk.0.resize(len as usize, 0);
        disk.1.push(Op::Length(len as usize));
        Ok(())
    }

    fn sync_data(&self) -> Result<(), std::io::Error> {
        self.get().1.push(Op::Sync);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), std::io::Error> {
        let mut disk = self.get();
        let offset = offset as usize;
        disk.0[offset..offset + data.len()].copy_from_slice(data);
        disk.1.push(Op::Write(offset, data.to_vec()));
        Ok(())
    }
}

/// Small, fast, and the same on every machine.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end.max(1) as u64) as usize
    }
}

fn apply(disk: &mut Vec<u8>, op: &Op) {
    match op {
        Op::Write(offset, data) => {
            let end = offset + data.len();
            // A write beyond the end that the length change did not survive is lost with it.
            if end > disk.len() {
                disk.resize(end, 0);
            }
            disk[*offset..end].copy_from_slice(data);
        }
        Op::Length(length) => disk.resize(*length, 0),
        Op::Sync => {}
    }
}

/// How what was not synced fares.
#[derive(Debug, Clone, Copy)]
enum Loss {
    /// All of it had reached the disk.
    Nothing,
    /// None of it.
    Everything,
    /// All but the last, of which there is a part.
    Torn,
    /// Any sectors of it.
    AnySectors,
}

/// The disk after the power went when `ops` had been given to it.
fn after(synced: &[u8], pending: &[Op], loss: Loss, random: &mut Random) -> Vec<u8> {
    let mut disk = synced.to_vec();
    for (index, op) in pending.iter().enumerate() {
        let last = index + 1 == pending.len();
        match (loss, op) {
            (Loss::Everything, _) => break,
            (Loss::Torn, Op::Write(offset, data)) if last => {
                let sectors = data.len() / SECTOR;
                let kept = random.below(sectors + 1) * SECTOR;
                apply(&mut disk, &Op::Write(*offset, data[..kept].to_vec()));
            }
            (Loss::AnySectors, Op::Write(offset, data)) => {
                for (number, sector) in data.chunks(SECTOR).enumerate() {
                    if random.below(2) == 0 {
                        let at = offset + number * SECTOR;
                        apply(&mut disk, &Op::Write(at, sector.to_vec()));
                    }
                }
            }
            (_, op) => apply(&mut disk, op),
        }
    }
    disk
}

/// The value tells which record it is, and whether it is whole.
fn value(id: u64) -> Vec<u8> {
    let length = 8 + (id.wrapping_mul(2_654_435_761) % 3_000) as usize;
    let mut value = id.to_be_bytes().to_vec();
    value.resize(length, id as u8);
    value
}

fn id(record: &Record) -> u64 {
    let id = u64::from_be_bytes(record.value[..8].try_into().expect("eight bytes"));
    assert_eq!(record.value, value(id), "record {id} is not whole");
    id
}

/// A log is made under another name and then renamed, so the power cannot go in the middle of that: it begins to matter with the first commit.
fn made(disk: &Disk) -> Vec<u8> {
    drop(Log::with_backend(disk.clone()).expect("is made"));
    let mut disk = disk.get();
    disk.1.clear();
    disk.0.clone()
}

/// Commits of some records each; the consumer's position in `b` is always the number of records in `a`. Answers how many operations there had been, and
/// how many records, after each commit.
fn workload(disk: &Disk, random: &mut Random) -> Vec<(usize, u64)> {
    let log = Log::with_backend(disk.clone()).expect("opens");
    log.create_topic("a", 1, None).expect("is made");
    log.create_topic("b", 1, None).expect("is made");
    let topics = log.topics().expect("reads");
    let b = topics
        .iter()
        .find(|topic| *topic.name == *"b")
        .expect("is there");
    let (mut next, mut commits) = (0, Vec::new());
    for _ in 0..16 {
        let count = 1 + random.below(12) as u64;
        let records: Vec<Record> = (next..next + count)
            .map(|id| Record::new("a", value(id)))
            .collect();
        next += count;
        log.commit(&Append {
            records: records.iter().collect(),
            positions: vec![("c".into(), Position::new(b, 0, next))],
            ..Append::default()
        })
        .expect("is committed");
        commits.push((disk.get().1.len(), next));
    }
    commits
}

/// What is on a disk: records of `a`, and the position in `b`.
async fn found(disk: Vec<u8>) -> (Vec<u64>, u64) {
    let log = Log::with_backend(Disk::of(disk)).expect("opens after the power went");
    let mut tail = EmbeddedTail::new(
        log.clone(),
        TopicPatterns::new(["a"]),
        From::Beginning,
        false,
    );
    let items = pull_rest_now(&mut tail).await;
    let ids = items
        .iter()
        .map(|item| id(item.content.as_ref().expect("a record")));
    let ids: Vec<u64> = ids.collect();
    let topics = log.topics().expect("reads");
    let position = topics
        .iter()
        .find(|topic| *topic.name == *"b")
        .and_then(|b| log.position("c", b, 0).expect("reads"));
    (ids, position.map_or(0, |at| at.next))
}

#[tokio::test]
async fn what_was_committed_is_there_and_the_rest_is_whole_or_absent() {
    let mut episodes = 0;
    let mut outcomes: BTreeMap<&str, u32> = BTreeMap::new();
    for seed in 1.. {
        let mut random = Random(seed * 0x9e37_79b9);
        let disk = Disk::default();
        let mut synced = made(&disk);
        let commits = workload(&disk, &mut random);
        let ops = std::mem::take(&mut disk.get().1);
        let mut pending = Vec::new();
        for (index, op) in ops.iter().enumerate() {
            pending.push(op.clone());
            if matches!(op, Op::Sync) {
                pending.iter().for_each(|op| apply(&mut synced, op));
                pending.clear();
            }
            let begun = index + 1;
            let safe = commits
                .iter()
                .rev()
                .find(|(at, _)| *at <= begun)
                .map_or(0, |(_, next)| *next);
            let possible: Vec<u64> = commits.iter().map(|(_, next)| *next).collect();
            for loss in [
                Loss::Nothing,
                Loss::Everything,
                Loss::Torn,
                Loss::AnySectors,
            ] {
                let (ids, position) = found(after(&synced, &pending, loss, &mut random)).await;
                let count = ids.len() as u64;
                assert!(
                    ids.iter().copied().eq(0..count),
                    "{loss:?} after {begun}: {ids:?}"
                );
                assert!(
                    count >= safe,
                    "{loss:?} after {begun}: {count} of {safe} committed"
                );
                assert!(
                    count == 0 || possible.contains(&count),
                    "{loss:?} after {begun}: part of a commit is there: {count}"
                );
                assert_eq!(
                    position, count,
                    "{loss:?} after {begun}: position and records are of one commit"
                );
                episodes += 1;
                let outcome = if count == safe {
                    "only what was committed"
                } else {
                    "more than was told"
                };
                *outcomes.entry(outcome).or_default() += 1;
            }
        }
        if episodes >= 1_000 {
            break;
        }
    }
    eprintln!("{episodes} episodes: {outcomes:?}");
    assert!(
        outcomes.len() == 2,
        "both kinds of loss were met: {outcomes:?}"
    );
}
