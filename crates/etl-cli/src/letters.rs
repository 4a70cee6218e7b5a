//! Dead letters: which are meant, what is the matter with them, and the way back.
//!
//! A letter is taken out of its topic only when the record is safe where it goes, so that nothing is lost whenever this ends. How often a record was
//! sent back stands in its header `etl-redrive-attempts`, which modules leave alone and a later dead letter keeps; one that fails too often is
//! parked on a topic of its own. `etl redrive` and the API of a run do the same by what is here.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use etl_broker_adapter::{
    AckToken, AdapterError, Demand, Item, Origin, Output, Pulled, REDUCED, Sink, Source,
};
use etl_orchestrator::Record;

/// The header that counts.
const ATTEMPTS: &str = "etl-redrive-attempts";

/// How the name of a topic ends on which letters are parked.
pub const PARKED: &str = ".parked";

/// Letters between two confirmations.
const BATCH: usize = 500;

/// Which letters are meant.
pub struct Selection<'a> {
    /// Only those that this module failed on.
    pub module: Option<&'a str>,
    /// Only those of this kind.
    pub kind: Option<&'a str>,
    /// Only those that failed within this time.
    pub since: Option<Duration>,
    /// Whether those that are parked are meant: who asks for all topics does not mean these, or each would come back every time.
    pub parked: bool,
    /// What else is asked of them.
    pub admits: &'a (dyn Fn(&Record) -> bool + Sync),
}

impl Selection<'_> {
    /// Whether a record is a letter that is meant. What has no reason is none: a pattern may meet topics of other records, which went wrong nowhere.
    pub fn holds(&self, letter: &Record) -> bool {
        let is = |name, wanted: Option<&str>| {
            wanted.is_none_or(|wanted| text(letter, name).as_deref() == Some(wanted))
        };
        let recent = self.since.is_none_or(|since| {
            let now = SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default();
            let failed_at = number::<u64>(letter, "etl-dlq-failed-at").unwrap_or(0);
            u128::from(failed_at) + since.as_millis() >= now.as_millis()
        });
        is("etl-dlq-module", self.module)
            && letter.headers.first("etl-dlq-error").is_some()
            && is("etl-dlq-error", self.kind)
            && recent
            && (self.parked || !letter.topic.ends_with(PARKED))
            && (self.admits)(letter)
    }
}

/// What was found and done.
#[derive(Debug, Default)]
pub struct Done {
    /// How many there are of each kind, module and message.
    pub reasons: BTreeMap<(String, String, String), u64>,
    /// Letters that are meant.
    pub selected: u64,
    /// Those that are not.
    pub others: u64,
    /// Records that were sent back.
    pub redriven: u64,
    /// Letters that were parked.
    pub parked: u64,
    /// Records that were refused where they were sent.
    pub refused: u64,
    /// Letters of what was no record.
    pub nowhere: u64,
}

impl Done {
    /// The reasons, the most frequent first.
    pub fn by_frequency(&self) -> Vec<(&(String, String, String), u64)> {
        let reasons = self.reasons.iter();
        let mut reasons: Vec<_> = reasons.map(|(reason, count)| (reason, *count)).collect();
        reasons.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        reasons
    }
}

/// The next letters of a topic; `None` at its end.
pub async fn next(source: &mut dyn Source) -> Result<Option<Vec<Item>>, AdapterError> {
    let paused = HashSet::new();
    let demand = Demand {
        records: BATCH,
        bytes: 64 << 20,
        paused: &paused,
    };
    match source.pull(demand).await? {
        Pulled::Batch(batch) => Ok(Some(batch.items)),
        _ => Ok(None),
    }
}

/// Reads all of them, and says what is the matter.
pub async fn look(selection: &Selection<'_>, queue: &mut dyn Source) -> Result<Done, AdapterError> {
    let mut done = Done::default();
    while let Some(items) = next(queue).await? {
        for letter in items.iter().filter_map(|item| item.content.as_ref().ok()) {
            if !selection.holds(letter) {
                done.others += 1;
                continue;
            }
            done.selected += 1;
            done.nowhere += u64::from(original(letter, 0).is_none());
            let of = |name| text(letter, name).unwrap_or_default();
            let reason = (
                of("etl-dlq-error"),
                of("etl-dlq-module"),
                of("etl-dlq-message"),
            );
            *done.reasons.entry(reason).or_default() += 1;
        }
    }
    Ok(done)
}

/// Where letters are taken from, where their records go back to, and where those stay that came back too often.
pub struct Ways<'a> {
    pub queue: &'a mut dyn Source,
    pub back: &'a mut dyn Sink,
    /// Beside the letters, under the topics that they have there: where records come from they would be read again.
    pub parking: &'a mut dyn Sink,
}

