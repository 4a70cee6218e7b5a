//! Refuses sensor readings that cannot be.
//!
//! The value is a JSON object with a `sensor_type`. A rule says which fields such a sensor must send and between which limits numbers lie;
//! limits of `reading` may depend on `unit`. The rule of a sensor type is the one of that name, or else the longest name that
//! the type contains, so `temperature` covers `indoor_temperature`. Types without a rule pass with a numeric `reading` or none. A record that
//! passes is not changed; one that does not fails with everything that is wrong with it.
//!
//! Rules are built in for `temperature`, `pressure`, `humidity` and `seismometer`. `custom_config` adds rules and replaces those:
//!
//! ```json
//! { "sensors": { "battery": { "required": ["reading"], "limits": { "reading": [0, 100] } },
//!                "scale": { "required": ["reading", "unit"], "units": { "kg": [0, 300], "lb": [0, 660] } } } }
//! ```
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use etl_sdk::prelude::*;
use serde_json_borrow::Value;

#[derive(Default, Deserialize)]
#[serde(from = "Written")]
struct Config {
    sensors: BTreeMap<String, Rule>,
}

/// The config as written: what it names goes over what is built in.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default)]
    sensors: BTreeMap<String, Rule>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Rule {
    /// Fields that must be there and not null.
    required: Vec<String>,
    /// Least and greatest value of a field, where it is there.
    limits: BTreeMap<String, (f64, f64)>,
    /// The units that are allowed, with the least and greatest `reading` in each; none: any unit.
    units: BTreeMap<String, (f64, f64)>,
}

impl Rule {
    fn new(required: &[&str], limits: &[(&str, f64, f64)], units: &[(&str, f64, f64)]) -> Self {
        let table = |rows: &[(&str, f64, f64)]| {
            rows.iter()
                .map(|&(name, least, most)| (name.to_owned(), (least, most)))
                .collect()
        };
        Self {
            required: required.iter().map(ToString::to_string).collect(),
            limits: table(limits),
            units: table(units),
        }
    }
}

fn built_in() -> BTreeMap<String, Rule> {
    let place = [
        ("longitude", -180.0, 180.0),
        ("latitude", -90.0, 90.0),
        ("depth_km", -10.0, 800.0),
        ("magnitude", -5.0, 10.0),
    ];
    let degrees = [
        ("celsius", -273.15, 5_000.0),
        ("fahrenheit", -459.67, 9_032.0),
        ("kelvin", 0.0, 5_273.15),
    ];
    [
        (
            "temperature",
            Rule::new(&["reading", "unit"], &[], &degrees),
        ),
        (
            "pressure",
            Rule::new(&["reading", "unit"], &[("reading", 0.0, f64::MAX)], &[]),
        ),
        (
            "humidity",
            Rule::new(&["reading"], &[("reading", 0.0, 100.0)], &[]),
        ),
        (
            "seismometer",
            Rule::new(&["magnitude", "longitude", "latitude"], &place, &[]),
        ),
    ]
    .map(|(name, rule)| (name.to_owned(), rule))
    .into()
}

impl From<Written> for Config {
    fn from(written: Written) -> Self {
        let mut sensors = built_in();
        sensors.extend(written.sensors);
        Self { sensors }
    }
}

impl Config {
    fn rule(&self, sensor_type: &str) -> Option<&Rule> {
        let contained = || {
            self.sensors
                .iter()
                .filter(|(name, _)| sensor_type.contains(name.as_str()))
        };
        self.sensors.get(sensor_type).or_else(|| {
            contained()
                .max_by_key(|(name, _)| name.len())
                .map(|(_, rule)| rule)
        })
    }
}

#[transform]
fn sensor_data_validator(record: &Record<'_>, config: &Config, out: &mut Output) -> Result<()> {
    let fields: Value<'_> = record.json_object()?;
    let problems = problems(&fields, config);
    if !problems.is_empty() {
        return Err(Error::permanent(problems.join("; ")));
    }
    out.add_header("etl-path", env!("CARGO_PKG_NAME"));
    Ok(())
}

/// A field of an object. Of a name that repeats the last one counts, as for most readers.
fn member<'a>(fields: &'a Value<'_>, name: &str) -> Option<&'a Value<'a>> {
    let members = fields.iter_object()?.filter(|(known, _)| *known == name);
    members.last().map(|(_, value)| value)
}

fn problems(fields: &Value<'_>, config: &Config) -> Vec<String> {
    let sensor_type = match member(fields, "sensor_type") {
        Some(Value::Str(name)) if !name.trim().is_empty() => name,
        Some(other) => return vec![format!("sensor_type is {other}, not a name")],
        None => return vec!["sensor_type is missing".to_owned()],
    };
    let mut problems = Vec::new();
    let mut within = |field: &str, least: f64, most: f64| match member(fields, field) {
        None | Some(Value::Null) => {}
        Some(value) => match value.as_f64() {
            Some(number) if (least..=most).contains(&number) => {}
            Some(number) if number < least => {
                problems.push(format!("{field} {number} is less than {least}"));
            }
            Some(number) => problems.push(format!("{field} {number} is more than {most}")),
            None => problems.push(format!("{field} is {value}, not a number")),
        },
    };
    let Some(rule) = config.rule(sensor_type) else {
        within("reading", f64::MIN, f64::MAX);
        return problems;
    };
    for (field, &(least, most)) in &rule.limits {
        within(field, least, most);
    }
    match member(fields, "unit").and_then(Value::as_str) {
        Some(unit) if !rule.units.is_empty() => match rule.units.get(unit) {
            Some(&(least, most)) => within("reading", least, most),
            None => {
                let known: Vec<&str> = rule.units.keys().map(String::as_str).collect();
                problems.push(format!("unit {unit:?} is none of {}", known.join(", ")));
            }
        },
        _ if !rule.limits.contains_key("reading") => within("reading", f64::MIN, f64::MAX),
        _ => {}
    }
    let absent = |field: &&String| member(fields, field).is_none_or(Value::is_null);
    problems.extend(
        rule.required
            .iter()
            .filter(absent)
            .map(|field| format!("{field} is missing")),
    );
    problems
}

