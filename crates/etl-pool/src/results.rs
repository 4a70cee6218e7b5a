//! Results of earlier calls, for modules that answer the same to the same.
//!
//! A lane keeps them for each template that asks for it. The key is a hash (BLAKE3) of everything the module is shown: of a legacy module, the value alone. So that the same
//! message at another place of its topic is found again, a module whose results are kept is shown partition 0 and offset 0.
//! Modules that import a clock or random numbers are never served from here, and failures are not kept.
//!
//! An answer is kept by itself, not with the frame that it came in, which may be as long as the guest's memory.
//! Bounded in bytes by two generations: what is used moves to the young one; when that is full, the old one goes and the young becomes
//! old. So what goes has not been used for at least as long as it took to fill half of the room: nearly the least recently used, without a list.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use etl_abi::response::ResponseWriter;
use etl_abi::{Op, RecordFields, Verdict};

use crate::facts::Abi;
use crate::verdicts::{Answer, Frame};

/// Bytes of results that one lane keeps for one template.
const LIMIT: usize = 16 << 20;

/// What an entry takes besides the bytes of its answer.
const ENTRY: usize = 160;

pub(crate) type Key = [u8; 32];

#[derive(Debug)]
pub(crate) struct Results {
    time_to_live: Duration,
    young: HashMap<Key, Entry>,
    old: HashMap<Key, Entry>,
    young_bytes: usize,
    limit: usize,
}

#[derive(Debug)]
struct Entry {
    answer: Answer,
    expires: Instant,
    bytes: usize,
}

impl Results {
    pub(crate) fn new(time_to_live: Duration) -> Self {
        Self {
            time_to_live,
            young: HashMap::new(),
            old: HashMap::new(),
            young_bytes: 0,
            limit: LIMIT,
        }
    }

    /// The answer to the same record, not older than allowed.
    pub(crate) fn get(&mut self, key: &Key, now: Instant) -> Option<Answer> {
        if let Some(entry) = self.young.get(key) {
            return (entry.expires > now).then(|| entry.answer.clone());
        }
        let entry = self.old.remove(key).filter(|entry| entry.expires > now)?;
        let answer = entry.answer.clone();
        self.add(*key, entry);
        Some(answer)
    }

    /// Keeps the answer to one record, if it is one to be kept.
    pub(crate) fn put(&mut self, key: Key, answer: &Answer, now: Instant) {
        let Some(answer) = answer.get(0).ok().and_then(alone) else {
            return;
        };
        let Some(expires) = now.checked_add(self.time_to_live) else {
            return;
        };
        let bytes = ENTRY + answer.bytes();
        self.old.remove(&key);
        self.add(
            key,
            Entry {
                answer,
                expires,
                bytes,
            },
        );
    }

