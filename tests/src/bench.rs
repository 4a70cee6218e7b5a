//! A benchmark harness for one question: how far is this from the least that could do the same work?
//!
//! A scenario has variants; each has a *subject* and, where there is one, a *floor*. Both run in turns in one process, in rounds of a few
//! milliseconds, and the ratio is taken round by round: a machine that slows down slows both, so the ratio holds where neither figure does. A
//! target on a machine that was too noisy to judge is neither met nor missed; the report says so.
//!
//! [`measure`] runs the rounds, [`pin`] keeps them on one processor, [`statistics`] condenses them, [`report`] prints, [`document`] writes and reads
//! JSON, [`compare`] says what became of an earlier run's figures.

pub mod compare;
pub mod document;
pub mod measure;
pub mod pin;
pub mod report;
pub mod statistics;

use std::time::Duration;

use measure::Measured;
use statistics::Summary;

/// The width of the middle half of the rounds, as a share of their median, above which a figure is not judged.
pub const NOISY: f64 = 0.15;

/// The share of the time that others may take from the measuring thread before nothing is judged.
pub const TAKEN: f64 = 0.05;

/// What a variant should reach. Empty means: watched, not judged.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Target {
    /// At most so many times the floor.
    pub ratio: Option<f64>,
    /// At least so many records a second.
    pub records_per_second: Option<f64>,
    /// At most so many nanoseconds a record.
    pub ns_per_record: Option<f64>,
}

/// One variant of a scenario, measured.
#[derive(Clone, Debug)]
pub struct Row {
    /// The scenario's name.
    pub scenario: String,
    /// The variant's name.
    pub variant: String,
    /// Nanoseconds a record, round by round.
    pub subject: Summary,
    /// The same of the floor.
    pub floor: Option<Summary>,
    /// What the floor is called: a scenario that knows no floor may be measured beside another way of doing the same work.
    pub beside: String,
    /// Subject over floor, each round with its own.
    pub ratio: Option<Summary>,
    /// The same of the medians of single calls. Most calls are shorter than what a program is given of a processor at once, so that others, who make
    /// rounds longer, do not reach this.
    pub call_ratio: Option<f64>,
    /// Nanoseconds of single calls (of a whole batch, where the variant has batches): p50, p99, p99.9.
    pub call_ns: [f64; 3],
    /// The share of the time in which other programs ran in this one's place.
    pub waited: f64,
    /// What it should reach.
    pub target: Target,
    /// What else there is to say of it.
    pub figures: Vec<Figure>,
    /// Why a scenario that measures itself does not trust the machine.
    pub distrust: Option<String>,
}

/// A figure beside time, such as bytes or a count.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// What it is, with its unit.
    pub name: String,
    /// How much.
    pub value: f64,
    /// What it should be at most.
    pub most: Option<f64>,
}

impl Figure {
    /// Whether it is no more than it should be; None where nothing is said of that.
    pub fn is_met(&self) -> Option<bool> {
        self.most.map(|most| self.value <= most)
    }
}

impl Row {
    /// Records a second, from the median.
    pub fn records_per_second(&self) -> f64 {
        1e9 / self.subject.median
    }

    /// Why these figures should not be judged by: the rounds differ too much, others ran in between, or the scenario says so.
    pub fn doubt(&self) -> Option<String> {
        if self.distrust.is_some() {
            return self.distrust.clone();
        }
        let spread = self.ratio.as_ref().unwrap_or(&self.subject).spread();
        if self.waited > TAKEN {
            return Some(format!(
                "other programs took {:.0} % of the time",
                self.waited * 100.0
            ));
        }
        (spread > NOISY).then(|| {
            format!(
                "the middle half of the rounds differs by {:.0} %",
                spread * 100.0
            )
        })
    }

    /// Whether anything is said of what it should reach.
    pub fn has_target(&self) -> bool {
        self.target != Target::default() || self.figures.iter().any(|figure| figure.most.is_some())
    }

    /// Whether the target is met, and what its figures should be at most; None where there is no target, or where the machine was too noisy to tell.
    pub fn is_met(&self) -> Option<bool> {
        let figures = self.figures.iter().filter_map(Figure::is_met);
        self.judge(self.of_target().chain(figures))
    }

