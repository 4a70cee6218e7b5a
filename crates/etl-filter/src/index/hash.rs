//! The hashes of the literal index: of a whole topic, and of the short windows inside it.
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

    /// The hash of a whole text, eight bytes at a time.
    pub(crate) fn whole(&self, bytes: &[u8]) -> u64 {
        let mut hash = self.end ^ bytes.len() as u64;
        let mut chunks = bytes.chunks_exact(8);
        for chunk in &mut chunks {
            hash = folded_multiply(hash ^ first_eight(chunk), self.chain);
        }
        folded_multiply(hash ^ first_eight(chunks.remainder()), self.byte)
    }

    /// A hash of a text for each `place`.
    pub(crate) fn at_place(&self, bytes: &[u8], place: u8) -> u64 {
        folded_multiply(self.whole(bytes) ^ u64::from(place), self.chain)
    }

    /// The hash of a window: up to eight bytes, the first one lowest, the others zero.
    pub(crate) fn window(&self, word: u64, len: u64) -> u64 {
        folded_multiply(word ^ self.byte, self.window ^ (len << 32))
    }
}

/// Up to eight bytes, the first one lowest, the others zero.
fn first_eight(bytes: &[u8]) -> u64 {
    match bytes.first_chunk() {
        Some(word) => u64::from_le_bytes(*word),
        None => word(bytes, bytes.len()),
    }
}

/// The first `len` bytes, the first one lowest.
pub(super) fn word(bytes: &[u8], len: usize) -> u64 {
    bytes
        .iter()
        .take(len)
        .rev()
        .fold(0, |word, byte| word << 8 | u64::from(*byte))
}

/// The bits of the first `len` bytes of a word.
pub(super) fn mask(len: usize) -> u64 {
    if len >= 8 {
        u64::MAX
    } else {
        (1 << (len * 8)) - 1
    }
}
