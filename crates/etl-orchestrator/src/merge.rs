//! How the changes of parallel modules become one.
//!
//! Every module of the stage saw the same input. Where one alone has written, what it left goes on. Otherwise what each of them changed, compared with
//! that input, is written in file order on one copy of it: headers by name, merge patches member by member, everything else as a whole. Where two write the same thing
//! differently the later one wins, and the conflict is counted. What a module wrote as it already was, it did not write.

use std::sync::Arc;

use bytes::Bytes;
use foldhash::quality::RandomState;
use indexmap::IndexMap;
use smallvec::SmallVec;

use crate::delta::Change;
use crate::merge_patch;
use crate::record::Headers;
use crate::view::{BadChange, View};

/// What one module left of the stage's input. What exactly that changed only matters beside what others wrote.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    after: View,
    /// Whether the value was changed by merge patches, if at all.
    only_patches: bool,
    /// Names of the headers that it changed, and whether one was only added.
    headers: SmallVec<[(Arc<str>, bool); 2]>,
}

/// What one module changed, compared with the stage's input.
#[derive(Clone, Debug, Default)]
struct Compared {
    value: Option<ValueWritten>,
    key: Option<Option<Bytes>>,
    topic: Option<Arc<str>>,
    timestamp: Option<Option<i64>>,
    headers: ByName<HeaderWritten>,
}

/// Something for each name of a header, in the order in which names were met.
type ByName<T> = IndexMap<Arc<str>, T, RandomState>;

#[derive(Clone, Debug, PartialEq)]
enum ValueWritten {
    Set(Bytes),
    /// By merge patches alone: the one that makes what the module left of what it saw.
    Patch(Bytes),
}

#[derive(Clone, Debug, PartialEq)]
enum HeaderWritten {
    Added(Vec<Bytes>),
    /// All of that name, after.
    Replaced(Vec<Bytes>),
}

impl ValueWritten {
    /// The value that it is, where it is not known only by what changes.
    fn left(&self) -> Option<&Bytes> {
        match self {
            Self::Set(value) => Some(value),
            Self::Patch(_) => None,
        }
    }

    /// What merge patches came to.
    fn by_patches(input: &View, after: &Bytes) -> Self {
        match merge_patch::difference(input.value(), after) {
            Some(patch) => Self::Patch(patch.into()),
            None => Self::Set(after.clone()),
        }
    }
}

impl Written {
    /// `changes` are without emitted records. `None`: nothing changed.
    pub(crate) fn of(input: &View, changes: Vec<Change>) -> Result<Option<Self>, BadChange> {
        let mut only_patches = true;
        let mut headers = SmallVec::new();
        for change in &changes {
            match change {
                Change::SetValue(_) => only_patches = false,
                Change::AddHeader(name, _) => headers.push((name.clone(), true)),
                Change::SetHeader(name, _) | Change::RemoveHeader(name) => {
                    headers.push((name.clone(), false));
                }
                _ => {}
            }
        }
        let mut after = input.clone();
        after.apply_all(changes)?;
        Ok((after != *input).then_some(Self {
            after,
            only_patches,
            headers,
        }))
    }

    fn compared(self, input: &View) -> Compared {
        let after = &self.after;
        let value = if after.value() == input.value() {
            None
        } else if !self.only_patches {
            Some(ValueWritten::Set(after.value().clone()))
        } else {
            match ValueWritten::by_patches(input, after.value()) {
                // Patches that took each other back: the text may stand in another order, but nothing else was written.
                ValueWritten::Patch(patch) if *patch == *b"{}" => None,
                written => Some(written),
            }
        };
        let mut names: ByName<bool> = ByName::default();
        for (name, added) in self.headers {
            *names.entry(name).or_insert(true) &= added;
        }
        let before = values(input.headers(), &names);
        let now = values(after.headers(), &names);
        let both = before.into_iter().zip(now);
        let headers = names.into_iter().zip(both);
        let headers = headers.filter_map(|((name, only_added), (before, now))| {
            if before == now {
                return None;
            }
            let written = if only_added {
                HeaderWritten::Added(now[before.len()..].to_vec())
            } else {
                HeaderWritten::Replaced(now)
            };
            Some((name, written))
        });
        Compared {
            value,
            headers: headers.collect(),
            key: (after.key() != input.key()).then(|| after.key().cloned()),
            topic: (after.topic() != input.topic()).then(|| after.topic().clone()),
            timestamp: (after.timestamp() != input.timestamp()).then(|| after.timestamp()),
        }
    }
}

impl Compared {
    /// How many things this and an earlier module wrote differently.
    fn conflicts(&self, earlier: &Self, input: &View) -> u32 {
        let value = match (&earlier.value, &self.value) {
            (Some(earlier), Some(later)) => values_differ(earlier, later, input),
            _ => false,
        };
        let headers = self.headers.iter().filter(|(name, later)| {
            earlier.headers.get(*name).is_some_and(|earlier| {
                let both_added = matches!(
                    (earlier, later),
                    (HeaderWritten::Added(_), HeaderWritten::Added(_))
                );
                !both_added && earlier != *later
            })
        });
        u32::from(value)
            + u32::from(differ(&earlier.key, &self.key))
            + u32::from(differ(&earlier.topic, &self.topic))
            + u32::from(differ(&earlier.timestamp, &self.timestamp))
            + u32::try_from(headers.count()).unwrap_or(u32::MAX)
    }

