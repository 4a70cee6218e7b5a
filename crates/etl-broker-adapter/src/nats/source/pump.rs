//! The task between a source and the server, for one connection.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::consumer::Info;
use async_nats::jetstream::consumer::pull::BatchConfig;
use async_nats::{Message, StatusCode, Subject, Subscriber};
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use tokio::time::{Instant, MissedTickBehavior};

use super::super::connection::{Connection, TIMEOUT};
use super::super::mapping;
use super::super::url::NatsUrl;
use super::reply::Delivery;
use super::state::{Arrived, SUSPECT, Shared, State};
use super::topics::Topics;
use crate::{AdapterError, AdapterErrorKind};

/// How long the server keeps a request that it cannot fill.
const EXPIRES: Duration = Duration::from_secs(30);

/// How often it says that it still has one.
const HEARTBEAT: Duration = Duration::from_secs(2);

/// A request of which nothing has been heard for so long is lost.
const SILENCE: Duration = Duration::from_secs(7);

/// How often the task looks around.
const TICK: Duration = Duration::from_millis(250);

/// Bytes that one request may bring, but at least two of the largest records.
const REQUEST_BYTES: usize = 32 * 1024 * 1024;

/// A server that has sent nothing for so long, or for as long as it takes to answer, has sent what it had.
const PAUSE: Duration = Duration::from_millis(50);

/// How long one that goes on sending is listened to at the end.
const LAST_RECORDS: Duration = Duration::from_secs(1);

/// Records that are taken in under one lock: whoever else wants it waits no longer than that.
const TOGETHER: usize = 128;

/// Acknowledgements that are confirmed together.
const ACKS_TOGETHER: usize = 1_024;

pub(super) struct Pump {
    connection: Connection,
    shown: String,
    stream: String,
    consumer: String,
    topics: Topics,
    limits: Limits,
    shared: Arc<Shared>,
    /// Where records come.
    inbox: Subject,
    messages: Subscriber,
    /// What is still to come of each request, oldest first.
    requests: VecDeque<usize>,
    heard: Instant,
    /// Where confirmations of acknowledgements come, each with a number.
    confirmations: Subscriber,
    confirmation_inbox: String,
    sent: VecDeque<Sent>,
    next_confirmation: u64,
    /// Whether the server is asked to confirm acknowledgements. With those before 2.10 they count as done when they are on their way. One of them (2.9.10) gives the
    /// record that it delivered last out again where one that was given back finds nobody to go to, acknowledged or not; this does not cure that.
    confirms: bool,
}

/// What the consumer allows.
struct Limits {
    ack_wait: Duration,
    most: usize,
    bytes: usize,
    expires: Duration,
}

/// Acknowledgements on their way.
struct Sent {
    number: u64,
    at: Instant,
    sequences: Vec<u64>,
}

/// Why the task ends.
type Ended = Result<(), AdapterError>;

impl Pump {
    pub(super) async fn begin(
        connection: Connection,
        url: &NatsUrl,
        info: Info,
        created: i128,
        shared: Arc<Shared>,
    ) -> Result<Self, AdapterError> {
        let unavailable = |error: async_nats::SubscribeError| {
            AdapterError::new(AdapterErrorKind::Unavailable, format!("{url}: {error}"))
        };
        let client = &connection.client;
        let inbox = Subject::from(client.new_inbox());
        let messages = client.subscribe(inbox.clone()).await.map_err(unavailable)?;
        let confirmation_inbox = client.new_inbox();
        let confirmations = client
            .subscribe(format!("{confirmation_inbox}.*"))
            .await
            .map_err(unavailable)?;
        let config = &info.config;
        let or = |limit: i64, otherwise: usize| match usize::try_from(limit) {
            Ok(limit) if limit > 0 => limit.min(otherwise),
            _ => otherwise,
        };
        let waits = config.backoff.iter().chain([&config.ack_wait]);
        let ack_wait = waits.filter(|wait| !wait.is_zero()).min().copied();
        let largest = client.server_info().max_payload;
        let limits = Limits {
            ack_wait: ack_wait.unwrap_or(Duration::from_secs(30)),
            most: or(config.max_batch, shared.prefetch),
            bytes: or(config.max_bytes, REQUEST_BYTES.max(2 * largest)),
            expires: match config.max_expires {
                Duration::ZERO => EXPIRES,
                most => most.min(EXPIRES),
            },
        };
        {
            let mut state = shared.state();
            state.set_floor(info.ack_floor.stream_sequence);
            // Records that somebody lost already may come, and may be why.
            if info.num_redelivered > 0 {
                state.careful_until = Some(Instant::now() + 2 * limits.ack_wait);
            }
        }
        Ok(Self {
            shown: url.to_string(),
            topics: Topics::new(&info.stream_name, created, url.prefix.as_deref()),
            stream: info.stream_name.clone(),
            consumer: info.name.clone(),
            limits,
            shared,
            inbox,
            messages,
            requests: VecDeque::new(),
            heard: Instant::now(),
            confirmations,
            confirmation_inbox,
            sent: VecDeque::new(),
            next_confirmation: 0,
            confirms: client.is_server_compatible(2, 10, 0),
            connection,
        })
    }

