//! Literals at one end of the topic, by the hash of as many bytes of it as they are long.
//!
//! A topic could start with a literal of any length, but not every length has to be asked for: literals end where something ends, mostly at a
//! separator. So the bytes with which literals end, seen from the end of the topic at which they stand, are kept, and only up to such bytes
//! hashes are looked up. All of them are taken on one way along the topic, a multiplication for every eight bytes and one for each hash. As with windows nothing is
//! decided on that way: what the filter says is kept, a bit for each hash, and then looked at.
//!
//! Literals at the end of a topic are hashed from their last byte to their first.

use super::hash::Keys;
use super::marks::{Bytes, bits_of};
use super::table::{Record, Table};

/// Literals that share an end of the topic: its start, or, `BACK`wards, its end.
#[derive(Debug)]
pub(super) struct Affixes<const BACK: bool> {
    table: Table,
    /// The bytes at the far ends of literals.
    pub(super) far_ends: Bytes,
    /// The length of the longest.
    longest: usize,
}

impl<const BACK: bool> Affixes<BACK> {
    /// Of literals, each once and none of them empty, as places in `text` with a length and a value.
    pub(super) fn new(literals: &[(u32, u16, u32)], text: &[u8], keys: &Keys) -> Self {
        let mut far_ends = Bytes::default();
        let mut longest = 0;
        let pairs = literals.iter().map(|&(start, len, value)| {
            let record = Record::new(start, len, 0, value);
            let literal = &text[record.span()];
            let far_end = if BACK {
                literal.first()
            } else {
                literal.last()
            };
            if let Some(byte) = far_end {
                far_ends.insert(*byte);
            }
            longest = longest.max(literal.len());
            (hash_of::<BACK>(literal, keys), record)
        });
        Self {
            table: Table::new(pairs.collect()),
            far_ends,
            longest,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.table.bytes()
    }

    /// Calls `found` with the value of every literal at this end of `topic`. `text` is what it was built from; `marks` are those of the topic, and
    /// `PART` is where among them the far ends are.
    #[inline]
    pub(super) fn find<const PART: usize>(
        &self,
        text: &[u8],
        topic: &[u8],
        marks: &[u8],
        keys: &Keys,
        mut found: impl FnMut(u32),
    ) {
        /// Blocks that are hashed before the filter is asked.
        const TOGETHER: usize = 8;
        // Whatever stands farther from this end is in no literal.
        let near = inner::<BACK>(topic, 0, self.longest);
        let mut state = keys.start();
        let mut before = 0;
        while before < near.len() {
            let part = inner::<BACK>(near, before, TOGETHER * 8);
            let mut blocks = [(0, 0); TOGETHER];
            for (number, block) in blocks.iter_mut().enumerate().take(part.len().div_ceil(8)) {
                let word = block_of::<BACK>(part, number * 8);
                *block = (state, word);
                state = keys.next(state, word);
            }
            // The hash of everything up to a byte of this part.
            let hash = |at: usize| {
                let (state, word) = blocks[at / 8 % TOGETHER];
                keys.last(state, word & mask(at % 8 + 1), before + at + 1)
            };
            let mut asked = bits_of(PART, inner::<BACK>(marks, before, part.len()));
            if BACK {
                asked = asked.reverse_bits() >> (64 - part.len());
            }
            let mut held = 0_u64;
            while asked != 0 {
                let at = asked.trailing_zeros();
                asked &= asked - 1;
                held |= u64::from(self.table.may_hold(hash(at as usize))) << at;
            }
            while held != 0 {
                let at = held.trailing_zeros() as usize;
                held &= held - 1;
                let affix = inner::<BACK>(near, 0, before + at + 1);
                self.table.find(hash(at), |_, record| {
                    if text.get(record.span()) == Some(affix) {
                        found(record.value);
                    }
                });
            }
            before += TOGETHER * 8;
        }
    }
}

/// The hash of a text from one of its ends, as `find` takes it along a topic.
#[inline]
pub(super) fn hash_of<const BACK: bool>(text: &[u8], keys: &Keys) -> u64 {
    let mut state = keys.start();
    let mut at = 0;
    while at + 8 < text.len() {
        state = keys.next(state, block_of::<BACK>(text, at));
        at += 8;
    }
    keys.last(state, block_of::<BACK>(text, at), text.len())
}

/// Up to `len` bytes, those behind the first `from`, as seen from the end that counts.
#[inline]
fn inner<const BACK: bool>(text: &[u8], from: usize, len: usize) -> &[u8] {
    let left = text.len().saturating_sub(from);
    let len = len.min(left);
    if BACK {
        &text[left - len..left]
    } else {
        &text[text.len() - left..text.len() - left + len]
    }
}

/// Up to eight bytes behind the first `from`, the nearest one lowest, the others zero.
#[inline]
fn block_of<const BACK: bool>(text: &[u8], from: usize) -> u64 {
    let rest = inner::<BACK>(text, from, 8);
    match rest.first_chunk() {
        Some(block) if BACK => u64::from_be_bytes(*block),
        Some(block) => u64::from_le_bytes(*block),
        None => {
            let join = |word, byte: &u8| word << 8 | u64::from(*byte);
            if BACK {
                rest.iter().fold(0, join)
            } else {
                rest.iter().rev().fold(0, join)
            }
        }
    }
}

/// The bits of the first `len` bytes of a block, one at least.
#[inline]
fn mask(len: usize) -> u64 {
    u64::MAX >> (64 - len * 8)
}
