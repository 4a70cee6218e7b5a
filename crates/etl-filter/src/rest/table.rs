//! An automaton of `regex-automata`, copied into a table of half its size or less.
//!
//! The library's table has four bytes a transition, as many columns as the next power of two, start states for every context, and a list of
//! patterns for each state. Here a search starts at the start of a topic of ASCII and asks only which patterns match: two bytes a transition, columns
//! that really differ, states that can be reached, equal lists once.

use std::collections::HashMap;

use regex_automata::Input;
use regex_automata::dfa::{Automaton as _, dense};
use regex_automata::util::primitives::StateID;
use rustc_hash::FxHashMap;

use crate::scratch::BitList;

/// Bytes that are ASCII.
const ASCII: u8 = 128;
/// The state from which nothing can match any more.
const DEAD: usize = 0;
/// The list without a pattern.
const NO_PATTERN: u16 = 0;

/// Several expressions, run together.
#[derive(Debug)]
pub(crate) struct Table {
    /// The column of each ASCII byte.
    columns: [u8; ASCII as usize],
    /// Columns of a state; the last is for the end of the topic and holds a list of patterns, the others states. A state is the place of its
    /// first cell.
    stride: usize,
    cells: Vec<u16>,
    start: usize,
    /// The list of each state behind the dead one that some pattern has matched at; the states behind these have none.
    entered: Vec<u16>,
    last_entered: usize,
    /// Where each list starts in `patterns`; one more entry than lists.
    lists: Vec<u32>,
    patterns: Vec<u16>,
}

impl Table {
    /// A copy; none if it has more cells than two bytes can name.
    pub(crate) fn new(dfa: &dense::DFA<Vec<u32>>) -> Option<Self> {
        let start = dfa.start_state_forward(&Input::new("")).ok()?;
        let states = States::reached(dfa, start)?;
        let mut lists = Lists::new();
        let entered = states.reporting(dfa).map(|state| lists.number(dfa, state));
        let entered = entered.collect::<Option<Vec<u16>>>()?;
        let ends = states.ids.iter().map(|state| match *state {
            DEAD_ID => Some(NO_PATTERN),
            state => lists.number(dfa, dfa.next_eoi_state(state)),
        });
        let ends = ends.collect::<Option<Vec<u16>>>()?;
        let (columns, representatives) = states.columns(dfa);
        let stride = representatives.len() + 1;
        let count = states.ids.len();
        u16::try_from(count * stride).ok()?;
        let mut cells = Vec::with_capacity(count * stride);
        for (state, end) in states.ids.iter().zip(ends) {
            for byte in &representatives {
                cells.push(states.number(dfa, *state, *byte) * stride as u16);
            }
            cells.push(end);
        }
        Some(Self {
            columns,
            stride,
            cells,
            start: usize::from(states.numbers[&start]) * stride,
            last_entered: entered.len() * stride,
            entered,
            lists: lists.starts,
            patterns: lists.patterns,
        })
    }

    /// Calls `found` with every pattern that matches `topic`, which is ASCII, once. `reported` holds none of them, from `before` on.
    pub(crate) fn find(
        &self,
        topic: &[u8],
        before: u32,
        reported: &mut BitList,
        mut found: impl FnMut(usize),
    ) {
        let mut report = |list: u16| {
            for pattern in self.list(list) {
                if reported.insert(before + u32::from(*pattern)) {
                    found(usize::from(*pattern));
                }
            }
        };
        let mut state = self.start;
        for byte in topic {
            let column = self.columns[usize::from(byte % ASCII)];
            let next = self.cell(state, column.into());
            // Staying in a state finds nothing new.
            if next <= self.last_entered && next != state {
                if next == DEAD {
                    return;
                }
                report(self.entered[next / self.stride - 1]);
            }
            state = next;
        }
        report(self.cell(state, self.stride - 1) as u16);
    }

    #[inline]
    fn cell(&self, state: usize, column: usize) -> usize {
        self.cells
            .get(state + column)
            .map_or(DEAD, |cell| usize::from(*cell))
    }

