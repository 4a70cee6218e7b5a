//! Many changes of a list of headers.
//!
//! Each change by itself looks through the whole list, which is the quickest way for a few of them. A module may make thousands, to a list of thousands: then the list
//! is taken apart once, names are found by their hash, and it is put together once, so that the work is proportional to what was said.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use foldhash::quality::RandomState;
use smallvec::{SmallVec, smallvec};

use crate::record::Headers;

/// Up to so many changes are made one by one.
const FEW: usize = 8;

/// What can be done to headers, whichever way they are held.
pub(crate) trait HeaderList {
    /// Appends one.
    fn add(&mut self, name: Arc<str>, value: Bytes);

    /// Makes these the only ones of a name, where the first one stands, or at the end. Answers whether that changed anything.
    fn replace(&mut self, name: &Arc<str>, values: &[Bytes]) -> bool;

    /// Removes all of a name. Answers whether there were any.
    fn remove(&mut self, name: &str) -> bool;
}

impl HeaderList for Headers {
    fn add(&mut self, name: Arc<str>, value: Bytes) {
        self.add(name, value);
    }

    fn replace(&mut self, name: &Arc<str>, values: &[Bytes]) -> bool {
        self.replace(name, values)
    }

    fn remove(&mut self, name: &str) -> bool {
        self.remove(name)
    }
}

/// Makes about so many `changes`. `edit` answers whether it did anything.
pub(crate) fn edited(
    headers: &mut Headers,
    changes: usize,
    edit: impl FnOnce(&mut dyn HeaderList) -> bool,
) -> bool {
    if changes <= FEW {
        return edit(headers);
    }
    let mut apart = Apart::of(headers);
    let changed = edit(&mut apart);
    if changed {
        *headers = apart.together();
    }
    changed
}

/// Headers that are taken apart.
struct Apart {
    /// Names with the values that stand there: mostly one, none where it was removed.
    places: Vec<(Arc<str>, SmallVec<[Bytes; 1]>)>,
    /// Where the values of a name stand, in order.
    names: HashMap<Arc<str>, SmallVec<[usize; 2]>, RandomState>,
}

impl Apart {
    fn of(headers: &Headers) -> Self {
        let mut apart = Self {
            places: Vec::with_capacity(headers.len() + FEW),
            names: HashMap::default(),
        };
        for (name, value) in headers.iter() {
            apart.add(name.clone(), value.clone());
        }
        apart
    }

    fn together(self) -> Headers {
        let places = self.places.into_iter();
        places
            .flat_map(|(name, values)| values.into_iter().map(move |value| (name.clone(), value)))
            .collect()
    }
}

impl HeaderList for Apart {
    fn add(&mut self, name: Arc<str>, value: Bytes) {
        let place = self.places.len();
        self.names.entry(name.clone()).or_default().push(place);
        self.places.push((name, smallvec![value]));
    }

    fn replace(&mut self, name: &Arc<str>, values: &[Bytes]) -> bool {
        let present = self.names.get(name).map_or(&[][..], |places| places);
        let are = present.iter().flat_map(|place| &self.places[*place].1);
        if are.eq(values) {
            return false;
        }
        let first = present.first().copied();
        self.remove(name);
        if values.is_empty() {
            return true;
        }
        let place = first.unwrap_or_else(|| {
            self.places.push((name.clone(), SmallVec::new()));
            self.places.len() - 1
        });
        self.places[place].1 = values.iter().cloned().collect();
        self.names.insert(name.clone(), smallvec![place]);
        true
    }

    fn remove(&mut self, name: &str) -> bool {
        let Some(places) = self.names.remove(name) else {
            return false;
        };
        for place in places {
            self.places[place].1.clear();
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Edit {
        Add(&'static str, &'static str),
        Replace(&'static str, Vec<&'static str>),
        Remove(&'static str),
    }

    fn name() -> impl Strategy<Value = &'static str> {
        prop::sample::select(&["a", "b", "c", ""][..])
    }

    fn value() -> impl Strategy<Value = &'static str> {
        prop::sample::select(&["1", "2", ""][..])
    }

    fn edit() -> impl Strategy<Value = Edit> {
        prop_oneof![
            (name(), value()).prop_map(|(name, value)| Edit::Add(name, value)),
            (name(), prop::collection::vec(value(), 0..3))
                .prop_map(|(name, values)| Edit::Replace(name, values)),
            name().prop_map(Edit::Remove),
        ]
    }

    fn make(list: &mut dyn HeaderList, edit: &Edit) -> bool {
        match edit {
            Edit::Add(name, value) => {
                list.add((*name).into(), (*value).into());
                true
            }
            Edit::Replace(name, values) => {
                let values: Vec<Bytes> = values.iter().map(|value| (*value).into()).collect();
                list.replace(&(*name).into(), &values)
            }
            Edit::Remove(name) => list.remove(name),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2048))]

        #[test]
        fn taken_apart_they_change_as_one_by_one(
            before in prop::collection::vec((name(), value()), 0..6),
            edits in prop::collection::vec(edit(), 0..24),
        ) {
            let mut naive = Headers::from_iter(before);
            let mut headers = naive.clone();
            let told: Vec<bool> = edits.iter().map(|edit| make(&mut naive, edit)).collect();
            let mut apart = Apart::of(&headers);
            let told_apart: Vec<bool> = edits.iter().map(|edit| make(&mut apart, edit)).collect();
            prop_assert_eq!(&told, &told_apart);
            prop_assert_eq!(apart.together(), naive.clone());
            let changed = edited(&mut headers, edits.len(), |list| {
                edits.iter().fold(false, |changed, edit| make(list, edit) | changed)
            });
            prop_assert_eq!(changed, told.contains(&true));
            prop_assert_eq!(headers, naive);
        }
    }
}
