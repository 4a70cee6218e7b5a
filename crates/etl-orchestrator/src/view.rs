//! A record on its way: the original behind its [`Arc`], and what has changed since.
//!
//! Modules and conditions look at a view; only its end is a record again. A view that nothing changed gives back the very `Arc` that
//! it was made of. The value, which most modules change, is kept beside the original; everything else that changes is rare and
//! sits in one box. A field that is set to what it already was has not changed.

use std::sync::Arc;

use bytes::Bytes;
use etl_abi::RecordFields;

use crate::header_edits::{self, HeaderList};
use crate::merge_patch;
use crate::record::{Headers, Record};

/// A record as the modules before have left it.
#[derive(Clone, Debug)]
pub struct View {
    original: Arc<Record>,
    value: Option<Bytes>,
    rest: Option<Box<Rest>>,
}

/// What has changed besides the value.
#[derive(Clone, Debug, Default)]
struct Rest {
    topic: Option<Arc<str>>,
    key: Option<Option<Bytes>>,
    headers: Option<Headers>,
    timestamp: Option<Option<i64>>,
}

/// Why a change cannot be made: the module's answer does not fit the record.
#[derive(Debug)]
pub(crate) struct BadChange(pub(crate) String);

/// The value that another one has replaced: nothing where it was the original's. See [`View::before`].
pub(crate) struct Replaced(Option<Bytes>);

impl View {
    /// A record that nothing has changed yet.
    #[must_use]
    pub fn new(original: Arc<Record>) -> Self {
        Self {
            original,
            value: None,
            rest: None,
        }
    }

    /// The record as it arrived.
    #[must_use]
    pub fn original(&self) -> &Arc<Record> {
        &self.original
    }

    /// Whether anything has changed.
    #[must_use]
    pub fn is_changed(&self) -> bool {
        self.value.is_some() || self.rest.is_some()
    }

    /// The topic.
    #[must_use]
    pub fn topic(&self) -> &Arc<str> {
        match &self.rest {
            Some(rest) => rest.topic.as_ref().unwrap_or(&self.original.topic),
            None => &self.original.topic,
        }
    }

    /// The key.
    #[must_use]
    pub fn key(&self) -> Option<&Bytes> {
        match &self.rest {
            Some(rest) => rest.key.as_ref().unwrap_or(&self.original.key).as_ref(),
            None => self.original.key.as_ref(),
        }
    }

    /// The value.
    #[must_use]
    pub fn value(&self) -> &Bytes {
        self.value.as_ref().unwrap_or(&self.original.value)
    }

    /// The headers.
    #[must_use]
    pub fn headers(&self) -> &Headers {
        match &self.rest {
            Some(rest) => rest.headers.as_ref().unwrap_or(&self.original.headers),
            None => &self.original.headers,
        }
    }

    /// Unix time in milliseconds, if known.
    #[must_use]
    pub fn timestamp(&self) -> Option<i64> {
        match &self.rest {
            Some(rest) => rest.timestamp.unwrap_or(self.original.timestamp),
            None => self.original.timestamp,
        }
    }

    /// The record: the original itself where nothing changed, and also where nobody else has it, changed in its place.
    #[must_use]
    pub fn into_record(self) -> Arc<Record> {
        let Self {
            mut original,
            value,
            rest,
        } = self;
        let (value, rest) = match (value, rest) {
            (None, None) => return original,
            // Not to hold the old value for a moment.
            (Some(value), None) if Arc::strong_count(&original) > 1 => {
                return Arc::new(original.with_value(value));
            }
            changed => changed,
        };
        let record = Arc::make_mut(&mut original);
        if let Some(value) = value {
            record.value = value;
        }
        if let Some(rest) = rest {
            let Rest {
                topic,
                key,
                headers,
                timestamp,
            } = *rest;
            if let Some(topic) = topic {
                record.topic = topic;
            }
            if let Some(key) = key {
                record.key = key;
            }
            if let Some(headers) = headers {
                record.headers = headers;
            }
            if let Some(timestamp) = timestamp {
                record.timestamp = timestamp;
            }
        }
        original
    }

    /// The record as it is now, without ending the view.
    #[must_use]
    pub fn to_record(&self) -> Arc<Record> {
        self.clone().into_record()
    }

    fn rest(&mut self) -> &mut Rest {
        self.rest.get_or_insert_default()
    }

