//! What stands behind `kafka://`: brokers, topics, the group, and settings of librdkafka by their own names.
//!
//! `kafka://[user[:password]@]host[:port][,host…][/topic[,topic…]][?name=value&…]`. A topic that begins with `^` is a regular expression. Names
//! without a dot are ours and listed in [`NAMES`]; a name with a dot is handed to librdkafka as it is, but for those on which the promise of this adapter
//! rests. Secrets need not stand in the URL: a user without a password has that of the variable `KAFKA_PASSWORD`. Printed, a
//! secret is three stars.

use std::fmt;

use crate::servers::{Parts, Secrets, decoded};
use crate::{AdapterError, AdapterErrorKind};

const PORT: u16 = 9092;

/// The group where the URL names none.
const GROUP: &str = "etl";

/// What may stand behind the question mark, beside settings of librdkafka.
const NAMES: [&str; 5] = [
    "group",
    "offset",
    "partitions",
    "replication",
    "exactly-once",
];

/// Settings of librdkafka that are not the user's to make, and why.
const RESERVED: [(&str, &str); 9] = [
    ("bootstrap.servers", "the brokers stand before the topic"),
    ("metadata.broker.list", "the brokers stand before the topic"),
    ("group.id", "write `group=`"),
    (
        "auto.offset.reset",
        "write `offset=earliest` or `offset=latest`",
    ),
    (
        "enable.auto.commit",
        "a position is committed when what came of its records is safe",
    ),
    (
        "enable.auto.offset.store",
        "a position is stored when what came of its records is safe",
    ),
    (
        "enable.idempotence",
        "it is always on, or a retry could change the order",
    ),
    ("request.required.acks", "it is always `all`"),
    (
        "test.mock.num.brokers",
        "it would replace the brokers by pretended ones",
    ),
];

/// Parts of names of settings whose value is never shown.
const SECRET: [&str; 5] = [
    "password",
    "secret",
    "key.pem",
    "oauthbearer.config",
    "jaas",
];

/// A `kafka://` URL, read.
#[derive(Clone, PartialEq, Eq)]
pub struct KafkaUrl {
    /// Host and port of each.
    pub(super) servers: Vec<String>,
    /// Names, or expressions that begin with `^`.
    pub(super) topics: Vec<String>,
    pub(super) group: String,
    /// Where a group begins that has no position.
    pub(super) latest: bool,
    /// Of a topic that is created; `None`: as the brokers do it.
    pub(super) partitions: Option<i32>,
    pub(super) replication: Option<i32>,
    pub(super) exactly_once: bool,
    /// Settings of librdkafka, in order.
    pub(super) settings: Vec<(String, String)>,
    /// As it was typed, with secrets hidden.
    shown: String,
}

impl KafkaUrl {
    /// Reads what a user typed.
    ///
    /// # Errors
    ///
    /// [`AdapterErrorKind::InvalidUrl`]: what is wrong, and what to write instead.
    pub fn parse(text: &str) -> Result<Self, AdapterError> {
        let parts = Parts::of(text.strip_prefix("kafka://").unwrap_or(text));
        let secrets = Secrets {
            login: false,
            setting: is_secret,
        };
        let shown = parts.shown("kafka", secrets);
        let wrong = |reason: String| {
            AdapterError::new(AdapterErrorKind::InvalidUrl, format!("{shown}: {reason}"))
        };
        let servers = parts.servers(PORT, "it names no broker: write kafka://HOST:PORT/TOPIC");
        let mut url = Self {
            servers: servers.map_err(wrong)?,
            topics: topics(parts.path).map_err(wrong)?,
            group: GROUP.to_owned(),
            latest: false,
            partitions: None,
            replication: None,
            exactly_once: false,
            settings: Vec::new(),
            shown: shown.clone(),
        };
        if let Some(login) = parts.login {
            url.log_in(login).map_err(wrong)?;
        }
        for setting in parts.settings() {
            let (name, value) = setting.map_err(wrong)?;
            url.set(name, value).map_err(wrong)?;
        }
        Ok(url)
    }

    fn log_in(&mut self, login: &str) -> Result<(), String> {
        let (user, password) = match login.split_once(':') {
            Some((user, password)) => (user, decoded(password)?),
            None => (login, std::env::var("KAFKA_PASSWORD").unwrap_or_default()),
        };
        if password.is_empty() {
            return Err(format!(
                "user `{user}` has no password: set KAFKA_PASSWORD, or write it behind the name and a colon"
            ));
        }
        for (name, value) in [
            ("security.protocol", "sasl_plaintext".to_owned()),
            ("sasl.mechanism", "PLAIN".to_owned()),
            ("sasl.username", decoded(user)?),
            ("sasl.password", password),
        ] {
            self.settings.push((name.to_owned(), value));
        }
        Ok(())
    }

