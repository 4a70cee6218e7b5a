//! `file:PATH` and `-`: record lines in files, standard input and standard output.
//!
//! Reading and decoding have a thread, encoding and writing have another, so a file flows through while the lanes
//! work; each is bounded by a few batches, so a slow output slows the input down and memory does not grow.
//!
//! An output file is created, or emptied and overwritten. An output that is also the input is refused: it would be
//! empty before it is read. A run reads its input from the beginning, and nothing is remembered; unless the input has a
//! checkpoint: then the next run goes on where this one was, and its output files must be appended to.

mod checkpoint;
mod sink;
mod source;
mod url;

pub use sink::FileSink;
pub use source::FileSource;
pub use url::FileUrl;

use std::fs::Metadata;

use crate::AdapterError;
use crate::AdapterErrorKind;
use crate::AdapterUrl;

/// Refuses an output that would destroy the input.
///
/// # Errors
///
/// [`AdapterErrorKind::SameFile`]: both URLs name one regular file, by whatever paths or links.
pub fn refuse_same_file(from: &AdapterUrl, to: &AdapterUrl) -> Result<(), AdapterError> {
    let (Some(input), Some(output)) = (from.path(), to.path()) else {
        return Ok(());
    };
    // A file that cannot be looked at cannot be the same one; opening it reports why.
    let (Ok(input), Ok(output)) = (std::fs::metadata(input), std::fs::metadata(output)) else {
        return Ok(());
    };
    if input.is_file() && same_file(&input, &output) {
        return Err(AdapterError::new(
            AdapterErrorKind::SameFile,
            format!("{from} and {to} are one file: it would be emptied before it is read"),
        ));
    }
    Ok(())
}

/// Refuses an output that would lose what earlier runs wrote, where the input goes on after what they read.
///
/// # Errors
///
/// [`AdapterErrorKind::InvalidUrl`]: the input has a checkpoint, and the output is a file that is emptied.
pub(crate) fn refuse_to_forget(from: &AdapterUrl, to: &AdapterUrl) -> Result<(), AdapterError> {
    let (AdapterUrl::File(input), AdapterUrl::File(output)) = (from, to) else {
        return Ok(());
    };
    // Pipes and devices hold nothing that could be lost.
    let is_kept = std::fs::metadata(&output.path).map_or(true, |metadata| metadata.is_file());
    if input.checkpoint.is_none() || output.append || !is_kept {
        return Ok(());
    }
    Err(AdapterError::new(
        AdapterErrorKind::InvalidUrl,
        format!(
            "{from} goes on where the run before was, and {to} would be emptied of what that run wrote: write `{to}?append`"
        ),
    ))
}

#[cfg(unix)]
fn same_file(a: &Metadata, b: &Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    (a.dev(), a.ino()) == (b.dev(), b.ino())
}

/// Whether two URLs name one place to write to, so that one sink must serve both.
pub fn same_output(a: &AdapterUrl, b: &AdapterUrl) -> bool {
    if a == b {
        return true;
    }
    match (
        a.path().map(std::fs::metadata),
        b.path().map(std::fs::metadata),
    ) {
        (Some(Ok(a)), Some(Ok(b))) => a.is_file() && same_file(&a, &b),
        _ => false,
    }
}

fn no_file(url: &AdapterUrl) -> AdapterError {
    AdapterError::new(
        AdapterErrorKind::InvalidUrl,
        format!("{url} is no file of record lines"),
    )
}
