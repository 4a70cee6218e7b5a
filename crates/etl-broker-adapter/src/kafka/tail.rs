//! Reads topics outside of any group, from where it is told, and moves nobody's position.
//!
//! One that follows reads all topics at once, for ever. One that does not reads each to its end, one topic after the other: librdkafka says of which partition the end was
//! reached, and not of which topic. The end is where it says so, not at the last offset: the last offsets of a partition may be marks of transactions, which no reader is given.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use rdkafka::consumer::Consumer;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::client::{Asker, blocking, config, create, failed, missing};
use super::desk::{Desk, Found, Place};
use super::poller::{Context, Poll, run};
use super::url::KafkaUrl;
use crate::{
    AckToken, AdapterError, AdapterErrorKind, BoxFuture, Demand, From, Item, PartitionKey, Pulled,
    Source,
};

/// A partition that has records and gives none for so long has nobody who would.
const SILENCE: Duration = Duration::from_secs(30);

/// Topics of Kafka, read from somewhere on.
pub struct KafkaTail {
    url: KafkaUrl,
    /// What is yet to be read, one after the other.
    rest: VecDeque<Vec<Part>>,
    reader: Option<Reader>,
    follow: bool,
}

/// A partition, and what of it is read.
#[derive(Clone)]
struct Part {
    place: Place,
    begin: i64,
    /// Where it ended when it was asked: what comes after that is not waited for.
    end: i64,
}

impl KafkaTail {
    /// Blocking.
    pub(super) fn open(
        url: KafkaUrl,
        asker: &Asker,
        patterns: &[String],
        from: From,
        follow: bool,
    ) -> Result<Self, AdapterError> {
        let mut rest = VecDeque::new();
        for (topic, partitions) in chosen(&url, asker, patterns)? {
            let topic: Arc<str> = topic.into();
            let mut parts = Vec::new();
            for partition in 0..partitions {
                let (low, high) = asker.bounds(&topic, partition)?;
                let begin = match from {
                    From::Beginning => low,
                    From::End => high,
                    From::Offset(offset) => {
                        i64::try_from(offset).unwrap_or(i64::MAX).clamp(low, high)
                    }
                    From::Last(count) => high
                        .saturating_sub(i64::try_from(count).unwrap_or(i64::MAX))
                        .max(low),
                };
                parts.push(Part {
                    place: (topic.clone(), partition),
                    begin,
                    end: high,
                });
            }
            if !follow {
                parts.retain(|part| part.begin < part.end);
            }
            if !parts.is_empty() {
                rest.push_back(parts);
            }
        }
        if follow && !rest.is_empty() {
            rest = VecDeque::from([rest.into_iter().flatten().collect()]);
        }
        Ok(Self {
            url,
            rest,
            reader: None,
            follow,
        })
    }

    /// Goes on with the next topic. `false`: there is none.
    async fn next_topic(&mut self) -> Result<bool, AdapterError> {
        // It is there until it was begun, as this may be given up half-way.
        let Some(parts) = self.rest.front().cloned() else {
            return Ok(false);
        };
        let desk = match &self.reader {
            Some(reader) => Desk::after(&reader.desk),
            None => Desk::default(),
        };
        let (url, follow) = (self.url.clone(), self.follow);
        let reader = blocking(move || Reader::begin(&url, desk, parts, follow)).await?;
        self.reader = Some(reader);
        self.rest.pop_front();
        Ok(true)
    }
}

/// Reads some partitions. Dropped, it ends by itself.
struct Reader {
    desk: Arc<Desk>,
    /// Joined by whoever wants to see the end of it.
    poller: Option<JoinHandle<()>>,
    /// What is not read to its end.
    parts: Vec<Part>,
}

impl Reader {
    /// Blocking.
    fn begin(
        url: &KafkaUrl,
        desk: Desk,
        parts: Vec<Part>,
        follow: bool,
    ) -> Result<Self, AdapterError> {
        let mut list = TopicPartitionList::with_capacity(parts.len());
        for Part { place, begin, .. } in &parts {
            list.add_partition_offset(&place.0, place.1, Offset::Offset(*begin))
                .map_err(|error| failed(url, "cannot read", &error))?;
        }
        let places: Vec<Place> = parts.iter().map(|part| part.place.clone()).collect();
        desk.assigned(&places);
        let desk = Arc::new(desk);
        let context = Context {
            url: url.clone(),
            desk: desk.clone(),
        };
        let group = format!("etl-tail-{}", std::process::id());
        let fixed = [
            // It joins none, and librdkafka wants a name all the same.
            ("group.id", &*group),
            ("enable.auto.commit", "false"),
            ("enable.auto.offset.store", "false"),
            (
                "enable.partition.eof",
                if follow { "false" } else { "true" },
            ),
            ("auto.offset.reset", "earliest"),
        ];
        let consumer: Poll = create(url, &config(url, &[], &fixed), context)?;
        consumer
            .assign(&list)
            .map_err(|error| failed(url, "cannot read", &error))?;
        let polled = desk.clone();
        let thread = std::thread::Builder::new().name("etl-kafka".to_owned());
        let poller = thread
            .spawn(move || run(Arc::new(consumer), &polled))
            .map_err(|error| AdapterError::from_io("cannot start a thread", error))?;
        Ok(Self {
            desk,
            poller: Some(poller),
            parts,
        })
    }

