//! Patterns without a literal: nothing about them can be looked up, so each topic is run through all of them.
//!
//! Regular expressions among them are compiled together into a few automata, bounded in size, which read the topic once each. The
//! automata know ASCII alone, which keeps them some tens of times smaller; where a topic goes beyond it, their expressions are asked
//! one by one. So is always what does not fit into an automaton or is no regular expression: these are the patterns whose number
//! a topic's cost depends on, and [`Stats`](crate::Stats) counts them.

mod table;

use regex_automata::MatchKind;
use regex_automata::dfa::{StartKind, dense};
use regex_automata::nfa::thompson::{self, WhichCaptures};
use regex_syntax::hir::{Class, ClassUnicode, ClassUnicodeRange, Hir, HirKind, Repetition};

use crate::scratch::BitList;
use table::Table;

/// Bytes that an automaton may take, as the library builds it, if one is enough.
const AUTOMATON_BYTES: usize = 1 << 20;
/// Bytes that each may take if there are many: small ones are built sooner, and together take less than few large ones.
const ONE_OF_MANY_BYTES: usize = 1 << 17;
/// Patterns that are tried together at first.
const TOGETHER: usize = 64;
/// Fewer expressions than this are asked one by one.
const WORTH_AN_AUTOMATON: usize = 2;

/// Several expressions as one automaton.
#[derive(Debug)]
struct Automata {
    table: Table,
    /// What to do for each of its patterns if it matches, and what to do if it has to be asked by itself.
    values: Vec<(u32, u32)>,
    /// How many patterns the automata before it have.
    before: u32,
}

/// All patterns without a literal.
#[derive(Debug, Default)]
pub(crate) struct Rest {
    automata: Vec<Automata>,
    /// Words of what has to be asked one by one.
    single: Vec<u32>,
}

impl Rest {
    /// `expressions` with what to do if they match, and what to do if they have to be asked one by one; `single` of the latter. An expression can
    /// take a megabyte when it is read, so no more are held than are tried together. Once the automata take more than `most_bytes`, which is more
    /// than the whole set may, the others are left out; then the place of the first of them comes too.
    pub(crate) fn new(
        mut expressions: impl ExactSizeIterator<Item = (Option<Hir>, u32, u32)>,
        single: Vec<u32>,
        most_bytes: usize,
    ) -> (Self, Option<usize>) {
        let mut this = Self {
            automata: Vec::new(),
            single,
        };
        if expressions.len() < WORTH_AN_AUTOMATON {
            this.single.extend(expressions.map(|(_, _, check)| check));
            return (this, None);
        }
        let bytes = if expressions.len() <= TOGETHER {
            AUTOMATON_BYTES
        } else {
            ONE_OF_MANY_BYTES
        };
        // As many together as fit: half as many where an automaton was too large, one more where it was not.
        let mut together = TOGETHER;
        let mut ready: Vec<(Hir, u32, u32)> = Vec::new();
        let mut built = 0;
        let all = expressions.len();
        while built <= most_bytes {
            let wanted = together.saturating_sub(ready.len());
            for (hir, value, check) in expressions.by_ref().take(wanted) {
                match hir {
                    Some(hir) => ready.push((ascii(&hir), value, check)),
                    None => this.single.push(check),
                }
            }
            let count = together.min(ready.len());
            if count == 0 {
                return (this, None);
            }
            match automaton(&ready[..count], bytes) {
                Some(table) => {
                    built += table.bytes();
                    let before = this.together() as u32;
                    let group = ready.drain(..count);
                    this.automata.push(Automata {
                        table,
                        values: group.map(|(_, value, check)| (value, check)).collect(),
                        before,
                    });
                    together = (together + 1).min(TOGETHER);
                }
                None if count > 1 => together = count / 2,
                None => this
                    .single
                    .extend(ready.drain(..count).map(|(_, _, check)| check)),
            }
        }
        (this, Some(all - expressions.len() - ready.len()))
    }

