//! Results of earlier calls, for modules that answer the same to the same.
//!
//! A lane keeps them for each template that asks for it. The key is a hash (BLAKE3) of everything the module is shown. So that the same
//! message at another place of its topic is found again, a module whose results are kept is shown partition 0 and offset 0.
//! Modules that import a clock or random numbers are never served from here, and failures are not kept.
//!
//! Bounded in bytes by two generations: what is used moves to the young one; when that is full, the old one goes and the young becomes
//! old. So what goes has not been used for at least as long as it took to fill half of the room: nearly the least recently used, without a list.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use etl_abi::{RecordFields, Verdict};

use crate::verdicts::Answer;

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
    pub(crate) fn put(&mut self, key: Key, answer: Answer, now: Instant) {
        if !matches!(
            answer.get(0),
            Ok(Verdict::Keep | Verdict::Drop | Verdict::SetValue(_) | Verdict::Change(_))
        ) {
            return;
        }
        let Some(expires) = now.checked_add(self.time_to_live) else {
            return;
        };
        let bytes = ENTRY + answer.share();
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

/// A hash over everything that the module is shown of a record.
pub(crate) fn key<R: RecordFields>(record: &R) -> Key {
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
        results.put([1; 32], Answer::Value(Bytes::from_static(b"a")), now);
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
        results.put(key(0), Answer::Value(Bytes::from_static(b"x")), now);
        for index in 1..1_000 {
            results.put(key(index), Answer::Value(Bytes::from_static(b"y")), now);
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
        let keys: std::collections::HashSet<_> = records.iter().map(key).collect();
        assert_eq!(keys.len(), records.len());
        let moved = NewRecord {
            partition: 3,
            offset: 9,
            ..base
        };
        assert_eq!(key(&moved), key(&base), "the place does not count");
    }
}
