//! Writes with an idempotent producer: what librdkafka repeats by itself is stored once and in order.
//!
//! **Topic.** Each record goes to its own topic, or all go to the one that the URL names; dead letters have topics of their own, so in a sink that takes
//! others too they keep theirs. A missing topic ends the run, or is made if that was asked for.
//!
//! **Partition.** A record keeps its partition where the topic has it. Where the topic has fewer, one with a key goes by the hash of its key, as with Kafka's own producers
//! (murmur2), and one without by its partition modulo their number: both keep the order that a reader can rely on.
//!
//! **Transactions.** Opened for them, everything between two confirmations is one transaction, and the positions of the source are part of it ([`together`]).
//!
//! What fails: [`client`](super::client) says which errors pass. After one the producer is replaced by a new one, so nothing of before is still on its way. A message that a broker
//! refuses for what it is comes back as refused.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use etl_orchestrator::Record;
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::producer::{BaseRecord, Producer, PurgeConfig, ThreadedProducer};

use super::client::{
    Asker, blocking, config, create, create_topic, failed, is_of_the_record, missing, of_code,
};
use super::mapping::written;
use super::reports::{Delivered, INDEX_BITS, Reports, Shared};
use super::transaction::{TRANSACTION, fenced, is_fenced, of_transaction, repeat, unique_id};
use super::url::{KafkaUrl, check_topic};
use crate::{AdapterError, AdapterErrorKind, BoxFuture, Output, Outputs, Positions, Refused, Sink};

mod together;

use together::Doubt;

/// How long is waited for room in the producer's queue before it is looked at again.
const ROOM: Duration = Duration::from_millis(5);

/// How a sink is opened.
#[derive(Debug, Clone, Default)]
pub struct KafkaSinkOptions {
    /// Topics that are missing are made.
    pub create: bool,
    /// It is for dead letters alone, so all go where the URL says.
    pub dead_letters: bool,
    /// Outputs are written in transactions, together with the positions of the source that it was opened with.
    pub transactions: bool,
    /// Topics that the source of the run reads: a record that would be written to one of them is refused, as it would go round for ever.
    pub reading: Vec<String>,
}

/// Topics of Kafka, written to.
pub struct KafkaSink {
    url: KafkaUrl,
    options: KafkaSinkOptions,
    producer: Option<Arc<ThreadedProducer<Reports>>>,
    reports: Arc<Shared>,
    /// Partitions of each topic that was written to.
    topics: HashMap<Arc<str>, i32>,
    asker: Arc<Asker>,
    /// What was written since the last confirmation.
    written: Vec<Outputs>,
    count: usize,
    refused: Vec<Refused>,
    /// A transaction was begun.
    open: bool,
    transactional_id: Option<String>,
    /// Of a transaction that nobody knows the end of.
    doubt: Option<Doubt>,
    /// It turned out to be committed, with everything that is about to be written again.
    done: bool,
}

impl KafkaSink {
    /// Finds out whether somebody answers, and whether the topic is there if the URL names one.
    ///
    /// # Errors
    ///
    /// Nobody answers, the credentials are refused, the topic is missing, a setting is one that librdkafka refuses.
    pub async fn open(url: KafkaUrl, options: KafkaSinkOptions) -> Result<Self, AdapterError> {
        if !url.topics.is_empty() && url.topic().is_none() {
            return Err(AdapterError::new(
                AdapterErrorKind::InvalidUrl,
                format!(
                    "{url}: records are written to one topic, or each to its own: name one, or none"
                ),
            ));
        }
        if !options.transactions && url.setting("transactional.id").is_some() {
            return Err(AdapterError::new(
                AdapterErrorKind::InvalidUrl,
                format!("{url}: `transactional.id` is for transactions: add `exactly-once=true`"),
            ));
        }
        let transactional_id = options.transactions.then(|| {
            let own = url.setting("transactional.id");
            own.map_or_else(|| unique_id(&url.group), str::to_owned)
        });
        let asked = url.clone();
        let asker = blocking(move || {
            let asker = Asker::new(&asked)?;
            if asked.topic().is_none() {
                asker.topics()?;
            }
            Ok(Arc::new(asker))
        })
        .await?;
        let mut sink = Self {
            url,
            options,
            producer: None,
            reports: Arc::default(),
            topics: HashMap::new(),
            asker,
            written: Vec::new(),
            count: 0,
            refused: Vec::new(),
            open: false,
            transactional_id,
            doubt: None,
            done: false,
        };
        if let Some(topic) = sink.url.topic() {
            let topic: Arc<str> = topic.into();
            sink.partitions(&topic).await?;
        }
        sink.connect().await?;
        Ok(sink)
    }

