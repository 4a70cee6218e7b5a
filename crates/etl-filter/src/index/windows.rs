//! Literals anywhere in the topic, in few bytes each: by one of their windows.
//!
//! A literal is found by a *window* of it, up to eight bytes: of all its windows one that few literals share. The windows of a
//! topic are looked up by hash, those beside an anchor at least, and what is found is compared in full.
//!
//! A step is cheap only if nothing has to be decided in it. So windows are looked up 64 at a time: first all of them are hashed and the filter
//! is asked, without a branch, which leaves a bit for each; then the few bits that are set are looked at.

use super::anchors::Anchors;
use super::hash::Keys;
use super::marks::{Bytes, bits_of};
use super::table::{Record, Table};
use crate::scratch::BitList;

/// Lengths of windows, in bytes.
const WINDOWS: [usize; 5] = [1, 2, 3, 4, 8];

/// A window that no more literals share is a good one.
const FEW: u16 = 4;

/// Literals that may stand anywhere.
#[derive(Debug, Default)]
pub(super) struct Windows {
    /// By the length of their windows.
    classes: [Class; WINDOWS.len()],
}

/// Literals that are found by windows of one length.
#[derive(Debug, Default)]
struct Class {
    table: Table,
    anchors: Anchors,
}

/// A literal as a place in the text with a length and a value.
type Literal = (u32, u16, u32);

impl Windows {
    /// Of literals, each once; those whose window more than `crowd` literals have are left over. Where their text would take
    /// more than `left_bytes`, only those of larger crowds are.
    pub(super) fn new(
        literals: &[Literal],
        text: &[u8],
        keys: &Keys,
        crowd: usize,
        left_bytes: usize,
    ) -> (Self, Vec<Literal>) {
        let bytes = |literal: &Literal| {
            let start = literal.0 as usize;
            &text[start..start + usize::from(literal.1)]
        };
        let mut sketch = Sketch::new(literals.len());
        let mut classes: [Vec<Literal>; WINDOWS.len()] = Default::default();
        for literal in literals {
            sketch.add_windows(bytes(literal), keys);
            classes[class_of(literal.1.into())].push(*literal);
        }
        let classes = classes.map(|literals| {
            let anchors = Anchors::choose(literals.iter().map(bytes), |literal, each| {
                let (_, rarest) = sketch.rarest(literal, keys);
                let most = sketch.count(rarest).max(FEW);
                for (at, hash) in windows_of(literal, keys) {
                    if sketch.count(hash) <= most {
                        each(&literal[at..at + window_len(literal)]);
                    }
                }
            });
            let mut pairs = Vec::with_capacity(literals.len());
            for literal in &literals {
                let text = bytes(literal);
                let windows = windows_of(text, keys);
                let anchored =
                    windows.filter(|(at, _)| anchors.take(&text[*at..*at + window_len(text)]));
                let (at, hash) = anchored
                    .min_by_key(|(_, hash)| sketch.count(*hash))
                    .unwrap_or_default();
                let &(start, len, value) = literal;
                pairs.push((hash, Record::new(start, len, at as u16, value)));
            }
            pairs.sort_unstable_by_key(|(hash, _)| *hash);
            (pairs, anchors)
        });
        let crowd = smallest_crowd(
            classes.each_ref().map(|(pairs, _)| pairs),
            crowd,
            left_bytes,
        );
        let mut left_over = Vec::new();
        let classes = classes.map(|(pairs, anchors)| {
            let mut kept = Vec::with_capacity(pairs.len());
            for same in groups(&pairs) {
                if same.len() > crowd {
                    left_over.extend(same.iter().map(|(_, record)| record.literal()));
                } else {
                    kept.extend_from_slice(same);
                }
            }
            Class {
                table: Table::new(kept),
                anchors,
            }
        });
        (Self { classes }, left_over)
    }

    pub(super) fn len(&self) -> usize {
        self.classes.iter().map(|class| class.table.len()).sum()
    }

    pub(super) fn bytes(&self) -> usize {
        self.classes.iter().map(|class| class.table.bytes()).sum()
    }

    /// The bytes beside which the windows of each length are looked up.
    pub(super) fn anchors(&self) -> impl Iterator<Item = &Bytes> {
        self.classes.iter().map(|class| &class.anchors.bytes)
    }

    /// Calls `found` with the value of every literal in `topic`, once. `text` is what it was built from, `seen` is empty; `marks` are those
    /// of the topic, the anchors of each length by its number.
    pub(super) fn find(
        &self,
        text: &[u8],
        topic: &[u8],
        marks: &[u8],
        keys: &Keys,
        seen: &mut BitList,
        mut found: impl FnMut(u32),
    ) {
        let mut before = 0;
        for (number, class) in self.classes.iter().enumerate() {
            if class.table.is_empty() {
                continue;
            }
            let confirm = |at: usize, number: usize, record: &Record| {
                let Some(literal) = text.get(record.span()) else {
                    return;
                };
                let fits = at
                    .checked_sub(usize::from(record.hashed))
                    .and_then(|start| topic.get(start..start + literal.len()))
                    .is_some_and(|part| part == literal);
                if fits && seen.insert((before + number) as u32) {
                    found(record.value);
                }
            };
            match number {
                0 => class.find::<1>(topic, marks, number, keys, confirm),
                1 => class.find::<2>(topic, marks, number, keys, confirm),
                2 => class.find::<3>(topic, marks, number, keys, confirm),
                3 => class.find::<4>(topic, marks, number, keys, confirm),
                _ => class.find::<8>(topic, marks, number, keys, confirm),
            }
            before += class.table.len();
        }
    }
}

