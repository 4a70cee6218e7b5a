//! Compiled modules on disk, so that a start need not compile.
//!
//! Loading native code is running it, so a file is only believed if it carries a keyed hash (BLAKE3) over its name and content. The key
//! is made with the folder and readable by its owner alone. A file's name is the hash of everything that decides what the compiler
//! makes: the module, the engine with its version, the processor's features and the instrumentation. A file that is missing, cut or
//! changed anywhere is compiled again and replaced; one that cannot be written costs a warning and nothing else.
//!
//! The folder is bounded: after a file is added, those that were not used for longest go until the rest fits. A use is noted as the file's
//! time of access, set explicitly, because many systems are mounted to leave it alone. Processes may share a folder: a file appears whole,
//! by renaming, and one that another process has just removed is compiled again.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

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
    /// Bytes that its files may have together.
    limit: u64,
}

/// The age from which a file that was never finished is taken for one whose writer has died.
const ABANDONED: Duration = Duration::from_secs(3_600);

impl Artifacts {
    /// Opens a folder, or makes it with a key of its own.
    ///
    /// `None` where it does not exist yet and there is no room to make it: it would be empty anyway.
    pub(crate) fn open(folder: &Path, limit: u64) -> Result<Option<Self>, PoolError> {
        match open_key(folder) {
            Ok(key) => Ok(Some(Self {
                folder: folder.to_owned(),
                key,
                limit,
            })),
            Err(error) if is_full(error.kind()) => {
                tracing::warn!(folder = %folder.display(), %error, "compiled modules are not cached");
                Ok(None)
            }
            Err(error) => Err(PoolError::new(
                PoolErrorKind::Cache,
                format!(
                    "the cache of compiled modules in {} cannot be used: {error}",
                    folder.display()
                ),
            )),
        }
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
        let path = self.path(name);
        let mut file = fs::read(&path).ok()?;
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
        // Where this fails, the file looks unused and may go early.
        let used = fs::FileTimes::new().set_accessed(SystemTime::now());
        drop(fs::File::open(&path).and_then(|file| file.set_times(used)));
        Some(Authentic(file))
    }

    /// Keeps code under this name. The file appears whole or not at all.
    pub(crate) fn store(&self, name: &str, body: &[u8]) {
        let size = (body.len() + MAC) as u64;
        if size > self.limit {
            tracing::warn!(
                name,
                size,
                limit = self.limit,
                "a compiled module is too large to be cached"
            );
            return;
        }
        if let Err(error) = self.try_store(name, body) {
            tracing::warn!(name, %error, "a compiled module could not be cached");
        }
        if let Err(error) = self.sweep() {
            tracing::warn!(%error, "the cache of compiled modules could not be looked through");
        }
    }

    /// Removes what was not used for longest until the rest fits, and what was never finished.
    fn sweep(&self) -> io::Result<()> {
        let now = SystemTime::now();
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let path = entry.path();
            // Others may remove files meanwhile.
            let Ok(facts) = entry.metadata() else {
                continue;
            };
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("code") => {
                    let used = facts.accessed().or_else(|_| facts.modified())?;
                    files.push((used, facts.len(), path));
                }
                Some("part") => {
                    let age = facts
                        .modified()
                        .ok()
                        .and_then(|at| now.duration_since(at).ok());
                    if age.is_some_and(|age| age > ABANDONED) {
                        drop(fs::remove_file(path));
                    }
                }
                _ => {}
            }
        }
        let mut total: u64 = files.iter().map(|(_, size, _)| size).sum();
        files.sort_unstable();
        for (_, size, path) in files {
            if total <= self.limit {
                break;
            }
            drop(fs::remove_file(path));
            total -= size;
        }
        Ok(())
    }

    fn try_store(&self, name: &str, body: &[u8]) -> io::Result<()> {
        let unfinished = Unfinished::new(&self.folder, &[body, self.mac(name, body).as_bytes()])?;
        fs::rename(&unfinished.0, self.path(name))
    }
}

/// Whether there is no room, or nothing may be written at all.
fn is_full(kind: io::ErrorKind) -> bool {
    matches!(
        kind,
        io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::ReadOnlyFilesystem
    )
}

/// A file under a name of its own, removed on drop unless it was renamed.
struct Unfinished(PathBuf);

impl Unfinished {
    fn new(folder: &Path, parts: &[&[u8]]) -> io::Result<Self> {
        let mut name = [0; 16];
        Random::new().fill(&mut name);
        let this = Self(folder.join(format!("{}.part", hex(&name))));
        let mut file = new_private_file(&this.0)?;
        for part in parts {
            file.write_all(part)?;
        }
        Ok(this)
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        drop(fs::remove_file(&self.0));
    }
}

