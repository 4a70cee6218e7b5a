//! The request frame: N records, host to guest.
//!
//! Written in two passes without allocation: [`encoded_len`] says how much room to ask the guest for, [`encode`] writes straight
//! into it. Consecutive records of one topic share the topic's bytes.

use crate::error::{DecodeError, DecodeErrorKind, EncodeError};
use crate::record::{ENTRY, HAS_KEY, HAS_TIMESTAMP, HEADER_ENTRY, RecordFields, RecordRef, at};
use crate::region::{HEADER, Regions, check_header, put_header, put_u32, put_u64};

/// The first four bytes of a request frame.
pub const MAGIC: [u8; 4] = *b"ETLQ";

/// Bytes that [`encode`] will write for these records.
///
/// # Errors
/// [`EncodeError::TooLarge`] over 4 GiB − 1.
pub fn encoded_len<R: RecordFields>(records: &[R]) -> Result<usize, EncodeError> {
    let mut total =
        (HEADER as u64).saturating_add((records.len() as u64).saturating_mul(ENTRY as u64));
    let mut previous = None;
    for record in records {
        let topic = record.topic();
        if !previous.is_some_and(|previous| same(previous, topic)) {
            total = total.saturating_add(topic.len() as u64);
            previous = Some(topic);
        }
        let bytes = record.value().len() as u64 + record.key().map_or(0, |key| key.len() as u64);
        total = total.saturating_add(bytes);
        for index in 0..record.header_count() {
            let (name, value) = record.header(index);
            total =
                total.saturating_add(HEADER_ENTRY as u64 + name.len() as u64 + value.len() as u64);
        }
    }
    match u32::try_from(total) {
        Ok(total) => Ok(total as usize),
        Err(_) => Err(EncodeError::TooLarge),
    }
}

/// Whether two topics are the same. Records of one source mostly share the very text, which is quicker to see than that it is equal.
#[inline]
fn same(left: &str, right: &str) -> bool {
    core::ptr::eq(left, right) || left == right
}

/// Writes the frame of these records into `out` and answers its length; `out` may be longer.
///
/// # Errors
/// [`EncodeError::BufferTooSmall`] where `out` is shorter than [`encoded_len`]; what `out` then holds is not a frame.
pub fn encode<R: RecordFields>(records: &[R], out: &mut [u8]) -> Result<usize, EncodeError> {
    // Offsets are 32 bits: no frame reaches beyond, however long the buffer is.
    let room = out.len().min(u32::MAX as usize);
    let out = &mut out[..room];
    let (header, out) = out
        .split_first_chunk_mut::<HEADER>()
        .ok_or(EncodeError::BufferTooSmall)?;
    let table_len = records
        .len()
        .checked_mul(ENTRY)
        .ok_or(EncodeError::TooLarge)?;
    let (table, data) = out
        .split_at_mut_checked(table_len)
        .ok_or(EncodeError::BufferTooSmall)?;
    let (entries, _) = table.as_chunks_mut::<ENTRY>();

    let mut cursor = Cursor {
        data,
        position: HEADER + table_len,
    };
    let mut previous: Option<(&str, u32)> = None;
    for (record, entry) in records.iter().zip(entries) {
        let topic = record.topic();
        let topic_at = match previous {
            Some((previous, offset)) if same(previous, topic) => offset,
            _ => cursor.put(topic.as_bytes())?,
        };
        previous = Some((topic, topic_at));
        let value = record.value();
        let value_at = cursor.put(value)?;
        let (mut flags, mut key_at, mut key_len) = (0, 0, 0);
        if let Some(key) = record.key() {
            flags |= HAS_KEY;
            key_at = cursor.put(key)?;
            key_len = key.len();
        }
        let timestamp = record.timestamp();
        if timestamp.is_some() {
            flags |= HAS_TIMESTAMP;
        }
        let header_count = record.header_count();
        let headers_at = if header_count == 0 {
            0
        } else {
            put_headers(record, header_count, &mut cursor)?
        };

        put_u64(entry, at::OFFSET, record.offset());
        put_u64(entry, at::TIMESTAMP, timestamp.unwrap_or(0).cast_unsigned());
        put_u32(entry, at::PARTITION, record.partition());
        put_u32(entry, at::FLAGS, flags);
        put_u32(entry, at::TOPIC, topic_at);
        put_u32(entry, at::TOPIC + 4, topic.len() as u32);
        put_u32(entry, at::KEY, key_at);
        put_u32(entry, at::KEY + 4, key_len as u32);
        put_u32(entry, at::VALUE, value_at);
        put_u32(entry, at::VALUE + 4, value.len() as u32);
        put_u32(entry, at::HEADERS, headers_at);
        put_u32(entry, at::HEADERS + 4, header_count as u32);
    }
    let length = cursor.position;
    put_header(header, MAGIC, records.len() as u32, length as u32);
    Ok(length)
}

