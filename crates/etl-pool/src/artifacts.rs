//! Compiled modules on disk, so that a start need not compile.
//!
//! Loading native code is running it, so a file is only believed if it carries a keyed hash (BLAKE3) over its name and content. The key
//! is made with the folder and readable by its owner alone. A file's name is the hash of everything that decides what the compiler
//! makes: the module, the engine with its version, the processor's features and the instrumentation. A file that is missing, cut or
//! changed anywhere is compiled again and replaced; one that cannot be written costs a warning and nothing else.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{PoolError, PoolErrorKind};
use crate::module::hex;
use crate::random::Random;

const KEY: usize = 32;
const MAC: usize = 32;

/// Bytes that this program has written under its own key, and nobody has changed since.
#[derive(Debug)]
pub struct Authentic(Vec<u8>);

impl Authentic {
    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// A folder of compiled modules.
#[derive(Debug)]
pub(crate) struct Artifacts {
    folder: PathBuf,
    key: [u8; KEY],
}

impl Artifacts {
    /// Opens a folder, or makes it with a key of its own.
    pub(crate) fn open(folder: &Path) -> Result<Self, PoolError> {
        let failed = |error: &dyn std::fmt::Display| {
            PoolError::new(
                PoolErrorKind::Cache,
                format!(
                    "the cache of compiled modules in {} cannot be used: {error}",
                    folder.display()
                ),
            )
        };
        make_folder(folder).map_err(|error| failed(&error))?;
        let path = folder.join("key");
        let key = match new_private_file(&path) {
            Ok(mut file) => {
                let mut key = [0; KEY];
                Random::new().fill(&mut key);
                file.write_all(&key)
                    .and_then(|()| file.sync_all())
                    .map_err(|error| failed(&error))?;
                key
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                read_key(&path).map_err(|error| failed(&error))?
            }
            Err(error) => return Err(failed(&error)),
        };
        Ok(Self {
            folder: folder.to_owned(),
            key,
        })
    }

    /// The name under which code is kept: a hash over every part, each with its length.
    pub(crate) fn name(parts: &[&[u8]]) -> String {
        let mut hasher = blake3::Hasher::new();
        for part in parts {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        hex(hasher.finalize().as_bytes())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.code"))
    }

    fn mac(&self, name: &str, body: &[u8]) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        hasher.update(name.as_bytes());
        hasher.update(body);
        hasher.finalize()
    }

    /// What was kept under this name, if it is there and unchanged.
    pub(crate) fn load(&self, name: &str) -> Option<Authentic> {
        let mut file = fs::read(self.path(name)).ok()?;
        let body = file.len().checked_sub(MAC)?;
        let mac: [u8; MAC] = file[body..].try_into().ok()?;
        file.truncate(body);
        // Compared in constant time, by the type.
        if self.mac(name, &file) != blake3::Hash::from_bytes(mac) {
            tracing::warn!(
                name,
                "a cached compiled module has been changed; it is compiled again"
            );
            return None;
        }
        Some(Authentic(file))
    }

    /// Keeps code under this name. The file appears whole or not at all.
    pub(crate) fn store(&self, name: &str, body: &[u8]) {
        if let Err(error) = self.try_store(name, body) {
            tracing::warn!(name, %error, "a compiled module could not be cached");
        }
    }

    fn try_store(&self, name: &str, body: &[u8]) -> io::Result<()> {
        let mut suffix = [0; 8];
        Random::new().fill(&mut suffix);
        let temporary = self.folder.join(format!("{name}.{}", hex(&suffix)));
        let mut file = new_private_file(&temporary)?;
        let written = file
            .write_all(body)
            .and_then(|()| file.write_all(self.mac(name, body).as_bytes()))
            .and_then(|()| fs::rename(&temporary, self.path(name)));
        if written.is_err() {
            drop(fs::remove_file(&temporary));
        }
        written
    }
}

/// The key of a folder that exists. Another process may just be writing it.
fn read_key(path: &Path) -> io::Result<[u8; KEY]> {
    for _ in 0..100 {
        refuse_shared(path)?;
        let mut key = Vec::new();
        fs::File::open(path)?
            .take(KEY as u64 + 1)
            .read_to_end(&mut key)?;
        if let Ok(key) = key.try_into() {
            return Ok(key);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Err(io::Error::new(
        io::ErrorKind::InvalidData,
        "its key has another length than 32 bytes",
    ))
}

#[cfg(unix)]
fn make_folder(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
}

#[cfg(unix)]
fn new_private_file(path: &Path) -> io::Result<fs::File> {
    use std::os::unix::fs::OpenOptionsExt;
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}

#[cfg(unix)]
fn refuse_shared(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    if fs::metadata(path)?.permissions().mode() & 0o077 != 0 {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            "others may read or write its key, so nothing in it can be believed",
        ));
    }
    Ok(())
}

#[cfg(not(unix))]
fn make_folder(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)
}

#[cfg(not(unix))]
fn new_private_file(path: &Path) -> io::Result<fs::File> {
    OpenOptions::new().write(true).create_new(true).open(path)
}

#[cfg(not(unix))]
fn refuse_shared(_: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    #[test]
    fn what_was_kept_comes_back_under_the_same_key() {
        let folder = folder();
        let name = Artifacts::name(&[b"module", b"engine"]);
        Artifacts::open(folder.path())
            .unwrap()
            .store(&name, b"code");
        let again = Artifacts::open(folder.path()).unwrap();
        assert_eq!(again.load(&name).unwrap().bytes(), b"code");
        assert!(
            again
                .load(&Artifacts::name(&[b"modulee", b"ngine"]))
                .is_none(),
            "parts keep their bounds"
        );
    }

    #[test]
    fn a_flipped_bit_anywhere_is_refused() {
        let folder = folder();
        let artifacts = Artifacts::open(folder.path()).unwrap();
        artifacts.store("name", b"some code");
        let path = artifacts.path("name");
        let good = fs::read(&path).unwrap();
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            fs::write(&path, bad).unwrap();
            assert!(artifacts.load("name").is_none(), "bit {bit}");
        }
        for length in 0..good.len() {
            fs::write(&path, &good[..length]).unwrap();
            assert!(artifacts.load("name").is_none(), "cut to {length}");
        }
        fs::write(&path, &good).unwrap();
        assert!(artifacts.load("name").is_some());
        // A file under another's name is not that other.
        fs::rename(&path, artifacts.path("other")).unwrap();
        assert!(artifacts.load("other").is_none());
    }

    #[cfg(unix)]
    #[test]
    fn a_key_that_others_can_read_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let folder = folder();
        drop(Artifacts::open(folder.path()).unwrap());
        fs::set_permissions(folder.path().join("key"), fs::Permissions::from_mode(0o644)).unwrap();
        let error = Artifacts::open(folder.path()).unwrap_err();
        assert_eq!(error.kind(), PoolErrorKind::Cache);
    }
}
