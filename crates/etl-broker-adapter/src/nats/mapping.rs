//! Records as NATS messages, and back.
//!
//! | of a record | in a message |
//! |---|---|
//! | topic | the subject, behind the URL's prefix |
//! | value | the payload |
//! | headers | headers; those of one name keep their order, and names are in no order, as NATS has none for them |
//! | key | the header `Etl-Key`, or `Etl-Key-Base64` where it is not text that a header can hold |
//! | timestamp | the header `Etl-Timestamp` in Unix milliseconds; without it, the time at which the server stored the message |
//! | offset | the sequence in the stream |
//! | partition | 0; NATS has none |
//!
//! A header is text on one line: a value that is not UTF-8, that has a line break, or that begins or ends with white space (which every
//! client trims) is refused with its name, and so are names with a colon, white space or anything beyond ASCII. Headers whose names
//! begin with `Nats-` are the server's to obey; they are not carried over to another stream.

use std::str::FromStr;
use std::sync::Arc;

use async_nats::{HeaderMap, HeaderName, HeaderValue};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use etl_orchestrator::Record;

use super::url::check_subject;

const KEY: &str = "Etl-Key";
const KEY_BASE64: &str = "Etl-Key-Base64";
const TIMESTAMP: &str = "Etl-Timestamp";

/// Headers that ask something of the server that stores the message begin so. One that came with a record asked it of the stream where
/// the record was; passed on, a message id would drop records and an expected sequence refuse them.
const SERVERS: &str = "Nats-";

/// A message that is ready to be published.
#[derive(Debug, Clone)]
pub(super) struct Outgoing {
    pub(super) headers: HeaderMap,
    pub(super) payload: Bytes,
}

/// Why no message can have this topic.
pub(super) fn check_topic(topic: &str) -> Result<(), String> {
    check_subject(topic)?;
    let wild = |token: &str| matches!(token, "*" | ">");
    match topic.split('.').any(wild) {
        true => Err(format!(
            "`{topic}` cannot be a subject to publish on: it has a wildcard"
        )),
        false => Ok(()),
    }
}

/// The message of a record, or why NATS cannot carry it.
pub(super) fn message(record: &Record) -> Result<Outgoing, String> {
    let mut headers = HeaderMap::new();
    for (name, value) in record.headers.iter() {
        if is_servers(name) {
            continue;
        }
        headers.append(header_name(name)?, header_value(name, value)?);
    }
    if let Some(key) = &record.key {
        match header_value(KEY, key) {
            Ok(value) => headers.insert(HeaderName::from_static(KEY), value),
            Err(_) => headers.insert(HeaderName::from_static(KEY_BASE64), BASE64.encode(key)),
        }
    }
    if let Some(timestamp) = record.timestamp {
        headers.insert(HeaderName::from_static(TIMESTAMP), timestamp.to_string());
    }
    Ok(Outgoing {
        headers,
        payload: record.value.clone(),
    })
}

/// What a message weighs against the server's limit: payload, and headers as they are written.
pub(super) fn size(message: &Outgoing) -> usize {
    const FRAME: usize = "NATS/1.0\r\n\r\n".len();
    let headers: usize = message
        .headers
        .iter()
        .flat_map(|(name, values)| {
            let name: &str = name.as_ref();
            values
                .iter()
                .map(move |value| name.len() + ": \r\n".len() + value.as_str().len())
        })
        .sum();
    let frame = if message.headers.is_empty() { 0 } else { FRAME };
    frame + headers + message.payload.len()
}

fn is_servers(name: &str) -> bool {
    name.get(..SERVERS.len())
        .is_some_and(|beginning| beginning.eq_ignore_ascii_case(SERVERS))
}

fn header_name(name: &str) -> Result<HeaderName, String> {
    let refused = || {
        format!(
            "header `{}` cannot be carried: NATS wants names in ASCII without spaces and colons",
            name.escape_debug()
        )
    };
    if name.is_empty() {
        return Err("a header without a name cannot be carried".to_owned());
    }
    HeaderName::from_str(name).map_err(|_| refused())
}

fn header_value(name: &str, value: &[u8]) -> Result<HeaderValue, String> {
    let refused = |what: &str| format!("the value of header `{name}` cannot be carried: {what}");
    let text = std::str::from_utf8(value).map_err(|_| refused("it is not UTF-8"))?;
    if text.trim() != text {
        return Err(refused("it begins or ends with white space"));
    }
    HeaderValue::from_str(text).map_err(|_| refused("it has a line break"))
}

/// The topic of a subject: without the URL's prefix.
pub(super) fn topic<'a>(subject: &'a str, prefix: Option<&str>) -> &'a str {
    prefix
        .and_then(|prefix| subject.strip_prefix(prefix))
        .unwrap_or(subject)
}

