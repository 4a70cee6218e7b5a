//! A module's own settings, and what in them must not come out again.
//!
//! A guest is given its settings in clear, secrets among them, and what it says (log lines, reasons for a failure, names of counters) is
//! shown to people. So a secret that stands in what a guest says is masked on the way out: as it is, or one of its longer lines. A guest
//! that encodes it differently is not held back by this; what it writes into records is its own affair.

use std::borrow::Cow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use zeroize::Zeroizing;

/// What stands in the place of a secret.
const MASK: &str = "***";

/// Shorter secrets are found in many words and guard nothing.
const SHORTEST: usize = 4;

/// A line of a secret is looked for by itself from this length on.
const SHORTEST_LINE: usize = 8;

/// A module's own settings as JSON, overwritten when they go. Empty is no settings.
///
/// ```
/// use etl_pool::Settings;
/// let settings = Settings::from(br#"{"password":"hunter2"}"#.to_vec()).hiding(["hunter2"]);
/// assert_eq!(settings.masked("cannot sign in with hunter2"), "cannot sign in with ***");
/// assert_eq!(format!("{settings:?}"), "Settings(22 bytes)");
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Settings(Arc<Inner>);

#[derive(Default, PartialEq, Eq)]
struct Inner {
    json: Zeroizing<Vec<u8>>,
    /// What is masked, longest first, so that no part of a secret stays where a shorter one is found in it.
    hidden: Vec<Zeroizing<String>>,
}

impl From<Zeroizing<Vec<u8>>> for Settings {
    fn from(json: Zeroizing<Vec<u8>>) -> Self {
        Self(Arc::new(Inner {
            json,
            hidden: Vec::new(),
        }))
    }
}

impl From<Vec<u8>> for Settings {
    fn from(json: Vec<u8>) -> Self {
        Self::from(Zeroizing::new(json))
    }
}

impl Settings {
    /// The same, with secrets that must not come out again.
    #[must_use]
    pub fn hiding<'a>(self, secrets: impl IntoIterator<Item = &'a str>) -> Self {
        let mut hidden = Vec::new();
        let mut hide = |text: &str| hidden.push(Zeroizing::new(text.to_owned()));
        for secret in secrets {
            if secret.len() >= SHORTEST {
                hide(secret);
            }
            let lines = secret.lines().map(str::trim);
            lines
                .filter(|line| line.len() >= SHORTEST_LINE && *line != secret)
                .for_each(&mut hide);
        }
        hidden.sort_by_key(|text| std::cmp::Reverse(text.len()));
        Self(Arc::new(Inner {
            json: self.0.json.clone(),
            hidden,
        }))
    }

    /// The settings, in clear.
    #[must_use]
    pub fn reveal(&self) -> &[u8] {
        &self.0.json
    }

    /// What a guest says, without its secrets.
    #[must_use]
    pub fn masked<'a>(&self, said: impl Into<Cow<'a, str>>) -> Cow<'a, str> {
        let mut said = said.into();
        for hidden in &self.0.hidden {
            if said.contains(hidden.as_str()) {
                said = Cow::Owned(said.replace(hidden.as_str(), MASK));
            }
        }
        said
    }
}

impl Hash for Settings {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.json.as_slice().hash(state);
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Settings({} bytes)", self.0.json.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_masked_and_nothing_else() {
        let settings = Settings::default().hiding([
            "hunter2",
            "hunter2-and-more",
            "abc",
            "-----BEGIN\nMIIEvQIBADAN\nshort",
        ]);
        for (said, masked) in [
            ("hunter2-and-more, hunter2!", "***, ***!"),
            ("abc is too short to be one", "abc is too short to be one"),
            ("MIIEvQIBADAN of a key", "*** of a key"),
            ("short lines say nothing", "short lines say nothing"),
            ("", ""),
        ] {
            assert_eq!(settings.masked(said), masked);
        }
    }
}