impl Class {
    /// Calls `confirm` with the literals whose windows seem to be in `topic`, and where.
    #[inline]
    fn find<const LEN: usize>(
        &self,
        topic: &[u8],
        marks: &[u8],
        part: usize,
        keys: &Keys,
        mut confirm: impl FnMut(usize, usize, &Record),
    ) {
        const TOGETHER: usize = 64;
        let anchor = if self.anchors.last { LEN - 1 } else { 0 };
        let windows = (topic.len() + 1).saturating_sub(LEN);
        for start in (0..windows).step_by(TOGETHER) {
            let hash = |at: u32| {
                let window = topic.get(start + at as usize..);
                let window: Option<&[u8; LEN]> = window.and_then(<[u8]>::first_chunk);
                keys.window(window.map_or(0, word), LEN)
            };
            let end = windows.min(start + TOGETHER);
            let marks = marks.get(start + anchor..end + anchor).unwrap_or(&[]);
            let mut asked = bits_of(part, marks);
            let mut held = 0_u64;
            while asked != 0 {
                let at = asked.trailing_zeros();
                asked &= asked - 1;
                held |= u64::from(self.table.may_hold(hash(at))) << at;
            }
            while held != 0 {
                let at = held.trailing_zeros();
                held &= held - 1;
                self.table.find(hash(at), |number, record| {
                    confirm(start + at as usize, number, record);
                });
            }
        }
    }
}

/// Literals that share a window; they come in the order of their hashes.
fn groups(pairs: &[(u64, Record)]) -> impl Iterator<Item = &[(u64, Record)]> {
    pairs.chunk_by(|left, right| left.0 == right.0)
}

/// The smallest crowd, from `least` on, for which the literals of all crowds that are larger take at most `bytes`.
fn smallest_crowd<const N: usize>(
    pairs: [&Vec<(u64, Record)>; N],
    least: usize,
    bytes: usize,
) -> usize {
    let mut crowd = least;
    loop {
        let larger = pairs
            .iter()
            .flat_map(|pairs| groups(pairs))
            .filter(|same| same.len() > crowd);
        let text: usize = larger
            .flat_map(|same| same.iter().map(|(_, record)| record.span().len()))
            .sum();
        if text <= bytes {
            return crowd;
        }
        crowd = crowd.max(1).saturating_mul(2);
    }
}

/// Up to eight bytes as a number.
#[inline]
fn word<const LEN: usize>(window: &[u8; LEN]) -> u64 {
    let mut bytes = [0; 8];
    bytes[..LEN].copy_from_slice(window);
    u64::from_le_bytes(bytes)
}

/// The place in [`WINDOWS`] of the longest window that fits into a literal.
fn class_of(len: usize) -> usize {
    match len {
        0..=3 => len.saturating_sub(1),
        4..=7 => 3,
        _ => 4,
    }
}

fn window_len(literal: &[u8]) -> usize {
    WINDOWS[class_of(literal.len())]
}

/// Where every window of a literal starts, and its hash.
fn windows_of(literal: &[u8], keys: &Keys) -> impl Iterator<Item = (usize, u64)> {
    let len = window_len(literal);
    literal
        .windows(len)
        .map(move |window| {
            let mut bytes = [0; 8];
            bytes[..len].copy_from_slice(window);
            keys.window(u64::from_le_bytes(bytes), len)
        })
        .enumerate()
}

/// Roughly how often each hash occurs.
#[derive(Debug)]
pub(crate) struct Sketch {
    counts: Vec<u16>,
    shift: u32,
}

impl Sketch {
    pub(crate) fn new(expected: usize) -> Self {
        let len = (expected * 8).clamp(1 << 10, 1 << 23).next_power_of_two();
        Self {
            counts: vec![0; len],
            shift: 64 - len.trailing_zeros(),
        }
    }

    pub(crate) fn add(&mut self, hash: u64) {
        let count = &mut self.counts[(hash >> self.shift) as usize];
        *count = count.saturating_add(1);
    }

    pub(crate) fn count(&self, hash: u64) -> u16 {
        self.counts[(hash >> self.shift) as usize]
    }

    /// Counts every window of a literal.
    pub(crate) fn add_windows(&mut self, literal: &[u8], keys: &Keys) {
        windows_of(literal, keys).for_each(|(_, hash)| self.add(hash));
    }

    /// The window of a literal that occurs least, and its hash.
    pub(crate) fn rarest(&self, literal: &[u8], keys: &Keys) -> (usize, u64) {
        windows_of(literal, keys)
            .min_by_key(|(_, hash)| self.count(*hash))
            .unwrap_or_default()
    }
}
