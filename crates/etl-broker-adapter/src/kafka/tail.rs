//! Reads topics outside of any group, from where it is told, and moves nobody's position.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::client::{Asker, blocking, config, create, failed, missing};
use super::desk::{Desk, Found, Place};
use super::poller::{Context, Poll, run};
use super::url::KafkaUrl;
use crate::{AckToken, AdapterError, BoxFuture, Demand, From, Item, PartitionKey, Pulled, Source};

/// A reader that does not follow ends when so long nothing came: the last offsets of a partition may be marks of transactions, which no reader is given.
const SILENCE: Duration = Duration::from_secs(2);

/// Topics of Kafka, read from somewhere on.
pub struct KafkaTail {
    url: KafkaUrl,
    desk: Arc<Desk>,
    consumer: Option<Arc<Poll>>,
    poller: Option<JoinHandle<()>>,
    /// Where each partition ended when it was opened; empty for one that follows.
    ends: Vec<(Place, u64)>,
    follow: bool,
    came: Instant,
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
        let mut list = TopicPartitionList::new();
        let (mut places, mut ends) = (Vec::new(), Vec::new());
        for (topic, partitions) in chosen(&url, asker, patterns)? {
            let topic: Arc<str> = topic.into();
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
                list.add_partition_offset(&topic, partition, Offset::Offset(begin))
                    .map_err(|error| failed(&url, "cannot read", &error))?;
                places.push((topic.clone(), partition));
                if !follow && begin < high {
                    ends.push(((topic.clone(), partition), super::mapping::position(high)));
                }
            }
        }
        let desk = Arc::new(Desk::default());
        desk.assigned(&places);
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
            ("enable.partition.eof", "false"),
            ("auto.offset.reset", "earliest"),
        ];
        let consumer: Poll = create(&url, &config(&url, &[], &fixed), context)?;
        consumer
            .assign(&list)
            .map_err(|error| failed(&url, "cannot read", &error))?;
        let consumer = Arc::new(consumer);
        let (polled, polled_desk) = (consumer.clone(), desk.clone());
        let thread = std::thread::Builder::new().name("etl-kafka".to_owned());
        let poller = thread
            .spawn(move || run(polled, &polled_desk))
            .map_err(|error| AdapterError::from_io("cannot start a thread", error))?;
        Ok(Self {
            url,
            desk,
            consumer: Some(consumer),
            poller: Some(poller),
            ends,
            follow,
            came: Instant::now(),
        })
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
                if !self.follow && self.ends.is_empty() {
                    return Ok(Pulled::End);
                }
                match self.desk.take(&demand) {
                    Found::Error(error) => return Err(error),
                    Found::Batch(mut batch) => {
                        self.came = Instant::now();
                        if !self.follow {
                            // What came after it was opened is not asked for.
                            batch.items.retain(|item| {
                                self.ends
                                    .iter()
                                    .any(|(place, end)| is_of(item, place) && item.position < *end)
                            });
                            self.ends.retain(|(place, end)| {
                                !batch
                                    .items
                                    .iter()
                                    .any(|item| is_of(item, place) && item.position + 1 >= *end)
                            });
                        }
                        if !batch.items.is_empty() {
                            return Ok(Pulled::Batch(batch));
                        }
                    }
                    Found::Going(_) | Found::Nothing(_) if self.follow => self.desk.came().await,
                    Found::Going(_) | Found::Nothing(_) => {
                        // The first records take as long as the connection does.
                        let left = SILENCE.saturating_sub(self.came.elapsed());
                        if left.is_zero() {
                            return Ok(Pulled::End);
                        }
                        let _ = tokio::time::timeout(left, self.desk.came()).await;
                    }
                }
            }
        })
    }

    fn ack<'a>(&'a mut self, tokens: &'a [AckToken]) -> BoxFuture<'a, Result<(), AdapterError>> {
        self.desk.safe(tokens);
        Box::pin(async { Ok(()) })
    }

    fn give_back<'a>(
        &'a mut self,
        tokens: &'a [AckToken],
        delay: Duration,
    ) -> BoxFuture<'a, Result<(), AdapterError>> {
        self.desk.give_back(tokens, delay);
        Box::pin(async { Ok(()) })
    }

    fn recover(&mut self) -> BoxFuture<'_, Result<bool, AdapterError>> {
        let url = self.url.clone();
        Box::pin(async move {
            blocking(move || Asker::new(&url)?.topics()).await?;
            self.desk.works_again();
            self.came = Instant::now();
            Ok(true)
        })
    }

    fn close(&mut self) -> BoxFuture<'_, Result<(), AdapterError>> {
        self.desk.close();
        let (poller, consumer) = (self.poller.take(), self.consumer.take());
        Box::pin(blocking(move || {
            if let Some(poller) = poller {
                // A panic was reported when it happened.
                let _ = poller.join();
            }
            drop(consumer);
            Ok(())
        }))
    }
}

impl Drop for KafkaTail {
    fn drop(&mut self) {
        self.desk.close();
    }
}

fn is_of(item: &Item, (topic, partition): &Place) -> bool {
    item.partition == PartitionKey::of(topic, super::mapping::place(*partition))
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
