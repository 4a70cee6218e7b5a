//! A compact regular expression: the expression as a list of 32-bit instructions, run in time linear in the topic.
//!
//! Many thousand expressions are verified rarely, so what counts is bytes an expression, not nanoseconds a byte: a program takes
//! about four bytes a pattern character, where an automaton of regex-automata takes kilobytes. The machine is Pike's: all threads
//! advance together, one character at a time, no thread is in the list twice, so the cost is at most the topic times the program.
//! Only "is there a match" is answered, so the first thread to arrive ends the search.

use std::collections::HashMap;

use regex_automata::util::look::Look as EngineLook;
use regex_automata::util::look::LookMatcher;
use regex_syntax::hir::{Class, Hir, HirKind, Look, Repetition};

use rustc_hash::FxHashMap;

use super::character_at;
use crate::error::{BuildErrorKind, Problem};
use crate::limits::Limits;

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

/// Character classes of all programs, each distinct one once.
#[derive(Debug, Default)]
pub(crate) struct Classes {
    /// Where each class starts in `ranges`; one more entry than classes.
    starts: Vec<u32>,
    ranges: Vec<(char, char)>,
}

impl Classes {
    fn holds(&self, class: u32, character: char) -> bool {
        let bound = |at: usize| self.starts.get(at).map_or(0, |start| *start as usize);
        let ranges = self
            .ranges
            .get(bound(class as usize)..bound(class as usize + 1))
            .unwrap_or(&[]);
        if ranges.len() <= 4 {
            return ranges
                .iter()
                .any(|(start, end)| (*start..=*end).contains(&character));
        }
        let at = ranges.partition_point(|(_, end)| *end < character);
        ranges.get(at).is_some_and(|(start, _)| *start <= character)
    }

    /// Bytes that the table takes.
    pub(crate) fn bytes(&self) -> usize {
        self.starts.capacity() * 4 + self.ranges.capacity() * 8
    }
}

/// Compiles expressions into programs that share one table of classes.
#[derive(Debug, Default)]
pub(crate) struct Compiler {
    classes: Classes,
    known: HashMap<Vec<(char, char)>, u32>,
    code: Vec<u32>,
    max_words: usize,
}

impl Compiler {
    /// The code of `hir`, if it stays within the limits.
    pub(crate) fn compile(&mut self, hir: &Hir, limits: &Limits) -> Result<&[u32], Problem> {
        self.code.clear();
        self.max_words = (limits.regex_bytes / 4).min(ARGUMENT as usize);
        self.part(hir)?;
        self.push(MATCH, 0)?;
        let most = limits.regex_threads;
        if self.code.len() > most && threads_at_worst(&self.code) > most {
            let message =
                format!("one character can keep more than {most} threads of the expression alive");
            return Err(Problem::new(BuildErrorKind::RegexTooLarge, message));
        }
        Ok(&self.code)
    }

    /// Bytes that the classes so far take, the table by which equal ones are found included.
    pub(crate) fn bytes(&self) -> usize {
        self.classes.ranges.len() * 16 + self.known.len() * 64
    }

    /// The table that every compiled program needs.
    pub(crate) fn into_classes(self) -> Classes {
        let mut classes = self.classes;
        classes.starts.shrink_to_fit();
        classes.ranges.shrink_to_fit();
        classes
    }

    fn push(&mut self, tag: u32, argument: u32) -> Result<usize, Problem> {
        if self.code.len() >= self.max_words {
            let message = format!(
                "the expression compiles to more than {} bytes",
                self.max_words * 4
            );
            return Err(Problem::new(BuildErrorKind::RegexTooLarge, message));
        }
        self.code.push(tag << TAG_SHIFT | argument);
        Ok(self.code.len() - 1)
    }

    /// Lets the instruction at `at` go on at the end of what is compiled so far.
    fn land(&mut self, at: usize) {
        self.code[at] = self.code[at] & !ARGUMENT | self.code.len() as u32;
    }

