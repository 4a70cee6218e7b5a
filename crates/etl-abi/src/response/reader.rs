//! The host's side of a response: everything is checked up front, because every byte of it comes from a guest.

use super::{MAGIC, OP_ENTRY, VERDICT_ENTRY, op, verdict};
use crate::error::{DecodeError, DecodeErrorKind};
use crate::record::{ENTRY, RecordRef};
use crate::region::{HEADER, Regions, check_header, slice, table, u32_at, u64_at};

/// What a module decided about one record.
#[derive(Clone, Copy, Debug)]
pub enum Verdict<'a> {
    /// The record goes on as it is.
    Keep,
    /// The record ends here.
    Drop,
    /// The module could not do its work.
    Fail(Failure<'a>),
    /// The value is replaced and nothing else changes: the short form of the commonest change.
    SetValue(&'a [u8]),
    /// Changes to be applied in order.
    Change(Ops<'a>),
}

/// Why a module failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure<'a> {
    /// The module's own number for it; 0 where it has none.
    pub code: u32,
    /// For people. Where the guest sent something that is not UTF-8, what comes before that.
    pub message: &'a str,
    /// Whether the module believes that the same record may succeed later.
    pub retryable: bool,
}

/// One change.
#[derive(Clone, Copy, Debug)]
pub enum Op<'a> {
    /// Replaces the value.
    SetValue(&'a [u8]),
    /// Applies a JSON merge patch (RFC 7396) to the value. That it is JSON is not checked here.
    MergePatch(&'a [u8]),
    /// Replaces the key.
    SetKey(&'a [u8]),
    /// Takes the key away.
    ClearKey,
    /// Replaces the topic.
    SetTopic(&'a str),
    /// Appends a header.
    AddHeader {
        /// Its name.
        name: &'a str,
        /// Its value.
        value: &'a [u8],
    },
    /// Replaces every header of that name by one, where the first of them stands, or at the end.
    SetHeader {
        /// Its name.
        name: &'a str,
        /// Its value.
        value: &'a [u8],
    },
    /// Takes every header of that name away.
    RemoveHeader {
        /// Its name.
        name: &'a str,
    },
    /// Replaces the timestamp, Unix milliseconds.
    SetTimestamp(i64),
    /// Takes the timestamp away.
    ClearTimestamp,
    /// Emits another record. An empty topic stands for the one that the record in hand goes on with; partition and offset mean nothing.
    Emit(RecordRef<'a>),
}

/// Changes in the order in which they are to be applied.
#[derive(Clone, Copy)]
pub struct Ops<'a> {
    frame: &'a [u8],
    table: &'a [[u8; OP_ENTRY]],
}

impl<'a> Ops<'a> {
    /// How many changes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// The changes in order.
    pub fn iter(self) -> impl Iterator<Item = Op<'a>> {
        // Every op was read once by `ResponseReader::parse`, so none is skipped here.
        self.table
            .iter()
            .filter_map(move |entry| read_op(&mut Regions::trusted(self.frame), entry).ok())
    }
}

impl core::fmt::Debug for Ops<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// Reads a response frame: the host's side.
#[derive(Clone, Copy, Debug)]
pub struct ResponseReader<'a> {
    frame: &'a [u8],
    table: &'a [[u8; VERDICT_ENTRY]],
}

impl<'a> ResponseReader<'a> {
    /// Checks everything in the frame, which must answer `records` records, in time proportional to its length.
    ///
    /// # Errors
    /// The first thing that is wrong, with its record and field.
    pub fn parse(frame: &'a [u8], records: usize) -> Result<Self, DecodeError> {
        let count = check_header(frame, MAGIC)?;
        if count != records {
            return Err(DecodeError::new(DecodeErrorKind::Count, "verdict_count"));
        }
        let (entries, _) = frame[HEADER..].as_chunks::<VERDICT_ENTRY>();
        let Some(table) = entries.get(..count) else {
            return Err(DecodeError::new(
                DecodeErrorKind::OutOfFrame,
                "verdict table",
            ));
        };
        let mut regions = Regions::budgeted(frame);
        regions.spend((HEADER + count * VERDICT_ENTRY) as u64, "verdict table")?;
        for (index, entry) in table.iter().enumerate() {
            if let Err(error) = check(&mut regions, entry) {
                return Err(error.at(index));
            }
        }
        Ok(Self { frame, table })
    }

    /// Reads a frame that [`ResponseReader::parse`] has accepted before, without checking it again: for whoever keeps the bytes
    /// and not the reader. On any other bytes the answers mean nothing (missing verdicts read as [`Verdict::Keep`]), but nothing panics.
    #[must_use]
    pub fn assume_valid(frame: &'a [u8], records: usize) -> Self {
        let (entries, _) = frame
            .get(HEADER..)
            .unwrap_or_default()
            .as_chunks::<VERDICT_ENTRY>();
        Self {
            frame,
            table: entries.get(..records).unwrap_or(entries),
        }
    }

    /// How many verdicts there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// The verdict on record `index`; [`Verdict::Keep`] beyond the last.
    #[inline]
    #[must_use]
    pub fn verdict(&self, index: usize) -> Verdict<'a> {
        self.table
            .get(index)
            .map_or(Verdict::Keep, |entry| resolve(self.frame, entry))
    }

    /// The verdicts in the order of the records.
    pub fn iter(self) -> impl ExactSizeIterator<Item = Verdict<'a>> {
        self.table
            .iter()
            .map(move |entry| resolve(self.frame, entry))
    }
}