    /// Calls `found` with the word of every expression that matches, once, and of every single pattern. `reported` is empty, and
    /// emptied again.
    pub(crate) fn find(&self, topic: &[u8], reported: &mut BitList, mut found: impl FnMut(u32)) {
        let ascii = topic.is_ascii();
        for automata in &self.automata {
            if ascii {
                automata
                    .table
                    .find(topic, automata.before, reported, |pattern| {
                        if let Some((value, _)) = automata.values.get(pattern) {
                            found(*value);
                        }
                    });
            } else {
                automata.values.iter().for_each(|(_, check)| found(*check));
            }
        }
        reported.clear();
        self.single.iter().for_each(|word| found(*word));
    }

    pub(crate) fn automata(&self) -> usize {
        self.automata.len()
    }

    /// Expressions that run in automata.
    pub(crate) fn together(&self) -> usize {
        self.automata
            .iter()
            .map(|automata| automata.values.len())
            .sum()
    }

    /// Patterns that are asked one by one.
    pub(crate) fn single(&self) -> usize {
        self.single.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        let automata = self
            .automata
            .iter()
            .map(|automata| automata.table.bytes() + automata.values.capacity() * 8);
        automata.sum::<usize>() + self.single.capacity() * 4
    }
}

/// One automaton of all expressions, which are of ASCII, if it stays within bounds.
fn automaton(expressions: &[(Hir, u32, u32)], bytes: usize) -> Option<Table> {
    let expressions: Vec<&Hir> = expressions.iter().map(|(hir, _, _)| hir).collect();
    let nfa = thompson::Compiler::new()
        .configure(
            thompson::Config::new()
                .which_captures(WhichCaptures::None)
                .nfa_size_limit(Some(bytes)),
        )
        .build_many_from_hir(&expressions)
        .ok()?;
    let mut config = dense::Config::new()
        .match_kind(MatchKind::All)
        .start_kind(StartKind::Unanchored)
        .accelerate(false)
        .unicode_word_boundary(true)
        .dfa_size_limit(Some(bytes))
        .determinize_size_limit(Some(4 * bytes));
    for byte in 0x80..=0xFF {
        config = config.quit(byte, true);
    }
    let dfa = dense::Builder::new()
        .configure(config)
        .build_from_nfa(&nfa)
        .ok()?;
    Table::new(&dfa)
}

/// The expression with everything left out that only topics beyond ASCII can match.
fn ascii(hir: &Hir) -> Hir {
    match hir.kind() {
        HirKind::Literal(literal) if literal.0.is_ascii() => hir.clone(),
        HirKind::Literal(_) => Hir::fail(),
        HirKind::Class(Class::Unicode(class)) => {
            let mut class = class.clone();
            class.intersect(&ClassUnicode::new([ClassUnicodeRange::new('\0', '\x7F')]));
            Hir::class(Class::Unicode(class))
        }
        HirKind::Repetition(repetition) => {
            let sub = Box::new(ascii(&repetition.sub));
            Hir::repetition(Repetition {
                sub,
                ..repetition.clone()
            })
        }
        HirKind::Capture(capture) => ascii(&capture.sub),
        HirKind::Concat(parts) => Hir::concat(parts.iter().map(ascii).collect()),
        HirKind::Alternation(parts) => Hir::alternation(parts.iter().map(ascii).collect()),
        HirKind::Empty | HirKind::Class(Class::Bytes(_)) | HirKind::Look(_) => hir.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_read_than_is_tried_together_nor_built_than_there_is_room_for() {
        // Hundreds of automata are hours for Miri.
        if cfg!(miri) {
            return;
        }
        let expressions: Vec<Hir> = (1..=400)
            .filter_map(|count| regex_syntax::parse(&format!("[a-f]{{{count}}}[g-k]\\d")).ok())
            .collect();
        let build = |most_bytes| {
            let mut read = 0;
            let items = expressions.iter().map(|hir| {
                read += 1;
                (Some(hir.clone()), 0, 0)
            });
            let (rest, left_out) = Rest::new(items, Vec::new(), most_bytes);
            let taken = rest.together() + rest.single();
            (read, taken, rest.automata(), left_out)
        };
        let (read, taken, automata, left_out) = build(usize::MAX);
        assert_eq!((read, taken, left_out), (400, 400, None));
        assert!(automata > 3, "{automata}");
        let (read, taken, automata, left_out) = build(1);
        assert_eq!((automata, left_out), (1, Some(taken)));
        assert!(read <= TOGETHER && taken < 400, "{read}, {taken}");
    }
}
