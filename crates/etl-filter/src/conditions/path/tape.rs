//! A whole payload, checked and laid out flat: one entry a value, in the order of the text.
//!
//! An entry knows where its subtree ends, so the children of a value are reached by hopping and its descendants by walking
//! on. Nothing is copied: names, strings and numbers stay in the payload.

use crate::conditions::lexer::{Lexer, NotJson, Text};

#[derive(Clone, Copy, Debug)]
pub(in crate::conditions) struct Entry {
    /// The value's text.
    pub start: usize,
    pub end: usize,
    /// The entry behind this one's subtree.
    pub next: usize,
    /// How many members or elements it has.
    pub children: usize,
    /// Its name, if it is a member.
    pub name: Option<Text>,
}

#[derive(Clone, Debug, Default)]
pub(in crate::conditions) struct Tape {
    pub entries: Vec<Entry>,
    open: Vec<usize>,
}

/// Entries for which room is kept from payload to payload: some hundred kilobytes.
const MOST_KEPT: usize = 4096;

impl Tape {
    /// Gives back the room that a large payload took, which can be thirty times the payload's.
    pub fn release(&mut self) {
        if self.entries.capacity() > MOST_KEPT {
            self.entries = Vec::new();
        }
        if self.open.capacity() > MOST_KEPT {
            self.open = Vec::new();
        }
    }

    /// Bytes that it holds.
    pub fn bytes(&self) -> usize {
        self.entries.capacity() * size_of::<Entry>() + self.open.capacity() * size_of::<usize>()
    }

    /// Lays out `payload`, which must be one JSON value and nothing else.
    pub fn read(&mut self, payload: &[u8]) -> Result<(), NotJson> {
        self.entries.clear();
        self.open.clear();
        let mut lexer = Lexer::new(payload);
        let mut name = None;
        'value: loop {
            lexer.whitespace();
            let this = self.entries.len();
            self.entries.push(Entry {
                start: lexer.at,
                end: 0,
                next: this + 1,
                children: 0,
                name,
            });
            let nested = !self.open.is_empty();
            match lexer.peek().ok_or(NotJson)? {
                b'"' => {
                    lexer.at += 1;
                    lexer.string()?;
                }
                b'-' | b'0'..=b'9' => lexer.number(nested)?,
                bracket @ (b'{' | b'[') => {
                    lexer.at += 1;
                    lexer.whitespace();
                    // `{` and `}`, `[` and `]` lie two apart.
                    if lexer.peek() == Some(bracket + 2) {
                        lexer.at += 1;
                    } else {
                        self.open.push(this);
                        name = if bracket == b'{' {
                            Some(lexer.name()?)
                        } else {
                            None
                        };
                        continue 'value;
                    }
                }
                _ => lexer.literal(nested)?,
            }
            self.entries[this].end = lexer.at;
            while let Some(&parent) = self.open.last() {
                self.entries[parent].children += 1;
                let object = payload[self.entries[parent].start] == b'{';
                lexer.whitespace();
                match (lexer.next()?, object) {
                    (b',', true) => {
                        name = Some(lexer.name()?);
                        continue 'value;
                    }
                    (b',', false) => {
                        name = None;
                        continue 'value;
                    }
                    (b'}', true) | (b']', false) => {
                        self.entries[parent].end = lexer.at;
                        self.entries[parent].next = self.entries.len();
                        self.open.pop();
                    }
                    _ => return Err(NotJson),
                }
            }
            lexer.whitespace();
            return if lexer.at == payload.len() {
                Ok(())
            } else {
                Err(NotJson)
            };
        }
    }

    /// The children of an entry, in order.
    pub fn children(&self, entry: usize) -> impl Iterator<Item = usize> + '_ {
        let end = self.entries[entry].next;
        let mut at = entry + 1;
        std::iter::from_fn(move || {
            if at >= end {
                return None;
            }
            let child = at;
            at = self.entries[child].next;
            Some(child)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_of_a_large_payload_is_given_back() {
        let mut tape = Tape::default();
        for (depth, kept) in [(10, true), (MOST_KEPT * 2, false)] {
            let payload = "[".repeat(depth) + &"]".repeat(depth);
            assert!(tape.read(payload.as_bytes()).is_ok());
            tape.release();
            assert_eq!(tape.entries.capacity() > 0, kept);
            assert_eq!(tape.open.capacity() > 0, kept);
        }
    }
}
