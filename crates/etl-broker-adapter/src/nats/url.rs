//! What stands behind `nats://`: servers, who connects and how, which stream, and how it is read or written.
//!
//! `nats://[user:password@]host[:port][,host…]/STREAM[?name=value&…]`. Names that are not known are refused with the nearest one that
//! is, so that a slip of the pen is not a setting that has no effect. Secrets need not stand in the URL: what it does not say
//! is taken from the variables that other NATS programs read (`NATS_USER`, `NATS_PASSWORD`, `NATS_TOKEN`, `NATS_CREDS`, `NATS_NKEY`,
//! `NATS_CA`, `NATS_CERT`, `NATS_KEY`). Printed, a password or token is three stars.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::servers::{Parts, Secrets, decoded};
use crate::{AdapterError, AdapterErrorKind};

/// The port where none is given.
const PORT: u16 = 4222;

/// A `nats://` URL, read.
#[derive(Clone, PartialEq, Eq)]
pub struct NatsUrl {
    /// Host and port of each server; tried in any order.
    pub(super) servers: Vec<String>,
    pub(super) login: Login,
    pub(super) tls: Tls,
    /// The stream, or what else the first part of the path names: a fleet.
    pub(super) name: Option<String>,
    pub(super) consumer: Option<String>,
    /// Which subjects: a filter where the stream is read, what a new stream holds where it is created.
    pub(super) subjects: Vec<String>,
    /// Stands before every topic in the subject, and in no record.
    pub(super) prefix: Option<String>,
    pub(super) deliver: Deliver,
    pub(super) ack_wait: Option<Duration>,
    pub(super) prefetch: Option<usize>,
    /// As it was typed, with secrets hidden.
    shown: String,
}

/// Who connects.
#[derive(Clone, PartialEq, Eq, Default)]
pub(super) enum Login {
    /// Whoever the environment says, or nobody.
    #[default]
    Unsaid,
    Password(String, String),
    Token(String),
    /// A file with a JWT and the seed of a key, as `nsc generate creds` writes it.
    Credentials(PathBuf),
    /// A file with the seed of a key.
    Nkey(PathBuf),
}

/// How the connection is kept secret.
#[derive(Clone, PartialEq, Eq, Default)]
pub(super) struct Tls {
    /// Whether a server that offers none is refused.
    pub(super) required: bool,
    /// Whether the handshake comes before the server says anything.
    pub(super) first: bool,
    pub(super) authority: Option<PathBuf>,
    pub(super) certificate: Option<PathBuf>,
    pub(super) key: Option<PathBuf>,
}

/// Where a consumer that is new begins.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) enum Deliver {
    #[default]
    All,
    New,
    Last,
}

/// What may stand behind the question mark, for the help and for errors.
const NAMES: [&str; 14] = [
    "consumer",
    "subject",
    "prefix",
    "deliver",
    "ack-wait",
    "prefetch",
    "token",
    "creds",
    "nkey",
    "tls",
    "tls-ca",
    "tls-cert",
    "tls-key",
    "tls-first",
];

impl NatsUrl {
    /// What its records' positions belong to: another consumer of the same stream makes outputs of its own. The stream is part of each partition's number.
    pub(crate) fn source_name(&self) -> String {
        format!("etl-{}", self.consumer.as_deref().unwrap_or("etl"))
    }

    /// Reads what a user typed. `text` begins with `nats://` or `tls://`, which is the same with TLS required.
    ///
    /// # Errors
    ///
    /// [`AdapterErrorKind::InvalidUrl`]: what is wrong, and what to write instead.
    pub fn parse(text: &str) -> Result<Self, AdapterError> {
        let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
        if !matches!(scheme, "nats" | "tls") {
            return Err(invalid(format!(
                "`{text}` is not a NATS URL: write nats://HOST:PORT/STREAM"
            )));
        }
        if let Some((before, query)) = rest.split_once('?')
            && query.contains('@')
            && !before.contains(['@', '/'])
        {
            // It is not shown: what stands before may be the beginning of a password.
            return Err(invalid(
                "a NATS URL has an `@` behind its `?` and no stream before: write a `?` in a password as %3F, and nats://USER:PASSWORD@HOST:PORT/STREAM".to_owned(),
            ));
        }
        let parts = Parts::of(rest);
        let secrets = Secrets {
            login: true,
            setting: |name| name == "token",
        };
        let shown = parts.shown(scheme, secrets);
        let wrong = |reason: String| invalid(format!("{shown}: {reason}"));
        let servers = parts.servers(PORT, "it names no host: write nats://HOST:PORT/STREAM");
        let mut url = Self {
            servers: servers.map_err(wrong)?,
            login: Login::Unsaid,
            tls: Tls {
                required: scheme == "tls",
                ..Tls::default()
            },
            name: None,
            consumer: None,
            subjects: Vec::new(),
            prefix: None,
            deliver: Deliver::All,
            ack_wait: None,
            prefetch: None,
            shown: shown.clone(),
        };
        if let Some(login) = parts.login {
            url.login = match login.split_once(':') {
                Some((user, password)) => Login::Password(
                    decoded(user).map_err(wrong)?,
                    decoded(password).map_err(wrong)?,
                ),
                // One word before the host is a token, as in other clients.
                None => Login::Token(decoded(login).map_err(wrong)?),
            };
        }
        let name = decoded(parts.path.trim_end_matches('/')).map_err(wrong)?;
        if !name.is_empty() {
            check_name("stream", &name).map_err(wrong)?;
            url.name = Some(name);
        }
        for setting in parts.settings() {
            let (name, value) = setting.map_err(wrong)?;
            url.set(name, value).map_err(wrong)?;
        }
        Ok(url)
    }

