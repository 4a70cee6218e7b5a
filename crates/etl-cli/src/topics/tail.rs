//! `etl tail`: the records of topics, as record lines with their offsets.

use std::collections::HashSet;
use std::io::{self, Write};
use std::time::Duration;

use etl_broker_adapter::{AdapterErrorKind, Demand, Pulled, line};
use etl_orchestrator::Record;

use super::{TailOptions, block_on};
use crate::exit::Exit;
use crate::output::tell;

/// Runs the command.
pub fn tail(options: &TailOptions) -> Result<(), Exit> {
    block_on(async {
        tokio::select! {
            done = print(options) => done,
            _ = tokio::signal::ctrl_c() => Err(Exit::interrupted()),
        }
    })
}

async fn print(options: &TailOptions) -> Result<(), Exit> {
    let broker = loop {
        match options.url.connect(false).await {
            // Who follows has time: whoever has the folder now will give it back.
            Err(error) if options.follow && error.kind() == AdapterErrorKind::InUse => {
                tokio::time::sleep(Duration::from_millis(250)).await;
            }
            broker => break broker?,
        }
    };
    let mut source = broker
        .tail(&options.topics, options.from, options.follow)
        .await?;
    // A folder that is followed is open only while it is read.
    drop(broker);
    let mut left = options.count.unwrap_or(u64::MAX);
    let paused = HashSet::new();
    let mut text = Vec::new();
    while left > 0 {
        let demand = Demand {
            records: left.min(1_000) as usize,
            bytes: 16 << 20,
            paused: &paused,
        };
        let Pulled::Batch(batch) = source.pull(demand).await? else {
            break;
        };
        for item in batch.items {
            match item.content {
                Ok(record) => {
                    print_record(&record, &mut text);
                    left -= 1;
                }
                Err(invalid) => tell!("etl: {}: {}", invalid.place, invalid.message),
            }
        }
        let mut stdout = io::stdout().lock();
        stdout.write_all(&text)?;
        stdout.flush()?;
        text.clear();
    }
    Ok(())
}

/// The record's line, with the offset, which a line that is read may have and one that is written elsewhere has not.
fn print_record(record: &Record, out: &mut Vec<u8>) {
    line::encode(record, out);
    out.truncate(out.len() - 2);
    out.extend_from_slice(format!(",\"offset\":{}}}\n", record.offset).as_bytes());
}
