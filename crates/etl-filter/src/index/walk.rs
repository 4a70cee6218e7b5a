//! Literals at one end of the topic, in an FST: one walk along the topic passes all that it starts with.
//!
//! What a transducer accepts is equal byte for byte, so nothing is compared afterwards, and the text of the literals is not needed. A walk ends
//! at the first byte that no literal goes on with. Literals at the end of a topic are stored and walked backwards.
//!
//! A step costs several times what it costs to hash a byte, and the first ones are the same for many literals: so the first bytes are taken in
//! one *leap*, by a table from these bytes to the place in the transducer where they lead.

use fst::raw::{Fst, Node, Output};
use fst::{Map, MapBuilder};

use super::hash::{Keys, block};

/// How many bytes a leap may take: of these, as many as the table has room for.
const LEAPS: [u8; 5] = [8, 6, 4, 3, 2];
/// The table may have this many entries, and more where the literals are many more.
const LEAST_ENTRIES: usize = 256;
const LITERALS_AN_ENTRY: usize = 16;

/// Literals that share a start.
#[derive(Debug, Default)]
pub(super) struct Walk {
    map: Option<Map<Vec<u8>>>,
    /// What to do for each literal, in their order.
    values: Vec<u32>,
    leap: Leap,
    /// Whether a literal is shorter than the leap.
    has_shorter: bool,
}

/// From the first bytes of a literal to where they lead.
#[derive(Debug, Default)]
struct Leap {
    len: usize,
    /// Open addressing, a power of two, at most half full.
    entries: Vec<Entry>,
    shift: u32,
}

#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    bytes: u64,
    address: u32,
    output: u32,
}

impl Walk {
    /// Of literals, each once, that start the topic.
    pub(super) fn forwards(mut literals: Vec<(&[u8], u32)>, keys: &Keys) -> Self {
        literals.sort_unstable();
        Self::new(literals.iter().copied(), keys)
    }

    /// Of literals, each once, that end the topic.
    pub(super) fn backwards(literals: &[(&[u8], u32)], keys: &Keys) -> Self {
        let total = literals.iter().map(|(literal, _)| literal.len()).sum();
        let mut text: Vec<u8> = Vec::with_capacity(total);
        let mut spans: Vec<(usize, usize, u32)> = Vec::with_capacity(literals.len());
        for (literal, value) in literals {
            let start = text.len();
            text.extend(literal.iter().rev());
            spans.push((start, text.len(), *value));
        }
        spans.sort_unstable_by(|left, right| text[left.0..left.1].cmp(&text[right.0..right.1]));
        let sorted = spans
            .iter()
            .map(|(start, end, value)| (&text[*start..*end], *value));
        Self::new(sorted, keys)
    }

    /// Of literals in order.
    fn new<'a>(
        literals: impl ExactSizeIterator<Item = (&'a [u8], u32)> + Clone,
        keys: &Keys,
    ) -> Self {
        if literals.len() == 0 {
            return Self::default();
        }
        let mut values = Vec::with_capacity(literals.len());
        let mut builder = MapBuilder::memory();
        for (literal, value) in literals.clone() {
            // Writing to memory does not fail.
            builder
                .insert(literal, values.len() as u64)
                .expect("literals come in order, each once");
            values.push(value);
        }
        let mut bytes = builder
            .into_inner()
            .expect("a transducer in memory can be finished");
        bytes.shrink_to_fit();
        let map = Map::new(bytes).expect("a transducer just built is one");
        let literals = literals.map(|(literal, _)| literal);
        let leap = Leap::new(map.as_fst(), literals.clone(), keys);
        let has_shorter = literals.into_iter().any(|literal| literal.len() < leap.len);
        Self {
            map: Some(map),
            values,
            leap,
            has_shorter,
        }
    }

    /// Calls `found` with the value of every literal that starts `topic`.
    #[inline]
    pub(super) fn find_forwards(&self, topic: &[u8], keys: &Keys, found: impl FnMut(u32)) {
        self.find(
            block(topic),
            topic.len(),
            topic.iter().copied(),
            keys,
            found,
        );
    }

    /// Calls `found` with the value of every literal that ends `topic`.
    #[inline]
    pub(super) fn find_backwards(&self, topic: &[u8], keys: &Keys, found: impl FnMut(u32)) {
        let last = topic.last_chunk().map_or_else(
            || {
                topic
                    .iter()
                    .fold(0, |word, byte| word << 8 | u64::from(*byte))
            },
            |word| u64::from_be_bytes(*word),
        );
        self.find(last, topic.len(), topic.iter().rev().copied(), keys, found);
    }

