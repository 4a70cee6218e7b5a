//! `etl send`: record lines in, records at a place.

use std::collections::HashSet;
use std::sync::Arc;

use etl_broker_adapter::file::FileSource;
use etl_broker_adapter::{Demand, InvalidRecord, Origin, Output, Pulled, Refused, Source};
use etl_orchestrator::Record;
use serde_json::json;

use super::{SendOptions, block_on, connect};
use crate::exit::Exit;
use crate::output::{counted, grouped, tell};

/// Records between two confirmations.
const BATCH: usize = 1_000;

/// Runs the command.
pub fn send(options: &SendOptions) -> Result<(), Exit> {
    let mut done = Sent::default();
    let ended = block_on(send_all(options, &mut done));
    let Sent {
        sent,
        failed,
        lines,
    } = done;
    let is_whole = ended.is_ok();
    if options.json {
        let said = json!({ "sent": sent, "failed": failed, "lines": lines, "complete": is_whole });
        tell!("{said}");
    } else if is_whole {
        tell!("{} sent to {}", counted(sent, "record"), options.to);
    } else if lines > 0 {
        // Who has to send the rest must know where it begins.
        tell!(
            "{} sent to {} before it failed, up to line {}; what came after that may be there or not",
            counted(sent, "record"),
            options.to,
            grouped(lines)
        );
    }
    ended?;
    if failed > 0 {
        return Err(Exit::failed(format_args!(
            "{} not sent",
            counted(failed, "line")
        )));
    }
    Ok(())
}

/// How much of the input has been dealt with.
#[derive(Default)]
struct Sent {
    sent: u64,
    failed: u64,
    /// Lines of the input up to which everything has been.
    lines: u64,
}

async fn send_all(options: &SendOptions, done: &mut Sent) -> Result<(), Exit> {
    let mut source = match &options.topic {
        Some(topic) if options.raw => FileSource::open_raw(&options.from, topic, None)?,
        _ => FileSource::open(&options.from, None)?,
    };
    let broker = connect(&options.to, options.create).await?;
    let mut sink = broker.sink().await?;
    let paused = HashSet::new();
    let demand = Demand {
        records: BATCH,
        bytes: 64 << 20,
        paused: &paused,
    };
    while let Pulled::Batch(batch) = source.pull(demand).await? {
        let mut outputs = Vec::new();
        let lines = batch
            .items
            .last()
            .map_or(done.lines, |item| item.position + 1);
        for item in batch.items {
            match record(options, item.content) {
                Ok(record) => outputs.push(Output {
                    record,
                    origin: Origin {
                        partition: item.partition,
                        position: item.position,
                        index: 0,
                    },
                }),
                Err(invalid) => {
                    done.failed += 1;
                    tell!("etl: {}: {}", invalid.place, invalid.message);
                }
            }
        }
        let count = outputs.len() as u64;
        if count == 0 {
            done.lines = lines;
            continue;
        }
        let positions: Vec<u64> = outputs
            .iter()
            .map(|output| output.origin.position)
            .collect();
        sink.write(outputs.into()).await?;
        let refused = sink.confirm().await?;
        for Refused { index, reason } in &refused {
            let line = positions.get(*index).map_or(0, |position| position + 1);
            tell!("etl: line {line}: it was refused: {reason}");
        }
        done.failed += refused.len() as u64;
        done.sent += count - refused.len() as u64;
        done.lines = lines;
    }
    sink.finish().await?;
    Ok(())
}

fn record(
    options: &SendOptions,
    content: Result<Arc<Record>, InvalidRecord>,
) -> Result<Arc<Record>, InvalidRecord> {
    match (&options.topic, content) {
        (Some(topic), Ok(record)) => Ok(Arc::new(Record {
            topic: topic.as_str().into(),
            ..Arc::unwrap_or_clone(record)
        })),
        (_, content) => content,
    }
}