    fn part(&mut self, hir: &Hir) -> Result<(), Problem> {
        match hir.kind() {
            HirKind::Empty => Ok(()),
            HirKind::Literal(literal) => {
                let text = std::str::from_utf8(&literal.0).map_err(|_| not_utf8())?;
                for character in text.chars() {
                    self.push(CHARACTER, character.into())?;
                }
                Ok(())
            }
            HirKind::Class(class) => {
                let (tag, argument) = self.class(class)?;
                self.push(tag, argument).map(drop)
            }
            HirKind::Look(look) => {
                let at = LOOKS
                    .iter()
                    .position(|(known, _)| known == look)
                    .unwrap_or_default();
                self.push(LOOK, at as u32).map(drop)
            }
            HirKind::Capture(capture) => self.part(&capture.sub),
            HirKind::Concat(parts) => parts.iter().try_for_each(|part| self.part(part)),
            HirKind::Alternation(parts) => {
                let mut ends = Vec::new();
                for (index, part) in parts.iter().enumerate() {
                    if index + 1 == parts.len() {
                        self.part(part)?;
                        break;
                    }
                    let split = self.push(SPLIT, 0)?;
                    self.part(part)?;
                    ends.push(self.push(JUMP, 0)?);
                    self.land(split);
                }
                ends.into_iter().for_each(|end| self.land(end));
                Ok(())
            }
            HirKind::Repetition(repetition) => self.repetition(repetition),
        }
    }

    /// Compiles the repeated part once and copies it, so that many copies of something large cost no more than their words.
    fn repetition(&mut self, repetition: &Repetition) -> Result<(), Problem> {
        let origin = self.code.len();
        self.part(&repetition.sub)?;
        let block = self.code.split_off(origin);
        if block.is_empty() {
            return Ok(());
        }
        for _ in 0..repetition.min {
            self.copy(&block, origin)?;
        }
        match repetition.max {
            None => {
                let split = self.push(SPLIT, 0)?;
                self.copy(&block, origin)?;
                self.push(JUMP, split as u32)?;
                self.land(split);
            }
            Some(max) => {
                let mut splits = Vec::new();
                for _ in repetition.min..max {
                    splits.push(self.push(SPLIT, 0)?);
                    self.copy(&block, origin)?;
                }
                splits.into_iter().for_each(|split| self.land(split));
            }
        }
        Ok(())
    }

    /// Appends instructions that were compiled to stand at `origin`.
    fn copy(&mut self, block: &[u32], origin: usize) -> Result<(), Problem> {
        let shift = (self.code.len() - origin) as u32;
        for &word in block {
            let (tag, argument) = (word >> TAG_SHIFT, word & ARGUMENT);
            let moves = matches!(tag, SPLIT | JUMP);
            self.push(tag, if moves { argument + shift } else { argument })?;
        }
        Ok(())
    }

    fn class(&mut self, class: &Class) -> Result<(u32, u32), Problem> {
        let ranges: Vec<(char, char)> = match class {
            Class::Unicode(class) => class
                .iter()
                .map(|range| (range.start(), range.end()))
                .collect(),
            Class::Bytes(class) => {
                if class.iter().any(|range| range.end() > 0x7F) {
                    return Err(not_utf8());
                }
                class
                    .iter()
                    .map(|range| (range.start().into(), range.end().into()))
                    .collect()
            }
        };
        if ranges == [('\0', char::MAX)] {
            return Ok((ANY, 0));
        }
        if let Some(known) = self.known.get(&ranges) {
            return Ok((CLASS, *known));
        }
        let table = &mut self.classes;
        if table.starts.is_empty() {
            table.starts.push(0);
        }
        let id = (table.starts.len() - 1) as u32;
        table.ranges.extend_from_slice(&ranges);
        table.starts.push(table.ranges.len() as u32);
        self.known.insert(ranges, id);
        Ok((CLASS, id))
    }
}

/// How many instructions can take the same character, at most: every class, and those of the most frequent character. After a character
/// no more threads can be alive, whatever the topic.
fn threads_at_worst(code: &[u32]) -> usize {
    let mut characters: FxHashMap<u32, usize> = FxHashMap::default();
    let mut classes = 0;
    for &word in code {
        match word >> TAG_SHIFT {
            CHARACTER => *characters.entry(word).or_default() += 1,
            CLASS | ANY => classes += 1,
            _ => {}
        }
    }
    classes + characters.into_values().max().unwrap_or(0)
}

fn not_utf8() -> Problem {
    Problem::new(
        BuildErrorKind::InvalidPattern,
        "the expression matches bytes that are not UTF-8",
    )
}

/// Memory of the machine, reused from search to search.
#[derive(Clone, Debug, Default)]
pub(crate) struct Threads {
    now: SparseSet,
    next: SparseSet,
    stack: Vec<u32>,
}

impl Threads {
    /// Makes room for programs of up to `words` instructions.
    pub(crate) fn reserve(&mut self, words: usize) {
        self.now.reserve(words);
        self.next.reserve(words);
        self.stack
            .reserve((words + 1).saturating_sub(self.stack.len()));
    }

    /// Bytes that the machine's memory takes.
    pub(crate) fn bytes(&self) -> usize {
        (self.stack.capacity() + self.now.dense.capacity() * 2 + self.next.dense.capacity() * 2) * 4
    }
}

