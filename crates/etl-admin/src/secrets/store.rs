//! The file of secrets.
//!
//! ```text
//! magic     8 bytes   "ETLSECR" and a zero
//! version   2 bytes   1; every number is little endian
//! key id    8 bytes   which key opens it
//! count     4 bytes   of entries, which follow, sorted by their names
//!   name    2 bytes of length, then the name in clear
//!   made    8 bytes   Unix seconds
//!   changed 8 bytes   Unix seconds
//!   nonce  24 bytes
//!   value   4 bytes of length, then XChaCha20-Poly1305 of the value; name and times are bound to it
//! nonce    24 bytes
//! end      16 bytes   XChaCha20-Poly1305 of nothing; every byte before its nonce is bound to it
//! ```
//!
//! So no byte of it can be changed, no entry moved, renamed, taken out or brought back from an older file's middle without the key. An
//! older file as a whole is not told from a newer one. It is replaced as a whole, by a rename, and read before it is written: one that
//! cannot be opened stays as it is. Commands that change it take turns by a lock on a file beside it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use etl_config::{Secret, SecretError, is_secret_name};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::{Key, KeyId, VERSION, failed, random, replace, with};
use crate::access::{now, private_file};

const MAGIC: &[u8; 8] = b"ETLSECR\0";
const NONCE: usize = 24;
const TAG: usize = 16;

/// A secret may have so many bytes.
const MAX_VALUE_BYTES: usize = 64 << 10;

/// The file may have so many.
const MAX_FILE_BYTES: u64 = 64 << 20;

/// A file of secrets.
#[derive(Clone, Debug)]
pub struct SecretStore {
    path: PathBuf,
}

/// What is told of a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// When it was first set, in Unix seconds.
    pub created: u64,
    /// When it was set last.
    pub changed: u64,
}

impl Listed {
    /// For `--json`.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({ "name": self.name, "created": self.created, "changed": self.changed })
    }
}

struct Entry {
    created: u64,
    changed: u64,
    value: Secret,
}

type Entries = BTreeMap<String, Entry>;

impl SecretStore {
    /// The store in this file, which need not be there yet.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Every secret.
    ///
    /// # Errors
    /// The file is not there, is damaged, or is of another key.
    pub fn secrets(&self, key: &Key) -> Result<BTreeMap<String, Secret>, SecretError> {
        let entries = self.read(key)?.ok_or_else(|| self.missing())?;
        let entries = entries.into_iter();
        Ok(entries.map(|(name, entry)| (name, entry.value)).collect())
    }

    /// The names and times of all, sorted by name; none where there is no file.
    ///
    /// # Errors
    /// The file is damaged, or of another key.
    pub fn list(&self, key: &Key) -> Result<Vec<Listed>, SecretError> {
        let entries = self.read(key)?.unwrap_or_default().into_iter();
        let listed = entries.map(|(name, entry)| Listed {
            name,
            created: entry.created,
            changed: entry.changed,
        });
        Ok(listed.collect())
    }

    /// Sets a secret, new or not. Answers whether it is new.
    ///
    /// # Errors
    /// The name or the value cannot be one; the file cannot be read, or cannot be written.
    pub fn set(&self, key: &Key, name: &str, value: Secret) -> Result<bool, SecretError> {
        if !is_secret_name(name) {
            let hint = "names are 1 to 128 letters, digits, `_`, `-` and `.`".to_owned();
            let message = format!("{name:?} is not the name of a secret");
            return Err(SecretError::new(message, Some(hint)));
        }
        let bytes = value.reveal().len();
        if bytes > MAX_VALUE_BYTES {
            let message = format!("{bytes} bytes are more than the {MAX_VALUE_BYTES} of a secret");
            return Err(SecretError::new(message, None));
        }
        self.change(key, key, |entries| {
            let changed = now();
            let before = entries.get(name);
            let entry = Entry {
                created: before.map_or(changed, |before| before.created),
                changed,
                value,
            };
            Ok(entries.insert(name.to_owned(), entry).is_none())
        })
    }

    /// Takes a secret away.
    ///
    /// # Errors
    /// There is none of this name; the file cannot be read, or cannot be written.
    pub fn remove(&self, key: &Key, name: &str) -> Result<(), SecretError> {
        self.change(key, key, |entries| match entries.remove(name) {
            Some(_) => Ok(()),
            None => Err(failed(&self.path, format!("no secret is called `{name}`"))),
        })
    }

    /// Encrypts every secret anew, with another key. Answers how many there are. Where all are under that key already nothing is done, so
    /// that what was interrupted can be done again.
    ///
    /// # Errors
    /// The file is not there, damaged, or of neither key, or cannot be written.
    pub fn rotate(&self, old: &Key, new: &Key) -> Result<usize, SecretError> {
        match self.key_id()? {
            None => return Err(self.missing()),
            Some(id) if id == new.id() => return Ok(self.list(new)?.len()),
            Some(_) => {}
        }
        self.change(old, new, |entries| Ok(entries.len()))
    }

    /// Which key the file is of; none where there is no file.
    ///
    /// # Errors
    /// It cannot be read, or is no file of secrets.
    pub fn key_id(&self) -> Result<Option<KeyId>, SecretError> {
        let Some(bytes) = self.bytes()? else {
            return Ok(None);
        };
        Reader::begin(&self.path, &bytes).map(|(_, id)| Some(id))
    }

    fn missing(&self) -> SecretError {
        let file = self.path.display();
        let hint = format!("`etl secret set NAME --secrets {file}` makes it");
        SecretError::new(
            format!("there are no secrets in {file}: there is no such file"),
            Some(hint),
        )
    }

