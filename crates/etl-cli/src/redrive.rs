//! `etl redrive`: dead letters go back to where they came from.
//!
//! A letter is taken out of its topic only when the record is safe where it goes, so that nothing is lost whenever this ends. How often a record was
//! sent back stands in its header `etl-redrive-attempts`, which modules leave alone and a later dead letter keeps; one that fails too often is
//! parked on a topic of its own.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;
use etl_broker_adapter::{
    AckToken, AdapterUrl, Demand, Item, Origin, Output, Pulled, REDUCED, Sink, Source,
};
use etl_orchestrator::Record;
use serde_json::json;

use crate::exit::Exit;
use crate::output::{self, counted, grouped};
use crate::topics::{block_on, connect, time};

const HELP: &str = "\
What was the matter is shown first, as a histogram. Then each dead letter becomes the record that it was, on the
topic that it came from, with the header etl-redrive-attempts; it is taken out of its topic once it is safe there.
A record that was sent back --attempts times already is parked on TOPIC.parked instead. A dead letter of what was no
record has nowhere to go back to and stays.

Exit codes:
  0 done   1 something was refused, or failed   2 wrong arguments

Examples:
  etl redrive --from embedded:data --topic orders.dlq --dry-run
      What is the matter with them?
  etl redrive --from embedded:data --topic orders.dlq --module enrich --kind Timeout --since 2h
      Only those that this module could not do in time, within the last two hours.";

/// The header that counts.
const ATTEMPTS: &str = "etl-redrive-attempts";

/// Letters between two confirmations.
const BATCH: usize = 500;

/// Send dead letters back to where they came from
#[derive(Debug, Args)]
#[command(after_help = HELP)]
pub struct RedriveOptions {
    /// Where the dead letters are
    #[arg(long, value_name = "URL")]
    pub from: AdapterUrl,

    /// Their topic
    #[arg(long, value_name = "TOPIC")]
    pub topic: String,

    /// Where the records go [default: where the dead letters are]
    #[arg(long, value_name = "URL")]
    pub to: Option<AdapterUrl>,

    /// Only those that this module failed on
    #[arg(long, value_name = "MODULE")]
    pub module: Option<String>,

    /// Only those of this kind: Timeout, Trap, MemoryLimit, InvalidOutput, Module, PoolExhausted, CircuitOpen,
    /// Refused, TooManyDeliveries
    #[arg(long, value_name = "KIND")]
    pub kind: Option<String>,

    /// Only those that failed within this time: 90s, 30m, 12h, 7d
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub since: Option<Duration>,

    /// Send a record back so many times at the most, then park it
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub attempts: u32,

    /// Only show what is the matter
    #[arg(long)]
    pub dry_run: bool,

    /// Print what was done as one JSON object on standard output
    #[arg(long)]
    pub json: bool,
}

/// What was found and done.
#[derive(Debug, Default)]
struct Done {
    reasons: BTreeMap<(String, String, String), u64>,
    selected: u64,
    others: u64,
    redriven: u64,
    parked: u64,
    refused: u64,
    /// Letters of what was no record.
    nowhere: u64,
}

/// Runs the command.
pub fn redrive(options: &RedriveOptions) -> Result<(), Exit> {
    let done = block_on(async {
        let broker = connect(&options.from, false).await?;
        let mut done = look(options, &mut *broker.queue(&options.topic).await?).await?;
        if !options.dry_run && done.selected > 0 {
            let mut sink = match &options.to {
                Some(to) => connect(to, false).await?.sink().await?,
                None => broker.sink().await?,
            };
            let mut queue = broker.queue(&options.topic).await?;
            send_back(options, &mut *queue, &mut *sink, &mut done).await?;
            sink.finish().await?;
        }
        Ok(done)
    })?;
    say(options, &done)?;
    match done.refused {
        0 => Ok(()),
        refused => Err(Exit::failed(format_args!(
            "{} refused, and stay on {}",
            counted(refused, "record"),
            options.topic
        ))),
    }
}