/// The record of a message at a place in a stream; `stored` is when the server stored it.
pub(super) fn record(
    topic: Arc<str>,
    carried: Option<&HeaderMap>,
    payload: Bytes,
    sequence: u64,
    stored: Option<i64>,
) -> Record {
    let mut record = Record {
        offset: sequence,
        timestamp: stored,
        ..Record::new(topic, payload)
    };
    let mut headers: Vec<(Arc<str>, Bytes)> = Vec::new();
    let mut add = |name: &str, value: &str| {
        headers.push((name.into(), Bytes::copy_from_slice(value.as_bytes())));
    };
    for (name, values) in carried.iter().flat_map(|headers| headers.iter()) {
        let name: &str = name.as_ref();
        for value in values {
            let value = value.as_str();
            match name {
                KEY => record.key = Some(Bytes::copy_from_slice(value.as_bytes())),
                KEY_BASE64 => match BASE64.decode(value) {
                    Ok(key) => record.key = Some(key.into()),
                    // Somebody else's header of that name.
                    Err(_) => add(name, value),
                },
                TIMESTAMP => match value.parse() {
                    Ok(timestamp) => record.timestamp = Some(timestamp),
                    Err(_) => add(name, value),
                },
                _ if is_servers(name) => {}
                _ => add(name, value),
            }
        }
    }
    // The client keeps names in no order; one that is the same every time makes outputs comparable.
    headers.sort_by(|a, b| a.0.cmp(&b.0));
    record.headers = headers.into_iter().collect();
    record
}

#[cfg(test)]
mod tests {
    use etl_orchestrator::Headers;
    use proptest::prelude::*;

    use super::super::url::NatsUrl;
    use super::*;

    fn url() -> NatsUrl {
        NatsUrl::parse("nats://host/OUT?prefix=out").expect("a URL")
    }

    fn with_header(name: &str, value: &'static [u8]) -> Record {
        let mut record = Record::new("t", "v");
        record.headers.add(name.into(), Bytes::from_static(value));
        record
    }

    #[track_caller]
    fn refused(record: &Record, part: &str) {
        let carried = check_topic(&record.topic).and_then(|()| message(record));
        let reason = carried.expect_err("is refused");
        assert!(reason.contains(part), "{reason}");
    }

    #[test]
    fn what_nats_cannot_carry_is_refused_with_its_reason() {
        refused(
            &with_header("raw", b"\xff"),
            "`raw` cannot be carried: it is not UTF-8",
        );
        refused(&with_header("two", b"a\nb"), "it has a line break");
        refused(&with_header("padded", b" a"), "white space");
        refused(&with_header("a b", b""), "names in ASCII");
        refused(&with_header("a:b", b""), "names in ASCII");
        refused(&with_header("", b"x"), "without a name");
        refused(&Record::new("", ""), "empty topic");
        refused(&Record::new("a b", ""), "a space");
        refused(&Record::new("a.*", ""), "a wildcard");
        refused(&Record::new("a..b", ""), "token of it is empty");
    }

    #[test]
    fn headers_to_the_server_stay_where_they_were() {
        let record = with_header("nats-Msg-Id", b"17");
        assert!(message(&record).expect("carried").headers.is_empty());
    }

    fn header() -> impl Strategy<Value = (String, String)> {
        ("[a-zA-Z][a-zA-Z0-9_-]{0,8}", "([!-~é][ -~é]{0,8}[!-~é])?")
    }

    proptest! {
        /// Whatever can be carried comes back as it was, but for the order of names.
        #[test]
        fn records_come_back(
            topic in "[a-z]{1,5}(\\.[a-z0-9]{1,5}){0,3}",
            value in prop::collection::vec(any::<u8>(), 0..64),
            key in prop::option::of(prop::collection::vec(any::<u8>(), 0..16)),
            timestamp in any::<i64>(),
            headers in prop::collection::vec(header(), 0..6),
        ) {
            let headers: Headers = headers
                .into_iter()
                .filter(|(name, _)| !is_servers(name) && !name.to_ascii_lowercase().starts_with("etl-"))
                .collect();
            let record = Record {
                key: key.map(Bytes::from),
                timestamp: Some(timestamp),
                headers,
                ..Record::new(topic.as_str(), value)
            };
            let url = url();
            let subject = url.subject_of(&record.topic);
            check_topic(&record.topic).expect("can be carried");
            let sent = message(&record).expect("can be carried");
            prop_assert!(subject.starts_with("out."));
            let own = super::topic(&subject, url.prefix.as_deref());
            let back = super::record(own.into(), Some(&sent.headers), sent.payload, 9, Some(1));
            prop_assert_eq!(&back.topic, &record.topic);
            prop_assert_eq!(&back.value, &record.value);
            prop_assert_eq!(&back.key, &record.key);
            prop_assert_eq!(back.timestamp, record.timestamp);
            prop_assert_eq!(back.headers.len(), record.headers.len());
            for (name, _) in record.headers.iter() {
                let (sent, came): (Vec<_>, Vec<_>) = (record.headers.all(name).collect(), back.headers.all(name).collect());
                prop_assert_eq!(sent, came);
            }
        }
    }
}
