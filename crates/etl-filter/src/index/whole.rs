//! Literals that are the whole topic: one hash of the topic, one look.

use super::hash::Keys;
use super::table::Table;

/// A literal: where its text stands, and what to do when it is the topic.
#[derive(Clone, Copy, Debug)]
struct Record {
    text: u32,
    value: u32,
}

/// Whole topics by hash.
#[derive(Debug, Default)]
pub(crate) struct Whole {
    table: Table,
    records: Vec<Record>,
    lens: Vec<u16>,
}

impl Whole {
    /// Of literals, each once, as places in `text` with a length and a value.
    pub(crate) fn new(literals: &[(u32, u16, u32)], text: &[u8], keys: &Keys) -> Self {
        let pairs: Vec<(u64, u32)> = literals
            .iter()
            .enumerate()
            .map(|(number, (start, len, _))| {
                let start = *start as usize;
                let literal = &text[start..start + usize::from(*len)];
                (keys.whole(literal), number as u32)
            })
            .collect();
        Self {
            table: Table::new(&pairs),
            records: literals
                .iter()
                .map(|(text, _, value)| Record {
                    text: *text,
                    value: *value,
                })
                .collect(),
            lens: literals.iter().map(|(_, len, _)| *len).collect(),
        }
    }

    /// Calls `found` with the value of the literal that is `topic`. `text` is what it was built from.
    #[inline]
    pub(crate) fn find(&self, text: &[u8], topic: &[u8], keys: &Keys, mut found: impl FnMut(u32)) {
        if self.table.is_empty() || topic.len() > usize::from(u16::MAX) {
            return;
        }
        self.table.find(keys.whole(topic), |number| {
            let (Some(record), Some(len)) = (
                self.records.get(number as usize),
                self.lens.get(number as usize),
            ) else {
                return;
            };
            let start = record.text as usize;
            if text.get(start..start + usize::from(*len)) == Some(topic) {
                found(record.value);
            }
        });
    }

    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.table.bytes()
            + self.records.capacity() * size_of::<Record>()
            + self.lens.capacity() * 2
    }
}