    fn list(&self, number: u16) -> &[u16] {
        if number == NO_PATTERN {
            return &[];
        }
        let bound = |at: usize| self.lists.get(at).map_or(0, |start| *start as usize);
        let number = usize::from(number);
        self.patterns
            .get(bound(number)..bound(number + 1))
            .unwrap_or(&[])
    }

    pub(crate) fn bytes(&self) -> usize {
        size_of::<Self>()
            + (self.cells.capacity() + self.entered.capacity() + self.patterns.capacity()) * 2
            + self.lists.capacity() * 4
    }
}

/// The library's dead state.
const DEAD_ID: StateID = StateID::ZERO;

/// The states that a search can come to, numbered: the dead one first, then those that report a match.
struct States {
    ids: Vec<StateID>,
    numbers: FxHashMap<StateID, u16>,
}

impl States {
    fn reached(dfa: &dense::DFA<Vec<u32>>, start: StateID) -> Option<Self> {
        let mut ids = vec![DEAD_ID];
        ids.extend((start != DEAD_ID).then_some(start));
        let mut known: FxHashMap<StateID, u16> = ids.iter().map(|id| (*id, 0)).collect();
        let mut at = 1;
        while let Some(state) = ids.get(at).copied() {
            for byte in 0..ASCII {
                let next = dfa.next_state(state, byte);
                if known.insert(next, 0).is_none() {
                    ids.push(next);
                }
            }
            at += 1;
        }
        ids[1..].sort_by_key(|state| !dfa.is_match_state(*state));
        for (number, state) in ids.iter().enumerate() {
            known.insert(*state, u16::try_from(number).ok()?);
        }
        Some(Self {
            ids,
            numbers: known,
        })
    }

    /// Those at which patterns have matched, in order.
    fn reporting(&self, dfa: &dense::DFA<Vec<u32>>) -> impl Iterator<Item = StateID> {
        let states = self.ids.iter().skip(1).copied();
        states.take_while(|state| dfa.is_match_state(*state))
    }

    fn number(&self, dfa: &dense::DFA<Vec<u32>>, state: StateID, byte: u8) -> u16 {
        self.numbers
            .get(&dfa.next_state(state, byte))
            .copied()
            .unwrap_or_default()
    }

    /// The column of each byte, and a byte of each column: bytes that lead to the same states from everywhere have the same.
    fn columns(&self, dfa: &dense::DFA<Vec<u32>>) -> ([u8; ASCII as usize], Vec<u8>) {
        let mut columns = [0_u8; ASCII as usize];
        let mut representatives = Vec::new();
        let mut known: HashMap<Vec<u16>, u8> = HashMap::new();
        for byte in 0..ASCII {
            let leads_to = self.ids.iter().map(|state| self.number(dfa, *state, byte));
            let column = known.entry(leads_to.collect()).or_insert_with(|| {
                representatives.push(byte);
                representatives.len() as u8 - 1
            });
            columns[usize::from(byte)] = *column;
        }
        (columns, representatives)
    }
}

/// Lists of patterns, equal ones once.
struct Lists {
    starts: Vec<u32>,
    patterns: Vec<u16>,
    known: HashMap<Vec<u16>, u16>,
}

impl Lists {
    fn new() -> Self {
        Self {
            starts: vec![0, 0],
            patterns: Vec::new(),
            known: HashMap::from([(Vec::new(), NO_PATTERN)]),
        }
    }

    /// The number of the list of what has matched at a state; none if there are more lists than two bytes can name.
    fn number(&mut self, dfa: &dense::DFA<Vec<u32>>, state: StateID) -> Option<u16> {
        let mut list: Vec<u16> = Vec::new();
        if dfa.is_match_state(state) {
            let patterns = (0..dfa.match_len(state)).map(|index| dfa.match_pattern(state, index));
            list.extend(patterns.map(|pattern| pattern.as_u32() as u16));
        }
        if let Some(number) = self.known.get(&list) {
            return Some(*number);
        }
        let number = u16::try_from(self.known.len()).ok()?;
        self.patterns.extend_from_slice(&list);
        self.starts.push(self.patterns.len() as u32);
        self.known.insert(list, number);
        Some(number)
    }
}