    fn change<T>(
        &self,
        old: &Key,
        new: &Key,
        make: impl FnOnce(&mut Entries) -> Result<T, SecretError>,
    ) -> Result<T, SecretError> {
        let lock = with(&self.path, ".lock");
        let locked = private_file(&lock, false).and_then(|file| file.lock().map(|()| file));
        let _locked = locked.map_err(|error| failed(&lock, error))?;
        let mut entries = self.read(old)?.unwrap_or_default();
        let made = make(&mut entries)?;
        let bytes = written(new, &entries)?;
        replace(&self.path, &bytes).map_err(|error| {
            let message = format!("{} cannot be written: {error}", self.path.display());
            SecretError::new(message, Some("what it held is as it was".to_owned()))
        })?;
        Ok(made)
    }

    fn bytes(&self) -> Result<Option<Vec<u8>>, SecretError> {
        let size = match fs::metadata(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            metadata => metadata.map_err(|error| failed(&self.path, error))?.len(),
        };
        if size > MAX_FILE_BYTES {
            return Err(failed(&self.path, "too large for a file of secrets"));
        }
        let bytes = fs::read(&self.path).map_err(|error| failed(&self.path, error))?;
        Ok(Some(bytes))
    }

    fn read(&self, key: &Key) -> Result<Option<Entries>, SecretError> {
        let Some(bytes) = self.bytes()? else {
            return Ok(None);
        };
        let (reader, id) = Reader::begin(&self.path, &bytes)?;
        if id != key.id() {
            return Err(key.wrong_for(&self.path, id));
        }
        let damaged = || {
            failed(
                &self.path,
                "the file of secrets is damaged: it is not what was written",
            )
        };
        let end = bytes.len().checked_sub(NONCE + TAG).ok_or_else(damaged)?;
        let (body, end) = bytes.split_at(end);
        let whole = end
            .split_first_chunk::<NONCE>()
            .and_then(|(nonce, tag)| key.decrypt(*nonce, tag, body));
        whole.ok_or_else(damaged)?;
        reader
            .entries(key, body.len())
            .ok_or_else(damaged)
            .map(Some)
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// Reads up to the key's id.
    fn begin(path: &Path, bytes: &'a [u8]) -> Result<(Self, KeyId), SecretError> {
        let mut reader = Reader { bytes, at: 0 };
        if reader.array::<8>() != Some(*MAGIC) {
            return Err(failed(path, "this is no file of secrets"));
        }
        let version = reader.array().map(u16::from_le_bytes);
        let id = reader.array().map(KeyId);
        match (version, id) {
            (Some(VERSION), Some(id)) => Ok((reader, id)),
            (Some(version), _) if version != VERSION => {
                let what = format!("a file of secrets of version {version}; known is {VERSION}");
                Err(failed(path, what))
            }
            _ => Err(failed(path, "the file of secrets is cut off")),
        }
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let taken = self.bytes.get(self.at..self.at.checked_add(count)?)?;
        self.at += count;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    /// Every entry, up to the end of the body.
    fn entries(mut self, key: &Key, end: usize) -> Option<Entries> {
        let count = u32::from_le_bytes(self.array()?);
        let mut entries = Entries::new();
        for _ in 0..count {
            let length = u16::from_le_bytes(self.array()?);
            let name = std::str::from_utf8(self.take(length.into())?).ok()?;
            let created = u64::from_le_bytes(self.array()?);
            let changed = u64::from_le_bytes(self.array()?);
            let nonce = self.array()?;
            let length = u32::from_le_bytes(self.array()?);
            let sealed = self.take(usize::try_from(length).ok()?)?;
            let value = key.decrypt(nonce, sealed, &about(name, created, changed))?;
            let text = std::str::from_utf8(&value).ok()?;
            let value = Secret::new(Zeroizing::new(text.to_owned()));
            let entry = Entry {
                created,
                changed,
                value,
            };
            entries.insert(name.to_owned(), entry);
        }
        (self.at == end && entries.len() == usize::try_from(count).ok()?).then_some(entries)
    }
}

/// What is bound to a value: what it is, whose, and of when.
fn about(name: &str, created: u64, changed: u64) -> Vec<u8> {
    let mut about = b"etl secret v1\0".to_vec();
    about.extend(created.to_le_bytes());
    about.extend(changed.to_le_bytes());
    about.extend(name.as_bytes());
    about
}

fn written(key: &Key, entries: &Entries) -> Result<Vec<u8>, SecretError> {
    let too_many = || SecretError::new("there are too many secrets for one file", None);
    let mut bytes = Vec::new();
    bytes.extend(MAGIC);
    bytes.extend(VERSION.to_le_bytes());
    bytes.extend(key.id().0);
    bytes.extend(
        u32::try_from(entries.len())
            .map_err(|_| too_many())?
            .to_le_bytes(),
    );
    for (name, entry) in entries {
        let nonce = random::<NONCE>()?;
        let about = about(name, entry.created, entry.changed);
        let sealed = key.encrypt(nonce, entry.value.reveal().as_bytes(), &about)?;
        bytes.extend(
            u16::try_from(name.len())
                .map_err(|_| too_many())?
                .to_le_bytes(),
        );
        bytes.extend(name.as_bytes());
        bytes.extend(entry.created.to_le_bytes());
        bytes.extend(entry.changed.to_le_bytes());
        bytes.extend(nonce);
        bytes.extend(
            u32::try_from(sealed.len())
                .map_err(|_| too_many())?
                .to_le_bytes(),
        );
        bytes.extend(sealed);
    }
    let nonce = random::<NONCE>()?;
    let end = key.encrypt(nonce, b"", &bytes)?;
    bytes.extend(nonce);
    bytes.extend(end);
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(too_many());
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests;
