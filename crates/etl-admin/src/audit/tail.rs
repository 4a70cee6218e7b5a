//! The last lines of a log, read from its end.
//!
//! Lines are only ever appended, so nothing is locked: half a line at the end is one that is being written.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use serde_json::Value;

use super::verify;

/// Bytes that are read at once.
const BLOCK: u64 = 64 << 10;

/// At most so many lines, the newest first; with `before` those whose numbers are less.
pub(crate) fn tail(folder: &Path, before: Option<u64>, limit: usize) -> io::Result<Vec<Value>> {
    let before = before.unwrap_or(u64::MAX);
    let mut lines = Vec::new();
    for path in verify::files(folder)?.iter().rev() {
        let wants_more = |line: &[u8]| {
            let Ok(line) = serde_json::from_slice::<Value>(line) else {
                return true;
            };
            if line["seq"].as_u64().is_some_and(|seq| seq < before) {
                lines.push(line);
            }
            lines.len() < limit
        };
        // Between the listing and now it may have been closed under another name; the next look finds it there.
        match File::open(path).and_then(|file| backwards(file, wants_more)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            read => read?,
        }
        if lines.len() >= limit {
            break;
        }
    }
    Ok(lines)
}

/// The whole lines of a file, the last first, as long as they are wanted.
fn backwards(mut file: File, mut wants_more: impl FnMut(&[u8]) -> bool) -> io::Result<()> {
    let mut end = file.seek(SeekFrom::End(0))?;
    // What was read and has no beginning yet. The first piece is empty, or half a line.
    let mut rest: Vec<u8> = Vec::new();
    let mut is_first = true;
    while end > 0 {
        let begin = end.saturating_sub(BLOCK);
        let mut block = vec![0; (end - begin) as usize];
        file.seek(SeekFrom::Start(begin))?;
        file.read_exact(&mut block)?;
        block.append(&mut rest);
        let mut pieces = block.split(|byte| *byte == b'\n').rev().peekable();
        while let Some(piece) = pieces.next() {
            let is_whole = pieces.peek().is_some() || begin == 0;
            if !is_whole {
                rest = piece.to_vec();
            } else if !std::mem::take(&mut is_first) && !wants_more(piece) {
                return Ok(());
            }
        }
        end = begin;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_newest_first_across_files_and_blocks() {
        let folder = tempfile::tempdir().expect("a folder");
        let line = |seq: u64| {
            let padding = "x".repeat((seq as usize * 7919) % 40_000);
            format!("{{\"seq\":{seq},\"padding\":\"{padding}\"}}\n")
        };
        let write = |name: &str, text: String| {
            std::fs::write(folder.path().join(name), text).expect("written");
        };
        let closed: String = (1..=20).map(line).collect();
        write("audit-00000000000000000020.jsonl", closed);
        let current: String = (21..=50).map(line).collect();
        write("audit.jsonl", format!("{current}{{\"seq\":51,"));
        let read = |before, limit| -> Vec<u64> {
            let lines = tail(folder.path(), before, limit).expect("lines");
            let numbers = lines
                .iter()
                .map(|line| line["seq"].as_u64().expect("a number"));
            numbers.collect()
        };
        assert_eq!(read(None, 100), (1..=50).rev().collect::<Vec<_>>());
        assert_eq!(read(None, 3), [50, 49, 48]);
        assert_eq!(read(Some(22), 3), [21, 20, 19]);
        assert_eq!(read(Some(2), 3), [1]);
        assert_eq!(read(Some(1), 3), [0; 0]);
    }
}