#[cfg(test)]
mod tests {
    use super::*;
    use etl_sdk::serde_json::Value;
    use etl_sdk::testing::{Outcome, TestRecord, config, run, run_batch};

    fn validate(value: &Value, config: Value) -> Outcome {
        run(
            sensor_data_validator,
            TestRecord::new("iot.sensors.any").value(value.to_string()),
            config,
        )
    }

    #[test]
    fn good_readings_pass_unchanged() {
        let quake = json!({ "sensor_type": "seismometer", "magnitude": 0.31, "stations": null, "longitude": -122.197, "latitude": 46.2, "depth_km": -2.79 });
        for value in [
            json!({ "sensor_type": "temperature", "reading": 21.5, "unit": "celsius" }),
            json!({ "sensor_type": "indoor_temperature", "reading": 0, "unit": "kelvin" }),
            json!({ "sensor_type": "pressure", "reading": 1013.25, "unit": "hPa" }),
            json!({ "sensor_type": "humidity", "reading": 100 }),
            json!({ "sensor_type": "door" }),
            quake,
        ] {
            let outcome = validate(&value, json!(null));
            assert_eq!(outcome.failure(), None);
            assert_eq!(outcome.text(), value.to_string());
            assert_eq!(outcome.headers("etl-path"), ["sensor-data-validator"]);
        }
    }

    #[test]
    fn bad_readings_fail_with_everything_that_is_wrong() {
        let cases = [
            (json!({ "reading": 1 }), "sensor_type is missing"),
            (json!({ "sensor_type": 4 }), "sensor_type is 4, not a name"),
            (
                json!({ "sensor_type": "temperature", "reading": -300, "unit": "celsius" }),
                "reading -300 is less than -273.15",
            ),
            (
                json!({ "sensor_type": "temperature", "reading": "21", "unit": "celsius" }),
                "reading is \"21\", not a number",
            ),
            (
                json!({ "sensor_type": "temperature", "reading": null, "unit": "hPa" }),
                "unit \"hPa\" is none of celsius, fahrenheit, kelvin; reading is missing",
            ),
            (
                json!({ "sensor_type": "humidity", "reading": 100.5 }),
                "reading 100.5 is more than 100",
            ),
            (
                json!({ "sensor_type": "seismometer", "magnitude": 12, "latitude": 91 }),
                "latitude 91 is more than 90; magnitude 12 is more than 10; longitude is missing",
            ),
            (
                json!({ "sensor_type": "door", "reading": true }),
                "reading is true, not a number",
            ),
            (json!([]), "the value is not a JSON object"),
        ];
        for (value, expected) in cases {
            assert_eq!(
                validate(&value, json!({}))
                    .failure()
                    .expect("a failure")
                    .message,
                expected
            );
        }
    }

    #[test]
    fn the_config_adds_rules_and_replaces_them() {
        let rules = json!({ "sensors": {
            "humidity": { "limits": { "reading": [20, 60] } },
            "indoor_temp": { "required": ["room"] },
        } });
        let message = |value: Value| {
            validate(&value, rules.clone())
                .failure()
                .expect("a failure")
                .message
                .clone()
        };
        assert_eq!(
            message(json!({ "sensor_type": "humidity", "reading": 80 })),
            "reading 80 is more than 60"
        );
        assert_eq!(
            message(json!({ "sensor_type": "indoor_temperature" })),
            "reading is missing; unit is missing"
        );
        assert_eq!(
            message(json!({ "sensor_type": "indoor_temp" })),
            "room is missing"
        );
        assert!(config::<Config>(json!({ "sensors": { "x": { "limit": {} } } })).is_err());
    }

    /// The feed of `ETL_TEST_DATA`, or nothing where it is not set.
    fn feed(name: &str) -> Vec<TestRecord> {
        let Some(folder) = std::env::var_os("ETL_TEST_DATA") else {
            eprintln!("skipped: {name}: set ETL_TEST_DATA");
            return Vec::new();
        };
        let lines =
            std::fs::read_to_string(std::path::Path::new(&folder).join(name)).expect("a feed");
        TestRecord::read_lines(&lines).expect("record lines")
    }

    #[test]
    fn every_earthquake_of_a_week_is_possible() {
        for outcome in run_batch(sensor_data_validator, feed("usgs-earthquakes.ndjson"), ()) {
            assert_eq!(outcome.failure(), None);
        }
    }
}