    fn set(&mut self, name: &str, value: String) -> Result<(), String> {
        let number = |value: &str, most: i32| {
            let number = value
                .parse()
                .ok()
                .filter(|number| (1..=most).contains(number));
            number.ok_or_else(|| format!("`{name}={value}`: it is a number from 1 to {most}"))
        };
        if value.is_empty() && name != "exactly-once" {
            return Err(format!("`{name}` has no value"));
        }
        match name {
            "group" => self.group = value,
            "offset" => {
                self.latest = match &*value {
                    "earliest" => false,
                    "latest" => true,
                    other => return Err(format!("`offset={other}`: it is earliest or latest")),
                }
            }
            "partitions" => self.partitions = Some(number(&value, 100_000)?),
            "replication" => self.replication = Some(number(&value, 100)?),
            "exactly-once" => {
                self.exactly_once = match &*value {
                    "" | "true" => true,
                    "false" => false,
                    other => return Err(format!("`exactly-once={other}`: it is true or false")),
                }
            }
            name => {
                if let Some((_, why)) = RESERVED.iter().find(|(reserved, _)| *reserved == name) {
                    return Err(format!("`{name}` cannot be set: {why}"));
                }
                if !name.contains('.') {
                    return Err(format!(
                        "unknown `{name}`; there are {}, and the settings of librdkafka, whose names have a dot in them",
                        NAMES.join(", ")
                    ));
                }
                self.settings.push((name.to_owned(), value));
            }
        }
        Ok(())
    }

    /// The one topic that it names, if it is one and no expression.
    pub fn topic(&self) -> Option<&str> {
        match &*self.topics {
            [topic] if !topic.starts_with('^') => Some(topic),
            _ => None,
        }
    }

    /// Names of topics, and expressions that begin with `^`.
    pub fn topics(&self) -> &[String] {
        &self.topics
    }

    /// Whether it was asked for transactions.
    pub fn exactly_once(&self) -> bool {
        self.exactly_once
    }

    /// What a user set, last one wins.
    pub(super) fn setting(&self, name: &str) -> Option<&str> {
        let mut settings = self.settings.iter().rev();
        let found = settings.find(|(own, _)| own == name);
        found.map(|(_, value)| &**value)
    }
}

impl fmt::Display for KafkaUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

/// Without its secrets.
impl fmt::Debug for KafkaUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

/// Whether the value of this setting is one that nobody shall see.
pub(super) fn is_secret(name: &str) -> bool {
    SECRET.iter().any(|part| name.contains(part))
}

fn topics(path: &str) -> Result<Vec<String>, String> {
    let path = decoded(path.trim_end_matches('/'))?;
    if path.is_empty() {
        return Ok(Vec::new());
    }
    let mut topics = Vec::new();
    for topic in path.split(',') {
        if !topic.starts_with('^') {
            check_topic(topic)?;
        }
        topics.push(topic.to_owned());
    }
    Ok(topics)
}

/// What Kafka takes as the name of a topic.
pub(super) fn check_topic(topic: &str) -> Result<(), String> {
    if topic.is_empty() || topic == "." || topic == ".." {
        return Err(format!("`{topic}` cannot be the name of a Kafka topic"));
    }
    if topic.len() > 249 {
        return Err(format!(
            "a topic's name has {} bytes, over Kafka's limit of 249",
            topic.len()
        ));
    }
    let bad = |c: &char| !c.is_ascii_alphanumeric() && !"._-".contains(*c);
    match topic.chars().find(bad) {
        Some(c) => Err(format!(
            "`{}` cannot be the name of a Kafka topic: it has a `{}`; there may be letters, digits, `.`, `_` and `-`",
            topic.escape_debug(),
            c.escape_debug()
        )),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> KafkaUrl {
        KafkaUrl::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[track_caller]
    fn refused(text: &str, part: &str) {
        let error = KafkaUrl::parse(text).expect_err("is refused");
        assert_eq!(error.kind(), AdapterErrorKind::InvalidUrl);
        assert!(error.to_string().contains(part), "{error}");
        assert!(!error.to_string().contains("hush"), "{error}");
    }

    #[test]
    fn the_parts_are_found() {
        let url = parse(
            "kafka://one:9000,two,[::1]:7/orders,^returns%5C..*?group=g&offset=latest&partitions=3&linger.ms=5",
        );
        assert_eq!(url.servers, ["one:9000", "two:9092", "[::1]:7"]);
        assert_eq!(url.topics, ["orders", "^returns\\..*"]);
        assert_eq!(
            (&*url.group, url.latest, url.partitions),
            ("g", true, Some(3))
        );
        assert_eq!(url.setting("linger.ms"), Some("5"));
        assert_eq!(url.topic(), None);
        assert_eq!(parse("kafka://h/t").topic(), Some("t"));
        assert!(parse("kafka://h").topics.is_empty());
    }

    #[test]
    fn secrets_are_not_printed() {
        for text in [
            "kafka://me:hush@h/t",
            "kafka://me:hu@hush@h/t",
            "kafka://me:hush/hush@h/t",
            "kafka://h/t?sasl.password=hush&ssl.key.password=hush",
        ] {
            let url = parse(text);
            assert!(!format!("{url} {url:?}").contains("hush"), "{url}");
        }
        assert_eq!(
            parse("kafka://me:h%20@h").setting("sasl.password"),
            Some("h ")
        );
    }

    #[test]
    fn what_is_wrong_is_said() {
        refused("kafka://", "names no broker");
        refused("kafka://me:hush@h:0/t", "`0` is not a port");
        refused("kafka://h/a%20b", "letters, digits");
        refused("kafka://h/a,,b", "cannot be the name");
        refused("kafka://h/t?grup=x", "unknown `grup`; there are group, ");
        refused("kafka://h/t?group=", "`group` has no value");
        refused("kafka://h/t?offset=first", "earliest or latest");
        refused("kafka://h/t?partitions=0", "from 1 to");
        refused("kafka://h/t?group.id=x", "write `group=`");
        refused(
            "kafka://h/t?enable.auto.commit=true",
            "cannot be set: a position",
        );
        refused("kafka://me@h/t", "set KAFKA_PASSWORD");
        refused("kafka://h/%ff", "not UTF-8");
    }
}
