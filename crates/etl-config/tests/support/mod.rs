//! Somebody who keeps secrets, for tests.

use std::collections::BTreeMap;
use std::path::Path;

use etl_config::{Secret, SecretError, SecretSettings, SecretSource};

/// Two secrets, whatever the settings.
#[derive(Debug)]
pub struct Secrets;

/// What `DB` is.
pub const DB: &str = "hunter2 \"and\" \\more";

impl SecretSource for Secrets {
    fn secrets(&self, _: &SecretSettings) -> Result<BTreeMap<String, Secret>, SecretError> {
        let secrets = [("DB", DB), ("GEO_PASSWORD", "geo")];
        let secrets = secrets.map(|(name, value)| (name.to_owned(), Secret::new(value.to_owned())));
        Ok(secrets.into())
    }

    fn open_file(
        &self,
        _: &SecretSettings,
        _: &Path,
        bytes: Vec<u8>,
    ) -> Result<Vec<u8>, SecretError> {
        Ok(bytes)
    }
}
