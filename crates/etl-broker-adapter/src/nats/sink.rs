//! Writes to a stream: publications go out one after the other, and are confirmed when the server has stored them.
//!
//! Each has the header `Nats-Msg-Id`, made of where in the source it came from and as which of its outputs. So what is written
//! again, because the answer was lost or another worker took over, is dropped by the server as long as it remembers
//! (`duplicate_window` of the stream, two minutes unless it was set).
//!
//! A connection that ends, and a server that does not answer in time, are errors that a retry can help; then everything since the last
//! confirmation is written again, in order, over a new connection. A record that NATS cannot carry is refused alone: a header that is
//! not text, a subject with a space, more bytes than the server takes, a subject that the stream does not hold.

use std::collections::VecDeque;
use std::future::IntoFuture;

use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::context::{PublishAckFuture, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;

use super::connection::{Connection, ON_THEIR_WAY, causes};
use super::reading::{Carries, Reading};
use super::url::NatsUrl;
use super::{mapping, stream, subjects};
use crate::{AdapterError, AdapterErrorKind, BoxFuture, Origin, Outputs, Refused, Sink};

/// A stream of NATS JetStream, or all of them, written to.
pub struct NatsSink {
    url: NatsUrl,
    /// Begins every message id, so that two sources never share one.
    source: String,
    link: Option<Link>,
    /// What the run itself reads on this server.
    reading: Option<Reading>,
    /// What is on its way, with its number among those since the last confirmation.
    sent: VecDeque<(usize, PublishAckFuture)>,
    refused: Vec<Refused>,
    written: usize,
}

struct Link {
    connection: Connection,
    /// The subjects that the stream holds; `None`: whichever stream holds a record's subject takes it.
    subjects: Option<Vec<String>>,
    max_payload: usize,
}

impl NatsSink {
    /// Connects, and finds the stream if the URL names one. `create`: one that is missing is made. `source` names where the records come
    /// from, the same after a restart: it begins every message id.
    ///
    /// # Errors
    ///
    /// Nobody answers, the credentials are refused, there is no such stream.
    pub async fn open(url: NatsUrl, source: &str, create: bool) -> Result<Self, AdapterError> {
        let mut sink = Self {
            url,
            source: source.to_owned(),
            link: None,
            reading: None,
            sent: VecDeque::new(),
            refused: Vec::new(),
            written: 0,
        };
        sink.connect(create).await?;
        Ok(sink)
    }

    /// The sink of a run that reads this.
    ///
    /// # Errors
    ///
    /// All that is written here would be read again.
    pub(crate) async fn reading(
        mut self,
        reading: Reading,
        carries: Carries<'_>,
    ) -> Result<Self, AdapterError> {
        let Some(link) = &self.link else {
            return Ok(self);
        };
        if reading.is_at(&link.connection).await {
            reading.check(&self.url, link.subjects.as_deref(), carries)?;
            self.reading = Some(reading);
        }
        Ok(self)
    }

    async fn connect(&mut self, create: bool) -> Result<(), AdapterError> {
        self.forget();
        self.link = None;
        let connection = Connection::open(&self.url, "sink").await?;
        let mut subjects = None;
        let mut max_payload = connection.client.server_info().max_payload;
        if self.url.name.is_some() || create {
            let stream = stream::stream(&connection, &self.url, create).await?;
            let config = &stream.cached_info().config;
            if let Some(limit) = usize::try_from(config.max_message_size)
                .ok()
                .filter(|limit| *limit > 0)
            {
                max_payload = max_payload.min(limit);
            }
            // A stream without subjects of its own is a mirror, to which nobody can write.
            if config.subjects.is_empty() {
                return Err(AdapterError::new(
                    AdapterErrorKind::Unsupported,
                    format!(
                        "{}: the stream has no subjects, so nothing can be written to it",
                        self.url
                    ),
                ));
            }
            subjects = Some(config.subjects.clone());
        }
        self.link = Some(Link {
            connection,
            subjects,
            max_payload,
        });
        Ok(())
    }

    /// What was written since the last confirmation is the caller's to write again.
    fn forget(&mut self) {
        self.sent.clear();
        self.refused.clear();
        self.written = 0;
    }

    async fn send(&mut self, outputs: &Outputs) -> Result<(), AdapterError> {
        for output in outputs.iter() {
            // The oldest are answered first, so the window moves on one by one.
            while self.sent.len() >= ON_THEIR_WAY
                && let Some((index, answer)) = self.sent.pop_front()
            {
                self.settle(index, answer).await?;
            }
            let Some(link) = &self.link else {
                return Err(ended(&self.url));
            };
            let index = self.written;
            self.written += 1;
            let mut message = match mapping::message(&output.record, &self.url) {
                Ok(message) => message,
                Err(reason) => {
                    self.refused.push(Refused { index, reason });
                    continue;
                }
            };
            message.headers.insert(
                async_nats::header::NATS_MESSAGE_ID,
                message_id(&self.source, &output.origin),
            );
            // Dead letters have topics of their own, which were looked at when the run began.
            let again = self
                .reading
                .as_ref()
                .filter(|_| !output.origin.is_dead_letter());
            if again.is_some_and(|reading| reading.holds(&message.subject)) {
                let reason = format!(
                    "this run reads `{}`, so the record would go round for ever: set another topic in a module, or put it elsewhere with ?prefix=",
                    message.subject
                );
                self.refused.push(Refused { index, reason });
                continue;
            }
            if let Err(reason) = link.accepts(&message, &self.url) {
                self.refused.push(Refused { index, reason });
                continue;
            }
            let publication = PublishMessage::build()
                .payload(message.payload)
                .headers(message.headers);
            let sent = link
                .connection
                .jetstream
                .send_publish(message.subject, publication)
                .await;
            match sent {
                Ok(answer) => self.sent.push_back((index, answer)),
                Err(error) if error.kind() == PublishErrorKind::MaxPayloadExceeded => {
                    let reason = causes(&error);
                    self.refused.push(Refused { index, reason });
                }
                Err(_) => return Err(ended(&self.url)),
            }
        }
        Ok(())
    }

    async fn answers(&mut self) -> Result<Vec<Refused>, AdapterError> {
        while let Some((index, answer)) = self.sent.pop_front() {
            self.settle(index, answer).await?;
        }
        self.written = 0;
        let mut refused = std::mem::take(&mut self.refused);
        refused.sort_by_key(|refused| refused.index);
        Ok(refused)
    }

    /// Waits for the server's answer to one.
    async fn settle(&mut self, index: usize, answer: PublishAckFuture) -> Result<(), AdapterError> {
        let Err(error) = answer.into_future().await else {
            return Ok(());
        };
        let reply = match error.kind() {
            PublishErrorKind::TimedOut => {
                return Err(AdapterError::new(
                    AdapterErrorKind::Unavailable,
                    format!("{}: the server did not confirm in time", self.url),
                ));
            }
            PublishErrorKind::BrokenPipe => return Err(ended(&self.url)),
            PublishErrorKind::StreamNotFound => return Err(self.nobody().await),
            _ => reply(&error),
        };
        match reply {
            Some(reply) if is_of_the_record(reply.error_code()) => {
                let reason = format!("the server refuses it: {reply}");
                self.refused.push(Refused { index, reason });
                Ok(())
            }
            Some(reply) => Err(stream::refused(&self.url, reply)),
            None => Err(AdapterError::new(
                AdapterErrorKind::Unavailable,
                format!("{}: {}", self.url, causes(&error)),
            )),
        }
    }

    /// No stream took a record: because the one of the URL is gone, because JetStream is starting, or because there never was one.
    async fn nobody(&self) -> AdapterError {
        let Some(link) = &self.link else {
            return ended(&self.url);
        };
        match stream::stream(&link.connection, &self.url, false).await {
            Err(error) => error,
            Ok(_) => AdapterError::new(
                AdapterErrorKind::Unavailable,
                format!(
                    "{}: the server did not store a record, though its stream is there",
                    self.url
                ),
            ),
        }
    }
}

impl Link {
    /// Whether a message can be stored; why not.
    fn accepts(&self, message: &mapping::Outgoing, url: &NatsUrl) -> Result<(), String> {
        let size = mapping::size(message);
        if size > self.max_payload {
            return Err(format!(
                "value and headers have {size} bytes, over the server's limit of {}",
                self.max_payload
            ));
        }
        match &self.subjects {
            Some(held)
                if !held
                    .iter()
                    .any(|held| subjects::matches(held, &message.subject)) =>
            {
                Err(format!(
                    "the stream `{}` does not hold the subject `{}`, only `{}`",
                    url.name.as_deref().unwrap_or_default(),
                    message.subject,
                    held.join("`, `")
                ))
            }
            _ => Ok(()),
        }
    }
}

impl Sink for NatsSink {
    fn write(&mut self, outputs: Outputs) -> BoxFuture<'_, Result<(), AdapterError>> {
        Box::pin(async move {
            let sent = self.send(&outputs).await;
            if sent.is_err() {
                self.forget();
            }
            sent
        })
    }

    fn confirm(&mut self) -> BoxFuture<'_, Result<Vec<Refused>, AdapterError>> {
        Box::pin(async move {
            let answers = self.answers().await;
            if answers.is_err() {
                self.forget();
            }
            answers
        })
    }

    fn recover(&mut self) -> BoxFuture<'_, Result<bool, AdapterError>> {
        Box::pin(async move {
            self.connect(false).await?;
            Ok(true)
        })
    }
}

/// The same for the same output of the same record, whoever writes it.
fn message_id(source: &str, origin: &Origin) -> String {
    format!(
        "{source}-{:x}-{}-{:x}",
        origin.partition.0, origin.position, origin.index
    )
}

fn ended(url: &NatsUrl) -> AdapterError {
    AdapterError::new(
        AdapterErrorKind::Unavailable,
        format!("{url}: the connection to the server ended"),
    )
}

fn reply(
    error: &async_nats::jetstream::context::PublishError,
) -> Option<&async_nats::jetstream::Error> {
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        if let Some(reply) = error.downcast_ref() {
            return Some(reply);
        }
        cause = error.source();
    }
    None
}

/// Whether the same record would be refused for ever, and others not.
fn is_of_the_record(code: ErrorCode) -> bool {
    [
        ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM,
        ErrorCode::STREAM_HEADER_EXCEEDS_MAXIMUM,
    ]
    .contains(&code)
}
