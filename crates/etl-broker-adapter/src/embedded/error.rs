//! What redb reports, in this crate's words.

use std::fmt::Display;
use std::sync::OnceLock;

use crate::{AdapterError, AdapterErrorKind};

/// After such an error the database is closed to writing until it is opened anew, so nothing here passes by itself.
pub(super) fn of(doing: impl Display, error: impl Into<redb::Error>) -> AdapterError {
    match error.into() {
        redb::Error::Io(error) => {
            let full = [
                std::io::ErrorKind::StorageFull,
                std::io::ErrorKind::QuotaExceeded,
                std::io::ErrorKind::FileTooLarge,
            ];
            let help = match full.contains(&error.kind()) {
                true => {
                    ". What was confirmed is safe (with durability=none, what had been synced): make room and start again"
                }
                false => "",
            };
            AdapterError::from_io(doing, error).and(help).permanent()
        }
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

/// What closed a database to writing. Whoever asks later is told that, and not only that there was something.
#[derive(Debug, Default)]
pub(super) struct Failures(OnceLock<(AdapterErrorKind, String)>);

impl Failures {
    pub(super) fn of(&self, doing: impl Display, error: impl Into<redb::Error>) -> AdapterError {
        let error = error.into();
        if matches!(error, redb::Error::PreviousIo)
            && let Some((kind, first)) = self.0.get()
        {
            let error = format!("{doing}: it has been closed, because of this: {first}");
            return AdapterError::new(*kind, error).permanent();
        }
        let is_io = matches!(error, redb::Error::Io(_));
        let error = of(doing, error);
        if is_io {
            // The first one is the reason of all others.
            let _ = self.0.set((error.kind(), error.to_string()));
        }
        error
    }
}
