//! What redb reports, in this crate's words.

use std::fmt::Display;

use crate::{AdapterError, AdapterErrorKind};

/// After such an error the database is closed to writing until it is opened anew, so nothing here passes by itself.
pub(super) fn of(doing: impl Display, error: impl Into<redb::Error>) -> AdapterError {
    match error.into() {
        redb::Error::Io(error) => AdapterError::from_io(doing, error).permanent(),
        redb::Error::Corrupted(what) => AdapterError::new(
            AdapterErrorKind::Corrupt,
            format!("{doing}: it is damaged: {what}"),
        ),
        redb::Error::UpgradeRequired(version) => AdapterError::new(
            AdapterErrorKind::Corrupt,
            format!("{doing}: it has the format {version} of an older version of this program"),
        ),
        error => AdapterError::new(AdapterErrorKind::Io, format!("{doing}: {error}")),
    }
}
