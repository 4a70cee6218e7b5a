//! Converts temperature readings to one unit.
//!
//! The value is a JSON object with a number `reading` and a `unit`: celsius, fahrenheit or kelvin, or the symbols C, F, K, °C, °F, in any
//! case. Both fields are replaced, everything else in the value stays as it was. A reading below absolute zero, another
//! unit or a missing field fails the record.
//!
//! `custom_config`, all optional:
//!
//! | field | default | |
//! |---|---|---|
//! | `to` | `"fahrenheit"` | the unit to convert to |
//! | `decimals` | `2` | decimals of the result, 0 to 9 |
#![forbid(unsafe_code)]

use std::borrow::Cow;

use etl_sdk::prelude::*;

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    to: Unit,
    decimals: Decimals,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            to: Unit::Fahrenheit,
            decimals: Decimals(2),
        }
    }
}

#[derive(Deserialize)]
#[serde(try_from = "u8")]
struct Decimals(u8);

impl TryFrom<u8> for Decimals {
    type Error = &'static str;

    fn try_from(decimals: u8) -> Result<Self, &'static str> {
        if decimals <= 9 {
            Ok(Self(decimals))
        } else {
            Err("decimals is 0 to 9")
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
enum Unit {
    Celsius,
    Fahrenheit,
    Kelvin,
}

impl Unit {
    fn parse(text: &str) -> Result<Self> {
        let name = text.trim().trim_start_matches('°');
        let is = |known: &[&str]| known.iter().any(|known| name.eq_ignore_ascii_case(known));
        if is(&["celsius", "c"]) {
            Ok(Self::Celsius)
        } else if is(&["fahrenheit", "f"]) {
            Ok(Self::Fahrenheit)
        } else if is(&["kelvin", "k"]) {
            Ok(Self::Kelvin)
        } else {
            Err(Error::permanent(format!(
                "unit {text:?} is not celsius, fahrenheit or kelvin"
            )))
        }
    }

    fn absolute_zero(self) -> f64 {
        match self {
            Self::Celsius => -273.15,
            Self::Fahrenheit => -459.67,
            Self::Kelvin => 0.0,
        }
    }

    fn convert(self, reading: f64, to: Self) -> f64 {
        let celsius = match self {
            Self::Celsius => reading,
            Self::Fahrenheit => (reading - 32.0) / 1.8,
            Self::Kelvin => reading - 273.15,
        };
        match to {
            _ if to == self => reading,
            Self::Celsius => celsius,
            Self::Fahrenheit => celsius * 1.8 + 32.0,
            Self::Kelvin => celsius + 273.15,
        }
    }
}

#[derive(Deserialize)]
struct Measurement<'a> {
    reading: f64,
    #[serde(borrow)]
    unit: Cow<'a, str>,
}

/// What becomes of it.
#[derive(Serialize)]
struct Converted {
    reading: f64,
    unit: Unit,
}

#[transform]
fn temperature_converter(record: &Record<'_>, config: &Config, out: &mut Output) -> Result<()> {
    let measurement: Measurement<'_> = record.json_object()?;
    let unit = Unit::parse(&measurement.unit)?;
    if measurement.reading < unit.absolute_zero() {
        return Err(Error::permanent(format!(
            "reading {} {} is below absolute zero",
            measurement.reading, measurement.unit
        )));
    }
    let converted = unit.convert(measurement.reading, config.to);
    // JSON has no infinity: written as null, it would take the reading out of the value.
    if !converted.is_finite() {
        return Err(Error::permanent(format!(
            "reading {:e} {} is too large to convert",
            measurement.reading, measurement.unit
        )));
    }
    let reading = round(converted, config.decimals.0);
    out.merge_patch(&Converted {
        reading,
        unit: config.to,
    })?;
    out.add_header("etl-path", env!("CARGO_PKG_NAME"));
    Ok(())
}

/// Rounds as a person would: 21.2, never 21.199999999999999. Whole numbers and powers of ten are exact, so the quotient is the number nearest
/// to the decimal.
fn round(number: f64, decimals: u8) -> f64 {
    let scale = 10f64.powi(decimals.into());
    let scaled = number * scale;
    // So large a number has no decimals that could be too many.
    let is_whole = scaled.abs() >= 2f64.powi(53);
    let rounded = if is_whole {
        number
    } else {
        scaled.round() / scale
    };
    // Adding zero turns -0 into 0.
    rounded + 0.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use etl_sdk::testing::{Outcome, TestRecord, config, run};

    fn convert(value: &Value, config: Value) -> Outcome {
        run(
            temperature_converter,
            TestRecord::new("iot.sensors.temperature").value(value.to_string()),
            config,
        )
    }

    #[test]
    fn readings_convert_without_rounding_noise() {
        let cases = [
            (21.2, "celsius", "fahrenheit", 70.16),
            (21.2, "celsius", "kelvin", 294.35),
            (70.16, "°F", "celsius", 21.2),
            (294.35, "K", "celsius", 21.2),
            (-40.0, "Celsius", "fahrenheit", -40.0),
            (31.9999, "fahrenheit", "celsius", 0.0),
            (21.237, "c", "celsius", 21.24),
            (0.0, "kelvin", "celsius", -273.15),
        ];
        for (reading, unit, to, expected) in cases {
            let outcome = convert(
                &json!({ "reading": reading, "unit": unit, "id": 7 }),
                json!({ "to": to }),
            );
            assert_eq!(
                outcome.json(),
                json!({ "reading": expected, "unit": to, "id": 7 }),
                "{reading} {unit} to {to}"
            );
            assert_eq!(outcome.headers("etl-path"), ["temperature-converter"]);
        }
    }

    #[test]
    fn numbers_round_as_their_text_does() {
        for (number, decimals, rounded) in [
            (21.199_999_999_99, 2, 21.2),
            (0.005, 2, 0.01),
            (-0.001, 2, 0.0),
            (-2.5, 0, -3.0),
            (123_456.75, 9, 123_456.75),
            (1.7e308, 9, 1.7e308),
        ] {
            assert_eq!(round(number, decimals), rounded, "{number}");
        }
        // None of these lies in the middle between two decimals.
        for step in -40_000..40_000_i32 {
            let number = f64::from(step) * 0.037 + 0.000_1;
            let text = format!("{number:.2}");
            assert_eq!(
                round(number, 2),
                text.parse::<f64>().unwrap() + 0.0,
                "{number}"
            );
        }
    }

    #[test]
    fn without_a_config_it_is_fahrenheit() {
        let outcome = convert(&json!({ "reading": 100, "unit": "celsius" }), json!(null));
        assert_eq!(outcome.text(), r#"{"reading":212.0,"unit":"fahrenheit"}"#);
    }

    #[test]
    fn bad_readings_fail_and_say_why() {
        let cases = [
            (
                json!({ "reading": -300, "unit": "celsius" }),
                "reading -300 celsius is below absolute zero",
            ),
            (
                json!({ "reading": 1, "unit": "psi" }),
                "unit \"psi\" is not celsius",
            ),
            (
                json!({ "reading": 1.5e308, "unit": "celsius" }),
                "reading 1.5e308 celsius is too large to convert",
            ),
            (json!({ "reading": 1 }), "missing field `unit`"),
            (
                json!({ "reading": "warm", "unit": "celsius" }),
                "invalid type: string \"warm\", expected f64",
            ),
            (json!([1, "celsius"]), "not a JSON object"),
        ];
        for (value, expected) in cases {
            let message = convert(&value, json!({}))
                .failure()
                .expect("a failure")
                .message
                .clone();
            assert!(
                message.contains(expected),
                "{message:?} does not say {expected:?}"
            );
        }
    }

    #[test]
    fn a_config_that_means_nothing_is_refused() {
        assert!(config::<Config>(json!({ "to": "rankine" })).is_err());
        assert!(
            config::<Config>(json!({ "decimals": 10 }))
                .is_err_and(|message| message.contains("0 to 9"))
        );
    }
}
