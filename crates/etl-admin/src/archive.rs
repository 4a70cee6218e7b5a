//! Configurations that were in force, on disk: the next process lists them, compares them and goes back to them as this one does.
//!
//! ```text
//! <folder>/00000000000000000007.generation   a line with the SHA-256 of the rest, and the rest: JSON
//! <folder>/modules/<sha256>.wasm             the bytes of a module that a generation used
//! ```
//!
//! Where there is a key both are encrypted as a whole (`secrets::sealed`). A file is written beside its place, synced, and renamed into it, so
//! that a process that dies leaves whole ones. Documents are kept as they were written: what stands for variables and secrets is put in anew
//! when a generation comes back. The oldest go when there are too many, and modules with the last that used them.

mod content;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use etl_config::{LoadOptions, Loaded, Report};
use etl_orchestrator::{Generation, Orchestrator};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::access::{hex, private_folder};
use crate::secrets::{self, Key};

/// How the name of a generation's file ends.
pub(crate) const GENERATION: &str = "generation";
/// What this program writes.
const VERSION: u64 = 1;

/// The generations of a folder.
pub struct Archive {
    folder: PathBuf,
    key: Option<Key>,
    most: usize,
    kept: Mutex<Kept>,
}

impl std::fmt::Debug for Archive {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Archive({})", self.folder.display())
    }
}

#[derive(Default)]
struct Kept {
    by_number: BTreeMap<u64, Head>,
    /// The last that this process has seen to.
    last_seen: u64,
}

/// What is known of a generation without reading it again.
#[derive(Clone)]
struct Head {
    generation: Generation,
    /// Of what it holds, whatever its number.
    digest: [u8; 32],
    /// The modules that it used, by their digests.
    modules: BTreeSet<String>,
}

/// Why generations cannot be kept, or one that is kept cannot be had.
#[derive(Debug)]
pub struct ArchiveError(String);

impl ArchiveError {
    fn of(path: &Path, what: impl std::fmt::Display) -> Self {
        Self(format!("the generation {}: {what}", path.display()))
    }
}

impl std::fmt::Display for ArchiveError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for ArchiveError {}

/// Why a generation does not come back.
pub(crate) enum NotRestored {
    /// It cannot be read, or the bytes of a module are gone.
    Lost(ArchiveError),
    /// What it says cannot be used here any more.
    Invalid(Report),
}

impl Archive {
    /// Opens a folder, or makes it. At most so many generations stay in it.
    ///
    /// # Errors
    /// It cannot be read; or a generation in it is damaged, or of another key, or there is no key. Nothing is written then.
    pub fn open(folder: &Path, key: Option<Key>, most: usize) -> Result<Self, ArchiveError> {
        let fault = |error: io::Error| ArchiveError(format!("{}: {error}", folder.display()));
        private_folder(&folder.join("modules")).map_err(fault)?;
        let archive = Self {
            folder: folder.to_owned(),
            key,
            most: most.max(1),
            kept: Mutex::default(),
        };
        let mut by_number = BTreeMap::new();
        let entries = fs::read_dir(folder).map_err(fault)?;
        let paths = entries.map(|entry| entry.map(|entry| entry.path()));
        let mut paths: Vec<PathBuf> = paths.collect::<Result<_, _>>().map_err(fault)?;
        paths.sort();
        for path in paths {
            if path.extension().is_some_and(|ending| ending == GENERATION) {
                let head = Head::of(&archive.read(&path)?).ok_or_else(|| damaged(&path))?;
                by_number.insert(head.generation.generation, head);
            }
        }
        archive.lock().by_number = by_number;
        Ok(archive)
    }

    /// The number that the first configuration of the next process has.
    #[must_use]
    pub fn next_generation(&self) -> u64 {
        let kept = self.lock();
        let last = kept.by_number.last_key_value();
        last.map_or(1, |(number, _)| number.saturating_add(1))
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self, generation: u64) -> PathBuf {
        // So that names sort as numbers do.
        self.folder.join(format!("{generation:020}.{GENERATION}"))
    }

    fn module_path(&self, sha256: &str) -> PathBuf {
        self.folder.join("modules").join(format!("{sha256}.wasm"))
    }

