//! Sorts earthquakes by how much they matter, and raises an alert for the strong ones.
//!
//! The value is one event of a seismic feed. What people caused (a quarry blast, an explosion) is dropped. An earthquake gets a `severity`, and from
//! `alert_from` (in `custom_config`, by default magnitude 4.5) a second record on the topic `alerts.earthquake`. An event that lacks its kind,
//! magnitude or place fails.

use etl_sdk::prelude::*;

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    alert_from: f64,
}

impl Default for Config {
    fn default() -> Self {
        Self { alert_from: 4.5 }
    }
}

#[derive(Deserialize)]
struct Event {
    event_type: String,
    magnitude: f64,
    place: String,
    #[serde(default)]
    tsunami: u8,
}

#[transform]
fn earthquake_alert(record: &Record<'_>, config: &Config, out: &mut Output) -> Result<()> {
    let event: Event = record.json()?;
    if event.event_type != "earthquake" {
        out.drop_record();
        return Ok(());
    }
    let severity = match event.magnitude {
        magnitude if magnitude < 2.5 => "not felt",
        magnitude if magnitude < 4.5 => "light",
        magnitude if magnitude < 6.0 => "moderate",
        _ => "strong",
    };
    out.merge_patch(&json!({ "severity": severity }))?;
    out.add_header("etl-path", env!("CARGO_PKG_NAME"));
    if event.magnitude >= config.alert_from {
        let text = format!("magnitude {}, {}", event.magnitude, event.place);
        let alert =
            json!({ "alert": text, "severity": severity, "tsunami_warning": event.tsunami == 1 });
        out.emit(
            NewRecord::json(&alert)?
                .topic("alerts.earthquake")
                .key(record.key().unwrap_or_default()),
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use etl_sdk::testing::{Outcome, TestRecord, run};

    fn sort(value: Value, config: Value) -> Outcome {
        run(
            earthquake_alert,
            TestRecord::new("seismic.us.earthquake")
                .key("us1")
                .value(value.to_string()),
            config,
        )
    }

    fn event(magnitude: f64) -> Value {
        json!({ "event_type": "earthquake", "magnitude": magnitude, "place": "Hualian, Taiwan" })
    }

    #[test]
    fn severity_follows_magnitude() {
        let cases = [
            (-0.4, "not felt"),
            (2.5, "light"),
            (4.4, "light"),
            (4.5, "moderate"),
            (6.0, "strong"),
        ];
        for (magnitude, severity) in cases {
            assert_eq!(
                sort(event(magnitude), json!({})).json()["severity"],
                severity,
                "{magnitude}"
            );
        }
    }

    #[test]
    fn a_strong_one_raises_an_alert_of_its_own() {
        assert_eq!(sort(event(4.4), json!({})).emitted().len(), 0);
        let outcome = sort(event(6.4), json!({ "alert_from": 5 }));
        let [alert] = outcome.emitted() else {
            panic!("one alert: {outcome:?}")
        };
        assert_eq!(alert.topic(), "alerts.earthquake");
        assert_eq!(alert.key(), Some(&b"us1"[..]));
        assert_eq!(
            alert.json(),
            json!({ "alert": "magnitude 6.4, Hualian, Taiwan", "severity": "strong", "tsunami_warning": false })
        );
        assert_eq!(
            sort(event(4.9), json!({ "alert_from": 5 })).emitted().len(),
            0
        );
    }

    #[test]
    fn what_people_caused_is_dropped_and_what_lacks_a_magnitude_fails() {
        let blast = json!({ "event_type": "quarry blast", "magnitude": 1.5, "place": "here" });
        assert!(sort(blast, json!({})).is_dropped());
        let unknown = json!({ "event_type": "earthquake", "place": "here" });
        let outcome = sort(unknown, json!({}));
        assert!(
            outcome
                .failure()
                .is_some_and(|failure| failure.message.contains("magnitude"))
        );
    }
}
