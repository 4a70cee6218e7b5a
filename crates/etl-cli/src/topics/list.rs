//! `etl topics`: which topics there are and how much is in them.

use etl_broker_adapter::embedded::Retention;
use etl_broker_adapter::{TopicInfo, TopicSettings};
use serde_json::json;

use super::{TopicsOptions, block_on, connect};
use crate::exit::Exit;
use crate::output::{self, grouped};

/// Runs the command.
pub fn list(options: &TopicsOptions) -> Result<(), Exit> {
    let topics = block_on(async {
        let broker = connect(&options.url, options.create.is_some()).await?;
        if let Some(topic) = &options.create {
            let retention = Retention {
                age: options.keep_age.unwrap_or_default(),
                bytes: options.keep_bytes.unwrap_or_default(),
                records: options.keep_records.unwrap_or_default(),
            };
            let settings = TopicSettings {
                partitions: options.partitions,
                retention: (retention != Retention::default()).then_some(retention),
            };
            broker.create(topic, settings).await?;
        }
        Ok(broker.topics().await?)
    })?;
    if options.json {
        let lines: String = topics
            .iter()
            .map(|topic| format!("{}\n", object(topic)))
            .collect();
        return output::print(&lines);
    }
    output::print(&table(&topics))
}

fn object(topic: &TopicInfo) -> serde_json::Value {
    json!({
        "name": topic.name,
        "partitions": topic.partitions,
        "records": topic.records,
        "bytes": topic.bytes,
        "keeps": topic.keeps,
    })
}

fn table(topics: &[TopicInfo]) -> String {
    let known = |figure: Option<u64>| figure.map_or_else(|| "?".to_owned(), grouped);
    let mut rows = vec![["topic", "partitions", "records", "bytes", "keeps"].map(str::to_owned)];
    rows.extend(topics.iter().map(|topic| {
        [
            topic.name.clone(),
            grouped(topic.partitions.into()),
            known(topic.records),
            known(topic.bytes),
            topic.keeps.clone(),
        ]
    }));
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: [usize; 4] = std::array::from_fn(|column| width(column).unwrap_or(0));
    let line = |row: &[String; 5]| {
        let [name, figures @ .., keeps] = row;
        let mut line = format!("{name:<0$}", widths[0]);
        for (figure, width) in figures.iter().zip(&widths[1..]) {
            line.push_str(&format!("  {figure:>width$}"));
        }
        format!("{line}  {keeps}").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}
