//! Rows of the log: records that were written together stand together in one row, a **chunk**.
//!
//! ```text
//! chunk   version u8 = 1, count u32, written at (Unix ms) i64, then the records
//! record  offset - offset of the chunk u32, flags u8 (1: key, 2: timestamp), [timestamp i64], [key], value, count of headers u32, [name, value]…
//! ```
//!
//! Numbers are little endian; key, value, names are a length u32 and the bytes. Everything read is checked against the row's end.

use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes};
use etl_orchestrator::{Headers, Record};

/// A chunk is closed when it has so many bytes.
pub(super) const FULL: usize = 64 * 1024;

/// The largest record that the log takes.
pub(super) const MAX_RECORD: usize = 64 << 20;

const VERSION: u8 = 1;
const HEAD: usize = 13;
const KEY: u8 = 1;
const TIMESTAMP: u8 = 2;

/// A chunk in the making.
#[derive(Default)]
pub(super) struct Writer {
    bytes: Vec<u8>,
    count: u32,
}

impl Writer {
    pub(super) fn is_full(&self) -> bool {
        self.bytes.len() >= FULL
    }

    pub(super) fn count(&self) -> u32 {
        self.count
    }

    pub(super) fn add(&mut self, record: &Record) {
        self.add_at(self.count, record);
    }

    fn add_at(&mut self, offset: u32, record: &Record) {
        let out = &mut self.bytes;
        if out.is_empty() {
            out.resize(HEAD, 0);
        }
        out.put_u32_le(offset);
        let key = if record.key.is_some() { KEY } else { 0 };
        let timestamp = if record.timestamp.is_some() {
            TIMESTAMP
        } else {
            0
        };
        out.put_u8(key | timestamp);
        if let Some(timestamp) = record.timestamp {
            out.put_i64_le(timestamp);
        }
        if let Some(key) = &record.key {
            put(out, key);
        }
        put(out, &record.value);
        out.put_u32_le(record.headers.len() as u32);
        for (name, value) in record.headers.iter() {
            put(out, name.as_bytes());
            put(out, value);
        }
        self.count += 1;
    }

    /// The row.
    pub(super) fn finish(mut self, written_at: i64) -> Vec<u8> {
        if self.bytes.is_empty() {
            self.bytes.resize(HEAD, 0);
        }
        let mut head = &mut self.bytes[..HEAD];
        head.put_u8(VERSION);
        head.put_u32_le(self.count);
        head.put_i64_le(written_at);
        self.bytes
    }
}

fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    out.put_u32_le(bytes.len() as u32);
    out.extend_from_slice(bytes);
}

/// What a row says about itself: how many records, and when they were written.
pub(super) fn head(mut row: &[u8]) -> Option<(u32, i64)> {
    if row.len() < HEAD || row.get_u8() != VERSION {
        return None;
    }
    Some((row.get_u32_le(), row.get_i64_le()))
}

/// The records of a row with their offsets, from `from` on. `None`: this is no row of ours.
pub(super) fn read(
    row: Bytes,
    base: u64,
    from: u64,
    topic: &Arc<str>,
    partition: u32,
) -> Option<Vec<Arc<Record>>> {
    let (count, _) = head(&row)?;
    let mut rest = row.slice(HEAD..);
    let mut records = Vec::new();
    for _ in 0..count {
        let offset = base + u64::from(rest.try_get_u32_le().ok()?);
        let flags = rest.try_get_u8().ok()?;
        let timestamp = match flags & TIMESTAMP {
            0 => None,
            _ => Some(rest.try_get_i64_le().ok()?),
        };
        let key = match flags & KEY {
            0 => None,
            _ => Some(take(&mut rest)?),
        };
        let value = take(&mut rest)?;
        let headers: Option<Headers> = (0..rest.try_get_u32_le().ok()?)
            .map(|_| {
                let name = take(&mut rest)?;
                let name: Arc<str> = std::str::from_utf8(&name).ok()?.into();
                Some((name, take(&mut rest)?))
            })
            .collect();
        let headers = headers?;
        if offset >= from {
            records.push(Arc::new(Record {
                topic: topic.clone(),
                partition,
                offset,
                key,
                value,
                headers,
                timestamp,
            }));
        }
    }
    Some(records)
}

fn take(rest: &mut Bytes) -> Option<Bytes> {
    let length = rest.try_get_u32_le().ok()? as usize;
    (length <= rest.len()).then(|| rest.split_to(length))
}

/// The row without these records (by offset), and how many are left. `None`: this is no row of ours.
pub(super) fn without(row: Bytes, base: u64, remove: &[u64]) -> Option<(Vec<u8>, u32)> {
    let (_, written_at) = head(&row)?;
    let mut writer = Writer::default();
    for record in read(row, base, base, &"".into(), 0)? {
        if !remove.contains(&record.offset) {
            writer.add_at((record.offset - base) as u32, &record);
        }
    }
    let count = writer.count();
    Some((writer.finish(written_at), count))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record() -> impl Strategy<Value = Record> {
        let bytes = || prop::collection::vec(any::<u8>(), 0..20).prop_map(Bytes::from);
        let headers = prop::collection::vec((".{0,5}", bytes()), 0..4);
        (
            prop::option::of(bytes()),
            bytes(),
            headers,
            any::<Option<i64>>(),
        )
            .prop_map(|(key, value, headers, timestamp)| Record {
                key,
                headers: headers
                    .into_iter()
                    .map(|(n, v)| (n.as_str().to_owned(), v))
                    .collect(),
                timestamp,
                ..Record::new("t", value)
            })
    }

    proptest! {
        #[test]
        fn what_is_read_is_what_was_written(records in prop::collection::vec(record(), 0..9), base in 0..1_000_u64, cut in any::<usize>(), byte in any::<u8>()) {
            let mut writer = Writer::default();
            records.iter().for_each(|record| writer.add(record));
            let row = Bytes::from(writer.finish(17));
            prop_assert_eq!(head(&row), Some((records.len() as u32, 17)));
            let topic: Arc<str> = "t".into();
            let read_back = read(row.clone(), base, base, &topic, 0).expect("a row");
            let expected: Vec<Record> = records.iter().zip(base..).map(|(record, offset)| Record { offset, ..record.clone() }).collect();
            prop_assert_eq!(read_back.iter().map(|r| (**r).clone()).collect::<Vec<_>>(), expected.clone());

            let (fewer, left) = without(row.clone(), base, &[base + 1]).expect("a row");
            prop_assert_eq!(left as usize, expected.iter().filter(|r| r.offset != base + 1).count());
            let fewer = read(fewer.into(), base, base, &topic, 0).expect("a row");
            prop_assert!(fewer.iter().all(|r| r.offset != base + 1 && expected.contains(r)));

            // Whatever the disk gives is refused or read, and never more than that.
            let cut = cut % (row.len() + 1);
            let _ = read(row.slice(..cut), base, base, &topic, 0);
            if cut < row.len() {
                let mut damaged = row.to_vec();
                damaged[cut] = byte;
                let _ = read(damaged.into(), base, base, &topic, 0);
            }
        }
    }
}
