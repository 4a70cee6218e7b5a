//! What stands behind `file:`: a path, and whether a run goes on where the one before it ended.
//!
//! `file:PATH[?checkpoint=FILE]` as input, `file:PATH[?append]` as output. Paths may have question marks of their own, so only these endings count.

use std::fmt;
use std::path::PathBuf;

use crate::{AdapterError, AdapterErrorKind};

/// A `file:` URL, read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FileUrl {
    /// The file.
    pub path: PathBuf,
    /// Where it is noted how far the file has been read; `None`: nowhere, it is read from its beginning every time.
    pub checkpoint: Option<PathBuf>,
    /// What is written goes behind what is there.
    pub append: bool,
}

impl FileUrl {
    /// A file that is read from its beginning, or emptied and written.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            ..Self::default()
        }
    }

    /// Reads what stands behind the scheme; `text` is all that the user typed.
    pub(crate) fn parse(rest: &str, text: &str) -> Result<Self, AdapterError> {
        let invalid = |message: String| AdapterError::new(AdapterErrorKind::InvalidUrl, message);
        let (path, checkpoint, append) = match rest.rsplit_once('?') {
            Some((path, "append")) => (path, None, true),
            Some((path, setting)) => match setting.strip_prefix("checkpoint=") {
                Some("") => {
                    return Err(invalid(format!(
                        "`{text}` names no checkpoint: write `file:PATH?checkpoint=FILE`"
                    )));
                }
                Some(checkpoint) => (path, Some(checkpoint), false),
                None => (rest, None, false),
            },
            None => (rest, None, false),
        };
        if path.is_empty() {
            return Err(invalid(format!(
                "`{text}` names no file: write `file:PATH`"
            )));
        }
        if checkpoint == Some(path) {
            return Err(invalid(format!(
                "`{text}` names one file twice: the checkpoint would be written over the records"
            )));
        }
        Ok(Self {
            path: path.into(),
            checkpoint: checkpoint.map(PathBuf::from),
            append,
        })
    }
}

impl fmt::Display for FileUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "file:{}", self.path.display())?;
        if let Some(checkpoint) = &self.checkpoint {
            write!(f, "?checkpoint={}", checkpoint.display())?;
        }
        match self.append {
            true => f.write_str("?append"),
            false => Ok(()),
        }
    }
}
