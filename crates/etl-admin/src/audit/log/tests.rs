//! The log after every way of ending: killed at any byte, cut, changed, turned over.

use std::collections::BTreeSet;

use super::*;
use crate::audit::verify;

fn anna() -> Attempt {
    Attempt {
        who: Some("anna".to_owned()),
        credential: Some("0123456789ab".to_owned()),
        role: Some("admin"),
        from: "127.0.0.1:1".to_owned(),
        what: "PUT /api/v1/pipelines/p".to_owned(),
    }
}

/// A log with this many changes, of which the last one has no end.
fn log_of(folder: &Path, changes: u64, rotate_bytes: u64) {
    let mut log = AuditLog::open_with(folder, 1, rotate_bytes).expect("a log");
    for change in 0..changes {
        let of = log
            .begin(&anna(), change, json!({ "bytes": change }))
            .expect("written");
        if change + 1 < changes {
            log.end(of, "done", json!({ "generation_after": change + 1 }));
        }
    }
}

fn events(folder: &Path) -> Vec<(String, Option<u64>)> {
    let mut events = Vec::new();
    let walked = verify::walk(folder, |_, fields| {
        let name = fields["event"].as_str().expect("a name");
        events.push((name.to_owned(), fields["of"].as_u64()));
    });
    walked.expect("a whole log");
    events
}

#[test]
fn a_log_says_what_happened_and_is_whole() {
    let folder = tempfile::tempdir().expect("a folder");
    log_of(folder.path(), 2, ROTATE_BYTES);
    let verified = verify(folder.path(), None).expect("whole");
    assert_eq!(verified.lines, 4);
    // The next process closes what this one left open.
    drop(AuditLog::open(folder.path(), 7).expect("a log"));
    let expected = [
        ("started", None),
        ("begun", None),
        ("done", Some(2)),
        ("begun", None),
        ("interrupted", Some(4)),
        ("started", None),
    ];
    let expected = expected.map(|(name, of)| (name.to_owned(), of));
    assert_eq!(events(folder.path()), expected);
    // A hash that was noted is found later, and another is not.
    assert!(verify(folder.path(), Some(&verified.head)).is_ok());
    assert!(verify(folder.path(), Some(super::super::line::BEGINNING)).is_err());
}

#[test]
fn only_one_process_writes() {
    let folder = tempfile::tempdir().expect("a folder");
    let first = AuditLog::open(folder.path(), 1).expect("a log");
    let error = AuditLog::open(folder.path(), 1)
        .err()
        .expect("refused")
        .to_string();
    assert!(error.contains("another process"), "{error}");
    drop(first);
    assert!(AuditLog::open(folder.path(), 1).is_ok());
}

#[test]
fn killed_anywhere_the_log_goes_on_and_says_what_is_true() {
    let folder = tempfile::tempdir().expect("a folder");
    log_of(folder.path(), 3, ROTATE_BYTES);
    let file = folder.path().join("audit.jsonl");
    let whole = fs::read(&file).expect("a file");
    let ends: Vec<usize> = whole
        .iter()
        .enumerate()
        .filter(|(_, byte)| **byte == b'\n')
        .map(|(index, _)| index + 1)
        .collect();
    // Every place that is of another kind: before and after each end of a line, and inside it.
    let lengths: BTreeSet<usize> = ends
        .iter()
        .flat_map(|end| [end.saturating_sub(90), end - 2, end - 1, *end, end + 1])
        .filter(|length| *length <= whole.len())
        .chain([0, 1])
        .collect();
    for length in lengths {
        // The head is written after the line: it is that of the last whole line, or of the one before it.
        let lines = ends.iter().filter(|end| **end <= length).count();
        let mut link = Link::beginning();
        let mut heads = vec![link.clone()];
        for line in std::str::from_utf8(&whole)
            .expect("text")
            .lines()
            .take(lines)
        {
            link = link.follow(line).expect("a line").0;
            heads.push(link.clone());
        }
        for head in heads.iter().rev().take(2) {
            fs::write(&file, &whole[..length]).expect("written");
            fs::write(
                folder.path().join("head"),
                format!("{} {}\n", head.seq, head.hash),
            )
            .expect("written");
            drop(AuditLog::open(folder.path(), 1).expect("a log"));
            let seen = events(folder.path());
            // Every change that begun has one end, and no more were made up.
            let mut open = BTreeSet::new();
            for (index, (name, of)) in seen.iter().enumerate() {
                match name.as_str() {
                    "begun" => assert!(open.insert(index as u64 + 1)),
                    "done" | "interrupted" => {
                        assert!(open.remove(&of.expect("a number")), "{seen:?}");
                    }
                    _ => {}
                }
            }
            assert!(open.is_empty(), "{length}: {seen:?}");
            let is_torn = !ends.contains(&length) && length > 0;
            assert_eq!(
                seen.iter().any(|(name, _)| name == "repaired"),
                is_torn,
                "{length}"
            );
            verify(folder.path(), None).expect("whole");
        }
    }
}

