//! Runs programs: Pike's machine, in which all threads advance together, one character at a time.
//!
//! No instruction is followed twice at one place, nor an assertion tried twice, nor a large class searched twice for one character; so a
//! character takes at most as many steps as `cost` says. Only "is there a match" is answered, so the first thread to arrive ends the search.

use regex_automata::util::look::{Look as EngineLook, LookMatcher};

use super::cost::FEW_RANGES;
use super::{
    ANY, ARGUMENT, CHARACTER, CLASS, Classes, JUMP, LOOK, LOOKS, MATCH, SPLIT, TAG_SHIFT, is_among,
    is_anchored,
};
use crate::pattern::character_at;

/// Memory of the machine, reused from search to search.
#[derive(Clone, Debug, Default)]
pub(crate) struct Threads {
    /// Instructions that wait for a character, each once.
    now: Vec<u32>,
    next: Vec<u32>,
    marks: Marks,
}

/// What was done already at this place of the topic. Places are counted on from search to search, so nothing has to be cleared.
#[derive(Clone, Debug, Default)]
struct Marks {
    place: u32,
    /// At which place each instruction was last followed.
    followed: Vec<u32>,
    /// At which place each class was last searched, and with which answer.
    searched: Vec<(u32, bool)>,
    stack: Vec<u32>,
    /// How many instructions were followed at this place, and at the place where they were most.
    #[cfg(test)]
    steps: (usize, usize),
}

impl Threads {
    /// Makes room for programs of up to `words` instructions, and for classes.
    pub(crate) fn reserve(&mut self, words: usize, classes: usize) {
        let Marks {
            followed,
            searched,
            stack,
            ..
        } = &mut self.marks;
        if followed.len() < words {
            followed.resize(words, 0);
            for list in [&mut self.now, &mut self.next, stack] {
                list.reserve((words + 1).saturating_sub(list.len()));
            }
        }
        if searched.len() < classes {
            searched.resize(classes, (0, false));
        }
    }

    /// The most instructions that were followed at one place since the last time this was asked.
    #[cfg(test)]
    pub(super) fn most_steps(&mut self) -> usize {
        let (last, most) = std::mem::take(&mut self.marks.steps);
        most.max(last)
    }

    /// Bytes that the machine's memory takes.
    pub(crate) fn bytes(&self) -> usize {
        let lists = [
            &self.now,
            &self.next,
            &self.marks.followed,
            &self.marks.stack,
        ];
        let words: usize = lists.iter().map(|list| list.capacity()).sum();
        words * 4 + self.marks.searched.capacity() * 8
    }
}

/// Whether `code` matches somewhere in `topic`.
pub(crate) fn matches(
    code: &[u32],
    classes: &Classes,
    topic: &[u8],
    threads: &mut Threads,
) -> bool {
    threads.reserve(code.len(), classes.len());
    let anchored = is_anchored(code);
    let Threads { now, next, marks } = threads;
    // A search that found a match left behind what it had not followed yet.
    marks.stack.clear();
    let mut search = Search {
        code,
        classes,
        topic,
        looks: LookMatcher::new(),
        marks,
        at: 0,
        tried: 0,
        held: 0,
    };
    search.go_to(0);
    now.clear();
    loop {
        if (search.at == 0 || !anchored) && search.follow(0, now) {
            return true;
        }
        if search.at >= topic.len() || (anchored && now.is_empty()) {
            return false;
        }
        // An expression that must start the topic mostly has one thread, in a row of characters: no list is needed to follow that.
        if anchored && let [thread] = now[..] {
            let (pc, after) = follow_characters(code, thread, topic, search.at);
            if pc != thread {
                now.clear();
                search.go_to(after);
                if search.follow(pc, now) {
                    return true;
                }
                continue;
            }
        }
        next.clear();
        let character = character_at(topic, search.at);
        search.go_to(search.at + character.map_or(1, char::len_utf8));
        if let Some(character) = character {
            for &thread in &*now {
                let word = code.get(thread as usize).copied().unwrap_or_default();
                let argument = word & ARGUMENT;
                let advances = match word >> TAG_SHIFT {
                    CHARACTER => argument == u32::from(character),
                    CLASS => search.class_holds(argument, character),
                    tag => tag == ANY,
                };
                if advances && search.follow(thread + 1, next) {
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

/// One search, at one place of the topic.
struct Search<'a> {
    code: &'a [u32],
    classes: &'a Classes,
    topic: &'a [u8],
    looks: LookMatcher,
    marks: &'a mut Marks,
    at: usize,
    /// The assertions that were tried here, a bit for each, and those of them that hold.
    tried: u32,
    held: u32,
}

impl Search<'_> {
    fn go_to(&mut self, at: usize) {
        self.at = at;
        (self.tried, self.held) = (0, 0);
        let marks = &mut *self.marks;
        #[cfg(test)]
        {
            marks.steps = (0, marks.steps.1.max(marks.steps.0));
        }
        marks.place = marks.place.wrapping_add(1);
        if marks.place == 0 {
            // Once in four thousand million characters.
            marks.followed.fill(0);
            marks.searched.fill((0, false));
            marks.place = 1;
        }
    }

    /// Adds to `waiting` what can be reached from `start` without a character; true if that is a match.
    #[inline]
    fn follow(&mut self, start: u32, waiting: &mut Vec<u32>) -> bool {
        let mut pc = start;
        loop {
            let place = self.marks.place;
            let is_new = self
                .marks
                .followed
                .get_mut(pc as usize)
                .is_some_and(|last| std::mem::replace(last, place) != place);
            let word = self.code.get(pc as usize).copied().unwrap_or_default();
            let argument = word & ARGUMENT;
            #[cfg(test)]
            {
                self.marks.steps.0 += usize::from(is_new);
            }
            match word >> TAG_SHIFT {
                _ if !is_new => {}
                MATCH => return true,
                JUMP => {
                    pc = argument;
                    continue;
                }
                SPLIT => {
                    self.marks.stack.push(argument);
                    pc += 1;
                    continue;
                }
                LOOK => {
                    if self.look_holds(argument) {
                        pc += 1;
                        continue;
                    }
                }
                _ => waiting.push(pc),
            }
            match self.marks.stack.pop() {
                Some(other) => pc = other,
                None => return false,
            }
        }
    }

    fn look_holds(&mut self, number: u32) -> bool {
        let bit = 1 << number;
        if self.tried & bit == 0 {
            self.tried |= bit;
            let look = LOOKS
                .get(number as usize)
                .map_or(EngineLook::Start, |(_, look)| *look);
            if self.looks.matches(look, self.topic, self.at) {
                self.held |= bit;
            }
        }
        self.held & bit != 0
    }

    /// Whether a class holds the character before this place.
    #[inline]
    fn class_holds(&mut self, class: u32, character: char) -> bool {
        if character.is_ascii() {
            return self.classes.holds_ascii(class, character);
        }
        let ranges = self.classes.ranges(class);
        let place = self.marks.place;
        match self.marks.searched.get_mut(class as usize) {
            Some((last, holds)) if ranges.len() > FEW_RANGES => {
                if *last != place {
                    (*last, *holds) = (place, is_among(ranges, character));
                }
                *holds
            }
            _ => is_among(ranges, character),
        }
    }
}
