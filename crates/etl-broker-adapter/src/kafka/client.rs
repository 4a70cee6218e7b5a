//! Clients of a `kafka://` URL, and what their errors mean to a user.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::{ClientContext, DefaultClientContext};
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::topic_partition_list::Offset;

use super::desk::Place;
use super::poller::list;
use super::url::{KafkaUrl, is_secret};
use crate::{AdapterError, AdapterErrorKind};

/// How long a question to the brokers may take.
pub(super) const ANSWER: Duration = Duration::from_secs(10);

/// What every client of this URL has, with `own` underneath the settings of the user, and `fixed` above.
pub(super) fn config(url: &KafkaUrl, own: &[(&str, &str)], fixed: &[(&str, &str)]) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("client.id", "etl");
    // Brokers that are away are reported once, not with each attempt.
    config.set("log.connection.close", "false");
    for (name, value) in own {
        config.set(*name, *value);
    }
    for (name, value) in &url.settings {
        config.set(name, value);
    }
    config.set("bootstrap.servers", url.servers.join(","));
    for (name, value) in fixed {
        config.set(*name, *value);
    }
    config.set_log_level(RDKafkaLogLevel::Warning);
    config
}

/// Makes a client.
pub(super) fn create<C: ClientContext, T: FromClientConfigAndContext<C>>(
    url: &KafkaUrl,
    config: &ClientConfig,
    context: C,
) -> Result<T, AdapterError> {
    config
        .create_with_context(context)
        .map_err(|error| of_creation(url, &error))
}

/// A setting that librdkafka refuses. Its words may repeat the value, so those about secrets are not passed on.
fn of_creation(url: &KafkaUrl, error: &KafkaError) -> AdapterError {
    let (kind, why) = match error {
        KafkaError::ClientConfig(_, _, name, _) if is_secret(name) => (
            AdapterErrorKind::InvalidUrl,
            format!("`{name}` cannot have this value"),
        ),
        KafkaError::ClientConfig(_, why, name, value) => {
            let absent = why.contains("not built") || why.contains("not available at build");
            let kind = match absent {
                true => AdapterErrorKind::Unsupported,
                false => AdapterErrorKind::InvalidUrl,
            };
            (kind, format!("`{name}={value}`: {why}"))
        }
        KafkaError::ClientCreation(why) => (AdapterErrorKind::InvalidUrl, why.clone()),
        error => (AdapterErrorKind::InvalidUrl, error.to_string()),
    };
    let hint = match kind {
        AdapterErrorKind::Unsupported => {
            ". This program was built without TLS and SASL beyond PLAIN: let a proxy on this machine speak them"
        }
        _ => "",
    };
    AdapterError::new(kind, format!("{url}: {why}{hint}"))
}

/// The error of a call. `doing` is what failed, as in "cannot commit positions".
pub(super) fn failed(url: &KafkaUrl, doing: &str, error: &KafkaError) -> AdapterError {
    match error.rdkafka_error_code() {
        Some(code) => of_code(url, doing, code),
        None => AdapterError::new(AdapterErrorKind::Io, format!("{url}: {doing}: {error}")),
    }
}

/// The same, of what the protocol or librdkafka said.
pub(super) fn of_code(url: &KafkaUrl, doing: &str, code: Code) -> AdapterError {
    let kind = kind(code);
    let hint = match kind {
        AdapterErrorKind::NotFound => {
            ". Create it with the tools of your brokers, or run again with --create"
        }
        _ => "",
    };
    AdapterError::new(kind, format!("{url}: {doing}: {code}{hint}"))
}