    /// Runs until the connection ends, the consumer goes, or the source is closed. Why it ended is left where `pull` finds it.
    pub(super) async fn run(mut self) {
        let ended = self.work().await;
        let mut state = self.shared.state();
        if let Err(error) = ended {
            tracing::warn!(%error, "reading from NATS was interrupted");
            state.failure = Some(error);
        }
        drop(state);
        self.shared.news.notify_one();
    }

    async fn work(&mut self) -> Ended {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut looked = Instant::now();
        self.acknowledge().await?;
        loop {
            if self.shared.state().closing {
                return self.close().await;
            }
            self.request().await?;
            tokio::select! {
                message = self.messages.next() => {
                    self.take(message)?;
                    self.shared.news.notify_one();
                }
                confirmation = self.confirmations.next() => self.confirmed(confirmation)?,
                () = self.shared.work.notified() => self.acknowledge().await?,
                _ = tick.tick() => {
                    self.look_around().await?;
                    if looked.elapsed() >= self.limits.ack_wait / 4 {
                        looked = Instant::now();
                        self.say_in_progress().await?;
                    }
                }
            }
        }
    }

    /// Asks for more, where there is room for a good part of it.
    async fn request(&mut self) -> Ended {
        let coming: usize = self.requests.iter().sum();
        let careful = {
            let state = self.shared.state();
            state
                .careful_until
                .is_some_and(|until| until > Instant::now())
                || state.has_suspects()
        };
        let room = self.shared.room().saturating_sub(coming);
        let enough = if careful {
            1
        } else {
            (self.shared.prefetch / 2).max(1)
        };
        let batch = if careful {
            usize::from(coming == 0 && room > 0)
        } else {
            room.min(self.limits.most)
        };
        // One that is small asks often; while nothing is on its way any will do.
        if batch == 0 || (batch < enough.min(self.limits.most) && coming > 0) {
            return Ok(());
        }
        let request = BatchConfig {
            batch,
            expires: Some(self.limits.expires),
            no_wait: false,
            max_bytes: self.limits.bytes,
            idle_heartbeat: HEARTBEAT.min(self.limits.expires / 3),
            ..BatchConfig::default()
        };
        let subject = format!(
            "$JS.API.CONSUMER.MSG.NEXT.{}.{}",
            self.stream, self.consumer
        );
        let request = serde_json::to_vec(&request)
            .map_err(|error| AdapterError::new(AdapterErrorKind::Io, error.to_string()))?;
        self.connection
            .client
            .publish_with_reply(subject, self.inbox.clone(), request.into())
            .await
            .map_err(|_| self.broken())?;
        if self.requests.is_empty() {
            self.heard = Instant::now();
        }
        self.requests.push_back(batch);
        Ok(())
    }

