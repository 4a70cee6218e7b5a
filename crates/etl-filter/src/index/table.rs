//! A static hash table of literals, made to say "no" quickly.
//!
//! Most questions are about hashes that are not there, so a filter stands in front: 16 bits a key, three of them set in one 64-bit
//! word, which lets about one wrong question in three hundred through. Behind it literals are sorted by their hash and cut into buckets of
//! four or so, told apart by a byte of their hash: 16 bytes a literal in all. Hashes are not kept, so the caller compares what it finds.

use std::ops::Range;

/// A literal: where its text stands, at which byte of it what was hashed starts, and what to do when it is found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record {
    text: u32,
    len: u16,
    pub(super) hashed: u16,
    pub(super) value: u32,
}

impl Record {
    pub(super) fn new(text: u32, len: u16, hashed: u16, value: u32) -> Self {
        Self {
            text,
            len,
            hashed,
            value,
        }
    }

    /// What it was made from.
    pub(super) fn literal(&self) -> (u32, u16, u32) {
        (self.text, self.len, self.value)
    }

    /// Where its text stands.
    #[inline]
    pub(super) fn span(&self) -> Range<usize> {
        let start = self.text as usize;
        start..start + usize::from(self.len)
    }
}

/// Literals by hash.
#[derive(Debug, Default)]
pub(crate) struct Table {
    filter: Filter,
    /// Where each bucket starts; one more entry than buckets.
    starts: Vec<u32>,
    /// The lowest byte of each hash.
    tags: Vec<u8>,
    records: Vec<Record>,
}

/// Literals a bucket, on average.
const A_BUCKET: usize = 4;

impl Table {
    /// A table of these pairs; the same hash may occur more than once.
    pub(crate) fn new(mut pairs: Vec<(u64, Record)>) -> Self {
        if pairs.is_empty() {
            return Self::default();
        }
        pairs.sort_unstable_by_key(|(hash, _)| *hash);
        let mut filter = Filter::new(pairs.len());
        let buckets = pairs.len().div_ceil(A_BUCKET);
        let mut starts = vec![0; buckets + 1];
        for (hash, _) in &pairs {
            filter.insert(*hash);
            starts[scaled(*hash, buckets) + 1] += 1;
        }
        let mut before = 0;
        for start in &mut starts {
            before += *start;
            *start = before;
        }
        Self {
            filter,
            starts,
            tags: pairs.iter().map(|(hash, _)| *hash as u8).collect(),
            records: pairs.iter().map(|(_, record)| *record).collect(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether a literal may have this hash; if not, none has.
    #[inline]
    pub(crate) fn may_hold(&self, hash: u64) -> bool {
        self.filter.may_hold(hash)
    }

    /// Calls `found` with every literal whose hash may be `hash`, and its number.
    #[inline]
    pub(crate) fn find(&self, hash: u64, mut found: impl FnMut(usize, &Record)) {
        let bucket = scaled(hash, self.starts.len().saturating_sub(1));
        let (Some(start), Some(end)) = (self.starts.get(bucket), self.starts.get(bucket + 1))
        else {
            return;
        };
        let span = *start as usize..*end as usize;
        let tags = self.tags.get(span.clone()).unwrap_or(&[]);
        for (number, tag) in span.zip(tags) {
            if *tag == hash as u8
                && let Some(record) = self.records.get(number)
            {
                found(number, record);
            }
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.filter.bytes()
            + self.starts.capacity() * 4
            + self.tags.capacity()
            + self.records.capacity() * size_of::<Record>()
    }
}

/// A hash as a number below `bound`, in the order of the hashes.
#[inline]
fn scaled(hash: u64, bound: usize) -> usize {
    (((hash >> 32) * bound as u64) >> 32) as usize
}

/// Says of a hash that it is certainly not there, or that it may be.
#[derive(Debug, Default)]
struct Filter {
    words: Vec<u64>,
}

impl Filter {
    fn new(keys: usize) -> Self {
        Self {
            words: vec![0; keys.div_ceil(4)],
        }
    }

    /// Three bits, chosen by other parts of the hash than the word is.
    #[inline]
    fn mask(hash: u64) -> u64 {
        1 << (hash & 63) | 1 << ((hash >> 6) & 63) | 1 << ((hash >> 12) & 63)
    }

    fn insert(&mut self, hash: u64) {
        let word = scaled(hash, self.words.len());
        self.words[word] |= Self::mask(hash);
    }

    #[inline]
    fn may_hold(&self, hash: u64) -> bool {
        let mask = Self::mask(hash);
        self.words
            .get(scaled(hash, self.words.len()))
            .is_some_and(|word| word & mask == mask)
    }

    fn bytes(&self) -> usize {
        self.words.capacity() * 8
    }
}