async fn next(source: &mut dyn Source) -> Result<Option<Vec<Item>>, Exit> {
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
async fn look(options: &RedriveOptions, queue: &mut dyn Source) -> Result<Done, Exit> {
    let mut done = Done::default();
    while let Some(items) = next(queue).await? {
        for letter in items.iter().filter_map(|item| item.content.as_ref().ok()) {
            if !selects(options, letter) {
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

async fn send_back(
    options: &RedriveOptions,
    queue: &mut dyn Source,
    sink: &mut dyn Sink,
    done: &mut Done,
) -> Result<(), Exit> {
    // What is sent back may fail again at once and come to the same topic: that is for the next time.
    let mut left = done.selected;
    while left > 0
        && let Some(items) = next(queue).await?
    {
        let mut outputs = Vec::new();
        let mut tokens: Vec<(AckToken, bool)> = Vec::new();
        for item in items {
            let Ok(letter) = &item.content else { continue };
            if left == 0 || !selects(options, letter) {
                continue;
            }
            left -= 1;
            let attempts = attempts(letter);
            let parked = attempts >= options.attempts;
            let record = match parked {
                true => parked_letter(letter, &options.topic),
                false => match original(letter, attempts + 1) {
                    Some(record) => record,
                    None => continue,
                },
            };
            tokens.push((item.token, parked));
            outputs.push(Output {
                record: Arc::new(record),
                origin: Origin {
                    partition: item.partition,
                    position: item.position,
                    index: 0,
                },
            });
        }
        if outputs.is_empty() {
            continue;
        }
        sink.write(outputs.into()).await?;
        let refused = sink.confirm().await?;
        for refused in &refused {
            eprintln!("etl: one was refused: {}", refused.reason);
        }
        let stays: HashSet<usize> = refused.iter().map(|refused| refused.index).collect();
        let safe = tokens.into_iter().enumerate();
        let safe: Vec<(AckToken, bool)> = safe
            .filter(|(index, _)| !stays.contains(index))
            .map(|(_, token)| token)
            .collect();
        done.refused += stays.len() as u64;
        let parked = safe.iter().filter(|(_, parked)| *parked).count() as u64;
        done.parked += parked;
        done.redriven += safe.len() as u64 - parked;
        let tokens: Vec<AckToken> = safe.into_iter().map(|(token, _)| token).collect();
        queue.ack(&tokens).await?;
    }
    queue.close().await?;
    Ok(())
}

fn text(letter: &Record, name: &str) -> Option<String> {
    let value = letter.headers.first(name)?;
    Some(String::from_utf8_lossy(value).into_owned())
}

fn number<T: std::str::FromStr>(letter: &Record, name: &str) -> Option<T> {
    text(letter, name)?.parse().ok()
}

fn attempts(letter: &Record) -> u32 {
    number(letter, ATTEMPTS).unwrap_or(0)
}

fn selects(options: &RedriveOptions, letter: &Record) -> bool {
    let is = |name, wanted: &Option<String>| {
        let wanted = wanted.as_ref();
        wanted.is_none_or(|wanted| text(letter, name).as_ref() == Some(wanted))
    };
    let recent = options.since.is_none_or(|since| {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let failed_at = number::<u64>(letter, "etl-dlq-failed-at").unwrap_or(0);
        u128::from(failed_at) + since.as_millis() >= now.as_millis()
    });
    is("etl-dlq-module", &options.module) && is("etl-dlq-error", &options.kind) && recent
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
fn parked_letter(letter: &Record, topic: &str) -> Record {
    Record {
        topic: format!("{topic}.parked").into(),
        ..letter.clone()
    }
}

fn say(options: &RedriveOptions, done: &Done) -> Result<(), Exit> {
    let mut reasons: Vec<_> = done.reasons.iter().collect();
    reasons.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    if options.json {
        let reasons: Vec<_> = reasons
            .iter()
            .map(|((kind, module, message), count)| {
                json!({ "count": count, "kind": kind, "module": module, "message": message })
            })
            .collect();
        return output::print(&format!(
            "{}\n",
            json!({
                "topic": options.topic,
                "dry_run": options.dry_run,
                "selected": done.selected,
                "others": done.others,
                "redriven": done.redriven,
                "parked": done.parked,
                "refused": done.refused,
                "nowhere_to_go": done.nowhere,
                "reasons": reasons,
            })
        ));
    }
    let mut out = format!(
        "{} on {}",
        counted(done.selected, "dead letter"),
        options.topic
    );
    if done.others > 0 {
        out.push_str(&format!(
            ", and {} that you did not ask for",
            grouped(done.others)
        ));
    }
    out.push('\n');
    for ((kind, module, message), count) in reasons {
        out.push_str(&format!("  {:>8}  {kind}", grouped(*count)));
        if !module.is_empty() {
            out.push_str(&format!(" in {module}"));
        }
        out.push_str(&format!(": {message}\n"));
    }
    if options.dry_run {
        out.push_str("nothing was sent: this was a dry run\n");
    } else {
        out.push_str(&format!("{} sent back", grouped(done.redriven)));
        for (count, what) in [
            (done.parked, "parked"),
            (done.refused, "refused"),
            (done.nowhere, "stay, because they hold no whole record"),
        ] {
            if count > 0 {
                out.push_str(&format!(", {} {what}", grouped(count)));
            }
        }
        out.push('\n');
    }
    output::print(&out)
}
