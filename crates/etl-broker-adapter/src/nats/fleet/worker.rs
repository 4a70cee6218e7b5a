//! What a worker says of itself.

use serde::{Deserialize, Serialize};

/// A worker of a fleet, as it says.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct WorkerReport {
    /// Its name, and its key.
    pub worker: String,
    /// The machine that it runs on.
    pub host: String,
    /// Its process.
    pub pid: u32,
    /// When it started, in Unix milliseconds.
    pub started_at: u64,
    /// When it said this, in Unix milliseconds.
    pub at: u64,
    /// The program's version.
    pub version: String,
    /// The revision that it runs.
    pub revision: u64,
    /// The generation of its configuration: 1, and one more for each that it swapped to.
    pub generation: u64,
    /// Records that its source has and that are not acknowledged, where that is known.
    pub lag: Option<u64>,
    /// `ok`, or `degraded`.
    pub health: String,
    /// What is not well.
    pub reasons: Vec<String>,
    /// The last revision that it refused, if it has not taken a later one.
    pub refused: Option<Refusal>,
}

/// A revision that a worker cannot use.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// Which.
    pub revision: u64,
    /// Why.
    pub reason: String,
}

impl WorkerReport {
    /// A name that may be a key: letters, digits, `-`, `_`; anything else becomes `-`.
    #[must_use]
    pub fn name(text: &str) -> String {
        let plain = |c: char| {
            if c.is_ascii_alphanumeric() || "-_".contains(c) {
                c
            } else {
                '-'
            }
        };
        text.chars().map(plain).collect()
    }

    pub(super) fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    pub(super) fn from_json(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }
}
