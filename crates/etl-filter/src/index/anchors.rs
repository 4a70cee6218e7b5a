//! Where in a topic windows are looked up at all: beside certain bytes.
//!
//! Every byte of a topic could start a window. But a literal may be found by any of its windows, and in most sets a few bytes are
//! such that each literal has a good window with one of them at its first place, or with one of them at its last: separators, mostly, of which a topic
//! has few. These bytes are *anchors*, chosen so that the text of the literals, for want of the topics', has few of them.

use super::marks::Bytes;

/// The bytes beside which windows are looked up.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Anchors {
    pub(super) bytes: Bytes,
    /// Whether they are the last bytes of windows, and not the first.
    pub(super) last: bool,
}

impl Anchors {
    /// Anchors for some literals. `windows` calls its argument with the good windows of a literal, each literal having one at least.
    pub(super) fn choose<'a>(
        literals: impl Iterator<Item = &'a [u8]> + Clone,
        windows: impl Fn(&'a [u8], &mut dyn FnMut(&'a [u8])),
    ) -> Self {
        let mut frequency = [1_usize; 256];
        for byte in literals.clone().flatten() {
            frequency[usize::from(*byte)] += 1;
        }
        let choose = |last: bool| {
            let mut this = Self {
                bytes: Bytes::default(),
                last,
            };
            let edges = literals.clone().map(|literal| {
                let mut edges = Bytes::default();
                windows(literal, &mut |window| {
                    if let Some(byte) = this.edge(window) {
                        edges.insert(byte);
                    }
                });
                edges
            });
            this.bytes = cover(edges.collect(), &frequency);
            this
        };
        let cost = |this: &Self| -> usize {
            let bytes = this.bytes.iter();
            bytes.map(|byte| frequency[usize::from(byte)]).sum()
        };
        let (first, last) = (choose(false), choose(true));
        if cost(&last) < cost(&first) {
            last
        } else {
            first
        }
    }

    fn edge(&self, window: &[u8]) -> Option<u8> {
        if self.last {
            window.last().copied()
        } else {
            window.first().copied()
        }
    }

    /// Whether a window is looked up.
    pub(super) fn take(&self, window: &[u8]) -> bool {
        self.edge(window)
            .is_some_and(|byte| self.bytes.contains(byte))
    }
}

/// Bytes of which every set has one. Again and again the byte is taken that most sets have for how frequent it is.
fn cover(mut sets: Vec<Bytes>, frequency: &[usize; 256]) -> Bytes {
    let mut taken = Bytes::default();
    sets.retain(|set| *set != Bytes::default());
    while !sets.is_empty() {
        let mut gain = [0_usize; 256];
        for byte in sets.iter().flat_map(Bytes::iter) {
            gain[usize::from(byte)] += 1;
        }
        // Products instead of quotients, so that nothing is rounded.
        let better = |left: &u8, right: &u8| {
            let (left, right) = (usize::from(*left), usize::from(*right));
            (gain[left] * frequency[right]).cmp(&(gain[right] * frequency[left]))
        };
        let Some(best) = (0..=u8::MAX).max_by(better) else {
            break;
        };
        taken.insert(best);
        sets.retain(|set| !set.contains(best));
    }
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_literal_has_a_window_and_separators_are_preferred() {
        let texts = ["alarm-1.x", "pump-22.z", "pump-23.y", "sensor-4.x"];
        let chosen = Anchors::choose(texts.iter().map(|text| text.as_bytes()), |text, each| {
            text.windows(4).for_each(each);
        });
        for text in texts {
            assert!(text.as_bytes().windows(4).any(|window| chosen.take(window)));
        }
        let taken: Vec<u8> = chosen.bytes.iter().collect();
        assert!(taken == b"-" || taken == b".", "{taken:?}");
    }
}
