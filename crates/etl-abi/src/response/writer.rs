//! The guest's side of a response: a frame is built in one buffer that is kept from call to call.
//!
//! The verdict table has its final size from the start and zeros mean "keep", so a record that nothing happens to costs nothing.
//! Bytes are appended as the module hands them over; the ops of a record gather in a side list and follow its bytes.

use alloc::vec::Vec;

use super::{MAGIC, OP_ENTRY, VERDICT_ENTRY, op, verdict};
use crate::error::EncodeError;
use crate::record::{ENTRY, HAS_KEY, HAS_TIMESTAMP, HEADER_ENTRY, RecordFields, at};
use crate::region::{HEADER, put_header, put_u32, put_u64};

/// Writes one response frame after the other into the same buffer.
///
/// Call [`begin`](Self::begin), then for every record any number of changes and one of [`end_record`](Self::end_record),
/// [`drop_record`](Self::drop_record) and [`fail`](Self::fail), then [`finish`](Self::finish).
#[derive(Debug, Default)]
pub struct ResponseWriter {
    frame: Vec<u8>,
    ops: Vec<[u8; OP_ENTRY]>,
    /// Records answered so far, of how many.
    next: usize,
    records: usize,
    /// Where the bytes of the record in hand start: undone by a drop or failure.
    start: usize,
    changed: bool,
}