/// Sends those that were looked at back. A record that was sent back `most` times already is parked.
pub async fn send_back(
    selection: &Selection<'_>,
    most: u32,
    ways: Ways<'_>,
    done: &mut Done,
    mut on_refused: impl FnMut(&str),
) -> Result<(), AdapterError> {
    let Ways {
        queue,
        back,
        parking,
    } = ways;
    // What is sent back may fail again at once and come to the same topic: that is for the next time.
    let mut left = done.selected;
    while left > 0
        && let Some(items) = next(queue).await?
    {
        let (mut again, mut too_often) = (Vec::new(), Vec::new());
        for item in items {
            let Ok(letter) = &item.content else { continue };
            if left == 0 || !selection.holds(letter) {
                continue;
            }
            left -= 1;
            let attempts = attempts(letter);
            // Who asks for what was parked wants it to go back, however often it did.
            let (record, way) = match attempts >= most && !selection.parked {
                true => (parked_letter(letter), &mut too_often),
                false => match original(letter, attempts + 1) {
                    Some(record) => (record, &mut again),
                    None => continue,
                },
            };
            let output = Output {
                record: Arc::new(record),
                origin: Origin {
                    partition: item.partition,
                    position: item.position,
                    index: 0,
                },
            };
            way.push((item.token, output));
        }
        let (safe, refused) = deliver(again, back, queue, &mut on_refused).await?;
        done.redriven += safe;
        done.refused += refused;
        let (safe, refused) = deliver(too_often, parking, queue, &mut on_refused).await?;
        done.parked += safe;
        done.refused += refused;
    }
    back.finish().await?;
    parking.finish().await?;
    queue.close().await?;
    Ok(())
}

/// Writes, and takes what is safe out of the queue. Answers how many that were, and how many were refused.
async fn deliver(
    letters: Vec<(AckToken, Output)>,
    sink: &mut dyn Sink,
    queue: &mut dyn Source,
    on_refused: &mut impl FnMut(&str),
) -> Result<(u64, u64), AdapterError> {
    if letters.is_empty() {
        return Ok((0, 0));
    }
    let (tokens, outputs): (Vec<AckToken>, Vec<Output>) = letters.into_iter().unzip();
    sink.write(outputs.into()).await?;
    let refused = sink.confirm().await?;
    for refused in &refused {
        on_refused(&refused.reason);
    }
    let stays: HashSet<usize> = refused.iter().map(|refused| refused.index).collect();
    let tokens = tokens.into_iter().enumerate();
    let safe: Vec<AckToken> = tokens
        .filter(|(index, _)| !stays.contains(index))
        .map(|(_, token)| token)
        .collect();
    queue.ack(&safe).await?;
    Ok((safe.len() as u64, stays.len() as u64))
}

/// A header of a letter as text.
pub fn text(letter: &Record, name: &str) -> Option<String> {
    let value = letter.headers.first(name)?;
    Some(String::from_utf8_lossy(value).into_owned())
}

/// A header of a letter as a number.
pub fn number<T: std::str::FromStr>(letter: &Record, name: &str) -> Option<T> {
    text(letter, name)?.parse().ok()
}

/// How often it was sent back.
pub fn attempts(letter: &Record) -> u32 {
    number(letter, ATTEMPTS).unwrap_or(0)
}

/// The record that a dead letter was made of, as the failing module saw it. `None`: it was made of none, or the letter holds only its beginning.
pub fn original(letter: &Record, attempts: u32) -> Option<Record> {
    if letter.headers.first(REDUCED).is_some() {
        return None;
    }
    let topic = text(letter, "etl-dlq-topic")?;
    let kept = letter.headers.iter();
    let kept = kept.filter(|(name, _)| !name.starts_with("etl-dlq-") && &***name != ATTEMPTS);
    let mut record = Record {
        topic: topic.into(),
        partition: number(letter, "etl-dlq-partition").unwrap_or(0),
        offset: number(letter, "etl-dlq-offset").unwrap_or(0),
        timestamp: number(letter, "etl-dlq-timestamp").or(letter.timestamp),
        headers: kept
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect(),
        ..letter.clone()
    };
    if attempts > 0 {
        record
            .headers
            .add(ATTEMPTS.into(), attempts.to_string().into());
    }
    Some(record)
}

/// The letter as it is, out of the way.
fn parked_letter(letter: &Record) -> Record {
    Record {
        topic: format!("{}{PARKED}", letter.topic).into(),
        ..letter.clone()
    }
}