    /// A new producer in place of the old one, with which everything goes that is still on its way.
    async fn connect(&mut self) -> Result<(), AdapterError> {
        let old = self.producer.take();
        self.open = false;
        let (url, reports, id) = (
            self.url.clone(),
            self.reports.clone(),
            self.transactional_id.clone(),
        );
        let producer = blocking(move || {
            if let Some(old) = old {
                old.purge(PurgeConfig::default().queue().inflight());
            }
            let own = [
                ("linger.ms", "5"),
                ("message.timeout.ms", "30000"),
                // What the brokers take is theirs to say; a message over `batch.size` travels alone, so no other one is refused with it.
                ("message.max.bytes", "100000000"),
                ("partitioner", "murmur2_random"),
                ("queue.buffering.max.messages", "100000"),
                ("queue.buffering.max.kbytes", "131072"),
            ];
            let mut fixed = vec![("enable.idempotence", "true"), ("acks", "all")];
            fixed.extend(id.as_deref().map(|id| ("transactional.id", id)));
            let mut config = config(&url, &own, &fixed);
            if id.is_none() {
                config.remove("transactional.id");
            }
            let producer: ThreadedProducer<Reports> =
                create(&url, &config, Reports { shared: reports })?;
            if id.is_some() {
                repeat(|| producer.init_transactions(TRANSACTION)).map_err(|error| {
                    of_transaction(&url, "cannot begin with transactions", &error)
                })?;
            }
            Ok(Arc::new(producer))
        })
        .await?;
        self.producer = Some(producer);
        Ok(())
    }

    fn producer(&self) -> Result<Arc<ThreadedProducer<Reports>>, AdapterError> {
        self.producer.clone().ok_or_else(|| {
            AdapterError::new(
                AdapterErrorKind::Unavailable,
                format!("{}: there is no connection", self.url),
            )
        })
    }

    /// Forgets what was written since the last confirmation.
    fn begin_anew(&mut self) {
        let mut state = self.reports.state();
        *state = Delivered {
            epoch: state.epoch.wrapping_add(1),
            ..Delivered::default()
        };
        drop(state);
        self.written.clear();
        self.refused.clear();
        self.count = 0;
    }