impl ResponseWriter {
    /// A writer without a buffer yet.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            frame: Vec::new(),
            ops: Vec::new(),
            next: 0,
            records: 0,
            start: 0,
            changed: false,
        }
    }

    /// Starts a frame of `records` verdicts, each of them "keep" until it is said otherwise.
    pub fn begin(&mut self, records: usize) {
        self.frame.clear();
        self.frame.resize(HEADER + records * VERDICT_ENTRY, 0);
        self.ops.clear();
        (self.next, self.records, self.changed) = (0, records, false);
        self.start = self.frame.len();
    }

    /// Ends the record: kept if nothing changed, changed otherwise.
    pub fn end_record(&mut self) {
        match self.ops.as_slice() {
            [] => self.close(verdict::KEEP, 0, 0, 0, 0),
            [only] if only[0] as u32 == op::SET_VALUE => {
                let [.., a, b, c, d, e, f, g, h] = *only;
                let (offset, length) = (
                    u32::from_le_bytes([a, b, c, d]),
                    u32::from_le_bytes([e, f, g, h]),
                );
                self.close(verdict::SET_VALUE, 0, 0, offset, length);
            }
            _ => {
                let (offset, count) = (self.frame.len() as u32, self.ops.len() as u32);
                self.frame.extend_from_slice(self.ops.as_flattened());
                self.close(verdict::CHANGE, 0, 0, offset, count);
            }
        }
    }

    /// Ends the record: it is dropped, and changes made before are forgotten.
    pub fn drop_record(&mut self) {
        self.frame.truncate(self.start);
        self.close(verdict::DROP, 0, 0, 0, 0);
    }

    /// Ends the record: the module failed, and changes made before are forgotten.
    pub fn fail(&mut self, code: u32, message: &str, retryable: bool) {
        self.frame.truncate(self.start);
        let (offset, length) = self.append(message.as_bytes());
        let flags = if retryable { verdict::RETRYABLE } else { 0 };
        self.close(verdict::FAIL, flags, code, offset, length);
    }

    /// Replaces the value.
    pub fn set_value(&mut self, value: &[u8]) {
        self.op_data(op::SET_VALUE, value);
    }

    /// Replaces the value by what the closure writes, without a copy in between. Nothing changes where it fails.
    ///
    /// # Errors
    /// Those of the closure.
    pub fn set_value_with<E>(
        &mut self,
        write: impl FnOnce(&mut Data<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.op_with(op::SET_VALUE, write)
    }

    /// Applies a JSON merge patch (RFC 7396) to the value.
    pub fn merge_patch(&mut self, patch: &[u8]) {
        self.op_data(op::MERGE_PATCH, patch);
    }

    /// Applies the JSON merge patch that the closure writes. Nothing changes where it fails.
    ///
    /// # Errors
    /// Those of the closure.
    pub fn merge_patch_with<E>(
        &mut self,
        write: impl FnOnce(&mut Data<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.op_with(op::MERGE_PATCH, write)
    }

    /// Replaces the key.
    pub fn set_key(&mut self, key: &[u8]) {
        self.op_data(op::SET_KEY, key);
    }

    /// Takes the key away.
    pub fn clear_key(&mut self) {
        self.op(op::CLEAR_KEY, (0, 0), (0, 0));
    }

    /// Replaces the topic.
    pub fn set_topic(&mut self, topic: &str) {
        let name = self.append(topic.as_bytes());
        self.op(op::SET_TOPIC, name, (0, 0));
    }

    /// Appends a header.
    pub fn add_header(&mut self, name: &str, value: &[u8]) {
        let (name, value) = (self.append(name.as_bytes()), self.append(value));
        self.op(op::ADD_HEADER, name, value);
    }

    /// Replaces every header of that name by one.
    pub fn set_header(&mut self, name: &str, value: &[u8]) {
        let (name, value) = (self.append(name.as_bytes()), self.append(value));
        self.op(op::SET_HEADER, name, value);
    }

    /// Takes every header of that name away.
    pub fn remove_header(&mut self, name: &str) {
        let name = self.append(name.as_bytes());
        self.op(op::REMOVE_HEADER, name, (0, 0));
    }

    /// Replaces the timestamp, Unix milliseconds.
    pub fn set_timestamp(&mut self, timestamp: i64) {
        let bits = timestamp.cast_unsigned();
        self.op(
            op::SET_TIMESTAMP,
            (0, 0),
            (bits as u32, (bits >> 32) as u32),
        );
    }

    /// Takes the timestamp away.
    pub fn clear_timestamp(&mut self) {
        self.op(op::CLEAR_TIMESTAMP, (0, 0), (0, 0));
    }

    /// Emits another record. An empty topic stands for the topic of the record in hand; partition and offset are not written.
    pub fn emit<R: RecordFields>(&mut self, record: &R) {
        let mut entry = [0; ENTRY];
        let topic = self.append(record.topic().as_bytes());
        let value = self.append(record.value());
        let mut flags = 0;
        if let Some(key) = record.key() {
            flags |= HAS_KEY;
            put_region(&mut entry, at::KEY, self.append(key));
        }
        if let Some(timestamp) = record.timestamp() {
            flags |= HAS_TIMESTAMP;
            put_u64(&mut entry, at::TIMESTAMP, timestamp.cast_unsigned());
        }
        put_u32(&mut entry, at::FLAGS, flags);
        put_region(&mut entry, at::TOPIC, topic);
        put_region(&mut entry, at::VALUE, value);
        let count = record.header_count();
        if count > 0 {
            // The table first, so that it can be filled while names and values are appended behind it.
            let table_at = self.frame.len();
            self.frame.resize(table_at + count * HEADER_ENTRY, 0);
            for index in 0..count {
                let (name, value) = record.header(index);
                let (name, value) = (self.append(name.as_bytes()), self.append(value));
                let place = table_at + index * HEADER_ENTRY;
                if let Some(entry) = self.frame[place..].first_chunk_mut::<HEADER_ENTRY>() {
                    put_region(entry, 0, name);
                    put_region(entry, 8, value);
                }
            }
            put_region(&mut entry, at::HEADERS, (table_at as u32, count as u32));
        }
        let data = self.append(&entry);
        self.op(op::EMIT, (0, 0), data);
    }

    /// The frame, or `None` where every record is kept: then the guest answers 0 and no bytes cross at all.
    ///
    /// # Errors
    /// [`EncodeError::TooLarge`] over 4 GiB − 1, which a 32-bit guest cannot reach.
    pub fn finish(&mut self) -> Result<Option<&[u8]>, EncodeError> {
        if !self.changed {
            return Ok(None);
        }
        let length = u32::try_from(self.frame.len()).map_err(|_| EncodeError::TooLarge)?;
        if let Some(header) = self.frame.first_chunk_mut::<HEADER>() {
            put_header(header, MAGIC, self.records as u32, length);
        }
        Ok(Some(&self.frame))
    }

    /// Appends bytes and says where. Offsets beyond 32 bits wrap here and are refused by [`finish`](Self::finish).
    #[inline(always)]
    fn append(&mut self, bytes: &[u8]) -> (u32, u32) {
        let offset = self.frame.len() as u32;
        self.frame.extend_from_slice(bytes);
        (offset, bytes.len() as u32)
    }

    fn op_data(&mut self, kind: u32, data: &[u8]) {
        let data = self.append(data);
        self.op(kind, (0, 0), data);
    }

    fn op_with<E>(
        &mut self,
        kind: u32,
        write: impl FnOnce(&mut Data<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let start = self.frame.len();
        if let Err(error) = write(&mut Data(&mut self.frame)) {
            self.frame.truncate(start);
            return Err(error);
        }
        let length = self.frame.len() - start;
        self.op(kind, (0, 0), (start as u32, length as u32));
        Ok(())
    }

    #[inline(always)]
    fn op(&mut self, kind: u32, name: (u32, u32), data: (u32, u32)) {
        let mut entry = [0; OP_ENTRY];
        put_u32(&mut entry, 0, kind);
        put_region(&mut entry, 4, name);
        put_region(&mut entry, 12, data);
        self.ops.push(entry);
    }

    /// Writes the verdict of the record in hand and goes on to the next. More verdicts than were announced are ignored.
    #[inline]
    fn close(&mut self, kind: u16, flags: u16, word: u32, offset: u32, length: u32) {
        self.ops.clear();
        self.start = self.frame.len();
        if self.next == self.records {
            return;
        }
        let place = HEADER + self.next * VERDICT_ENTRY;
        self.next += 1;
        self.changed |= kind != verdict::KEEP;
        if let Some(entry) = self.frame[place..].first_chunk_mut::<VERDICT_ENTRY>() {
            put_u32(entry, 0, u32::from(kind) | u32::from(flags) << 16);
            put_u32(entry, 4, word);
            put_region(entry, 8, (offset, length));
        }
    }
}

#[inline(always)]
fn put_region<const N: usize>(entry: &mut [u8; N], at: usize, (offset, length): (u32, u32)) {
    put_u32(entry, at, offset);
    put_u32(entry, at + 4, length);
}

/// The end of the frame, to be written to: see [`ResponseWriter::set_value_with`].
#[derive(Debug)]
pub struct Data<'a>(&'a mut Vec<u8>);

impl Data<'_> {
    /// Appends bytes.
    #[inline]
    pub fn extend_from_slice(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }
}

impl core::fmt::Write for Data<'_> {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        self.extend_from_slice(text.as_bytes());
        Ok(())
    }
}
