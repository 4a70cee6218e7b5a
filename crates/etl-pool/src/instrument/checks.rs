//! Where checks stand outside of loop headers.
//!
//! A guest that runs for long passes loop headers or calls. A function that calls has a check on every way to its first call, not where it begins: one
//! that returns without calling is a leaf of the tree of calls, and there are no more of those than their callers have calls. And since a great many
//! functions may return one after the other, no way through a function has more than [`MOST`] instructions without a check: that bounds what is done
//! between a check and the next, whatever is called how deeply.
//!
//! Followed along is what the ways that lead to a place have in common: whether all of them have passed a check, and the most instructions that any has
//! executed since its last one.

/// Instructions on one way without a check, at most.
const MOST: u32 = 256;

/// What an instruction counts as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// Where a block begins or ends.
    None,
    Plain,
    /// What is called may be a function without a check, as long as one can be.
    Call,
    /// Moves up to hundreds of kilobytes.
    Bulk,
}

impl Work {
    fn count(self) -> u32 {
        match self {
            Self::None => 0,
            Self::Plain => 1,
            Self::Call => MOST / 4,
            // Of two in a row, the second has a check.
            Self::Bulk => MOST / 2 + 1,
        }
    }
}

/// What the ways to a place have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ways {
    checked: bool,
    since: u32,
}

/// The same for the ways of both; `None` is no way at all.
fn both(one: Option<Ways>, other: Option<Ways>) -> Option<Ways> {
    match (one, other) {
        (Some(one), Some(other)) => Some(Ways {
            checked: one.checked && other.checked,
            since: one.since.max(other.since),
        }),
        (one, other) => one.or(other),
    }
}

/// A block that is open.
struct Block {
    is_loop: bool,
    /// The ways that skip it, for an `if` that has no `else` so far.
    past: Option<Ways>,
    /// The ways that lead to its end, of those seen so far.
    to_end: Option<Ways>,
}

/// Follows a function from its first instruction to its last.
pub(super) struct Checks {
    now: Option<Ways>,
    /// The function itself is the first.
    blocks: Vec<Block>,
}

impl Checks {
    pub(super) fn new() -> Self {
        let mut this = Self {
            now: Some(Ways {
                checked: false,
                since: 0,
            }),
            blocks: Vec::new(),
        };
        this.block(false);
        this
    }

    /// Whether a check must come before the next instruction, which is this.
    #[must_use]
    pub(super) fn before(&mut self, work: Work) -> bool {
        let Some(now) = &mut self.now else {
            return false;
        };
        let check = (work == Work::Call && !now.checked)
            || (now.since > 0 && now.since + work.count() > MOST);
        if check {
            *now = CHECKED;
        }
        now.since += work.count();
        check
    }

    /// Blocks that are open, the function itself included.
    pub(super) fn depth(&self) -> u32 {
        self.blocks.len() as u32
    }

    /// A loop starts, and there is a check.
    pub(super) fn looped(&mut self) {
        self.now = Some(CHECKED);
        self.open(true, None);
    }

    /// A block starts.
    pub(super) fn block(&mut self, is_if: bool) {
        self.open(false, self.now.filter(|_| is_if));
    }

    fn open(&mut self, is_loop: bool, past: Option<Ways>) {
        self.blocks.push(Block {
            is_loop,
            past,
            to_end: None,
        });
    }

    /// The second part of an `if`.
    pub(super) fn otherwise(&mut self) {
        if let Some(block) = self.blocks.last_mut() {
            block.to_end = both(block.to_end, self.now);
            self.now = block.past.take();
        }
    }

    /// A way leads to the label of a block, by its place from the outermost.
    pub(super) fn branch(&mut self, target: u32) {
        if let Some(block) = self.blocks.get_mut(target as usize)
            && !block.is_loop
        {
            block.to_end = both(block.to_end, self.now);
        }
    }

    /// No way leads on.
    pub(super) fn leave(&mut self) {
        self.now = None;
    }

    /// A block ends.
    pub(super) fn end(&mut self) {
        if let Some(block) = self.blocks.pop() {
            self.now = both(both(block.to_end, block.past), self.now);
        }
    }
}

/// Just behind a check.
const CHECKED: Ways = Ways {
    checked: true,
    since: 0,
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_call_on_every_way_has_a_check() {
        let mut checks = Checks::new();
        assert!(!checks.before(Work::Plain), "nothing has been called");
        checks.block(true);
        assert!(checks.before(Work::Call));
        assert!(!checks.before(Work::Call), "one check serves both");
        checks.otherwise();
        assert!(checks.before(Work::Call), "another way");
        checks.end();
        assert!(!checks.before(Work::Call), "both ways have been checked");

        let mut checks = Checks::new();
        checks.block(true);
        assert!(checks.before(Work::Call));
        checks.end();
        assert!(checks.before(Work::Call), "the way past it has not");

        let mut checks = Checks::new();
        checks.block(false);
        // A branch out of the block, in front of the call.
        checks.branch(1);
        assert!(checks.before(Work::Call));
        checks.leave();
        checks.end();
        assert!(checks.before(Work::Call), "only the branch leads here");
        checks.looped();
        assert!(!checks.before(Work::Call), "a loop has a check of its own");
    }

    #[test]
    fn no_way_is_long_without_a_check() {
        let mut checks = Checks::new();
        let plain = (0..10 * MOST).filter(|_| checks.before(Work::Plain));
        assert_eq!(plain.count(), 9);
        let mut checks = Checks::new();
        let calls = (0..40).filter(|_| checks.before(Work::Call)).count();
        assert_eq!(calls, 10);
        let mut checks = Checks::new();
        let bulk = (0..10).filter(|_| checks.before(Work::Bulk)).count();
        assert_eq!(bulk, 9);
        // Checks that a branch leaps over do not count.
        let mut checks = Checks::new();
        let mut seen = 0;
        for _ in 0..20 {
            checks.block(false);
            checks.branch(checks.depth() - 1);
            for _ in 0..MOST / 2 + 1 {
                seen += u32::from(checks.before(Work::Plain));
            }
            seen += u32::from(checks.before(Work::Bulk));
            checks.end();
        }
        assert!(seen >= 20, "{seen}");
    }
}
