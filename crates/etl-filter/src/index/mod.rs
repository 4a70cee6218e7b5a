//! All literals of a rule set, found in one pass over a topic.
//!
//! A literal that is the whole topic is found by its hash; one that starts or ends the topic on a walk through an FST; one that may
//! stand anywhere by an Aho-Corasick automaton, or, where they are so many that its memory counts, by a hash of a part of it. The cost is a few
//! nanoseconds for each byte of the topic, plus one comparison for each literal that shares its part with the topic.

mod automaton;
mod hash;
mod table;
mod walk;
mod whole;
mod windows;

use crate::pattern::Place;
use crate::scratch::BitList;
use automaton::Automaton;
pub(crate) use hash::Keys;
use walk::Walk;
use whole::Whole;
pub(crate) use windows::Sketch;
use windows::Windows;

/// How literals that may stand anywhere are found.
#[derive(Debug)]
enum Anywhere {
    Nothing,
    Automaton(Box<Automaton>),
    Windows(Box<Windows>),
}

/// The literals of one case: those compared with the topic as it is, or those compared with it folded.
#[derive(Debug)]
pub(crate) struct Index {
    keys: Keys,
    whole: Whole,
    start: Walk,
    end: Walk,
    anywhere: Anywhere,
}

/// Collects literals: where each text stands, its length, and what to do when it is found.
#[derive(Debug, Default)]
pub(crate) struct IndexBuilder {
    /// By place.
    literals: [Vec<(u32, u16, u32)>; 4],
}

impl IndexBuilder {
    /// Adds a literal that no other call adds.
    pub(crate) fn add(&mut self, place: Place, text: u32, len: u16, value: u32) {
        self.literals[place as usize].push((text, len, value));
    }

    /// Builds the index, its parts side by side if `threads` says so. Literals anywhere go into an automaton if their text takes at most
    /// `automaton_bytes`.
    pub(crate) fn build(
        self,
        keys: Keys,
        text: &[u8],
        automaton_bytes: usize,
        threads: usize,
    ) -> Index {
        let of = |place: Place| &self.literals[place as usize];
        let slices = |place: Place| -> Vec<(&[u8], u32)> {
            of(place)
                .iter()
                .map(|(start, len, value)| {
                    let start = *start as usize;
                    (&text[start..start + usize::from(*len)], *value)
                })
                .collect()
        };
        let forwards = || Walk::forwards(slices(Place::Start), &keys);
        let backwards = || Walk::backwards(&slices(Place::End), &keys);
        let whole = || Whole::new(of(Place::Whole), text, &keys);
        let anywhere = || {
            let literals = of(Place::Anywhere);
            let bytes: usize = literals.iter().map(|(_, len, _)| usize::from(*len)).sum();
            let automaton = (bytes <= automaton_bytes)
                .then(|| Automaton::new(&slices(Place::Anywhere)))
                .flatten();
            match automaton {
                _ if literals.is_empty() => Anywhere::Nothing,
                Some(automaton) => Anywhere::Automaton(Box::new(automaton)),
                None => Anywhere::Windows(Box::new(Windows::new(literals, text, &keys))),
            }
        };
        let (start, end, whole, anywhere) = if threads < 2 {
            (forwards(), backwards(), whole(), anywhere())
        } else {
            std::thread::scope(|scope| {
                let start = scope.spawn(forwards);
                let end = scope.spawn(backwards);
                let (anywhere, whole) = (anywhere(), whole());
                // A part whose thread died is done again here, where a panic has an owner.
                let start = start.join().unwrap_or_else(|_| forwards());
                let end = end.join().unwrap_or_else(|_| backwards());
                (start, end, whole, anywhere)
            })
        };
        Index {
            keys,
            whole,
            start,
            end,
            anywhere,
        }
    }
}

impl Index {
    pub(crate) fn is_empty(&self) -> bool {
        self.whole.len() + self.start.len() + self.end.len() + self.anywhere() == 0
    }

    /// The number of literals that may stand anywhere.
    pub(crate) fn anywhere(&self) -> usize {
        match &self.anywhere {
            Anywhere::Nothing => 0,
            Anywhere::Automaton(automaton) => automaton.len(),
            Anywhere::Windows(windows) => windows.len(),
        }
    }

    /// Whether an automaton finds those.
    pub(crate) fn has_automaton(&self) -> bool {
        matches!(self.anywhere, Anywhere::Automaton(_))
    }

    /// The number of literals at a place, and the bytes of what finds them there.
    pub(crate) fn stats(&self, place: Place) -> (usize, usize) {
        match place {
            Place::Whole => (self.whole.len(), self.whole.bytes()),
            Place::Start => (self.start.len(), self.start.bytes()),
            Place::End => (self.end.len(), self.end.bytes()),
            Place::Anywhere => match &self.anywhere {
                Anywhere::Nothing => (0, 0),
                Anywhere::Automaton(automaton) => (automaton.len(), automaton.bytes()),
                Anywhere::Windows(windows) => (windows.len(), windows.bytes()),
            },
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        [Place::Whole, Place::Start, Place::End, Place::Anywhere]
            .into_iter()
            .map(|place| self.stats(place).1)
            .sum()
    }

    /// Calls `found` with the value of every literal that `topic` has where the literal must stand, each once. `text` is what the
    /// index was built from, `seen` is empty, and emptied again.
    pub(crate) fn find(
        &self,
        text: &[u8],
        topic: &[u8],
        seen: &mut BitList,
        mut found: impl FnMut(u32),
    ) {
        self.whole.find(text, topic, &self.keys, &mut found);
        self.start.find_forwards(topic, &self.keys, &mut found);
        self.end.find_backwards(topic, &self.keys, &mut found);
        match &self.anywhere {
            Anywhere::Nothing => return,
            Anywhere::Automaton(automaton) => automaton.find(topic, seen, &mut found),
            Anywhere::Windows(windows) => windows.find(text, topic, &self.keys, seen, &mut found),
        }
        seen.clear();
    }
}
