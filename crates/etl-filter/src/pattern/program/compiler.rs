//! From an expression, as regex-syntax reads it, to a program.

use std::collections::HashMap;

use regex_syntax::hir::{Class, Hir, HirKind, Repetition};

use super::{
    ANY, ARGUMENT, CHARACTER, CLASS, Classes, JUMP, LOOK, LOOKS, MATCH, SPLIT, TAG_SHIFT, cost,
};
use crate::error::{BuildErrorKind, Problem};
use crate::limits::Limits;

/// A way to match an alternation.
enum Branch<'a> {
    Part(&'a Hir),
    /// Any of these, in order.
    Words(Vec<&'a str>),
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
        if !cost::is_within(&self.code, &self.classes, limits.regex_steps) {
            let message = format!(
                "one character can take more than {} steps of the expression: where a bound does not matter, \
                 write `*` or `+` for a counted repetition, or let the expression start with `^`",
                limits.regex_steps
            );
            return Err(Problem::new(BuildErrorKind::RegexTooLarge, message));
        }
        Ok(&self.code)
    }

    /// Bytes that the classes so far take, the table by which equal ones are found included.
    pub(crate) fn bytes(&self) -> usize {
        self.classes.ranges.len() * 16 + self.known.len() * 80
    }

    /// The table that every compiled program needs.
    pub(crate) fn into_classes(self) -> Classes {
        let mut classes = self.classes;
        classes.shrink();
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
            HirKind::Alternation(parts) => self.alternation(parts),
            HirKind::Repetition(repetition) => self.repetition(repetition),
        }
    }

    /// Which branch matches is not asked, so words among them are taken together: what starts alike is compiled once.
    fn alternation(&mut self, parts: &[Hir]) -> Result<(), Problem> {
        let mut branches = Vec::new();
        let mut words = Vec::new();
        for part in parts {
            match part.kind() {
                HirKind::Literal(literal) => {
                    words.push(std::str::from_utf8(&literal.0).map_err(|_| not_utf8())?);
                }
                _ => branches.push(Branch::Part(part)),
            }
        }
        if !words.is_empty() {
            words.sort_unstable();
            words.dedup();
            branches.push(Branch::Words(words));
        }
        self.branches(&branches, |this, branch| match branch {
            Branch::Part(part) => this.part(part),
            Branch::Words(words) => this.words(words),
        })
    }

    /// Compiles words, which come in order. The recursion is as deep as words are the start of one another: less than a hundred deep in a pattern
    /// of 4 KiB.
    fn words(&mut self, words: &[&str]) -> Result<(), Problem> {
        let (Some(first), Some(last)) = (words.first(), words.last()) else {
            return Ok(());
        };
        let both = first.chars().zip(last.chars());
        let shared = both.take_while(|(left, right)| left == right);
        let shared: usize = shared.map(|(character, _)| character.len_utf8()).sum();
        for character in first[..shared].chars() {
            self.push(CHARACTER, character.into())?;
        }
        if words.len() == 1 {
            return Ok(());
        }
        let rests: Vec<&str> = words.iter().map(|word| &word[shared..]).collect();
        let alike = rests.chunk_by(|left, right| left.chars().next() == right.chars().next());
        self.branches(&alike.collect::<Vec<_>>(), |this, words| this.words(words))
    }

    fn branches<B>(
        &mut self,
        branches: &[B],
        mut compile: impl FnMut(&mut Self, &B) -> Result<(), Problem>,
    ) -> Result<(), Problem> {
        let mut ends = Vec::new();
        for (index, branch) in branches.iter().enumerate() {
            if index + 1 == branches.len() {
                compile(self, branch)?;
                break;
            }
            let split = self.push(SPLIT, 0)?;
            compile(self, branch)?;
            ends.push(self.push(JUMP, 0)?);
            self.land(split);
        }
        ends.into_iter().for_each(|end| self.land(end));
        Ok(())
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
        let class = self.classes.add(&ranges);
        self.known.insert(ranges, class);
        Ok((CLASS, class))
    }
}

fn not_utf8() -> Problem {
    Problem::new(
        BuildErrorKind::InvalidPattern,
        "the expression matches bytes that are not UTF-8",
    )
}