#[test]
fn every_tampering_of_a_thousand_lines_is_found() {
    let folder = tempfile::tempdir().expect("a folder");
    log_of(folder.path(), 500, ROTATE_BYTES);
    let verified = verify(folder.path(), None).expect("whole");
    assert_eq!(verified.lines, 1000);
    let file = folder.path().join("audit.jsonl");
    let whole = fs::read_to_string(&file).expect("text");
    let lines: Vec<&str> = whole.lines().collect();
    let found = |lines: &[&str], what: &str| {
        fs::write(&file, lines.join("\n") + "\n").expect("written");
        assert!(verify(folder.path(), None).is_err(), "{what} is not found");
    };
    for index in (0..lines.len()).step_by(37).chain([lines.len() - 1]) {
        let mut removed = lines.clone();
        removed.remove(index);
        found(&removed, "a line removed");
        let mut doubled = lines.clone();
        doubled.insert(index, lines[index]);
        found(&doubled, "a line doubled");
        if index > 0 {
            let mut swapped = lines.clone();
            swapped.swap(index, index - 1);
            found(&swapped, "two lines swapped");
        }
        // Any one character of it, and a line of somebody else's making in its place.
        for at in (0..lines[index].len()).step_by(11) {
            let mut bytes = lines[index].as_bytes().to_vec();
            bytes[at] = if bytes[at] == b'x' { b'y' } else { b'x' };
            let changed = String::from_utf8(bytes).expect("text");
            let mut changed_lines = lines.clone();
            changed_lines[index] = &changed;
            found(&changed_lines, "a character changed");
        }
        found(&lines[..index], "the end cut off");
    }
    // Written anew as a whole, with right hashes: the head beside it is another one, and so is a hash that was noted.
    fs::remove_dir_all(folder.path()).expect("removed");
    log_of(folder.path(), 500, ROTATE_BYTES);
    assert!(verify(folder.path(), None).is_ok());
    assert!(verify(folder.path(), Some(&verified.head)).is_err());
    let forged = fs::read_to_string(&file).expect("text");
    fs::write(&file, &whole).expect("written");
    assert!(verify(folder.path(), None).is_err());
    assert_ne!(forged, whole);
    let error = AuditLog::open(folder.path(), 1)
        .err()
        .expect("refused")
        .to_string();
    assert!(error.contains("broken"), "{error}");
}

#[test]
fn a_log_that_is_turned_over_stays_one_chain() {
    let folder = tempfile::tempdir().expect("a folder");
    log_of(folder.path(), 60, 2000);
    let files = verify::files(folder.path()).expect("files");
    assert!(files.len() > 5, "{files:?}");
    assert_eq!(verify(folder.path(), None).expect("whole").lines, 120);
    // Killed between the two steps of turning over: there is no current file.
    let mut log = AuditLog::open_with(folder.path(), 1, 2000).expect("a log");
    log.rotate().expect("turned over");
    drop(log);
    fs::remove_file(folder.path().join("audit.jsonl")).expect("removed");
    drop(AuditLog::open_with(folder.path(), 1, 2000).expect("a log"));
    let lines = verify(folder.path(), None).expect("whole").lines;
    assert!(lines > 120);
    fs::remove_file(&files[2]).expect("removed");
    assert!(verify(folder.path(), None).is_err());
}

#[test]
fn refusals_do_not_fill_the_disk() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut log = AuditLog::open(folder.path(), 1).expect("a log");
    for _ in 0..10_000 {
        log.refused(&Attempt::default(), 401, "no token");
    }
    // What somebody known tries is written all the same.
    log.refused(&anna(), 403, "not for her");
    drop(log);
    assert_eq!(verify(folder.path(), None).expect("whole").lines, 122);
}

#[test]
fn what_is_begun_side_by_side_has_its_ends() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut log = AuditLog::open(folder.path(), 1).expect("a log");
    let first = log.begin(&anna(), 1, json!({})).expect("written");
    let second = log.begin(&anna(), 1, json!({})).expect("written");
    let third = log.begin(&anna(), 1, json!({})).expect("written");
    log.end(second, "done", json!({}));
    drop(log);
    drop(AuditLog::open(folder.path(), 1).expect("a log"));
    let seen = events(folder.path());
    for (of, name) in [
        (first, "interrupted"),
        (second, "done"),
        (third, "interrupted"),
    ] {
        let ends = seen.iter().filter(|(_, ended)| *ended == Some(of));
        let ends: Vec<&str> = ends.map(|(name, _)| name.as_str()).collect();
        assert_eq!(ends, [name]);
    }
}

#[test]
fn half_a_line_is_not_turned_over() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut log = AuditLog::open_with(folder.path(), 1, 500).expect("a log");
    let file = folder.path().join("audit.jsonl");
    for change in 0..20 {
        // As a write that failed leaves it, where it could not be taken back.
        let mut torn = OpenOptions::new().append(true).open(&file).expect("opens");
        torn.write_all(b"{\"seq\":").expect("written");
        log.begin(&anna(), change, json!({})).expect("written");
    }
    drop(log);
    assert!(verify::files(folder.path()).expect("files").len() > 5);
    assert_eq!(verify(folder.path(), None).expect("whole").lines, 21);
}

#[test]
fn turning_over_goes_on_where_it_broke() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut log = AuditLog::open_with(folder.path(), 1, 500).expect("a log");
    while log.bytes < 500 {
        log.begin(&anna(), 1, json!({})).expect("written");
    }
    // The file is closed, and the new one could not be made.
    let closed = format!("audit-{:020}.jsonl", log.link.seq);
    let closed = folder.path().join(closed);
    fs::rename(folder.path().join("audit.jsonl"), closed).expect("renamed");
    let lines = log.link.seq;
    log.begin(&anna(), 1, json!({})).expect("written");
    drop(log);
    let verified = verify(folder.path(), None).expect("whole");
    assert_eq!(verified.lines, lines + 1);
}
