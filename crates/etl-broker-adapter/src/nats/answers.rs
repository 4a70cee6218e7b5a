//! The server's answers to publications: each says that one is stored, or why it is not.
//!
//! All of them come to one inbox, the number of the publication behind it. A client's own request for each would be a channel, a timer and an
//! entry in a table for each; here it is a place in a queue.

use std::collections::VecDeque;

use async_nats::client::traits::Publisher as _;
use async_nats::jetstream;
use async_nats::{HeaderMap, Message, StatusCode, Subject, Subscriber};
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use serde::Deserialize;
use tokio::time::timeout;

use super::connection::{Connection, ON_THEIR_WAY, TIMEOUT};

/// Publications over one connection whose answers are waited for.
pub(super) struct Answers {
    inbox: String,
    messages: Subscriber,
    /// The number of the next publication.
    next: u64,
    /// Those that are waited for, from the oldest on; `None`: answered, behind one that is not.
    open: VecDeque<Option<Sent>>,
    unanswered: usize,
}

/// A publication on its way.
pub(super) struct Sent {
    /// What the caller calls it.
    pub(super) name: usize,
    pub(super) subject: Subject,
}

/// What became of one publication.
pub(super) enum Answer {
    Stored,
    Refused(Sent, jetstream::Error),
    /// No stream holds its subject.
    Nobody(Sent),
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Silence {
    /// The connection has ended.
    Ended,
    /// Nothing came in time.
    Late,
}

/// What is of interest in an answer. One that stored a message has its sequence.
#[derive(Deserialize)]
struct Said {
    error: Option<jetstream::Error>,
    seq: Option<u64>,
}

impl Answers {
    pub(super) async fn begin(connection: &Connection) -> Result<Self, async_nats::SubscribeError> {
        let inbox = connection.client.new_inbox();
        let messages = connection.client.subscribe(format!("{inbox}.*")).await?;
        Ok(Self {
            inbox,
            messages,
            next: 0,
            open: VecDeque::new(),
            unanswered: 0,
        })
    }

    /// Whether as many are on their way as may be.
    pub(super) fn is_full(&self) -> bool {
        self.unanswered >= ON_THEIR_WAY
    }

    /// Whether there is nothing to wait for.
    pub(super) fn is_empty(&self) -> bool {
        self.unanswered == 0
    }

    /// Sends one; its answer will call it `name`.
    pub(super) async fn publish(
        &mut self,
        connection: &Connection,
        name: usize,
        (subject, headers, payload): (Subject, HeaderMap, Bytes),
    ) -> Result<(), Silence> {
        let sent = Sent {
            name,
            subject: subject.clone(),
        };
        let message = async_nats::message::OutboundMessage {
            subject,
            reply: Some(Subject::from(format!("{}.{}", self.inbox, self.next))),
            payload,
            headers: Some(headers),
        };
        self.next += 1;
        self.open.push_back(Some(sent));
        self.unanswered += 1;
        match timeout(TIMEOUT, connection.client.publish_message(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Silence::Ended),
            Err(_) => Err(Silence::Late),
        }
    }

    /// Waits for the next answer.
    pub(super) async fn next(&mut self) -> Result<Answer, Silence> {
        loop {
            let message = match self.messages.next().now_or_never() {
                Some(message) => message,
                None => {
                    let waited = timeout(TIMEOUT, self.messages.next()).await;
                    waited.map_err(|_| Silence::Late)?
                }
            };
            let message = message.ok_or(Silence::Ended)?;
            if let Some(sent) = self.answered(&message.subject) {
                return Ok(of(sent, &message));
            }
        }
    }

    /// Takes one off the list. `None`: it is not on it; somebody writes to a subject that is not theirs.
    fn answered(&mut self, subject: &str) -> Option<Sent> {
        let number: u64 = subject.rsplit('.').next()?.parse().ok()?;
        let first = self.next - self.open.len() as u64;
        let place = usize::try_from(number.checked_sub(first)?).ok()?;
        let sent = self.open.get_mut(place)?.take()?;
        self.unanswered -= 1;
        while self.open.front().is_some_and(Option::is_none) {
            self.open.pop_front();
        }
        Some(sent)
    }
}

fn of(sent: Sent, message: &Message) -> Answer {
    if message.status == Some(StatusCode::NO_RESPONDERS) {
        return Answer::Nobody(sent);
    }
    match serde_json::from_slice(&message.payload) {
        Ok(Said {
            error: Some(error), ..
        }) => Answer::Refused(sent, error),
        Ok(Said { seq: Some(_), .. }) => Answer::Stored,
        // Whoever said this is no stream.
        Ok(Said { seq: None, .. }) | Err(_) => Answer::Nobody(sent),
    }
}