    /// The same of the target alone, without the figures, which are judged one by one where they are printed.
    pub fn is_met_in_time(&self) -> Option<bool> {
        self.judge(self.of_target())
    }

    fn of_target(&self) -> impl Iterator<Item = bool> {
        let Target {
            ratio,
            records_per_second,
            ns_per_record,
        } = self.target;
        let checks = [
            ratio.and_then(|most| Some(self.ratio.as_ref()?.median <= most)),
            records_per_second.map(|least| self.records_per_second() >= least),
            ns_per_record.map(|most| self.subject.median <= most),
        ];
        checks.into_iter().flatten()
    }

    fn judge(&self, checks: impl Iterator<Item = bool>) -> Option<bool> {
        let mut checks = checks.peekable();
        if self.doubt().is_some() || checks.peek().is_none() {
            return None;
        }
        Some(checks.all(|met| met))
    }
}

/// Runs scenarios and keeps their rows.
pub struct Bench {
    time: Duration,
    scenario: String,
    rows: Vec<Row>,
    floor: bool,
    pin: bool,
}

impl Bench {
    /// A bench that gives each variant this much time.
    pub fn new(time: Duration) -> Self {
        Self {
            time,
            scenario: String::new(),
            rows: Vec::new(),
            floor: true,
            pin: false,
        }
    }

    /// Leaves the floors out, so that a profiler sees the subjects alone.
    pub fn without_floor(mut self) -> Self {
        self.floor = false;
        self
    }

    /// The variants that follow belong to this scenario. `pin` keeps them on one processor, which is for work that this thread does itself.
    pub fn start(&mut self, scenario: &str, pin: bool) {
        scenario.clone_into(&mut self.scenario);
        self.pin = pin;
    }

    /// Measures a variant against its floor. Both closures make one call, which takes `records` records.
    pub fn against_floor(
        &mut self,
        variant: &str,
        records: usize,
        target: Target,
        mut subject: impl FnMut(),
        mut floor: impl FnMut(),
    ) {
        if !self.floor {
            return self.alone(variant, records, target, subject);
        }
        let (subject, floor) = measure::in_turns(self.time, self.pin, &mut subject, &mut floor);
        let ratios: Vec<f64> = subject
            .rounds
            .iter()
            .zip(&floor.rounds)
            .map(|(subject, floor)| subject / floor)
            .collect();
        let median = |measured: &Measured| statistics::quantile(&measured.calls, 0.5);
        let call_ratio = median(&subject) / median(&floor);
        let floor = Summary::of(&per_record(&floor.rounds, records));
        self.keep(
            variant,
            records,
            target,
            &subject,
            Some((floor, Summary::of(&ratios), call_ratio)),
        );
    }

    /// Measures a variant beside another way of doing the same work, called `name`. A target's ratio is times that way.
    pub fn beside(
        &mut self,
        name: &str,
        variant: &str,
        target: Target,
        subject: impl FnMut(),
        other: impl FnMut(),
    ) {
        self.against_floor(variant, 1, target, subject, other);
        self.floor_is(name);
    }

    /// Says what the variant measured last was measured beside, where that is no floor.
    pub fn floor_is(&mut self, name: &str) {
        if let Some(row) = self.rows.last_mut() {
            name.clone_into(&mut row.beside);
        }
    }

    /// Measures a variant that has no floor but a figure to reach.
    pub fn alone(
        &mut self,
        variant: &str,
        records: usize,
        target: Target,
        mut subject: impl FnMut(),
    ) {
        let subject = measure::alone(self.time, self.pin, &mut subject);
        self.keep(variant, records, target, &subject, None);
    }

    /// Keeps a variant that its scenario measured itself: nanoseconds a record in all, those of each, and the share of the time that others
    /// took. What it should reach are figures.
    pub fn observed(&mut self, variant: &str, ns_per_record: f64, calls: &[f64], waited: f64) {
        let measured = Measured {
            rounds: vec![ns_per_record],
            calls: calls.to_vec(),
            waited,
        };
        self.keep(variant, 1, Target::default(), &measured, None);
    }

    /// What a scenario that measures itself may take for a variant.
    pub fn time(&self) -> Duration {
        self.time
    }

