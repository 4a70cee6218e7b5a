//! One line and its place in the chain.

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::access::hex;

/// What comes before the first line.
pub(super) const BEGINNING: &str =
    "0000000000000000000000000000000000000000000000000000000000000000";

const HASH: &str = ",\"hash\":\"";
/// `,"hash":"`, 64 digits, `"}`.
const TAIL: usize = HASH.len() + 64 + 2;

/// How far a chain has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Link {
    /// The number of the last line; 0 where there is none.
    pub(super) seq: u64,
    /// Its hash.
    pub(super) hash: String,
}

impl Link {
    pub(super) fn beginning() -> Self {
        Self {
            seq: 0,
            hash: BEGINNING.to_owned(),
        }
    }

    /// The next line, with its end, and the link that it is.
    pub(super) fn next(&self, time: &str, fields: Map<String, Value>) -> (Self, String) {
        let seq = self.seq + 1;
        let mut line = Map::new();
        line.insert("seq".to_owned(), seq.into());
        line.insert("time".to_owned(), time.into());
        line.insert("prev".to_owned(), self.hash.clone().into());
        line.extend(fields);
        let mut text = Value::Object(line).to_string();
        let hash = hex(&Sha256::digest(text.as_bytes()));
        // The hash is over the line as it would be without it.
        text.pop();
        text.push_str(&format!("{HASH}{hash}\"}}\n"));
        (Self { seq, hash }, text)
    }

    /// The link that a line, without its end, is after this one.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn follow(&self, line: &str) -> Result<(Self, Value), String> {
        let at = line
            .len()
            .checked_sub(TAIL)
            .filter(|&at| line.is_char_boundary(at))
            .ok_or("not a line of the log")?;
        let (text, tail) = line.split_at(at);
        let hash = tail
            .strip_prefix(HASH)
            .and_then(|tail| tail.strip_suffix("\"}"))
            .ok_or("not a line of the log")?;
        let text = format!("{text}}}");
        if hex(&Sha256::digest(text.as_bytes())) != hash {
            return Err("changed: it is not what its hash says".to_owned());
        }
        let fields: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
        let expected = self.seq + 1;
        if fields["prev"] != *self.hash {
            return Err(match fields["seq"].as_u64() {
                Some(seq) if seq != expected => {
                    format!("line {seq} where {expected} should be: lines are missing or moved")
                }
                _ => "it does not follow the line before it".to_owned(),
            });
        }
        if fields["seq"] != expected {
            return Err(format!("its number is not {expected}"));
        }
        let link = Self {
            seq: expected,
            hash: hash.to_owned(),
        };
        Ok((link, fields))
    }
}
