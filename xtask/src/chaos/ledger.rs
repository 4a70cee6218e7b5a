//! Which records were sent, and which came out: missing, twice, damaged, out of order.

use std::fmt;
use std::time::Duration;

use serde_json::Value;

use super::backend::PARTITIONS;

/// Where a partition stands in a record.
#[derive(Clone, Copy)]
pub enum Place {
    /// Partitions of one topic.
    Partition,
    /// A topic for each: `in.3`.
    Topic,
}

/// The record of this number as it is sent, as a record line. The module takes the last byte off every value, so the number gets a digit more.
pub fn line(number: u64, place: Place) -> String {
    record(number, &format!("{}0", number + 1), place)
}

fn record(number: u64, value: &str, place: Place) -> String {
    let (partition, check) = (number % PARTITIONS, check(number));
    match place {
        Place::Partition => {
            format!(r#"{{"topic":"in","partition":{partition},"key":"{check}","value":{value}}}"#)
        }
        Place::Topic => format!(r#"{{"topic":"in.{partition}","key":"{check}","value":{value}}}"#),
    }
}

/// The partition of a record that came out.
fn partition(record: &Value) -> u64 {
    let topic = record["topic"].as_str().unwrap_or_default();
    let of_topic = topic
        .rsplit_once('.')
        .and_then(|(_, last)| last.parse().ok());
    of_topic.unwrap_or_else(|| record["partition"].as_u64().unwrap_or(0))
}

/// So that a record that came out damaged is not taken for another one.
fn check(number: u64) -> u64 {
    number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 16
}

/// Takes what came out.
pub struct Ledger {
    /// How often each came, by its number.
    seen: Vec<u8>,
    in_flight: u64,
    /// The highest number so far, of each partition.
    highest: [Option<u64>; PARTITIONS as usize],
    repeated: u64,
    farthest: u64,
    out_of_order: u64,
    strange: u64,
}

/// What the comparison came to.
#[derive(Debug)]
pub struct Verdict {
    sent: u64,
    kills: u64,
    missing: u64,
    repeated: u64,
    farthest: u64,
    in_flight: u64,
    out_of_order: u64,
    strange: u64,
    took: Duration,
}

impl Ledger {
    /// Of so many records, sent to workers that have at most `in_flight` of them in flight.
    pub fn new(sent: u64, in_flight: u64) -> Self {
        Self {
            seen: vec![0; sent as usize],
            in_flight,
            highest: Default::default(),
            repeated: 0,
            farthest: 0,
            out_of_order: 0,
            strange: 0,
        }
    }

    /// A record that came out, as a record line.
    pub fn take(&mut self, line: &[u8]) {
        let record: Value = serde_json::from_slice(line).unwrap_or_default();
        let number = record["value"]
            .as_u64()
            .and_then(|value| value.checked_sub(1));
        let Some(number) = number.filter(|number| {
            *number < self.seen.len() as u64
                && record["key"].as_str() == Some(&*check(*number).to_string())
                && partition(&record) == number % PARTITIONS
        }) else {
            self.strange += 1;
            return;
        };
        let times = &mut self.seen[number as usize];
        *times = times.saturating_add(1);
        let repeated = *times > 1;
        let highest = &mut self.highest[(number % PARTITIONS) as usize];
        match *highest {
            Some(before) if number <= before => {
                let back = (before - number) / PARTITIONS + 1;
                self.farthest = self.farthest.max(back);
                if repeated {
                    self.repeated += 1;
                } else {
                    self.out_of_order += 1;
                }
            }
            _ => *highest = Some(number),
        }
    }

    /// What it came to.
    pub fn verdict(self, kills: u64, took: Duration) -> Verdict {
        Verdict {
            sent: self.seen.len() as u64,
            kills,
            missing: self.seen.iter().filter(|times| **times == 0).count() as u64,
            repeated: self.repeated,
            farthest: self.farthest,
            in_flight: self.in_flight,
            out_of_order: self.out_of_order,
            strange: self.strange,
            took,
        }
    }
}

impl Verdict {
    /// Whether the promise was kept.
    pub fn holds(&self, exactly_once: bool, in_order: bool) -> bool {
        let repeated_rightly = match exactly_once {
            true => self.repeated == 0,
            false => {
                self.farthest <= self.in_flight && self.repeated <= self.kills * self.in_flight
            }
        };
        let ordered_rightly = !in_order || self.out_of_order == 0;
        self.missing == 0 && self.strange == 0 && ordered_rightly && repeated_rightly
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} records, {} kills, in {:.0} s: {} missing, {} came twice",
            self.sent,
            self.kills,
            self.took.as_secs_f64(),
            self.missing,
            self.repeated
        )?;
        if self.repeated > 0 {
            write!(
                f,
                " (going back by {} at the most, with {} in flight)",
                self.farthest, self.in_flight
            )?;
        }
        write!(
            f,
            ", {} out of order, {} that nobody sent",
            self.out_of_order, self.strange
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As it comes out.
    fn came(number: u64) -> String {
        record(number, &(number + 1).to_string(), Place::Partition)
    }

    fn verdict(numbers: impl IntoIterator<Item = u64>) -> Verdict {
        let mut ledger = Ledger::new(40, 10);
        let numbers = numbers.into_iter();
        numbers.for_each(|number| ledger.take(came(number).as_bytes()));
        ledger.verdict(1, Duration::ZERO)
    }

    #[test]
    fn what_is_wrong_is_seen() {
        assert!(verdict(0..40).holds(true, true));
        assert!(!verdict(0..39).holds(false, false));
        let twice = verdict((0..20).chain(10..40));
        assert!(twice.holds(false, true) && !twice.holds(true, false));
        assert_eq!((twice.repeated, twice.farthest), (10, 3));
        let moved = verdict((0..3).chain(8..40).chain(3..8));
        assert!(!moved.holds(false, true) && moved.holds(true, false));
        assert_eq!(verdict([41]).strange, 1);
        let mut damaged = Ledger::new(40, 10);
        damaged.take(record(3, "5", Place::Partition).as_bytes());
        assert_eq!(damaged.verdict(0, Duration::ZERO).strange, 1);
    }

    #[test]
    fn a_partition_may_be_a_topic() {
        let mut ledger = Ledger::new(4, 10);
        for number in 0..4 {
            ledger.take(record(number, &(number + 1).to_string(), Place::Topic).as_bytes());
        }
        assert!(ledger.verdict(0, Duration::ZERO).holds(true, true));
        let mut astray = Ledger::new(4, 10);
        astray.take(
            record(1, "2", Place::Topic)
                .replace("in.1", "in.2")
                .as_bytes(),
        );
        assert_eq!(astray.verdict(0, Duration::ZERO).strange, 1);
    }
}
