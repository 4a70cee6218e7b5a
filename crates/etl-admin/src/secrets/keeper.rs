//! Who lends secrets, and opens modules, for whoever loads a configuration.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use etl_config::{KeySource, Secret, SecretError, SecretSettings, SecretSource};

use super::{Key, SecretStore, is_sealed, open};

/// The variable that holds the key where nothing else is said.
const VARIABLE: &str = "ETL_SECRET_KEY";

/// The secrets of a program: what its command line says of them goes before what the configuration says.
#[derive(Clone, Debug, Default)]
pub struct Keeper {
    /// The file of secrets.
    pub file: Option<PathBuf>,
    /// Where its key comes from.
    pub key: Option<KeySource>,
    /// Called before anything is decrypted.
    pub before: Option<fn()>,
}

impl Keeper {
    /// The store that these settings mean.
    #[must_use]
    pub fn store(&self, settings: &SecretSettings) -> SecretStore {
        SecretStore::at(self.file.as_ref().unwrap_or(&settings.file))
    }

    /// Where the key comes from that these settings mean; none where nobody has said.
    #[must_use]
    pub fn source(&self, settings: &SecretSettings) -> Option<KeySource> {
        let variable = || {
            let variable = std::env::var_os(VARIABLE)?;
            (!variable.is_empty()).then(|| KeySource::Environment(VARIABLE.to_owned()))
        };
        let said = self.key.clone().or_else(|| settings.key.clone());
        said.or_else(variable)
    }

    /// The key that these settings mean; none where nobody has said.
    ///
    /// # Errors
    /// It cannot be had from where it should come from.
    pub fn key(&self, settings: &SecretSettings) -> Result<Option<Key>, SecretError> {
        let Some(source) = self.source(settings) else {
            return Ok(None);
        };
        if let Some(before) = self.before {
            before();
        }
        Key::read(&source).map(Some)
    }

    /// The same, where nothing can be done without one. `what` needs it.
    ///
    /// # Errors
    /// There is none, or it cannot be had.
    pub fn needed_key(&self, settings: &SecretSettings, what: &Path) -> Result<Key, SecretError> {
        self.key(settings)?.ok_or_else(|| {
            let what = what.display();
            SecretError::new(
                format!("{what} needs a key, and none is given"),
                Some(format!(
                    "say where it is: --secret-key `file:PATH`, `env:NAME` or `command:COMMAND`, `key` under `[secrets]`, or the variable {VARIABLE}; `etl secret key generate` makes one"
                )),
            )
        })
    }
}

impl SecretSource for Keeper {
    fn secrets(&self, settings: &SecretSettings) -> Result<BTreeMap<String, Secret>, SecretError> {
        let file = self.file.as_ref().unwrap_or(&settings.file);
        let key = self.needed_key(settings, file)?;
        self.store(settings).secrets(&key)
    }

    fn open_file(
        &self,
        settings: &SecretSettings,
        file: &Path,
        bytes: Vec<u8>,
    ) -> Result<Vec<u8>, SecretError> {
        if !is_sealed(&bytes) {
            return Ok(bytes);
        }
        let key = self.needed_key(settings, file)?;
        // A module is no secret to the process that runs it.
        open(&key, file, &bytes).map(|plain| plain.to_vec())
    }
}
