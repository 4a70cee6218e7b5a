//! `example_modules`: real modules on one core: each of the seven examples alone, three of them in stages, and the requirements' own pipeline of
//! sensors with its JSON conditions; and `seven_modules_resident`: what an engine with all of them takes of memory.
//!
//! What they should reach is ten times what the requirements ask: 100,000 records a second for one module, 50,000 for three stages, 25,000 with
//! conditions. Every record is about 256 bytes and goes through to its end: a module that failed or kept what it should change ends the scenario.

use std::sync::Arc;

use etl_orchestrator::{Headers, Record};
use etl_tests::bench::{Bench, Target};

use crate::engine::Engine;
use crate::resident;
use crate::workload::BATCH;

/// A module, with its settings in TOML, a record that it has work with, and what becomes of that.
struct Example {
    module: &'static str,
    settings: &'static str,
    topic: &'static str,
    value: &'static str,
    changes: Changes,
}

/// What a module does to its record: leaves the value, replaces it, or adds headers alone.
#[derive(Clone, Copy)]
enum Changes {
    Nothing,
    Value,
    Headers,
}

const SENSOR: &str = r#"{"sensor_type":"temperature","reading":21.5,"unit":"celsius","device_id":"sensor-00017","battery":0.87,"firmware":"4.12.0-rc2","place":{"building":"north","floor":3,"room":"kitchen"},"tags":["indoor","calibrated"],"sequence":1048577,"site":"plant-7"}"#;
const EVENT: &str = r#"{"user":"u-1048577","action":"login","at":1517363399650,"plan":"paid","session":{"id":"3f2c9a7e","seconds":318},"device":{"kind":"phone","system":"4.12.0-rc2"},"tags":["mobile","returning"],"amount":12.10,"locale":"en-GB","experiment":"b-17","path":"/start"}"#;

const EXAMPLES: [Example; 7] = [
    Example {
        module: "message-validator",
        settings: r#"{ strict_mode = false, schema = { type = "object", required = ["user", "action"], properties = { user = { type = "string" }, plan = { enum = ["free", "paid"] }, amount = { type = "number", minimum = 0 } } } }"#,
        topic: "events.mobile.login",
        value: EVENT,
        changes: Changes::Nothing,
    },
    Example {
        module: "geolocation-enricher",
        settings: r#"{ networks = { "81.2.69.0/24" = { country = "GB", city = "London" }, "10.0.0.0/8" = { site = "north" }, "2001:218::/32" = { country = "JP" } } }"#,
        topic: "events.mobile.login",
        value: EVENT,
        changes: Changes::Value,
    },
    Example {
        module: "content-analyzer",
        settings: "{}",
        topic: "articles.story.content",
        value: "The path climbed slowly through the old forest, and at the top we could see the whole valley, the river and the small white houses of the village. Nobody spoke for a while; the wind had gone, and from far below came the sound of a bell and of cattle.",
        changes: Changes::Headers,
    },
    Example {
        module: "message-formatter",
        settings: r#"{ timestamps = ["at"] }"#,
        topic: "events.mobile.login",
        value: EVENT,
        changes: Changes::Value,
    },
    Example {
        module: "sensor-data-validator",
        settings: "{}",
        topic: "iot.sensors.temperature",
        value: SENSOR,
        changes: Changes::Nothing,
    },
    Example {
        module: "temperature-converter",
        settings: "{}",
        topic: "iot.sensors.temperature",
        value: SENSOR,
        changes: Changes::Value,
    },
    Example {
        module: "pressure-normalizer",
        settings: "{}",
        topic: "iot.sensors.pressure",
        value: r#"{"sensor_type":"pressure","reading":1013.25,"unit":"hPa","device_id":"sensor-00017","battery":0.87,"firmware":"4.12.0-rc2","place":{"building":"north","floor":3,"room":"kitchen"},"tags":["indoor","calibrated"],"sequence":1048577,"site":"plant-7"}"#,
        changes: Changes::Value,
    },
];

/// A pipeline in TOML: for each stage the module, its settings, its topic filters and its conditions.
fn pipeline(id: &str, stages: &[&[(&str, &str, &str, &str)]]) -> String {
    let mut text = format!("[[pipelines]]\npipeline_id = \"{id}\"\n");
    for (priority, modules) in stages.iter().enumerate() {
        text.push_str(&format!(
            "[[pipelines.stages]]\npriority = {priority}\nparallel_execution = {}\n",
            modules.len() > 1
        ));
        for (module, settings, filters, conditions) in *modules {
            text.push_str(&format!(
                "[[pipelines.stages.modules]]\nmodule_id = \"{module}\"\ninstance_config = {{ custom_config = {settings} }}\n\
                 topic_filters = [{filters}]\nconditional_rules = [{conditions}]\n"
            ));
        }
    }
    text
}

/// Records of one topic, which they share as those of an adapter do.
fn records(topic: &str, value: &'static str) -> Vec<Arc<Record>> {
    let topic: Arc<str> = topic.into();
    let record = |offset| {
        Arc::new(Record {
            offset,
            timestamp: Some(1_517_443_200_000),
            headers: Headers::from_iter([
                ("content-type", "application/json"),
                ("client_ip", "81.2.69.142"),
            ]),
            ..Record::new(topic.clone(), value)
        })
    };
    (0..BATCH as u64).map(record).collect()
}