#[inline(always)]
fn kind_and_flags(entry: &[u8; VERDICT_ENTRY]) -> (u16, u16) {
    (
        u16::from_le_bytes([entry[0], entry[1]]),
        u16::from_le_bytes([entry[2], entry[3]]),
    )
}

#[inline(always)]
fn check(regions: &mut Regions<'_>, entry: &[u8; VERDICT_ENTRY]) -> Result<(), DecodeError> {
    let (kind, flags) = kind_and_flags(entry);
    let (offset, length) = (u32_at(entry, 8), u32_at(entry, 12));
    let known = if kind == verdict::FAIL {
        verdict::RETRYABLE
    } else {
        0
    };
    if flags & !known != 0 {
        return Err(DecodeError::new(DecodeErrorKind::Unknown, "verdict flags"));
    }
    match kind {
        verdict::KEEP | verdict::DROP => Ok(()),
        verdict::FAIL => regions.bytes(offset, length, "message").map(drop),
        verdict::SET_VALUE => regions.bytes(offset, length, "value").map(drop),
        verdict::CHANGE => {
            for op in regions.table(offset, length, "op table")? {
                read_op(regions, op)?;
            }
            Ok(())
        }
        _ => Err(DecodeError::new(DecodeErrorKind::Unknown, "verdict kind")),
    }
}

/// The verdict of a checked entry; on a checked frame the defaults are never taken.
#[inline(always)]
fn resolve<'a>(frame: &'a [u8], entry: &[u8; VERDICT_ENTRY]) -> Verdict<'a> {
    let (kind, flags) = kind_and_flags(entry);
    let (offset, length) = (u32_at(entry, 8), u32_at(entry, 12));
    match kind {
        verdict::DROP => Verdict::Drop,
        verdict::FAIL => Verdict::Fail(Failure {
            code: u32_at(entry, 4),
            message: valid_prefix(slice(frame, offset, length).unwrap_or_default()),
            retryable: flags & verdict::RETRYABLE != 0,
        }),
        verdict::SET_VALUE => Verdict::SetValue(slice(frame, offset, length).unwrap_or_default()),
        verdict::CHANGE => Verdict::Change(Ops {
            frame,
            table: table(frame, offset, length).unwrap_or_default(),
        }),
        _ => Verdict::Keep,
    }
}

fn valid_prefix(bytes: &[u8]) -> &str {
    bytes.utf8_chunks().next().map_or("", |chunk| chunk.valid())
}

fn read_op<'a>(regions: &mut Regions<'a>, entry: &[u8; OP_ENTRY]) -> Result<Op<'a>, DecodeError> {
    let (name_at, name_len) = (u32_at(entry, 4), u32_at(entry, 8));
    let (data_at, data_len) = (u32_at(entry, 12), u32_at(entry, 16));
    Ok(match u32_at(entry, 0) {
        op::SET_VALUE => Op::SetValue(regions.bytes(data_at, data_len, "value")?),
        op::MERGE_PATCH => Op::MergePatch(regions.bytes(data_at, data_len, "merge patch")?),
        op::SET_KEY => Op::SetKey(regions.bytes(data_at, data_len, "key")?),
        op::CLEAR_KEY => Op::ClearKey,
        op::SET_TOPIC => Op::SetTopic(regions.text(name_at, name_len, "topic")?),
        op::ADD_HEADER => Op::AddHeader {
            name: regions.text(name_at, name_len, "header name")?,
            value: regions.bytes(data_at, data_len, "header value")?,
        },
        op::SET_HEADER => Op::SetHeader {
            name: regions.text(name_at, name_len, "header name")?,
            value: regions.bytes(data_at, data_len, "header value")?,
        },
        op::REMOVE_HEADER => Op::RemoveHeader {
            name: regions.text(name_at, name_len, "header name")?,
        },
        op::SET_TIMESTAMP => Op::SetTimestamp(u64_at(entry, 12).cast_signed()),
        op::CLEAR_TIMESTAMP => Op::ClearTimestamp,
        op::EMIT => {
            let entry = match regions
                .bytes(data_at, data_len, "emitted record")?
                .as_array::<ENTRY>()
            {
                Some(entry) => entry,
                None => return Err(DecodeError::new(DecodeErrorKind::Length, "emitted record")),
            };
            let (topic_at, topic_len) = RecordRef::topic_region(entry);
            let topic = regions.text(topic_at, topic_len, "topic")?;
            Op::Emit(RecordRef::read(regions, entry, topic)?)
        }
        _ => return Err(DecodeError::new(DecodeErrorKind::Unknown, "op kind")),
    })
}
