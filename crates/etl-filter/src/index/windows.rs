//! Literals anywhere in the topic, in few bytes each: by the rarest of their windows.
//!
//! A literal is found by a *window* of it, up to eight bytes; of all its windows the one is taken that the fewest literals share. At
//! each byte of the topic the windows that start there are looked up by hash, and what is found is compared in full. It takes about 26
//! bytes a literal, a fifth of what an automaton does.

use super::hash::{Keys, mask, word};
use super::table::{Filter, Table};
use crate::scratch::BitList;

/// Lengths of windows, in bytes.
const WINDOWS: [u8; 5] = [1, 2, 3, 4, 8];
/// Marks a number that is a place in `groups`, where a count and as many literals stand.
const GROUP: u32 = 1 << 31;

/// A literal, where its text stands, and what to do when it is found.
#[derive(Clone, Copy, Debug)]
struct Record {
    text: u32,
    len: u16,
    /// Where in the literal its window starts.
    window: u16,
    value: u32,
}

/// Literals that may stand anywhere.
#[derive(Debug)]
pub(crate) struct Windows {
    records: Vec<Record>,
    table: Table,
    /// The first four bytes of every window of at least as many.
    heads: Filter,
    /// Which of [`WINDOWS`] occur.
    lens: u8,
    groups: Vec<u32>,
}

impl Windows {
    /// Of literals, each once, as places in `text` with a length and a value.
    pub(crate) fn new(literals: &[(u32, u16, u32)], text: &[u8], keys: &Keys) -> Self {
        let bytes = |start: u32, len: u16| &text[start as usize..start as usize + usize::from(len)];
        let sketch = Sketch::of(
            literals.iter().map(|(start, len, _)| bytes(*start, *len)),
            keys,
        );
        let mut windows: Vec<(u64, u32)> = Vec::with_capacity(literals.len());
        let mut heads = Filter::new(literals.len());
        let mut lens = 0;
        let mut records = Vec::with_capacity(literals.len());
        for &(start, len, value) in literals {
            let literal = bytes(start, len);
            let (at, hash) = sketch.rarest(literal, keys);
            lens |= 1 << window_class(literal.len());
            windows.push((hash, records.len() as u32));
            if literal.len() >= 4 {
                heads.insert(keys.window(word(&literal[at..], 4), 4));
            }
            records.push(Record {
                text: start,
                len,
                window: at as u16,
                value,
            });
        }
        let (windows, groups) = group(windows);
        Self {
            records,
            table: Table::new(&windows),
            heads,
            lens,
            groups,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.records.capacity() * size_of::<Record>()
            + self.table.bytes()
            + self.heads.bytes()
            + self.groups.capacity() * 4
    }

    fn literal<'a>(&self, text: &'a [u8], number: u32) -> Option<(&Record, &'a [u8])> {
        let record = self.records.get(number as usize)?;
        let start = record.text as usize;
        Some((record, text.get(start..start + usize::from(record.len))?))
    }

    /// Calls `found` with the value of every literal in `topic`, once. `text` is what it was built from, `seen` is empty.
    pub(crate) fn find(
        &self,
        text: &[u8],
        topic: &[u8],
        keys: &Keys,
        seen: &mut BitList,
        mut found: impl FnMut(u32),
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
            self.table.find(hash, |number| {
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
        let has = |class: usize| self.lens & 1 << class != 0;
        let (has_short, has_4, has_8) = (self.lens & 0b111 != 0, has(3), has(4));
        // From the last byte to the first, so that one shift keeps the next eight bytes at hand.
        let mut ahead = 0_u64;
        for (at, byte) in topic.iter().enumerate().rev() {
            ahead = ahead << 8 | u64::from(*byte);
            let left = topic.len() - at;
            if has_short {
                for (class, len) in WINDOWS.into_iter().enumerate().take(3) {
                    if has(class) && left >= usize::from(len) {
                        look(at, keys.window(ahead & mask(len.into()), len.into()));
                    }
                }
            }
            if left >= 4 {
                let head = keys.window(ahead & mask(4), 4);
                if self.heads.may_hold(head) {
                    if has_4 {
                        look(at, head);
                    }
                    if has_8 && left >= 8 {
                        look(at, keys.window(ahead, 8));
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