    fn write(&self, view: &mut View, input: &View) {
        match &self.value {
            None => {}
            Some(ValueWritten::Set(value)) => {
                view.set_value(value.clone());
            }
            Some(ValueWritten::Patch(patch)) => patch_what_it_saw(view, patch, input),
        }
        if let Some(key) = &self.key {
            view.set_key(key.clone());
        }
        if let Some(topic) = &self.topic {
            view.set_topic(topic.clone());
        }
        if let Some(timestamp) = self.timestamp {
            view.set_timestamp(timestamp);
        }
        if self.headers.is_empty() {
            return;
        }
        view.change_headers(self.headers.len(), |headers| {
            let mut changed = false;
            for (name, written) in &self.headers {
                changed |= match written {
                    HeaderWritten::Replaced(values) => headers.replace(name, values),
                    HeaderWritten::Added(values) => {
                        for value in values {
                            headers.add(name.clone(), value.clone());
                        }
                        true
                    }
                };
            }
            changed
        });
    }
}

/// Patches what earlier modules left. Where that is not JSON the later module wins, with what it saw.
fn patch_what_it_saw(view: &mut View, patch: &[u8], input: &View) {
    if view.patch(patch).is_err() {
        view.set_value(input.value().clone());
        let _ = view.patch(patch);
    }
}

/// The values of each of these names, in their order.
fn values(headers: &Headers, names: &ByName<bool>) -> Vec<Vec<Bytes>> {
    let mut values = vec![Vec::new(); names.len()];
    if !names.is_empty() {
        for (name, value) in headers.iter() {
            if let Some(place) = names.get_index_of(name) {
                values[place].push(value.clone());
            }
        }
    }
    values
}

fn differ<T: PartialEq>(earlier: &Option<T>, later: &Option<T>) -> bool {
    matches!((earlier, later), (Some(earlier), Some(later)) if earlier != later)
}

fn values_differ(earlier: &ValueWritten, later: &ValueWritten, input: &View) -> bool {
    match (earlier, later) {
        (ValueWritten::Patch(earlier), ValueWritten::Patch(later)) => {
            merge_patch::conflict(earlier, later)
        }
        (ValueWritten::Patch(patch), set) | (set, ValueWritten::Patch(patch)) => {
            let mut patched = input.clone();
            patched.patch(patch).is_err() || Some(patched.value()) != set.left()
        }
        (earlier, later) => earlier.left() != later.left(),
    }
}

/// Two modules of a strict stage wrote the same thing differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Conflict {
    /// Places in the list.
    pub(crate) earlier: usize,
    pub(crate) later: usize,
}

