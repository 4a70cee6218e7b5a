//! Random numbers for guests: the keyed hash of a counter, under a key that the operating system seeds.

use std::hash::{BuildHasher, RandomState};

/// One instance's source.
pub(crate) struct Random {
    key: [u8; 32],
    counter: u64,
}

impl Random {
    pub(crate) fn new() -> Self {
        // Each state is keyed by the operating system's randomness; hashing it gives 64 bits of that at a time.
        let mut key = [0; 32];
        for (index, word) in key.chunks_exact_mut(8).enumerate() {
            word.copy_from_slice(&RandomState::new().hash_one(index).to_le_bytes());
        }
        Self { key, counter: 0 }
    }

    pub(crate) fn next(&mut self) -> u64 {
        let mut word = [0; 8];
        self.fill(&mut word);
        u64::from_le_bytes(word)
    }

    pub(crate) fn fill(&mut self, bytes: &mut [u8]) {
        self.counter += 1;
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        hasher.update(&self.counter.to_le_bytes());
        hasher.finalize_xof().fill(bytes);
    }
}