/// An engine with all seven modules, each in a pipeline of its own topics, and a batch for each.
pub fn all_seven() -> (String, Vec<Vec<Arc<Record>>>) {
    let mut text = String::new();
    let mut batches = Vec::new();
    for (number, example) in EXAMPLES.iter().enumerate() {
        let topic = format!("{number}.{}", example.topic);
        let filter = format!("{{ filter_type = \"Exact\", pattern = \"{topic}\" }}");
        let stage = [(example.module, example.settings, filter.as_str(), "")];
        text.push_str(&pipeline(example.module, &[&stage]));
        batches.push(records(&topic, example.value));
    }
    (text, batches)
}

/// Runs `example_modules`.
pub fn run(bench: &mut Bench) -> Result<(), String> {
    let target = |records_per_second| Target {
        records_per_second: Some(records_per_second),
        ..Target::default()
    };
    for example in &EXAMPLES {
        let stage = [(example.module, example.settings, "", "")];
        let configuration = pipeline(example.module, &[&stage]);
        let records = records(example.topic, example.value);
        let mut engine = prepared(&configuration, &records, example.changes)?;
        bench.alone(example.module, BATCH, target(1e6), || {
            engine.process_batch(&records);
        });
    }

    let sensors = records("iot.sensors.temperature", SENSOR);
    let prefix = r#"{ filter_type = "Prefix", pattern = "iot.sensors." }"#;
    let exact = |topic: &str| format!(r#"{{ filter_type = "Exact", pattern = "{topic}" }}"#);
    let (temperature, pressure) = (
        exact("iot.sensors.temperature"),
        exact("iot.sensors.pressure"),
    );
    let stages: [&[_]; 3] = [
        &[("sensor-data-validator", "{}", prefix, "")],
        &[("temperature-converter", "{}", temperature.as_str(), "")],
        &[("message-formatter", "{}", "", "")],
    ];
    let mut engine = prepared(&pipeline("three-stages", &stages), &sensors, Changes::Value)?;
    bench.alone(
        "three stages: sensor-data-validator, temperature-converter, message-formatter",
        BATCH,
        target(5e5),
        || engine.process_batch(&sensors),
    );

    let condition = |path: &str, operator: &str, value: &str| {
        format!(
            r#"{{ condition_type = "PayloadField", field_path = "{path}", operator = "{operator}", value = {value} }}"#
        )
    };
    let of_temperature = condition("$.sensor_type", "Contains", r#""temperature""#);
    let of_celsius = condition("$.unit", "Equals", r#""celsius""#);
    let above_zero = condition("$.reading", "GreaterThan", "0");
    let stages: [&[_]; 2] = [
        &[(
            "sensor-data-validator",
            "{}",
            prefix,
            of_temperature.as_str(),
        )],
        &[
            (
                "temperature-converter",
                "{}",
                temperature.as_str(),
                of_celsius.as_str(),
            ),
            (
                "pressure-normalizer",
                "{}",
                pressure.as_str(),
                above_zero.as_str(),
            ),
        ],
    ];
    let mut engine = prepared(
        &pipeline("iot-sensor-processing", &stages),
        &sensors,
        Changes::Value,
    )?;
    bench.alone(
        "iot-sensor-processing, with its conditions",
        BATCH,
        target(2.5e5),
        || engine.process_batch(&sensors),
    );
    Ok(())
}

/// Starts an engine and looks whether the records come out as they should.
fn prepared(
    configuration: &str,
    records: &[Arc<Record>],
    changes: Changes,
) -> Result<Engine, String> {
    let mut engine = Engine::start(configuration)?;
    for (record, outcome) in records.iter().zip(engine.outcomes(records)?) {
        let [output] = &outcome.outputs[..] else {
            return Err(format!("a record did not come out: {outcome:?}"));
        };
        let value_changed = output.value() != &record.value;
        let as_it_should = match changes {
            Changes::Nothing => !value_changed,
            Changes::Value => value_changed,
            Changes::Headers => !value_changed && output.headers() != &record.headers,
        };
        if !as_it_should || !outcome.dead_letters.is_empty() || outcome.skipped > 0 {
            return Err(format!("the modules did not do their work: {outcome:?}"));
        }
    }
    Ok(engine)
}

/// Runs `seven_modules_resident`: each figure is of a process of its own.
pub fn seven_modules_resident(bench: &mut Bench) -> Result<(), String> {
    for (variant, kind) in [
        ("compiled by the process itself", resident::Kind::Seven),
        ("out of the cache", resident::Kind::SevenCached),
    ] {
        let found = resident::measure(kind, 1)?;
        bench.observed(variant, found.seconds * 1e9, &[found.seconds * 1e9], 0.0);
        bench.figure("MiB resident", found.resident_kib / 1024.0, Some(64.0));
        bench.figure("MiB at most", found.most_kib / 1024.0, None);
    }
    Ok(())
}
