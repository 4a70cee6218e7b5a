//! From a record to a line: fields in one order, nothing that is absent, the same bytes for the same record.

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use etl_orchestrator::{Headers, Record};
use serde_json::value::RawValue;
use smallvec::SmallVec;

/// Appends the record as one line, with its line break, to `out`.
///
/// ```
/// # let line = bytes::Bytes::from_static(br#"{ "value": [1.0], "topic": "t" }"#);
/// # let record = etl_broker_adapter::line::decode(&line, 0)?;
/// let mut out = Vec::new();
/// etl_broker_adapter::line::encode(&record, &mut out);
/// assert_eq!(out, b"{\"topic\":\"t\",\"value\":[1.0]}\n");
/// # Ok::<(), etl_broker_adapter::line::LineError>(())
/// ```
pub fn encode(record: &Record, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"topic\":");
    string(&record.topic, out);
    if record.partition != 0 {
        out.extend_from_slice(b",\"partition\":");
        out.extend_from_slice(record.partition.to_string().as_bytes());
    }
    if let Some(key) = &record.key {
        match std::str::from_utf8(key) {
            Ok(text) => {
                out.extend_from_slice(b",\"key\":");
                string(text, out);
            }
            Err(_) => {
                out.extend_from_slice(b",\"key_base64\":");
                base64(key, out);
            }
        }
    }
    if !record.headers.is_empty() {
        out.extend_from_slice(b",\"headers\":");
        headers(&record.headers, out);
    }
    if let Some(timestamp) = record.timestamp {
        out.extend_from_slice(b",\"timestamp\":");
        out.extend_from_slice(timestamp.to_string().as_bytes());
    }
    if stands_in_a_line(&record.value) {
        out.extend_from_slice(b",\"value\":");
        out.extend_from_slice(&record.value);
    } else if !record.value.is_empty() {
        out.extend_from_slice(b",\"value_base64\":");
        base64(&record.value, out);
    }
    out.extend_from_slice(b"}\n");
}

/// Whether the bytes are JSON that reading the line gives back as they are.
fn stands_in_a_line(value: &[u8]) -> bool {
    if memchr::memchr(b'\n', value).is_some() {
        return false;
    }
    // RawValue is the text without the space around it: a shorter one means that there was some.
    serde_json::from_slice::<&RawValue>(value).is_ok_and(|raw| raw.get().len() == value.len())
}

/// Up to so many names are compared one by one; more are looked up, so that thousands of headers cost thousands of steps.
const FEW: usize = 16;

/// The values of one name, mostly one.
type Values<'a> = SmallVec<[&'a [u8]; 1]>;

/// An object in which each name comes once, in the order of first occurrence.
fn headers(headers: &Headers, out: &mut Vec<u8>) {
    let mut fields: SmallVec<[(&str, Values<'_>); 8]> = SmallVec::new();
    let mut places: HashMap<&str, usize> = HashMap::new();
    for (name, value) in headers.iter() {
        let place = if fields.len() <= FEW {
            fields.iter().position(|(other, _)| **other == **name)
        } else {
            if places.is_empty() {
                places.extend(fields.iter().map(|(name, _)| *name).zip(0..));
            }
            places.get(&**name).copied()
        };
        match place {
            Some(place) => fields[place].1.push(value),
            None => {
                if !places.is_empty() {
                    places.insert(name, fields.len());
                }
                fields.push((name, SmallVec::from_buf([value])));
            }
        }
    }
    for (index, (name, values)) in fields.iter().enumerate() {
        out.push(if index == 0 { b'{' } else { b',' });
        string(name, out);
        out.push(b':');
        match &values[..] {
            [value] => header_value(value, out),
            values => list(values, out),
        }
    }
    out.push(b'}');
}

fn list(values: &[&[u8]], out: &mut Vec<u8>) {
    out.push(b'[');
    for (index, value) in values.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        header_value(value, out);
    }
    out.push(b']');
}

fn header_value(value: &[u8], out: &mut Vec<u8>) {
    match std::str::from_utf8(value) {
        Ok(text) => string(text, out),
        Err(_) => {
            out.extend_from_slice(b"{\"base64\":");
            base64(value, out);
            out.push(b'}');
        }
    }
}

fn string(text: &str, out: &mut Vec<u8>) {
    serde_json::to_writer(out, text).expect("a string into memory cannot fail");
}

fn base64(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    let start = out.len();
    // Base64 is four characters for every three bytes begun.
    out.resize(start + bytes.len().div_ceil(3) * 4, 0);
    let written = BASE64
        .encode_slice(bytes, &mut out[start..])
        .expect("the room was made to measure");
    out.truncate(start + written);
    out.push(b'"');
}
