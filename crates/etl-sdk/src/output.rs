//! What a module wants changed. Nothing is applied here: the changes travel to the host in the order in which they were made.

use std::borrow::Cow;
use std::io;

use etl_abi::response::{Data, ResponseWriter};
use serde::Serialize;

use crate::{Error, Result};

/// Collects what is to happen to the record in hand. A record that nothing is said about goes on as it is.
#[derive(Debug, Default)]
pub struct Output {
    writer: ResponseWriter,
    dropped: bool,
    timestamp: Option<i64>,
}

impl Output {
    pub(crate) const fn new() -> Self {
        Self {
            writer: ResponseWriter::new(),
            dropped: false,
            timestamp: None,
        }
    }

    pub(crate) fn begin(&mut self, records: usize) {
        self.writer.begin(records);
    }

    /// Runs the transform of one record and closes its verdict.
    pub(crate) fn record(
        &mut self,
        timestamp: Option<i64>,
        transform: impl FnOnce(&mut Self) -> Result<()>,
    ) {
        (self.dropped, self.timestamp) = (false, timestamp);
        match transform(self) {
            Err(error) => {
                let (code, message, retryable) = error.parts();
                self.writer.fail(code, message, retryable);
            }
            Ok(()) if self.dropped => self.writer.drop_record(),
            Ok(()) => self.writer.end_record(),
        }
    }

    pub(crate) fn finish(&mut self) -> core::result::Result<Option<&[u8]>, etl_abi::EncodeError> {
        self.writer.finish()
    }

    /// Replaces the value.
    pub fn set_value(&mut self, value: impl AsRef<[u8]>) {
        self.writer.set_value(value.as_ref());
    }

    /// Replaces the value by this, written as compact JSON.
    ///
    /// # Errors
    /// Where it has no JSON form, such as a map whose keys are not text. Nothing changes then.
    pub fn set_json(&mut self, value: &impl Serialize) -> Result<()> {
        self.writer.set_value_with(|data| write_json(data, value))
    }

    /// Applies a JSON merge patch (RFC 7396) to the value: fields are added and replaced, and those that are `null` go away. The
    /// rest of the value stays as it was, so the patch is all that crosses to the host.
    ///
    /// # Errors
    /// Where it has no JSON form. Nothing changes then.
    pub fn merge_patch(&mut self, patch: &impl Serialize) -> Result<()> {
        self.writer.merge_patch_with(|data| write_json(data, patch))
    }

    /// Replaces the key.
    pub fn set_key(&mut self, key: impl AsRef<[u8]>) {
        self.writer.set_key(key.as_ref());
    }

    /// Takes the key away.
    pub fn clear_key(&mut self) {
        self.writer.clear_key();
    }

    /// Sends the record on to another topic.
    pub fn set_topic(&mut self, topic: &str) {
        self.writer.set_topic(topic);
    }

    /// Appends a header; one of the same name may be there already.
    pub fn add_header(&mut self, name: &str, value: impl AsRef<[u8]>) {
        self.writer.add_header(name, value.as_ref());
    }

    /// Replaces every header of that name by this one, where the first of them stands, or at the end.
    pub fn set_header(&mut self, name: &str, value: impl AsRef<[u8]>) {
        self.writer.set_header(name, value.as_ref());
    }

    /// Takes every header of that name away.
    pub fn remove_header(&mut self, name: &str) {
        self.writer.remove_header(name);
    }

    /// Replaces the timestamp, Unix milliseconds.
    pub fn set_timestamp(&mut self, timestamp: i64) {
        self.writer.set_timestamp(timestamp);
    }

    /// Takes the timestamp away.
    pub fn clear_timestamp(&mut self) {
        self.writer.clear_timestamp();
    }

    /// Emits another record behind this one.
    pub fn emit(&mut self, record: NewRecord<'_>) {
        self.writer.emit(&etl_abi::NewRecord {
            topic: record.topic,
            key: record.key,
            value: &record.value,
            timestamp: record.timestamp.or(self.timestamp),
            headers: &record.headers,
            ..etl_abi::NewRecord::default()
        });
    }

    /// The record ends here. Whatever else was said about it, emitted records included, is forgotten.
    pub fn drop_record(&mut self) {
        self.dropped = true;
    }
}

/// A record to [`emit`](Output::emit). Where nothing else is said, it has the topic and the timestamp of the record that it comes from, no
/// key and no headers.
///
/// ```
/// use etl_sdk::NewRecord;
///
/// let alert = NewRecord::json(&serde_json::json!({ "hot": true }))?.topic("alerts").header("reason", "heat");
/// # Ok::<(), etl_sdk::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct NewRecord<'a> {
    topic: &'a str,
    key: Option<&'a [u8]>,
    value: Cow<'a, [u8]>,
    timestamp: Option<i64>,
    headers: Vec<(&'a str, &'a [u8])>,
}

impl<'a> NewRecord<'a> {
    /// A record of this value.
    #[must_use]
    pub fn new(value: &'a (impl AsRef<[u8]> + ?Sized)) -> Self {
        Self::of(Cow::Borrowed(value.as_ref()))
    }

    /// A record of this value, written as compact JSON.
    ///
    /// # Errors
    /// Where it has no JSON form.
    pub fn json(value: &impl Serialize) -> Result<Self> {
        Ok(Self::of(Cow::Owned(serde_json::to_vec(value)?)))
    }

    fn of(value: Cow<'a, [u8]>) -> Self {
        Self {
            topic: "",
            key: None,
            value,
            timestamp: None,
            headers: Vec::new(),
        }
    }

    /// On this topic.
    #[must_use]
    pub fn topic(mut self, topic: &'a str) -> Self {
        self.topic = topic;
        self
    }

    /// With this key.
    #[must_use]
    pub fn key(mut self, key: &'a (impl AsRef<[u8]> + ?Sized)) -> Self {
        self.key = Some(key.as_ref());
        self
    }

    /// With this timestamp, Unix milliseconds.
    #[must_use]
    pub fn timestamp(mut self, timestamp: i64) -> Self {
        self.timestamp = Some(timestamp);
        self
    }

    /// With one more header.
    #[must_use]
    pub fn header(mut self, name: &'a str, value: &'a (impl AsRef<[u8]> + ?Sized)) -> Self {
        self.headers.push((name, value.as_ref()));
        self
    }
}

/// JSON straight into the frame.
fn write_json(data: &mut Data<'_>, value: &impl Serialize) -> Result<()> {
    struct Sink<'a, 'b>(&'a mut Data<'b>);

    impl io::Write for Sink<'_, '_> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
            self.0.extend_from_slice(bytes);
            Ok(())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    serde_json::to_writer(Sink(data), value).map_err(Error::from)
}
