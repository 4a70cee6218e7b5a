//! The dead letters of a run, for those who look at them and send them back through its API.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::future::Future;
use std::sync::Arc;

use etl_admin::{
    DeadLetterTopic, DeadLetters, DeadLettersError, Letter, LetterKey, LetterReason, Page,
    Redriven, Wanted,
};
use etl_broker_adapter::embedded::TopicPatterns;
use etl_broker_adapter::{AdapterError, AdapterErrorKind, AdapterUrl, From, line};
use etl_config::Loaded;
use etl_orchestrator::{Orchestrator, Record};
use tokio::runtime::Handle;

use crate::arguments::RunOptions;
use crate::letters::{self, Done, Selection, Ways, number, original, text};

/// Letters of each partition that are looked through, counted from its end.
const NEWEST: u64 = 10_000;
/// A letter whose value is longer is shown without it.
const SHOWN_BYTES: usize = 64 << 10;

/// Where the letters are, and where their records came from.
pub struct Letters {
    place: AdapterUrl,
    /// Whether nothing else is written there.
    is_theirs_alone: bool,
    source: AdapterUrl,
    orchestrator: Arc<Orchestrator>,
    runtime: Handle,
}

impl Letters {
    /// Those of a run, if they go where they can be read again. On a tokio runtime.
    pub fn of(options: &RunOptions, orchestrator: &Arc<Orchestrator>) -> Option<Self> {
        let place = options.dead_letters.as_ref().unwrap_or(&options.to);
        has_topics(place).then(|| Self {
            place: place.clone(),
            is_theirs_alone: options.dead_letters.is_some(),
            source: options.from.clone(),
            orchestrator: orchestrator.clone(),
            runtime: Handle::current(),
        })
    }

    /// Waits for a broker, on a thread that may.
    fn wait<T>(
        &self,
        work: impl Future<Output = Result<T, AdapterError>>,
    ) -> Result<T, DeadLettersError> {
        self.runtime
            .block_on(work)
            .map_err(|error| DeadLettersError {
                is_absent: matches!(error.kind(), AdapterErrorKind::Unsupported),
                message: error.to_string(),
            })
    }

    /// The topics of dead letters: those that the configuration says, and what is called like one.
    fn patterns(&self) -> TopicPatterns {
        let generation = self.orchestrator.generation();
        let templates = |loaded: &Loaded| -> Vec<String> {
            let pipelines = loaded.config.pipelines.iter();
            let templates = pipelines
                .map(|pipeline| &pipeline.dead_letter_topic)
                .chain([&loaded.config.dead_letter.topic]);
            templates.map(|template| template.render("*")).collect()
        };
        let mut patterns = self
            .orchestrator
            .read_configuration(generation, templates)
            .unwrap_or_default();
        // A letter that has the topic of its record is told from other records by its place alone.
        patterns.retain(|pattern| pattern != "*" || self.is_theirs_alone);
        let prefix = match &self.place {
            AdapterUrl::Embedded(url) => &*url.prefix,
            _ => "",
        };
        let written = patterns.iter().map(|pattern| format!("{prefix}{pattern}"));
        let all: Vec<String> = written.chain(["*.dlq".to_owned()]).collect();
        let parked = all.iter().map(|pattern| format!("{pattern}.parked"));
        let parked: Vec<String> = parked.collect();
        TopicPatterns::new(all.iter().chain(&parked).map(String::as_str))
    }
}

/// Whether what is written there can be read again by its topic, and more be written beside it.
fn has_topics(url: &AdapterUrl) -> bool {
    !matches!(url, AdapterUrl::Standard | AdapterUrl::File(_))
}

impl DeadLetters for Letters {
    fn topics(&self) -> Result<Vec<DeadLetterTopic>, DeadLettersError> {
        let topics = self.wait(async { self.place.connect(false).await?.topics().await })?;
        let patterns = self.patterns();
        let topics = topics.into_iter();
        let topics = topics.filter(|topic| patterns.matches(&topic.name));
        let shown = topics.map(|topic| DeadLetterTopic {
            topic: topic.name,
            records: topic.records,
        });
        Ok(shown.collect())
    }

