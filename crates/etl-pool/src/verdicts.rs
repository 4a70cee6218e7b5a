//! What a call decided about each of its records.
//!
//! One frame that served all records is the common case and costs one allocation, for its bytes. Where a batch had to be taken
//! apart, or a module speaks the legacy ABI, there are several parts, found by the index of the record.

use bytes::Bytes;
use etl_abi::Verdict;
use etl_abi::response::ResponseReader;

use crate::error::CallError;

/// One verdict or error for each record of a call, in order.
#[derive(Debug)]
pub struct Verdicts {
    len: usize,
    parts: Parts,
}

#[derive(Debug)]
enum Parts {
    One(Answer),
    /// The index of the first record of each part, and its answer; in order, without gaps.
    Many(Vec<(usize, Answer)>),
}

/// What a guest said about a run of records.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// All are kept.
    Keep,
    /// A frame that has been checked.
    Frame(Frame),
    /// The new value of one record.
    Value(Bytes),
    /// None of them could be served, for this reason.
    Failed(CallError),
}

/// A frame that has been checked, from one of its records on.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    bytes: Bytes,
    records: usize,
    first: usize,
}

impl Frame {
    /// A frame that [`ResponseReader::parse`] has accepted for so many records.
    pub(crate) fn checked(bytes: Bytes, records: usize) -> Self {
        Self {
            bytes,
            records,
            first: 0,
        }
    }
}

impl Answer {
    /// Bytes that keeping it keeps, besides itself.
    pub(crate) fn bytes(&self) -> usize {
        self.buffer().map_or(0, Bytes::len)
    }

    /// The answer to one record alone, of those that this one is about.
    fn at(&self, index: usize) -> Self {
        match self {
            Self::Frame(frame) => Self::Frame(Frame {
                first: frame.first + index,
                ..frame.clone()
            }),
            other => other.clone(),
        }
    }

    pub(crate) fn get(&self, index: usize) -> Result<Verdict<'_>, &CallError> {
        match self {
            Self::Keep => Ok(Verdict::Keep),
            Self::Frame(frame) => {
                let reader = ResponseReader::assume_valid(&frame.bytes, frame.records);
                Ok(reader.verdict(frame.first + index))
            }
            Self::Value(value) => Ok(Verdict::SetValue(value)),
            Self::Failed(error) => Err(error),
        }
    }

    fn buffer(&self) -> Option<&Bytes> {
        match self {
            Self::Frame(Frame { bytes, .. }) | Self::Value(bytes) => Some(bytes),
            Self::Keep | Self::Failed(_) => None,
        }
    }
}

impl Verdicts {
    pub(crate) fn one(len: usize, answer: Answer) -> Self {
        Self {
            len,
            parts: Parts::One(answer),
        }
    }

    pub(crate) fn many(len: usize, parts: Vec<(usize, Answer)>) -> Self {
        Self {
            len,
            parts: Parts::Many(parts),
        }
    }

    /// How many records were called for.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there were none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// What happened to one record; [`Verdict::Keep`] beyond the last.
    ///
    /// # Errors
    /// Why the record could not be served. A failure that the guest reported for a record is a verdict, not an error.
    #[inline]
    pub fn get(&self, index: usize) -> Result<Verdict<'_>, &CallError> {
        match &self.parts {
            Parts::One(answer) => answer.get(index),
            Parts::Many(parts) => {
                let part = parts.partition_point(|&(start, _)| start <= index);
                match part.checked_sub(1).and_then(|part| parts.get(part)) {
                    Some((start, answer)) => answer.get(index - start),
                    None => Ok(Verdict::Keep),
                }
            }
        }
    }

    /// The new value, where the call was for one record and that is all that became of it. Costs nothing; other calls come back as they are.
    ///
    /// # Errors
    /// The verdicts themselves.
    #[inline]
    pub fn into_value(self) -> Result<Bytes, Self> {
        match self.parts {
            Parts::One(Answer::Value(value)) if self.len == 1 => Ok(value),
            parts => Err(Self { parts, ..self }),
        }
    }

    /// The answer to one record, to be kept for itself.
    pub(crate) fn answer(&self, index: usize) -> Answer {
        match &self.parts {
            Parts::One(answer) => answer.at(index),
            Parts::Many(parts) => {
                let part = parts.partition_point(|&(start, _)| start <= index);
                match part.checked_sub(1).and_then(|part| parts.get(part)) {
                    Some((start, answer)) => answer.at(index - start),
                    None => Answer::Keep,
                }
            }
        }
    }

    /// A slice that a verdict lent, as bytes that outlive it: without copying.
    ///
    /// A slice that is not part of any verdict here is copied.
    // Inlined, what it makes is moved once more before it reaches its place, which takes longer than the call.
    #[inline(never)]
    pub fn bytes(&self, slice: &[u8]) -> Bytes {
        if slice.is_empty() {
            return Bytes::new();
        }
        let holds = |buffer: &Bytes| {
            let (buffer, slice) = (buffer.as_ptr_range(), slice.as_ptr_range());
            buffer.start <= slice.start && slice.end <= buffer.end
        };
        let buffer = match &self.parts {
            Parts::One(answer) => answer.buffer().filter(|buffer| holds(buffer)),
            Parts::Many(parts) => parts
                .iter()
                .filter_map(|(_, answer)| answer.buffer())
                .find(|buffer| holds(buffer)),
        };
        buffer.map_or_else(
            || Bytes::copy_from_slice(slice),
            |buffer| buffer.slice_ref(slice),
        )
    }
}
