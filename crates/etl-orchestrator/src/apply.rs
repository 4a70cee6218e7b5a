//! Making the changes that a module answered for one record: all of them or none, within bounds.
//!
//! What an answer says is no longer than the guest's memory, and every part of it is claimed once (`docs/abi.md`), so that reading it is proportional to that. Making its
//! changes would not be: each merge patch reads the whole value, once more for each level of the patch, and the clock of the call has stopped by then. So the
//! number of changes is bounded, and so is what patches may read, by rules that depend on nothing but the record and the answer.

use smallvec::SmallVec;

use crate::core::Touched;
use crate::delta::Change;
use crate::view::{BadChange, View};

/// Changes that one answer may make to one record, emitted ones not among them.
pub(crate) const MAX_CHANGES: usize = 4096;

/// The merge patches of one answer may read so many bytes, and besides these the value so many times.
const PATCH_BYTES: u64 = 64 << 20;
const PATCH_TIMES: u64 = 8;

/// Deeper than this, nothing is JSON here.
const DEEPEST: u64 = crate::json::MAX_DEPTH as u64 + 1;

/// What the merge patches of an answer may still read.
struct Reading {
    most: u64,
    left: u64,
}

impl Reading {
    fn of(view: &View) -> Self {
        let most = PATCH_BYTES + PATCH_TIMES * view.value().len() as u64;
        Self { most, left: most }
    }

    /// Whether these may be made without counting what is read: one patch at most, of a value that is never long enough.
    fn are_small(&self, view: &View, changes: &[Change]) -> bool {
        let mut patches = 0;
        let mut bytes = view.value().len() as u64;
        for change in changes {
            match change {
                Change::MergePatch(patch) => {
                    patches += 1;
                    bytes += patch.len() as u64;
                }
                Change::SetValue(value) => bytes += value.len() as u64,
                _ => {}
            }
        }
        patches == 0 || patches == 1 && bytes * DEEPEST <= self.left
    }

    fn spend(&mut self, view: &View, patch: &[u8]) -> Result<(), BadChange> {
        let bytes = (view.value().len() + patch.len()) as u64;
        let reads = bytes.saturating_mul(levels(patch).max(1));
        match self.left.checked_sub(reads) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => Err(BadChange(format!(
                "the merge patches of this answer read more than {} bytes of value and patch, once for each level of a patch",
                self.most
            ))),
        }
    }
}

/// How deep the lists and objects of a JSON text lie inside each other.
fn levels(json: &[u8]) -> u64 {
    let (mut depth, mut deepest) = (0_u64, 0);
    let (mut in_string, mut escaped) = (false, false);
    for byte in json {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'{' | b'[' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

impl View {
    /// Makes all of these changes or none; emitted records are the caller's. Answers whether anything changed, and what.
    pub(crate) fn apply_all(
        &mut self,
        mut changes: Vec<Change>,
    ) -> Result<(bool, Touched), BadChange> {
        if changes.len() > MAX_CHANGES {
            let count = changes.len();
            return Err(BadChange(format!(
                "{count} changes to one record, {MAX_CHANGES} are allowed"
            )));
        }
        if changes.len() == 1
            && let Some(change) = changes.pop()
        {
            // One change is made or not made: nothing has to be taken back.
            let touched = Touched::by(&change);
            return Ok((self.apply_one(change)?, touched));
        }
        let mut reading = Reading::of(self);
        let is_counted = !reading.are_small(self, &changes);
        let mut touched = Touched::default();
        let mut changed = false;
        let mut after = self.clone();
        let mut of_headers: SmallVec<[Change; 4]> = SmallVec::new();
        for change in changes {
            touched = touched.and(Touched::by(&change));
            match change {
                Change::AddHeader(..) | Change::SetHeader(..) | Change::RemoveHeader(_) => {
                    of_headers.push(change);
                }
                Change::MergePatch(patch) => {
                    if is_counted {
                        reading.spend(&after, &patch)?;
                    }
                    changed |= after.patch(&patch)?;
                }
                change => changed |= after.apply(change)?,
            }
        }
        // What else is changed does not meet the headers, so these may come last and together.
        changed |= after.apply_to_headers(of_headers);
        if changed {
            *self = after;
        }
        Ok((changed, touched))
    }

    fn apply_one(&mut self, change: Change) -> Result<bool, BadChange> {
        if let Change::MergePatch(patch) = &change {
            let mut reading = Reading::of(self);
            if !reading.are_small(self, std::slice::from_ref(&change)) {
                reading.spend(self, patch)?;
            }
        }
        self.apply(change)
    }

    /// Makes one change. Answers whether anything changed.
    fn apply(&mut self, change: Change) -> Result<bool, BadChange> {
        Ok(match change {
            Change::SetValue(value) => self.set_value(value),
            Change::MergePatch(patch) => self.patch(&patch)?,
            Change::SetKey(key) => self.set_key(Some(key)),
            Change::ClearKey => self.set_key(None),
            Change::SetTopic(topic) => {
                if topic.is_empty() {
                    return Err(BadChange("the topic was set to nothing".to_owned()));
                }
                self.set_topic(topic)
            }
            change @ (Change::AddHeader(..) | Change::SetHeader(..) | Change::RemoveHeader(_)) => {
                self.apply_to_headers([change])
            }
            Change::SetTimestamp(timestamp) => self.set_timestamp(Some(timestamp)),
            Change::ClearTimestamp => self.set_timestamp(None),
            Change::Emit(_) => false,
        })
    }

    fn apply_to_headers(
        &mut self,
        changes: impl IntoIterator<Item = Change, IntoIter: ExactSizeIterator>,
    ) -> bool {
        let changes = changes.into_iter();
        if changes.len() == 0 {
            return false;
        }
        self.change_headers(changes.len(), |headers| {
            let mut changed = false;
            for change in changes {
                changed |= match change {
                    Change::AddHeader(name, value) => {
                        headers.add(name, value);
                        true
                    }
                    Change::SetHeader(name, value) => headers.replace(&name, &[value]),
                    Change::RemoveHeader(name) => headers.remove(&name),
                    _ => false,
                };
            }
            changed
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_those_of_the_text() {
        for (json, expected) in [
            ("1", 0),
            ("{}", 1),
            (r#"{"a":{"b":1},"c":[[]]}"#, 3),
            (r#"{"a":"{{{","b":"\"{{{"}"#, 1),
            (r#"{"a\\":{}}"#, 2),
            ("}}}{", 1),
        ] {
            assert_eq!(levels(json.as_bytes()), expected, "{json}");
        }
    }
}
