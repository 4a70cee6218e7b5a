//! Which bytes of a topic mean something to which part of the index, found in one pass for all of them.
//!
//! Each part looks literals up beside certain bytes only. To ask for every byte of the topic and every part is dear, so the bytes are
//! translated once: a bit for each part. From there each part gathers its bits, eight at a time.

/// A set of bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Bytes([u64; 4]);

impl Bytes {
    pub(super) fn insert(&mut self, byte: u8) {
        self.0[usize::from(byte) / 64] |= 1 << (byte % 64);
    }

    pub(super) fn contains(&self, byte: u8) -> bool {
        self.0[usize::from(byte) / 64] >> (byte % 64) & 1 != 0
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = u8> {
        let words = self.0.into_iter().zip([0, 64, 128, 192]);
        words.flat_map(|(mut bits, before)| {
            std::iter::from_fn(move || {
                let first = (bits != 0).then(|| bits.trailing_zeros() as u8)?;
                bits &= bits - 1;
                Some(before + first)
            })
        })
    }
}

/// For each byte, the parts that it means something to.
#[derive(Debug)]
pub(super) struct Marks([u8; 256]);

impl Marks {
    pub(super) fn new() -> Self {
        Self([0; 256])
    }

    /// Adds the bytes that mean something to a part; parts count from 0 to 7.
    pub(super) fn add(&mut self, part: usize, bytes: &Bytes) {
        for byte in bytes.iter() {
            self.0[usize::from(byte)] |= 1 << part;
        }
    }

    /// Replaces what `marks` holds with those of a topic.
    #[inline]
    pub(super) fn read(&self, topic: &[u8], marks: &mut Vec<u8>) {
        marks.clear();
        marks.extend(topic.iter().map(|byte| self.0[usize::from(*byte)]));
    }
}

/// The marks of a part: a bit for each of up to 64 bytes.
#[inline]
pub(super) fn bits_of(part: usize, marks: &[u8]) -> u64 {
    let (words, rest) = marks.as_chunks();
    let words = words.iter().map(|word| u64::from_le_bytes(*word));
    let last = rest
        .iter()
        .rev()
        .fold(0, |word, mark| word << 8 | u64::from(*mark));
    words
        .chain([last])
        .take(8)
        .enumerate()
        .fold(0, |bits, (at, word)| {
            // The lowest bits of eight bytes, brought together in the highest byte by one multiplication.
            let lowest = word >> part & 0x0101_0101_0101_0101;
            bits | lowest.wrapping_mul(0x0102_0408_1020_4080) >> 56 << (at * 8)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_finds_its_bytes() {
        let mut marks = Marks::new();
        let sets = [&b".-"[..], b"a", b"", b"\0\xFF-"];
        for (part, set) in sets.iter().enumerate() {
            let mut bytes = Bytes::default();
            set.iter().for_each(|byte| bytes.insert(*byte));
            assert!(bytes.iter().all(|byte| set.contains(&byte)));
            marks.add(part * 2 + 1, &bytes);
        }
        let topic: Vec<u8> = b"a-b.c\0..\xFF".iter().copied().cycle().take(64).collect();
        let mut read = vec![7];
        for len in 0..=topic.len() {
            marks.read(&topic[..len], &mut read);
            for (part, set) in sets.iter().enumerate() {
                let expected = topic[..len].iter().enumerate().fold(0, |bits, (at, byte)| {
                    bits | u64::from(set.contains(byte)) << at
                });
                assert_eq!(bits_of(part * 2 + 1, &read), expected);
                assert_eq!(bits_of(part * 2, &read), 0);
            }
        }
    }
}
