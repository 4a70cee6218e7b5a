//! A compact regular expression: the expression as a list of 32-bit instructions, run in time linear in the topic.
//!
//! Many thousand expressions are verified rarely, so what counts is bytes an expression, not nanoseconds a byte: a program takes
//! about four bytes a pattern character, where an automaton of regex-automata takes kilobytes. `compiler` writes programs, `machine`
//! runs them, and `cost` bounds what one character of a topic can take.

mod compiler;
mod cost;
mod machine;

use regex_automata::util::look::Look as EngineLook;
use regex_syntax::hir::Look;

pub(crate) use compiler::Compiler;
pub(crate) use machine::{Threads, matches};

const TAG_SHIFT: u32 = 28;
const ARGUMENT: u32 = (1 << TAG_SHIFT) - 1;

/// Operations, in the upper four bits of an instruction; the lower bits are the argument.
const CHARACTER: u32 = 0; // one character: its code point
const CLASS: u32 = 1; // one character of a class: its place in the table
const SPLIT: u32 = 2; // goes on here and at the argument
const JUMP: u32 = 3; // goes on at the argument
const LOOK: u32 = 4; // goes on if the assertion holds: its place in LOOKS
const MATCH: u32 = 5;
const ANY: u32 = 6; // one character, whichever

const LOOKS: [(Look, EngineLook); 18] = [
    (Look::Start, EngineLook::Start),
    (Look::End, EngineLook::End),
    (Look::StartLF, EngineLook::StartLF),
    (Look::EndLF, EngineLook::EndLF),
    (Look::StartCRLF, EngineLook::StartCRLF),
    (Look::EndCRLF, EngineLook::EndCRLF),
    (Look::WordAscii, EngineLook::WordAscii),
    (Look::WordAsciiNegate, EngineLook::WordAsciiNegate),
    (Look::WordUnicode, EngineLook::WordUnicode),
    (Look::WordUnicodeNegate, EngineLook::WordUnicodeNegate),
    (Look::WordStartAscii, EngineLook::WordStartAscii),
    (Look::WordEndAscii, EngineLook::WordEndAscii),
    (Look::WordStartUnicode, EngineLook::WordStartUnicode),
    (Look::WordEndUnicode, EngineLook::WordEndUnicode),
    (Look::WordStartHalfAscii, EngineLook::WordStartHalfAscii),
    (Look::WordEndHalfAscii, EngineLook::WordEndHalfAscii),
    (Look::WordStartHalfUnicode, EngineLook::WordStartHalfUnicode),
    (Look::WordEndHalfUnicode, EngineLook::WordEndHalfUnicode),
];

/// Where in [`LOOKS`] those about words begin.
const FIRST_OF_WORDS: usize = 6;

/// Whether a program can only match from the start of the topic on.
fn is_anchored(code: &[u32]) -> bool {
    code.first() == Some(&(LOOK << TAG_SHIFT))
}

/// Character classes of all programs, each distinct one once.
#[derive(Debug, Default)]
pub(crate) struct Classes {
    /// Where each class starts in `ranges`; one more entry than classes.
    starts: Vec<u32>,
    ranges: Vec<(char, char)>,
    /// The ASCII characters of each class, a bit for each.
    ascii: Vec<u128>,
}

impl Classes {
    /// Adds a class, and tells its place.
    fn add(&mut self, ranges: &[(char, char)]) -> u32 {
        if self.starts.is_empty() {
            self.starts.push(0);
        }
        self.ranges.extend_from_slice(ranges);
        self.starts.push(self.ranges.len() as u32);
        let bits = (0..128_u8).filter(|byte| is_among(ranges, char::from(*byte)));
        self.ascii.push(bits.fold(0, |bits, byte| bits | 1 << byte));
        self.ascii.len() as u32 - 1
    }

    /// How many classes there are.
    pub(crate) fn len(&self) -> usize {
        self.ascii.len()
    }

    fn ranges(&self, class: u32) -> &[(char, char)] {
        let bound = |at: usize| self.starts.get(at).map_or(0, |start| *start as usize);
        self.ranges
            .get(bound(class as usize)..bound(class as usize + 1))
            .unwrap_or(&[])
    }

    /// Whether an ASCII character is in a class.
    fn holds_ascii(&self, class: u32, character: char) -> bool {
        self.ascii
            .get(class as usize)
            .is_some_and(|bits| bits >> (u32::from(character) % 128) & 1 != 0)
    }

    /// Bytes that the table takes.
    pub(crate) fn bytes(&self) -> usize {
        self.starts.capacity() * 4 + self.ranges.capacity() * 8 + self.ascii.capacity() * 16
    }

    fn shrink(&mut self) {
        self.starts.shrink_to_fit();
        self.ranges.shrink_to_fit();
        self.ascii.shrink_to_fit();
    }
}

/// Whether a character is in one of some ranges, which are in order.
fn is_among(ranges: &[(char, char)], character: char) -> bool {
    let at = ranges.partition_point(|(_, end)| *end < character);
    ranges.get(at).is_some_and(|(start, _)| *start <= character)
}
