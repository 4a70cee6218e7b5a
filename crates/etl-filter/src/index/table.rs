//! A static hash table from hashes to numbers, made to say "no" quickly.
//!
//! Most questions are about hashes that are not there, so a filter stands in front: 16 bits a key, two of them set in one 64-bit
//! word, which lets about one wrong question in fifty through. Behind it is open addressing with entries of eight bytes, four
//! fifths full: 12 bytes a key in all. Entries hold 32 bits of the hash, so the caller compares what it finds.

/// Numbers by hash.
#[derive(Debug, Default)]
pub(crate) struct Table {
    filter: Filter,
    /// Hash and number, or [`EMPTY`]. Never full.
    entries: Vec<(u32, u32)>,
}

const EMPTY: (u32, u32) = (0, u32::MAX);

impl Table {
    /// A table of these pairs; the same hash may occur more than once.
    pub(crate) fn new(pairs: &[(u64, u32)]) -> Self {
        if pairs.is_empty() {
            return Self::default();
        }
        let mut filter = Filter::new(pairs.len());
        let capacity = pairs.len() + pairs.len() / 4 + 1;
        let mut entries = vec![EMPTY; capacity];
        for &(hash, number) in pairs {
            filter.insert(hash);
            let mut at = place(hash, capacity);
            while entries[at] != EMPTY {
                at = if at + 1 == capacity { 0 } else { at + 1 };
            }
            entries[at] = (hash as u32, number);
        }
        Self { filter, entries }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Calls `found` with the number of every key whose hash may be `hash`.
    #[inline]
    pub(crate) fn find(&self, hash: u64, mut found: impl FnMut(u32)) {
        if !self.filter.may_hold(hash) {
            return;
        }
        let mut at = place(hash, self.entries.len());
        while let Some(&(tag, number)) = self.entries.get(at) {
            if number == u32::MAX {
                return;
            }
            if tag == hash as u32 {
                found(number);
            }
            at = if at + 1 == self.entries.len() {
                0
            } else {
                at + 1
            };
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.filter.bytes() + self.entries.capacity() * 8
    }
}

/// The upper bits choose the place, the lower ones are the tag.
fn place(hash: u64, capacity: usize) -> usize {
    ((u128::from(hash) * capacity as u128) >> 64) as usize
}

/// Says of a hash that it is certainly not there, or that it may be.
#[derive(Debug, Default)]
pub(crate) struct Filter {
    words: Vec<u64>,
    /// How far a hash is shifted to choose its word.
    shift: u32,
}

impl Filter {
    pub(crate) fn new(keys: usize) -> Self {
        let words = (keys / 4).max(1).next_power_of_two();
        Self {
            words: vec![0; words],
            shift: 64 - words.trailing_zeros(),
        }
    }

    fn word(&self, hash: u64) -> usize {
        // One word needs no bits; a shift by the whole width is none to the machine.
        hash.checked_shr(self.shift).unwrap_or(0) as usize
    }

    fn mask(hash: u64) -> u64 {
        1 << (hash & 63) | 1 << ((hash >> 6) & 63)
    }

    pub(crate) fn insert(&mut self, hash: u64) {
        let word = self.word(hash);
        self.words[word] |= Self::mask(hash);
    }

    #[inline]
    pub(crate) fn may_hold(&self, hash: u64) -> bool {
        let mask = Self::mask(hash);
        self.words
            .get(self.word(hash))
            .is_some_and(|word| word & mask == mask)
    }

    pub(crate) fn bytes(&self) -> usize {
        self.words.capacity() * 8
    }
}
