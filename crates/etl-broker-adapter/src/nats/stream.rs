//! Streams and consumers: found, made where that was asked for, and made again where that loses nothing.

use std::time::Duration;

use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::consumer::pull::Config as PullConfig;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, Info as ConsumerInfo};
use async_nats::jetstream::context::{
    ConsumerInfoErrorKind, GetStreamErrorKind, RequestError, RequestErrorKind,
};
use async_nats::jetstream::stream::{Config as StreamConfig, Stream};

use super::connection::{Connection, causes};
use super::url::{Deliver, NatsUrl};
use crate::{AdapterError, AdapterErrorKind};

/// The consumer where the URL names none.
const CONSUMER: &str = "etl";

/// How long a record may be with a worker that says nothing about it.
const ACK_WAIT: Duration = Duration::from_secs(30);

/// Records that all workers of a consumer together may have in hand.
const MAX_ACK_PENDING: i64 = 65_536;

/// How long a new stream remembers message ids: a worker that was away for so long still writes nothing twice.
const DUPLICATES: Duration = Duration::from_secs(600);

/// The stream that the URL names, or the one that holds its subject. `create` makes one that is missing.
pub(super) async fn stream(
    connection: &Connection,
    url: &NatsUrl,
    create: bool,
) -> Result<Stream, AdapterError> {
    let name = match (&url.name, url.filters().first()) {
        (Some(name), _) => name.clone(),
        (None, Some(subject)) => by_subject(connection, url, subject).await?,
        (None, None) => {
            return Err(super::url::invalid(format!(
                "{url}: it names no stream: write nats://HOST:PORT/STREAM"
            )));
        }
    };
    match connection.jetstream.get_stream(&name).await {
        Ok(stream) => Ok(stream),
        Err(error) => match error.kind() {
            GetStreamErrorKind::JetStream(reply)
                if reply.error_code() == ErrorCode::STREAM_NOT_FOUND =>
            {
                if create {
                    self::create(connection, url, &name).await
                } else {
                    Err(missing(url, &name))
                }
            }
            GetStreamErrorKind::JetStream(reply) => Err(refused(url, &reply)),
            _ => Err(unanswered(url, "the stream", &error)),
        },
    }
}

/// That a stream is not there, and what to do about it.
pub(super) fn missing(url: &NatsUrl, name: &str) -> AdapterError {
    AdapterError::new(
        AdapterErrorKind::NotFound,
        format!(
            "{url}: there is no stream `{name}`: `--create` makes it, or `nats stream add {name}`"
        ),
    )
}

async fn by_subject(
    connection: &Connection,
    url: &NatsUrl,
    subject: &str,
) -> Result<String, AdapterError> {
    use async_nats::jetstream::context::GetStreamByNameErrorKind as Kind;
    let found = connection.jetstream.stream_by_subject(subject).await;
    found.map_err(|error| match error.kind() {
        Kind::NotFound => AdapterError::new(
            AdapterErrorKind::NotFound,
            format!(
                "{url}: no stream holds `{subject}`: name a stream, as in nats://HOST:PORT/STREAM"
            ),
        ),
        _ => unanswered(url, "which stream holds the subject", &error),
    })
}

