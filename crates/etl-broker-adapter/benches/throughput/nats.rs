//! From a stream of NATS JetStream to another one, on a server of its own. Its work is in the wall clock, not in this process's processor time.

use std::collections::VecDeque;
use std::future::IntoFuture;
use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, PullConsumer, pull};
use async_nats::jetstream::context::PublishAckFuture;
use async_nats::jetstream::message::{Acker, PublishMessage};
use async_nats::jetstream::{self, Context, stream};
use etl_broker_adapter::{RunUrls, open};
use futures_util::StreamExt;

use crate::{BYTES, Clock, Cost, Failure, Places, Way, engine, run_until};

#[path = "../../tests/support/nats_server.rs"]
mod nats_server;

use nats_server::NatsServer;

/// Publications whose answer is not there yet, at most; and what one request of records may bring.
const ON_THEIR_WAY: usize = 4_096;

/// A stream that was filled, and one to write to.
pub struct Streams {
    server: NatsServer,
    context: Context,
    records: usize,
    passes: usize,
}

impl Streams {
    /// `None`: there is no server's program, which was said.
    pub async fn fill(records: usize) -> Result<Option<Self>, Failure> {
        let Some(server) = NatsServer::start("throughput over NATS") else {
            return Ok(None);
        };
        let context = jetstream::new(async_nats::connect(server.address()).await?);
        for (name, subjects) in [("FROM", "from.>"), ("TO", "to.>")] {
            context
                .create_stream(stream::Config {
                    name: name.to_owned(),
                    subjects: vec![subjects.to_owned()],
                    ..stream::Config::default()
                })
                .await?;
        }
        let value: bytes::Bytes = "x".repeat(BYTES).into();
        let mut answers = VecDeque::new();
        for _ in 0..records {
            answers.push_back(context.publish("from.x", value.clone()).await?);
            if answers.len() >= ON_THEIR_WAY
                && let Some(oldest) = answers.pop_front()
            {
                oldest.await?;
            }
        }
        for answer in answers {
            answer.await?;
        }
        Ok(Some(Self {
            server,
            context,
            records,
            passes: 0,
        }))
    }

    /// Reads, writes with an id for deduplication, and acknowledges what the server has stored.
    async fn plain(&self, consumer: &str) -> Result<Cost, Failure> {
        let stream = self.context.get_stream("FROM").await?;
        let consumer: PullConsumer = stream
            .create_consumer(pull::Config {
                durable_name: Some(consumer.to_owned()),
                ack_policy: AckPolicy::Explicit,
                max_ack_pending: 16_384,
                ..pull::Config::default()
            })
            .await?;
        let mut messages = consumer
            .stream()
            .max_messages_per_batch(ON_THEIR_WAY)
            .messages()
            .await?;
        let mut on_their_way: VecDeque<(Acker, PublishAckFuture)> = VecDeque::new();
        let mut clock = None;
        for number in 0..self.records {
            let message = messages.next().await.ok_or("the messages ended")??;
            if clock.is_none() {
                clock = Some(Clock::start()?);
            }
            let (message, acker) = message.split();
            let id = format!("plain-{}-{number}", self.passes);
            let publish = PublishMessage::build()
                .payload(message.payload)
                .message_id(id);
            let answer = self.context.send_publish("to.x", publish).await?;
            on_their_way.push_back((acker, answer));
            if on_their_way.len() >= ON_THEIR_WAY
                && let Some((acker, answer)) = on_their_way.pop_front()
            {
                answer.into_future().await?;
                acker.ack().await?;
            }
        }
        for (acker, answer) in on_their_way {
            answer.into_future().await?;
            acker.ack().await?;
        }
        clock.ok_or("there is nothing to copy")?.read()
    }

    async fn engine(&self, way: Way, consumer: &str) -> Result<Cost, Failure> {
        let engine = engine(way)?;
        let from = format!("FROM?prefix=from&consumer={consumer}");
        let urls = RunUrls {
            from: self.server.url(&from).parse()?,
            to: self.server.url("TO?prefix=to").parse()?,
            dead_letters: None,
            create: true,
            max_line_bytes: 1 << 20,
            dead_letter_topic: Default::default(),
        };
        run_until(engine, open(&urls).await?, self.records).await
    }
}

impl Places for Streams {
    fn name(&self) -> &'static str {
        "nats"
    }

    fn records(&self) -> usize {
        self.records
    }

    async fn pass(&mut self, way: Way) -> Result<Cost, Failure> {
        self.passes += 1;
        let consumer = format!("pass-{}", self.passes);
        let cost = match way {
            Way::Plain => self.plain(&consumer).await?,
            Way::Nothing | Way::Module => self.engine(way, &consumer).await?,
        };
        let mut to = self.context.get_stream("TO").await?;
        let stored = to.info().await?.state.messages;
        if stored != self.records as u64 {
            return Err(format!("{stored} of {} records were stored", self.records).into());
        }
        to.purge().await?;
        let from = self.context.get_stream("FROM").await?;
        from.delete_consumer(&consumer).await?;
        // What the server does behind a purge is not the next pass's.
        tokio::time::sleep(Duration::from_millis(500)).await;
        Ok(cost)
    }
}
