//! One record in a frame: what a host must offer to write one, and what a reader sees.
//!
//! The same 56-byte entry describes a record of a request and a record that a module emits.

use crate::error::{DecodeError, DecodeErrorKind};
use crate::region::{Regions, slice, u32_at, u64_at};

pub(crate) const ENTRY: usize = 56;
pub(crate) const HEADER_ENTRY: usize = 16;

/// Where each field of the record entry starts.
pub(crate) mod at {
    pub(crate) const OFFSET: usize = 0;
    pub(crate) const TIMESTAMP: usize = 8;
    pub(crate) const PARTITION: usize = 16;
    pub(crate) const FLAGS: usize = 20;
    pub(crate) const TOPIC: usize = 24;
    pub(crate) const KEY: usize = 32;
    pub(crate) const VALUE: usize = 40;
    pub(crate) const HEADERS: usize = 48;
}

pub(crate) const HAS_KEY: u32 = 1;
pub(crate) const HAS_TIMESTAMP: u32 = 2;

/// What a record must offer to be put into a frame.
pub trait RecordFields {
    /// The topic.
    fn topic(&self) -> &str;
    /// The partition.
    fn partition(&self) -> u32;
    /// The offset in the partition.
    fn offset(&self) -> u64;
    /// The key, if there is one (an empty key is a key).
    fn key(&self) -> Option<&[u8]>;
    /// The value.
    fn value(&self) -> &[u8];
    /// Unix time in milliseconds, if known.
    fn timestamp(&self) -> Option<i64>;
    /// How many headers there are.
    fn header_count(&self) -> usize;
    /// Name and value of one header, `index < header_count()`.
    fn header(&self, index: usize) -> (&str, &[u8]);
}

impl<R: RecordFields + ?Sized> RecordFields for &R {
    #[inline]
    fn topic(&self) -> &str {
        (**self).topic()
    }
    #[inline]
    fn partition(&self) -> u32 {
        (**self).partition()
    }
    #[inline]
    fn offset(&self) -> u64 {
        (**self).offset()
    }
    #[inline]
    fn key(&self) -> Option<&[u8]> {
        (**self).key()
    }
    #[inline]
    fn value(&self) -> &[u8] {
        (**self).value()
    }
    #[inline]
    fn timestamp(&self) -> Option<i64> {
        (**self).timestamp()
    }
    #[inline]
    fn header_count(&self) -> usize {
        (**self).header_count()
    }
    #[inline]
    fn header(&self, index: usize) -> (&str, &[u8]) {
        (**self).header(index)
    }
}

/// A record made of borrowed parts: what a module emits, and what tests put into frames.
///
/// In an emitted record an empty topic stands for the one that the record in hand goes on with; partition and offset are not read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NewRecord<'a> {
    /// The topic.
    pub topic: &'a str,
    /// The partition.
    pub partition: u32,
    /// The offset in the partition.
    pub offset: u64,
    /// The key, if any.
    pub key: Option<&'a [u8]>,
    /// The value.
    pub value: &'a [u8],
    /// Unix time in milliseconds.
    pub timestamp: Option<i64>,
    /// Headers in order; names may repeat.
    pub headers: &'a [(&'a str, &'a [u8])],
}

impl RecordFields for NewRecord<'_> {
    fn topic(&self) -> &str {
        self.topic
    }
    fn partition(&self) -> u32 {
        self.partition
    }
    fn offset(&self) -> u64 {
        self.offset
    }
    fn key(&self) -> Option<&[u8]> {
        self.key
    }
    fn value(&self) -> &[u8] {
        self.value
    }
    fn timestamp(&self) -> Option<i64> {
        self.timestamp
    }
    fn header_count(&self) -> usize {
        self.headers.len()
    }
    fn header(&self, index: usize) -> (&str, &[u8]) {
        self.headers.get(index).copied().unwrap_or_default()
    }
}

/// A record read from a frame: every part borrows from the frame.
#[derive(Clone, Copy, Debug)]
pub struct RecordRef<'a> {
    topic: &'a str,
    key: Option<&'a [u8]>,
    value: &'a [u8],
    headers: Headers<'a>,
    offset: u64,
    timestamp: Option<i64>,
    partition: u32,
}

