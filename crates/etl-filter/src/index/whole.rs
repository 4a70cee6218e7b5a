//! Literals that are the whole topic: one hash of the topic, one look.

use super::hash::Keys;
use super::table::{Record, Table};

/// Whole topics by hash.
#[derive(Debug, Default)]
pub(crate) struct Whole(Table);

impl Whole {
    /// Of literals, each once, as places in `text` with a length and a value.
    pub(crate) fn new(literals: &[(u32, u16, u32)], text: &[u8], keys: &Keys) -> Self {
        let pairs = literals.iter().map(|&(start, len, value)| {
            let record = Record::new(start, len, 0, value);
            (keys.text(&text[record.span()]), record)
        });
        Self(Table::new(pairs.collect()))
    }

    /// Calls `found` with the value of the literal that is `topic`. `text` is what it was built from.
    #[inline]
    pub(crate) fn find(&self, text: &[u8], topic: &[u8], keys: &Keys, mut found: impl FnMut(u32)) {
        if self.0.is_empty() || topic.len() > usize::from(u16::MAX) {
            return;
        }
        let hash = keys.text(topic);
        if self.0.may_hold(hash) {
            self.0.find(hash, |_, record| {
                if text.get(record.span()) == Some(topic) {
                    found(record.value);
                }
            });
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.0.bytes()
    }
}