    /// Replaces the value. Answers whether that changed it.
    pub(crate) fn set_value(&mut self, value: Bytes) -> bool {
        self.replace_value(value).is_some()
    }

    /// Replaces the value. Answers what was there instead, where that changed it.
    #[inline]
    pub(crate) fn replace_value(&mut self, value: Bytes) -> Option<Replaced> {
        let is_original = self.original.value == value;
        match &self.value {
            None if is_original => return None,
            Some(before) if *before == value => return None,
            _ => {}
        }
        // Back to what it was: not a change of the record any more.
        let value = (!is_original).then_some(value);
        Some(Replaced(std::mem::replace(&mut self.value, value)))
    }

    /// The value before the one that replaced it.
    pub(crate) fn before<'a>(&'a self, replaced: &'a Replaced) -> &'a [u8] {
        replaced.0.as_ref().unwrap_or(&self.original.value)
    }

    pub(crate) fn set_key(&mut self, key: Option<Bytes>) -> bool {
        let changed = self.key() != key.as_ref();
        if changed {
            let differs = self.original.key != key;
            self.rest().key = differs.then_some(key);
            self.tidy();
        }
        changed
    }

    pub(crate) fn set_topic(&mut self, topic: Arc<str>) -> bool {
        let changed = *self.topic() != topic;
        if changed {
            let differs = self.original.topic != topic;
            self.rest().topic = differs.then_some(topic);
            self.tidy();
        }
        changed
    }

    pub(crate) fn set_timestamp(&mut self, timestamp: Option<i64>) -> bool {
        let changed = self.timestamp() != timestamp;
        if changed {
            let differs = self.original.timestamp != timestamp;
            self.rest().timestamp = differs.then_some(timestamp);
            self.tidy();
        }
        changed
    }

    /// Makes so many changes to the headers. `change` answers whether it did anything.
    pub(crate) fn change_headers(
        &mut self,
        changes: usize,
        change: impl FnOnce(&mut dyn HeaderList) -> bool,
    ) -> bool {
        let mut headers = self.rest.as_mut().and_then(|rest| rest.headers.take());
        let was_changed = headers.is_some();
        let list = headers.get_or_insert_with(|| self.original.headers.clone());
        let changed = header_edits::edited(list, changes, change);
        if was_changed || changed {
            let differs = headers.as_ref() != Some(&self.original.headers);
            self.rest().headers = headers.filter(|_| differs);
            self.tidy();
        }
        changed
    }

    /// Drops the box when everything in it went back to what it was.
    fn tidy(&mut self) {
        let unchanged = self.rest.as_ref().is_some_and(|rest| {
            rest.topic.is_none()
                && rest.key.is_none()
                && rest.headers.is_none()
                && rest.timestamp.is_none()
        });
        if unchanged {
            self.rest = None;
        }
    }

    pub(crate) fn patch(&mut self, patch: &[u8]) -> Result<bool, BadChange> {
        match merge_patch::apply(self.value(), patch) {
            Ok(None) => Ok(false),
            Ok(Some(value)) => Ok(self.set_value(value)),
            Err(error) => Err(BadChange(error.to_string())),
        }
    }
}

impl PartialEq for View {
    /// Whether both are the same record now, whatever they were before.
    fn eq(&self, other: &Self) -> bool {
        self.topic() == other.topic()
            && self.original.partition == other.original.partition
            && self.original.offset == other.original.offset
            && self.key() == other.key()
            && self.value() == other.value()
            && self.headers() == other.headers()
            && self.timestamp() == other.timestamp()
    }
}

impl RecordFields for View {
    #[inline]
    fn topic(&self) -> &str {
        self.topic()
    }
    #[inline]
    fn partition(&self) -> u32 {
        self.original.partition
    }
    #[inline]
    fn offset(&self) -> u64 {
        self.original.offset
    }
    #[inline]
    fn key(&self) -> Option<&[u8]> {
        self.key().map(|key| &**key)
    }
    #[inline]
    fn value(&self) -> &[u8] {
        self.value()
    }
    #[inline]
    fn timestamp(&self) -> Option<i64> {
        self.timestamp()
    }
    #[inline]
    fn header_count(&self) -> usize {
        self.headers().len()
    }
    #[inline]
    fn header(&self, index: usize) -> (&str, &[u8]) {
        self.headers().get(index).unwrap_or_default()
    }
}