    /// Takes what has come, and what else has come meanwhile, so that it is handed on as one batch.
    fn take(&mut self, message: Option<Message>) -> Ended {
        self.heard = Instant::now();
        let mut next = message.ok_or_else(|| self.broken())?;
        let shared = self.shared.clone();
        let mut state = shared.state();
        let mut taken = 0;
        loop {
            match next.status.filter(|status| *status != StatusCode::OK) {
                Some(status) => self.status(status, &next)?,
                None => self.arrive(next, &mut state),
            }
            taken += 1;
            if taken == TOGETHER {
                return Ok(());
            }
            next = match self.messages.next().now_or_never() {
                None => return Ok(()),
                Some(message) => message.ok_or_else(|| self.broken())?,
            };
        }
    }

    fn arrive(&mut self, message: Message, state: &mut State) {
        if let Some(left) = self.requests.front_mut() {
            *left = left.saturating_sub(1);
            if *left == 0 {
                self.requests.pop_front();
            }
        }
        let Some(reply) = message.reply else { return };
        let Some(delivery) = Delivery::of(&reply) else {
            tracing::warn!(%reply, "a message came that is not of a stream");
            return;
        };
        let redelivered = u32::try_from(delivery.delivered.saturating_sub(1)).unwrap_or(u32::MAX);
        if redelivered >= SUSPECT {
            state.careful_until = Some(Instant::now() + self.limits.ack_wait);
        }
        let (topic, partition) = self.topics.of(&message.subject);
        state.arrive(Arrived {
            sequence: delivery.sequence,
            partition,
            record: mapping::record(
                topic,
                message.headers.as_ref(),
                message.payload,
                delivery.sequence,
                Some(delivery.stored),
            ),
            redelivered,
            reply,
        });
    }

    /// What the server says of a request instead of a record.
    fn status(&mut self, status: StatusCode, message: &Message) -> Ended {
        let said = message.description.clone().unwrap_or_default();
        let lower = said.to_lowercase();
        match status {
            StatusCode::IDLE_HEARTBEAT => Ok(()),
            StatusCode::NO_RESPONDERS => Err(self.gone("nobody answers for the consumer")),
            StatusCode::REQUEST_TERMINATED
                if lower.contains("consumer deleted") || lower.contains("push based") =>
            {
                Err(self.gone("the consumer was deleted"))
            }
            // Full, expired, over its bytes, a new leader: what the request still lacked is asked for again.
            _ => {
                self.requests.pop_front();
                if !matches!(status, StatusCode::NOT_FOUND | StatusCode::TIMEOUT) {
                    tracing::debug!(%status, %said, "a request for records ended");
                }
                Ok(())
            }
        }
    }

    /// Sends acknowledgements; the last of each lot asks the server to confirm, and it does what it is told in order.
    async fn acknowledge(&mut self) -> Ended {
        let acks = self.shared.state().take_unsent();
        for lot in acks.chunks(ACKS_TOGETHER) {
            for (index, (_, reply)) in lot.iter().enumerate() {
                let ack = Bytes::from_static(b"+ACK");
                let client = &self.connection.client;
                let done = if index + 1 == lot.len() && self.confirms {
                    let inbox = format!("{}.{}", self.confirmation_inbox, self.next_confirmation);
                    client.publish_with_reply(reply.clone(), inbox, ack).await
                } else {
                    client.publish(reply.clone(), ack).await
                };
                done.map_err(|_| self.broken())?;
            }
            if !self.confirms {
                let client = &self.connection.client;
                client.flush().await.map_err(|_| self.broken())?;
                let sequences: Vec<u64> = lot.iter().map(|(sequence, _)| *sequence).collect();
                self.shared.state().confirmed(&sequences);
                continue;
            }
            self.sent.push_back(Sent {
                number: self.next_confirmation,
                at: Instant::now(),
                sequences: lot.iter().map(|(sequence, _)| *sequence).collect(),
            });
            self.next_confirmation += 1;
        }
        Ok(())
    }

    fn confirmed(&mut self, confirmation: Option<Message>) -> Ended {
        let confirmation = confirmation.ok_or_else(|| self.broken())?;
        let number = confirmation.subject.rsplit('.').next();
        let Some(number) = number.and_then(|number| number.parse::<u64>().ok()) else {
            return Ok(());
        };
        if confirmation.status == Some(StatusCode::NO_RESPONDERS) {
            return Err(self.gone("nobody takes acknowledgements"));
        }
        while let Some(sent) = self.sent.front()
            && sent.number <= number
        {
            self.shared.state().confirmed(&sent.sequences);
            self.sent.pop_front();
        }
        Ok(())
    }

