//! What one character of a topic can take of a program at worst: a bound, computed when the program is written.
//!
//! A step is an instruction that is followed, and the machine follows each at most once for a character. Three things keep it from following all
//! of them, and the bound counts on all three:
//!
//! - after a character, only what that character leads to is followed: all classes may hold it, but of the plain characters only one is it;
//! - of an expression that starts at the start of the topic, an instruction is reached after certain numbers of characters only:
//!   `^[a-z]{1,250}$` is long, but never at two places at once;
//! - what starts a match is followed everywhere, unless the expression is bound to the start.

use super::{
    ANY, ARGUMENT, CHARACTER, CLASS, Classes, JUMP, LOOK, MATCH, SPLIT, TAG_SHIFT, is_anchored,
};

/// A class of more ranges is searched once for a character and the answer kept.
pub(super) const FEW_RANGES: usize = 4;
/// What such a search takes, in steps.
const SEARCH: usize = 8;
/// What it takes to see whether words start or end somewhere, in steps; it is looked once for a character and each way to ask.
const ASSERTION: usize = 12;
/// Instructions that are looked at before an expression counts as too large to be judged.
const MOST_EFFORT: usize = 1 << 23;

/// Whether a program can be held to at most `most` steps a character.
pub(super) fn is_within(code: &[u32], classes: &Classes, most: usize) -> bool {
    let searches = SEARCH * large_classes(code, classes) + ASSERTION * assertions(code);
    if code.len() + searches <= most {
        return true;
    }
    let mut reach = Reach {
        code,
        marks: vec![0; code.len()],
        round: 0,
        effort: 0,
    };
    let lengths = is_anchored(code).then(|| lengths(code));
    let peak = |set: &[u32]| match &lengths {
        Some(lengths) => most_at_once(set, lengths),
        None => set.len(),
    };
    let after = |wanted: &dyn Fn(u32) -> bool| -> Vec<u32> {
        let places = (1_u32..).zip(code);
        places
            .filter(|(_, word)| wanted(**word))
            .map(|(next, _)| next)
            .collect()
    };
    let start = reach.from(vec![0]);
    if start.len() > most {
        return false;
    }
    reach.round += 1;
    let mut any = after(&|word| matches!(word >> TAG_SHIFT, CLASS | ANY));
    if lengths.is_none() {
        any.push(0);
    }
    let any = reach.from(any);
    let always = searches + peak(&any);
    let mut characters: Vec<u32> = code.to_vec();
    characters.retain(|word| word >> TAG_SHIFT == CHARACTER);
    characters.sort_unstable();
    characters.dedup();
    // What any character reaches is counted; of the others each is a round of its own.
    let base = reach.round;
    always <= most
        && characters.iter().all(|character| {
            reach.round += 1;
            let more = reach.from_beside(after(&|word| word == *character), base);
            always + peak(&more) <= most && reach.effort <= MOST_EFFORT
        })
}

/// How many different classes of the program take a search.
fn large_classes(code: &[u32], classes: &Classes) -> usize {
    let of_class = code.iter().filter(|word| *word >> TAG_SHIFT == CLASS);
    let mut large: Vec<u32> = of_class.map(|word| word & ARGUMENT).collect();
    large.sort_unstable();
    large.dedup();
    large.retain(|class| classes.ranges(*class).len() > FEW_RANGES);
    large.len()
}

/// How many different assertions the program has.
fn assertions(code: &[u32]) -> usize {
    let of_look = code.iter().filter(|word| *word >> TAG_SHIFT == LOOK);
    let bits = of_look.fold(0_u32, |bits, word| bits | 1 << (word & ARGUMENT));
    bits.count_ones() as usize
}

/// What can be reached from some instructions without a character.
struct Reach<'a> {
    code: &'a [u32],
    /// In which round each instruction was last reached.
    marks: Vec<u32>,
    round: u32,
    effort: usize,
}

impl Reach<'_> {
    fn from(&mut self, starts: Vec<u32>) -> Vec<u32> {
        self.round = self.round.max(1);
        self.from_beside(starts, self.round)
    }

    /// As `from`, but for what the round `beside` reached.
    fn from_beside(&mut self, mut open: Vec<u32>, beside: u32) -> Vec<u32> {
        let mut reached = Vec::new();
        self.effort += self.code.len();
        while let Some(at) = open.pop() {
            let (Some(mark), Some(word)) = (
                self.marks.get_mut(at as usize),
                self.code.get(at as usize).copied(),
            ) else {
                continue;
            };
            if *mark == self.round || *mark == beside {
                continue;
            }
            *mark = self.round;
            reached.push(at);
            match word >> TAG_SHIFT {
                JUMP => open.push(word & ARGUMENT),
                SPLIT => open.extend([word & ARGUMENT, at + 1]),
                LOOK => open.push(at + 1),
                _ => {}
            }
        }
        reached
    }
}

/// No bound on a length.
const ENDLESS: u32 = u32::MAX;

/// After how many characters each instruction of a program that starts at the start can be reached: the fewest and the most.
fn lengths(code: &[u32]) -> Vec<(u32, u32)> {
    const NEVER: (u32, u32) = (u32::MAX, 0);
    let mut lengths = vec![NEVER; code.len()];
    if let Some(first) = lengths.first_mut() {
        *first = (0, 0);
    }
    // Code goes forwards but for the end of a loop: the first round finds what loops make endless, the second what follows from it.
    for _ in 0..2 {
        for (at, &word) in code.iter().enumerate() {
            let (fewest, most) = lengths[at];
            if fewest == NEVER.0 {
                continue;
            }
            let mut reach = |to: usize, characters: u32| {
                let Some(known) = lengths.get_mut(to) else {
                    return;
                };
                if to > at {
                    known.0 = known.0.min(fewest + characters);
                    known.1 = known.1.max(most.saturating_add(characters));
                } else if most > known.1 {
                    known.1 = ENDLESS;
                }
            };
            let argument = (word & ARGUMENT) as usize;
            match word >> TAG_SHIFT {
                JUMP => reach(argument, 0),
                SPLIT => {
                    reach(at + 1, 0);
                    reach(argument, 0);
                }
                LOOK => reach(at + 1, 0),
                MATCH => {}
                _ => reach(at + 1, 1),
            }
        }
    }
    lengths
}

/// The most instructions of a set that can be reached after one number of characters.
fn most_at_once(set: &[u32], lengths: &[(u32, u32)]) -> usize {
    let mut events: Vec<(u32, isize)> = Vec::with_capacity(set.len() * 2);
    for at in set {
        let (fewest, most) = lengths.get(*at as usize).copied().unwrap_or((0, ENDLESS));
        events.push((fewest, 1));
        if most != ENDLESS {
            events.push((most + 1, -1));
        }
    }
    events.sort_unstable();
    let mut now = 0;
    let mut peak = 0;
    for (_, change) in events {
        now += change;
        peak = peak.max(now);
    }
    peak as usize
}