impl<'a> RecordRef<'a> {
    /// Reads everything but the topic, which consecutive records share and the caller has already read.
    #[inline]
    pub(crate) fn read(
        regions: &mut Regions<'a>,
        entry: &[u8; ENTRY],
        topic: &'a str,
    ) -> Result<Self, DecodeError> {
        let flags = u32_at(entry, at::FLAGS);
        if flags & !(HAS_KEY | HAS_TIMESTAMP) != 0 {
            return Err(DecodeError::new(DecodeErrorKind::Unknown, "record flags"));
        }
        let key = match flags & HAS_KEY {
            0 => None,
            _ => Some(regions.bytes(u32_at(entry, at::KEY), u32_at(entry, at::KEY + 4), "key")?),
        };
        let value = regions.bytes(
            u32_at(entry, at::VALUE),
            u32_at(entry, at::VALUE + 4),
            "value",
        )?;
        let headers = Headers::read(
            regions,
            u32_at(entry, at::HEADERS),
            u32_at(entry, at::HEADERS + 4),
        )?;
        let timestamp =
            (flags & HAS_TIMESTAMP != 0).then(|| u64_at(entry, at::TIMESTAMP).cast_signed());
        let (offset, partition) = (u64_at(entry, at::OFFSET), u32_at(entry, at::PARTITION));
        Ok(Self {
            topic,
            key,
            value,
            headers,
            offset,
            timestamp,
            partition,
        })
    }

    /// Offset and length of the topic.
    #[inline(always)]
    pub(crate) fn topic_region(entry: &[u8; ENTRY]) -> (u32, u32) {
        (u32_at(entry, at::TOPIC), u32_at(entry, at::TOPIC + 4))
    }

    /// The topic.
    #[must_use]
    pub fn topic(&self) -> &'a str {
        self.topic
    }

    /// The partition.
    #[must_use]
    pub fn partition(&self) -> u32 {
        self.partition
    }

    /// The offset in the partition.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The key, if there is one.
    #[must_use]
    pub fn key(&self) -> Option<&'a [u8]> {
        self.key
    }

    /// The value.
    #[must_use]
    pub fn value(&self) -> &'a [u8] {
        self.value
    }

    /// Unix time in milliseconds, if known.
    #[must_use]
    pub fn timestamp(&self) -> Option<i64> {
        self.timestamp
    }

    /// The headers, in order; names may repeat.
    #[must_use]
    pub fn headers(&self) -> Headers<'a> {
        self.headers
    }
}

impl RecordFields for RecordRef<'_> {
    fn topic(&self) -> &str {
        self.topic
    }
    fn partition(&self) -> u32 {
        self.partition
    }
    fn offset(&self) -> u64 {
        self.offset
    }
    fn key(&self) -> Option<&[u8]> {
        self.key
    }
    fn value(&self) -> &[u8] {
        self.value
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

/// The headers of a record, in order. Iterating and copying are cheap.
#[derive(Clone, Copy)]
pub struct Headers<'a> {
    frame: &'a [u8],
    table: &'a [[u8; HEADER_ENTRY]],
}

impl<'a> Headers<'a> {
    /// Checks every header once; afterwards the accessors cannot meet a bad one.
    #[inline]
    fn read(regions: &mut Regions<'a>, offset: u32, count: u32) -> Result<Self, DecodeError> {
        let frame = regions.frame;
        if count == 0 {
            return Ok(Self { frame, table: &[] });
        }
        let table = regions.table(offset, count, "header table")?;
        for entry in table {
            regions.text(u32_at(entry, 0), u32_at(entry, 4), "header name")?;
            regions.bytes(u32_at(entry, 8), u32_at(entry, 12), "header value")?;
        }
        Ok(Self { frame, table })
    }

    /// How many headers there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Name and value of one header.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<(&'a str, &'a [u8])> {
        self.table.get(index).map(|entry| self.resolve(entry))
    }

    /// Names and values in order.
    pub fn iter(self) -> impl ExactSizeIterator<Item = (&'a str, &'a [u8])> + DoubleEndedIterator {
        self.table.iter().map(move |entry| self.resolve(entry))
    }

    /// Checked by [`Headers::read`], so the defaults are never taken.
    fn resolve(self, entry: &[u8; HEADER_ENTRY]) -> (&'a str, &'a [u8]) {
        let name = slice(self.frame, u32_at(entry, 0), u32_at(entry, 4)).unwrap_or_default();
        let value = slice(self.frame, u32_at(entry, 8), u32_at(entry, 12)).unwrap_or_default();
        (core::str::from_utf8(name).unwrap_or_default(), value)
    }
}

impl core::fmt::Debug for Headers<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}
