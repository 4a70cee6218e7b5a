//! Literals anywhere in the topic, in one Aho-Corasick automaton: one step a byte, whatever their number.
//!
//! What it finds is equal byte for byte, whatever the literals have in common. Its price is memory, some hundred bytes a literal, so it is
//! given only those that windows cannot tell apart.

use aho_corasick::automaton::Automaton as _;
use aho_corasick::nfa::contiguous::NFA;
use aho_corasick::{Anchored, MatchKind};

use crate::scratch::BitList;

/// Literals that may stand anywhere.
#[derive(Debug)]
pub(crate) struct Automaton {
    nfa: NFA,
    /// What to do for each literal.
    values: Vec<u32>,
}

impl Automaton {
    /// Of literals, each once; none if they are more than an automaton can hold.
    pub(crate) fn new(literals: &[(&[u8], u32)]) -> Option<Self> {
        let nfa = NFA::builder()
            .match_kind(MatchKind::Standard)
            .prefilter(false)
            .build(literals.iter().map(|(literal, _)| literal))
            .ok()?;
        Some(Self {
            nfa,
            values: literals.iter().map(|(_, value)| *value).collect(),
        })
    }

    /// Calls `found` with the value of every literal in `topic`, once. `seen` is empty.
    pub(crate) fn find(&self, topic: &[u8], seen: &mut BitList, mut found: impl FnMut(u32)) {
        let Ok(mut state) = self.nfa.start_state(Anchored::No) else {
            return;
        };
        for byte in topic {
            state = self.nfa.next_state(Anchored::No, state, *byte);
            if self.nfa.is_special(state) && self.nfa.is_match(state) {
                for index in 0..self.nfa.match_len(state) {
                    let number = self.nfa.match_pattern(state, index).as_usize();
                    if let Some(value) = self.values.get(number)
                        && seen.insert(number as u32)
                    {
                        found(*value);
                    }
                }
            }
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.values.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.nfa.memory_usage() + self.values.capacity() * 4
    }
}
