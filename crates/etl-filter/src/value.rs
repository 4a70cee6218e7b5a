//! What to do when something is found, in one 32-bit word: an operation and its argument.
//!
//! One word is all that a literal or a pattern with one user holds, so a rule that is one filter costs no table of its own. Where there
//! are many users the word names a list of words.

const SHIFT: u32 = 29;
const ARGUMENT: u32 = (1 << SHIFT) - 1;

/// An operation on its argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    /// The rule matches.
    Rule(u32),
    /// The tree has to be looked at.
    Tree(u32),
    /// A pattern that trees ask for has matched.
    Hit(u32),
    /// Do everything in the list that starts here with its length.
    List(u32),
    /// A literal of this pattern was found: see whether the whole of it matches.
    Check(u32),
    /// Nothing: no rule wants to know.
    Nothing,
}

impl Value {
    pub(crate) fn word(self) -> u32 {
        let (operation, argument) = match self {
            Self::Rule(argument) => (0, argument),
            Self::Tree(argument) => (1, argument),
            Self::Hit(argument) => (2, argument),
            Self::List(argument) => (3, argument),
            Self::Check(argument) => (4, argument),
            Self::Nothing => (5, 0),
        };
        operation << SHIFT | argument & ARGUMENT
    }

    pub(crate) fn of(word: u32) -> Self {
        let argument = word & ARGUMENT;
        match word >> SHIFT {
            0 => Self::Rule(argument),
            1 => Self::Tree(argument),
            2 => Self::Hit(argument),
            3 => Self::List(argument),
            4 => Self::Check(argument),
            _ => Self::Nothing,
        }
    }
}

/// Lists of words, one after the other.
#[derive(Debug, Default)]
pub(crate) struct Lists(Vec<u32>);

impl Lists {
    /// One word for all of `words`.
    pub(crate) fn join(&mut self, words: &[u32]) -> u32 {
        match words {
            [] => Value::Nothing.word(),
            [word] => *word,
            words => {
                let list = Value::List(self.0.len() as u32).word();
                self.0.push(words.len() as u32);
                self.0.extend_from_slice(words);
                list
            }
        }
    }

    pub(crate) fn get(&self, start: u32) -> &[u32] {
        let Some((count, rest)) = self.0.get(start as usize..).and_then(<[u32]>::split_first)
        else {
            return &[];
        };
        rest.get(..*count as usize).unwrap_or(&[])
    }

    pub(crate) fn shrink(&mut self) {
        self.0.shrink_to_fit();
    }

    pub(crate) fn bytes(&self) -> usize {
        self.0.capacity() * 4
    }
}