    /// Says something else of the variant measured last, and what that should be at most.
    pub fn figure(&mut self, name: &str, value: f64, most: Option<f64>) {
        if let Some(row) = self.rows.last_mut() {
            row.figures.push(Figure {
                name: name.to_owned(),
                value,
                most,
            });
        }
    }

    /// Says why the variant measured last cannot be judged on this machine.
    pub fn distrust(&mut self, why: String) {
        if let Some(row) = self.rows.last_mut() {
            row.distrust = Some(why);
        }
    }

    /// What was measured so far.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    fn keep(
        &mut self,
        variant: &str,
        records: usize,
        target: Target,
        subject: &Measured,
        floor: Option<(Summary, Summary, f64)>,
    ) {
        let (floor, ratio, call_ratio) = match floor {
            Some((floor, ratio, calls)) => (Some(floor), Some(ratio), Some(calls)),
            None => (None, None, None),
        };
        self.rows.push(Row {
            scenario: self.scenario.clone(),
            variant: variant.to_owned(),
            subject: Summary::of(&per_record(&subject.rounds, records)),
            floor,
            beside: "floor".to_owned(),
            ratio,
            call_ratio,
            call_ns: [0.5, 0.99, 0.999].map(|share| statistics::quantile(&subject.calls, share)),
            waited: subject.waited,
            target,
            figures: Vec::new(),
            distrust: None,
        });
    }
}

fn per_record(rounds: &[f64], records: usize) -> Vec<f64> {
    rounds.iter().map(|ns| ns / records as f64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(subject: &[f64], ratios: Option<&[f64]>, target: Target) -> Row {
        Row {
            scenario: "s".to_owned(),
            variant: "v".to_owned(),
            subject: Summary::of(subject),
            floor: None,
            beside: "floor".to_owned(),
            ratio: ratios.map(Summary::of),
            call_ratio: None,
            call_ns: [0.0; 3],
            waited: 0.0,
            target,
            figures: Vec::new(),
            distrust: None,
        }
    }

    #[test]
    fn a_target_is_met_missed_or_not_judged() {
        let ratio = |most| Target {
            ratio: Some(most),
            ..Target::default()
        };
        assert_eq!(
            row(&[100.0; 9], Some(&[1.9; 9]), ratio(2.0)).is_met(),
            Some(true)
        );
        assert_eq!(
            row(&[100.0; 9], Some(&[2.1; 9]), ratio(2.0)).is_met(),
            Some(false)
        );
        assert_eq!(
            row(&[100.0; 9], Some(&[2.1; 9]), Target::default()).is_met(),
            None
        );
        let noisy = [1.0, 1.2, 1.4, 1.6, 1.8];
        assert_eq!(
            row(&[100.0; 5], Some(&noisy), ratio(2.0)).is_met(),
            None,
            "too noisy to tell"
        );
        let crowded = Row {
            waited: 0.2,
            ..row(&[100.0; 9], Some(&[1.9; 9]), ratio(2.0))
        };
        assert_eq!(crowded.is_met(), None, "others ran in between");
        let steady_ratio_on_a_drifting_machine =
            row(&[100.0, 200.0, 300.0], Some(&[1.5; 3]), ratio(2.0));
        assert_eq!(steady_ratio_on_a_drifting_machine.is_met(), Some(true));
    }

    #[test]
    fn a_figure_that_has_a_bound_is_part_of_the_target() {
        let figure = |value| Figure {
            name: "p99 µs".to_owned(),
            value,
            most: Some(50.0),
        };
        let with = |value| Row {
            figures: vec![figure(value)],
            ..row(&[100.0; 9], None, Target::default())
        };
        assert_eq!(with(49.0).is_met(), Some(true));
        assert_eq!(with(51.0).is_met(), Some(false));
    }

    #[test]
    fn every_part_of_a_target_must_hold() {
        let target = Target {
            ratio: Some(2.0),
            records_per_second: Some(10e6),
            ns_per_record: None,
        };
        assert_eq!(
            row(&[100.0; 9], Some(&[1.5; 9]), target).is_met(),
            Some(true)
        );
        assert_eq!(
            row(&[101.0; 9], Some(&[1.5; 9]), target).is_met(),
            Some(false)
        );
        let absolute = Target {
            ns_per_record: Some(50.0),
            ..Target::default()
        };
        assert_eq!(row(&[50.0; 9], None, absolute).is_met(), Some(true));
    }
}