    fn browse(
        &self,
        wanted: &Wanted<'_>,
        before: Option<LetterKey>,
        limit: usize,
    ) -> Result<Page, DeadLettersError> {
        let admits = |letter: &Record| admits(wanted, letter);
        let selection = selection(wanted, &admits);
        let before = before.map(order);
        self.wait(async {
            let broker = self.place.connect(false).await?;
            let topics = [wanted.topic.to_owned()];
            let newest = From::Last(NEWEST);
            let mut tail = broker.tail(&topics, newest, false).await?;
            // The oldest of those that are kept is the first to go.
            let mut kept: BinaryHeap<Reverse<ByTime>> = BinaryHeap::new();
            let mut page = Page::default();
            let mut seen: u64 = 0;
            while let Some(items) = letters::next(&mut *tail).await? {
                seen += items.len() as u64;
                let letters = items.into_iter().filter_map(|item| item.content.ok());
                for letter in letters.filter(|letter| selection.holds(letter)) {
                    let key = order(key(&letter));
                    if before.is_some_and(|before| key >= before) {
                        continue;
                    }
                    kept.push(Reverse(ByTime(key, letter)));
                    if kept.len() > limit {
                        kept.pop();
                        page.has_more = true;
                    }
                }
            }
            tail.close().await?;
            page.is_cut = seen >= NEWEST;
            let kept = kept.into_sorted_vec().into_iter();
            page.letters = kept
                .map(|Reverse(ByTime(_, letter))| shown(&letter))
                .collect();
            Ok(page)
        })
    }

    fn redrive(
        &self,
        wanted: &Wanted<'_>,
        attempts: u32,
        dry_run: bool,
    ) -> Result<Redriven, DeadLettersError> {
        if !dry_run && !has_topics(&self.source) {
            return Err(DeadLettersError {
                is_absent: true,
                message: format!(
                    "the records came from {}, into which none can be written back; `etl redrive --to` says where else",
                    self.source
                ),
            });
        }
        let admits = |letter: &Record| admits(wanted, letter);
        let selection = selection(wanted, &admits);
        let done = self.wait(async {
            let broker = self.place.connect(false).await?;
            let mut queue = broker.queue(wanted.topic).await?;
            let mut done = letters::look(&selection, &mut *queue).await?;
            if !dry_run && done.selected > 0 {
                let source = self.source.connect(false).await?;
                let ways = Ways {
                    queue: &mut *broker.queue(wanted.topic).await?,
                    back: &mut *source.sink().await?,
                    parking: &mut *broker.sink_beside().await?,
                };
                letters::send_back(&selection, attempts, ways, &mut done, |reason| {
                    tracing::warn!(topic = wanted.topic, reason, "one was refused");
                })
                .await?;
            }
            Ok(done)
        })?;
        Ok(told(&done))
    }
}

fn selection<'a>(
    wanted: &Wanted<'a>,
    admits: &'a (dyn Fn(&Record) -> bool + Sync),
) -> Selection<'a> {
    Selection {
        module: wanted.module,
        kind: wanted.kind,
        since: wanted.since,
        parked: wanted.topic.ends_with(letters::PARKED),
        admits,
    }
}

/// Whether it may be told of.
fn admits(wanted: &Wanted<'_>, letter: &Record) -> bool {
    (wanted.reaches)(text(letter, "etl-dlq-pipeline").as_deref())
}

type Order = (u64, u64, u32);

/// A letter by its time.
struct ByTime(Order, Arc<Record>);

impl Ord for ByTime {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.cmp(&other.0)
    }
}

impl PartialOrd for ByTime {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for ByTime {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Eq for ByTime {}

fn key(letter: &Record) -> LetterKey {
    LetterKey {
        failed_at_unix_ms: number(letter, "etl-dlq-failed-at").unwrap_or(0),
        partition: letter.partition,
        offset: letter.offset,
    }
}

/// By time and offset first: letters of one moment are in the order in which they were written.
fn order(key: LetterKey) -> Order {
    (key.failed_at_unix_ms, key.offset, key.partition)
}

fn shown(letter: &Record) -> Letter {
    let of = |name| text(letter, name);
    let line = (letter.value.len() <= SHOWN_BYTES).then(|| {
        let mut line = Vec::new();
        line::encode(letter, &mut line);
        String::from_utf8_lossy(&line).trim_end().to_owned()
    });
    Letter {
        key: key(letter),
        kind: of("etl-dlq-error").unwrap_or_default(),
        message: of("etl-dlq-message").unwrap_or_default(),
        pipeline: of("etl-dlq-pipeline"),
        stage: number(letter, "etl-dlq-stage"),
        module: of("etl-dlq-module"),
        module_sha256: of("etl-dlq-module-sha256"),
        generation: number(letter, "etl-dlq-generation"),
        attempts: number(letter, "etl-dlq-attempts"),
        redriven: letters::attempts(letter),
        original_topic: of("etl-dlq-topic"),
        can_go_back: original(letter, 0).is_some(),
        value_bytes: letter.value.len() as u64,
        line,
    }
}

fn told(done: &Done) -> Redriven {
    let reasons = done.by_frequency().into_iter();
    let reasons = reasons.map(|((kind, module, message), count)| LetterReason {
        count,
        kind: kind.clone(),
        module: module.clone(),
        message: message.clone(),
    });
    Redriven {
        selected: done.selected,
        others: done.others,
        redriven: done.redriven,
        parked: done.parked,
        refused: done.refused,
        nowhere_to_go: done.nowhere,
        reasons: reasons.collect(),
    }
}
