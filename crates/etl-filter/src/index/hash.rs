//! The hashes of the literal index: of a text from one of its ends, and of the short windows inside it.
//!
//! All are folded multiplications (the two halves of a 128-bit product, xored) with keys drawn anew for each rule set from the
//! standard library's random source, so nobody can write patterns that collide. A collision would cost time only: what a hash finds
//! is compared byte for byte.

use std::hash::{BuildHasher, RandomState};

/// Secret numbers of one rule set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keys {
    start: u64,
    chain: u64,
    last: u64,
    word: u64,
    window: u64,
}

#[inline]
fn folded_multiply(left: u64, right: u64) -> u64 {
    let product = u128::from(left) * u128::from(right);
    (product as u64) ^ ((product >> 64) as u64)
}

impl Keys {
    pub(crate) fn new() -> Self {
        let random = RandomState::new();
        let key = |number: u64| random.hash_one(number) | 1;
        Self {
            start: key(0),
            chain: key(1),
            last: key(2),
            word: key(3),
            window: key(4),
        }
    }

    /// A text is hashed in blocks of eight bytes, the last of which may be shorter and is zero behind its end. From here …
    #[inline]
    pub(super) fn start(&self) -> u64 {
        self.start
    }

    /// … over every block but the last …
    #[inline]
    pub(super) fn next(&self, state: u64, block: u64) -> u64 {
        folded_multiply(state ^ block, self.chain)
    }

    /// … to the hash, by the last block and the length of the whole.
    #[inline]
    pub(super) fn last(&self, state: u64, block: u64, len: usize) -> u64 {
        folded_multiply(state ^ block, self.last ^ ((len as u64) << 32))
    }

    /// The hash of a window: up to eight bytes, the first one lowest, the others zero.
    #[inline]
    pub(super) fn window(&self, word: u64, len: usize) -> u64 {
        folded_multiply(word ^ self.word, self.window ^ ((len as u64) << 32))
    }
}