    /// Every generation that is kept, oldest first.
    pub(crate) fn list(&self) -> Vec<Generation> {
        let kept = self.lock();
        let heads = kept.by_number.values();
        heads.map(|head| head.generation.clone()).collect()
    }

    /// Keeps what this process has put in force and is not kept yet.
    pub(crate) fn catch_up(&self, orchestrator: &Orchestrator) -> Result<(), ArchiveError> {
        let last_seen = self.lock().last_seen;
        if orchestrator.generation() <= last_seen {
            return Ok(());
        }
        for generation in orchestrator.generations() {
            if generation.generation > last_seen {
                self.keep(orchestrator, generation)?;
            }
        }
        Ok(())
    }

    fn keep(
        &self,
        orchestrator: &Orchestrator,
        generation: Generation,
    ) -> Result<(), ArchiveError> {
        let number = generation.generation;
        let path = self.path(number);
        let modules = orchestrator.modules_of(number);
        let read = |loaded: &Loaded| {
            let modules = modules.as_deref()?;
            Some(content::of(loaded, modules, |bytes| {
                self.keep_module(bytes)
            }))
        };
        let Some(content) = orchestrator.read_configuration(number, read).flatten() else {
            // So many came after it that nobody has it any more.
            return Ok(());
        };
        let content = content.map_err(|error| ArchiveError::of(&path, error))?;
        let kept = json!({
            "version": VERSION,
            "generation": number,
            "since_unix_ms": generation.since,
            "cause": generation.cause,
            "content": content,
        });
        let head = Head::of(&kept).ok_or_else(|| damaged(&path))?;
        let text = kept.to_string();
        let text = format!("{}\n{text}\n", hex(&Sha256::digest(text.as_bytes())));
        self.write(&path, text.as_bytes())?;
        let mut kept = self.lock();
        // What a process starts with is mostly what the one before it ended with: it is kept once, or restarts would push out the others.
        let is_first = kept.last_seen == 0;
        let before = kept.by_number.last_key_value();
        let same = before
            .filter(|(_, before)| is_first && before.digest == head.digest)
            .map(|(number, _)| *number);
        kept.by_number.insert(number, head);
        kept.last_seen = number;
        self.prune(&mut kept, same);
        Ok(())
    }

    /// Takes away what is too much.
    fn prune(&self, kept: &mut Kept, same: Option<u64>) {
        let count = kept.by_number.len();
        let oldest = kept.by_number.keys().copied();
        let mut gone: BTreeSet<u64> = oldest.take(count.saturating_sub(self.most)).collect();
        gone.extend(same);
        if gone.is_empty() {
            return;
        }
        for number in gone {
            kept.by_number.remove(&number);
            remove(&self.path(number));
        }
        let heads = kept.by_number.values();
        let used: BTreeSet<&String> = heads.flat_map(|head| &head.modules).collect();
        let entries = fs::read_dir(self.folder.join("modules"));
        for entry in entries.into_iter().flatten().flatten() {
            let path = entry.path();
            let name = path
                .file_stem()
                .map(|name| name.to_string_lossy().into_owned());
            if name.is_some_and(|name| !used.contains(&name)) {
                remove(&path);
            }
        }
    }

    /// Keeps the bytes of a module; answers their digest.
    fn keep_module(&self, bytes: &[u8]) -> Result<String, String> {
        let sha256 = hex(&Sha256::digest(bytes));
        let path = self.module_path(&sha256);
        if !path.exists() {
            self.write(&path, bytes)
                .map_err(|error| error.to_string())?;
        }
        Ok(sha256)
    }

    fn write(&self, path: &Path, plain: &[u8]) -> Result<(), ArchiveError> {
        let sealed = self.key.as_ref().map(|key| secrets::seal(key, plain));
        let sealed = sealed
            .transpose()
            .map_err(|error| ArchiveError::of(path, error))?;
        let written = secrets::replace(path, sealed.as_deref().unwrap_or(plain));
        written.map_err(|error| ArchiveError::of(path, error))
    }

