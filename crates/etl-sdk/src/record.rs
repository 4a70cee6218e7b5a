//! The record as a module sees it: borrowed from the frame, nothing copied.

use etl_abi::{Headers, RecordRef};
use serde::Deserialize;

use crate::{Error, Result};

/// The record in hand. Everything borrows from the host's frame for the time of the call.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a>(RecordRef<'a>);

impl<'a> Record<'a> {
    pub(crate) fn new(record: RecordRef<'a>) -> Self {
        Self(record)
    }

    /// The topic.
    #[must_use]
    pub fn topic(&self) -> &'a str {
        self.0.topic()
    }

    /// The partition.
    #[must_use]
    pub fn partition(&self) -> u32 {
        self.0.partition()
    }

    /// The offset in the partition.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.0.offset()
    }

    /// The key, if there is one.
    #[must_use]
    pub fn key(&self) -> Option<&'a [u8]> {
        self.0.key()
    }

    /// The value.
    #[must_use]
    pub fn value(&self) -> &'a [u8] {
        self.0.value()
    }

    /// The value as text.
    ///
    /// # Errors
    /// A permanent error where the value is not UTF-8.
    pub fn text(&self) -> Result<&'a str> {
        core::str::from_utf8(self.value())
            .map_err(|error| Error::permanent(format!("the value is not UTF-8: {error}")))
    }

    /// The value, read as JSON. The type may borrow from the record.
    ///
    /// # Errors
    /// A permanent error that says what is wrong and where.
    pub fn json<T: Deserialize<'a>>(&self) -> Result<T> {
        // Checked once for all of it: a reader of bytes checks string by string, which takes longer.
        let text = core::str::from_utf8(self.value())
            .map_err(|error| Error::permanent(format!("the value is not JSON: {error}")))?;
        serde_json::from_str(text).map_err(|error| {
            let problem = if error.is_data() {
                "the value does not fit"
            } else {
                "the value is not JSON"
            };
            Error::permanent(format!("{problem}: {error}"))
        })
    }

    /// The value, which must be a JSON object, read as JSON: what a module asks for before it adds to the object with
    /// [`merge_patch`](crate::Output::merge_patch), which would replace anything else. (Serde would read a struct from a list too.)
    ///
    /// # Errors
    /// A permanent error that says what is wrong and where.
    pub fn json_object<T: Deserialize<'a>>(&self) -> Result<T> {
        match self.value().trim_ascii_start() {
            [b'{', ..] => self.json(),
            _ => {
                // Whatever is wrong as JSON is said first.
                self.json::<serde::de::IgnoredAny>()?;
                Err(Error::permanent("the value is not a JSON object"))
            }
        }
    }

    /// The first header of that name, if it is UTF-8.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&'a str> {
        self.header_bytes(name)
            .and_then(|value| core::str::from_utf8(value).ok())
    }

    /// The first header of that name.
    #[must_use]
    pub fn header_bytes(&self, name: &str) -> Option<&'a [u8]> {
        self.headers()
            .iter()
            .find_map(|(found, value)| (found == name).then_some(value))
    }

    /// All headers in order; names may repeat.
    #[must_use]
    pub fn headers(&self) -> Headers<'a> {
        self.0.headers()
    }

    /// Unix time in milliseconds, if known.
    #[must_use]
    pub fn timestamp(&self) -> Option<i64> {
        self.0.timestamp()
    }
}
