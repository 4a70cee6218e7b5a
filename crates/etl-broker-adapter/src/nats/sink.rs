//! Writes to a stream: publications go out one after the other, and are confirmed when the server has stored them.
//!
//! Each has the header `Nats-Msg-Id`, made of where in the source it came from and as which of its outputs. So what is written
//! again, because the answer was lost or another worker took over, is dropped by the server as long as it remembers
//! (`duplicate_window` of the stream, two minutes unless it was set).
//!
//! A connection that ends, and a server that does not answer in time, are errors that a retry can help; then everything since the last
//! confirmation is written again, in order, over a new connection. A record that NATS cannot carry is refused alone: a header that is
//! not text, a subject with a space, more bytes than the server takes, a subject that the stream does not hold.

use std::collections::HashMap;
use std::sync::Arc;

use async_nats::Subject;
use async_nats::jetstream::ErrorCode;

use super::answers::{Answer, Answers, Silence};
use super::connection::Connection;
use super::reading::{Carries, Reading};
use super::url::NatsUrl;
use super::{mapping, stream, subjects};
use crate::{AdapterError, AdapterErrorKind, BoxFuture, Origin, Output, Outputs, Refused, Sink};

/// Topics whose subjects are remembered. Where there are more, all are forgotten and remembered anew.
const REMEMBERED: usize = 4_096;

/// A stream of NATS JetStream, or all of them, written to.
pub struct NatsSink {
    url: NatsUrl,
    /// Begins every message id, so that two sources never share one.
    source: String,
    link: Option<Link>,
    /// What the run itself reads on this server.
    reading: Option<Reading>,
    refused: Vec<Refused>,
    written: usize,
}

struct Link {
    connection: Connection,
    /// Of what was written since the last confirmation.
    answers: Answers,
    routes: HashMap<Arc<str>, Route>,
    /// The subjects that the stream holds; `None`: whichever stream holds a record's subject takes it.
    subjects: Option<Vec<String>>,
    max_payload: usize,
}

/// Where records of a topic go.
#[derive(Clone)]
struct Route {
    subject: Subject,
    /// The run would read what is written there.
    returns: bool,
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
        if let Some(link) = &mut self.link {
            link.routes.clear();
        }
        Ok(self)
    }

    async fn connect(&mut self, create: bool) -> Result<(), AdapterError> {
        self.forget();
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
        let answers = Answers::begin(&connection).await;
        let answers = answers.map_err(|_| ended(&self.url))?;
        self.link = Some(Link {
            connection,
            answers,
            routes: HashMap::new(),
            subjects,
            max_payload,
        });
        Ok(())
    }

    /// What was written since the last confirmation is the caller's to write again, over another connection: answers to it would be taken for answers to that.
    fn forget(&mut self) {
        self.link = None;
        self.refused.clear();
        self.written = 0;
    }

    async fn send(&mut self, outputs: &Outputs) -> Result<(), AdapterError> {
        for output in outputs.iter() {
            while self
                .link
                .as_ref()
                .is_some_and(|link| link.answers.is_full())
            {
                self.settle().await?;
            }
            let Some(link) = &mut self.link else {
                return Err(ended(&self.url));
            };
            let index = self.written;
            self.written += 1;
            let message = link.message(output, &self.url, &self.source, self.reading.as_ref());
            match message {
                Ok((subject, message)) => {
                    let message = (subject, message.headers, message.payload);
                    let sent = link.answers.publish(&link.connection, index, message);
                    sent.await.map_err(|silence| silent(&self.url, silence))?;
                }
                Err(reason) => self.refused.push(Refused { index, reason }),
            }
        }
        Ok(())
    }

    async fn answers(&mut self) -> Result<Vec<Refused>, AdapterError> {
        while self
            .link
            .as_ref()
            .is_some_and(|link| !link.answers.is_empty())
        {
            self.settle().await?;
        }
        // What was written before the connection went was forgotten, and nobody may take that for stored.
        if self.link.is_none() {
            return Err(ended(&self.url));
        }
        self.written = 0;
        let mut refused = std::mem::take(&mut self.refused);
        refused.sort_by_key(|refused| refused.index);
        Ok(refused)
    }

    /// Waits for the server's answer to one.
    async fn settle(&mut self) -> Result<(), AdapterError> {
        let Some(link) = &mut self.link else {
            return Err(ended(&self.url));
        };
        match link.answers.next().await {
            Ok(Answer::Stored) => Ok(()),
            Ok(Answer::Nobody(sent)) => {
                let reason = self.nobody(&sent.subject).await?;
                self.refused.push(Refused {
                    index: sent.name,
                    reason,
                });
                Ok(())
            }
            Ok(Answer::Refused(sent, error)) if is_of_the_record(error.error_code()) => {
                self.refused.push(Refused {
                    index: sent.name,
                    reason: format!("the server refuses it: {error}"),
                });
                Ok(())
            }
            Ok(Answer::Refused(_, error)) => Err(stream::refused(&self.url, &error)),
            Err(silence) => Err(silent(&self.url, silence)),
        }
    }

    /// No stream took a record: because the one of the URL is gone, because JetStream is starting; or, where the URL names none, because none holds its
    /// subject, which is for ever and of this record alone.
    async fn nobody(&self, subject: &str) -> Result<String, AdapterError> {
        let Some(link) = &self.link else {
            return Err(ended(&self.url));
        };
        if link.subjects.is_some() {
            stream::stream(&link.connection, &self.url, false).await?;
        } else if !stream::is_held(&link.connection, &self.url, subject).await? {
            return Ok(format!("no stream holds the subject `{subject}`"));
        }
        Err(AdapterError::new(
            AdapterErrorKind::Unavailable,
            format!(
                "{}: the server did not store a record, though its stream is there",
                self.url
            ),
        ))
    }
}