    /// `first` are the first eight bytes of `topic`, the first one lowest, or as many as there are.
    #[inline]
    fn find(
        &self,
        first: u64,
        len: usize,
        mut topic: impl Iterator<Item = u8> + Clone,
        keys: &Keys,
        mut found: impl FnMut(u32),
    ) {
        let Some(map) = &self.map else { return };
        let fst = map.as_fst();
        let leap = self.leap.len;
        if self.has_shorter || leap == 0 {
            let steps = if leap == 0 { usize::MAX } else { leap - 1 };
            let all = topic.clone().take(steps);
            self.walk(fst, fst.root(), Output::zero(), all, &mut found);
        }
        if leap == 0 || len < leap {
            return;
        }
        if let Some((address, output)) = self.leap.find(first, keys) {
            let node = fst.node(address);
            self.report(&node, output, &mut found);
            topic.nth(leap - 1);
            self.walk(fst, node, output, topic, &mut found);
        }
    }

    #[inline]
    fn walk<'a>(
        &self,
        fst: &'a Fst<Vec<u8>>,
        mut node: Node<'a>,
        mut output: Output,
        topic: impl Iterator<Item = u8>,
        found: &mut impl FnMut(u32),
    ) {
        for byte in topic {
            let Some(transition) = node.find_input(byte) else {
                return;
            };
            let transition = node.transition(transition);
            output = output.cat(transition.out);
            node = fst.node(transition.addr);
            self.report(&node, output, found);
        }
    }

    #[inline]
    fn report(&self, node: &Node<'_>, output: Output, found: &mut impl FnMut(u32)) {
        if node.is_final() {
            let number = output.cat(node.final_output()).value();
            if let Some(value) = self.values.get(number as usize) {
                found(*value);
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        self.values.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.map.as_ref().map_or(0, |map| map.as_fst().size())
            + self.values.capacity() * 4
            + self.leap.entries.capacity() * size_of::<Entry>()
    }
}

impl Leap {
    /// The longest leap for which the table is small beside the literals, which come in order.
    fn new<'a>(
        fst: &Fst<Vec<u8>>,
        literals: impl ExactSizeIterator<Item = &'a [u8]> + Clone,
        keys: &Keys,
    ) -> Self {
        let most = LEAST_ENTRIES.max(literals.len() / LITERALS_AN_ENTRY);
        // An address has 32 bits here, and an output is a literal's number; a transducer of 4 GiB is over every budget.
        if u32::try_from(fst.size()).is_err() {
            return Self::default();
        }
        for len in LEAPS.map(usize::from) {
            let starts = || {
                let mut last = None;
                literals
                    .clone()
                    .filter_map(move |literal| literal.get(..len))
                    .filter(move |start| last.replace(*start) != Some(*start))
            };
            let count = starts().take(most + 1).count();
            if count == 0 || count > most {
                continue;
            }
            let capacity = (count * 2).next_power_of_two();
            let mut this = Self {
                len,
                entries: vec![Entry::default(); capacity],
                shift: 64 - capacity.trailing_zeros(),
            };
            for start in starts() {
                this.insert(fst, start, keys);
            }
            return this;
        }
        Self::default()
    }

    fn insert(&mut self, fst: &Fst<Vec<u8>>, start: &[u8], keys: &Keys) {
        let mut node = fst.root();
        let mut output = Output::zero();
        for byte in start {
            let Some(transition) = node.find_input(*byte) else {
                return;
            };
            let transition = node.transition(transition);
            output = output.cat(transition.out);
            node = fst.node(transition.addr);
        }
        let bytes = block(start);
        let mut at = self.place(bytes, keys);
        while self.entries[at].address != VACANT {
            at = (at + 1) % self.entries.len();
        }
        self.entries[at] = Entry {
            bytes,
            address: node.addr() as u32 + 1,
            output: output.value() as u32,
        };
    }

    fn place(&self, bytes: u64, keys: &Keys) -> usize {
        // At least two entries, so the shift is less than the width.
        (keys.window(bytes, self.len) >> self.shift) as usize
    }

    #[inline]
    fn find(&self, first: u64, keys: &Keys) -> Option<(usize, Output)> {
        let bytes = first & u64::MAX >> (64 - self.len * 8);
        let mut at = self.place(bytes, keys);
        loop {
            let entry = self.entries.get(at)?;
            if entry.address == VACANT {
                return None;
            }
            if entry.bytes == bytes {
                return Some((entry.address as usize - 1, Output::new(entry.output.into())));
            }
            at = (at + 1) % self.entries.len();
        }
    }
}

/// An entry that leads nowhere; the others hold an address and 1.
const VACANT: u32 = 0;