/// The key of a folder, which is made if it is not there.
fn open_key(folder: &Path) -> io::Result<[u8; KEY]> {
    make_folder(folder)?;
    let path = folder.join("key");
    if !path.try_exists()? {
        let mut key = [0; KEY];
        Random::new().fill(&mut key);
        let unfinished = Unfinished::new(folder, &[&key])?;
        // The key appears whole, once: of two processes that make one, the second finds it there.
        match fs::hard_link(&unfinished.0, &path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    // What is looked at is what is read: whoever may write in the folder could put another file there in between.
    let file = fs::File::open(&path)?;
    refuse_shared(&file)?;
    let mut key = Vec::new();
    file.take(KEY as u64 + 1).read_to_end(&mut key)?;
    key.try_into().map_err(|_| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            "its key has another length than 32 bytes; remove it, and all files beside it are made anew",
        )
    })
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
fn refuse_shared(key: &fs::File) -> io::Result<()> {
    use std::os::unix::fs::MetadataExt;
    let key = key.metadata()?;
    let why = if key.uid() != nix::unistd::geteuid().as_raw() {
        "its key is another user's, so nothing in it can be believed"
    } else if key.mode() & 0o077 != 0 {
        "others may read or write its key, so nothing in it can be believed"
    } else {
        return Ok(());
    };
    Err(io::Error::new(io::ErrorKind::PermissionDenied, why))
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
fn refuse_shared(_: &fs::File) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    fn open(folder: &tempfile::TempDir) -> Artifacts {
        bounded(folder, u64::MAX)
    }

    fn bounded(folder: &tempfile::TempDir, limit: u64) -> Artifacts {
        Artifacts::open(folder.path(), limit).unwrap().unwrap()
    }

    #[test]
    fn what_was_kept_comes_back_under_the_same_key() {
        let folder = folder();
        let name = Artifacts::name(&[b"module", b"engine"]);
        open(&folder).store(&name, b"code");
        let again = open(&folder);
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
        let artifacts = open(&folder);
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
        drop(open(&folder));
        fs::set_permissions(folder.path().join("key"), fs::Permissions::from_mode(0o644)).unwrap();
        let error = Artifacts::open(folder.path(), u64::MAX).unwrap_err();
        assert_eq!(error.kind(), PoolErrorKind::Cache);
    }

    /// Somebody who may write where the folder is to be could make it first, with a key of their own.
    #[cfg(unix)]
    #[test]
    fn a_key_of_another_user_is_refused() {
        let folder = folder();
        drop(open(&folder));
        let key = folder.path().join("key");
        if std::os::unix::fs::chown(&key, Some(12_345), None).is_err() {
            println!("skipped: only root can give a file to another user");
            return;
        }
        let error = Artifacts::open(folder.path(), u64::MAX).unwrap_err();
        assert_eq!(error.kind(), PoolErrorKind::Cache);
        assert!(error.message().contains("another user"), "{error}");
    }

    /// Bytes of all files that hold code.
    fn size(folder: &tempfile::TempDir) -> u64 {
        let files = fs::read_dir(folder.path()).unwrap();
        files
            .map(|entry| entry.unwrap())
            .filter(|entry| entry.path().extension().is_some_and(|e| e == "code"))
            .map(|entry| entry.metadata().unwrap().len())
            .sum()
    }

    fn age(artifacts: &Artifacts, name: &str, seconds: u64) {
        let then = SystemTime::now() - Duration::from_secs(seconds);
        let times = fs::FileTimes::new().set_accessed(then).set_modified(then);
        let file = fs::File::open(artifacts.path(name)).unwrap();
        file.set_times(times).unwrap();
    }

    #[test]
    fn what_was_not_used_for_longest_goes_first() {
        let folder = folder();
        let artifacts = bounded(&folder, 3 * (100 + MAC as u64));
        for (name, seconds) in [("a", 300), ("b", 200), ("c", 100)] {
            artifacts.store(name, &[0; 100]);
            age(&artifacts, name, seconds);
        }
        assert!(artifacts.load("a").is_some(), "used now");
        artifacts.store("d", &[0; 100]);
        let there = ["a", "b", "c", "d"].map(|name| artifacts.path(name).exists());
        assert_eq!(there, [true, false, true, true]);
        artifacts.store("e", &[0; 1_000]);
        assert!(!artifacts.path("e").exists(), "larger than all may be");
        assert!(artifacts.load("c").is_some());
    }

    #[test]
    fn what_was_never_finished_goes_in_time() {
        let folder = folder();
        let artifacts = open(&folder);
        for (name, seconds) in [("old.part", 7_200), ("new.part", 60)] {
            let path = folder.path().join(name);
            let file = fs::File::create(&path).unwrap();
            let then = SystemTime::now() - Duration::from_secs(seconds);
            file.set_times(fs::FileTimes::new().set_modified(then))
                .unwrap();
        }
        artifacts.store("a", b"code");
        assert!(!folder.path().join("old.part").exists());
        assert!(folder.path().join("new.part").exists());
    }

    /// Handles share nothing in memory, so they stand for processes.
    #[test]
    fn many_may_share_a_folder() {
        let folder = folder();
        let limit = 10 * (100 + MAC as u64);
        std::thread::scope(|scope| {
            for writer in 0..8_u8 {
                let folder = &folder;
                scope.spawn(move || {
                    let artifacts = bounded(folder, limit);
                    for round in 0..100_u8 {
                        let name = format!("{}", round % 20);
                        // The same name holds the same, whoever wrote it; it may be gone at any time.
                        if let Some(found) = artifacts.load(&name) {
                            assert_eq!(found.bytes(), [round % 20; 100], "writer {writer}");
                        }
                        artifacts.store(&name, &[round % 20; 100]);
                    }
                });
            }
        });
        let artifacts = bounded(&folder, limit);
        artifacts.store("last", &[0; 100]);
        assert!(size(&folder) <= limit);
        assert!(artifacts.load("last").is_some());
        let parts = fs::read_dir(folder.path()).unwrap();
        let parts = parts.filter(|entry| {
            let path = entry.as_ref().unwrap().path();
            path.extension().is_some_and(|e| e == "part")
        });
        assert_eq!(parts.count(), 0);
    }

    #[test]
    fn a_folder_that_goes_away_costs_nothing_but_the_cache() {
        let folder = folder();
        let artifacts = open(&folder);
        let path = folder.path().to_owned();
        folder.close().unwrap();
        artifacts.store("name", b"code");
        assert!(artifacts.load("name").is_none());
        fs::write(&path, b"a file in its place").unwrap();
        artifacts.store("name", b"code");
        assert!(artifacts.load("name").is_none());
        fs::remove_file(path).unwrap();
    }
}
