//! Converts pressure readings to one unit.
//!
//! The value is a JSON object with a number `reading` and a `unit`: Pa, hPa, kPa, mbar, bar, psi, mmHg or atm, in any case, or the names
//! of the units in full. Both fields are replaced, everything else in the value stays as it was. A negative reading (no absolute
//! pressure is), another unit or a missing field fails the record.
//!
//! `custom_config`, all optional:
//!
//! | field | default | |
//! |---|---|---|
//! | `to` | `"Pa"` | the unit to convert to |
//! | `digits` | `7` | significant digits of the result, 1 to 15 |
#![forbid(unsafe_code)]

use std::borrow::Cow;

use etl_sdk::prelude::*;
use serde::de::{Deserializer, Error as _};

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    to: Unit,
    digits: Digits,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            to: UNITS[0],
            digits: Digits(7),
        }
    }
}

#[derive(Deserialize)]
#[serde(try_from = "u8")]
struct Digits(u8);

impl TryFrom<u8> for Digits {
    type Error = &'static str;

    fn try_from(digits: u8) -> Result<Self, &'static str> {
        if (1..=15).contains(&digits) {
            Ok(Self(digits))
        } else {
            Err("digits is 1 to 15")
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
struct Unit {
    symbol: &'static str,
    name: &'static str,
    pascals: f64,
}

/// Exact by definition, but for psi (pound-force by square inch) and mmHg, which are to 13 digits.
const UNITS: [Unit; 8] = [
    Unit {
        symbol: "Pa",
        name: "pascal",
        pascals: 1.0,
    },
    Unit {
        symbol: "hPa",
        name: "hectopascal",
        pascals: 100.0,
    },
    Unit {
        symbol: "kPa",
        name: "kilopascal",
        pascals: 1_000.0,
    },
    Unit {
        symbol: "mbar",
        name: "millibar",
        pascals: 100.0,
    },
    Unit {
        symbol: "bar",
        name: "bar",
        pascals: 100_000.0,
    },
    Unit {
        symbol: "psi",
        name: "pounds per square inch",
        pascals: 6_894.757_293_168,
    },
    Unit {
        symbol: "mmHg",
        name: "millimetres of mercury",
        pascals: 133.322_387_415,
    },
    Unit {
        symbol: "atm",
        name: "atmosphere",
        pascals: 101_325.0,
    },
];

impl<'de> Deserialize<'de> for Unit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        /// Borrows where it has no escapes.
        #[derive(Deserialize)]
        struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

        let Text(text) = Text::deserialize(deserializer)?;
        let is = |name: &str| name.eq_ignore_ascii_case(text.trim());
        let unit = UNITS.iter().find(|unit| is(unit.symbol) || is(unit.name));
        unit.copied().ok_or_else(|| {
            let symbols = UNITS.map(|unit| unit.symbol).join(", ");
            D::Error::custom(format!("unit {text:?} is none of {symbols}"))
        })
    }
}

#[derive(Deserialize)]
struct Measurement {
    reading: f64,
    unit: Unit,
}

/// What becomes of it.
#[derive(Serialize)]
struct Normalized {
    reading: f64,
    unit: &'static str,
}

#[transform]
fn pressure_normalizer(record: &Record<'_>, config: &Config, out: &mut Output) -> Result<()> {
    let Measurement { reading, unit } = record.json_object()?;
    if reading < 0.0 {
        return Err(Error::permanent(format!(
            "reading {reading} {} is negative: no absolute pressure is",
            unit.symbol
        )));
    }
    // A reading that is in the unit already keeps all its digits.
    if unit != config.to {
        let converted = round(reading * unit.pascals / config.to.pascals, config.digits.0);
        // JSON has no infinity: written as null, it would take the reading out of the value.
        if !converted.is_finite() {
            return Err(Error::permanent(format!(
                "reading {reading:e} {} is too large to convert",
                unit.symbol
            )));
        }
        out.merge_patch(&Normalized {
            reading: converted,
            unit: config.to.symbol,
        })?;
    }
    out.add_header("etl-path", env!("CARGO_PKG_NAME"));
    Ok(())
}

