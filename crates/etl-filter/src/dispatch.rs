//! From patterns that matched to rules: who asks for a pattern, which trees are looked at, what is listed by default.

use crate::rule::RuleId;
use crate::scratch::{BitList, Scratch};
use crate::tree::{Tree, evaluate};
use crate::value::{Lists, Value};

/// Stands for "no tree" and "no number".
const NONE: u32 = u32::MAX;

/// A rule that has to be evaluated.
#[derive(Clone, Copy, Debug)]
struct Entry {
    rule: u32,
    /// Where its program starts.
    code: u32,
    default: bool,
}

/// Trees, and rules that hold by default.
#[derive(Debug, Default)]
pub(crate) struct Dispatch {
    /// How many patterns trees ask for.
    numbered: usize,
    entries: Vec<Entry>,
    code: Vec<u32>,
    /// Rules that hold by default, ascending, with their tree if they have one.
    defaults: Vec<(u32, u32)>,
}

impl Dispatch {
    /// `trees[i]` is rule `i`; leaves are below `slots`. Returns what to do when each slot matches.
    pub(crate) fn new(trees: &[Tree], slots: usize, lists: &mut Lists) -> (Self, Vec<u32>) {
        let mut this = Self::default();
        // (slot, what to do), which sorts what belongs to a slot together.
        let mut pairs: Vec<(u32, u32)> = Vec::with_capacity(trees.len());
        let mut evaluated: Vec<(u32, &Tree)> = Vec::new();
        for (rule, tree) in trees.iter().enumerate() {
            let rule = rule as u32;
            match tree {
                Tree::Constant(true) => this.defaults.push((rule, NONE)),
                Tree::Constant(false) => {}
                Tree::Leaf {
                    slot,
                    negate: false,
                } => pairs.push((*slot, Value::Rule(rule).word())),
                tree => match tree.direct() {
                    Some(slots) => pairs.extend(
                        slots
                            .into_iter()
                            .map(|slot| (slot, Value::Rule(rule).word())),
                    ),
                    None => evaluated.push((rule, tree)),
                },
            }
        }
        this.add_trees(&evaluated, slots, &mut pairs);
        pairs.sort_unstable();
        pairs.dedup();
        let mut values = vec![Value::Nothing.word(); slots];
        let mut words = Vec::new();
        for same in pairs.chunk_by(|left, right| left.0 == right.0) {
            words.clear();
            words.extend(same.iter().map(|(_, word)| *word));
            values[same[0].0 as usize] = lists.join(&words);
        }
        (this, values)
    }

    fn add_trees(&mut self, trees: &[(u32, &Tree)], slots: usize, pairs: &mut Vec<(u32, u32)>) {
        if trees.is_empty() {
            return;
        }
        let mut shared = vec![0_u64; slots];
        pairs
            .iter()
            .for_each(|(slot, _)| shared[*slot as usize] += 1);
        let mut leaves = Vec::new();
        trees.iter().for_each(|(_, tree)| tree.slots(&mut leaves));
        let mut numbers = vec![NONE; slots];
        for slot in leaves {
            shared[slot as usize] += 1;
            let number = &mut numbers[slot as usize];
            if *number == NONE {
                *number = self.numbered as u32;
                self.numbered += 1;
                pairs.push((slot, Value::Hit(*number).word()));
            }
        }
        for &(rule, tree) in trees {
            let index = self.entries.len() as u32;
            let default = tree.default_value();
            if default {
                self.defaults.push((rule, index));
            }
            self.entries.push(Entry {
                rule,
                code: self.code.len() as u32,
                default,
            });
            tree.encode(&|slot| numbers[slot as usize], &mut self.code);
            let (_, watched) = tree.watched(&|slot| shared[slot as usize]);
            pairs.extend(
                watched
                    .into_iter()
                    .map(|slot| (slot, Value::Tree(index).word())),
            );
        }
        self.defaults.sort_unstable();
        self.code.shrink_to_fit();
    }

    /// Makes room in `scratch`.
    pub(crate) fn reserve(&self, scratch: &mut Scratch) {
        scratch.hits.reserve(self.numbered);
        scratch.touched.reserve(self.entries.len());
        scratch.suppressed.reserve(self.entries.len());
    }

    /// All patterns that match were reported: evaluates what they touched, and puts the rules in order.
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
        self.add_defaults(suppressed, found);
        found.sort_unstable();
        found.dedup();
        hits.clear();
        touched.clear();
        suppressed.clear();
    }

    fn add_defaults(&self, suppressed: &BitList, found: &mut Vec<RuleId>) {
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
    }

    pub(crate) fn bytes(&self) -> usize {
        self.code.capacity() * 4
            + self.entries.capacity() * size_of::<Entry>()
            + self.defaults.capacity() * 8
    }

    /// Rules that have to be evaluated.
    pub(crate) fn trees(&self) -> usize {
        self.entries.len()
    }

    /// Rules that hold unless something matches.
    pub(crate) fn defaults(&self) -> usize {
        self.defaults.len()
    }
}
