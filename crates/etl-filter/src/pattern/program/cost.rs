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
    ANY, ARGUMENT, CHARACTER, CLASS, Classes, FIRST_OF_WORDS, JUMP, LOOK, MATCH, SPLIT, TAG_SHIFT,
    is_anchored,
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
    let start = reach.all_from(vec![0]);
    if start.len() > most {
        return false;
    }
    reach.round += 1;
    let mut any = after(&|word| matches!(word >> TAG_SHIFT, CLASS | ANY));
    if lengths.is_none() {
        any.push(0);
    }
    let any = reach.all_from(any);
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
            let more = reach.more_from(after(&|word| word == *character), base);
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

/// How many different assertions about words the program has; the others look at a byte or two.
fn assertions(code: &[u32]) -> usize {
    let of_look = code
        .iter()
        .filter(|word| *word >> TAG_SHIFT == LOOK && (*word & ARGUMENT) as usize >= FIRST_OF_WORDS);
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
    fn all_from(&mut self, starts: Vec<u32>) -> Vec<u32> {
        self.round = self.round.max(1);
        self.more_from(starts, self.round)
    }

    /// As `all_from`, but for what the round `beside` reached.
    fn more_from(&mut self, mut open: Vec<u32>, beside: u32) -> Vec<u32> {
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

#[cfg(test)]
mod tests {
    use super::super::{Compiler, Threads, matches};
    use super::*;
    use crate::limits::Limits;

    /// The bound on the steps of an expression, and the most that it took at one place of some topic.
    fn bound_and_steps(expression: &str, alphabet: &str) -> (usize, usize) {
        let hir = regex_syntax::parse(expression).expect("it is valid");
        let limits = Limits {
            regex_steps: usize::MAX,
            ..Limits::default()
        };
        let mut compiler = Compiler::default();
        let code = compiler
            .compile(&hir, &limits)
            .expect("it is small")
            .to_vec();
        let classes = compiler.into_classes();
        // What is within a bound is within a larger one, so it can be found by halving.
        let (mut low, mut high) = (0, code.len() + 10_000);
        while low < high {
            let middle = (low + high) / 2;
            if is_within(&code, &classes, middle) {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        let mut threads = Threads::default();
        let mut most = 0;
        let times = if cfg!(miri) { 3 } else { 40 };
        for character in alphabet.chars() {
            for other in alphabet.chars() {
                let topic = format!("{character}{other}").repeat(times);
                let topic = format!("{}{topic}", character.to_string().repeat(times));
                matches(&code, &classes, topic.as_bytes(), &mut threads);
                most = most.max(threads.most_steps());
            }
        }
        (low, most)
    }

    #[test]
    fn no_topic_takes_more_steps_than_the_bound_says() {
        let expressions = [
            "(a?){20}a{20}b",
            "^(a?){20}a{20}b",
            "(a|b|ab)*c{3}",
            r"^[a-z]{1,30}(\.[a-z]{1,9}){0,3}$",
            r"(\w?\pL?){10}\d",
            r"((?:\b\B)?a?){12}b",
            "(?:(?:a?)?b?)*x",
            "^(?:ab|ac|b(?:a|c)+|)*$",
            "^(a*|b{2,9}|[ab.]{3})+c",
            "(abc|abd|ab|b|ba)+x",
            "^a*b*a*b*c$",
        ];
        // Few under Miri, and none with a large class.
        let expressions = expressions
            .into_iter()
            .step_by(if cfg!(miri) { 5 } else { 1 });
        for expression in expressions {
            let (bound, steps) = bound_and_steps(expression, "ab.cé");
            assert!(steps <= bound, "{expression}: {steps} steps, bound {bound}");
        }
    }

    #[test]
    fn the_bound_knows_what_cannot_be_at_once() {
        let bound = |expression: &str| bound_and_steps(expression, "a").0;
        // One place of many, since it starts at the start …
        let most = if cfg!(miri) { 20 } else { 250 };
        assert!(bound(&format!("^[a-z]{{1,{most}}}$")) < 10);
        // … one branch of many words …
        let many = if cfg!(miri) { 110 } else { 400 };
        let words: Vec<String> = (100..many).map(|number| format!("w{number}x")).collect();
        assert!(bound(&format!("({})z", words.join("|"))) < 384);
        // … and all places at once, since it may start anywhere.
        assert!(bound(&format!("[a-z]{{{most}}}-")) > most);
    }
}
