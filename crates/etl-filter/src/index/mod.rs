//! All literals of a rule set, found in one pass over a topic.
//!
//! A literal that must be the whole topic, start it or end it is found by its hash: the hashes of all prefixes of the topic, and of
//! all its suffixes, come out of one chain each, and those of a length that some literal has are looked up. A literal that may
//! stand anywhere is found by a *window* of it, up to eight bytes; of all its windows the one is taken that the fewest literals
//! share. At each byte of the topic the windows that start there are looked up. What is found is compared in full.
//!
//! The cost is a few nanoseconds for each byte of the topic, plus one comparison for each literal that shares a window with it.

mod hash;
mod table;

use crate::pattern::Place;
use crate::scratch::BitList;
pub(crate) use hash::Keys;
use table::{Filter, Table};

/// Lengths of windows, in bytes.
const WINDOWS: [u8; 5] = [1, 2, 3, 4, 8];
/// Marks a number that is a place in `groups`, where a count and as many literals stand.
const GROUP: u32 = 1 << 31;

/// A literal, where its text stands, and what to do when it is found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record {
    pub(crate) text: u32,
    pub(crate) len: u16,
    /// Where in the literal its window starts.
    window: u16,
    pub(crate) value: u32,
}

/// The literals of one case: those compared with the topic as it is, or those compared with it folded.
#[derive(Debug)]
pub(crate) struct Index {
    keys: Keys,
    /// By place, in the order of [`PLACES`].
    records: Vec<Record>,
    whole: Table,
    start: Table,
    end: Table,
    windows: Table,
    /// The first four bytes of every window of at least as many.
    heads: Filter,
    /// Which of [`WINDOWS`] occur.
    window_lens: u8,
    groups: Vec<u32>,
    whole_lens: Lengths,
    start_lens: Lengths,
    end_lens: Lengths,
    counts: [usize; 4],
    anywhere: u32,
}

/// Collects literals.
#[derive(Debug, Default)]
pub(crate) struct IndexBuilder {
    literals: Vec<(Place, Record)>,
}

impl IndexBuilder {
    /// Adds a literal that no other call adds.
    pub(crate) fn add(&mut self, place: Place, text: u32, len: u16, value: u32) {
        self.literals.push((
            place,
            Record {
                text,
                len,
                window: 0,
                value,
            },
        ));
    }

    pub(crate) fn build(self, keys: Keys, text: &[u8]) -> Index {
        let mut literals = self.literals;
        // Literals that may stand anywhere come first: they are the ones that must be remembered as seen.
        literals.sort_by_key(|(place, _)| *place != Place::Anywhere);
        let bytes = |record: &Record| {
            &text[record.text as usize..record.text as usize + usize::from(record.len)]
        };
        let mut counts = [0; 4];
        let mut lens = [Lengths::default(), Lengths::default(), Lengths::default()];
        let (mut whole, mut start, mut end) = (Vec::new(), Vec::new(), Vec::new());
        let sketch = Sketch::of(
            literals
                .iter()
                .filter(|(place, _)| *place == Place::Anywhere)
                .map(|(_, record)| bytes(record)),
            &keys,
        );
        let mut windows: Vec<(u64, u32)> = Vec::new();
        let mut window_lens = 0;
        for (number, (place, record)) in literals.iter_mut().enumerate() {
            let number = number as u32;
            let literal = bytes(record);
            counts[*place as usize] += 1;
            match place {
                Place::Whole => {
                    lens[0].insert(literal.len());
                    whole.push((keys.chain(literal.iter()), number));
                }
                Place::Start => {
                    lens[1].insert(literal.len());
                    start.push((keys.chain(literal.iter()), number));
                }
                Place::End => {
                    lens[2].insert(literal.len());
                    end.push((keys.chain(literal.iter().rev()), number));
                }
                Place::Anywhere => {
                    let (at, hash) = sketch.rarest(literal, &keys);
                    record.window = at as u16;
                    window_lens |= 1 << window_class(literal.len());
                    windows.push((hash, number));
                }
            }
        }
        let mut heads = Filter::new(windows.len());
        for (_, number) in &windows {
            let record = literals[*number as usize].1;
            let window = &bytes(&record)[usize::from(record.window)..];
            if usize::from(record.len) >= 4 {
                heads.insert(keys.window(word(window, 4), 4));
            }
        }
        let (windows, groups) = group(windows);
        let anywhere = counts[Place::Anywhere as usize] as u32;
        let [whole_lens, start_lens, end_lens] = lens;
        Index {
            keys,
            records: literals.into_iter().map(|(_, record)| record).collect(),
            whole: Table::new(&whole),
            start: Table::new(&start),
            end: Table::new(&end),
            windows: Table::new(&windows),
            heads,
            window_lens,
            groups,
            whole_lens,
            start_lens,
            end_lens,
            counts,
            anywhere,
        }
    }
}

