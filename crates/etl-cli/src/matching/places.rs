//! Lines and columns of a text.
//!
//! A generated file of many rules has the same thing wrong in each of them. To count from the start of the file for every message would take
//! minutes, so the first question notes where lines and columns stand all along the text.

use std::cell::OnceCell;

/// Bytes between two notes.
const STRIDE: usize = 1024;

/// A text that knows its lines.
pub struct Places {
    text: String,
    /// For every so many bytes, at the start of the character there: line and column, from 1.
    notes: OnceCell<Vec<(usize, usize)>>,
}

impl Places {
    pub fn new(text: String) -> Self {
        Self {
            text,
            notes: OnceCell::new(),
        }
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    /// Line and column of a byte, from 1, columns in characters.
    pub fn position(&self, offset: usize) -> (usize, usize) {
        let offset = self.text.floor_char_boundary(offset);
        let number = offset / STRIDE;
        let noted = self.notes.get_or_init(|| self.note())[number];
        advance(noted, &self.text[self.boundary(number)..offset])
    }

    /// Where the note of this number stands.
    fn boundary(&self, number: usize) -> usize {
        self.text.floor_char_boundary(number * STRIDE)
    }

    fn note(&self) -> Vec<(usize, usize)> {
        let mut notes = vec![(1, 1)];
        for number in 0..self.text.len() / STRIDE {
            let between = &self.text[self.boundary(number)..self.boundary(number + 1)];
            notes.push(advance(notes[number], between));
        }
        notes
    }
}

/// The place behind a text that starts at a place.
fn advance((line, column): (usize, usize), text: &str) -> (usize, usize) {
    match text.rfind('\n') {
        None => (line, column + text.chars().count()),
        Some(end) => (
            line + text.matches('\n').count(),
            text[end + 1..].chars().count() + 1,
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_the_place_that_counting_from_the_start_gives() {
        let texts = [
            String::new(),
            "a".to_owned(),
            "é\n".repeat(1_500),
            "日本語".repeat(1_000),
            format!("{}\n\r\n{}", "x".repeat(1_023), "ä".repeat(2_000)),
        ];
        for text in texts {
            let places = Places::new(text.clone());
            let (mut line, mut column) = (1, 1);
            for (at, character) in text.char_indices() {
                for inside in at..at + character.len_utf8() {
                    assert_eq!(places.position(inside), (line, column), "byte {inside}");
                }
                (line, column) = match character {
                    '\n' => (line + 1, 1),
                    _ => (line, column + 1),
                };
            }
            assert_eq!(places.position(text.len()), (line, column));
            assert_eq!(places.position(text.len() + 7), (line, column));
        }
    }
}