/// Writes everything on the stage's input. Answers the number of conflicts, or the first one where `strict`.
pub(crate) fn merge(
    view: &mut View,
    mut written: Vec<Written>,
    strict: bool,
) -> Result<u32, Conflict> {
    if written.len() == 1
        && let Some(only) = written.pop()
    {
        *view = only.after;
        return Ok(0);
    }
    let written: Vec<Compared> = written
        .into_iter()
        .map(|written| written.compared(view))
        .collect();
    let mut conflicts = 0;
    for later in 1..written.len() {
        for earlier in 0..later {
            let count = written[later].conflicts(&written[earlier], view);
            if count > 0 && strict {
                return Err(Conflict { earlier, later });
            }
            conflicts += count;
        }
    }
    let input = view.clone();
    for written in &written {
        written.write(view, &input);
    }
    Ok(conflicts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Headers, Record};

    fn input() -> View {
        View::new(Arc::new(Record {
            headers: Headers::from_iter([("a", "1")]),
            ..Record::new("t", r#"{"n":1,"o":{"x":1}}"#)
        }))
    }

    fn merged(strict: bool, modules: &[Vec<Change>]) -> Result<(Arc<Record>, u32), Conflict> {
        let mut view = input();
        let written: Vec<Written> = modules
            .iter()
            .filter_map(|changes| Written::of(&view, changes.clone()).expect("good changes"))
            .collect();
        merge(&mut view, written, strict).map(|conflicts| (view.into_record(), conflicts))
    }

    fn patch(text: &'static str) -> Change {
        Change::MergePatch(text.into())
    }

    #[test]
    fn patches_compose_and_headers_merge_by_name() {
        let (record, conflicts) = merged(
            true,
            &[
                vec![
                    patch(r#"{"p":2,"o":{"y":2}}"#),
                    Change::AddHeader("a".into(), "2".into()),
                ],
                vec![
                    patch(r#"{"n":null,"p":2}"#),
                    Change::AddHeader("a".into(), "3".into()),
                ],
                vec![
                    patch(r#"{"o":{"z":3}}"#),
                    Change::SetHeader("b".into(), "4".into()),
                ],
            ],
        )
        .expect("no conflict");
        assert_eq!(conflicts, 0);
        assert_eq!(record.value, r#"{"o":{"x":1,"y":2,"z":3},"p":2}"#);
        assert_eq!(
            record.headers,
            Headers::from_iter([("a", "1"), ("a", "2"), ("a", "3"), ("b", "4")])
        );
    }

    #[test]
    fn what_one_alone_has_written_is_as_it_left_it() {
        let changes = vec![
            patch(r#"{"n":null}"#),
            patch(r#"{"n":1}"#),
            Change::AddHeader("b".into(), "2".into()),
            Change::RemoveHeader("a".into()),
            Change::AddHeader("a".into(), "3".into()),
        ];
        let mut alone = input();
        alone.apply_all(changes.clone()).expect("good changes");
        let others = [vec![], vec![Change::SetTopic("t".into())]];
        let modules = [&others[..1], &[changes], &others[1..]].concat();
        let (record, conflicts) = merged(true, &modules).expect("no conflict");
        assert_eq!((record, conflicts), (alone.into_record(), 0));
    }

    #[test]
    fn a_write_of_what_was_there_is_none() {
        let (record, conflicts) = merged(
            true,
            &[
                vec![patch(r#"{"n":2}"#)],
                vec![
                    Change::SetValue(r#"{"n":1,"o":{"x":1}}"#.into()),
                    Change::SetTopic("t".into()),
                ],
                vec![patch(r#"{"n":1}"#)],
            ],
        )
        .expect("no conflict");
        assert_eq!(
            (record.value.as_ref(), conflicts),
            (br#"{"n":2,"o":{"x":1}}"#.as_slice(), 0)
        );
    }

    #[test]
    fn the_later_one_wins_and_is_counted() {
        let modules = [
            vec![
                patch(r#"{"n":2}"#),
                Change::SetKey("k".into()),
                Change::SetHeader("a".into(), "8".into()),
            ],
            vec![
                patch(r#"{"n":3}"#),
                Change::SetKey("l".into()),
                Change::RemoveHeader("a".into()),
            ],
        ];
        let (record, conflicts) = merged(false, &modules).expect("ordered stages take conflicts");
        assert_eq!(conflicts, 3);
        assert_eq!(record.value, r#"{"n":3,"o":{"x":1}}"#);
        assert_eq!(record.key.as_deref(), Some(b"l".as_slice()));
        assert!(record.headers.is_empty());
        assert_eq!(
            merged(true, &modules),
            Err(Conflict {
                earlier: 0,
                later: 1
            })
        );
    }

    #[test]
    fn the_same_written_twice_is_no_conflict() {
        let same = vec![
            patch(r#"{"n":2}"#),
            Change::SetTopic("u".into()),
            Change::SetHeader("a".into(), "8".into()),
        ];
        let set = vec![Change::SetValue(r#"{"n":2,"o":{"x":1}}"#.into())];
        let (record, conflicts) = merged(true, &[same.clone(), same, set]).expect("no conflict");
        assert_eq!(conflicts, 0);
        assert_eq!(record.value, r#"{"n":2,"o":{"x":1}}"#);
        assert_eq!(record.headers, Headers::from_iter([("a", "8")]));
    }

    #[test]
    fn patches_that_take_each_other_back_write_nothing() {
        let modules = [
            vec![Change::SetValue("text".into())],
            vec![patch(r#"{"n":null}"#), patch(r#"{"n":1}"#)],
        ];
        let (record, conflicts) = merged(true, &modules).expect("no conflict");
        assert_eq!((record.value.as_ref(), conflicts), (b"text".as_slice(), 0));
    }

    #[test]
    fn a_patch_after_text_wins_with_what_it_saw() {
        let modules = [
            vec![Change::SetValue("text".into())],
            vec![patch(r#"{"n":2}"#)],
        ];
        let (record, conflicts) = merged(false, &modules).expect("ordered stages take conflicts");
        assert_eq!(
            (record.value.as_ref(), conflicts),
            (br#"{"n":2,"o":{"x":1}}"#.as_slice(), 1)
        );
    }

    #[test]
    fn many_headers_merge_as_few_do() {
        let set = |first: u32| {
            let names = first..first + 30;
            names
                .map(|name| Change::SetHeader(name.to_string().into(), first.to_string().into()))
                .chain([Change::AddHeader("a".into(), first.to_string().into())])
                .collect::<Vec<_>>()
        };
        let (record, conflicts) =
            merged(false, &[set(0), set(20)]).expect("ordered stages take conflicts");
        assert_eq!(conflicts, 10);
        let all: Vec<_> = record.headers.all("a").cloned().collect();
        assert_eq!(all, ["1", "0", "20"]);
        assert_eq!(record.headers.len(), 3 + 50);
        assert_eq!(record.headers.first("19"), Some(b"0".as_slice()));
        assert_eq!(record.headers.first("20"), Some(b"20".as_slice()));
    }
}