/// Rounds to so many digits: 101325, never 101324.99999999999. Whole numbers and powers of ten are exact, so the result is the number nearest
/// to the decimal.
fn round(number: f64, digits: u8) -> f64 {
    /// The first is ten to the power of -7.
    const POWERS: [f64; 23] = [
        1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9,
        1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
    ];
    let above = POWERS.partition_point(|&power| power <= number);
    if above == 0 || above == POWERS.len() {
        // No pressure that is measured: by way of text, which takes several times as long.
        let text = format!("{number:.*e}", usize::from(digits) - 1);
        return text.parse().unwrap_or(number);
    }
    // `number` has its first digit at the power of `above - 8`.
    let places = i32::from(digits) + 7 - above as i32;
    let scale = 10f64.powi(places.abs());
    if places < 0 {
        (number / scale).round() * scale
    } else {
        (number * scale).round() / scale
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use etl_sdk::testing::{Outcome, TestRecord, config, run};

    fn normalize(value: &Value, config: Value) -> Outcome {
        run(
            pressure_normalizer,
            TestRecord::new("iot.sensors.pressure").value(value.to_string()),
            config,
        )
    }

    #[test]
    fn readings_become_pascals() {
        let cases = [
            (1013.25, "hPa", 101_325.0),
            (101.325, "kPa", 101_325.0),
            (1013.25, "millibar", 101_325.0),
            (1.01325, "BAR", 101_325.0),
            (1.0, "psi", 6_894.757),
            (760.0, "mmHg", 101_325.0),
            (1.0, "atm", 101_325.0),
            (0.0, "bar", 0.0),
        ];
        for (reading, unit, expected) in cases {
            let outcome = normalize(
                &json!({ "reading": reading, "unit": unit, "id": 7 }),
                json!({}),
            );
            assert_eq!(
                outcome.json(),
                json!({ "reading": expected, "unit": "Pa", "id": 7 }),
                "{reading} {unit}"
            );
            assert_eq!(outcome.headers("etl-path"), ["pressure-normalizer"]);
        }
    }

    #[test]
    fn numbers_round_as_their_text_does() {
        for (number, digits, rounded) in [
            (101_324.999_999_99, 7, 101_325.0),
            (999.999, 3, 1_000.0),
            (123_456.0, 2, 120_000.0),
            (1e-300, 3, 1e-300),
            (1.234_5e300, 3, 1.23e300),
            (0.0, 5, 0.0),
        ] {
            assert_eq!(round(number, digits), rounded, "{number}");
        }
        // None of these lies in the middle between two decimals.
        for step in 1..20_000_i32 {
            let number = (f64::from(step) * 0.001_7).exp() * 1e-6;
            for digits in [1, 4, 7, 12] {
                let text = format!("{number:.*e}", usize::from(digits) - 1);
                assert_eq!(
                    round(number, digits),
                    text.parse::<f64>().unwrap(),
                    "{number}"
                );
            }
        }
    }

    #[test]
    fn the_unit_and_the_digits_are_configured() {
        let outcome = normalize(
            &json!({ "reading": 14.6959488, "unit": "psi" }),
            json!({ "to": "bar", "digits": 4 }),
        );
        assert_eq!(outcome.text(), r#"{"reading":1.013,"unit":"bar"}"#);
    }

    #[test]
    fn a_reading_in_the_unit_already_stays_as_it_is() {
        let value = r#"{ "unit":"Pa", "reading":101325.123456789 }"#;
        let outcome = run(pressure_normalizer, TestRecord::new("t").value(value), ());
        assert_eq!(outcome.text(), value);
        assert_eq!(outcome.headers("etl-path"), ["pressure-normalizer"]);
    }

    #[test]
    fn bad_readings_fail_and_say_why() {
        let cases = [
            (
                json!({ "reading": -1, "unit": "bar" }),
                "reading -1 bar is negative",
            ),
            (
                json!({ "reading": 1, "unit": "celsius" }),
                "unit \"celsius\" is none of Pa, hPa",
            ),
            (
                json!({ "reading": 1e308, "unit": "bar" }),
                "reading 1e308 bar is too large to convert",
            ),
            (json!({ "unit": "bar" }), "missing field `reading`"),
            (
                json!({ "reading": null, "unit": "bar" }),
                "invalid type: null, expected f64",
            ),
            (json!("high"), "not a JSON object"),
        ];
        for (value, expected) in cases {
            let message = normalize(&value, json!({}))
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
        assert!(
            config::<Config>(json!({ "to": "torr" }))
                .is_err_and(|message| message.contains("none of Pa"))
        );
        assert!(config::<Config>(json!({ "digits": 0 })).is_err());
    }
}
