//! What became of an earlier run's figures: a ratio with its spread, and whether it is more than noise.
//!
//! Where both runs have a floor the ratios to it are compared, because another machine, or the same in another hour, moves subject and floor alike.
//! A change counts as real where the middle halves of the rounds of both runs do not even meet, and where it is more than two hundredths, which the
//! layout of code alone can make.

use super::Row;
use super::document::{Earlier, Middle};

/// Changes below this are never called real.
const LEAST: f64 = 0.02;

/// A variant now, against what it was.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Change {
    /// Now over before: medians.
    pub times: f64,
    /// The least that it may be, by the middle halves of the rounds.
    pub low: f64,
    /// The most.
    pub high: f64,
    /// Whether ratios to the floor were compared, rather than times.
    pub by_ratio: bool,
}

/// How to take a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// Slower than noise explains.
    Worse,
    /// Faster than noise explains.
    Better,
    /// No difference that these runs could tell.
    Noise,
}

impl Change {
    /// Of this variant since the earlier run.
    pub fn of(row: &Row, before: &Earlier) -> Self {
        match (&row.ratio, &before.ratio) {
            (Some(now), Some(before)) => Self::between(now.into(), *before, true),
            _ => Self::between((&row.subject).into(), before.ns, false),
        }
    }

    fn between(now: Middle, before: Middle, by_ratio: bool) -> Self {
        Self {
            times: now.median / before.median,
            low: now.low / before.high,
            high: now.high / before.low,
            by_ratio,
        }
    }

    /// Whether it is more than noise.
    pub fn finding(&self) -> Finding {
        if self.low > 1.0 && self.times > 1.0 + LEAST {
            Finding::Worse
        } else if self.high < 1.0 && self.times < 1.0 - LEAST {
            Finding::Better
        } else {
            Finding::Noise
        }
    }
}

/// The figures that an earlier run has of this variant.
pub fn find<'a>(row: &Row, earlier: &'a [Earlier]) -> Option<&'a Earlier> {
    earlier
        .iter()
        .find(|before| before.scenario == row.scenario && before.variant == row.variant)
}

/// Which variants became worse, which better, and how many stayed as they were.
pub fn summary(rows: &[Row], earlier: &[Earlier]) -> String {
    let (mut worse, mut better, mut same) = (Vec::new(), Vec::new(), 0);
    for row in rows {
        let Some(before) = find(row, earlier) else {
            continue;
        };
        let change = Change::of(row, before);
        let line = format!("{} / {} ({:.2} ×)", row.scenario, row.variant, change.times);
        match change.finding() {
            Finding::Worse => worse.push(line),
            Finding::Better => better.push(line),
            Finding::Noise => same += 1,
        }
    }
    let list = |names: &[String]| {
        if names.is_empty() {
            "none".to_owned()
        } else {
            names.join(", ")
        }
    };
    format!(
        "worse than noise: {}\nbetter than noise: {}\nwithin noise: {same}\n",
        list(&worse),
        list(&better)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn middle(low: f64, median: f64, high: f64) -> Middle {
        Middle { low, median, high }
    }

    #[test]
    fn only_what_the_spread_does_not_explain_is_a_finding() {
        let before = middle(95.0, 100.0, 105.0);
        for (now, finding) in [
            (middle(101.0, 106.0, 111.0), Finding::Noise),
            (middle(106.0, 110.0, 112.0), Finding::Worse),
            (middle(88.0, 90.0, 94.0), Finding::Better),
            (middle(90.0, 94.0, 96.0), Finding::Noise),
        ] {
            assert_eq!(
                Change::between(now, before, false).finding(),
                finding,
                "{now:?}"
            );
        }
        let exact = middle(100.0, 100.0, 100.0);
        let slightly = middle(101.0, 101.0, 101.0);
        assert_eq!(
            Change::between(slightly, exact, false).finding(),
            Finding::Noise,
            "so little is the layout of code"
        );
    }
}
