//! The hashes of the literal index: of every prefix and suffix of a topic, and of the short windows inside it.
//!
//! All are folded multiplications (the two halves of a 128-bit product, xored) with keys drawn anew for each rule set from the
//! standard library's random source, so nobody can write patterns that collide. A collision would cost time only: what a hash finds
//! is compared byte for byte.

use std::hash::{BuildHasher, RandomState};

/// Secret numbers of one rule set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keys {
    chain: u64,
    byte: u64,
    window: u64,
    end: u64,
}

fn folded_multiply(left: u64, right: u64) -> u64 {
    let product = u128::from(left) * u128::from(right);
    (product as u64) ^ ((product >> 64) as u64)
}

impl Keys {
    pub(crate) fn new() -> Self {
        let random = RandomState::new();
        let key = |number: u64| random.hash_one(number) | 1;
        Self {
            chain: key(0),
            byte: key(1),
            window: key(2),
            end: key(3),
        }
    }

    /// The start of a chain of bytes.
    pub(crate) fn start(&self) -> u64 {
        self.end
    }

    /// The chain, one byte on.
    pub(crate) fn step(&self, chain: u64, byte: u8) -> u64 {
        folded_multiply(chain ^ (u64::from(byte) + self.byte), self.chain)
    }

    /// The chain over all of `bytes`.
    pub(crate) fn chain<'a>(&self, bytes: impl Iterator<Item = &'a u8>) -> u64 {
        bytes.fold(self.start(), |chain, byte| self.step(chain, *byte))
    }

    /// The hash of a window: up to eight bytes, the first one lowest, the others zero.
    pub(crate) fn window(&self, word: u64, len: u64) -> u64 {
        folded_multiply(word ^ self.byte, self.window ^ (len << 32))
    }
}