    /// The bytes of a file, decrypted where they are encrypted.
    fn open_file(&self, path: &Path) -> Result<Vec<u8>, ArchiveError> {
        let bytes = fs::read(path).map_err(|error| ArchiveError::of(path, error))?;
        match &self.key {
            _ if !secrets::is_sealed(&bytes) => Ok(bytes),
            Some(key) => secrets::open(key, path, &bytes)
                .map(|plain| plain.to_vec())
                .map_err(|error| ArchiveError(error.to_string())),
            None => Err(ArchiveError::of(
                path,
                "it is encrypted, and no key is given (--secret-key)",
            )),
        }
    }

    fn read(&self, path: &Path) -> Result<Value, ArchiveError> {
        let bytes = self.open_file(path)?;
        let text = std::str::from_utf8(&bytes).map_err(|_| damaged(path))?;
        let (digest, text) = text.split_once('\n').ok_or_else(|| damaged(path))?;
        let text = text.strip_suffix('\n').ok_or_else(|| damaged(path))?;
        if hex(&Sha256::digest(text.as_bytes())) != digest {
            return Err(damaged(path));
        }
        let kept: Value = serde_json::from_str(text).map_err(|_| damaged(path))?;
        match kept["version"].as_u64() {
            Some(VERSION) => Ok(kept),
            _ => Err(ArchiveError::of(
                path,
                format!("it is of another version than {VERSION}"),
            )),
        }
    }

    /// What a generation holds; `None` where it is not kept.
    fn content(&self, generation: u64) -> Option<Result<Value, ArchiveError>> {
        if !self.lock().by_number.contains_key(&generation) {
            return None;
        }
        let kept = self.read(&self.path(generation));
        Some(kept.map(|mut kept| kept["content"].take()))
    }

    /// What changed from one to the other, in the words of the API; `None` where one of them is not kept.
    pub(crate) fn difference(&self, from: u64, to: u64) -> Option<Result<Value, ArchiveError>> {
        let (before, after) = (self.content(from)?, self.content(to)?);
        let both = before.and_then(|before| Ok((before, after?)));
        Some(both.map(|(before, after)| content::difference(&before, &after)))
    }

    /// Loads a generation again, with the bytes that its modules had; `None` where it is not kept.
    pub(crate) fn restore(
        &self,
        generation: u64,
        options: &LoadOptions,
    ) -> Option<Result<Loaded, NotRestored>> {
        let content = match self.content(generation)? {
            Ok(content) => content,
            Err(error) => return Some(Err(NotRestored::Lost(error))),
        };
        // Where a module's file still is what it was it is taken; else what is kept of it.
        let place = |file: &str, sha256: &str| -> Option<PathBuf> {
            let has_it = |path: &PathBuf| {
                self.open_file(path)
                    .is_ok_and(|bytes| hex(&Sha256::digest(&bytes)) == sha256)
            };
            [PathBuf::from(file), self.module_path(sha256)]
                .into_iter()
                .find(has_it)
        };
        let document = content::document(&content, place);
        Some(match document {
            Err(module) => Err(NotRestored::Lost(ArchiveError(format!(
                "the bytes that the module {module:?} had in generation {generation} are not kept: its file was another one before they could be, or is gone"
            )))),
            Ok((name, text)) => {
                etl_config::load_text(&name, &text, options).map_err(NotRestored::Invalid)
            }
        })
    }
}

impl Head {
    fn of(kept: &Value) -> Option<Self> {
        let content = &kept["content"];
        let mut generation = Generation::default();
        generation.generation = kept["generation"].as_u64()?;
        generation.since = kept["since_unix_ms"].as_i64()?;
        generation.cause = kept["cause"].as_str()?.to_owned();
        generation.pipelines = content["pipelines"].as_array()?.len();
        Some(Self {
            generation,
            digest: Sha256::digest(content.to_string()).into(),
            modules: content::digests(content).map(str::to_owned).collect(),
        })
    }
}

fn damaged(path: &Path) -> ArchiveError {
    ArchiveError::of(
        path,
        "it is damaged: it is not what was written; move it away",
    )
}

fn remove(path: &Path) {
    if let Err(error) = fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(path = %path.display(), %error, "a generation that is not kept any more stays");
    }
}
