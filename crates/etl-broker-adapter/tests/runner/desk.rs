//! Sources and sinks that do as they are told and note what is asked of them, and a runner between them.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use etl_broker_adapter::{
    AckToken, AdapterError, AdapterErrorKind, Batch, BoxFuture, Counts, Demand, Ended,
    InvalidRecord, Item, Outputs, PartitionKey, Pulled, Refused, Revocation, Runner, RunnerOptions,
    Sink, Source,
};
use etl_config::{LoadOptions, load_text};
use etl_orchestrator::{Options, Orchestrator, Record};

/// Everything that happened, in its order.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    pub fn note(&self, what: impl Into<String>) {
        self.0.lock().expect("not poisoned").push(what.into());
    }

    pub fn all(&self) -> Vec<String> {
        self.0.lock().expect("not poisoned").clone()
    }

    /// What follows this prefix, in order.
    pub fn of(&self, prefix: &str) -> Vec<String> {
        let all = self.all().into_iter();
        all.filter_map(|line| line.strip_prefix(prefix).map(str::to_owned))
            .collect()
    }

    pub fn place(&self, line: &str) -> usize {
        let all = self.all();
        let place = all.iter().position(|other| other == line);
        place.unwrap_or_else(|| panic!("no {line} in {all:#?}"))
    }

    pub async fn wait_for(&self, line: &str) {
        let waited = tokio::time::timeout(Duration::from_secs(20), async {
            while !self.all().iter().any(|other| other == line) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
        assert!(waited.await.is_ok(), "no {line} in {:#?}", self.all());
    }
}

/// Gives out what it was given, then does as told. The partition of an item is its topic.
pub struct Scripted {
    pub log: Log,
    pub items: VecDeque<Item>,
    pub then: Vec<Then>,
}

#[derive(Clone)]
pub enum Then {
    Fail(AdapterErrorKind),
    Give(&'static [(&'static str, &'static str)]),
    Revoke(&'static str, Duration),
    WaitForEver,
}

impl Source for Scripted {
    fn pull<'a>(&'a mut self, demand: Demand<'a>) -> BoxFuture<'a, Result<Pulled, AdapterError>> {
        Box::pin(async move {
            assert!(demand.records > 0);
            if !self.items.is_empty() {
                let count = demand.records.min(self.items.len());
                return Ok(Pulled::Batch(Batch {
                    items: self.items.drain(..count).collect(),
                    bytes_read: 0,
                }));
            }
            match self.then.first().cloned() {
                None => Ok(Pulled::End),
                Some(Then::WaitForEver) => std::future::pending().await,
                Some(Then::Fail(kind)) => {
                    self.then.remove(0);
                    Err(AdapterError::new(kind, "the source failed"))
                }
                Some(Then::Revoke(topic, within)) => {
                    self.then.remove(0);
                    Ok(Pulled::Revoked(Revocation {
                        partitions: vec![PartitionKey::of(topic, 0)],
                        within,
                    }))
                }
                Some(Then::Give(more)) => {
                    self.then.remove(0);
                    Ok(Pulled::Batch(Batch {
                        items: items(more),
                        bytes_read: 0,
                    }))
                }
            }
        })
    }

    fn ack<'a>(&'a mut self, tokens: &'a [AckToken]) -> BoxFuture<'a, Result<(), AdapterError>> {
        for token in tokens {
            self.log.note(format!("ack {}", token.0));
        }
        Box::pin(async { Ok(()) })
    }

    fn give_back<'a>(
        &'a mut self,
        tokens: &'a [AckToken],
        _delay: Duration,
    ) -> BoxFuture<'a, Result<(), AdapterError>> {
        for token in tokens {
            self.log.note(format!("give back {}", token.0));
        }
        Box::pin(async { Ok(()) })
    }

    fn release<'a>(
        &'a mut self,
        partitions: &'a [PartitionKey],
    ) -> BoxFuture<'a, Result<(), AdapterError>> {
        self.log.note(format!("release {}", partitions.len()));
        Box::pin(async { Ok(()) })
    }

    fn recover(&mut self) -> BoxFuture<'_, Result<bool, AdapterError>> {
        self.log.note("recover source");
        Box::pin(async { Ok(true) })
    }

    fn close(&mut self) -> BoxFuture<'_, Result<(), AdapterError>> {
        self.log.note("close");
        Box::pin(async { Ok(()) })
    }
}

/// Notes what is safe; fails as told.
pub struct Noting {
    pub log: Log,
    pub name: &'static str,
    pub written: Vec<Arc<Record>>,
    pub fails: Fails,
}

#[derive(Clone, Default)]
pub struct Fails {
    /// For good, at this value.
    pub at: Option<&'static str>,
    /// So many confirmations fail in a way that passes.
    pub away: Arc<Mutex<u32>>,
    /// These values can never be taken.
    pub refuses: &'static [&'static str],
}