    fn set(&mut self, name: &str, value: String) -> Result<(), String> {
        let truth = |value: &str| match value {
            "" | "true" => Ok(true),
            "false" => Ok(false),
            other => Err(format!("`{name}={other}`: it is true or false")),
        };
        if value.is_empty() && !matches!(name, "tls" | "tls-first") && NAMES.contains(&name) {
            return Err(format!("`{name}` has no value"));
        }
        match name {
            "consumer" => {
                check_name("consumer", &value)?;
                self.consumer = Some(value);
            }
            "subject" => {
                for subject in value.split(',') {
                    check_subject(subject)?;
                    self.subjects.push(subject.to_owned());
                }
            }
            "prefix" => {
                let prefix = value.trim_end_matches('.');
                check_subject(prefix)?;
                if prefix.split('.').any(|token| matches!(token, "*" | ">")) {
                    return Err(format!("prefix `{value}` has a wildcard"));
                }
                self.prefix = Some(format!("{prefix}."));
            }
            "deliver" => {
                self.deliver = match &*value {
                    "all" => Deliver::All,
                    "new" => Deliver::New,
                    "last" => Deliver::Last,
                    other => {
                        return Err(format!("`deliver={other}`: it is all, new or last"));
                    }
                }
            }
            "ack-wait" => {
                let wait = duration(&value)
                    .filter(|wait| (1..=3_600).contains(&wait.as_secs()))
                    .ok_or_else(|| {
                        format!("`ack-wait={value}`: it is a time from 1s to 1h, as in 30s")
                    })?;
                self.ack_wait = Some(wait);
            }
            "prefetch" => {
                let number = value
                    .parse()
                    .ok()
                    .filter(|number| (1..=65_536).contains(number));
                self.prefetch = Some(number.ok_or_else(|| {
                    format!("`prefetch={value}`: it is a number from 1 to 65536")
                })?);
            }
            "token" => self.login = Login::Token(value),
            "creds" => self.login = Login::Credentials(value.into()),
            "nkey" => self.login = Login::Nkey(value.into()),
            "tls" => self.tls.required = truth(&value)?,
            "tls-first" => {
                self.tls.first = truth(&value)?;
                self.tls.required |= self.tls.first;
            }
            "tls-ca" => self.tls.authority = Some(value.into()),
            "tls-cert" => self.tls.certificate = Some(value.into()),
            "tls-key" => self.tls.key = Some(value.into()),
            other => {
                let known = NAMES.join(", ");
                return Err(format!("unknown `{other}`; there are {known}"));
            }
        }
        Ok(())
    }

    /// The stream or fleet that the path names.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// The subject of a topic.
    pub(super) fn subject_of(&self, topic: &str) -> String {
        match &self.prefix {
            Some(prefix) => format!("{prefix}{topic}"),
            None => topic.to_owned(),
        }
    }

    /// What a consumer shall be given; empty: everything in the stream.
    pub(super) fn filters(&self) -> Vec<String> {
        match &self.prefix {
            Some(prefix) if self.subjects.is_empty() => vec![format!("{prefix}>")],
            _ => self.subjects.clone(),
        }
    }
}

impl fmt::Display for NatsUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

/// Without its secrets.
impl fmt::Debug for NatsUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

pub(super) fn invalid(message: String) -> AdapterError {
    AdapterError::new(AdapterErrorKind::InvalidUrl, message)
}

