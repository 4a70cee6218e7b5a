//! A record: what goes in, and what comes out.
//!
//! Records are immutable and shared behind an [`Arc`]. Topics, header names and header lists are shared too, so a record that is made
//! from another one (a module changed its value, say) costs one allocation and a few reference counts, never a copy of its bytes.

use std::sync::Arc;

use bytes::Bytes;
use etl_abi::RecordFields;
use smallvec::SmallVec;

/// One record of a broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition of the topic.
    pub partition: u32,
    /// The offset in the partition.
    pub offset: u64,
    /// The key, if there is one (an empty key is a key).
    pub key: Option<Bytes>,
    /// The value.
    pub value: Bytes,
    /// The headers, in order; names may repeat.
    pub headers: Headers,
    /// Unix time in milliseconds, if known.
    pub timestamp: Option<i64>,
}

impl Record {
    /// A record with nothing but a topic and a value.
    ///
    /// ```
    /// use etl_orchestrator::Record;
    ///
    /// let record = Record::new("iot.sensors.temperature", r#"{"celsius":21.5}"#);
    /// assert_eq!(record.key, None);
    /// ```
    pub fn new(topic: impl Into<Arc<str>>, value: impl Into<Bytes>) -> Self {
        Self {
            topic: topic.into(),
            partition: 0,
            offset: 0,
            key: None,
            value: value.into(),
            headers: Headers::new(),
            timestamp: None,
        }
    }

    /// The same record with another value.
    #[inline]
    pub(crate) fn with_value(&self, value: Bytes) -> Self {
        Self {
            topic: self.topic.clone(),
            partition: self.partition,
            offset: self.offset,
            key: self.key.clone(),
            value,
            headers: self.headers.clone(),
            timestamp: self.timestamp,
        }
    }

    /// What the record weighs against a limit in bytes: topic, key, value and headers.
    #[must_use]
    pub fn weight(&self) -> usize {
        let headers: usize = self
            .headers
            .iter()
            .map(|(name, value)| name.len() + value.len())
            .sum();
        self.topic.len() + self.key.as_ref().map_or(0, Bytes::len) + self.value.len() + headers
    }
}

impl RecordFields for Record {
    fn topic(&self) -> &str {
        &self.topic
    }
    fn partition(&self) -> u32 {
        self.partition
    }
    fn offset(&self) -> u64 {
        self.offset
    }
    fn key(&self) -> Option<&[u8]> {
        self.key.as_deref()
    }
    fn value(&self) -> &[u8] {
        &self.value
    }
    fn timestamp(&self) -> Option<i64> {
        self.timestamp
    }
    fn header_count(&self) -> usize {
        self.headers.len()
    }
    fn header(&self, index: usize) -> (&str, &[u8]) {
        self.headers.get(index).unwrap_or_default()
    }
}

/// The headers of a record: an ordered list of names and values, in which names may repeat.
///
/// Cloning shares the list; changing it copies it first if it is shared.
///
/// ```
/// use etl_orchestrator::Headers;
///
/// let mut headers = Headers::from_iter([("trace", "a"), ("trace", "b")]);
/// let shared = headers.clone();
/// headers.set("trace".into(), "c".into());
/// assert_eq!(headers.first("trace"), Some(b"c".as_slice()));
/// assert_eq!(shared.len(), 2);
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers {
    /// `None` is the empty list, so that most records allocate nothing for it, and a short one is a single allocation.
    list: Option<Arc<List>>,
}

/// Name and value.
type Header = (Arc<str>, Bytes);

type List = SmallVec<[Header; 4]>;

impl Headers {
    /// No headers.
    #[must_use]
    pub const fn new() -> Self {
        Self { list: None }
    }

    fn as_slice(&self) -> &[Header] {
        self.list.as_ref().map_or(&[], |list| list)
    }

    fn make_mut(&mut self) -> &mut List {
        let list = self.list.get_or_insert_default();
        if Arc::get_mut(list).is_none() {
            // With room for what is about to come.
            let mut copy = List::with_capacity(list.len() + 2);
            copy.extend(list.iter().cloned());
            *list = Arc::new(copy);
        }
        Arc::make_mut(list)
    }