fn kind(code: Code) -> AdapterErrorKind {
    match code {
        Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition => {
            AdapterErrorKind::NotFound
        }
        Code::TopicAuthorizationFailed
        | Code::GroupAuthorizationFailed
        | Code::ClusterAuthorizationFailed
        | Code::TransactionalIdAuthorizationFailed
        | Code::SaslAuthenticationFailed
        | Code::Authentication => AdapterErrorKind::Unauthorized,
        Code::UnsupportedVersion
        | Code::UnsupportedFeature
        | Code::UnsupportedSASLMechanism
        | Code::UnsupportedForMessageFormat => AdapterErrorKind::Unsupported,
        Code::ProducerFenced | Code::Fenced | Code::FencedInstanceId => AdapterErrorKind::InUse,
        // What passes when brokers come back, elect, or have caught up.
        Code::BrokerTransportFailure
        | Code::AllBrokersDown
        | Code::Resolve
        | Code::OperationTimedOut
        | Code::TimedOutQueue
        | Code::MessageTimedOut
        | Code::RequestTimedOut
        | Code::BrokerNotAvailable
        | Code::ReplicaNotAvailable
        | Code::LeaderNotAvailable
        | Code::NotLeaderForPartition
        | Code::NetworkException
        | Code::CoordinatorLoadInProgress
        | Code::CoordinatorNotAvailable
        | Code::NotCoordinator
        | Code::NotEnoughReplicas
        | Code::NotEnoughReplicasAfterAppend
        | Code::NotController
        | Code::ConcurrentTransactions
        | Code::IllegalGeneration
        | Code::UnknownMemberId
        | Code::RebalanceInProgress
        | Code::UnstableOffsetCommit
        | Code::KafkaStorageError
        | Code::PurgeQueue
        | Code::PurgeInflight
        | Code::AutoOffsetReset
        | Code::OutOfOrderSequenceNumber
        | Code::UnknownProducerId
        | Code::InvalidProducerEpoch
        | Code::InvalidProducerIdMapping
        | Code::ThrottlingQuotaExceeded
        | Code::WaitingForCoordinator
        | Code::Retry
        | Code::Unknown => AdapterErrorKind::Unavailable,
        _ => AdapterErrorKind::Io,
    }
}

/// Whether this is about one message alone, which no retry makes acceptable.
pub(super) fn is_of_the_record(code: Code) -> bool {
    matches!(
        code,
        Code::MessageSizeTooLarge
            | Code::InvalidMessageSize
            | Code::InvalidMessage
            | Code::InvalidTimestamp
            | Code::InvalidRecord
            | Code::PolicyViolation
            | Code::MessageBatchTooLarge
    )
}

/// Answers questions. Blocking: not for a thread of the runtime.
pub(super) struct Asker {
    url: KafkaUrl,
    client: BaseConsumer<Quiet>,
}

/// Logs through `tracing`, and nothing more.
pub(super) struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, message: &str) {
        log(level, fac, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "kafka");
    }
}

impl ConsumerContext for Quiet {}

/// What librdkafka has to say goes where everything else of this program goes.
pub(super) fn log(level: RDKafkaLogLevel, facility: &str, message: &str) {
    match level {
        RDKafkaLogLevel::Emerg
        | RDKafkaLogLevel::Alert
        | RDKafkaLogLevel::Critical
        | RDKafkaLogLevel::Error
        | RDKafkaLogLevel::Warning => tracing::warn!(facility, "librdkafka: {message}"),
        _ => tracing::debug!(facility, "librdkafka: {message}"),
    }
}

impl Asker {
    pub(super) fn new(url: &KafkaUrl) -> Result<Self, AdapterError> {
        // Without a group it only asks. A consumer's questions create no topics, unlike a producer's.
        let config = config(url, &[], &[("allow.auto.create.topics", "false")]);
        Ok(Self {
            url: url.clone(),
            client: create(url, &config, Quiet)?,
        })
    }

    /// One that asks for a group without being a member of it. Positions that a transaction is about to commit are waited for.
    pub(super) fn of_group(url: &KafkaUrl) -> Result<Self, AdapterError> {
        let fixed = [
            ("group.id", &*url.group),
            ("enable.auto.commit", "false"),
            ("allow.auto.create.topics", "false"),
            ("isolation.level", "read_committed"),
        ];
        let config = config(url, &[], &fixed);
        Ok(Self {
            url: url.clone(),
            client: create(url, &config, Quiet)?,
        })
    }

