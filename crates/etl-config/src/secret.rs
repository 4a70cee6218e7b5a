//! Values that nobody is shown, and where they come from.
//!
//! A configuration names a secret (`${secret:NAME}`) and holds it as a [`Secret`], which masks itself wherever it could be printed and is
//! overwritten when the last of its holders lets it go. Where secrets are kept, and how, this crate does not know: whoever loads a
//! configuration lends it a [`SecretSource`].
//!
//! Refused: names that are no names, sources of keys of no known kind. What is wrong with the latter is said without repeating it,
//! since it may be the key itself, put in the wrong place.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use serde::{Serialize, Serializer};
use zeroize::Zeroizing;

/// What stands in the place of a secret.
pub(crate) const MASK: &str = "***";

/// The name of a secret may have so many bytes.
const MAX_NAME_BYTES: usize = 128;

/// A text that nobody is shown: what prints or serialises it gets `***`. It is overwritten when its last copy goes.
///
/// ```
/// use etl_config::Secret;
/// let secret = Secret::new("hunter2".to_owned());
/// assert_eq!(format!("{secret} {secret:?}"), "*** ***");
/// assert_eq!(secret.reveal(), "hunter2");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<Zeroizing<String>>);

impl Secret {
    /// A secret of this text.
    pub fn new(text: impl Into<Zeroizing<String>>) -> Self {
        Self(Arc::new(text.into()))
    }

    /// The text itself: only for where it is needed in clear.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(MASK)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(MASK)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(MASK)
    }
}

/// Whether a text can be the name of a secret: 1 to 128 letters, digits, `_`, `-` and `.`.
///
/// ```
/// assert!(etl_config::is_secret_name("db.password-2"));
/// assert!(!etl_config::is_secret_name("db password"));
/// ```
#[must_use]
pub fn is_secret_name(name: &str) -> bool {
    let part = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    !name.is_empty() && name.len() <= MAX_NAME_BYTES && name.bytes().all(part)
}

/// Where secrets are, as `[secrets]` says it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SecretSettings {
    /// The file that holds them. Already resolved against the file that names it.
    pub file: PathBuf,
    /// Where its key comes from. `None`: nothing was said.
    pub key: Option<KeySource>,
}

impl SecretSettings {
    /// Secrets in this file, and nothing said of its key.
    pub fn in_file(file: impl Into<PathBuf>) -> Self {
        Self {
            file: file.into(),
            key: None,
        }
    }

    /// With a source of the key.
    #[must_use]
    pub fn key(mut self, key: Option<KeySource>) -> Self {
        self.key = key;
        self
    }
}

/// Where a key comes from: `file:PATH`, `env:NAME` or `command:…`.
///
/// ```
/// use etl_config::KeySource;
/// let source: KeySource = "env:STORE_KEY".parse()?;
/// assert_eq!(source.to_string(), "env:STORE_KEY");
/// let wrong = "0123456789abcdef".parse::<KeySource>().unwrap_err();
/// assert!(!wrong.to_string().contains("0123"));
/// # Ok::<(), etl_config::KeySourceError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub enum KeySource {
    /// A file that holds it.
    File(PathBuf),
    /// A variable of the environment.
    Environment(String),
    /// What a command for `sh` prints.
    Command(String),
}

impl KeySource {
    /// The same, with a file that is relative to this folder.
    #[must_use]
    pub fn relative_to(self, folder: &Path) -> Self {
        match self {
            Self::File(file) => Self::File(folder.join(file)),
            other => other,
        }
    }
}

/// A text that says of no key where it comes from. It is not repeated: it may be the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeySourceError(());

impl KeySourceError {
    pub(crate) const HINT: &str = "`file:PATH`, `env:NAME` or `command:COMMAND`";
}

impl fmt::Display for KeySourceError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "this does not say where a key comes from: {}",
            Self::HINT
        )
    }
}

impl std::error::Error for KeySourceError {}

impl FromStr for KeySource {
    type Err = KeySourceError;

