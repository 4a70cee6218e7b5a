//! Numbers at fixed places, and regions of a frame: the only file that turns an offset into a slice.

use crate::error::{DecodeError, DecodeErrorKind};

/// Bytes of the header that every frame starts with.
pub(crate) const HEADER: usize = 16;

/// The `u32` at a constant place of a fixed-width entry; the bounds check folds away.
#[inline(always)]
pub(crate) fn u32_at<const N: usize>(entry: &[u8; N], at: usize) -> u32 {
    u32::from_le_bytes([entry[at], entry[at + 1], entry[at + 2], entry[at + 3]])
}

/// The `u64` at a constant place of a fixed-width entry.
#[inline(always)]
pub(crate) fn u64_at<const N: usize>(entry: &[u8; N], at: usize) -> u64 {
    u64::from(u32_at(entry, at)) | u64::from(u32_at(entry, at + 4)) << 32
}

/// Writes a `u32` at a constant place of a fixed-width entry.
#[inline(always)]
pub(crate) fn put_u32<const N: usize>(entry: &mut [u8; N], at: usize, number: u32) {
    entry[at..at + 4].copy_from_slice(&number.to_le_bytes());
}

/// Writes a `u64` at a constant place of a fixed-width entry.
#[inline(always)]
pub(crate) fn put_u64<const N: usize>(entry: &mut [u8; N], at: usize, number: u64) {
    entry[at..at + 8].copy_from_slice(&number.to_le_bytes());
}

/// `length` bytes at `offset`, if the frame has them. No sum can overflow, on 32-bit targets either.
#[inline(always)]
pub(crate) fn slice(frame: &[u8], offset: u32, length: u32) -> Option<&[u8]> {
    frame.get(offset as usize..)?.get(..length as usize)
}

/// The frame header: magic, version, flags (none yet), number of entries, length of the frame. Answers the number of entries.
pub(crate) fn check_header(frame: &[u8], magic: [u8; 4]) -> Result<usize, DecodeError> {
    let Some(header) = frame.first_chunk::<HEADER>() else {
        return Err(DecodeError::new(DecodeErrorKind::Length, "frame header"));
    };
    if header[..4] != magic {
        return Err(DecodeError::new(DecodeErrorKind::Magic, "magic"));
    }
    if header[4..6] != crate::VERSION.to_le_bytes() {
        return Err(DecodeError::new(DecodeErrorKind::Version, "version"));
    }
    if header[6..8] != [0, 0] {
        return Err(DecodeError::new(DecodeErrorKind::Unknown, "frame flags"));
    }
    if u32_at(header, 12) as usize != frame.len() {
        return Err(DecodeError::new(DecodeErrorKind::Length, "frame_length"));
    }
    Ok(u32_at(header, 8) as usize)
}

/// Writes the frame header.
pub(crate) fn put_header(header: &mut [u8; HEADER], magic: [u8; 4], count: u32, length: u32) {
    header[..4].copy_from_slice(&magic);
    header[4..6].copy_from_slice(&crate::VERSION.to_le_bytes());
    header[6..8].copy_from_slice(&[0, 0]);
    put_u32(header, 8, count);
    put_u32(header, 12, length);
}

/// `count` entries of `N` bytes at `offset`, if the frame has them.
#[inline]
pub(crate) fn table<const N: usize>(frame: &[u8], offset: u32, count: u32) -> Option<&[[u8; N]]> {
    let (entries, _) = frame.get(offset as usize..)?.as_chunks::<N>();
    entries.get(..count as usize)
}

/// A frame whose regions are handed out against a budget.
///
/// The budget of a response is its length: a hostile guest could otherwise let a million entries share one long region, and make
/// the host work for hours on a megabyte. The host's own frames need no budget.
pub(crate) struct Regions<'a> {
    pub(crate) frame: &'a [u8],
    budget: u64,
}

impl<'a> Regions<'a> {
    pub(crate) fn budgeted(frame: &'a [u8]) -> Self {
        Self {
            frame,
            budget: frame.len() as u64,
        }
    }

    pub(crate) fn trusted(frame: &'a [u8]) -> Self {
        Self {
            frame,
            budget: u64::MAX,
        }
    }

    #[inline(always)]
    pub(crate) fn spend(&mut self, bytes: u64, field: &'static str) -> Result<(), DecodeError> {
        match self.budget.checked_sub(bytes) {
            Some(rest) => {
                self.budget = rest;
                Ok(())
            }
            None => Err(DecodeError::new(DecodeErrorKind::Overlap, field)),
        }
    }

    #[inline(always)]
    pub(crate) fn bytes(
        &mut self,
        offset: u32,
        length: u32,
        field: &'static str,
    ) -> Result<&'a [u8], DecodeError> {
        let Some(bytes) = slice(self.frame, offset, length) else {
            return Err(DecodeError::new(DecodeErrorKind::OutOfFrame, field));
        };
        self.spend(u64::from(length), field)?;
        Ok(bytes)
    }

    #[inline(always)]
    pub(crate) fn text(
        &mut self,
        offset: u32,
        length: u32,
        field: &'static str,
    ) -> Result<&'a str, DecodeError> {
        let bytes = self.bytes(offset, length, field)?;
        core::str::from_utf8(bytes).map_err(|_| DecodeError::new(DecodeErrorKind::Utf8, field))
    }

    pub(crate) fn table<const N: usize>(
        &mut self,
        offset: u32,
        count: u32,
        field: &'static str,
    ) -> Result<&'a [[u8; N]], DecodeError> {
        let Some(entries) = table(self.frame, offset, count) else {
            return Err(DecodeError::new(DecodeErrorKind::OutOfFrame, field));
        };
        self.spend(u64::from(count) * N as u64, field)?;
        Ok(entries)
    }
}