/// Instructions in the order of insertion, each at most once; clearing takes no time.
#[derive(Clone, Debug, Default)]
struct SparseSet {
    dense: Vec<u32>,
    sparse: Vec<u32>,
}

impl SparseSet {
    fn reserve(&mut self, words: usize) {
        if self.sparse.len() < words {
            self.dense.reserve(words - self.dense.len());
            self.sparse.resize(words, 0);
        }
    }

    /// Adds an instruction; false if it was there. One for which there is no room makes room: nothing is lost.
    #[inline]
    fn insert(&mut self, value: u32) -> bool {
        if self.sparse.len() <= value as usize {
            self.reserve(value as usize + 1);
        }
        let slot = &mut self.sparse[value as usize];
        if self.dense.get(*slot as usize) == Some(&value) {
            return false;
        }
        *slot = self.dense.len() as u32;
        self.dense.push(value);
        true
    }
}

/// Whether `code` matches somewhere in `topic`.
pub(crate) fn matches(
    code: &[u32],
    classes: &Classes,
    topic: &[u8],
    threads: &mut Threads,
) -> bool {
    threads.reserve(code.len());
    let anchored = code.first() == Some(&(LOOK << TAG_SHIFT));
    let looks = LookMatcher::new();
    let Threads { now, next, stack } = threads;
    now.dense.clear();
    let mut at = 0;
    loop {
        let search = Search {
            code,
            looks: &looks,
            topic,
            at,
        };
        if (at == 0 || !anchored) && search.follow(0, now, stack) {
            return true;
        }
        if at >= topic.len() || (anchored && now.dense.is_empty()) {
            return false;
        }
        // An expression that must start the topic mostly has one thread, in a row of characters: no list is needed to follow that.
        if anchored && let [thread] = now.dense[..] {
            let (pc, after) = follow_characters(code, thread, topic, at);
            if pc != thread {
                now.dense.clear();
                at = after;
                let search = Search {
                    code,
                    looks: &looks,
                    topic,
                    at,
                };
                if search.follow(pc, now, stack) {
                    return true;
                }
                continue;
            }
        }
        next.dense.clear();
        let character = character_at(topic, at);
        at += character.map_or(1, char::len_utf8);
        if let Some(character) = character {
            let search = Search {
                code,
                looks: &looks,
                topic,
                at,
            };
            for &thread in &now.dense {
                let word = code.get(thread as usize).copied().unwrap_or_default();
                let argument = word & ARGUMENT;
                let advances = match word >> TAG_SHIFT {
                    CHARACTER => argument == u32::from(character),
                    CLASS => classes.holds(argument, character),
                    // What consumes nothing is in the set only so that it is followed once.
                    tag => tag == ANY,
                };
                if advances && search.follow(thread + 1, next, stack) {
                    return true;
                }
            }
        }
        std::mem::swap(now, next);
    }
}

/// From an instruction and a place in the topic on, as long as the instructions are ASCII characters and the topic has them: where both are
/// then.
fn follow_characters(code: &[u32], mut pc: u32, topic: &[u8], mut at: usize) -> (u32, usize) {
    while let (Some(&word), Some(&byte)) = (code.get(pc as usize), topic.get(at))
        && word >> TAG_SHIFT == CHARACTER
        && byte.is_ascii()
        && word & ARGUMENT == u32::from(byte)
    {
        pc += 1;
        at += 1;
    }
    (pc, at)
}

/// One position of one search.
struct Search<'a> {
    code: &'a [u32],
    looks: &'a LookMatcher,
    topic: &'a [u8],
    at: usize,
}

impl Search<'_> {
    /// Adds to `threads` what can be reached from `start` without a character; true if that is a match.
    fn follow(&self, start: u32, threads: &mut SparseSet, stack: &mut Vec<u32>) -> bool {
        stack.clear();
        stack.push(start);
        while let Some(mut pc) = stack.pop() {
            loop {
                if !threads.insert(pc) {
                    break;
                }
                let word = self.code.get(pc as usize).copied().unwrap_or_default();
                let argument = word & ARGUMENT;
                match word >> TAG_SHIFT {
                    MATCH => return true,
                    JUMP => pc = argument,
                    SPLIT => {
                        stack.push(argument);
                        pc += 1;
                    }
                    LOOK => {
                        let look = LOOKS
                            .get(argument as usize)
                            .map_or(EngineLook::Start, |(_, look)| *look);
                        if !self.looks.matches(look, self.topic, self.at) {
                            break;
                        }
                        pc += 1;
                    }
                    _ => break,
                }
            }
        }
        false
    }
}