/// Streams and consumers are folders on the server's disk.
fn check_name(what: &str, name: &str) -> Result<(), String> {
    let bad = |c: char| c.is_whitespace() || c.is_control() || ".*>/\\".contains(c);
    match name.chars().find(|c| bad(*c)) {
        Some(c) => Err(format!(
            "`{name}` cannot be the name of a {what}: it has a `{}`; {what}s have neither dots, wildcards, slashes nor spaces",
            c.escape_default()
        )),
        None => Ok(()),
    }
}

/// Subjects are tokens with dots between them.
pub(super) fn check_subject(subject: &str) -> Result<(), String> {
    if subject.is_empty() {
        return Err("an empty topic cannot be a subject".to_owned());
    }
    if subject.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(format!(
            "`{}` cannot be a subject: it has a space or a control character",
            subject.escape_debug()
        ));
    }
    if subject.split('.').any(str::is_empty) {
        return Err(format!(
            "`{subject}` cannot be a subject: a token of it is empty"
        ));
    }
    Ok(())
}

/// `500ms`, `30s`, `5m`, `1h`.
fn duration(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let milliseconds = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    number.checked_mul(milliseconds).map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> NatsUrl {
        NatsUrl::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[track_caller]
    fn refused(text: &str, part: &str) {
        let error = NatsUrl::parse(text).expect_err("is refused");
        assert_eq!(error.kind(), AdapterErrorKind::InvalidUrl);
        assert!(error.to_string().contains(part), "{error}");
    }

    #[test]
    fn the_parts_are_found() {
        let url = parse(
            "nats://me:p%40ss@one:4000,two,[::1]:7/ORDERS?consumer=etl&subject=orders.>,returns.*&ack-wait=5s&deliver=new",
        );
        assert_eq!(url.servers, ["one:4000", "two:4222", "[::1]:7"]);
        assert!(url.login == Login::Password("me".to_owned(), "p@ss".to_owned()));
        assert_eq!(url.name(), Some("ORDERS"));
        assert_eq!(url.consumer.as_deref(), Some("etl"));
        assert_eq!(url.subjects, ["orders.>", "returns.*"]);
        assert_eq!(url.ack_wait, Some(Duration::from_secs(5)));
        assert_eq!(url.deliver, Deliver::New);
        assert_eq!(parse("nats://[::1]").servers, ["[::1]:4222"]);
        assert_eq!(parse("nats://host/").name(), None);
        assert!(parse("tls://host").tls.required);
    }

    #[test]
    fn a_prefix_is_in_the_subject_alone() {
        let url = parse("nats://host/OUT?prefix=clean.");
        assert_eq!(url.subject_of("orders.new"), "clean.orders.new");
        assert_eq!(url.filters(), ["clean.>"]);
        assert_eq!(
            parse("nats://host/OUT?prefix=a.b&subject=a.b.c").filters(),
            ["a.b.c"]
        );
    }

    #[test]
    fn secrets_are_not_printed() {
        let shown = |text| format!("{0} {0:?}", parse(text));
        for text in [
            "nats://me:secret@host/S",
            "nats://secret@host/S",
            "nats://host/S?token=secret&consumer=c",
            "nats://me:se@secret@host/S",
            "nats://me:sec/secret@host/S",
        ] {
            assert!(!shown(text).contains("secret"), "{}", shown(text));
        }
        let error = NatsUrl::parse("nats://me:secret@host/S?consumr=c").expect_err("is refused");
        assert!(!error.to_string().contains("secret"), "{error}");
        for text in [
            "nats://me:secret@host:x/S",
            "nats://me:secret?x@host/S",
            "nats://me:secret%ff@host/S",
        ] {
            let error = NatsUrl::parse(text).expect_err("is refused");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        refused("nats://", "names no host");
        refused("nats://host:0/S", "`0` is not a port");
        refused("nats://host/a.b", "neither dots");
        refused(
            "nats://host/S?consumr=x",
            "unknown `consumr`; there are consumer, ",
        );
        refused("nats://host/S?consumer=", "`consumer` has no value");
        refused("nats://host/S?subject=a..b", "a token of it is empty");
        refused("nats://host/S?subject=a%20b", "a space");
        refused("nats://host/S?prefix=a.*", "has a wildcard");
        refused("nats://host/S?ack-wait=5", "a time from 1s");
        refused("nats://host/S?deliver=some", "all, new or last");
        refused("nats://host/S?tls=maybe", "true or false");
        refused("nats://host/%ff", "not UTF-8");
    }
}