    /// What the group has committed of each of these; `None`: nothing.
    pub(super) fn committed(&self, places: &[Place]) -> Result<Vec<Option<u64>>, AdapterError> {
        let committed = self.client.committed_offsets(list(places), ANSWER);
        let committed =
            committed.map_err(|error| failed(&self.url, "the positions of the group", &error))?;
        let committed = places.iter().map(|(topic, partition)| {
            let found = committed.find_partition(topic, *partition)?;
            if let Err(error) = found.error() {
                return Some(Err(failed(&self.url, "the positions of the group", &error)));
            }
            match found.offset() {
                Offset::Offset(offset) => u64::try_from(offset).ok().map(Ok),
                _ => None,
            }
        });
        committed.map(Option::transpose).collect()
    }

    /// Names and partitions of all topics but the brokers' own.
    pub(super) fn topics(&self) -> Result<Vec<(String, i32)>, AdapterError> {
        let metadata = self.client.fetch_metadata(None, ANSWER);
        let metadata = metadata.map_err(|error| self.unreachable(&error))?;
        let topics = metadata.topics().iter();
        let topics = topics.filter(|topic| !topic.name().starts_with("__"));
        let mut topics: Vec<(String, i32)> = topics
            .map(|topic| (topic.name().to_owned(), topic.partitions().len() as i32))
            .collect();
        topics.sort();
        Ok(topics)
    }

    /// How many partitions the topic has; `None`: there is no such topic.
    pub(super) fn partitions(&self, topic: &str) -> Result<Option<i32>, AdapterError> {
        let metadata = self.client.fetch_metadata(Some(topic), ANSWER);
        let metadata = metadata.map_err(|error| self.unreachable(&error))?;
        let Some(found) = metadata.topics().iter().find(|own| own.name() == topic) else {
            return Ok(None);
        };
        let doing = format!("topic {topic}");
        match found.error().map(Code::from) {
            None if found.partitions().is_empty() => Ok(None),
            None => Ok(Some(found.partitions().len() as i32)),
            Some(Code::UnknownTopicOrPartition | Code::UnknownTopic) => Ok(None),
            Some(code) => Err(of_code(&self.url, &doing, code)),
        }
    }

    /// First and next offset of a partition.
    pub(super) fn bounds(&self, topic: &str, partition: i32) -> Result<(i64, i64), AdapterError> {
        let bounds = self.client.fetch_watermarks(topic, partition, ANSWER);
        bounds.map_err(|error| failed(&self.url, &format!("topic {topic}"), &error))
    }

    fn unreachable(&self, error: &KafkaError) -> AdapterError {
        // What is wrong with the connection was logged; the call only knows that nobody answered.
        failed(&self.url, "no broker answers", error)
    }
}

/// Makes a topic; one that is there already is right too.
pub(super) async fn create_topic(
    url: &KafkaUrl,
    topic: &str,
    partitions: Option<i32>,
) -> Result<(), AdapterError> {
    let admin: AdminClient<DefaultClientContext> =
        create(url, &config(url, &[], &[]), DefaultClientContext)?;
    // -1: as the brokers do it by themselves.
    let partitions = partitions.or(url.partitions).unwrap_or(-1);
    let replication = TopicReplication::Fixed(url.replication.unwrap_or(-1));
    let topics = [NewTopic::new(topic, partitions, replication)];
    let options = AdminOptions::new().operation_timeout(Some(ANSWER));
    let doing = format!("cannot create topic {topic}");
    let created = admin.create_topics(&topics, &options).await;
    match created.map_err(|error| failed(url, &doing, &error))?.pop() {
        None | Some(Ok(_) | Err((_, Code::TopicAlreadyExists))) => Ok(()),
        Some(Err((_, code))) => Err(of_code(url, &doing, code)),
    }
}

/// That a topic is missing, and what to do about it.
pub(super) fn missing(url: &KafkaUrl, topic: &str) -> AdapterError {
    AdapterError::new(
        AdapterErrorKind::NotFound,
        format!(
            "{url}: there is no topic {topic}. Create it with the tools of your brokers, or run again with --create"
        ),
    )
}

/// Runs what blocks on a thread for that.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, AdapterError> + Send + 'static,
) -> Result<T, AdapterError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(AdapterError::new(
            AdapterErrorKind::Io,
            format!("a call of the Kafka client ended by itself: {error}"),
        )),
    }
}
