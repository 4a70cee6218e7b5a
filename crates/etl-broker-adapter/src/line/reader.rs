//! Lines from a byte stream, each a slice of the buffer it was read into, none longer than a limit.
//!
//! A line over the limit is skipped as it streams by: its beginning is kept for the report, the rest is only
//! counted. Memory is bounded by the limit whatever the input does.

use std::io::{self, Read};

use bytes::{Bytes, BytesMut};

/// Bytes asked for in one read.
const CHUNK: usize = 256 * 1024;

/// How much of a line over the limit is kept.
const KEPT: usize = 4 * 1024;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// One line of the input, without its line break.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// A line within the limit.
    Whole {
        /// Counted from 1.
        number: u64,
        /// The line; a slice of the read buffer.
        bytes: Bytes,
    },
    /// A line over the limit.
    TooLong {
        /// Counted from 1.
        number: u64,
        /// The first 4 KiB of it.
        beginning: Bytes,
        /// Its length in bytes.
        length: u64,
    },
}

/// Splits a byte stream into lines.
pub struct LineReader<R> {
    input: R,
    buffer: BytesMut,
    /// How much of `buffer` is known to hold no line break.
    searched: usize,
    max_line_bytes: usize,
    lines: u64,
    bytes_read: u64,
    /// The beginning of the line that is being skipped, and how much of it has gone by.
    skipping: Option<(BytesMut, u64)>,
    ended: bool,
}

impl<R: Read> LineReader<R> {
    /// Lines of at most `max_line_bytes`, the line break not counted.
    pub fn new(input: R, max_line_bytes: usize) -> Self {
        Self {
            input,
            buffer: BytesMut::new(),
            searched: 0,
            max_line_bytes,
            lines: 0,
            bytes_read: 0,
            skipping: None,
            ended: false,
        }
    }

    /// The input begins after so many lines: the next one has the number after them.
    #[must_use]
    pub fn after(mut self, lines: u64) -> Self {
        self.lines = lines;
        self
    }

    /// Bytes of the input that the lines so far were made of.
    pub fn bytes_taken(&self) -> u64 {
        self.bytes_read - self.buffer.len() as u64
    }

    /// The longest line that is taken, in bytes.
    pub fn max_line_bytes(&self) -> usize {
        self.max_line_bytes
    }

    /// Bytes taken from the input so far.
    pub fn bytes_read(&self) -> u64 {
        self.bytes_read
    }

    /// Whether everything has been read and handed out.
    pub fn is_at_end(&self) -> bool {
        self.ended && self.buffer.is_empty() && self.skipping.is_none()
    }

    /// The next line that is already in memory. `None`: call [`fill`](Self::fill), which may block, unless
    /// [`is_at_end`](Self::is_at_end).
    pub fn buffered(&mut self) -> Option<Line> {
        let found = memchr::memchr(b'\n', &self.buffer[self.searched..]);
        let Some(length) = found.map(|position| self.searched + position) else {
            self.searched = self.buffer.len();
            // What `line` takes off a line is allowed for, so that it alone says where the limit is.
            if self.searched > self.max_line_bytes + BYTE_ORDER_MARK.len() + 1
                || self.skipping.is_some()
            {
                self.skip_buffer();
            }
            return if self.ended { self.last_line() } else { None };
        };
        let mut line = self.buffer.split_to(length + 1).freeze();
        line.truncate(length);
        self.searched = 0;
        Some(self.line(line))
    }

    /// Reads once from the input.
    ///
    /// # Errors
    ///
    /// What the input reports, but for an interruption by a signal, which is tried again.
    pub fn fill(&mut self) -> io::Result<()> {
        let held = self.buffer.len();
        if self.buffer.capacity() - held < CHUNK / 8 {
            self.buffer.reserve(CHUNK);
        }
        self.buffer.resize(self.buffer.capacity(), 0);
        let read = loop {
            match self.input.read(&mut self.buffer[held..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => break result,
            }
        };
        self.buffer
            .truncate(held + read.as_ref().copied().unwrap_or(0));
        let read = read?;
        self.ended = read == 0;
        self.bytes_read += read as u64;
        Ok(())
    }

    fn skip_buffer(&mut self) {
        let mut bytes = std::mem::take(&mut self.buffer);
        self.skip(&bytes);
        bytes.clear();
        self.buffer = bytes;
        self.searched = 0;
    }

    fn skip(&mut self, bytes: &[u8]) {
        let (beginning, length) = self.skipping.get_or_insert_default();
        let kept = bytes.len().min(KEPT - beginning.len());
        beginning.extend_from_slice(&bytes[..kept]);
        *length += bytes.len() as u64;
    }

    fn last_line(&mut self) -> Option<Line> {
        if self.is_at_end() {
            return None;
        }
        let line = self.buffer.split().freeze();
        self.searched = 0;
        Some(self.line(line))
    }

    /// `bytes` is the line, or what is left of one that is being skipped.
    fn line(&mut self, raw: Bytes) -> Line {
        self.lines += 1;
        let number = self.lines;
        if self.skipping.is_some() {
            self.skip(&raw);
        }
        if let Some((beginning, length)) = self.skipping.take() {
            let beginning = beginning.freeze();
            return Line::TooLong {
                number,
                beginning,
                length,
            };
        }
        let mut bytes = raw.clone();
        if number == 1 && bytes.starts_with(BYTE_ORDER_MARK) {
            // How some editors begin a UTF-8 file; it is not part of the first line.
            bytes = bytes.slice(BYTE_ORDER_MARK.len()..);
        }
        if bytes.ends_with(b"\r") {
            bytes.truncate(bytes.len() - 1);
        }
        if bytes.len() > self.max_line_bytes {
            return Line::TooLong {
                number,
                beginning: Bytes::copy_from_slice(&raw[..KEPT.min(raw.len())]),
                length: raw.len() as u64,
            };
        }
        Line::Whole { number, bytes }
    }
}
