//! From slots that matched to rules: who asks for a slot, which trees are looked at, what is listed by default.

use crate::rule::RuleId;
use crate::scratch::Scratch;
use crate::tree::{Tree, evaluate};

/// Marks a target that is a tree and not a rule.
const TREE: u32 = 1 << 31;
/// No number: the slot is asked for by no tree.
const NONE: u32 = u32::MAX;

/// A rule that has to be evaluated.
#[derive(Clone, Copy, Debug)]
struct Entry {
    rule: u32,
    /// Where its program starts.
    code: u32,
    default: bool,
}

/// What to do when a slot matches.
#[derive(Debug, Default)]
pub(crate) struct Dispatch {
    /// Where the targets of each slot start; one more entry than slots.
    starts: Vec<u32>,
    /// Rules, and trees to look at.
    targets: Vec<u32>,
    /// The number of each slot among those that trees ask for; empty if there are no trees.
    numbers: Vec<u32>,
    numbered: usize,
    entries: Vec<Entry>,
    code: Vec<u32>,
    /// Rules that hold by default, ascending, with their tree if they have one.
    defaults: Vec<(u32, u32)>,
}

impl Dispatch {
    /// `trees[i]` is rule `i`; leaves are below `slots`.
    pub(crate) fn new(trees: &[Tree], slots: usize) -> Self {
        let mut shared = vec![0_u64; slots];
        let mut pairs: Vec<(u32, u32)> = Vec::with_capacity(trees.len());
        let mut evaluated: Vec<(u32, &Tree)> = Vec::new();
        let mut this = Self::default();
        for (rule, tree) in trees.iter().enumerate() {
            let rule = rule as u32;
            if let Tree::Constant(value) = tree {
                if *value {
                    this.defaults.push((rule, NONE));
                }
                continue;
            }
            let mut leaves = Vec::new();
            tree.slots(&mut leaves);
            leaves.iter().for_each(|slot| shared[*slot as usize] += 1);
            match tree.direct() {
                Some(slots) => pairs.extend(slots.into_iter().map(|slot| (slot, rule))),
                None => evaluated.push((rule, tree)),
            }
        }
        if !evaluated.is_empty() {
            this.numbers = vec![NONE; slots];
        }
        for (rule, tree) in evaluated {
            let mut leaves = Vec::new();
            tree.slots(&mut leaves);
            for slot in leaves {
                let number = &mut this.numbers[slot as usize];
                if *number == NONE {
                    *number = this.numbered as u32;
                    this.numbered += 1;
                }
            }
            let index = this.entries.len() as u32;
            let default = tree.default_value();
            if default {
                this.defaults.push((rule, index));
            }
            this.entries.push(Entry {
                rule,
                code: this.code.len() as u32,
                default,
            });
            tree.encode(&|slot| this.numbers[slot as usize], &mut this.code);
            let (_, watched) = tree.watched(&|slot| shared[slot as usize]);
            pairs.extend(watched.into_iter().map(|slot| (slot, index | TREE)));
        }
        this.defaults.sort_unstable();
        pairs.sort_unstable();
        pairs.dedup();
        this.starts = vec![0; slots + 1];
        pairs
            .iter()
            .for_each(|(slot, _)| this.starts[*slot as usize + 1] += 1);
        for slot in 0..slots {
            this.starts[slot + 1] += this.starts[slot];
        }
        this.targets = pairs.into_iter().map(|(_, target)| target).collect();
        this
    }

    /// Makes room in `scratch`.
    pub(crate) fn reserve(&self, scratch: &mut Scratch) {
        scratch.hits.reserve(self.numbered);
        scratch.touched.reserve(self.entries.len());
        scratch.suppressed.reserve(self.entries.len());
    }

    /// A slot matched: its rules are found, its trees will be looked at.
    pub(crate) fn hit(&self, slot: u32, scratch: &mut Scratch) {
        if let Some(number) = self
            .numbers
            .get(slot as usize)
            .filter(|number| **number != NONE)
        {
            scratch.hits.insert(*number);
        }
        let start = self
            .starts
            .get(slot as usize)
            .map_or(0, |start| *start as usize);
        let end = self
            .starts
            .get(slot as usize + 1)
            .map_or(0, |end| *end as usize);
        for &target in self.targets.get(start..end).unwrap_or(&[]) {
            if target & TREE == 0 {
                scratch.found.push(RuleId(target));
            } else {
                scratch.touched.insert(target & !TREE);
            }
        }
    }

    /// All slots that match were reported: evaluates what they touched, and puts the rules in order.
    pub(crate) fn finish(&self, scratch: &mut Scratch) {
        let Scratch {
            hits,
            touched,
            suppressed,
            found,
            ..
        } = scratch;
        for &index in touched.members() {
            let Some(entry) = self.entries.get(index as usize) else {
                continue;
            };
            let value = evaluate(&self.code, entry.code as usize, hits);
            if value && !entry.default {
                found.push(RuleId(entry.rule));
            } else if !value && entry.default {
                suppressed.insert(index);
            }
        }
        if suppressed.members().is_empty() {
            found.extend(self.defaults.iter().map(|(rule, _)| RuleId(*rule)));
        } else {
            let holds = |(_, tree): &&(u32, u32)| !suppressed.contains(*tree);
            found.extend(
                self.defaults
                    .iter()
                    .filter(holds)
                    .map(|(rule, _)| RuleId(*rule)),
            );
        }
        found.sort_unstable();
        found.dedup();
        hits.clear();
        touched.clear();
        suppressed.clear();
    }

    /// Bytes that the tables take.
    #[allow(dead_code, reason = "for the statistics")]
    pub(crate) fn bytes(&self) -> usize {
        let words = self.starts.capacity()
            + self.targets.capacity()
            + self.numbers.capacity()
            + self.code.capacity();
        words * 4 + self.entries.capacity() * size_of::<Entry>() + self.defaults.capacity() * 8
    }

    /// Rules that have to be evaluated, and rules that hold by default.
    #[allow(dead_code, reason = "for the statistics")]
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.entries.len(), self.defaults.len())
    }
}