impl etl_filter::conditions::RecordView for View {
    fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers().first(name)
    }
    fn value(&self) -> &[u8] {
        self.value()
    }
    fn length(&self) -> usize {
        self.value().len()
    }
    fn timestamp(&self) -> Option<i64> {
        self.timestamp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delta::Change;

    fn record() -> Arc<Record> {
        Arc::new(Record {
            key: Some("k".into()),
            headers: Headers::from_iter([("a", "1")]),
            timestamp: Some(7),
            ..Record::new("t", r#"{"n":1}"#)
        })
    }

    fn all(view: &mut View, changes: Vec<Change>) -> Vec<bool> {
        changes
            .into_iter()
            .map(|change| view.apply_all(vec![change]).expect("a good change").0)
            .collect()
    }

    #[test]
    fn what_it_already_was_is_no_change() {
        let original = record();
        let mut view = View::new(original.clone());
        let changed = all(
            &mut view,
            vec![
                Change::SetValue(r#"{"n":1}"#.into()),
                Change::MergePatch(r#"{"n":1,"m":null}"#.into()),
                Change::SetKey("k".into()),
                Change::SetTopic("t".into()),
                Change::SetHeader("a".into(), "1".into()),
                Change::RemoveHeader("b".into()),
                Change::SetTimestamp(7),
            ],
        );
        assert_eq!(changed, [false; 7]);
        assert!(Arc::ptr_eq(&view.into_record(), &original));
    }

    #[test]
    fn what_goes_back_comes_out_as_the_same_record() {
        let original = record();
        let mut view = View::new(original.clone());
        let changed = all(
            &mut view,
            vec![
                Change::SetValue("x".into()),
                Change::ClearKey,
                Change::SetTopic("u".into()),
                Change::SetHeader("a".into(), "2".into()),
                Change::ClearTimestamp,
                Change::SetTimestamp(7),
                Change::SetHeader("a".into(), "1".into()),
                Change::SetTopic("t".into()),
                Change::SetKey("k".into()),
                Change::SetValue(r#"{"n":1}"#.into()),
            ],
        );
        assert_eq!(changed, [true; 10]);
        assert!(!view.is_changed());
        assert!(Arc::ptr_eq(&view.into_record(), &original));
    }

    #[test]
    fn a_record_that_nobody_else_has_is_changed_in_its_place() {
        let changes = || {
            vec![
                Change::SetValue("x".into()),
                Change::SetTopic("u".into()),
                Change::ClearKey,
                Change::AddHeader("a".into(), "2".into()),
                Change::SetTimestamp(9),
            ]
        };
        for count in 1..=changes().len() {
            let made = || -> Vec<Change> { changes().into_iter().take(count).collect() };
            let (kept, own) = (record(), record());
            let place = Arc::as_ptr(&own);
            let mut views = (View::new(kept.clone()), View::new(own));
            all(&mut views.0, made());
            all(&mut views.1, made());
            let (copied, changed) = (views.0.into_record(), views.1.into_record());
            assert_eq!(copied, changed);
            assert_eq!(kept, record(), "who has it sees nothing");
            assert_eq!(Arc::as_ptr(&changed), place);
        }
    }

    #[test]
    fn the_record_has_every_change() {
        let mut view = View::new(record());
        all(
            &mut view,
            vec![
                Change::MergePatch(r#"{"m":2}"#.into()),
                Change::SetKey("".into()),
                Change::SetTopic("u".into()),
                Change::AddHeader("a".into(), "2".into()),
                Change::ClearTimestamp,
            ],
        );
        let expected = Record {
            key: Some(Bytes::new()),
            headers: Headers::from_iter([("a", "1"), ("a", "2")]),
            timestamp: None,
            ..Record::new("u", r#"{"n":1,"m":2}"#)
        };
        assert_eq!(*view.to_record(), expected);
        assert_eq!(RecordFields::header(&view, 1), ("a", b"2".as_slice()));
    }

    #[test]
    fn refuses_what_does_not_fit() {
        let mut view = View::new(Arc::new(Record::new("t", "plain")));
        assert!(
            view.apply_all(vec![Change::MergePatch("{}".into())])
                .is_err()
        );
        assert!(view.apply_all(vec![Change::SetTopic("".into())]).is_err());
        assert!(!view.is_changed());
    }
}
