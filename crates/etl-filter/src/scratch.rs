//! The memory that one match needs, owned by the caller.
//!
//! A [`Scratch`] grows to what the rule set needs at its first use and is reused from then on: after that nothing is allocated.
//! One may be used with many rule sets, one after the other; between two calls it holds nothing but capacity.

use crate::pattern::program::Threads;
use crate::rule::RuleId;

/// Working memory for [`RuleSet::matches`](crate::RuleSet::matches): one for each thread that matches.
#[derive(Clone, Debug, Default)]
pub struct Scratch {
    /// The topic, folded.
    pub(crate) folded: Vec<u8>,
    /// What each byte of the topic means to the index.
    pub(crate) marks: Vec<u8>,
    /// Slots that matched and that some tree asks for.
    pub(crate) hits: BitList,
    /// Trees that a match touched.
    pub(crate) touched: BitList,
    /// Trees that hold unless touched, and do not hold now.
    pub(crate) suppressed: BitList,
    /// Literals that were found, and expressions that matched, so that each is reported once.
    pub(crate) seen: BitList,
    pub(crate) reported: BitList,
    pub(crate) threads: Threads,
    /// How many patterns were compared in full because a literal of theirs was found, or because they have none.
    pub(crate) checked: u32,
    pub(crate) found: Vec<RuleId>,
    /// What the other part of a set with changes found.
    pub(crate) other: Vec<RuleId>,
    pub(crate) room: Room,
}

/// The engines for which there is room. A copy of a scratch has none, since a copy of a list has room for what is in it and no more.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Room(pub(crate) u64, pub(crate) u64);

impl Clone for Room {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl Scratch {
    /// Empty memory, which takes the size that it needs at its first use. [`RuleSet::scratch`](crate::RuleSet::scratch) makes one
    /// that has it already.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many patterns the last search compared in full: those of which a literal was found, and those that have none. With the
    /// length of the topic it tells what the search cost.
    pub fn checked(&self) -> usize {
        self.checked as usize
    }

    /// Bytes that it holds.
    pub fn memory_bytes(&self) -> usize {
        self.folded.capacity()
            + self.marks.capacity()
            + self.hits.bytes()
            + self.touched.bytes()
            + self.suppressed.bytes()
            + self.seen.bytes()
            + self.reported.bytes()
            + self.threads.bytes()
            + (self.found.capacity() + self.other.capacity()) * size_of::<RuleId>()
    }
}

/// A set of small numbers that knows its members, so that emptying it costs what is in it and not what could be.
#[derive(Clone, Debug, Default)]
pub(crate) struct BitList {
    bits: Vec<u64>,
    members: Vec<u32>,
}

impl BitList {
    /// Makes room for numbers below `len`, all of which may be in it.
    pub(crate) fn reserve(&mut self, len: usize) {
        if self.bits.len() * 64 < len {
            self.bits.resize(len.div_ceil(64), 0);
        }
        self.members.reserve(len.saturating_sub(self.members.len()));
    }

    /// Adds a number; false if it was there. A number for which there is no room makes room: nothing is lost.
    #[inline]
    pub(crate) fn insert(&mut self, member: u32) -> bool {
        if self.bits.len() <= member as usize / 64 {
            self.reserve(member as usize + 1);
        }
        let word = &mut self.bits[member as usize / 64];
        let bit = 1 << (member % 64);
        let new = *word & bit == 0;
        if new {
            *word |= bit;
            self.members.push(member);
        }
        new
    }

    pub(crate) fn contains(&self, member: u32) -> bool {
        self.bits
            .get(member as usize / 64)
            .is_some_and(|word| word & (1 << (member % 64)) != 0)
    }

    /// The members, in the order in which they came.
    pub(crate) fn members(&self) -> &[u32] {
        &self.members
    }

    pub(crate) fn clear(&mut self) {
        for member in self.members.drain(..) {
            if let Some(word) = self.bits.get_mut(member as usize / 64) {
                *word = 0;
            }
        }
    }

    fn bytes(&self) -> usize {
        self.bits.capacity() * 8 + self.members.capacity() * 4
    }
}