impl Index {
    pub(crate) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The number of literals that may stand anywhere.
    pub(crate) fn anywhere(&self) -> usize {
        self.anywhere as usize
    }

    /// The number of literals at a place, and the bytes of what finds them there.
    pub(crate) fn stats(&self, place: Place) -> (usize, usize) {
        let count = self.counts[place as usize];
        let tables = match place {
            Place::Whole => self.whole.bytes(),
            Place::Start => self.start.bytes(),
            Place::End => self.end.bytes(),
            Place::Anywhere => {
                self.windows.bytes() + self.heads.bytes() + self.groups.capacity() * 4
            }
        };
        (count, tables + count * size_of::<Record>())
    }

    pub(crate) fn bytes(&self) -> usize {
        self.records.capacity() * size_of::<Record>()
            + self.whole.bytes()
            + self.start.bytes()
            + self.end.bytes()
            + self.windows.bytes()
            + self.heads.bytes()
            + self.groups.capacity() * 4
    }

    /// Calls `found` with the value of every literal that `topic` has where the literal must stand, each once. `text` is what the
    /// index was built from, `seen` is empty, and emptied again.
    pub(crate) fn find(
        &self,
        text: &[u8],
        topic: &[u8],
        seen: &mut BitList,
        mut found: impl FnMut(u32),
    ) {
        if !self.start.is_empty() || !self.whole.is_empty() {
            self.find_from_start(text, topic, &mut found);
        }
        if !self.end.is_empty() {
            self.find_from_end(text, topic, &mut found);
        }
        if self.window_lens != 0 {
            self.find_windows(text, topic, seen, &mut found);
            seen.clear();
        }
    }

    fn literal<'a>(&self, text: &'a [u8], number: u32) -> Option<(&Record, &'a [u8])> {
        let record = self.records.get(number as usize)?;
        let start = record.text as usize;
        Some((record, text.get(start..start + usize::from(record.len))?))
    }

    fn find_from_start(&self, text: &[u8], topic: &[u8], found: &mut impl FnMut(u32)) {
        let mut report = |table: &Table, hash: u64, len: usize| {
            table.find(hash, |number| {
                if let Some((record, literal)) = self.literal(text, number)
                    && topic.get(..len) == Some(literal)
                {
                    found(record.value);
                }
            });
        };
        let whole = self.whole_lens.holds(topic.len());
        let longest = if whole {
            topic.len()
        } else {
            self.start_lens.longest.min(topic.len())
        };
        let mut chain = self.keys.start();
        for (at, byte) in topic.iter().take(longest).enumerate() {
            if self.start_lens.holds(at) {
                report(&self.start, chain, at);
            }
            chain = self.keys.step(chain, *byte);
        }
        if self.start_lens.holds(longest) {
            report(&self.start, chain, longest);
        }
        if whole {
            report(&self.whole, chain, longest);
        }
    }

    fn find_from_end(&self, text: &[u8], topic: &[u8], found: &mut impl FnMut(u32)) {
        let mut chain = self.keys.start();
        for (at, byte) in topic.iter().rev().take(self.end_lens.longest).enumerate() {
            chain = self.keys.step(chain, *byte);
            if self.end_lens.holds(at + 1) {
                self.end.find(chain, |number| {
                    if let Some((record, literal)) = self.literal(text, number)
                        && topic.ends_with(literal)
                    {
                        found(record.value);
                    }
                });
            }
        }
    }

    fn find_windows(
        &self,
        text: &[u8],
        topic: &[u8],
        seen: &mut BitList,
        found: &mut impl FnMut(u32),
    ) {
        let mut confirm = |at: usize, number: u32| {
            let Some((record, literal)) = self.literal(text, number) else {
                return;
            };
            let fits = at
                .checked_sub(usize::from(record.window))
                .and_then(|start| topic.get(start..start + literal.len()))
                .is_some_and(|part| part == literal);
            if fits && seen.insert(number) {
                found(record.value);
            }
        };
        let mut look = |at: usize, hash: u64| {
            self.windows.find(hash, |number| {
                if number & GROUP == 0 {
                    confirm(at, number);
                } else if let Some((count, rest)) = self
                    .groups
                    .get((number & !GROUP) as usize..)
                    .and_then(<[u32]>::split_first)
                {
                    rest.iter()
                        .take(*count as usize)
                        .for_each(|number| confirm(at, *number));
                }
            });
        };
        let has = |class: usize| self.window_lens & 1 << class != 0;
        let (has_short, has_4, has_8) = (self.window_lens & 0b111 != 0, has(3), has(4));
        // From the last byte to the first, so that one shift keeps the next eight bytes at hand.
        let mut ahead = 0_u64;
        for (at, byte) in topic.iter().enumerate().rev() {
            ahead = ahead << 8 | u64::from(*byte);
            let left = topic.len() - at;
            if has_short {
                for (class, len) in WINDOWS.into_iter().enumerate().take(3) {
                    if has(class) && left >= usize::from(len) {
                        look(at, self.keys.window(ahead & mask(len), len.into()));
                    }
                }
            }
            if left >= 4 {
                let head = self.keys.window(ahead & mask(4), 4);
                if self.heads.may_hold(head) {
                    if has_4 {
                        look(at, head);
                    }
                    if has_8 && left >= 8 {
                        look(at, self.keys.window(ahead, 8));
                    }
                }
            }
        }
    }
}

