//! The file of those who may use the API: tokens by their hashes, certificates by their digests.
//!
//! It is JSON, readable by its owner alone, and replaced as a whole, so that a reader sees one state or the next. Commands that change
//! it take turns by a lock on a file beside it; the server reads it again whenever it is another file than before, so that a token
//! that was revoked is of no use with the next request.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::token::{Token, hex};
use super::{Role, Scope};

/// Somebody who may use the API.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entry {
    /// What the entry is called in commands: the middle of a token, the beginning of a certificate's digest.
    pub id: String,
    /// Who it is, in the audit log.
    pub name: String,
    /// What they may do.
    pub role: Role,
    /// To which pipelines.
    pub scope: Scope,
    /// When it was made, in Unix seconds.
    pub created: u64,
    /// From when on it is of no use.
    pub expires: Option<u64>,
    /// When it was taken back.
    pub revoked: Option<u64>,
    pub(super) proof: Proof,
}

/// What shows that somebody is who they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Proof {
    /// A token with this hash.
    Token(String),
    /// A certificate with this SHA-256, in hexadecimal.
    Certificate(String),
}

impl Entry {
    /// `token` or `certificate`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self.proof {
            Proof::Token(_) => "token",
            Proof::Certificate(_) => "certificate",
        }
    }

    /// `valid`, `expired` or `revoked`.
    #[must_use]
    pub fn state(&self) -> &'static str {
        if self.revoked.is_some() {
            "revoked"
        } else if self.expires.is_some_and(|expires| expires <= now()) {
            "expired"
        } else {
            "valid"
        }
    }

    /// Without what proves it, for `--json`.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({
            "id": self.id,
            "kind": self.kind(),
            "name": self.name,
            "role": self.role.name(),
            "pipelines": self.scope.patterns(),
            "created": self.created,
            "expires": self.expires,
            "revoked": self.revoked,
            "state": self.state(),
        })
    }

    fn stored(&self) -> Value {
        let mut entry = self.to_json();
        if let Some(fields) = entry.as_object_mut() {
            fields.remove("state");
            let (name, proof) = match &self.proof {
                Proof::Token(hash) => ("hash", hash),
                Proof::Certificate(digest) => ("sha256", digest),
            };
            fields.insert(name.to_owned(), proof.clone().into());
        }
        entry
    }

    fn read(value: &Value) -> Option<Self> {
        let text = |name: &str| value[name].as_str().map(str::to_owned);
        // A time that is there and is no time must not become "never".
        let time = |name: &str| match &value[name] {
            Value::Null => Some(None),
            time => time.as_u64().map(Some),
        };
        let patterns = value["pipelines"].as_array()?.iter();
        let patterns: Option<Vec<String>> = patterns
            .map(|pattern| pattern.as_str().map(str::to_owned))
            .collect();
        Some(Self {
            id: text("id")?,
            name: text("name")?,
            role: text("role")?.parse().ok()?,
            scope: Scope::new(patterns?),
            created: value["created"].as_u64()?,
            expires: time("expires")?,
            revoked: time("revoked")?,
            proof: match value["kind"].as_str()? {
                "token" => Proof::Token(text("hash")?),
                "certificate" => Proof::Certificate(text("sha256")?),
                _ => return None,
            },
        })
    }
}

/// What a new entry is to be.
#[derive(Clone, Debug)]
pub struct NewEntry {
    /// Who it is.
    pub name: String,
    /// What they may do.
    pub role: Role,
    /// To which pipelines.
    pub scope: Scope,
    /// From when on it is of no use, in Unix seconds.
    pub expires: Option<u64>,
}

/// Why the file could not be used.
#[derive(Debug)]
pub struct AccessError(String);

impl AccessError {
    pub(super) fn hashing(error: impl std::fmt::Display) -> Self {
        Self(format!("cannot make a token: {error}"))
    }

    fn io(path: &Path, error: &io::Error) -> Self {
        Self(format!("{}: {error}", path.display()))
    }
}

impl std::fmt::Display for AccessError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for AccessError {}

/// The file `access.json` in a folder.
#[derive(Clone, Debug)]
pub struct Store {
    folder: PathBuf,
}

/// What tells one state of the file from the next.
pub(super) type State = Option<(u64, i64, i64, u64)>;