    fn add(&mut self, key: Key, entry: Entry) {
        if entry.bytes > self.limit / 2 {
            return;
        }
        if self.young_bytes + entry.bytes > self.limit / 2 {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
        self.young_bytes += entry.bytes;
        if let Some(before) = self.young.insert(key, entry) {
            self.young_bytes -= before.bytes;
        }
    }
}

/// The answer to one record, by itself; none where the module failed.
fn alone(verdict: Verdict<'_>) -> Option<Answer> {
    let mut writer = ResponseWriter::new();
    writer.begin(1);
    match verdict {
        Verdict::Keep => return Some(Answer::Keep),
        Verdict::SetValue(value) => return Some(Answer::Value(Bytes::copy_from_slice(value))),
        Verdict::Fail(_) => return None,
        Verdict::Drop => writer.drop_record(),
        Verdict::Change(ops) => {
            for op in ops.iter() {
                match op {
                    Op::SetValue(value) => writer.set_value(value),
                    Op::MergePatch(patch) => writer.merge_patch(patch),
                    Op::SetKey(key) => writer.set_key(key),
                    Op::ClearKey => writer.clear_key(),
                    Op::SetTopic(topic) => writer.set_topic(topic),
                    Op::AddHeader { name, value } => writer.add_header(name, value),
                    Op::SetHeader { name, value } => writer.set_header(name, value),
                    Op::RemoveHeader { name } => writer.remove_header(name),
                    Op::SetTimestamp(timestamp) => writer.set_timestamp(timestamp),
                    Op::ClearTimestamp => writer.clear_timestamp(),
                    Op::Emit(record) => writer.emit(&record),
                }
            }
            writer.end_record();
        }
    }
    Some(match writer.finish() {
        Ok(Some(frame)) => Answer::Frame(Frame::checked(Bytes::copy_from_slice(frame), 1)),
        // A change without one instruction.
        Ok(None) => Answer::Keep,
        Err(_) => return None,
    })
}

/// A hash over everything that the module is shown of a record.
pub(crate) fn key<R: RecordFields>(record: &R, abi: Abi) -> Key {
    if abi == Abi::Legacy {
        return *blake3::hash(record.value()).as_bytes();
    }
    let mut hasher = blake3::Hasher::new();
    let mut part = |bytes: &[u8]| {
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    part(record.topic().as_bytes());
    part(record.value());
    match record.key() {
        Some(key) => {
            part(b"k");
            part(key);
        }
        None => part(b""),
    }
    match record.timestamp() {
        Some(timestamp) => part(&timestamp.to_le_bytes()),
        None => part(b""),
    }
    for index in 0..record.header_count() {
        let (name, value) = record.header(index);
        part(name.as_bytes());
        part(value);
    }
    *hasher.finalize().as_bytes()
}

/// A record without its place in the topic.
pub(crate) struct Placeless<'a, R>(pub(crate) &'a R);

impl<R: RecordFields> RecordFields for Placeless<'_, R> {
    fn topic(&self) -> &str {
        self.0.topic()
    }
    fn partition(&self) -> u32 {
        0
    }
    fn offset(&self) -> u64 {
        0
    }
    fn key(&self) -> Option<&[u8]> {
        self.0.key()
    }
    fn value(&self) -> &[u8] {
        self.0.value()
    }
    fn timestamp(&self) -> Option<i64> {
        self.0.timestamp()
    }
    fn header_count(&self) -> usize {
        self.0.header_count()
    }
    fn header(&self, index: usize) -> (&str, &[u8]) {
        self.0.header(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use etl_abi::NewRecord;

    fn value(answer: &Answer) -> Vec<u8> {
        match answer.get(0) {
            Ok(Verdict::SetValue(value)) => value.to_vec(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn results_expire() {
        let mut results = Results::new(Duration::from_secs(1));
        let now = Instant::now();
        results.put([1; 32], &Answer::Value(Bytes::from_static(b"a")), now);
        assert_eq!(value(&results.get(&[1; 32], now).unwrap()), b"a");
        assert!(
            results
                .get(&[1; 32], now + Duration::from_secs(1))
                .is_none()
        );
        assert!(results.get(&[2; 32], now).is_none());
    }

    #[test]
    fn room_is_bounded_and_what_is_used_stays() {
        let mut results = Results::new(Duration::from_secs(60));
        results.limit = 100 * (ENTRY + 1);
        let now = Instant::now();
        let key = |index: u32| {
            let mut key = [0; 32];
            key[..4].copy_from_slice(&index.to_le_bytes());
            key
        };
        results.put(key(0), &Answer::Value(Bytes::from_static(b"x")), now);
        for index in 1..1_000 {
            results.put(key(index), &Answer::Value(Bytes::from_static(b"y")), now);
            assert!(
                results.get(&key(0), now).is_some(),
                "used all the time, gone after {index}"
            );
            let bytes: usize = results
                .young
                .values()
                .chain(results.old.values())
                .map(|entry| entry.bytes)
                .sum();
            assert!(bytes <= results.limit, "{bytes}");
        }
        assert!(results.get(&key(1), now).is_none());
    }

    #[test]
    fn keys_tell_fields_apart() {
        let base = NewRecord {
            topic: "t",
            value: b"v",
            ..NewRecord::default()
        };
        let headers = [("a", &b"b"[..])];
        let shifted = [("ab", &b""[..])];
        let records = [
            base,
            NewRecord {
                topic: "tv",
                value: b"",
                ..base
            },
            NewRecord {
                key: Some(b""),
                ..base
            },
            NewRecord {
                key: Some(b"k"),
                ..base
            },
            NewRecord {
                timestamp: Some(0),
                ..base
            },
            NewRecord {
                headers: &headers,
                ..base
            },
            NewRecord {
                headers: &shifted,
                ..base
            },
        ];
        let keys: std::collections::HashSet<_> =
            records.iter().map(|record| key(record, Abi::V1)).collect();
        assert_eq!(keys.len(), records.len());
        let moved = NewRecord {
            partition: 3,
            offset: 9,
            ..base
        };
        assert_eq!(
            key(&moved, Abi::V1),
            key(&base, Abi::V1),
            "the place does not count"
        );
        let values = records
            .iter()
            .filter(|record| key(*record, Abi::Legacy) == key(&base, Abi::Legacy));
        assert!(
            values.count() == records.len() - 1,
            "a legacy module sees the value alone"
        );
    }

    /// A popular record of each batch must not keep all of their frames.
    #[test]
    fn an_answer_is_kept_without_the_frame_that_it_came_in() {
        let mut writer = ResponseWriter::new();
        writer.begin(4);
        writer.set_value(&[b'x'; 100_000]);
        writer.end_record();
        writer.set_value(b"short");
        writer.end_record();
        writer.drop_record();
        writer.add_header("name", b"value");
        writer.merge_patch(b"{}");
        writer.emit(&NewRecord {
            topic: "t",
            key: Some(b"k"),
            headers: &[("a", b"b")],
            ..NewRecord::default()
        });
        writer.end_record();
        let frame = Bytes::copy_from_slice(writer.finish().unwrap().unwrap());
        let verdicts =
            crate::verdicts::Verdicts::one(4, Answer::Frame(Frame::checked(frame.clone(), 4)));
        let mut results = Results::new(Duration::from_secs(60));
        let now = Instant::now();
        for index in 1..4_u8 {
            results.put([index; 32], &verdicts.answer(index.into()), now);
        }
        assert!(results.young_bytes < 1_000, "{}", results.young_bytes);
        fn said(verdict: Result<Verdict<'_>, &crate::error::CallError>) -> String {
            format!("{:?}", verdict.ok())
        }
        for index in 1..4_u8 {
            let kept = results.get(&[index; 32], now).unwrap();
            assert_eq!(said(kept.get(0)), said(verdicts.get(index.into())));
        }
        drop(verdicts);
        assert!(frame.is_unique(), "nothing holds the frame");
    }
}
