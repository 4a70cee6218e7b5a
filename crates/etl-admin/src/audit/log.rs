//! Writing the log: lines that are on the disk before anything that they speak of happens.
//!
//! A change has two lines: one before it and one after. If the first cannot be written, the change is refused. If only the second
//! cannot, the change has been made; the line is kept and written before the next one, and until then every change is refused. What a
//! process that was killed left open is closed by the next one.

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Map, Value, json};

use super::line::Link;
use super::verify::{self, Finding};
use crate::access::{Identity, private_file, private_folder, replace};

/// A file that has grown so large is closed, and another one begun.
const ROTATE_BYTES: u64 = 64 << 20;
/// Attempts without a change that are written in a minute, of each credential and of all strangers together; the others are counted, so
/// that nobody fills the disk by being refused, and no stranger makes what somebody known tries go unwritten.
const ATTEMPTS_A_MINUTE: u32 = 120;

/// Why the log cannot be written.
#[derive(Debug)]
pub struct AuditError(String);

impl AuditError {
    fn io(path: &Path, error: &io::Error) -> Self {
        Self(format!("the audit log {}: {error}", path.display()))
    }
}

impl From<Finding> for AuditError {
    fn from(finding: Finding) -> Self {
        Self(format!(
            "the audit log is broken: {finding}; move it away, and find out who touched it"
        ))
    }
}

impl std::fmt::Display for AuditError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for AuditError {}

/// Who tries what.
#[derive(Clone, Debug, Default)]
pub(crate) struct Attempt {
    pub(crate) who: Option<String>,
    /// The id of the token or certificate: a name can be given again.
    pub(crate) credential: Option<String>,
    pub(crate) role: Option<&'static str>,
    pub(crate) from: String,
    /// The method and the target, as they came.
    pub(crate) what: String,
}

impl Attempt {
    /// It is known who tries it.
    pub(crate) fn is_by(&mut self, identity: &Identity) {
        self.who = Some(identity.name.clone());
        self.credential = Some(identity.credential.clone());
        self.role = Some(identity.role.name());
    }

    fn fields(&self) -> Map<String, Value> {
        let mut fields = Map::new();
        fields.insert("who".to_owned(), self.who.clone().into());
        fields.insert("credential".to_owned(), self.credential.clone().into());
        fields.insert("role".to_owned(), self.role.into());
        fields.insert("from".to_owned(), self.from.clone().into());
        fields.insert("what".to_owned(), self.what.clone().into());
        fields
    }
}

/// The log of one process. No other can have it at the same time.
pub(crate) struct AuditLog {
    folder: PathBuf,
    file: File,
    bytes: u64,
    link: Link,
    rotate_bytes: u64,
    /// Lines that could not be written when it was their time.
    owed: Vec<(String, Map<String, Value>)>,
    /// When the present minute began, and what each credential (strangers have none) tried in it.
    attempts: (Instant, HashMap<Option<String>, Tried>),
    _lock: File,
}

/// Attempts of a minute: how many, and how many of them were not written.
#[derive(Default)]
struct Tried {
    count: u32,
    unwritten: u64,
}

impl AuditLog {
    /// Opens the log in a folder, or begins one; says what became of a change that was left open.
    pub(crate) fn open(folder: &Path, generation: u64) -> Result<Self, AuditError> {
        Self::open_with(folder, generation, ROTATE_BYTES)
    }

