//! What the log asks of the system: names that outlive a power cut, randomness, the time.

use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::{AdapterError, AdapterErrorKind};

/// Makes sure that the file's name in the folder, and the folder's in the one above, outlive a power cut as the file does.
pub(super) fn keep_names(dir: &Path) -> std::io::Result<()> {
    fs::File::open(dir)?.sync_all()?;
    match dir.parent() {
        Some(above) => fs::File::open(above)?.sync_all(),
        None => Ok(()),
    }
}

pub(super) fn random() -> Result<u128, AdapterError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| {
        let doing = format!("cannot give a log its number: {error}");
        AdapterError::new(AdapterErrorKind::Io, doing)
    })?;
    Ok(u128::from_le_bytes(bytes))
}

pub(super) fn now_ms() -> i64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(now.as_millis()).unwrap_or(i64::MAX)
}
