//! What the scenarios are fed: records of one topic with JSON values of 256 bytes, and pipelines that take them.

use std::fmt::Write;
use std::sync::Arc;

use etl_abi::request;
use etl_orchestrator::{Record, View};

/// Bytes of a value.
const VALUE_BYTES: usize = 256;

/// Records of a batch.
pub const BATCH: usize = 64;

/// The topic of every record.
pub const TOPIC: &str = "sensors.temperature.kitchen";

/// The module that the scenarios call: it copies its input, all but the last byte.
pub const MODULE: &str = "bench-copy";

/// A condition on the payload that every record meets.
pub const CONDITION: &str = r#"
conditional_rules = [{ condition_type = "PayloadField", field_path = "$.reading.celsius", operator = "GreaterThan", value = 10 }]"#;

/// A pipeline in TOML, with so many stages of one module each.
pub fn pipeline(id: &str, stages: usize, condition: &str) -> String {
    let mut text = format!("[[pipelines]]\npipeline_id = \"{id}\"\nname = \"{id}\"\n");
    for priority in 0..stages {
        let _ = write!(
            text,
            "[[pipelines.stages]]\npriority = {priority}\n[[pipelines.stages.modules]]\nmodule_id = \"{MODULE}\"\n\
             topic_filters = [{{ filter_type = \"Exact\", pattern = \"{TOPIC}\" }}]{condition}\n"
        );
    }
    text
}

/// Of so many pipelines the first applies; the others are of other topics.
pub fn one_of(pipelines: usize) -> String {
    let applies = pipeline("single", 1, "");
    let mut text = applies.clone();
    for number in 1..pipelines {
        let other = applies.replace("single", &format!("other-{number}"));
        text.push_str(&other.replace(TOPIC, &format!("plant.{number}.temperature")));
    }
    text
}

/// So many records with values of so many bytes, which are no JSON where they are short.
pub fn records_of(count: usize, bytes: usize) -> Vec<Arc<Record>> {
    let topic: Arc<str> = TOPIC.into();
    let record = |number: usize| {
        let mut value = value(number);
        value.resize(bytes, b' ');
        Arc::new(Record {
            offset: number as u64,
            ..Record::new(topic.clone(), value)
        })
    };
    (0..count).map(record).collect()
}

/// So many records, no two alike but in their topic, which they share as those of an adapter do.
pub fn records(count: usize) -> Vec<Arc<Record>> {
    let topic: Arc<str> = TOPIC.into();
    let record = |number: usize| {
        Arc::new(Record {
            offset: number as u64,
            timestamp: Some(1_517_443_200_000),
            ..Record::new(topic.clone(), value(number))
        })
    };
    (0..count).map(record).collect()
}

/// A sensor's reading, filled up to the size with spaces, which the module takes away one by one: it is JSON after every stage.
fn value(number: usize) -> Vec<u8> {
    let mut value = format!(
        r#"{{"device_id":"sensor-{number:05}","sensor_type":"temperature","reading":{{"celsius":{}.5,"humidity":{}}},"battery":0.87,"firmware":"4.12.0-rc2","place":{{"building":"north","floor":3,"room":"kitchen"}},"tags":["indoor","calibrated"]}}"#,
        15 + number % 20,
        30 + number % 40
    )
    .into_bytes();
    value.resize(VALUE_BYTES, b' ');
    value
}

/// The frame in which a host sends these records to a guest.
pub fn frame(records: &[Arc<Record>]) -> Vec<u8> {
    let views: Vec<View> = records.iter().cloned().map(View::new).collect();
    let length = request::encoded_len(&views).expect("small records fit a frame");
    let mut frame = vec![0; length];
    request::encode(&views, &mut frame).expect("the frame has room");
    frame
}
