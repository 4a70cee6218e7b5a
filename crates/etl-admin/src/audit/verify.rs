//! Whether a log is whole.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::line::Link;

/// A log that is whole.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verified {
    /// Its lines.
    pub lines: u64,
    /// The hash of the last one: noted elsewhere, it proves later that nothing before it was touched.
    pub head: String,
}

/// What is wrong with a log.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// The file.
    pub file: PathBuf,
    /// The line in it, from 1; 0 where the file as a whole is meant.
    pub line: u64,
    /// What it is.
    pub message: String,
}

impl Finding {
    /// For `--json`.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({ "file": self.file.display().to_string(), "line": self.line, "message": self.message })
    }
}

impl std::fmt::Display for Finding {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}", self.file.display())?;
        if self.line > 0 {
            write!(formatter, ":{}", self.line)?;
        }
        write!(formatter, ": {}", self.message)
    }
}

/// Reads a whole log, and compares it with its head and, where one was noted, with the hash of a line that it must hold.
///
/// # Errors
/// The first thing that is wrong with it: nothing after that can be relied on.
pub fn verify(folder: &Path, noted: Option<&str>) -> Result<Verified, Finding> {
    let mut seen = noted.is_none();
    let head = read_head(folder)?;
    let mut head_seen = head.seq == 0;
    let (link, torn) = walk(folder, |link, _| {
        seen |= noted == Some(&link.hash);
        head_seen |= *link == head;
    })?;
    let whole = |message: &str| Finding {
        file: folder.to_owned(),
        line: 0,
        message: message.to_owned(),
    };
    if let Some(torn) = torn {
        return Err(torn);
    }
    if link.seq < head.seq {
        let message = format!("it ends with line {}, and had {}", link.seq, head.seq);
        return Err(whole(&message));
    }
    if !head_seen {
        return Err(whole(
            "it is another log than the one whose head was noted beside it",
        ));
    }
    if !seen {
        return Err(whole("no line has the hash that was given"));
    }
    Ok(Verified {
        lines: link.seq,
        head: link.hash,
    })
}

/// The files of a log in their order; the last one is being written.
pub(super) fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with("audit-") && name.ends_with(".jsonl") {
            files.push(path);
        }
    }
    // Their names hold the number of their last line, with zeros before it.
    files.sort();
    let current = folder.join("audit.jsonl");
    if current.exists() {
        files.push(current);
    }
    Ok(files)
}

/// The last line that is known to have been written.
pub(super) fn read_head(folder: &Path) -> Result<Link, Finding> {
    let file = folder.join("head");
    let finding = |message: String| Finding {
        file: file.clone(),
        line: 0,
        message,
    };
    let text = match fs::read_to_string(&file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Link::beginning()),
        text => text.map_err(|error| finding(error.to_string()))?,
    };
    let read = text.trim_end().split_once(' ').and_then(|(seq, hash)| {
        let seq = seq.parse().ok()?;
        let hash = hash.to_owned();
        Some(Link { seq, hash })
    });
    read.ok_or_else(|| finding("not the head of a log".to_owned()))
}

/// Follows the chain through every file. Half a line at the very end is no break of it: answered is where it is.
pub(super) fn walk(
    folder: &Path,
    mut each: impl FnMut(&Link, &Value),
) -> Result<(Link, Option<Finding>), Finding> {
    let at = |file: &Path, line: u64, message: String| Finding {
        file: file.to_owned(),
        line,
        message,
    };
    let files = files(folder).map_err(|error| at(folder, 0, error.to_string()))?;
    let mut link = Link::beginning();
    for (index, file) in files.iter().enumerate() {
        let opened = File::open(file).map_err(|error| at(file, 0, error.to_string()))?;
        let mut reader = BufReader::new(opened);
        let mut bytes = Vec::new();
        for number in 1.. {
            bytes.clear();
            let count = reader
                .read_until(b'\n', &mut bytes)
                .map_err(|error| at(file, number, error.to_string()))?;
            if count == 0 {
                break;
            }
            if bytes.pop() != Some(b'\n') {
                let torn = at(
                    file,
                    number,
                    "half a line, as after a power failure; the next start cuts it off".to_owned(),
                );
                return if index + 1 == files.len() {
                    Ok((link, Some(torn)))
                } else {
                    Err(torn)
                };
            }
            let line = std::str::from_utf8(&bytes)
                .map_err(|_| at(file, number, "not a line of the log".to_owned()))?;
            let (next, fields) = link
                .follow(line)
                .map_err(|message| at(file, number, message))?;
            each(&next, &fields);
            link = next;
        }
    }
    Ok((link, None))
}
