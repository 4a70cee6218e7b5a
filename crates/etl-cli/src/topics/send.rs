//! `etl send`: record lines in, records at a place.

use std::collections::HashSet;
use std::sync::Arc;

use etl_broker_adapter::file::FileSource;
use etl_broker_adapter::{Demand, InvalidRecord, Origin, Output, Pulled, Refused, Source};
use etl_orchestrator::Record;
use serde_json::json;

use super::{SendOptions, block_on, connect};
use crate::exit::Exit;
use crate::output::{counted, tell};

/// Records between two confirmations.
const BATCH: usize = 1_000;

/// Runs the command.
pub fn send(options: &SendOptions) -> Result<(), Exit> {
    let (sent, failed) = block_on(send_all(options))?;
    if options.json {
        tell!("{}", json!({ "sent": sent, "failed": failed }));
    } else {
        tell!("{} sent to {}", counted(sent, "record"), options.to);
    }
    if failed > 0 {
        return Err(Exit::failed(format_args!(
            "{} not sent",
            counted(failed, "line")
        )));
    }
    Ok(())
}

async fn send_all(options: &SendOptions) -> Result<(u64, u64), Exit> {
    let mut source = FileSource::open(&options.from, None)?;
    let broker = connect(&options.to, options.create).await?;
    let mut sink = broker.sink().await?;
    let paused = HashSet::new();
    let demand = Demand {
        records: BATCH,
        bytes: 64 << 20,
        paused: &paused,
    };
    let (mut sent, mut failed) = (0, 0);
    while let Pulled::Batch(batch) = source.pull(demand).await? {
        let mut outputs = Vec::new();
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
                    failed += 1;
                    tell!("etl: {}: {}", invalid.place, invalid.message);
                }
            }
        }
        let count = outputs.len() as u64;
        if count == 0 {
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
        failed += refused.len() as u64;
        sent += count - refused.len() as u64;
    }
    sink.finish().await?;
    Ok((sent, failed))
}

fn record(
    options: &SendOptions,
    content: Result<Arc<Record>, InvalidRecord>,
) -> Result<Arc<Record>, InvalidRecord> {
    match (&options.topic, content) {
        // The line is not asked to be a record: decoded or not, it stands in the file as it is.
        (Some(topic), content) if options.raw => raw(topic, content),
        (Some(topic), Ok(record)) => Ok(Arc::new(Record {
            topic: topic.as_str().into(),
            ..Arc::unwrap_or_clone(record)
        })),
        (_, content) => content,
    }
}

fn raw(
    topic: &str,
    content: Result<Arc<Record>, InvalidRecord>,
) -> Result<Arc<Record>, InvalidRecord> {
    match content {
        Err(invalid) if invalid.length == invalid.bytes.len() as u64 => {
            Ok(Arc::new(Record::new(topic, invalid.bytes)))
        }
        Err(too_long) => Err(too_long),
        // A line that happens to be a record is a value too.
        Ok(record) => {
            let mut line = Vec::new();
            etl_broker_adapter::line::encode(&record, &mut line);
            line.pop();
            Ok(Arc::new(Record::new(topic, line)))
        }
    }
}
