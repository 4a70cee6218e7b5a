//! How far a file has been read, noted in another file, so that the next run goes on there.
//!
//! The note is a line of JSON: how many bytes and lines are done with, and a hash of how the file begins, by which another file of the same name is told.
//! It always has the same length, less than a sector, and is written over in one piece: a process that dies, and a machine that loses its power, leave the note or
//! the one before.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::{AdapterError, AdapterErrorKind};

/// Bytes at the beginning of the file by which it is known.
const BEGINNING: u64 = 4_096;

/// A place between two lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Mark {
    /// Bytes before it.
    pub(super) bytes: u64,
    /// Lines before it.
    pub(super) lines: u64,
}

/// Length of a note, with blanks at its end. Three numbers of twenty digits fit.
const NOTE_BYTES: usize = 192;

#[derive(Serialize, Deserialize)]
struct Note {
    bytes: u64,
    lines: u64,
    /// How many bytes at the beginning are known: all up to [`BEGINNING`] that were there when the run began, as far as they were read.
    known: usize,
    /// Their hash.
    beginning: String,
}

/// The note of one file.
#[derive(Debug)]
pub(super) struct Checkpoint {
    file: PathBuf,
    note_file: File,
    /// The first bytes of what is read.
    beginning: Vec<u8>,
}

impl Checkpoint {
    /// Finds where to go on, and puts `input` there. `shown` names the input in errors.
    pub(super) fn resume(
        file: &Path,
        input: &mut File,
        shown: &str,
    ) -> Result<(Self, Mark), AdapterError> {
        let doing = format!("cannot go on by the checkpoint {}", file.display());
        let failed = |error: io::Error| AdapterError::from_io(&doing, error);
        if !input.metadata().map_err(failed)?.is_file() {
            return Err(AdapterError::new(
                AdapterErrorKind::Unsupported,
                format!("{doing}: {shown} is no regular file, so nobody can go on in its middle"),
            ));
        }
        let mut beginning = Vec::new();
        input
            .take(BEGINNING)
            .read_to_end(&mut beginning)
            .map_err(failed)?;
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false);
        // One without a note in it is of a run that ended before it had anything to note.
        let mut note_file = options.open(file).map_err(failed)?;
        let mut note = Vec::new();
        note_file.read_to_end(&mut note).map_err(failed)?;
        let this = Self {
            file: file.to_owned(),
            note_file,
            beginning,
        };
        let mark = match note.is_empty() {
            true => Mark::default(),
            false => this.mark(&note)?,
        };
        let length = input.metadata().map_err(failed)?.len();
        if length < mark.bytes {
            return Err(this.wrong(&format!(
                "{shown} has {length} bytes, and {} were read of it before",
                mark.bytes
            )));
        }
        input.seek(SeekFrom::Start(mark.bytes)).map_err(failed)?;
        Ok((this, mark))
    }

    fn mark(&self, note: &[u8]) -> Result<Mark, AdapterError> {
        let note: Note = serde_json::from_slice(note)
            .map_err(|error| self.wrong(&format!("it is no checkpoint ({error})")))?;
        let mark = Mark {
            bytes: note.bytes,
            lines: note.lines,
        };
        match self.beginning.len() >= note.known && note.beginning == self.hash(note.known) {
            true => Ok(mark),
            false => Err(self.wrong("it is of a file that began with something else")),
        }
    }

    fn wrong(&self, why: &str) -> AdapterError {
        let file = self.file.display();
        AdapterError::new(
            AdapterErrorKind::InvalidUrl,
            format!(
                "cannot go on by the checkpoint {file}: {why}; remove {file} to read from the beginning"
            ),
        )
    }

    /// 64-bit FNV-1a: a file is told from another one, not from one that somebody made to look like it.
    fn hash(&self, known: usize) -> String {
        let bytes = self.beginning.iter().take(known);
        let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        format!("{hash:016x}")
    }

    /// Notes that everything before this is done with.
    pub(super) fn save(&mut self, mark: Mark) -> Result<(), AdapterError> {
        let note = self.note(mark);
        let save = |mut file: &File| {
            file.seek(SeekFrom::Start(0))?;
            file.write_all(&note)
        };
        save(&self.note_file).map_err(|error| self.unwritten(error))
    }

    /// Sees the note onto its disk.
    pub(super) fn sync(&self) -> Result<(), AdapterError> {
        let synced = self.note_file.sync_data();
        synced.map_err(|error| self.unwritten(error))
    }

    /// Notes are written there from now on; answers where they were.
    #[cfg(all(test, target_os = "linux"))]
    pub(super) fn write_to(&mut self, note_file: File) -> File {
        std::mem::replace(&mut self.note_file, note_file)
    }

    fn unwritten(&self, error: io::Error) -> AdapterError {
        let doing = format!("cannot write the checkpoint {}", self.file.display());
        AdapterError::from_io(doing, error)
    }

    fn note(&self, mark: Mark) -> Vec<u8> {
        let read = usize::try_from(mark.bytes).unwrap_or(usize::MAX);
        let known = read.min(self.beginning.len());
        let note = Note {
            bytes: mark.bytes,
            lines: mark.lines,
            known,
            beginning: self.hash(known),
        };
        let mut line = serde_json::to_vec(&note).unwrap_or_default();
        line.resize(NOTE_BYTES - 1, b' ');
        line.push(b'\n');
        line
    }
}
