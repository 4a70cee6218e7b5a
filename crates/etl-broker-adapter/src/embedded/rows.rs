//! The tables of the log, and what one transaction does to them: records in, what is over the retention out.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use bytes::Bytes;
use etl_orchestrator::Record;
use redb::{ReadableTable, Table, TableDefinition, WriteTransaction};

use super::chunk::{self, Writer};
use super::model::{Append, Retention};

pub(super) type TopicRow = (u32, u64, u64, u64);
pub(super) type PartitionRow = (u64, u64, u64, u64);
pub(super) type ConsumerRow = (u64, u64, u32);

pub(super) const TOPICS: TableDefinition<'_, &str, TopicRow> = TableDefinition::new("topics");
pub(super) const PARTITIONS: TableDefinition<'_, (u32, u32), PartitionRow> =
    TableDefinition::new("partitions");
pub(super) const CHUNKS: TableDefinition<'_, (u32, u32, u64), &[u8]> =
    TableDefinition::new("chunks");
pub(super) const CONSUMERS: TableDefinition<'_, (&str, u32, u32), ConsumerRow> =
    TableDefinition::new("consumers");

pub(super) const IDENTITY: TableDefinition<'_, (), u128> = TableDefinition::new("identity");

pub(super) fn retention((_, age, bytes, records): TopicRow) -> Retention {
    Retention {
        age: Duration::from_millis(age),
        bytes,
        records,
    }
}

pub(super) fn topic_row(
    topics: &mut Table<'_, &str, TopicRow>,
    name: &str,
) -> Result<TopicRow, redb::Error> {
    if let Some(row) = topics.get(name)? {
        return Ok(row.value());
    }
    let mut next = 0;
    for row in topics.iter()? {
        next = next.max(row?.1.value().0 + 1);
    }
    let row = (next, 0, 0, 0);
    topics.insert(name, row)?;
    Ok(row)
}

pub(super) fn write_records(
    transaction: &WriteTransaction,
    append: &Append<'_>,
    now: i64,
) -> Result<(), redb::Error> {
    if append.records.is_empty() {
        return Ok(());
    }
    let mut topics = transaction.open_table(TOPICS)?;
    let mut partitions = transaction.open_table(PARTITIONS)?;
    let mut chunks = transaction.open_table(CHUNKS)?;
    // Topics and partitions in the order in which they come, and what belongs together put together.
    let mut groups: Vec<((&str, u32), Vec<&Record>)> = Vec::new();
    let mut places: HashMap<(&str, u32), usize> = HashMap::new();
    for record in &append.records {
        let key = (&*record.topic, record.partition);
        let place = *places.entry(key).or_insert_with(|| {
            groups.push((key, Vec::new()));
            groups.len() - 1
        });
        groups[place].1.push(record);
    }
    let mut known: HashMap<&str, TopicRow> = HashMap::new();
    for ((topic, number), records) in groups {
        let row = match known.get(topic) {
            Some(row) => *row,
            None => {
                let row = match append.prefix {
                    "" => topic_row(&mut topics, topic)?,
                    prefix => topic_row(&mut topics, &format!("{prefix}{topic}"))?,
                };
                known.insert(topic, row);
                row
            }
        };
        let key = (row.0, number);
        let mut partition = match partitions.get(key)? {
            Some(row) => row.value(),
            None => (0, 0, 0, 0),
        };
        let mut writer = Writer::default();
        for record in records {
            if writer.is_full() {
                close(
                    &mut chunks,
                    key,
                    &mut partition,
                    std::mem::take(&mut writer),
                    now,
                )?;
            }
            writer.add(record);
        }
        close(&mut chunks, key, &mut partition, writer, now)?;
        retain(&mut chunks, key, &mut partition, retention(row), now)?;
        partitions.insert(key, partition)?;
    }
    Ok(())
}

fn close(
    chunks: &mut Table<'_, (u32, u32, u64), &[u8]>,
    key: (u32, u32),
    partition: &mut PartitionRow,
    writer: Writer,
    now: i64,
) -> Result<(), redb::Error> {
    let count = u64::from(writer.count());
    if count > 0 {
        let row = writer.finish(now);
        chunks.insert((key.0, key.1, partition.1), &*row)?;
        partition.1 += count;
        partition.2 += count;
        partition.3 += row.len() as u64;
    }
    Ok(())
}

/// Takes the oldest chunks out while the partition has more than it is to keep without them.
pub(super) fn retain(
    chunks: &mut Table<'_, (u32, u32, u64), &[u8]>,
    key: (u32, u32),
    partition: &mut PartitionRow,
    keep: Retention,
    now: i64,
) -> Result<(), redb::Error> {
    if keep == Retention::default() {
        return Ok(());
    }
    let age = i64::try_from(keep.age.as_millis()).unwrap_or(i64::MAX);
    loop {
        let (base, size, count, written_at) = {
            let mut rows = chunks.range((key.0, key.1, 0)..=(key.0, key.1, u64::MAX))?;
            let Some(oldest) = rows.next() else {
                partition.0 = partition.1;
                return Ok(());
            };
            let (at, row) = oldest?;
            let (count, written_at) = chunk::head(row.value()).unwrap_or((0, i64::MAX));
            let size = row.value().len() as u64;
            (at.value().2, size, u64::from(count), written_at)
        };
        partition.0 = partition.0.max(base);
        let too_many = keep.records > 0 && partition.2.saturating_sub(count) >= keep.records;
        let too_large = keep.bytes > 0 && partition.3.saturating_sub(size) >= keep.bytes;
        let too_old = age > 0 && written_at < now.saturating_sub(age);
        if !(too_many || too_large || too_old) {
            return Ok(());
        }
        chunks.remove((key.0, key.1, base))?;
        partition.2 = partition.2.saturating_sub(count);
        partition.3 = partition.3.saturating_sub(size);
    }
}

pub(super) fn remove(
    transaction: &WriteTransaction,
    removals: &[(u32, u32, Vec<u64>)],
) -> Result<(), redb::Error> {
    if removals.is_empty() {
        return Ok(());
    }
    let mut partitions = transaction.open_table(PARTITIONS)?;
    let mut chunks = transaction.open_table(CHUNKS)?;
    for (topic, number, offsets) in removals {
        let key = (*topic, *number);
        let Some(mut partition) = partitions.get(key)?.map(|row| row.value()) else {
            continue;
        };
        let mut by_chunk: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        for offset in offsets {
            let row = chunks
                .range((key.0, key.1, 0)..=(key.0, key.1, *offset))?
                .next_back();
            if let Some(row) = row {
                by_chunk.entry(row?.0.value().2).or_default().push(*offset);
            }
        }
        for (base, offsets) in by_chunk {
            let row = chunks
                .remove((key.0, key.1, base))?
                .map(|row| Bytes::copy_from_slice(row.value()));
            let Some(row) = row else { continue };
            let (size, count) = (
                row.len() as u64,
                chunk::head(&row).map_or(0, |(count, _)| count),
            );
            let Some((rest, left)) = chunk::without(row, base, &offsets) else {
                return Err(redb::Error::Corrupted(format!("chunk {base} of {key:?}")));
            };
            partition.2 -= u64::from(count - left);
            partition.3 -= size;
            if left > 0 {
                partition.3 += rest.len() as u64;
                chunks.insert((key.0, key.1, base), &*rest)?;
            }
        }
        partitions.insert(key, partition)?;
    }
    Ok(())
}
