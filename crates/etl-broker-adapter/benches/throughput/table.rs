//! The figures of one adapter, for people and as JSON.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::{BYTES, Cost, Failure, Way};

/// At most so much more time than the plain client.
const AIM: f64 = 1.15;

/// What the rounds took, by way.
pub struct Table {
    adapter: &'static str,
    records: usize,
    costs: [Vec<Cost>; Way::ALL.len()],
}

/// A way's figures, in nanoseconds of a record.
struct Figures {
    wall: f64,
    low: f64,
    high: f64,
    processor: f64,
}

impl Table {
    pub fn new(adapter: &'static str, records: usize) -> Self {
        Self {
            adapter,
            records,
            costs: Default::default(),
        }
    }

    pub fn add(&mut self, way: Way, cost: Cost) {
        self.costs[way as usize].push(cost);
    }

    fn figures(&self, way: Way) -> Figures {
        let sorted = |of: fn(&Cost) -> Duration| {
            let costs = self.costs[way as usize].iter();
            let mut costs: Vec<f64> = costs
                .map(|cost| of(cost).as_secs_f64() * 1e9 / self.records as f64)
                .collect();
            costs.sort_by(f64::total_cmp);
            costs
        };
        let (wall, processor) = (sorted(|cost| cost.wall), sorted(|cost| cost.processor));
        Figures {
            wall: wall[wall.len() / 2],
            low: wall[0],
            high: wall[wall.len() - 1],
            processor: processor[processor.len() / 2],
        }
    }

    pub fn print(&self) {
        let plain = self.figures(Way::Plain);
        println!(
            "{}: {} records of {BYTES} bytes, medians of {}",
            self.adapter,
            self.records,
            self.costs[0].len()
        );
        println!(
            "  {:<18}{:>11}{:>14}{:>20}{:>11}{:>16}",
            "", "records/s", "ns a record", "least to most", "of plain", "processor ns"
        );
        for way in Way::ALL {
            let own = self.figures(way);
            println!(
                "  {:<18}{:>11.0}{:>14.0}{:>20}{:>9.2} ×{:>16}",
                way.name(),
                1e9 / own.wall,
                own.wall,
                format!("{:.0} to {:.0}", own.low, own.high),
                own.wall / plain.wall,
                format!(
                    "{:.0} ({:.2} ×)",
                    own.processor,
                    own.processor / plain.processor
                ),
            );
        }
    }

    fn json(&self) -> impl Iterator<Item = Value> + '_ {
        let plain = self.figures(Way::Plain);
        Way::ALL.into_iter().map(move |way| {
            let own = self.figures(way);
            let ratio = own.wall / plain.wall;
            json!({
                "scenario": format!("adapter_{}", self.adapter),
                "variant": way.name(),
                "records": self.records,
                "records_per_second": 1e9 / own.wall,
                "ns_per_record": own.wall,
                "ns_low": own.low,
                "ns_high": own.high,
                "ratio": ratio,
                "processor_ns_per_record": own.processor,
                "processor_ratio": own.processor / plain.processor,
                "target": { "ratio": AIM },
                "met": ratio <= AIM,
            })
        })
    }
}

/// Writes what was measured, where that is wanted.
pub fn write(tables: &[Table], file: Option<&Path>) -> Result<(), Failure> {
    let Some(file) = file else { return Ok(()) };
    let results: Vec<Value> = tables.iter().flat_map(Table::json).collect();
    let all = json!({ "value_bytes": BYTES, "results": results });
    std::fs::write(file, serde_json::to_string_pretty(&all)? + "\n")
        .map_err(|error| format!("cannot write {}: {error}", file.display()).into())
}