    fn from_str(text: &str) -> Result<Self, KeySourceError> {
        match text.split_once(':') {
            Some((_, "")) => Err(KeySourceError(())),
            Some(("file", path)) => Ok(Self::File(path.into())),
            Some(("env", name)) => Ok(Self::Environment(name.to_owned())),
            Some(("command", command)) => Ok(Self::Command(command.to_owned())),
            _ => Err(KeySourceError(())),
        }
    }
}

impl fmt::Display for KeySource {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(file) => write!(formatter, "file:{}", file.display()),
            Self::Environment(name) => write!(formatter, "env:{name}"),
            // What follows the program's name may be what nobody should see.
            Self::Command(command) => {
                let program = command.split_whitespace().next().unwrap_or_default();
                write!(formatter, "command:{program} …")
            }
        }
    }
}

impl fmt::Debug for KeySource {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// Why secrets cannot be had, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretError {
    message: String,
    hint: Option<String>,
}

impl SecretError {
    /// What is wrong, and where there is one, a way out.
    pub fn new(message: impl Into<String>, hint: Option<String>) -> Self {
        Self {
            message: message.into(),
            hint,
        }
    }

    /// What is wrong.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

impl fmt::Display for SecretError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)?;
        match &self.hint {
            Some(hint) => write!(formatter, "; {hint}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for SecretError {}

/// Who keeps secrets, and opens what is kept under the same key.
pub trait SecretSource: fmt::Debug + Send + Sync {
    /// Every secret, by its name. Asked for when a configuration names the first one, once each time that it is loaded.
    ///
    /// # Errors
    /// They cannot be read, or there is no key.
    fn secrets(&self, settings: &SecretSettings) -> Result<BTreeMap<String, Secret>, SecretError>;

    /// The content of a file as it was before it was encrypted, if it is. Bytes that are not encrypted are given back as they are.
    ///
    /// # Errors
    /// They are encrypted and cannot be read, or there is no key.
    fn open_file(
        &self,
        settings: &SecretSettings,
        file: &Path,
        bytes: Vec<u8>,
    ) -> Result<Vec<u8>, SecretError>;
}

/// The secrets of one load, asked for when the first one is named.
pub(crate) struct Vault {
    source: Option<Arc<dyn SecretSource>>,
    settings: SecretSettings,
    opened: Option<Result<BTreeMap<String, Secret>, SecretError>>,
}

impl Vault {
    pub(crate) fn new(source: Option<Arc<dyn SecretSource>>, settings: SecretSettings) -> Self {
        Self {
            source,
            settings,
            opened: None,
        }
    }

    /// Where its secrets are.
    pub(crate) fn into_settings(self) -> SecretSettings {
        self.settings
    }

    /// The secret of this name.
    pub(crate) fn secret(&mut self, name: &str) -> Result<Secret, SecretError> {
        let (source, settings) = (&self.source, &self.settings);
        let opened = self.opened.get_or_insert_with(|| match source {
            Some(source) => source.secrets(settings),
            None => Err(SecretError::new("secrets cannot be read here", None)),
        });
        let secrets = opened.as_ref().map_err(Clone::clone)?;
        secrets.get(name).cloned().ok_or_else(|| {
            let file = settings.file.display();
            let near = crate::reader::nearest(name, secrets.keys().map(String::as_str));
            let near = near.map(|near| format!("did you mean `{near}`? Or "));
            let hint = format!(
                "{}set it: `etl secret set {name} --secrets {file}`",
                near.unwrap_or_default()
            );
            SecretError::new(
                format!("no secret is called `{name}` in {file}"),
                Some(hint),
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_masks_itself() {
        let secret = Secret::new("canary".to_owned());
        let json = serde_json::to_string(&secret).expect("serialises");
        assert_eq!(
            format!("{secret} {secret:?} {secret:#?} {json}"),
            "*** *** *** \"***\""
        );
    }

    #[test]
    fn sources_of_keys_are_read_and_printed() {
        for (text, printed) in [
            ("file:/etc/etl.key", "file:/etc/etl.key"),
            ("env:KEY", "env:KEY"),
            ("command:pass show etl --token t0p", "command:pass …"),
        ] {
            assert_eq!(text.parse::<KeySource>().expect(text).to_string(), printed);
        }
        for text in ["", "file:", "KEY", "pass:x", "env"] {
            text.parse::<KeySource>().expect_err(text);
        }
    }
}