    fn open_with(folder: &Path, generation: u64, rotate_bytes: u64) -> Result<Self, AuditError> {
        let fault = |error: io::Error| AuditError::io(folder, &error);
        private_folder(folder).map_err(fault)?;
        let lock = private_file(&folder.join("lock"), false).map_err(fault)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let message = format!("another process writes {}", folder.display());
                return Err(AuditError(message));
            }
            Err(TryLockError::Error(error)) => return Err(fault(error)),
        }
        let mut open = BTreeSet::new();
        let head = verify::read_head(folder)?;
        let mut head_seen = head.seq == 0;
        let (link, torn) = verify::walk(folder, |link, fields| {
            head_seen |= *link == head;
            match fields["event"].as_str() {
                Some("begun") => {
                    open.insert(link.seq);
                }
                Some("done" | "refused" | "failed" | "interrupted") => {
                    if let Some(of) = fields["of"].as_u64() {
                        open.remove(&of);
                    }
                }
                _ => {}
            }
        })?;
        if link.seq < head.seq || !head_seen {
            // The command says it better than a second wording here would.
            verify::verify(folder, None)?;
        }
        let (file, bytes) = append_to(&folder.join("audit.jsonl")).map_err(fault)?;
        let mut log = Self {
            folder: folder.to_owned(),
            file,
            bytes,
            link,
            rotate_bytes,
            owed: Vec::new(),
            attempts: (Instant::now(), HashMap::new()),
            _lock: lock,
        };
        if torn.is_some() {
            let cut = log.cut_off()?;
            log.write(event("repaired", json!({ "bytes": cut })))?;
        }
        for of in open {
            log.write(event("interrupted", json!({ "of": of })))?;
        }
        log.write(event("started", json!({ "generation": generation })))?;
        Ok(log)
    }

    /// Where it is.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Says that a change is about to be made. Answers the number by which its end will be told.
    pub(crate) fn begin(
        &mut self,
        attempt: &Attempt,
        generation: u64,
        body: Value,
    ) -> Result<u64, AuditError> {
        self.settle()?;
        let mut fields = attempt.fields();
        fields.extend(event(
            "begun",
            json!({ "generation_before": generation, "body": body }),
        ));
        self.write(fields)?;
        Ok(self.link.seq)
    }

    /// Says what became of a change.
    pub(crate) fn end(&mut self, of: u64, name: &str, mut what: Value) {
        what["of"] = of.into();
        let fields = event(name, what);
        if let Err(error) = self.write(fields.clone()) {
            tracing::error!(%error, "a change was made and could not be written down: no other is made until it is");
            self.owed.push((now(), fields));
        }
    }

    /// Says something that is no change of the API's.
    pub(crate) fn note(&mut self, name: &str, what: Value) -> Result<(), AuditError> {
        self.settle()?;
        self.write(event(name, what))
    }

    /// Says that somebody was not let through.
    pub(crate) fn refused(&mut self, attempt: &Attempt, status: u16, reason: &str) {
        let (since, tried) = &mut self.attempts;
        if since.elapsed() >= Duration::from_secs(60) {
            *since = Instant::now();
            // Who left nothing unwritten is forgotten.
            tried.retain(|_, tried| {
                tried.count = 0;
                tried.unwritten > 0
            });
        }
        let tried = tried.entry(attempt.credential.clone()).or_default();
        tried.count += 1;
        if tried.count > ATTEMPTS_A_MINUTE {
            tried.unwritten += 1;
            return;
        }
        let missed = match tried.count {
            1 => std::mem::take(&mut tried.unwritten),
            _ => 0,
        };
        let mut fields = attempt.fields();
        fields.extend(event(
            "refused",
            json!({ "status": status, "reason": reason }),
        ));
        if missed > 0 {
            fields.insert("unwritten_before".to_owned(), missed.into());
        }
        if let Err(error) = self.settle().and_then(|()| self.write(fields)) {
            tracing::error!(%error, "a refused attempt could not be written down");
        }
    }

    /// Writes what is owed.
    fn settle(&mut self) -> Result<(), AuditError> {
        while let Some((time, fields)) = self.owed.first().cloned() {
            self.write_at(&time, fields)?;
            self.owed.remove(0);
        }
        Ok(())
    }

    fn write(&mut self, fields: Map<String, Value>) -> Result<(), AuditError> {
        self.write_at(&now(), fields)
    }

    fn write_at(&mut self, time: &str, fields: Map<String, Value>) -> Result<(), AuditError> {
        let path = self.folder.join("audit.jsonl");
        let fault = |error: io::Error| AuditError::io(&path, &error);
        let length = self.file.metadata().map_err(fault)?.len();
        if length < self.bytes {
            let message = format!("{} was cut while it is being written", path.display());
            return Err(AuditError(message));
        }
        if length > self.bytes {
            // Half a line that could not be taken back at once. It must not end a file that is closed.
            self.file.set_len(self.bytes).map_err(fault)?;
        }
        if self.bytes >= self.rotate_bytes {
            self.rotate()?;
        }
        let (next, line) = self.link.next(time, fields);
        let written = self
            .file
            .write_all(line.as_bytes())
            .and_then(|()| self.file.sync_data());
        if let Err(error) = written {
            // What is there of it must not stand before the next line.
            if let Err(error) = self.file.set_len(self.bytes) {
                tracing::error!(%error, "half a line stays in the audit log");
            }
            return Err(fault(error));
        }
        self.bytes += line.len() as u64;
        self.link = next;
        let head = format!("{} {}\n", self.link.seq, self.link.hash);
        // The line is there: a head that is behind is no lie, and the next one goes past it.
        if let Err(error) = replace(&self.folder.join("head"), head.as_bytes()) {
            tracing::warn!(%error, "the head of the audit log stays behind");
        }
        Ok(())
    }

    fn rotate(&mut self) -> Result<(), AuditError> {
        let current = self.folder.join("audit.jsonl");
        let fault = |error: io::Error| AuditError::io(&current, &error);
        // Named by its last line, so that names sort as lines do.
        let closed = self
            .folder
            .join(format!("audit-{:020}.jsonl", self.link.seq));
        match fs::rename(&current, &closed) {
            // As when the new file could not be made the last time.
            Err(error) if error.kind() == io::ErrorKind::NotFound && closed.exists() => {}
            renamed => renamed.map_err(fault)?,
        }
        (self.file, self.bytes) = append_to(&current).map_err(fault)?;
        File::open(&self.folder)
            .and_then(|folder| folder.sync_all())
            .map_err(fault)
    }

    /// Cuts half a line off the end. Answers its length.
    fn cut_off(&mut self) -> Result<u64, AuditError> {
        let path = self.folder.join("audit.jsonl");
        let fault = |error: io::Error| AuditError::io(&path, &error);
        let mut text = Vec::new();
        self.file.seek(SeekFrom::Start(0)).map_err(fault)?;
        self.file.read_to_end(&mut text).map_err(fault)?;
        let keep = text
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |end| end + 1) as u64;
        self.file.set_len(keep).map_err(fault)?;
        self.file.sync_data().map_err(fault)?;
        let cut = self.bytes - keep;
        self.bytes = keep;
        Ok(cut)
    }
}

fn append_to(path: &Path) -> io::Result<(File, u64)> {
    // So that it is its owner's alone from the beginning.
    drop(private_file(path, false)?);
    let file = OpenOptions::new().read(true).append(true).open(path)?;
    let bytes = file.metadata()?.len();
    Ok((file, bytes))
}

fn event(name: &str, what: Value) -> Map<String, Value> {
    let mut fields = match what {
        Value::Object(fields) => fields,
        _ => Map::new(),
    };
    fields.insert("event".to_owned(), name.into());
    fields
}

fn now() -> String {
    humantime::format_rfc3339_millis(SystemTime::now()).to_string()
}

#[cfg(test)]
mod tests;