/// Whether any stream holds a subject.
pub(super) async fn is_held(
    connection: &Connection,
    url: &NatsUrl,
    subject: &str,
) -> Result<bool, AdapterError> {
    match by_subject(connection, url, subject).await {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == AdapterErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Makes the stream, with the subjects that the URL says.
async fn create(
    connection: &Connection,
    url: &NatsUrl,
    name: &str,
) -> Result<Stream, AdapterError> {
    let subjects = url.filters();
    if subjects.is_empty() {
        return Err(super::url::invalid(format!(
            "{url}: a stream that is made must know its subjects: add ?subject=orders.> or ?prefix=orders"
        )));
    }
    let config = StreamConfig {
        name: name.to_owned(),
        subjects: subjects.clone(),
        duplicate_window: DUPLICATES,
        allow_direct: true,
        description: Some("made by etl --create".to_owned()),
        ..StreamConfig::default()
    };
    let stream = connection.jetstream.create_stream(config).await;
    let stream = stream.map_err(|error| {
        use async_nats::jetstream::context::CreateStreamErrorKind as Kind;
        match error.kind() {
            Kind::JetStream(reply) => AdapterError::new(
                refused(url, &reply).kind(),
                format!("{url}: the stream `{name}` cannot be made: {reply}"),
            ),
            _ => unanswered(url, "the request for a new stream", &error),
        }
    })?;
    tracing::info!(stream = name, ?subjects, "a stream was made");
    Ok(stream)
}

/// The consumer of the URL. One that is missing is made; `from` says where it begins, if not where the URL says.
pub(super) async fn consumer(
    stream: &Stream,
    url: &NatsUrl,
    from: Option<u64>,
) -> Result<ConsumerInfo, AdapterError> {
    let name = url.consumer.as_deref().unwrap_or(CONSUMER);
    let info = match stream.consumer_info(name).await {
        Ok(info) => info,
        Err(error) => match error.kind() {
            ConsumerInfoErrorKind::NotFound => make_consumer(stream, url, name, from).await?,
            ConsumerInfoErrorKind::StreamNotFound => {
                return Err(missing(url, &stream.cached_info().config.name));
            }
            ConsumerInfoErrorKind::JetStream(reply) => return Err(refused(url, &reply)),
            _ => return Err(unanswered(url, "the consumer", &error)),
        },
    };
    check_consumer(&info, url, name)?;
    Ok(info)
}

async fn make_consumer(
    stream: &Stream,
    url: &NatsUrl,
    name: &str,
    from: Option<u64>,
) -> Result<ConsumerInfo, AdapterError> {
    let mut filters = url.filters();
    // Several are for servers from 2.10 on; one is for all.
    let filter_subject = if filters.len() == 1 {
        filters.remove(0)
    } else {
        String::new()
    };
    let config = PullConfig {
        durable_name: Some(name.to_owned()),
        deliver_policy: match (from, url.deliver) {
            (Some(start_sequence), _) => DeliverPolicy::ByStartSequence { start_sequence },
            (None, Deliver::All) => DeliverPolicy::All,
            (None, Deliver::New) => DeliverPolicy::New,
            (None, Deliver::Last) => DeliverPolicy::Last,
        },
        ack_policy: AckPolicy::Explicit,
        ack_wait: url.ack_wait.unwrap_or(ACK_WAIT),
        // What comes too often is parked here, with its reason; the server would only stop giving it out.
        max_deliver: -1,
        max_ack_pending: MAX_ACK_PENDING,
        filter_subject,
        filter_subjects: filters,
        ..PullConfig::default()
    };
    match stream.create_consumer(config).await {
        Ok(consumer) => {
            tracing::info!(consumer = name, from, "a consumer was made");
            Ok(consumer.cached_info().clone())
        }
        // Another worker was faster, with another beginning.
        Err(error) => match stream.consumer_info(name).await {
            Ok(info) => Ok(info),
            Err(_) => {
                use async_nats::jetstream::stream::ConsumerErrorKind as Kind;
                Err(match error.kind() {
                    Kind::JetStream(reply) => AdapterError::new(
                        refused(url, &reply).kind(),
                        format!("{url}: the consumer `{name}` cannot be made: {reply}"),
                    ),
                    _ => unanswered(url, "the request for a new consumer", &error),
                })
            }
        },
    }
}

/// A consumer that somebody made for another purpose would lose records, or give none.
fn check_consumer(info: &ConsumerInfo, url: &NatsUrl, name: &str) -> Result<(), AdapterError> {
    let config = &info.config;
    let wrong = |what: String| {
        Err(AdapterError::new(
            AdapterErrorKind::Unsupported,
            format!("{url}: the consumer `{name}` {what}; name another one with ?consumer="),
        ))
    };
    if config.deliver_subject.is_some() {
        return wrong("is a push consumer; workers pull".to_owned());
    }
    if config.ack_policy != AckPolicy::Explicit {
        return wrong(
            "does not ask for explicit acknowledgements, without which records would be lost"
                .to_owned(),
        );
    }
    let mut has: Vec<&str> = config.filter_subjects.iter().map(String::as_str).collect();
    if !config.filter_subject.is_empty() {
        has.push(&config.filter_subject);
    }
    let wanted = url.filters();
    let mut wants: Vec<&str> = wanted.iter().map(String::as_str).collect();
    has.sort_unstable();
    wants.sort_unstable();
    if !wants.is_empty() && has != wants {
        let list = |subjects: &[&str]| match subjects {
            [] => "every subject".to_owned(),
            some => format!("`{}`", some.join("`, `")),
        };
        return wrong(format!("reads {}, not {}", list(&has), list(&wants)));
    }
    Ok(())
}

/// What the server said no to.
pub(super) fn refused(url: &NatsUrl, reply: &async_nats::jetstream::Error) -> AdapterError {
    let code = reply.error_code();
    let (kind, help) = match code {
        ErrorCode::JETSTREAM_NOT_ENABLED => (
            AdapterErrorKind::Unsupported,
            ": start nats-server with -js, or with a `jetstream` block in its configuration",
        ),
        ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT => (
            AdapterErrorKind::Unsupported,
            ": this account has no JetStream",
        ),
        _ if is_full(code, reply) => (
            AdapterErrorKind::StorageFull,
            ": make room in the stream or on the server's disk, or raise its limits",
        ),
        ErrorCode::STREAM_NOT_FOUND => (AdapterErrorKind::NotFound, ""),
        _ if reply.code() == 503 => (AdapterErrorKind::Unavailable, ""),
        _ => (AdapterErrorKind::Io, ""),
    };
    AdapterError::new(kind, format!("{url}: {reply}{help}"))
}

/// Whether what was refused can be stored once there is room.
fn is_full(code: ErrorCode, reply: &async_nats::jetstream::Error) -> bool {
    let text = reply.to_string().to_lowercase();
    [
        ErrorCode::STORAGE_RESOURCES_EXCEEDED,
        ErrorCode::MEMORY_RESOURCES_EXCEEDED,
        ErrorCode::INSUFFICIENT_RESOURCES,
        ErrorCode::ACCOUNT_RESOURCES_EXCEEDED,
    ]
    .contains(&code)
        || [
            "maximum bytes exceeded",
            "maximum messages exceeded",
            "maximum messages per subject exceeded",
            "no space left",
            "insufficient storage",
            "resource limits exceeded",
            "insufficient resources",
        ]
        .iter()
        .any(|part| text.contains(part))
}

/// That a question was not answered: the server is away, or starting, or has no JetStream.
pub(super) fn unanswered(
    url: &NatsUrl,
    what: &str,
    error: &(dyn std::error::Error + 'static),
) -> AdapterError {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if error.to_string().contains("no responders")
            || error
                .downcast_ref::<RequestError>()
                .is_some_and(|error| error.kind() == RequestErrorKind::NoResponders)
        {
            return AdapterError::new(
                AdapterErrorKind::Unavailable,
                format!(
                    "{url}: nobody answers for JetStream: the server is starting, or was started without -js"
                ),
            );
        }
        cause = error.source();
    }
    AdapterError::new(
        AdapterErrorKind::Unavailable,
        format!("{url}: no answer about {what}: {}", causes(error)),
    )
}
