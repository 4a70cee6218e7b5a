//! The folder of a log: the database in it, who has that open, and how it is made.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use redb::{Builder, Database, DatabaseError, ReadOnlyDatabase};

use super::error;
use super::log::CACHE_BYTES;
use super::system::keep_names;
use crate::{AdapterError, AdapterErrorKind};

/// The database within the folder.
const FILE: &str = "log.redb";

/// Says which process has it open.
const OWNER: &str = "owner.pid";

/// How long another process may have the folder before that is an error: one that only looks has it for a moment.
const PATIENCE: Duration = Duration::from_secs(1);

/// Between two attempts.
const AGAIN: Duration = Duration::from_millis(10);

/// `embedded:DIR`.
pub(super) fn name(dir: &Path) -> String {
    format!("embedded:{}", dir.display())
}

fn doing(dir: &Path) -> String {
    format!("cannot open {}", name(dir))
}

/// The folder by its real name. `create`: it is made where it does not exist; otherwise it must hold a log.
pub(super) fn find(dir: &Path, create: bool) -> Result<PathBuf, AdapterError> {
    let failed = |error| AdapterError::from_io(doing(dir), error);
    if create {
        fs::create_dir_all(dir).map_err(failed)?;
    } else if !dir.join(FILE).exists() {
        return Err(AdapterError::new(
            AdapterErrorKind::NotFound,
            format!(
                "{}: there are no topics in {}; --create makes it a place for some",
                doing(dir),
                dir.display()
            ),
        ));
    }
    dir.canonicalize().map_err(failed)
}

/// Opens the database of a folder, of which `path` is the real name; makes it where there is none.
pub(super) fn open(dir: &Path, path: &Path) -> Result<Database, AdapterError> {
    let file = dir.join(FILE);
    if !file.exists() {
        make(dir, path, &file)?;
    }
    patiently(|| {
        let opened = Builder::new().set_cache_size(CACHE_BYTES).open(&file);
        opened.map_err(|error| of(dir, error))
    })
}

/// Made under another name, so that there is never half of one, whenever the power goes.
fn make(dir: &Path, path: &Path, file: &Path) -> Result<(), AdapterError> {
    let making = dir.join(format!("{FILE}.{}", std::process::id()));
    let made = Database::create(&making).map(drop);
    let linked = made.map_err(|error| of(dir, error)).and_then(|()| {
        // A link, unlike renaming, never takes the place of what somebody else made meanwhile.
        let linked = match fs::hard_link(&making, file) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(error),
            _ => Ok(()),
        };
        linked.map_err(|error| AdapterError::from_io(doing(dir), error))
    });
    // Where there is no room for it, nothing of it stays either.
    let removed = fs::remove_file(&making).and_then(|()| keep_names(path));
    linked?;
    removed.map_err(|error| AdapterError::from_io(doing(dir), error))
}

/// When the database was last written to, or closed.
pub(super) fn changed_at(dir: &Path) -> Option<SystemTime> {
    fs::metadata(dir.join(FILE)).ok()?.modified().ok()
}

/// Opens it so that nothing is written to it. `None`: that cannot be, because whoever had it was killed.
pub(super) fn open_to_read(
    dir: &Path,
    path: &Path,
) -> Result<Option<ReadOnlyDatabase>, AdapterError> {
    match Builder::new().open_read_only(path.join(FILE)) {
        Err(DatabaseError::RepairAborted) => Ok(None),
        opened => opened.map(Some).map_err(|error| of(dir, error)),
    }
}

/// Waits for a moment while another process has it.
pub(super) fn patiently<T>(
    mut open: impl FnMut() -> Result<T, AdapterError>,
) -> Result<T, AdapterError> {
    let until = Instant::now() + PATIENCE;
    loop {
        match open() {
            Err(error) if error.kind() == AdapterErrorKind::InUse && Instant::now() < until => {
                std::thread::sleep(AGAIN);
            }
            opened => return opened,
        }
    }
}

/// Says whose it is now, for those who find it taken. Where there is no room for that, they are not told.
pub(super) fn sign(dir: &Path) {
    if let Err(error) = fs::write(dir.join(OWNER), std::process::id().to_string()) {
        tracing::debug!(%error, "{} does not say who has it open", name(dir));
    }
}

fn of(dir: &Path, error: DatabaseError) -> AdapterError {
    if !matches!(error, DatabaseError::DatabaseAlreadyOpen) {
        return error::of(doing(dir), error);
    }
    let owner = fs::read_to_string(dir.join(OWNER)).unwrap_or_default();
    let whose = match owner.trim() {
        "" => "another process has it open".to_owned(),
        pid => format!("another process has it open (process {pid} was the last to write to it)"),
    };
    AdapterError::new(
        AdapterErrorKind::InUse,
        format!(
            "{}: {whose}; a folder of topics belongs to one process at a time",
            doing(dir)
        ),
    )
}