impl Sink for Noting {
    fn write(&mut self, outputs: Outputs) -> BoxFuture<'_, Result<(), AdapterError>> {
        Box::pin(async move {
            for output in outputs.iter() {
                if self.fails.at.is_some_and(|at| at == output.record.value) {
                    return Err(AdapterError::new(
                        AdapterErrorKind::Io,
                        format!("the {} failed", self.name),
                    ));
                }
                self.written.push(output.record.clone());
            }
            Ok(())
        })
    }

    fn confirm(&mut self) -> BoxFuture<'_, Result<Vec<Refused>, AdapterError>> {
        Box::pin(async move {
            let written = std::mem::take(&mut self.written);
            {
                let mut away = self.fails.away.lock().expect("not poisoned");
                if *away > 0 {
                    *away -= 1;
                    self.log.note(format!("{} away", self.name));
                    return Err(AdapterError::new(
                        AdapterErrorKind::Unavailable,
                        format!("the {} is away", self.name),
                    ));
                }
            }
            let mut refused = Vec::new();
            for (index, record) in written.iter().enumerate() {
                let value = String::from_utf8_lossy(&record.value).into_owned();
                if self.fails.refuses.contains(&&*value) {
                    refused.push(Refused {
                        index,
                        reason: format!("{value} is too much"),
                    });
                } else {
                    let line = format!("{} {} {value}", self.name, record.topic);
                    self.log.note(line);
                }
            }
            Ok(refused)
        })
    }

    fn recover(&mut self) -> BoxFuture<'_, Result<bool, AdapterError>> {
        Box::pin(async { Ok(true) })
    }

    fn finish(&mut self) -> BoxFuture<'_, Result<(), AdapterError>> {
        self.log.note(format!("{} finish", self.name));
        Box::pin(async { Ok(()) })
    }
}

/// Of topics and values; a value `?` is no record, and `name#2` was given out twice before. Tokens are counted from 0 for digits, else from 100.
pub fn items(values: &[(&'static str, &'static str)]) -> Vec<Item> {
    let item = |((topic, value), number): (&(&'static str, &'static str), u64)| {
        let (name, redelivered) = value.split_once('#').unwrap_or((value, "0"));
        Item {
            token: AckToken(number),
            partition: PartitionKey::of(topic, 0),
            position: number,
            redelivered: redelivered.parse().expect("a number"),
            content: match name {
                "?" => Err(InvalidRecord {
                    place: "somewhere:1".to_owned(),
                    message: "not a record".to_owned(),
                    bytes: Bytes::from_static(b"?"),
                    length: 1,
                    offset: number,
                }),
                name => Ok(Arc::new(Record::new(*topic, name.to_owned()))),
            },
        }
    };
    let first = match values.first() {
        Some((_, value)) if value.starts_with('+') => 100,
        _ => 0,
    };
    values.iter().zip(first..).map(item).collect()
}

/// A run over an engine that lets everything pass.
pub struct Setup {
    pub log: Log,
    pub items: &'static [(&'static str, &'static str)],
    pub then: Vec<Then>,
    pub sink: Fails,
    pub letters: Option<Fails>,
    pub options: RunnerOptions,
}

pub fn setup(items: &'static [(&'static str, &'static str)]) -> Setup {
    let mut options = RunnerOptions::default();
    options.batch = 2;
    options.backoff.first = Duration::from_millis(2);
    options.backoff.limit = Duration::from_millis(4);
    Setup {
        log: Log::default(),
        items,
        then: Vec::new(),
        sink: Fails::default(),
        letters: None,
        options,
    }
}

impl Setup {
    pub fn runner(self) -> (Runner, Log) {
        let loaded = load_text("etl.toml", "", &LoadOptions::isolated()).expect("loads");
        let mut engine = Options::default();
        engine.lanes = Some(1);
        let engine = Orchestrator::start(loaded, engine).expect("starts");
        let log = self.log.clone();
        let sink = |name, fails| -> Box<dyn Sink> {
            Box::new(Noting {
                log: log.clone(),
                name,
                written: Vec::new(),
                fails,
            })
        };
        let source = Scripted {
            log: self.log.clone(),
            items: items(self.items).into(),
            then: self.then,
        };
        let runner = Runner::new(
            engine,
            Box::new(source),
            sink("out", self.sink),
            self.letters.map(|fails| sink("failed", fails)),
            self.options,
        );
        (runner, self.log)
    }

    pub async fn run(self) -> (Result<Ended, AdapterError>, Log, Counts) {
        let (runner, log) = self.runner();
        let counters = runner.counters();
        let ended = tokio::time::timeout(Duration::from_secs(30), runner.run()).await;
        (ended.expect("ends"), log, counters.read())
    }
}