    fn normalise(&mut self) {
        if self.list.as_ref().is_some_and(|list| list.is_empty()) {
            self.list = None;
        }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.as_slice().len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_none()
    }

    /// Name and value of the one at `index`.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<(&str, &[u8])> {
        self.as_slice()
            .get(index)
            .map(|(name, value)| (&**name, &**value))
    }

    /// The value of the first one of this name.
    #[must_use]
    pub fn first(&self, name: &str) -> Option<&[u8]> {
        let mut list = self.as_slice().iter();
        list.find(|(other, _)| **other == *name)
            .map(|(_, value)| &**value)
    }

    /// The values of this name, in order.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Bytes> {
        self.as_slice()
            .iter()
            .filter(move |(other, _)| **other == *name)
            .map(|(_, value)| value)
    }

    /// Names and values, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&Arc<str>, &Bytes)> + DoubleEndedIterator {
        self.as_slice().iter().map(|(name, value)| (name, value))
    }

    /// Appends one.
    pub fn add(&mut self, name: Arc<str>, value: Bytes) {
        self.make_mut().push((name, value));
    }

    /// Makes `value` the only one of its name: in the place of the first one, or at the end where there is none.
    /// Answers whether that changed anything.
    pub fn set(&mut self, name: Arc<str>, value: Bytes) -> bool {
        self.replace(&name, &[value])
    }

    /// Removes all of this name. Answers whether there were any.
    pub fn remove(&mut self, name: &str) -> bool {
        if self.all(name).next().is_none() {
            return false;
        }
        self.make_mut().retain(|(other, _)| **other != *name);
        self.normalise();
        true
    }

    /// Makes `values` the only ones of this name, where the first one stands, or at the end. Answers whether that changed anything.
    pub(crate) fn replace(&mut self, name: &Arc<str>, values: &[Bytes]) -> bool {
        if self.all(name).eq(values) {
            return false;
        }
        let list = self.make_mut();
        let place = list
            .iter()
            .position(|(other, _)| other == name)
            .unwrap_or(list.len());
        list.retain(|(other, _)| other != name);
        list.insert_many(
            place,
            values.iter().map(|value| (name.clone(), value.clone())),
        );
        self.normalise();
        true
    }
}

impl std::fmt::Debug for Headers {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_list().entries(self.iter()).finish()
    }
}

impl<N: Into<Arc<str>>, V: Into<Bytes>> FromIterator<(N, V)> for Headers {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(headers: I) -> Self {
        let list: List = headers
            .into_iter()
            .map(|(name, value)| (name.into(), value.into()))
            .collect();
        Self {
            list: (!list.is_empty()).then(|| Arc::new(list)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(headers: &Headers) -> Vec<(String, String)> {
        headers
            .iter()
            .map(|(name, value)| {
                (
                    name.to_string(),
                    String::from_utf8_lossy(value).into_owned(),
                )
            })
            .collect()
    }

    fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
        expected
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn set_takes_the_place_of_the_first() {
        let mut headers = Headers::from_iter([("a", "1"), ("b", "2"), ("a", "3"), ("c", "4")]);
        assert!(headers.set("a".into(), "9".into()));
        assert_eq!(
            listed(&headers),
            pairs(&[("a", "9"), ("b", "2"), ("c", "4")])
        );
        assert!(headers.set("d".into(), "5".into()));
        assert_eq!(
            listed(&headers),
            pairs(&[("a", "9"), ("b", "2"), ("c", "4"), ("d", "5")])
        );
    }

    #[test]
    fn what_changes_nothing_says_so_and_copies_nothing() {
        let mut headers = Headers::from_iter([("a", "1")]);
        let shared = headers.clone();
        assert!(!headers.set("a".into(), "1".into()));
        assert!(!headers.remove("b"));
        assert_eq!(headers, shared);
        assert!(Arc::ptr_eq(
            headers.list.as_ref().expect("a list"),
            shared.list.as_ref().expect("a list")
        ));
    }

    #[test]
    fn removing_the_last_leaves_the_empty_list() {
        let mut headers = Headers::from_iter([("a", "1"), ("a", "2")]);
        assert!(headers.remove("a"));
        assert_eq!(headers, Headers::new());
        assert!(headers.is_empty());
    }
}
