//! A module's own settings, in which there may be secrets.
//!
//! Only here may a secret stand, because only a module is given it in clear. So the settings are kept in pieces, and put together by
//! [`CustomConfig::reveal_json`] alone, into memory that is overwritten when it goes; whatever else looks at them sees what was written.

use std::fmt;
use std::io::{self, Write};

use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};
use serde_json::{Map, Value as Json, json};
use zeroize::Zeroizing;

use crate::secret::Secret;
use crate::tree::{Node, Text, Value};

/// A module's own settings. Printed, and compared by [`CustomConfig::shown`], secrets stand in it as they were asked for.
#[derive(Clone, PartialEq)]
pub struct CustomConfig(Setting);

#[derive(Clone, PartialEq)]
enum Setting {
    /// Nothing in it is a secret.
    Plain(Json),
    /// A string of which a part is.
    Filled(Vec<Piece>),
    List(Vec<Setting>),
    /// Sorted by its keys, as JSON objects are.
    Table(Vec<(String, Setting)>),
}

#[derive(Clone, PartialEq)]
enum Piece {
    Text(String),
    Secret { written: String, secret: Secret },
}

impl Default for CustomConfig {
    /// An empty object.
    fn default() -> Self {
        Self::from(json!({}))
    }
}

impl From<Json> for CustomConfig {
    /// Settings without secrets.
    fn from(settings: Json) -> Self {
        Self(Setting::Plain(settings))
    }
}

impl CustomConfig {
    pub(crate) fn of_node(node: &Node) -> Self {
        Self(setting(node))
    }

    /// Whether nothing was said.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        match &self.0 {
            Setting::Plain(Json::Object(fields)) => fields.is_empty(),
            _ => false,
        }
    }

    /// For people: each secret as it was asked for.
    #[must_use]
    pub fn shown(&self) -> Json {
        shown(&self.0)
    }

    /// The secrets in it.
    #[must_use]
    pub fn secrets(&self) -> Vec<Secret> {
        let mut found = Vec::new();
        collect(&self.0, &mut found);
        found
    }

    /// As JSON, with every secret in clear: for the module alone. It is overwritten when it is dropped.
    ///
    /// # Errors
    /// What JSON cannot carry; settings that were read from a configuration are always JSON.
    pub fn reveal_json(&self) -> Result<Zeroizing<Vec<u8>>, serde_json::Error> {
        // Measured first, so that the buffer never moves and leaves a copy behind.
        let mut length = Length(0);
        serde_json::to_writer(&mut length, &Revealed(&self.0))?;
        let mut bytes = Zeroizing::new(Vec::with_capacity(length.0));
        serde_json::to_writer(&mut *bytes, &Revealed(&self.0))?;
        Ok(bytes)
    }
}

impl fmt::Debug for CustomConfig {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.shown(), formatter)
    }
}

fn setting(node: &Node) -> Setting {
    match &node.value {
        Value::Text(text) if text.holds_secret() => Setting::Filled(pieces(text)),
        Value::List(items) => {
            let items: Vec<Setting> = items.iter().map(setting).collect();
            if items.iter().all(is_plain) {
                return Setting::Plain(items.into_iter().map(plain).collect());
            }
            Setting::List(items)
        }
        Value::Table(entries) => {
            let entries = entries.iter();
            let mut entries: Vec<(String, Setting)> = entries
                .map(|entry| (entry.key.clone(), setting(&entry.node)))
                .collect();
            if entries.iter().all(|(_, value)| is_plain(value)) {
                let fields = entries.into_iter().map(|(key, value)| (key, plain(value)));
                return Setting::Plain(Json::Object(fields.collect::<Map<_, _>>()));
            }
            entries.sort_by(|left, right| left.0.cmp(&right.0));
            Setting::Table(entries)
        }
        _ => Setting::Plain(node.to_json()),
    }
}

fn is_plain(setting: &Setting) -> bool {
    matches!(setting, Setting::Plain(_))
}

/// Of settings that are plain.
fn plain(setting: Setting) -> Json {
    match setting {
        Setting::Plain(value) => value,
        other => shown(&other),
    }
}

fn pieces(text: &Text) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut position = 0;
    for expansion in &text.expansions {
        let Some(secret) = &expansion.secret else {
            continue;
        };
        pieces.push(Piece::Text(
            text.text[position..expansion.now.start].to_owned(),
        ));
        pieces.push(Piece::Secret {
            written: expansion.source.to_string(),
            secret: secret.clone(),
        });
        position = expansion.now.end;
    }
    pieces.push(Piece::Text(text.text[position..].to_owned()));
    pieces
}

fn shown(setting: &Setting) -> Json {
    match setting {
        Setting::Plain(value) => value.clone(),
        Setting::Filled(pieces) => {
            let pieces = pieces.iter().map(|piece| match piece {
                Piece::Text(text) => text.as_str(),
                Piece::Secret { written, .. } => written,
            });
            Json::String(pieces.collect())
        }
        Setting::List(items) => items.iter().map(shown).collect(),
        Setting::Table(entries) => {
            let fields = entries
                .iter()
                .map(|(key, value)| (key.clone(), shown(value)));
            Json::Object(fields.collect::<Map<_, _>>())
        }
    }
}

fn collect(setting: &Setting, found: &mut Vec<Secret>) {
    match setting {
        Setting::Plain(_) => {}
        Setting::Filled(pieces) => {
            found.extend(pieces.iter().filter_map(|piece| match piece {
                Piece::Text(_) => None,
                Piece::Secret { secret, .. } => Some(secret.clone()),
            }));
        }
        Setting::List(items) => items.iter().for_each(|item| collect(item, found)),
        Setting::Table(entries) => entries.iter().for_each(|(_, value)| collect(value, found)),
    }
}

/// Settings with their secrets in clear, for a serialiser that copies them nowhere else.
struct Revealed<'a>(&'a Setting);

impl Serialize for Revealed<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Setting::Plain(value) => value.serialize(serializer),
            Setting::Filled(pieces) => serializer.collect_str(&RevealedText(pieces)),
            Setting::List(items) => {
                let mut list = serializer.serialize_seq(Some(items.len()))?;
                for item in items {
                    list.serialize_element(&Revealed(item))?;
                }
                list.end()
            }
            Setting::Table(entries) => {
                let mut table = serializer.serialize_map(Some(entries.len()))?;
                for (key, value) in entries {
                    table.serialize_entry(key, &Revealed(value))?;
                }
                table.end()
            }
        }
    }
}

struct RevealedText<'a>(&'a [Piece]);

impl fmt::Display for RevealedText<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|piece| match piece {
            Piece::Text(text) => formatter.write_str(text),
            Piece::Secret { secret, .. } => formatter.write_str(secret.reveal()),
        })
    }
}

/// Counts what is written and keeps nothing of it.
struct Length(usize);

impl Write for Length {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