impl Link {
    /// The message of an output and its subject, or why it cannot be stored.
    fn message(
        &mut self,
        output: &Output,
        url: &NatsUrl,
        source: &str,
        reading: Option<&Reading>,
    ) -> Result<(Subject, mapping::Outgoing), String> {
        let record = &output.record;
        let route = self.route(&record.topic, url, reading)?;
        // Dead letters have topics of their own, which were looked at when the run began.
        if route.returns && !output.origin.is_dead_letter() {
            return Err(format!(
                "this run reads `{}`, so the record would go round for ever: set another topic in a module, or put it elsewhere with ?prefix=",
                route.subject
            ));
        }
        let mut message = mapping::message(record)?;
        let Origin {
            partition,
            position,
            index,
        } = &output.origin;
        // The same for the same output of the same record, whoever writes it.
        let id = format!("{source}-{:x}-{position}-{index:x}", partition.0);
        message
            .headers
            .insert(async_nats::header::NATS_MESSAGE_ID, id);
        let size = mapping::size(&message);
        match size > self.max_payload {
            true => Err(format!(
                "value and headers have {size} bytes, over the server's limit of {}",
                self.max_payload
            )),
            false => Ok((route.subject, message)),
        }
    }

    /// Where records of this topic go, or why they cannot.
    fn route(
        &mut self,
        topic: &Arc<str>,
        url: &NatsUrl,
        reading: Option<&Reading>,
    ) -> Result<Route, String> {
        if let Some(route) = self.routes.get(topic) {
            return Ok(route.clone());
        }
        mapping::check_topic(topic)?;
        let subject = Subject::from(url.subject_of(topic));
        if let Some(held) = &self.subjects
            && !held.iter().any(|held| subjects::matches(held, &subject))
        {
            return Err(format!(
                "the stream `{}` does not hold the subject `{subject}`, only `{}`",
                url.name.as_deref().unwrap_or_default(),
                held.join("`, `")
            ));
        }
        let returns = reading.is_some_and(|reading| reading.holds(&subject));
        let route = Route { subject, returns };
        if self.routes.len() >= REMEMBERED {
            self.routes.clear();
        }
        self.routes.insert(topic.clone(), route.clone());
        Ok(route)
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

fn ended(url: &NatsUrl) -> AdapterError {
    AdapterError::new(
        AdapterErrorKind::Unavailable,
        format!("{url}: the connection to the server ended"),
    )
}

fn silent(url: &NatsUrl, silence: Silence) -> AdapterError {
    match silence {
        Silence::Ended => ended(url),
        Silence::Late => AdapterError::new(
            AdapterErrorKind::Unavailable,
            format!(
                "{url}: the server did not confirm in time; what its disk refuses stands in its log"
            ),
        ),
    }
}

/// Whether the same record would be refused for ever, and others not.
fn is_of_the_record(code: ErrorCode) -> bool {
    [
        ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM,
        ErrorCode::STREAM_HEADER_EXCEEDS_MAXIMUM,
    ]
    .contains(&code)
}