    /// How many partitions the topic has.
    async fn partitions(&mut self, topic: &Arc<str>) -> Result<i32, AdapterError> {
        if let Some(partitions) = self.topics.get(topic) {
            return Ok(*partitions);
        }
        let ask = |asker: Arc<Asker>, topic: Arc<str>| blocking(move || asker.partitions(&topic));
        let mut found = ask(self.asker.clone(), topic.clone()).await?;
        if found.is_none() {
            if !self.options.create {
                return Err(missing(&self.url, topic));
            }
            create_topic(&self.url, topic, None).await?;
            // Other brokers hear of it a moment later.
            for _ in 0..50 {
                found = ask(self.asker.clone(), topic.clone()).await?;
                if found.is_some() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        let partitions = found.ok_or_else(|| missing(&self.url, topic))?;
        self.topics.insert(topic.clone(), partitions);
        Ok(partitions)
    }

    async fn send(&mut self, outputs: &Outputs) -> Result<(), AdapterError> {
        if self.done {
            return Ok(());
        }
        self.begin().await?;
        let producer = self.producer()?;
        let epoch = self.reports.state().epoch as usize;
        for output in outputs.iter() {
            let index = self.count;
            self.count += 1;
            match self
                .send_one(&producer, output, epoch << INDEX_BITS | index)
                .await?
            {
                Ok(()) => {}
                Err(reason) => self.refused.push(Refused { index, reason }),
            }
        }
        let broken = self
            .reports
            .state()
            .failed
            .iter()
            .find_map(|(_, code)| (!is_of_the_record(*code)).then_some(*code));
        match broken {
            Some(code) => Err(self.not_written(code)),
            None => Ok(()),
        }
    }

    /// The inner error: why this record can never be written.
    async fn send_one(
        &mut self,
        producer: &ThreadedProducer<Reports>,
        output: &Output,
        opaque: usize,
    ) -> Result<Result<(), String>, AdapterError> {
        let record = &output.record;
        let named = self
            .url
            .topic()
            .filter(|_| self.options.dead_letters || !output.origin.is_dead_letter());
        let topic: Arc<str> = match named {
            Some(topic) if *topic == *record.topic => record.topic.clone(),
            Some(topic) => topic.into(),
            None => record.topic.clone(),
        };
        if let Err(reason) = check_topic(&topic) {
            return Ok(Err(reason));
        }
        if self.options.reading.iter().any(|own| **own == *topic) {
            return Ok(Err(format!(
                "topic {topic} is one that this run reads, so the record would go round for ever: name another topic in the URL, or set one in a module"
            )));
        }
        let partitions = self.partitions(&topic).await?;
        let written = match written(record) {
            Ok(written) => written,
            Err(reason) => return Ok(Err(reason)),
        };
        let mut message = BaseRecord::<'_, [u8], [u8], usize>::with_opaque_to(&topic, opaque);
        message.partition = partition(record, partitions);
        message.key = record.key.as_deref();
        message.payload = written.value;
        message.timestamp = record.timestamp;
        message.headers = written.headers;
        // A report may come before the call returns.
        self.reports.state().sent += 1;
        loop {
            let Err((error, back)) = producer.send(message) else {
                return Ok(Ok(()));
            };
            message = back;
            match error.rdkafka_error_code() {
                // Reports make room, and not each of them wakes.
                Some(Code::QueueFull) => {
                    let _ = tokio::time::timeout(ROOM, self.reports.came.notified()).await;
                }
                Some(code) if is_of_the_record(code) => {
                    self.reports.state().sent -= 1;
                    return Ok(Err(refusal(code, record)));
                }
                _ => {
                    self.reports.state().sent -= 1;
                    return Err(match error.rdkafka_error_code() {
                        Some(code) => self.not_written(code),
                        None => failed(&self.url, "cannot write", &error),
                    });
                }
            }
        }
    }

    /// Why messages were not written, once the producer's own reason is known.
    fn not_written(&self, code: Code) -> AdapterError {
        let fatal = self
            .producer
            .as_ref()
            .and_then(|producer| producer.client().fatal_error());
        match fatal {
            Some((code, _)) if is_fenced(code) || code == Code::InvalidProducerEpoch => {
                fenced(&self.url)
            }
            // A new producer begins where the old one cannot go on.
            Some((code, reason)) => AdapterError::new(
                AdapterErrorKind::Unavailable,
                format!("{}: the producer cannot go on: {code}: {reason}", self.url),
            ),
            None => of_code(&self.url, "cannot write", code),
        }
    }

    /// Waits for every report. Answers what was refused.
    async fn reports(&mut self) -> Result<Vec<Refused>, AdapterError> {
        loop {
            let came = self.reports.came.notified();
            let failed = {
                let mut state = self.reports.state();
                (state.done >= state.sent).then(|| std::mem::take(&mut state.failed))
            };
            let Some(failed) = failed else {
                came.await;
                continue;
            };
            let mut refused = std::mem::take(&mut self.refused);
            for (index, code) in failed {
                if !is_of_the_record(code) {
                    return Err(self.not_written(code));
                }
                let reason = match self.output(index) {
                    Some(output) => refusal(code, &output.record),
                    None => code.to_string(),
                };
                refused.push(Refused { index, reason });
            }
            return Ok(refused);
        }
    }

    fn output(&self, index: usize) -> Option<&Output> {
        self.written
            .iter()
            .flat_map(|outputs| outputs.iter())
            .nth(index)
    }
}

/// The partition to ask for; `None`: by the key.
fn partition(record: &Record, partitions: i32) -> Option<i32> {
    let own = i32::try_from(record.partition).unwrap_or(i32::MAX);
    match own {
        own if own < partitions => Some(own),
        _ if record.key.is_some() => None,
        own => Some(own % partitions.max(1)),
    }
}

fn refusal(code: Code, record: &Record) -> String {
    match code {
        Code::MessageSizeTooLarge | Code::InvalidMessageSize | Code::MessageBatchTooLarge => {
            format!(
                "the record has {} bytes with its key and headers, over the limit of the topic or the brokers ({code})",
                record.weight() - record.topic.len()
            )
        }
        code => format!("the brokers refuse it: {code}"),
    }
}

impl Sink for KafkaSink {
    fn write(&mut self, outputs: Outputs) -> BoxFuture<'_, Result<(), AdapterError>> {
        Box::pin(async move {
            self.written.push(outputs.clone());
            self.send(&outputs).await
        })
    }

    fn confirm(&mut self) -> BoxFuture<'_, Result<Vec<Refused>, AdapterError>> {
        Box::pin(async move {
            if self.options.transactions {
                return self.commit_alone().await;
            }
            let refused = self.reports().await?;
            self.begin_anew();
            Ok(refused)
        })
    }

    fn confirm_with(
        &mut self,
        positions: Vec<Positions>,
    ) -> BoxFuture<'_, Result<Vec<Refused>, AdapterError>> {
        Box::pin(async move {
            if !self.options.transactions {
                return Err(AdapterError::new(
                    AdapterErrorKind::Unsupported,
                    format!("{}: it was not opened for transactions", self.url),
                ));
            }
            self.commit_together(positions).await
        })
    }

    fn recover(&mut self) -> BoxFuture<'_, Result<bool, AdapterError>> {
        Box::pin(async move {
            self.begin_anew();
            // A topic may have been made anew, with other partitions.
            self.topics.clear();
            let asker = self.asker.clone();
            blocking(move || asker.topics()).await?;
            if self.doubt.is_some() {
                self.connect().await?;
                self.settle().await?;
                return Ok(true);
            }
            match self.abort().await {
                // Beginning anew would shut the other one out in turn, and so on.
                Err(error) if error.kind() == AdapterErrorKind::InUse => return Err(error),
                // What could not be aborted is by the brokers when the new producer begins.
                _ => self.connect().await?,
            }
            Ok(true)
        })
    }
}

impl Drop for KafkaSink {
    fn drop(&mut self) {
        if let Some(producer) = self.producer.take() {
            // Dropping waits for the producer's thread, which must not hold up the runtime.
            std::thread::spawn(move || drop(producer));
        }
    }
}