impl Store {
    /// The store in this folder, which need not be there yet.
    pub fn in_folder(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
        }
    }

    fn path(&self) -> PathBuf {
        self.folder.join("access.json")
    }

    pub(super) fn state(&self) -> State {
        let metadata = fs::metadata(self.path()).ok()?;
        Some((
            metadata.ino(),
            metadata.mtime(),
            metadata.mtime_nsec(),
            metadata.len(),
        ))
    }

    /// Everybody, in the order in which they came.
    ///
    /// # Errors
    /// The file cannot be read, or is not what it should be. One that is not there is empty.
    pub fn entries(&self) -> Result<Vec<Entry>, AccessError> {
        let path = self.path();
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            text => text.map_err(|error| AccessError::io(&path, &error))?,
        };
        let broken = |what: &str| AccessError(format!("{}: {what}", path.display()));
        let value: Value =
            serde_json::from_str(&text).map_err(|error| broken(&error.to_string()))?;
        if value["version"] != 1 {
            return Err(broken("not a file of this version"));
        }
        let entries = value["entries"].as_array().map(|entries| {
            let mut entries = entries.iter().enumerate();
            entries
                .try_fold(Vec::new(), |mut read, (index, entry)| {
                    read.push(Entry::read(entry).ok_or(index)?);
                    Ok(read)
                })
                .map_err(|index: usize| broken(&format!("entries[{index}] is not an entry")))
        });
        entries.ok_or_else(|| broken("no list of entries"))?
    }

    /// Makes a token. It is shown by [`Token::reveal`] and cannot be had again.
    ///
    /// # Errors
    /// The name is taken by an entry that is still valid, or the file cannot be written.
    pub fn create_token(&self, new: NewEntry) -> Result<Token, AccessError> {
        let token = Token::new()?;
        let proof = Proof::Token(token.hash()?);
        self.add(token.id.clone(), new, proof)?;
        Ok(token)
    }

    /// Lets the owner of a certificate in. Its digest is the SHA-256 of its DER form.
    ///
    /// # Errors
    /// As [`create_token`](Self::create_token).
    pub fn allow_certificate(
        &self,
        digest: [u8; 32],
        new: NewEntry,
    ) -> Result<String, AccessError> {
        let digest = hex(&digest);
        let id = digest[..12].to_owned();
        self.add(id.clone(), new, Proof::Certificate(digest))?;
        Ok(id)
    }

    fn add(&self, id: String, new: NewEntry, proof: Proof) -> Result<(), AccessError> {
        let plain = |text: &str| !text.is_empty() && !text.chars().any(char::is_control);
        if !plain(&new.name) || new.name.len() > 128 {
            let message = "a name has 1 to 128 bytes and no control characters";
            return Err(AccessError(message.to_owned()));
        }
        self.change(|entries| {
            let taken = entries
                .iter()
                .find(|entry| entry.name == new.name && entry.state() == "valid");
            if let Some(taken) = taken {
                return Err(AccessError(format!(
                    "{:?} is the name of {} {}; revoke it first, or take another name",
                    new.name,
                    taken.kind(),
                    taken.id
                )));
            }
            entries.push(Entry {
                id,
                name: new.name,
                role: new.role,
                scope: new.scope,
                created: now(),
                expires: new.expires,
                revoked: None,
                proof,
            });
            Ok(())
        })
    }

    /// Takes an entry back, by its id or by its name. Answers the ids of those that were valid until now.
    ///
    /// # Errors
    /// There is none, or the file cannot be written.
    pub fn revoke(&self, which: &str) -> Result<Vec<String>, AccessError> {
        self.change(|entries| {
            let mut revoked = Vec::new();
            let mut known = false;
            for entry in entries
                .iter_mut()
                .filter(|entry| entry.id == which || entry.name == which)
            {
                known = true;
                if entry.revoked.is_none() {
                    entry.revoked = Some(now());
                    revoked.push(entry.id.clone());
                }
            }
            if known {
                Ok(revoked)
            } else {
                let path = self.path();
                let message = format!("{}: nobody has the id or name {which:?}", path.display());
                Err(AccessError(message))
            }
        })
    }

    fn change<T>(
        &self,
        make: impl FnOnce(&mut Vec<Entry>) -> Result<T, AccessError>,
    ) -> Result<T, AccessError> {
        let fault = |error: io::Error| AccessError::io(&self.folder, &error);
        private_folder(&self.folder).map_err(fault)?;
        let lock = private(&self.folder.join("access.lock"), false).map_err(fault)?;
        lock.lock().map_err(fault)?;
        let mut entries = self.entries()?;
        let made = make(&mut entries)?;
        let stored: Vec<Value> = entries.iter().map(Entry::stored).collect();
        let text = format!("{:#}\n", json!({ "version": 1, "entries": stored }));
        replace(&self.path(), text.as_bytes())
            .map_err(|error| AccessError::io(&self.path(), &error))?;
        Ok(made)
    }
}

pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

/// A folder that its owner alone can look into.
pub(crate) fn private_folder(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
}

/// A file that its owner alone can read.
pub(crate) fn private(path: &Path, truncate: bool) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(truncate)
        .mode(0o600)
        .open(path)
}

/// Puts a file in the place of another: whoever opens it finds the one or the other, whole, even after a power failure.
pub(crate) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let beside = path.with_extension("new");
    let mut file = private(&beside, true)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}