    /// Leaves out what came later than was asked for, and takes note of what is read to its end.
    fn cut(&mut self, items: &mut Vec<Item>) {
        let mut read: Vec<(usize, i64)> = Vec::new();
        items.retain(|item| {
            let part = self.parts.iter().position(|part| part.holds(item));
            let position = i64::try_from(item.position).unwrap_or(i64::MAX);
            match part.filter(|part| position < self.parts[*part].end) {
                Some(part) => {
                    read.push((part, position + 1));
                    true
                }
                None => false,
            }
        });
        for (part, next) in read {
            let part = &mut self.parts[part];
            part.begin = part.begin.max(next);
        }
        self.parts.retain(|part| part.begin < part.end);
    }

    /// Whether there is no more.
    fn is_done(&mut self) -> bool {
        let desk = &self.desk;
        self.parts.retain(|part| !desk.is_exhausted(&part.place));
        self.parts.is_empty()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.desk.close();
    }
}

impl Part {
    fn holds(&self, item: &Item) -> bool {
        let (topic, partition) = &self.place;
        item.partition == PartitionKey::of(topic, super::mapping::place(*partition))
    }
}

/// The topics that are meant, with their partitions.
fn chosen(
    url: &KafkaUrl,
    asker: &Asker,
    patterns: &[String],
) -> Result<Vec<(String, i32)>, AdapterError> {
    let all = asker.topics()?;
    let named = match patterns {
        [] => &url.topics,
        patterns => patterns,
    };
    if named.is_empty() {
        return Ok(all);
    }
    let mut topics = Vec::new();
    for name in named {
        let before = topics.len();
        let matching = all.iter().filter(|(topic, _)| matches(name, topic));
        topics.extend(matching.cloned());
        if topics.len() == before && !name.contains('*') {
            return Err(missing(url, name));
        }
    }
    topics.sort();
    topics.dedup();
    Ok(topics)
}

/// `*` stands for anything.
fn matches(pattern: &str, topic: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = topic.strip_prefix(first) else {
        return false;
    };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else {
        return rest.is_empty();
    };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

impl Source for KafkaTail {
    fn pull<'a>(&'a mut self, demand: Demand<'a>) -> BoxFuture<'a, Result<Pulled, AdapterError>> {
        Box::pin(async move {
            loop {
                let follow = self.follow;
                let Some(reader) = self.reader.as_mut().filter(|own| !own.parts.is_empty()) else {
                    match self.next_topic().await? {
                        true => continue,
                        false => return Ok(Pulled::End),
                    }
                };
                match reader.desk.take(&demand) {
                    Found::Error(error) => return Err(error),
                    Found::Batch(mut batch) => {
                        if !follow {
                            reader.cut(&mut batch.items);
                        }
                        if !batch.items.is_empty() {
                            return Ok(Pulled::Batch(batch));
                        }
                    }
                    Found::Going(_) | Found::Nothing(_) if follow => reader.desk.came().await,
                    Found::Going(_) | Found::Nothing(_) if reader.is_done() => {}
                    Found::Going(_) | Found::Nothing(_) => {
                        let came = tokio::time::timeout(SILENCE, reader.desk.came()).await;
                        if came.is_err() {
                            return Err(silent(&self.url, &reader.parts));
                        }
                    }
                }
            }
        })
    }

    fn ack<'a>(&'a mut self, tokens: &'a [AckToken]) -> BoxFuture<'a, Result<(), AdapterError>> {
        if let Some(reader) = &self.reader {
            reader.desk.safe(tokens);
        }
        Box::pin(async { Ok(()) })
    }

    fn give_back<'a>(
        &'a mut self,
        tokens: &'a [AckToken],
        delay: Duration,
    ) -> BoxFuture<'a, Result<(), AdapterError>> {
        if let Some(reader) = &self.reader {
            reader.desk.give_back(tokens, delay);
        }
        Box::pin(async { Ok(()) })
    }

    fn recover(&mut self) -> BoxFuture<'_, Result<bool, AdapterError>> {
        let url = self.url.clone();
        Box::pin(async move {
            blocking(move || Asker::new(&url)?.topics()).await?;
            if let Some(reader) = &self.reader {
                reader.desk.works_again();
            }
            Ok(true)
        })
    }

    fn close(&mut self) -> BoxFuture<'_, Result<(), AdapterError>> {
        self.rest.clear();
        let reader = self.reader.take();
        Box::pin(blocking(move || {
            if let Some(mut reader) = reader
                && let Some(poller) = reader.poller.take()
            {
                reader.desk.close();
                // A panic was reported when it happened.
                let _ = poller.join();
            }
            Ok(())
        }))
    }
}

/// What has records that nobody gives.
fn silent(url: &KafkaUrl, parts: &[Part]) -> AdapterError {
    let places = parts.iter().map(|part| {
        let ((topic, partition), begin) = (&part.place, part.begin);
        format!("{topic}/{partition} from offset {begin} on")
    });
    let places: Vec<String> = places.collect();
    AdapterError::new(
        AdapterErrorKind::Unavailable,
        format!(
            "{url}: the brokers give nothing of {}: perhaps nobody leads them",
            places.join(", ")
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn a_star_stands_for_anything() {
        for (pattern, topic, expected) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("*", "a.b", true),
            ("a.*", "a.b", true),
            ("*.dlq", "a.dlq", true),
            ("a*c*e", "abcde", true),
            ("a*a", "a", false),
        ] {
            assert_eq!(matches(pattern, topic), expected, "{pattern} {topic}");
        }
    }
}
