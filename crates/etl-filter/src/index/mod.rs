//! All literals of a rule set, found in one pass over a topic.
//!
//! A literal that is the whole topic is found by its hash; one that starts or ends the topic on a walk through an FST; one that may stand
//! anywhere by the hash of a part of it, or, where many literals have all their parts in common, by an Aho-Corasick automaton. The cost is
//! a few nanoseconds for each byte of the topic, plus one comparison for each literal that shares its part with the topic: these are a
//! bounded number for each byte.

mod anchors;
mod automaton;
mod hash;
mod marks;
mod table;
mod walk;
mod whole;
mod windows;

use crate::pattern::Place;
use crate::scratch::BitList;
use automaton::Automaton;
pub(crate) use hash::Keys;
use marks::Marks;
use walk::Walk;
use whole::Whole;
pub(crate) use windows::Sketch;
use windows::Windows;

/// Literals whose windows are shared by more than this many go into an automaton …
pub(crate) const CROWD: usize = 16;
/// … as long as their text takes no more than this: beyond, those with the largest crowds.
const AUTOMATON_BYTES: usize = 1 << 20;

/// The literals of one case: those compared with the topic as it is, or those compared with it folded.
#[derive(Debug)]
pub(crate) struct Index {
    keys: Keys,
    whole: Whole,
    start: Walk,
    end: Walk,
    windows: Windows,
    automaton: Option<Automaton>,
    /// Where in a topic `windows` look.
    marks: Box<Marks>,
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

    /// Builds the index, its parts side by side if `threads` says so. Literals anywhere whose windows more than `crowd` have go
    /// into an automaton.
    pub(crate) fn build(self, keys: Keys, text: &[u8], crowd: usize, threads: usize) -> Index {
        let of = |place: Place| &self.literals[place as usize];
        let slices = |literals: &[(u32, u16, u32)]| -> Vec<(&[u8], u32)> {
            literals
                .iter()
                .map(|(start, len, value)| {
                    let start = *start as usize;
                    (&text[start..start + usize::from(*len)], *value)
                })
                .collect()
        };
        let forwards = || Walk::forwards(slices(of(Place::Start)), &keys);
        let backwards = || Walk::backwards(&slices(of(Place::End)), &keys);
        let whole = || Whole::new(of(Place::Whole), text, &keys);
        let anywhere = || {
            let literals = of(Place::Anywhere);
            let (windows, crowded) = Windows::new(literals, text, &keys, crowd, AUTOMATON_BYTES);
            if crowded.is_empty() {
                return (windows, None);
            }
            match Automaton::new(&slices(&crowded)) {
                Some(automaton) => (windows, Some(automaton)),
                // More than an automaton can hold: slower, and still right.
                None => (Windows::new(literals, text, &keys, usize::MAX, 0).0, None),
            }
        };
        let (start, end, whole, (windows, automaton)) = if threads < 2 {
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
        let mut marks = Box::new(Marks::new());
        for (number, anchors) in windows.anchors().enumerate() {
            marks.add(number, anchors);
        }
        Index {
            keys,
            whole,
            start,
            end,
            windows,
            automaton,
            marks,
        }
    }
}

impl Index {
    pub(crate) fn is_empty(&self) -> bool {
        self.whole.len() + self.start.len() + self.end.len() + self.anywhere() == 0
    }

    /// The number of literals that may stand anywhere.
    pub(crate) fn anywhere(&self) -> usize {
        self.windows.len() + self.automaton.as_ref().map_or(0, Automaton::len)
    }

    /// The number of those that an automaton finds, and its bytes.
    pub(crate) fn automaton(&self) -> (usize, usize) {
        self.automaton
            .as_ref()
            .map_or((0, 0), |automaton| (automaton.len(), automaton.bytes()))
    }

    /// The number of literals at a place, and the bytes of what finds them there.
    pub(crate) fn stats(&self, place: Place) -> (usize, usize) {
        match place {
            Place::Whole => (self.whole.len(), self.whole.bytes()),
            Place::Start => (self.start.len(), self.start.bytes()),
            Place::End => (self.end.len(), self.end.bytes()),
            Place::Anywhere => {
                let (literals, bytes) = self.automaton();
                (literals + self.windows.len(), bytes + self.windows.bytes())
            }
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        [Place::Whole, Place::Start, Place::End, Place::Anywhere]
            .into_iter()
            .map(|place| self.stats(place).1)
            .sum::<usize>()
            + size_of::<Marks>()
    }

    /// Calls `found` with the value of every literal that `topic` has where the literal must stand, each once. `text` is what the
    /// index was built from; `marks` is memory, and so is `seen`, which is empty, and emptied again.
    pub(crate) fn find(
        &self,
        text: &[u8],
        topic: &[u8],
        marks: &mut Vec<u8>,
        seen: &mut BitList,
        mut found: impl FnMut(u32),
    ) {
        let keys = &self.keys;
        self.marks.read(topic, marks);
        self.whole.find(text, topic, keys, &mut found);
        self.start.find_forwards(topic, keys, &mut found);
        self.end.find_backwards(topic, keys, &mut found);
        self.windows
            .find(text, topic, marks, keys, seen, &mut found);
        seen.clear();
        if let Some(automaton) = &self.automaton {
            automaton.find(topic, seen, &mut found);
            seen.clear();
        }
    }
}
