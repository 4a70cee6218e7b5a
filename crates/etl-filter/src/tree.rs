//! Any, all and not: rules that are more than "one of these filters matches".
//!
//! A rule is first brought to its simplest form with every `not` at a filter. What is left falls in two classes:
//!
//! - *Direct*: one filter, or any of several, none negated. A match of a filter is a match of the rule; nothing is evaluated.
//! - *Trees*: everything else, as a short program. A tree has a value for a topic that no filter of it matches (its *default*), and
//!   it is looked at only if one of its *watched* filters matches: filters of which at least one must match before the value can be
//!   another. For `all`, watching one child is enough, and the one whose filters the fewest rules share is taken. So a filter
//!   common to a million `all` rules costs nothing by itself.
//!
//! Trees that hold by default (a negated filter alone is one) are listed in the result of nearly every topic. That is the size
//! of the answer, and no engine can make it smaller.

use crate::scratch::BitList;

/// A rule in its simplest form; leaves are slots of the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Tree {
    Constant(bool),
    Leaf { slot: u32, negate: bool },
    Any(Vec<Tree>),
    All(Vec<Tree>),
}

impl Tree {
    pub(crate) fn any(children: Vec<Self>) -> Self {
        Self::compose(
            children,
            true,
            |child| {
                if let Self::Any(inner) = child {
                    Ok(inner)
                } else {
                    Err(child)
                }
            },
            Self::Any,
        )
    }

    pub(crate) fn all(children: Vec<Self>) -> Self {
        Self::compose(
            children,
            false,
            |child| {
                if let Self::All(inner) = child {
                    Ok(inner)
                } else {
                    Err(child)
                }
            },
            Self::All,
        )
    }

    /// `absorbing` is the value of one child that decides the whole.
    fn compose(
        children: Vec<Self>,
        absorbing: bool,
        open: impl Fn(Self) -> Result<Vec<Self>, Self>,
        close: impl Fn(Vec<Self>) -> Self,
    ) -> Self {
        let mut kept: Vec<Self> = Vec::with_capacity(children.len());
        for child in children {
            match child {
                Self::Constant(value) if value == absorbing => return Self::Constant(absorbing),
                Self::Constant(_) => {}
                child => match open(child) {
                    Ok(inner) => kept.extend(inner),
                    Err(child) => kept.push(child),
                },
            }
        }
        match (kept.pop(), kept.is_empty()) {
            (None, _) => Self::Constant(!absorbing),
            (Some(only), true) => only,
            (Some(last), false) => {
                kept.push(last);
                close(kept)
            }
        }
    }

    /// The slots of a direct rule.
    pub(crate) fn direct(&self) -> Option<Vec<u32>> {
        let leaf = |tree: &Self| match tree {
            Self::Leaf {
                slot,
                negate: false,
            } => Some(*slot),
            _ => None,
        };
        match self {
            Self::Any(children) => children.iter().map(leaf).collect(),
            _ => leaf(self).map(|slot| vec![slot]),
        }
    }

    /// The value where no filter matches.
    pub(crate) fn default_value(&self) -> bool {
        match self {
            Self::Constant(value) => *value,
            Self::Leaf { negate, .. } => *negate,
            Self::Any(children) => children.iter().any(Self::default_value),
            Self::All(children) => children.iter().all(Self::default_value),
        }
    }

    /// Slots of which at least one must match before the value is not the default, and what they cost: the sum of `shared`.
    pub(crate) fn watched(&self, shared: &impl Fn(u32) -> u64) -> (u64, Vec<u32>) {
        let default = self.default_value();
        let all_of = |children: &[Self]| {
            children.iter().map(|child| child.watched(shared)).fold(
                (0, Vec::new()),
                |mut sum, (cost, mut slots)| {
                    sum.0 += cost;
                    sum.1.append(&mut slots);
                    sum
                },
            )
        };
        let cheapest = |children: &[Self]| {
            let changing = children
                .iter()
                .filter(|child| child.default_value() == default);
            changing
                .map(|child| child.watched(shared))
                .min_by_key(|(cost, _)| *cost)
                .unwrap_or_default()
        };
        match (self, default) {
            (Self::Constant(_), _) => (0, Vec::new()),
            (Self::Leaf { slot, .. }, _) => (shared(*slot), vec![*slot]),
            // All children must stay as they are for the whole to stay …
            (Self::Any(children), false) | (Self::All(children), true) => all_of(children),
            // … or one of those that already decide it.
            (Self::Any(children), true) | (Self::All(children), false) => cheapest(children),
        }
    }

    /// Every slot that the tree asks for.
    pub(crate) fn slots(&self, out: &mut Vec<u32>) {
        match self {
            Self::Constant(_) => {}
            Self::Leaf { slot, .. } => out.push(*slot),
            Self::Any(children) | Self::All(children) => {
                children.iter().for_each(|child| child.slots(out));
            }
        }
    }

    /// Appends the program of the tree. `number` gives the number under which a slot's matches are kept.
    pub(crate) fn encode(&self, number: &impl Fn(u32) -> u32, code: &mut Vec<u32>) {
        match self {
            Self::Constant(value) => code.push(tag(if *value { ALL } else { ANY }, code.len() + 1)),
            Self::Leaf { slot, negate } => code.push(tag(
                if *negate { NOT_LEAF } else { LEAF },
                number(*slot) as usize,
            )),
            Self::Any(children) | Self::All(children) => {
                let at = code.len();
                code.push(0);
                children.iter().for_each(|child| child.encode(number, code));
                code[at] = tag(
                    if matches!(self, Self::Any(_)) {
                        ANY
                    } else {
                        ALL
                    },
                    code.len(),
                );
            }
        }
    }
}

const SHIFT: u32 = 30;
const ARGUMENT: u32 = (1 << SHIFT) - 1;
const LEAF: u32 = 0;
const NOT_LEAF: u32 = 1;
/// `any` and `all` hold the place of the first word after their children.
const ANY: u32 = 2;
const ALL: u32 = 3;

fn tag(tag: u32, argument: usize) -> u32 {
    tag << SHIFT | argument as u32 & ARGUMENT
}

/// The value of the program at `at`, given the slots that matched. Nesting is bounded, and so is the recursion.
pub(crate) fn evaluate(code: &[u32], at: usize, hits: &BitList) -> bool {
    value(code, at, hits).0
}

fn value(code: &[u32], at: usize, hits: &BitList) -> (bool, usize) {
    let word = code.get(at).copied().unwrap_or_default();
    let argument = word & ARGUMENT;
    match word >> SHIFT {
        LEAF => (hits.contains(argument), at + 1),
        NOT_LEAF => (!hits.contains(argument), at + 1),
        kind => {
            let end = argument as usize;
            let mut next = at + 1;
            while next < end {
                let (child, after) = value(code, next, hits);
                if child == (kind == ANY) {
                    return (child, end);
                }
                next = after;
            }
            (kind == ALL, end)
        }
    }
}