    /// Notices silence.
    async fn look_around(&mut self) -> Ended {
        if !self.connection.is_up() {
            return Err(self.broken());
        }
        if !self.requests.is_empty() && self.heard.elapsed() > SILENCE {
            return Err(self.gone("the server has forgotten what it was asked for"));
        }
        let late = |sent: &Sent| sent.at.elapsed() > TIMEOUT;
        while self.sent.front().is_some_and(late)
            && let Some(sent) = self.sent.pop_front()
        {
            self.shared.state().unconfirmed_again(sent.sequences);
        }
        self.acknowledge().await
    }

    /// Tells the server of what takes long, so that it gives it to nobody else.
    async fn say_in_progress(&mut self) -> Ended {
        let before = Instant::now().checked_sub(self.limits.ack_wait / 4);
        let Some(before) = before else { return Ok(()) };
        let late = self.shared.state().in_progress(before);
        for reply in late {
            let progress = Bytes::from_static(b"+WPI");
            let done = self.connection.client.publish(reply, progress).await;
            done.map_err(|_| self.broken())?;
        }
        Ok(())
    }

    /// Gives back what is in hand, waits for the confirmation of what was acknowledged, and leaves.
    async fn close(&mut self) -> Ended {
        self.acknowledge().await?;
        self.take_what_comes().await?;
        self.acknowledge().await?;
        // First the requests go, or the server would answer them with what is given back. It does what it is told in order.
        let mut in_hand = Vec::new();
        let _ = self.messages.drain().await;
        while let Some(message) = self.messages.next().await {
            in_hand.extend(message.reply.filter(|_| message.status.is_none()));
        }
        while !self.sent.is_empty() {
            let confirmation = self.confirmations.next().await;
            self.confirmed(confirmation)?;
        }
        let mut back = self.shared.state().hand_back();
        back.append(&mut in_hand);
        for reply in back {
            let nak = Bytes::from_static(b"-NAK");
            let done = self.connection.client.publish(reply, nak).await;
            done.map_err(|_| self.broken())?;
        }
        self.arrived().await
    }

    /// Waits until the server has everything that was sent: it answers in order. A connection that ends before may take back what the server has not
    /// read, where something was still to be read here.
    async fn arrived(&self) -> Ended {
        let subject = format!("$JS.API.CONSUMER.INFO.{}.{}", self.stream, self.consumer);
        let answer = self.connection.client.request(subject, Bytes::new()).await;
        answer.map(|_| ()).map_err(|error| {
            let message = format!("{}: the server does not answer: {error}", self.shown);
            AdapterError::new(AdapterErrorKind::Unavailable, message)
        })
    }

    /// A record that is on its way while its request is taken back reaches nobody, and then nobody gets it before the ack wait is over. So
    /// what the server has begun to send is taken, for as long as it sends.
    async fn take_what_comes(&mut self) -> Ended {
        if self.requests.is_empty() {
            return Ok(());
        }
        let asked = Instant::now();
        self.arrived().await?;
        let pause = PAUSE.max(asked.elapsed());
        let until = Instant::now() + LAST_RECORDS;
        while !self.requests.is_empty() && Instant::now() < until {
            let message = match tokio::time::timeout(pause, self.messages.next()).await {
                Err(_) => break,
                Ok(None) => return Err(self.broken()),
                Ok(message) => message,
            };
            // A status may say that nothing more comes at all.
            if self.take(message).is_err() {
                break;
            }
        }
        Ok(())
    }

    fn broken(&self) -> AdapterError {
        AdapterError::new(
            AdapterErrorKind::Unavailable,
            format!("{}: the connection to the server ended", self.shown),
        )
    }

    /// Something on the server went away. What it was shows when it is looked for again.
    fn gone(&self, what: &str) -> AdapterError {
        AdapterError::new(
            AdapterErrorKind::Unavailable,
            format!("{}: {what}", self.shown),
        )
    }
}
