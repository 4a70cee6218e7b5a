//! What is encrypted at rest: a file of secrets, and modules that came through the API.
//!
//! One key of 32 bytes ([`Key`]) stands behind both; where it comes from is said in the configuration or on the command line, and never
//! is it stored with what it opens. [`SecretStore`] is the file of secrets, `sealed` the form of other files, and [`Keeper`] lends both to
//! whoever loads a configuration.
//!
//! Everything is XChaCha20-Poly1305 with a random nonce. What cannot be opened is never written over: a lost key loses nothing that it
//! had not lost already, and the right one, found again, opens everything.

mod keeper;
mod key;
mod modules;
mod sealed;
mod store;

pub use keeper::Keeper;
pub use key::{Key, KeyId};
pub use modules::rotate_files;
pub use sealed::{is_sealed, open, reseal, seal};
pub use store::{Listed, SecretStore};

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use etl_config::SecretError;

use crate::access::private_file;

/// What a file of this crate's cannot be read by: another version of it.
const VERSION: u16 = 1;

fn failed(path: &Path, what: impl std::fmt::Display) -> SecretError {
    SecretError::new(format!("{}: {what}", path.display()), None)
}

/// A path with something after its name.
fn with(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// Puts a file in the place of another, or makes it: whoever opens it finds the one or the other, whole, even after a power failure. Only
/// its owner can read it.
pub(crate) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let beside = with(path, ".new");
    let written = || -> io::Result<()> {
        let mut file: File = private_file(&beside, true)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&beside, path)
    };
    if let Err(error) = written() {
        // Half of it is of no use to anybody; what stood there before stands there still.
        let _ = fs::remove_file(&beside);
        return Err(error);
    }
    let folder = path.parent().filter(|folder| *folder != Path::new(""));
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

/// `N` bytes of the system's randomness.
fn random<const N: usize>() -> Result<[u8; N], SecretError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .map_err(|error| SecretError::new(format!("no randomness to be had: {error}"), None))?;
    Ok(bytes)
}