/// The place in [`WINDOWS`] of the longest window that fits into a literal.
fn window_class(len: usize) -> usize {
    match len {
        0..=3 => len.saturating_sub(1),
        4..=7 => 3,
        _ => 4,
    }
}

fn mask(len: u8) -> u64 {
    if len >= 8 {
        u64::MAX
    } else {
        (1 << (len * 8)) - 1
    }
}

/// The first `len` bytes, the first one lowest.
fn word(bytes: &[u8], len: usize) -> u64 {
    bytes
        .iter()
        .take(len)
        .rev()
        .fold(0, |word, byte| word << 8 | u64::from(*byte))
}

/// The hashes of all windows of a literal, with where they start.
fn windows_of(literal: &[u8], keys: &Keys) -> impl Iterator<Item = (usize, u64)> {
    let len = usize::from(WINDOWS[window_class(literal.len())]);
    literal
        .windows(len)
        .map(move |window| keys.window(word(window, len), len as u64))
        .enumerate()
}

/// Brings pairs of the same hash together: in place of many there is one, which leads to the list of them.
fn group(mut pairs: Vec<(u64, u32)>) -> (Vec<(u64, u32)>, Vec<u32>) {
    pairs.sort_unstable();
    let mut groups = Vec::new();
    let mut single = Vec::with_capacity(pairs.len());
    for same in pairs.chunk_by(|left, right| left.0 == right.0) {
        if let [pair] = same {
            single.push(*pair);
        } else {
            single.push((same[0].0, groups.len() as u32 | GROUP));
            groups.push(same.len() as u32);
            groups.extend(same.iter().map(|(_, number)| *number));
        }
    }
    (single, groups)
}

/// Roughly how often each hash occurs.
#[derive(Debug)]
pub(crate) struct Sketch {
    counts: Vec<u16>,
    shift: u32,
}

impl Sketch {
    pub(crate) fn new(expected: usize) -> Self {
        let len = (expected * 8).clamp(1 << 10, 1 << 23).next_power_of_two();
        Self {
            counts: vec![0; len],
            shift: 64 - len.trailing_zeros(),
        }
    }

    fn of<'a>(literals: impl Iterator<Item = &'a [u8]> + Clone, keys: &Keys) -> Self {
        let mut sketch = Self::new(literals.clone().count());
        literals.for_each(|literal| sketch.add_windows(literal, keys));
        sketch
    }

    pub(crate) fn add(&mut self, hash: u64) {
        let count = &mut self.counts[(hash >> self.shift) as usize];
        *count = count.saturating_add(1);
    }

    pub(crate) fn count(&self, hash: u64) -> u16 {
        self.counts[(hash >> self.shift) as usize]
    }

    /// Counts every window of a literal.
    pub(crate) fn add_windows(&mut self, literal: &[u8], keys: &Keys) {
        windows_of(literal, keys).for_each(|(_, hash)| self.add(hash));
    }

    /// The window of a literal that occurs least, and its hash.
    pub(crate) fn rarest(&self, literal: &[u8], keys: &Keys) -> (usize, u64) {
        windows_of(literal, keys)
            .min_by_key(|(_, hash)| self.count(*hash))
            .unwrap_or_default()
    }
}

/// A set of lengths.
#[derive(Clone, Debug, Default)]
struct Lengths {
    bits: Vec<u64>,
    longest: usize,
}

impl Lengths {
    fn insert(&mut self, len: usize) {
        if self.bits.len() <= len / 64 {
            self.bits.resize(len / 64 + 1, 0);
        }
        self.bits[len / 64] |= 1 << (len % 64);
        self.longest = self.longest.max(len);
    }

    #[inline]
    fn holds(&self, len: usize) -> bool {
        self.bits
            .get(len / 64)
            .is_some_and(|bits| bits >> (len % 64) & 1 == 1)
    }
}