/// The header table, then names and values.
fn put_headers<R: RecordFields>(
    record: &R,
    count: usize,
    cursor: &mut Cursor<'_>,
) -> Result<u32, EncodeError> {
    let (table, table_at) = cursor.take(
        count
            .checked_mul(HEADER_ENTRY)
            .ok_or(EncodeError::TooLarge)?,
    )?;
    let (entries, _) = table.as_chunks_mut::<HEADER_ENTRY>();
    for (index, entry) in entries.iter_mut().enumerate() {
        let (name, value) = record.header(index);
        put_u32(entry, 0, cursor.put(name.as_bytes())?);
        put_u32(entry, 4, name.len() as u32);
        put_u32(entry, 8, cursor.put(value)?);
        put_u32(entry, 12, value.len() as u32);
    }
    Ok(table_at)
}

/// What is left of the frame, and where it starts. Never beyond `u32::MAX`, because [`encode`] cut the buffer there.
struct Cursor<'a> {
    data: &'a mut [u8],
    position: usize,
}

impl<'a> Cursor<'a> {
    #[inline(always)]
    fn take(&mut self, length: usize) -> Result<(&'a mut [u8], u32), EncodeError> {
        let at = self.position as u32;
        let data = core::mem::take(&mut self.data);
        let (taken, rest) = data
            .split_at_mut_checked(length)
            .ok_or(EncodeError::BufferTooSmall)?;
        self.data = rest;
        self.position += length;
        Ok((taken, at))
    }

    #[inline(always)]
    fn put(&mut self, bytes: &[u8]) -> Result<u32, EncodeError> {
        let (place, at) = self.take(bytes.len())?;
        place.copy_from_slice(bytes);
        Ok(at)
    }
}

/// Reads a request frame: the guest's side.
#[derive(Clone, Copy, Debug)]
pub struct RequestReader<'a> {
    frame: &'a [u8],
    table: &'a [[u8; ENTRY]],
}

impl<'a> RequestReader<'a> {
    /// Checks the frame header and that the record table fits; each record is checked when it is read.
    ///
    /// # Errors
    /// Anything wrong with the header or the extent of the table.
    pub fn parse(frame: &'a [u8]) -> Result<Self, DecodeError> {
        let count = check_header(frame, MAGIC)?;
        let (entries, _) = frame[HEADER..].as_chunks::<ENTRY>();
        match entries.get(..count) {
            Some(table) => Ok(Self { frame, table }),
            None => Err(DecodeError::new(
                DecodeErrorKind::OutOfFrame,
                "record table",
            )),
        }
    }

    /// How many records there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// One record, every part of it checked.
    ///
    /// # Errors
    /// A region outside the frame, an unknown flag, a name that is not UTF-8, or no such record.
    pub fn record(&self, index: usize) -> Result<RecordRef<'a>, DecodeError> {
        let entry = self
            .table
            .get(index)
            .ok_or(DecodeError::new(DecodeErrorKind::Count, "record index"))?;
        Records {
            reader: *self,
            next: index,
            topic: None,
        }
        .read(entry)
        .map_err(|error| error.at(index))
    }

    /// The records in order, each checked as it is reached.
    #[must_use]
    pub fn iter(&self) -> Records<'a> {
        Records {
            reader: *self,
            next: 0,
            topic: None,
        }
    }
}

/// The records of a request frame, in order.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    reader: RequestReader<'a>,
    next: usize,
    /// The last topic and its region: equal regions need no second look at the UTF-8.
    topic: Option<((u32, u32), &'a str)>,
}

impl<'a> Records<'a> {
    #[inline]
    fn read(&mut self, entry: &[u8; ENTRY]) -> Result<RecordRef<'a>, DecodeError> {
        let mut regions = Regions::trusted(self.reader.frame);
        let region = RecordRef::topic_region(entry);
        let topic = match self.topic {
            Some((same, topic)) if same == region => topic,
            _ => regions.text(region.0, region.1, "topic")?,
        };
        self.topic = Some((region, topic));
        RecordRef::read(&mut regions, entry, topic)
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<RecordRef<'a>, DecodeError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let entry = self.reader.table.get(self.next)?;
        let index = self.next;
        self.next += 1;
        Some(self.read(entry).map_err(|error| error.at(index)))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.reader.table.len() - self.next;
        (left, Some(left))
    }
}

impl ExactSizeIterator for Records<'_> {}
