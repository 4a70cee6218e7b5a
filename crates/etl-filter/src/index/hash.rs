//! The hashes of the literal index: of a text, and of the short windows inside it.
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

    /// The hash of a text, taken in blocks of eight bytes, the last of which may be shorter.
    #[inline]
    pub(super) fn text(&self, text: &[u8]) -> u64 {
        let mut state = self.start;
        let mut rest = text;
        while rest.len() > 8 {
            state = folded_multiply(state ^ block(rest), self.chain);
            rest = &rest[8..];
        }
        folded_multiply(state ^ block(rest), self.last ^ ((text.len() as u64) << 32))
    }

    /// The hash of a text for each place where it may have to stand.
    pub(crate) fn text_at(&self, place: u8, text: &[u8]) -> u64 {
        folded_multiply(self.text(text) ^ u64::from(place), self.chain)
    }

    /// The hash of a window: up to eight bytes, the first one lowest, the others zero.
    #[inline]
    pub(super) fn window(&self, word: u64, len: usize) -> u64 {
        folded_multiply(word ^ self.word, self.window ^ ((len as u64) << 32))
    }
}

/// Up to eight bytes, the first one lowest, the others zero.
#[inline]
pub(super) fn block(bytes: &[u8]) -> u64 {
    match bytes.first_chunk() {
        Some(word) => u64::from_le_bytes(*word),
        None => bytes
            .iter()
            .rev()
            .fold(0, |word, byte| word << 8 | u64::from(*byte)),
    }
}
