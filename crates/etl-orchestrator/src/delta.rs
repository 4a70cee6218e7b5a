//! What a module returns for one record that it changes: not a record but a list of changes.

use std::sync::Arc;

use bytes::Bytes;

use crate::record::Headers;

/// One change of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Replaces the value.
    SetValue(Bytes),
    /// Changes the value, which must be JSON, by this JSON merge patch (RFC 7396).
    MergePatch(Bytes),
    /// Replaces the key.
    SetKey(Bytes),
    /// Removes the key.
    ClearKey,
    /// Sends the record to another topic. It selects no other modules: those were chosen by the topic on which the record arrived.
    SetTopic(Arc<str>),
    /// Appends a header.
    AddHeader(Arc<str>, Bytes),
    /// Makes this the only header of its name.
    SetHeader(Arc<str>, Bytes),
    /// Removes all headers of this name.
    RemoveHeader(Arc<str>),
    /// Replaces the timestamp (Unix ms).
    SetTimestamp(i64),
    /// Removes the timestamp.
    ClearTimestamp,
    /// Emits an extra record, which goes on from the next stage.
    Emit(Box<NewRecord>),
}

/// A record that a module emits. It has the partition and the offset of the record that it came from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewRecord {
    /// The topic. `None`: that of the record that it came from.
    pub topic: Option<Arc<str>>,
    /// The key.
    pub key: Option<Bytes>,
    /// The value.
    pub value: Bytes,
    /// The headers.
    pub headers: Headers,
    /// Unix time in milliseconds.
    pub timestamp: Option<i64>,
}

/// The changes that a module makes to one record, in order.
///
/// ```
/// use etl_orchestrator::{Change, Delta};
///
/// let delta = Delta::from_iter([Change::MergePatch(r#"{"unit":"kelvin"}"#.into()), Change::ClearKey]);
/// assert_eq!(delta.changes().len(), 2);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delta(Vec<Change>);

impl Delta {
    /// No change.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a change.
    pub fn push(&mut self, change: Change) {
        self.0.push(change);
    }

    /// The changes, in order.
    #[must_use]
    pub fn changes(&self) -> &[Change] {
        &self.0
    }

    /// Whether a record is emitted among them.
    pub(crate) fn emits(&self) -> bool {
        let mut changes = self.0.iter();
        changes.any(|change| matches!(change, Change::Emit(_)))
    }

    pub(crate) fn into_changes(self) -> Vec<Change> {
        self.0
    }
}

impl From<Vec<Change>> for Delta {
    fn from(changes: Vec<Change>) -> Self {
        Self(changes)
    }
}

impl FromIterator<Change> for Delta {
    fn from_iter<I: IntoIterator<Item = Change>>(changes: I) -> Self {
        Self(changes.into_iter().collect())
    }
}
